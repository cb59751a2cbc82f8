//! COPY FROM STDIN: the data of an admitted COPY, counted and digested.

use super::*;

/// A COPY FROM STDIN under way.
pub(super) struct CopyIn {
    digest: Digest,
    bytes: u64,
    content: aws_lc_rs::digest::Context,
}

impl CopyIn {
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
    pub(super) fn copying(&self) -> bool {
        self.shared.conversation().copy_in
    }

    /// Waits for the server to begin the copy, or to refuse it.
    pub(super) async fn begin_copy(&mut self, digest: Digest) -> Result<(), End> {
        self.flush_owed().await?;
        if let Some(copy) = self.copy.take() {
            self.copied(copy).await?;
        }
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
                closed = self.client.closed(READ_AHEAD_BYTES_MAX) => {
                    drop(closed);
                    return Err(End::ClientGone);
                }
                () = self.shared.server_done.cancelled() => return Err(self.shared.server_end()),
                () = self.shared.stop.cancelled() => return Err(self.stopped()),
            }
        }
    }

    /// COPY data of an admitted COPY goes on; without one it is ignored, as the server does after a failed COPY.
    pub(super) async fn copy_message(&mut self, message: &Message, frame: Frame) -> Result<(), End> {
        if !self.copying() {
            if let Some(copy) = self.copy.take() {
                self.copied(copy).await?;
            }
            return Ok(());
        }
        let copy = self.copy.get_or_insert_with(|| CopyIn::new(self.copy_digest));
        if matches!(message, Message::CopyData) {
            copy.take(&frame.body());
        } else {
            {
                let mut conversation = self.shared.conversation();
                conversation.copy_in = false;
                // In the extended protocol the end of the copy is told only at the next Sync or Flush.
                conversation.unsynced.unflushed = conversation.unsynced.any;
            }
            if let Some(copy) = self.copy.take() {
                self.copied(copy).await?;
            }
        }
        self.send(&[frame]).await
    }

    pub(super) async fn copied(&self, copy: CopyIn) -> Result<(), End> {
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
