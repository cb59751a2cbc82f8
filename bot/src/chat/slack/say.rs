//! Answers and notes as Slack shows them. Like the card, in plain and rich text alone: nothing in it is read as markup.

use super::card::{self, escape, plain};
use crate::chat::Say;
use crate::chat::cut;
use countersign_infra::domain::id::ApprovalId;
use slack_morphism::prelude::*;

/// What all the text of a message's blocks may have lies near 11,000 characters: so much is for the answer itself, so much
/// for its table, and the rest for a card (some 6,000 at most). <https://github.com/slackapi/bolt-js/issues/2867>
const TEXT_CHARS_MAX: usize = 2000;
const TABLE_CHARS_MAX: usize = 7000;
const TABLE_BESIDE_CARD_CHARS_MAX: usize = 2000;

/// The longest line of a notification.
const SUMMARY_CHARS_MAX: usize = 300;

/// <https://docs.slack.dev/reference/block-kit/block-elements/button-element>
const LABEL_CHARS_MAX: usize = 75;
const URL_CHARS_MAX: usize = 3000;
const BUTTONS_MAX: usize = 25;

/// The longest reason of a denial, in characters.
const REASON_CHARS_MAX: u64 = 500;

/// The names under which a form and its one field come back.
pub(super) const DENY: &str = "deny";
pub(super) const REASON: &str = "reason";

/// What the names of buttons begin with that lead on from an answer; each needs one of its own.
pub(super) const PAGE: &str = "page";

/// One line.
pub fn note(text: &str) -> SlackMessageContent {
    let text = cut(text, TEXT_CHARS_MAX);
    content(&text, vec![words(&text)])
}

/// An answer.
pub fn message(say: &Say) -> SlackMessageContent {
    let text = cut(&say.text, TEXT_CHARS_MAX);
    let mut blocks = Vec::new();
    if !text.trim().is_empty() {
        blocks.push(words(&text));
    }
    if let Some(table) = &say.table {
        let chars_max = match say.card {
            Some(_) => TABLE_BESIDE_CARD_CHARS_MAX,
            None => TABLE_CHARS_MAX,
        };
        blocks.push(preformatted(&cut(table, chars_max)));
    }
    if let Some(card) = &say.card {
        blocks.extend(card::message(card).blocks.into_iter().flatten());
    }
    let buttons = buttons(say);
    if !buttons.is_empty() {
        blocks.push(SlackActionsBlock::new(buttons).into());
    }
    if blocks.is_empty() {
        blocks.push(words("Done."));
    }
    content(&text, blocks)
}

/// The form that asks for the reason of a denial.
pub fn reason_form(approval: &ApprovalId) -> SlackView {
    let field = SlackBlockPlainTextInputElement::new()
        .with_action_id(REASON.into())
        .with_multiline(true)
        .with_max_length(REASON_CHARS_MAX);
    let field = SlackInputBlock::new(plain("Reason"), field.into())
        .with_block_id(REASON.into())
        .with_hint(plain("The person who asked reads it, and the journal keeps it."))
        .with_optional(true);
    let form = SlackModalView::new(plain(&format!("Deny {approval}")), vec![field.into()])
        .with_callback_id(DENY.into())
        .with_private_metadata(approval.to_string())
        .with_submit(plain("Deny"))
        .with_close(plain("Cancel"));
    SlackView::Modal(form)
}

/// What a form becomes once it was sent off.
pub fn closing(say: &Say) -> SlackView {
    let text = cut(&say.text, TEXT_CHARS_MAX);
    let mut blocks = vec![words(&text)];
    let buttons = buttons(say);
    if !buttons.is_empty() {
        blocks.push(SlackActionsBlock::new(buttons).into());
    }
    let form = SlackModalView::new(plain("Countersign"), blocks).with_close(plain("Close"));
    SlackView::Modal(form)
}

fn content(text: &str, blocks: Vec<SlackBlock>) -> SlackMessageContent {
    let summary = cut(text.lines().next().unwrap_or_default(), SUMMARY_CHARS_MAX);
    SlackMessageContent::new()
        .with_text(escape(&summary))
        .with_blocks(blocks)
}

fn words(text: &str) -> SlackBlock {
    let text = SlackRichTextText::new(filled(text));
    let section = SlackRichTextSection::new(vec![text.into()]);
    SlackRichTextBlock::new(vec![section.into()]).into()
}

fn preformatted(text: &str) -> SlackBlock {
    let text = SlackRichTextText::new(filled(text));
    let table = SlackRichTextPreformatted::new(vec![text.into()]);
    SlackRichTextBlock::new(vec![table.into()]).into()
}

/// An element without a text is refused.
fn filled(text: &str) -> String {
    if text.is_empty() { " " } else { text }.to_owned()
}

fn buttons(say: &Say) -> Vec<SlackActionBlockElement> {
    let links = say.links.iter().filter(|(label, url)| {
        let fits = url.as_str().len() <= URL_CHARS_MAX;
        if !fits {
            tracing::error!(label, "a link is too long for Slack's buttons and was left out");
        }
        fits
    });
    let links = links.enumerate().map(|(index, (label, url))| {
        let button = SlackBlockButtonElement::new(label_of(label));
        let button = button
            .with_action_id(format!("link-{index}").into())
            .with_url(url.clone());
        button.into()
    });
    let pages = say.buttons.iter().enumerate().map(|(index, (label, ticket))| {
        let button = SlackBlockButtonElement::new(label_of(label));
        let button = button
            .with_action_id(format!("{PAGE}-{index}").into())
            .with_value(ticket.clone());
        button.into()
    });
    links.chain(pages).take(BUTTONS_MAX).collect()
}

fn label_of(label: &str) -> SlackBlockPlainTextOnly {
    plain(&filled(&cut(label, LABEL_CHARS_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::Card;
    use countersign_infra::domain::example::approvals;
    use serde_json::{Value, json};

    fn drawn(say: &Say) -> Value {
        serde_json::to_value(message(say)).unwrap()
    }

    #[test]
    fn an_answer_is_drawn_with_its_table_links_and_buttons() {
        let say = Say {
            text: "Two operations of <@U1> & `others`".to_owned(),
            table: Some("WHO    WHAT\nalice  ```x```".to_owned()),
            links: vec![("Sign in".to_owned(), "https://gateway.example/s?t=1".parse().unwrap())],
            buttons: vec![
                ("Next".to_owned(), "t1".to_owned()),
                ("Export".to_owned(), "t2".to_owned()),
            ],
            ..Say::default()
        };
        insta::assert_json_snapshot!(drawn(&say));
        insta::assert_json_snapshot!(reason_form(&"QJF6HN4C".parse().unwrap()));
        insta::assert_json_snapshot!(closing(&Say {
            text: "Denied.".to_owned(),
            ..Say::default()
        }));
    }

    #[test]
    fn every_length_is_within_slacks_limits() {
        let url = format!("https://gateway.example/{}", "x".repeat(3000));
        let say = Say {
            text: "\u{202e}\u{5d0}<&>".repeat(5000),
            table: Some("\u{5d0}`".repeat(9000)),
            links: vec![("l".repeat(200), url.parse().unwrap())],
            buttons: (0..40).map(|number| ("b".repeat(200), number.to_string())).collect(),
            ..Say::default()
        };
        let message = drawn(&say);
        let text = |pointer: &str| message.pointer(pointer).unwrap().as_str().unwrap().chars().count();
        assert_eq!(text("/blocks/0/elements/0/elements/0/text"), TEXT_CHARS_MAX);
        assert_eq!(text("/blocks/1/elements/0/elements/0/text"), TABLE_CHARS_MAX);
        let buttons = message["blocks"][2]["elements"].as_array().unwrap();
        assert_eq!(buttons.len(), BUTTONS_MAX);
        let ids: std::collections::BTreeSet<_> = buttons.iter().map(|button| button["action_id"].to_string()).collect();
        assert_eq!(ids.len(), buttons.len(), "each has a name of its own");
        assert!(
            buttons
                .iter()
                .all(|button| button["text"]["text"].as_str().unwrap().len() <= LABEL_CHARS_MAX)
        );
        assert!(message["text"].as_str().unwrap().chars().count() <= SUMMARY_CHARS_MAX * 5);
    }

    fn texts(value: &Value) -> usize {
        match value {
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| match value.as_str().filter(|_| name == "text") {
                    Some(text) => text.chars().count(),
                    None => texts(value),
                })
                .sum(),
            Value::Array(items) => items.iter().map(texts).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }

    #[test]
    fn the_fullest_answer_beside_the_fullest_card_has_room() {
        for (name, mut approval) in approvals() {
            approval.operation.display = "x".repeat(10_000);
            approval.place.database = "d".repeat(10_000);
            approval.client.application = "a".repeat(10_000);
            approval.terms.reasons = vec!["r".repeat(10_000)];
            let card = Card::of(&approval, &"https://gateway.example/".parse().unwrap());
            let say = |card| Say {
                text: "t".repeat(10_000),
                table: Some("u".repeat(10_000)),
                buttons: (0..40).map(|number| ("b".repeat(200), number.to_string())).collect(),
                card,
                ..Say::default()
            };
            for card in [None, Some(Box::new(card))] {
                let chars = texts(&drawn(&say(card))["blocks"]);
                assert!(chars <= 11_000, "{name}: {chars}");
            }
        }
    }

    #[test]
    fn an_answer_without_anything_still_has_a_text() {
        let message = drawn(&Say::default());
        assert_eq!(
            message["blocks"][0]["elements"][0]["elements"][0]["text"],
            json!("Done.")
        );
    }
}
