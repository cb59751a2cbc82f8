//! From the client to the server: messages become units, units are judged, and what is admitted is forwarded.

use super::batch::{Block, Expected, Own, Running};
use super::message::Message;
use super::operation::{Analysed, Draft, draft};
use super::reply::{self, Severity};
use super::session::{End, Shared, expect_all};
use super::upstream::{ForwardError, Sender};
use super::wire::{Fields, Frame, FrameReader, Incoming, write_message};
use crate::gate::{Admission, Held, Permit, Ticket, refused};
use crate::record::Direction;
use crate::refusal::{Cause, Refusal};
use crate::sessions::LiveState;
use bytes::{BufMut, Bytes, BytesMut};
use countersign_infra::domain::access_request::{AccessRequest, Operation, Place};
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::effect::EffectKind;
use countersign_infra::domain::id::Digest;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

/// A unit larger than this, or of more messages, is judged in parts.
const UNIT_BYTES_MAX: usize = 16 << 20;
const UNIT_MESSAGES_MAX: usize = 4096;
/// Read ahead from a client while its operation waits. With more the gateway stops reading.
const READ_AHEAD_BYTES_MAX: usize = 64 << 10;
/// How often a client that waits for people hears of it.
const NOTICE_EVERY: Duration = Duration::from_secs(20);
/// How long a refused transaction with savepoints may keep its outer locks.
const FAILED_BLOCK_MAX: Duration = Duration::from_secs(10);
/// The name of the gateway's own statements: a client's unnamed one is left alone.
const OWN_NAME: &[u8] = b"countersign";
/// Fails in the parser of every version, and so fails the transaction and nothing else.
const FAILING_TEXT: &[u8] = b"countersign refused this operation";
const PLACE_TEXT: &[u8] =
    b"SELECT pg_catalog.current_setting('search_path'), current_user::pg_catalog.text, pg_catalog.current_database()::pg_catalog.text";

/// What the client may send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Anything.
    Normal,
    /// Everything up to the next Sync is ignored, as after an error. `upstream`: the server waits for that Sync too.
    Discarding { upstream: bool },
}

/// Judges what a client sends.
pub struct Inbound<C> {
    shared: Arc<Shared>,
    client: FrameReader<C>,
    server: Sender,
    inserts: mpsc::Sender<Bytes>,
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
    copy: Option<Copy>,
    /// The operation whose COPY data may come.
    copy_digest: Digest,
}

/// A COPY FROM STDIN under way.
struct Copy {
    digest: Digest,
    bytes: u64,
    content: aws_lc_rs::digest::Context,
}

impl Copy {
    fn new(digest: Digest) -> Self {
        Self {
            digest,
            bytes: 0,
            content: aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256),
        }
    }

    fn take(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        self.content.update(data);
    }
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
                drop(self.server.pass(&[Frame::new(b'X', b"")]).await);
                return end;
            }
        }
    }

    /// Reads one unit and does what is to be done with it.
    async fn step(&mut self) -> Result<(), End> {
        let mut frames = Vec::new();
        let mut bytes = 0;
        loop {
            let frame = self.next_frame().await?;
            self.shared.record(Direction::ClientToGateway, frame.bytes()).await?;
            let message = Message::read(&frame).map_err(End::Malformed)?;
            match (self.mode, &message) {
                (_, Message::Terminate) => return Err(End::ClientGone),
                (_, Message::CopyData | Message::CopyDone | Message::CopyFail) => {
                    self.copy_message(&message, frame).await?;
                    continue;
                }
                // The server ignores them while it copies, and so they stay here.
                (_, Message::Flush | Message::Sync) if self.copying() => continue,
                (_, _) if self.copying() => {
                    return Err(End::Malformed(super::wire::Malformed::Body(char::from(frame.tag()))));
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
            frames.push((frame, message));
            if ends || bytes > UNIT_BYTES_MAX || frames.len() >= UNIT_MESSAGES_MAX {
                return self.unit(frames).await;
            }
        }
    }

    async fn next_frame(&mut self) -> Result<Frame, End> {
        let failed_block = self.failed_block_until;
        let idle = self.shared.limits.idle_max;
        tokio::select! {
            incoming = self.client.next() => match incoming {
                Ok(Incoming::Frame(frame)) => Ok(frame),
                Ok(Incoming::End) | Err(_) => Err(End::ClientGone),
                Ok(Incoming::Malformed(malformed)) => Err(End::Malformed(malformed)),
            },
            () = self.shared.server_done.cancelled() => Err(self.shared.server_end()),
            () = self.shared.stop.cancelled() => Err(self.stopped()),
            () = until(failed_block) => Err(End::Refused(
                Refusal::new(Cause::Ended, "countersign: a refused transaction kept its locks for too long, so the session ends")
                    .hint("After a refusal inside a transaction with savepoints, end the transaction with ROLLBACK."),
            )),
            () = pause(idle) => Err(End::Stopped("the session was idle for too long".to_owned())),
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
        if self.settle_first || self.needs_names(&frames) {
            self.settle().await?;
        }
        if self.shared.conversation().is_skipping() {
            // The server ignores all of it up to the Sync.
            self.mode = Mode::Discarding { upstream: true };
            return match frames.into_iter().next_back() {
                Some((sync, Message::Sync)) => self.end_discarding(true, sync).await,
                _ => Ok(()),
            };
        }
        let (frames, messages) = self.analyse(frames).await?;
        let mut done = 0;
        while let (Some(rest), Some(rest_frames)) = (messages.get(done..), frames.get(done..)) {
            if rest.is_empty() {
                break;
            }
            if let Some(refusal) = self.unreadable(rest) {
                return self.refuse(rest, refusal, None).await;
            }
            self.refresh_place().await?;
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

    /// Judges and forwards the first part of a unit, and says of how many messages it was. After a refusal the mode
    /// is no longer `Normal`, or the unit was refused whole.
    async fn part(&mut self, messages: &[Analysed], frames: &[Frame]) -> Result<usize, End> {
        let readable = messages
            .iter()
            .take_while(|analysed| analysed.failure.is_none())
            .count();
        let readable = messages.get(..readable).unwrap_or_default();
        let show = |text: &[u8]| display(text);
        let draft = draft(readable, &self.shared.conversation(), self.epoch, &show);
        let covered = draft.messages;
        let frames = frames.get(..covered).unwrap_or_default();
        if let Err(refusal) = self.check(&draft) {
            self.refuse(messages, refusal, None).await?;
            return Ok(messages.len());
        }
        for parsed in &draft.parsed {
            let request = self.request(parsed.clone());
            if let Err(refusal) = self.shared.gate.preview(&request, &self.shared.target) {
                self.refuse(messages, refusal, Some(request.digest())).await?;
                return Ok(messages.len());
            }
        }
        match draft.operation.clone() {
            None => self.pass(draft, frames).await?,
            Some(operation) => {
                let request = self.request(operation);
                let digest = request.digest();
                match self.admit(request, &draft).await? {
                    Ok((permit, ticket, request)) => self.forward(permit, ticket, &request, draft, frames).await?,
                    Err(refusal) => {
                        self.refuse(messages, refusal, Some(digest)).await?;
                        return Ok(messages.len());
                    }
                }
            }
        }
        Ok(covered)
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
        let names = self.shared.conversation().names() + draft.expected.len();
        if names > super::batch::NAMES_MAX + UNIT_MESSAGES_MAX {
            return Err(Refusal::new(
                Cause::Limit,
                "countersign: too many prepared statements and portals are open",
            )
            .hint("DEALLOCATE what is not needed, or DISCARD ALL."));
        }
        Ok(())
    }

    /// Asks the gate, and waits for people where it says so.
    async fn admit(
        &mut self,
        request: AccessRequest,
        draft: &Draft<Ticket>,
    ) -> Result<Result<(Permit, Ticket, AccessRequest), Refusal>, End> {
        self.shared.recorded().await?;
        let block = self.shared.conversation().block;
        let in_transaction = request.in_transaction;
        let seconds_max = in_transaction.then_some(self.shared.limits.hold_in_transaction_seconds_max);
        if block == Block::Failed && !draft.ends_block_only {
            return Ok(Err(failed_transaction()));
        }
        let again = request.clone();
        let admission = self
            .shared
            .gate
            .ask(request, &self.shared.target, seconds_max, &self.shared.journal)
            .await;
        let held = match admission {
            Err(refusal) => return Ok(Err(refusal)),
            Ok(Admission::Admitted { permit, ticket }) => return Ok(Ok((permit, ticket, again))),
            Ok(Admission::Held(held)) => held,
        };
        if let Err(refusal) = self.make_room().await? {
            held.hold.withdraw(&refusal.message).await;
            return Ok(Err(refusal));
        }
        self.shared.guard.set_state(LiveState::Held {
            approval: held.hold.record().id.clone(),
        });
        self.shared.cancel.hold(true);
        let decided = self.wait(held).await;
        self.shared.cancel.hold(false);
        self.shared.guard.set_state(LiveState::Running);
        decided
    }

    /// Before a hold: what was sent and not synced must not keep locks at the server while people think.
    async fn make_room(&mut self) -> Result<Result<(), Refusal>, End> {
        self.settle().await?;
        let (unsynced, block) = {
            let conversation = self.shared.conversation();
            (conversation.unsynced, conversation.block)
        };
        if self.shared.conversation().is_skipping() {
            return Ok(Err(failed_transaction()));
        }
        if !unsynced.any || block != Block::None {
            return Ok(Ok(()));
        }
        if unsynced.bound {
            return Ok(Err(Refusal::new(
                Cause::Denied,
                "countersign: this needs an approval, and statements before it in the same pipeline are not committed yet",
            )
            .hint("Send a Sync before the statement that needs an approval, or run it by itself.")));
        }
        let mut out = BytesMut::new();
        write_message(&mut out, b'S', |_| {});
        self.own(&out, vec![Expected::Own(Own::Sync)]).await?;
        self.settle().await?;
        Ok(Ok(()))
    }

    /// Waits for the decision, for as long as the client, the server and the policy stay as they are.
    async fn wait(&mut self, mut held: Box<Held>) -> Result<Result<(Permit, Ticket, AccessRequest), Refusal>, End> {
        let mut policy = self.shared.gate.policy().changed();
        let mut notices = tokio::time::interval(NOTICE_EVERY);
        let mut first = true;
        loop {
            // Every arm may be dropped midway: what has changed by then is in the store.
            tokio::select! {
                decided = held.hold.decided() => return match decided {
                    Ok(()) => Ok(self.shared.gate.release(*held, &self.shared.target, &self.shared.journal).await),
                    Err(refusal) => Ok(Err(refusal)),
                },
                closed = self.client.closed(READ_AHEAD_BYTES_MAX) => {
                    drop(closed);
                    let refusal = held.hold.withdraw("the client hung up").await;
                    self.shared.journal.append(vec![refused(None, &refusal)]).await.map_err(End::NotJournaled)?;
                    return Err(End::ClientGone);
                }
                () = self.shared.cancel.requested() => {
                    return Ok(Err(held.hold.withdraw("cancelled by the client").await));
                }
                () = self.shared.server_done.cancelled() => {
                    let refusal = held.hold.abandon("the target's server closed the connection").await;
                    self.shared.journal.append(vec![refused(None, &refusal)]).await.map_err(End::NotJournaled)?;
                    return Err(self.shared.server_end());
                }
                () = self.shared.stop.cancelled() => {
                    let end = self.stopped();
                    let refusal = held.hold.abandon(&end.to_string()).await;
                    self.shared.journal.append(vec![refused(None, &refusal)]).await.map_err(End::NotJournaled)?;
                    return Err(end);
                }
                changed = policy.changed() => {
                    drop(changed);
                    if let Err(why) = self.shared.gate.still_holds(&held, &self.shared.target) {
                        return Ok(Err(held.hold.revoke(&why).await));
                    }
                }
                _ = notices.tick() => {
                    self.notify(&held, std::mem::take(&mut first));
                }
            }
        }
    }

    /// Tells the client that it waits. A client that does not read misses repetitions, nothing else.
    fn notify(&self, held: &Held, first: bool) {
        let record = held.hold.record();
        let mut out = BytesMut::new();
        reply::held(
            &mut out,
            record,
            &self.shared.gate.holds().public_url(&record.id),
            first,
        );
        drop(self.inserts.try_send(out.freeze()));
    }

    /// Sends what runs nothing that was not judged before.
    async fn pass(&mut self, draft: Draft<Ticket>, frames: &[Frame]) -> Result<(), End> {
        self.shared.recorded().await?;
        self.note_flush(frames, || expect_all(&self.shared, draft.expected));
        self.server.pass(frames).await.map_err(lost)
    }

    /// Sends what was admitted.
    async fn forward(
        &mut self,
        permit: Permit,
        ticket: Ticket,
        request: &AccessRequest,
        draft: Draft<Ticket>,
        frames: &[Frame],
    ) -> Result<(), End> {
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
        match self.server.forward(permit, digest, frames).await {
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
        self.server.own(bytes).await.map_err(lost)
    }

    /// Waits until the server owes nothing: what it said since is known.
    async fn settle(&mut self) -> Result<(), End> {
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
            }
        }
    }

    /// Asks the server for what the digest needs of the session's state, where it may have changed.
    async fn refresh_place(&mut self) -> Result<(), End> {
        if self.shared.conversation().block == Block::None && self.block_changed_session && !self.place_is_stale {
            self.place_is_stale = true;
        }
        if !self.place_is_stale {
            return Ok(());
        }
        self.settle().await?;
        let (block, unsynced) = {
            let conversation = self.shared.conversation();
            (conversation.block, conversation.unsynced.any)
        };
        if block == Block::Failed {
            // Nothing but the end of the block can run, and that changes the place again.
            return Ok(());
        }
        let (out, expected) = ask_place(unsynced);
        self.own(&out, expected).await?;
        self.settle().await?;
        let row = self.shared.conversation().take_own_row();
        let Some(place) = row.and_then(|row| read_place(&self.place.target, row)) else {
            return Err(End::Refused(Refusal::new(
                Cause::Upstream,
                "countersign: the target's server did not say which search_path is in force",
            )));
        };
        self.place = place;
        self.place_is_stale = false;
        if block == Block::None {
            self.block_changed_session = false;
        }
        Ok(())
    }

    /// A name that this unit uses may still be changed by what is under way.
    fn needs_names(&self, frames: &[(Frame, Message)]) -> bool {
        let uses = |message: &Message| {
            matches!(
                message,
                Message::Bind { .. } | Message::Execute { .. } | Message::Query { .. } | Message::FunctionCall { .. }
            )
        };
        let conversation = self.shared.conversation();
        !conversation.is_settled() && conversation.changes_names() && frames.iter().any(|(_, message)| uses(message))
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

    /// Refuses a unit from its first message on: the client gets the error that the server would give it there, and
    /// client and server agree on how the transaction stands.
    async fn refuse(&mut self, messages: &[Analysed], refusal: Refusal, digest: Option<Digest>) -> Result<(), End> {
        let journaled = self.shared.journal.append(vec![refused(digest, &refusal)]).await;
        self.shared.guard.set_state(LiveState::Idle);
        let mut error = BytesMut::new();
        reply::error(&mut error, Severity::Error, &refusal);
        let (unsynced, block) = {
            let conversation = self.shared.conversation();
            (conversation.unsynced, conversation.block)
        };
        let must_fail = unsynced.any || block == Block::Open;
        let ready = messages.iter().any(|analysed| {
            matches!(
                analysed.message,
                Message::Sync | Message::Query { .. } | Message::FunctionCall { .. }
            )
        });
        if must_fail {
            self.fail_upstream(error.freeze(), ready).await?;
            self.place_is_stale |= self.block_changed_session;
        } else {
            self.settle().await?;
            if ready {
                reply::ready(&mut error, block.status());
            }
            self.insert(error.freeze()).await?;
        }
        if !ready {
            self.mode = Mode::Discarding { upstream: must_fail };
        }
        journaled.map_err(End::NotJournaled)
    }

    /// Makes the server fail the transaction by a fixed text that no parser takes; the client is told `error`
    /// instead of the server's own.
    async fn fail_upstream(&mut self, error: Bytes, ready: bool) -> Result<(), End> {
        let sent = Happening::GatewaySent {
            what: "a statement that fails, so that the transaction fails".to_owned(),
        };
        self.shared.journal.note(sent).await.map_err(End::NotJournaled)?;
        let mut out = BytesMut::new();
        write_parse(&mut out, FAILING_TEXT);
        let mut expected = vec![Expected::Own(Own::Fail(error))];
        if ready {
            write_message(&mut out, b'S', |_| {});
            expected.push(Expected::Sync);
        } else {
            write_message(&mut out, b'H', |_| {});
        }
        let savepoints = self.shared.conversation().savepoints;
        self.failed_block_until = savepoints.then(|| tokio::time::Instant::now() + FAILED_BLOCK_MAX);
        self.own(&out, expected).await?;
        self.settle().await
    }

    async fn end_discarding(&mut self, upstream: bool, sync: Frame) -> Result<(), End> {
        self.mode = Mode::Normal;
        if upstream {
            expect_all(&self.shared, vec![Expected::Sync]);
            return self.server.pass(&[sync]).await.map_err(lost);
        }
        let mut out = BytesMut::new();
        let status = self.shared.conversation().block.status();
        reply::ready(&mut out, status);
        self.insert(out.freeze()).await
    }

    async fn insert(&self, bytes: Bytes) -> Result<(), End> {
        tokio::select! {
            sent = self.inserts.send(bytes) => sent.map_err(|_| End::ClientGone),
            () = self.shared.stop.cancelled() => Err(self.stopped()),
        }
    }

    fn copying(&self) -> bool {
        self.shared.conversation().copy_in
    }

    /// Waits for the server to begin the copy, or to refuse it.
    async fn begin_copy(&mut self, digest: Digest) -> Result<(), End> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (copying, settled) = {
                let conversation = self.shared.conversation();
                (conversation.copy_in, conversation.is_settled())
            };
            if copying || settled {
                self.copy_digest = digest;
                return Ok(());
            }
            tokio::select! {
                () = &mut changed => {}
                () = self.shared.server_done.cancelled() => return Err(self.shared.server_end()),
                () = self.shared.stop.cancelled() => return Err(self.stopped()),
            }
        }
    }

    /// COPY data of an admitted COPY goes on; without one it is ignored, as the server does after a failed COPY.
    async fn copy_message(&mut self, message: &Message, frame: Frame) -> Result<(), End> {
        if !self.copying() {
            if let Some(copy) = self.copy.take() {
                self.copied(copy).await?;
            }
            return Ok(());
        }
        let copy = self.copy.get_or_insert_with(|| Copy::new(self.copy_digest));
        if matches!(message, Message::CopyData) {
            copy.take(&frame.body());
        } else {
            self.shared.conversation().copy_in = false;
            if let Some(copy) = self.copy.take() {
                self.copied(copy).await?;
            }
        }
        self.server.pass(&[frame]).await.map_err(lost)
    }

    async fn copied(&self, copy: Copy) -> Result<(), End> {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(copy.content.finish().as_ref());
        let received = Happening::CopyReceived {
            operation: copy.digest,
            bytes: copy.bytes,
            sha256: Digest(sha256),
        };
        self.shared.journal.note(received).await.map_err(End::NotJournaled)
    }
}

fn display(text: &[u8]) -> String {
    use countersign_infra::domain::display::{escape, mask_secrets};
    escape(&mask_secrets(&String::from_utf8_lossy(text)))
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

async fn pause(max: Option<Duration>) {
    match max {
        Some(max) => tokio::time::sleep(max).await,
        None => std::future::pending().await,
    }
}

fn failed_transaction() -> Refusal {
    Refusal::new(
        Cause::FailedTransaction,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

fn write_parse(out: &mut BytesMut, text: &[u8]) {
    write_message(out, b'P', |out| {
        out.put_slice(OWN_NAME);
        out.put_u8(0);
        out.put_slice(text);
        out.put_u8(0);
        out.put_i16(0);
    });
}

/// The gateway's own question, by names of its own, inside the client's transaction where one is open.
fn ask_place(unsynced: bool) -> (BytesMut, Vec<Expected<Ticket>>) {
    let mut out = BytesMut::new();
    write_parse(&mut out, PLACE_TEXT);
    write_message(&mut out, b'B', |out| {
        for name in [OWN_NAME, OWN_NAME] {
            out.put_slice(name);
            out.put_u8(0);
        }
        out.put_slice(&[0; 6]);
    });
    write_message(&mut out, b'E', |out| {
        out.put_slice(OWN_NAME);
        out.put_slice(&[0; 5]);
    });
    for kind in [b'P', b'S'] {
        write_message(&mut out, b'C', |out| {
            out.put_u8(kind);
            out.put_slice(OWN_NAME);
            out.put_u8(0);
        });
    }
    let own = [Own::Parse, Own::Bind, Own::Execute, Own::Close, Own::Close];
    let mut expected: Vec<_> = own.into_iter().map(Expected::Own).collect();
    if unsynced {
        write_message(&mut out, b'H', |_| {});
    } else {
        write_message(&mut out, b'S', |_| {});
        expected.push(Expected::Own(Own::Sync));
    }
    (out, expected)
}

/// Reads the row that answers [`ask_place`].
fn read_place(target: &str, row: Bytes) -> Option<Place> {
    let mut fields = Fields::over(b'D', row);
    if fields.count().ok()? != 3 {
        return None;
    }
    let mut text = || String::from_utf8(fields.value().ok()??.to_vec()).ok();
    let (search_path, role, database) = (text()?, text()?, text()?);
    Some(Place {
        target: target.to_owned(),
        database,
        role,
        search_path,
    })
}

/// Whether names of built-in functions and operators may mean something else. `pg_catalog` is searched first unless
/// the path names it at a later place.
fn hides_pg_catalog(search_path: &str) -> bool {
    let mut schemas = search_path.split(',').map(|schema| schema.trim().trim_matches('"'));
    schemas
        .position(|schema| schema == "pg_catalog")
        .is_some_and(|at| at > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pg_catalog_behind_others_hides_built_in_names() {
        for (path, hides) in [
            ("\"$user\", public", false),
            ("", false),
            ("pg_catalog", false),
            ("pg_catalog, app", false),
            ("app, pg_catalog", true),
            ("app,\"pg_catalog\"", true),
        ] {
            assert_eq!(hides_pg_catalog(path), hides, "{path}");
        }
    }
}
