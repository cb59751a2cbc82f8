//! The sessions that live in this gateway right now: who is connected, what each one does, and how to end it.

use crate::digests::Ledger;
use chrono::Utc;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::id::{ApprovalId, RunId, SessionId};
use countersign_infra::domain::session::{SessionHeader, SessionNumber};
use countersign_infra::recordings::chain::Anchor;
use countersign_infra::recordings::digest::SessionLine;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What a live session does at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LiveState {
    /// It waits for its client.
    Idle,
    /// An operation is at the target.
    Running,
    /// An operation waits for a decision.
    Held { approval: ApprovalId },
}

/// A session that is connected now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LiveSession {
    #[serde(flatten)]
    pub header: SessionHeader,
    #[serde(flatten)]
    pub state: LiveState,
    /// When it entered this state.
    pub since: Timestamp,
}

/// The sessions of this gateway. Clones share one list.
#[derive(Clone)]
pub struct SessionRegistry {
    run: RunId,
    /// What the next digest of this run says.
    ledger: Arc<Mutex<Ledger>>,
    ledger_full: Arc<Notify>,
    entries: Arc<Mutex<HashMap<SessionId, Entry>>>,
}

/// A new run, without sessions.
impl Default for SessionRegistry {
    fn default() -> Self {
        Self {
            run: RunId(uuid::Uuid::now_v7()),
            ledger: Arc::default(),
            ledger_full: Arc::default(),
            entries: Arc::default(),
        }
    }
}

struct Entry {
    live: LiveSession,
    token: CancellationToken,
    ended: Option<String>,
}

impl SessionRegistry {
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Numbers the next session of this run. From then on it stands in the digests: one that does not come to be
    /// registered must be [given up](Self::give_up).
    pub fn number(&self, session: SessionId) -> SessionNumber {
        let mut ledger = self.ledger();
        let number = ledger.open(session);
        if ledger.is_full() {
            self.ledger_full.notify_one();
        }
        SessionNumber { run: self.run, number }
    }

    /// Says that a numbered session never began.
    pub fn give_up(&self, number: SessionNumber) {
        self.ledger().closed(number.number, Anchor::START);
    }

    /// What a digest says now, by number.
    pub fn lines(&self) -> Vec<SessionLine> {
        self.ledger().lines()
    }

    /// Says that a digest with these lines is safe.
    pub fn named(&self, lines: &[SessionLine]) {
        self.ledger().named(lines);
    }

    /// Waits until there are as many sessions to name as go into one digest.
    pub async fn full(&self) {
        self.ledger_full.notified().await;
    }

    /// Lists a session until the guard is dropped. `token` is what `end` cancels.
    pub fn register(&self, header: &SessionHeader, token: CancellationToken) -> SessionGuard {
        let live = LiveSession {
            header: header.clone(),
            state: LiveState::Idle,
            since: Utc::now(),
        };
        let ended = None;
        self.entries().insert(header.id, Entry { live, token, ended });
        SessionGuard {
            registry: self.clone(),
            id: header.id,
            number: header.number.number,
        }
    }

    /// Lists the live sessions, oldest first.
    pub fn list(&self) -> Vec<LiveSession> {
        let mut sessions: Vec<LiveSession> = self.entries().values().map(|entry| entry.live.clone()).collect();
        sessions.sort_by_key(|session| (session.header.opened, session.header.id));
        sessions
    }

    /// Finds a live session.
    pub fn find(&self, id: SessionId) -> Option<LiveSession> {
        self.entries().get(&id).map(|entry| entry.live.clone())
    }

    /// Asks a session to end, and says whether it was there. The first reason given is the one that stands.
    pub fn end(&self, id: SessionId, why: &str) -> bool {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(&id) else {
            return false;
        };
        entry.ended.get_or_insert_with(|| why.to_owned());
        entry.token.cancel();
        true
    }

    pub fn len(&self) -> usize {
        self.entries().len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// No code under this lock can panic halfway through a change: a poisoned list is still whole.
    fn entries(&self) -> MutexGuard<'_, HashMap<SessionId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As for the list.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a session in the list, and takes it off when dropped.
pub struct SessionGuard {
    registry: SessionRegistry,
    id: SessionId,
    number: u64,
}

impl SessionGuard {
    /// Says what the session does now.
    pub fn set_state(&self, state: LiveState) {
        if let Some(entry) = self.registry.entries().get_mut(&self.id) {
            entry.live.state = state;
            entry.live.since = Utc::now();
        }
    }

    /// Says how far the recording has come.
    pub fn anchored(&self, anchor: Anchor) {
        self.registry.ledger().anchored(self.number, anchor);
    }

    /// Says that the recording is closed.
    pub fn closed(&self, anchor: Anchor) {
        self.registry.ledger().closed(self.number, anchor);
    }

    /// Why the session was asked to end; none while nobody asked.
    pub fn ended(&self) -> Option<String> {
        self.registry
            .entries()
            .get(&self.id)
            .and_then(|entry| entry.ended.clone())
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.registry.entries().remove(&self.id);
        self.registry.ledger().left(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_infra::domain::access_request::{Client, Protocol};
    use countersign_infra::domain::identity::{Person, PersonKey, PersonKind};

    fn header() -> SessionHeader {
        let id = SessionId(uuid::Uuid::now_v7());
        SessionHeader {
            id,
            gateway: "g1".to_owned(),
            number: SessionRegistry::default().number(id),
            protocol: Protocol::Postgres,
            person: Person {
                key: PersonKey {
                    issuer: "https://issuer.test".to_owned(),
                    subject: "alice".to_owned(),
                },
                name: "alice".to_owned(),
                email: None,
                groups: Default::default(),
                kind: PersonKind::Human,
            },
            client: Client {
                address: "127.0.0.1:5000".to_owned(),
                application: "psql".to_owned(),
            },
            target: "orders".to_owned(),
            database: "shop".to_owned(),
            role: "app".to_owned(),
            opened: Utc::now(),
        }
    }

    #[test]
    fn a_session_is_listed_until_its_guard_is_dropped() {
        let registry = SessionRegistry::default();
        let (first, second) = (header(), header());
        let guard = registry.register(&first, CancellationToken::new());
        let other = registry.register(&second, CancellationToken::new());
        assert_eq!(
            registry.list().iter().map(|s| s.header.id).collect::<Vec<_>>(),
            [first.id, second.id]
        );
        drop(guard);
        assert_eq!(registry.len(), 1);
        assert_eq!(registry.find(first.id), None);
        drop(other);
        assert!(registry.is_empty());
    }

    #[test]
    fn a_guard_changes_the_state_that_others_see() {
        let registry = SessionRegistry::default();
        let header = header();
        let guard = registry.register(&header, CancellationToken::new());
        let approval = ApprovalId::from_random([7; 5]);
        guard.set_state(LiveState::Held {
            approval: approval.clone(),
        });
        let json = serde_json::to_value(registry.find(header.id).unwrap()).unwrap();
        assert_eq!(json["state"], "held");
        assert_eq!(json["approval"], approval.as_str());
        assert_eq!(json["target"], "orders");
    }

    #[test]
    fn ending_cancels_the_session_and_keeps_the_first_reason() {
        let registry = SessionRegistry::default();
        let header = header();
        let token = CancellationToken::new();
        let guard = registry.register(&header, token.clone());
        assert_eq!(guard.ended(), None);
        assert!(registry.end(header.id, "ended by bob"));
        assert!(registry.end(header.id, "ended again"));
        assert!(token.is_cancelled());
        assert_eq!(guard.ended().as_deref(), Some("ended by bob"));
        drop(guard);
        assert!(!registry.end(header.id, "too late"));
    }
}
