//! The API's manners: tokens, bodies of either kind, limits, and errors.
//! <https://discord.com/developers/docs/reference>

use super::limits::Faults;
use super::state::{APPLICATION, Channel, State, User, guild};
use super::{Shared, interactions, messages};
use crate::chat::{BODY_BYTES_MAX, Cut, Request, answer};
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Extension, FromRequest, MatchedPath, Multipart, Path, State as Of};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use chrono::Utc;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A request's JSON, and the files that came with it.
#[derive(Clone, Default)]
pub(super) struct Arrived {
    pub body: Value,
    pub files: Vec<(String, Vec<u8>)>,
}

/// A status, Discord's own code, and words.
pub(super) struct Refused {
    status: StatusCode,
    body: Value,
}

pub(super) type Outcome = Result<Response, Refused>;

pub(super) fn refused(status: u16, code: u32, message: &str) -> Refused {
    Refused {
        status: StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST),
        body: json!({"message": message, "code": code}),
    }
}

pub(super) fn checked(faults: &Faults) -> Result<(), Refused> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(Refused {
        status: StatusCode::BAD_REQUEST,
        body: faults.body(),
    })
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

pub(super) fn routes(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    let commands = get(command_list).put(command_set);
    Router::new()
        .route("/gateway", get(gateway))
        .route("/gateway/bot", get(gateway))
        .route("/users/@me", get(own_user))
        .route("/applications/@me", get(own_application))
        .route("/oauth2/applications/@me", get(own_application))
        .route("/applications/{application}/commands", commands.clone())
        .route("/applications/{application}/guilds/{guild}/commands", commands)
        .route("/users/@me/channels", post(conversation))
        .route("/guilds/{guild}", get(one_guild))
        .route("/guilds/{guild}/members/{user}", get(member))
        .route("/channels/{channel}", get(messages::channel))
        .route(
            "/channels/{channel}/messages",
            get(messages::list).post(messages::create),
        )
        .route(
            "/channels/{channel}/messages/{message}",
            get(messages::one).patch(messages::edit).delete(messages::delete),
        )
        .route("/channels/{channel}/messages/{message}/threads", post(messages::thread))
        .route(
            "/interactions/{interaction}/{token}/callback",
            post(interactions::callback),
        )
        .route("/webhooks/{application}/{token}", post(interactions::follow_up))
        .route(
            "/webhooks/{application}/{token}/messages/{message}",
            patch(interactions::edit)
                .get(interactions::one)
                .delete(interactions::delete),
        )
        .route_layer(from_fn_with_state(Arc::clone(shared), arrive))
}

/// Keeps the request, looks at its token, and lets happen what is to go wrong.
async fn arrive(
    Of(shared): Of<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    route: MatchedPath,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let route = route.as_str().trim_start_matches("/api/v10");
    let method = format!("{} {route}", parts.method);
    let is_authorized = {
        let given = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let is_open = ["/interactions", "/webhooks"]
            .iter()
            .any(|open| route.starts_with(open));
        is_open || given == Some(&format!("Bot {}", shared.lock().token))
    };
    let Some(arrived) = read(&parts, body).await else {
        return refused(400, 50109, "The request body contains invalid JSON.").into_response();
    };
    let fault = shared.weather.take(Request {
        method,
        path: parts.uri.path().to_owned(),
        body: arrived.body.clone(),
        when: Utc::now(),
    });
    let mut request = axum::extract::Request::from_parts(parts, Body::empty());
    request.extensions_mut().insert(arrived);
    let mut response = answer(fault, &cut, limited, async {
        if is_authorized {
            next.run(request).await
        } else {
            refused(401, 0, "401: Unauthorized").into_response()
        }
    })
    .await;
    if response.status() != StatusCode::TOO_MANY_REQUESTS {
        for (name, value) in [
            ("limit", "50"),
            ("remaining", "49"),
            ("reset-after", "1.000"),
            ("bucket", "fake"),
        ] {
            let name = HeaderName::try_from(format!("x-ratelimit-{name}"));
            if let (Ok(name), Ok(value)) = (name, value.parse()) {
                response.headers_mut().insert(name, value);
            }
        }
    }
    response
}

/// What came, as JSON or as a form with JSON and files in it; none where it is neither.
async fn read(parts: &axum::http::request::Parts, body: Body) -> Option<Arrived> {
    let kind = parts.headers.get(header::CONTENT_TYPE);
    if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"multipart/form-data")) {
        let bytes = to_bytes(body, BODY_BYTES_MAX).await.ok()?;
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).ok()?
        };
        return Some(Arrived {
            body,
            files: Vec::new(),
        });
    }
    let request = axum::extract::Request::from_parts(parts.clone(), body);
    let mut form = Multipart::from_request(request, &()).await.ok()?;
    let mut arrived = Arrived::default();
    while let Some(part) = form.next_field().await.ok()? {
        let (name, file) = (part.name()?.to_owned(), part.file_name().map(str::to_owned));
        let bytes = part.bytes().await.ok()?;
        match file {
            Some(file) if name.starts_with("files[") => arrived.files.push((file, bytes.to_vec())),
            Some(_) | None => arrived.body = serde_json::from_slice(&bytes).ok()?,
        }
    }
    Some(arrived)
}

/// <https://discord.com/developers/docs/topics/rate-limits>
fn limited(wait: Duration) -> Response {
    let seconds = wait.as_secs_f64();
    let headers = [
        ("retry-after", wait.as_secs().max(1).to_string()),
        ("x-ratelimit-limit", "5".to_owned()),
        ("x-ratelimit-remaining", "0".to_owned()),
        ("x-ratelimit-reset-after", format!("{seconds:.3}")),
        ("x-ratelimit-bucket", "fake".to_owned()),
        ("x-ratelimit-scope", "user".to_owned()),
    ];
    let body = json!({"message": "You are being rate limited.", "retry_after": seconds, "global": false});
    (StatusCode::TOO_MANY_REQUESTS, headers, Json(body)).into_response()
}

/// The channel of that id, where the bot may be.
pub(super) fn channel_of(state: &State, id: &str) -> Result<Channel, Refused> {
    let channel = state.channels.get(id).ok_or(refused(404, 10003, "Unknown Channel"))?;
    if !channel.has_bot {
        return Err(refused(403, 50001, "Missing Access"));
    }
    Ok(channel.clone())
}

async fn gateway(Of(shared): Of<Arc<Shared>>) -> Json<Value> {
    let limit = json!({"total": 1000, "remaining": 999, "reset_after": 14_400_000, "max_concurrency": 1});
    let url = shared.url.replacen("http", "ws", 1);
    Json(json!({"url": url, "shards": 1, "session_start_limit": limit}))
}

async fn own_user(Of(shared): Of<Arc<Shared>>) -> Json<Value> {
    let mut user = shared.lock().users.get(APPLICATION).map(User::body).unwrap_or_default();
    (user["mfa_enabled"], user["verified"], user["email"]) = (json!(true), json!(true), Value::Null);
    user["locale"] = json!("en-US");
    Json(user)
}

async fn own_application(Of(shared): Of<Arc<Shared>>) -> Json<Value> {
    let owner = shared.lock().users.get(APPLICATION).map(User::body);
    Json(
        json!({"id": APPLICATION, "name": "countersign", "icon": null, "description": "", "bot_public": false,
        "bot_require_code_grant": false, "verify_key": shared.public_key(), "team": null, "owner": owner, "flags": 0,
        "summary": "", "type": null, "hook": true, "approximate_guild_count": 1, "interactions_endpoint_url": null,
        "redirect_uris": [], "integration_types_config": {"0": {}}}),
    )
}

async fn conversation(Of(shared): Of<Arc<Shared>>, Extension(arrived): Extension<Arrived>) -> Outcome {
    let mut state = shared.lock();
    let person = arrived.body["recipient_id"].as_str().unwrap_or_default();
    let channel = state
        .conversation(person)
        .ok_or(refused(400, 50033, "Invalid Recipient(s)"))?;
    Ok(Json(channel.body(&state.users)).into_response())
}

async fn one_guild(Of(shared): Of<Arc<Shared>>, Path(id): Path<String>) -> Outcome {
    let state = shared.lock();
    let known = state.guilds.get(&id).ok_or(refused(404, 10004, "Unknown Guild"))?;
    Ok(Json(guild(&id, known)).into_response())
}

async fn member(Of(shared): Of<Arc<Shared>>, Path((guild, user)): Path<(String, String)>) -> Outcome {
    let state = shared.lock();
    let guild = state.guilds.get(&guild).ok_or(refused(404, 10004, "Unknown Guild"))?;
    // The bot is a member of every guild that it knows.
    let own = state.users.get(&user).filter(|user| user.id == APPLICATION);
    let member = own.or_else(|| guild.members.get(&user));
    let member = member.ok_or(refused(404, 10007, "Unknown Member"))?;
    Ok(Json(member.as_member()).into_response())
}

/// Of a guild, or of none.
fn place(state: &State, path: &[(String, String)]) -> Result<Option<String>, Refused> {
    let part = |name: &str| {
        path.iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    };
    if part("application").is_none_or(|application| application != APPLICATION) {
        return Err(refused(
            403,
            20012,
            "You are not authorized to perform this action on this application",
        ));
    }
    let guild = part("guild");
    if guild.as_ref().is_some_and(|guild| !state.guilds.contains_key(guild)) {
        return Err(refused(403, 50001, "Missing Access"));
    }
    Ok(guild)
}

async fn command_list(Of(shared): Of<Arc<Shared>>, Path(path): Path<Vec<(String, String)>>) -> Outcome {
    let state = shared.lock();
    let place = place(&state, &path)?;
    let commands = state.commands.get(&place).cloned().unwrap_or_default();
    Ok(Json(commands).into_response())
}

async fn command_set(
    Of(shared): Of<Arc<Shared>>,
    Path(path): Path<Vec<(String, String)>>,
    Extension(arrived): Extension<Arrived>,
) -> Outcome {
    let mut state = shared.lock();
    let place = place(&state, &path)?;
    checked(&Faults::of_commands(&arrived.body))?;
    let mut commands = Vec::new();
    for given in arrived.body.as_array().into_iter().flatten() {
        let mut command = json!({"id": state.snowflake(), "application_id": APPLICATION, "version": state.snowflake(),
            "type": 1, "default_member_permissions": null, "nsfw": false, "description": "", "options": [],
            "name_localizations": null, "description_localizations": null, "contexts": null, "integration_types": [0],
            "dm_permission": true});
        if let (Some(command), Some(given)) = (command.as_object_mut(), given.as_object()) {
            command.extend(given.clone());
        }
        if let Some(guild) = &place {
            command["guild_id"] = json!(guild);
        }
        commands.push(command);
    }
    state.commands.insert(place, commands.clone());
    Ok(Json(commands).into_response())
}
