//! `countersign verify`: proves that a session's journal and recording are as the gateway wrote them.

use super::recording::{Recording, Source, SourceArgs, damage, witness};
use super::terminal::{complain, print, print_json};
use countersign_infra::domain::audit::{Event, verify_chain};
use countersign_infra::domain::display::escape;
use countersign_infra::domain::id::SessionId;
use countersign_infra::recordings::chain::Broken;
use countersign_infra::recordings::proof::{Report, Verifier, Witness};
use serde::Serialize;
use std::process::ExitCode;

/// Proves that the journal and the recording of a session are untouched, or names the first thing that is not.
///
/// Exit code 0: untouched. 1: changed, or a part is missing.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The session's id.
    session: SessionId,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, thiserror::Error)]
#[error("there is neither a journal nor a recording of session {0}")]
struct UnknownSession(SessionId);

/// What was found.
#[derive(Debug, Serialize)]
struct Finding {
    session: SessionId,
    verified: bool,
    /// The first thing that is not as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
    events: usize,
    closed: bool,
    chunks: u64,
    anchors: usize,
    /// None while the session lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    interrupted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The key came from the caller, not from the place that holds the recording.
    own_key: bool,
    #[serde(skip)]
    text: String,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let source = args.source.open()?;
    let finding = match examine(&source, args.session).await {
        Err(error) if error.is::<UnknownSession>() => {
            complain(&error.to_string());
            return Ok(ExitCode::from(1));
        }
        examined => examined?,
    };
    if args.json {
        print_json(&finding)?;
    } else if let Some(broken) = &finding.broken {
        print(&format!("BROKEN: {}\n", escape(broken)))?;
    } else {
        print(&finding.text)?;
    }
    Ok(if finding.verified {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

async fn examine(source: &Source, session: SessionId) -> anyhow::Result<Finding> {
    let mut finding = Finding::nothing_yet(session);
    let checked = check_all(source, session, &mut finding).await;
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
async fn check_all(source: &Source, session: SessionId, finding: &mut Finding) -> anyhow::Result<Result<(), String>> {
    let recording = source.recording(session).await?;
    let events = source.events(session).await?;
    finding.events = events.len();
    if events.is_empty() && recording.is_none() {
        anyhow::bail!(UnknownSession(session));
    }
    let witness = match check_journal(session, &events) {
        Ok(witness) => witness,
        Err(broken) => return Ok(Err(broken)),
    };
    finding.closed = witness.closed.is_some();
    finding.text = journal_text(&events, &witness);
    let Some(recording) = recording else {
        return Ok(finding.without_recording(&witness));
    };
    let report = check_recording(source, session, &recording, witness).await?;
    Ok(report
        .map_err(|broken| format!("the recording: {broken}"))
        .and_then(|report| {
            finding.take(&report, &recording);
            match report.manifest {
                Some(_) if !report.closed => Err(
                    "the journal: the recording was finished, but the journal has no end of \
                                              this session: its last events are missing, or the gateway died just then"
                        .to_owned(),
                ),
                Some(_) | None => Ok(()),
            }
        }))
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
    let mut verifier = match Verifier::new(session, &recording.key, witness) {
        Ok(verifier) => verifier,
        Err(broken) => return Ok(Err(broken)),
    };
    for number in 0..recording.chunks {
        let chunk = source.chunk(session, number).await?;
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
        let known = witness
            .anchors
            .iter()
            .chain(&witness.closed)
            .map(|anchor| anchor.chunks)
            .max();
        match known {
            Some(chunks @ 1..) => Err(format!(
                "the recording: it is missing, and the journal knows of {chunks} chunks"
            )),
            Some(0) | None => {
                self.text
                    .push_str("There is no recording, and the journal knows of none.\nVERIFIED\n");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Direction, Spool};
    use countersign_infra::domain::access_request::{Client, Protocol};
    use countersign_infra::domain::audit::{Chain, Happening};
    use countersign_infra::domain::id::RunId;
    use countersign_infra::domain::identity::{Person, PersonKey, PersonKind};
    use countersign_infra::domain::session::{SessionHeader, SessionNumber};
    use countersign_infra::embedded::EmbeddedStore;
    use countersign_infra::journal::Journal;
    use countersign_infra::recordings::disk::DiskRecordings;
    use countersign_infra::recordings::key::SigningKey;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    /// A gateway's data with one recorded session.
    struct Data {
        dir: tempfile::TempDir,
        session: SessionId,
    }

    impl Data {
        /// `closed`: the journal has the session's end.
        async fn new(closed: bool) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let key = Arc::new(SigningKey::load_or_create(&dir.path().join("keys")).unwrap());
            let store = Arc::new(DiskRecordings::under(dir.path()));
            let wait = Duration::from_secs(20);
            let spool = Spool::open(&dir.path().join("spool"), 1 << 30, store, key, wait).unwrap();
            let header = header();
            let mut recorder = spool.open_session(&header).unwrap();
            recorder
                .record(Direction::ClientToGateway, &[b"a question"])
                .await
                .unwrap();
            let anchor = recorder.finish("the client left").await.unwrap();

            let mut chain = Chain::new(header.id, "g1", Some(&header.person), Some("orders".to_owned()));
            let (chunks, last, session) = (anchor.chunks, anchor.last, header.id);
            let why = "the client left".to_owned();
            let mut events = vec![
                chain.next(chrono::Utc::now(), Happening::SessionOpened { header }),
                chain.next(chrono::Utc::now(), Happening::RecordingAnchor { chunks, last }),
            ];
            if closed {
                events.push(chain.next(chrono::Utc::now(), Happening::SessionClosed { why, chunks, last }));
            }
            let journal = EmbeddedStore::open(dir.path().join("countersign.db")).unwrap();
            journal.append(&events).await.unwrap();
            Self { dir, session }
        }

        async fn examine(&self, key: Option<PathBuf>) -> Finding {
            let source = Source::disk(self.dir.path(), key).unwrap();
            examine(&source, self.session).await.unwrap()
        }

        async fn broken(&self) -> String {
            self.examine(None).await.broken.unwrap()
        }

        fn recording(&self) -> PathBuf {
            DiskRecordings::under(self.dir.path()).directory(self.session)
        }
    }

    fn header() -> SessionHeader {
        SessionHeader {
            id: SessionId(uuid::Uuid::now_v7()),
            gateway: "g1".to_owned(),
            number: SessionNumber {
                run: RunId(uuid::Uuid::now_v7()),
                number: 0,
            },
            protocol: Protocol::Postgres,
            person: Person {
                key: PersonKey {
                    issuer: "https://issuer.example".to_owned(),
                    subject: "alice".to_owned(),
                },
                name: "alice".to_owned(),
                email: None,
                groups: Default::default(),
                kind: PersonKind::Human,
            },
            client: Client {
                address: "127.0.0.1:5000".to_owned(),
                application: "psql".to_owned(),
            },
            target: "orders".to_owned(),
            database: "shop".to_owned(),
            role: "app".to_owned(),
            opened: chrono::Utc::now(),
        }
    }

    #[tokio::test]
    async fn an_untouched_session_verifies_and_says_whose_key_was_used() {
        let data = Data::new(true).await;
        let finding = data.examine(None).await;
        assert_eq!(finding.broken, None);
        assert!(finding.verified && finding.closed && !finding.own_key);
        assert_eq!((finding.events, finding.chunks, finding.anchors), (3, 1, 2));
        assert!(finding.text.ends_with("VERIFIED\n"), "{}", finding.text);
        assert!(
            finding.text.contains("give your own copy of it with --key"),
            "{}",
            finding.text
        );
        let own = data.dir.path().join("keys/recording.pub.pem");
        assert!(data.examine(Some(own)).await.own_key);
    }

    #[tokio::test]
    async fn a_changed_byte_of_the_chunk_or_the_manifest_or_a_missing_file_is_named() {
        let data = Data::new(true).await;
        for name in ["0.chunk", "manifest"] {
            let path = data.recording().join(name);
            let whole = std::fs::read(&path).unwrap();
            let mut changed = whole.clone();
            changed[whole.len() / 2] ^= 1;
            std::fs::write(&path, changed).unwrap();
            let broken = data.broken().await;
            assert!(broken.starts_with("the recording: "), "{broken}");
            std::fs::remove_file(&path).unwrap();
            let broken = data.broken().await;
            assert!(broken.contains("missing"), "{broken}");
            std::fs::write(&path, whole).unwrap();
        }
        assert_eq!(data.examine(None).await.broken, None);
        std::fs::remove_dir_all(data.recording()).unwrap();
        assert!(data.broken().await.contains("the journal knows of 1 chunks"));
    }

    #[tokio::test]
    async fn a_changed_byte_of_the_journal_is_named() {
        let data = Data::new(true).await;
        let path = data.dir.path().join("countersign.db");
        // The store's threads end after its last handle; then all of it is in the one file.
        while path.with_extension("db-wal").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (mut changed, needle) = (0, b"127.0.0.1:5000");
        let mut bytes = std::fs::read(&path).unwrap();
        let places = bytes.windows(needle.len()).enumerate();
        let places = places.filter(|(_, window)| window == needle).map(|(place, _)| place);
        for place in places.collect::<Vec<_>>() {
            bytes[place] ^= 1;
            changed += 1;
        }
        std::fs::write(&path, bytes).unwrap();
        assert!(changed > 0);
        let broken = data.broken().await;
        assert!(broken.starts_with("the journal: "), "{broken}");
    }

    #[tokio::test]
    async fn a_journal_that_was_cut_off_before_the_sessions_end_is_named() {
        let data = Data::new(false).await;
        assert!(data.broken().await.contains("its last events are missing"));
    }

    #[tokio::test]
    async fn a_recording_without_a_journal_is_named_and_an_unknown_session_is_an_error() {
        let data = Data::new(true).await;
        let (source, other) = (
            Source::disk(data.dir.path(), None).unwrap(),
            SessionId(uuid::Uuid::now_v7()),
        );
        std::fs::rename(
            data.recording(),
            DiskRecordings::under(data.dir.path()).directory(other),
        )
        .unwrap();
        let broken = examine(&source, other).await.unwrap().broken.unwrap();
        assert!(broken.contains("it has no event of this session"), "{broken}");
        let error = examine(&source, SessionId(uuid::Uuid::now_v7())).await.unwrap_err();
        assert!(error.is::<UnknownSession>(), "{error}");
    }

    #[tokio::test]
    async fn another_key_does_not_verify() {
        let data = Data::new(true).await;
        let other = data.dir.path().join("other.pem");
        std::fs::write(&other, SigningKey::generate().unwrap().public_pem()).unwrap();
        let broken = data.examine(Some(other)).await.broken.unwrap();
        assert!(broken.contains("names the key"), "{broken}");
    }
}
