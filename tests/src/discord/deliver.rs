//! How what people do reaches the bot: by the sessions of the Gateway, or as a signed request.
//! <https://discord.com/developers/docs/interactions/overview#setting-up-an-endpoint-validating-security-request-headers>

use super::interactions::ANSWER_LIMIT;
use super::rest::Arrived;
use super::state::random;
use super::{Discord, Shared};
use crate::chat::{Answer, Seal, read};
use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use chrono::Utc;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;
use url::Url;

/// An interaction on its way, and its token.
pub(super) struct Sent {
    pub token: String,
    pub body: Value,
}

impl Discord {
    /// Does what Discord does before it takes an endpoint: a ping must be answered, and one with a bad signature must be
    /// refused.
    pub async fn probe(&self) -> Result<()> {
        let url = self.endpoint()?;
        let ping = json!({"id": "1", "application_id": super::APPLICATION, "type": 1, "token": random(), "version": 1,
            "entitlements": [], "attachment_size_limit": 10_485_760});
        let answer = read(self.shared.send(url.clone(), &ping, Seal::Good).await?, 1).await?;
        ensure!(
            answer.status == 200 && answer.body["type"] == 1,
            "the ping was answered by {answer:?}"
        );
        let answer = self.shared.send(url, &ping, Seal::Forged).await?;
        ensure!(
            answer.status() == 401,
            "a bad signature was answered by {}",
            answer.status()
        );
        Ok(())
    }

    /// Signs a body as of now: the moment, and the signature.
    pub fn sign(&self, body: &str) -> (String, String) {
        let stamp = Utc::now().timestamp().to_string();
        let signature = self.shared.key.sign(format!("{stamp}{body}").as_bytes());
        (stamp, hex::encode(signature))
    }

    fn endpoint(&self) -> Result<Url> {
        let endpoint = self.shared.settings().endpoint.clone();
        endpoint.context("there is no endpoint")
    }

    pub(super) async fn deliver(&self, sent: Sent) -> Result<Answer> {
        let endpoint = self.shared.settings().endpoint.clone();
        match endpoint {
            Some(url) => self.shared.by_request(url, sent).await,
            None => self.shared.by_gateway(sent).await,
        }
    }
}

impl Shared {
    /// Every session hears of it, as those of one shard do.
    async fn by_gateway(&self, sent: Sent) -> Result<Answer> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.lock();
            state.waiting.insert(sent.token.clone(), answer);
            for session in &mut state.sessions {
                session.dispatch("INTERACTION_CREATE", &sent.body);
            }
        }
        let answer = timeout(ANSWER_LIMIT, answered).await;
        self.lock().waiting.remove(&sent.token);
        answer
            .context("the application did not respond")?
            .context("nobody can answer")
    }

    /// An answer in the response, or by the callback after a 202.
    async fn by_request(&self, url: Url, sent: Sent) -> Result<Answer> {
        let (answer, answered) = oneshot::channel();
        self.lock().waiting.insert(sent.token.clone(), answer);
        let seal = self.settings().seal;
        let response = self.send(url, &sent.body, seal).await?;
        if response.status() == 202 {
            let answer = timeout(ANSWER_LIMIT, answered).await;
            return answer
                .context("the application did not respond")?
                .context("nobody can answer");
        }
        self.lock().waiting.remove(&sent.token);
        let said = read(response, 1).await?;
        if said.status == 200 {
            let arrived = Arrived {
                body: said.body.clone(),
                files: Vec::new(),
            };
            let taken = self.lock().answer(&sent.token, arrived);
            if taken.is_err() {
                bail!("Discord does not take this answer: {}", said.body);
            }
        }
        Ok(said)
    }

    async fn send(&self, url: Url, body: &Value, seal: Seal) -> Result<Response> {
        let body = body.to_string();
        let (age, other) = match seal {
            Seal::Good => (0, None),
            Seal::Forged => (0, Some(Ed25519KeyPair::generate()?)),
            Seal::Aged(age) => (i64::try_from(age.as_secs())?, None),
            Seal::None => (0, None),
        };
        let stamp = (Utc::now().timestamp() - age).to_string();
        let key = other.as_ref().unwrap_or(&self.key);
        let signature = hex::encode(key.sign(format!("{stamp}{body}").as_bytes()));
        let mut request = self.client.post(url).timeout(ANSWER_LIMIT);
        request = request.header("content-type", "application/json");
        request = request.header("user-agent", "Discord-Interactions/1.0 (+https://discord.com)");
        if seal != Seal::None {
            request = request.header("x-signature-timestamp", stamp);
            request = request.header("x-signature-ed25519", signature);
        }
        Ok(request.body(body).send().await?)
    }

    pub(super) fn public_key(&self) -> String {
        hex::encode(self.key.public_key())
    }
}
