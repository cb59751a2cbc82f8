//! Who clicked: the person for whom a chat account speaks.

use super::{Desk, unready, with_link};
use crate::chat::{Answer, ChatError, Profile, Request};
use chrono::Utc;
use countersign_infra::domain::chat_link::ChatAccount;
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
    /// The person, as a sign-in proved; else what to tell who asked.
    pub(super) async fn person(&self, request: &Request) -> Result<Person, Answer> {
        self.profile(&request.account).await?;
        let link = self.stores.chat_links.read(&request.account).await.map_err(unready)?;
        let Some(link) = link else {
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
        self.profile(&request.account).await?;
        let link = self.stores.chat_links.read(&request.account).await.map_err(unready)?;
        let text = match &link {
            None => "Sign in, and this chat account speaks for you here.".to_owned(),
            Some(link) => format!(
                "This chat account speaks for {} since {}. Sign in again to renew your groups, or as somebody else.",
                link.person.name,
                link.linked.format("%Y-%m-%d")
            ),
        };
        Ok(self.link_with(request, &text).await)
    }

    async fn link_with(&self, request: &Request, text: &str) -> Answer {
        let purpose = Purpose::LinkChat(LinkChat {
            account: request.account.clone(),
            account_name: super::named(&request.account, &request.name),
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
