//! A workspace and its signatures, for tests.

use super::workspace::SlackWorkspace;
use aws_lc_rs::hmac;
use countersign_infra::config::Slack;
use countersign_infra::domain::announcement::Room;
use countersign_infra::domain::chat_link::ChatPlatform;
use serde_json::{Value, json};

pub(super) use crate::chat::example::Script;

/// A workspace with the app A1 that takes signed requests, at an address where nobody listens.
pub(super) fn workspace(team: &str, signing_secret: &str) -> SlackWorkspace {
    opened(team, Some(signing_secret), None)
}

/// One that is connected to.
pub(super) fn connected(team: &str) -> SlackWorkspace {
    opened(team, None, Some("xapp-1"))
}

fn opened(team: &str, signing_secret: Option<&str>, app_token: Option<&str>) -> SlackWorkspace {
    let dir = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        format!("file:{}", path.display()).try_into().unwrap()
    };
    SlackWorkspace::open(&Slack {
        team: team.to_owned(),
        app: Some("A1".to_owned()),
        bot_token: secret("bot", "xoxb-1"),
        signing_secret: signing_secret.map(|text| secret("signing", text)),
        app_token: app_token.map(|text| secret("app", text)),
        api_url: Some("http://127.0.0.1:9/api/".parse().unwrap()),
    })
    .unwrap()
}

pub(super) fn mac(secret: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let base = [b"v0:", timestamp.as_bytes(), b":", body].concat();
    hmac::sign(&key, &base).as_ref().to_vec()
}

pub(super) fn room() -> Room {
    Room {
        platform: ChatPlatform::Slack,
        team: "T1".to_owned(),
        channel: "C1".to_owned(),
        is_direct: false,
    }
}

/// A click on a card's button.
pub(super) fn click(action: &str, value: &str) -> Value {
    json!({
        "type": "block_actions",
        "team": {"id": "T1", "domain": "example"},
        "user": {"id": "U1", "username": "bob", "team_id": "T1"},
        "api_app_id": "A1",
        "container": {"type": "message", "message_ts": "1.2", "channel_id": "C1"},
        "channel": {"id": "C1", "name": "approvals"},
        "trigger_id": "trigger-1",
        "response_url": "http://127.0.0.1:9/response/1",
        "actions": [{"type": "button", "action_id": action, "block_id": "b1", "value": value, "action_ts": "1.3"}],
    })
}

/// The form for a reason, sent off.
pub(super) fn submission(reason: Value) -> Value {
    json!({
        "type": "view_submission",
        "team": {"id": "T1", "domain": "example"},
        "user": {"id": "U1", "username": "bob", "team_id": "T1"},
        "api_app_id": "A1",
        "trigger_id": "trigger-2",
        "view": {
            "id": "V1",
            "callback_id": "deny",
            "private_metadata": "QJF6HN4C",
            "state": {"values": {"reason": {"reason": {"type": "plain_text_input", "value": reason}}}},
        },
    })
}

/// The body of a click or a form.
pub(super) fn form(payload: &Value) -> Vec<u8> {
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.append_pair("payload", &payload.to_string()).finish().into_bytes()
}

/// The body of a slash command.
pub(super) fn command(text: &str) -> Vec<u8> {
    let fields = command_fields(text);
    let fields = fields.as_object().unwrap();
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields.iter().map(|(name, value)| (name, value.as_str().unwrap())));
    body.finish().into_bytes()
}

pub(super) fn command_fields(text: &str) -> Value {
    json!({
        "team_id": "T1", "api_app_id": "A1", "user_id": "U1", "user_name": "bob", "channel_id": "C1",
        "command": "/countersign", "text": text, "trigger_id": "trigger-3",
        "response_url": "http://127.0.0.1:9/response/1",
    })
}
