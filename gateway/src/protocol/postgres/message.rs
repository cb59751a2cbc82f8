//! What a client says, read strictly.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use super::batch::{Name, Value};
use super::wire::{Fields, Frame, Malformed};
use bytes::Bytes;
use std::sync::Arc;

/// A client's message after sign-in.
#[derive(Clone, Debug)]
pub enum Message {
    Query {
        text: Bytes,
    },
    Parse {
        name: Name,
        text: Bytes,
        types: Vec<u32>,
    },
    Bind {
        portal: Name,
        statement: Name,
        values: Arc<[Value]>,
    },
    Describe {
        kind: u8,
        name: Name,
    },
    Execute {
        portal: Name,
    },
    Close {
        kind: u8,
        name: Name,
    },
    Flush,
    Sync,
    FunctionCall {
        function: u32,
        body: Bytes,
    },
    CopyData,
    CopyDone,
    CopyFail,
    Terminate,
}

impl Message {
    /// Reads a frame. Everything that is not exactly of the documented form is malformed.
    pub fn read(frame: &Frame) -> Result<Self, Malformed> {
        let mut fields = Fields::of(frame);
        let message = match frame.tag() {
            b'Q' => Self::Query { text: fields.string()? },
            b'P' => Self::Parse {
                name: name(&mut fields)?,
                text: fields.string()?,
                types: types(&mut fields)?,
            },
            b'B' => bind(&mut fields)?,
            b'D' => Self::Describe {
                kind: kind(&mut fields)?,
                name: name(&mut fields)?,
            },
            b'E' => {
                let portal = name(&mut fields)?;
                fields.int32()?;
                Self::Execute { portal }
            }
            b'C' => Self::Close {
                kind: kind(&mut fields)?,
                name: name(&mut fields)?,
            },
            b'H' => Self::Flush,
            b'S' => Self::Sync,
            b'F' => return function_call(frame.body()),
            b'd' => return Ok(Self::CopyData),
            b'c' => Self::CopyDone,
            b'f' => {
                fields.string()?;
                Self::CopyFail
            }
            b'X' => Self::Terminate,
            other => return Err(Malformed::Body(char::from(other))),
        };
        fields.end()?;
        Ok(message)
    }
}

fn name(fields: &mut Fields) -> Result<Name, Malformed> {
    let name = fields.string()?;
    if Name::is_certain_in_message(&name) {
        Ok(Name::new(name))
    } else {
        Err(Malformed::Name)
    }
}

fn types(fields: &mut Fields) -> Result<Vec<u32>, Malformed> {
    let count = fields.count()?;
    (0..count).map(|_| fields.int32().map(|oid| oid as u32)).collect()
}

fn kind(fields: &mut Fields) -> Result<u8, Malformed> {
    match fields.byte()? {
        kind @ (b'S' | b'P') => Ok(kind),
        other => Err(Malformed::Body(char::from(other))),
    }
}

fn bind(fields: &mut Fields) -> Result<Message, Malformed> {
    let portal = name(fields)?;
    let statement = name(fields)?;
    let formats = formats(fields)?;
    let count = fields.count()?;
    if formats.len() > 1 && formats.len() != count {
        return Err(Malformed::Body('B'));
    }
    let format_of = |index: usize| match formats.as_slice() {
        [] => 0,
        [one] => *one,
        many => many.get(index).copied().unwrap_or(0),
    };
    let values = (0..count).map(|index| {
        Ok(Value {
            format: format_of(index),
            bytes: fields.value()?,
        })
    });
    let values = values.collect::<Result<Arc<[Value]>, Malformed>>()?;
    self::formats(fields)?;
    Ok(Message::Bind {
        portal,
        statement,
        values,
    })
}

fn formats(fields: &mut Fields) -> Result<Vec<u16>, Malformed> {
    let count = fields.count()?;
    (0..count).map(|_| fields.int16().map(|format| format as u16)).collect()
}

fn function_call(body: Bytes) -> Result<Message, Malformed> {
    let mut fields = Fields::over(b'F', body.clone());
    let function = fields.int32()? as u32;
    formats(&mut fields)?;
    let count = fields.count()?;
    for _ in 0..count {
        fields.value()?;
    }
    fields.int16()?;
    fields.end()?;
    Ok(Message::FunctionCall { function, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tag: u8, body: &[u8], well_formed: bool) {
        let read = Message::read(&Frame::new(tag, body));
        assert_eq!(read.is_ok(), well_formed, "{} {body:?}: {read:?}", char::from(tag));
    }

    #[test]
    fn only_the_documented_forms_are_read() {
        check(b'Q', b"select 1\0", true);
        check(b'Q', b"select 1", false);
        check(b'Q', b"select 1\0; drop table t\0", false);
        check(b'P', b"s\0select $1\0\0\x01\0\0\0\x17", true);
        check(b'P', b"s\0select $1\0\0\x02\0\0\0\x17", false);
        check(b'B', b"\0s\0\0\0\0\x01\0\0\0\x017\0\0", true);
        check(b'B', b"\0s\0\0\x02\0\0\0\x01\0\x01\0\0\0\x017\0\0", false);
        check(b'B', b"\0s\0\0\0\0\x01\xff\xff\xff\xfe\0\0", false);
        check(b'E', b"\0\0\0\0\0", true);
        check(b'E', b"\0\0\0\0", false);
        check(b'C', b"Ss\0", true);
        check(b'C', b"Xs\0", false);
        check(b'S', b"", true);
        check(b'S', b"x", false);
        check(b'p', b"secret\0", false);
        check(0, b"", false);
    }

    #[test]
    fn names_count_to_63_bytes() {
        let long = [b'a'; 80];
        let mut body = vec![b'S'];
        body.extend_from_slice(&long);
        body.push(0);
        let Message::Close { name, .. } = Message::read(&Frame::new(b'C', &body)).unwrap() else {
            panic!()
        };
        assert_eq!(name, Name::of(&"a".repeat(63)));
    }
}
