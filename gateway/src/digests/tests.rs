use super::*;
use countersign_infra::domain::audit::Event;
use countersign_infra::domain::example;
use countersign_infra::domain::session::{SessionHeader, SessionNumber};
use countersign_infra::embedded::EmbeddedStore;
use countersign_infra::journal::JournalQuery;
use countersign_infra::recordings::chain::Anchor;
use countersign_infra::recordings::disk::DiskRecordings;
use countersign_infra::recordings::flaky::{Flaky, Mood};
use countersign_infra::recordings::key::Keyring;
use std::collections::BTreeSet;

/// The stores of a gateway, and the place of its runs.
struct House {
    dir: tempfile::TempDir,
    key: Arc<SigningKey>,
    keys: Keyring,
    recordings: Arc<Flaky<DiskRecordings>>,
    journal: EmbeddedStore,
}

fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let key = Arc::new(SigningKey::generate().unwrap());
    House {
        keys: key.public().clone().into(),
        key,
        recordings: Arc::new(Flaky::new(DiskRecordings::under(dir.path()))),
        journal: EmbeddedStore::open(dir.path().join("countersign.db")).unwrap(),
        dir,
    }
}

impl House {
    async fn begin(&self) -> (Digests, SessionRegistry) {
        self.begin_as("g1", self.key.clone()).await
    }

    async fn begin_as(&self, gateway: &str, key: Arc<SigningKey>) -> (Digests, SessionRegistry) {
        let sessions = SessionRegistry::default();
        let means = Means {
            gateway: gateway.to_owned(),
            key,
            recordings: self.recordings.clone(),
            journal: Arc::new(self.journal.clone()),
            directory: self.dir.path().join("runs"),
        };
        (Digests::begin(means, sessions.clone()).await.unwrap(), sessions)
    }

    /// All digests, in the order of their numbers.
    async fn digests(&self) -> Vec<RunDigest> {
        let mut found = Vec::new();
        let today = Utc::now().date_naive();
        for day in [today - TimeDelta::days(1), today, today + TimeDelta::days(1)] {
            for name in self.recordings.digests(day).await.unwrap() {
                let bytes = self.recordings.read_digest(day, &name).await.unwrap();
                let digest = RunDigest::read(&bytes, &self.keys).unwrap();
                assert_eq!(digest.place(), (day, name.parse().unwrap()));
                found.push((digest, Digest::of(&bytes)));
            }
        }
        found.sort_by_key(|(digest, _)| (digest.run, digest.number));
        let signed = |event: &Event| {
            let Happening::DigestSigned { sha256, .. } = event.what else {
                panic!("{event:?}");
            };
            sha256
        };
        let journaled: BTreeSet<_> = self.journaled().await.iter().map(signed).collect();
        assert_eq!(journaled, found.iter().map(|(_, sha256)| *sha256).collect());
        found.into_iter().map(|(digest, _)| digest).collect()
    }

    async fn journaled(&self) -> Vec<Event> {
        let query = JournalQuery {
            events: vec!["digest_signed".to_owned()],
            ..JournalQuery::default()
        };
        self.journal.search(&query).await.unwrap().events
    }

    /// Journals the beginning of a session, and its anchors; the last one closes it if `closed`.
    async fn journal(&self, header: &SessionHeader, anchors: &[Anchor], closed: bool) {
        let mut chain = Chain::new(header.id, "g1", Some(&header.person), None);
        let now = Utc::now();
        let mut events = vec![chain.next(now, Happening::SessionOpened { header: header.clone() })];
        for (index, Anchor { chunks, last }) in anchors.iter().copied().enumerate() {
            let why = String::new();
            let what = match closed && index + 1 == anchors.len() {
                true => Happening::SessionClosed { why, chunks, last },
                false => Happening::RecordingAnchor { chunks, last },
            };
            events.push(chain.next(now, what));
        }
        self.journal.append(&events).await.unwrap();
    }

    fn run_files(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("runs")).map_or(0, Iterator::count)
    }
}

fn header(number: impl FnOnce(SessionId) -> SessionNumber) -> SessionHeader {
    let id = SessionId(uuid::Uuid::now_v7());
    SessionHeader {
        gateway: "g1".to_owned(),
        number: number(id),
        opened: Utc::now(),
        ..example::header(id, example::alice())
    }
}

fn anchor(chunks: u64) -> Anchor {
    let last = Digest::of(&chunks.to_be_bytes());
    Anchor { chunks, last }
}

fn said(digest: &RunDigest) -> Vec<(u64, u64, bool)> {
    let lines = digest.sessions.iter();
    lines.map(|line| (line.number, line.chunks, line.closed)).collect()
}

/// Settles what died before this, as after the wait.
async fn settle_the_dead(digests: &Digests) {
    let now = Instant::now();
    digests.settle_the_dead(now).await.unwrap();
    digests.settle_the_dead(now + DEAD_FOR).await.unwrap();
}

fn live(sessions: &SessionRegistry) -> crate::sessions::SessionGuard {
    sessions.register(&header(|id| sessions.number(id)), CancellationToken::new())
}

#[tokio::test]
async fn an_hour_without_sessions_asks_nothing_of_the_store_or_the_journal() {
    let house = house();
    house.recordings.feel(Mood::Down);
    let (digests, sessions) = house.begin().await;
    digests.sign(Utc::now(), false).await.unwrap();
    settle_the_dead(&digests).await;
    digests.sign(Utc::now(), true).await.unwrap();
    assert_eq!(house.recordings.failures(), 0);
    assert!(house.journaled().await.is_empty() && sessions.lines().is_empty());
    assert_eq!(house.run_files(), 0, "a run without sessions leaves nothing behind");
}

#[tokio::test]
async fn each_hour_names_its_sessions_and_the_last_digest_ends_the_run() {
    let house = house();
    let (digests, sessions) = house.begin().await;
    let (one, two) = (live(&sessions), live(&sessions));
    one.anchored(anchor(2));
    two.closed(anchor(5));
    drop(two);
    let number = sessions.number(SessionId(uuid::Uuid::now_v7()));
    sessions.give_up(number);
    let now = Utc::now();
    digests.sign(now, false).await.unwrap();
    digests.sign(now, false).await.unwrap();
    one.closed(anchor(3));
    drop(one);
    digests.sign(now, false).await.unwrap();
    digests.sign(now, false).await.unwrap();
    digests.sign(now, true).await.unwrap();
    let found = house.digests().await;
    let lines: Vec<_> = found.iter().map(said).collect();
    let quiet = vec![(0, 2, false)];
    let first = vec![(0, 2, false), (1, 5, true), (2, 0, true)];
    assert_eq!(lines, [first, quiet, vec![(0, 3, true)], vec![]]);
    assert_eq!(
        found.iter().map(|digest| digest.ends).collect::<Vec<_>>(),
        [false, false, false, true]
    );
    assert!(found.iter().all(|digest| !digest.interrupted));
    assert_eq!(house.run_files(), 0);
    digests.sign(now, true).await.unwrap();
    assert_eq!(house.digests().await.len(), 4, "nothing follows the end");
}

#[tokio::test]
async fn more_sessions_than_one_digest_takes_go_into_several() {
    let house = house();
    let (digests, sessions) = house.begin().await;
    for _ in 0..LINES_MAX + 10 {
        let number = sessions.number(SessionId(uuid::Uuid::now_v7()));
        sessions.give_up(number);
    }
    digests.sign(Utc::now(), false).await.unwrap();
    let found = house.digests().await;
    let spans: Vec<_> = found.iter().map(|digest| (digest.first, digest.next)).collect();
    let middle = LINES_MAX as u64;
    assert_eq!(spans, [(0, middle), (middle, middle + 10)]);
    assert!(sessions.lines().is_empty());
}

#[tokio::test]
async fn a_digest_that_did_not_arrive_is_sent_again_before_the_next() {
    let house = house();
    let (digests, sessions) = house.begin().await;
    let one = live(&sessions);
    one.closed(anchor(1));
    house.recordings.feel(Mood::Down);
    digests.sign(Utc::now(), false).await.unwrap_err();
    digests.sign(Utc::now(), false).await.unwrap_err();
    house.recordings.feel(Mood::EveryOther);
    let two = live(&sessions);
    two.closed(anchor(1));
    let mut tries = 0;
    while digests.sign(Utc::now(), false).await.is_err() {
        tries += 1;
        assert!(tries < 10);
    }
    house.recordings.feel(Mood::Well);
    let lines: Vec<_> = house.digests().await.iter().map(said).collect();
    assert_eq!(lines, [vec![(0, 1, true)], vec![(1, 1, true)]]);
}

#[tokio::test]
async fn the_last_digest_of_a_run_that_was_killed_is_made_of_the_journal() {
    let house = house();
    let (digests, sessions) = house.begin().await;
    let old = header(|id| sessions.number(id));
    let guard = sessions.register(&old, CancellationToken::new());
    guard.anchored(anchor(1));
    house.journal(&old, &[anchor(1), anchor(4)], true).await;
    digests.sign(Utc::now(), false).await.unwrap();
    let new = header(|id| sessions.number(id));
    house.journal(&new, &[anchor(2)], false).await;
    // Number 2 was given, and nothing of its session was journaled.
    sessions.number(SessionId(uuid::Uuid::now_v7()));
    let last = header(|id| sessions.number(id));
    house.journal(&last, &[], false).await;
    drop(digests);

    let (next, _) = house.begin().await;
    settle_the_dead(&next).await;
    settle_the_dead(&next).await;
    let found = house.digests().await;
    assert_eq!(found.len(), 2);
    assert!(found[1].interrupted && found[1].ends && !found[0].ends);
    let expected = [(0, 4, true), (1, 2, false), (2, 0, true), (3, 0, true)];
    assert_eq!(said(&found[1]), expected);
    assert_eq!(found[1].sessions[3].session, last.id);
    let events = house.journal.session(last.id).await.unwrap();
    let closed = |event: &Event| matches!(event.what, Happening::SessionClosed { chunks: 0, .. });
    assert_eq!(events.iter().filter(|event| closed(event)).count(), 1, "{events:?}");
    assert_eq!(house.run_files(), 2, "only those of the run that lives");
}

#[tokio::test]
async fn a_session_that_a_digest_named_and_the_journal_never_had_is_said_to_have_never_begun() {
    let house = house();
    let (digests, sessions) = house.begin().await;
    sessions.number(SessionId(uuid::Uuid::now_v7()));
    digests.sign(Utc::now(), false).await.unwrap();
    drop(digests);
    let (next, _) = house.begin().await;
    settle_the_dead(&next).await;
    let lines: Vec<_> = house.digests().await.iter().map(said).collect();
    assert_eq!(lines, [vec![(0, 0, false)], vec![(0, 0, true)]]);
}

#[tokio::test]
async fn a_digest_that_was_on_its_way_when_the_gateway_was_killed_arrives_once() {
    let house = house();
    let (digests, sessions) = house.begin().await;
    let guard = live(&sessions);
    guard.closed(anchor(1));
    house.recordings.feel(Mood::Down);
    digests.sign(Utc::now(), true).await.unwrap_err();
    drop(digests);
    house.recordings.feel(Mood::Well);
    let (next, _) = house.begin().await;
    settle_the_dead(&next).await;
    let found = house.digests().await;
    assert_eq!(found.len(), 1);
    assert!(found[0].ends && !found[0].interrupted);
}

#[tokio::test]
async fn a_gateway_that_shares_the_directory_signs_for_one_that_is_gone() {
    let mut house = house();
    let (digests, sessions) = house.begin().await;
    let header = header(|id| sessions.number(id));
    house.journal(&header, &[anchor(2)], true).await;
    drop(digests);
    let other = Arc::new(SigningKey::generate().unwrap());
    house.keys.add(other.public().clone());
    let (neighbour, _) = house.begin_as("g2", other.clone()).await;
    settle_the_dead(&neighbour).await;
    let found = house.digests().await;
    assert_eq!((found.len(), said(&found[0])), (1, vec![(0, 2, true)]));
    assert_eq!((found[0].gateway.as_str(), found[0].key()), ("g1", other.key_id()));
    assert!(found[0].interrupted && found[0].ends);
}

#[tokio::test]
async fn a_last_digest_is_made_a_minute_after_the_run_was_found_dead_because_it_is_never_made_again() {
    let house = house();
    let (digests, sessions) = house.begin().await;
    let header = header(|id| sessions.number(id));
    drop(digests);
    let (next, _) = house.begin().await;
    let now = Instant::now();
    next.settle_the_dead(now).await.unwrap();
    next.settle_the_dead(now + DEAD_FOR / 2).await.unwrap();
    assert!(house.digests().await.is_empty());
    // What an index of the journal did not show yet.
    house.journal(&header, &[anchor(1)], true).await;
    next.settle_the_dead(now + DEAD_FOR).await.unwrap();
    let lines: Vec<_> = house.digests().await.iter().map(said).collect();
    assert_eq!(lines, [vec![(0, 1, true)]]);
}

#[tokio::test]
async fn a_run_that_lives_is_not_taken_for_dead() {
    let house = house();
    let (alive, sessions) = house.begin().await;
    let guard = live(&sessions);
    let (other, _) = house.begin().await;
    settle_the_dead(&other).await;
    assert!(house.digests().await.is_empty());
    drop(guard);
    alive.sign(Utc::now(), true).await.unwrap();
    assert_eq!(house.digests().await.len(), 1);
}

#[tokio::test]
async fn a_lock_that_was_left_when_a_run_was_settled_is_removed() {
    let house = house();
    let (digests, _) = house.begin().await;
    let left = |age: u64| {
        let run = RunId(uuid::Uuid::now_v7());
        let path = house.dir.path().join("runs").join(format!("{run}.lock"));
        let lock = std::fs::File::create(&path).unwrap();
        let modified = std::time::SystemTime::now() - Duration::from_secs(age);
        lock.set_modified(modified).unwrap();
        path
    };
    let (old, new) = (left(120), left(0));
    settle_the_dead(&digests).await;
    assert!(!old.exists());
    assert!(new.exists(), "that of a run that begins");
}

#[test]
fn digests_are_due_a_little_after_the_full_hour() {
    for (now, seconds) in [
        ("2026-03-10T12:00:00Z", 3600),
        ("2026-03-10T12:59:59Z", 1),
        ("2026-03-10T23:30:00Z", 1800),
    ] {
        let wait = until_due(now.parse().unwrap(), Duration::from_secs(7));
        assert_eq!(wait, Duration::from_secs(seconds + 7), "{now}");
    }
    for _ in 0..100 {
        assert!(jitter(RunId(uuid::Uuid::now_v7())) < Duration::from_secs(JITTER_SECONDS_MAX));
    }
}
