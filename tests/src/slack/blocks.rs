//! The limits of Block Kit. <https://docs.slack.dev/reference/block-kit/blocks>
//!
//! Where Slack would refuse, so does this; what it only cuts is let through. Kinds of blocks that no card uses are
//! refused, so that a test cannot pass with one that was never looked at.

use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What all the text of a message's blocks may have. Undocumented; <https://github.com/slackapi/bolt-js/issues/2509>
/// and <https://github.com/slackapi/bolt-js/issues/2867> measured refusals from 11,300 characters on.
pub const TEXT_CHARS_MAX: usize = 11_000;

/// Where blocks stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    Message,
    Modal,
}

/// What is wrong with blocks, as Slack words it.
pub fn faults(blocks: &Value, surface: Surface) -> Vec<String> {
    let mut check = Check(Vec::new());
    let Some(list) = blocks.as_array() else {
        return vec!["must be an array [json-pointer:/blocks]".to_owned()];
    };
    let most = if surface == Surface::Modal { 100 } else { 50 };
    check.that(
        list.len() <= most,
        &format!("no more than {most} items allowed"),
        "/blocks",
    );
    let mut ids = BTreeSet::new();
    for (index, block) in list.iter().enumerate() {
        let at = format!("/blocks/{index}");
        if let Some(id) = block.get("block_id") {
            check.text(id, 1, 255, &format!("{at}/block_id"));
            check.that(ids.insert(id.as_str()), "block_id already exists", &at);
        }
        check.block(block, surface, &at);
    }
    check.0
}

/// How many characters of text stand in blocks, in all.
pub fn text_chars(value: &Value) -> usize {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| match member {
                Value::String(text) if name == "text" => text.chars().count(),
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_)
                | Value::Object(_) => text_chars(member),
            })
            .sum(),
        Value::Array(items) => items.iter().map(text_chars).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// What is wrong with a modal.
pub fn view_faults(view: &Value) -> Vec<String> {
    let mut check = Check(faults(&view["blocks"], Surface::Modal));
    check.that(view["type"] == "modal", "unsupported type", "/type");
    check.plain(&view["title"], 24, "/title");
    for name in ["submit", "close"] {
        if let Some(label) = view.get(name).filter(|label| !label.is_null()) {
            check.plain(label, 24, &format!("/{name}"));
        }
    }
    let has_input = view["blocks"]
        .as_array()
        .is_some_and(|blocks| blocks.iter().any(|block| block["type"] == "input"));
    check.that(
        !has_input || view["submit"].is_object(),
        "submit is required",
        "/submit",
    );
    for (name, most) in [("private_metadata", 3000), ("callback_id", 255)] {
        if let Some(text) = view.get(name).filter(|text| !text.is_null()) {
            check.text(text, 0, most, &format!("/{name}"));
        }
    }
    check.0
}

/// Fills in what Slack adds: ids of blocks and of elements, and what texts are by default.
pub fn complete(blocks: &mut Value, mut next: impl FnMut() -> u64) {
    for block in blocks.as_array_mut().into_iter().flatten() {
        let Some(members) = block.as_object_mut() else { continue };
        let id = || json!(format!("b{:04}", next()));
        members.entry("block_id").or_insert_with(id);
        let elements = members.iter_mut().filter_map(|(name, member)| match name.as_str() {
            "elements" => member.as_array_mut(),
            _ => None,
        });
        for element in elements.flatten() {
            let takes_part = ["button", "static_select", "overflow"]
                .iter()
                .any(|kind| element["type"] == *kind);
            if let Some(element) = element.as_object_mut().filter(|_| takes_part) {
                element
                    .entry("action_id")
                    .or_insert_with(|| json!(format!("a{:04}", next())));
            }
        }
        complete_texts(block);
    }
}

fn complete_texts(value: &mut Value) {
    let kind = value["type"].as_str().map(str::to_owned);
    match value {
        Value::Object(members) => {
            match kind.as_deref() {
                Some("plain_text") => members.entry("emoji").or_insert(json!(true)),
                Some("mrkdwn") => members.entry("verbatim").or_insert(json!(false)),
                _ => &mut Value::Null,
            };
            members.values_mut().for_each(complete_texts);
        }
        Value::Array(items) => items.iter_mut().for_each(complete_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

struct Check(Vec<String>);

impl Check {
    fn that(&mut self, holds: bool, fault: &str, at: &str) {
        if !holds {
            self.0.push(format!("{fault} [json-pointer:{at}]"));
        }
    }

    fn text(&mut self, text: &Value, least: usize, most: usize, at: &str) {
        let Some(text) = text.as_str() else {
            return self.that(false, "must be a string", at);
        };
        let chars = text.chars().count();
        self.that(
            chars >= least,
            &format!("must be more than {} characters", least.saturating_sub(1)),
            at,
        );
        self.that(chars <= most, &format!("must be less than {} characters", most + 1), at);
    }

    fn optional(&mut self, of: &Value, name: &str, most: usize, at: &str) {
        if let Some(text) = of.get(name).filter(|text| !text.is_null()) {
            self.text(text, 0, most, &format!("{at}/{name}"));
        }
    }

    fn plain(&mut self, object: &Value, most: usize, at: &str) {
        self.that(object["type"] == "plain_text", "must be a plain_text object", at);
        self.text(&object["text"], 1, most, &format!("{at}/text"));
    }

    fn any_text(&mut self, object: &Value, most: usize, at: &str) {
        let known = object["type"] == "plain_text" || object["type"] == "mrkdwn";
        self.that(known, "must be a text object", at);
        self.text(&object["text"], 1, most, &format!("{at}/text"));
    }

    fn items<'a>(&mut self, of: &'a Value, name: &str, most: usize, at: &str) -> &'a [Value] {
        let items = of[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let at = format!("{at}/{name}");
        self.that(!items.is_empty(), "no fewer than 1 items allowed", &at);
        self.that(items.len() <= most, &format!("no more than {most} items allowed"), &at);
        items
    }

    fn block(&mut self, block: &Value, surface: Surface, at: &str) {
        match block["type"].as_str().unwrap_or_default() {
            "header" => self.plain(&block["text"], 150, &format!("{at}/text")),
            "divider" => {}
            "section" => self.section(block, at),
            "context" => {
                for (index, element) in self.items(block, "elements", 10, at).iter().enumerate() {
                    self.any_text(element, 3000, &format!("{at}/elements/{index}"));
                }
            }
            "actions" => {
                let mut ids = BTreeSet::new();
                for (index, element) in self.items(block, "elements", 25, at).iter().enumerate() {
                    let at = format!("{at}/elements/{index}");
                    self.element(element, &at);
                    if let Some(id) = element["action_id"].as_str() {
                        self.that(ids.insert(id), "action_id already exists", &at);
                    }
                }
            }
            "rich_text" => {
                for (index, element) in self.items(block, "elements", 1000, at).iter().enumerate() {
                    self.rich(element, &format!("{at}/elements/{index}"));
                }
            }
            "markdown" if surface == Surface::Message => self.text(&block["text"], 1, 12_000, &format!("{at}/text")),
            "input" => {
                self.plain(&block["label"], 2000, &format!("{at}/label"));
                if let Some(hint) = block.get("hint") {
                    self.plain(hint, 2000, &format!("{at}/hint"));
                }
                self.element(&block["element"], &format!("{at}/element"));
            }
            other => self.that(false, &format!("unsupported type: {other}"), &format!("{at}/type")),
        }
    }

    fn section(&mut self, block: &Value, at: &str) {
        let (text, fields) = (block.get("text"), block.get("fields"));
        self.that(
            text.is_some() || fields.is_some(),
            "must define either `fields` or `text`",
            at,
        );
        if let Some(text) = text {
            self.any_text(text, 3000, &format!("{at}/text"));
        }
        if fields.is_some() {
            for (index, field) in self.items(block, "fields", 10, at).iter().enumerate() {
                self.any_text(field, 2000, &format!("{at}/fields/{index}"));
            }
        }
        if let Some(accessory) = block.get("accessory") {
            self.element(accessory, &format!("{at}/accessory"));
        }
    }

    fn element(&mut self, element: &Value, at: &str) {
        self.optional(element, "action_id", 255, at);
        match element["type"].as_str().unwrap_or_default() {
            "button" => {
                self.plain(&element["text"], 75, &format!("{at}/text"));
                self.optional(element, "value", 2000, at);
                self.optional(element, "url", 3000, at);
                let style = element["style"].as_str();
                let known = style.is_none_or(|style| style == "primary" || style == "danger");
                self.that(known, "must be a valid enum value", &format!("{at}/style"));
                self.confirm(element, at);
            }
            "static_select" | "overflow" => {
                for (index, option) in self.items(element, "options", 100, at).iter().enumerate() {
                    let at = format!("{at}/options/{index}");
                    self.any_text(&option["text"], 75, &at);
                    self.text(&option["value"], 1, 150, &at);
                }
                self.confirm(element, at);
            }
            "plain_text_input" => {
                if let Some(placeholder) = element.get("placeholder") {
                    self.plain(placeholder, 150, &format!("{at}/placeholder"));
                }
                let most = element["max_length"].as_u64().unwrap_or(3000);
                self.that((1..=3000).contains(&most), "must be between 1 and 3000", at);
                self.optional(element, "initial_value", 3000, at);
            }
            other => self.that(false, &format!("unsupported type: {other}"), &format!("{at}/type")),
        }
    }

    fn confirm(&mut self, element: &Value, at: &str) {
        let Some(confirm) = element.get("confirm").filter(|confirm| !confirm.is_null()) else {
            return;
        };
        let at = format!("{at}/confirm");
        self.plain(&confirm["title"], 100, &format!("{at}/title"));
        self.any_text(&confirm["text"], 300, &format!("{at}/text"));
        for name in ["confirm", "deny"] {
            self.plain(&confirm[name], 30, &format!("{at}/{name}"));
        }
    }

    fn rich(&mut self, element: &Value, at: &str) {
        match element["type"].as_str().unwrap_or_default() {
            "rich_text_list" => {
                for (index, item) in self.items(element, "elements", 1000, at).iter().enumerate() {
                    self.rich(item, &format!("{at}/elements/{index}"));
                }
            }
            "rich_text_section" | "rich_text_preformatted" | "rich_text_quote" => {
                for (index, part) in self.items(element, "elements", 1000, at).iter().enumerate() {
                    self.rich_part(part, &format!("{at}/elements/{index}"));
                }
            }
            other => self.that(false, &format!("unsupported type: {other}"), &format!("{at}/type")),
        }
    }

    fn rich_part(&mut self, part: &Value, at: &str) {
        let (name, most) = match part["type"].as_str().unwrap_or_default() {
            "text" => ("text", TEXT_CHARS_MAX),
            "link" => ("url", 3000),
            "emoji" => ("name", 255),
            "user" => ("user_id", 255),
            "channel" => ("channel_id", 255),
            "date" => ("format", 255),
            other => return self.that(false, &format!("unsupported type: {other}"), &format!("{at}/type")),
        };
        self.text(&part[name], 1, most, &format!("{at}/{name}"));
    }
}
