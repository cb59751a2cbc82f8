//! `countersign recordings links`.

use crate::cli::recording::SourceArgs;
use crate::cli::terminal::{print, print_json};
use crate::console::LinkList;
use countersign_infra::domain::display::escape;
use countersign_infra::domain::id::SessionId;
use std::process::ExitCode;
use std::time::Duration;

const VALID_MAX: Duration = Duration::from_secs(12 * 3600);

/// Gives links with which somebody without a token fetches a recording's objects from the store. Journaled.
///
/// Whoever has a link can read the object until it ends. Only a store in S3 has links.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The session's id.
    session: SessionId,
    /// How long the links are good: 30m, 1h; 12h at most, and not longer than the gateway's own credentials.
    #[arg(long, value_name = "LENGTH", default_value = "1h", value_parser = valid)]
    valid: Duration,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

fn valid(text: &str) -> Result<Duration, String> {
    let unit = |unit: char| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        _ => None,
    };
    let read = || {
        let last = text.chars().next_back()?;
        let count: u64 = text.strip_suffix(last)?.parse().ok()?;
        count.checked_mul(unit(last)?)
    };
    let length = read().map(Duration::from_secs);
    length
        .filter(|length| (Duration::from_secs(1)..=VALID_MAX).contains(length))
        .ok_or_else(|| "write a length of time like 30m or 1h, 12h at most".to_owned())
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let source = args.source.open().await?;
    let mut all = LinkList {
        links: Vec::new(),
        next: None,
    };
    let mut from = Some(0);
    while let Some(start) = from {
        let page = source.links(args.session, args.valid, start).await?;
        all.links.extend(page.links);
        // A page that does not go on would be asked for for ever.
        from = page.next.filter(|next| *next > start);
    }
    if args.json {
        print_json(&all)?;
    } else {
        let line = |link: &crate::console::LinkView| format!("{}\t{}\n", escape(&link.object), escape(&link.url));
        print(&all.links.iter().map(line).collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_good_for_at_most_twelve_hours() {
        for (text, seconds) in [
            ("1s", Some(1)),
            ("30m", Some(1800)),
            ("12h", Some(43_200)),
            ("13h", None),
            ("0s", None),
            ("1d", None),
            ("h", None),
            ("", None),
            ("99999999999999999999h", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(valid(text).ok(), seconds.map(Duration::from_secs), "{text:?}");
        }
    }
}
