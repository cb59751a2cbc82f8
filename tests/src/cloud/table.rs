//! The store's table, made without Terraform so that every test can have its own at once.

use crate::wait::eventually;
use anyhow::{Context, Result};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
    PointInTimeRecoverySpecification, Projection, ProjectionType, ScalarAttributeType, TableDescription, TableStatus,
    TimeToLiveSpecification,
};
use std::collections::BTreeSet;
use std::time::Duration;

const ACTIVE_LIMIT: Duration = Duration::from_secs(30);

/// Name, hash key, range key, and what is kept beside the keys.
const INDEXES: [(&str, &str, &str, &[&str]); 5] = [
    ("by_time", "day", "moment", &[]),
    ("by_person", "person", "moment", &[]),
    ("by_target", "target", "moment", &[]),
    ("by_approval", "approval", "moment", &[]),
    ("open", "open", "lease", &["moment", "state"]),
];
const KEYS: (&str, &str) = ("pk", "sk");
const EXPIRES: &str = "expires";

/// Makes the table and waits until it takes requests.
///
/// # Errors
///
/// When a table of that name exists, or when it is not active within 30 s.
pub async fn create_table(dynamodb: &Client, name: &str) -> Result<()> {
    let indexes = INDEXES.iter().map(global_index).collect::<Result<Vec<_>>>()?;
    dynamodb
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(attributes()?))
        .set_key_schema(Some(key_schema(KEYS.0, KEYS.1)?))
        .set_global_secondary_indexes(Some(indexes))
        .deletion_protection_enabled(true)
        .send()
        .await?;
    eventually("the table is active", ACTIVE_LIMIT, async || {
        let table = describe_table(dynamodb, name).await.ok()?;
        (table.table_status == Some(TableStatus::Active)).then_some(())
    })
    .await?;
    let expiry = TimeToLiveSpecification::builder()
        .attribute_name(EXPIRES)
        .enabled(true)
        .build()?;
    dynamodb
        .update_time_to_live()
        .table_name(name)
        .time_to_live_specification(expiry)
        .send()
        .await?;
    let recovery = PointInTimeRecoverySpecification::builder()
        .point_in_time_recovery_enabled(true)
        .build()?;
    dynamodb
        .update_continuous_backups()
        .table_name(name)
        .point_in_time_recovery_specification(recovery)
        .send()
        .await?;
    Ok(())
}

/// What DescribeTable says.
pub async fn describe_table(dynamodb: &Client, name: &str) -> Result<TableDescription> {
    let answer = dynamodb.describe_table().table_name(name).send().await?;
    answer.table.context("DescribeTable answered without a table")
}

fn attributes() -> Result<Vec<AttributeDefinition>> {
    let of_indexes = INDEXES.iter().flat_map(|(_, hash, range, _)| [*hash, *range]);
    let names: BTreeSet<&str> = of_indexes.chain([KEYS.0, KEYS.1]).collect();
    names
        .into_iter()
        .map(|name| {
            let attribute = AttributeDefinition::builder().attribute_name(name);
            Ok(attribute.attribute_type(ScalarAttributeType::S).build()?)
        })
        .collect()
}

fn key_schema(hash: &str, range: &str) -> Result<Vec<KeySchemaElement>> {
    let element = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    Ok(vec![element(hash, KeyType::Hash)?, element(range, KeyType::Range)?])
}

fn global_index((name, hash, range, kept): &(&str, &str, &str, &[&str])) -> Result<GlobalSecondaryIndex> {
    let projection = if kept.is_empty() {
        Projection::builder().projection_type(ProjectionType::KeysOnly)
    } else {
        let kept = kept.iter().map(|attribute| (*attribute).to_owned()).collect();
        Projection::builder()
            .projection_type(ProjectionType::Include)
            .set_non_key_attributes(Some(kept))
    };
    Ok(GlobalSecondaryIndex::builder()
        .index_name(*name)
        .set_key_schema(Some(key_schema(hash, range)?))
        .projection(projection.build())
        .build()?)
}
