//! Chat links in SQLite: one row an account.

use super::{ChatLinkError, ChatLinkStore};
use crate::domain::chat_link::{ChatAccount, ChatLink};
pub use crate::embedded::EmbeddedStore;
use crate::embedded::{Trouble, Work, text};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

#[async_trait]
impl ChatLinkStore for EmbeddedStore {
    async fn read(&self, account: &ChatAccount) -> Result<Option<ChatLink>, ChatLinkError> {
        let account = account.clone();
        self.read_points(move |connection| read(connection, &account)).await?
    }

    async fn put(&self, link: &ChatLink, former: Option<&ChatLink>) -> Result<(), ChatLinkError> {
        let (account, record) = (link.account.clone(), record(link)?);
        let former = former.map(self::record).transpose()?;
        self.write(move |connection| {
            let ChatAccount { platform, team, user } = &account;
            let key = platform.as_str();
            let made = match former {
                None => connection
                    .prepare_cached("INSERT INTO chat_links VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")?
                    .execute(params![key, team, user, record])?,
                Some(former) => connection
                    .prepare_cached(
                        "UPDATE chat_links SET record = ?4
                         WHERE platform = ?1 AND team = ?2 AND user = ?3 AND record = ?5",
                    )?
                    .execute(params![key, team, user, record, former])?,
            };
            match made {
                1 => Ok(Ok(())),
                _ => Ok(read(connection, &account)?.and_then(|current| Err(conflict(current)))),
            }
        })
        .await?
    }

    async fn remove(&self, link: &ChatLink) -> Result<(), ChatLinkError> {
        let (account, record) = (link.account.clone(), record(link)?);
        self.write(move |connection| {
            let ChatAccount { platform, team, user } = &account;
            let mut delete = connection
                .prepare_cached("DELETE FROM chat_links WHERE platform = ? AND team = ? AND user = ? AND record = ?")?;
            if delete.execute(params![platform.as_str(), team, user, record])? == 1 {
                return Ok(Ok(()));
            }
            Ok(read(connection, &account)?.and_then(|current| match current {
                None => Ok(()),
                Some(_) => Err(conflict(current)),
            }))
        })
        .await?
    }

    async fn all(&self, limit: usize) -> Result<Vec<ChatLink>, ChatLinkError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read_points(move |connection| {
            let mut select = connection.prepare_cached(
                "SELECT platform, team, user, record FROM chat_links ORDER BY platform, team, user LIMIT ?",
            )?;
            let rows = select.query_map(params![limit], |row| {
                Ok([text(row, 0)?, text(row, 1)?, text(row, 2)?, text(row, 3)?])
            })?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            Ok(Ok(rows
                .iter()
                .filter_map(|[platform, team, user, stored]| {
                    let sound = serde_json::from_str::<ChatLink>(stored).ok().filter(|link| {
                        let account = &link.account;
                        (account.platform.as_str(), &account.team, &account.user) == (platform, team, user)
                    });
                    if sound.is_none() {
                        tracing::error!(%platform, %team, %user, "a damaged chat link is left out of a list");
                    }
                    sound
                })
                .collect()))
        })
        .await?
    }
}

impl From<Trouble> for ChatLinkError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable { source: trouble.into() }
    }
}

fn record(link: &ChatLink) -> Result<String, ChatLinkError> {
    serde_json::to_string(link).map_err(|error| ChatLinkError::Unavailable { source: error.into() })
}

fn conflict(current: Option<ChatLink>) -> ChatLinkError {
    let current = current.map(Box::new);
    ChatLinkError::Conflict { current }
}

/// The link, if its bytes are as they were written and it is that of the account under which it stands.
fn read(connection: &Connection, account: &ChatAccount) -> Work<Option<ChatLink>, ChatLinkError> {
    let ChatAccount { platform, team, user } = account;
    let stored = connection
        .prepare_cached("SELECT record FROM chat_links WHERE platform = ? AND team = ? AND user = ?")?
        .query_row(params![platform.as_str(), team, user], |row| text(row, 0))
        .optional()?;
    let Some(stored) = stored else { return Ok(Ok(None)) };
    let damaged = |why: String| {
        let account = account.clone();
        Err(ChatLinkError::Damaged { account, why })
    };
    let link: ChatLink = match serde_json::from_str(&stored) {
        Ok(link) => link,
        Err(error) => return Ok(damaged(format!("it does not read: {error}"))),
    };
    if link.account != *account || record(&link).ok().as_ref() != Some(&stored) {
        return Ok(damaged("it is not what was written for this account".to_owned()));
    }
    Ok(Ok(Some(link)))
}

#[cfg(test)]
mod tests {
    use super::EmbeddedStore;
    use crate::chat_links::flaky::FlakyChatLinks;
    use crate::chat_links::{ChatLinkError, ChatLinkStore, contract};
    use crate::domain::chat_link::ChatLink;
    use crate::domain::example::{alice, at, chat_account};
    use crate::flaky::Schedule;
    use rusqlite::Connection;
    use std::sync::Arc;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_contract_holds() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        contract::holds(Arc::new(store)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_contract_holds_on_a_bad_line() {
        for seed in [1, 2, 3] {
            let directory = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
            contract::holds(Arc::new(FlakyChatLinks::new(store, Schedule::new(seed)))).await;
        }
    }

    #[tokio::test]
    async fn a_link_under_another_account_links_nobody() {
        for change in ["user = 'U0002'", "record = '{}'", "record = record || ' '"] {
            let directory = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
            let link = ChatLink::link(chat_account(1), alice(), None, at(0));
            store.put(&link, None).await.unwrap();
            let file = Connection::open(store.path()).unwrap();
            file.execute_batch(&format!("UPDATE chat_links SET {change}")).unwrap();
            let account = chat_account(if change.starts_with("user") { 2 } else { 1 });
            let read = store.read(&account).await;
            assert!(matches!(read, Err(ChatLinkError::Damaged { .. })), "{change}: {read:?}");
        }
    }
}
