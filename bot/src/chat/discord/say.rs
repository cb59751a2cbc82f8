//! Answers and notes as Discord shows them. Like the card: what others wrote has every mark of Markdown escaped, or stands
//! in a code block that nothing in it can end; and no message mentions anybody.

use super::card::{self, inert};
use crate::chat::Say;
use crate::chat::cut;
use countersign_infra::domain::id::ApprovalId;
use serenity::all::{
    ButtonStyle, CreateActionRow, CreateAllowedMentions, CreateButton, CreateEmbed, CreateInputText,
    CreateInteractionResponseMessage, CreateModal, EditInteractionResponse, InputTextStyle,
};

/// What a message's text and an embed's description may have, in UTF-16 code units.
/// <https://discord.com/developers/docs/resources/message#embed-object-embed-limits>
const TEXT_UNITS_MAX: usize = 2000;
const DESCRIPTION_UNITS_MAX: usize = 4096;

/// A table stands beside a card in the message's own text.
const TABLE_BESIDE_CARD_UNITS_MAX: usize = 900;

/// <https://discord.com/developers/docs/components/reference>
const LABEL_CHARS_MAX: usize = 80;
const URL_CHARS_MAX: usize = 512;
const ROWS_MAX: usize = 5;
const BUTTONS_PER_ROW: usize = 5;

/// The longest reason of a denial, in characters.
pub(super) const REASON_CHARS_MAX: u16 = 500;

/// The name of a form's one field, and what names of forms and buttons begin with.
pub(super) const REASON: &str = "reason";
pub(super) const DENY: &str = "deny:";
pub(super) const PAGE: &str = "page:";

/// One line, as an embed, whose footer says what the message is.
pub fn note(text: &str, mark: &str) -> CreateEmbed {
    let footer = serenity::all::CreateEmbedFooter::new(mark);
    CreateEmbed::new()
        .description(escaped(text, TEXT_UNITS_MAX))
        .footer(footer)
}

/// The parts of an answer.
pub(super) struct Parts {
    content: String,
    embeds: Vec<CreateEmbed>,
    components: Vec<CreateActionRow>,
}

impl Parts {
    pub(super) fn of(say: &Say) -> Self {
        let mut embeds = Vec::new();
        let mut content = content(say);
        match (&say.table, &say.card) {
            (Some(table), None) => {
                embeds.push(CreateEmbed::new().description(block(table, DESCRIPTION_UNITS_MAX)));
            }
            (Some(table), Some(_)) => content = format!("{content}\n{}", block(table, TABLE_BESIDE_CARD_UNITS_MAX)),
            (None, Some(_) | None) => {}
        }
        embeds.extend(say.card.as_deref().map(card::embed));
        if content.trim().is_empty() && embeds.is_empty() {
            "Done.".clone_into(&mut content);
        }
        Self {
            content,
            embeds,
            components: rows(say),
        }
    }

    /// The first answer.
    pub(super) fn response(self) -> CreateInteractionResponseMessage {
        CreateInteractionResponseMessage::new()
            .content(self.content)
            .embeds(self.embeds)
            .components(self.components)
            .allowed_mentions(CreateAllowedMentions::new())
            .ephemeral(true)
    }

    /// What takes the place of an answer that said only that there will be one.
    pub(super) fn edit(self) -> EditInteractionResponse {
        EditInteractionResponse::new()
            .content(self.content)
            .embeds(self.embeds)
            .components(self.components)
            .allowed_mentions(CreateAllowedMentions::new())
    }
}

/// The form that asks for the reason of a denial.
pub fn reason_form(approval: &ApprovalId) -> CreateModal {
    let field = CreateInputText::new(InputTextStyle::Paragraph, "Reason", REASON)
        .placeholder("The person who asked reads it, and the journal keeps it.")
        .max_length(REASON_CHARS_MAX)
        .required(false);
    let row = CreateActionRow::InputText(field);
    CreateModal::new(format!("{DENY}{approval}"), format!("Deny {approval}")).components(vec![row])
}

fn content(say: &Say) -> String {
    let beside = say.card.is_some() && say.table.is_some();
    let table = if beside { TABLE_BESIDE_CARD_UNITS_MAX + 1 } else { 0 };
    let mut room = TEXT_UNITS_MAX - table;
    let mut links = String::new();
    // A link is too long for a button where a sign-in is; it is ours, and ends at its bracket.
    for (label, url) in say.links.iter().filter(|(_, url)| !fits(url)) {
        let link = format!("\n{}: <{url}>", inert(&cut(label, LABEL_CHARS_MAX)));
        if units(&link) < room {
            room -= units(&link);
            links.push_str(&link);
        } else {
            tracing::error!(label, "a link is too long for Discord and was left out");
        }
    }
    format!("{}{links}", escaped(&say.text, room))
}

fn fits(url: &url::Url) -> bool {
    url.as_str().len() <= URL_CHARS_MAX
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// As much of a text as has room once it is escaped.
fn escaped(text: &str, units_max: usize) -> String {
    let whole = inert(text);
    if units(&whole) <= units_max {
        return whole;
    }
    let head = head(text, units_max.saturating_sub(3), |letter| {
        if letter.is_ascii_punctuation() {
            2
        } else {
            letter.len_utf16()
        }
    });
    format!("{}...", inert(head))
}

/// A code block with as much of a text as has room in it.
fn block(text: &str, units_max: usize) -> String {
    let room = units_max.saturating_sub("```\n\n...\n```".len());
    let shown = head(text, room, |letter| if letter == '`' { 3 } else { letter.len_utf16() });
    let dots = if shown.len() < text.len() { "\n..." } else { "" };
    format!("```\n{}{dots}\n```", card::unfenced(shown))
}

fn head(text: &str, units_max: usize, size: fn(char) -> usize) -> &str {
    let mut units = 0;
    let end = text.char_indices().find(|(_, letter)| {
        units += size(*letter);
        units > units_max
    });
    end.map_or(text, |(end, _)| text.get(..end).unwrap_or_default())
}

fn rows(say: &Say) -> Vec<CreateActionRow> {
    let links = say.links.iter().filter(|(_, url)| fits(url));
    let links = links.map(|(label, url)| CreateButton::new_link(url.as_str()).label(label_of(label)));
    let pages = say.buttons.iter().map(|(label, ticket)| {
        let button = CreateButton::new(format!("{PAGE}{ticket}")).label(label_of(label));
        button.style(ButtonStyle::Secondary)
    });
    let buttons: Vec<CreateButton> = links.chain(pages).collect();
    let card = say.card.as_deref().map(card::components).unwrap_or_default();
    let own = buttons
        .chunks(BUTTONS_PER_ROW)
        .map(|row| CreateActionRow::Buttons(row.to_vec()));
    card.into_iter().chain(own).take(ROWS_MAX).collect()
}

fn label_of(label: &str) -> String {
    if label.is_empty() {
        "Open".to_owned()
    } else {
        cut(label, LABEL_CHARS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn drawn(say: &Say) -> Value {
        serde_json::to_value(Parts::of(say).response()).unwrap()
    }

    #[test]
    fn an_answer_is_drawn_with_its_table_links_and_buttons() {
        let long = format!("https://gateway.example/{}", "x".repeat(600));
        let say = Say {
            text: "Two operations of @everyone and **others**".to_owned(),
            table: Some("WHO    WHAT\nalice  ```x```".to_owned()),
            links: vec![
                ("Sign in".to_owned(), "https://gateway.example/s?t=1".parse().unwrap()),
                ("Long".to_owned(), long.parse().unwrap()),
            ],
            buttons: vec![
                ("Next".to_owned(), "t1".to_owned()),
                ("Export".to_owned(), "t2".to_owned()),
            ],
            ..Say::default()
        };
        insta::assert_json_snapshot!(drawn(&say));
        insta::assert_json_snapshot!(reason_form(&"QJF6HN4C".parse().unwrap()));
    }

    #[test]
    fn an_answer_without_anything_still_has_a_text() {
        assert_eq!(drawn(&Say::default())["content"], "Done.");
    }

    #[test]
    fn rows_and_labels_are_within_discords_limits() {
        let say = Say {
            buttons: (0..40).map(|number| ("b".repeat(200), number.to_string())).collect(),
            ..Say::default()
        };
        let message = drawn(&say);
        let rows = message["components"].as_array().unwrap();
        assert_eq!(rows.len(), ROWS_MAX);
        for button in rows.iter().flat_map(|row| row["components"].as_array().unwrap()) {
            assert!(button["label"].as_str().unwrap().len() <= LABEL_CHARS_MAX);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_long_or_ends_its_block(text in "[`*_<@>א😀 x\n]{0,5000}") {
            let say = Say { text: text.clone(), table: Some(text), ..Say::default() };
            let message = drawn(&say);
            prop_assert!(units(message["content"].as_str().unwrap()) <= TEXT_UNITS_MAX);
            let table = message["embeds"][0]["description"].as_str().unwrap();
            prop_assert!(units(table) <= DESCRIPTION_UNITS_MAX);
            prop_assert_eq!(table.matches("```").count(), 2, "{}", table);
        }
    }
}
