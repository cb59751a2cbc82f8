//! Announcements in DynamoDB: one item an approval. What is due is found by the index `open`, beside the leases of
//! approvals: it holds only what is not done with.

use super::{AnnouncementError, AnnouncementStore};
use crate::domain::Timestamp;
use crate::domain::announcement::Announcement;
use crate::domain::id::ApprovalId;
pub use crate::dynamodb::DynamoStore;
use crate::dynamodb::{
    Change, Item, Keys, OPEN, Put, Span, Trouble, Unwritten, check_size, micros, number, text, text_of,
};
use async_trait::async_trait;

/// The partition of the index that holds announcements.
const DUE: &str = "ANNOUNCE";

#[async_trait]
impl AnnouncementStore for DynamoStore {
    async fn read(&self, approval: &ApprovalId) -> Result<Option<Announcement>, AnnouncementError> {
        let found = self.get("an announcement", &keys(approval)).await?;
        found.map(|item| read(approval, &item)).transpose()
    }

    async fn put(&self, next: &Announcement, former: Option<&Announcement>) -> Result<(), AnnouncementError> {
        let change = match former {
            None => Change::New,
            Some(former) => Change::Instead {
                record: record(former)?,
            },
        };
        let mut item = item(next)?;
        if let Some(expires) = self.expiry(next.created) {
            item.insert("expires".to_owned(), number(expires));
        }
        match self.write("an announcement", &[Put { item, change }]).await {
            Ok(()) => Ok(()),
            Err(Unwritten::Trouble(trouble)) => Err(trouble.into()),
            Err(Unwritten::Conditions(_)) => {
                let current = AnnouncementStore::read(self, &next.approval).await?.map(Box::new);
                Err(AnnouncementError::Conflict { current })
            }
        }
    }

    async fn due(&self, by: Timestamp, limit: usize) -> Result<Vec<ApprovalId>, AnnouncementError> {
        let span = Span {
            to: format!("{}.{}", micros(by), Span::END),
            ..Span::look(limit)
        };
        let found = self.indexed(&OPEN, DUE, &span).await?;
        let id = |item: &Item| text_of(item, "pk").strip_prefix("APPROVAL#")?.parse().ok();
        Ok(found.iter().filter_map(id).collect())
    }
}

impl From<Trouble> for AnnouncementError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable { source: trouble.into() }
    }
}

fn keys(approval: &ApprovalId) -> Keys {
    Keys {
        pk: format!("APPROVAL#{approval}"),
        sk: "ANNOUNCEMENT".to_owned(),
    }
}

fn record(announcement: &Announcement) -> Result<String, AnnouncementError> {
    serde_json::to_string(announcement).map_err(|error| AnnouncementError::Unavailable { source: error.into() })
}

/// All that the table has of it, but when it may be deleted. Everything is derived from the record.
fn item(announcement: &Announcement) -> Result<Item, AnnouncementError> {
    let record = record(announcement)?;
    check_size("the announcement", &record)?;
    let Keys { pk, sk } = keys(&announcement.approval);
    let mut item = Item::from([
        ("pk".to_owned(), text(pk)),
        ("sk".to_owned(), text(sk)),
        ("record".to_owned(), text(record)),
    ]);
    if let Some(due) = announcement.due {
        item.insert("open".to_owned(), text(DUE));
        item.insert(
            "lease".to_owned(),
            text(format!("{}.{}", micros(due), announcement.approval)),
        );
    }
    Ok(item)
}

/// The announcement, if its bytes are as they were written and it is that of the approval under which it stands.
fn read(approval: &ApprovalId, found: &Item) -> Result<Announcement, AnnouncementError> {
    let damaged = |why: String| {
        let approval = approval.clone();
        AnnouncementError::Damaged { approval, why }
    };
    let announcement: Announcement = serde_json::from_str(text_of(found, "record"))
        .map_err(|error| damaged(format!("it does not read: {error}")))?;
    let mut stored = found.clone();
    stored.remove("expires");
    if announcement.approval == *approval && item(&announcement)? == stored {
        Ok(announcement)
    } else {
        Err(damaged("it is not what was written for this approval".to_owned()))
    }
}
