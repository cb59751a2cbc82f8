use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Config;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::primitives::ByteStream;
use countersign_tests::cloud::Cloud;
use countersign_tests::wait::eventually;
use countersign_tests::weather::{Requests, Service, Trouble, Weather};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(10);

struct Scene {
    cloud: Arc<Cloud>,
    weather: Weather,
    /// Under the weather.
    dynamodb: Client,
    /// Past it.
    past: Client,
    table: String,
}

impl Scene {
    async fn set() -> Self {
        let cloud = Cloud::shared().await.unwrap();
        let weather = Weather::over(&cloud).await.unwrap();
        Self {
            dynamodb: weather.aws().await.dynamodb,
            past: cloud.aws().await.dynamodb,
            table: cloud.table().await.unwrap(),
            weather,
            cloud,
        }
    }

    /// Writes an item under the weather; the error's code, or `lost` when no answer came.
    async fn put(&self, key: &str) -> Result<(), String> {
        put(&self.dynamodb, &self.table, key).await
    }

    async fn is_there(&self, key: &str) -> bool {
        is_there(&self.past, &self.table, key).await
    }
}

async fn put(dynamodb: &Client, table: &str, key: &str) -> Result<(), String> {
    let write = dynamodb.put_item().table_name(table);
    let write = write.item("pk", text(key)).item("sk", text("s")).send().await;
    let code = |error: &aws_sdk_dynamodb::error::SdkError<_>| {
        ProvideErrorMetadata::code(error).map_or("lost".to_owned(), str::to_owned)
    };
    write.map(|_| ()).map_err(|error| code(&error))
}

async fn is_there(dynamodb: &Client, table: &str, key: &str) -> bool {
    let read = dynamodb.get_item().table_name(table).consistent_read(true);
    let read = read.key("pk", text(key)).key("sk", text("s")).send().await;
    read.unwrap().item.is_some()
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn puts() -> Requests {
    Requests::of(Service::DynamoDb).named("PutItem")
}

#[tokio::test]
async fn requests_are_counted_by_service_and_operation() {
    let scene = Scene::set().await;
    let s3 = scene.weather.aws().await.s3;
    let bucket = scene.cloud.bucket(false).await.unwrap();
    scene.put("a").await.unwrap();
    scene.put("b").await.unwrap();
    let body = vec![7; 3 << 20];
    let put = s3.put_object().bucket(&bucket).key("recordings/x y");
    put.body(ByteStream::from(body.clone())).send().await.unwrap();
    let got = s3.get_object().bucket(&bucket).key("recordings/x y").send().await;
    assert_eq!(got.unwrap().body.collect().await.unwrap().to_vec(), body);
    let head = s3.head_object().bucket(&bucket).key("recordings/x y").send().await;
    assert_eq!(head.unwrap().content_length(), Some(3 << 20));
    let listed = s3.list_objects_v2().bucket(&bucket).send().await.unwrap();
    assert_eq!(listed.key_count(), Some(1));

    let weather = &scene.weather;
    assert_eq!(weather.count(Service::DynamoDb, "PutItem"), 2);
    let operations = ["PutObject", "GetObject", "HeadObject", "ListObjectsV2"];
    for operation in operations {
        assert_eq!(weather.count(Service::S3, operation), 1, "{operation}");
    }
    assert_eq!(weather.count_all(Service::S3), 4);
    let tallies = weather.tallies();
    assert!(tallies[&(Service::S3, "PutObject".to_owned())].request_bytes >= 3 << 20);
    assert_eq!(tallies[&(Service::S3, "GetObject".to_owned())].answer_bytes, 3 << 20);
    weather.count_anew();
    assert!(weather.tallies().is_empty());
}

#[tokio::test]
async fn what_fails_or_is_throttled_is_told_as_the_service_tells_it() {
    let scene = Scene::set().await;
    let failing = scene.weather.order(puts().from_nth(2).times(1), Trouble::Fail);
    let throttled = scene.weather.order(puts().containing("greedy"), Trouble::Throttle);
    scene.put("first").await.unwrap();
    assert_eq!(scene.put("second").await.unwrap_err(), "InternalServerError");
    scene.put("third").await.unwrap();
    let code = scene.put("greedy").await.unwrap_err();
    assert_eq!(code, "ProvisionedThroughputExceededException");
    assert_eq!((failing.met(), throttled.met()), (1, 1));
    throttled.lift();
    scene.put("greedy").await.unwrap();
    assert!(!scene.is_there("second").await);

    let s3 = scene.weather.aws().await.s3;
    let bucket = scene.cloud.bucket(false).await.unwrap();
    for (trouble, code, status) in [
        (Trouble::Fail, "InternalError", 500),
        (Trouble::Throttle, "SlowDown", 503),
    ] {
        let order = scene.weather.order(Requests::of(Service::S3), trouble);
        let error = s3.list_objects_v2().bucket(&bucket).send().await.unwrap_err();
        assert_eq!(ProvideErrorMetadata::code(&error), Some(code));
        assert_eq!(error.raw_response().unwrap().status().as_u16(), status);
        order.lift();
    }
}

#[tokio::test]
async fn a_lost_answer_is_that_of_a_call_which_was_done() {
    let scene = Scene::set().await;
    let lost = scene.weather.order(puts().times(1), Trouble::LoseAnswer);
    assert_eq!(scene.put("a").await.unwrap_err(), "lost");
    assert_eq!(lost.met(), 1);
    assert!(scene.is_there("a").await);
    scene.put("b").await.unwrap();
}

#[tokio::test]
async fn silence_lasts_until_the_client_gives_up() {
    let scene = Scene::set().await;
    let silence = scene.weather.order(puts(), Trouble::Silence);
    let patience = Duration::from_millis(300);
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(patience).build();
    let write = scene.dynamodb.put_item().table_name(&scene.table);
    let write = write.item("pk", text("a")).item("sk", text("s")).customize();
    let begun = Instant::now();
    let given_up = write
        .config_override(Config::builder().timeout_config(timeouts))
        .send()
        .await;
    assert!(given_up.is_err());
    assert!(begun.elapsed() >= patience);
    assert_eq!(silence.met(), 1);
    assert!(!scene.is_there("a").await);
    silence.lift();
    scene.put("a").await.unwrap();
}

#[tokio::test]
async fn slowness_comes_before_the_call() {
    let scene = Scene::set().await;
    let delay = Duration::from_millis(400);
    scene.weather.order(puts(), Trouble::Slow(delay));
    let begun = Instant::now();
    scene.put("a").await.unwrap();
    assert!(begun.elapsed() >= delay);
}

#[tokio::test]
async fn a_cut_ends_what_is_under_way_and_refuses_the_rest_until_it_clears() {
    let scene = Scene::set().await;
    let silence = scene.weather.order(puts().containing("held"), Trouble::Silence);
    let (dynamodb, table) = (scene.dynamodb.clone(), scene.table.clone());
    let held = tokio::spawn(async move { put(&dynamodb, &table, "held").await });
    let met = async || (silence.met() == 1).then_some(());
    eventually("the request is held", LIMIT, met).await.unwrap();
    scene.weather.cut().await;
    assert_eq!(held.await.unwrap().unwrap_err(), "lost");
    assert_eq!(scene.put("a").await.unwrap_err(), "lost");
    let address = scene.weather.endpoint().replace("http://", "");
    let refused = tokio::net::TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    scene.weather.clear().await.unwrap();
    scene.put("a").await.unwrap();

    scene.weather.order(puts().from_nth(2), Trouble::Cut);
    scene.put("b").await.unwrap();
    assert_eq!(scene.put("c").await.unwrap_err(), "lost");
    scene.weather.clear().await.unwrap();
    assert!(!scene.is_there("c").await);
    scene.put("c").await.unwrap();
}

#[tokio::test]
async fn the_date_can_be_moved() {
    let scene = Scene::set().await;
    let date = async || {
        let read = scene.dynamodb.describe_table().table_name("absent").send().await;
        let error = read.unwrap_err();
        let date = error.raw_response().unwrap().headers().get("date").map(str::to_owned);
        chrono::DateTime::parse_from_rfc2822(&date.unwrap()).unwrap()
    };
    let off = async || (date().await.to_utc() - chrono::Utc::now()).num_seconds();
    assert!((-2..=0).contains(&off().await));
    scene.weather.order(Requests::all(), Trouble::ShiftDate(30));
    assert!((28..=30).contains(&off().await));
    scene.weather.clear().await.unwrap();
    scene.weather.order(Requests::all(), Trouble::ShiftDate(-3600));
    assert!((-3602..=-3600).contains(&off().await));
}

#[tokio::test]
async fn hooks_stand_on_either_side_of_the_call() {
    let scene = Scene::set().await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hook = |side: &'static str| {
        let (past, table) = (scene.past.clone(), scene.table.clone());
        let heard = Arc::clone(&heard);
        move |seen: countersign_tests::weather::Seen| {
            let (past, table, heard) = (past.clone(), table.clone(), Arc::clone(&heard));
            async move {
                let there = is_there(&past, &table, "a").await;
                heard.lock().unwrap().push((side, seen.operation, there));
            }
        }
    };
    scene.weather.order(puts(), Trouble::before(hook("before")));
    scene.weather.order(puts(), Trouble::after(hook("after")));
    scene.put("a").await.unwrap();
    let put = || "PutItem".to_owned();
    assert_eq!(
        *heard.lock().unwrap(),
        [("before", put(), false), ("after", put(), true)]
    );
}

/// What the service charges, and what the emulator counts is brought to: two index entries are a write unit each.
#[tokio::test]
async fn request_units_are_counted_as_the_service_charges_them() {
    let scene = Scene::set().await;
    scene.weather.weigh();
    let item = |key: &str, size: usize| {
        let attributes = [("sk", "s"), ("day", "d"), ("person", "p"), ("moment", "m")];
        let mut item = std::collections::HashMap::from(attributes.map(|(name, value)| (name.to_owned(), text(value))));
        item.insert("pk".to_owned(), text(key));
        item.insert("record".to_owned(), text(&"x".repeat(size)));
        item
    };
    let put = scene.dynamodb.put_item().table_name(&scene.table);
    put.set_item(Some(item("a", 2500))).send().await.unwrap();
    let puts = [item("b", 2500), item("c", 100)].map(|item| {
        let put = aws_sdk_dynamodb::types::Put::builder().table_name(&scene.table);
        let put = put.set_item(Some(item)).build().unwrap();
        aws_sdk_dynamodb::types::TransactWriteItem::builder().put(put).build()
    });
    let transaction = scene.dynamodb.transact_write_items();
    let transaction = transaction.set_transact_items(Some(puts.to_vec()));
    transaction.send().await.unwrap();
    for consistent in [true, false] {
        let query = scene
            .dynamodb
            .query()
            .table_name(&scene.table)
            .consistent_read(consistent);
        let query = query.key_condition_expression("pk = :pk");
        query
            .expression_attribute_values(":pk", text("nobody"))
            .send()
            .await
            .unwrap();
        let get = scene
            .dynamodb
            .get_item()
            .table_name(&scene.table)
            .consistent_read(consistent);
        get.key("pk", text("c")).key("sk", text("s")).send().await.unwrap();
    }
    let tallies = scene.weather.tallies();
    let units = |operation: &str| {
        let units = tallies[&(Service::DynamoDb, operation.to_owned())].units;
        (units.read, units.write)
    };
    assert_eq!(units("PutItem"), (0.0, 5.0));
    assert_eq!(units("TransactWriteItems"), (0.0, 2.0 * (5.0 + 3.0)));
    assert_eq!(units("Query"), (1.5, 0.0));
    assert_eq!(units("GetItem"), (1.5, 0.0));
}
