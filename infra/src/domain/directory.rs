//! The directory: what sign-ins said of people, each as of the last.

use super::Timestamp;
use super::identity::Person;
use serde::{Deserialize, Serialize};

/// Longest address that is looked for, in bytes (RFC 5321, section 4.5.3.1).
const MAILBOX_BYTES_MAX: usize = 320;

/// A person as their last sign-in said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    pub person: Person,
    /// When the issuer said so.
    pub as_of: Timestamp,
}

impl DirectoryEntry {
    /// The address under which the person is found; none where the issuer verified none.
    pub fn mailbox(&self) -> Option<String> {
        self.person.email.as_deref().and_then(mailbox)
    }
}

/// An e-mail address as it is compared: letters of ASCII alone, without case. Anything else could read alike and be
/// another's.
pub fn mailbox(email: &str) -> Option<String> {
    let is_plain = email.len() <= MAILBOX_BYTES_MAX && email.bytes().all(|byte| byte.is_ascii_graphic());
    let (user, host) = email.split_once('@').filter(|_| is_plain)?;
    let is_one = !user.is_empty() && !host.is_empty() && !host.contains('@');
    is_one.then(|| email.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::mailbox;

    #[test]
    fn addresses_are_compared_without_case_and_never_by_their_looks() {
        assert_eq!(mailbox("Bob@Example.COM").as_deref(), Some("bob@example.com"));
        let long = format!("{}@example.com", "b".repeat(400));
        for wrong in [
            "",
            "bob",
            "@",
            "bob@",
            "@example.com",
            "bob@a@b",
            "b\u{43e}b@example.com",
            "bob @a",
            "a@b\n",
            &long,
        ] {
            assert_eq!(mailbox(wrong), None, "{wrong:?}");
        }
    }
}
