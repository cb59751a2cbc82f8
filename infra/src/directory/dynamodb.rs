//! The directory in DynamoDB: one item a person, and for each address items that lead to whoever bore it.

use super::{DirectoryError, DirectoryStore, SAME_MAILBOX_MAX};
use crate::domain::directory::DirectoryEntry;
use crate::domain::id::{Digest, DigestBuilder};
use crate::domain::identity::PersonKey;
pub use crate::dynamodb::DynamoStore;
use crate::dynamodb::{Change, Item, Keys, Lane, Put, Span, Trouble, Unwritten, check_size, text, text_of};
use async_trait::async_trait;

const ENTRY: &str = "DIRECTORY";

/// Whoever bore an address once and has another now still has an item there. Of more than so many nobody is meant.
const LED_MAX: usize = 50;

/// Others may keep an entry of the same person in the same moment.
const TRIES_MAX: usize = 5;

#[async_trait]
impl DirectoryStore for DynamoStore {
    async fn keep(&self, entry: &DirectoryEntry) -> Result<(), DirectoryError> {
        let key = &entry.person.key;
        let mut kept = DirectoryStore::read(self, key).await;
        for _ in 0..TRIES_MAX {
            let change = match kept {
                Ok(Some(kept)) if kept.as_of >= entry.as_of => return Ok(()),
                Ok(Some(kept)) => Change::Instead { record: record(&kept)? },
                Ok(None) => Change::New,
                Err(error) => return Err(error),
            };
            let mut puts = vec![Put {
                item: item(entry)?,
                change,
            }];
            puts.extend(entry.mailbox().map(|mailbox| Put {
                item: leads_to(&mailbox, key),
                change: Change::Hint,
            }));
            match self.write("a directory entry", &puts).await {
                Ok(()) => return Ok(()),
                Err(Unwritten::Trouble(trouble)) => return Err(trouble.into()),
                Err(Unwritten::Conditions(_)) => kept = DirectoryStore::read(self, key).await,
            }
        }
        Err(Trouble::new("a directory entry: others keep changing it").into())
    }

    async fn read(&self, person: &PersonKey) -> Result<Option<DirectoryEntry>, DirectoryError> {
        let found = self.get("a directory entry", &keys(person)).await?;
        found.map(|item| read(&item)).transpose()?.map_or(Ok(None), |entry| {
            if entry.person.key == *person {
                Ok(Some(entry))
            } else {
                Err(damaged(person.to_string(), "it is another person's".to_owned()))
            }
        })
    }

    async fn find(&self, mailbox: &str) -> Result<Vec<DirectoryEntry>, DirectoryError> {
        let led = self
            .partition(
                "a mailbox of the directory",
                &mailbox_key(mailbox),
                &Span::all(LED_MAX + 1),
            )
            .await?;
        if led.len() > LED_MAX {
            tracing::error!(
                people = led.len(),
                "an address was borne by too many people to mean one"
            );
            return Ok(Vec::new());
        }
        let keys: Vec<Keys> = led
            .iter()
            .map(|item| Keys {
                pk: text_of(item, "sk").to_owned(),
                sk: ENTRY.to_owned(),
            })
            .collect();
        let found = self.get_all("directory entries", Lane::Decide, &keys).await?;
        let entries = found.values().map(read).collect::<Result<Vec<_>, _>>()?;
        let bears_it = |entry: &DirectoryEntry| entry.mailbox().as_deref() == Some(mailbox);
        Ok(entries.into_iter().filter(bears_it).take(SAME_MAILBOX_MAX).collect())
    }
}

impl From<Trouble> for DirectoryError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable { source: trouble.into() }
    }
}

/// Issuer and subject may be of any length and hold any letter: the key is their hash.
fn keys(person: &PersonKey) -> Keys {
    let mut digest = DigestBuilder::default();
    digest
        .part("issuer", person.issuer.as_bytes())
        .part("subject", person.subject.as_bytes());
    Keys {
        pk: format!("PERSON#{}", digest.finish()),
        sk: ENTRY.to_owned(),
    }
}

fn mailbox_key(mailbox: &str) -> String {
    format!("MAILBOX#{}", Digest::of(mailbox.as_bytes()))
}

fn leads_to(mailbox: &str, person: &PersonKey) -> Item {
    Item::from([
        ("pk".to_owned(), text(mailbox_key(mailbox))),
        ("sk".to_owned(), text(keys(person).pk)),
    ])
}

fn record(entry: &DirectoryEntry) -> Result<String, DirectoryError> {
    serde_json::to_string(entry).map_err(|error| DirectoryError::Unavailable { source: error.into() })
}

fn item(entry: &DirectoryEntry) -> Result<Item, DirectoryError> {
    let record = record(entry)?;
    check_size("the directory entry", &record)?;
    let Keys { pk, sk } = keys(&entry.person.key);
    Ok(Item::from([
        ("pk".to_owned(), text(pk)),
        ("sk".to_owned(), text(sk)),
        ("record".to_owned(), text(record)),
    ]))
}

/// The entry, if its item is as it was written.
fn read(found: &Item) -> Result<DirectoryEntry, DirectoryError> {
    let broken = |why: String| damaged(text_of(found, "pk").to_owned(), why);
    let entry: DirectoryEntry =
        serde_json::from_str(text_of(found, "record")).map_err(|error| broken(format!("it does not read: {error}")))?;
    if item(&entry)? == *found {
        Ok(entry)
    } else {
        Err(broken("it is not what was written for this person".to_owned()))
    }
}

fn damaged(person: String, why: String) -> DirectoryError {
    DirectoryError::Damaged { person, why }
}
