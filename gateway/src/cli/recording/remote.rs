//! What a gateway's API says of recordings and digests.

use crate::catalog::RecordingPage;
use crate::cli::client::{ClientError, GatewayClient};
use crate::console::{DigestList, LinkList, RecordingFacts};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{NaiveDate, SecondsFormat};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::audit::Event;
use countersign_infra::domain::id::SessionId;
use countersign_infra::journal::{JournalQuery, Page};
use serde::Deserialize;
use std::time::Duration;

#[derive(Deserialize)]
struct Events {
    events: Vec<Event>,
    next: Option<String>,
}

impl GatewayClient {
    /// Says how many chunks a recording has, its manifest (none while the session lives), and the public keys that the
    /// gateway knows, in PEM.
    pub async fn recording(&self, session: SessionId) -> Result<(u64, Option<Bytes>, Vec<String>), ClientError> {
        let facts: RecordingFacts = self.read(&format!("/api/v1/sessions/{session}/recording"), &[]).await?;
        let manifest = facts.manifest.map(|text| STANDARD.decode(text)).transpose();
        let manifest = manifest.map_err(|error| self.strange(format!("the manifest is not base 64: {error}")))?;
        let keys = if facts.keys.is_empty() {
            vec![facts.key]
        } else {
            facts.keys
        };
        Ok((facts.chunks, manifest.map(Bytes::from), keys))
    }

    /// Reads one chunk of a recording as it is stored.
    pub async fn chunk(&self, session: SessionId, number: u64) -> Result<Bytes, ClientError> {
        self.fetch(&format!("/api/v1/sessions/{session}/recording/{number}"))
            .await
    }

    /// Searches the journal.
    pub async fn search(&self, query: &JournalQuery) -> Result<Page, ClientError> {
        let moment = |at: Option<Timestamp>| at.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true));
        let fields = [
            ("who", query.who.clone()),
            ("target", query.target.clone()),
            ("since", moment(query.since)),
            ("until", moment(query.until)),
            (
                "event",
                Some(query.events.join(",")).filter(|events| !events.is_empty()),
            ),
            ("text", query.text.clone()),
            ("limit", Some(query.limit.to_string())),
            ("after", query.after.clone()),
        ];
        let fields: Vec<_> = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let Events { events, next } = self.read("/api/v1/audit", &fields).await?;
        Ok(Page { events, next })
    }

    /// The names of a day's digests, the public keys that the gateway knows, and how long its journal keeps events.
    pub async fn digests(&self, day: NaiveDate) -> Result<DigestList, ClientError> {
        self.read("/api/v1/digests", &[("day", day.to_string())]).await
    }

    /// Reads one digest as it is stored.
    pub async fn digest(&self, day: NaiveDate, name: &str) -> Result<Bytes, ClientError> {
        self.fetch(&format!("/api/v1/digests/{day}/{name}")).await
    }

    pub async fn recordings(
        &self,
        day: NaiveDate,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<RecordingPage, ClientError> {
        let mut query = vec![("day", day.to_string()), ("limit", limit.to_string())];
        query.extend(after.map(|after| ("after", after.to_string())));
        self.read("/api/v1/recordings", &query).await
    }

    pub async fn links(&self, session: SessionId, valid: Duration, from: u64) -> Result<LinkList, ClientError> {
        let query = [
            ("valid_seconds", valid.as_secs().to_string()),
            ("from", from.to_string()),
        ];
        self.read(&format!("/api/v1/sessions/{session}/recording/links"), &query)
            .await
    }
}
