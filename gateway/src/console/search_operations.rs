//! `GET /api/v1/audit/operations`: what was asked, by whom, and what became of it.

use super::Console;
use super::caller::{Caller, Query};
use super::moment::moment;
use super::problem::Problem;
use super::search_audit::note_reading;
use super::texts::{FILTER_CHARS_MAX, approval_id, plain, session_id};
use super::view::{OutcomeShape, PersonKeyShape, PlaceShape};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use countersign_infra::domain::Timestamp;
use countersign_infra::journal::words::states;
use countersign_infra::journal::{JournalExt, OperationPage, OperationQuery};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

#[derive(Debug, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// A person's name, e-mail address or subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Asked since then: `30m`, `24h`, `7d`, or RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// As `since`.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// States with commas between them: `denied,expired`.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// A text that the beginning of what is shown of the operation contains, in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// An approval's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<String>,
    /// A session's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    /// At most this many: 100 unless said otherwise, 1000 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    /// `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

/// A page of operations, newest first. It may hold fewer than were asked for, or none, though more follow.
#[derive(Serialize, ToSchema)]
#[schema(as = OperationPage)]
pub struct OperationPageShape {
    pub operations: Vec<AuditedOperationShape>,
    /// The value of `after` for the next page; none when this is the last.
    pub next: Option<String>,
}

/// An operation, and what became of it.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditedOperation)]
pub struct AuditedOperationShape {
    session: String,
    /// The number of the event by which it was asked.
    seq: u64,
    at: DateTime<Utc>,
    gateway: String,
    person: Option<PersonKeyShape>,
    person_name: Option<String>,
    target: Option<String>,
    /// The SHA-256 of what would run.
    operation: String,
    /// The beginning of what is shown of it: at most 16 KiB.
    display: String,
    display_bytes: u64,
    effects: BTreeMap<String, Vec<String>>,
    place: PlaceShape,
    in_transaction: bool,
    state: OperationStateShape,
    ended: Option<DateTime<Utc>>,
    /// `allow`, `deny` or `hold`.
    verdict: Option<String>,
    rules: Vec<String>,
    reasons: Vec<String>,
    approval: Option<String>,
    deadline: Option<DateTime<Utc>>,
    /// Names of those who approved it, or of who denied it.
    decided_by: Vec<String>,
    /// What the client was told when it was refused.
    message: Option<String>,
    outcome: Option<OutcomeShape>,
    /// Size of the answer.
    bytes: Option<u64>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OperationState)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "described, never made")]
pub enum OperationStateShape {
    Allowed,
    Pending,
    Executing,
    Done,
    Failed,
    Denied,
    Expired,
    Withdrawn,
    Abandoned,
    Revoked,
    Unknown,
    Refused,
}

/// Finds operations, newest first. That somebody searched is itself journaled before the answer.
#[utoipa::path(
    get, path = "/api/v1/audit/operations", params(Filter),
    responses(
        (status = 200, body = OperationPageShape),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn search_operations(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<OperationPage>, Problem> {
    caller.must_audit(&console)?;
    let asked = serde_json::to_string(&filter).map_err(Problem::bad_request)?;
    let query = filter.into_query(Utc::now())?;
    note_reading(&console, &caller, format!("operations {asked}")).await?;
    Ok(Json(console.reader.operations(&query).await?))
}

impl Filter {
    fn into_query(self, now: Timestamp) -> Result<OperationQuery, Problem> {
        let texts = [
            ("who", &self.who),
            ("target", &self.target),
            ("text", &self.text),
            ("state", &self.state),
            ("after", &self.after),
        ];
        for (what, text) in texts {
            plain(what, text.as_deref().unwrap_or_default(), FILTER_CHARS_MAX)?;
        }
        let time = |what, text: Option<String>| text.map(|text| moment(what, &text, now)).transpose();
        let in_states = states(self.state.as_deref().unwrap_or_default());
        Ok(OperationQuery {
            since: time("since", self.since)?,
            until: time("until", self.until)?,
            states: in_states.map_err(|error| Problem::bad_request(format!("`state`: {error}")))?,
            approval: self.approval.map(|id| approval_id(&id)).transpose()?.map(String::from),
            session: self.session.map(|id| session_id(&id)).transpose()?,
            who: self.who,
            target: self.target,
            text: self.text,
            limit: self.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX),
            after: self.after,
        })
    }
}
