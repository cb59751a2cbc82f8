//! The command line as the API's client: what people read, what programs read, and the exit codes.

use super::room::Room;
use countersign_gateway::console::{ServeLimits, serve};
use countersign_infra::domain::id::ApprovalId;
use countersign_tests::harness::countersign;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A room whose API listens, and the program that speaks with it.
pub struct Desk {
    pub room: Room,
    url: String,
    _stop: DropGuard,
}

pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}{}", self.out, self.err))
    }
}

impl Desk {
    pub async fn new() -> Self {
        let room = Room::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let serving = serve(
            listener,
            None,
            room.router.clone(),
            ServeLimits::default(),
            stop.clone(),
        );
        tokio::spawn(serving);
        Self {
            room,
            url,
            _stop: stop.drop_guard(),
        }
    }

    pub async fn run(&self, name: &str, arguments: &[&str]) -> Said {
        let environment = [
            ("COUNTERSIGN_URL", self.url.clone()),
            ("COUNTERSIGN_TOKEN", self.room.token(name)),
        ];
        run(arguments, &environment).await
    }
}

async fn run(arguments: &[&str], environment: &[(&str, String)]) -> Said {
    let output = tokio::process::Command::new(countersign().unwrap())
        .args(arguments)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn holds(said: &Said, words: &[&str]) {
    for word in words {
        assert!(
            said.out.contains(word),
            "{word:?} is missing in:\n{}{}",
            said.out,
            said.err
        );
    }
}

#[tokio::test]
async fn an_approval_is_listed_shown_and_approved() {
    let desk = Desk::new().await;
    let empty = desk.run("bob", &["approvals", "list"]).await;
    assert_eq!((empty.code, empty.out.as_str()), (0, "Nothing waits for a decision.\n"));
    let id = desk.room.held([1; 5]).await.id;
    let list = desk.run("bob", &["approvals", "list"]).await;
    holds(
        &list,
        &[
            "NUMBER",
            id.as_str(),
            "alice",
            "orders",
            "write orders",
            "0/1",
            "DELETE FROM orders WHERE id = 7",
        ],
    );
    let show = desk.run("bob", &["approvals", "show", id.as_str()]).await;
    let digest = desk.room.stored(&id).await.operation.digest.to_string();
    holds(
        &show,
        &[
            "alice <alice@example.com>",
            "waits for votes",
            "writes-need-a-dba: 1 of dba",
            "left)",
            &digest,
        ],
    );
    holds(
        &show,
        &[
            "DELETE FROM orders WHERE id = 7",
            "Writes to orders need a DBA.",
            "127.0.0.1:50000 (psql)",
        ],
    );
    let approve = desk
        .run(
            "bob",
            &[
                "approvals",
                "approve",
                &id.as_str().to_lowercase(),
                "--reason",
                "ticket 12",
            ],
        )
        .await;
    assert_eq!(approve.code, 0, "{}", approve.err);
    holds(&approve, &["approved at", "1 of 1: bob"]);
    let show = desk.run("bob", &["approvals", "show", id.as_str()]).await;
    holds(&show, &["bob approve (cli): ticket 12"]);
    let list = desk.run("bob", &["approvals", "list", "--all"]).await;
    holds(&list, &["approved", "1/1"]);
}

#[tokio::test]
async fn what_a_program_reads_is_what_the_api_says() {
    let desk = Desk::new().await;
    let id = desk.room.held([1; 5]).await.id;
    let list = desk.run("bob", &["approvals", "list", "--json"]).await.json();
    assert_eq!(list["approvals"][0]["id"], id.as_str());
    let show = desk
        .run("bob", &["approvals", "show", id.as_str(), "--json"])
        .await
        .json();
    let api = desk.room.get("bob", &format!("/api/v1/approvals/{id}")).await.json();
    assert_eq!(show["operation"], api["operation"]);
    let deny = desk
        .run("bob", &["approvals", "deny", id.as_str(), "--reason", "no", "--json"])
        .await
        .json();
    assert_eq!((&deny["state"], &deny["reason"]), (&json!("denied"), &json!("no")));
    let audit = desk
        .run("oscar", &["audit", "--event", "decided", "--json"])
        .await
        .json();
    assert_eq!(audit["events"][0]["approval"], id.as_str());
}

#[tokio::test]
async fn each_way_to_fail_has_its_exit_code_and_says_what_to_do() {
    let desk = Desk::new().await;
    let id = desk.room.held([1; 5]).await.id;
    let number = id.as_str();
    let absent = ApprovalId::from_random([9; 5]);
    for (name, arguments, code, says) in [
        (
            "alice",
            vec!["approvals", "approve", number],
            1,
            "you asked for this yourself",
        ),
        ("eve", vec!["approvals", "show", number], 1, "there is no approval"),
        (
            "bob",
            vec!["approvals", "deny", absent.as_str()],
            1,
            "there is no approval",
        ),
        (
            "bob",
            vec!["approvals", "withdraw", number],
            4,
            "only the one who asked",
        ),
        ("alice", vec!["audit"], 4, "does not let you read the audit"),
        (
            "oscar",
            vec!["audit", "--since", "yesterday"],
            2,
            "write a length of time",
        ),
        ("oscar", vec!["audit", "--event", "deleted"], 2, "there is no"),
        (
            "bob",
            vec!["approvals", "approve", number, "--reason", "two\nlines"],
            2,
            "one plain line",
        ),
        ("bob", vec!["approvals", "show", "12"], 2, "8 letters"),
        ("bob", vec!["approvals"], 2, "Usage"),
        ("alice", vec!["env", "nowhere"], 2, "there are: orders"),
        (
            "alice",
            vec!["sessions", "end", "01890a5d-ac96-774b-bcce-b302099a8057"],
            1,
            "no session",
        ),
        ("alice", vec!["--url", "x"], 2, "Usage"),
    ] {
        let said = desk.run(name, &arguments).await;
        assert_eq!(said.code, code, "{arguments:?}: {}{}", said.out, said.err);
        assert!(said.err.contains(says), "{arguments:?}: {}", said.err);
        assert_eq!(said.out, "", "{arguments:?}");
    }
    assert_eq!(desk.room.stored(&id).await.votes.len(), 0);
}

#[tokio::test]
async fn a_gateway_that_cannot_be_reached_or_asked_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let token = ("COUNTERSIGN_TOKEN", "t".to_owned());
    let url = |url: &str| ("COUNTERSIGN_URL", url.to_owned());
    let desk = Desk::new().await;
    for (environment, code, says) in [
        (vec![], 2, "set COUNTERSIGN_URL"),
        (vec![url(&dead)], 4, "COUNTERSIGN_TOKEN"),
        (vec![url(&dead), token.clone()], 3, "does not answer"),
        (vec![url("https://127.0.0.1:1"), token.clone()], 3, "does not answer"),
        (
            vec![url("http://gateway.example.com"), token.clone()],
            2,
            "in the clear",
        ),
        (vec![url("gateway"), token.clone()], 2, "URL"),
        (vec![url(&desk.url), token.clone()], 4, "your token is refused"),
        (
            vec![url(&desk.url), ("COUNTERSIGN_TOKEN", "a\nb".to_owned())],
            2,
            "no token has",
        ),
        (vec![url(&desk.room.issuer.name()), token.clone()], 3, "not understood"),
        (
            vec![url(&desk.url), ("COUNTERSIGN_TOKEN_FILE", "/nonexistent".to_owned())],
            2,
            "cannot be read",
        ),
        (
            vec![url(&desk.url), token, ("COUNTERSIGN_CA", "/dev/null".to_owned())],
            2,
            "no PEM",
        ),
    ] {
        let said = run(&["approvals", "list"], &environment).await;
        assert_eq!(said.code, code, "{environment:?}: {}", said.err);
        assert!(said.err.contains(says), "{environment:?}: {}", said.err);
    }
}

#[tokio::test]
async fn what_others_chose_never_reaches_the_terminal_as_it_is() {
    let desk = Desk::new().await;
    let evil = "\u{1b}]0;owned\u{7}\u{202e}evil\r\n\u{1b}[2J";
    let id = desk.room.held_with([1; 5], "alice", |new| {
        new.operation.display = format!("SELECT '{evil}'");
        new.client.application = evil.to_owned();
        new.place.search_path = evil.to_owned();
        new.place.target = evil.to_owned();
        new.terms.reasons = vec![evil.to_owned()];
    });
    let id = id.await.id;
    for arguments in [vec!["approvals", "list"], vec!["approvals", "show", id.as_str()]] {
        let said = desk.run("bob", &arguments).await;
        assert_eq!(said.code, 0, "{}", said.err);
        let bad = |letter: &char| (letter.is_control() && *letter != '\n') || *letter == '\u{202e}';
        assert_eq!(said.out.chars().find(bad), None, "{:?}", said.out);
        holds(&said, &["\\u{1b}"]);
    }
}

#[tokio::test]
async fn the_audit_reads_as_who_did_what_where_and_when() {
    let desk = Desk::new().await;
    let (session, _, _guard) = desk.room.session("alice").await;
    let id = desk.room.held([1; 5]).await.id;
    desk.run("bob", &["approvals", "deny", id.as_str(), "--reason", "not today"])
        .await;
    desk.run("alice", &["approvals", "approve", id.as_str()]).await;
    let audit = desk.run("oscar", &["audit", "--since", "1h"]).await;
    assert_eq!(audit.code, 0, "{}", audit.err);
    holds(
        &audit,
        &[
            "alice",
            "bob",
            "oscar",
            "orders",
            "session_opened",
            "127.0.0.1:50000 (psql)",
        ],
    );
    holds(
        &audit,
        &[
            &format!("{id} deny: not today"),
            &format!("{id} approve (does not count: "),
        ],
    );
    let short = &session.id.to_string()[24..];
    holds(&audit, &[&format!("{short}/0")]);
    let page = desk.run("oscar", &["audit", "--limit", "1"]).await;
    holds(&page, &["More: --after "]);
    let after = page.out.lines().last().unwrap().trim_start_matches("More: --after ");
    let next = desk.run("oscar", &["audit", "--limit", "1", "--after", after]).await;
    assert_eq!(next.code, 0, "{}", next.err);
    assert_ne!(next.out.lines().next(), page.out.lines().next());
    let none = desk.run("oscar", &["audit", "--who", "nobody"]).await;
    assert_eq!((none.code, none.out.as_str()), (0, "Nothing was found.\n"));
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let desk = Desk::new().await;
    let (session, token, _guard) = desk.room.session("alice").await;
    let id = session.id.to_string();
    for arguments in [
        vec!["sessions"],
        vec!["sessions", "list"],
        vec!["sessions", "--all", "--since", "1h"],
    ] {
        let list = desk.run("alice", &arguments).await;
        assert_eq!(list.code, 0, "{arguments:?} {}", list.err);
        holds(&list, &[&id, "orders/shop", "idle"]);
    }
    let json = desk.run("alice", &["sessions", "--json"]).await.json();
    assert_eq!(json["sessions"][0]["id"], json!(id));
    assert_eq!(desk.run("eve", &["sessions"]).await.out, "No sessions.\n");
    let end = desk.run("alice", &["sessions", "end", &id]).await;
    assert_eq!(end.code, 0, "{}", end.err);
    assert!(token.is_cancelled());
}

#[tokio::test]
async fn env_prints_what_a_shell_can_take_in_and_the_token_only_when_asked() {
    let desk = Desk::new().await;
    let plain = desk.run("alice", &["env", "orders"]).await;
    let wanted = "export PGHOST='gateway.example.com'\nexport PGPORT='6432'\nexport PGDATABASE='orders'\n\
                  export PGUSER='alice'\nexport PGSSLMODE='verify-full'\n";
    assert_eq!((plain.code, plain.out.as_str()), (0, wanted));
    let other = desk.run("alice", &["env", "orders", "--database", "it's"]).await;
    holds(&other, &[r"export PGDATABASE='orders/it'\''s'"]);
    let environment = [
        ("COUNTERSIGN_URL", desk.url.clone()),
        ("COUNTERSIGN_TOKEN", desk.room.token("alice")),
    ];
    let full = run(&["env", "orders", "--with-token"], &environment).await;
    holds(&full, &[&format!("export PGPASSWORD='{}'\n", environment[1].1)]);
    let read = tokio::process::Command::new("sh")
        .args(["-c", "eval \"$1\" && printf %s \"$PGDATABASE\"", "sh", &other.out])
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8(read.stdout).unwrap(), "orders/it's");
}

#[tokio::test]
async fn a_key_of_operations_is_made_once_and_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys/operations.key");
    let command = ["keys", "operations", file.to_str().unwrap()];
    let made = run(&command, &[]).await;
    assert_eq!(made.code, 0);
    holds(&made, &["Give every gateway of the store this file"]);
    let key = std::fs::read(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = run(&command, &[]).await;
    assert_eq!(again.code, 2);
    assert!(again.err.contains("operations.key is there already"), "{}", again.err);
    assert_eq!(std::fs::read(&file).unwrap(), key);
}

#[tokio::test]
async fn the_exit_codes_stand_in_the_help() {
    let help = run(&["--help"], &[]).await;
    assert_eq!(help.code, 0);
    holds(
        &help,
        &["Exit codes:", "3  the gateway does not answer", "COUNTERSIGN_TOKEN"],
    );
    for command in [
        "gateway",
        "check",
        "policy",
        "effects",
        "approvals",
        "audit",
        "sessions",
        "recordings",
        "replay",
        "verify",
        "env",
        "keys",
    ] {
        assert_eq!(run(&[command, "--help"], &[]).await.code, 0, "{command}");
    }
}
