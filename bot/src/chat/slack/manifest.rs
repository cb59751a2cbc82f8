//! `slack-manifest.yaml` asks for what the bot uses, and for nothing else.

use super::{EMAIL_SCOPE, SCOPES};
use crate::desk::command::HELP;
use serde_json::{Value, json};

fn manifest() -> Value {
    serde_yaml_ng::from_str(include_str!("../../../slack-manifest.yaml")).unwrap()
}

#[test]
fn its_scopes_are_those_that_the_bot_looks_for() {
    let wanted: Vec<&str> = SCOPES.iter().chain([&EMAIL_SCOPE]).map(|(scope, _)| *scope).collect();
    assert_eq!(manifest()["oauth_config"]["scopes"], json!({"bot": wanted}));
}

#[test]
fn its_addresses_are_those_of_the_router() {
    let manifest = manifest();
    for (pointer, path) in [
        ("/features/slash_commands/0/url", "/slack/commands"),
        ("/settings/event_subscriptions/request_url", "/slack/events"),
        ("/settings/interactivity/request_url", "/slack/interactions"),
    ] {
        let url: url::Url = manifest.pointer(pointer).unwrap().as_str().unwrap().parse().unwrap();
        assert_eq!((url.scheme(), url.path()), ("https", path));
    }
    assert_eq!(manifest["features"]["slash_commands"][0]["command"], "/countersign");
}

#[test]
fn its_hint_names_every_command() {
    let manifest = manifest();
    let hint = manifest["features"]["slash_commands"][0]["usage_hint"]
        .as_str()
        .unwrap();
    let named: Vec<&str> = hint
        .split('|')
        .filter_map(|way| way.split_whitespace().next())
        .collect();
    let told = HELP.lines().filter_map(|line| line.strip_prefix("/countersign "));
    let told: Vec<&str> = told
        .map(|line| line.split([' ', ':']).next().unwrap_or_default())
        .collect();
    assert_eq!(named, told);
}
