//! A small Slack on the loopback interface, for tests and the demo: the Web API, Socket Mode, signed requests, and
//! people who click. It is held to Slack's own clients, `@slack/bolt` and `slack_bolt`.
//!
//! One app, in one or more workspaces; a workspace has a token of its own, and each has a channel [`CHANNEL`].
#![allow(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what is missing, and what is set here is an object"
)]

mod answers;
mod blocks;
mod deliver;
mod methods;
mod people;
mod socket;
mod state;
mod web;

pub use deliver::Endpoints;
pub use people::Person;
pub use state::{APP, CHANNEL, File, Message, TEAM, User, View};

use crate::chat::{Cut, Fault, Lines, Request, Seal, Weather};
use crate::wait::eventually;
use anyhow::Result;
use axum::routing::{any, get, post};
use reqwest::Client;
use serde_json::json;
use state::State;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long what people do may take to arrive, in all.
const DELIVERY_LIMIT: Duration = Duration::from_secs(15);

/// A running Slack. It stops when it is dropped.
pub struct Slack {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

struct Shared {
    /// Without a slash at the end.
    url: String,
    signing_secret: String,
    weather: Weather,
    settings: Mutex<Settings>,
    state: Mutex<State>,
    changed: tokio::sync::Notify,
    client: Client,
    stop: CancellationToken,
}

struct Settings {
    endpoints: Option<Endpoints>,
    seal: Seal,
    redeliver_after: Duration,
}

impl Slack {
    pub async fn start() -> Result<Self> {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let lines = Lines::bind().await?;
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            url: format!("http://{}", axum::serve::Listener::local_addr(&lines)?),
            signing_secret: state::random(),
            weather: Weather::default(),
            settings: Mutex::new(Settings {
                endpoints: None,
                seal: Seal::Good,
                redeliver_after: Duration::from_secs(3),
            }),
            state: Mutex::new(State::new()),
            changed: tokio::sync::Notify::new(),
            client: Client::builder().redirect(reqwest::redirect::Policy::none()).build()?,
            stop: stop.clone(),
        });
        let slack = Self {
            shared: Arc::clone(&shared),
            _stop: stop.clone().drop_guard(),
        };
        let router = axum::Router::new()
            .route("/api/{method}", any(web::api))
            .route("/upload/{file}", post(web::upload))
            .route("/actions/{team}/{id}", post(answers::response_url))
            .route("/link", get(socket::connect))
            .with_state(shared)
            .into_make_service_with_connect_info::<Cut>();
        tokio::spawn(async move {
            tokio::select! {
                served = async { axum::serve(lines, router).await } => if let Err(error) = served {
                    tracing::error!(%error, "the test Slack ended");
                },
                () = stop.cancelled() => {}
            }
        });
        Ok(slack)
    }

    /// What stands in the place of `https://slack.com/api`.
    pub fn api_url(&self) -> String {
        format!("{}/api", self.shared.url)
    }

    /// For Socket Mode.
    pub fn app_token(&self) -> String {
        self.shared.lock().app_token.clone()
    }

    pub fn signing_secret(&self) -> String {
        self.shared.signing_secret.clone()
    }

    /// The bot's token in a workspace; empty where there is none.
    pub fn bot_token(&self, team: &str) -> String {
        let state = self.shared.lock();
        let token = state.teams.get(team).map(|team| team.bot_token.clone());
        token.unwrap_or_default()
    }

    /// Installs the app in another workspace and gives its token there.
    pub fn add_team(&self, id: &str) -> String {
        self.shared.lock().add_team(id)
    }

    pub fn add_user(&self, team: &str, user: User) {
        if let Some(team) = self.shared.lock().teams.get_mut(team) {
            team.users.insert(user.id.clone(), user);
        }
    }

    /// Invites the bot to a channel that there is.
    pub fn invite(&self, team: &str, channel: &str) {
        let mut state = self.shared.lock();
        let team = state.teams.get_mut(team);
        if let Some(channel) = team.and_then(|team| team.channels.get_mut(channel)) {
            channel.has_bot = true;
        }
    }

    /// A channel, with the bot in it or not.
    pub fn add_channel(&self, team: &str, id: &str, name: &str, has_bot: bool) {
        if let Some(team) = self.shared.lock().teams.get_mut(team) {
            let channel = state::Channel {
                id: id.to_owned(),
                name: name.to_owned(),
                person: None,
                has_bot,
            };
            team.channels.insert(id.to_owned(), channel);
        }
    }

    /// Takes a scope from the bot's token.
    pub fn take_scope(&self, team: &str, scope: &str) {
        if let Some(team) = self.shared.lock().teams.get_mut(team) {
            team.scopes.retain(|held| held != scope);
        }
    }

    /// Makes a new token for a workspace. The old one is invalid.
    pub fn renew_token(&self, team: &str) -> String {
        let token = format!("xoxb-{}", state::random());
        if let Some(team) = self.shared.lock().teams.get_mut(team) {
            team.bot_token.clone_from(&token);
        }
        token
    }

    /// Sends what people do to these from now on; over Socket Mode when there are none.
    pub fn use_endpoints(&self, endpoints: Option<Endpoints>) {
        self.shared.settings().endpoints = endpoints;
    }

    /// After how long what was not acknowledged is sent again.
    pub fn redeliver_after(&self, wait: Duration) {
        self.shared.settings().redeliver_after = wait;
    }

    /// The next requests of a method, or any, meet a fault.
    pub fn fail_next(&self, method: Option<&str>, times: usize, fault: Fault) {
        self.shared.weather.fail_next(method, times, fault);
    }

    /// A method is done no more often than that in each channel, as the platform bounds posting.
    pub fn limit(&self, method: &str, a_second: f64) {
        self.shared.weather.limit(method, a_second);
    }

    /// While it lasts, connections end without an answer, and there are none of Socket Mode.
    pub fn outage(&self, is_out: bool) {
        self.shared.weather.outage(is_out);
        if is_out {
            self.shared.lock().connections.clear();
        }
    }

    /// Every request so far: of the API, of response URLs (`response_url`) and of uploads (`upload`).
    pub fn requests(&self) -> Vec<Request> {
        self.shared.weather.requests()
    }

    /// What stands in a channel, with what stands in its threads, the oldest first.
    pub fn messages(&self, team: &str, channel: &str) -> Vec<Message> {
        let all = self.everything(team);
        let seen = |message: &Message| message.channel == channel && message.shown_to.is_none() && !message.deleted;
        all.into_iter().filter(seen).collect()
    }

    /// The answers to a message.
    pub fn replies(&self, team: &str, channel: &str, ts: &str) -> Vec<Message> {
        let mut all = self.messages(team, channel);
        all.retain(|message| message.thread_ts.as_deref() == Some(ts) && message.ts != ts);
        all
    }

    /// What was said to a person alone, in channels.
    pub fn ephemerals(&self, team: &str, user: &str) -> Vec<Message> {
        let mut all = self.everything(team);
        all.retain(|message| message.shown_to.as_deref() == Some(user) && !message.deleted);
        all
    }

    /// What the bot wrote to a person.
    pub fn direct_messages(&self, team: &str, user: &str) -> Vec<Message> {
        let channel = self.shared.lock().conversation(team, user);
        channel.map(|channel| self.messages(team, &channel)).unwrap_or_default()
    }

    pub fn views(&self, team: &str, user: &str) -> Vec<View> {
        let state = self.shared.lock();
        let theirs = state.views.iter();
        theirs
            .filter(|view| view.team == team && view.user == user)
            .cloned()
            .collect()
    }

    pub fn files(&self, team: &str) -> Vec<File> {
        let state = self.shared.lock();
        state
            .files
            .iter()
            .filter(|file| file.team == team && file.is_complete)
            .cloned()
            .collect()
    }

    /// How many connections of Socket Mode there are.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// How many envelopes were acknowledged, those twice that were acknowledged twice.
    pub fn acknowledged(&self) -> usize {
        self.shared.lock().acknowledged
    }

    /// Tells every connection to go away, and why: `warning`, `refresh_requested`, `link_disabled`.
    pub fn disconnect(&self, reason: &str) {
        let mut state = self.shared.lock();
        let frame = json!({"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-1"}});
        let stays = reason == "warning";
        state
            .connections
            .retain(|connection| connection.frames.try_send(frame.clone()).is_ok() && stays);
    }

    /// Makes every response URL as old as if half an hour had passed.
    pub fn expire_response_urls(&self) {
        self.shared.lock().response_urls.clear();
    }

    /// Looks until there is what a test waits for.
    pub async fn wait_for<T>(&self, what: &str, mut probe: impl FnMut(&Self) -> Option<T>) -> Result<T> {
        eventually(what, DELIVERY_LIMIT, async || probe(self)).await
    }

    fn everything(&self, team: &str) -> Vec<Message> {
        let state = self.shared.lock();
        state
            .messages
            .iter()
            .filter(|message| message.team == team)
            .cloned()
            .collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
