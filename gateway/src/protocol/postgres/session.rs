//! One client's session after sign-in: two directions over one conversation.

use super::batch::{Conversation, Disposition, Expected, Unexpected};
use super::effects::Analyst;
use super::outbound::Outbound;
use super::reply::{self, Severity};
use super::upstream::{Address, CancelKey, Sender, Upstream};
use super::wire::{FrameReader, Malformed};
use crate::gate::{Gate, Ticket};
use crate::journal::{NotJournaled, SessionJournal};
use crate::record::{Direction, RecordError, Recorder};
use crate::refusal::{Cause, Refusal};
use crate::sessions::SessionGuard;
use bytes::{Bytes, BytesMut};
use countersign_infra::domain::approval::Outcome;
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::policy::TargetFacts;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Messages of the gateway's own that wait for the client.
const INSERTS_MAX: usize = 16;
/// How long the last words to a client may take.
const LAST_WORDS_MAX: Duration = Duration::from_secs(5);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("the client ended it")]
    ClientGone,
    #[error("the server ended it")]
    ServerGone(Option<io::Error>),
    #[error("the client's bytes are not the protocol: {0}")]
    Malformed(Malformed),
    #[error("{0}")]
    Protocol(Unexpected),
    #[error("not recorded: {0}")]
    NotRecorded(#[from] RecordError),
    #[error("not journaled: {0}")]
    NotJournaled(NotJournaled),
    #[error("{0}")]
    Stopped(String),
    /// A refusal that the session cannot outlive.
    #[error("{0}")]
    Refused(Refusal),
}

impl End {
    /// What the client is told before the connection closes. None: it is gone, or the server told it.
    fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::ClientGone => None,
            Self::ServerGone(_) => Some(
                Refusal::new(Cause::Ended, "countersign: the target's server closed the connection")
                    .hint("Connect again. What was running may have been rolled back."),
            ),
            Self::Malformed(malformed) => Some(Refusal::new(Cause::Protocol, format!("countersign: {malformed}"))),
            Self::Protocol(_) => Some(Refusal::new(
                Cause::Upstream,
                "countersign: the target's server broke the protocol",
            )),
            Self::NotRecorded(_) => Some(
                Refusal::new(
                    Cause::Unready,
                    "countersign: the session cannot be recorded any more, so it ends",
                )
                .hint("Tell the operator of the gateway. What had not been sent was not run."),
            ),
            Self::NotJournaled(error) => Some(error.refusal()),
            Self::Stopped(why) => Some(Refusal::new(Cause::Ended, format!("countersign: {why}"))),
            Self::Refused(refusal) => Some(refusal.clone()),
        }
    }
}

/// What one session is made of, apart from its streams.
pub struct Parts {
    pub header: SessionHeader,
    pub target: TargetFacts,
    pub gate: Arc<Gate>,
    pub analyst: Analyst,
    pub journal: SessionJournal,
    pub recorder: Recorder,
    pub guard: SessionGuard,
    pub stop: CancellationToken,
    pub cancel: Arc<Cancel>,
    pub limits: SessionLimits,
    pub masked_columns: Arc<[String]>,
}

#[derive(Clone, Debug)]
pub struct SessionLimits {
    pub message_bytes_max: usize,
    pub hold_in_transaction_seconds_max: u64,
    /// None: no limit.
    pub idle_max: Option<Duration>,
}

/// How a CancelRequest reaches a session.
pub struct Cancel {
    pub address: Address,
    pub upstream: CancelKey,
    /// Of the operation that is held now.
    held: Mutex<Option<CancellationToken>>,
}

impl Cancel {
    pub fn new(address: Address, upstream: CancelKey) -> Self {
        Self {
            address,
            upstream,
            held: Mutex::new(None),
        }
    }

    /// Withdraws what is held. False when nothing is: then the server is to be asked.
    pub fn withdraw(&self) -> bool {
        match self.held().as_ref() {
            Some(token) => {
                token.cancel();
                true
            }
            None => false,
        }
    }

    /// Says that an operation is held from now on; the token is cancelled by the client's cancel request.
    pub(super) fn hold(&self) -> CancellationToken {
        self.held().insert(CancellationToken::new()).clone()
    }

    /// Says that nothing is held any more: later cancel requests go to the server.
    pub(super) fn release(&self) {
        *self.held() = None;
    }

    fn held(&self) -> MutexGuard<'_, Option<CancellationToken>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What both directions of a session share.
pub struct Shared {
    pub header: SessionHeader,
    pub target: TargetFacts,
    pub gate: Arc<Gate>,
    pub analyst: Analyst,
    pub journal: SessionJournal,
    pub guard: SessionGuard,
    pub stop: CancellationToken,
    pub cancel: Arc<Cancel>,
    pub limits: SessionLimits,
    pub masked_columns: Arc<[String]>,
    /// The server's side is over: nothing more comes from it, and nothing more is to be sent.
    pub server_done: CancellationToken,
    /// The client's side is over.
    pub client_done: CancellationToken,
    /// Told after each batch of the server's answers.
    pub changed: Notify,
    conversation: Mutex<Conversation<Ticket>>,
    /// One order of bytes for both directions. Held while the spool makes the session wait, which is what it is
    /// for: nothing of the session goes on unrecorded.
    recorder: tokio::sync::Mutex<Option<Recorder>>,
    server_end: Mutex<Option<End>>,
}

impl Shared {
    pub fn conversation(&self) -> MutexGuard<'_, Conversation<Ticket>> {
        self.conversation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn record(&self, direction: Direction, bytes: &[u8]) -> Result<(), End> {
        let mut recorder = self.recorder.lock().await;
        let Some(recorder) = recorder.as_mut() else {
            return Err(recording_is_over());
        };
        recorder.record(direction, &[bytes]).await?;
        self.note_anchor(recorder).await
    }

    /// Writes what was noted for the journal, and how far the recording has come: also of a session in which nothing is
    /// said, whose last chunk would be missed by nobody otherwise.
    pub async fn write_notes(&self) -> Result<(), End> {
        if let Some(recorder) = self.recorder.lock().await.as_ref() {
            self.note_anchor(recorder).await?;
        }
        self.journal.append(Vec::new()).await.map_err(End::NotJournaled)
    }

    async fn note_anchor(&self, recorder: &Recorder) -> Result<(), End> {
        if let Some(anchor) = recorder.anchor_due(Instant::now()) {
            let happening = Happening::RecordingAnchor {
                chunks: anchor.chunks,
                last: anchor.last,
            };
            self.journal.note(happening).await.map_err(End::NotJournaled)?;
            self.guard.anchored(anchor);
        }
        Ok(())
    }

    /// Waits until what was recorded so far survives this process.
    pub async fn recorded(&self) -> Result<(), End> {
        match self.recorder.lock().await.as_mut() {
            Some(recorder) => Ok(recorder.durable().await?),
            None => Err(recording_is_over()),
        }
    }

    /// Matches one message of the server with what was asked.
    pub fn reply(&self, tag: u8, body: &[u8]) -> Result<Disposition<Ticket>, End> {
        if tag == b'S' && changes_encoding(body) {
            return Err(End::Refused(not_utf8()));
        }
        self.conversation().reply(tag, body).map_err(End::Protocol)
    }

    /// Says that the server's side is over.
    pub fn server_ended(&self, end: End) {
        self.server_end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(end);
        self.server_done.cancel();
        self.changed.notify_waiters();
    }

    pub fn server_end(&self) -> End {
        let end = self.server_end.lock().unwrap_or_else(PoisonError::into_inner).take();
        end.unwrap_or(End::ServerGone(None))
    }
}

fn recording_is_over() -> End {
    End::Stopped("the recording is closed".to_owned())
}

/// The gateway and the server must read the same text.
pub(super) fn not_utf8() -> Refusal {
    Refusal::new(
        Cause::Encoding,
        "countersign: client_encoding must stay UTF8, so this session ends",
    )
    .hint("Leave client_encoding alone: the gateway reads statements as UTF-8.")
}

/// ParameterStatus of `client_encoding` with a value that is not UTF8.
fn changes_encoding(body: &[u8]) -> bool {
    let mut fields = body.split(|byte| *byte == 0);
    fields.next() == Some(b"client_encoding") && !fields.next().is_some_and(|value| value.eq_ignore_ascii_case(b"UTF8"))
}

/// Runs a session from the first ReadyForQuery to its end. `greeting` is what the client is sent first.
///
/// Every operation that was forwarded and whose end did not come is put on record as "outcome not known".
pub async fn run<C, D>(parts: Parts, client: (FrameReader<C>, D), upstream: Upstream, greeting: Bytes)
where
    C: AsyncRead + Unpin,
    D: AsyncWrite + Unpin,
{
    let (server_reader, server_writer) = tokio::io::split(upstream.stream);
    let (inserts, inserted) = mpsc::channel(INSERTS_MAX);
    let shared = Arc::new(Shared {
        header: parts.header,
        target: parts.target,
        gate: parts.gate,
        analyst: parts.analyst,
        journal: parts.journal,
        guard: parts.guard,
        stop: parts.stop,
        cancel: parts.cancel,
        limits: parts.limits,
        masked_columns: parts.masked_columns,
        server_done: CancellationToken::new(),
        client_done: CancellationToken::new(),
        changed: Notify::new(),
        conversation: Mutex::default(),
        recorder: tokio::sync::Mutex::new(Some(parts.recorder)),
        server_end: Mutex::new(None),
    });
    let outbound = Outbound::new(shared.clone(), server_reader, client.1, inserted);
    let inbound = super::inbound::Inbound::new(shared.clone(), client.0, Sender::new(server_writer), inserts.clone());
    let ending = async {
        let end = match inserts.send(greeting).await {
            Ok(()) => inbound.run().await,
            Err(_) => End::ClientGone,
        };
        if let Some(refusal) = end.refusal() {
            let mut out = BytesMut::new();
            reply::error(&mut out, Severity::Fatal, &refusal);
            drop(tokio::time::timeout(LAST_WORDS_MAX, inserts.send(out.freeze())).await);
        }
        drop(inserts);
        // The server's side needs no more answers; what is left is to be written within a bound.
        shared.client_done.cancel();
        end
    };
    let outbound = async {
        let last_words = async {
            shared.client_done.cancelled().await;
            tokio::time::sleep(LAST_WORDS_MAX).await;
            shared.journal.idle().await;
        };
        tokio::select! {
            () = outbound.run(upstream.rest) => {}
            () = last_words => {}
        }
        shared.server_done.cancel();
    };
    let (end, ()) = tokio::join!(ending, outbound);
    close(&shared, &end).await;
}

/// Puts the end of the session on record.
async fn close(shared: &Shared, end: &End) {
    let unfinished = shared.conversation().abandon();
    for running in unfinished {
        let why = format!("the session ended before the answer came: {end}");
        let elapsed = u64::try_from(running.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let answered = Happening::Answered {
            operation: running.ticket.digest,
            outcome: Outcome::not_known(&why, elapsed),
            bytes: 0,
        };
        let journaled = match &running.ticket.approval {
            None => shared.journal.note(answered).await,
            Some(id) => {
                let holds = shared.gate.holds();
                holds.lose_outcome(id, &why, answered, &shared.journal).await
            }
        };
        if let Err(error) = journaled {
            tracing::error!(session = %shared.header.id, %error, "the end of an operation could not be journaled");
        }
    }
    let why = end.to_string();
    let recorder = shared.recorder.lock().await.take();
    let Some(recorder) = recorder else { return };
    match recorder.close(&why).await {
        Ok(finished) => {
            let anchor = finished.anchor();
            shared.guard.closed(anchor);
            let closed = Happening::SessionClosed {
                why: why.clone(),
                chunks: anchor.chunks,
                last: anchor.last,
            };
            // The journal first: only what it knows of leaves the spool for good.
            match shared.journal.append(vec![closed]).await {
                Ok(()) => finished.send().await,
                Err(error) => {
                    tracing::error!(session = %shared.header.id, %error, "the end of the session could not be journaled");
                }
            }
        }
        Err(error) => {
            tracing::error!(session = %shared.header.id, %error, "the recording could not be closed");
            // What was noted is written all the same; the recording is closed later.
            if let Err(error) = shared.journal.append(Vec::new()).await {
                tracing::error!(session = %shared.header.id, %error, "the end of the session could not be journaled");
            }
        }
    }
    tracing::info!(session = %shared.header.id, why, "session closed");
}

/// The entries that a conversation is told of before the messages themselves leave.
pub fn expect_all(
    shared: &Shared,
    entries: Vec<Expected<Ticket>>,
) -> Vec<(
    super::batch::Running<Ticket>,
    countersign_infra::domain::approval::Outcome,
)> {
    let mut conversation = shared.conversation();
    entries
        .into_iter()
        .filter_map(|entry| conversation.expect(entry))
        .collect()
}
