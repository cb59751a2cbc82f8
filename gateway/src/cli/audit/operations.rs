//! `countersign audit --operations`: what was asked, and what became of it.

use super::{ALL_MAX, Args, PAGE_MAX};
use crate::cli::client::ClientError;
use crate::cli::terminal::{head, print, print_json, table, time};
use chrono::{SecondsFormat, Utc};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::audit::VerdictWord;
use countersign_infra::journal::words::{WordsError, read, split};
use countersign_infra::journal::{AuditedOperation, OperationPage, OperationQuery, OperationState};
use std::fmt::Write;
use std::process::ExitCode;

/// Requests that a rare state may take before the search is shown as far as it came.
const REQUESTS_MAX: usize = 50;

const TITLE: [&str; 8] = [
    "TIME",
    "WHO",
    "TARGET",
    "STATE",
    "EFFECTS",
    "APPROVAL",
    "BY",
    "OPERATION",
];

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let query = query(&args)?;
    let client = args.connect.connect().await?;
    let (mut wanted, requests_max) = match (args.all, query.limit) {
        (true, _) => (ALL_MAX, usize::MAX),
        (false, 0) => (100, REQUESTS_MAX),
        (false, limit) => (limit, REQUESTS_MAX),
    };
    let mut page = OperationPage {
        next: query.after.clone(),
        ..OperationPage::default()
    };
    // A page may be short though more follow: asked on until there are enough.
    for _ in 0..requests_max {
        let mut fields = fields(&query);
        fields.push(("limit", wanted.min(PAGE_MAX).to_string()));
        fields.extend(page.next.map(|next| ("after", next)));
        let part: OperationPage = client.read("/api/v1/audit/operations", &fields).await?;
        wanted = wanted.saturating_sub(part.operations.len());
        page.operations.extend(part.operations);
        page.next = part.next;
        if wanted == 0 || page.next.is_none() {
            break;
        }
    }
    if args.json {
        print_json(&page)?;
    } else {
        print(&in_words(&page)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Flags and words mean the same; each may be there once.
fn query(args: &Args) -> Result<OperationQuery, ClientError> {
    let flags = [
        ("who", args.who.clone()),
        ("on", args.on.clone()),
        ("since", args.since.clone()),
        ("until", args.until.clone()),
        ("state", args.state.clone()),
        ("text", args.text.clone()),
        ("approval", args.approval.clone().map(String::from)),
        ("session", args.session.map(|id| id.to_string())),
        ("limit", args.limit.map(|limit| limit.to_string())),
        ("after", args.after.clone()),
    ];
    let flags = flags
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key}:{}", value?)));
    let usage = |error: WordsError| ClientError::Usage(error.to_string());
    let words = match args.words.as_slice() {
        // A whole question that the shell was told to leave as it is.
        [question] if question.contains('"') => split(question).map_err(usage)?,
        words => words.to_vec(),
    };
    read(&words.into_iter().chain(flags).collect::<Vec<_>>(), Utc::now()).map_err(usage)
}

/// The question as the API takes it, but for its limit and place.
fn fields(query: &OperationQuery) -> Vec<(&'static str, String)> {
    let moment = |at: Timestamp| at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let states: Vec<&str> = query.states.iter().map(|state| state.as_str()).collect();
    let fields = [
        ("who", query.who.clone()),
        ("target", query.target.clone()),
        ("since", query.since.map(moment)),
        ("until", query.until.map(moment)),
        ("state", Some(states.join(",")).filter(|states| !states.is_empty())),
        ("text", query.text.clone()),
        ("approval", query.approval.clone()),
        ("session", query.session.map(|id| id.to_string())),
    ];
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

fn in_words(page: &OperationPage) -> Result<String, std::fmt::Error> {
    let rows: Vec<[String; 8]> = page.operations.iter().map(row).collect();
    let mut text = match (rows.is_empty(), &page.next) {
        (false, _) => table(TITLE, &rows),
        (true, None) => "Nothing was found.\n".to_owned(),
        (true, Some(_)) => "Nothing was found so far.\n".to_owned(),
    };
    if let Some(next) = &page.next {
        writeln!(text, "More: --after {next}")?;
    }
    Ok(text)
}

fn row(operation: &AuditedOperation) -> [String; 8] {
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let ending = &operation.ending;
    let name = operation.person_name.as_deref().unwrap_or_default();
    let target = operation.target.as_deref().unwrap_or_default();
    let first_line = operation.display.lines().find(|line| !line.trim().is_empty());
    [
        time(operation.at),
        or_dash(head(name, 24)),
        or_dash(head(target, 24)),
        state(ending.state).to_owned(),
        or_dash(head(&operation.effects.in_words(), 40)),
        or_dash(ending.approval.as_ref().map(ToString::to_string).unwrap_or_default()),
        or_dash(head(&decided_by(operation), 40)),
        head(first_line.unwrap_or_default(), 120),
    ]
}

/// As people say it: "unknown" alone would leave open what is not known.
fn state(state: OperationState) -> &'static str {
    match state {
        OperationState::Unknown => "sent, outcome not known",
        OperationState::Allowed => "allowed, no answer yet",
        OperationState::Pending
        | OperationState::Executing
        | OperationState::Done
        | OperationState::Failed
        | OperationState::Denied
        | OperationState::Expired
        | OperationState::Withdrawn
        | OperationState::Abandoned
        | OperationState::Revoked
        | OperationState::Refused => state.as_str(),
    }
}

/// The people who decided, or the rules that denied it.
fn decided_by(operation: &AuditedOperation) -> String {
    let ending = &operation.ending;
    match ending.verdict {
        Some(VerdictWord::Deny) => format!("policy {}", ending.rules.join(", ")).trim_end().to_owned(),
        Some(VerdictWord::Allow | VerdictWord::Hold) | None => ending.decided_by.join(", "),
    }
}
