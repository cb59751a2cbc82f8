//! Who is asking, and who decides.

use super::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// What identifies a person for ever: the issuer and its subject. E-mail, name and groups are attributes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PersonKey {
    pub issuer: String,
    pub subject: String,
}

impl fmt::Display for PersonKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.issuer, self.subject)
    }
}

/// Whether a token speaks for a human being or for a program (OAuth client credentials).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonKind {
    Human,
    Machine,
}

/// A verified caller, as the token said at the time it was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    pub key: PersonKey,
    /// What people read: never used to decide anything.
    pub name: String,
    /// Only an e-mail address that the issuer calls verified.
    pub email: Option<String>,
    pub groups: BTreeSet<String>,
    pub kind: PersonKind,
}

/// A person together with the moment at which the token that proved them ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    pub person: Person,
    pub expires: Timestamp,
    /// When the issuer said what the person is, where the token says it (`iat`) and was read just now.
    pub issued: Option<Timestamp>,
}
