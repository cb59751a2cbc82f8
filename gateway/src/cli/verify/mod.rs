//! `countersign verify`: proves that sessions, their journals and their recordings are as the gateways wrote them.

mod gather;
mod session;
mod sweep;

use super::recording::SourceArgs;
use super::terminal::{complain, print, print_json};
use crate::console::moment;
use anyhow::anyhow;
use chrono::Utc;
use countersign_infra::domain::display::escape;
use countersign_infra::domain::id::SessionId;
use session::{GoneSession, Said, UnknownSession, examine};
use std::process::ExitCode;
use sweep::{Span, Sweep};

/// Proves that a session is untouched, or all sessions of a time, or names the first thing that is not.
///
/// Of a session: that its journal and its recording are as they were written. Of a time: that also of its sessions and
/// of the gateways' signed digests of them none is missing.
///
/// Exit code 0: untouched. 1: changed, or a part is missing.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The session's id.
    #[arg(required_unless_present_any = ["since", "all"], conflicts_with_all = ["since", "all"])]
    session: Option<SessionId>,
    /// Every session since then: a length of time (24h, 7d) or a date and time (2026-01-31T12:00:00Z).
    #[arg(long, value_name = "WHEN", conflicts_with = "all")]
    since: Option<String>,
    /// Every session that there ever was; with a retention, from the first whole day on that the journal keeps.
    #[arg(long)]
    all: bool,
    /// Only what this gateway wrote.
    #[arg(long, value_name = "NAME", conflicts_with = "session")]
    gateway: Option<String>,
    /// Digests and lists only: recordings are looked for, and not read.
    #[arg(long, conflicts_with = "session")]
    quick: bool,
    /// Names everything that was found, not only the first.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let now = Utc::now();
    let since = args.since.as_deref().map(|text| moment("since", text, now)).transpose();
    let since = since.map_err(|problem| anyhow!(problem.detail))?;
    let source = args.source.open().await?;
    let is_verified = match args.session {
        Some(session) => match examine(&source, session, &Said::default()).await {
            Err(error) if error.is::<UnknownSession>() || error.is::<GoneSession>() => {
                complain(&error.to_string());
                false
            }
            examined => {
                let finding = examined?;
                if args.json {
                    print_json(&finding)?;
                } else if let Some(broken) = &finding.broken {
                    print(&format!("BROKEN: {}\n", escape(broken)))?;
                } else {
                    print(&finding.text)?;
                }
                finding.verified
            }
        },
        None => {
            let span = Span { since, now };
            let sweep = Sweep::new(&source, span, args.gateway, args.quick).run().await?;
            if args.json {
                print_json(&sweep)?;
            } else {
                print(&sweep.to_string())?;
            }
            sweep.verified
        }
    };
    Ok(ExitCode::from(u8::from(!is_verified)))
}

#[cfg(test)]
mod tests;
