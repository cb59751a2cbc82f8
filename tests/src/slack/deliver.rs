//! How what people do reaches the app: over one of its connections, or as a signed request.
//! <https://docs.slack.dev/authentication/verifying-requests-from-slack>

use super::{DELIVERY_LIMIT, Shared, Slack};
use crate::chat::{Answer, Seal, read};
use anyhow::{Context, Result, bail};
use aws_lc_rs::hmac;
use chrono::Utc;
use reqwest::Response;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use url::Url;

/// How long an app has to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// How often something is sent again.
const REDELIVERIES_MAX: usize = 3;

/// Where an app is reached that takes signed requests.
#[derive(Clone, Debug)]
pub struct Endpoints {
    pub interactions: Url,
    pub commands: Url,
    pub events: Url,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Interactive,
    SlashCommands,
    EventsApi,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::SlashCommands => "slash_commands",
            Self::EventsApi => "events_api",
        }
    }
}

impl Slack {
    /// Something happened: an event, in its wrapper.
    pub async fn event(&self, team: &str, event: Value) -> Result<Answer> {
        let (id, bot) = {
            let mut state = self.shared.lock();
            let bot = state.teams.get(team).map(|team| team.bot_user.clone());
            (state.next(), bot)
        };
        let authorization = json!({"enterprise_id": null, "team_id": team, "user_id": bot, "is_bot": true,
            "is_enterprise_install": false});
        let body = json!({"token": "unused", "team_id": team, "api_app_id": super::APP, "event": event,
            "type": "event_callback", "event_id": format!("Ev{id:010}"), "event_time": Utc::now().timestamp(),
            "authorizations": [authorization], "is_ext_shared_channel": false, "event_context": "4-unused"});
        self.deliver(Kind::EventsApi, body).await
    }

    /// Asks the endpoint of events whether it is the app's. Gives its answer.
    pub async fn challenge(&self, challenge: &str) -> Result<Answer> {
        let body = json!({"token": "unused", "challenge": challenge, "type": "url_verification"});
        let endpoints = self.shared.settings().endpoints.clone();
        let endpoints = endpoints.context("there is no endpoint to ask")?;
        let response = self.shared.send(endpoints.events, Kind::EventsApi, &body, 0).await?;
        read(response, 1).await
    }

    /// Signs a body as of now: the moment, and the signature.
    pub fn sign(&self, body: &str) -> (String, String) {
        let mut signed = self.shared.signature(body, Seal::Good).into_iter();
        let mut value = || signed.next().map(|(_, value)| value).unwrap_or_default();
        (value(), value())
    }

    /// How requests are signed from now on.
    pub fn seal(&self, seal: Seal) {
        self.shared.settings().seal = seal;
    }

    pub(super) async fn deliver(&self, kind: Kind, payload: Value) -> Result<Answer> {
        let endpoints = self.shared.settings().endpoints.clone();
        let delivered = async {
            match endpoints {
                Some(endpoints) => self.shared.by_request(&endpoints, kind, &payload).await,
                None => self.shared.by_socket(kind, &payload).await,
            }
        };
        timeout(DELIVERY_LIMIT, delivered)
            .await
            .context("the app did not take it in time")?
    }
}

impl Shared {
    /// To one connection; to another, or the same again, when it is not acknowledged.
    async fn by_socket(&self, kind: Kind, payload: &Value) -> Result<Answer> {
        let id = uuid::Uuid::now_v7().to_string();
        let (answer, mut answered) = oneshot::channel();
        self.lock().waiting.insert(id.clone(), answer);
        let wait = self.settings().redeliver_after;
        for attempt in 0..=REDELIVERIES_MAX {
            let mut envelope = json!({"envelope_id": id, "type": kind.name(), "payload": payload,
                "accepts_response_payload": kind != Kind::EventsApi});
            if kind == Kind::EventsApi {
                envelope["retry_attempt"] = json!(attempt);
                envelope["retry_reason"] = json!(if attempt == 0 { "" } else { "timeout" });
            }
            self.give(envelope).await;
            tokio::select! {
                answer = &mut answered => return Ok(Answer { deliveries: attempt + 1, ..answer? }),
                () = sleep(wait) => {}
            }
        }
        self.lock().waiting.remove(&id);
        bail!("nobody acknowledged it")
    }

    /// Hands a frame to one connection, as soon as there is one.
    async fn give(&self, mut frame: Value) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.lock().give(frame) {
                None => return,
                Some(back) => frame = back,
            }
            changed.await;
        }
    }

    async fn by_request(&self, endpoints: &Endpoints, kind: Kind, payload: &Value) -> Result<Answer> {
        let url = match kind {
            Kind::Interactive => &endpoints.interactions,
            Kind::SlashCommands => &endpoints.commands,
            Kind::EventsApi => &endpoints.events,
        };
        let again = if kind == Kind::EventsApi { REDELIVERIES_MAX } else { 0 };
        let start = Instant::now();
        let mut attempt = 0;
        loop {
            let sent = self.send(url.clone(), kind, payload, attempt).await;
            let is_taken = sent.as_ref().is_ok_and(|response| response.status().is_success());
            if is_taken || attempt >= again {
                let answer = read(sent?, attempt + 1).await?;
                tracing::debug!(?kind, elapsed = ?start.elapsed(), "the app answered");
                return Ok(answer);
            }
            attempt += 1;
            let wait = self.settings().redeliver_after;
            sleep(wait).await;
        }
    }

    async fn send(&self, url: Url, kind: Kind, payload: &Value, attempt: usize) -> Result<Response> {
        let (content_type, body) = match kind {
            Kind::EventsApi => ("application/json", payload.to_string()),
            Kind::Interactive => (FORM, form([("payload", payload.to_string())])),
            Kind::SlashCommands => {
                let fields = payload.as_object().context("a command has fields")?;
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (
                    FORM,
                    form(fields.iter().map(|(name, value)| (name.as_str(), text(value)))),
                )
            }
        };
        let seal = self.settings().seal;
        let mut request = self.client.post(url).timeout(ANSWER_LIMIT);
        request = request.header("content-type", content_type);
        request = request.header("user-agent", "Slackbot 1.0 (+https://api.slack.com/robots)");
        if attempt > 0 {
            request = request.header("x-slack-retry-num", attempt);
            request = request.header("x-slack-retry-reason", "http_timeout");
        }
        for (name, value) in self.signature(&body, seal) {
            request = request.header(name, value);
        }
        Ok(request.body(body).send().await?)
    }

    fn signature(&self, body: &str, seal: Seal) -> Vec<(&'static str, String)> {
        let (age, secret) = match seal {
            Seal::Good => (0, self.signing_secret.as_str()),
            Seal::Forged => (0, "another secret"),
            Seal::Aged(age) => (age.as_secs(), self.signing_secret.as_str()),
            Seal::None => return Vec::new(),
        };
        let stamp = Utc::now().timestamp() - i64::try_from(age).unwrap_or_default();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = hex::encode(hmac::sign(&key, format!("v0:{stamp}:{body}").as_bytes()));
        vec![
            ("x-slack-request-timestamp", stamp.to_string()),
            ("x-slack-signature", format!("v0={signature}")),
        ]
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

fn form<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}
