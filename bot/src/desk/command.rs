//! `/countersign ...`: the commands, as people write them. The same in both chats.

use countersign_infra::domain::id::ApprovalId;

/// What `/countersign help` says.
pub const HELP: &str = "\
/countersign pending: what waits for somebody
/countersign show ID: one approval
/countersign approve ID
/countersign deny ID reason
/countersign audit who:alice on:shop since:24h state:denied text:\"delete from\": what was asked, and what became of it
/countersign sessions: who is connected
/countersign link: ties this chat account to you
/countersign help";

/// Longest text of a command, in bytes.
const TEXT_BYTES_MAX: usize = 4000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Pending,
    Show(ApprovalId),
    Approve(ApprovalId),
    Deny(ApprovalId, String),
    Audit(String),
    Sessions,
    Link,
    Help,
}

impl Command {
    /// Reads a command; else says what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("A command has at most {TEXT_BYTES_MAX} bytes."));
        }
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let id = || rest.split_whitespace().next().unwrap_or_default();
        match word.to_lowercase().as_str() {
            "" | "help" => Ok(Self::Help),
            "pending" => Ok(Self::Pending),
            "sessions" => Ok(Self::Sessions),
            "link" => Ok(Self::Link),
            "show" => number("show", id()).map(Self::Show),
            "approve" => number("approve", id()).map(Self::Approve),
            "deny" => {
                let reason = rest.strip_prefix(id()).unwrap_or_default().trim();
                Ok(Self::Deny(number("deny", id())?, reason.to_owned()))
            }
            "audit" => Ok(Self::Audit(rest.to_owned())),
            _ => Err(format!("There is no command {}.\n{HELP}", super::shown(word))),
        }
    }
}

fn number(command: &str, id: &str) -> Result<ApprovalId, String> {
    if id.is_empty() {
        return Err(format!(
            "Which one? Write /countersign {command} and the approval's number."
        ));
    }
    let none = |_| {
        format!(
            "{} is no approval's number: it has eight letters and digits.",
            super::shown(id)
        )
    };
    id.to_uppercase().parse().map_err(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_people_write_them() {
        let id: ApprovalId = "QJF6HN4C".parse().unwrap();
        for (text, expected) in [
            ("", Command::Help),
            ("  HELP ", Command::Help),
            ("pending", Command::Pending),
            ("show qjf6hn4c", Command::Show(id.clone())),
            ("Approve  QJF6HN4C ", Command::Approve(id.clone())),
            ("deny QJF6HN4C", Command::Deny(id.clone(), String::new())),
            (
                "deny QJF6HN4C the customer  was not asked",
                Command::Deny(id, "the customer  was not asked".to_owned()),
            ),
            ("audit who:alice", Command::Audit("who:alice".to_owned())),
        ] {
            assert_eq!(Command::read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_command_is_told_with_what_there_is() {
        for (text, said) in [
            ("drop everything", "There is no command drop"),
            ("show", "Which one?"),
            ("approve 12", "12 is no approval's number"),
            ("deny", "Which one?"),
        ] {
            let error = Command::read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(Command::read(&"x".repeat(5000)).is_err());
    }
}
