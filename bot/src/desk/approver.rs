//! Who clicked: the person for whom a chat account speaks.

use super::{Desk, named, unready, with_link};
use crate::chat::{Answer, ChatError, Profile, Request};
use chrono::Utc;
use countersign_infra::chat_links::ChatLinkError;
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::chat_link::{ChatAccount, ChatLink};
use countersign_infra::domain::directory::{DirectoryEntry, mailbox};
use countersign_infra::domain::identity::Person;
use countersign_infra::domain::ticket::{LinkChat, Purpose};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a link to the sign-in stays open.
const LINK_OPEN: Duration = Duration::from_secs(600);
/// Profiles are believed for a while.
const PROFILE_LASTS: Duration = Duration::from_secs(300);
const PROFILES_MAX: usize = 10_000;

/// What the workspaces said of accounts a while ago.
#[derive(Default)]
pub(super) struct Profiles(Mutex<HashMap<ChatAccount, (Instant, Profile)>>);

impl Profiles {
    fn find(&self, account: &ChatAccount) -> Option<Profile> {
        let profiles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, profile) = profiles.get(account)?;
        (at.elapsed() < PROFILE_LASTS).then(|| profile.clone())
    }

    fn keep(&self, account: &ChatAccount, profile: &Profile) {
        let mut profiles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if profiles.len() >= PROFILES_MAX {
            profiles.retain(|_, (at, _)| at.elapsed() < PROFILE_LASTS);
        }
        if profiles.len() < PROFILES_MAX {
            profiles.insert(account.clone(), (Instant::now(), profile.clone()));
        }
    }
}

impl Desk {
    /// The person, as their last sign-in said; else what to tell who asked.
    pub(super) async fn person(&self, request: &Request) -> Result<Person, Answer> {
        let Some(link) = self.known(request).await? else {
            let text = "This chat account is linked to nobody yet. Sign in once, and it speaks for you here.";
            return Err(self.link_with(request, text).await);
        };
        if !link.is_fresh(Utc::now(), self.link_lasts) {
            let text = format!(
                "Your last sign-in ({}) is too long ago to know your groups. Sign in again, then repeat this.",
                link.person.name
            );
            return Err(self.link_with(request, &text).await);
        }
        Ok(link.person)
    }

    /// `/countersign link`.
    pub(super) async fn link(&self, request: &Request) -> Result<Answer, Answer> {
        let text = match &self.known(request).await? {
            None => "Sign in, and this chat account speaks for you here.".to_owned(),
            Some(link) => format!(
                "This chat account speaks for {} since {}{}. Sign in again to renew your groups, or as somebody else.",
                link.person.name,
                link.linked.format("%Y-%m-%d"),
                match &link.mailbox {
                    Some(mailbox) => format!(", by its address {mailbox}"),
                    None => String::new(),
                }
            ),
        };
        Ok(self.link_with(request, &text).await)
    }

    /// The account's link, as of its person's last sign-in.
    async fn known(&self, request: &Request) -> Result<Option<ChatLink>, Answer> {
        let profile = self.profile(&request.account).await?;
        let verified = profile.email.as_deref().filter(|_| self.verified_email);
        let mailbox = verified.and_then(mailbox);
        let stored = self.stores.chat_links.read(&request.account).await.map_err(unready)?;
        match (stored, mailbox) {
            (Some(link), _) if link.mailbox.is_none() => {
                let entry = self.stores.directory.read(&link.person.key).await.map_err(unready)?;
                Ok(Some(self.refreshed(link, entry).await?))
            }
            (stored, Some(mailbox)) => self.by_mailbox(request, mailbox, stored).await,
            // One that an address made stands as long as the workspace says the same.
            (_, None) => Ok(None),
        }
    }

    /// What a later sign-in said, anywhere, counts: also that somebody is in a group no more.
    async fn refreshed(&self, link: ChatLink, entry: Option<DirectoryEntry>) -> Result<ChatLink, Answer> {
        let Some(entry) = entry.filter(|entry| entry.as_of > link.refreshed) else {
            return Ok(link);
        };
        let refreshed = link.refresh(entry.person, entry.as_of).map_err(unready)?;
        // Kept for whom to write to; another click may have been first.
        if let Err(error) = self.stores.chat_links.put(&refreshed, Some(&link)).await {
            tracing::debug!(account = %link.account, %error, "a chat link was not refreshed in the store");
        }
        Ok(refreshed)
    }

    /// The link of an account to whom its verified address means now, if that is one person.
    async fn by_mailbox(
        &self,
        request: &Request,
        mailbox: String,
        stored: Option<ChatLink>,
    ) -> Result<Option<ChatLink>, Answer> {
        let mut found = self.stores.directory.find(&mailbox).await.map_err(unready)?;
        if found.len() > 1 {
            tracing::warn!(account = %request.account, people = found.len(), "an address means more than one person");
            return Ok(None);
        }
        let Some(entry) = found.pop() else { return Ok(None) };
        let is_same =
            |link: &ChatLink| link.person.key == entry.person.key && link.mailbox.as_deref() == Some(mailbox.as_str());
        match stored {
            Some(link) if is_same(&link) => self.refreshed(link, Some(entry)).await.map(Some),
            former => self.link_to(request, &entry, mailbox, former).await.map(Some),
        }
    }

    /// Links the account. It is journaled first.
    async fn link_to(
        &self,
        request: &Request,
        entry: &DirectoryEntry,
        mailbox: String,
        former: Option<ChatLink>,
    ) -> Result<ChatLink, Answer> {
        let linked = Happening::ChatLinked {
            account: request.account.clone(),
            account_name: named(&request.account, &request.name),
            team_name: request.account.team.clone(),
            former: former.as_ref().map(|link| link.person.key.clone()),
            former_name: former.as_ref().map(|link| link.person.name.clone()),
            mailbox: Some(mailbox.clone()),
        };
        self.journal.note(&entry.person, linked).await.map_err(unready)?;
        let link = ChatLink::by_mailbox(request.account.clone(), entry, mailbox, former.as_ref(), Utc::now());
        match self.stores.chat_links.put(&link, former.as_ref()).await {
            Ok(()) => {
                tracing::info!(account = %link.account, person = link.person.name, "a chat account was linked by its address");
                Ok(link)
            }
            // Another click of the same account was first.
            Err(ChatLinkError::Conflict { current: Some(current) }) if current.person.key == link.person.key => {
                Ok(*current)
            }
            Err(error) => Err(unready(error)),
        }
    }

    async fn link_with(&self, request: &Request, text: &str) -> Answer {
        let purpose = Purpose::LinkChat(LinkChat {
            account: request.account.clone(),
            account_name: named(&request.account, &request.name),
            team_name: request.account.team.clone(),
        });
        let url = match self.ticket(purpose, LINK_OPEN).await {
            Ok(secret) => self.page(&format!("link/{}", secret.reveal())),
            Err(answer) => return answer,
        };
        match url {
            Ok(url) => with_link(
                format!("{text} The link is for you alone, once, for ten minutes."),
                "Sign in",
                url,
            ),
            Err(answer) => answer,
        }
    }

    /// Refuses guests, bots and strangers.
    async fn profile(&self, account: &ChatAccount) -> Result<Profile, Answer> {
        let known = self.profiles.find(account);
        let profile = match known {
            Some(profile) => profile,
            None => {
                let chat = self.chats.get(&(account.platform, account.team.clone()));
                let chat = chat.ok_or_else(|| Answer::say("This workspace is not one of Countersign's."))?;
                let profile = chat.profile(&account.user).await.map_err(not_told)?;
                self.profiles.keep(account, &profile);
                profile
            }
        };
        match profile.outsider {
            Some(what) => Err(Answer::say(format!("{what} cannot use Countersign here."))),
            None => Ok(profile),
        }
    }
}

fn not_told(error: ChatError) -> Answer {
    tracing::warn!(%error, "the workspace did not say who an account is");
    Answer::say("The workspace did not say who you are, so nothing was done. Try again in a moment.")
}
