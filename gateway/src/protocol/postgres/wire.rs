//! Frames of the PostgreSQL protocol, version 3: a tag byte, a length that counts itself, a body.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Tag and length.
pub const HEADER_BYTES: usize = 5;

/// What a connection's buffer holds on to while it waits.
const IDLE_BUFFER_BYTES: usize = 4 << 10;

/// One whole message from a client, header included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
}

impl Frame {
    pub fn new(tag: u8, body: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + body.len());
        write_message(&mut bytes, tag, |out| out.put_slice(body));
        Self { bytes: bytes.freeze() }
    }

    pub fn tag(&self) -> u8 {
        self.bytes.first().copied().unwrap_or(0)
    }

    /// The message as it stands on the wire.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES.min(self.bytes.len())..)
    }
}

/// Appends one message; `body` writes what follows the length.
pub fn write_message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length);
    }
}

/// The bytes are not the protocol. Worded for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a message of type {tag:?} claims {length} bytes, and at most {max} are accepted")]
    Length { tag: char, length: u32, max: usize },
    #[error("a message of type {0:?} does not have the form that the protocol gives it")]
    Body(char),
    #[error("a name of a statement or portal is too long: the server might take it for another one")]
    Name,
}

/// Reads frames from a client, with a bound on each.
pub struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    frame_bytes_max: usize,
    ended: bool,
}

/// What the next read brought.
#[derive(Debug)]
pub enum Incoming {
    Frame(Frame),
    /// The peer closed the connection (between messages or in the middle of one).
    End,
    Malformed(Malformed),
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(stream: R, frame_bytes_max: usize) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            frame_bytes_max,
            ended: false,
        }
    }

    /// Sets the bound of the frames that follow, in bytes.
    pub fn limit(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Reads the next frame. Cancel safe: what was read stays in the buffer.
    pub async fn next(&mut self) -> io::Result<Incoming> {
        loop {
            if let Some(incoming) = self.buffered() {
                return Ok(incoming);
            }
            if self.ended || self.fill().await? == 0 {
                return Ok(Incoming::End);
            }
        }
    }

    /// Takes a frame that has already arrived whole, or the reason why none ever will.
    pub fn buffered(&mut self) -> Option<Incoming> {
        let (tag, total) = match frame_length(&self.buffer, self.frame_bytes_max) {
            Ok(head) => head?,
            Err(malformed) => return Some(Incoming::Malformed(malformed)),
        };
        if self.buffer.len() < total {
            let missing = total - self.buffer.len();
            // Grown step by step: a client that only claims a length gets no memory for it.
            self.buffer.reserve(missing.min(64 << 10));
            return None;
        }
        debug_assert!(tag != 0 || total >= HEADER_BYTES);
        let bytes = self.buffer.split_to(total).freeze();
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Some(Incoming::Frame(Frame { bytes }))
    }

    /// Waits until the client closes its end, reading ahead at most `bytes_max`. With that much read it waits for
    /// ever. A Terminate message counts as closing. Cancel safe.
    pub async fn closed(&mut self, bytes_max: usize) -> io::Result<()> {
        loop {
            if self.ended || self.starts_with_terminate() {
                return Ok(());
            }
            if self.buffer.len() >= bytes_max {
                std::future::pending::<()>().await;
            }
            if self.fill().await? == 0 {
                return Ok(());
            }
        }
    }

    fn starts_with_terminate(&self) -> bool {
        self.buffer.first() == Some(&b'X')
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(IDLE_BUFFER_BYTES);
        let read = self.stream.read_buf(&mut self.buffer).await?;
        self.ended = read == 0;
        Ok(read)
    }
}

/// The tag and whole length of the frame at the start of `buffer`, once its header is there.
fn frame_length(buffer: &[u8], max: usize) -> Result<Option<(u8, usize)>, Malformed> {
    let Some((tag, length)) = header(buffer) else {
        return Ok(None);
    };
    let total = (length as usize).saturating_add(1);
    if length < 4 || total > max {
        return Err(Malformed::Length {
            tag: char::from(tag),
            length,
            max,
        });
    }
    Ok(Some((tag, total)))
}

/// The tag and the length field of a frame, once they are there.
pub fn header(buffer: &[u8]) -> Option<(u8, u32)> {
    let (tag, rest) = buffer.split_first()?;
    let length = rest.get(..4)?;
    Some((*tag, u32::from_be_bytes(length.try_into().ok()?)))
}

/// Reads the fields of a message's body; every read is checked.
pub struct Fields {
    tag: u8,
    body: Bytes,
}

impl Fields {
    pub fn of(frame: &Frame) -> Self {
        Self {
            tag: frame.tag(),
            body: frame.body(),
        }
    }

    pub fn over(tag: u8, body: Bytes) -> Self {
        Self { tag, body }
    }

    /// A string that ends with NUL, without it.
    pub fn string(&mut self) -> Result<Bytes, Malformed> {
        let end = self.body.iter().position(|byte| *byte == 0).ok_or(self.malformed())?;
        let text = self.body.split_to(end);
        self.body.advance(1);
        Ok(text)
    }

    pub fn byte(&mut self) -> Result<u8, Malformed> {
        self.check(1)?;
        Ok(self.body.get_u8())
    }

    pub fn int16(&mut self) -> Result<i16, Malformed> {
        self.check(2)?;
        Ok(self.body.get_i16())
    }

    /// A count of things that follow: never negative.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        // The protocol counts to 65535 in two bytes.
        Ok(usize::from(self.int16()? as u16))
    }

    pub fn int32(&mut self) -> Result<i32, Malformed> {
        self.check(4)?;
        Ok(self.body.get_i32())
    }

    /// A value: its length, -1 for NULL, and its bytes.
    pub fn value(&mut self) -> Result<Option<Bytes>, Malformed> {
        let length = self.int32()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| self.malformed())?;
        self.check(length)?;
        Ok(Some(self.body.split_to(length)))
    }

    /// The body must be used up.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.body.is_empty() {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }

    fn check(&self, bytes: usize) -> Result<(), Malformed> {
        if self.body.len() >= bytes {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }

    fn malformed(&self) -> Malformed {
        Malformed::Body(char::from(self.tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(bytes: &[u8]) -> Vec<String> {
        let mut reader = FrameReader::new(bytes, 1 << 10);
        let mut seen = Vec::new();
        loop {
            match reader.next().await.unwrap() {
                Incoming::Frame(frame) => seen.push(format!("{}{}", char::from(frame.tag()), frame.body().len())),
                Incoming::End => return seen,
                Incoming::Malformed(malformed) => {
                    seen.push(malformed.to_string());
                    return seen;
                }
            }
        }
    }

    #[tokio::test]
    async fn frames_are_read_whole_and_in_order() {
        let mut bytes = Frame::new(b'Q', b"select 1\0").bytes().to_vec();
        bytes.extend_from_slice(Frame::new(b'S', b"").bytes());
        assert_eq!(read_all(&bytes).await, ["Q9", "S0"]);
    }

    #[tokio::test]
    async fn a_length_that_is_too_small_or_too_large_is_refused_before_anything_is_kept() {
        for length in [0u32, 3, 1 << 10, u32::MAX, 1 << 31] {
            let mut bytes = vec![b'Q'];
            bytes.extend_from_slice(&length.to_be_bytes());
            let seen = read_all(&bytes).await;
            assert!(seen.iter().any(|line| line.contains("claims")), "{length}: {seen:?}");
        }
    }

    #[test]
    fn a_value_longer_than_its_message_is_malformed() {
        let mut fields = Fields::over(b'B', Bytes::from_static(&[0, 0, 0, 9, 1]));
        assert_eq!(fields.value(), Err(Malformed::Body('B')));
        let mut fields = Fields::over(b'B', Bytes::from_static(&[0xff, 0xff, 0xff, 0xfe]));
        assert_eq!(fields.value(), Err(Malformed::Body('B')));
    }
}
