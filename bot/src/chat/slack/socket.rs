//! Slack over connections that the bot opens (Socket Mode): nothing of it needs to be reachable from outside.
//! <https://docs.slack.dev/apis/events-api/using-socket-mode>
//!
//! The crate keeps the connections; frames are read here, so that the evidence of a vote is the hash of what came, and so
//! that a frame with a field that the crate does not know is not lost.

use super::http::lost;
use super::intake::SlackIntake;
use super::request::{self, Event, Heard, Origin};
use super::say;
use crate::chat::inbound::Turned;
use crate::chat::{ChatError, Evidence};
use async_trait::async_trait;
use chrono::Utc;
use countersign_infra::backoff::Backoff;
use countersign_infra::domain::id::Digest;
use serde::Deserialize;
use serde_json::{Value, json};
use slack_morphism::clients_manager::{SlackSocketModeClientsManager, SlackSocketModeClientsManagerFactory};
use slack_morphism::listener::SlackClientEventsListenerEnvironment;
use slack_morphism::prelude::*;
use slack_morphism::{SlackSocketModeClientListener, SlackSocketModeWssClientId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A lost connection is opened again after a random part of this: Slack limits how often.
const AGAIN_WITHIN: Duration = Duration::from_secs(2);

/// Answers in every workspace that has an `app_token`, until it is told to stop. Connections that break are opened again
/// for ever; a token that is refused at the start is told in the log, and in the error if there is no other.
pub async fn serve(intake: Arc<SlackIntake>, stop: CancellationToken) -> Result<(), ChatError> {
    let mut managers = Vec::new();
    let mut outcome = Ok(());
    for (token, chat) in apps(&intake) {
        match chat.api.try_connection(&token).await {
            Err(error @ ChatError::Refused(_)) => {
                tracing::error!(team = chat.workspace.team, %error, "Slack refuses the app_token: nobody there can decide");
                outcome = Err(error);
                continue;
            }
            Err(error @ (ChatError::Unsure(_) | ChatError::TooOften { .. })) => {
                tracing::warn!(team = chat.workspace.team, %error, "Slack cannot be reached yet");
            }
            Ok(()) => {}
        }
        let client = Arc::new(chat.api.client.clone());
        let environment = Arc::new(SlackClientEventsListenerEnvironment::new(Arc::clone(&client)));
        let manager = client.http_api.connector.new_clients_manager(environment);
        let listener = Arc::new(Listener {
            intake: Arc::clone(&intake),
            hurries_until: Mutex::default(),
            manager: Arc::downgrade(&manager),
        });
        let registered = manager.register_new_token(&settings(), token, listener).await;
        registered.map_err(|_| ChatError::Refused("Socket Mode could not be started".to_owned()))?;
        managers.push(manager);
    }
    if managers.is_empty() {
        return outcome;
    }
    for manager in &managers {
        manager.start().await;
    }
    stop.cancelled().await;
    for manager in &managers {
        manager.shutdown().await;
    }
    Ok(())
}

/// Each token once, with one of the workspaces that share its app.
fn apps(intake: &SlackIntake) -> Vec<(SlackApiToken, Arc<super::SlackChat>)> {
    let tokens = intake.chats.iter().filter_map(|chat| {
        let token = chat.workspace.app_token.clone()?;
        let name = token.token_value.value().clone();
        Some((name, (token, Arc::clone(chat))))
    });
    tokens.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// Two connections, so that one is there while Slack refreshes the other; silent ones are given up after half a minute.
fn settings() -> SlackClientSocketModeConfig {
    SlackClientSocketModeConfig::new()
        .with_max_connections_count(2)
        .with_initial_backoff_in_seconds(1)
        .with_reconnect_timeout_in_seconds(5)
        .with_ping_interval_in_seconds(10)
        .with_ping_failure_threshold_times(3)
}

/// What becomes of a form is waited for so long: the crate reads the next frame of a connection only after that.
const FORM_WITHIN: Duration = Duration::from_secs(1);

/// After a form that took longer, others are not waited for at all for a while: whatever slows them down must not add up
/// until frames behind them are late.
const HURRIES_FOR: Duration = Duration::from_secs(30);

struct Listener {
    intake: Arc<SlackIntake>,
    hurries_until: Mutex<Option<Instant>>,
    manager: Weak<dyn SlackSocketModeClientsManager + Send + Sync>,
}

/// What Slack sends. Read as far as it is needed.
#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    envelope_id: Option<String>,
    #[serde(default)]
    accepts_response_payload: bool,
    #[serde(default)]
    payload: Value,
}

#[async_trait]
impl SlackSocketModeClientListener for Listener {
    /// Returns what acknowledges the frame: within 3 s, or Slack tells the person that nothing came of it. Frames of one
    /// connection are read one after another.
    async fn on_message(&self, client: &SlackSocketModeWssClientId, frame: String) -> Option<String> {
        let Ok(read) = serde_json::from_str::<Frame>(&frame) else {
            self.intake.reception.turn_away(Turned::Malformed);
            return None;
        };
        match read.kind.as_str() {
            "hello" => {
                tracing::info!("connected to Slack");
                None
            }
            "disconnect" => {
                self.again(client).await;
                None
            }
            _ => {
                let envelope = read.envelope_id.clone()?;
                let payload = self.take(read, &frame).await;
                Some(acknowledgement(&envelope, payload))
            }
        }
    }

    async fn on_error(&self, _error: Box<dyn std::error::Error + Send + Sync>) {
        // Its words may hold what was sent.
        tracing::warn!("a connection to Slack failed");
    }

    async fn on_disconnect(&self, client: &SlackSocketModeWssClientId) {
        self.again(client).await;
    }
}

fn acknowledgement(envelope: &str, payload: Option<Value>) -> String {
    match payload {
        None => json!({"envelope_id": envelope}),
        Some(payload) => json!({"envelope_id": envelope, "payload": payload}),
    }
    .to_string()
}

impl Listener {
    async fn again(&self, client: &SlackSocketModeWssClientId) {
        tokio::time::sleep(Backoff::new(AGAIN_WITHIN, AGAIN_WITHIN).pause()).await;
        if let Some(manager) = self.manager.upgrade() {
            manager.restart_client(client).await;
        }
    }

    /// Takes one frame; returns what goes with its acknowledgement. What is turned away is acknowledged too, or Slack would
    /// send it again.
    async fn take(&self, frame: Frame, raw: &str) -> Option<Value> {
        let accepts = frame.accepts_response_payload;
        let taken = match frame.kind.as_str() {
            "interactive" => request::interaction_of(&frame.payload),
            "slash_commands" => request::command_of(frame.payload.clone()),
            "events_api" => {
                self.told(&frame.payload);
                return None;
            }
            _ => return None,
        };
        let taken = taken.and_then(|heard| self.start(heard, &frame.payload, raw));
        match taken {
            Err(why) => {
                self.intake.reception.turn_away(why);
                None
            }
            Ok(None) => None,
            Ok(Some((origin, left))) => {
                let until = Instant::now() + self.patience();
                let left = SlackIntake::wait(origin, left, until).await;
                if Instant::now() >= until {
                    self.hurry();
                }
                let left = left?;
                accepts.then(|| json!({"response_action": "update", "view": say::closing(&left)}))
            }
        }
    }

    /// How long a form may keep the frames behind it waiting.
    fn patience(&self) -> Duration {
        let until = *self.hurries_until.lock().unwrap_or_else(PoisonError::into_inner);
        match until.is_some_and(|until| until > Instant::now()) {
            true => Duration::ZERO,
            false => FORM_WITHIN,
        }
    }

    fn hurry(&self) {
        let until = Instant::now() + HURRIES_FOR;
        *self.hurries_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    fn told(&self, payload: &Value) {
        match request::event(payload.to_string().as_bytes()) {
            Ok(Event::Told { team, kind, .. }) => lost(&team, &kind),
            Ok(Event::Challenge(_)) => {}
            Err(why) => {
                self.intake.reception.turn_away(why);
            }
        }
    }

    /// Starts to answer. Only what becomes of a form must be waited for: everything else is told by itself.
    fn start(&self, heard: Heard, payload: &Value, raw: &str) -> Result<Option<(Origin, super::intake::Left)>, Turned> {
        let connected = self.intake.chats.iter().filter(|chat| chat.workspace.connects());
        let mut connected = connected.filter(|chat| chat.workspace.is_of(&heard.team, heard.app.as_deref()));
        let chat = connected.next().ok_or(Turned::Foreign)?;
        let payload = Digest::of(payload.to_string().as_bytes());
        self.intake.reception.first(payload, Utc::now())?;
        let origin = heard.origin;
        let evidence = Evidence {
            payload: Digest::of(raw.as_bytes()),
            signed: None,
        };
        let left = self.intake.answer(chat, heard, evidence)?;
        Ok((origin == Origin::Form).then_some((origin, left)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::slack::SlackChat;
    use crate::chat::slack::example::{self, Script};
    use crate::chat::{Answer, Ask};
    use slack_morphism::ClientResult;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Restarts(AtomicUsize);

    #[async_trait]
    impl SlackSocketModeClientsManager for Restarts {
        async fn register_new_token(
            &self,
            _: &SlackClientSocketModeConfig,
            _: SlackApiToken,
            _: Arc<dyn SlackSocketModeClientListener + Sync + Send>,
        ) -> ClientResult<()> {
            Ok(())
        }
        async fn restart_client(&self, _: &SlackSocketModeWssClientId) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        async fn start(&self) {}
        async fn shutdown(&self) {}
        async fn await_term_signals(&self) {}
    }

    struct Fixture {
        script: Arc<Script>,
        restarts: Arc<Restarts>,
        listener: Listener,
    }

    impl Fixture {
        fn new(answer: Answer) -> Self {
            Self::of(Script::answering(answer))
        }

        fn of(script: Arc<Script>) -> Self {
            let restarts = Arc::new(Restarts::default());
            let chat = SlackChat::new(example::connected("T1"), false).unwrap();
            let manager = Arc::clone(&restarts) as Arc<dyn SlackSocketModeClientsManager + Send + Sync>;
            let intake = SlackIntake::new(vec![Arc::new(chat)], Arc::clone(&script) as _);
            let listener = Listener {
                intake,
                hurries_until: Mutex::default(),
                manager: Arc::downgrade(&manager),
            };
            Self {
                script,
                restarts,
                listener,
            }
        }

        async fn send(&self, frame: &str) -> Option<Value> {
            let client = SlackSocketModeWssClientId::new(0, 0, 0);
            let acknowledged = self.listener.on_message(&client, frame.to_owned()).await;
            acknowledged.map(|frame| serde_json::from_str(&frame).unwrap())
        }
    }

    fn frame(kind: &str, payload: &Value) -> String {
        json!({"type": kind, "envelope_id": "e1", "accepts_response_payload": true, "payload": payload}).to_string()
    }

    #[tokio::test]
    async fn clicks_and_commands_are_acknowledged_at_once_and_asked() {
        let fixture = Fixture::new(Answer::Silent);
        let click = frame("interactive", &example::click("approve", "QJF6HN4C"));
        assert_eq!(fixture.send(&click).await, Some(json!({"envelope_id": "e1"})));
        let command = frame("slash_commands", &example::command_fields("pending"));
        assert_eq!(fixture.send(&command).await, Some(json!({"envelope_id": "e1"})));
        fixture.listener.intake.drain(Duration::from_secs(10)).await;
        let requests = fixture.script.requests();
        let press = Ask::Press {
            action: "approve".to_owned(),
            approval: "QJF6HN4C".to_owned(),
        };
        let text = "pending".to_owned();
        let asked: Vec<Ask> = requests.iter().map(|request| request.ask.clone()).collect();
        assert_eq!(asked, [press, Ask::Command { text }]);
        let evidence = Evidence {
            payload: Digest::of(click.as_bytes()),
            signed: None,
        };
        assert_eq!(requests[0].evidence, evidence);
    }

    #[tokio::test]
    async fn a_form_is_acknowledged_with_its_answer() {
        let fixture = Fixture::new(Answer::say("It was approved before."));
        let sent = frame("interactive", &example::submission(json!("no")));
        let acknowledged = fixture.send(&sent).await.unwrap();
        assert_eq!(acknowledged.pointer("/payload/response_action"), Some(&json!("update")));
        assert!(acknowledged.to_string().contains("approved before"), "{acknowledged}");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_forms_keep_the_frames_behind_them_waiting_for_a_second_in_all() {
        let fixture = Fixture::of(Script::slow(Answer::Silent, Duration::from_secs(20)));
        let started = Instant::now();
        for number in 0..10 {
            let mut form = example::submission(json!("no"));
            form["trigger_id"] = json!(format!("trigger-{number}"));
            let acknowledged = fixture.send(&frame("interactive", &form)).await.unwrap();
            assert!(acknowledged.to_string().contains("takes longer"), "{acknowledged}");
        }
        assert!(
            started.elapsed() < Duration::from_millis(1500),
            "{:?}",
            started.elapsed()
        );
        fixture.listener.intake.drain(Duration::from_secs(60)).await;
        assert_eq!(fixture.script.done(), 10);
    }

    #[tokio::test]
    async fn what_is_foreign_repeated_or_unreadable_is_asked_of_nobody() {
        let fixture = Fixture::new(Answer::Silent);
        let mut team = example::click("approve", "QJF6HN4C");
        team["team"] = json!({"id": "T2"});
        let mut app = example::click("approve", "QJF6HN4C");
        app["api_app_id"] = json!("A2");
        for foreign in [team, app] {
            let acknowledged = fixture.send(&frame("interactive", &foreign)).await;
            assert_eq!(acknowledged, Some(json!({"envelope_id": "e1"})));
        }
        let malformed = [frame("interactive", &json!({})), frame("slash_commands", &json!(5))];
        for malformed in malformed {
            assert_eq!(fixture.send(&malformed).await, Some(json!({"envelope_id": "e1"})));
        }
        for none in ["", "{", "[]", "{\"type\":\"interactive\"}", "{\"type\":\"new\"}"] {
            assert_eq!(fixture.send(none).await, None);
        }
        assert_eq!(fixture.script.asked(), []);
        let click = frame("interactive", &example::click("approve", "QJF6HN4C"));
        fixture.send(&click).await;
        fixture.send(&click).await;
        fixture.listener.intake.drain(Duration::from_secs(10)).await;
        assert_eq!(fixture.script.asked().len(), 1);
        let counters = fixture.listener.intake.counters();
        let counted = [Turned::Foreign, Turned::Malformed, Turned::Resent].map(|why| counters.of(why));
        assert_eq!(counted, [2, 5, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_slack_ends_is_opened_again() {
        let fixture = Fixture::new(Answer::Silent);
        assert_eq!(fixture.send("{\"type\":\"hello\"}").await, None);
        assert_eq!(
            fixture
                .send("{\"type\":\"disconnect\",\"reason\":\"refresh_requested\"}")
                .await,
            None
        );
        fixture
            .listener
            .on_disconnect(&SlackSocketModeWssClientId::new(0, 0, 0))
            .await;
        assert_eq!(fixture.restarts.0.load(Ordering::SeqCst), 2);
    }
}
