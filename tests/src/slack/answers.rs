//! What an app says to what people did: at once, or later at the response URL.
//! <https://docs.slack.dev/interactivity/handling-user-interaction#message_responses>

use super::Shared;
use super::methods::content;
use super::state::{NewMessage, ResponseUrl, State, random};
use super::web::{limited, parsed};
use crate::chat::{BODY_BYTES_MAX, Cut, Request, answer};
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Path, State as Of};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const USES_MAX: usize = 5;
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// Where an answer goes.
#[derive(Clone)]
pub(super) struct Origin {
    pub team: String,
    pub channel: String,
    pub user: String,
    /// The message that was clicked.
    pub ts: Option<String>,
}

pub(super) async fn response_url(
    Of(shared): Of<Arc<Shared>>,
    Path((team, id)): Path<(String, String)>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = to_bytes(body, BODY_BYTES_MAX).await.unwrap_or_default();
    let said = parsed(&headers, &body);
    let fault = shared.weather.take(Request {
        method: "response_url".to_owned(),
        path: format!("/actions/{team}/{id}"),
        body: Value::Object(said.clone()),
        when: Utc::now(),
    });
    answer(fault, &cut, limited, async {
        let mut state = shared.lock();
        let origin = match state.use_url(&id) {
            Ok(origin) => origin,
            Err(error) => return refused(StatusCode::NOT_FOUND, error),
        };
        match state.respond(&origin, &said) {
            Ok(()) => "ok".into_response(),
            Err(error) => refused(StatusCode::BAD_REQUEST, error),
        }
    })
    .await
}

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({"ok": false, "error": error}))).into_response()
}

impl State {
    /// Makes a URL that takes answers for half an hour.
    pub(super) fn response_url(&mut self, url: &str, origin: Origin) -> String {
        let id = random();
        let place = format!("{url}/actions/{}/{id}", origin.team);
        let open = ResponseUrl {
            origin,
            uses_left: USES_MAX,
            made: Instant::now(),
        };
        self.response_urls.insert(id, open);
        place
    }

    fn use_url(&mut self, id: &str) -> Result<Origin, &'static str> {
        let known = self.response_urls.get_mut(id).ok_or("expired_url")?;
        if known.made.elapsed() > LIFETIME {
            return Err("expired_url");
        }
        known.uses_left = known.uses_left.checked_sub(1).ok_or("used_url")?;
        Ok(known.origin.clone())
    }

    /// Posts, replaces or deletes, as the answer says. One that says nothing does nothing.
    pub(super) fn respond(&mut self, origin: &Origin, said: &Map<String, Value>) -> Result<(), &'static str> {
        let is = |name: &str| {
            said.get(name)
                .is_some_and(|value| *value == json!(true) || *value == json!("true"))
        };
        let editor = self.teams.get(&origin.team).map(|team| team.bot_user.clone());
        let now = self.ts();
        let clicked = origin.ts.as_deref();
        let clicked = clicked.and_then(|ts| self.message(&origin.team, &origin.channel, ts));
        if is("delete_original") {
            clicked.ok_or("message_not_found")?.deleted = true;
            return Ok(());
        }
        if said.is_empty() {
            return Ok(());
        }
        let content = content(said, || self.next()).map_err(|refused| refused.error)?;
        if is("replace_original") {
            let ts = origin.ts.as_deref().ok_or("message_not_found")?;
            let message = self.message(&origin.team, &origin.channel, ts);
            let message = message.ok_or("message_not_found")?;
            message.edit(content, &editor.unwrap_or_default(), &now);
            return Ok(());
        }
        let is_for_all = said.get("response_type").is_some_and(|kind| kind == "in_channel");
        let thread_ts = said.get("thread_ts").and_then(Value::as_str).map(str::to_owned);
        self.post(NewMessage {
            team: origin.team.clone(),
            channel: origin.channel.clone(),
            thread_ts,
            shown_to: (!is_for_all).then(|| origin.user.clone()),
            content,
        });
        Ok(())
    }
}
