//! Discord over connections that the bot opens: nothing of it needs to be reachable from outside.
//! <https://discord.com/developers/docs/events/gateway>
//!
//! An own client on tokio-tungstenite: that of `serenity` brings a second TLS stack (see `rest.rs`).

use super::client::{DiscordChat, EPOCH_MILLIS};
use super::frame::{Frame, Heartbeat, Resume};
use super::intake::{DiscordIntake, Taken};
use super::request;
use super::respond::Response;
use crate::chat::inbound::Turned;
use crate::chat::tls;
use crate::chat::{ChatError, Evidence};
use chrono::Utc;
use countersign_infra::backoff::Backoff;
use countersign_infra::domain::id::Digest;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};
use tokio_util::sync::CancellationToken;
use url::Url;

/// How long each step of a connection may take.
const STEP_WITHIN: Duration = Duration::from_secs(10);

/// The largest message that is read, in bytes.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// When the answer to an interaction is sent off at the latest: it must arrive within 3 s.
const ANSWER_WITHIN: Duration = Duration::from_millis(2500);

/// What is older was told to have failed: it must not count after that. Discord hands over late what a connection missed.
const AGE_MILLIS_MAX: i64 = 10_000;

/// A connection that lasted so long was a good one: the next one is opened soon.
const GOOD_AFTER: Duration = Duration::from_secs(60);

const AGAIN_WITHIN: Duration = Duration::from_secs(5);
const AGAIN_WITHIN_MAX: Duration = Duration::from_secs(120);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why a connection ended, and what follows.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Stopped,
    /// The session may go on where it was, over another connection.
    Broken(String),
    /// The session is over; another one may begin.
    Over(String),
    /// Discord does not want the bot.
    Refused(String),
}

/// Answers in every guild that is `long_lived`, until it is told to stop. Connections that break are opened again for ever;
/// an application that Discord refuses is told in the log, and in the error if there is no other.
pub async fn serve(intake: Arc<DiscordIntake>, stop: CancellationToken) -> Result<(), ChatError> {
    let mut applications = JoinSet::new();
    for chat in applications_of(&intake) {
        let line = Line {
            intake: Arc::clone(&intake),
            chat,
            resume: None,
        };
        applications.spawn(line.keep(stop.clone()));
    }
    let mut outcome = Ok(());
    while let Some(ended) = applications.join_next().await {
        let ended = ended.unwrap_or_else(|_| Err(ChatError::Refused("a connection to Discord panicked".to_owned())));
        if let Err(error) = ended {
            tracing::error!(%error, "no longer connected to Discord: nobody there can decide");
            outcome = Err(error);
        }
    }
    if stop.is_cancelled() { Ok(()) } else { outcome }
}

/// Each application once, with one of its guilds.
fn applications_of(intake: &DiscordIntake) -> Vec<Arc<DiscordChat>> {
    let long_lived = intake.chats.iter().filter(|chat| chat.guild.long_lived);
    let applications = long_lived.map(|chat| (chat.guild.application.clone(), Arc::clone(chat)));
    applications.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// The connection of one application.
struct Line {
    intake: Arc<DiscordIntake>,
    chat: Arc<DiscordChat>,
    resume: Option<Resume>,
}

#[derive(Deserialize)]
struct Gateway {
    url: String,
}

impl Line {
    async fn keep(mut self, stop: CancellationToken) -> Result<(), ChatError> {
        let backoff = Backoff::new(AGAIN_WITHIN, AGAIN_WITHIN_MAX);
        let mut pauses = backoff;
        loop {
            let begun = Instant::now();
            let end = self.connection(&stop).await;
            if begun.elapsed() >= GOOD_AFTER {
                pauses = backoff;
            }
            let why = match end {
                End::Stopped => return Ok(()),
                End::Refused(why) => return Err(ChatError::Refused(why)),
                End::Broken(why) => why,
                End::Over(why) => {
                    self.resume = None;
                    why
                }
            };
            let pause = Duration::from_millis(200) + pauses.pause();
            tracing::info!(
                why,
                pause_ms = pause.as_millis(),
                "the connection to Discord is opened again"
            );
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn connection(&mut self, stop: &CancellationToken) -> End {
        let opened = tokio::select! {
            opened = self.open() => opened,
            // A connection that is only half made is dropped: nothing came over it yet.
            () = stop.cancelled() => Err(End::Stopped),
        };
        match opened {
            Err(end) => end,
            Ok((mut socket, interval)) => {
                let end = self.session(&mut socket, interval, stop).await;
                // Any code but 1000 and 1001 lets the session go on.
                let code = match end {
                    End::Stopped => CloseCode::Normal,
                    End::Broken(_) | End::Over(_) | End::Refused(_) => CloseCode::Library(4000),
                };
                let close = Some(CloseFrame {
                    code,
                    reason: "".into(),
                });
                drop(timeout(Duration::from_secs(1), socket.close(close)).await);
                end
            }
        }
    }

    /// Connects and says who it is. Returns how often Discord wants to hear of it.
    async fn open(&self) -> Result<(Socket, Duration), End> {
        let url = match &self.resume {
            Some(resume) => resume.url.clone(),
            None => self.ask_where().await?,
        };
        let place = url
            .parse::<Url>()
            .ok()
            .filter(|url| self.chat.guild.leads_to_discord(url));
        let elsewhere = || End::Over("Discord named a place for it that is not Discord's".to_owned());
        let mut place = place.ok_or_else(elsewhere)?;
        place.set_query(Some("v=10&encoding=json"));
        let mut socket = connect(&place).await.map_err(End::Broken)?;
        let hello = timeout(STEP_WITHIN, next(&mut socket)).await;
        let hello = hello.map_err(|_| End::Broken("Discord did not say hello".to_owned()))??;
        let interval = hello.and_then(|text| Frame::read(&text)?.interval());
        let interval = interval.ok_or_else(|| End::Broken("Discord said something else than hello".to_owned()))?;
        let hello = match &self.resume {
            Some(resume) => resume.frame(self.chat.guild.token()),
            None => identify(self.chat.guild.token()),
        };
        send(&mut socket, hello).await?;
        Ok((socket, interval))
    }

    async fn ask_where(&self) -> Result<String, End> {
        let gateway: Result<Gateway, ChatError> = self.chat.api.get("the gateway", "/gateway/bot").await;
        gateway.map(|gateway| gateway.url).map_err(|error| match error {
            ChatError::Refused(why) => End::Refused(why),
            ChatError::TooOften { .. } | ChatError::Unsure(_) => End::Broken(error.to_string()),
        })
    }

    async fn session(&mut self, socket: &mut Socket, interval: Duration, stop: &CancellationToken) -> End {
        let mut heart = Heartbeat::new(interval, Instant::now());
        loop {
            // Each arm may be dropped midway: reading a frame is cancel safe, the others hold nothing.
            let done = tokio::select! {
                frame = next(socket) => match frame {
                    Ok(Some(text)) => self.hear(&text, socket, &mut heart).await,
                    Ok(None) => Ok(()),
                    Err(end) => Err(end),
                },
                () = tokio::time::sleep_until(heart.due()) => match heart.beat(Instant::now()) {
                    true => send(socket, self.heartbeat()).await,
                    false => Err(End::Broken("Discord answers no heartbeat".to_owned())),
                },
                () = stop.cancelled() => Err(End::Stopped),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    fn heartbeat(&self) -> Value {
        json!({"op": 1, "d": self.resume.as_ref().map(|resume| resume.sequence)})
    }

    async fn hear(&mut self, text: &str, socket: &mut Socket, heart: &mut Heartbeat) -> Result<(), End> {
        let Some(frame) = Frame::read(text) else {
            self.intake.reception.turn_away(Turned::Malformed);
            return Ok(());
        };
        match frame.op {
            0 => self.dispatched(&frame, text),
            1 => return send(socket, self.heartbeat()).await,
            7 => return Err(End::Broken("Discord asks for another connection".to_owned())),
            9 if frame.d == json!(true) => return Err(End::Broken("the session was interrupted".to_owned())),
            9 => return Err(End::Over("the session is no longer valid".to_owned())),
            11 => heart.answered(),
            _ => {}
        }
        Ok(())
    }

    fn dispatched(&mut self, frame: &Frame, text: &str) {
        if let (Some(resume), Some(sequence)) = (&mut self.resume, frame.s) {
            resume.sequence = sequence;
        }
        match frame.t.as_deref() {
            Some("READY") => {
                self.resume = Resume::of(frame);
                tracing::info!(application = self.chat.guild.application, "connected to Discord");
            }
            Some("INTERACTION_CREATE") => {
                if let Err(why) = self.take(&frame.d, text) {
                    self.intake.reception.turn_away(why);
                }
            }
            Some(_) | None => {}
        }
    }

    fn take(&self, event: &Value, text: &str) -> Result<(), Turned> {
        let begun = Instant::now();
        let heard = request::interaction_of(event)?;
        let made = i64::try_from(heard.reply.id >> 22).unwrap_or(i64::MAX);
        let age = Utc::now()
            .timestamp_millis()
            .saturating_sub(made.saturating_add(EPOCH_MILLIS));
        if age > AGE_MILLIS_MAX {
            return Err(Turned::Stale);
        }
        let own =
            |chat: &&Arc<DiscordChat>| chat.guild.long_lived && chat.guild.application == self.chat.guild.application;
        let own: Vec<_> = self.intake.chats.iter().filter(own).collect();
        let evidence = Evidence {
            payload: Digest::of(text.as_bytes()),
            signed: None,
        };
        let Taken::Answering(mut answering) = self.intake.take(&own, heard, evidence)? else {
            return Ok(());
        };
        self.intake.reception.tasks.spawn(async move {
            let first = answering.first(begun + ANSWER_WITHIN).await;
            let response = Response::of(first, answering.origin);
            if let Err(error) = answering.chat.call_back(&answering.reply, response).await {
                tracing::warn!(guild = answering.chat.guild.guild, %error, "an answer in Discord could not be shown");
            }
        });
        Ok(())
    }
}

/// No intents: interactions come without any.
fn identify(token: &str) -> Value {
    let properties = json!({"os": std::env::consts::OS, "browser": "countersign", "device": "countersign"});
    json!({"op": 2, "d": {"token": token, "intents": 0, "properties": properties}})
}

async fn connect(place: &Url) -> Result<Socket, String> {
    let tls = tokio::task::spawn_blocking(tls::config).await;
    let tls = tls
        .map_err(|_| "TLS could not be prepared".to_owned())?
        .map_err(|error| error.to_string())?;
    let bounds = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let connector = (place.scheme() == "wss").then(|| Connector::Rustls(Arc::new(tls)));
    let connecting = connect_async_tls_with_config(place.as_str(), Some(bounds), false, connector);
    match timeout(STEP_WITHIN, connecting).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(format!("no connection: {error}")),
        Err(_) => Err(format!("no connection within {} s", STEP_WITHIN.as_secs())),
    }
}

async fn send(socket: &mut Socket, frame: Value) -> Result<(), End> {
    match timeout(STEP_WITHIN, socket.send(Message::text(frame.to_string()))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(End::Broken(error.to_string())),
        Err(_) => Err(End::Broken("Discord takes nothing any more".to_owned())),
    }
}

/// The next text; none for what is of the connection alone.
async fn next(socket: &mut Socket) -> Result<Option<String>, End> {
    match socket.next().await {
        Some(Ok(Message::Text(text))) => Ok(Some(text.as_str().to_owned())),
        Some(Ok(Message::Close(close))) => Err(closed(close.map(|close| close.code.into()))),
        Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        Some(Err(error)) => Err(End::Broken(error.to_string())),
        None => Err(End::Broken("the connection ended".to_owned())),
    }
}

/// <https://discord.com/developers/docs/topics/opcodes-and-status-codes#gateway-gateway-close-event-codes>
fn closed(code: Option<u16>) -> End {
    let told = |why: &str| format!("{why} (close code {})", code.unwrap_or_default());
    match code {
        Some(4004) => End::Refused(told(
            "the token is not valid: make a new one on the application's page and configure it",
        )),
        Some(4010 | 4011) => End::Refused(told("the bot is in too many servers for one connection")),
        Some(4012) => End::Refused(told(
            "Discord no longer speaks this version of its protocol: this is an error of the bot",
        )),
        Some(4013 | 4014) => End::Refused(told(
            "Discord refuses what the bot wants to hear: this is an error of the bot",
        )),
        Some(4003 | 4007 | 4009) => End::Over(told("the session is over")),
        Some(_) | None => End::Broken(told("Discord ended the connection")),
    }
}

#[cfg(test)]
mod tests;
