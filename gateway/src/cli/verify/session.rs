//! The proof of one session: its journal and its recording are as the gateway wrote them.

use crate::cli::recording::{Found, Recording, Source, damage, witness};
use chrono::Utc;
use countersign_infra::domain::audit::{Event, verify_chain};
use countersign_infra::domain::id::SessionId;
use countersign_infra::journal::Retention;
use countersign_infra::recordings::chain::{Anchor, Broken};
use countersign_infra::recordings::proof::{Report, Verifier, Witness};
use serde::Serialize;

#[derive(Debug, thiserror::Error)]
#[error("there is neither a journal nor a recording of session {0}")]
pub struct UnknownSession(SessionId);

/// The journal kept it as long as it was to, and then no longer.
#[derive(Debug, thiserror::Error)]
#[error("session {0} cannot be verified any more: the journal keeps {1} days")]
pub struct GoneSession(SessionId, i64);

/// What was found.
#[derive(Debug, Serialize)]
pub struct Finding {
    session: SessionId,
    pub verified: bool,
    /// The first thing that is not as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    events: usize,
    closed: bool,
    pub chunks: u64,
    anchors: usize,
    /// None while the session lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    interrupted: Option<bool>,
    /// The keys that signed it, with commas between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The keys came from the caller, not from the place that holds the recording.
    own_key: bool,
    #[serde(skip)]
    pub text: String,
}

/// What digests say of a session.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub anchors: Vec<Anchor>,
    /// A digest says that it was over.
    pub closed: bool,
    /// The last digest that names it says that it lived on: whatever was recorded of it, it is in the journal.
    pub open: bool,
}

impl Said {
    /// Whether something of the session must be there.
    pub fn has_begun(&self) -> bool {
        self.open || self.anchors.iter().any(|anchor| anchor.chunks > 0)
    }
}

/// Checks a session against its journal and against what digests say of it. The error is [`UnknownSession`] when there
/// is nothing of it, and [`GoneSession`] when its time is over.
pub async fn examine(source: &Source, session: SessionId, said: &Said) -> anyhow::Result<Finding> {
    let mut finding = Finding::nothing_yet(session);
    let checked = check_all(source, session, said, &mut finding).await;
    let broken = match checked {
        Ok(Ok(())) => None,
        Ok(Err(broken)) => Some(broken),
        Err(error) => Some(
            damage(&error)
                .map(|damage| format!("the journal: {damage}"))
                .ok_or(error)?,
        ),
    };
    finding.verified = broken.is_none();
    finding.broken = broken;
    Ok(finding)
}

/// The inner error is the first break.
async fn check_all(
    source: &Source,
    session: SessionId,
    said: &Said,
    finding: &mut Finding,
) -> anyhow::Result<Result<(), String>> {
    let Found { events, recording } = source.session(session).await?;
    let events = events?;
    finding.events = events.len();
    if events.is_empty() && recording.is_none() && !said.has_begun() {
        anyhow::bail!(UnknownSession(session));
    }
    if events.is_empty()
        && let Some(retention) = retention(source, session).await
    {
        anyhow::bail!(GoneSession(session, retention.days()));
    }
    if events.is_empty() && recording.is_none() {
        return Ok(Err(
            "neither its journal nor its recording is there, but the gateway's digest names it".to_owned(),
        ));
    }
    let mut witness = match check_journal(session, &events) {
        Ok(witness) => witness,
        Err(broken) => return Ok(Err(broken)),
    };
    witness.digests.clone_from(&said.anchors);
    finding.closed = witness.closed.is_some();
    finding.text = journal_text(&events, &witness);
    let Some(recording) = recording else {
        return Ok(finding.without_recording(&witness));
    };
    let report = match check_recording(source, session, &recording, witness).await? {
        Ok(report) => report,
        Err(broken) => return Ok(Err(format!("the recording: {broken}"))),
    };
    finding.take(&report, &recording);
    Ok(check_end(&report, said))
}

/// The retention of the journal, where it explains that a session is not there. One's own session may be verified without
/// the right to ask for it: then nothing is explained.
async fn retention(source: &Source, session: SessionId) -> Option<Retention> {
    let now = Utc::now();
    let retention = source.retention(now.date_naive()).await.ok().flatten();
    retention.filter(|retention| retention.is_over(session, now))
}

/// Whether the recording, the journal and the digests agree that the session is over.
fn check_end(report: &Report, said: &Said) -> Result<(), String> {
    if report.manifest.is_some() && !report.closed {
        let why = "the journal: the recording was finished, but the journal has no end of this session: its last \
                   events are missing, or the gateway died just then";
        return Err(why.to_owned());
    }
    if said.closed && report.manifest.is_none() {
        return Err(
            "the recording: its manifest is missing, and the gateway's digest says that it was closed".to_owned(),
        );
    }
    let last = said.anchors.iter().map(|anchor| anchor.chunks).max();
    match last.filter(|last| said.closed && *last != report.chain.chunks) {
        Some(last) => Err(format!(
            "the recording: it has {} chunks, but the gateway's digest says that it ended with {last}",
            report.chain.chunks
        )),
        None => Ok(()),
    }
}

fn check_journal(session: SessionId, events: &[Event]) -> Result<Witness, String> {
    verify_chain(events).map_err(|broken| format!("the journal: {broken}"))?;
    match events.first() {
        Some(first) if first.session == session => Ok(witness(events)),
        Some(first) => Err(format!(
            "the journal: it has the events of session {} there",
            first.session
        )),
        None => Err("the journal: it has no event of this session, but there is a recording".to_owned()),
    }
}

async fn check_recording(
    source: &Source,
    session: SessionId,
    recording: &Recording,
    witness: Witness,
) -> anyhow::Result<Result<Report, Broken>> {
    let mut verifier = match Verifier::new(session, &recording.keys, witness) {
        Ok(verifier) => verifier,
        Err(broken) => return Ok(Err(broken)),
    };
    for number in 0..recording.chunks {
        let Some(chunk) = source.chunk(session, number).await? else {
            let (chunks, expected, witness) = (number, recording.chunks, "the store's own list");
            return Ok(Err(Broken::Missing {
                chunks,
                expected,
                witness,
            }));
        };
        if let Err(broken) = verifier.chunk(&chunk) {
            return Ok(Err(broken));
        }
    }
    Ok(verifier.finish(recording.manifest.as_deref()))
}

fn journal_text(events: &[Event], witness: &Witness) -> String {
    let end = match witness.closed {
        Some(_) => "the last one closes the session",
        None => "the session is still open there: whether events are missing at the end is not proved",
    };
    format!(
        "journal of session {}\n  events    {}, numbered without a gap, each with the SHA-256 of the one before; {end}\n",
        events
            .first()
            .map(|event| event.session.to_string())
            .unwrap_or_default(),
        events.len(),
    )
}

impl Finding {
    fn nothing_yet(session: SessionId) -> Self {
        Self {
            session,
            verified: false,
            broken: None,
            events: 0,
            closed: false,
            chunks: 0,
            anchors: 0,
            interrupted: None,
            key: None,
            own_key: false,
            text: String::new(),
        }
    }

    fn take(&mut self, report: &Report, recording: &Recording) {
        self.chunks = report.chain.chunks;
        self.anchors = report.anchors;
        self.interrupted = report.manifest.as_ref().map(|manifest| manifest.interrupted);
        self.key = Some(report.keys.to_string());
        self.own_key = recording.is_own_key;
        self.text.push_str(&format!("{report}\n"));
        if !recording.is_own_key {
            self.text.push_str(
                "The public key came from the same place as the recording: give your own copy of it with --key to be \
                 sure.\n",
            );
        }
        self.text.push_str("VERIFIED\n");
    }

    /// There is none: right only if the journal knows of none either.
    fn without_recording(&mut self, witness: &Witness) -> Result<(), String> {
        let journaled = witness.anchors.iter().chain(&witness.closed);
        let journaled = journaled.map(|anchor| (anchor.chunks, "the journal"));
        let said = witness
            .digests
            .iter()
            .map(|anchor| (anchor.chunks, "the gateway's digest"));
        match said.chain(journaled).max() {
            Some((chunks @ 1.., who)) => Err(format!(
                "the recording: it is missing, and {who} knows of {chunks} chunks"
            )),
            Some((0, _)) | None => {
                self.text
                    .push_str("There is no recording, and the journal knows of none.\nVERIFIED\n");
                Ok(())
            }
        }
    }
}
