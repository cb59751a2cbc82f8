//! Decisions given in chats. Everything but the approval's number is looked up here, at the time of the click.

use super::{Desk, approval_id, shown, unready, with_link};
use crate::card::OPERATION_UNITS_MAX;
use crate::chat::{Answer, Evidence, Request};
use chrono::{SecondsFormat, Utc};
use countersign_infra::approvals::{ChangeError, ClockOff, StoreError};
use countersign_infra::domain::approval::{Approval, Ballot, Change, Choice, Via};
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::chat_link::ChatPlatform;
use countersign_infra::domain::id::ApprovalId;
use countersign_infra::domain::identity::Person;
use countersign_infra::domain::ticket::{ConfirmVote, Purpose};
use countersign_infra::journal::reading::has_read_whole;
use countersign_infra::policy::GatewayAction;
use serde_json::json;
use std::time::Duration;

/// Longest reason of a vote, in characters.
pub const REASON_CHARS_MAX: usize = 500;
/// How long a vote waits to be confirmed.
const CONFIRM_OPEN: Duration = Duration::from_secs(600);

/// What a person chose.
struct Chosen {
    choice: Choice,
    grants: bool,
    reason: Option<String>,
}

impl Desk {
    /// A card's button.
    pub(super) async fn press(&self, request: &Request, action: &str, approval: &str) -> Result<Answer, Answer> {
        let id = approval_id(approval)?;
        let grants = match action {
            "approve" => false,
            "grant" => true,
            "deny" => return self.ask_reason(request, &id).await,
            _ => return Err(Answer::say("That button is of another version: use the newest card.")),
        };
        let chosen = Chosen {
            choice: Choice::Approve,
            grants,
            reason: None,
        };
        self.vote(request, &id, chosen).await
    }

    /// A denial with its reason, which may be empty.
    pub(super) async fn deny(&self, request: &Request, approval: &str, reason: &str) -> Result<Answer, Answer> {
        let id = approval_id(approval)?;
        let reason = reason.trim();
        if reason.chars().count() > REASON_CHARS_MAX {
            return Err(Answer::say(format!(
                "A reason has at most {REASON_CHARS_MAX} characters."
            )));
        }
        let chosen = Chosen {
            choice: Choice::Deny,
            grants: false,
            reason: (!reason.is_empty()).then(|| one_line(reason)),
        };
        self.vote(request, &id, chosen).await
    }

    /// Who may not deny is told so before they write a reason.
    async fn ask_reason(&self, request: &Request, id: &ApprovalId) -> Result<Answer, Answer> {
        let person = self.person(request).await?;
        let approval = self.seen(&person, id).await?;
        let chosen = Chosen {
            choice: Choice::Deny,
            grants: false,
            reason: None,
        };
        // Tried without writing it: what would be refused afterwards is refused now.
        let tried = approval.apply(Change::Vote(ballot(request, &person, &chosen)), Utc::now());
        tried.map_err(|why| Answer::say(format!("{id}: {why}.")))?;
        Ok(Answer::AskReason { approval: approval.id })
    }

    /// The approval, for who may know of it: the requester, who may decide, and who may audit.
    pub(super) async fn seen(&self, person: &Person, id: &ApprovalId) -> Result<Approval, Answer> {
        let none = || Answer::say(format!("There is no approval {id}."));
        let approval = match self.stores.approvals.read(id).await {
            Ok(approval) => approval,
            Err(StoreError::NotFound(_)) => return Err(none()),
            Err(error) => return Err(unready(error)),
        };
        match approval.concerns(person) || self.allows(person, GatewayAction::Audit) {
            true => Ok(approval),
            // Who clicked has the card before them: it is no secret that there is one.
            false => Err(Answer::say(format!(
                "You are in none of the groups that decide on {id}: {}.",
                approval.deciding_groups().join(", ")
            ))),
        }
    }

    async fn vote(&self, request: &Request, id: &ApprovalId, chosen: Chosen) -> Result<Answer, Answer> {
        let person = self.person(request).await?;
        let approval = match self.seen(&person, id).await {
            Ok(approval) => approval,
            Err(answer) => {
                let why = "they may not see it".to_owned();
                self.note(&person, happening(id, &chosen, Some(why))).await?;
                return Err(answer);
            }
        };
        if let Err(why) = approval.may_vote(&person) {
            self.note(&person, happening(id, &chosen, Some(why.to_string())))
                .await?;
            return Err(Answer::say(capital(&why.to_string())));
        }
        if chosen.choice == Choice::Approve {
            self.must_have_read(&person, &approval, &chosen).await?;
        }
        if chosen.choice == Choice::Approve && approval.is_open() && self.steps_up(&approval) {
            return self.confirm(request, id, &chosen).await;
        }
        self.cast(request, &person, id, chosen).await
    }

    /// Whoever approves has seen all of it: on the card, or on the review page.
    async fn must_have_read(&self, person: &Person, approval: &Approval, chosen: &Chosen) -> Result<(), Answer> {
        let card = crate::card::Card::of(approval, &self.pages);
        if card.operation.is_whole || !approval.is_open() {
            return Ok(());
        }
        let journal = self.stores.journal.as_ref();
        if has_read_whole(journal, &person.key, approval).await.map_err(unready)? {
            return Ok(());
        }
        let why = "they have not read the whole of it".to_owned();
        self.note(person, happening(&approval.id, chosen, Some(why))).await?;
        let text = format!(
            "{} is longer than a card shows ({} bytes; a card has room for {OPERATION_UNITS_MAX} characters): read the \
             whole of it, and approve it there.",
            approval.id, approval.operation.display_bytes
        );
        let url = self.page(&format!("approvals/{}", approval.id))?;
        Err(with_link(text, "Read the whole", url))
    }

    fn steps_up(&self, approval: &Approval) -> bool {
        self.policy.current().steps_up(&self.step_up_rules, approval)
    }

    /// The vote counts once its person has signed in anew.
    async fn confirm(&self, request: &Request, id: &ApprovalId, chosen: &Chosen) -> Result<Answer, Answer> {
        let purpose = Purpose::ConfirmVote(ConfirmVote {
            account: request.account.clone(),
            approval: id.clone(),
            choice: chosen.choice,
            reason: chosen.reason.clone(),
            grants: chosen.grants,
            evidence: Some(evidence(request)),
        });
        let secret = self.ticket(purpose, CONFIRM_OPEN).await?;
        let url = self.page(&format!("confirm/{}", secret.reveal()))?;
        let text =
            format!("The rule that holds {id} asks for a fresh sign-in: your vote counts once you have confirmed it.");
        Ok(with_link(text, "Sign in and confirm", url))
    }

    async fn cast(
        &self,
        request: &Request,
        person: &Person,
        id: &ApprovalId,
        chosen: Chosen,
    ) -> Result<Answer, Answer> {
        // The time of a decision stands in a record that other machines judge.
        match self.clock.check().await {
            Ok(()) => {}
            Err(ClockOff::Off { seconds }) => {
                return Err(unready(format!("the clock is off by {seconds} s")));
            }
            Err(error @ ClockOff::Unknown(_)) => return Err(unready(error)),
        }
        let ballot = ballot(request, person, &chosen);
        let told = happening(id, &chosen, None);
        let made = self
            .journal
            .decide(person, told, id, Change::Vote(ballot), Utc::now())
            .await;
        match made {
            Ok(approval) => {
                self.redraw_decided(id);
                Ok(counted(&approval, &chosen))
            }
            Err(ChangeError::Rejected(why)) => {
                self.note(person, happening(id, &chosen, Some(why.to_string()))).await?;
                self.redraw(id);
                Err(Answer::say(format!("{id}: {why}.")))
            }
            Err(ChangeError::Store(StoreError::Conflict { .. })) => Err(Answer::say(format!(
                "{id} changed in the same moment: look at its card again."
            ))),
            Err(ChangeError::Store(error)) => {
                tracing::warn!(approval = %id, %error, "a vote may not have been written");
                Err(Answer::say(format!(
                    "The store did not say whether your vote on {id} was written: look at its card in a moment."
                )))
            }
        }
    }

    async fn note(&self, person: &Person, what: Happening) -> Result<(), Answer> {
        self.journal.note(person, what).await.map_err(unready)
    }
}

fn ballot(request: &Request, person: &Person, chosen: &Chosen) -> Ballot {
    Ballot {
        voter: person.clone(),
        choice: chosen.choice,
        reason: chosen.reason.clone(),
        via: match request.account.platform {
            ChatPlatform::Slack => Via::Slack,
            ChatPlatform::Discord => Via::Discord,
        },
        evidence: Some(evidence(request)),
        grants: chosen.grants,
    }
}

fn happening(id: &ApprovalId, chosen: &Chosen, why: Option<String>) -> Happening {
    Happening::Decided {
        approval: id.clone(),
        choice: chosen.choice.as_str().to_owned(),
        reason: chosen.reason.clone(),
        accepted: why.is_none(),
        why,
    }
}

fn counted(approval: &Approval, chosen: &Chosen) -> Answer {
    let id = &approval.id;
    match (chosen.choice, approval.is_open()) {
        (Choice::Deny, _) => Answer::say(format!("{id} is denied.")),
        (Choice::Approve, true) => Answer::say(format!("Your approval of {id} counts: {}.", approval.quorum_state())),
        (Choice::Approve, false) => Answer::Silent,
    }
}

/// What proves the vote: which account of which workspace, and the payload that the chat signed.
fn evidence(request: &Request) -> String {
    let Evidence { payload, signed } = &request.evidence;
    let account = &request.account;
    json!({
        "platform": account.platform.as_str(),
        "team": account.team,
        "user": account.user,
        "name": shown(&request.name),
        "payload_sha256": payload.to_string(),
        "signed": signed.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)),
    })
    .to_string()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => String::new(),
    }
}
