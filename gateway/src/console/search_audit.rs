//! `GET /api/v1/audit`: searches the journal.

use super::Console;
use super::caller::{Caller, Query};
use super::moment::moment;
use super::problem::Problem;
use super::texts::{FILTER_CHARS_MAX, approval_id, plain};
use super::view::EventPageShape;
use axum::Json;
use axum::extract::State;
use chrono::Utc;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::audit::Happening;
use countersign_infra::journal::{JournalQuery, Page};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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
    /// `30m`, `24h`, `7d`, or RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// As `since`.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// Names of happenings with commas between them: `asked,refused`.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    /// A text that the operation, message or reason contains.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// An approval's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<String>,
    /// At most this many: 100 unless said otherwise, 1000 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    /// `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

/// Finds events of the journal, newest first. That somebody searched is itself journaled before the answer.
#[utoipa::path(
    get, path = "/api/v1/audit", params(Filter),
    responses(
        (status = 200, body = EventPageShape),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn search_audit(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Page>, Problem> {
    caller.must_audit(&console)?;
    let asked = serde_json::to_string(&filter).map_err(Problem::bad_request)?;
    let query = filter.into_query(Utc::now())?;
    note_reading(&console, &caller, format!("audit {asked}")).await?;
    Ok(Json(console.reader.search(&query).await?))
}

/// Journals that somebody reads a part of the audit.
pub(super) async fn note_reading(console: &Console, caller: &Caller, query: String) -> Result<(), Problem> {
    let noted = console.journal.note(&caller.0, Happening::AuditQueried { query }).await;
    noted.map_err(Problem::unavailable)
}

impl Filter {
    fn into_query(self, now: Timestamp) -> Result<JournalQuery, Problem> {
        let texts = [
            ("who", &self.who),
            ("target", &self.target),
            ("event", &self.event),
            ("text", &self.text),
            ("after", &self.after),
        ];
        for (what, text) in texts {
            plain(what, text.as_deref().unwrap_or_default(), FILTER_CHARS_MAX)?;
        }
        let time = |what, text: Option<String>| text.map(|text| moment(what, &text, now)).transpose();
        Ok(JournalQuery {
            since: time("since", self.since)?,
            until: time("until", self.until)?,
            events: events(self.event.as_deref().unwrap_or_default())?,
            approval: self.approval.map(|id| approval_id(&id)).transpose()?.map(String::from),
            who: self.who,
            target: self.target,
            text: self.text,
            session: None,
            limit: self.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX),
            after: self.after,
        })
    }
}

/// A name that is none would find nothing, and look like "nothing happened".
fn events(text: &str) -> Result<Vec<String>, Problem> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let known = |name: &str| match Happening::NAMES.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(Problem::bad_request(format!(
            "`event`: there is no {name:?}; there are {}",
            Happening::NAMES.join(", ")
        ))),
    };
    names.map(known).collect()
}
