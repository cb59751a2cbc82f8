//! A ticket: what a link or a cookie stands for while somebody is on the way through a browser.
//!
//! The browser has a random secret, the store only its hash: whoever reads the store can use no ticket.

use super::Timestamp;
use super::access_request::Client;
use super::approval::Choice;
use super::chat_link::ChatAccount;
use super::id::{ApprovalId, Digest, DigestBuilder};
use super::identity::{Person, SignedIn};
use super::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Names a ticket in the store: the hash of its secret, as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TicketId(Digest);

impl TicketId {
    /// The ticket that a secret opens, if there is one.
    pub fn of(secret: &Secret) -> Self {
        Self(Digest::of(secret.reveal().as_bytes()))
    }
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The stored record of one ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    pub id: TicketId,
    pub made: Timestamp,
    /// From then on there is no such ticket.
    pub expires: Timestamp,
    #[serde(flatten)]
    pub purpose: Purpose,
}

/// What a ticket is good for, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "purpose", rename_all = "snake_case")]
pub enum Purpose {
    /// A browser is at the issuer; the secret is the `state` that it brings back.
    SignIn(SignIn),
    /// A browser is signed in; the secret is its cookie.
    PageSession(PageSession),
    /// A chat account asks whose it is.
    LinkChat(LinkChat),
    /// A vote was clicked in a chat, and counts once its person has signed in anew.
    ConfirmVote(ConfirmVote),
    /// A client waits on its connection until its person has signed in.
    ConnectWeb(ConnectWeb),
    /// The next page of an answer in a chat; the secret stands in its button.
    AuditPage(AuditPage),
}

/// One way to an issuer and back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignIn {
    pub issuer: String,
    /// Path and query of the page to go on with.
    pub return_to: String,
    /// [Hash](browser_digest) of the cookie of the browser that went.
    pub browser: Digest,
    /// The person has to prove anew who they are, though the issuer may still know them.
    pub anew: bool,
}

/// A person at a browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageSession {
    pub person: Person,
    /// When the person last proved who they are, where the issuer says it.
    pub authenticated: Option<Timestamp>,
}

/// A chat account that is to speak for the person who signs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkChat {
    pub account: ChatAccount,
    /// For readers: names change hands.
    pub account_name: String,
    pub team_name: String,
}

/// How an answer in a chat goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// Who may turn it.
    pub account: ChatAccount,
    /// The question as it was asked.
    pub question: String,
    /// When: what `since:24h` counts from.
    pub asked: Timestamp,
    pub after: String,
}

/// A vote that waits for its person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmVote {
    pub account: ChatAccount,
    pub approval: ApprovalId,
    pub choice: Choice,
    pub reason: Option<String>,
}

/// A client that waits for its person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectWeb {
    pub target: String,
    pub database: String,
    pub user: String,
    pub client: Client,
    /// [Hash](code_digest) of the code that the client shows.
    pub code: Digest,
    /// Wrong codes so far.
    pub tries: u32,
    pub answer: ConnectAnswer,
}

/// What a client that waits is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum ConnectAnswer {
    None,
    Person { person: Person, until: Timestamp },
    Refused { why: String },
}

impl Ticket {
    /// Makes a ticket from randomness given by the caller. The secret is for the browser alone, and safe in a URL.
    pub fn new(random: [u8; 32], purpose: Purpose, now: Timestamp, lasts: Duration) -> (Secret, Self) {
        let secret = Secret::new(URL_SAFE_NO_PAD.encode(random));
        let lasts = chrono::TimeDelta::from_std(lasts).unwrap_or_default();
        let ticket = Self {
            id: TicketId::of(&secret),
            made: now,
            expires: now.checked_add_signed(lasts).unwrap_or(now),
            purpose,
        };
        (secret, ticket)
    }

    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.expires
    }

    /// The same ticket with another content, to be written in its place.
    pub fn with(&self, purpose: Purpose) -> Self {
        Self {
            purpose,
            ..self.clone()
        }
    }

    /// Who is signed in, if that is what the ticket is good for.
    pub fn signed_in(&self) -> Option<SignedIn> {
        match &self.purpose {
            Purpose::PageSession(session) => Some(SignedIn {
                person: session.person.clone(),
                expires: self.expires,
            }),
            Purpose::SignIn(_)
            | Purpose::LinkChat(_)
            | Purpose::ConfirmVote(_)
            | Purpose::ConnectWeb(_)
            | Purpose::AuditPage(_) => None,
        }
    }
}

/// The hash of a browser's cookie, as a [`SignIn`] keeps it.
pub fn browser_digest(cookie: &Secret) -> Digest {
    digest(&[("browser", cookie.reveal())])
}

/// The hash of the code that a client shows. Nobody finds the code by trying who does not have the ticket's secret too.
pub fn code_digest(secret: &Secret, code: &str) -> Digest {
    digest(&[("secret", secret.reveal()), ("code", code)])
}

fn digest(parts: &[(&str, &str)]) -> Digest {
    let mut digest = DigestBuilder::default();
    digest.part("countersign", b"ticket/1");
    for (tag, value) in parts {
        digest.part(tag, value.as_bytes());
    }
    digest.finish()
}

#[cfg(test)]
mod tests {
    use super::{Ticket, TicketId, code_digest};
    use crate::domain::example::{at, every_purpose, sign_in};
    use crate::domain::secret::Secret;
    use std::time::Duration;

    #[test]
    fn a_ticket_is_named_by_the_hash_of_its_secret_and_does_not_hold_it() {
        for (number, purpose) in (0..).zip(every_purpose()) {
            let (secret, ticket) = Ticket::new([number; 32], purpose, at(0), Duration::from_secs(60));
            assert_eq!(ticket.id, TicketId::of(&secret));
            assert_eq!(secret.reveal().len(), 43);
            let record = serde_json::to_string(&ticket).unwrap();
            assert!(!record.contains(secret.reveal()) && !format!("{ticket:?}").contains(secret.reveal()));
            assert_eq!(serde_json::from_str::<Ticket>(&record).unwrap(), ticket);
        }
    }

    #[test]
    fn a_ticket_is_over_at_its_end() {
        let (_, ticket) = Ticket::new([1; 32], sign_in("/approvals"), at(0), Duration::from_secs(60));
        for (now, over) in [(-1, false), (0, false), (59, false), (60, true), (61, true)] {
            assert_eq!(ticket.is_over(at(now)), over, "at {now} s");
        }
        let (_, endless) = Ticket::new([1; 32], sign_in("/approvals"), at(0), Duration::MAX);
        assert!(endless.is_over(at(0)), "a time that cannot be counted is none");
    }

    #[test]
    fn only_a_session_says_who_is_signed_in() {
        let tickets = every_purpose().map(|purpose| Ticket::new([1; 32], purpose, at(0), Duration::from_secs(60)).1);
        let people = tickets.iter().filter_map(Ticket::signed_in).collect::<Vec<_>>();
        assert_eq!(people.len(), 1);
        assert_eq!(people[0].expires, at(60));
    }

    #[test]
    fn a_code_is_one_of_its_ticket() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let digest = code_digest(&secret("a"), "K7Q2M4");
        assert_eq!(digest, code_digest(&secret("a"), "K7Q2M4"));
        assert_ne!(digest, code_digest(&secret("b"), "K7Q2M4"));
        assert_ne!(digest, code_digest(&secret("a"), "K7Q2M5"));
    }
}
