//! Ways to make the gateway judge one text and the server run another. None may work.

use super::Ground;
use countersign_tests::overhear::Heard;
use countersign_tests::raw::{about, bind, execute, extended, flush, frame, parse, query, sync};

/// Bytes that are sent in one write, and how many ReadyForQuery they bring.
type Round = (Vec<u8>, usize);

struct Row {
    what: &'static str,
    rounds: Vec<Round>,
    /// Stands in what came back.
    expected: &'static str,
}

fn row(what: &'static str, rounds: Vec<Round>, expected: &'static str) -> Row {
    Row { what, rounds, expected }
}

fn one(frames: &[Vec<u8>]) -> Round {
    (frames.concat(), 1)
}

const READ: &str = "select 1";
const CHANGE: &str = "delete from secret";
const DENIED: &str = "E 42501";

fn names() -> Vec<Row> {
    let long = "n".repeat(62);
    let (first, second) = (format!("{long}\u{e9}"), format!("{long}\u{e8}"));
    vec![
        row(
            "a Parse that fails leaves the old text",
            vec![
                one(&[parse("s", READ), sync()]),
                one(&[parse("s", "select from where"), sync()]),
                one(&[parse("s", CHANGE), sync()]),
                one(&[bind("", "s", &[]), execute("", 0), sync()]),
            ],
            "C SELECT 1",
        ),
        row(
            "Parse over an open name, pipelined with Bind",
            vec![
                one(&[parse("s", READ), sync()]),
                one(&[parse("s", CHANGE), bind("", "s", &[]), execute("", 0), sync()]),
            ],
            DENIED,
        ),
        row(
            "Close and Parse pipelined with Bind",
            vec![
                one(&[parse("s", READ), sync()]),
                one(&[
                    about(b'C', b'S', "s"),
                    parse("s", CHANGE),
                    bind("", "s", &[]),
                    execute("", 0),
                    sync(),
                ]),
            ],
            DENIED,
        ),
        row(
            "Parse of a change and nothing else",
            vec![one(&[parse("s", CHANGE), sync()])],
            DENIED,
        ),
        row(
            "Parse and Bind without Execute",
            vec![one(&[
                parse("", "insert into secret values (99)"),
                bind("", "", &[]),
                sync(),
            ])],
            DENIED,
        ),
        row(
            "SQL PREPARE, then the protocol's Bind of that name",
            vec![
                one(&[query("prepare s as delete from secret")]),
                one(&[bind("", "s", &[]), execute("", 0), sync()]),
            ],
            DENIED,
        ),
        row(
            "the protocol's Parse, then SQL EXECUTE of that name",
            vec![one(&[parse("s", CHANGE), flush(), query("execute s"), sync()])],
            DENIED,
        ),
        row(
            "PREPARE and EXECUTE in one string",
            vec![one(&[query("prepare s as delete from secret; execute s")])],
            DENIED,
        ),
        row(
            "DEALLOCATE ALL and another text under the name, in one batch",
            vec![
                one(&[parse("s", READ), sync()]),
                one(&[
                    extended("deallocate all", &[]),
                    parse("s", CHANGE),
                    bind("", "s", &[]),
                    execute("", 0),
                    sync(),
                ]),
            ],
            DENIED,
        ),
        row(
            "EXPLAIN ANALYZE EXECUTE",
            vec![one(&[query(
                "prepare s as delete from secret; explain analyze execute s",
            )])],
            DENIED,
        ),
        row(
            "a cursor over a change",
            vec![one(&[query(
                "begin; declare c cursor for delete from secret returning id; fetch c",
            )])],
            "E 42",
        ),
        row(
            "names that differ behind their 62nd byte",
            vec![
                one(&[parse(&first, READ), sync()]),
                one(&[about(b'C', b'S', &second), parse(&second, CHANGE), sync()]),
            ],
            "",
        ),
    ]
}

fn texts() -> Vec<Row> {
    let hidden = r"select '\'; delete from secret; --'";
    vec![
        row(
            "a change behind a read",
            vec![one(&[query("select 1; delete from secret")])],
            DENIED,
        ),
        row(
            "a change in a WITH",
            vec![one(&[query(
                "with x as (delete from secret returning 1) select * from x",
            )])],
            DENIED,
        ),
        row(
            "a Query behind an unsynced Execute",
            vec![one(&[extended(READ, &[]), query(CHANGE)])],
            DENIED,
        ),
        row(
            "standard_conforming_strings, set and used in one string",
            vec![one(&[query(&format!(
                "set standard_conforming_strings = off; {hidden}"
            ))])],
            "E ",
        ),
        row(
            "standard_conforming_strings, desynchronised by ROLLBACK",
            vec![
                one(&[query("begin")]),
                one(&[query("set standard_conforming_strings = off")]),
                one(&[query("rollback")]),
                one(&[query(hidden)]),
            ],
            DENIED,
        ),
        row(
            "a FunctionCall message",
            vec![one(&[frame(b'F', &[0, 0, 3, 0xe8, 0, 0, 0, 0, 0, 0])])],
            DENIED,
        ),
        row("COPY to a table", vec![one(&[query("copy secret from stdin")])], DENIED),
        row(
            "COPY to a table in the extended protocol",
            vec![one(&[extended("copy secret from stdin", &[]), sync()])],
            DENIED,
        ),
        row(
            "a Parse that is denied in the middle of a batch",
            vec![one(&[
                extended(READ, &[]),
                extended(CHANGE, &[]),
                extended(READ, &[]),
                sync(),
            ])],
            DENIED,
        ),
        row(
            "client_encoding, changed and used in one batch",
            vec![one(&[
                extended("set client_encoding = 'SJIS'", &[]),
                flush(),
                extended(
                    "select E'\u{3043}\\', (select id from secret for update limit 1) --'",
                    &[],
                ),
                sync(),
            ])],
            "E 22021",
        ),
        row(
            "client_encoding, changed by a function in a transaction",
            vec![
                one(&[query("begin")]),
                one(&[
                    extended("select set_config('client_encoding', 'SJIS', true)", &[]),
                    flush(),
                    extended(
                        "select E'\u{3043}\\', (select id from secret for update limit 1) --'",
                        &[],
                    ),
                    sync(),
                ]),
            ],
            "E 22021",
        ),
        row(
            "a Query behind a change of search_path in the same batch",
            vec![one(&[
                extended("set search_path = other, pg_catalog", &[]),
                query("select lower('x')"),
            ])],
            DENIED,
        ),
        row(
            "a portal bound before a change of search_path and executed behind it",
            vec![one(&[
                parse("a", "select lower('x')"),
                bind("a", "a", &[]),
                extended("set search_path = other, pg_catalog", &[]),
                execute("a", 0),
                sync(),
            ])],
            DENIED,
        ),
        row(
            "a value of a declared type that is not the server's own",
            vec![one(&[
                frame(b'P', b"\0select $1\0\0\x01\0\0\x4e\x20"),
                bind("", "", &["1"]),
                execute("", 0),
                sync(),
            ])],
            DENIED,
        ),
        row(
            "a lock that is not allowed",
            vec![one(&[query("select * from secret for update")])],
            DENIED,
        ),
        row("DO", vec![one(&[query("do 'begin delete from secret; end'")])], DENIED),
        row(
            "a function that writes",
            vec![one(&[query("select bump(), 'secret'")])],
            DENIED,
        ),
        row(
            "the role of a superuser",
            vec![one(&[query("set role postgres; delete from secret")])],
            DENIED,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_denied_reaches_the_server_whatever_it_hides_behind() {
    let ground = Ground::start().await;
    let mut wrong = Vec::new();
    for Row { what, rounds, expected } in names().into_iter().chain(texts()) {
        let mut raw = ground.raw("carol").await;
        let mut words = Vec::new();
        for (bytes, ready) in rounds {
            raw.send(&bytes).await.unwrap();
            words.clear();
            for _ in 0..ready {
                words.extend(
                    raw.words()
                        .await
                        .unwrap_or_else(|error| panic!("{what}: {error:#}, after {words:?}")),
                );
            }
        }
        let words = words.join(", ");
        if !words.contains(expected) {
            wrong.push(format!("{what}: {words}"));
        }
        // SQL's PREPARE only parses: its text may pass, and nothing else of it.
        let ran = |heard: &Heard| heard.body.contains("secret") && !heard.body.starts_with("prepare ");
        if let Some(heard) = ground.ear.newest().into_iter().find(ran) {
            wrong.push(format!("{what}: it reached the server: {heard:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    ground.untouched("after all").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_names_the_search_path_that_is_in_force_when_it_runs() {
    let ground = Ground::start().await;
    let mut raw = ground.raw("alice").await;
    let rolled_back = [
        extended("set search_path = other", &[]),
        flush(),
        extended("select 1/0", &[]),
        sync(),
    ];
    raw.send_all(&rolled_back).await.unwrap();
    let words = raw.words().await.unwrap().join(", ");
    assert!(words.contains("E 22012"), "{words}");
    raw.send(&query("delete from t where id = 7")).await.unwrap();
    let number = ground.world.waiting().await.unwrap().number;
    let shown = ground
        .world
        .json("bob", &["approvals", "show", &number, "--json"])
        .unwrap();
    let path = shown.to_string();
    assert!(path.contains("$user") && !path.contains("\"other\""), "{path}");
    ground.world.approve("bob", &number).unwrap();
    let words = raw.words().await.unwrap().join(", ");
    assert!(words.contains("C DELETE 1"), "{words}");
}
