//! `countersign audit`: searches the journal, by event or by operation.

use super::client::ConnectArgs;
use super::terminal::{head, print, print_json, time};
use clap::ValueHint;
use countersign_infra::domain::audit::{Event, Happening};
use countersign_infra::domain::id::{ApprovalId, SessionId};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::process::ExitCode;

mod operations;

/// What --all reads at most.
const ALL_MAX: usize = 100_000;

/// Entries that one request asks for.
const PAGE_MAX: usize = 1000;

/// Searches the journal: who did what, where and when. Newest first. The search itself is journaled.
///
/// Lists events, or with --operations (or a state, or words) what was asked and what became of it:
/// countersign audit who:alice on:shop since:24h state:denied text:delete
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to find, as in the chat: who, on, since, until, state, text, approval, session, limit, after.
    #[arg(value_name = "KEY:VALUE")]
    words: Vec<String>,
    /// Lists operations and what became of them.
    #[arg(long)]
    operations: bool,
    /// A person's name, e-mail address or subject.
    #[arg(long, value_hint = ValueHint::Username)]
    who: Option<String>,
    /// A target.
    #[arg(long, visible_alias = "target", value_name = "TARGET")]
    on: Option<String>,
    /// A length of time (30m, 24h, 7d) or a date and time (2026-01-31T12:00:00Z).
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// As --since.
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Operations in these states, with commas between them: denied,expired.
    #[arg(long, value_name = "STATES")]
    state: Option<String>,
    /// Events of these names, with commas between them: asked,held,refused,decided.
    #[arg(long, conflicts_with_all = ["operations", "state", "session", "words"])]
    event: Option<String>,
    /// A text that the operation (or the event's message or reason) contains.
    #[arg(long)]
    text: Option<String>,
    /// An approval's number.
    #[arg(long, value_name = "NUMBER")]
    approval: Option<ApprovalId>,
    /// Operations of this session.
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// At most this many; 100 unless said otherwise.
    #[arg(long)]
    limit: Option<usize>,
    /// Continues where the page before ended.
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
    /// All of them, to the oldest.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Default, Serialize, Deserialize)]
struct Page {
    events: Vec<Event>,
    next: Option<String>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.operations || args.state.is_some() || args.session.is_some() || !args.words.is_empty() {
        return operations::run(args).await;
    }
    let client = args.connect.connect().await?;
    let mut wanted = match args.all {
        true => ALL_MAX,
        false => args.limit.unwrap_or(100),
    };
    let filters = [
        ("who", args.who),
        ("target", args.on),
        ("since", args.since),
        ("until", args.until),
        ("event", args.event),
        ("text", args.text),
        ("approval", args.approval.map(String::from)),
    ];
    let filters = filters
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect::<Vec<_>>();
    let mut page = Page {
        next: args.after,
        ..Page::default()
    };
    loop {
        let mut query = filters.clone();
        query.push(("limit", wanted.min(PAGE_MAX).to_string()));
        query.extend(page.next.map(|next| ("after", next)));
        let part: Page = client.read("/api/v1/audit", &query).await?;
        wanted = wanted.saturating_sub(part.events.len());
        page.events.extend(part.events);
        page.next = part.next;
        if wanted == 0 || page.next.is_none() {
            break;
        }
    }
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
        Happening::ChatLinked {
            account,
            account_name,
            former_name,
            mailbox,
            ..
        } => {
            let by = mailbox
                .as_ref()
                .map_or(String::new(), |mailbox| format!(", by the address {mailbox}"));
            let former = former_name
                .as_ref()
                .map_or(String::new(), |name| format!(", in place of {name}"));
            format!("{account} ({account_name}) speaks for them{by}{former}")
        }
        Happening::DigestSigned { name, sessions, .. } => format!("digests/{name} names {sessions} sessions"),
    }
}
