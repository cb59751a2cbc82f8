//! Lists recordings: what lies in the store, named by the journal. Nothing here is proved; `verify` proves.

use chrono::{DateTime, NaiveDate, Utc};
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::id::SessionId;
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::journal::{Journal, JournalError};
use countersign_infra::recordings::chain::Manifest;
use countersign_infra::recordings::format::Envelope;
use countersign_infra::recordings::proof::read_header;
use countersign_infra::recordings::{RecordingError, RecordingStore, SESSIONS_MAX};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// Recordings of one page.
pub const LIMIT: usize = 50;
pub const LIMIT_MAX: usize = 200;
/// Recordings that are looked at at the same time.
const AT_ONCE_MAX: usize = 8;
/// Most sessions of one day that are listed.
const SESSIONS_OF_DAY_MAX: usize = 1_000_000;

/// A recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordingView {
    #[schema(value_type = String)]
    pub session: SessionId,
    pub state: RecordingState,
    pub chunks: u64,
    pub gateway: Option<String>,
    /// The name of the person.
    pub person: Option<String>,
    pub target: Option<String>,
    pub database: Option<String>,
    pub opened: Option<DateTime<Utc>>,
    /// None while it is open.
    pub ended: Option<DateTime<Utc>>,
    /// Why it ended.
    pub why: Option<String>,
    /// Whether the journal knows the session; else the names are those that the recording gives itself.
    pub journaled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// It has no manifest: the session lives, or its gateway died and did not come back yet.
    Open,
    Ended,
    /// Its gateway did not live to see the session's end.
    Interrupted,
}

impl RecordingState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ended => "ended",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Recordings of one day, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordingPage {
    pub recordings: Vec<RecordingView>,
    /// The value of `after` for the next page; none when this is the last of the day.
    #[schema(value_type = Option<String>)]
    pub next: Option<SessionId>,
}

/// Why recordings could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum NotListed {
    #[error(transparent)]
    Recordings(#[from] RecordingError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the list broke off: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error("there are more than {SESSIONS_OF_DAY_MAX} recordings of {0}")]
    TooMany(NaiveDate),
}

/// The stores of a list.
#[derive(Clone)]
pub struct Catalog {
    pub recordings: Arc<dyn RecordingStore>,
    pub journal: Arc<dyn Journal>,
    pub listed: Listed,
}

/// The sessions of the day that was listed last: who turns its pages does not list the day anew for each.
#[derive(Clone, Debug, Default)]
pub struct Listed(Arc<Mutex<Option<Day>>>);

type Day = (NaiveDate, Arc<[SessionId]>);

impl Listed {
    /// The day's sessions, if `after` is one of them.
    fn of(&self, day: NaiveDate, after: SessionId) -> Option<Arc<[SessionId]>> {
        let listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, sessions) = listed.as_ref().filter(|(listed, _)| *listed == day)?;
        sessions.binary_search(&after).is_ok().then(|| Arc::clone(sessions))
    }

    fn keep(&self, day: NaiveDate, sessions: Vec<SessionId>) -> Arc<[SessionId]> {
        let sessions: Arc<[SessionId]> = sessions.into();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((day, Arc::clone(&sessions)));
        sessions
    }
}

impl Catalog {
    /// All sessions of a day that have a recording, oldest first.
    pub async fn sessions(&self, day: NaiveDate) -> Result<Vec<SessionId>, NotListed> {
        let mut all: Vec<SessionId> = Vec::new();
        loop {
            let page = self.recordings.sessions(day, all.last().copied()).await?;
            let is_last = page.len() < SESSIONS_MAX;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
            if all.len() > SESSIONS_OF_DAY_MAX {
                return Err(NotListed::TooMany(day));
            }
        }
    }

    /// A page of a day's recordings: those older than `after`, newest first.
    pub async fn page(
        &self,
        day: NaiveDate,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<RecordingPage, NotListed> {
        let listed = after.and_then(|after| self.listed.of(day, after));
        let sessions = match listed {
            Some(sessions) => sessions,
            None => self.listed.keep(day, self.sessions(day).await?),
        };
        let end = after.map_or(sessions.len(), |after| {
            sessions.partition_point(|session| *session < after)
        });
        let first = end.saturating_sub(limit);
        let mut recordings = Vec::new();
        for part in sessions.get(first..end).unwrap_or_default().chunks(AT_ONCE_MAX) {
            let mut looks = JoinSet::new();
            for session in part.iter().copied() {
                let catalog = self.clone();
                looks.spawn(async move { catalog.look(session).await });
            }
            while let Some(looked) = looks.join_next().await {
                recordings.push(looked??);
            }
        }
        recordings.sort_unstable_by_key(|recording| std::cmp::Reverse(recording.session));
        let next = recordings.last().map(|last| last.session).filter(|_| first > 0);
        Ok(RecordingPage { recordings, next })
    }

    async fn look(&self, session: SessionId) -> Result<RecordingView, NotListed> {
        let manifest = self.recordings.read_manifest(session).await?;
        let manifest = manifest.and_then(|bytes| Manifest::unproved(&bytes));
        let chunks = match &manifest {
            Some(manifest) => manifest.chunks,
            None => match self.recordings.chunks(session).await {
                Err(RecordingError::NotFound(_)) => 0,
                counted => counted?,
            },
        };
        let journaled = self.journaled_header(session).await?;
        let is_journaled = journaled.is_some();
        let header = match journaled {
            None => self.recorded_header(session).await?,
            journaled => journaled,
        };
        Ok(RecordingView {
            session,
            state: match &manifest {
                None => RecordingState::Open,
                Some(manifest) if manifest.interrupted => RecordingState::Interrupted,
                Some(_) => RecordingState::Ended,
            },
            chunks,
            gateway: header.as_ref().map(|header| header.gateway.clone()),
            person: header.as_ref().map(|header| header.person.name.clone()),
            target: header.as_ref().map(|header| header.target.clone()),
            database: header.as_ref().map(|header| header.database.clone()),
            opened: header.as_ref().map(|header| header.opened),
            ended: manifest.as_ref().map(|manifest| manifest.ended),
            why: manifest.map(|manifest| manifest.why),
            journaled: is_journaled,
        })
    }

    async fn journaled_header(&self, session: SessionId) -> Result<Option<SessionHeader>, JournalError> {
        let first = self.journal.first(session).await?;
        Ok(first.and_then(|event| {
            let Happening::SessionOpened { header } = event.what else {
                return None;
            };
            Some(header)
        }))
    }

    async fn recorded_header(&self, session: SessionId) -> Result<Option<SessionHeader>, RecordingError> {
        let chunk = match self.recordings.read_chunk(session, 0).await {
            Err(RecordingError::NotFound(_)) => return Ok(None),
            chunk => chunk?,
        };
        let frames = Envelope::parse(&chunk).and_then(|envelope| envelope.frames());
        Ok(frames.ok().and_then(|frames| read_header(&frames).ok()))
    }
}
