//! From the server to the client: every message is matched with what was asked, recorded, and passed on.

use super::batch::{Disposition, Running, Unexpected};
use super::session::{End, Shared};
use super::wire::{HEADER_BYTES, header};
use crate::gate::{Ticket, refused};
use crate::journal::NotJournaled;
use crate::record::Direction;
use crate::refusal::Refusal;
use crate::sessions::LiveState;
use bytes::{Buf, Bytes, BytesMut};
use countersign_infra::domain::approval::Outcome;
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::id::Digest;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Read at once while little comes.
const READ_BYTES_MIN: usize = 4 << 10;
/// Read at once while much comes.
const READ_BYTES_MAX: usize = 64 << 10;
/// Longest message that is looked at whole. Longer ones are passed on in pieces, or end the session.
const WHOLE_BYTES_MAX: usize = 1 << 20;

/// Carries a server's answers to its client. The only writer to the client after sign-in.
pub struct Outbound<R, W> {
    shared: Arc<Shared>,
    server: R,
    client: W,
    inserts: mpsc::Receiver<Bytes>,
    /// Bytes of the current message that are still to come and are passed on unseen.
    streaming: usize,
    /// Bytes sent to the client since the last operation ended.
    answer_bytes: u64,
    read_bytes: usize,
}

/// What a scan of the buffer found.
struct Scan {
    /// Bytes at the start that go to the client as they are.
    pass: usize,
    /// What follows them.
    then: Then,
}

enum Then {
    /// Wait for more bytes.
    Read,
    /// Drop so many bytes: the answer to the gateway's own message.
    Drop(usize),
    /// Drop so many bytes, and send these.
    Instead(usize, Bytes),
    /// Put these ends on record, then go on with a message of so many bytes that is passed on.
    Record(usize, Vec<(Running<Ticket>, Outcome)>),
    /// The session ends.
    Stop(End),
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Outbound<R, W> {
    pub fn new(shared: Arc<Shared>, server: R, client: W, inserts: mpsc::Receiver<Bytes>) -> Self {
        Self {
            shared,
            server,
            client,
            inserts,
            streaming: 0,
            answer_bytes: 0,
            read_bytes: READ_BYTES_MIN,
        }
    }

    /// Runs until the server or the client is gone, or the session ends, and then until the last insert is written.
    /// Says why through `shared`.
    pub async fn run(mut self, rest: BytesMut) {
        let end = self.carry(rest).await;
        self.shared.server_ended(end);
        // What the other direction still has to tell the client. It drops its sender when it is done.
        while let Some(bytes) = self.inserts.recv().await {
            if self.send(&bytes).await.is_err() || self.client.flush().await.is_err() {
                break;
            }
        }
        drop(self.client.shutdown().await);
    }

    async fn carry(&mut self, mut buffer: BytesMut) -> End {
        loop {
            if let Err(end) = self.drain(&mut buffer).await {
                return end;
            }
            let full = buffer.len() + self.read_bytes;
            if buffer.is_empty() && buffer.capacity() > self.read_bytes {
                buffer = BytesMut::new();
            }
            buffer.reserve(self.read_bytes);
            // Cancel safe: read_buf keeps what it has read, recv takes nothing when dropped.
            tokio::select! {
                read = self.server.read_buf(&mut buffer) => match read {
                    Ok(0) => return End::ServerGone(None),
                    Ok(_) => self.read_bytes = self.next_read(buffer.len() >= full),
                    Err(error) => return End::ServerGone(Some(error)),
                },
                insert = self.inserts.recv(), if self.streaming == 0 => match insert {
                    Some(bytes) => {
                        if let Err(error) = self.insert(&bytes).await {
                            return error;
                        }
                    }
                    None => return End::ClientGone,
                },
                () = self.shared.client_done.cancelled() => return End::ClientGone,
            }
        }
    }

    fn next_read(&self, was_full: bool) -> usize {
        if was_full {
            (self.read_bytes * 2).min(READ_BYTES_MAX)
        } else {
            READ_BYTES_MIN.max(self.read_bytes / 2)
        }
    }

    async fn insert(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.send(bytes).await?;
        self.client.flush().await.map_err(End::client)
    }

    /// Handles all that is whole in the buffer.
    async fn drain(&mut self, buffer: &mut BytesMut) -> Result<(), End> {
        let mut sent = false;
        loop {
            let scan = self.scan(buffer);
            if scan.pass > 0 {
                let pass = buffer.split_to(scan.pass);
                self.send(&pass).await?;
                sent = true;
            }
            match scan.then {
                Then::Read => break,
                Then::Drop(bytes) => buffer.advance(bytes),
                Then::Instead(bytes, instead) => {
                    buffer.advance(bytes);
                    self.send(&instead).await?;
                    sent = true;
                }
                Then::Record(bytes, ends) => {
                    self.record(ends).await?;
                    let message = buffer.split_to(bytes);
                    self.send(&message).await?;
                    sent = true;
                }
                Then::Stop(end) => return Err(end),
            }
        }
        self.shared.changed.notify_waiters();
        if sent {
            self.client.flush().await.map_err(End::client)
        } else {
            Ok(())
        }
    }

    fn scan(&mut self, buffer: &[u8]) -> Scan {
        let mut pass = self.streaming.min(buffer.len());
        self.streaming -= pass;
        loop {
            let rest = buffer.get(pass..).unwrap_or_default();
            let Some((tag, length)) = header(rest) else {
                return Scan { pass, then: Then::Read };
            };
            let total = (length as usize).saturating_add(1);
            if total < HEADER_BYTES {
                return Scan {
                    pass,
                    then: Then::Stop(End::Protocol(Unexpected(tag))),
                };
            }
            let whole = rest.len() >= total;
            if !whole && (total <= READ_BYTES_MAX || !streams(tag) && total <= WHOLE_BYTES_MAX) {
                return Scan { pass, then: Then::Read };
            }
            if !whole && !streams(tag) {
                return Scan {
                    pass,
                    then: Then::Stop(End::Protocol(Unexpected(tag))),
                };
            }
            let body = rest.get(HEADER_BYTES..total).unwrap_or_default();
            match self.shared.reply(tag, body) {
                Err(end) => {
                    return Scan {
                        pass,
                        then: Then::Stop(end),
                    };
                }
                Ok(Disposition::Pass) if whole => pass += total,
                Ok(Disposition::Pass) => {
                    self.streaming = total - rest.len();
                    return Scan {
                        pass: buffer.len(),
                        then: Then::Read,
                    };
                }
                Ok(_) if !whole => {
                    return Scan {
                        pass,
                        then: Then::Stop(End::Protocol(Unexpected(tag))),
                    };
                }
                Ok(Disposition::Swallow) => {
                    return Scan {
                        pass,
                        then: Then::Drop(total),
                    };
                }
                Ok(Disposition::Instead(bytes)) => {
                    return Scan {
                        pass,
                        then: Then::Instead(total, bytes),
                    };
                }
                Ok(Disposition::PassAfter(ends)) => {
                    return Scan {
                        pass,
                        then: Then::Record(total, ends),
                    };
                }
            }
        }
    }

    /// Records, then writes: what the client got is on record.
    async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.answer_bytes += bytes.len() as u64;
        self.shared.record(Direction::GatewayToClient, bytes).await?;
        self.client.write_all(bytes).await.map_err(End::client)
    }

    async fn record(&mut self, ends: Vec<(Running<Ticket>, Outcome)>) -> Result<(), End> {
        for (running, outcome) in ends {
            let bytes = std::mem::take(&mut self.answer_bytes);
            self.shared.answered(running.ticket, outcome, bytes).await?;
        }
        Ok(())
    }
}

/// Messages that may be of any length and whose content does not matter to the gateway.
fn streams(tag: u8) -> bool {
    matches!(tag, b'D' | b'd' | b'V' | b'N' | b'A')
}

impl Shared {
    /// Puts a refusal on record, unless it is.
    pub async fn put_on_record(&self, operation: Option<Digest>, refusal: &Refusal) -> Result<(), NotJournaled> {
        if refusal.on_record {
            return Ok(());
        }
        self.journal.append(vec![refused(operation, refusal)]).await
    }

    /// Puts the end of an operation on record: at once if people decided it, with the next event otherwise.
    pub async fn answered(&self, ticket: Ticket, outcome: Outcome, bytes: u64) -> Result<(), End> {
        let happening = Happening::Answered {
            operation: ticket.digest,
            outcome: outcome.clone(),
            bytes,
        };
        self.guard.set_state(LiveState::Idle);
        match ticket.approval {
            None => self.journal.note(happening).await.map_err(End::NotJournaled),
            Some(id) => {
                let finished = self.gate.holds().finish(&id, outcome, happening, &self.journal).await;
                finished.map_err(End::NotJournaled)
            }
        }
    }
}

impl End {
    fn client(_: io::Error) -> Self {
        Self::ClientGone
    }
}
