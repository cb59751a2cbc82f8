//! Answers, brought to where the request came from.

use super::client::SlackChat;
use super::request::Reply;
use super::say;
use crate::chat::{Answer, ChatError, File, Say};
use countersign_infra::domain::id::ApprovalId;
use serde::Deserialize;
use serde_json::{Value, json};
use slack_morphism::prelude::*;

impl SlackChat {
    /// Does what an answer asks for: opens a form, hands over a file. Returns what is left to be said.
    pub(super) async fn act(&self, reply: &Reply, answer: Answer) -> Option<Say> {
        match answer {
            Answer::Silent => None,
            Answer::AskReason { approval } => self.ask_reason(reply, &approval).await,
            Answer::Say(mut say) => {
                if let Some(file) = say.file.take() {
                    let told = self.hand_over(&reply.user, file).await;
                    say.text = format!("{}\n{told}", say.text);
                }
                Some(*say)
            }
        }
    }

    /// Says something to one person: in answer to the request, else in its channel, else directly.
    pub(super) async fn tell(&self, reply: &Reply, said: &Say) {
        let message = say::message(said);
        let mut outcome = Err(ChatError::Refused("there is no way to answer".to_owned()));
        if let Some(url) = reply.url.as_ref().filter(|url| self.workspace.leads_to_slack(url)) {
            outcome = self.api.respond(url.clone(), message.clone()).await;
        }
        if let (Err(_), Some(channel)) = (&outcome, &reply.channel) {
            outcome = self.whisper(channel, &reply.user, message.clone()).await;
        }
        if outcome.is_err() {
            outcome = self.write(&reply.user, message).await;
        }
        if let Err(error) = outcome {
            tracing::warn!(team = self.workspace.team, user = reply.user, %error, "an answer in Slack could not be shown");
        }
    }

    async fn whisper(&self, channel: &str, user: &str, content: SlackMessageContent) -> Result<(), ChatError> {
        let request = SlackApiChatPostEphemeralRequest::new(channel.into(), user.into(), content);
        let _: Value = self.api.post("chat.postEphemeral", &request).await?;
        Ok(())
    }

    async fn write(&self, user: &str, content: SlackMessageContent) -> Result<(), ChatError> {
        let channel = self.direct(user).await?;
        let request = SlackApiChatPostMessageRequest::new(channel.into(), content);
        let _: Value = self.api.post("chat.postMessage", &request).await?;
        Ok(())
    }

    async fn ask_reason(&self, reply: &Reply, approval: &ApprovalId) -> Option<Say> {
        let opened: Result<Value, ChatError> = match &reply.trigger {
            None => Err(ChatError::Refused("click again".to_owned())),
            Some(trigger) => {
                let request = json!({"trigger_id": trigger, "view": say::reason_form(approval)});
                self.api.post("views.open", &request).await
            }
        };
        let error = opened.err()?;
        let text = format!("Nothing was decided: the form for the reason could not be opened: {error}.");
        Some(Say { text, ..Say::default() })
    }

    /// Puts a file into the person's direct messages; returns what to say of it.
    async fn hand_over(&self, user: &str, file: File) -> String {
        let name = file.name.clone();
        match self.put(user, file).await {
            Ok(()) => format!("{name} is in your direct messages with this app."),
            Err(error) => format!("{name} could not be handed over: {error}. Ask for it again."),
        }
    }

    /// <https://docs.slack.dev/messaging/working-with-files#uploading_files>
    async fn put(&self, user: &str, file: File) -> Result<(), ChatError> {
        let length = file.bytes.len().to_string();
        let parameters = [("filename", file.name.as_str()), ("length", length.as_str())];
        let place: Place = self.api.get("files.getUploadURLExternal", &parameters).await?;
        let url = place
            .upload_url
            .parse()
            .ok()
            .filter(|url| self.workspace.leads_to_slack(url));
        let elsewhere = || ChatError::Refused("Slack named a place for it that is not Slack's".to_owned());
        self.api.upload(url.ok_or_else(elsewhere)?, file.bytes).await?;
        let channel = self.direct(user).await?;
        let request = json!({"files": [{"id": place.file_id, "title": file.name}], "channel_id": channel});
        let _: Value = self.api.post("files.completeUploadExternal", &request).await?;
        Ok(())
    }
}

#[derive(Deserialize)]
struct Place {
    upload_url: String,
    file_id: String,
}
