//! Of which workspace a request is that names none: a direct message to a bot that serves several servers.

use super::{Desk, unready};
use crate::chat::{Answer, Request};
use chrono::Utc;
use countersign_infra::domain::chat_link::{ChatAccount, ChatLink};
use futures_util::future::try_join_all;
use std::time::Duration;

impl Desk {
    /// The request as one of the workspace where its account speaks for somebody. Where it speaks for several people,
    /// nobody can tell which of them is meant, and nothing is done.
    pub(super) async fn at_home(&self, request: Request) -> Result<Request, Answer> {
        if request.or_of.is_empty() {
            return Ok(request);
        }
        let accounts = std::iter::once(&request.account).chain(&request.or_of);
        let links = try_join_all(accounts.map(|account| self.stores.chat_links.read(account)));
        let links: Vec<ChatLink> = links.await.map_err(unready)?.into_iter().flatten().collect();
        let account = home(&links, self.link_lasts).ok_or_else(nowhere)?;
        Ok(Request {
            account,
            or_of: Vec::new(),
            ..request
        })
    }
}

fn home(links: &[ChatLink], link_lasts: Duration) -> Option<ChatAccount> {
    let now = Utc::now();
    let mut fresh = links.iter().filter(|link| link.is_fresh(now, link_lasts));
    let first = fresh.next()?;
    let is_one_person = fresh.all(|link| link.person.key == first.person.key);
    is_one_person.then(|| first.account.clone())
}

fn nowhere() -> Answer {
    let text = "Nothing was decided: this bot serves several servers, and which is meant cannot be told from a direct message. \
                Sign in with /countersign link in the server's channel, or decide on the card there.";
    Answer::say(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_infra::domain::example::{alice, bob, chat_account};
    use countersign_infra::domain::identity::Person;

    #[test]
    fn a_direct_message_is_of_the_server_where_its_account_speaks_for_somebody() {
        let lasts = Duration::from_secs(60);
        let link = |number, person: Person, age| {
            let at = Utc::now() - chrono::TimeDelta::seconds(age);
            ChatLink::link(chat_account(number), person, None, at)
        };
        assert_eq!(home(&[], lasts), None);
        assert_eq!(home(&[link(1, bob(), 61)], lasts), None, "its sign-in is too long ago");
        let one = [link(1, bob(), 61), link(2, bob(), 0)];
        assert_eq!(home(&one, lasts), Some(chat_account(2)));
        let two_people = [link(1, alice(), 0), link(2, bob(), 0)];
        assert_eq!(home(&two_people, lasts), None);
        let stale = [link(1, alice(), 61), link(2, bob(), 0)];
        assert_eq!(home(&stale, lasts), Some(chat_account(2)));
    }
}
