//! What is to be known of the messages of a unit.

use crate::gate::Ticket;
use crate::protocol::postgres::batch::Expected;
use crate::protocol::postgres::message::Message;
use crate::protocol::postgres::wire::Frame;
use bytes::Bytes;
use countersign_infra::domain::access_request::Part;
use countersign_infra::domain::id::DigestBuilder;
use std::collections::HashSet;

/// Messages that are judged; the others run nothing by themselves.
pub(super) fn is_judged(message: &Message) -> bool {
    match message {
        Message::Query { .. } | Message::Bind { .. } | Message::Execute { .. } | Message::FunctionCall { .. } => true,
        Message::Parse { .. }
        | Message::Describe { .. }
        | Message::Close { .. }
        | Message::Flush
        | Message::Sync
        | Message::CopyData
        | Message::CopyDone
        | Message::CopyFail
        | Message::Terminate => false,
    }
}

pub(super) fn begins_copy(entry: &Expected<Ticket>) -> bool {
    matches!(entry, Expected::Execute { step } if step.copy_in)
}

/// A portal is bound and not executed so far.
pub(super) fn leaves_portal(frames: &[(Frame, Message)]) -> bool {
    let mut waiting = HashSet::new();
    for (_, message) in frames {
        if let Message::Bind { portal, .. } = message {
            waiting.insert(portal);
        } else if let Message::Execute { portal } = message {
            waiting.remove(portal);
        }
    }
    !waiting.is_empty()
}

/// The messages themselves as a part of the operation: names, formats and row limits are bound with it.
pub(super) fn exact_messages(frames: &[Frame]) -> Part {
    let mut digest = DigestBuilder::default();
    for frame in frames {
        digest.part("message", frame.bytes());
    }
    Part {
        tag: Part::MESSAGES.to_owned(),
        bytes: Bytes::copy_from_slice(&digest.finish().0),
    }
}
