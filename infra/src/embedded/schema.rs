//! Opening the file: what is in it, whose version it is, and the steps from one version to the next.

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use std::path::Path;
use std::time::{Duration, Instant};

/// The steps from an empty file to the newest schema. A step that was released is never changed: add another.
const STEPS: [&str; 7] = [
    APPROVALS,
    JOURNAL,
    PEOPLE,
    GRANTS_AND_LINKS,
    ANNOUNCEMENTS,
    TICKETS,
    DIRECTORY,
];

const APPROVALS: &str = "
CREATE TABLE approvals (
    ordinal INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    lease_until INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX approvals_pending ON approvals (ordinal) WHERE state = 'pending';
CREATE INDEX approvals_leased ON approvals (lease_until) WHERE state IN ('pending', 'approved', 'executing');
CREATE TABLE feed (
    gateway TEXT NOT NULL,
    approval TEXT NOT NULL,
    PRIMARY KEY (gateway, approval)
) STRICT, WITHOUT ROWID;
";

// `body` is the truth. The other columns are what searches read: each is derived from it, and compared when read.
const JOURNAL: &str = "
CREATE TABLE journal (
    ordinal INTEGER PRIMARY KEY AUTOINCREMENT,
    session TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq >= 0),
    at INTEGER NOT NULL,
    event TEXT NOT NULL,
    person TEXT,
    subject TEXT,
    email TEXT,
    target TEXT,
    approval TEXT,
    words TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (session, seq)
) STRICT;
CREATE INDEX journal_at ON journal (at);
CREATE INDEX journal_person ON journal (person);
CREATE INDEX journal_subject ON journal (subject);
CREATE INDEX journal_target ON journal (target);
CREATE INDEX journal_email ON journal (email, session) WHERE email IS NOT NULL;
CREATE INDEX journal_approval ON journal (approval) WHERE approval IS NOT NULL;
CREATE TRIGGER journal_keeps_events BEFORE DELETE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_keeps_bytes BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
";

// Events are ordered by their time, and found by the keys of their persons; `people` says whom a word means. A row
// whose body is damaged gets no key, and is found to be damaged when it is read.
const PEOPLE: &str = "
CREATE TABLE people (
    word TEXT NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    PRIMARY KEY (word, issuer, subject)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    session TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq >= 0),
    at INTEGER NOT NULL,
    event TEXT NOT NULL,
    issuer TEXT,
    subject TEXT,
    target TEXT,
    approval TEXT,
    words TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (session, seq)
) STRICT;
INSERT INTO events
    SELECT session, seq, at, event,
        CASE WHEN json_valid(body) THEN json_extract(body, '$.person.issuer') END,
        CASE WHEN json_valid(body) THEN json_extract(body, '$.person.subject') END,
        target, approval, words, body
    FROM journal ORDER BY ordinal;
INSERT OR IGNORE INTO people
    SELECT DISTINCT said.word, events.issuer, events.subject
    FROM events JOIN (
        SELECT session, seq, person AS word FROM journal
        UNION ALL SELECT session, seq, subject FROM journal
        UNION ALL SELECT session, seq, email FROM journal
    ) AS said USING (session, seq)
    WHERE said.word <> '' AND events.issuer IS NOT NULL AND events.subject IS NOT NULL;
DROP TABLE journal;
ALTER TABLE events RENAME TO journal;
CREATE INDEX journal_at ON journal (at);
CREATE INDEX journal_person ON journal (subject, at);
CREATE INDEX journal_target ON journal (target, at);
CREATE INDEX journal_approval ON journal (approval, at) WHERE approval IS NOT NULL;
CREATE TRIGGER journal_keeps_events BEFORE DELETE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_keeps_bytes BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER people_keep_rows BEFORE DELETE ON people
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER people_keep_words BEFORE UPDATE ON people
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
";

// `record` is the truth; the other columns are what conditions read.
const GRANTS_AND_LINKS: &str = "
CREATE TABLE grants (
    id TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    version INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX grants_session ON grants (session, id);
CREATE TABLE chat_links (
    platform TEXT NOT NULL,
    team TEXT NOT NULL,
    user TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (platform, team, user)
) STRICT;
";

// `record` is the truth; `due` is what searches read.
const ANNOUNCEMENTS: &str = "
CREATE TABLE announcements (
    approval TEXT PRIMARY KEY,
    due INTEGER,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX announcements_due ON announcements (due) WHERE due IS NOT NULL;
";

// `record` is the truth; the other columns are what conditions read.
const TICKETS: &str = "
CREATE TABLE tickets (
    id TEXT PRIMARY KEY,
    expires INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX tickets_expires ON tickets (expires);
";

// `record` is the truth; the other columns are what conditions and searches read.
const DIRECTORY: &str = "
CREATE TABLE directory (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    mailbox TEXT,
    as_of INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT;
CREATE INDEX directory_mailbox ON directory (mailbox) WHERE mailbox IS NOT NULL;
";

/// How long SQLite itself waits for another process's lock. Below a call's deadline, so that the reason is told.
const LOCK_WAIT: Duration = Duration::from_secs(4);

/// Why the file could not be opened as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} was written by a newer version (its schema is {found}, this program knows {known}): use that one")]
    Newer { path: String, found: i64, known: i64 },
    #[error("{path} is not a Countersign store: {why}. Nothing was changed: choose another path")]
    Foreign { path: String, why: String },
    #[error("the store {path} cannot be opened: {source}")]
    Unavailable {
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Opens the file for writing, in WAL mode and with the newest schema.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    open_with(path, &STEPS)
}

/// Opens the file for reading. It has been opened for writing before, so its schema is the newest.
pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path)?;
    connection.execute_batch("PRAGMA query_only = ON")?;
    Ok(connection)
}

fn open_with(path: &Path, steps: &[&str]) -> Result<Connection, OpenError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| OpenError::Unavailable {
        path: path.display().to_string(),
        source,
    };
    make_private(path).map_err(|error| failed(error.into()))?;
    let foreign = |why: String| OpenError::Foreign {
        path: path.display().to_string(),
        why,
    };
    let mut connection = connect(path).map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => foreign("it is no SQLite file".to_owned()),
        _ => failed(error.into()),
    })?;
    let version = |connection: &Connection| match found_version(connection, steps.len()) {
        Ok(Found::Version(version)) => Ok(version),
        Ok(Found::Newer(found)) => Err(newer(path, found, steps)),
        Ok(Found::Foreign(why)) => Err(foreign(why)),
        Err(error) => Err(failed(error.into())),
    };
    // Looked at before anything of the file is changed, and again under the lock: two programs may start at once.
    version(&connection)?;
    make_wal(&connection).map_err(|error| failed(error.into()))?;
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(|error| failed(error.into()))?;
    let from = version(&transaction)?;
    climb(&transaction, from, steps).map_err(|error| failed(error.into()))?;
    transaction.commit().map_err(|error| failed(error.into()))?;
    Ok(connection)
}

enum Found {
    /// 0: the file is empty.
    Version(usize),
    Newer(i64),
    Foreign(String),
}

fn found_version(connection: &Connection, known: usize) -> rusqlite::Result<Found> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(Found::Version(0));
    }
    let ours = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'countersign_schema'";
    if connection.query_row(ours, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(Found::Foreign("it holds the tables of another program".to_owned()));
    }
    let version: Option<i64> = connection
        .query_row("SELECT version FROM countersign_schema", [], |row| row.get(0))
        .optional()?;
    match version.map(|version| (version, usize::try_from(version))) {
        Some((_, Ok(version))) if version <= known => Ok(Found::Version(version)),
        Some((version, _)) if version > 0 => Ok(Found::Newer(version)),
        Some(_) | None => Ok(Found::Foreign("its schema has no version".to_owned())),
    }
}

fn climb(connection: &Connection, from: usize, steps: &[&str]) -> rusqlite::Result<()> {
    if from == 0 {
        connection.execute_batch(
            "CREATE TABLE countersign_schema (version INTEGER NOT NULL) STRICT;
             INSERT INTO countersign_schema VALUES (0);",
        )?;
    }
    for step in steps.iter().skip(from) {
        connection.execute_batch(step)?;
    }
    let version = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    connection.execute("UPDATE countersign_schema SET version = ?", [version])?;
    Ok(())
}

fn newer(path: &Path, found: i64, steps: &[&str]) -> OpenError {
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    OpenError::Newer {
        path: path.display().to_string(),
        found,
        known,
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOCK_WAIT)?;
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;
         PRAGMA journal_size_limit = 67108864;",
    )?;
    Ok(connection)
}

/// Switches to WAL. SQLite does not wait for other processes here by itself.
fn make_wal(connection: &Connection) -> rusqlite::Result<()> {
    let until = Instant::now() + LOCK_WAIT;
    loop {
        let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
        match mode {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error),
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                let why = format!("its file system allows only journal mode {mode}, and WAL is needed");
                return Err(rusqlite::Error::ToSqlConversionFailure(why.into()));
            }
        }
    }
}

/// Makes the file, for this user only, where there is none. SQLite gives its side files the same mode.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{APPROVALS, OpenError, STEPS, open, open_with};
    use crate::domain::audit::{Chain, Event, Happening};
    use crate::domain::example::{alice, at, person, session};
    use crate::embedded::EmbeddedStore;
    use crate::journal::contract::story;
    use crate::journal::{Journal, JournalError, JournalQuery};
    use rusqlite::Connection;
    use std::path::{Path, PathBuf};

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        (directory, path)
    }

    fn schema(connection: &Connection) -> Vec<String> {
        let mut select = connection
            .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
            .unwrap();
        select
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }

    #[test]
    fn an_older_file_is_brought_up_to_date_and_keeps_its_rows() {
        let (_directory, path) = place();
        let old = open_with(&path, &[APPROVALS]).unwrap();
        old.execute("INSERT INTO feed VALUES ('gateway-1', 'K7Q2M4XA')", [])
            .unwrap();
        drop(old);
        let new = open(&path).unwrap();
        assert_eq!(
            new.query_row("SELECT approval FROM feed", [], |row| row.get::<_, String>(0))
                .unwrap(),
            "K7Q2M4XA"
        );
        let (_directory, path) = place();
        assert_eq!(schema(&new), schema(&open(&path).unwrap()));
    }

    /// Writes events as the version before did, which kept people's words in columns of the journal.
    fn write_as_before(old: &Connection, events: &[Event]) {
        let mut insert = old
            .prepare(
                "INSERT INTO journal (session, seq, at, event, person, subject, email, target, approval, words, body)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .unwrap();
        for event in events {
            let lower = |text: Option<&String>| text.map(|text| text.to_lowercase());
            let email = if let Happening::SessionOpened { header } = &event.what {
                header.person.email.as_ref()
            } else {
                None
            };
            let row = rusqlite::params![
                event.session.to_string(),
                i64::try_from(event.seq).unwrap(),
                event.at.timestamp_micros(),
                event.what.name(),
                lower(event.person_name.as_ref()),
                lower(event.person.as_ref().map(|key| &key.subject)),
                lower(email),
                event.target,
                event.what.approval().map(ToString::to_string),
                event.what.words().join("\n").to_lowercase(),
                serde_json::to_string(event).unwrap()
            ];
            insert.execute(row).unwrap();
        }
    }

    #[tokio::test]
    async fn events_of_an_older_file_are_found_by_their_people() {
        let (_directory, path) = place();
        let old = open_with(&path, &STEPS[..2]).unwrap();
        let mut ayse = person("Ayşe", &[]);
        ayse.key.subject = "Ü \"7\"\\".to_owned();
        let stories = [
            story(session(1), &ayse, "orders", "SELECT 'é'"),
            story(session(2), &alice(), "orders", "SELECT 2"),
            vec![
                Chain::new(session(3), "gateway-1", None, None)
                    .next(at(9), Happening::GatewaySent { what: "x".into() }),
            ],
        ];
        write_as_before(&old, &stories.concat());
        old.execute("DROP TRIGGER journal_keeps_bytes", []).unwrap();
        old.execute(
            "UPDATE journal SET body = '{' WHERE session = ? AND seq = 5",
            [session(2).to_string()],
        )
        .unwrap();
        drop(old);
        let store = EmbeddedStore::open(&path).unwrap();
        for who in ["ayşe", "ü \"7\"\\", "AYŞE@example.com"] {
            let query = JournalQuery {
                who: Some(who.to_owned()),
                ..JournalQuery::default()
            };
            let mut found = store.search(&query).await.unwrap().events;
            found.reverse();
            assert_eq!(found, stories[0], "{who}");
        }
        assert_eq!(store.session(session(3)).await.unwrap(), stories[2]);
        let damaged = store.session(session(2)).await;
        assert!(
            matches!(damaged, Err(JournalError::Damaged { seq: 5, .. })),
            "{damaged:?}"
        );
    }

    #[test]
    fn a_file_of_a_newer_version_is_refused_and_left_as_it_is() {
        let (_directory, path) = place();
        let newer = [&STEPS[..], &["CREATE TABLE later (x INTEGER) STRICT;"]].concat();
        drop(open_with(&path, &newer).unwrap());
        check_refused(
            &path,
            "was written by a newer version (its schema is 8, this program knows 7)",
        );
    }

    #[test]
    fn a_file_that_is_no_store_is_refused_and_left_as_it_is() {
        let (_directory, path) = place();
        std::fs::write(&path, "Dear diary, today I was no database. ".repeat(100)).unwrap();
        check_refused(&path, "is not a Countersign store: it is no SQLite file");
        let (_directory, path) = place();
        Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE diary (day TEXT)")
            .unwrap();
        check_refused(
            &path,
            "is not a Countersign store: it holds the tables of another program",
        );
    }

    fn check_refused(path: &Path, expected: &str) {
        let before = std::fs::read(path).unwrap();
        let told = open(path).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
        assert_eq!(std::fs::read(path).unwrap(), before);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told() {
        let (directory, _) = place();
        let refused = open(&directory.path().join("no/such/directory/store.db"));
        assert!(matches!(refused, Err(OpenError::Unavailable { .. })));
    }

    #[test]
    fn twenty_programs_may_make_the_file_at_once() {
        let (_directory, path) = place();
        let openers: Vec<_> = (0..20)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || open(&path).map(drop))
            })
            .collect();
        for opener in openers {
            opener.join().unwrap().unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_its_user_may_read_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, path) = place();
        let connection = open(&path).unwrap();
        for name in ["store.db", "store.db-wal", "store.db-shm"] {
            let mode = std::fs::metadata(path.with_file_name(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "of {name}");
        }
        drop(connection);
    }
}
