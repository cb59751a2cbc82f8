//! `GET /api/v1/sessions`: the sessions that live now, or those of the journal.

use super::Console;
use super::caller::{Caller, Query};
use super::moment::moment;
use super::problem::Problem;
use super::search_audit::note_reading;
use super::view::{ClientShape, PersonShape};
use crate::sessions::{LiveSession, LiveState};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use countersign_infra::domain::access_request::{Client, Protocol};
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::id::SessionId;
use countersign_infra::domain::identity::Person;
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::journal::JournalQuery;
use countersign_infra::policy::GatewayAction;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

#[derive(Debug, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// `true` for the sessions of the journal, past ones too; else those that live in this gateway.
    #[serde(default)]
    all: bool,
    /// With `all`: `24h`, `7d`, or RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// At most this many: 100 unless said otherwise, 1000 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    /// With `all`: `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionView {
    #[schema(value_type = String)]
    pub id: SessionId,
    pub gateway: String,
    /// `postgres`.
    #[schema(value_type = String)]
    pub protocol: Protocol,
    #[schema(value_type = PersonShape)]
    pub person: Person,
    #[schema(value_type = ClientShape)]
    pub client: Client,
    pub target: String,
    pub database: String,
    pub role: String,
    pub opened: DateTime<Utc>,
    /// `idle`, `running` or `held`; none when it does not live in this gateway.
    pub state: Option<String>,
    /// Since when it is in that state.
    pub since: Option<DateTime<Utc>>,
    /// What it waits for when it is held.
    pub approval: Option<String>,
}

/// Sessions, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionList {
    pub sessions: Vec<SessionView>,
    /// The value of `after` for the next page; none when this is the last.
    pub next: Option<String>,
}

/// Lists sessions: the caller's own, and everybody's for those whom the policy lets watch (live) or audit (all).
#[utoipa::path(
    get, path = "/api/v1/sessions", params(Filter),
    responses(
        (status = 200, body = SessionList),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn list_sessions(
    State(console): State<Arc<Console>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<SessionList>, Problem> {
    let limit = filter.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let right = if filter.all {
        GatewayAction::Audit
    } else {
        GatewayAction::Watch
    };
    let sees_all = console.allows(&caller.0, right);
    let mut list = match filter.all {
        true => past(&console, &caller, filter, limit, sees_all).await?,
        false => live(&console),
    };
    list.sessions
        .retain(|session| sees_all || caller.is(&session.person.key));
    list.sessions.truncate(limit);
    Ok(Json(list))
}

fn live(console: &Console) -> SessionList {
    let sessions = console
        .sessions
        .list()
        .into_iter()
        .rev()
        .map(SessionView::live)
        .collect();
    SessionList { sessions, next: None }
}

async fn past(
    console: &Console,
    caller: &Caller,
    filter: Filter,
    limit: usize,
    sees_all: bool,
) -> Result<SessionList, Problem> {
    if sees_all {
        let asked = serde_json::to_string(&filter).map_err(Problem::bad_request)?;
        note_reading(console, caller, format!("sessions {asked}")).await?;
    }
    let since = filter
        .since
        .map(|text| moment("since", &text, Utc::now()))
        .transpose()?;
    let query = JournalQuery {
        who: (!sees_all).then(|| caller.0.key.subject.clone()),
        since,
        events: vec!["session_opened".to_owned()],
        limit,
        after: filter.after,
        ..JournalQuery::default()
    };
    let page = console.reader.search(&query).await?;
    let opened = page.events.into_iter().filter_map(|event| {
        let Happening::SessionOpened { header } = event.what else {
            return None;
        };
        Some(header)
    });
    let seen = opened.map(|header| match console.sessions.find(header.id) {
        Some(live) => SessionView::live(live),
        None => SessionView::past(header),
    });
    Ok(SessionList {
        sessions: seen.collect(),
        next: page.next,
    })
}

impl SessionView {
    fn live(session: LiveSession) -> Self {
        let (state, approval) = match session.state {
            LiveState::Idle => ("idle", None),
            LiveState::Running => ("running", None),
            LiveState::Held { approval } => ("held", Some(approval.into())),
        };
        Self {
            state: Some(state.to_owned()),
            since: Some(session.since),
            approval,
            ..Self::past(session.header)
        }
    }

    fn past(header: SessionHeader) -> Self {
        Self {
            id: header.id,
            gateway: header.gateway,
            protocol: header.protocol,
            person: header.person,
            client: header.client,
            target: header.target,
            database: header.database,
            role: header.role,
            opened: header.opened,
            state: None,
            since: None,
            approval: None,
        }
    }
}
