//! `/countersign pending` and `/countersign show ID`.

use super::{Desk, TABLE_CHARS_MAX, unready};
use crate::card::Card;
use crate::chat::{Answer, Request, Say};
use chrono::Utc;
use countersign_infra::approvals::ApprovalQuery;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::approval::Approval;
use countersign_infra::domain::id::ApprovalId;
use countersign_infra::policy::GatewayAction;
use countersign_infra::table::{head, list};

/// Approvals that one answer looks through, and shows.
const LOOKED_THROUGH_MAX: usize = 500;
const SHOWN_MAX: usize = 15;

impl Desk {
    pub(super) async fn pending(&self, request: &Request) -> Result<Answer, Answer> {
        let person = self.person(request).await?;
        let query = ApprovalQuery {
            pending_only: true,
            before: None,
            limit: LOOKED_THROUGH_MAX,
        };
        let waiting = self.stores.approvals.list(&query).await.map_err(unready)?;
        let audits = self.allows(&person, GatewayAction::Audit);
        let seen: Vec<&Approval> = waiting
            .iter()
            .filter(|approval| audits || approval.concerns(&person))
            .collect();
        if seen.is_empty() {
            return Ok(Answer::say("Nothing waits that concerns you."));
        }
        let text = match seen.len() {
            1 => "1 waits. Show it with /countersign show and its number.".to_owned(),
            all if all > SHOWN_MAX => format!("{all} wait; the newest {SHOWN_MAX}:"),
            all => format!("{all} wait. Show one with /countersign show and its number."),
        };
        Ok(Answer::Say(Box::new(Say {
            text,
            table: Some(listed(seen.into_iter().take(SHOWN_MAX), Utc::now())),
            ..Say::default()
        })))
    }

    pub(super) async fn show(&self, request: &Request, id: &ApprovalId) -> Result<Answer, Answer> {
        let person = self.person(request).await?;
        let approval = self.seen(&person, id).await?;
        let mut card = Card::of(&approval, &self.pages);
        if approval.may_vote(&person).is_err() {
            card.buttons.clear();
        }
        Ok(Answer::Say(Box::new(Say {
            text: card.headline.clone(),
            card: Some(Box::new(card)),
            ..Say::default()
        })))
    }
}

fn listed<'a>(approvals: impl Iterator<Item = &'a Approval>, now: Timestamp) -> String {
    let rows: Vec<_> = approvals.map(|approval| row(approval, now)).collect();
    list(["NUMBER", "WHO", "LEFT"], &rows, TABLE_CHARS_MAX)
}

fn row(approval: &Approval, now: Timestamp) -> ([String; 3], String) {
    let cells = [
        approval.id.to_string(),
        head(&approval.requester.name, 12),
        format!("{}m", (approval.deadline - now).num_minutes().max(0)),
    ];
    let effects = approval.operation.effects.in_words();
    (cells, format!("{effects} on {}", approval.place.target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_infra::domain::example::{at, pending, terms};

    #[test]
    fn what_waits_is_listed_for_a_phone() {
        let mut long = pending(terms(1));
        long.requester.name = "a-name-that-is-longer-than-others\u{202e}".to_owned();
        long.place.target = "t".repeat(60);
        let listed = listed([&pending(terms(1)), &long].into_iter(), at(0));
        insta::assert_snapshot!(listed);
        assert!(listed.lines().all(|line| line.chars().count() <= TABLE_CHARS_MAX));
    }
}
