//! `/countersign audit ...`: what was asked, by whom, and what became of it. For people whom the policy lets; each question
//! is journaled before its answer.

use super::{Desk, TABLE_CHARS_MAX, clock, unready};
use crate::chat::{Answer, File, Request, Say};
use crate::csv;
use chrono::{SecondsFormat, Utc};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::identity::Person;
use countersign_infra::domain::secret::Secret;
use countersign_infra::domain::ticket::{AuditPage, Purpose, TicketId};
use countersign_infra::journal::words::parse;
use countersign_infra::journal::{AuditedOperation, JournalExt, OperationPage, OperationQuery};
use countersign_infra::policy::GatewayAction;
use countersign_infra::table::{head, list};
use std::time::Duration;

/// Operations on one page: as many as a phone shows.
const SHOWN_MAX: usize = 10;
/// Operations in the file beside the first page.
const FILE_MAX: usize = 500;
/// Requests to the journal that one page may take.
const PARTS_MAX: usize = 4;
/// How long a page can be turned.
const PAGE_OPEN: Duration = Duration::from_secs(3600);

impl Desk {
    pub(super) async fn audit(&self, request: &Request, question: &str) -> Result<Answer, Answer> {
        let person = self.auditor(request).await?;
        let now = Utc::now();
        let mut query = parse(question, now).map_err(|error| Answer::say(error.to_string()))?;
        self.note_question(&person, question).await?;
        query.limit = FILE_MAX;
        let page = self.operations(query).await?;
        let first = OperationPage {
            next: rest(&page, SHOWN_MAX),
            operations: page.operations.iter().take(SHOWN_MAX).cloned().collect(),
        };
        let mut say = self.told(request, question, now, first).await?;
        if page.operations.len() > SHOWN_MAX {
            let more = if page.next.is_some() { " (the newest)" } else { "" };
            say.text = format!("{} The file has {}{more}.", say.text, page.operations.len());
            say.file = Some(File {
                name: format!("countersign-audit-{}.csv", now.format("%Y%m%d-%H%M%S")),
                bytes: csv(&page.operations),
            });
        }
        Ok(Answer::Say(Box::new(say)))
    }

    /// The button below a page.
    pub(super) async fn turn_page(&self, request: &Request, secret: &Secret) -> Result<Answer, Answer> {
        let person = self.auditor(request).await?;
        let over = || Answer::say("That page is over: ask again.");
        let ticket = self.stores.tickets.read(TicketId::of(secret)).await.map_err(unready)?;
        let page = match ticket.map(|ticket| ticket.purpose) {
            Some(Purpose::AuditPage(page)) => page,
            Some(_) | None => return Err(over()),
        };
        if page.account != request.account {
            return Err(over());
        }
        let mut query = parse(&page.question, page.asked).map_err(|error| Answer::say(error.to_string()))?;
        query.after = Some(page.after);
        query.limit = SHOWN_MAX;
        self.note_question(&person, &page.question).await?;
        let found = self.operations(query).await?;
        let say = self.told(request, &page.question, page.asked, found).await?;
        Ok(Answer::Say(Box::new(say)))
    }

    async fn auditor(&self, request: &Request) -> Result<Person, Answer> {
        let person = self.person(request).await?;
        match self.allows(&person, GatewayAction::Audit) {
            true => Ok(person),
            false => Err(Answer::say("The policy does not let you audit.")),
        }
    }

    async fn note_question(&self, person: &Person, question: &str) -> Result<(), Answer> {
        let query = format!("operations (chat) {question}");
        let noted = self.journal.note(person, Happening::AuditQueried { query }).await;
        noted.map_err(unready)
    }

    /// A page may be short though more follow: asked on, a few times.
    async fn operations(&self, mut query: OperationQuery) -> Result<OperationPage, Answer> {
        let mut found = OperationPage::default();
        let wanted = query.limit;
        for _ in 0..PARTS_MAX {
            query.limit = wanted.saturating_sub(found.operations.len());
            let part = self.stores.journal.operations(&query).await.map_err(unready)?;
            found.operations.extend(part.operations);
            found.next = part.next;
            query.after.clone_from(&found.next);
            if found.operations.len() >= wanted || found.next.is_none() {
                break;
            }
        }
        Ok(found)
    }

    async fn told(
        &self,
        request: &Request,
        question: &str,
        asked: Timestamp,
        page: OperationPage,
    ) -> Result<Say, Answer> {
        let now = Utc::now();
        let text = match (page.operations.len(), &page.next) {
            (0, None) => "Nothing was found.".to_owned(),
            (0, Some(_)) => "Nothing was found so far.".to_owned(),
            (1, None) => "1 operation.".to_owned(),
            (count, None) => format!("{count} operations."),
            (count, Some(_)) => format!("The newest {count} that follow; there may be more."),
        };
        let mut say = Say { text, ..Say::default() };
        if !page.operations.is_empty() {
            say.table = Some(listed(&page.operations, now));
        }
        if let Some(after) = page.next {
            let purpose = Purpose::AuditPage(AuditPage {
                account: request.account.clone(),
                question: question.to_owned(),
                asked,
                after,
            });
            let secret = self.ticket(purpose, PAGE_OPEN).await?;
            say.buttons.push(("Older".to_owned(), secret.reveal().to_owned()));
        }
        Ok(say)
    }
}

/// Where the page after the first so many begins.
fn rest(page: &OperationPage, shown: usize) -> Option<String> {
    match page.operations.len() > shown {
        true => {
            let last = page.operations.get(shown.checked_sub(1)?)?;
            last.moment().ok().map(|moment| moment.to_string())
        }
        false => page.next.clone(),
    }
}

fn listed(operations: &[AuditedOperation], now: Timestamp) -> String {
    let rows: Vec<_> = operations.iter().map(|operation| row(operation, now)).collect();
    list(["TIME", "WHO", "STATE"], &rows, TABLE_CHARS_MAX)
}

fn row(operation: &AuditedOperation, now: Timestamp) -> ([String; 3], String) {
    let first_line = operation.display.lines().find(|line| !line.trim().is_empty());
    let cells = [
        clock(operation.at, now),
        head(operation.person_name.as_deref().unwrap_or("-"), 12),
        operation.ending.state.to_string(),
    ];
    let target = head(operation.target.as_deref().unwrap_or("-"), 12);
    (cells, format!("{target}: {}", first_line.unwrap_or_default()))
}

fn csv(operations: &[AuditedOperation]) -> Vec<u8> {
    let title = [
        "time",
        "who",
        "target",
        "database",
        "state",
        "effects",
        "approval",
        "decided_by",
        "rules",
        "ended",
        "rows",
        "outcome",
        "session",
        "operation_sha256",
        "operation",
    ];
    let lines = operations.iter().map(|operation| {
        let ending = &operation.ending;
        let outcome = ending.outcome.as_ref();
        let time = |at: Timestamp| at.to_rfc3339_opts(SecondsFormat::Millis, true);
        csv::line(&[
            time(operation.at),
            operation.person_name.clone().unwrap_or_default(),
            operation.target.clone().unwrap_or_default(),
            operation.place.database.clone(),
            ending.state.to_string(),
            operation.effects.in_words(),
            ending.approval.as_ref().map(ToString::to_string).unwrap_or_default(),
            ending.decided_by.join(" "),
            ending.rules.join(" "),
            ending.ended.map(time).unwrap_or_default(),
            outcome
                .and_then(|outcome| outcome.rows)
                .map(|rows| rows.to_string())
                .unwrap_or_default(),
            outcome.map(|outcome| outcome.summary.clone()).unwrap_or_default(),
            operation.session.to_string(),
            operation.operation.to_string(),
            operation.display.clone(),
        ])
    });
    std::iter::once(csv::line(&title.map(str::to_owned)))
        .chain(lines)
        .collect::<String>()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_infra::domain::example::{at, effects, place, session};
    use countersign_infra::domain::id::Digest;
    use countersign_infra::journal::operations::{Ending, OperationState};

    fn asked(state: OperationState, who: &str, target: &str, display: &str) -> AuditedOperation {
        AuditedOperation {
            session: session(1),
            seq: 1,
            at: at(0),
            gateway: "gateway-1".to_owned(),
            person: None,
            person_name: Some(who.to_owned()),
            target: Some(target.to_owned()),
            operation: Digest::of(display.as_bytes()),
            display: display.to_owned(),
            display_bytes: display.len() as u64,
            effects: effects(),
            place: place(),
            in_transaction: false,
            ending: Ending {
                state,
                ended: None,
                verdict: None,
                rules: Vec::new(),
                reasons: Vec::new(),
                approval: None,
                deadline: None,
                decided_by: Vec::new(),
                message: None,
                outcome: None,
                bytes: None,
            },
        }
    }

    #[test]
    fn what_happened_is_listed_for_a_phone() {
        let long = "x".repeat(80);
        let hostile = "\u{200b}\u{202e}```\n";
        let operations: Vec<AuditedOperation> = OperationState::ALL
            .into_iter()
            .flat_map(|state| {
                [
                    asked(state, "alice", "shop", "\n\ndelete from orders\nwhere id = 7"),
                    asked(state, &long, &long, &long),
                    asked(state, hostile, hostile, hostile),
                ]
            })
            .collect();
        for now in [at(60), at(48 * 3600)] {
            let listed = listed(&operations, now);
            assert_eq!(listed.lines().count(), 1 + 2 * operations.len());
            for line in listed.lines() {
                assert!(line.chars().count() <= TABLE_CHARS_MAX, "{line}");
            }
        }
        insta::assert_snapshot!(listed(&operations[..3], at(48 * 3600)));
    }
}
