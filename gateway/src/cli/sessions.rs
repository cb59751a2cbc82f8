//! `countersign sessions`: lists sessions and ends them.

use super::client::ConnectArgs;
use super::terminal::{ago, head, print, print_json, table, time};
use crate::console::{SessionList, SessionView};
use chrono::Utc;
use clap::Subcommand;
use countersign_infra::domain::id::SessionId;
use std::fmt::Write;
use std::process::ExitCode;

/// Lists the sessions that live now, or ends one.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists sessions, newest first.
    List(List),
    /// Ends a live session: one of your own, or another's where the policy lets you.
    End(End),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Past sessions too, from the journal.
    #[arg(long)]
    all: bool,
    /// With --all: a length of time (24h, 7d) or a date and time.
    #[arg(long, value_name = "WHEN", requires = "all")]
    since: Option<String>,
    /// At most this many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// With --all: continues where the page before ended.
    #[arg(long, value_name = "PLACE", requires = "all")]
    after: Option<String>,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, clap::Args)]
struct End {
    /// The session's id.
    id: SessionId,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action.unwrap_or(Action::List(args.list)) {
        Action::List(args) => list(args).await?,
        Action::End(args) => end(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: List) -> anyhow::Result<()> {
    let client = args.connect.connect().await?;
    let mut query = vec![("all", args.all.to_string()), ("limit", args.limit.to_string())];
    query.extend(args.since.map(|since| ("since", since)));
    query.extend(args.after.map(|after| ("after", after)));
    let list: SessionList = client.read("/api/v1/sessions", &query).await?;
    if args.json {
        return print_json(&list);
    }
    if list.sessions.is_empty() {
        return Ok(print("No sessions.\n")?);
    }
    let rows: Vec<_> = list.sessions.iter().map(row).collect();
    let title = ["SESSION", "WHO", "TARGET", "OPENED", "STATE", "FROM"];
    let mut text = table(title, &rows);
    if let Some(next) = list.next {
        writeln!(text, "More: --all --after {next}")?;
    }
    Ok(print(&text)?)
}

fn row(session: &SessionView) -> [String; 6] {
    let state = match (&session.state, session.since) {
        (Some(state), Some(since)) => {
            let approval = session.approval.as_ref().map_or(String::new(), |id| format!(" {id}"));
            format!("{state}{approval} {}", ago(since, Utc::now()))
        }
        _ => "-".to_owned(),
    };
    let client = &session.client;
    [
        session.id.to_string(),
        head(&session.person.name, 24),
        head(&format!("{}/{}", session.target, session.database), 40),
        time(session.opened),
        head(&state, 40),
        head(&format!("{} ({})", client.address, client.application), 60),
    ]
}

async fn end(args: End) -> anyhow::Result<()> {
    let client = args.connect.connect().await?;
    client.send_empty(&format!("/api/v1/sessions/{}/end", args.id)).await?;
    Ok(print(&format!("{}: told to end\n", args.id))?)
}
