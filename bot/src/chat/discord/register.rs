//! The slash command, as Discord knows it. <https://discord.com/developers/docs/interactions/application-commands>

use super::client::{DiscordChat, number};
use crate::chat::ChatError;
use reqwest::Method;
use serde_json::{Value, json};
use serenity::all::{CommandOptionType, CreateCommand, CreateCommandOption};

/// Whether anything had to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    Already,
    Anew,
}

/// The command and its subcommands: what they are put together to is what people of Slack type.
pub fn commands() -> Vec<CreateCommand> {
    let id = || word("id", "Its number, as on the card", true);
    let command = CreateCommand::new("countersign")
        .description("What waits, what happened, and who you are")
        .add_option(subcommand("pending", "What waits for a decision"))
        .add_option(subcommand("show", "Shows an approval").add_sub_option(id()))
        .add_option(subcommand("approve", "Approves what waits").add_sub_option(id()))
        .add_option(
            subcommand("deny", "Denies what waits")
                .add_sub_option(id())
                .add_sub_option(word("reason", "The person who asked reads it", false)),
        )
        .add_option(subcommand("audit", "Searches what happened").add_sub_option(word(
            "query",
            "For example: who:alice on:shop since:24h",
            false,
        )))
        .add_option(subcommand("sessions", "Who is connected"))
        .add_option(subcommand("link", "Ties this account to you by a sign-in"))
        .add_option(subcommand("help", "What can be asked, and how"));
    vec![command]
}

fn subcommand(name: &str, description: &str) -> CreateCommandOption {
    CreateCommandOption::new(CommandOptionType::SubCommand, name, description)
}

fn word(name: &str, description: &str, required: bool) -> CreateCommandOption {
    CreateCommandOption::new(CommandOptionType::String, name, description).required(required)
}

impl DiscordChat {
    /// Makes the guild know the command. Commands that it knows already are left as they are: Discord limits how many are
    /// made in a day.
    pub async fn register(&self) -> Result<Registered, ChatError> {
        if self.is_registered().await? {
            return Ok(Registered::Already);
        }
        let (path, wanted) = (self.commands_path()?, json!(commands()));
        self.api.send("the commands", Method::PUT, &path, &wanted).await?;
        Ok(Registered::Anew)
    }

    /// Whether the guild knows the command as this version has it.
    pub(super) async fn is_registered(&self) -> Result<bool, ChatError> {
        let known: Value = self.api.get("the commands", &self.commands_path()?).await?;
        Ok(essence(&known) == essence(&json!(commands())))
    }

    fn commands_path(&self) -> Result<String, ChatError> {
        let (application, guild) = (number(&self.guild.application)?, number(&self.guild.guild)?);
        Ok(format!("/applications/{application}/guilds/{guild}/commands"))
    }
}

/// What of commands and their options people see; Discord adds ids, versions and defaults.
fn essence(commands: &Value) -> Vec<Value> {
    let commands = commands.as_array().map(Vec::as_slice).unwrap_or_default();
    let essence = commands.iter().map(|command| {
        let options = command.get("options").unwrap_or(&Value::Null);
        let kind = command.get("type").and_then(Value::as_u64).unwrap_or(1);
        let required = command.get("required").and_then(Value::as_bool).unwrap_or_default();
        json!({"name": command.get("name"), "description": command.get("description"), "type": kind,
            "required": required, "options": essence(options)})
    });
    essence.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_within_discords_limits() {
        let commands = json!(commands());
        insta::assert_json_snapshot!(essence(&commands));
        let mut open: Vec<&Value> = commands.as_array().unwrap().iter().collect();
        while let Some(command) = open.pop() {
            let (name, description) = (&command["name"], &command["description"]);
            let is_name = |name: &str| name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_lowercase());
            assert!(is_name(name.as_str().unwrap()), "{name}");
            assert!(
                (1..=100).contains(&description.as_str().unwrap().len()),
                "{description}"
            );
            open.extend(command["options"].as_array().into_iter().flatten());
        }
    }

    #[test]
    fn what_discord_adds_makes_no_difference_and_what_people_see_does() {
        let wanted = json!(commands());
        let mut known = wanted.clone();
        let command = known[0].as_object_mut().unwrap();
        command.extend(
            json!({"id": "7", "version": "8", "type": 1, "nsfw": false})
                .as_object()
                .unwrap()
                .clone(),
        );
        command["options"][0].as_object_mut().unwrap().remove("required");
        assert_eq!(essence(&known), essence(&wanted));
        known[0]["options"][1]["options"][0]["required"] = json!(false);
        assert_ne!(essence(&known), essence(&wanted));
        assert_ne!(essence(&json!([])), essence(&wanted));
        assert_ne!(essence(&json!({"message": "x"})), essence(&wanted));
    }
}
