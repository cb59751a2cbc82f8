use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{KeySchemaElement, Projection};
use countersign_tests::cloud::{Cloud, describe_table};

#[tokio::test]
async fn terraform_makes_the_table_and_the_bucket_that_tests_stand_on() {
    let cloud = Cloud::shared().await.unwrap();
    let made = cloud.apply_terraform().await.unwrap();
    let aws = cloud.aws().await;

    let ours = cloud.table().await.unwrap();
    let [ours, theirs] = [
        description(&aws.dynamodb, &ours).await,
        description(&aws.dynamodb, &made.table).await,
    ];
    assert_eq!(ours, theirs);
    assert!(ours.contains(&"index open: open HASH, lease RANGE; INCLUDE moment state".to_owned()));

    let ours = cloud.bucket(true).await.unwrap();
    let mut lock = Vec::new();
    for bucket in [&ours, &made.bucket] {
        let versions = aws.s3.get_bucket_versioning().bucket(bucket).send().await.unwrap();
        let locked = aws.s3.get_object_lock_configuration().bucket(bucket).send().await;
        lock.push((
            versions.status().cloned(),
            locked.unwrap().object_lock_configuration().cloned(),
        ));
    }
    assert_eq!(lock[0], lock[1]);
    assert!(made.kms_key.starts_with("arn:aws:kms:"));
}

/// What makes a table this one, a line each.
async fn description(dynamodb: &Client, name: &str) -> Vec<String> {
    let table = describe_table(dynamodb, name).await.unwrap();
    let billing = table.billing_mode_summary().and_then(|summary| summary.billing_mode());
    let mut lines = vec![
        format!("keys: {}", keys(table.key_schema())),
        format!("billing: {billing:?}"),
        format!("deletion protection: {:?}", table.deletion_protection_enabled()),
    ];
    for attribute in table.attribute_definitions() {
        let (name, kind) = (attribute.attribute_name(), attribute.attribute_type());
        lines.push(format!("attribute {name}: {kind}"));
    }
    for index in table.global_secondary_indexes() {
        let keys = keys(index.key_schema());
        let kept = projection(index.projection().unwrap());
        lines.push(format!("index {}: {keys}; {kept}", index.index_name().unwrap()));
    }
    let expiry = dynamodb.describe_time_to_live().table_name(name).send().await.unwrap();
    lines.push(format!("expiry: {:?}", expiry.time_to_live_description().unwrap()));
    let backups = dynamodb.describe_continuous_backups().table_name(name).send().await;
    let backups = backups.unwrap().continuous_backups_description.unwrap();
    let recovery = backups.point_in_time_recovery_description.unwrap();
    lines.push(format!(
        "recovery: {:?}",
        recovery.point_in_time_recovery_status.unwrap()
    ));
    lines.sort();
    lines
}

fn keys(schema: &[KeySchemaElement]) -> String {
    let named = schema
        .iter()
        .map(|key| format!("{} {}", key.attribute_name(), key.key_type()));
    named.collect::<Vec<_>>().join(", ")
}

fn projection(projection: &Projection) -> String {
    let mut kept = projection.non_key_attributes().to_vec();
    kept.sort();
    let kind = projection.projection_type().unwrap();
    format!("{kind} {}", kept.join(" ")).trim_end().to_owned()
}
