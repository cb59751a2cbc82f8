//! `countersign audit`: searches the journal.

use super::client::ConnectArgs;
use super::terminal::{head, print, print_json, time};
use clap::ValueHint;
use countersign_infra::domain::audit::{Event, Happening};
use countersign_infra::domain::id::ApprovalId;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::process::ExitCode;

/// Searches the journal: who did what, where and when. Newest first. The search itself is journaled.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A person's name, e-mail address or subject.
    #[arg(long, value_hint = ValueHint::Username)]
    who: Option<String>,
    /// A target.
    #[arg(long, value_name = "TARGET")]
    on: Option<String>,
    /// A length of time (30m, 24h, 7d) or a date and time (2026-01-31T12:00:00Z).
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// As --since.
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Names of happenings with commas between them: asked,held,refused,decided.
    #[arg(long)]
    event: Option<String>,
    /// A text that the operation, message or reason contains.
    #[arg(long)]
    text: Option<String>,
    /// An approval's number.
    #[arg(long, value_name = "NUMBER")]
    approval: Option<ApprovalId>,
    /// At most this many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Continues where the page before ended.
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Serialize, Deserialize)]
struct Page {
    events: Vec<Event>,
    next: Option<String>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.connect.connect()?;
    let filters = [
        ("who", args.who),
        ("target", args.on),
        ("since", args.since),
        ("until", args.until),
        ("event", args.event),
        ("text", args.text),
        ("approval", args.approval.map(String::from)),
        ("limit", Some(args.limit.to_string())),
        ("after", args.after),
    ];
    let query: Vec<_> = filters
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let page: Page = client.read("/api/v1/audit", &query).await?;
    if args.json {
        print_json(&page)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text: String = page.events.iter().map(line).collect();
    if page.events.is_empty() {
        text.push_str("Nothing was found.\n");
    }
    if let Some(next) = page.next {
        writeln!(text, "More: --after {next}")?;
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// One event on one line: time, name, target, session, what happened.
fn line(event: &Event) -> String {
    let name = event.person_name.as_deref().unwrap_or("-");
    let target = event.target.as_deref().unwrap_or("-");
    let session = event.session.to_string();
    // The last twelve digits of a UUID of version 7 are random: enough to tell sessions apart.
    let short = session.get(24..).unwrap_or(&session);
    let what = head(&in_words(&event.what), 400);
    format!(
        "{}  {:<12}  {:<12}  {short}/{:<4}  {:<16}  {what}\n",
        time(event.at),
        head(name, 24),
        head(target, 24),
        event.seq,
        event.what.name()
    )
}

fn in_words(what: &Happening) -> String {
    match what {
        Happening::SessionOpened { header } => {
            let (client, role) = (&header.client, &header.role);
            format!(
                "from {} ({}), database {} as {role}",
                client.address, client.application, header.database
            )
        }
        Happening::Asked {
            display,
            effects,
            in_transaction,
            ..
        } => {
            let inside = if *in_transaction { ", in a transaction" } else { "" };
            format!("[{}{inside}] {display}", effects.in_words())
        }
        Happening::Verdict {
            verdict,
            rules,
            reasons,
            ..
        } => {
            let mut words = vec![format!("{verdict:?}").to_lowercase()];
            words.extend((!rules.is_empty()).then(|| format!("by {}", rules.join(", "))));
            words.extend((!reasons.is_empty()).then(|| format!("({})", reasons.join("; "))));
            words.join(" ")
        }
        Happening::Held {
            approval,
            terms,
            deadline,
            ..
        } => {
            let groups: Vec<_> = terms
                .clauses
                .iter()
                .map(|c| format!("{} of {}", c.quorum, c.approvers.join("/")))
                .collect();
            format!(
                "{approval} waits for {} until {}",
                groups.join(" and "),
                time(*deadline)
            )
        }
        Happening::Executing {
            approval, approvers, ..
        } => format!("{approval} approved by {}", approvers.join(", ")),
        Happening::Answered { outcome, bytes, .. } => {
            format!("{} in {} ms, {bytes} bytes", outcome.summary, outcome.duration_ms)
        }
        Happening::Refused {
            approval,
            code,
            message,
            ..
        } => {
            let number = approval.as_ref().map_or(String::new(), |id| format!("{id} "));
            format!("{number}{code} {message}")
        }
        Happening::GatewaySent { what } => what.clone(),
        Happening::CopyReceived { bytes, sha256, .. } => format!("{bytes} bytes of data, SHA-256 {sha256}"),
        Happening::RecordingAnchor { chunks, last } => format!("{chunks} chunks, the last {last}"),
        Happening::SessionClosed { why, chunks, .. } => format!("{why}; {chunks} chunks recorded"),
        Happening::AuditQueried { query } => query.clone(),
        Happening::Decided {
            approval,
            choice,
            reason,
            accepted,
            why,
        } => {
            let reason = reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
            let refused = why.as_deref().unwrap_or("refused");
            match accepted {
                true => format!("{approval} {choice}{reason}"),
                false => format!("{approval} {choice}{reason} (does not count: {refused})"),
            }
        }
        Happening::SignInRefused { why, client } => format!("{client}: {why}"),
        Happening::DigestSigned { name, sessions, .. } => format!("digests/{name} names {sessions} sessions"),
    }
}
