//! The chat of the demo: a page that shows the channel of the demo's Slack as Slack would, with buttons that work.
//!
//! The Slack is the one of the tests (`slack.rs`): the bot before it is the real one. Nothing of it leaves this machine.

use crate::bot::{Bot, RING_KEY, link};
use crate::harness::GatewayOptions;
use crate::ports::{free_port, preferred_port};
use crate::slack::{APP, CHANNEL, Message, Slack, TEAM, User, View};
use crate::world::World;
use anyhow::{Context, Result};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

const PAGE_PORT: u16 = 6585;

/// Who plays in the channel, and their groups. Carol has linked her account to nobody.
const PEOPLE: [(&str, &str, &[&str]); 2] = [("U0ALICE", "alice", &["engineering"]), ("U0BOB", "bob", &["dba"])];
const NOBODYS: (&str, &str) = ("U0CAROL", "carol");

/// A Slack that the gateway's configuration names, before there is a gateway.
pub struct Channel {
    slack: Arc<Slack>,
    bot_port: u16,
    page_port: u16,
}

/// The channel, with a bot and a page. It ends when it is dropped.
pub struct OpenChannel {
    /// Dropped first: it writes into the world's files.
    _bot: Bot,
    page_port: u16,
    _stop: DropGuard,
}

impl Channel {
    /// `is_fixed`: the page has the port that the demo's instructions have always named, where it is free.
    pub async fn prepare(is_fixed: bool) -> Result<Self> {
        let slack = Slack::start().await?;
        for (id, name) in PEOPLE.iter().map(|(id, name, _)| (*id, *name)).chain([NOBODYS]) {
            slack.add_user(TEAM, User::member(id, name));
        }
        Ok(Self {
            slack: Arc::new(slack),
            bot_port: free_port()?,
            page_port: if is_fixed {
                preferred_port(PAGE_PORT)?
            } else {
                free_port()?
            },
        })
    }

    /// Adds the bot to a gateway's configuration.
    pub fn configure(&self, options: &mut GatewayOptions) {
        options.more += &format!(
            "[bot]\nurl = \"http://127.0.0.1:{port}\"\nlisten = \"127.0.0.1:{port}\"\nring_key = \"env:RING_KEY\"\n\
             [[bot.slack]]\nteam = \"{TEAM}\"\napp = \"{APP}\"\nbot_token = \"env:SLACK_TOKEN\"\n\
             app_token = \"env:SLACK_APP_TOKEN\"\napi_url = \"{}\"\n\
             [[bot.route]]\nchannels = [\"slack:{TEAM}:{CHANNEL}\"]\n",
            self.slack.api_url(),
            port = self.bot_port,
        );
        let secrets = [
            ("RING_KEY", RING_KEY.to_owned()),
            ("SLACK_TOKEN", self.slack.bot_token(TEAM)),
            ("SLACK_APP_TOKEN", self.slack.app_token()),
        ];
        let secrets = secrets.map(|(name, value)| (name.to_owned(), value.into()));
        options.environment.extend(secrets);
    }

    /// Links the accounts as sign-ins would, starts the bot and the page.
    pub async fn open(self, world: &World) -> Result<OpenChannel> {
        for (user, name, groups) in PEOPLE {
            link(world, name, groups, &[(user, None)]).await?;
        }
        let bot = Bot::start(&world.gateway, world.environment())?;
        let connected = self
            .slack
            .wait_for("the bot to connect", |slack| (slack.connections() > 0).then_some(()));
        connected.await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.page_port)).await?;
        let stop = CancellationToken::new();
        let router = axum::Router::new()
            .route("/", get(async || Html(include_str!("../../demo/channel.html"))))
            .route("/state", get(state))
            .route("/click", post(click))
            .route("/submit", post(submit))
            .route("/command", post(command))
            .with_state(self.slack.clone());
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                served = async { axum::serve(listener, router).await } => if let Err(error) = served {
                    tracing::error!(%error, "the page of the demo's channel ended");
                },
                () = stopped.cancelled() => {}
            }
        });
        Ok(OpenChannel {
            _bot: bot,
            page_port: self.page_port,
            _stop: stop.drop_guard(),
        })
    }
}

impl OpenChannel {
    /// Where the page is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.page_port)
    }

    /// Clicks on the card of an approval as the page does.
    pub async fn click(&self, person: &str, number: &str, action: &str) -> Result<()> {
        let user = PEOPLE
            .iter()
            .find(|(_, name, _)| *name == person)
            .context("nobody of that name")?
            .0;
        let state: Value = reqwest::get(format!("{}/state?user={user}", self.url()))
            .await?
            .json()
            .await?;
        let messages = state.get("messages").and_then(Value::as_array).context("no messages")?;
        let card = messages
            .iter()
            .find(|message| message.to_string().contains(&format!("{number}\"")));
        let ts = card
            .and_then(|card| card.get("ts"))
            .context("the card is not in the channel")?;
        let body = json!({"user": user, "ts": ts, "action": action});
        let answer = reqwest::Client::new()
            .post(format!("{}/click", self.url()))
            .json(&body)
            .send()
            .await?;
        answer.error_for_status()?;
        Ok(())
    }

    /// Whether the channel shows the card of an approval.
    pub async fn shows(&self, number: &str, text: &str) -> Result<bool> {
        let state: Value = reqwest::get(format!("{}/state?user=U0BOB", self.url()))
            .await?
            .json()
            .await?;
        let messages = state.get("messages").and_then(Value::as_array).context("no messages")?;
        let shows = |message: &Value| {
            let said = message.to_string();
            said.contains(number) && said.contains(text)
        };
        Ok(messages.iter().any(shows))
    }
}

#[derive(Deserialize)]
struct Reader {
    user: String,
}

/// What a person sees: the channel, what is only for them, their direct messages, and a form that is open.
async fn state(State(slack): State<Arc<Slack>>, Query(Reader { user }): Query<Reader>) -> Json<Value> {
    let people: Vec<Value> = PEOPLE
        .iter()
        .map(|(id, name, _)| (*id, *name))
        .chain([NOBODYS])
        .map(|(id, name)| json!({"id": id, "name": name}))
        .collect();
    let form = slack.views(TEAM, &user).into_iter().rfind(|view| view.is_open);
    let bodies = |messages: Vec<Message>| -> Vec<Value> {
        messages
            .into_iter()
            .filter(|message| !message.deleted)
            .map(|message| message.body)
            .collect()
    };
    Json(json!({
        "people": people,
        "messages": bodies(slack.messages(TEAM, CHANNEL)),
        "own": bodies(slack.ephemerals(TEAM, &user)),
        "direct": bodies(slack.direct_messages(TEAM, &user)),
        "form": form.map(|view| json!({"id": view.id, "view": view.body})),
    }))
}

#[derive(Deserialize)]
struct Click {
    user: String,
    ts: String,
    action: String,
}

async fn click(State(slack): State<Arc<Slack>>, Json(click): Json<Click>) -> StatusCode {
    let seen = slack.messages(TEAM, CHANNEL).into_iter();
    let seen = seen
        .chain(slack.ephemerals(TEAM, &click.user))
        .chain(slack.direct_messages(TEAM, &click.user));
    let Some(message) = seen.into_iter().find(|message| message.ts == click.ts) else {
        return StatusCode::NOT_FOUND;
    };
    done(
        slack
            .person(TEAM, &click.user)
            .click_seen(&message, &click.action)
            .await,
    )
}

#[derive(Deserialize)]
struct Submit {
    user: String,
    form: String,
    reason: Option<String>,
}

/// Sends a form off, or closes it.
async fn submit(State(slack): State<Arc<Slack>>, Json(sent): Json<Submit>) -> StatusCode {
    let form: Option<View> = slack
        .views(TEAM, &sent.user)
        .into_iter()
        .find(|view| view.id == sent.form);
    let Some(form) = form else {
        return StatusCode::NOT_FOUND;
    };
    let person = slack.person(TEAM, &sent.user);
    match &sent.reason {
        Some(reason) => done(person.submit(&form, &[("reason", "reason", reason)]).await),
        None => done(person.close(&form).await),
    }
}

#[derive(Deserialize)]
struct Command {
    user: String,
    text: String,
}

async fn command(State(slack): State<Arc<Slack>>, Json(sent): Json<Command>) -> StatusCode {
    done(
        slack
            .person(TEAM, &sent.user)
            .command(CHANNEL, "/countersign", &sent.text)
            .await,
    )
}

fn done<T>(answered: Result<T>) -> StatusCode {
    match answered {
        Ok(_) => StatusCode::NO_CONTENT,
        Err(error) => {
            tracing::warn!(%error, "the bot did not take what was done in the channel");
            StatusCode::BAD_GATEWAY
        }
    }
}
