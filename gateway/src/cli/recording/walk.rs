//! Reads a recording chunk by chunk and checks it on the way. What fails its check is shown too, with a warning.

use super::{Found, Recording, Source, witness};
use crate::cli::terminal::complain;
use countersign_infra::domain::id::SessionId;
use countersign_infra::recordings::format::{Envelope, Frame};
use countersign_infra::recordings::proof::{Report, Verifier};

/// A recording that is being read.
pub struct Walk<'s> {
    source: &'s Source,
    session: SessionId,
    recording: Recording,
    /// None once something failed its check.
    verifier: Option<Verifier>,
    next: u64,
    is_sound: bool,
}

impl<'s> Walk<'s> {
    /// None when there is no recording.
    pub async fn begin(source: &'s Source, session: SessionId) -> anyhow::Result<Option<Self>> {
        let Found { events, recording } = source.session(session).await?;
        let Some(recording) = recording else { return Ok(None) };
        let mut walk = Self {
            source,
            session,
            recording,
            verifier: None,
            next: 0,
            is_sound: true,
        };
        let events = events.unwrap_or_else(|error| {
            walk.warn(&format!("the journal cannot be compared: {error:#}"));
            Vec::new()
        });
        match Verifier::new(session, &walk.recording.keys, witness(&events)) {
            Ok(verifier) => walk.verifier = Some(verifier),
            Err(broken) => walk.warn(&broken.to_string()),
        }
        Ok(Some(walk))
    }

    /// The frames of the next chunk; none after the last.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<Frame>>> {
        if self.next >= self.recording.chunks {
            return Ok(None);
        }
        let number = self.next;
        self.next += 1;
        let Some(chunk) = self.source.chunk(self.session, number).await? else {
            self.verifier = None;
            self.warn(&format!("chunk {number} is missing"));
            return Ok(Some(Vec::new()));
        };
        match self.verifier.as_mut().map(|verifier| verifier.chunk(&chunk)) {
            Some(Ok(frames)) => Ok(Some(frames)),
            Some(Err(broken)) => {
                self.warn(&broken.to_string());
                self.verifier = None;
                Ok(Some(unchecked(&chunk)))
            }
            None => Ok(Some(unchecked(&chunk))),
        }
    }

    /// What the whole recording comes to; none, after a warning, when it is not proved.
    pub fn end(mut self) -> Option<Report> {
        let checked = self
            .verifier
            .take()
            .map(|verifier| verifier.finish(self.recording.manifest.as_deref()));
        match checked {
            Some(Ok(report)) if self.is_sound => return Some(report),
            Some(Err(broken)) => self.warn(&broken.to_string()),
            Some(Ok(_)) | None => {}
        }
        None
    }

    fn warn(&mut self, what: &str) {
        self.is_sound = false;
        complain(&format!(
            "WARNING: THIS RECORDING IS NOT PROVED TO BE WHAT WAS RECORDED: {what}"
        ));
    }
}

/// The frames of a chunk that failed its check; none when it cannot even be read.
fn unchecked(chunk: &[u8]) -> Vec<Frame> {
    Envelope::parse(chunk)
        .and_then(|envelope| envelope.frames())
        .unwrap_or_default()
}
