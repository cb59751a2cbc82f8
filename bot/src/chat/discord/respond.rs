//! Answers, as Discord takes them. <https://discord.com/developers/docs/interactions/receiving-and-responding>

use super::client::DiscordChat;
use super::intake::First;
use super::request::{Origin, Reply};
use super::rest::Multipart;
use super::say::{self, Parts};
use crate::chat::{Answer, ChatError, File, Say};
use countersign_infra::domain::id::{ApprovalId, Digest};
use reqwest::Method;
use serde_json::{Value, json};
use serenity::all::{CreateInteractionResponse, CreateInteractionResponseMessage};
use std::time::Duration;

/// How often an answer that comes late is brought, and after which pauses: Discord may not know yet what it takes the place
/// of.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// A response, and the file that goes with it.
pub(super) struct Response {
    pub body: Value,
    pub file: Option<File>,
}

impl Response {
    pub(super) fn of(first: First, origin: Origin) -> Self {
        let mut file = None;
        let response = match first {
            First::Pong => CreateInteractionResponse::Pong,
            First::Later => later(),
            First::Answer(Answer::Silent) => silent(origin),
            First::Answer(Answer::AskReason { approval }) => ask_reason(&approval, origin),
            First::Answer(Answer::Say(mut said)) => {
                file = said.file.take();
                message(&said)
            }
        };
        let mut body = json!(response);
        if let Some(body) = body.as_object_mut() {
            body.retain(|_, value| !value.is_null());
        }
        Self { body, file }
    }
}

fn message(said: &Say) -> CreateInteractionResponse {
    CreateInteractionResponse::Message(Parts::of(said).response())
}

fn later() -> CreateInteractionResponse {
    CreateInteractionResponse::Defer(CreateInteractionResponseMessage::new().ephemeral(true))
}

/// A form cannot follow on a form.
fn ask_reason(approval: &ApprovalId, origin: Origin) -> CreateInteractionResponse {
    match origin {
        Origin::Command | Origin::Click => CreateInteractionResponse::Modal(say::reason_form(approval)),
        Origin::Form | Origin::FormOfCommand => {
            let text = format!("Nothing was decided. Deny {approval} on its card.");
            message(&Say { text, ..Say::default() })
        }
    }
}

/// What stands on no message must be answered with something.
fn silent(origin: Origin) -> CreateInteractionResponse {
    match origin {
        Origin::Click | Origin::Form => CreateInteractionResponse::Acknowledge,
        Origin::Command | Origin::FormOfCommand => message(&Say::default()),
    }
}

impl DiscordChat {
    /// Answers by a call of the API.
    pub(super) async fn call_back(&self, reply: &Reply, response: Response) -> Result<(), ChatError> {
        let path = format!("/interactions/{}/{}/callback", reply.id, reply.token);
        match response.file {
            None => self.api.send("the answer", Method::POST, &path, &response.body).await,
            Some(file) => {
                let body = with_file(response.body, "/data/attachments", &file);
                self.api.send_file("the answer", Method::POST, &path, body).await
            }
        }
    }

    /// Brings an answer that took longer than Discord waits.
    pub(super) async fn answer_late(&self, reply: &Reply, answer: Answer) {
        let mut said = match answer {
            Answer::Say(said) => *said,
            Answer::Silent => Say::default(),
            Answer::AskReason { .. } => Say {
                text: "Nothing was decided: it took too long to open the form for the reason. Click again.".to_owned(),
                ..Say::default()
            },
        };
        let file = said.file.take();
        let edit = json!(Parts::of(&said).edit());
        let path = format!(
            "/webhooks/{}/{}/messages/@original",
            self.guild.application, reply.token
        );
        for number in 1..=TRIES {
            tokio::time::sleep(PAUSE * number).await;
            let brought = match &file {
                None => self.api.send("the late answer", Method::PATCH, &path, &edit).await,
                Some(file) => {
                    let body = with_file(edit.clone(), "/attachments", file);
                    self.api.send_file("the late answer", Method::PATCH, &path, body).await
                }
            };
            match brought {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(guild = self.guild.guild, %error, "an answer in Discord could not be shown")
                }
            }
        }
    }
}

/// A body with a file beside it. <https://discord.com/developers/docs/reference#uploading-files>
fn with_file(mut body: Value, attachments: &str, file: &File) -> Multipart {
    // Neither quotes nor line ends, which would end the header that it stands in.
    let is_plain = |letter: &char| letter.is_ascii_alphanumeric() || "-_.".contains(*letter);
    let name: String = file.name.chars().filter(is_plain).collect();
    let (parent, key) = attachments.rsplit_once('/').unwrap_or_default();
    if let Some(parent) = body.pointer_mut(parent).and_then(Value::as_object_mut) {
        parent.insert(key.to_owned(), json!([{"id": 0, "filename": name}]));
    }
    let json = body.to_string();
    // What is not known before the bytes are cannot stand in them.
    let boundary = Digest::of(&[json.as_bytes(), &file.bytes].concat()).to_string();
    let mut bytes = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"payload_json\"\r\ncontent-type: application/json\r\n\r\n\
         {json}\r\n--{boundary}\r\ncontent-disposition: form-data; name=\"files[0]\"; filename=\"{name}\"\r\n\
         content-type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(&file.bytes);
    bytes.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    Multipart { boundary, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(answer: Answer, origin: Origin) -> Value {
        Response::of(First::Answer(answer), origin).body
    }

    #[test]
    fn an_answer_is_seen_by_the_person_alone_and_mentions_nobody() {
        let said = body(Answer::say("@everyone"), Origin::Click);
        assert_eq!((&said["type"], &said["data"]["flags"]), (&json!(4), &json!(64)));
        assert_eq!(said["data"]["allowed_mentions"]["parse"], json!([]));
        assert_eq!(said["data"]["content"], "\\@everyone");
    }

    #[test]
    fn each_kind_of_answer_has_its_type() {
        let approval = "QJF6HN4C".parse().unwrap();
        for (first, origin, kind) in [
            (First::Pong, Origin::Command, 1),
            (First::Later, Origin::Click, 5),
            (First::Answer(Answer::Silent), Origin::Click, 6),
            (First::Answer(Answer::Silent), Origin::Form, 6),
            (First::Answer(Answer::Silent), Origin::Command, 4),
            (First::Answer(Answer::Silent), Origin::FormOfCommand, 4),
            (First::Answer(Answer::say("x")), Origin::Form, 4),
        ] {
            assert_eq!(Response::of(first, origin).body["type"], kind);
        }
        let form = body(Answer::AskReason { approval }, Origin::Click);
        assert_eq!(
            (&form["type"], &form["data"]["custom_id"]),
            (&json!(9), &json!("deny:QJF6HN4C"))
        );
        let approval = "QJF6HN4C".parse().unwrap();
        assert_eq!(body(Answer::AskReason { approval }, Origin::Form)["type"], 4);
    }

    #[test]
    fn a_file_stands_beside_its_answer_and_its_name_ends_nothing() {
        let file = File {
            name: "audit\"\r\nx: y.csv".to_owned(),
            bytes: b"who,what\r\n".to_vec(),
        };
        let body = with_file(json!({"type": 4, "data": {"content": "x"}}), "/data/attachments", &file);
        let text = String::from_utf8(body.bytes).unwrap();
        let parts: Vec<&str> = text.split(&format!("--{}", body.boundary)).collect();
        let [before, json, file, after] = parts.as_slice() else {
            panic!("{text}");
        };
        assert_eq!((*before, *after), ("", "--\r\n"));
        assert!(
            json.contains(r#""attachments":[{"id":0,"filename":"auditxy.csv"}]"#),
            "{json}"
        );
        assert!(
            file.contains("filename=\"auditxy.csv\"") && file.ends_with("\r\n\r\nwho,what\r\n\r\n"),
            "{file}"
        );
    }
}
