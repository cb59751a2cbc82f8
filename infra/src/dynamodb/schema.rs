//! The table's form: what the Terraform module `store` makes, and what this version relies on.

use super::OpenError;
use crate::aws::said;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    GlobalSecondaryIndexDescription, IndexStatus, KeySchemaElement, KeyType, ProjectionType, TableDescription,
    TimeToLiveDescription, TimeToLiveStatus,
};
use std::time::Duration;

/// How long the table may take to say what it is.
const LOOK_MAX: Duration = Duration::from_secs(15);

/// The attribute that says when DynamoDB may delete an item.
const EXPIRES: &str = "expires";

/// An index of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Index {
    pub name: &'static str,
    pub hash: &'static str,
    pub range: &'static str,
    /// What it holds of each item beside the keys.
    pub holds: &'static [&'static str],
}

/// Events and approvals by day.
pub(crate) const BY_TIME: Index = Index {
    name: "by_time",
    hash: "day",
    range: "moment",
    holds: &[],
};

/// Events by the person whose session they are of.
pub(crate) const BY_PERSON: Index = Index {
    name: "by_person",
    hash: "person",
    range: "moment",
    holds: &[],
};

pub(crate) const BY_TARGET: Index = Index {
    name: "by_target",
    hash: "target",
    range: "moment",
    holds: &[],
};

pub(crate) const BY_APPROVAL: Index = Index {
    name: "by_approval",
    hash: "approval",
    range: "moment",
    holds: &[],
};

/// Approvals that have not ended, by the end of their holder's lease.
///
/// It has one partition: a look for dead holders is then one request. Each renewal of a lease moves its entry there, which
/// costs two write units; a partition takes 1,000 a second, so with a renewal every 10 s about 5,000 approvals can be open
/// at once. <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html>
pub(crate) const OPEN: Index = Index {
    name: "open",
    hash: "open",
    range: "lease",
    holds: &["moment", "state"],
};

/// Every index of the table.
pub const INDEXES: [&Index; 5] = [&BY_TIME, &BY_PERSON, &BY_TARGET, &BY_APPROVAL, &OPEN];

/// Looks that the table has the keys and indexes that this version uses, and that they are complete.
pub(super) async fn check(client: &Client, table: &str) -> Result<(), OpenError> {
    let unavailable = |why: String| OpenError::Unavailable {
        table: table.to_owned(),
        why,
    };
    let asked = client.describe_table().table_name(table).send();
    let answer = tokio::time::timeout(LOOK_MAX, asked)
        .await
        .map_err(|_| unavailable(format!("no answer within {} s", LOOK_MAX.as_secs())))?;
    let described = answer.map_err(|error| {
        let answered = error.as_service_error();
        if answered.is_some_and(|answer| answer.is_resource_not_found_exception()) {
            OpenError::Missing(table.to_owned())
        } else {
            unavailable(said(&error))
        }
    })?;
    let description = described.table.unwrap_or_else(|| TableDescription::builder().build());
    if let Some(why) = differs(&description) {
        return Err(OpenError::Foreign {
            table: table.to_owned(),
            why,
        });
    }
    match growing(&description) {
        None => Ok(()),
        Some(index) => Err(OpenError::Growing {
            table: table.to_owned(),
            index: index.to_owned(),
        }),
    }
}

/// Looks whether DynamoDB deletes what is past its retention. The store works without: it reads nothing of that.
pub(super) async fn warn_of_kept(client: &Client, table: &str) {
    let asked = client.describe_time_to_live().table_name(table).send();
    let why = match tokio::time::timeout(LOOK_MAX, asked).await {
        Ok(Ok(described)) => match described.time_to_live_description {
            Some(found) if deletes(&found) => return,
            Some(_) | None => format!("its time to live is not on for `{EXPIRES}`"),
        },
        Ok(Err(error)) => format!("its time to live cannot be looked at: {}", said(&error)),
        Err(_) => "its time to live cannot be looked at: no answer".to_owned(),
    };
    tracing::warn!(table, why, "the table may keep what is past its retention");
}

fn deletes(found: &TimeToLiveDescription) -> bool {
    let is_on = matches!(
        found.time_to_live_status(),
        Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
    );
    is_on && found.attribute_name() == Some(EXPIRES)
}

fn differs(table: &TableDescription) -> Option<String> {
    if keys(table.key_schema()) != Some(("pk", "sk")) {
        return Some("its keys are not `pk` and `sk`".to_owned());
    }
    INDEXES.into_iter().find_map(|index| {
        let found = table.global_secondary_indexes().iter().find(|found| is(index, found));
        let Some(found) = found else {
            return Some(format!(
                "it has no index `{}` with the keys `{}` and `{}`",
                index.name, index.hash, index.range
            ));
        };
        let lacking = index.holds.iter().find(|attribute| !holds(found, attribute))?;
        Some(format!("its index `{}` does not hold `{lacking}`", index.name))
    })
}

/// An index that does not hold all of the table yet.
fn growing(table: &TableDescription) -> Option<&'static str> {
    let is_growing = |found: &GlobalSecondaryIndexDescription| {
        found.index_status() == Some(&IndexStatus::Creating) || found.backfilling() == Some(true)
    };
    let growing = INDEXES.into_iter().find(|index| {
        let mut there = table.global_secondary_indexes().iter();
        there.any(|found| is(index, found) && is_growing(found))
    })?;
    Some(growing.name)
}

fn is(index: &Index, found: &GlobalSecondaryIndexDescription) -> bool {
    found.index_name() == Some(index.name) && keys(found.key_schema()) == Some((index.hash, index.range))
}

fn holds(found: &GlobalSecondaryIndexDescription, attribute: &str) -> bool {
    found.projection().is_some_and(|projection| {
        projection.projection_type() == Some(&ProjectionType::All)
            || projection.non_key_attributes().iter().any(|held| held == attribute)
    })
}

fn keys(schema: &[KeySchemaElement]) -> Option<(&str, &str)> {
    let named = |kind: KeyType| {
        let key = schema.iter().find(|key| *key.key_type() == kind);
        key.map(KeySchemaElement::attribute_name)
    };
    Some((named(KeyType::Hash)?, named(KeyType::Range)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::types::Projection;

    fn schema(hash: &str, range: &str) -> Option<Vec<KeySchemaElement>> {
        let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind);
        let keys = [key(hash, KeyType::Hash), key(range, KeyType::Range)];
        Some(keys.map(|key| key.build().unwrap()).into())
    }

    /// An index as it is to be.
    fn found(index: &Index) -> GlobalSecondaryIndexDescription {
        let kind = match index.holds {
            [] => ProjectionType::KeysOnly,
            _ => ProjectionType::Include,
        };
        let held = index.holds.iter().map(|attribute| (*attribute).to_owned());
        let projection = Projection::builder().projection_type(kind);
        GlobalSecondaryIndexDescription::builder()
            .index_name(index.name)
            .set_key_schema(schema(index.hash, index.range))
            .projection(projection.set_non_key_attributes(Some(held.collect())).build())
            .index_status(IndexStatus::Active)
            .build()
    }

    /// The table as it is to be, but for its index `open`.
    fn table(open: Option<GlobalSecondaryIndexDescription>) -> TableDescription {
        let others = INDEXES.into_iter().filter(|index| **index != OPEN).map(found);
        TableDescription::builder()
            .set_key_schema(schema("pk", "sk"))
            .set_global_secondary_indexes(Some(others.chain(open).collect()))
            .build()
    }

    #[test]
    fn an_index_that_is_missing_holds_too_little_or_is_not_complete_is_found() {
        let sound = table(Some(found(&OPEN)));
        assert_eq!((differs(&sound), growing(&sound)), (None, None));

        let missing = differs(&table(None)).unwrap();
        assert!(missing.contains("no index `open`"), "{missing}");

        let keys_only = Projection::builder().projection_type(ProjectionType::KeysOnly);
        let mut poor = found(&OPEN);
        poor.projection = Some(keys_only.build());
        let poor = differs(&table(Some(poor))).unwrap();
        assert_eq!(poor, "its index `open` does not hold `moment`");

        let everything = Projection::builder().projection_type(ProjectionType::All);
        let mut rich = found(&OPEN);
        rich.projection = Some(everything.build());
        assert_eq!(differs(&table(Some(rich))), None);

        let mut new = found(&OPEN);
        new.index_status = Some(IndexStatus::Creating);
        assert_eq!(growing(&table(Some(new))), Some("open"));
        let mut filling = found(&OPEN);
        filling.backfilling = Some(true);
        assert_eq!(growing(&table(Some(filling))), Some("open"));
    }

    #[test]
    fn a_table_that_deletes_nothing_is_found() {
        let found = |status: TimeToLiveStatus, attribute: &str| {
            let found = TimeToLiveDescription::builder().time_to_live_status(status);
            deletes(&found.attribute_name(attribute).build())
        };
        assert!(found(TimeToLiveStatus::Enabled, "expires") && found(TimeToLiveStatus::Enabling, "expires"));
        assert!(!found(TimeToLiveStatus::Disabled, "expires"));
        assert!(!found(TimeToLiveStatus::Enabled, "ttl"));
    }
}
