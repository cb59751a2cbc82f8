//! The gate: every operation of every protocol passes here, or does not pass.

use crate::grants::Grants;
use crate::hold::{Executing, Hold, Holds};
use crate::journal::SessionJournal;
use crate::refusal::{Cause, Refusal};
use chrono::Utc;
use countersign_infra::domain::access_request::AccessRequest;
use countersign_infra::domain::approval::Terms;
use countersign_infra::domain::audit::{Happening, VerdictWord};
use countersign_infra::domain::display::head;
use countersign_infra::domain::id::{ApprovalId, Digest};
use countersign_infra::operations::{OperationError, OperationStore, WholeOperation};
use countersign_infra::policy::{PolicyHandle, Question, TargetFacts, Verdict};
use std::sync::Arc;
use std::time::Duration;

/// How long a whole operation may take until it is kept. Stores give up earlier by themselves.
const KEEP_WAIT_MAX: Duration = Duration::from_secs(120);

/// The right to send one operation once.
///
/// It is made here only, has no copy, and is taken by value where the operation leaves.
#[must_use = "a permit that is not spent forwards nothing"]
#[derive(Debug)]
pub struct Permit {
    digest: Digest,
}

impl Permit {
    /// Spends the permit, and says whether it covers the operation of this digest.
    pub fn spend(self, digest: Digest) -> bool {
        self.digest == digest
    }
}

/// What the gate says to an operation that it does not refuse.
pub enum Admission {
    /// It may be sent now.
    Admitted(Box<Admitted>),
    /// It waits for people.
    Held(Box<Held>),
}

/// An operation that may be sent, once.
pub struct Admitted {
    pub permit: Permit,
    pub ticket: Ticket,
    pub request: AccessRequest,
}

/// Stands for an admitted operation until its end is on record.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub digest: Digest,
    /// The approval that is executing, if people decided.
    pub approval: Option<ApprovalId>,
}

/// An operation that waits for people. Waiting is a value: [`Held::release`] consumes it.
pub struct Held {
    pub request: AccessRequest,
    pub hold: Hold,
}

/// Judges operations by the policy in force.
pub struct Gate {
    policy: PolicyHandle,
    holds: Arc<Holds>,
    operations: Arc<dyn OperationStore>,
    grants: Grants,
}

impl Gate {
    pub fn new(policy: PolicyHandle, holds: Arc<Holds>, operations: Arc<dyn OperationStore>, grants: Grants) -> Self {
        Self {
            policy,
            holds,
            operations,
            grants,
        }
    }

    pub fn policy(&self) -> &PolicyHandle {
        &self.policy
    }

    pub fn holds(&self) -> &Arc<Holds> {
        &self.holds
    }

    /// Says whether the policy denies the operation outright. Nobody is asked, and only a denial is put on record: for
    /// texts that run nothing yet (Parse without Bind).
    pub async fn preview(
        &self,
        request: &AccessRequest,
        target: &TargetFacts,
        journal: &SessionJournal,
    ) -> Result<(), Refusal> {
        let verdict = self.evaluate(request, target);
        match &verdict {
            Verdict::Allow { .. } | Verdict::Hold { .. } => Ok(()),
            Verdict::Deny { rules, reasons } => {
                let digest = request.digest();
                let happenings = vec![asked(request, digest), judged(digest, &verdict)];
                journal.append(happenings).await.map_err(|error| error.refusal())?;
                Err(denied(request, rules, reasons))
            }
        }
    }

    /// Judges an operation. What was asked and what the policy said is durable before this returns; what is held
    /// is kept whole and has a record in the store. `hold_seconds_max` bounds the wait further (0 refuses what would be held). A refusal
    /// is for the protocol to journal, together with those that never came here.
    pub async fn ask(
        &self,
        request: AccessRequest,
        target: &TargetFacts,
        hold_seconds_max: Option<u64>,
        journal: &SessionJournal,
    ) -> Result<Admission, Refusal> {
        let digest = request.digest();
        let verdict = self.granted(&request, self.evaluate(&request, target)).await;
        let happenings = vec![asked(&request, digest), judged(digest, &verdict)];
        journal.append(happenings).await.map_err(|error| error.refusal())?;
        match verdict {
            Verdict::Deny { rules, reasons } => Err(denied(&request, &rules, &reasons)),
            Verdict::Hold { .. } if hold_seconds_max == Some(0) => Err(no_hold_here()),
            Verdict::Hold { terms, .. } => {
                let hold = self.hold(&request, digest, terms, hold_seconds_max, journal).await?;
                Ok(Admission::Held(Box::new(Held { request, hold })))
            }
            Verdict::Allow { .. } => Ok(Admission::Admitted(Box::new(Admitted {
                permit: Permit { digest },
                ticket: Ticket { digest, approval: None },
                request,
            }))),
        }
    }

    /// What people granted to this session needs nobody's approval again.
    async fn granted(&self, request: &AccessRequest, verdict: Verdict) -> Verdict {
        let Verdict::Hold { rules, terms } = verdict else {
            return verdict;
        };
        match self.grants.use_for(request, &terms).await {
            Some(grant) => Verdict::Allow {
                rules: rules
                    .into_iter()
                    .chain([format!("granted with approval {}, use {}", grant.approval, grant.uses)])
                    .collect(),
            },
            None => Verdict::Hold { rules, terms },
        }
    }

    async fn hold(
        &self,
        request: &AccessRequest,
        digest: Digest,
        mut terms: Terms,
        seconds_max: Option<u64>,
        journal: &SessionJournal,
    ) -> Result<Hold, Refusal> {
        terms.expires_seconds = terms.expires_seconds.min(seconds_max.unwrap_or(u64::MAX));
        self.keep(request, digest).await?;
        self.holds.open(request, digest, terms, journal).await
    }

    /// Keeps the whole of an operation before there is a record of which people see only the head. A call that is
    /// dropped midway leaves at most an encrypted object that no record speaks of.
    async fn keep(&self, request: &AccessRequest, digest: Digest) -> Result<(), Refusal> {
        const WHAT: &str = "the store of operations";
        let whole = WholeOperation::of(request);
        match tokio::time::timeout(KEEP_WAIT_MAX, self.operations.keep(digest, &whole)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error @ OperationError::TooLarge { .. })) => Err(too_large(&error)),
            Ok(Err(error)) => Err(Refusal::unready(WHAT, &error)),
            Err(late) => Err(Refusal::unready(WHAT, &late)),
        }
    }

    /// Says whether the policy in force still asks for these terms.
    pub fn still_holds(&self, held: &Held, target: &TargetFacts) -> Result<(), String> {
        match self.evaluate(&held.request, target) {
            Verdict::Allow { .. } => Ok(()),
            Verdict::Deny { .. } => Err("the policy changed and denies it now".to_owned()),
            Verdict::Hold { terms, .. } => {
                let asked = &held.hold.record().terms;
                let same = terms.clauses == asked.clauses && terms.critical == asked.critical;
                if same {
                    Ok(())
                } else {
                    Err("the policy changed and asks for another approval now".to_owned())
                }
            }
        }
    }

    /// Turns a decided hold into a permit: the record is verified anew, "executing" is durable in the store and in
    /// the journal. The policy is asked once more.
    pub async fn release(
        &self,
        held: Held,
        target: &TargetFacts,
        journal: &SessionJournal,
    ) -> Result<Admitted, Refusal> {
        if let Err(why) = self.still_holds(&held, target) {
            return Err(held.hold.revoke(&why, journal).await);
        }
        let digest = held.request.digest();
        let Executing { id, granted } = held.hold.execute(digest, journal).await?;
        if let Some(terms) = granted {
            self.grants.give(&id, &held.request, &terms).await;
        }
        Ok(Admitted {
            permit: Permit { digest },
            ticket: Ticket {
                digest,
                approval: Some(id),
            },
            request: held.request,
        })
    }

    fn evaluate(&self, request: &AccessRequest, target: &TargetFacts) -> Verdict {
        self.policy.current().evaluate(&Question {
            request,
            target,
            now: Utc::now(),
        })
    }
}

fn asked(request: &AccessRequest, digest: Digest) -> Happening {
    Happening::Asked {
        operation: digest,
        display: head(&request.operation.display).to_owned(),
        display_bytes: request.operation.display.len() as u64,
        size_bytes: request.operation.size_bytes(),
        effects: request.operation.effects.clone(),
        place: request.place.clone(),
        in_transaction: request.in_transaction,
    }
}

fn judged(operation: Digest, verdict: &Verdict) -> Happening {
    let (verdict, rules, reasons) = match verdict {
        Verdict::Allow { rules } => (VerdictWord::Allow, rules.clone(), Vec::new()),
        Verdict::Deny { rules, reasons } => (VerdictWord::Deny, rules.clone(), reasons.clone()),
        Verdict::Hold { rules, terms } => (VerdictWord::Hold, rules.clone(), terms.reasons.clone()),
    };
    Happening::Verdict {
        operation,
        verdict,
        rules,
        reasons,
    }
}

/// The journal's line for a refusal.
pub fn refused(operation: Option<Digest>, refusal: &Refusal) -> Happening {
    Happening::Refused {
        operation,
        approval: refusal.approval.clone(),
        code: format!("{:?}", refusal.cause).to_lowercase(),
        message: refusal.message.clone(),
    }
}

fn denied(request: &AccessRequest, rules: &[String], reasons: &[String]) -> Refusal {
    let why = match reasons {
        [] => "no rule allows it".to_owned(),
        reasons => reasons.join("; "),
    };
    let refusal = Refusal::new(Cause::Denied, format!("countersign: denied by policy: {why}")).detail(format!(
        "It would {} on {}.",
        request.operation.effects.in_words(),
        request.place.target
    ));
    match rules {
        [] => refusal.hint("Nothing reached the server. Ask the owner of the policy for a rule that fits."),
        rules => refusal.hint(format!(
            "Nothing reached the server. Denied by rule {}.",
            rules.join(", ")
        )),
    }
}

fn too_large(error: &OperationError) -> Refusal {
    Refusal::new(
        Cause::Limit,
        format!("countersign: this needs an approval, and nobody could be shown all of it: {error}"),
    )
    .hint("Nothing of it reached the server. Split it into smaller operations.")
}

fn no_hold_here() -> Refusal {
    Refusal::new(
        Cause::Denied,
        "countersign: this needs an approval, and approvals are not waited for inside a transaction",
    )
    .hint("Nothing of it reached the server. Run it outside a transaction block.")
}
