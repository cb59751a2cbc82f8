use super::*;
use proptest::prelude::*;

fn head() -> ChunkHead {
    ChunkHead {
        key: KeyId([7; 8]),
        session: SessionId(uuid::Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001)),
        number: 3,
        previous: Digest::of(b"before"),
    }
}

fn chunk(plain: &[u8]) -> Vec<u8> {
    encode_chunk(&head(), plain, |_| [9; 64]).unwrap().to_vec()
}

fn one_frame() -> Vec<u8> {
    let mut buffer = FrameBuffer::default();
    buffer.push(Kind::Wire(Direction::ClientToGateway), 12, &[b"SELECT", b" 1"], false);
    buffer.take()
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Header),
        Just(Kind::Event),
        Just(Kind::Wire(Direction::ClientToGateway)),
        Just(Kind::Wire(Direction::GatewayToClient)),
        Just(Kind::Wire(Direction::GatewayToUpstream)),
    ]
}

/// What was written and what is read back, without regard to where frames were joined.
fn streams(frames: impl IntoIterator<Item = (Kind, Vec<u8>)>) -> Vec<(Kind, Vec<u8>)> {
    let mut out: Vec<(Kind, Vec<u8>)> = Vec::new();
    for (kind, bytes) in frames {
        match out.last_mut() {
            Some((last, stream)) if *last == kind => stream.extend(bytes),
            Some(_) | None => out.push((kind, bytes)),
        }
    }
    out
}

proptest! {
    #[test]
    fn the_frames_that_go_in_come_out(
        input in proptest::collection::vec(
            (any_kind(), 0u64..5_000, proptest::collection::vec(any::<u8>(), 1..300), any::<bool>()),
            1..60,
        )
    ) {
        let mut buffer = FrameBuffer::default();
        let mut micros = 0;
        let mut times = Vec::new();
        for (kind, step, bytes, more) in &input {
            micros += step;
            times.push(micros);
            let (left, right) = bytes.split_at(bytes.len() / 2);
            buffer.push(*kind, micros, &[left, right], *more);
        }
        let bytes = chunk(&buffer.take());
        let envelope = Envelope::parse(&bytes).unwrap();
        prop_assert_eq!(envelope.head, head());
        let frames = envelope.frames().unwrap();
        let out = frames.iter().map(|frame| (frame.kind, frame.bytes.to_vec()));
        prop_assert_eq!(streams(out), streams(input.iter().map(|(kind, _, bytes, _)| (*kind, bytes.clone()))));
        prop_assert!(frames.iter().all(|frame| times.contains(&frame.micros)));
        prop_assert!(frames.is_sorted_by_key(|frame| frame.micros));
    }

    #[test]
    fn random_bytes_are_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Envelope::parse(&bytes).is_err());
        let _ = frames(&bytes.clone().into()).collect::<Vec<_>>();
        let mut dressed = chunk(&one_frame());
        dressed.splice(90.min(dressed.len()).., bytes);
        if let Ok(envelope) = Envelope::parse(&dressed) {
            let _ = envelope.frames();
        }
    }

    #[test]
    fn a_chunk_with_one_changed_byte_never_panics(place in 0usize..200, value in any::<u8>()) {
        let mut bytes = chunk(&one_frame());
        if let Some(byte) = bytes.get_mut(place) {
            *byte = value;
        }
        if let Ok(envelope) = Envelope::parse(&bytes) {
            let _ = envelope.frames();
        }
    }
}

/// Writes the lengths of a chunk anew.
fn with_lengths(plain: u32, payload: u32) -> Vec<u8> {
    let mut bytes = chunk(&one_frame());
    bytes[74..78].copy_from_slice(&plain.to_be_bytes());
    bytes[78..82].copy_from_slice(&payload.to_be_bytes());
    bytes
}

#[test]
fn lengths_beyond_their_bounds_are_refused_before_anything_is_allocated() {
    for (plain, payload) in [(u32::MAX, 30), ((1 << 20) + 1, 30), (21, u32::MAX), (21, 2 << 20)] {
        let bytes = with_lengths(plain, payload);
        let error = Envelope::parse(&bytes).unwrap_err();
        assert!(
            matches!(error, FormatError::TooLong { .. }),
            "{plain} {payload}: {error}"
        );
    }
}

#[test]
fn a_payload_that_decompresses_to_more_than_it_names_is_refused() {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let mut bytes = chunk(&one_frame());
    bytes.truncate(78);
    bytes.extend_from_slice(&(bomb.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&bomb);
    bytes.extend_from_slice(&[0; 64]);
    assert_eq!(Envelope::parse(&bytes).unwrap().plain(), Err(FormatError::Compression));
}

#[test]
fn a_payload_that_decompresses_to_less_than_it_names_is_refused() {
    let payload = chunk(&one_frame()).len() - 82 - 64;
    let bytes = with_lengths(500, payload as u32);
    assert_eq!(Envelope::parse(&bytes).unwrap().plain(), Err(FormatError::Compression));
}

#[test]
fn every_truncation_of_a_chunk_is_refused() {
    let bytes = chunk(&one_frame());
    for length in 0..bytes.len() {
        assert!(Envelope::parse(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn frames_that_are_torn_empty_or_of_unknown_kind_are_refused() {
    let whole = one_frame();
    let frame = |change: fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        frames(&bytes.into()).last().unwrap().unwrap_err()
    };
    assert_eq!(frame(|bytes| bytes.truncate(bytes.len() - 1)), FormatError::Short);
    assert_eq!(frame(|bytes| bytes.truncate(4)), FormatError::Short);
    assert_eq!(frame(|bytes| bytes[0] = 0), FormatError::Kind(0));
    assert_eq!(frame(|bytes| bytes[0] = 99), FormatError::Kind(99));
    assert_eq!(frame(|bytes| bytes[12] = 0), FormatError::EmptyFrame);
    assert!(matches!(frame(|bytes| bytes[9] = 200), FormatError::TooLong { .. }));
}

#[test]
fn what_stands_before_a_torn_frame_is_found_whole() {
    let whole = one_frame();
    for torn in 0..whole.len() {
        let bytes = [&whole[..], &whole[..torn]].concat();
        assert_eq!(whole_frames(&bytes.into()), whole.len(), "{torn}");
    }
    let zeros = [&whole[..], &[0; 4096]].concat();
    assert_eq!(whole_frames(&zeros.into()), whole.len());
}

#[test]
fn bytes_of_one_direction_within_a_millisecond_share_a_frame() {
    let mut buffer = FrameBuffer::default();
    let answer = Kind::Wire(Direction::GatewayToClient);
    for micros in [10, 500, 1009, 1010] {
        buffer.push(answer, micros, &[b"row"], false);
    }
    buffer.push(Kind::Event, 1011, &[b"one"], false);
    buffer.push(Kind::Event, 1011, &[b"two"], false);
    let lengths = frames(&buffer.take().into())
        .map(|frame| frame.unwrap().bytes.len())
        .collect::<Vec<_>>();
    assert_eq!(lengths, [9, 3, 3, 3]);
}

#[test]
fn an_empty_buffer_holds_no_memory_after_its_frames_were_taken() {
    let mut buffer = FrameBuffer::default();
    buffer.push(Kind::Event, 0, &[b"one"], false);
    drop(buffer.take());
    assert_eq!(buffer.bytes.capacity(), 0);
    assert!(buffer.is_empty());
}
