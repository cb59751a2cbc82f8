//! The card: what a chat shows of an approval. The same for every chat; each chat draws it its own way.

use countersign_infra::domain::Timestamp;
use countersign_infra::domain::access_request::Client;
use countersign_infra::domain::approval::{Approval, Ballot, Choice, Outcome, State, Vote};
use countersign_infra::domain::display::{escape, mask_secrets};
use countersign_infra::domain::id::{ApprovalId, SessionId};
use countersign_infra::domain::identity::{Person, PersonKind};
use url::Url;

/// The longest operation that a card shows whole, in UTF-16 code units: chats count them, and every chat has room for so
/// many. What is longer is opened before it can be approved.
pub const OPERATION_UNITS_MAX: usize = 2400;

/// The longest value of one line of a card, in characters. What is cut is only told; what decides is the operation.
const LINE_CHARS_MAX: usize = 200;

/// What a chat shows of an approval. Every text in it is for eyes: escaped and masked, never to be read as markup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    pub approval: ApprovalId,
    pub standing: Standing,
    /// One line: who would do what where.
    pub headline: String,
    /// What there is to know beside the operation, in the order of importance.
    pub lines: Vec<Line>,
    pub operation: Shown,
    /// What an approver must not miss.
    pub warnings: Vec<String>,
    /// Until when people may decide; none once they have.
    pub deadline: Option<Timestamp>,
    pub buttons: Vec<Button>,
    pub links: Vec<Link>,
}

/// How the approval stands, as colours tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Waits,
    /// People said yes, and the server has not answered yet.
    Runs,
    Done,
    /// It ran and the server refused it, or nobody knows how it ended.
    Failed,
    Denied,
    /// Nobody decided, or it was taken back.
    Over,
}

/// A name and a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub name: &'static str,
    pub value: String,
}

/// As much of the operation as the card shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub text: String,
    /// The card shows all of it.
    pub is_whole: bool,
    /// Size of its whole display text, in bytes.
    pub bytes: u64,
}

/// What a person may do. A button carries the approval's number and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    Approve,
    /// Approves this and what is alike for so many minutes.
    Grant {
        minutes: u64,
    },
    Deny,
}

impl Button {
    /// The name under which a click arrives.
    pub fn action(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Grant { .. } => "grant",
            Self::Deny => "deny",
        }
    }

    pub fn label(self) -> String {
        match self {
            Self::Approve => "Approve".to_owned(),
            Self::Grant { minutes } => format!("Approve for {minutes} min"),
            Self::Deny => "Deny".to_owned(),
        }
    }
}

/// A page of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub name: &'static str,
    pub url: Url,
}

impl Card {
    /// The card of an approval as it stands. `pages`: where people reach the gateway's pages.
    pub fn of(approval: &Approval, pages: &Url) -> Self {
        let operation = shown(approval);
        Self {
            approval: approval.id.clone(),
            standing: Standing::of(&approval.state),
            headline: headline(approval),
            lines: lines(approval),
            warnings: warnings(approval, &operation),
            deadline: approval.is_open().then_some(approval.deadline),
            buttons: buttons(approval, &operation),
            links: links(approval, &operation, pages),
            operation,
        }
    }

    /// What a notification says, in one line.
    pub fn summary(&self) -> String {
        let state = self.lines.iter().find(|line| line.name == STATE);
        let state = state.map_or("", |line| line.value.as_str());
        format!("{} {}: {state}", self.approval, self.headline)
    }
}

impl Standing {
    fn of(state: &State) -> Self {
        match state {
            State::Pending => Self::Waits,
            State::Approved { .. } | State::Executing { .. } => Self::Runs,
            State::Done { outcome, .. } if outcome.ok => Self::Done,
            State::Done { .. } | State::Unknown { .. } => Self::Failed,
            State::Denied { .. } => Self::Denied,
            State::Expired { .. } | State::Withdrawn { .. } | State::Abandoned { .. } | State::Revoked { .. } => {
                Self::Over
            }
        }
    }
}

const STATE: &str = "State";

fn headline(approval: &Approval) -> String {
    let (who, what) = (&approval.requester.name, approval.operation.effects.as_deed());
    let verb = if approval.is_open() { "wants to" } else { "asked to" };
    cut(&format!("{who} {verb} {what} on {}", approval.place.target))
}

fn lines(approval: &Approval) -> Vec<Line> {
    let (place, client, terms) = (&approval.place, &approval.client, &approval.terms);
    let mut lines = vec![
        line(STATE, state(approval)),
        line("Who", who(&approval.requester)),
        line(
            "Where",
            format!("{}, database {} as {}", place.target, place.database, place.role),
        ),
        line("From", from(client)),
    ];
    let reasons = terms.reasons.join("; ");
    if !reasons.is_empty() {
        lines.push(line("Why it waits", reasons));
    }
    let rules: Vec<&str> = terms.clauses.iter().map(|clause| clause.rule.as_str()).collect();
    lines.push(line("Rule", rules.join(", ")));
    let votes: Vec<String> = approval.votes.iter().map(cast).collect();
    lines.push(line("Votes", votes.join("; ")));
    lines.push(line("Ended", approval.state.ended().map(time).unwrap_or_default()));
    let grants = terms.grant_seconds.filter(|_| approval.is_granted());
    let grants = grants.map(|seconds| {
        format!(
            "what is alike in its session, for {} min; see Details",
            seconds.div_ceil(60)
        )
    });
    lines.push(line("Grants", grants.unwrap_or_default()));
    if has_run(approval) {
        let SessionId(session) = approval.session;
        lines.push(line("Recording", format!("countersign replay {session}")));
    }
    // A chat refuses a field without a value.
    lines.retain(|line| !line.value.trim().is_empty());
    lines
}

/// Whether there is something of it in the recording.
fn has_run(approval: &Approval) -> bool {
    matches!(
        approval.state,
        State::Executing { .. } | State::Done { .. } | State::Unknown { .. }
    )
}

fn line(name: &'static str, value: impl AsRef<str>) -> Line {
    let value = cut(value.as_ref());
    Line { name, value }
}

/// `10.1.2.3:50123 (psql)`: what a client calls itself is a claim, and not all do.
fn from(client: &Client) -> String {
    match client.application.trim() {
        "" => client.address.clone(),
        application => format!("{} ({application})", client.address),
    }
}

/// `alice (engineering, oncall)`; a program says that it is one.
fn who(person: &Person) -> String {
    let groups: Vec<&str> = person.groups.iter().map(String::as_str).collect();
    let program = match person.kind {
        PersonKind::Human => "",
        PersonKind::Machine => ", a program",
    };
    match groups.as_slice() {
        [] => format!("{}{program}", person.name),
        groups => format!("{} ({}){program}", person.name, groups.join(", ")),
    }
}

fn state(approval: &Approval) -> String {
    let approvers = names(&approval.approvers());
    match &approval.state {
        State::Pending => format!("waits for {}", approval.quorum_state()),
        State::Approved { .. } => format!("approved by {approvers}"),
        State::Executing { .. } => format!("approved by {approvers}, runs"),
        State::Done { outcome, .. } => format!("approved by {approvers}, {}", ended(outcome)),
        State::Unknown { why, .. } => {
            format!("approved by {approvers}, sent, outcome not known: {why}. It is never run again")
        }
        State::Denied { by, reason, .. } => match reason {
            Some(reason) => format!("denied by {}: {reason}", by.name),
            None => format!("denied by {}", by.name),
        },
        State::Expired { .. } => format!("expired: {}", approval.quorum_state()),
        State::Withdrawn { why, .. } => format!("withdrawn: {why}"),
        State::Abandoned { why, .. } => format!("abandoned, nothing was sent: {why}"),
        State::Revoked { why, .. } => format!("taken back: {why}"),
    }
}

fn names(people: &[&Person]) -> String {
    let names: Vec<&str> = people.iter().map(|person| person.name.as_str()).collect();
    names.join(", ")
}

/// `bob approved it 2026-01-31 12:00:00 UTC: ticket 7`.
fn cast(vote: &Vote) -> String {
    let Ballot {
        voter, choice, reason, ..
    } = &vote.ballot;
    let what = match choice {
        Choice::Approve => "approved it",
        Choice::Deny => "denied it",
    };
    let reason = reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    format!("{} {what} {}{reason}", voter.name, time(vote.at))
}

fn time(at: Timestamp) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `DELETE 1, 1 row, 12 ms`.
fn ended(outcome: &Outcome) -> String {
    let failed = if outcome.ok { "" } else { "failed: " };
    let rows = match outcome.rows {
        None => String::new(),
        Some(1) => ", 1 row".to_owned(),
        Some(rows) => format!(", {rows} rows"),
    };
    format!("{failed}{}{rows}, {} ms", outcome.summary, outcome.duration_ms)
}

fn shown(approval: &Approval) -> Shown {
    let operation = &approval.operation;
    let text = head(&operation.display, OPERATION_UNITS_MAX);
    Shown {
        is_whole: text.len() as u64 == operation.display_bytes,
        text: text.to_owned(),
        bytes: operation.display_bytes,
    }
}

/// The beginning of a text, of so many UTF-16 code units at most as a chat shows it: three backticks in a row may take
/// eight.
fn head(text: &str, units_max: usize) -> &str {
    let mut units = 0;
    let end = text.char_indices().find(|(_, letter)| {
        units += if *letter == '`' { 3 } else { letter.len_utf16() };
        units > units_max
    });
    end.map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

fn warnings(approval: &Approval, shown: &Shown) -> Vec<String> {
    let operation = &approval.operation;
    let mut warnings = Vec::new();
    if !approval.is_open() {
        return warnings;
    }
    if !shown.is_whole {
        warnings.push(format!(
            "This is only the beginning of {} bytes: read the whole before you approve it.",
            shown.bytes
        ));
    }
    if !operation.has_where {
        warnings.push("It changes rows without a WHERE.".to_owned());
    }
    if operation.unseen_data {
        warnings.push("It goes on with rows that nobody has seen.".to_owned());
    }
    if operation.in_transaction {
        warnings.push("It waits inside a transaction, whose locks stay until then.".to_owned());
    }
    if approval.terms.critical {
        warnings.push("It needs a vote from the console or the command line too.".to_owned());
    }
    warnings
}

/// Approve only where the approver sees all of it.
fn buttons(approval: &Approval, shown: &Shown) -> Vec<Button> {
    if !approval.is_open() {
        return Vec::new();
    }
    let grant = approval.terms.grant_seconds.map(|seconds| Button::Grant {
        minutes: seconds.div_ceil(60),
    });
    let approve = shown.is_whole.then_some(Button::Approve);
    let grant = grant.filter(|_| shown.is_whole);
    approve.into_iter().chain(grant).chain([Button::Deny]).collect()
}

fn links(approval: &Approval, shown: &Shown, pages: &Url) -> Vec<Link> {
    let mut links = Vec::new();
    let page = |kind: &str, id: &str| pages.join(&format!("{kind}/{id}")).ok();
    let name = if approval.is_open() && !shown.is_whole {
        "Read the whole"
    } else {
        "Details"
    };
    links.extend(page("approvals", approval.id.as_str()).map(|url| Link { name, url }));
    if has_run(approval) {
        // The page says how it is replayed, and to whom.
        let recording = page("approvals", approval.id.as_str()).map(|mut url| {
            url.set_fragment(Some("recording"));
            url
        });
        links.extend(recording.map(|url| Link { name: "Recording", url }));
    }
    links
}

/// One line for eyes: names and reasons come from others, and must not make what stands around them be read otherwise.
fn cut(text: &str) -> String {
    let one_line = mask_secrets(&escape(text)).replace(['\n', '\t'], " ");
    match one_line.char_indices().nth(LINE_CHARS_MAX) {
        Some((end, _)) => format!("{}...", one_line.get(..end).unwrap_or_default()),
        None => one_line,
    }
}

#[cfg(test)]
mod tests;
