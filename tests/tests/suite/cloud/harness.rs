use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::primitives::ByteStream;
use countersign_tests::cloud::{Cloud, REGION};

#[tokio::test]
async fn a_table_keeps_what_is_written() {
    let cloud = Cloud::shared().await.unwrap();
    let table = cloud.table().await.unwrap();
    let dynamodb = cloud.aws().await.dynamodb;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let write = dynamodb.put_item().table_name(&table);
    let write = write.item("pk", text("a")).item("sk", text("b")).item("day", text("d"));
    write.item("moment", text("m")).send().await.unwrap();
    let listed = dynamodb.query().table_name(&table).index_name("by_time");
    let listed = listed
        .key_condition_expression("#day = :day")
        .expression_attribute_names("#day", "day")
        .expression_attribute_values(":day", text("d"));
    assert_eq!(listed.send().await.unwrap().count(), 1);
}

#[tokio::test]
async fn a_locked_bucket_keeps_each_object_until_its_day() {
    let cloud = Cloud::shared().await.unwrap();
    let bucket = cloud.bucket(true).await.unwrap();
    let s3 = cloud.aws().await.s3;
    let body = ByteStream::from_static(b"said");
    let put = s3
        .put_object()
        .bucket(&bucket)
        .key("k")
        .body(body)
        .send()
        .await
        .unwrap();
    let head = s3.head_object().bucket(&bucket).key("k").send().await.unwrap();
    assert!(head.object_lock_retain_until_date().is_some());
    let version = put.version_id().expect("the bucket has versions");
    let delete = s3.delete_object().bucket(&bucket).key("k").version_id(version);
    assert!(delete.send().await.is_err(), "a locked version was deleted");
    let again = s3.put_object().bucket(&bucket).key("k").if_none_match("*");
    let again = again.body(ByteStream::from_static(b"other")).send().await;
    assert_eq!(again.unwrap_err().raw_response().unwrap().status().as_u16(), 412);
}

#[tokio::test]
async fn a_key_makes_data_keys_and_opens_them() {
    let cloud = Cloud::shared().await.unwrap();
    let key = cloud.kms_key().await.unwrap();
    assert!(key.contains(REGION), "{key}");
    let kms = cloud.aws().await.kms;
    let made = kms.generate_data_key().key_id(&key).number_of_bytes(32);
    let made = made.send().await.unwrap();
    let opened = kms.decrypt().ciphertext_blob(made.ciphertext_blob.unwrap());
    let opened = opened.key_id(&key).send().await.unwrap();
    assert_eq!(opened.plaintext, made.plaintext);
}
