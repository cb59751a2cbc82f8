//! The room that recordings have on the local disk: one bound for all spools that a gateway has to do with.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Counts the bytes of a gateway's own spool, of those it adopted, and of those beside them that nobody has adopted yet.
///
/// Each living gateway counts all that dead ones left, so a directory that gateways share holds at most the bound for
/// each gateway that lives.
pub(super) struct Room {
    pub bytes_max: u64,
    bytes: AtomicU64,
    /// In spools of the dead that nobody has.
    beside: AtomicU64,
    /// Told when there is more room.
    pub space: Notify,
}

impl Room {
    pub fn new(bytes_max: u64, beside: u64) -> Self {
        Self {
            bytes_max,
            bytes: AtomicU64::new(0),
            beside: AtomicU64::new(beside),
            space: Notify::new(),
        }
    }

    /// Takes room for bytes that are about to be written; false when there is none.
    pub fn reserve(&self, count: u64) -> bool {
        let beside = self.beside.load(Ordering::Relaxed);
        let taken = self.bytes.try_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
            let sum = bytes.checked_add(count)?;
            sum.checked_add(beside)
                .filter(|all| *all <= self.bytes_max)
                .and(Some(sum))
        });
        taken.is_ok()
    }

    /// Counts bytes that lie there already, or are written without asking for room.
    pub fn add(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }

    /// Gives room back.
    pub fn release(&self, count: u64) {
        self.bytes.fetch_sub(count, Ordering::Relaxed);
        self.space.notify_waiters();
    }

    /// Says what lies in spools of the dead that nobody has.
    pub fn set_beside(&self, bytes: u64) {
        self.beside.store(bytes, Ordering::Relaxed);
        self.space.notify_waiters();
    }

    /// All that is counted.
    pub fn bytes(&self) -> u64 {
        let beside = self.beside.load(Ordering::Relaxed);
        self.bytes.load(Ordering::Relaxed).saturating_add(beside)
    }
}
