//! From the client to the server: messages become units, units are judged, and what is admitted is forwarded.

mod copying;
mod place;
mod refusing;
mod unit;
mod waiting;

use crate::gate::{Admission, Admitted, Held, Ticket};
use crate::protocol::postgres::batch::{Block, Expected, NAMES_MAX, Own, Running};
use crate::protocol::postgres::message::Message;
use crate::protocol::postgres::operation::{Analysed, Draft, draft};
use crate::protocol::postgres::reply::{self, Severity};
use crate::protocol::postgres::session::{End, Shared, expect_all, not_utf8};
use crate::protocol::postgres::upstream::{ForwardError, Sender};
use crate::protocol::postgres::wire::{Fields, Frame, FrameReader, Incoming, write_message};
use crate::record::Direction;
use crate::refusal::{Cause, Refusal};
use crate::sessions::LiveState;
use bytes::{BufMut, Bytes, BytesMut};
use copying::CopyIn;
use countersign_infra::domain::access_request::{AccessRequest, Operation, Place};
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::effect::EffectKind;
use countersign_infra::domain::id::Digest;
use place::hides_pg_catalog;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use unit::{begins_copy, exact_messages, is_judged, leaves_portal};

/// A unit larger than this, or of more messages, is judged in parts.
const UNIT_BYTES_MAX: usize = 16 << 20;
const UNIT_MESSAGES_MAX: usize = 4096;

/// So soon a driver that does not wait for the answer to its Bind has sent its Execute.
const EXECUTE_FOLLOWS_WITHIN: Duration = Duration::from_millis(10);
/// How long the last message to a server may take.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// Statements and values that a session's names may keep, in bytes.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// After so long without a message, and then every [`NOTED_FOR_MAX`], what was noted for the journal is written.
const QUIET_FOR: Duration = Duration::from_millis(500);
const NOTED_FOR_MAX: Duration = Duration::from_secs(5);

/// What the client may send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Anything.
    Normal,
    /// Everything up to the next Sync is ignored, as after an error. `upstream`: the server waits for that Sync too.
    Discarding { upstream: bool },
}

/// Read ahead from a client while its operation waits. With more the gateway stops reading.
const READ_AHEAD_BYTES_MAX: usize = 64 << 10;

/// Judges what a client sends.
pub struct Inbound<C> {
    shared: Arc<Shared>,
    client: FrameReader<C>,
    server: Sender,
    inserts: mpsc::Sender<Bytes>,
    /// A frame that was read already and belongs to the unit that is read.
    ahead: Option<Frame>,
    mode: Mode,
    place: Place,
    /// Something ran that may have changed `place`.
    place_is_stale: bool,
    /// Something in the open block may have changed the session: its rollback changes it back.
    block_changed_session: bool,
    /// Counts what may change the meaning of names.
    epoch: u64,
    /// What was forwarded last may not be overtaken by the next judgement.
    settle_first: bool,
    /// When a failed block with savepoints must be over.
    failed_block_until: Option<tokio::time::Instant>,
    copy: Option<CopyIn>,
    /// The operation whose COPY data may come.
    copy_digest: Digest,
}

impl<C: AsyncRead + Unpin> Inbound<C> {
    pub fn new(shared: Arc<Shared>, client: FrameReader<C>, server: Sender, inserts: mpsc::Sender<Bytes>) -> Self {
        let place = Place {
            target: shared.header.target.clone(),
            database: shared.header.database.clone(),
            role: shared.header.role.clone(),
            search_path: String::new(),
        };
        Self {
            shared,
            client,
            server,
            inserts,
            ahead: None,
            mode: Mode::Normal,
            place,
            place_is_stale: true,
            block_changed_session: false,
            epoch: 0,
            settle_first: false,
            failed_block_until: None,
            copy: None,
            copy_digest: Digest::ZERO,
        }
    }

    /// Runs until the session ends, and says why.
    pub async fn run(mut self) -> End {
        loop {
            if let Err(end) = self.step().await {
                let goodbye = [Frame::new(b'X', b"")];
                drop(tokio::time::timeout(GOODBYE_MAX, self.server.pass(&goodbye)).await);
                return end;
            }
        }
    }

    /// Reads one unit and does what is to be done with it.
    async fn step(&mut self) -> Result<(), End> {
        let mut frames = Vec::new();
        let mut bytes = 0;
        loop {
            let frame = match self.ahead.take() {
                Some(frame) => frame,
                None => self.next_frame().await?,
            };
            self.shared.record(Direction::ClientToGateway, frame.bytes()).await?;
            let message = Message::read(&frame).map_err(End::Malformed)?;
            match (self.mode, &message) {
                (_, Message::Terminate) => return Err(End::ClientGone),
                (_, Message::CopyData | Message::CopyDone | Message::CopyFail) => {
                    // Data that comes at once behind its COPY, without a Sync between.
                    if !frames.is_empty() {
                        bytes = 0;
                        self.unit(std::mem::take(&mut frames)).await?;
                    }
                    self.copy_message(&message, frame).await?;
                    continue;
                }
                // The server ignores them while it copies, and so they stay here.
                (_, Message::Flush | Message::Sync) if self.copying() => continue,
                (_, _) if self.copying() => {
                    return Err(End::Malformed(crate::protocol::postgres::wire::Malformed::Body(
                        char::from(frame.tag()),
                    )));
                }
                (Mode::Discarding { upstream }, Message::Sync) => return self.end_discarding(upstream, frame).await,
                (Mode::Discarding { .. }, _) => continue,
                (Mode::Normal, _) => {}
            }
            bytes += frame.bytes().len();
            let ends = matches!(
                message,
                Message::Query { .. } | Message::FunctionCall { .. } | Message::Flush | Message::Sync
            );
            let flush = matches!(message, Message::Flush);
            frames.push((frame, message));
            if flush && leaves_portal(&frames) && self.more_follows().await? {
                continue;
            }
            if ends || bytes > UNIT_BYTES_MAX || frames.len() >= UNIT_MESSAGES_MAX {
                return self.unit(frames).await;
            }
        }
    }

    /// Some drivers send Bind, Flush, Execute at once: they are one unit. Others wait for the answer to their Bind.
    async fn more_follows(&mut self) -> Result<bool, End> {
        match tokio::time::timeout(EXECUTE_FOLLOWS_WITHIN, self.next_frame()).await {
            Ok(frame) => {
                self.ahead = Some(frame?);
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    async fn next_frame(&mut self) -> Result<Frame, End> {
        let mut idle = self.shared.limits.idle_max.map(|max| tokio::time::Instant::now() + max);
        let mut quiet = tokio::time::Instant::now() + QUIET_FOR;
        loop {
            // Every arm may be dropped midway: what was read of a frame stays with its reader.
            tokio::select! {
                incoming = self.client.next() => return match incoming {
                    Ok(Incoming::Frame(frame)) => Ok(frame),
                    Ok(Incoming::End) | Err(_) => Err(End::ClientGone),
                    Ok(Incoming::Malformed(malformed)) => Err(End::Malformed(malformed)),
                },
                () = self.shared.server_done.cancelled() => return Err(self.shared.server_end()),
                () = self.shared.stop.cancelled() => return Err(self.stopped()),
                () = tokio::time::sleep_until(quiet) => {
                    quiet = tokio::time::Instant::now() + NOTED_FOR_MAX;
                    // What the last statement came to does not wait for the next one.
                    self.shared.write_notes().await?;
                }
                () = until(self.failed_block_until) => {
                    if self.shared.conversation().block == Block::Failed {
                        return Err(kept_locks());
                    }
                    self.failed_block_until = None;
                }
                () = until(idle) => {
                    if self.shared.conversation().is_settled() {
                        return Err(End::Stopped("the session was idle for too long".to_owned()));
                    }
                    idle = self.shared.limits.idle_max.map(|max| tokio::time::Instant::now() + max);
                }
            }
        }
    }

    fn stopped(&self) -> End {
        End::Stopped(
            self.shared
                .guard
                .ended()
                .unwrap_or_else(|| "the gateway is stopping".to_owned()),
        )
    }

    async fn unit(&mut self, frames: Vec<(Frame, Message)>) -> Result<(), End> {
        let judged = frames.iter().any(|(_, message)| is_judged(message));
        if judged && (self.settle_first || self.needs_names()) {
            self.settle().await?;
        }
        let (frames, messages) = self.analyse(frames).await?;
        let mut done = 0;
        while let (Some(rest), Some(rest_frames)) = (messages.get(done..), frames.get(done..)) {
            if rest.is_empty() {
                break;
            }
            if self.shared.conversation().is_skipping() {
                return self.skip(rest, rest_frames).await;
            }
            if let Some(refusal) = self.unreadable(rest) {
                return self.refuse(rest, refusal, None).await;
            }
            if judged {
                self.refresh_place().await?;
            }
            if self.shared.conversation().is_skipping() {
                return self.skip(rest, rest_frames).await;
            }
            let taken = self.part(rest, rest_frames).await?;
            if self.mode != Mode::Normal {
                return Ok(());
            }
            done += taken;
            if done < messages.len() {
                self.settle().await?;
            }
        }
        Ok(())
    }

    /// The server ignores everything up to the next Sync, and so it is not even sent.
    async fn skip(&mut self, messages: &[Analysed], frames: &[Frame]) -> Result<(), End> {
        self.mode = Mode::Discarding { upstream: true };
        match (messages.last(), frames.last()) {
            (Some(analysed), Some(sync)) if matches!(analysed.message, Message::Sync) => {
                self.end_discarding(true, sync.clone()).await
            }
            _ => Ok(()),
        }
    }

    /// Judges and forwards the first part of a unit, and says of how many messages it was. After a refusal the mode
    /// is no longer `Normal`, or the unit was refused whole.
    async fn part(&mut self, messages: &[Analysed], frames: &[Frame]) -> Result<usize, End> {
        let readable = messages
            .iter()
            .take_while(|analysed| analysed.failure.is_none())
            .count();
        let readable = messages.get(..readable).unwrap_or_default();
        let draft = draft(
            readable,
            &self.shared.conversation(),
            self.epoch,
            &self.shared.masked_columns,
        );
        let covered = draft.messages;
        let frames = frames.get(..covered).unwrap_or_default();
        if let Err(refusal) = self.check(&draft) {
            self.refuse(messages, refusal, None).await?;
            return Ok(messages.len());
        }
        for parsed in &draft.parsed {
            let request = self.request(parsed.clone());
            if let Err(refusal) = self.preview(&request).await {
                self.refuse(messages, refusal, Some(request.digest())).await?;
                return Ok(messages.len());
            }
        }
        match draft.operation.clone() {
            None => self.pass(draft, frames).await?,
            Some(mut operation) => {
                operation.parts.push(exact_messages(frames));
                let request = self.request(operation);
                let digest = request.digest();
                match self.admit(request, &draft).await? {
                    Ok(admitted) => self.forward(admitted, draft, frames).await?,
                    Err(refusal) => {
                        self.refuse(messages, refusal, Some(digest)).await?;
                        return Ok(messages.len());
                    }
                }
            }
        }
        Ok(covered)
    }

    async fn preview(&self, request: &AccessRequest) -> Result<(), Refusal> {
        let shared = &self.shared;
        shared.gate.preview(request, &shared.target, &shared.journal).await
    }

    fn request(&self, mut operation: Operation) -> AccessRequest {
        if hides_pg_catalog(&self.place.search_path) {
            operation
                .effects
                .add_object(EffectKind::Unknown, "search_path puts other schemas before pg_catalog");
        }
        let in_transaction = {
            let conversation = self.shared.conversation();
            conversation.block != Block::None || conversation.unsynced.bound
        };
        AccessRequest {
            session: self.shared.header.id,
            person: self.shared.header.person.clone(),
            client: self.shared.header.client.clone(),
            place: self.place.clone(),
            operation,
            in_transaction,
        }
    }

    /// Bounds that hold whatever the policy says.
    fn check(&self, draft: &Draft<Ticket>) -> Result<(), Refusal> {
        let (names, bytes) = {
            let conversation = self.shared.conversation();
            (conversation.names() + draft.expected.len(), conversation.kept_bytes())
        };
        let adds = draft
            .expected
            .iter()
            .any(|entry| matches!(entry, Expected::Parse { .. } | Expected::Bind { .. }));
        if adds && (names > NAMES_MAX + UNIT_MESSAGES_MAX || bytes > KEPT_BYTES_MAX) {
            return Err(Refusal::new(
                Cause::Limit,
                "countersign: too many prepared statements and portals are open",
            )
            .hint("DEALLOCATE what is not needed, or DISCARD ALL."));
        }
        Ok(())
    }

    /// Sends what runs nothing that was not judged before.
    async fn pass(&mut self, draft: Draft<Ticket>, frames: &[Frame]) -> Result<(), End> {
        self.shared.recorded().await?;
        let copies = draft.expected.iter().any(begins_copy);
        self.note_flush(frames, || expect_all(&self.shared, draft.expected));
        self.send(frames).await?;
        // Its Bind was admitted before. Whether the server takes a Sync now depends on whether it copies.
        if copies {
            self.begin_copy(self.copy_digest).await
        } else {
            Ok(())
        }
    }

    async fn send(&mut self, frames: &[Frame]) -> Result<(), End> {
        let shared = self.shared.clone();
        attended(&shared, self.server.pass(frames)).await?.map_err(lost)
    }

    /// Sends what was admitted.
    async fn forward(&mut self, admitted: Admitted, draft: Draft<Ticket>, frames: &[Frame]) -> Result<(), End> {
        let Admitted {
            permit,
            ticket,
            mut request,
        } = admitted;
        // Computed anew over what leaves now: if it is not what was admitted, the permit does not cover it.
        request.operation.parts.pop();
        request.operation.parts.push(exact_messages(frames));
        self.shared.guard.set_state(LiveState::Running);
        let digest = request.digest();
        let held = ticket.approval.is_some();
        let Draft {
            mut expected,
            changes_session,
            changes_block,
            copy_in,
            operation,
            ..
        } = draft;
        expected.push(Expected::End(Running {
            ticket: ticket.clone(),
            started: Instant::now(),
        }));
        let ended = self.note_flush(frames, || expect_all(&self.shared, expected));
        let shared = self.shared.clone();
        match attended(&shared, self.server.forward(permit, digest, frames)).await? {
            Ok(()) => {}
            Err(ForwardError::Lost(error)) => return Err(lost(error)),
            Err(error @ ForwardError::NotWhatWasAdmitted) => {
                tracing::error!(session = %self.shared.header.id, %error, "nothing was sent");
                return Err(End::Refused(Refusal::new(
                    Cause::Unready,
                    format!("countersign: {error}; nothing was sent"),
                )));
            }
        }
        for (running, outcome) in ended {
            self.shared.answered(running.ticket, outcome, 0).await?;
        }
        let reads = operation.is_some_and(|operation| operation.effects.kinds().all(|kind| kind == EffectKind::Read));
        self.settle_first = !reads || held;
        if changes_session {
            self.place_is_stale = true;
            self.block_changed_session = true;
            self.epoch += 1;
        }
        if changes_block && self.block_changed_session {
            self.place_is_stale = true;
            self.epoch += 1;
        }
        if copy_in {
            self.begin_copy(digest).await?;
        }
        Ok(())
    }

    fn note_flush<R>(&self, frames: &[Frame], expect: impl FnOnce() -> R) -> R {
        let result = expect();
        if frames.last().is_some_and(|frame| frame.tag() == b'H') {
            self.shared.conversation().flushed();
        }
        result
    }

    /// Sends the gateway's own messages, of fixed text.
    async fn own(&mut self, bytes: &[u8], expected: Vec<Expected<Ticket>>) -> Result<(), End> {
        self.shared.record(Direction::GatewayToUpstream, bytes).await?;
        expect_all(&self.shared, expected);
        let shared = self.shared.clone();
        attended(&shared, self.server.own(bytes)).await?.map_err(lost)
    }

    /// Asks the server for the answers that it keeps back until a Sync.
    async fn flush_owed(&mut self) -> Result<(), End> {
        let unflushed = {
            let conversation = self.shared.conversation();
            !conversation.is_settled() && conversation.unsynced.unflushed
        };
        if unflushed {
            let mut out = BytesMut::new();
            write_message(&mut out, b'H', |_| {});
            self.own(&out, Vec::new()).await?;
            self.shared.conversation().flushed();
        }
        Ok(())
    }

    /// Waits until the server owes nothing: what it said since is known.
    async fn settle(&mut self) -> Result<(), End> {
        self.flush_owed().await?;
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.shared.conversation().is_settled() {
                self.settle_first = false;
                return Ok(());
            }
            tokio::select! {
                () = &mut changed => {}
                closed = self.client.closed(READ_AHEAD_BYTES_MAX) => {
                    drop(closed);
                    return Err(End::ClientGone);
                }
                () = self.shared.server_done.cancelled() => return Err(self.shared.server_end()),
                () = self.shared.stop.cancelled() => return Err(self.stopped()),
                // A server may take its time: what was recorded by now is anchored meanwhile.
                () = tokio::time::sleep(NOTED_FOR_MAX) => self.shared.write_notes().await?,
            }
        }
    }

    /// What names stand for may still be changed by what is under way.
    fn needs_names(&self) -> bool {
        let conversation = self.shared.conversation();
        !conversation.is_settled() && conversation.changes_names()
    }

    async fn analyse(&self, frames: Vec<(Frame, Message)>) -> Result<(Vec<Frame>, Vec<Analysed>), End> {
        let mut kept = Vec::with_capacity(frames.len());
        let mut analysed = Vec::with_capacity(frames.len());
        for (frame, message) in frames {
            let (analysis, failure) = match &message {
                Message::Query { text } | Message::Parse { text, .. } => {
                    match self.shared.analyst.analyse(text).await {
                        Ok(analysis) => (Some(analysis), None),
                        Err(unparseable) => (None, Some(unparseable)),
                    }
                }
                Message::Bind { .. }
                | Message::Describe { .. }
                | Message::Execute { .. }
                | Message::Close { .. }
                | Message::Flush
                | Message::Sync
                | Message::FunctionCall { .. }
                | Message::CopyData
                | Message::CopyDone
                | Message::CopyFail
                | Message::Terminate => (None, None),
            };
            kept.push(frame);
            analysed.push(Analysed {
                message,
                analysis,
                failure,
            });
        }
        Ok((kept, analysed))
    }

    /// The first message cannot be read: why not.
    fn unreadable(&self, messages: &[Analysed]) -> Option<Refusal> {
        let unparseable = messages.first()?.failure.as_ref()?;
        Some(reply::unparseable(unparseable))
    }

    async fn insert(&self, bytes: Bytes) -> Result<(), End> {
        tokio::select! {
            sent = self.inserts.send(bytes) => sent.map_err(|_| End::ClientGone),
            () = self.shared.stop.cancelled() => Err(self.stopped()),
        }
    }
}

fn lost(error: std::io::Error) -> End {
    End::ServerGone(Some(error))
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn kept_locks() -> End {
    let refusal = Refusal::new(
        Cause::Ended,
        "countersign: a refused transaction kept its locks for too long, so the session ends",
    );
    End::Refused(
        refusal.hint("After a refusal inside a transaction with savepoints, end the transaction with ROLLBACK."),
    )
}

/// Does something with the server for as long as there is one and the session goes on.
async fn attended<T>(shared: &Shared, work: impl Future<Output = T>) -> Result<T, End> {
    tokio::select! {
        done = work => Ok(done),
        () = shared.server_done.cancelled() => Err(shared.server_end()),
        () = shared.stop.cancelled() => Err(End::Stopped("the session was ended".to_owned())),
    }
}
