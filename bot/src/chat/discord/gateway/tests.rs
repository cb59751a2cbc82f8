use super::*;
use crate::chat::discord::example::{self, Script};
use axum::Json;
use axum::Router;
use axum::extract::ws::{CloseFrame as Closing, Message as Sent, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::routing::{any, get, post};
use std::sync::Mutex;
use tokio::sync::mpsc;

#[test]
fn some_ends_are_for_good() {
    for code in [4004, 4010, 4011, 4012, 4013, 4014] {
        assert!(matches!(closed(Some(code)), End::Refused(_)), "{code}");
    }
    for code in [4003, 4007, 4009] {
        assert!(matches!(closed(Some(code)), End::Over(_)), "{code}");
    }
    for code in [None, Some(1000), Some(1006), Some(4000), Some(4008)] {
        assert!(matches!(closed(code), End::Broken(_)), "{code:?}");
    }
}

/// As much of Discord as a connection needs: each one is handed to the test.
struct Peer {
    connections: mpsc::Receiver<WebSocket>,
    answers: Arc<Mutex<Vec<(String, Value)>>>,
    script: Arc<Script>,
    intake: Arc<DiscordIntake>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<Result<(), ChatError>>,
}

type Told = (mpsc::Sender<WebSocket>, Arc<Mutex<Vec<(String, Value)>>>);

impl Peer {
    async fn start(interval_ms: u64) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (connected, connections) = mpsc::channel(8);
        let answers = Arc::new(Mutex::default());
        let gateway = json!({"url": format!("ws://{url}/gateway")});
        let hello = json!({"op": 10, "d": {"heartbeat_interval": interval_ms}}).to_string();
        let connect = move |State((connected, _)): State<Told>, upgrade: WebSocketUpgrade| async move {
            upgrade.on_upgrade(async move |mut socket| {
                socket.send(Sent::text(hello)).await.unwrap();
                connected.send(socket).await.unwrap();
            })
        };
        let answer = |State((_, answers)): State<Told>,
                      Path((id, _)): Path<(String, String)>,
                      Json(body): Json<Value>| async move {
            answers.lock().unwrap().push((id, body));
        };
        let router = Router::new()
            .route("/api/v10/gateway/bot", get(async move || Json(gateway)))
            .route("/api/v10/interactions/{id}/{token}/callback", post(answer))
            .route("/gateway", any(connect))
            .with_state((connected, Arc::clone(&answers)));
        tokio::spawn(axum::serve(listener, router).into_future());
        let guild = example::long_lived(&format!("http://{url}/api"));
        let script = Script::silent();
        let chat = tokio::task::spawn_blocking(|| DiscordChat::new(guild).unwrap())
            .await
            .unwrap();
        let intake = DiscordIntake::new(vec![Arc::new(chat)], Arc::clone(&script) as _);
        let stop = CancellationToken::new();
        Self {
            connections,
            answers,
            script,
            served: tokio::spawn(serve(Arc::clone(&intake), stop.clone())),
            intake,
            stop,
        }
    }

    async fn connection(&mut self) -> WebSocket {
        timeout(Duration::from_secs(20), self.connections.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// The next connection, made ready.
    async fn ready(&mut self) -> WebSocket {
        let mut socket = self.connection().await;
        assert_eq!(read(&mut socket).await.unwrap()["op"], 2);
        let place = json!({"session_id": "s1", "resume_gateway_url": self.place()});
        tell(&mut socket, &json!({"op": 0, "s": 1, "t": "READY", "d": place})).await;
        socket
    }

    fn place(&self) -> String {
        let api: Url = self.intake.chats[0].guild.api.parse().unwrap();
        format!("ws://127.0.0.1:{}/gateway", api.port().unwrap())
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let waited = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), waited).await.unwrap();
    }
}

/// The next frame of the bot; none at the end of the connection.
async fn read(socket: &mut WebSocket) -> Option<Value> {
    loop {
        match timeout(Duration::from_secs(20), socket.recv()).await.unwrap() {
            Some(Ok(Sent::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
            Some(Ok(Sent::Ping(_) | Sent::Pong(_) | Sent::Binary(_))) => {}
            Some(Ok(Sent::Close(_)) | Err(_)) | None => return None,
        }
    }
}

async fn tell(socket: &mut WebSocket, frame: &Value) {
    socket.send(Sent::text(frame.to_string())).await.unwrap();
}

fn id(age_millis: i64) -> String {
    let millis = Utc::now().timestamp_millis() - age_millis - EPOCH_MILLIS;
    (u64::try_from(millis).unwrap() << 22).to_string()
}

fn click(id: &str) -> Value {
    let mut click = example::click("approve:QJF6HN4C");
    click["id"] = json!(id);
    json!({"op": 0, "s": 5, "t": "INTERACTION_CREATE", "d": click})
}

#[tokio::test]
async fn a_click_is_asked_and_answered_by_a_call() {
    let mut peer = Peer::start(60_000).await;
    let mut socket = peer.ready().await;
    let click = click(&id(0));
    tell(&mut socket, &click).await;
    tell(&mut socket, &click).await;
    peer.until(|peer| !peer.answers.lock().unwrap().is_empty()).await;
    let (answered, body) = peer.answers.lock().unwrap().remove(0);
    assert_eq!((json!(answered), &body["type"]), (click["d"]["id"].clone(), &json!(6)));
    let request = peer.script.requests().remove(0);
    let evidence = Evidence {
        payload: Digest::of(click.to_string().as_bytes()),
        signed: None,
    };
    assert_eq!(
        (request.account.to_string().as_str(), request.evidence),
        ("discord:1:42", evidence)
    );
    peer.until(|peer| peer.intake.counters().of(Turned::Resent) == 1).await;
    assert_eq!(peer.script.asked().len(), 1);
}

#[tokio::test]
async fn what_is_foreign_late_or_unreadable_is_asked_of_nobody() {
    let mut peer = Peer::start(60_000).await;
    let mut socket = peer.ready().await;
    for (name, value) in [
        ("guild_id", json!("7")),
        ("application_id", json!("5")),
        ("id", json!(id(60_000))),
        ("member", json!(5)),
    ] {
        let mut click = click(&id(0));
        click["d"][name] = value;
        tell(&mut socket, &click).await;
    }
    socket.send(Sent::text("{")).await.unwrap();
    let counted =
        |peer: &Peer| [Turned::Foreign, Turned::Stale, Turned::Malformed].map(|why| peer.intake.counters().of(why));
    peer.until(|peer| counted(peer) == [2, 1, 2]).await;
    assert_eq!(peer.script.asked(), []);
}

#[tokio::test]
async fn a_session_goes_on_over_another_connection() {
    let mut peer = Peer::start(60_000).await;
    let mut socket = peer.ready().await;
    tell(&mut socket, &json!({"op": 0, "s": 4, "t": "GUILD_CREATE", "d": {}})).await;
    tell(&mut socket, &json!({"op": 7, "d": null})).await;
    let mut socket = peer.connection().await;
    let resume = json!({"op": 6, "d": {"token": example::TOKEN, "session_id": "s1", "seq": 4}});
    assert_eq!(read(&mut socket).await, Some(resume));
    tell(&mut socket, &json!({"op": 9, "d": false})).await;
    peer.ready().await;
}

#[tokio::test]
async fn heartbeats_are_sent_and_a_peer_that_answers_none_is_left() {
    let mut peer = Peer::start(100).await;
    let mut socket = peer.ready().await;
    for _ in 0..2 {
        assert_eq!(read(&mut socket).await, Some(json!({"op": 1, "d": 1})));
        tell(&mut socket, &json!({"op": 11})).await;
    }
    assert_eq!(read(&mut socket).await, Some(json!({"op": 1, "d": 1})));
    assert_eq!(read(&mut socket).await, None);
    let mut socket = peer.connection().await;
    assert_eq!(read(&mut socket).await.unwrap()["op"], 6);
}

#[tokio::test]
async fn a_token_that_is_refused_ends_it_with_the_reason() {
    let mut peer = Peer::start(60_000).await;
    let mut socket = peer.connection().await;
    let close = Closing {
        code: 4004,
        reason: "".into(),
    };
    socket.send(Sent::Close(Some(close))).await.unwrap();
    let ended = timeout(Duration::from_secs(20), peer.served).await.unwrap().unwrap();
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("4004") && !error.contains(example::TOKEN), "{error}");
}

#[tokio::test]
async fn it_ends_when_it_is_told_to() {
    let mut peer = Peer::start(60_000).await;
    let mut socket = peer.ready().await;
    peer.stop.cancel();
    assert_eq!(
        timeout(Duration::from_secs(20), peer.served).await.unwrap().unwrap(),
        Ok(())
    );
    assert_eq!(read(&mut socket).await, None);
}
