//! The issuers of the configuration, as the verifier of tokens wants them.

use super::{Config, Issuer, Reference, ReferenceError};
use crate::domain::secret::Secret;
use crate::identity::oidc;
use crate::identity::sign_in::{BrowserSignIn, WebClient};
use url::Url;

/// Where issuers send browsers back to, on `http.public_url`.
pub const SIGN_IN_CALLBACK: &str = "/sign-in/callback";

/// Why no verifier can be made.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("the CA of issuer {url}: {source}")]
    Ca {
        url: String,
        #[source]
        source: ReferenceError,
    },
    #[error("the client secret of issuer {url}: {source}")]
    ClientSecret {
        url: String,
        #[source]
        source: ReferenceError,
    },
    #[error(transparent)]
    Issuer(#[from] oidc::IssuerError),
}

impl TrustError {
    /// What of an issuer's table it is about.
    pub(super) fn key(&self) -> &'static str {
        match self {
            Self::Ca { .. } | Self::Issuer(_) => "ca",
            Self::ClientSecret { .. } => "client_secret",
        }
    }
}

impl Config {
    /// Makes the verifier of tokens of all issuers. Blocks on the file system; asks no issuer yet.
    pub fn verifier(&self) -> Result<oidc::Verifier, TrustError> {
        let issuers = self.issuers.iter().map(Issuer::trusted).collect::<Result<_, _>>()?;
        Ok(oidc::Verifier::new(issuers)?)
    }

    /// The issuers by which the pages sign people in, in the order of the configuration. Blocks on the file system; asks
    /// no issuer yet.
    pub fn browser_sign_ins(&self) -> Result<Vec<BrowserSignIn>, TrustError> {
        let mut redirect = self.http.public_url.clone();
        redirect.set_path(SIGN_IN_CALLBACK);
        let of = |issuer: &Issuer| issuer.browser_sign_in(&redirect).transpose();
        self.issuers.iter().filter_map(of).collect()
    }
}

impl Issuer {
    /// Whether its CA can be read and used. Blocks on the file system.
    pub fn check(&self) -> Result<(), TrustError> {
        oidc::Verifier::new(vec![self.trusted()?])?;
        self.secret()?;
        Ok(())
    }

    fn browser_sign_in(&self, redirect: &Url) -> Result<Option<BrowserSignIn>, TrustError> {
        let Some(id) = self.client_id.clone() else {
            return Ok(None);
        };
        let client = WebClient {
            id,
            secret: self.secret()?,
            scopes: self.scopes.clone(),
            redirect: redirect.clone(),
        };
        Ok(Some(BrowserSignIn::new(self.trusted()?, client)?))
    }

    fn secret(&self) -> Result<Option<Secret>, TrustError> {
        let secret = self.client_secret.as_ref().map(Reference::read).transpose();
        secret.map_err(|source| TrustError::ClientSecret {
            url: self.url.to_string(),
            source,
        })
    }

    fn trusted(&self) -> Result<oidc::Issuer, TrustError> {
        let ca = self.ca.as_ref().map(super::Reference::read_bytes).transpose();
        Ok(oidc::Issuer {
            url: self.url.clone(),
            audiences: self.audiences.clone(),
            authorized_parties: self.authorized_parties.clone(),
            machines_only: self.machines_only,
            groups_claim: self.groups_claim.clone(),
            name_claims: self.name_claims.clone(),
            clock_skew_seconds: self.clock_skew_seconds,
            algorithms: self.algorithms.clone(),
            ca_pem: ca.map_err(|source| TrustError::Ca {
                url: self.url.to_string(),
                source,
            })?,
        })
    }
}
