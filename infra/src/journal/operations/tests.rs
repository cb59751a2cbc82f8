use super::{CANDIDATES_MAX, JournalExt, LOOK_AHEAD_MAX, OperationPage, OperationQuery, OperationState};
use crate::domain::approval::Outcome;
use crate::domain::audit::{Chain, Happening, VerdictWord};
use crate::domain::example::{alice, at, effects, header, place, session, terms};
use crate::domain::id::{ApprovalId, Digest, SessionId};
use crate::journal::Journal;
use crate::journal::contract::memory::MemoryJournal;

const ONE: &str = "delete from orders";
const TWO: &str = "select 1";

/// What a journal of one session tells.
struct Told {
    journal: MemoryJournal,
    chain: Chain,
    second: i64,
}

impl Told {
    async fn new() -> Self {
        Self::of(session(1)).await
    }

    async fn of(id: SessionId) -> Self {
        let chain = Chain::new(id, "gateway-1", Some(&alice()), Some("orders".to_owned()));
        let mut told = Self {
            journal: MemoryJournal::default(),
            chain,
            second: 0,
        };
        let opened = Happening::SessionOpened {
            header: header(id, alice()),
        };
        told.tell([opened]).await;
        told
    }

    async fn tell(&mut self, happenings: impl IntoIterator<Item = Happening>) {
        for what in happenings {
            let event = self.chain.next(at(self.second), what);
            self.second += 1;
            self.journal.append(&[event]).await.unwrap();
        }
    }

    async fn find(&self, query: &OperationQuery) -> OperationPage {
        self.journal.operations(query).await.unwrap()
    }

    /// The states of all operations, the oldest first.
    async fn states(&self) -> Vec<OperationState> {
        let page = self.find(&OperationQuery::default()).await;
        page.operations
            .iter()
            .rev()
            .map(|operation| operation.ending.state)
            .collect()
    }
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn approval(number: u8) -> ApprovalId {
    ApprovalId::from_random([number; 5])
}

fn asked(text: &str) -> Happening {
    Happening::Asked {
        operation: digest(text),
        display: text.to_owned(),
        display_bytes: text.len() as u64,
        size_bytes: text.len() as u64,
        effects: effects(),
        place: place(),
        in_transaction: false,
    }
}

fn judged(text: &str, verdict: VerdictWord) -> Happening {
    Happening::Verdict {
        operation: digest(text),
        verdict,
        rules: vec!["a-rule".to_owned()],
        reasons: Vec::new(),
    }
}

fn allowed(text: &str) -> [Happening; 2] {
    [asked(text), judged(text, VerdictWord::Allow)]
}

fn held(text: &str, number: u8) -> [Happening; 3] {
    let held = Happening::Held {
        operation: digest(text),
        approval: approval(number),
        terms: terms(1),
        deadline: at(600),
    };
    [asked(text), judged(text, VerdictWord::Hold), held]
}

fn executing(text: &str, number: u8) -> Happening {
    Happening::Executing {
        operation: digest(text),
        approval: approval(number),
        votes: digest("votes"),
        approvers: vec!["bob".to_owned(), "carol".to_owned()],
    }
}

fn answered(text: &str, ok: bool, summary: &str) -> Happening {
    let outcome = Outcome {
        ok,
        summary: summary.to_owned(),
        rows: None,
        duration_ms: 3,
    };
    Happening::Answered {
        operation: digest(text),
        outcome,
        bytes: 17,
    }
}

fn done(text: &str) -> Happening {
    answered(text, true, "DELETE 1")
}

fn refused(text: Option<&str>, number: Option<u8>, code: &str, message: &str) -> Happening {
    Happening::Refused {
        operation: text.map(digest),
        approval: number.map(approval),
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

fn closed() -> Happening {
    Happening::SessionClosed {
        why: "the client hung up".to_owned(),
        chunks: 1,
        last: digest("last"),
    }
}

fn anchor() -> Happening {
    Happening::RecordingAnchor {
        chunks: 1,
        last: digest("last"),
    }
}

#[tokio::test]
async fn the_state_of_an_operation_is_what_follows_it() {
    use OperationState::*;
    let lost = || Happening::Answered {
        operation: digest(ONE),
        outcome: Outcome::not_known("the server went away", 1),
        bytes: 0,
    };
    let after_allow = |more: Vec<Happening>| allowed(ONE).into_iter().chain(more).collect::<Vec<_>>();
    let after_hold = |more: Vec<Happening>| held(ONE, 1).into_iter().chain(more).collect::<Vec<_>>();
    let denied = "countersign: denied by bob: not today";
    for (name, expected, told) in [
        ("allowed", Allowed, after_allow(vec![])),
        ("done", Done, after_allow(vec![anchor(), done(ONE)])),
        ("failed", Failed, after_allow(vec![answered(ONE, false, "42P01: no")])),
        ("lost", Unknown, after_allow(vec![lost(), closed()])),
        ("killed while it ran", Unknown, after_allow(vec![closed()])),
        (
            "a bound",
            Refused,
            after_allow(vec![refused(Some(ONE), None, "limit", "too long")]),
        ),
        ("no verdict", Refused, vec![asked(ONE)]),
        (
            "denied by the policy",
            Denied,
            vec![
                asked(ONE),
                judged(ONE, VerdictWord::Deny),
                refused(Some(ONE), None, "denied", "no"),
            ],
        ),
        (
            "denied, then killed",
            Denied,
            vec![asked(ONE), judged(ONE, VerdictWord::Deny)],
        ),
        (
            "never held",
            Refused,
            vec![
                asked(ONE),
                judged(ONE, VerdictWord::Hold),
                refused(Some(ONE), None, "unready", "no store"),
            ],
        ),
        ("pending", Pending, after_hold(vec![])),
        (
            "denied by bob",
            Denied,
            after_hold(vec![refused(Some(ONE), Some(1), "denied", denied)]),
        ),
        (
            "expired",
            Expired,
            after_hold(vec![refused(Some(ONE), Some(1), "expired", "nobody")]),
        ),
        (
            "hung up",
            Withdrawn,
            after_hold(vec![refused(None, Some(1), "withdrawn", "gone"), closed()]),
        ),
        (
            "revoked",
            Revoked,
            after_hold(vec![refused(Some(ONE), Some(1), "revoked", "policy")]),
        ),
        (
            "server lost",
            Abandoned,
            after_hold(vec![refused(None, Some(1), "unready", "gone")]),
        ),
        (
            "holder dead",
            Abandoned,
            after_hold(vec![closed(), refused(Some(ONE), Some(1), "abandoned", "dead")]),
        ),
        ("killed while it was held", Abandoned, after_hold(vec![closed()])),
        ("executing", Executing, after_hold(vec![executing(ONE, 1)])),
        (
            "approved",
            Done,
            after_hold(vec![executing(ONE, 1), anchor(), done(ONE)]),
        ),
        (
            "approved, failed",
            Failed,
            after_hold(vec![executing(ONE, 1), answered(ONE, false, "23505: no")]),
        ),
        (
            "killed while it executed",
            Unknown,
            after_hold(vec![executing(ONE, 1), closed()]),
        ),
        (
            "executor dead",
            Unknown,
            after_hold(vec![executing(ONE, 1), refused(Some(ONE), Some(1), "unknown", "dead")]),
        ),
        (
            "another's end",
            Pending,
            after_hold(vec![refused(None, Some(2), "expired", "no"), done(ONE), done(TWO)]),
        ),
    ] {
        let mut journal = Told::new().await;
        journal.tell(told).await;
        assert_eq!(journal.states().await, [expected], "{name}");
    }
}

#[tokio::test]
async fn an_operation_is_told_with_who_decided_and_what_came_back() {
    let mut told = Told::new().await;
    told.tell(held(ONE, 1)).await;
    told.tell([executing(ONE, 1), done(ONE)]).await;
    told.tell(held(TWO, 2)).await;
    told.tell([refused(
        Some(TWO),
        Some(2),
        "denied",
        "countersign: denied by bob: not today",
    )])
    .await;
    let page = told.find(&OperationQuery::default()).await;
    let [denied, ran] = page.operations.as_slice() else {
        panic!("{page:?}")
    };
    assert_eq!((ran.display.as_str(), ran.seq, ran.at), (ONE, 1, at(1)));
    assert_eq!(ran.ending.decided_by, ["bob", "carol"]);
    assert_eq!(ran.ending.approval, Some(approval(1)));
    assert_eq!((ran.ending.ended, ran.ending.bytes), (Some(at(5)), Some(17)));
    assert_eq!(
        ran.ending.outcome.as_ref().map(|outcome| outcome.summary.as_str()),
        Some("DELETE 1")
    );
    assert_eq!(
        (denied.display.as_str(), &denied.ending.decided_by[..]),
        (TWO, &["bob".to_owned()][..])
    );
    assert_eq!(
        denied.ending.message.as_deref(),
        Some("countersign: denied by bob: not today")
    );
    assert_eq!(denied.ending.deadline, Some(at(600)));
}

#[tokio::test]
async fn operations_of_one_digest_are_answered_in_the_order_of_asking() {
    use OperationState::*;
    let mut told = Told::new().await;
    told.tell(allowed(ONE)).await;
    told.tell(allowed(ONE)).await;
    told.tell(allowed(TWO)).await;
    assert_eq!(told.states().await, [Allowed, Allowed, Allowed]);
    told.tell([done(ONE)]).await;
    assert_eq!(told.states().await, [Done, Allowed, Allowed]);
    told.tell([answered(ONE, false, "23505: there already")]).await;
    assert_eq!(told.states().await, [Done, Failed, Allowed]);
    told.tell(held(ONE, 3)).await;
    told.tell([done(TWO), refused(Some(ONE), Some(3), "expired", "nobody")])
        .await;
    assert_eq!(told.states().await, [Done, Failed, Done, Expired]);
}

#[tokio::test]
async fn operations_are_found_by_state_approval_and_text() {
    use OperationState::*;
    let mut told = Told::new().await;
    told.tell(allowed(TWO)).await;
    told.tell([done(TWO)]).await;
    told.tell(held(ONE, 1)).await;
    told.tell([refused(None, Some(1), "expired", "nobody")]).await;
    told.tell(held(ONE, 2)).await;
    let query = |change: &dyn Fn(&mut OperationQuery)| {
        let mut query = OperationQuery::default();
        change(&mut query);
        query
    };
    let number = |number: u8| approval(number).to_string().to_lowercase();
    for (query, expected) in [
        (query(&|q| q.states = [Done].into()), vec![Done]),
        (query(&|q| q.states = [Expired, Pending].into()), vec![Pending, Expired]),
        (query(&|q| q.text = Some("DELETE".to_owned())), vec![Pending, Expired]),
        (query(&|q| q.text = Some("nobody".to_owned())), vec![]),
        (query(&|q| q.approval = Some(number(1))), vec![Expired]),
        (
            query(&|q| (q.approval, q.states) = (Some(number(1)), [Done].into())),
            vec![],
        ),
        (
            query(&|q| (q.approval, q.who) = (Some(number(2)), Some("ALICE".to_owned()))),
            vec![Pending],
        ),
        (
            query(&|q| (q.approval, q.who) = (Some(number(2)), Some("bob".to_owned()))),
            vec![],
        ),
        (
            query(&|q| (q.approval, q.since) = (Some(number(2)), Some(at(100)))),
            vec![],
        ),
        (query(&|q| q.who = Some("bob".to_owned())), vec![]),
        (query(&|q| q.limit = 1), vec![Pending]),
    ] {
        let page = told.find(&query).await;
        let states: Vec<_> = page.operations.iter().map(|operation| operation.ending.state).collect();
        assert_eq!(states, expected, "{query:?}");
    }
    for query in [
        query(&|q| q.approval = Some("7".to_owned())),
        query(&|q| q.after = Some("x".to_owned())),
        query(&|q| (q.approval, q.after) = (Some(number(1)), Some("x".to_owned()))),
    ] {
        assert!(told.journal.operations(&query).await.is_err(), "{query:?}");
    }
}

#[tokio::test]
async fn a_rare_state_is_found_in_pages_that_may_be_empty() {
    let mut told = Told::new().await;
    told.tell(allowed(ONE)).await;
    told.tell([answered(ONE, false, "42P01: no")]).await;
    for _ in 0..CANDIDATES_MAX + 10 {
        told.tell(allowed(TWO)).await;
        told.tell([done(TWO)]).await;
    }
    let mut query = OperationQuery {
        states: [OperationState::Failed].into(),
        ..OperationQuery::default()
    };
    let first = told.find(&query).await;
    assert_eq!(first.operations, []);
    query.after = first.next;
    assert!(query.after.is_some());
    let second = told.find(&query).await;
    assert_eq!((second.operations.len(), second.next), (1, None));
}

#[tokio::test]
async fn an_operation_that_goes_on_for_long_is_shown_as_it_stood() {
    let mut told = Told::new().await;
    told.tell(held(ONE, 1)).await;
    told.tell([executing(ONE, 1)]).await;
    told.tell((0..1000).map(|_| anchor())).await;
    told.tell([done(ONE)]).await;
    assert_eq!(told.states().await, [OperationState::Done]);
    let mut told = Told::new().await;
    told.tell(held(ONE, 1)).await;
    told.tell([executing(ONE, 1)]).await;
    told.tell((0..LOOK_AHEAD_MAX).map(|_| anchor())).await;
    told.tell([done(ONE)]).await;
    assert_eq!(told.states().await, [OperationState::Executing]);
}

#[test]
fn every_state_reads_back_and_no_other_word_does() {
    for state in OperationState::ALL {
        assert_eq!(state.to_string().parse(), Ok(state));
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    for word in ["", "Denied", "approved", "denied "] {
        let error = word.parse::<OperationState>().unwrap_err().to_string();
        assert!(error.contains("allowed, pending, executing, done"), "{error}");
    }
}
