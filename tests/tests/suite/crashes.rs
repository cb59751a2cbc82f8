//! A gateway that dies before or after any write of a held statement: nothing is lost, nothing runs twice, and what is
//! on record agrees with what the server did.

use anyhow::{Context, Result, ensure};
use countersign_tests::cloud::Cloud;
use countersign_tests::harness::GatewayOptions;
use countersign_tests::raw::{Raw, query};
use countersign_tests::wait::eventually;
use countersign_tests::world::{TARGET, World, WorldOptions};
use serde_json::Value;
use std::thread::JoinHandle;
use std::time::Duration;

const CHANGE: &str = "update orders set total_cents = total_cents + 1 where id = 7";
const BEFORE: i64 = 2750;
const CRASH_AT: &str = "COUNTERSIGN_CRASH_AT";

/// A dead holder is taken for dead when its lease of 30 s has ended; all cases run at once on a small machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(150);

/// What is said of the approval at the end (none: it was never opened), and how often the statement has run then.
type End = (Option<&'static str>, i64);

const NEVER_HELD: &[End] = &[(None, 0)];
const ABANDONED: &[End] = &[(Some("abandoned"), 0)];
const DENIED: &[End] = &[(Some("denied"), 0)];
const WITHDRAWN: &[End] = &[(Some("withdrawn"), 0)];
const EXPIRED: &[End] = &[(Some("expired"), 0)];
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

/// What people do while it is held.
#[derive(Clone, Copy)]
enum Play {
    /// Bob approves, and the statement runs for a while.
    Approve,
    Deny,
    /// Alice hangs up.
    HangUp,
    /// Nobody does anything, in a transaction, where a hold is short.
    Wait,
}

use Play::{Approve, Deny, HangUp, Wait};

/// What people do, where the gateway dies (and where the one that is started after it), and how that may end.
const POINTS: [(Play, &[&str], &[End]); 34] = [
    (Approve, &["before append session_opened"], NEVER_HELD),
    (Approve, &["after append session_opened"], NEVER_HELD),
    (Approve, &["before append asked"], NEVER_HELD),
    (Approve, &["after append asked"], NEVER_HELD),
    (Approve, &["before keep"], NEVER_HELD),
    (Approve, &["after keep"], NEVER_HELD),
    (Approve, &["before create"], NEVER_HELD),
    (Approve, &["after create"], ABANDONED),
    (Approve, &["before replace approved"], ABANDONED),
    (Approve, &["after replace approved"], ABANDONED),
    (Approve, &["before replace executing"], ABANDONED),
    (Approve, &["after replace executing"], STATED),
    (Approve, &["before replace done"], SENT),
    (Approve, &["after replace done"], DONE),
    (Approve, &["before append session_closed"], DONE),
    (Approve, &["after append session_closed"], DONE),
    (Approve, &["before append recording_anchor"], ANY_THAT_AGREES),
    (Approve, &["after append recording_anchor"], ANY_THAT_AGREES),
    (Approve, &["before put_chunk"], ANY_THAT_AGREES),
    (Approve, &["after put_chunk"], ANY_THAT_AGREES),
    (Approve, &["before put_manifest"], DONE),
    (Approve, &["after put_manifest"], DONE),
    (Deny, &["before replace denied"], ABANDONED),
    (Deny, &["after replace denied"], DENIED),
    (Deny, &["before append refused"], DENIED),
    (Deny, &["after append refused"], DENIED),
    (HangUp, &["before replace withdrawn"], ABANDONED),
    (HangUp, &["after replace withdrawn"], WITHDRAWN),
    (Wait, &["before replace expired"], ABANDONED),
    (Wait, &["after replace expired"], EXPIRED),
    // Who comes after the dead dies too.
    (HangUp, &["after create", "before replace abandoned"], ABANDONED),
    (HangUp, &["after create", "after replace abandoned"], ABANDONED),
    (Approve, &["after replace executing", "before replace unknown"], STATED),
    (Approve, &["after replace executing", "after replace unknown"], STATED),
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
            Self::Embedded => 12,
            Self::Cloud => 5,
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

fn begin(
    place: Where,
    (play, points, ends): (Play, &'static [&'static str], &'static [End]),
) -> JoinHandle<Result<(), String>> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let case = async { die_at(&mut start(place).await?, play, points, ends).await };
        runtime
            .block_on(case)
            .map_err(|error| format!("{}: {error:#}", points.join(", then ")))
    })
}

async fn start(place: Where) -> Result<World> {
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
    gateway.limits = "hold_in_transaction_seconds_max = 5".to_owned();
    World::start(WorldOptions {
        gateway,
        ..WorldOptions::default()
    })
    .await
}

async fn die_at(world: &mut World, play: Play, points: &[&str], ends: &[End]) -> Result<()> {
    let environment = world.environment();
    for (number, point) in points.iter().enumerate() {
        let mut deadly = environment.clone();
        deadly.push((CRASH_AT.to_owned(), point.into()));
        world.gateway.restart_with(deadly).await?;
        if number == 0 {
            ask_and_decide(world, play).await?;
        } else {
            eventually("the next gateway to die", SETTLED_WITHIN, async || {
                world.gateway.has_ended().then_some(())
            })
            .await?;
        }
    }
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
    journal_agrees(world, &last).await.with_context(|| log(world))?;
    recording_proves_untouched(world).await.with_context(|| log(world))
}

/// Alice asks, others decide, alice leaves: until the gateway dies, which any step of it may notice.
async fn ask_and_decide(world: &mut World, play: Play) -> Result<()> {
    if matches!(play, HangUp) {
        return ask_and_hang_up(world).await;
    }
    let alice = world.gateway.connect("alice", TARGET).await;
    let asked = tokio::spawn(async move {
        let Ok(alice) = alice else { return };
        if matches!(play, Wait) {
            drop(alice.batch_execute("begin").await);
        }
        drop(alice.batch_execute(CHANGE).await);
        if matches!(play, Approve) {
            // Long enough for what is recorded to be anchored.
            drop(alice.batch_execute("select pg_sleep(6)").await);
            drop(alice.batch_execute("select 1").await);
        }
    });
    let mut decided = false;
    eventually("the gateway to die", SETTLED_WITHIN, async || {
        if world.gateway.has_ended() {
            return Some(());
        }
        let waiting = world.pending().unwrap_or_default();
        if let (Some(waiting), false) = (waiting.first(), decided) {
            let number = &waiting.number;
            // The gateway may die over it.
            let done = |(code, _): (i32, String)| code == 0;
            decided = match play {
                Approve => world.approve("bob", number).is_ok_and(done),
                Deny => {
                    let deny = ["approvals", "deny", number, "--reason", "not now"];
                    world.run("bob", &deny).is_ok_and(done)
                }
                HangUp | Wait => true,
            };
        }
        None
    })
    .await?;
    Ok(asked.await?)
}

/// A client that is gone from one moment to the next, as with Ctrl-C in a script.
async fn ask_and_hang_up(world: &mut World) -> Result<()> {
    let mut alice = Raw::connect(&world.gateway, "alice", TARGET).await?;
    alice.send(&query(CHANGE)).await?;
    let mut alice = Some(alice);
    eventually("the gateway to die", SETTLED_WITHIN, async || {
        if world.pending().is_ok_and(|waiting| !waiting.is_empty()) {
            alice.take();
        }
        world.gateway.has_ended().then_some(())
    })
    .await
}

/// What the journal says became of the statement is what the record says.
async fn journal_agrees(world: &World, record: &str) -> Result<()> {
    let mut said = String::new();
    let agrees = eventually("the journal to agree", SETTLED_WITHIN, async || {
        let asked = ["audit", "--operations", "--text", CHANGE, "--json"];
        let page = world.json("bob", &asked).ok()?;
        let states: Option<Vec<&str>> = page
            .get("operations")?
            .as_array()?
            .iter()
            .map(|operation| operation.get("state")?.as_str())
            .collect();
        said = format!("{states:?}");
        let agrees = match (record, states?.as_slice()) {
            // It died before it was asked for, or before it could be held.
            ("none", states) => matches!(states, [] | ["refused" | "abandoned"]),
            (record, [state]) => *state == record,
            _ => false,
        };
        agrees.then_some(())
    });
    agrees
        .await
        .with_context(|| format!("the record is {record}, the journal says {said}"))
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
    // It died before there was one.
    let Some(session) = opened.iter().find_map(|event| event.get("session")?.as_str()) else {
        return Ok(());
    };
    let mut said = String::new();
    let verified = eventually("the session to verify", SETTLED_WITHIN, async || {
        let (code, printed) = world.run("bob", &["verify", session]).ok()?;
        said = printed;
        (code == 0).then_some(())
    });
    verified.await.with_context(|| said.clone())?;
    let closed = eventually("the session to have an end", SETTLED_WITHIN, async || {
        let (_, printed) = world
            .run("bob", &["audit", "--event", "session_closed", "--json"])
            .ok()?;
        printed.contains(session).then_some(())
    });
    closed.await
}
