//! Writing: one item, or several at once, all under conditions.

use super::call::{BACKOFF, Failed, Time, Trouble};
use super::{DynamoStore, Item, Keys};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, Put as SdkPut, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use std::collections::HashMap;
use tokio::time::Instant;

/// Items in one transaction.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
pub(crate) const ITEMS_MAX: usize = 100;

/// Under which condition an item is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// There is none of its key.
    New,
    /// The one of its key has the version before.
    Next { version: u64 },
    /// The one of its key has this record.
    Instead { record: String },
    /// Always: a hint.
    Hint,
}

/// An item to write.
#[derive(Clone, Debug)]
pub(crate) struct Put {
    pub item: Item,
    pub change: Change,
}

/// Why items were not written.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// A condition failed: nothing was written. What stands in the place of each put whose condition failed; by the
    /// place in the list of puts.
    Conditions(Vec<Clash>),
    Trouble(Trouble),
}

/// A put whose condition failed.
#[derive(Debug)]
pub(crate) struct Clash {
    pub place: usize,
    /// None: there is no item of this key.
    pub current: Option<Item>,
}

impl From<Trouble> for Unwritten {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl DynamoStore {
    /// Writes all of them or none. What an earlier try of this call wrote counts as written.
    pub(crate) async fn write(&self, what: &str, puts: &[Put]) -> Result<(), Unwritten> {
        match puts {
            [] => Ok(()),
            [put] => self.write_one(what, put).await,
            puts if puts.len() > ITEMS_MAX => {
                let why = format!("{what}: {} items at once are more than {ITEMS_MAX}", puts.len());
                Err(Unwritten::Trouble(Trouble::new(why)))
            }
            puts => self.write_together(what, puts).await,
        }
    }

    /// Writes an item whatever was there before.
    pub(crate) async fn put_always(&self, item: Item) -> Result<(), Trouble> {
        let change = Change::Hint;
        match self.write_one("a hint", &Put { item, change }).await {
            Ok(()) => Ok(()),
            Err(Unwritten::Trouble(trouble)) => Err(trouble),
            Err(Unwritten::Conditions(_)) => Err(Trouble::new("a put without condition failed its condition")),
        }
    }

    async fn write_one(&self, what: &str, put: &Put) -> Result<(), Unwritten> {
        let condition = Condition::of(&put.change);
        let mut time = Time::default();
        let is_answer = |error: &PutItemError| error.is_conditional_check_failed_exception();
        let sent = self.call(what, &mut time, is_answer, || {
            self.0
                .client
                .put_item()
                .table_name(&self.0.table)
                .set_item(Some(put.item.clone()))
                .set_condition_expression(condition.expression.map(str::to_owned))
                .set_expression_attribute_names(condition.names.clone())
                .set_expression_attribute_values(condition.values.clone())
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .send()
        });
        let (error, unsure) = match sent.await {
            Ok(_) => return Ok(()),
            Err(Failed::Trouble(trouble)) => return Err(trouble.into()),
            Err(Failed::Answered { error, unsure }) => (error, unsure),
        };
        let current = if let PutItemError::ConditionalCheckFailedException(failed) = error {
            failed.item
        } else {
            None
        };
        if unsure && current.as_ref() == Some(&put.item) {
            return Ok(());
        }
        Err(Unwritten::Conditions(vec![Clash { place: 0, current }]))
    }

    async fn write_together(&self, what: &str, puts: &[Put]) -> Result<(), Unwritten> {
        // The same token in every try: DynamoDB carries it out once.
        let token = uuid::Uuid::now_v7().to_string();
        let items = puts
            .iter()
            .map(|put| self.transaction_item(put))
            .collect::<Result<Vec<_>, Trouble>>()?;
        let (mut unsure_before, mut conflicts, mut time) = (false, 0, Time::default());
        let mut backoff = BACKOFF;
        loop {
            let is_answer = |error: &TransactWriteItemsError| error.is_transaction_canceled_exception();
            let sent = self.call(what, &mut time, is_answer, || {
                self.0
                    .client
                    .transact_write_items()
                    .client_request_token(&token)
                    .set_transact_items(Some(items.clone()))
                    .send()
            });
            let (error, unsure) = match sent.await {
                Ok(_) => return Ok(()),
                Err(Failed::Trouble(trouble)) => return Err(trouble.into()),
                Err(Failed::Answered { error, unsure }) => (error, unsure || unsure_before),
            };
            let reasons = if let TransactWriteItemsError::TransactionCanceledException(canceled) = &error {
                canceled.cancellation_reasons()
            } else {
                &[]
            };
            let clashes = clashes(reasons);
            if !clashes.is_empty() {
                let is_ours = |clash: &Clash| puts.get(clash.place).map(|put| &put.item) == clash.current.as_ref();
                return match unsure && clashes.iter().all(is_ours) {
                    true => Ok(()),
                    false => Err(Unwritten::Conditions(clashes)),
                };
            }
            if !reasons.iter().any(is_passing) {
                let why = error.message().unwrap_or("the transaction was cancelled");
                return Err(Unwritten::Trouble(Trouble::new(format!("{what}: {why}"))));
            }
            let wait = backoff.pause();
            if Instant::now() + wait >= time.deadline() {
                let why = format!(
                    "{what}: it was in the way of other transactions {} times",
                    conflicts + 1
                );
                return Err(Unwritten::Trouble(Trouble::new(why)));
            }
            tokio::time::sleep(wait).await;
            unsure_before = unsure;
            conflicts += 1;
        }
    }
}

impl DynamoStore {
    fn transaction_item(&self, put: &Put) -> Result<TransactWriteItem, Trouble> {
        let condition = Condition::of(&put.change);
        let put = SdkPut::builder()
            .table_name(&self.0.table)
            .set_item(Some(put.item.clone()))
            .set_condition_expression(condition.expression.map(str::to_owned))
            .set_expression_attribute_names(condition.names)
            .set_expression_attribute_values(condition.values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|error| Trouble::new(error.to_string()))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }
}

fn clashes(reasons: &[CancellationReason]) -> Vec<Clash> {
    let failed = |(place, reason): (usize, &CancellationReason)| {
        (reason.code() == Some("ConditionalCheckFailed")).then(|| Clash {
            place,
            current: reason.item().filter(|item| !item.is_empty()).cloned(),
        })
    };
    reasons.iter().enumerate().filter_map(failed).collect()
}

/// Another transaction was in the way, or there was no room: it passes.
fn is_passing(reason: &CancellationReason) -> bool {
    matches!(
        reason.code(),
        Some("TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
    )
}

struct Condition {
    /// For attributes whose names are words of DynamoDB's own.
    names: Option<HashMap<String, String>>,
    expression: Option<&'static str>,
    values: Option<Item>,
}

impl Condition {
    fn of(change: &Change) -> Self {
        match change {
            Change::New => Self {
                names: None,
                expression: Some("attribute_not_exists(pk)"),
                values: None,
            },
            Change::Next { version } => {
                let before = AttributeValue::N(version.saturating_sub(1).to_string());
                Self {
                    names: None,
                    expression: Some("version = :before"),
                    values: Some(Item::from([(":before".to_owned(), before)])),
                }
            }
            Change::Instead { record } => Self {
                names: Some(HashMap::from([("#record".to_owned(), "record".to_owned())])),
                expression: Some("#record = :former"),
                values: Some(Item::from([(":former".to_owned(), super::text(record))])),
            },
            Change::Hint => Self {
                names: None,
                expression: None,
                values: None,
            },
        }
    }
}

impl DynamoStore {
    /// Deletes an item if an attribute of it is still what was seen.
    pub(crate) async fn delete(&self, pk: &str, sk: &str, name: &str, seen: &AttributeValue) -> Result<(), Trouble> {
        let (pk, sk) = (pk.to_owned(), sk.to_owned());
        // Otherwise something newer is there, or nothing.
        self.delete_seen("a deletion", &Keys { pk, sk }, name, seen)
            .await
            .map(drop)
    }

    /// Deletes an item, and says whether it was this call that did: of all who try, at most one is told yes.
    pub(crate) async fn take_item(
        &self,
        what: &str,
        keys: &Keys,
        name: &str,
        seen: &AttributeValue,
    ) -> Result<bool, Trouble> {
        match self.delete_seen(what, keys, name, seen).await? {
            Deleted::Yes => Ok(true),
            Deleted::No => Ok(false),
            Deleted::NotKnown => {
                let why = "it may have been taken by a request whose answer was lost";
                Err(Trouble::new(format!("{what}: {why}")))
            }
        }
    }

    async fn delete_seen(
        &self,
        what: &str,
        keys: &Keys,
        name: &str,
        seen: &AttributeValue,
    ) -> Result<Deleted, Trouble> {
        let is_answer = |error: &DeleteItemError| error.is_conditional_check_failed_exception();
        let mut time = Time::default();
        let sent = self.call(what, &mut time, is_answer, || {
            self.0
                .client
                .delete_item()
                .table_name(&self.0.table)
                .key("pk", super::text(&keys.pk))
                .key("sk", super::text(&keys.sk))
                .condition_expression("#name = :seen")
                .expression_attribute_names("#name", name)
                .expression_attribute_values(":seen", seen.clone())
                .send()
        });
        match sent.await {
            Ok(_) => Ok(Deleted::Yes),
            Err(Failed::Answered { unsure: false, .. }) => Ok(Deleted::No),
            Err(Failed::Answered { unsure: true, .. }) => Ok(Deleted::NotKnown),
            Err(Failed::Trouble(trouble)) => Err(trouble),
        }
    }
}

enum Deleted {
    Yes,
    /// Something else is there, or nothing.
    No,
    /// The same, and an earlier try of this call may have deleted it.
    NotKnown,
}
