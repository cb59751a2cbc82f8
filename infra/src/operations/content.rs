//! A whole operation as bytes, before it is encrypted.
//!
//! ```text
//! protocol, issuer, subject, target, database, role, search_path, display    each: length (8), bytes
//! number of parts (8)
//! for each part: tag, bytes                                                  each: length (8), bytes
//! ```
//!
//! Numbers are big endian. The version of the format is that of the envelope around it.

use super::{DISPLAY_BYTES_MAX, OPERATION_BYTES_MAX, OperationError, WholeOperation};
use crate::domain::access_request::{Part, Place, Protocol};
use crate::domain::identity::PersonKey;
use bytes::Bytes;
use std::io::{self, Write};
use std::sync::Arc;

/// Says how many bytes the operation takes, if it may be kept.
pub fn measure(operation: &WholeOperation) -> Result<usize, OperationError> {
    bounded("display text", operation.display.len(), DISPLAY_BYTES_MAX)?;
    let texts: usize = texts(operation).iter().map(|text| 8 + text.len()).sum();
    let parts: usize = operation
        .parts
        .iter()
        .map(|part| 16 + part.tag.len() + part.bytes.len())
        .sum();
    bounded("operation", texts + 8 + parts, OPERATION_BYTES_MAX)
}

fn bounded(what: &'static str, bytes: usize, bytes_max: usize) -> Result<usize, OperationError> {
    if bytes > bytes_max {
        return Err(OperationError::TooLarge {
            what,
            bytes: bytes as u64,
            bytes_max: bytes_max as u64,
        });
    }
    Ok(bytes)
}

/// Writes an operation, piece by piece: nothing is copied together first.
pub fn write(operation: &WholeOperation, out: &mut impl Write) -> io::Result<()> {
    for text in texts(operation) {
        field(text.as_bytes(), out)?;
    }
    out.write_all(&(operation.parts.len() as u64).to_be_bytes())?;
    for part in &operation.parts {
        field(part.tag.as_bytes(), out)?;
        field(&part.bytes, out)?;
    }
    Ok(())
}

fn texts(operation: &WholeOperation) -> [&str; 8] {
    let WholeOperation {
        protocol,
        person,
        place,
        display,
        parts: _,
    } = operation;
    [
        protocol.as_str(),
        &person.issuer,
        &person.subject,
        &place.target,
        &place.database,
        &place.role,
        &place.search_path,
        display,
    ]
}

fn field(bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    out.write_all(&(bytes.len() as u64).to_be_bytes())?;
    out.write_all(bytes)
}

/// Reads what [`write`] wrote, to the last byte. The parts share the buffer. None where it is anything else.
pub fn read(bytes: Bytes) -> Option<WholeOperation> {
    let mut reader = Reader(bytes);
    let protocol = match reader.text()?.as_str() {
        "postgres" => Protocol::Postgres,
        "ssh" => Protocol::Ssh,
        "http" => Protocol::Http,
        _ => return None,
    };
    let person = PersonKey {
        issuer: reader.text()?,
        subject: reader.text()?,
    };
    let place = Place {
        target: reader.text()?,
        database: reader.text()?,
        role: reader.text()?,
        search_path: reader.text()?,
    };
    let display = Arc::from(std::str::from_utf8(&reader.field()?).ok()?);
    let mut parts = Vec::new();
    for _ in 0..reader.number()? {
        parts.push(Part {
            tag: reader.text()?,
            bytes: reader.field()?,
        });
    }
    reader.0.is_empty().then_some(WholeOperation {
        protocol,
        person,
        place,
        parts,
        display,
    })
}

struct Reader(Bytes);

impl Reader {
    fn number(&mut self) -> Option<u64> {
        let (number, _) = self.0.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        drop(self.0.split_to(8));
        Some(number)
    }

    fn field(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.number()?).ok()?;
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn text(&mut self) -> Option<String> {
        std::str::from_utf8(&self.field()?).ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::contract::example;

    fn written(operation: &WholeOperation) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(operation, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read_and_measured() {
        let operation = example("DELETE FROM orders", b"\0\xff value");
        let bytes = written(&operation);
        assert_eq!(measure(&operation).unwrap(), bytes.len());
        assert!(read(bytes.into()).unwrap() == operation);
    }

    #[test]
    fn what_is_cut_or_goes_on_is_not_read() {
        let bytes = written(&example("DELETE FROM orders", b"value"));
        for length in 0..bytes.len() {
            assert!(read(Bytes::copy_from_slice(&bytes[..length])).is_none(), "{length}");
        }
        assert!(read([&bytes[..], b"\0"].concat().into()).is_none());
    }

    #[test]
    fn a_length_beyond_the_bytes_is_not_believed() {
        let mut bytes = written(&example("DELETE FROM orders", b"value"));
        bytes[..8].copy_from_slice(&u64::MAX.to_be_bytes());
        assert!(read(bytes.into()).is_none());
    }

    #[test]
    fn what_nobody_could_be_shown_whole_is_too_large() {
        let long = "x".repeat(DISPLAY_BYTES_MAX + 1);
        let error = measure(&example(&long, b"value")).unwrap_err();
        assert!(matches!(
            error,
            OperationError::TooLarge {
                what: "display text",
                ..
            }
        ));
    }
}
