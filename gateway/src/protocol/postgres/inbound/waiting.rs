//! Asking the gate, and waiting for people with the client on the line.

use super::*;
use crate::hold::Ready;
use refusing::failed_transaction;
use tokio_util::sync::CancellationToken;

/// How often a client that waits for people hears of it.
const NOTICE_EVERY: Duration = Duration::from_secs(20);

impl<C: AsyncRead + Unpin> Inbound<C> {
    /// Asks the gate, and waits for people where it says so.
    pub(super) async fn admit(
        &mut self,
        request: AccessRequest,
        draft: &Draft<Ticket>,
    ) -> Result<Result<Admitted, Refusal>, End> {
        self.shared.recorded().await?;
        let block = self.shared.conversation().block;
        let in_transaction = request.in_transaction;
        let seconds_max = in_transaction.then_some(self.shared.limits.hold_in_transaction_seconds_max);
        if block == Block::Failed && !draft.ends_block {
            return Ok(Err(failed_transaction()));
        }
        let admission = self
            .shared
            .gate
            .ask(request, &self.shared.target, seconds_max, &self.shared.journal)
            .await;
        let held = match admission {
            Err(refusal) => return Ok(Err(refusal)),
            Ok(Admission::Admitted(admitted)) => return Ok(Ok(*admitted)),
            Ok(Admission::Held(held)) => held,
        };
        if draft.leaves_portal {
            let refusal = bound_without_execute();
            let withdrawn = held.hold.withdraw(&refusal.message, &self.shared.journal).await;
            return Ok(Err(refusal.told_by(&withdrawn)));
        }
        match self.make_room().await {
            Ok(Ok(())) => {}
            Ok(Err(refusal)) => {
                let withdrawn = held.hold.withdraw(&refusal.message, &self.shared.journal).await;
                return Ok(Err(refusal.told_by(&withdrawn)));
            }
            Err(end) => {
                held.hold.abandon(&end.to_string(), &self.shared.journal).await;
                return Err(end);
            }
        }
        self.shared.guard.set_state(LiveState::Held {
            approval: held.hold.record().id.clone(),
        });
        let cancelled = self.shared.cancel.hold();
        let decided = self.wait(held, cancelled).await;
        self.shared.cancel.release();
        self.shared.guard.set_state(LiveState::Running);
        decided
    }

    /// Before a hold: what was sent and not synced must not keep locks at the server while people think.
    pub(super) async fn make_room(&mut self) -> Result<Result<(), Refusal>, End> {
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

    /// From here on a cancel request goes to the server. False when one came before.
    fn stops_being_held(&self, cancelled: &CancellationToken) -> bool {
        self.shared.cancel.release();
        !cancelled.is_cancelled()
    }

    /// Waits for the decision, for as long as the client, the server and the policy stay as they are.
    pub(super) async fn wait(
        &mut self,
        mut held: Box<Held>,
        cancelled: CancellationToken,
    ) -> Result<Result<Admitted, Refusal>, End> {
        let mut policy = self.shared.gate.policy().changed();
        let mut notices = tokio::time::interval(NOTICE_EVERY);
        let mut quiet = tokio::time::interval(NOTED_FOR_MAX);
        let mut first = true;
        loop {
            // Every arm may be dropped midway: what has changed by then is in the store.
            tokio::select! {
                decided = held.hold.decided() => {
                    let ready = match decided {
                        Ok(Ready::Approved) => Ok(()),
                        Ok(Ready::Due) => held.hold.expire(&self.shared.journal).await,
                        Err(refusal) => Err(refusal),
                    };
                    return match ready {
                        Ok(()) => self.release(held, &cancelled).await,
                        Err(refusal) => Ok(Err(refusal)),
                    };
                }
                closed = self.client.closed(READ_AHEAD_BYTES_MAX) => {
                    drop(closed);
                    let refusal = held.hold.withdraw("the client hung up", &self.shared.journal).await;
                    self.shared.put_on_record(None, &refusal).await.map_err(End::NotJournaled)?;
                    return Err(End::ClientGone);
                }
                () = cancelled.cancelled() => {
                    return Ok(Err(held.hold.withdraw("cancelled by the client", &self.shared.journal).await));
                }
                () = self.shared.server_done.cancelled() => {
                    let refusal = held.hold.abandon("the target's server closed the connection", &self.shared.journal).await;
                    self.shared.put_on_record(None, &refusal).await.map_err(End::NotJournaled)?;
                    return Err(self.shared.server_end());
                }
                () = self.shared.stop.cancelled() => {
                    let end = self.stopped();
                    let refusal = held.hold.abandon(&end.to_string(), &self.shared.journal).await;
                    self.shared.put_on_record(None, &refusal).await.map_err(End::NotJournaled)?;
                    return Err(end);
                }
                changed = policy.changed() => {
                    drop(changed);
                    if let Err(why) = self.shared.gate.still_holds(&held, &self.shared.target) {
                        return Ok(Err(held.hold.revoke(&why, &self.shared.journal).await));
                    }
                }
                _ = notices.tick() => {
                    self.notify(&held, std::mem::take(&mut first));
                }
                _ = quiet.tick() => {
                    if let Err(end) = self.shared.write_notes().await {
                        return Err(self.give_up(held, end).await);
                    }
                }
            }
        }
    }

    /// Acts on the decision. The recording store may have gone while people thought: what cannot be recorded is not run.
    async fn release(
        &mut self,
        held: Box<Held>,
        cancelled: &CancellationToken,
    ) -> Result<Result<Admitted, Refusal>, End> {
        if let Err(end) = self.shared.recorded().await {
            return Err(self.give_up(held, end).await);
        }
        if !self.stops_being_held(cancelled) {
            return Ok(Err(held
                .hold
                .withdraw("cancelled by the client", &self.shared.journal)
                .await));
        }
        let Shared {
            gate, target, journal, ..
        } = &*self.shared;
        Ok(gate.release(*held, target, journal).await)
    }

    /// Ends a hold together with its session. The first thing that went wrong is what the session ends with.
    async fn give_up(&self, held: Box<Held>, end: End) -> End {
        let refusal = held.hold.abandon(&end.to_string(), &self.shared.journal).await;
        if let Err(error) = self.shared.put_on_record(None, &refusal).await {
            tracing::error!(session = %self.shared.header.id, %error, "the end of a hold could not be journaled");
        }
        end
    }

    /// Tells the client that it waits. A client that does not read misses repetitions, nothing else.
    pub(super) fn notify(&self, held: &Held, first: bool) {
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
}

fn bound_without_execute() -> Refusal {
    Refusal::new(
        Cause::Denied,
        "countersign: this needs an approval, and its Execute does not come with its Bind",
    )
    .hint("Let the driver send Bind and Execute together (no cursor of the driver's own for this statement).")
}
