use super::*;
use crate::domain::example::{at, session, start};
use uuid::Uuid;

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn line(number: u64, closed: bool) -> SessionLine {
    SessionLine {
        number,
        session: session(u128::from(number) + 1),
        chunks: 3,
        last: Digest::of(b"three"),
        closed,
    }
}

fn draft(second: i64, sessions: Vec<SessionLine>) -> Draft {
    Draft {
        to: at(second),
        sessions,
        ends: false,
        interrupted: false,
    }
}

fn begin() -> RunChain {
    RunChain::begin("gateway-1", RunId(Uuid::from_u128(77)), start())
}

/// Three digests of one run: a session goes on through two of them.
fn run(key: &SigningKey) -> Vec<SignedDigest> {
    let mut chain = begin();
    let mut all = Vec::new();
    for draft in [
        draft(3600, vec![line(0, true), line(1, false)]),
        draft(7200, vec![line(1, false), line(2, true)]),
        Draft {
            ends: true,
            ..draft(8000, vec![line(1, true)])
        },
    ] {
        let signed = chain.sign(draft, key).unwrap();
        chain.follow(&signed.digest, signed.sha256).unwrap();
        all.push(signed);
    }
    assert!(chain.ended && chain.open.is_empty());
    all
}

#[test]
fn a_digest_is_read_back_and_names_its_place() {
    let key = key();
    let all = run(&key);
    for signed in &all {
        let read = RunDigest::read(&signed.bytes, key.public()).unwrap();
        assert_eq!((&read, read.place()), (&signed.digest, (signed.day, signed.name)));
    }
    assert_eq!(
        all[1].name.to_string(),
        "02-00000000-0000-0000-0000-00000000004d-1.json"
    );
    assert_eq!(all[1].name.to_string().parse(), Ok(all[1].name));
    let spans: Vec<_> = all.iter().map(|one| (one.digest.first, one.digest.next)).collect();
    assert_eq!(spans, [(0, 2), (2, 3), (3, 3)]);
}

#[test]
fn one_changed_bit_anywhere_in_a_digest_is_found() {
    let key = key();
    let bytes = &run(&key)[0].bytes;
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.to_vec();
            changed[place] ^= 1 << bit;
            assert!(
                RunDigest::read(&changed, key.public()).is_err(),
                "byte {place}, bit {bit}"
            );
        }
    }
    for changed in [[&bytes[..], b"\n"].concat(), bytes[1..].to_vec(), Vec::new()] {
        assert!(RunDigest::read(&changed, key.public()).is_err());
    }
}

#[test]
fn a_key_that_is_not_trusted_is_named_with_those_that_were_tried() {
    let (ours, other) = (key(), key());
    let error = RunDigest::read(&run(&ours)[0].bytes, other.public()).unwrap_err();
    let text = error.to_string();
    for id in [ours.key_id(), other.key_id()] {
        assert!(text.contains(&id.to_string()), "{text}");
    }
}

#[test]
fn a_digest_that_is_removed_swapped_repeated_or_of_another_run_is_found() {
    let key = key();
    let all = run(&key);
    let other = RunChain::begin("gateway-1", RunId(Uuid::from_u128(78)), start());
    let foreign = other.sign(draft(1, vec![line(0, true)]), &key).unwrap();
    let (found, expected) = (1, 0);
    for (order, wrong) in [
        (vec![&all[1]], DigestError::Number { found, expected }),
        (vec![&all[0], &all[2]], DigestError::Number { found: 2, expected: 1 }),
        (vec![&all[0], &all[0]], DigestError::Number { found: 0, expected: 1 }),
        (vec![&all[0], &foreign], DigestError::Run),
    ] {
        let mut chain = begin();
        let followed: Result<Vec<()>, _> = order.iter().map(|one| chain.follow(&one.digest, one.sha256)).collect();
        assert_eq!(followed.unwrap_err(), wrong);
    }
}

#[test]
fn a_digest_that_its_own_key_signed_anew_does_not_fit_the_one_after_it() {
    let key = key();
    let all = run(&key);
    let forged = begin()
        .sign(draft(3600, vec![line(0, true), line(1, true)]), &key)
        .unwrap();
    let mut chain = begin();
    chain.follow(&forged.digest, forged.sha256).unwrap();
    assert_eq!(chain.follow(&all[1].digest, all[1].sha256), Err(DigestError::Previous));
}

#[test]
fn nothing_follows_the_end_of_a_run() {
    let key = key();
    let all = run(&key);
    let mut chain = RunChain::after(&all[2].digest, all[2].sha256);
    assert_eq!((chain.digests, chain.next, chain.ended), (3, 3, true));
    let late = chain.sign(draft(9000, Vec::new()), &key).unwrap();
    assert_eq!(chain.follow(&late.digest, late.sha256), Err(DigestError::AfterEnd));
}

#[test]
fn sessions_with_a_gap_or_out_of_order_are_not_signed() {
    for sessions in [
        vec![line(1, true)],
        vec![line(0, true), line(2, true)],
        vec![line(1, true), line(0, true)],
        vec![line(0, true), line(0, true)],
    ] {
        assert!(begin().sign(draft(1, sessions), &key()).is_err());
    }
}

#[test]
fn the_longest_digest_stays_below_its_bound_and_a_longer_one_is_not_signed() {
    let widest = |count: u64| {
        let mut chain = RunChain::begin(&"g".repeat(GATEWAY_BYTES_MAX), RunId(Uuid::from_u128(77)), start());
        chain.next = u64::MAX - 10_000;
        let line = |offset| SessionLine {
            chunks: u64::MAX,
            ..line(chain.next + offset, false)
        };
        chain.sign(draft(1, (0..count).map(line).collect()), &key())
    };
    let signed = widest(LINES_MAX as u64).unwrap();
    assert!(signed.bytes.len() < DIGEST_BYTES_MAX, "{}", signed.bytes.len());
    assert!(widest(LINES_MAX as u64 + 1).is_err());
}

#[test]
fn a_clock_that_was_set_back_keeps_no_run_from_being_digested() {
    let key = key();
    let mut chain = begin();
    chain.to = at(500);
    let signed = chain.sign(draft(100, vec![line(0, true)]), &key).unwrap();
    assert_eq!((signed.digest.from, signed.digest.to), (at(500), at(500)));
}

#[test]
fn only_the_name_of_a_digest_is_one() {
    let run = "01890a5d-ac96-774b-bcce-b302099a8057";
    for (name, good) in [
        (format!("13-{run}-0.json"), true),
        (format!("3-{run}-0.json"), false),
        (format!("13-{run}-00.json"), false),
        (format!("13-{run}-0"), false),
        (format!("13-{}-0.json", run.replace('-', "")), false),
        ("lock".to_owned(), false),
        (String::new(), false),
    ] {
        assert_eq!(name.parse::<DigestName>().is_ok(), good, "{name}");
    }
}
