//! The card as Slack's Block Kit. <https://docs.slack.dev/reference/block-kit/blocks>
//!
//! What others wrote stands only in rich text and plain text, which Slack never reads as markup: no mention, link or
//! backtick in it does anything.

use crate::card::{Button, Card, Line, Shown, Standing};
use countersign_infra::domain::Timestamp;
use slack_morphism::prelude::*;

/// A message: what notifications say, and the blocks.
pub fn message(card: &Card) -> SlackMessageContent {
    SlackMessageContent::new()
        .with_text(escape(&card.summary()))
        .with_blocks(blocks(card))
}

fn blocks(card: &Card) -> Vec<SlackBlock> {
    let mut blocks: Vec<SlackBlock> = vec![
        SlackHeaderBlock::new(plain(&header(card))).into(),
        SlackRichTextBlock::new(body(card)).into(),
    ];
    if !card.warnings.is_empty() {
        let warnings = card
            .warnings
            .iter()
            .map(|warning| section(":warning: ", warning))
            .collect();
        blocks.push(SlackRichTextBlock::new(warnings).into());
    }
    let context = card.deadline.map(expiry).into_iter().collect::<Vec<_>>();
    if !context.is_empty() {
        blocks.push(SlackContextBlock::new(context).into());
    }
    let buttons = actions(card);
    if !buttons.is_empty() {
        blocks.push(SlackActionsBlock::new(buttons).into());
    }
    blocks
}

fn header(card: &Card) -> String {
    let mark = match card.standing {
        Standing::Waits => "Approval wanted",
        Standing::Runs => "Approved",
        Standing::Done => "Done",
        Standing::Failed => "Failed",
        Standing::Denied => "Denied",
        Standing::Over => "Not run",
    };
    format!("{mark}: {}", card.approval)
}

fn body(card: &Card) -> Vec<SlackRichTextElement> {
    let headline = SlackRichTextSection::new(vec![SlackRichTextText::new(card.headline.clone()).bold().into()]);
    let mut body: Vec<SlackRichTextElement> = vec![headline.into(), operation(&card.operation)];
    body.extend(card.lines.iter().map(line));
    body
}

fn operation(shown: &Shown) -> SlackRichTextElement {
    // An element without a text is refused.
    let text = if shown.text.is_empty() {
        " "
    } else {
        shown.text.as_str()
    };
    let cut = if shown.is_whole { "" } else { "\n..." };
    let text = SlackRichTextText::new(format!("{text}{cut}"));
    SlackRichTextPreformatted::new(vec![text.into()]).into()
}

fn line(line: &Line) -> SlackRichTextElement {
    let name = SlackRichTextText::new(format!("{}: ", line.name)).bold();
    let value = SlackRichTextText::new(format!("{}\n", line.value));
    SlackRichTextSection::new(vec![name.into(), value.into()]).into()
}

fn section(mark: &str, text: &str) -> SlackRichTextElement {
    let mark = mark.trim().trim_matches(':').to_owned();
    let text = SlackRichTextText::new(format!(" {text}\n"));
    SlackRichTextSection::new(vec![SlackRichTextEmoji::new(mark.into()).into(), text.into()]).into()
}

/// In the reader's own time zone. <https://docs.slack.dev/messaging/formatting-message-text#date-formatting>
fn expiry(deadline: Timestamp) -> SlackContextBlockElement {
    let (seconds, fallback) = (deadline.timestamp(), deadline.format("%Y-%m-%d %H:%M:%S UTC"));
    let text = format!("Expires <!date^{seconds}^{{date_short_pretty}} {{time_secs}}|{fallback}>");
    SlackBlockMarkDownText::new(text).into()
}

fn actions(card: &Card) -> Vec<SlackActionBlockElement> {
    let value = card.approval.to_string();
    let buttons = card.buttons.iter().map(|button| {
        let element = SlackBlockButtonElement::new(plain(&button.label()))
            .with_action_id(button.action().into())
            .with_value(value.clone());
        match button {
            Button::Approve => element.with_style(SlackBlockButtonStyle::Primary).into(),
            Button::Grant { .. } => element.into(),
            Button::Deny => element.with_style(SlackBlockButtonStyle::Danger).into(),
        }
    });
    let links = card.links.iter().enumerate().map(|(index, link)| {
        let element = SlackBlockButtonElement::new(plain(link.name));
        element
            .with_action_id(format!("link-{index}").into())
            .with_url(link.url.clone())
            .into()
    });
    buttons.chain(links).collect()
}

pub(super) fn plain(text: &str) -> SlackBlockPlainTextOnly {
    SlackBlockPlainText::new(text.to_owned()).with_emoji(false).into()
}

/// What a message's text must escape. <https://docs.slack.dev/messaging/formatting-message-text#escaping>
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
