//! How an operation ended, gathered from the server's messages.

use super::Running;
use countersign_infra::domain::approval::Outcome;

/// Longest text of command tags that an outcome keeps.
const SUMMARY_BYTES_MAX: usize = 400;
/// The outcome of what the server did not look at.
pub(super) const SKIPPED: &str = "not run: the server skipped it after an error";

/// What has been heard of the operation that runs.
#[derive(Debug, Default)]
pub(super) struct Tally {
    tags: String,
    rows: Option<u64>,
    pub(super) error: Option<String>,
}

impl Tally {
    /// Counts a CommandComplete; other tags count nothing.
    pub(super) fn count(&mut self, tag: u8, body: &[u8]) {
        if tag != b'C' {
            return;
        }
        let text = body.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        if self.tags.len() + text.len() < SUMMARY_BYTES_MAX {
            if !self.tags.is_empty() {
                self.tags.push_str("; ");
            }
            self.tags.push_str(&text);
        }
        if let Some(rows) = text.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok()) {
            self.rows = Some(self.rows.unwrap_or(0).saturating_add(rows));
        }
    }

    /// The outcome of the operation, and a fresh tally.
    pub(super) fn outcome<T>(&mut self, running: &Running<T>) -> Outcome {
        let tally = std::mem::take(self);
        Outcome {
            ok: tally.error.is_none(),
            summary: tally.error.unwrap_or(tally.tags),
            rows: tally.rows,
            duration_ms: elapsed(running),
        }
    }
}

/// The outcome of an operation that the server did not look at.
pub(super) fn skipped<T>(running: &Running<T>) -> Outcome {
    Outcome {
        ok: false,
        summary: SKIPPED.to_owned(),
        rows: None,
        duration_ms: elapsed(running),
    }
}

fn elapsed<T>(running: &Running<T>) -> u64 {
    u64::try_from(running.started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// `SQLSTATE: message` of an ErrorResponse.
pub(super) fn error_summary(body: &[u8]) -> String {
    let field = |code: u8| {
        let found = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&code));
        String::from_utf8_lossy(found.and_then(|field| field.get(1..)).unwrap_or_default()).into_owned()
    };
    let mut summary = format!("{}: {}", field(b'C'), field(b'M'));
    if let Some((end, _)) = summary.char_indices().nth(SUMMARY_BYTES_MAX) {
        summary.truncate(end);
    }
    summary
}
