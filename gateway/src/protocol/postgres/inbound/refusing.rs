//! Refusing a unit so that client and server agree on how the transaction stands.

use super::*;
use place::write_parse;

/// How long a refused transaction with savepoints may keep its outer locks.
const FAILED_BLOCK_MAX: Duration = Duration::from_secs(10);
/// Fails in the parser of every version, and so fails the transaction and nothing else.
const FAILING_TEXT: &[u8] = b"countersign refused this operation";

impl<C: AsyncRead + Unpin> Inbound<C> {
    /// Refuses a unit from its first message on: the client gets the error that the server would give it there, and
    /// client and server agree on how the transaction stands.
    pub(super) async fn refuse(
        &mut self,
        messages: &[Analysed],
        refusal: Refusal,
        digest: Option<Digest>,
    ) -> Result<(), End> {
        let journaled = self.shared.put_on_record(digest, &refusal).await;
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
    pub(super) async fn fail_upstream(&mut self, error: Bytes, ready: bool) -> Result<(), End> {
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

    pub(super) async fn end_discarding(&mut self, upstream: bool, sync: Frame) -> Result<(), End> {
        self.mode = Mode::Normal;
        if upstream {
            expect_all(&self.shared, vec![Expected::Sync]);
            return self.send(&[sync]).await;
        }
        let mut out = BytesMut::new();
        let status = self.shared.conversation().block.status();
        reply::ready(&mut out, status);
        self.insert(out.freeze()).await
    }
}

pub(super) fn failed_transaction() -> Refusal {
    Refusal::new(
        Cause::FailedTransaction,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}
