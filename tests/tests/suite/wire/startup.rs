//! The first bytes of a connection, well and badly meant.

use super::Ground;
use countersign_tests::raw::{GSSENC_REQUEST, Raw, SSL_REQUEST, frame, query, startup, startup_of, sync};
use countersign_tests::world::TARGET;
use std::time::Duration;

const V3: i32 = 3 << 16;
const ME: [(&str, &str); 2] = [("user", "carol"), ("database", TARGET)];

fn with(more: &[(&'static str, &'static str)]) -> Vec<u8> {
    startup(V3, &[&ME, more].concat())
}

/// Sends a startup packet inside TLS and gives what it is answered with.
async fn answer(ground: &Ground, packet: &[u8]) -> String {
    let mut raw = Raw::encrypted(&ground.world.gateway).await.unwrap();
    raw.send(packet).await.unwrap();
    match raw.next().await.unwrap() {
        Some(reply) => reply.to_string(),
        None => "closed".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn startup_packets_are_taken_or_refused_with_a_reason() {
    let ground = Ground::start().await;
    let (asked, refused) = ("R", "E 08P01");
    for (what, packet, expected) in [
        ("an ordinary one", with(&[]), asked),
        (
            "harmless settings",
            with(&[("DateStyle", "ISO"), ("extra_float_digits", "3")]),
            asked,
        ),
        ("protocol 3.2", startup(V3 + 2, &ME), "v"),
        ("protocol options", with(&[("_pq_.wish", "on")]), "v"),
        ("protocol 2.0", startup(2 << 16, &ME), refused),
        ("a second SSLRequest", SSL_REQUEST.to_vec(), refused),
        ("a GSSENCRequest inside TLS", GSSENC_REQUEST.to_vec(), refused),
        ("options", with(&[("options", "-c search_path=other")]), refused),
        ("search_path", with(&[("search_path", "other")]), refused),
        ("role", with(&[("role", "postgres")]), refused),
        ("replication", with(&[("replication", "true")]), refused),
        ("replication by word", with(&[("replication", "database")]), refused),
        ("another encoding", with(&[("client_encoding", "LATIN1")]), "E 22021"),
        ("no user", startup(V3, &[("database", TARGET)]), "E 3D000"),
        (
            "an empty user",
            startup(V3, &[("user", ""), ("database", TARGET)]),
            "E 3D000",
        ),
        ("no database", startup(V3, &[("user", "carol")]), "E 3D000"),
        (
            "a parameter without a value",
            startup_of(V3, b"user\0carol\0database\0\0"),
            refused,
        ),
        (
            "a parameter twice",
            startup_of(V3, b"user\0a\0user\0b\0database\0shop\0\0"),
            refused,
        ),
        ("no end", startup_of(V3, b"user\0carol\0database\0shop"), refused),
        (
            "bytes behind the end",
            startup_of(V3, b"user\0carol\0database\0shop\0\0more"),
            refused,
        ),
        ("a negative length", vec![0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0], refused),
        ("a huge length", vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0], refused),
        ("a length of seven", vec![0, 0, 0, 7, 0, 3, 0], refused),
    ] {
        let answer = answer(&ground, &packet).await;
        assert!(answer.starts_with(expected), "{what}: {answer}");
    }
    assert!(!ground.ear.heard("other"), "a refused setting reached the server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encryption_comes_first_and_nothing_is_taken_from_before_it() {
    let ground = Ground::start().await;
    let gateway = &ground.world.gateway;

    let mut plain = Raw::plain(gateway).await.unwrap();
    plain.send(&with(&[])).await.unwrap();
    let refused = plain.reply().await.unwrap();
    assert!(refused.to_string().contains("TLS is needed"), "{refused}");

    let mut gss = Raw::plain(gateway).await.unwrap();
    gss.send(&GSSENC_REQUEST).await.unwrap();
    assert_eq!(gss.byte().await.unwrap(), b'N');
    let mut gss = gss.negotiate(gateway).await.unwrap();
    gss.send(&with(&[])).await.unwrap();
    gss.sign_in(gateway, "carol").await.unwrap();
    assert_eq!(gss.query("select 1").await.unwrap(), ["C SELECT 1", "Z I"]);

    // CVE-2021-3935: what stands in the clear behind the request must not count as said inside TLS.
    let mut stuffed = Raw::plain(gateway).await.unwrap();
    stuffed
        .send(&[SSL_REQUEST.to_vec(), with(&[]), query("select 1")].concat())
        .await
        .unwrap();
    assert_eq!(stuffed.byte().await.unwrap(), b'S');
    assert!(
        stuffed.negotiate(gateway).await.is_err(),
        "bytes in the clear were dropped silently"
    );

    let mut direct = Raw::direct(gateway, &["postgresql"]).await.unwrap();
    direct.send(&with(&[])).await.unwrap();
    direct.sign_in(gateway, "carol").await.unwrap();
    for alpn in [&[][..], &["http/1.1"][..]] {
        let Ok(mut direct) = Raw::direct(gateway, alpn).await else {
            continue;
        };
        drop(direct.send(&with(&[])).await);
        assert_eq!(direct.next().await.unwrap(), None, "direct TLS with {alpn:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_protocol_is_negotiated_down_as_libpq_reads_it() {
    let ground = Ground::start().await;
    let mut raw = Raw::encrypted(&ground.world.gateway).await.unwrap();
    raw.send(&startup(V3 + 2, &[&ME[..], &[("_pq_.wish", "on")]].concat()))
        .await
        .unwrap();
    let told = raw.reply().await.unwrap();
    assert_eq!(
        (told.tag, &told.body[..]),
        (b'v', &b"\0\x03\0\0\0\0\0\x01_pq_.wish\0"[..])
    );
    raw.sign_in(&ground.world.gateway, "carol").await.unwrap();
    assert_eq!(raw.query("select 1").await.unwrap(), ["C SELECT 1", "Z I"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_clients_keep_nobody_out_and_are_dropped() {
    let ground = Ground::with(super::options("handshake_seconds_max = 3")).await;
    let gateway = &ground.world.gateway;
    let mut silent = Vec::new();
    for started in [&b""[..], b"\0", &SSL_REQUEST[..4]].into_iter().cycle().take(30) {
        let mut raw = Raw::plain(gateway).await.unwrap();
        raw.send(started).await.unwrap();
        silent.push(raw);
    }
    let mut shaken = Raw::plain(gateway).await.unwrap();
    shaken.send(&SSL_REQUEST).await.unwrap();
    silent.push(shaken);
    let mut raw = tokio::time::timeout(Duration::from_secs(2), ground.raw("carol"))
        .await
        .expect("a way in");
    assert_eq!(raw.query("select 1").await.unwrap(), ["C SELECT 1", "Z I"]);
    for mut raw in silent {
        while raw.byte().await.is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_none_end_the_session_with_a_reason() {
    let ground = Ground::start().await;
    let long = |tag: u8, length: u32| [&[tag][..], &length.to_be_bytes(), b"secret"].concat();
    for (what, bytes) in [
        ("a password after sign-in", frame(b'p', b"secret\0")),
        ("an unknown type", frame(b'z', b"secret")),
        ("a server's type", frame(b'Z', b"I")),
        ("a length of zero", long(b'Q', 0)),
        ("a length of three", long(b'Q', 3)),
        ("a length of 2 GB", long(b'Q', i32::MAX as u32)),
        ("a negative length", long(b'Q', u32::MAX)),
        ("a text without its end", frame(b'Q', b"select 'secret'")),
        (
            "a text with more behind its end",
            frame(b'Q', b"select 1\0 delete from secret\0"),
        ),
        (
            "a Bind that claims more values than it has",
            frame(b'B', b"\0\0\0\0\xff\xff\0\0\0\x06secret\0\0"),
        ),
        (
            "a value of negative length",
            frame(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xf0\0\0"),
        ),
        (
            "a long name beyond ASCII",
            countersign_tests::raw::parse(&"\u{e9}".repeat(40), "select 1"),
        ),
    ] {
        let mut raw = ground.raw("carol").await;
        raw.send(&bytes).await.unwrap();
        let words = raw.words().await.unwrap();
        assert!(
            words[0].starts_with("E 08P01") && words[1..] == ["closed"],
            "{what}: {words:?}"
        );
    }
    let mut cut = ground.raw("carol").await;
    cut.send(&query("delete from secret")[..9]).await.unwrap();
    drop(cut);
    assert!(!ground.ear.heard("secret"));
    let mut raw = ground.raw("carol").await;
    assert_eq!(raw.query("select 1").await.unwrap(), ["C SELECT 1", "Z I"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_messages_without_a_sync_are_answered() {
    let ground = Ground::start().await;
    let mut raw = ground.raw("carol").await;
    let before = memory_kb(&ground);
    let describe = countersign_tests::raw::about(b'D', b'S', "s");
    raw.send(&countersign_tests::raw::parse("s", "select 1")).await.unwrap();
    for _ in 0..100 {
        raw.send(&describe.repeat(1000)).await.unwrap();
    }
    raw.send(&sync()).await.unwrap();
    assert_eq!(raw.words().await.unwrap(), ["1", "Z I"]);
    assert!(memory_kb(&ground) < before + 64 * 1024, "memory grew beyond 64 MB");
}

fn memory_kb(ground: &Ground) -> u64 {
    let status = format!("/proc/{}/status", ground.world.gateway.pid().unwrap());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
