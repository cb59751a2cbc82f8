//! Grants in DynamoDB: those of a session in one partition, and for each a pointer from its id to there.

use super::{GRANTS_MAX, GrantError, GrantStore};
use crate::domain::grant::Grant;
use crate::domain::id::{GrantId, SessionId};
pub use crate::dynamodb::DynamoStore;
use crate::dynamodb::{Change, Item, Keys, Put, Span, Trouble, Unwritten, check_size, number, text, text_of};
use async_trait::async_trait;

#[async_trait]
impl GrantStore for DynamoStore {
    async fn create(&self, grant: &Grant) -> Result<(), GrantError> {
        let pointer = Item::from([
            ("pk".to_owned(), text(pointer(grant.id).pk)),
            ("sk".to_owned(), text(POINTER)),
            ("session".to_owned(), text(grant.session.to_string())),
        ]);
        let puts = [item(grant)?, pointer].map(|mut item| {
            if let Some(expires) = self.expiry(grant.until) {
                item.insert("expires".to_owned(), number(expires));
            }
            let change = Change::New;
            Put { item, change }
        });
        self.written(grant.id, self.write("a grant", &puts).await).await
    }

    async fn read(&self, id: GrantId) -> Result<Grant, GrantError> {
        let pointed = self.get("a grant", &pointer(id)).await?;
        let session = pointed.as_ref().and_then(|item| text_of(item, "session").parse().ok());
        let session: SessionId = session.ok_or(GrantError::NotFound(id))?;
        let found = self.get("a grant", &keys(session, id)).await?;
        found.map_or(Err(GrantError::NotFound(id)), |item| read(id, &item))
    }

    async fn replace(&self, next: &Grant) -> Result<(), GrantError> {
        let mut item = item(next)?;
        if let Some(expires) = self.expiry(next.until) {
            item.insert("expires".to_owned(), number(expires));
        }
        let change = Change::Next { version: next.version };
        let written = self.write("a change of a grant", &[Put { item, change }]).await;
        self.written(next.id, written).await
    }

    async fn of_session(&self, session: SessionId) -> Result<Vec<Grant>, GrantError> {
        let found = self
            .partition("grants", &partition(session), &Span::all(GRANTS_MAX))
            .await?;
        let grant = |item: &Item| {
            let id = text_of(item, "sk")
                .parse()
                .map_err(|_| Trouble::new("a grant stands under no id"))?;
            read(id, item)
        };
        found.iter().map(grant).collect()
    }
}

impl DynamoStore {
    /// A failed condition says that there is another record: the present one is read for it.
    async fn written(&self, id: GrantId, written: Result<(), Unwritten>) -> Result<(), GrantError> {
        match written {
            Ok(()) => Ok(()),
            Err(Unwritten::Trouble(trouble)) => Err(trouble.into()),
            Err(Unwritten::Conditions(_)) => {
                let current = Box::new(GrantStore::read(self, id).await?);
                Err(GrantError::Conflict { current })
            }
        }
    }
}

impl From<Trouble> for GrantError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable { source: trouble.into() }
    }
}

const POINTER: &str = "SESSION";

fn partition(session: SessionId) -> String {
    format!("GRANTS#{session}")
}

fn keys(session: SessionId, id: GrantId) -> Keys {
    Keys {
        pk: partition(session),
        sk: id.to_string(),
    }
}

fn pointer(id: GrantId) -> Keys {
    Keys {
        pk: format!("GRANT#{id}"),
        sk: POINTER.to_owned(),
    }
}

/// All that the table has of a grant, but when it may be deleted. Everything is derived from the record.
fn item(grant: &Grant) -> Result<Item, GrantError> {
    let failed = |error: serde_json::Error| GrantError::Unavailable { source: error.into() };
    let record = serde_json::to_string(grant).map_err(failed)?;
    check_size("the grant", &record)?;
    let Keys { pk, sk } = keys(grant.session, grant.id);
    Ok(Item::from([
        ("pk".to_owned(), text(pk)),
        ("sk".to_owned(), text(sk)),
        ("version".to_owned(), number(grant.version)),
        ("record".to_owned(), text(record)),
    ]))
}

fn read(id: GrantId, found: &Item) -> Result<Grant, GrantError> {
    let damaged = |why: String| GrantError::Damaged { id, why };
    let grant: Grant = serde_json::from_str(text_of(found, "record"))
        .map_err(|error| damaged(format!("it does not read: {error}")))?;
    let mut stored = found.clone();
    stored.remove("expires");
    if item(&grant)? == stored && grant.id == id {
        Ok(grant)
    } else {
        Err(damaged("its record and the attributes beside it differ".to_owned()))
    }
}
