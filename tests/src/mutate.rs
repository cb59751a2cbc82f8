//! Malformed bytes: a corpus of real messages, mutated by chance, fed to everything that reads what strangers send.
//! `fuzz SECONDS` runs it for as long as one likes; the test suite runs a fixed number of rounds.

use anyhow::{Context, Result};
use bytes::Bytes;
use countersign_gateway::protocol::postgres::batch::{Conversation, Expected, Name, Own, Step};
use countersign_gateway::protocol::postgres::effects::{Analysis, Limits, analyse};
use countersign_gateway::protocol::postgres::message::Message;
use countersign_gateway::protocol::postgres::operation::{Analysed, draft};
use countersign_gateway::protocol::postgres::startup;
use countersign_gateway::protocol::postgres::wire::{FrameReader, HEADER_BYTES, Incoming, header};
use std::path::Path;
use std::sync::Arc;

/// A read frame is at most so long: as in a gateway, but small.
const FRAME_BYTES_MAX: usize = 1 << 16;
const INPUT_BYTES_MAX: usize = 1 << 14;

/// What strangers may send, by who reads it.
#[derive(Clone, Copy, Debug)]
pub enum Reader {
    Client,
    Server,
    Startup,
}

impl Reader {
    pub const ALL: [Self; 3] = [Self::Client, Self::Server, Self::Startup];

    fn folder(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Startup => "startup",
        }
    }

    /// The committed seeds.
    pub fn seeds(self) -> Result<Vec<Vec<u8>>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus/wire")
            .join(self.folder());
        let mut seeds = Vec::new();
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            seeds.push(std::fs::read(entry?.path())?);
        }
        seeds.sort();
        anyhow::ensure!(!seeds.is_empty(), "{} holds no seeds", folder.display());
        Ok(seeds)
    }

    /// Reads bytes as the gateway would. What is malformed must come out as an error, never as a panic.
    pub fn read(self, bytes: &[u8]) {
        match self {
            Self::Client => read_client(bytes),
            Self::Server => read_server(bytes),
            Self::Startup => drop(startup::parameters(bytes)),
        }
    }
}

/// A small generator of repeatable chance (xorshift64*).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }

    /// Changes a seed in one to six places: bits, bytes, lengths, cuts, copies of another seed.
    pub fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds.get(self.below(seeds.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes, seeds);
        }
        bytes.truncate(INPUT_BYTES_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        const LENGTHS: [u32; 8] = [0, 1, 3, 4, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 65_535];
        let at = self.below(bytes.len() + 1);
        match self.below(7) {
            0 => {
                let bit = 1u8 << self.below(8);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bit;
                }
            }
            1 => bytes.truncate(at),
            2 => bytes.insert(at, self.next() as u8),
            3 => {
                let length = LENGTHS
                    .get(self.below(LENGTHS.len()))
                    .copied()
                    .unwrap_or(0)
                    .to_be_bytes();
                if let Some(place) = bytes.get_mut(at..at + 4) {
                    place.copy_from_slice(&length);
                }
            }
            4 => {
                if at < bytes.len() {
                    bytes.remove(at);
                }
            }
            5 => bytes.extend(seeds.get(self.below(seeds.len())).into_iter().flatten()),
            _ => {
                let copy: Vec<u8> = bytes
                    .get(at..(at + self.below(64)).min(bytes.len()))
                    .unwrap_or_default()
                    .to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
}

/// Reads a client's bytes: frames, messages, statements, and a draft of what they would do.
fn read_client(bytes: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else {
        return;
    };
    let mut reader = FrameReader::new(bytes, FRAME_BYTES_MAX);
    let mut messages = Vec::new();
    while let Ok(Incoming::Frame(frame)) = runtime.block_on(reader.next()) {
        assert!(frame.bytes().len() <= FRAME_BYTES_MAX);
        if let Ok(message) = Message::read(&frame) {
            messages.push(analysed(message));
        }
    }
    let mut conversation: Conversation<()> = Conversation::default();
    let mut rest = messages.as_slice();
    while !rest.is_empty() {
        let draft = draft(rest, &conversation, 0, &["secret".to_owned()]);
        let covered = draft.messages;
        for entry in draft.expected {
            drop(conversation.expect(entry));
        }
        // A run that covers nothing would never end.
        assert!(covered > 0, "nothing was covered of {rest:?}", rest = bytes);
        rest = rest.get(covered..).unwrap_or_default();
    }
}

fn analysed(message: Message) -> Analysed {
    let text = if let Message::Query { text } | Message::Parse { text, .. } = &message {
        Some(text.clone())
    } else {
        None
    };
    let limits = Limits {
        statement_bytes_max: 1 << 12,
    };
    let analysis = text.map(|text| analyse(&text, limits).unwrap_or_else(|_| Analysis::default()));
    Analysed {
        message,
        analysis: analysis.map(Arc::new),
        failure: None,
    }
}

/// Reads a server's bytes against each thing that may have been asked.
fn read_server(bytes: &[u8]) {
    let copy = || Step {
        copy_in: true,
        ..Step::default()
    };
    let asked: [fn() -> Vec<Expected<()>>; 3] = [
        || {
            vec![Expected::Query {
                steps: [Step::default()].into(),
            }]
        },
        || {
            let name = Name::new(Bytes::new());
            vec![
                Expected::DescribeStatement { name: name.clone() },
                Expected::Execute { step: Step::default() },
                Expected::Close { kind: b'P', name },
                Expected::Sync,
            ]
        },
        || vec![Expected::Own(Own::Fail(Bytes::from_static(b"no"))), Expected::Sync],
    ];
    let copies = || vec![Expected::Execute { step: copy() }, Expected::Sync];
    for entries in asked.into_iter().map(|make| make()).chain([copies()]) {
        let mut conversation = Conversation::default();
        for entry in entries {
            drop(conversation.expect(entry));
        }
        let mut rest = bytes;
        while let Some((tag, length)) = header(rest) {
            let total = (length as usize).saturating_add(1);
            let Some(body) = rest.get(HEADER_BYTES..total) else {
                break;
            };
            if conversation.reply(tag, body).is_err() {
                break;
            }
            rest = rest.get(total..).unwrap_or_default();
        }
    }
}
