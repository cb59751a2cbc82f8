//! A small Discord on the loopback interface, for tests and the demo: the API, the Gateway, signed requests, and people
//! who click. It is held to discord.js, to `discord-interactions`, and to Discord's own description of requests.
//!
//! One application, in one or more guilds; [`GUILD`] with its [`CHANNEL`] is there from the start.
#![allow(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what is missing, and what is set here is an object"
)]

mod deliver;
mod gateway;
mod interactions;
mod limits;
mod messages;
mod people;
mod rest;
mod state;

pub use people::Person;
pub use state::{APPLICATION, CHANNEL, GUILD, Message, Modal, User};

use crate::chat::{Cut, Fault, Lines, Request, Seal, Weather};
use crate::wait::eventually;
use anyhow::Result;
use aws_lc_rs::signature::Ed25519KeyPair;
use axum::routing::get;
use gateway::Frame;
use reqwest::Client;
use serde_json::json;
use state::State;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

/// How long a test waits for what is to come.
const LIMIT: Duration = Duration::from_secs(15);

/// A running Discord. It stops when it is dropped.
pub struct Discord {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

struct Shared {
    /// Without a slash at the end.
    url: String,
    key: Ed25519KeyPair,
    weather: Weather,
    settings: Mutex<Settings>,
    state: Mutex<State>,
    client: Client,
    stop: CancellationToken,
}

struct Settings {
    endpoint: Option<Url>,
    seal: Seal,
    heartbeat: Duration,
}

impl Discord {
    pub async fn start() -> Result<Self> {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let lines = Lines::bind().await?;
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            url: format!("http://{}", axum::serve::Listener::local_addr(&lines)?),
            key: Ed25519KeyPair::generate()?,
            weather: Weather::default(),
            settings: Mutex::new(Settings {
                endpoint: None,
                seal: Seal::Good,
                heartbeat: Duration::from_millis(41_250),
            }),
            state: Mutex::new(State::new()),
            client: Client::builder().redirect(reqwest::redirect::Policy::none()).build()?,
            stop: stop.clone(),
        });
        let router = axum::Router::new()
            .nest("/api/v10", rest::routes(&shared))
            .route("/", get(gateway::connect))
            .with_state(Arc::clone(&shared))
            .into_make_service_with_connect_info::<Cut>();
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                served = async { axum::serve(lines, router).await } => if let Err(error) = served {
                    tracing::error!(%error, "the test Discord ended");
                },
                () = stopped.cancelled() => {}
            }
        });
        Ok(Self {
            shared,
            _stop: stop.drop_guard(),
        })
    }

    /// What stands in the place of `https://discord.com/api`.
    pub fn api_url(&self) -> String {
        format!("{}/api", self.shared.url)
    }

    pub fn token(&self) -> String {
        self.shared.lock().token.clone()
    }

    /// What requests are verified with, in hexadecimal.
    pub fn public_key(&self) -> String {
        self.shared.public_key()
    }

    /// Puts the bot into another guild.
    pub fn add_guild(&self, id: &str) {
        self.shared.lock().guilds.entry(id.to_owned()).or_default();
    }

    /// What everybody may on the server, and what the bot's own role adds, as bits.
    /// <https://discord.com/developers/docs/topics/permissions>
    pub fn permit(&self, everyone: u64, own: u64) {
        let mut state = self.shared.lock();
        let guild = state.guilds.entry(GUILD.to_owned()).or_default();
        (guild.everyone, guild.own) = (everyone, own);
    }

    /// Forgets the commands of every server.
    pub fn forget_commands(&self) {
        self.shared.lock().commands.clear();
    }

    /// A channel that the bot may see, or not.
    pub fn add_channel(&self, guild: &str, id: &str, name: &str, has_bot: bool) {
        self.shared.lock().add_channel(guild, id, name, has_bot);
    }

    /// Sends what people do to that address from now on; by the Gateway when there is none.
    pub fn use_endpoint(&self, endpoint: Option<Url>) {
        self.shared.settings().endpoint = endpoint;
    }

    /// How requests are signed from now on.
    pub fn seal(&self, seal: Seal) {
        self.shared.settings().seal = seal;
    }

    /// How often those who connect from now on are to send a heartbeat.
    pub fn heartbeat(&self, interval: Duration) {
        self.shared.settings().heartbeat = interval;
    }

    /// The next requests of a method, or any, meet a fault. A method is `POST /channels/{channel}/messages`.
    pub fn fail_next(&self, method: Option<&str>, times: usize, fault: Fault) {
        self.shared.weather.fail_next(method, times, fault);
    }

    /// A method is done no more often than that in each channel, as the platform bounds posting.
    pub fn limit(&self, method: &str, a_second: f64) {
        self.shared.weather.limit(method, a_second);
    }

    /// While it lasts, connections end without an answer, those of the Gateway too.
    pub fn outage(&self, is_out: bool) {
        self.shared.weather.outage(is_out);
        if is_out {
            let mut state = self.shared.lock();
            state.sessions.iter_mut().for_each(gateway::Session::hang_up);
        }
    }

    /// Asks every session to connect anew and resume, and hangs up.
    pub fn reconnect(&self) {
        for session in &mut self.shared.lock().sessions {
            session.give(Frame::Send(json!({"op": 7, "s": null, "t": null, "d": null})));
            session.hang_up();
        }
    }

    /// Tells every session that it is over. One that cannot be resumed is forgotten.
    pub fn invalidate(&self, can_be_resumed: bool) {
        let mut state = self.shared.lock();
        for session in &state.sessions {
            session.give(Frame::Send(json!({"op": 9, "s": null, "t": null, "d": can_be_resumed})));
        }
        if !can_be_resumed {
            state.sessions.clear();
        }
    }

    /// Ends every connection of the Gateway with a code.
    pub fn close(&self, code: u16) {
        for session in &mut self.shared.lock().sessions {
            session.give(Frame::Close(code));
            session.hang_up();
        }
    }

    /// How many sessions are connected.
    pub fn connections(&self) -> usize {
        let state = self.shared.lock();
        state.sessions.iter().filter(|session| session.is_connected()).count()
    }

    /// The sessions that there are, connected or not.
    pub fn sessions(&self) -> Vec<String> {
        let state = self.shared.lock();
        state.sessions.iter().map(|session| session.id.clone()).collect()
    }

    /// Every request of the API so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.weather.requests()
    }

    /// What stands in a channel or a thread, the oldest first.
    pub fn messages(&self, channel: &str) -> Vec<Message> {
        let state = self.shared.lock();
        let seen = state.messages.iter().filter(|message| message.is_seen_in(channel));
        seen.cloned().collect()
    }

    /// What was said to a person alone.
    pub fn ephemerals(&self, user: &str) -> Vec<Message> {
        let state = self.shared.lock();
        let theirs = state.messages.iter();
        theirs
            .filter(|message| message.shown_to.as_deref() == Some(user) && !message.deleted)
            .cloned()
            .collect()
    }

    /// What the bot wrote to a person.
    pub fn direct_messages(&self, user: &str) -> Vec<Message> {
        let channel = self.shared.lock().conversation(user);
        channel.map(|channel| self.messages(&channel.id)).unwrap_or_default()
    }

    pub fn modals(&self, user: &str) -> Vec<Modal> {
        let state = self.shared.lock();
        state
            .modals
            .iter()
            .filter(|modal| modal.user == user)
            .cloned()
            .collect()
    }

    /// Looks until there is what a test waits for.
    pub async fn wait_for<T>(&self, what: &str, mut probe: impl FnMut(&Self) -> Option<T>) -> Result<T> {
        eventually(what, LIMIT, async || probe(self)).await
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
