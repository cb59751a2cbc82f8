//! The card as Discord's embed. <https://discord.com/developers/docs/resources/message#embed-object>
//!
//! What others wrote stands in a code block that nothing in it can end, or with every mark of Markdown escaped; and no
//! message of ours mentions anybody.

use crate::card::{Button, Card, Standing};
use countersign_infra::domain::id::ApprovalId;
use serenity::all::{
    ButtonStyle, Colour, CreateActionRow, CreateAllowedMentions, CreateButton, CreateEmbed, CreateEmbedFooter,
    CreateMessage, EditMessage,
};
use std::fmt::Write;

/// A new message.
pub fn message(card: &Card) -> CreateMessage {
    CreateMessage::new()
        .embed(embed(card))
        .components(components(card))
        .allowed_mentions(CreateAllowedMentions::new())
}

/// The change of a message that shows an earlier state.
pub fn change(card: &Card) -> EditMessage {
    EditMessage::new()
        .embed(embed(card))
        .components(components(card))
        .allowed_mentions(CreateAllowedMentions::new())
}

pub(super) fn embed(card: &Card) -> CreateEmbed {
    let mut embed = CreateEmbed::new()
        .title(format!("{}: {}", heading(card.standing), card.approval))
        .colour(colour(card.standing))
        .description(description(card));
    for line in &card.lines {
        embed = embed.field(line.name, inert(&line.value), false);
    }
    if let Some(deadline) = card.deadline {
        // Counts down on the reader's screen.
        embed = embed.field("Expires", format!("<t:{}:R>", deadline.timestamp()), false);
    }
    embed.footer(CreateEmbedFooter::new(mark(&card.approval)))
}

/// What the footer says, by which the bot knows its own card.
pub(super) fn mark(approval: &ApprovalId) -> String {
    format!("Countersign {approval}")
}

fn heading(standing: Standing) -> &'static str {
    match standing {
        Standing::Waits => "Approval wanted",
        Standing::Runs => "Approved",
        Standing::Done => "Done",
        Standing::Failed => "Failed",
        Standing::Denied => "Denied",
        Standing::Over => "Not run",
    }
}

fn colour(standing: Standing) -> Colour {
    match standing {
        Standing::Waits => Colour::GOLD,
        Standing::Runs => Colour::BLUE,
        Standing::Done => Colour::DARK_GREEN,
        Standing::Failed | Standing::Denied => Colour::DARK_RED,
        Standing::Over => Colour::LIGHT_GREY,
    }
}

fn description(card: &Card) -> String {
    let cut = if card.operation.is_whole { "" } else { "\n..." };
    let mut text = format!(
        "**{}**\n```\n{}{cut}\n```",
        inert(&card.headline),
        unfenced(&card.operation.text)
    );
    for warning in &card.warnings {
        let _ = write!(text, "\n:warning: {}", inert(warning));
    }
    text
}

pub(super) fn components(card: &Card) -> Vec<CreateActionRow> {
    let buttons = card.buttons.iter().map(|button| {
        let id = format!("{}:{}", button.action(), card.approval);
        CreateButton::new(id).label(button.label()).style(match button {
            Button::Approve => ButtonStyle::Success,
            Button::Grant { .. } => ButtonStyle::Secondary,
            Button::Deny => ButtonStyle::Danger,
        })
    });
    let links = card.links.iter();
    let links = links.map(|link| CreateButton::new_link(link.url.as_str()).label(link.name));
    vec![CreateActionRow::Buttons(buttons.chain(links).collect())]
}

/// Text of a code block: a fence in it is shown as an escape, as other characters are that would not be seen for what
/// they are.
pub(super) fn unfenced(text: &str) -> String {
    text.replace("```", "``\\u{60}")
}

/// Text with every mark of Markdown escaped.
/// <https://support.discord.com/hc/en-us/articles/210298617-Markdown-Text-101-Chat-Formatting-Bold-Italic-Underline>
pub(super) fn inert(text: &str) -> String {
    let mut inert = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii_punctuation() {
            inert.push('\\');
        }
        inert.push(letter);
    }
    inert
}
