//! What `countersign login` brought: the token that every other command sends, kept per gateway and refreshed before
//! it ends.

mod issuer;
mod place;

pub use issuer::{AskedCode, IssuerClient, Refreshed};

use super::client::{ClientError, Reach};
use crate::console::SignInEntry;
use chrono::{DateTime, TimeDelta, Utc};
use countersign_infra::domain::secret::Secret;
use place::Place;
use std::path::PathBuf;
use url::Url;

/// A token that ends within this is refreshed first.
const LASTS_MIN: TimeDelta = TimeDelta::seconds(60);

/// Somebody's sign-in at a gateway.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// Where it came from, and where it is refreshed.
    pub entry: SignInEntry,
    pub subject: String,
    /// What people call them.
    pub name: String,
    /// When the token ends.
    pub ends: DateTime<Utc>,
    pub token: Secret,
    pub refresh_token: Option<Secret>,
}

impl SignIn {
    fn lasts(&self, now: DateTime<Utc>) -> bool {
        self.ends - now > LASTS_MIN
    }

    fn has_ended(&self, now: DateTime<Utc>) -> bool {
        self.ends <= now
    }
}

/// The token for a gateway. One that ends soon is refreshed, by one command at a time: an issuer that changes refresh
/// tokens takes the use of an old one for theft and ends the sign-in.
pub async fn token(reach: &Reach) -> Result<Secret, ClientError> {
    let place = Place::of_this_person()?;
    let Some(kept) = place.read(&reach.url)? else {
        return Err(sign_in_again("nobody is signed in at", &reach.url));
    };
    if kept.lasts(Utc::now()) {
        return Ok(kept.token);
    }
    let _lock = place.lock(&reach.url).await?;
    // Whoever had the lock before may have refreshed it, or signed out.
    let Some(kept) = place.read(&reach.url)? else {
        return Err(sign_in_again("nobody is signed in any more at", &reach.url));
    };
    if kept.lasts(Utc::now()) {
        return Ok(kept.token);
    }
    refreshed(reach, &place, kept).await
}

/// Keeps a sign-in for the other commands, in the place of an earlier one, and says where. It takes the lock, so that
/// no refresh of the earlier one overwrites it.
pub async fn keep(gateway: &Url, sign_in: &SignIn) -> Result<PathBuf, ClientError> {
    let place = Place::of_this_person()?;
    let _lock = place.lock(gateway).await?;
    place.write(gateway, sign_in)
}

/// Forgets the sign-in at a gateway and returns it.
pub async fn forget(gateway: &Url) -> Result<Option<SignIn>, ClientError> {
    let place = Place::of_this_person()?;
    let _lock = place.lock(gateway).await?;
    let kept = place.read(gateway);
    place.remove(gateway)?;
    kept
}

async fn refreshed(reach: &Reach, place: &Place, kept: SignIn) -> Result<Secret, ClientError> {
    match refresh(reach, &kept).await {
        Ok(Refreshed::Anew(fresh)) => {
            place.write(&reach.url, &fresh)?;
            Ok(fresh.token.clone())
        }
        // It is good to its end.
        Ok(Refreshed::Ended(_)) | Err(_) if !kept.has_ended(Utc::now()) => Ok(kept.token),
        Ok(Refreshed::Ended(why)) => {
            tracing::debug!(why, "the sign-in cannot be refreshed");
            Err(sign_in_again("your sign-in has ended at", &reach.url))
        }
        Err(error) => Err(error),
    }
}

async fn refresh(reach: &Reach, kept: &SignIn) -> Result<Refreshed, ClientError> {
    let Some(refresh_token) = &kept.refresh_token else {
        return Ok(Refreshed::Ended("the issuer gave no refresh token".to_owned()));
    };
    let issuer = IssuerClient::discover(kept.entry.clone(), reach).await?;
    issuer.refresh(kept, refresh_token).await
}

fn sign_in_again(what: &str, gateway: &Url) -> ClientError {
    ClientError::NotSignedIn(format!(
        "{what} {gateway}: run `countersign login`, or give a token with COUNTERSIGN_TOKEN or --token-file"
    ))
}
