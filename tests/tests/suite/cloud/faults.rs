//! Stores that fail, throttle, hang, lose answers, are cut off or lie about the time: statements wait, run once, or are
//! refused with a reason; none is lost, and none runs unrecorded.

use anyhow::Result;
use countersign_tests::cloud::Cloud;
use countersign_tests::harness::GatewayOptions;
use countersign_tests::wait::eventually;
use countersign_tests::weather::{Requests, Service, Trouble, Weather};
use countersign_tests::world::{TARGET, World, WorldOptions};
use std::time::Duration;
use tokio::task::JoinHandle;

const CHANGE: &str = "update orders set total_cents = total_cents + 1 where id = 7";
const BEFORE: i64 = 2750;
const SOON: Duration = Duration::from_secs(60);

/// A world whose gateway reaches its stores through weather.
struct Outdoors {
    world: World,
    weather: Weather,
}

impl Outdoors {
    async fn start() -> Self {
        let cloud = Cloud::shared().await.unwrap();
        let weather = Weather::over(&cloud).await.unwrap();
        let gateway = GatewayOptions {
            store: Some(cloud.store().await.unwrap()),
            environment: weather.environment(),
            ..GatewayOptions::default()
        };
        let options = WorldOptions {
            gateway,
            ..WorldOptions::default()
        };
        let world = World::start(options).await.unwrap();
        Self { world, weather }
    }

    /// Alice asks for the change.
    async fn ask(&self) -> JoinHandle<Result<(), String>> {
        let alice = self.world.gateway.connect("alice", TARGET).await.unwrap();
        tokio::spawn(async move {
            let asked = alice.batch_execute(CHANGE).await;
            asked.map_err(|error| match error.as_db_error() {
                Some(told) => format!(
                    "{}: {} {}",
                    told.code().code(),
                    told.message(),
                    told.hint().unwrap_or_default()
                ),
                None => error.to_string(),
            })
        })
    }

    async fn runs(&self) -> i64 {
        let total = "select total_cents::bigint from orders where id = 7";
        self.world.count(total).await.unwrap() - BEFORE
    }

    /// Asks, lets bob approve, and sees it done.
    async fn change_is_made(&self) {
        let before = self.runs().await;
        let asked = self.ask().await;
        let number = self.world.waiting().await.unwrap().number;
        let (code, said) = self.world.approve("bob", &number).unwrap();
        assert_eq!(code, 0, "{said}");
        asked.await.unwrap().unwrap();
        self.world.becomes(&number, "done").await.unwrap();
        assert_eq!(self.runs().await, before + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_throttling_and_lost_answers_of_dynamodb_are_sat_out_and_everything_happens_once() {
    let outdoors = Outdoors::start().await;
    for trouble in [Trouble::Fail, Trouble::Throttle, Trouble::LoseAnswer] {
        let writes = ["PutItem", "TransactWriteItems"].map(|operation| {
            let some = Requests::of(Service::DynamoDb).named(operation).from_nth(2).times(2);
            outdoors.weather.order(some, trouble.clone())
        });
        let reads = outdoors
            .weather
            .order(Requests::of(Service::DynamoDb).named("GetItem").times(2), trouble);
        outdoors.change_is_made().await;
        let met = writes.iter().map(|order| order.met()).sum::<u64>() + reads.met();
        assert!(met > 2, "only {met} requests met the trouble");
        writes.into_iter().chain([reads]).for_each(|order| order.lift());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_executing_does_not_make_it_run_twice_or_never() {
    let outdoors = Outdoors::start().await;
    let stating = Requests::of(Service::DynamoDb)
        .named("TransactWriteItems")
        .containing("\\\"event\\\":\\\"executing\\\"");
    let order = outdoors.weather.order(stating.times(1), Trouble::LoseAnswer);
    outdoors.change_is_made().await;
    assert_eq!(order.met(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_answer_refuses_the_statement_in_time_with_a_reason() {
    let outdoors = Outdoors::start().await;
    let alice = outdoors.world.gateway.connect("alice", TARGET).await.unwrap();
    let order = outdoors
        .weather
        .order(Requests::of(Service::DynamoDb), Trouble::Silence);
    let told = tokio::time::timeout(SOON, alice.batch_execute(CHANGE)).await;
    let told = told.expect("it waits without end").unwrap_err().to_string();
    assert!(!told.is_empty() && order.met() > 0, "{told}");
    order.lift();
    assert_eq!(outdoors.runs().await, 0);
    outdoors.change_is_made().await;
}

/// Both stores are away for a minute while a statement is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_without_any_store_ends_what_is_held_and_leaves_nothing_undone_or_done_twice() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let outdoors = Outdoors::start().await;
    let asked = outdoors.ask().await;
    let number = outdoors.world.waiting().await.unwrap().number;
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    outdoors.weather.cut().await;
    let told = tokio::time::timeout(SOON, asked).await;
    let told = told.unwrap_or_else(|_| panic!("it waits without end:\n{}", outdoors.world.gateway.log()));
    let told = told.unwrap().unwrap_err();
    assert!(told.contains("countersign"), "{told}");
    // The minute itself is what is tried here.
    tokio::time::sleep_until(until).await;
    outdoors.weather.clear().await.unwrap();
    eventually("the gateway to be ready again", SOON, async || {
        let ready = reqwest::get(format!("{}/readyz", outdoors.world.gateway.http_url())).await;
        ready.ok().filter(|answer| answer.status().is_success()).map(drop)
    })
    .await
    .unwrap();
    outdoors.world.becomes_within(SOON, &number, "abandoned").await.unwrap();
    assert_eq!(outdoors.runs().await, 0);
    outdoors.change_is_made().await;
    let session = outdoors
        .world
        .json("bob", &["approvals", "show", &number, "--json"])
        .unwrap();
    let session = session["session"].as_str().unwrap().to_owned();
    let mut said = String::new();
    let verified = eventually("the session to verify", SOON, async || {
        let (code, printed) = outdoors.world.run("bob", &["verify", &session]).ok()?;
        said = printed;
        (code == 0).then_some(())
    });
    verified
        .await
        .unwrap_or_else(|error| panic!("{error}: {said}\n{}", outdoors.world.gateway.log()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_half_a_minute_apart_hold_nothing_and_decide_nothing() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let mut outdoors = Outdoors::start().await;
    let asked = outdoors.ask().await;
    let number = outdoors.world.waiting().await.unwrap().number;
    let order = outdoors
        .weather
        .order(Requests::of(Service::DynamoDb), Trouble::ShiftDate(30));
    let other = outdoors
        .world
        .another_gateway(|options| options.name = Some("other".to_owned()));
    assert!(
        other.await.is_err(),
        "a gateway with a wrong clock says that it is ready"
    );
    let ready = reqwest::get(format!("{}/readyz", outdoors.world.gateway.http_url()))
        .await
        .unwrap();
    assert_eq!(ready.status(), 503);
    let said = ready.text().await.unwrap();
    assert!(said.contains("clock and the store's differ by"), "{said}");
    let (code, said) = outdoors.world.approve("bob", &number).unwrap();
    assert!(code != 0 && said.contains("set the clock"), "{code}: {said}");
    let told = outdoors.ask().await.await.unwrap().unwrap_err();
    assert!(told.contains("clock"), "{told}");
    assert_eq!(outdoors.runs().await, 0);
    order.lift();
    let decided = eventually("bob's vote to count", SOON, async || {
        let (code, _) = outdoors.world.approve("bob", &number).ok()?;
        (code == 0).then_some(())
    });
    decided.await.unwrap();
    asked.await.unwrap().unwrap();
    assert_eq!(outdoors.runs().await, 1);
    assert!(!outdoors.world.gateway.has_ended());
}
