//! A gateway that dies before or after any write of a held statement: nothing is lost, nothing runs twice, and what is
//! on record agrees with what the server did.

use anyhow::{Context, Result, ensure};
use countersign_tests::cloud::Cloud;
use countersign_tests::harness::GatewayOptions;
use countersign_tests::wait::eventually;
use countersign_tests::world::{TARGET, World, WorldOptions};
use serde_json::Value;
use std::thread::JoinHandle;
use std::time::Duration;

const CHANGE: &str = "update orders set total_cents = total_cents + 1 where id = 7";
const BEFORE: i64 = 2750;

/// A dead holder is taken for dead when its lease of 30 s has ended; all cases run at once on a small machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(150);

/// What is said of the approval at the end (none: it was never opened), and how often the statement has run then.
type End = (Option<&'static str>, i64);

const NEVER_HELD: &[End] = &[(None, 0)];
const ABANDONED: &[End] = &[(Some("abandoned"), 0)];
const STATED: &[End] = &[(Some("unknown"), 0)];
const SENT: &[End] = &[(Some("unknown"), 1)];
const DONE: &[End] = &[(Some("done"), 1)];
/// A chunk leaves when it is old enough, whatever the statement does then, or before there is one.
const ANY_THAT_AGREES: &[End] = &[
    (None, 0),
    (Some("abandoned"), 0),
    (Some("unknown"), 0),
    (Some("unknown"), 1),
    (Some("done"), 1),
];

/// Where the gateway dies, and how that may end.
const POINTS: [(&str, &[End]); 16] = [
    ("before append asked", NEVER_HELD),
    ("after append asked", NEVER_HELD),
    ("before keep", NEVER_HELD),
    ("after keep", NEVER_HELD),
    ("before create", NEVER_HELD),
    ("after create", ABANDONED),
    ("before replace approved", ABANDONED),
    ("after replace approved", ABANDONED),
    ("before replace executing", ABANDONED),
    ("after replace executing", STATED),
    ("before replace done", SENT),
    ("after replace done", DONE),
    ("before put_chunk", ANY_THAT_AGREES),
    ("after put_chunk", ANY_THAT_AGREES),
    ("before put_manifest", DONE),
    ("after put_manifest", DONE),
];

#[test]
fn a_gateway_with_the_embedded_store_dies_at_any_write_and_nothing_is_lost_or_run_twice() {
    die_everywhere(Where::Embedded);
}

#[test]
fn a_gateway_with_stores_in_the_cloud_dies_at_any_write_and_nothing_is_lost_or_run_twice() {
    die_everywhere(Where::Cloud);
}

#[derive(Clone, Copy)]
enum Where {
    Embedded,
    Cloud,
}

impl Where {
    /// Cases that share the machine: the cloud in a box is slow.
    fn at_once(self) -> usize {
        match self {
            Self::Embedded => POINTS.len(),
            Self::Cloud => 4,
        }
    }
}

/// Each case has a thread and a runtime of its own: the command line blocks.
fn die_everywhere(place: Where) {
    let mut failed: Vec<String> = Vec::new();
    for points in POINTS.chunks(place.at_once()) {
        let cases: Vec<_> = points.iter().map(|point| begin(place, *point)).collect();
        let ends = cases
            .into_iter()
            .map(|case| case.join().unwrap_or_else(|_| Err("it panicked".to_owned())));
        failed.extend(ends.filter_map(Result::err));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

fn begin(place: Where, (point, ends): (&'static str, &'static [End])) -> JoinHandle<Result<(), String>> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let case = async { die_at(&mut start(place, point).await?, ends).await };
        runtime.block_on(case).map_err(|error| format!("{point}: {error:#}"))
    })
}

async fn start(place: Where, point: &str) -> Result<World> {
    let mut gateway = match place {
        Where::Embedded => GatewayOptions::default(),
        Where::Cloud => {
            let cloud = Cloud::shared().await?;
            GatewayOptions {
                store: Some(cloud.store().await?),
                environment: Cloud::environment(cloud.endpoint()),
                ..GatewayOptions::default()
            }
        }
    };
    gateway
        .environment
        .push(("COUNTERSIGN_CRASH_AT".to_owned(), point.into()));
    World::start(WorldOptions {
        gateway,
        ..WorldOptions::default()
    })
    .await
}

async fn die_at(world: &mut World, ends: &[End]) -> Result<()> {
    ask_and_decide(world).await?;
    let mut environment = world.environment();
    environment.retain(|(name, _)| name != "COUNTERSIGN_CRASH_AT");
    world.gateway.restart_with(environment).await?;
    let log = |world: &World| world.gateway.log();

    let mut last = String::new();
    let settled = eventually("the approval to settle", SETTLED_WITHIN, async || {
        let found = newest_state(world).unwrap_or_else(|error| Some(format!("{error:#}")));
        let is_settled = ends.iter().any(|(state, _)| found.as_deref() == *state);
        last = found.unwrap_or_else(|| "none".to_owned());
        is_settled.then_some(())
    });
    settled
        .await
        .with_context(|| format!("it is {last}, not one of {ends:?}\n{}", log(world)))?;

    let ran = world
        .count("select total_cents::bigint from orders where id = 7")
        .await?
        - BEFORE;
    let agrees = |(state, runs): &End| state.unwrap_or("none") == last && *runs == ran;
    ensure!(
        ends.iter().any(agrees),
        "it is {last} and ran {ran} times, not one of {ends:?}"
    );
    recording_proves_untouched(world).await.with_context(|| log(world))
}

/// Alice asks, bob approves, alice leaves: until the gateway dies.
async fn ask_and_decide(world: &mut World) -> Result<()> {
    let alice = world.gateway.connect("alice", TARGET).await?;
    let asked = tokio::spawn(async move { drop(alice.batch_execute(CHANGE).await) });
    let mut approved = false;
    eventually("the gateway to die", SETTLED_WITHIN, async || {
        if world.gateway.has_ended() {
            return Some(());
        }
        let waiting = world.pending().unwrap_or_default();
        if let (Some(waiting), false) = (waiting.first(), approved) {
            // The gateway may die over it.
            approved = world.approve("bob", &waiting.number).is_ok_and(|(code, _)| code == 0);
        }
        None
    })
    .await?;
    Ok(asked.await?)
}

/// The state of the newest approval; none when there is no approval.
fn newest_state(world: &World) -> Result<Option<String>> {
    let list = world.json("bob", &["approvals", "list", "--all", "--json"])?;
    let approvals = list.get("approvals").and_then(Value::as_array).context("no list")?;
    let state = approvals.first().and_then(|approval| approval.get("state")?.as_str());
    Ok(state.map(str::to_owned))
}

/// What is on record of alice's session holds together, and ends.
async fn recording_proves_untouched(world: &World) -> Result<()> {
    let events = world.json("bob", &["audit", "--event", "session_opened", "--json"])?;
    let opened = events.get("events").and_then(Value::as_array).context("no events")?;
    let session = opened
        .iter()
        .find_map(|event| event.get("session")?.as_str())
        .context("no session")?;
    let mut said = String::new();
    let verified = eventually("the session to verify", SETTLED_WITHIN, async || {
        let (code, printed) = world.run("bob", &["verify", session]).ok()?;
        said = printed;
        (code == 0).then_some(())
    });
    verified.await.with_context(|| said.clone())?;
    let (_, closed) = world.run("bob", &["audit", "--event", "session_closed", "--json"])?;
    ensure!(closed.contains(session), "the session has no end: {closed}");
    Ok(())
}
