//! `countersign approvals`: lists, shows and decides what is held.

use super::client::{ClientError, ConnectArgs, GatewayClient};
use super::terminal::{head, print, print_json, table};
use crate::console::words::{ago, cast, in_words, length, person, time, warnings};
use crate::console::{
    ApprovalPage, ApprovalView, ChoiceWord, GrantView, RevokeBody, ViaWord, VoteBody, WholeView, WithdrawBody,
};
use chrono::Utc;
use clap::Subcommand;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::display::escape;
use countersign_infra::domain::id::ApprovalId;
use std::fmt::Write;
use std::process::ExitCode;

/// Longest value of one line of `show`; the operation itself is shown whole.
const VALUE_CHARS_MAX: usize = 4000;

/// Lists, shows and decides what is held.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists what waits for a decision and you may see, newest first.
    List(List),
    /// Shows one approval and its operation: of a long one the beginning, unless the whole is asked for.
    Show(Show),
    /// Approves. The operation runs once the quorum is there. A long one must have been read whole before (`show
    /// --whole`).
    Approve(Approve),
    /// Denies. One denial is enough.
    Deny(Decide),
    /// Gives up an operation of your own.
    Withdraw(Decide),
    /// Takes back what was approved together with an operation (`approve --grant`): people are asked again from then on.
    Revoke(Decide),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Also those that are decided.
    #[arg(long)]
    all: bool,
    /// At most this many.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Only those made before this one.
    #[arg(long, value_name = "NUMBER")]
    before: Option<ApprovalId>,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// The approval's number.
    number: ApprovalId,
    /// Only the operation, and all that is shown of it. That you read it is journaled.
    #[arg(long)]
    whole: bool,
    /// Only the exact parts of the operation, unmasked, in base 64. Needs the right to audit, and is journaled.
    #[arg(long, conflicts_with = "whole")]
    exact: bool,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, clap::Args)]
struct Decide {
    /// The approval's number.
    number: ApprovalId,
    /// Why, in one line. The requester sees it.
    #[arg(long)]
    reason: Option<String>,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, clap::Args)]
struct Approve {
    #[command(flatten)]
    decide: Decide,
    /// Approves what is alike too, in the same session, for as long as the rules grant.
    #[arg(long)]
    grant: bool,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::List(args) => list(args).await?,
        Action::Show(args) => show(args).await?,
        Action::Approve(args) => vote(args.decide, ChoiceWord::Approve, args.grant).await?,
        Action::Deny(args) => vote(args, ChoiceWord::Deny, false).await?,
        Action::Withdraw(args) => withdraw(args).await?,
        Action::Revoke(args) => revoke(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: List) -> anyhow::Result<()> {
    let client = args.connect.connect().await?;
    let state = if args.all { "any" } else { "pending" };
    let mut query = vec![("state", state.to_owned()), ("limit", args.limit.to_string())];
    query.extend(args.before.map(|id| ("before", id.to_string())));
    let page: ApprovalPage = client.read("/api/v1/approvals", &query).await?;
    if args.json {
        return print_json(&page);
    }
    if page.approvals.is_empty() {
        let nothing = if args.all {
            "No approvals.\n"
        } else {
            "Nothing waits for a decision.\n"
        };
        return Ok(print(nothing)?);
    }
    let now = Utc::now();
    let rows: Vec<_> = page.approvals.iter().map(|view| row(view, now)).collect();
    let title = [
        "NUMBER",
        "WHO",
        "TARGET",
        "EFFECTS",
        "AGE",
        "LEFT",
        "VOTES",
        "OPERATION",
    ];
    let mut text = table(title, &rows);
    if let Some(next) = page.next {
        writeln!(text, "More: --before {next}")?;
    }
    Ok(print(&text)?)
}

fn row(view: &ApprovalView, now: Timestamp) -> [String; 8] {
    let approval = &view.approval;
    let left = match approval.is_open() {
        true => length(view.seconds_left),
        false => approval.state.as_str().to_owned(),
    };
    [
        approval.id.to_string(),
        head(&approval.requester.name, 24),
        head(&approval.place.target, 24),
        head(&approval.operation.effects.in_words(), 40),
        ago(approval.created, now),
        left,
        votes(view),
        head(&approval.operation.display, 60),
    ]
}

/// How far each clause has come: `1/2`, `0/1+1/1`.
fn votes(view: &ApprovalView) -> String {
    let clauses = view.quorum.iter();
    let words = clauses.map(|clause| format!("{}/{}", clause.approved_by.len(), clause.quorum));
    words.collect::<Vec<_>>().join("+")
}

async fn show(args: Show) -> anyhow::Result<()> {
    let client = args.connect.connect().await?;
    if args.whole || args.exact {
        return show_operation(&client, &args).await;
    }
    let view = read(&client, &args.number).await?;
    if args.json {
        return print_json(&view);
    }
    let grant = match view.approval.is_granted() {
        true => grant_of(&client, &args.number).await?,
        false => None,
    };
    Ok(print(&in_full(&view, grant.as_ref())?)?)
}

async fn show_operation(client: &GatewayClient, args: &Show) -> anyhow::Result<()> {
    let query: &[_] = if args.exact {
        &[("exact", "true".to_owned())]
    } else {
        &[]
    };
    let path = format!("/api/v1/approvals/{}/operation", args.number);
    let whole: WholeView = client.read(&path, query).await?;
    if args.json {
        return print_json(&whole);
    }
    let mut text = String::new();
    match &whole.parts {
        Some(parts) => {
            for part in parts {
                writeln!(text, "{}\n{}\n", escape(&part.tag), escape(&part.base64))?;
            }
        }
        None => writeln!(text, "{}", escape(&whole.display))?,
    }
    if !whole.as_asked {
        text.push_str("\nNote: it was asked for again since, and is shown otherwise now than when this was asked.\n");
    }
    Ok(print(&text)?)
}

async fn vote(args: Decide, choice: ChoiceWord, grants: bool) -> anyhow::Result<()> {
    let client = args.connect.connect().await?;
    let path = format!("/api/v1/approvals/{}/votes", args.number);
    let via = ViaWord::Cli;
    let body = VoteBody {
        choice,
        reason: args.reason,
        via,
        grants,
    };
    let view: ApprovalView = client.send_json(&path, &body).await?;
    told(args.json, &view)
}

async fn withdraw(args: Decide) -> anyhow::Result<()> {
    let client = args.connect.connect().await?;
    let path = format!("/api/v1/approvals/{}/withdraw", args.number);
    let body = WithdrawBody { reason: args.reason };
    let view: ApprovalView = client.send_json(&path, &body).await?;
    told(args.json, &view)
}

/// What was approved together with it; none where that is not given yet.
async fn grant_of(client: &GatewayClient, number: &ApprovalId) -> anyhow::Result<Option<GrantView>> {
    match client.read(&format!("/api/v1/approvals/{number}/grant"), &[]).await {
        Ok(grant) => Ok(Some(grant)),
        Err(ClientError::No(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn revoke(args: Decide) -> anyhow::Result<()> {
    let client = args.connect.connect().await?;
    let path = format!("/api/v1/approvals/{}/grant/revoke", args.number);
    let body = RevokeBody { reason: args.reason };
    let grant: GrantView = client.send_json(&path, &body).await?;
    if args.json {
        return print_json(&grant);
    }
    let (number, uses) = (&grant.approval, grant.uses);
    Ok(print(&format!(
        "{number}: what it grants is revoked (used {uses} times)\n"
    ))?)
}

async fn read(client: &GatewayClient, id: &ApprovalId) -> anyhow::Result<ApprovalView> {
    Ok(client.read(&format!("/api/v1/approvals/{id}"), &[]).await?)
}

fn told(json: bool, view: &ApprovalView) -> anyhow::Result<()> {
    if json {
        return print_json(view);
    }
    let approval = &view.approval;
    let state = in_words(&approval.state);
    let votes = escape(&approval.quorum_state());
    Ok(print(&format!("{}: {state} ({votes})\n", approval.id))?)
}

fn in_full(view: &ApprovalView, grant: Option<&GrantView>) -> Result<String, std::fmt::Error> {
    let approval = &view.approval;
    let mut lines = asked(view);
    lines.extend(warnings(view).into_iter().map(|warning| ("Note", warning.to_owned())));
    lines.push(("Votes", approval.quorum_state()));
    lines.extend(approval.terms.clauses.iter().map(|clause| {
        let groups = clause.approvers.join(", ");
        ("Needs", format!("rule {}: {} of {groups}", clause.rule, clause.quorum))
    }));
    lines.extend(approval.terms.reasons.iter().map(|reason| ("Because", reason.clone())));
    lines.extend(approval.votes.iter().map(|vote| ("Vote", cast(vote))));
    lines.extend(grant.map(|grant| ("Grants", granted(grant))));
    lines.push(("Session", approval.session.to_string()));
    let (digest, size) = (approval.operation.digest, approval.operation.size_bytes);
    lines.push(("Digest", format!("SHA-256 {digest} over {size} bytes")));
    let mut text = String::new();
    for (name, value) in lines {
        writeln!(text, "{name:<12}{}", head(&value, VALUE_CHARS_MAX))?;
    }
    let (operation, id) = (&approval.operation, &approval.id);
    writeln!(text, "\n{}", escape(&operation.display))?;
    if operation.display_bytes > operation.display.len() as u64 {
        let (shown, all) = (operation.display.len(), operation.display_bytes);
        writeln!(text, "\nThis is not all of it: {shown} of {all} bytes are shown.")?;
        writeln!(
            text,
            "Read the whole before you approve: countersign approvals show {id} --whole"
        )?;
    }
    Ok(text)
}

fn granted(grant: &GrantView) -> String {
    let stands = match (grant.state.as_str(), &grant.revoked_by) {
        ("active", _) => format!("until {}", time(grant.until)),
        (_, Some(by)) => format!("revoked by {by}"),
        (state, None) => state.to_owned(),
    };
    format!("what is alike in its session, {stands}; used {} times", grant.uses)
}

/// Who asks for what, where, and how long it waits.
fn asked(view: &ApprovalView) -> Vec<(&'static str, String)> {
    let approval = &view.approval;
    let (requester, client, place) = (&approval.requester, &approval.client, &approval.place);
    let left = match approval.is_open() {
        true => format!(" ({} left)", length(view.seconds_left)),
        false => String::new(),
    };
    let age = ago(approval.created, Utc::now());
    vec![
        ("Approval", approval.id.to_string()),
        ("State", in_words(&approval.state)),
        ("Asked by", person(&requester.name, requester.email.as_deref())),
        ("From", format!("{} ({})", client.address, client.application)),
        ("Asked", format!("{} ({age} ago)", time(approval.created))),
        ("Deadline", format!("{}{left}", time(approval.deadline))),
        ("Target", format!("{}, database {}", place.target, place.database)),
        ("Runs as", format!("{}, search_path {}", place.role, place.search_path)),
        ("Effects", approval.operation.effects.in_words()),
    ]
}
