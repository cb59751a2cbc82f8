use super::*;
use crate::domain::Timestamp;
use crate::domain::example;
use crate::recordings::chain::End;
use crate::recordings::format::{Direction, FormatError, FrameBuffer};
use crate::recordings::key::{Keyring, SigningKey};

fn header(id: SessionId) -> SessionHeader {
    SessionHeader {
        opened: moment(0),
        ..example::header(id, example::alice())
    }
}

fn moment(seconds: i64) -> Timestamp {
    chrono::DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
}

/// A recording of three small chunks with all that bears witness to it.
struct Sample {
    session: SessionId,
    key: SigningKey,
    chunks: Vec<Bytes>,
    manifest: Bytes,
    witness: Witness,
}

fn sample() -> Sample {
    sample_of(SessionId(uuid::Uuid::now_v7()), SigningKey::generate().unwrap())
}

fn sample_of(session: SessionId, key: SigningKey) -> Sample {
    let header = header(session);
    let mut chain = Chain::new(session);
    let mut chunks = Vec::new();
    let mut anchors = Vec::new();
    for number in 0..3u64 {
        let mut frames = FrameBuffer::default();
        if number == 0 {
            frames.push(Kind::Header, 0, &[&serde_json::to_vec(&header).unwrap()], false);
        }
        let micros = number * 1_000_000;
        frames.push(
            Kind::Wire(Direction::ClientToGateway),
            micros + 5,
            &[b"Q", b"select ", &[number as u8]],
            false,
        );
        frames.push(
            Kind::Wire(Direction::GatewayToClient),
            micros + 9,
            &[b"an answer"],
            false,
        );
        chunks.push(chain.seal(&frames.take().into(), &key).unwrap());
        anchors.push(chain.anchor());
    }
    let end = End {
        started: header.opened,
        ended: moment(3),
        interrupted: false,
        why: "the client left".to_owned(),
    };
    let manifest = chain.close(end, &key);
    let witness = Witness {
        closed: anchors.pop(),
        anchors,
        header: Some(header),
        digests: Vec::new(),
    };
    Sample {
        session,
        key,
        chunks,
        manifest,
        witness,
    }
}

impl Sample {
    fn verify(&self) -> Result<Report, Broken> {
        self.verify_manifest(Some(&self.manifest))
    }

    fn verify_manifest(&self, manifest: Option<&[u8]>) -> Result<Report, Broken> {
        let public = self.key.public();
        verify_recording(self.session, &self.chunks, manifest, self.witness.clone(), public)
    }
}

#[test]
fn an_untouched_recording_verifies_and_the_report_says_what_it_proves() {
    let sample = sample();
    let report = sample.verify().unwrap();
    assert_eq!(report.chain.chunks, 3);
    assert_eq!(report.anchored_chunks, 3);
    assert_eq!(report.chain.totals.client_to_gateway.bytes, 27);
    assert_eq!(report.chain.totals.gateway_to_client.frames, 3);
    assert_eq!(report.header.as_ref().unwrap().target, "orders");
    let text = report.to_string();
    assert!(text.contains("complete"), "{text}");
    assert!(text.contains("none of its chunks is missing"), "{text}");
    assert!(
        text.contains("does not prove that the gateway wrote what happened"),
        "{text}"
    );
}

#[test]
fn one_changed_bit_anywhere_in_any_chunk_is_found() {
    let mut sample = sample();
    for number in 0..sample.chunks.len() {
        let whole = sample.chunks[number].clone();
        for place in 0..whole.len() {
            for bit in [0x01, 0x80] {
                let mut changed = whole.to_vec();
                changed[place] ^= bit;
                sample.chunks[number] = changed.into();
                assert!(sample.verify().is_err(), "chunk {number}, byte {place}, bit {bit:#x}");
            }
        }
        sample.chunks[number] = whole;
    }
    sample.verify().unwrap();
}

#[test]
fn one_changed_bit_anywhere_in_the_manifest_is_found() {
    let sample = sample();
    for place in 0..sample.manifest.len() {
        for bit in 0..8 {
            let mut changed = sample.manifest.to_vec();
            changed[place] ^= 1 << bit;
            assert!(
                sample.verify_manifest(Some(&changed)).is_err(),
                "byte {place}, bit {bit}"
            );
        }
    }
}

#[test]
fn bytes_that_are_added_or_cut_off_are_found() {
    let mut sample = sample();
    let whole = sample.chunks[1].clone();
    for length in 0..whole.len() {
        sample.chunks[1] = whole.slice(..length);
        assert!(sample.verify().is_err(), "cut to {length}");
    }
    sample.chunks[1] = [&whole[..], b"x"].concat().into();
    assert!(matches!(
        sample.verify(),
        Err(Broken::Chunk {
            number: 1,
            source: FormatError::Trailing(1)
        })
    ));
    sample.chunks[1] = whole;
    let manifest = sample.manifest.clone();
    for changed in [
        [&manifest[..], b"\n"].concat(),
        [b" ", &manifest[..]].concat(),
        manifest[..manifest.len() - 1].to_vec(),
        Vec::new(),
    ] {
        assert!(sample.verify_manifest(Some(&changed)).is_err());
    }
}

/// Changes a sample and says what must be found.
fn check(change: impl FnOnce(&mut Sample), expected: Broken) {
    let mut sample = sample();
    change(&mut sample);
    assert_eq!(sample.verify().unwrap_err(), expected);
}

#[test]
fn a_missing_tail_is_found_by_the_journals_anchors() {
    check(
        |sample| drop(sample.chunks.pop()),
        Broken::Missing {
            chunks: 2,
            expected: 3,
            witness: "the journal",
        },
    );
}

#[test]
fn a_missing_tail_is_found_by_the_manifest_where_the_journal_has_no_anchor() {
    check(
        |sample| {
            sample.chunks.pop();
            sample.witness = Witness::default();
        },
        Broken::Missing {
            chunks: 2,
            expected: 3,
            witness: "the manifest",
        },
    );
}

#[test]
fn a_missing_manifest_is_found_once_the_journal_closed_the_session() {
    let mut sample = sample();
    assert_eq!(sample.verify_manifest(None), Err(Broken::ManifestMissing));
    sample.witness.closed = None;
    let report = sample.verify_manifest(None).unwrap().to_string();
    assert!(
        report.contains("whether more chunks followed is not proved"),
        "{report}"
    );
}

#[test]
fn swapped_missing_and_repeated_chunks_are_found() {
    check(
        |sample| sample.chunks.swap(1, 2),
        Broken::ChunkNumber { number: 1, found: 2 },
    );
    check(
        |sample| drop(sample.chunks.remove(0)),
        Broken::ChunkNumber { number: 0, found: 1 },
    );
    check(
        |sample| sample.chunks.push(sample.chunks[2].clone()),
        Broken::ChunkNumber { number: 3, found: 2 },
    );
}

#[test]
fn a_chunk_of_another_session_is_found_though_the_same_key_signed_it() {
    let other = SessionId(uuid::Uuid::now_v7());
    check(
        |sample| {
            let key = SigningKey::from_pem(&sample.key.private_pem().unwrap()).unwrap();
            sample.chunks[1] = sample_of(other, key).chunks[1].clone();
        },
        Broken::ChunkSession {
            number: 1,
            found: other,
        },
    );
}

#[test]
fn a_whole_other_recording_by_another_key_is_found() {
    let mut real = sample();
    let forged = sample_of(real.session, SigningKey::generate().unwrap());
    real.chunks = forged.chunks;
    real.manifest = forged.manifest;
    assert!(matches!(real.verify(), Err(Broken::ChunkKey { number: 0, .. })));
}

#[test]
fn a_recording_that_its_own_key_signed_anew_is_found_by_the_journals_anchors() {
    let mut sample = sample();
    let mut chain = Chain::new(sample.session);
    let mut frames = FrameBuffer::default();
    let json = serde_json::to_vec(&header(sample.session)).unwrap();
    frames.push(Kind::Header, 0, &[&json], false);
    sample.chunks[0] = chain.seal(&frames.take().into(), &sample.key).unwrap();
    assert_eq!(
        sample.verify(),
        Err(Broken::ChunkAnchor {
            number: 0,
            witness: "the journal"
        })
    );
}

#[test]
fn a_header_that_differs_from_the_journals_is_found() {
    let mut sample = sample();
    if let Some(header) = &mut sample.witness.header {
        header.person.name = "bob".to_owned();
    }
    assert!(matches!(sample.verify(), Err(Broken::Header(_))));
}

#[test]
fn anchors_that_contradict_each_other_are_found() {
    check(
        |sample| {
            let mut anchor = sample.witness.anchors[0];
            anchor.last = Digest::of(b"other");
            sample.witness.anchors.push(anchor);
        },
        Broken::Anchors {
            chunks: 1,
            witness: "the journal",
        },
    );
}

#[test]
fn a_manifest_of_an_interrupted_session_says_so() {
    let sample = sample();
    let mut chain = Chain::new(sample.session);
    for chunk in &sample.chunks {
        chain.follow(chunk, sample.key.public()).unwrap();
    }
    let end = End {
        started: moment(0),
        ended: moment(9),
        interrupted: true,
        why: "the gateway stopped \u{1b}[2J".repeat(100),
    };
    let manifest = chain.close(end, &sample.key);
    let report = sample.verify_manifest(Some(&manifest)).unwrap();
    assert!(report.manifest.as_ref().unwrap().interrupted);
    let text = report.to_string();
    assert!(text.contains("interrupted") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_recording_that_another_gateway_closed_needs_both_keys() {
    let sample = sample();
    let adopter = SigningKey::generate().unwrap();
    let mut chain = Chain::new(sample.session);
    for chunk in &sample.chunks {
        chain.follow(chunk, sample.key.public()).unwrap();
    }
    let end = End {
        started: moment(0),
        ended: moment(3),
        interrupted: true,
        why: "its gateway died".to_owned(),
    };
    let manifest = chain.close(end, &adopter);
    let verify = |keys: &[&SigningKey]| {
        let keys = Keyring::new(keys.iter().map(|key| key.public().clone()));
        let witness = sample.witness.clone();
        verify_recording(sample.session, &sample.chunks, Some(&manifest), witness, &keys)
    };
    let report = verify(&[&adopter, &sample.key]).unwrap();
    assert_eq!(report.keys.0, [sample.key.key_id(), adopter.key_id()]);
    let closed_by = format!("signed by key {}", adopter.key_id());
    assert!(report.to_string().contains(&closed_by), "{report}");
    assert!(matches!(verify(&[&sample.key]), Err(Broken::ManifestKey { .. })));
    let broken = verify(&[&adopter]).unwrap_err();
    let text = broken.to_string();
    for id in [adopter.key_id(), sample.key.key_id()] {
        assert!(text.contains(&id.to_string()), "{text}");
    }
}

#[test]
fn what_a_digest_says_is_held_against_the_recording() {
    let digest = "the gateway's digest";
    let mut sample = sample();
    sample.witness = Witness {
        digests: vec![sample.witness.anchors[0], sample.witness.closed.unwrap()],
        ..Witness::default()
    };
    sample.verify().unwrap();
    sample.witness.digests[0].last = Digest::of(b"other");
    assert_eq!(
        sample.verify(),
        Err(Broken::ChunkAnchor {
            number: 0,
            witness: digest
        })
    );
    sample.witness.digests.remove(0);
    sample.chunks.pop();
    let (chunks, expected, witness) = (2, 3, digest);
    assert_eq!(
        sample.verify_manifest(None),
        Err(Broken::Missing {
            chunks,
            expected,
            witness
        })
    );
}
