//! Chat links in DynamoDB: one item an account, and for each an item that leads to it, all of those in one partition.

use super::{ChatLinkError, ChatLinkStore};
use crate::domain::chat_link::{ChatAccount, ChatLink};
use crate::domain::id::DigestBuilder;
pub use crate::dynamodb::DynamoStore;
use crate::dynamodb::{Change, Item, Keys, Lane, Put, Span, Trouble, Unwritten, check_size, text, text_of};
use async_trait::async_trait;

const LINK: &str = "LINK";

/// The partition of what leads to links.
const LISTED: &str = "CHATS";

#[async_trait]
impl ChatLinkStore for DynamoStore {
    async fn read(&self, account: &ChatAccount) -> Result<Option<ChatLink>, ChatLinkError> {
        let found = self.get("a chat link", &keys(account)).await?;
        found.map(|item| read(account, &item)).transpose()
    }

    async fn put(&self, link: &ChatLink, former: Option<&ChatLink>) -> Result<(), ChatLinkError> {
        let change = match former {
            None => Change::New,
            Some(former) => Change::Instead {
                record: record(former)?,
            },
        };
        let put = Put {
            item: item(link)?,
            change,
        };
        let listed = Put {
            item: listed(&link.account),
            change: Change::Hint,
        };
        match self.write("a chat link", &[put, listed]).await {
            Ok(()) => Ok(()),
            Err(Unwritten::Trouble(trouble)) => Err(trouble.into()),
            Err(Unwritten::Conditions(_)) => {
                let current = ChatLinkStore::read(self, &link.account).await?.map(Box::new);
                Err(ChatLinkError::Conflict { current })
            }
        }
    }

    async fn remove(&self, link: &ChatLink) -> Result<(), ChatLinkError> {
        let Keys { pk, sk } = keys(&link.account);
        self.delete(&pk, &sk, "record", &text(record(link)?)).await?;
        match ChatLinkStore::read(self, &link.account).await? {
            None => Ok(()),
            Some(current) => Err(ChatLinkError::Conflict {
                current: Some(Box::new(current)),
            }),
        }
    }

    async fn all(&self, limit: usize) -> Result<Vec<ChatLink>, ChatLinkError> {
        let listed = self.partition("chat links", LISTED, &Span::look(limit)).await?;
        let keys: Vec<Keys> = listed
            .iter()
            .map(|item| Keys {
                pk: text_of(item, "sk").to_owned(),
                sk: LINK.to_owned(),
            })
            .collect();
        let mut found = self.get_all("chat links", Lane::Look, &keys).await?;
        let sound = keys.iter().filter_map(|keys| {
            let item = found.remove(keys)?;
            let link: Option<ChatLink> = serde_json::from_str(text_of(&item, "record")).ok();
            let sound = link.and_then(|link| read(&link.account.clone(), &item).ok());
            if sound.is_none() {
                tracing::error!(key = %keys.pk, "a damaged chat link is left out of a list");
            }
            sound
        });
        Ok(sound.collect())
    }
}

impl From<Trouble> for ChatLinkError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable { source: trouble.into() }
    }
}

/// Team and user may be of any length and hold any letter: the key is their hash.
fn keys(account: &ChatAccount) -> Keys {
    let mut digest = DigestBuilder::default();
    digest
        .part("team", account.team.as_bytes())
        .part("user", account.user.as_bytes());
    Keys {
        pk: format!("CHAT#{}#{}", account.platform.as_str(), digest.finish()),
        sk: LINK.to_owned(),
    }
}

/// Leads to the link of an account; stays when that is removed.
fn listed(account: &ChatAccount) -> Item {
    Item::from([
        ("pk".to_owned(), text(LISTED)),
        ("sk".to_owned(), text(keys(account).pk)),
    ])
}

fn record(link: &ChatLink) -> Result<String, ChatLinkError> {
    serde_json::to_string(link).map_err(|error| ChatLinkError::Unavailable { source: error.into() })
}

fn item(link: &ChatLink) -> Result<Item, ChatLinkError> {
    let record = record(link)?;
    check_size("the chat link", &record)?;
    let Keys { pk, sk } = keys(&link.account);
    Ok(Item::from([
        ("pk".to_owned(), text(pk)),
        ("sk".to_owned(), text(sk)),
        ("record".to_owned(), text(record)),
    ]))
}

/// The link, if its bytes are as they were written and it is that of the account under which it stands.
fn read(account: &ChatAccount, found: &Item) -> Result<ChatLink, ChatLinkError> {
    let damaged = |why: String| {
        let account = account.clone();
        ChatLinkError::Damaged { account, why }
    };
    let link: ChatLink = serde_json::from_str(text_of(found, "record"))
        .map_err(|error| damaged(format!("it does not read: {error}")))?;
    if link.account == *account && item(&link)? == *found {
        Ok(link)
    } else {
        Err(damaged("it is not what was written for this account".to_owned()))
    }
}
