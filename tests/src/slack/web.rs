//! The Web API's manners: arguments, tokens, scopes, and errors that come with status 200.
//! <https://docs.slack.dev/apis/web-api/>

use super::Shared;
use super::methods::{Call, Refused, call};
use super::state::{APP, State};
use crate::chat::{BODY_BYTES_MAX, Cut, Request, answer};
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, FromRequest, Multipart, Path, RawQuery, State as Of};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(super) async fn api(
    Of(shared): Of<Arc<Shared>>,
    Path(method): Path<String>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = to_bytes(body, BODY_BYTES_MAX).await.unwrap_or_default();
    let mut arguments = form(query.unwrap_or_default().as_bytes());
    arguments.extend(parsed(&headers, &body));
    let fault = shared.weather.take(Request {
        method: method.clone(),
        path: format!("/api/{method}"),
        body: Value::Object(arguments.clone()),
        when: Utc::now(),
    });
    let token = token(&headers, &arguments);
    answer(fault, &cut, limited, async {
        let response = respond(&shared, &method, &token, arguments);
        shared.changed.notify_waiters();
        response
    })
    .await
}

/// Takes a file's content, as the body or as a form's part.
pub(super) async fn upload(
    Of(shared): Of<Arc<Shared>>,
    Path(file): Path<String>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: axum::extract::Request,
) -> Response {
    let fault = shared.weather.take(Request {
        method: "upload".to_owned(),
        path: format!("/upload/{file}"),
        body: Value::Null,
        when: Utc::now(),
    });
    answer(fault, &cut, limited, async {
        let Some(content) = content(request).await else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let mut state = shared.lock();
        match state.files.iter_mut().find(|known| known.id == file) {
            Some(known) if known.length == content.len() => {
                known.content = content;
                format!("OK - {}", known.length).into_response()
            }
            Some(_) | None => StatusCode::BAD_REQUEST.into_response(),
        }
    })
    .await
}

async fn content(request: axum::extract::Request) -> Option<Vec<u8>> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"multipart/form-data")) {
        let body = to_bytes(request.into_body(), BODY_BYTES_MAX).await.ok()?;
        return Some(body.to_vec());
    }
    let mut form = Multipart::from_request(request, &()).await.ok()?;
    let part = form.next_field().await.ok()??;
    Some(part.bytes().await.ok()?.to_vec())
}

fn respond(shared: &Shared, method: &str, token: &str, arguments: Map<String, Value>) -> Response {
    let mut state = shared.lock();
    let scopes = scopes(&state, token);
    let outcome = authorized(&state, method, token).and_then(|team| {
        let url = &shared.url;
        call(Call {
            state: &mut state,
            url,
            method,
            team,
            arguments,
        })
    });
    let body = match outcome {
        Ok(Value::Object(mut members)) => {
            members.insert("ok".to_owned(), json!(true));
            Value::Object(members)
        }
        Ok(other) => json!({"ok": true, "value": other}),
        Err(refused) => refused.body(),
    };
    ([("x-oauth-scopes", scopes)], Json(body)).into_response()
}

pub(super) fn limited(wait: Duration) -> Response {
    let body = Json(json!({"ok": false, "error": "ratelimited"}));
    (
        StatusCode::TOO_MANY_REQUESTS,
        [(header::RETRY_AFTER, wait.as_secs().to_string())],
        body,
    )
        .into_response()
}

fn token(headers: &HeaderMap, arguments: &Map<String, Value>) -> String {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|value| value.strip_prefix("Bearer "));
    let given = bearer.or_else(|| arguments.get("token").and_then(Value::as_str));
    given.unwrap_or_default().to_owned()
}

fn scopes(state: &State, token: &str) -> String {
    if token == state.app_token {
        return "connections:write".to_owned();
    }
    let team = state.team_of(token);
    team.map(|team| team.scopes.join(",")).unwrap_or_default()
}

/// The workspace that a token speaks for; the app's own token speaks for none.
fn authorized(state: &State, method: &str, token: &str) -> Result<String, Refused> {
    if token.is_empty() {
        return Err(Refused::of("not_authed"));
    }
    if token == state.app_token {
        let takes_it = ["apps.connections.open", "auth.test"].contains(&method);
        return if takes_it {
            Ok(String::new())
        } else {
            Err(Refused::of("not_allowed_token_type"))
        };
    }
    let team = state.team_of(token).ok_or(Refused::of("invalid_auth"))?;
    if method == "apps.connections.open" {
        return Err(Refused::of("not_allowed_token_type"));
    }
    let needed = needed(method);
    if needed.is_some_and(|scope| !team.scopes.iter().any(|held| held == scope)) {
        let more = json!({"needed": needed, "provided": team.scopes.join(",")});
        return Err(Refused {
            error: "missing_scope",
            more,
        });
    }
    Ok(team.id.clone())
}

fn needed(method: &str) -> Option<&'static str> {
    match method {
        "chat.postMessage" | "chat.update" | "chat.postEphemeral" | "chat.delete" => Some("chat:write"),
        "conversations.open" => Some("im:write"),
        "conversations.history" | "conversations.replies" => Some("channels:history"),
        "users.info" | "bots.info" => Some("users:read"),
        "users.lookupByEmail" => Some("users:read.email"),
        "files.getUploadURLExternal" | "files.completeUploadExternal" => Some("files:write"),
        "team.info" => Some("team:read"),
        _ => None,
    }
}

/// A body of either kind. What a form gives as JSON in a string is read as such.
pub(super) fn parsed(headers: &HeaderMap, body: &[u8]) -> Map<String, Value> {
    let kind = headers.get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json")) {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        return value.as_object().cloned().unwrap_or_default();
    }
    form(body)
}

fn form(text: &[u8]) -> Map<String, Value> {
    let pairs = url::form_urlencoded::parse(text).into_owned();
    pairs
        .map(|(name, text)| {
            let is_json = ["blocks", "attachments", "metadata", "view", "files"].contains(&name.as_str());
            let value = if is_json {
                serde_json::from_str(&text).ok()
            } else {
                None
            };
            let value = value.unwrap_or(Value::String(text));
            (name, value)
        })
        .collect()
}

impl Refused {
    pub(super) fn of(error: &'static str) -> Self {
        Self { error, more: json!({}) }
    }

    fn body(self) -> Value {
        let mut body = self.more.as_object().cloned().unwrap_or_default();
        body.insert("ok".to_owned(), json!(false));
        body.insert("error".to_owned(), json!(self.error));
        Value::Object(body)
    }
}

/// Where Socket Mode is to be reached.
pub(super) fn link(url: &str, ticket: &str) -> String {
    let url = url.replacen("http", "ws", 1);
    format!("{url}/link?ticket={ticket}&app_id={APP}")
}
