//! What the fake chats send is what the libraries of Rust read: those of the bot, and twilight, which reads strictly.

use countersign_tests::{discord, slack};
use futures_util::{SinkExt, StreamExt};
use serde::de::DeserializeSeed;
use serde_json::{Value, json};
use serenity::all::{Event, GatewayEvent, Interaction};
use serenity::interactions_endpoint::Verifier;
use slack_morphism::prelude::*;
use slack_morphism::signature_verifier::SlackEventSignatureVerifier;
use std::collections::BTreeMap;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message as Frame;
use url::Url;

const BOB: &str = "1100000000000000042";

/// A request that came to an endpoint.
struct Heard {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        &self.headers[name]
    }

    /// A field of a form.
    fn field(&self, name: &str) -> Option<String> {
        let mut fields = url::form_urlencoded::parse(self.body.as_bytes());
        fields
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// An endpoint that answers each request with what `answer` makes of its body, and keeps it.
async fn endpoint(answer: fn(&str) -> Value) -> (Url, mpsc::Receiver<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let (hear, heard) = mpsc::channel(16);
    let app = axum::Router::new().fallback(move |headers: axum::http::HeaderMap, body: String| async move {
        let answer = answer(&body);
        let headers = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        hear.send(Heard {
            headers: headers.collect(),
            body,
        })
        .await
        .unwrap();
        if answer.is_null() {
            String::new()
        } else {
            answer.to_string()
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, heard)
}

fn discord_answers(body: &str) -> Value {
    let interaction: Value = serde_json::from_str(body).unwrap();
    let input = json!({"type": 4, "custom_id": "reason", "label": "Why", "style": 2});
    let button = json!({"type": 2, "custom_id": "deny:K7Q2M4XA", "label": "Deny", "style": 4});
    match interaction["type"].as_u64() {
        Some(2) => json!({"type": 4, "data": {"content": "card", "flags": 0,
            "components": [{"type": 1, "components": [button]}]}}),
        Some(3) => json!({"type": 9, "data": {"custom_id": "deny:K7Q2M4XA", "title": "Deny",
            "components": [{"type": 1, "components": [input]}]}}),
        _ => json!({"type": 4, "data": {"content": "denied", "flags": 64}}),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serenity_and_twilight_read_what_discord_sends() {
    let discord = discord::Discord::start().await.unwrap();
    discord.add_member(discord::User::member(BOB, "bob"));
    let (url, mut heard) = endpoint(discord_answers).await;
    discord.use_endpoint(Some(url));
    let client = reqwest::Client::new();
    let api = format!("{}/v10", discord.api_url());
    let bot = format!("Bot {}", discord.token());
    let commands = format!("{api}/applications/{}/commands", discord::APPLICATION);
    let given = json!([{"name": "countersign", "description": "Approvals"}]);
    let given = client
        .put(commands)
        .header("authorization", &bot)
        .json(&given)
        .send()
        .await
        .unwrap();
    let given: Value = given.json().await.unwrap();
    let _: Vec<serenity::all::Command> = serde_json::from_value(given.clone()).unwrap();
    let _: Vec<twilight_model::application::command::Command> = serde_json::from_value(given).unwrap();
    let bob = discord.person(BOB);
    bob.command(discord::CHANNEL, "countersign", json!([])).await.unwrap();
    let card = discord.messages(discord::CHANNEL).pop().unwrap();
    bob.click(discord::CHANNEL, &card.id, "deny:K7Q2M4XA").await.unwrap();
    let modal = discord.modals(BOB).pop().unwrap();
    bob.submit(&modal, &[("reason", "too risky")]).await.unwrap();
    let key: [u8; 32] = hex::decode(discord.public_key()).unwrap().try_into().unwrap();
    let verifier = Verifier::try_new(key).unwrap();
    for kind in [2, 3, 5] {
        let one = heard.recv().await.unwrap();
        let (signature, stamp) = (one.header("x-signature-ed25519"), one.header("x-signature-timestamp"));
        verifier.verify(signature, stamp, one.body.as_bytes()).unwrap();
        let read: Interaction = serde_json::from_str(&one.body).unwrap();
        assert_eq!(u8::from(read.kind()), kind);
        let _: twilight_model::application::interaction::Interaction = serde_json::from_str(&one.body).unwrap();
    }
    for path in [
        format!("guilds/{}/members/{BOB}", discord::GUILD),
        format!("channels/{}/messages/{}", discord::CHANNEL, card.id),
    ] {
        let answer = client
            .get(format!("{api}/{path}"))
            .header("authorization", &bot)
            .send()
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        if path.starts_with("guilds") {
            let _: twilight_model::guild::Member = serde_json::from_value(answer).unwrap();
        } else {
            let _: serenity::all::Message = serde_json::from_value(answer.clone()).unwrap();
            let _: twilight_model::channel::Message = serde_json::from_value(answer).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serenity_and_twilight_read_what_a_session_hears() {
    let discord = discord::Discord::start().await.unwrap();
    discord.add_member(discord::User::member(BOB, "bob"));
    let url = discord
        .api_url()
        .replacen("http", "ws", 1)
        .replace("/api", "/?v=10&encoding=json");
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let identify = json!({"op": 2, "d": {"token": discord.token(), "intents": 1, "properties": {}}});
    socket.send(Frame::text(identify.to_string())).await.unwrap();
    socket
        .send(Frame::text(json!({"op": 1, "d": null}).to_string()))
        .await
        .unwrap();
    let mut names = Vec::new();
    for _ in 0..4 {
        let frame = socket.next().await.unwrap().unwrap().into_text().unwrap();
        names.push(read_event(&frame));
    }
    assert_eq!(names, ["Hello", "Ready", "GuildCreate", "HeartbeatAck"]);
    let bad = json!({"op": 2, "d": {"token": "x", "intents": 1, "properties": {}}});
    socket.send(Frame::text(bad.to_string())).await.unwrap();
    let Some(Ok(Frame::Close(Some(close)))) = socket.next().await else {
        panic!("it is not closed");
    };
    assert_eq!(u16::from(close.code), 4005, "identified twice");
}

/// Reads an event with both libraries. Gives its name.
fn read_event(frame: &str) -> String {
    let seed = twilight_model::gateway::event::GatewayEventDeserializer::from_json(frame).unwrap();
    let read = seed
        .deserialize(&mut serde_json::Deserializer::from_str(frame))
        .unwrap();
    let serenity: GatewayEvent = serde_json::from_str(frame).unwrap();
    let is_known = !matches!(&serenity, GatewayEvent::Dispatch(_, Event::Unknown(_)));
    assert!(is_known, "serenity does not read it: {frame}");
    let twilight = twilight_model::gateway::event::Event::from(read);
    let name = format!("{:?}", twilight.kind());
    name.replace("GatewayHello", "Hello")
        .replace("GatewayHeartbeatAck", "HeartbeatAck")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slack_morphism_reads_what_slack_sends() {
    let slack = slack::Slack::start().await.unwrap();
    slack.add_user(slack::TEAM, slack::User::member("U0BOB", "bob"));
    let (url, mut heard) = endpoint(|_| Value::Null).await;
    slack.use_endpoints(Some(slack::Endpoints {
        interactions: url.clone(),
        commands: url.clone(),
        events: url,
    }));
    let button = json!({"type": "button", "action_id": "approve", "value": "K7Q2M4XA",
        "text": {"type": "plain_text", "text": "Approve"}});
    let body = json!({"channel": slack::CHANNEL, "text": "card",
        "metadata": {"event_type": "countersign", "event_payload": {"approval": "K7Q2M4XA"}},
        "blocks": [{"type": "actions", "elements": [button]}]});
    let client = reqwest::Client::new();
    let post = client.post(format!("{}/chat.postMessage", slack.api_url()));
    let sent: Value = post
        .bearer_auth(slack.bot_token(slack::TEAM))
        .json(&body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let posted: SlackApiChatPostMessageResponse = serde_json::from_value(sent).unwrap();
    let bob = slack.person(slack::TEAM, "U0BOB");
    bob.click(slack::CHANNEL, posted.ts.value(), "approve").await.unwrap();
    bob.command(slack::CHANNEL, "/countersign", "pending").await.unwrap();
    slack
        .event(
            slack::TEAM,
            json!({"type": "app_home_opened", "user": "U0BOB", "channel": "D1", "tab": "home",
        "event_ts": "1700000000.000100"}),
        )
        .await
        .unwrap();
    let verifier = SlackEventSignatureVerifier::new(&slack.signing_secret().into());
    let mut seen = Vec::new();
    for _ in 0..3 {
        let one = heard.recv().await.unwrap();
        let (hash, stamp) = (one.header("x-slack-signature"), one.header("x-slack-request-timestamp"));
        verifier.verify(hash, &one.body, stamp).unwrap();
        seen.push(read_request(&one));
    }
    assert_eq!(seen, ["block_actions approve", "/countersign pending", "event"]);
}

fn read_request(one: &Heard) -> String {
    if let Some(payload) = one.field("payload") {
        let event: SlackInteractionEvent = serde_json::from_str(&payload).unwrap();
        let SlackInteractionEvent::BlockActions(event) = event else {
            panic!("not a click: {payload}");
        };
        let action = event.actions.unwrap().remove(0);
        assert!(event.message.is_some() && event.response_url.is_some());
        return format!("block_actions {}", action.action_id);
    }
    if one.field("command").is_some() {
        let fields: BTreeMap<String, String> = url::form_urlencoded::parse(one.body.as_bytes()).into_owned().collect();
        let event: SlackCommandEvent = serde_json::from_value(json!(fields)).unwrap();
        return format!("{} {}", event.command, event.text.unwrap());
    }
    let event: SlackPushEvent = serde_json::from_str(&one.body).unwrap();
    assert!(matches!(event, SlackPushEvent::EventCallback(_)));
    "event".to_owned()
}
