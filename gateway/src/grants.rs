//! Grants: what people approved together with what is alike, for a while.
//!
//! A grant is read anew at each use, and counted before what it admits is put on record. Where anything is unclear people
//! are asked again.

use chrono::Utc;
use countersign_infra::domain::access_request::AccessRequest;
use countersign_infra::domain::approval::Terms;
use countersign_infra::domain::grant::Grant;
use countersign_infra::domain::id::{ApprovalId, GrantId, SessionId};
use countersign_infra::grants::{GrantError, GrantStore};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Sessions that are known to have grants; of more than that all are forgotten, and people are asked.
const SESSIONS_MAX: usize = 10_000;
/// How long the store may take before people are asked instead.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Uses at once by one session are few: it runs one operation after the other.
const TRIES_MAX: usize = 3;

/// The grants of this gateway's sessions.
pub struct Grants {
    store: Arc<dyn GrantStore>,
    /// Only a session that was given one asks the store.
    sessions: Mutex<HashSet<SessionId>>,
}

impl Grants {
    pub fn new(store: Arc<dyn GrantStore>) -> Self {
        Self {
            store,
            sessions: Mutex::default(),
        }
    }

    /// Gives what an approval grants. What cannot be granted, or written, is not: people are asked again.
    pub async fn give(&self, approval: &ApprovalId, request: &AccessRequest, terms: &Terms) {
        let grant = match Grant::give(
            GrantId(uuid::Uuid::now_v7()),
            approval.clone(),
            request,
            terms,
            Utc::now(),
        ) {
            Ok(grant) => grant,
            Err(why) => {
                tracing::info!(%approval, %why, "nothing beyond the approval is granted");
                return;
            }
        };
        match tokio::time::timeout(ANSWER_MAX, self.store.create(&grant)).await {
            Ok(Ok(())) => {
                let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
                if sessions.len() >= SESSIONS_MAX {
                    sessions.clear();
                }
                sessions.insert(request.session);
            }
            Ok(Err(error)) => tracing::warn!(%approval, %error, "a grant was not written"),
            Err(_) => tracing::warn!(%approval, "a grant was not written: the store takes too long"),
        }
    }

    /// Uses a grant that covers the request, if its session has one.
    pub async fn use_for(&self, request: &AccessRequest, terms: &Terms) -> Option<Grant> {
        let is_known = |sessions: &HashSet<SessionId>| sessions.contains(&request.session);
        if !is_known(&self.sessions.lock().unwrap_or_else(PoisonError::into_inner)) {
            return None;
        }
        match tokio::time::timeout(ANSWER_MAX, self.find_and_use(request, terms)).await {
            Ok(Ok(used)) => used,
            Ok(Err(error)) => {
                tracing::warn!(session = %request.session, %error, "a grant cannot be used: people are asked");
                None
            }
            Err(_) => None,
        }
    }

    async fn find_and_use(&self, request: &AccessRequest, terms: &Terms) -> Result<Option<Grant>, GrantError> {
        for _ in 0..TRIES_MAX {
            let grants = self.store.of_session(request.session).await?;
            let now = Utc::now();
            let Some(used) = grants.iter().find_map(|grant| grant.use_for(request, terms, now).ok()) else {
                return Ok(None);
            };
            match self.store.replace(&used).await {
                Ok(()) => return Ok(Some(used)),
                // Used or taken back in the same moment.
                Err(GrantError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
