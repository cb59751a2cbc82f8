//! Cuts a recorded stream into PostgreSQL messages, and messages into fields. Odd bytes make odd messages, no errors.

use bytes::{Buf, Bytes, BytesMut};

/// Longest message that is taken apart; of a longer one only its length is shown.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Longest packet at the beginning of a connection, as PostgreSQL has it.
const PACKET_BYTES_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Without a type: the first one or two of a connection.
    Packet(Bytes),
    Typed(u8, Bytes),
    Skipped {
        kind: u8,
        length: usize,
    },
}

/// One direction's bytes.
#[derive(Default)]
pub struct Stream {
    bytes: BytesMut,
    /// Bytes of a message that is too long to show.
    to_skip: usize,
}

impl Stream {
    pub fn push(&mut self, mut bytes: &[u8]) {
        let skipped = self.to_skip.min(bytes.len());
        self.to_skip -= skipped;
        bytes.advance(skipped);
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message of a client: a packet where the stream begins with a length, which no typed message does.
    pub fn next_from_client(&mut self) -> Option<Message> {
        if self.bytes.first() != Some(&0) {
            return self.next();
        }
        let length = Fields(&self.bytes).u32()? as usize;
        if !(8..=PACKET_BYTES_MAX).contains(&length) {
            return self.next();
        }
        if self.bytes.len() < length {
            return None;
        }
        let mut packet = self.bytes.split_to(length).freeze();
        packet.advance(4);
        Some(Message::Packet(packet))
    }

    pub fn next(&mut self) -> Option<Message> {
        let mut fields = Fields(&self.bytes);
        let kind = fields.byte()?;
        let length = fields.u32()? as usize;
        if length < 4 {
            // No message is that short: the stream is not what it seems, and nothing is known of what follows.
            let body = std::mem::take(&mut self.bytes).freeze();
            return Some(Message::Typed(kind, body));
        }
        if length > MESSAGE_BYTES_MAX {
            let there = self.bytes.len().min(1 + length);
            self.bytes.advance(there);
            self.to_skip = 1 + length - there;
            return Some(Message::Skipped { kind, length });
        }
        if self.bytes.len() < 1 + length {
            return None;
        }
        let mut message = self.bytes.split_to(1 + length).freeze();
        message.advance(5);
        Some(Message::Typed(kind, message))
    }
}

/// Whether a packet's first number is a protocol version that PostgreSQL has.
pub fn is_request_packet(version: u32) -> bool {
    (2..=3).contains(&(version >> 16))
}

/// Reads fields from the front. What is missing is empty or none.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// The bytes before the next zero, or all that is left.
    pub fn bytes_to_zero(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = end
            .and_then(|end| self.take(end))
            .unwrap_or_else(|| std::mem::take(&mut self.0));
        self.0 = self.0.get(1..).unwrap_or_default();
        text
    }

    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.bytes_to_zero()).into_owned()
    }

    /// A list of format codes.
    pub fn formats(&mut self) -> Vec<u16> {
        let count = self.u16().unwrap_or_default();
        (0..count).map_while(|_| self.u16()).collect()
    }

    /// A value with its length; the inner none is NULL.
    pub fn value(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.i32()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Some(None),
        }
    }

    /// What Describe and Close name.
    pub fn statement_or_portal(&mut self) -> String {
        let what = match self.byte() {
            Some(b'S') => "statement",
            Some(b'P') => "portal",
            Some(_) | None => "something",
        };
        match self.text() {
            name if name.is_empty() => what.to_owned(),
            name => format!("{what} {}", countersign_infra::domain::display::escape(&name)),
        }
    }
}
