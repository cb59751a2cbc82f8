use super::*;
use crate::chat::{discord, slack};
use countersign_infra::domain::example::approvals;
use proptest::prelude::*;
use serde_json::{Value, json};

fn pages() -> Url {
    "https://gateway.example/".parse().unwrap()
}

fn drawn(approval: &Approval) -> (Value, Value) {
    let card = Card::of(approval, &pages());
    (
        serde_json::to_value(slack::card::message(&card)).unwrap(),
        serde_json::to_value(discord::card::message(&card)).unwrap(),
    )
}

#[test]
fn every_state_and_kind_of_operation_is_drawn() {
    for (name, approval) in approvals() {
        let (slack, discord) = drawn(&approval);
        let file = name.replace(", ", "_").replace(' ', "_");
        insta::assert_json_snapshot!(file, json!({"slack": slack, "discord": discord}));
    }
}

#[test]
fn what_does_not_fit_whole_cannot_be_approved_on_the_card() {
    for (name, approval) in approvals() {
        let card = Card::of(&approval, &pages());
        let has_approve = card.buttons.contains(&Button::Approve);
        assert_eq!(has_approve, approval.is_open() && card.operation.is_whole, "{name}");
        assert_eq!(card.buttons.contains(&Button::Deny), approval.is_open(), "{name}");
        let whole = card.operation.text == approval.operation.display;
        assert!(!card.operation.is_whole || whole, "{name}");
    }
}

#[test]
fn a_button_carries_the_approvals_number_and_nothing_else() {
    let (_, approval) = approvals().remove(4);
    let (slack, discord) = drawn(&approval);
    let id = approval.id.to_string();
    let buttons = slack["blocks"].as_array().unwrap().last().unwrap()["elements"].clone();
    for button in buttons.as_array().unwrap() {
        assert!(button["url"].is_string() || button["value"] == id, "{button}");
    }
    for button in discord["components"][0]["components"].as_array().unwrap() {
        let action = button["custom_id"]
            .as_str()
            .and_then(|custom| custom.strip_suffix(&format!(":{id}")));
        assert!(
            button["url"].is_string() || ["approve", "grant", "deny"].contains(&action.unwrap()),
            "{button}"
        );
    }
}

/// All texts in a message that Slack reads as markup.
fn markup(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if fields.get("type") == Some(&json!("mrkdwn")) {
                found.push(fields["text"].as_str().unwrap().to_owned());
            }
            fields.values().for_each(|value| markup(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| markup(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn units(value: &Value) -> usize {
    value.as_str().unwrap_or_default().encode_utf16().count()
}

/// Nothing that is not seen, or that rearranges what is, and no line without an end.
fn check_shown(drawn: &Value) {
    match drawn {
        Value::Object(fields) => fields.values().for_each(check_shown),
        Value::Array(items) => items.iter().for_each(check_shown),
        Value::String(text) => {
            assert!(!text.contains(['\u{200b}', '\u{2066}', '\u{202e}']), "{text:?}");
            assert!(text.chars().count() <= 2 * OPERATION_UNITS_MAX, "{text}");
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn check_hostile(text: &str) {
    let (_, mut approval) = approvals().remove(4);
    approval.operation.display = escape(text);
    approval.operation.display_bytes = approval.operation.display.len() as u64;
    approval.requester.name = text.to_owned();
    approval.requester.groups = [text.to_owned(), "x".repeat(500)].into();
    approval.client.application = text.to_owned();
    approval.place.database = text.to_owned();
    approval.terms.reasons = vec![text.to_owned()];
    let (slack, discord) = drawn(&approval);
    for drawn in [&slack, &discord] {
        check_shown(drawn);
    }

    let mut read = Vec::new();
    markup(&slack, &mut read);
    assert_eq!(read.len(), 1, "{read:?}");
    assert!(
        read[0].starts_with("Expires <!date^1767226200^{date_short_pretty} {time_secs}|"),
        "{read:?}"
    );
    let notice = slack["text"].as_str().unwrap();
    assert!(!notice.contains('<') && !notice.contains('>'), "{notice}");

    let embed = &discord["embeds"][0];
    let description = embed["description"].as_str().unwrap();
    assert_eq!(description.matches("```").count(), 2, "{description}");
    assert!(units(&embed["description"]) <= 4096);
    let fields = embed["fields"].as_array().unwrap();
    for field in fields {
        assert!(
            units(&field["value"]) <= 1024 && !field["value"].as_str().unwrap().is_empty(),
            "{field}"
        );
    }
    let sum: usize = fields
        .iter()
        .map(|field| units(&field["name"]) + units(&field["value"]))
        .sum();
    let total = sum + units(&embed["title"]) + units(&embed["description"]);
    assert!(total <= 6000, "{total}");
    assert_eq!(
        discord["allowed_mentions"],
        json!({"parse": [], "users": [], "roles": []})
    );
}

#[test]
fn what_others_wrote_does_nothing_in_a_chat() {
    for text in [
        "<!channel> <@U123> <#C1|x> &amp; <https://evil.example|bank>",
        "```\n@everyone <@123> **bold** [bank](https://evil.example)\n```",
        "*bold* _it_ ~no~ `code` ||spoiler|| # title\n> quote",
        "\u{202e}drowssap\u{200b}\u{2066}",
        &"`".repeat(3000),
        &"x".repeat(100 << 10),
        &"\u{1f600}".repeat(3000),
        "",
    ] {
        check_hostile(text);
    }
}

proptest! {
    #[test]
    fn no_text_does_anything_in_a_chat(text in ".{0,400}|[`<>@|*\n]{0,400}") {
        check_hostile(&text);
    }
}
