//! What the fake chats refuse and how they fail, as their documents say it: what the bot's tests stand on.

use countersign_tests::chat::Fault;
use countersign_tests::{discord, slack};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use std::time::Duration;

const BOB: &str = "U0BOB";

struct Slack {
    slack: slack::Slack,
    client: Client,
    token: String,
}

impl Slack {
    async fn start() -> Self {
        let slack = slack::Slack::start().await.unwrap();
        slack.add_user(slack::TEAM, slack::User::member(BOB, "bob"));
        let token = slack.bot_token(slack::TEAM);
        let client = Client::builder().timeout(Duration::from_secs(1)).build().unwrap();
        Self { slack, client, token }
    }

    async fn send(&self, method: &str, body: Value) -> reqwest::Result<Response> {
        let url = format!("{}/{method}", self.slack.api_url());
        self.client.post(url).bearer_auth(&self.token).json(&body).send().await
    }

    async fn ask(&self, method: &str, body: Value) -> Value {
        self.send(method, body).await.unwrap().json().await.unwrap()
    }

    async fn error(&self, method: &str, body: Value) -> String {
        let answer = self.ask(method, body).await;
        assert_eq!(answer["ok"], false, "{answer}");
        answer["error"].as_str().unwrap().to_owned()
    }

    fn texts(&self) -> Vec<String> {
        let all = self.slack.messages(slack::TEAM, slack::CHANNEL);
        all.iter().map(|message| message.text().to_owned()).collect()
    }
}

fn text(text: &str) -> Value {
    json!({"channel": slack::CHANNEL, "text": text})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slack_fails_as_it_is_asked_to() {
    let ground = Slack::start().await;
    let post = Some("chat.postMessage");
    ground
        .slack
        .fail_next(post, 1, Fault::RateLimited(Duration::from_secs(7)));
    assert!(ground.ask("auth.test", json!({})).await["ok"] == true, "another method");
    let limited = ground.send("chat.postMessage", text("a")).await.unwrap();
    assert_eq!(
        (limited.status().as_u16(), limited.headers()["retry-after"].as_bytes()),
        (429, &b"7"[..])
    );
    ground.slack.fail_next(None, 2, Fault::Status(503));
    for _ in 0..2 {
        assert_eq!(ground.send("chat.postMessage", text("b")).await.unwrap().status(), 503);
    }
    ground.slack.fail_next(None, 1, Fault::Silent);
    assert!(
        ground
            .send("chat.postMessage", text("c"))
            .await
            .unwrap_err()
            .is_timeout()
    );
    ground.slack.fail_next(None, 1, Fault::Drop);
    assert!(ground.send("chat.postMessage", text("d")).await.is_err());
    assert_eq!(ground.texts(), Vec::<String>::new(), "nothing was done");
    ground.slack.fail_next(None, 1, Fault::DoneButStatus(500));
    assert_eq!(ground.send("chat.postMessage", text("e")).await.unwrap().status(), 500);
    ground.slack.fail_next(None, 1, Fault::DoneButDrop);
    assert!(ground.send("chat.postMessage", text("f")).await.is_err());
    assert_eq!(ground.texts(), ["e", "f"], "done, and the answer lost");
    ground.slack.outage(true);
    assert!(ground.send("chat.postMessage", text("g")).await.is_err());
    ground.slack.outage(false);
    assert_eq!(ground.ask("chat.postMessage", text("h")).await["ok"], true);
    assert_eq!(ground.texts(), ["e", "f", "h"]);
    let asked = ground.slack.requests();
    assert_eq!(
        asked
            .iter()
            .filter(|request| request.method == "chat.postMessage")
            .count(),
        9
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slack_refuses_tokens_scopes_and_channels() {
    let mut ground = Slack::start().await;
    let other = ground.slack.add_team("T0000000002");
    ground.slack.add_channel(slack::TEAM, "C0PRIVATE", "private", false);
    let away = json!({"channel": "C0PRIVATE", "text": "x"});
    assert_eq!(ground.error("chat.postMessage", away).await, "not_in_channel");
    assert_eq!(
        ground.error("apps.connections.open", json!({})).await,
        "not_allowed_token_type"
    );
    ground.slack.take_scope(slack::TEAM, "users:read.email");
    let refused = ground
        .ask("users.lookupByEmail", json!({"email": "bob@example.com"}))
        .await;
    assert_eq!(
        (&refused["error"], &refused["needed"]),
        (&json!("missing_scope"), &json!("users:read.email"))
    );
    let user = ground.ask("users.info", json!({"user": BOB})).await;
    assert!(user["user"]["profile"].get("email").is_none(), "{user}");
    let answer = ground.send("auth.test", json!({})).await.unwrap();
    let scopes = answer.headers()["x-oauth-scopes"].to_str().unwrap().to_owned();
    assert!(scopes.contains("chat:write") && !scopes.contains("users:read.email"));
    ground.token = other;
    assert_eq!(ground.ask("auth.test", json!({})).await["team_id"], "T0000000002");
    assert_eq!(ground.error("users.info", json!({"user": BOB})).await, "user_not_found");
    ground.slack.renew_token("T0000000002");
    assert_eq!(ground.error("auth.test", json!({})).await, "invalid_auth");
    ground.token = String::new();
    assert_eq!(ground.error("auth.test", json!({})).await, "not_authed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slack_refuses_what_is_too_long_and_what_is_not_ours() {
    let ground = Slack::start().await;
    let long = text(&"x".repeat(40_001));
    assert_eq!(ground.error("chat.postMessage", long).await, "msg_too_long");
    assert_eq!(
        ground
            .error("chat.postMessage", json!({"channel": slack::CHANNEL}))
            .await,
        "no_text"
    );
    let section = |chars: usize| json!({"type": "section", "text": {"type": "mrkdwn", "text": "x".repeat(chars)}});
    let button = json!({"type": "button", "action_id": "a", "text": {"type": "plain_text", "text": "x".repeat(76)}});
    for (blocks, error) in [
        (json!([section(3001)]), "invalid_blocks"),
        (json!([{"type": "actions", "elements": [button]}]), "invalid_blocks"),
        (json!(vec![section(1); 51]), "invalid_blocks"),
        (json!([{"type": "sextion"}]), "invalid_blocks"),
        (json!(vec![section(3000); 5]), "msg_blocks_too_long"),
    ] {
        let body = json!({"channel": slack::CHANNEL, "text": "x", "blocks": blocks});
        assert_eq!(
            ground.error("chat.postMessage", body).await,
            error,
            "{:.200}",
            blocks.to_string()
        );
    }
    let theirs = ground.slack.person(slack::TEAM, BOB).write(slack::CHANNEL, "mine");
    let change = json!({"channel": slack::CHANNEL, "ts": theirs, "text": "yours"});
    assert_eq!(ground.error("chat.update", change.clone()).await, "cant_update_message");
    assert_eq!(ground.error("chat.delete", change).await, "cant_delete_message");
    assert_eq!(ground.texts(), ["mine"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_url_of_slack_is_good_five_times() {
    let ground = Slack::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: url::Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let (heard, mut hears) = tokio::sync::mpsc::channel(1);
    let app = axum::Router::new().fallback(|body: String| async move {
        heard.send(body).await.unwrap();
    });
    let served = tokio::spawn(async move { axum::serve(listener, app).await });
    ground.slack.use_endpoints(Some(slack::Endpoints {
        interactions: url.clone(),
        commands: url.clone(),
        events: url,
    }));
    let bob = ground.slack.person(slack::TEAM, BOB);
    bob.command(slack::CHANNEL, "/countersign", "pending").await.unwrap();
    let form = hears.recv().await.unwrap();
    let mut form = url::form_urlencoded::parse(form.as_bytes());
    let url = form.find(|(name, _)| name == "response_url").unwrap().1.into_owned();
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let sent = ground
            .client
            .post(&url)
            .json(&json!({"text": "later"}))
            .send()
            .await
            .unwrap();
        statuses.push(sent.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 404]);
    assert_eq!(ground.slack.ephemerals(slack::TEAM, BOB).len(), 5);
    served.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discord_fails_and_refuses_as_it_is_asked_to() {
    let discord = discord::Discord::start().await.unwrap();
    discord.add_member(discord::User::member("42", "bob"));
    let client = Client::builder().timeout(Duration::from_secs(1)).build().unwrap();
    let url = format!("{}/v10/channels/{}/messages", discord.api_url(), discord::CHANNEL);
    let bot = format!("Bot {}", discord.token());
    let post = async |content: &str| {
        let request = client.post(&url).header("authorization", &bot);
        request
            .json(&json!({"content": content, "nonce": content, "enforce_nonce": true}))
            .send()
            .await
    };
    let method = Some("POST /channels/{channel}/messages");
    discord.fail_next(method, 1, Fault::RateLimited(Duration::from_millis(1500)));
    let limited = post("a").await.unwrap();
    assert_eq!(limited.status(), 429);
    assert_eq!(limited.json::<Value>().await.unwrap()["retry_after"], 1.5);
    discord.fail_next(method, 1, Fault::DoneButDrop);
    assert!(post("b").await.is_err());
    assert_eq!(post("b").await.unwrap().status(), 200);
    assert_eq!(
        discord.messages(discord::CHANNEL).len(),
        1,
        "the nonce gives the same message"
    );
    let refused = client
        .post(&url)
        .header("authorization", "Bot x")
        .json(&json!({"content": "x"}));
    assert_eq!(refused.send().await.unwrap().status(), 401);
    let theirs = discord.person("42").write(discord::CHANNEL, "mine");
    let edit = client.patch(format!("{url}/{theirs}")).header("authorization", &bot);
    let refused: Value = edit
        .json(&json!({"content": "yours"}))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(refused["code"], 50005);
    let long = client.post(&url).header("authorization", &bot);
    let long = long
        .json(&json!({"embeds": [{"title": "x".repeat(257)}]}))
        .send()
        .await
        .unwrap();
    let long: Value = long.json().await.unwrap();
    assert_eq!(long["code"], 50035);
    assert!(long["errors"]["embeds"]["0"]["title"]["_errors"].is_array(), "{long}");
    discord.outage(true);
    assert!(post("c").await.is_err());
    discord.outage(false);
    let nobody = discord.person("42").click(discord::CHANNEL, &theirs, "approve").await;
    assert!(nobody.is_err(), "there is nothing to click");
}
