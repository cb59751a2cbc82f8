//! Against a server that answers as a function says: what DynamoDB does rarely.

use super::*;
use crate::aws::Aws;
use crate::dynamodb::{BY_TIME, CALL_SECONDS_MAX, INDEXES};
use aws_config::SdkConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the server says to an action with this body.
type Reply = Arc<dyn Fn(&str, &Value) -> Value + Send + Sync>;

async fn store(reply: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> DynamoStore {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let reply: Reply = Arc::new(reply);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(BufReader::new(stream), reply.clone()));
        }
    });
    let credentials = Credentials::new("id", "secret", None, None, "tests");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .build();
    DynamoStore::open(&Aws::of(&config), "store", None).await.unwrap()
}

async fn serve(mut stream: BufReader<TcpStream>, reply: Reply) {
    loop {
        let (mut head, mut line) = (Vec::new(), String::new());
        while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
            head.push(std::mem::take(&mut line).trim_end().to_ascii_lowercase());
        }
        let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(name));
        let Some(action) = header("x-amz-target: dynamodb_20120810.") else {
            return;
        };
        let length = header("content-length: ").and_then(|length| length.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).await.unwrap();
        let said = match action {
            "describetable" => table(),
            action => reply(action, &serde_json::from_slice(&body).unwrap()),
        }
        .to_string();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn table() -> Value {
    let keys = |hash: &str, range: &str| {
        json!([
            {"AttributeName": hash, "KeyType": "HASH"},
            {"AttributeName": range, "KeyType": "RANGE"},
        ])
    };
    let index = |index: &&Index| {
        json!({
            "IndexName": index.name,
            "IndexStatus": "ACTIVE",
            "KeySchema": keys(index.hash, index.range),
            "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": index.holds},
        })
    };
    let indexes: Vec<Value> = INDEXES.iter().map(index).collect();
    json!({"Table": {
        "TableStatus": "ACTIVE",
        "KeySchema": keys("pk", "sk"),
        "GlobalSecondaryIndexes": indexes,
    }})
}

#[tokio::test]
async fn a_partition_that_never_ends_is_given_up_in_time() {
    let more = |_: &str, _: &Value| json!({"Items": [], "LastEvaluatedKey": {"pk": {"S": "a"}, "sk": {"S": "b"}}});
    let store = store(more).await;
    let late = Duration::from_secs(CALL_SECONDS_MAX + 5);
    let read = tokio::time::timeout(late, store.indexed(&BY_TIME, "key", &Span::all(1))).await;
    assert!(read.unwrap().is_err());
}

#[tokio::test]
async fn an_item_that_is_named_twice_is_read_once() {
    let each = |_: &str, body: &Value| {
        let keys = body["RequestItems"]["store"]["Keys"].as_array().unwrap();
        assert_eq!(keys.len(), 2, "{keys:?}");
        json!({"Responses": {"store": keys}})
    };
    let store = store(each).await;
    let keys = ["b", "a", "b"].map(|sk| Keys {
        pk: "SESSION#1".to_owned(),
        sk: sk.to_owned(),
    });
    let found = store.get_all("events", Lane::Look, &keys).await.unwrap();
    assert_eq!(found.len(), 2);
}

#[tokio::test]
async fn what_has_expired_is_not_walked_through_one_by_one() {
    let pages = |_: &str, body: &Value| {
        let expired = json!({"pk": {"S": "a"}, "sk": {"S": "b"}, "expires": {"N": "1"}});
        match body["Limit"].as_u64().unwrap() {
            1 => json!({"Items": [expired], "LastEvaluatedKey": {"pk": {"S": "a"}, "sk": {"S": "b"}}}),
            _ => {
                json!({"Items": [expired, {"pk": {"S": "a"}, "sk": {"S": "c"}}, {"pk": {"S": "a"}, "sk": {"S": "d"}}]})
            }
        }
    };
    let part = store(pages)
        .await
        .part("events", "a", &Span::all(1), 1000)
        .await
        .unwrap();
    let found: Vec<&str> = part.items.iter().map(|item| text_of(item, "sk")).collect();
    assert_eq!((found.as_slice(), part.is_whole), (&["c"][..], false));
}
