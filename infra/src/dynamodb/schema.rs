//! The table's form: what the Terraform module `store` makes, and what this version relies on.

use super::OpenError;
use crate::aws::said;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{KeySchemaElement, KeyType, TableDescription};
use std::time::Duration;

/// How long the table may take to say what it is.
const LOOK_MAX: Duration = Duration::from_secs(15);

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
pub(crate) const OPEN: Index = Index {
    name: "open",
    hash: "open",
    range: "lease",
    holds: &["moment", "state"],
};

/// Every index of the table.
pub const INDEXES: [&Index; 5] = [&BY_TIME, &BY_PERSON, &BY_TARGET, &BY_APPROVAL, &OPEN];

/// Looks that the table has the keys and indexes that this version uses.
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
    differs(&description).map_or(Ok(()), |why| {
        Err(OpenError::Foreign {
            table: table.to_owned(),
            why,
        })
    })
}

fn differs(table: &TableDescription) -> Option<String> {
    if keys(table.key_schema()) != Some(("pk", "sk")) {
        return Some("its keys are not `pk` and `sk`".to_owned());
    }
    let missing = INDEXES.into_iter().find(|index| {
        let mut there = table.global_secondary_indexes().iter();
        !there.any(|found| {
            found.index_name() == Some(index.name) && keys(found.key_schema()) == Some((index.hash, index.range))
        })
    })?;
    Some(format!(
        "it has no index `{}` with the keys `{}` and `{}`",
        missing.name, missing.hash, missing.range
    ))
}

fn keys(schema: &[KeySchemaElement]) -> Option<(&str, &str)> {
    let named = |kind: KeyType| {
        let key = schema.iter().find(|key| *key.key_type() == kind);
        key.map(KeySchemaElement::attribute_name)
    };
    Some((named(KeyType::Hash)?, named(KeyType::Range)?))
}
