//! The Gateway: sessions over WebSockets, JSON, version 10, one shard.
//! <https://discord.com/developers/docs/events/gateway>

use super::Shared;
use super::state::{APPLICATION, Guild, State, User, guild, random};
use crate::chat::Cut;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, State as Of};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How many frames may wait for a connection.
const FRAMES_MAX: usize = 1024;

/// How many events are kept for a session that may come back.
const EVENTS_MAX: usize = 1000;

/// The intent to hear of guilds.
const GUILDS: u64 = 1;

pub(super) enum Frame {
    Send(Value),
    /// The end, with a code.
    Close(u16),
    /// The end, without any.
    Gone,
}

/// What a client identified as, with what it has missed while it is away.
pub(super) struct Session {
    pub id: String,
    sequence: u64,
    events: Vec<(u64, Value)>,
    frames: Option<mpsc::Sender<Frame>>,
}

impl Session {
    pub fn is_connected(&self) -> bool {
        self.frames.as_ref().is_some_and(|frames| !frames.is_closed())
    }

    pub fn dispatch(&mut self, name: &str, event: &Value) {
        self.sequence += 1;
        let frame = json!({"op": 0, "s": self.sequence, "t": name, "d": event});
        if self.events.len() >= EVENTS_MAX {
            self.events.remove(0);
        }
        self.events.push((self.sequence, frame.clone()));
        self.give(Frame::Send(frame));
    }

    /// Lost where nobody is connected, or the connection does not keep up.
    pub fn give(&self, frame: Frame) {
        if let Some(frames) = &self.frames {
            drop(frames.try_send(frame));
        }
    }

    pub fn hang_up(&mut self) {
        self.give(Frame::Gone);
        self.frames = None;
    }
}

pub(super) async fn connect(
    Of(shared): Of<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    upgrade: WebSocketUpgrade,
) -> Response {
    if shared.weather.is_out() {
        cut.cut();
    }
    upgrade.on_upgrade(|socket| async move {
        let (frames, due) = mpsc::channel(FRAMES_MAX);
        let mut line = Line {
            shared,
            frames,
            session: None,
            is_alive: true,
        };
        line.run(socket, due).await;
    })
}

/// One connection.
struct Line {
    shared: Arc<Shared>,
    frames: mpsc::Sender<Frame>,
    session: Option<String>,
    /// A heartbeat has come since it was looked at.
    is_alive: bool,
}

impl Line {
    async fn run(&mut self, mut socket: WebSocket, mut due: mpsc::Receiver<Frame>) {
        let interval = self.shared.settings().heartbeat;
        let millis = u64::try_from(interval.as_millis()).unwrap_or(41_250);
        let hello = json!({"op": 10, "s": null, "t": null, "d": {"heartbeat_interval": millis, "_trace": ["fake"]}});
        self.give(Frame::Send(hello));
        let mut overdue = tokio::time::interval(interval + Duration::from_secs(1).max(interval / 2));
        overdue.tick().await;
        let mut ends = None;
        while ends.is_none() {
            // Each arm may be dropped midway: nothing is lost before it is taken.
            ends = tokio::select! {
                frame = due.recv() => match frame {
                    Some(Frame::Send(frame)) => {
                        let sent = socket.send(Message::text(frame.to_string())).await;
                        sent.err().map(|_| None)
                    }
                    Some(Frame::Close(code)) => Some(Some(code)),
                    Some(Frame::Gone) | None => Some(None),
                },
                message = socket.recv() => match message {
                    Some(Ok(Message::Text(text))) => self.hear(&text).map(Some),
                    Some(Ok(Message::Binary(_))) => Some(Some(4002)),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => None,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => Some(None),
                },
                _ = overdue.tick() => (!std::mem::take(&mut self.is_alive)).then_some(Some(4009)),
                () = self.shared.stop.cancelled() => Some(None),
            };
        }
        let frame = ends.flatten().map(|code| CloseFrame {
            code,
            reason: "".into(),
        });
        drop(socket.send(Message::Close(frame)).await);
        self.leave();
    }

    /// A frame of the client. Gives the code of the close that it leads to, if any.
    fn hear(&mut self, text: &str) -> Option<u16> {
        let Ok(frame) = serde_json::from_str::<Value>(text) else {
            return Some(4002);
        };
        let data = &frame["d"];
        match frame["op"].as_u64() {
            Some(1) => {
                self.is_alive = true;
                self.give(Frame::Send(json!({"op": 11, "s": null, "t": null, "d": null})));
                None
            }
            Some(2) if self.is_identified() => Some(4005),
            Some(2) => self.identify(data),
            Some(6) => self.resume(data),
            Some(3 | 4 | 8) if self.is_identified() => None,
            Some(3 | 4 | 8) => Some(4003),
            Some(_) | None => Some(4001),
        }
    }

    /// It has a session, and it was not told that it is over.
    fn is_identified(&self) -> bool {
        let state = self.shared.lock();
        let mut known = state.sessions.iter();
        known.any(|session| Some(&session.id) == self.session.as_ref())
    }

    fn identify(&mut self, data: &Value) -> Option<u16> {
        let mut state = self.shared.lock();
        if !is_token(&state, data) {
            return Some(4004);
        }
        let Some(intents) = data["intents"].as_u64() else {
            return Some(4013);
        };
        let mut session = Session {
            id: random(),
            sequence: 0,
            events: Vec::new(),
            frames: Some(self.frames.clone()),
        };
        session.dispatch("READY", &ready(&state, &session.id, &self.shared.url, data));
        if intents & GUILDS != 0 {
            for id in state.guilds.keys() {
                session.dispatch("GUILD_CREATE", &created(&state, id));
            }
        }
        self.session = Some(session.id.clone());
        state.sessions.push(session);
        None
    }

    fn resume(&mut self, data: &Value) -> Option<u16> {
        let mut state = self.shared.lock();
        if !is_token(&state, data) {
            return Some(4004);
        }
        let mut known = state.sessions.iter_mut();
        let Some(session) = known.find(|session| json!(session.id) == data["session_id"]) else {
            self.give(Frame::Send(json!({"op": 9, "s": null, "t": null, "d": false})));
            return None;
        };
        let seen = data["seq"].as_u64().unwrap_or_default();
        if seen > session.sequence {
            return Some(4007);
        }
        session.frames = Some(self.frames.clone());
        for (_, frame) in session.events.iter().filter(|(number, _)| *number > seen) {
            session.give(Frame::Send(frame.clone()));
        }
        session.dispatch("RESUMED", &json!({"_trace": ["fake"]}));
        self.session = Some(session.id.clone());
        None
    }

    fn give(&self, frame: Frame) {
        drop(self.frames.try_send(frame));
    }

    fn is_held_by(&self, session: &Session) -> bool {
        session
            .frames
            .as_ref()
            .is_some_and(|frames| frames.same_channel(&self.frames))
    }

    fn leave(&self) {
        let mut state = self.shared.lock();
        for session in &mut state.sessions {
            if self.is_held_by(session) {
                session.hang_up();
            }
        }
    }
}

fn is_token(state: &State, data: &Value) -> bool {
    let token = data["token"].as_str().unwrap_or_default();
    token.strip_prefix("Bot ").unwrap_or(token) == state.token
}

fn ready(state: &State, session: &str, url: &str, identify: &Value) -> Value {
    let mut user = state.users.get(APPLICATION).map(User::body).unwrap_or_default();
    (user["mfa_enabled"], user["verified"], user["email"]) = (json!(true), json!(true), Value::Null);
    let guilds: Vec<Value> = state
        .guilds
        .keys()
        .map(|id| json!({"id": id, "unavailable": true}))
        .collect();
    let shard = identify.get("shard").cloned().unwrap_or(json!([0, 1]));
    json!({"v": 10, "user": user, "guilds": guilds, "session_id": session, "session_type": "normal",
        "resume_gateway_url": url.replacen("http", "ws", 1), "shard": shard, "private_channels": [],
        "relationships": [], "presences": [], "user_settings": {}, "guild_join_requests": [], "geo_ordered_rtc_regions": [],
        "application": {"id": APPLICATION, "flags": 0}, "_trace": ["fake"]})
}

fn created(state: &State, id: &str) -> Value {
    let unknown = Guild::default();
    let channels = state.channels.values();
    let mut own = channels
        .filter(|channel| channel.guild.as_deref() == Some(id))
        .map(|channel| channel.body(&state.users))
        .collect::<Vec<_>>();
    let threads: Vec<Value> = own.extract_if(.., |channel| channel["type"] == 11).collect();
    let known = state.guilds.get(id).unwrap_or(&unknown);
    let members: Vec<Value> = known.members.values().map(User::as_member).collect();
    let mut body = guild(id, known);
    let more = json!({"joined_at": "2024-01-01T00:00:00.000000+00:00", "large": false, "unavailable": false,
        "member_count": members.len(), "voice_states": [], "members": members, "channels": own, "threads": threads,
        "presences": [], "stage_instances": [], "guild_scheduled_events": [], "soundboard_sounds": []});
    body.extend(more.as_object().cloned().unwrap_or_default());
    Value::Object(body)
}
