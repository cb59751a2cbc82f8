//! `countersign login`: signs a person in at an issuer of the gateway, in a browser.

mod browser;
mod device;

use super::client::{ClientError, ConnectArgs, GatewayClient, Reach};
use super::signed_in::{self, IssuerClient, SignIn};
use super::terminal::{print, tell, time};
use crate::console::{SelfView, SignInEntry, SignInList};
use countersign_infra::domain::display::escape;
use std::process::ExitCode;
use url::Url;

/// Signs you in: in the browser of this machine, or with a code that you type into one elsewhere.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shows a link and a code for a browser on any device.
    #[arg(long, conflicts_with = "browser")]
    device: bool,
    /// Waits on this machine for the browser's answer.
    #[arg(long)]
    browser: bool,
    /// Where to sign in, when the gateway knows several issuers.
    #[arg(long, value_name = "URL")]
    issuer: Option<Url>,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let reach = args.connect.reach()?;
    let list: SignInList = GatewayClient::new(&reach, None).read("/api/v1/sign-in", &[]).await?;
    let entry = choose(list.issuers, args.issuer.as_ref())?;
    let issuer = IssuerClient::discover(entry, &reach).await?;
    let sign_in = match args.way(&issuer) {
        Way::Browser => browser::sign_in(&issuer).await?,
        Way::Device => device::sign_in(&issuer).await?,
    };
    let person = accepted(&reach, &sign_in).await?;
    // An earlier one is replaced, not revoked: issuers end with it whatever the same browser signed in to.
    let path = signed_in::keep(&reach.url, &sign_in).await?;
    tell(&format!(
        "The token is kept in {}.",
        escape(&path.display().to_string())
    ));
    let until = match sign_in.refresh_token {
        Some(_) => "the token is refreshed as long as the issuer lets".to_owned(),
        None => format!("until {}", time(sign_in.ends)),
    };
    print(&format!(
        "Signed in at {} as {}, {until}.\n",
        reach.url,
        escape(&person)
    ))?;
    Ok(ExitCode::SUCCESS)
}

enum Way {
    Browser,
    Device,
}

impl Args {
    fn way(&self, issuer: &IssuerClient) -> Way {
        match (self.device, self.browser) {
            (true, _) => Way::Device,
            (false, true) => Way::Browser,
            (false, false) if browser::can_be_opened() || !issuer.knows_devices() => Way::Browser,
            (false, false) => Way::Device,
        }
    }
}

fn choose(entries: Vec<SignInEntry>, wanted: Option<&Url>) -> Result<SignInEntry, ClientError> {
    let names: Vec<String> = entries.iter().map(|entry| entry.issuer.to_string()).collect();
    let names = names.join(", ");
    let mut fitting = entries
        .into_iter()
        .filter(|entry| wanted.is_none_or(|wanted| *wanted == entry.issuer));
    let usage = |text: String| Err(ClientError::Usage(text));
    match (fitting.next(), fitting.next(), names.is_empty()) {
        (Some(entry), None, _) => Ok(entry),
        (Some(_), Some(_), _) => usage(format!("sign in where? give --issuer with one of {names}")),
        (None, _, false) => usage(format!("the gateway does not know this issuer; it knows {names}")),
        (None, _, true) => usage(
            "the gateway signs nobody in on the command line (no issuer of it has a `login_client_id`): give a token \
             with COUNTERSIGN_TOKEN or --token-file"
                .to_owned(),
        ),
    }
}

/// Asks the gateway who it takes the token for: a token that it refuses is not kept.
async fn accepted(reach: &Reach, sign_in: &SignIn) -> Result<String, ClientError> {
    let client = GatewayClient::new(reach, Some(sign_in.token.clone()));
    let me: SelfView = client.read("/api/v1/whoami", &[]).await?;
    Ok(me.person.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(issuer: &str) -> SignInEntry {
        SignInEntry {
            issuer: issuer.parse().unwrap(),
            client_id: "countersign-cli".to_owned(),
            scopes: Vec::new(),
            algorithms: Vec::new(),
        }
    }

    #[test]
    fn the_issuer_is_the_only_one_or_the_named_one() {
        let (one, two) = ("https://one.example.com", "https://two.example.com");
        for (known, wanted, answer) in [
            (&[one][..], None, Ok(one)),
            (&[one, two], Some(two), Ok(two)),
            (
                &[one, two],
                None,
                Err("give --issuer with one of https://one.example.com/, https://two"),
            ),
            (&[one], Some(two), Err("it knows https://one.example.com/")),
            (&[], None, Err("login_client_id")),
            (&[], Some(one), Err("login_client_id")),
        ] {
            let wanted: Option<Url> = wanted.map(|url| url.parse().unwrap());
            let chosen = choose(known.iter().map(|issuer| entry(issuer)).collect(), wanted.as_ref());
            match (chosen, answer) {
                (Ok(chosen), Ok(issuer)) => assert_eq!(chosen, entry(issuer)),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (chosen, _) => panic!("{chosen:?}"),
            }
        }
    }
}
