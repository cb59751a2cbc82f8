//! Socket Mode: envelopes over WebSockets, and what the app acknowledges.
//! <https://docs.slack.dev/apis/events-api/using-socket-mode>

use super::Shared;
use super::state::{APP, Connection};
use crate::chat::Answer;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State as Of};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Clients take a connection for dead that is silent for longer than half a minute.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How many frames may wait for a connection.
const FRAMES_MAX: usize = 256;

/// How many connections an app may have.
const CONNECTIONS_MAX: usize = 10;

#[derive(Deserialize)]
pub(super) struct Link {
    ticket: String,
}

/// A ticket is good for one connection.
pub(super) async fn connect(
    Of(shared): Of<Arc<Shared>>,
    Query(link): Query<Link>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let mut state = shared.lock();
    let known = state.tickets.iter().position(|ticket| *ticket == link.ticket);
    let is_full = state.connections.len() >= CONNECTIONS_MAX;
    let Some(index) = known.filter(|_| !is_full && !shared.weather.is_out()) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    state.tickets.remove(index);
    drop(state);
    upgrade.on_upgrade(|socket| serve(shared, socket))
}

async fn serve(shared: Arc<Shared>, mut socket: WebSocket) {
    let (frames, mut due) = mpsc::channel(FRAMES_MAX);
    let (id, count) = {
        let mut state = shared.lock();
        let id = state.next();
        state.connections.push(Connection { id, frames });
        (id, state.connections.len())
    };
    let hello = json!({"type": "hello", "num_connections": count, "connection_info": {"app_id": APP},
        "debug_info": {"host": "applink-1", "build_number": 1, "approximate_connection_time": 18_060}});
    let mut is_open = socket.send(Message::text(hello.to_string())).await.is_ok();
    shared.changed.notify_waiters();
    let mut ping = tokio::time::interval(PING_INTERVAL);
    while is_open {
        // Each arm may be dropped midway: nothing is lost before it is taken.
        is_open = tokio::select! {
            frame = due.recv() => match frame {
                Some(frame) => socket.send(Message::text(Value::to_string(&frame))).await.is_ok(),
                None => false,
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => { acknowledge(&shared, &text); true }
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => true,
                Some(Ok(Message::Close(_)) | Err(_)) | None => false,
            },
            _ = ping.tick() => socket.send(Message::Ping("Ping from applink-1".into())).await.is_ok(),
            () = shared.stop.cancelled() => false,
        };
    }
    shared.lock().connections.retain(|connection| connection.id != id);
    drop(socket.send(Message::Close(None)).await);
}

fn acknowledge(shared: &Shared, text: &str) {
    let ack: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(id) = ack["envelope_id"].as_str() else {
        return;
    };
    let mut state = shared.lock();
    state.acknowledged += 1;
    if let Some(waiting) = state.waiting.remove(id) {
        let answer = Answer {
            status: 200,
            body: ack.get("payload").cloned().unwrap_or_default(),
            deliveries: 0,
        };
        // Nobody waits any more when the deadline has passed.
        drop(waiting.send(answer));
    }
}
