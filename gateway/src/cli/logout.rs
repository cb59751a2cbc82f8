//! `countersign logout`: forgets what `countersign login` kept.

use super::client::{ConnectArgs, Reach};
use super::signed_in::{self, IssuerClient, SignIn};
use super::terminal::{print, tell};
use countersign_infra::domain::display::escape;
use std::process::ExitCode;
use std::time::Duration;

/// The issuer is told within this, or not.
const REVOKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Signs you out at a gateway: forgets the token, and tells the issuer that it is no longer used.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connect: ConnectArgs,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let reach = args.connect.reach()?;
    let Some(sign_in) = signed_in::forget(&reach.url).await? else {
        print(&format!("Nobody was signed in at {}.\n", reach.url))?;
        return Ok(ExitCode::SUCCESS);
    };
    revoke(&reach, &sign_in).await;
    print(&format!("Signed out at {} as {}.\n", reach.url, escape(&sign_in.name)))?;
    Ok(ExitCode::SUCCESS)
}

/// Tells the issuer that a sign-in is over, and tells the person what came of it. A token that is out stays good until
/// it ends: nobody asks the issuer about it.
pub async fn revoke(reach: &Reach, sign_in: &SignIn) {
    let Some(refresh_token) = &sign_in.refresh_token else {
        return;
    };
    let told = tokio::time::timeout(REVOKE_TIME_MAX, async {
        let issuer = IssuerClient::discover(sign_in.entry.clone(), reach).await?;
        issuer.revoke(refresh_token).await
    });
    let issuer = &sign_in.entry.issuer;
    tell(&match told.await {
        Ok(Ok(true)) => format!("{issuer} was told: the refresh token is revoked."),
        Ok(Ok(false)) => format!("{issuer} revokes no tokens: the refresh token was deleted here."),
        Ok(Err(error)) => format!("{issuer} could not be told: {}", escape(&error.to_string())),
        Err(_) => format!("{issuer} could not be told: it does not answer"),
    });
}
