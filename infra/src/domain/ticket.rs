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
    /// When the person was last sent to prove anew who they are, and did.
    pub authenticated: Option<Timestamp>,
    /// The operation that the person reads part by part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<PageReading>,
}

/// How far a person has read an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageReading {
    pub approval: ApprovalId,
    /// Parts that were served, from the first on without a gap.
    pub parts: u64,
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
    /// Approves what is alike too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grants: bool,
    /// What proves the click, as the evidence of a vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// A client that waits for its person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectWeb {
    pub target: String,
    pub database: String,
    pub user: String,
    pub client: Client,
    /// [Hash](ConnectCode::digest) of the code that the client shows.
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

/// Wrong codes that end a client's wait.
pub const CONNECT_TRIES_MAX: u32 = 3;

/// The code that a client shows and its person types: written, and read, as the numbers of approvals are.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectCode(ApprovalId);

impl ConnectCode {
    /// Makes a code of 40 bits of randomness given by the caller.
    pub fn from_random(random: [u8; 5]) -> Self {
        Self(ApprovalId::from_random(random))
    }

    /// As the client shows it: `K7Q2-M4XA`.
    pub fn shown(&self) -> String {
        let (first, second) = self.0.as_str().split_at(ApprovalId::LENGTH / 2);
        format!("{first}-{second}")
    }

    /// Its hash, as a [`ConnectWeb`] keeps it: nobody finds the code by trying who does not have the secret too.
    pub fn digest(&self, secret: &Secret) -> Digest {
        digest(&[("secret", secret.reveal()), ("code", self.0.as_str())])
    }
}

/// The client has its answer already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this connection was answered already")]
pub struct Answered;

impl ConnectWeb {
    /// What it is after somebody who is signed in typed a code: good for one code only, and for few wrong ones.
    pub fn typed(&self, secret: &Secret, code: &str, by: &SignedIn) -> Result<Self, Answered> {
        self.must_wait()?;
        let is_right = code
            .parse()
            .is_ok_and(|code| ConnectCode(code).digest(secret) == self.code);
        if is_right {
            return Ok(self.answered(ConnectAnswer::Person {
                person: by.person.clone(),
                until: by.expires,
            }));
        }
        let tries = self.tries.saturating_add(1);
        let answer = if tries < CONNECT_TRIES_MAX {
            ConnectAnswer::None
        } else {
            let why = format!("a wrong code was typed {CONNECT_TRIES_MAX} times");
            ConnectAnswer::Refused { why }
        };
        Ok(Self {
            tries,
            ..self.answered(answer)
        })
    }

    /// What it is after somebody who is signed in said no.
    pub fn refused(&self, by: &Person) -> Result<Self, Answered> {
        self.must_wait()?;
        let why = format!("refused in the browser by {}", by.name);
        Ok(self.answered(ConnectAnswer::Refused { why }))
    }

    fn must_wait(&self) -> Result<(), Answered> {
        match &self.answer {
            ConnectAnswer::None => Ok(()),
            ConnectAnswer::Person { .. } | ConnectAnswer::Refused { .. } => Err(Answered),
        }
    }

    fn answered(&self, answer: ConnectAnswer) -> Self {
        Self { answer, ..self.clone() }
    }
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
                issued: None,
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
    use super::{Answered, CONNECT_TRIES_MAX, ConnectAnswer, ConnectCode, ConnectWeb, Ticket, TicketId};
    use crate::domain::example::{alice, at, client, every_purpose, sign_in};
    use crate::domain::identity::SignedIn;
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

    fn connect(code: &ConnectCode, secret: &Secret) -> ConnectWeb {
        ConnectWeb {
            target: "orders".to_owned(),
            database: "shop".to_owned(),
            user: "alice".to_owned(),
            client: client(),
            code: code.digest(secret),
            tries: 0,
            answer: ConnectAnswer::None,
        }
    }

    fn signed_in() -> SignedIn {
        SignedIn {
            person: alice(),
            expires: at(600),
            issued: None,
        }
    }

    #[test]
    fn the_code_is_typed_as_people_type() {
        let (code, secret) = (
            ConnectCode::from_random([1, 2, 3, 4, 5]),
            Secret::new("secret".to_owned()),
        );
        let waiting = connect(&code, &secret);
        let shown = code.shown();
        assert_eq!(shown.len(), 9);
        for typed in [
            shown.clone(),
            shown.to_lowercase(),
            shown.replace('-', ""),
            format!(" {shown} "),
        ] {
            let next = waiting.typed(&secret, &typed, &signed_in()).unwrap();
            assert!(
                matches!(next.answer, ConnectAnswer::Person { person, until } if person == alice() && until == at(600))
            );
        }
        let other = Secret::new("other".to_owned());
        let next = waiting.typed(&other, &shown, &signed_in()).unwrap();
        assert_eq!((next.answer, next.tries), (ConnectAnswer::None, 1));
    }

    #[test]
    fn three_wrong_codes_or_a_no_end_it_and_nothing_comes_after_an_answer() {
        let (code, secret) = (
            ConnectCode::from_random([1, 2, 3, 4, 5]),
            Secret::new("secret".to_owned()),
        );
        let mut connect = connect(&code, &secret);
        for tries in 1..CONNECT_TRIES_MAX {
            connect = connect.typed(&secret, "0000-0000", &signed_in()).unwrap();
            assert_eq!((&connect.answer, connect.tries), (&ConnectAnswer::None, tries));
        }
        let refused = connect.refused(&alice()).unwrap();
        let too_often = connect.typed(&secret, "", &signed_in()).unwrap();
        let good = connect.typed(&secret, &code.shown(), &signed_in()).unwrap();
        assert!(matches!(&refused.answer, ConnectAnswer::Refused { why } if why.contains("alice")));
        assert!(matches!(&too_often.answer, ConnectAnswer::Refused { why } if why.contains("3 times")));
        assert!(matches!(&good.answer, ConnectAnswer::Person { .. }));
        for answered in [refused, too_often, good] {
            assert_eq!(answered.typed(&secret, &code.shown(), &signed_in()), Err(Answered));
            assert_eq!(answered.refused(&alice()), Err(Answered));
        }
    }
}
