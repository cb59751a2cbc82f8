//! Signs in on another device: the person types a code into a browser anywhere (RFC 8628).

use crate::cli::client::ClientError;
use crate::cli::signed_in::{IssuerClient, SignIn};
use crate::cli::terminal::{length, tell};
use countersign_infra::domain::display::escape;

pub async fn sign_in(issuer: &IssuerClient) -> Result<SignIn, ClientError> {
    let asked = issuer.ask_device().await?;
    // What an issuer says is shown on a terminal.
    let (link, code) = (
        escape(asked.verification_uri().as_str()),
        escape(asked.user_code().secret()),
    );
    tell(&format!("Open {link}\nand type the code  {code}"));
    if let Some(complete) = asked.verification_uri_complete() {
        tell(&format!("or open {} and compare the code", escape(complete.secret())));
    }
    tell(&format!(
        "It expires in {}. Waiting ...",
        length(asked.expires_in().as_secs())
    ));
    issuer.await_device(&asked).await
}
