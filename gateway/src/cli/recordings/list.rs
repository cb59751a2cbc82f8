//! `countersign recordings list`.

use crate::catalog::{LIMIT_MAX, RecordingView};
use crate::cli::recording::{Source, SourceArgs};
use crate::cli::terminal::{head, print, print_json, table, time};
use crate::console::moment;
use anyhow::anyhow;
use chrono::{DateTime, NaiveDate, Utc};
use std::process::ExitCode;

/// Lists recordings, newest first: those of today unless said otherwise. Also those of sessions that live.
///
/// The list is what the store and the journal say; `countersign verify` proves it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A length of time (30m, 24h, 7d) or a date and time (2026-01-31T12:00:00Z).
    #[arg(long, value_name = "WHEN", conflicts_with = "day")]
    since: Option<String>,
    /// The recordings of sessions that were opened on this day (UTC).
    #[arg(long, value_name = "YYYY-MM-DD")]
    day: Option<NaiveDate>,
    /// At most this many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
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
    let today = now.date_naive();
    let (from, to) = match (args.day, since) {
        (Some(day), _) => (day, day),
        (None, Some(since)) => (since.date_naive(), today),
        (None, None) => (today, today),
    };
    let (found, is_cut) = find(&source, (from, to), since, args.limit).await?;
    if args.json {
        print_json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        print("No recordings.\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = found.iter().map(row).collect();
    let title = ["SESSION", "WHO", "TARGET", "OPENED", "ENDED", "CHUNKS", "STATE"];
    let mut text = table(title, &rows);
    if is_cut {
        text.push_str("There are more: --limit shows more of them, --day those of one day.\n");
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Walks the days backwards. Says also whether there are more than wanted.
async fn find(
    source: &Source,
    (from, to): (NaiveDate, NaiveDate),
    since: Option<DateTime<Utc>>,
    limit: usize,
) -> anyhow::Result<(Vec<RecordingView>, bool)> {
    let mut found = Vec::new();
    let mut day = Some(to);
    while let Some(today) = day.filter(|day| *day >= from) {
        let mut after = None;
        loop {
            let page = source.recordings(today, after, LIMIT_MAX.min(limit + 1)).await?;
            let wanted = |view: &RecordingView| since.is_none_or(|since| view.opened.is_none_or(|at| at >= since));
            found.extend(page.recordings.into_iter().filter(wanted));
            if found.len() > limit {
                found.truncate(limit);
                return Ok((found, true));
            }
            match page.next {
                next @ Some(_) if next != after => after = next,
                Some(_) | None => break,
            }
        }
        day = today.pred_opt();
    }
    Ok((found, false))
}

fn row(view: &RecordingView) -> [String; 7] {
    let text = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), |text| head(text, 24));
    let moment = |at: Option<DateTime<Utc>>| at.map_or("-".to_owned(), time);
    let state = match view.journaled {
        true => view.state.as_str().to_owned(),
        false => format!("{}, not in the journal", view.state.as_str()),
    };
    [
        view.session.to_string(),
        text(&view.person),
        text(&view.target),
        moment(view.opened),
        moment(view.ended),
        view.chunks.to_string(),
        state,
    ]
}
