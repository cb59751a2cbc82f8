//! `/countersign pending` and `/countersign show ID`.

use super::{Desk, unready};
use crate::card::Card;
use crate::chat::{Answer, Request, Say};
use chrono::Utc;
use countersign_infra::approvals::ApprovalQuery;
use countersign_infra::domain::approval::Approval;
use countersign_infra::domain::id::ApprovalId;
use countersign_infra::policy::GatewayAction;
use countersign_infra::table::{head, table};

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
        let now = Utc::now();
        let rows: Vec<[String; 4]> = seen
            .iter()
            .take(SHOWN_MAX)
            .map(|approval| {
                [
                    approval.id.to_string(),
                    head(&approval.requester.name, 12),
                    format!("{}m", (approval.deadline - now).num_minutes().max(0)),
                    head(
                        &format!("{} on {}", approval.operation.effects.in_words(), approval.place.target),
                        24,
                    ),
                ]
            })
            .collect();
        let text = match seen.len() {
            1 => "1 waits. Show it with /countersign show and its number.".to_owned(),
            all if all > SHOWN_MAX => format!("{all} wait; the newest {SHOWN_MAX}:"),
            all => format!("{all} wait. Show one with /countersign show and its number."),
        };
        Ok(Answer::Say(Box::new(Say {
            text,
            table: Some(table(["NUMBER", "WHO", "LEFT", "WHAT"], &rows)),
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
