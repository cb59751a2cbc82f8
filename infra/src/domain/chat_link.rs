//! A chat link: which person a chat account speaks for, as a sign-in proved.

use super::Timestamp;
use super::directory::DirectoryEntry;
use super::identity::Person;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatPlatform {
    Slack,
    Discord,
}

impl ChatPlatform {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Discord => "discord",
        }
    }
}

/// One account of a chat. Ids, as the platform gives them: names change hands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChatAccount {
    pub platform: ChatPlatform,
    /// Slack's team, Discord's guild.
    pub team: String,
    pub user: String,
}

impl fmt::Display for ChatAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.platform.as_str(), self.team, self.user)
    }
}

/// The stored record of one link. An account has one at most: linking it again takes the former back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatLink {
    pub account: ChatAccount,
    /// As the last sign-in said: groups may have changed since.
    pub person: Person,
    pub linked: Timestamp,
    /// The last sign-in.
    pub refreshed: Timestamp,
    /// The address that made the link, as the workspace had verified it; none where the person confirmed the link. It
    /// stands as long as the workspace says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<String>,
    /// Counts the changes of the record.
    pub version: u64,
}

/// The sign-in was of somebody else: the account must be linked again, not refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chat account is linked to another person")]
pub struct OtherPerson;

impl ChatLink {
    /// Links an account to the person who signed in and confirmed it; in place of the former link, if there is one.
    pub fn link(account: ChatAccount, person: Person, former: Option<&Self>, now: Timestamp) -> Self {
        Self {
            account,
            person,
            linked: now,
            refreshed: now,
            mailbox: None,
            version: former.map_or(0, |former| former.version.saturating_add(1)),
        }
    }

    /// Links an account to the person whose verified address is the account's; as of their last sign-in.
    pub fn by_mailbox(
        account: ChatAccount,
        entry: &DirectoryEntry,
        mailbox: String,
        former: Option<&Self>,
        now: Timestamp,
    ) -> Self {
        Self {
            refreshed: entry.as_of,
            mailbox: Some(mailbox),
            ..Self::link(account, entry.person.clone(), former, now)
        }
    }

    /// The next version, after the same person signed in again.
    pub fn refresh(&self, person: Person, now: Timestamp) -> Result<Self, OtherPerson> {
        if person.key != self.person.key {
            return Err(OtherPerson);
        }
        Ok(Self {
            person,
            refreshed: now,
            version: self.version.saturating_add(1),
            ..self.clone()
        })
    }

    /// Whether the last sign-in is young enough to stand for what the person may do now.
    pub fn is_fresh(&self, now: Timestamp, age_max: Duration) -> bool {
        let age = (now - self.refreshed).to_std();
        // A sign-in of the future is one of a clock that is not ours.
        age.is_ok_and(|age| age <= age_max)
    }
}

#[cfg(test)]
mod tests {
    use super::{ChatLink, DirectoryEntry, OtherPerson};
    use crate::domain::example::{alice, at, bob, chat_account, person};
    use std::time::Duration;

    #[test]
    fn a_link_is_refreshed_by_its_person_alone() {
        let link = ChatLink::link(chat_account(1), alice(), None, at(0));
        let promoted = person("alice", &["engineering", "dba"]);
        let refreshed = link.refresh(promoted.clone(), at(60)).unwrap();
        assert_eq!((&refreshed.person, refreshed.version), (&promoted, 1));
        assert_eq!((refreshed.linked, refreshed.refreshed), (at(0), at(60)));
        assert_eq!(link.refresh(bob(), at(60)), Err(OtherPerson));
        let other = ChatLink::link(chat_account(1), bob(), Some(&refreshed), at(90));
        assert_eq!((other.person, other.linked, other.version), (bob(), at(90), 2));
    }

    #[test]
    fn an_address_links_as_of_the_last_sign_in() {
        let entry = DirectoryEntry {
            person: bob(),
            as_of: at(5),
        };
        let link = ChatLink::by_mailbox(chat_account(1), &entry, "bob@example.com".to_owned(), None, at(60));
        assert_eq!((link.linked, link.refreshed), (at(60), at(5)));
        let refreshed = link.refresh(bob(), at(70)).unwrap();
        assert_eq!(refreshed.mailbox.as_deref(), Some("bob@example.com"));
        // Whoever confirms it by a sign-in needs the address no more.
        let confirmed = ChatLink::link(chat_account(1), bob(), Some(&refreshed), at(80));
        assert_eq!(confirmed.mailbox, None);
    }

    #[test]
    fn a_sign_in_is_fresh_for_a_while() {
        let link = ChatLink::link(chat_account(1), alice(), None, at(0));
        for (now, fresh) in [(-1, false), (0, true), (60, true), (61, false)] {
            assert_eq!(link.is_fresh(at(now), Duration::from_secs(60)), fresh, "at {now} s");
        }
    }
}
