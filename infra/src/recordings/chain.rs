//! The chain of a recording's chunks, and the manifest that closes it.

use crate::domain::id::Digest;

/// How many chunks a recording has so far, and the SHA-256 of the last of them. Written to the journal, so that a
/// tail that was cut off shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub chunks: u64,
    /// [`Digest::ZERO`] when there is none yet.
    pub last: Digest,
}

impl Anchor {
    /// The anchor of a recording without chunks.
    pub const START: Self = Self {
        chunks: 0,
        last: Digest::ZERO,
    };
}
