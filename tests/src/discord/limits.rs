//! What Discord refuses in messages and modals. <https://discord.com/developers/docs/resources/message>,
//! <https://discord.com/developers/docs/components/reference>

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// What is wrong with a request, by the path of its members, as Discord's answer nests it.
#[derive(Default)]
pub(super) struct Faults(Vec<(String, String)>);

impl Faults {
    pub fn of_message(given: &Value) -> Self {
        let mut faults = Self::default();
        faults.text(&given["content"], 0, 2000, "content");
        faults.text(&given["nonce"], 0, 25, "nonce");
        let embeds = given["embeds"].as_array().map(Vec::as_slice).unwrap_or_default();
        faults.that(embeds.len() <= 10, "Must be 10 or fewer in length.", "embeds");
        let mut chars = 0;
        for (index, embed) in embeds.iter().enumerate() {
            chars += faults.embed(embed, &format!("embeds.{index}"));
        }
        faults.that(chars <= 6000, "Embed size exceeds maximum size of 6000", "embeds");
        faults.rows(&given["components"], false);
        faults
    }

    pub fn of_modal(given: &Value) -> Self {
        let mut faults = Self::default();
        faults.text(&given["title"], 1, 45, "title");
        faults.text(&given["custom_id"], 1, 100, "custom_id");
        let rows = given["components"].as_array().map_or(0, Vec::len);
        faults.that(
            (1..=5).contains(&rows),
            "Must be between 1 and 5 in length.",
            "components",
        );
        faults.rows(&given["components"], true);
        faults
    }

    pub fn of_commands(given: &Value) -> Self {
        let mut faults = Self::default();
        let list = given.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut names = BTreeSet::new();
        for (index, command) in list.iter().enumerate() {
            faults.command(command, &format!("{index}"));
            let is_new = names.insert((command["name"].as_str(), command["type"].as_u64().unwrap_or(1)));
            faults.that(
                is_new,
                "Application command names must be unique",
                &format!("{index}.name"),
            );
        }
        faults
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// <https://discord.com/developers/docs/reference#error-messages>
    pub fn body(&self) -> Value {
        let mut errors = json!({});
        for (path, message) in &self.0 {
            let mut place = &mut errors;
            for name in path.split('.') {
                let Value::Object(members) = place else { break };
                place = members.entry(name).or_insert_with(|| Value::Object(Map::new()));
            }
            place["_errors"] = json!([{"code": "BASE_TYPE_BAD_LENGTH", "message": message}]);
        }
        json!({"message": "Invalid Form Body", "code": 50035, "errors": errors})
    }

    fn that(&mut self, holds: bool, message: &str, at: &str) {
        if !holds {
            self.0.push((at.to_owned(), message.to_owned()));
        }
    }

    /// Checks a text where there is one, and counts its characters.
    fn text(&mut self, text: &Value, least: usize, most: usize, at: &str) -> usize {
        let chars = text.as_str().map_or(0, |text| text.chars().count());
        let fits = (least..=most).contains(&chars);
        self.that(fits, &format!("Must be between {least} and {most} in length."), at);
        chars
    }

    fn embed(&mut self, embed: &Value, at: &str) -> usize {
        let mut chars = self.text(&embed["title"], 0, 256, &format!("{at}.title"));
        chars += self.text(&embed["description"], 0, 4096, &format!("{at}.description"));
        chars += self.text(&embed["footer"]["text"], 0, 2048, &format!("{at}.footer.text"));
        chars += self.text(&embed["author"]["name"], 0, 256, &format!("{at}.author.name"));
        let fields = embed["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.that(
            fields.len() <= 25,
            "Must be 25 or fewer in length.",
            &format!("{at}.fields"),
        );
        for (index, field) in fields.iter().enumerate() {
            chars += self.text(&field["name"], 1, 256, &format!("{at}.fields.{index}.name"));
            chars += self.text(&field["value"], 1, 1024, &format!("{at}.fields.{index}.value"));
        }
        chars
    }

    fn rows(&mut self, rows: &Value, is_modal: bool) {
        let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
        self.that(rows.len() <= 5, "Must be 5 or fewer in length.", "components");
        let mut ids = BTreeSet::new();
        for (index, row) in rows.iter().enumerate() {
            let at = format!("components.{index}");
            let elements = match row["type"].as_u64() {
                Some(1) => row["components"].as_array().map(Vec::as_slice).unwrap_or_default(),
                Some(18) if is_modal => std::slice::from_ref(&row["component"]),
                Some(_) | None => {
                    self.that(false, "The specified component type is invalid in this context", &at);
                    continue;
                }
            };
            self.that(
                (1..=5).contains(&elements.len()),
                "Must be between 1 and 5 in length.",
                &at,
            );
            for (number, element) in elements.iter().enumerate() {
                let at = format!("{at}.components.{number}");
                self.element(element, is_modal, &at);
                if let Some(id) = element["custom_id"].as_str() {
                    self.that(ids.insert(id), "Component custom id cannot be duplicated", &at);
                }
            }
        }
    }

    fn element(&mut self, element: &Value, is_modal: bool, at: &str) {
        match (element["type"].as_u64(), is_modal) {
            (Some(2), false) => self.button(element, at),
            (Some(3), _) => {
                self.text(&element["custom_id"], 1, 100, &format!("{at}.custom_id"));
                let options = element["options"].as_array().map_or(0, Vec::len);
                self.that((1..=25).contains(&options), "Must be between 1 and 25 in length.", at);
            }
            (Some(4), true) => {
                self.text(&element["custom_id"], 1, 100, &format!("{at}.custom_id"));
                self.text(&element["label"], 0, 45, &format!("{at}.label"));
                self.text(&element["placeholder"], 0, 100, &format!("{at}.placeholder"));
                self.text(&element["value"], 0, 4000, &format!("{at}.value"));
            }
            (Some(_) | None, _) => self.that(false, "The specified component type is invalid in this context", at),
        }
    }

    fn button(&mut self, button: &Value, at: &str) {
        self.text(&button["label"], 0, 80, &format!("{at}.label"));
        if button["style"] == 5 {
            self.text(&button["url"], 1, 512, &format!("{at}.url"));
            self.that(
                button["custom_id"].is_null(),
                "A custom id and url cannot both be specified",
                at,
            );
        } else {
            self.that(
                (1..=4).contains(&button["style"].as_u64().unwrap_or_default()),
                "Value must be one of (1, 2, 3, 4, 5, 6).",
                at,
            );
            self.text(&button["custom_id"], 1, 100, &format!("{at}.custom_id"));
        }
    }

    fn command(&mut self, command: &Value, at: &str) {
        let name = command["name"].as_str().unwrap_or_default();
        let letters = |letter: char| (letter.is_alphanumeric() && !letter.is_uppercase()) || "-_".contains(letter);
        let is_slash = command["type"].as_u64().unwrap_or(1) == 1;
        let is_well_named = (1..=32).contains(&name.chars().count()) && name.chars().all(letters);
        self.that(
            !is_slash || is_well_named,
            "Command name is invalid",
            &format!("{at}.name"),
        );
        if is_slash {
            self.text(&command["description"], 1, 100, &format!("{at}.description"));
        }
        let options = command["options"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.that(
            options.len() <= 25,
            "Must be 25 or fewer in length.",
            &format!("{at}.options"),
        );
        for (index, option) in options.iter().enumerate() {
            let nested =
                json!({"name": option["name"], "description": option["description"], "options": option["options"]});
            self.command(&nested, &format!("{at}.options.{index}"));
        }
    }
}
