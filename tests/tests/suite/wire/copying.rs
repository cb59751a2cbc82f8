//! COPY FROM STDIN: data follows an admitted COPY, and nothing else.

use super::Ground;
use countersign_tests::raw::{bind, execute, extended, flush, frame, parse, query, sync};

const COPY: &str = "copy t from stdin";

fn data(text: &str) -> Vec<u8> {
    frame(b'd', text.as_bytes())
}

fn done() -> Vec<u8> {
    frame(b'c', b"")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_without_an_admitted_copy_goes_nowhere() {
    let ground = Ground::start().await;
    for (what, bytes, expected) in [
        (
            "data and nothing else",
            [data("99\tsecret\n"), done(), query("select 1")].concat(),
            "C SELECT 1",
        ),
        (
            "a denied COPY and its data",
            [query(COPY), data("99\tsecret\n"), done()].concat(),
            "E 42501",
        ),
        (
            "a denied COPY in the extended protocol and its data",
            [extended(COPY, &[]), data("99\tsecret\n"), done(), sync()].concat(),
            "E 42501",
        ),
        (
            "data inside a batch",
            [parse("", "select 1"), data("99\tsecret\n"), sync()].concat(),
            "1",
        ),
    ] {
        let mut raw = ground.raw("carol").await;
        raw.send(&bytes).await.unwrap();
        let words = raw.words().await.unwrap();
        assert!(words[0].starts_with(expected), "{what}: {words:?}");
        assert_eq!(raw.query("select 1").await.unwrap(), ["C SELECT 1", "Z I"], "{what}");
    }
    assert!(!ground.ear.heard("secret"));
    ground.untouched("refused").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_copy_takes_its_data_after_the_approval() {
    let ground = Ground::start().await;
    let mut raw = ground.raw("alice").await;
    raw.send_all(&[query(COPY), data("100\thidden\n"), done()])
        .await
        .unwrap();
    let number = ground.world.waiting().await.unwrap().number;
    assert!(!ground.ear.heard("hidden") && !ground.ear.heard(COPY));
    ground.world.approve("bob", &number).unwrap();
    assert_eq!(raw.words().await.unwrap(), ["G", "C COPY 1", "Z I"]);
    ground.world.becomes(&number, "done").await.unwrap();
    assert_eq!(ground.world.count("select count(*) from t").await.unwrap(), 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_end_as_they_do_without_a_gateway() {
    let ground = Ground::start().await;
    let (good, bad) = (data("100\tnew\n"), data("not a number\tnew\n"));
    for (what, rounds, rows) in [
        (
            "simple",
            vec![(query(COPY), b'G'), ([good.clone(), done()].concat(), b'Z')],
            11,
        ),
        (
            "failed by the client",
            vec![
                (query(COPY), b'G'),
                ([good.clone(), frame(b'f', b"enough\0")].concat(), b'Z'),
            ],
            10,
        ),
        (
            "failed by the server",
            vec![
                (query(COPY), b'G'),
                ([bad.clone(), good.clone(), done()].concat(), b'Z'),
            ],
            10,
        ),
        (
            "failed before its data",
            vec![([query("copy nowhere from stdin"), good.clone(), done()].concat(), b'Z')],
            10,
        ),
        (
            "data at once",
            vec![([query(COPY), good.clone(), done()].concat(), b'Z')],
            11,
        ),
        (
            "extended, with a Sync before the data as libpq does it",
            vec![
                ([extended(COPY, &[]), sync()].concat(), b'G'),
                ([good.clone(), done(), sync()].concat(), b'Z'),
            ],
            11,
        ),
        (
            "extended, all at once",
            vec![([extended(COPY, &[]), good.clone(), done(), sync()].concat(), b'Z')],
            11,
        ),
        (
            "extended, failing in the middle",
            vec![
                ([extended(COPY, &[]), flush()].concat(), b'G'),
                ([bad.clone(), done(), sync()].concat(), b'Z'),
            ],
            10,
        ),
        (
            "bound in one batch, run in the next",
            vec![
                ([parse("", COPY), bind("", "", &[]), flush()].concat(), b'2'),
                ([execute("", 0), flush()].concat(), b'G'),
                ([good.clone(), done(), sync()].concat(), b'Z'),
            ],
            11,
        ),
    ] {
        let mut raw = ground.raw("dave").await;
        for (bytes, tag) in rounds {
            raw.send(&bytes).await.unwrap();
            raw.until(tag).await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        }
        assert_eq!(
            ground.world.count("select count(*) from t").await.unwrap(),
            rows,
            "{what}"
        );
        let words = raw.query("delete from t where id = 100").await.unwrap();
        assert_eq!(words, [format!("C DELETE {}", rows - 10), "Z I".to_owned()], "{what}");
    }
}
