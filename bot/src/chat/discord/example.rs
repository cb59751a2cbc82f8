//! A guild and what people do there, for tests.

use super::guild::DiscordGuild;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use countersign_infra::config::Discord;
use countersign_infra::domain::announcement::Room;
use countersign_infra::domain::chat_link::ChatPlatform;
use serde_json::{Value, json};

pub(super) use crate::chat::example::Script;

pub(super) const APPLICATION: &str = "2";
pub(super) const TOKEN: &str = "bot-token-1";

/// The application's key.
pub(super) fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

/// A guild at an address where nobody listens.
pub(super) fn guild(id: &str) -> DiscordGuild {
    of_application(id, APPLICATION, &key())
}

pub(super) fn of_application(id: &str, application: &str, key: &Ed25519KeyPair) -> DiscordGuild {
    at(id, application, key, "http://127.0.0.1:9/api/")
}

/// One that is connected to.
pub(super) fn long_lived(url: &str) -> DiscordGuild {
    let mut guild = at("1", APPLICATION, &key(), url);
    guild.long_lived = true;
    guild
}

fn at(id: &str, application: &str, key: &Ed25519KeyPair, url: &str) -> DiscordGuild {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, TOKEN).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    DiscordGuild::open(&Discord {
        guild: id.to_owned(),
        application: application.to_owned(),
        public_key: hex::encode(key.public_key()),
        bot_token: format!("file:{}", path.display()).try_into().unwrap(),
        long_lived: false,
        api_url: Some(url.parse().unwrap()),
    })
    .unwrap()
}

pub(super) fn room(channel: &str) -> Room {
    Room {
        platform: ChatPlatform::Discord,
        team: "1".to_owned(),
        channel: channel.to_owned(),
        is_direct: false,
    }
}

fn interaction(kind: u64, data: Value) -> Value {
    json!({
        "id": "100", "application_id": APPLICATION, "type": kind, "token": "interaction-token", "version": 1,
        "guild_id": "1", "channel_id": "5", "member": {"user": {"id": "42", "username": "bob"}, "roles": []},
        "data": data,
    })
}

pub(super) fn ping() -> Value {
    json!({"id": "99", "application_id": APPLICATION, "type": 1, "token": "t", "version": 1})
}

pub(super) fn click(custom_id: &str) -> Value {
    interaction(3, json!({"custom_id": custom_id, "component_type": 2}))
}

pub(super) fn form(custom_id: &str, components: Value) -> Value {
    interaction(5, json!({"custom_id": custom_id, "components": components}))
}

pub(super) fn command(options: Value) -> Value {
    interaction(
        2,
        json!({"id": "9", "name": "countersign", "type": 1, "options": options}),
    )
}
