//! The end of the story of two gateways: who decided where, what one leaves behind when it dies, and that a byte which
//! the owner of the table and the bucket changes is found.

use super::evidence::{ASKED, DELETE, cli};
use super::stage::{FIRST, SECOND};
use super::story::Story;
use super::{Screen, Stage};
use crate::cloud::CloudStores;
use crate::wait::eventually;
use crate::world::World;
use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use countersign_infra::aws::Aws;
use serde_json::Value;
use std::time::{Duration, Instant};

/// A holder is taken for dead when its lease of 30 s has ended.
const LEASE_LIMIT: Duration = Duration::from_secs(90);
/// Gateways look every 30 s for recordings that nobody completes.
const COMPLETED_LIMIT: Duration = Duration::from_secs(90);
/// Each gateway's own configuration, beside which its commands run.
const CONFIG: [&str; 2] = ["--config", "countersign.toml"];

/// The journal says which gateway held and at which one people decided.
pub fn decisions_were_made_elsewhere(world: &World, screen: Screen) -> Result<()> {
    screen.step("What one gateway held was decided at the other");
    for (event, gateway) in [("held", FIRST), ("decided", SECOND)] {
        let arguments = ["audit", "--event", event, "--since", "1h", "--json"];
        let page = world.json("bob", &arguments)?;
        let events = page.get("events").and_then(Value::as_array).context("no events")?;
        ensure!(!events.is_empty(), "the journal has no event `{event}`");
        for found in events {
            let at = found.get("gateway").and_then(Value::as_str).unwrap_or_default();
            ensure!(at == gateway, "`{event}` should stand there for {gateway}: {found}");
        }
        screen.checked(&format!("{} times `{event}`, each at {gateway}", events.len()));
    }
    Ok(())
}

/// The table and the bucket tell what the gateway told.
pub fn the_stores_tell_the_same(world: &World, screen: Screen, session: &str) -> Result<()> {
    screen.step("The table and the bucket, read past the gateways, tell the same");
    let (_, told) = world.run("bob", &["replay", session])?;
    let replay = [&["replay", session], &CONFIG[..]].concat();
    let (code, read) = world.run("bob", &replay)?;
    ensure!(
        code == 0 && read == told,
        "`countersign {}` ended with {code} and printed:\n{read}\nwhere the gateway said:\n{told}",
        replay.join(" ")
    );
    screen.exchange("bob$", &format!("countersign {}", replay.join(" ")), "(the same)");
    let (code, _) = cli(world, screen, "bob", &[&["verify", session], &CONFIG[..]].concat())?;
    ensure!(code == 0, "`countersign verify` ended with {code}");
    screen.checked("replayed and proved from DynamoDB and S3 alone");
    Ok(())
}

/// Kills the gateway that holds a statement. The other one sees it abandoned and completes the recording.
pub async fn a_gateway_dies(stage: &mut Stage, screen: Screen) -> Result<()> {
    screen.step(&format!("{FIRST} is killed (kill -9) while it holds a DELETE"));
    let mut story = Story::begin(&stage.world, screen)?;
    let held = story.hold("delete from orders where id = 10;").await?;
    let psql = story.psql;
    stage.world.gateway.kill9()?;
    let died = Instant::now();
    let world = &stage.world;
    world.becomes_within(LEASE_LIMIT, &held.number, "abandoned").await?;
    drop(psql);
    screen.checked(&format!(
        "{SECOND} shows it abandoned {} s later, once the dead one's lease has ended",
        died.elapsed().as_secs()
    ));
    let (code, said) = cli(world, screen, "bob", &["approvals", "approve", &held.number])?;
    ensure!(code != 0, "an abandoned approval took a vote: {said}");
    let there = world.count("select count(*) from orders where id = 10").await?;
    let running = world.activity().await?;
    ensure!(
        there == 1 && running.is_empty(),
        "the DELETE should not have run; running: {running:?}"
    );
    screen.checked("bob's late vote is refused, nothing ran, the row is still there");

    let mut said = String::new();
    let completed = eventually(
        "the dead gateway's recording to be completed",
        COMPLETED_LIMIT,
        async || {
            let closed = world
                .run("bob", &["audit", "--event", "session_closed", "--json"])
                .ok()?;
            closed.1.contains(&held.session).then_some(())?;
            let (code, printed) = world.run("bob", &["verify", &held.session]).ok()?;
            said = printed;
            (code == 0 && said.contains("interrupted")).then_some(())
        },
    );
    completed.await.with_context(|| said.clone())?;
    screen.exchange("bob$", &format!("countersign verify {}", held.session), &said);
    screen.checked(&format!(
        "{SECOND} has completed the recording from the spool that both share, and says that it was interrupted"
    ));
    Ok(())
}

/// Changes a byte as only the owner of the stores can, first of an event, then of a chunk. `verify` says where, through
/// the gateway and past it.
pub async fn a_changed_byte_is_found(
    world: &World,
    aws: &Aws,
    names: &CloudStores,
    screen: Screen,
    session: &str,
) -> Result<()> {
    screen.step("One byte is changed in the table, then one in the bucket");
    let event = ForgedEvent::find(aws, names, session).await?;
    event.write(&event.forged).await?;
    found(world, screen, session, "one byte of an event changed", &event.place)?;
    event.write(&event.original).await?;
    let chunk = ForgedChunk::find(aws, names, session).await?;
    chunk.write(chunk.forged()?).await?;
    found(
        world,
        screen,
        session,
        "one byte of a chunk changed",
        "chunk 0 was changed",
    )?;
    chunk.write(chunk.original.clone()).await?;
    for arguments in [&["verify", session][..], &[&["verify", session], &CONFIG[..]].concat()] {
        let (code, said) = world.run("bob", arguments)?;
        ensure!(code == 0, "what was put back should verify: {said}");
    }
    screen.checked("both are found, and where; put back as they were, all is proved again");
    Ok(())
}

/// `verify` must end with 1 and name the place.
fn found(world: &World, screen: Screen, session: &str, what: &str, place: &str) -> Result<()> {
    for more in [&[][..], &CONFIG[..]] {
        let arguments = [&["verify", session], more].concat();
        let (code, said) = world.run("bob", &arguments)?;
        screen.exchange(
            "bob$",
            &format!("countersign {}   # {what}", arguments.join(" ")),
            &said,
        );
        ensure!(
            code == 1,
            "a changed byte should be found, but `verify` ended with {code}: {said}"
        );
        ensure!(said.contains(place), "`verify` should have named {place:?}: {said}");
    }
    Ok(())
}

/// The event that says what alice asked for, with another digit in its text.
struct ForgedEvent<'a> {
    aws: &'a Aws,
    table: &'a str,
    keys: [AttributeValue; 2],
    original: String,
    forged: String,
    /// As `verify` names it.
    place: String,
}

impl<'a> ForgedEvent<'a> {
    async fn find(aws: &'a Aws, names: &'a CloudStores, session: &str) -> Result<Self> {
        let query = aws.dynamodb.query().table_name(&names.table).consistent_read(true);
        let query = query
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(format!("SESSION#{session}")));
        let display = format!("\"display\":\"{DELETE}");
        for item in query.send().await?.items() {
            let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
            let Some(body) = text("body").filter(|body| body.contains(ASKED) && body.contains(&display)) else {
                continue;
            };
            let key = |name: &str| item.get(name).cloned().context("an event without its key");
            let number: u64 = text("sk").context("an event without a number")?.parse()?;
            return Ok(Self {
                aws,
                table: &names.table,
                keys: [key("pk")?, key("sk")?],
                original: body.clone(),
                forged: body.replacen(&display, &display.replace("id = 7", "id = 6"), 1),
                place: format!("event {number}"),
            });
        }
        anyhow::bail!("the table does not hold the statement")
    }

    async fn write(&self, body: &str) -> Result<()> {
        let [pk, sk] = self.keys.clone();
        let update = self.aws.dynamodb.update_item().table_name(self.table);
        let update = update
            .key("pk", pk)
            .key("sk", sk)
            .update_expression("set #body = :body");
        let update = update
            .expression_attribute_names("#body", "body")
            .expression_attribute_values(":body", AttributeValue::S(body.to_owned()));
        update.send().await.context("the table takes no change")?;
        Ok(())
    }
}

/// The session's first chunk.
struct ForgedChunk<'a> {
    aws: &'a Aws,
    bucket: &'a str,
    key: String,
    original: Bytes,
}

impl<'a> ForgedChunk<'a> {
    async fn find(aws: &'a Aws, names: &'a CloudStores, session: &str) -> Result<Self> {
        let bucket = names.bucket.as_str();
        let listed = aws
            .s3
            .list_objects_v2()
            .bucket(bucket)
            .prefix("recordings/")
            .send()
            .await?;
        let ending = format!("{session}/0.chunk");
        let mut keys = listed.contents().iter().filter_map(|object| object.key());
        let key = keys.find(|key| key.ends_with(&ending));
        let key = key.context("the session has no chunk")?.to_owned();
        let object = aws.s3.get_object().bucket(bucket).key(&key).send().await?;
        let original = object.body.collect().await?.into_bytes();
        Ok(Self {
            aws,
            bucket,
            key,
            original,
        })
    }

    /// With another byte in its middle.
    fn forged(&self) -> Result<Bytes> {
        let mut bytes = self.original.to_vec();
        let middle = bytes.len() / 2;
        *bytes.get_mut(middle).context("an empty chunk")? ^= 1;
        Ok(bytes.into())
    }

    async fn write(&self, bytes: Bytes) -> Result<()> {
        let put = self.aws.s3.put_object().bucket(self.bucket).key(&self.key);
        let put = put.body(ByteStream::from(bytes)).send().await;
        put.context("the bucket takes no change")?;
        Ok(())
    }
}
