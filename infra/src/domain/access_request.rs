//! One request to do one operation: what the gate is asked to admit.

use super::effect::{Effects, WriteKind};
use super::id::{Digest, DigestBuilder, SessionId};
use super::identity::{Person, PersonKey};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Postgres,
    Ssh,
    Http,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Ssh => "ssh",
            Self::Http => "http",
        }
    }
}

/// One exact part of an operation: what its bytes are (`query`, `statement`, `value:text:23`) and the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub tag: String,
    pub bytes: Bytes,
}

impl Part {
    /// The tag of a digest over the protocol's own messages, which binds names, formats and limits too.
    pub const MESSAGES: &str = "messages";
}

/// What would be done: the exact bytes, what people are shown of them, and what they do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub protocol: Protocol,
    /// What is digested: everything that decides what runs, in order.
    pub parts: Vec<Part>,
    /// The display text: escaped and masked, with bound values. Never the bytes that run.
    pub display: String,
    /// The raw text that policies may look at (`context.text`).
    pub text: String,
    pub effects: Effects,
    /// What its writing statements do to rows.
    pub writes: BTreeSet<WriteKind>,
    /// Every writing statement of the operation carries a WHERE clause.
    pub has_where: bool,
    /// "Rows not seen": the operation goes on with data that nobody has seen yet (COPY FROM STDIN).
    pub unseen_data: bool,
}

impl Operation {
    /// Size of its texts and values in bytes.
    pub fn size_bytes(&self) -> u64 {
        let parts = self.parts.iter().filter(|part| part.tag != Part::MESSAGES);
        parts.map(|part| part.bytes.len() as u64).sum()
    }
}

/// Where and as whom an operation would run. All of it is part of the digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub target: String,
    pub database: String,
    /// The upstream role in force.
    pub role: String,
    pub search_path: String,
}

/// From where a person's client speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Address and port.
    pub address: String,
    /// What the client calls itself (`application_name`, `User-Agent`): a claim, shown as such.
    pub application: String,
}

/// One request: a person, a place, an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRequest {
    pub session: SessionId,
    pub person: Person,
    pub client: Client,
    pub place: Place,
    pub operation: Operation,
    pub in_transaction: bool,
}

impl AccessRequest {
    /// The digest of all that decides what runs and for whom.
    pub fn digest(&self) -> Digest {
        let Operation { protocol, parts, .. } = &self.operation;
        operation_digest(*protocol, &self.person.key, &self.place, parts)
    }
}

/// The digest of an operation: SHA-256 over tagged, length-prefixed parts.
pub fn operation_digest(protocol: Protocol, person: &PersonKey, place: &Place, parts: &[Part]) -> Digest {
    let mut digest = DigestBuilder::default();
    digest
        .part("countersign", b"operation/1")
        .part("protocol", protocol.as_str().as_bytes())
        .part("issuer", person.issuer.as_bytes())
        .part("subject", person.subject.as_bytes())
        .part("target", place.target.as_bytes())
        .part("database", place.database.as_bytes())
        .part("role", place.role.as_bytes())
        .part("search_path", place.search_path.as_bytes());
    for part in parts {
        digest.part(&part.tag, &part.bytes);
    }
    digest.finish()
}

#[cfg(test)]
mod tests {
    use super::{AccessRequest, Operation, Part, Protocol};
    use crate::domain::effect::WriteKind;
    use crate::domain::example::{alice, bob, client, effects, place, session};
    use bytes::Bytes;

    fn part(tag: &str, bytes: &'static str) -> Part {
        Part {
            tag: tag.to_owned(),
            bytes: Bytes::from_static(bytes.as_bytes()),
        }
    }

    fn request() -> AccessRequest {
        AccessRequest {
            session: session(1),
            person: alice(),
            client: client(),
            place: place(),
            operation: Operation {
                protocol: Protocol::Postgres,
                parts: vec![
                    part("statement", "DELETE FROM orders WHERE id = $1"),
                    part("value:text:23", "7"),
                ],
                display: "DELETE FROM orders WHERE id = 7".to_owned(),
                text: "DELETE FROM orders WHERE id = $1".to_owned(),
                effects: effects(),
                writes: [WriteKind::Delete].into(),
                has_where: true,
                unseen_data: false,
            },
            in_transaction: false,
        }
    }

    #[test]
    fn a_digest_is_of_all_that_decides_what_runs_and_for_whom() {
        type Change = fn(&mut AccessRequest);
        let changes: [(&str, Change); 11] = [
            ("person", |request| request.person = bob()),
            ("issuer", |request| request.person.key.issuer.push('x')),
            ("protocol", |request| request.operation.protocol = Protocol::Http),
            ("target", |request| request.place.target.push('x')),
            ("database", |request| request.place.database.push('x')),
            ("role", |request| request.place.role.push('x')),
            ("search_path", |request| request.place.search_path.push('x')),
            ("a value", |request| {
                request.operation.parts[1].bytes = Bytes::from_static(b"8")
            }),
            ("a value's type", |request| {
                request.operation.parts[1].tag = "value:binary:23".to_owned()
            }),
            ("one value more", |request| {
                request.operation.parts.push(part("value:text:23", ""))
            }),
            ("order", |request| request.operation.parts.reverse()),
        ];
        for (what, change) in changes {
            let mut changed = request();
            change(&mut changed);
            assert_ne!(changed.digest(), request().digest(), "{what} is not part of the digest");
        }
    }

    #[test]
    fn a_digest_is_not_of_what_only_describes() {
        let mut described = request();
        described.operation.display = "DELETE ****".to_owned();
        described.person.name = "Alice".to_owned();
        described.client.application = "pgcli".to_owned();
        assert_eq!(described.digest(), request().digest());
    }
}
