//! Every answer that is not the wanted one, as `application/problem+json` (RFC 9457).

use super::guard::RequestId;
use super::view::ApprovalView;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{StatusCode, header::HeaderName};
use axum::response::{IntoResponse, Response};
use countersign_infra::approvals::{ClockOff, StoreError};
use countersign_infra::journal::JournalError;
use countersign_infra::operations::OperationError;
use countersign_infra::recordings::RecordingError;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// What went wrong, worded for the caller.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// Names the kind of problem: `urn:countersign:problem:...`.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// The request's id, under which the log knows more.
    #[serde(default)]
    pub id: String,
    /// What the approval is now, where a change of it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<super::view::ApprovalShape>)]
    pub approval: Option<Box<ApprovalView>>,
}

const DAMAGED: &str = "damaged";

fn urn(kind: &str) -> String {
    format!("urn:countersign:problem:{kind}")
}

impl Problem {
    fn new(status: StatusCode, kind: &str, title: &str, detail: impl Display) -> Self {
        Self {
            kind: urn(kind),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.to_string(),
            id: String::new(),
            approval: None,
        }
    }

    pub fn bad_request(detail: impl Display) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad-request",
            "The request is not understood",
            detail,
        )
    }

    pub fn not_signed_in(detail: impl Display) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not-signed-in", "Not signed in", detail)
    }

    pub fn not_allowed(detail: impl Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not-allowed", "Not allowed", detail)
    }

    pub fn not_found(detail: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    pub fn method_not_allowed() -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(
            status,
            "method",
            "Method not allowed",
            "this address does not know the method",
        )
    }

    /// The change was refused; `approval` is what stands.
    pub fn refused(detail: impl Display, approval: Option<ApprovalView>) -> Self {
        let problem = Self::new(StatusCode::CONFLICT, "refused", "Refused", detail);
        Self {
            approval: approval.map(Box::new),
            ..problem
        }
    }

    /// What is stored is not what was written. Repeating the request does not help.
    pub fn damaged(detail: impl Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, DAMAGED, "Damaged", detail)
    }

    /// Whether it says that something stored was changed or lost.
    pub fn is_damage(&self) -> bool {
        self.kind == urn(DAMAGED)
    }

    /// Something that the gateway needs does not answer. The request may be repeated.
    pub fn unavailable(detail: impl Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Unavailable", detail)
    }

    /// A request that an extractor refused, under the extractor's own status.
    pub fn unreadable(status: StatusCode, detail: impl Display) -> Self {
        let title = status.canonical_reason().unwrap_or("The request is not understood");
        Self::new(status, "bad-request", title, detail)
    }

    /// Names the request that it answers.
    pub(super) fn with_id(mut self, id: &RequestId) -> Self {
        self.id = id.to_string();
        self
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(id) => Self::not_found(format!("there is no approval {id}")),
            StoreError::Conflict { .. } => {
                Self::refused("the approval changed in the meantime: look at it again", None)
            }
            error @ StoreError::Taken { .. } => {
                tracing::error!(%error, "the journal has another writer");
                Self::unavailable("the decision could not be journaled; look at the approval before you try again")
            }
            StoreError::Damaged { id, why } => {
                tracing::error!(approval = %id, why, "an approval is damaged in the store");
                Self::damaged(format!(
                    "approval {id} is damaged in the store ({why}): nothing is done with it"
                ))
            }
            StoreError::Unavailable { source } => {
                tracing::warn!(error = %source, "the approval store is unavailable");
                Self::unavailable("the approval store does not answer; try again")
            }
        }
    }
}

impl From<ClockOff> for Problem {
    fn from(error: ClockOff) -> Self {
        match error {
            ClockOff::Off { .. } => {
                tracing::error!(%error, "nothing is decided here until the clock is set");
                Self::unavailable(error)
            }
            ClockOff::Unknown(error) => error.into(),
        }
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::BadQuery(why) => Self::bad_request(why),
            JournalError::Damaged { session, seq, why } => {
                tracing::error!(%session, seq, why, "the journal is damaged");
                Self::damaged(format!(
                    "event {seq} of session {session} is damaged in the journal: {why}"
                ))
            }
            other @ (JournalError::Taken { .. } | JournalError::Unavailable { .. }) => {
                tracing::warn!(error = %other, "the journal is unavailable");
                Self::unavailable("the journal does not answer; try again")
            }
        }
    }
}

impl From<RecordingError> for Problem {
    fn from(error: RecordingError) -> Self {
        match error {
            RecordingError::NotFound(session) => Self::not_found(format!("there is no such recording of {session}")),
            RecordingError::NoDigest(digest) => Self::not_found(format!("there is no digest {digest}")),
            other @ (RecordingError::Exists(_) | RecordingError::Invalid(_) | RecordingError::Unavailable { .. }) => {
                tracing::warn!(error = %other, "the recording store is unavailable");
                Self::unavailable("the recording store does not answer; try again")
            }
        }
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::NotFound(digest) => Self::not_found(format!("the whole of operation {digest} is not kept")),
            error @ OperationError::Damaged { .. } => {
                tracing::error!(%error, "an operation is damaged in the store");
                Self::damaged(error)
            }
            error @ OperationError::OtherKey { .. } => {
                tracing::error!(%error, "an operation was encrypted with another key");
                Self::unavailable(error)
            }
            other @ (OperationError::TooLarge { .. } | OperationError::Unavailable { .. }) => {
                tracing::warn!(error = %other, "the store of operations is unavailable");
                Self::unavailable("the store of operations does not answer; try again")
            }
        }
    }
}

/// Marks a response that holds a problem, so that the guard can put the request's id into it.
#[derive(Clone)]
pub(super) struct Marked(pub Problem);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        let mut put = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
        put(CONTENT_TYPE, "application/problem+json");
        if status == StatusCode::UNAUTHORIZED {
            put(WWW_AUTHENTICATE, "Bearer");
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            put(RETRY_AFTER, "1");
        }
        if self.id.is_empty() {
            response.extensions_mut().insert(Marked(self));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_infra::domain::id::SessionId;

    #[test]
    fn damage_is_told_apart_from_absence_and_from_a_store_that_is_down() {
        let session = SessionId(uuid::Uuid::nil());
        let down = || Box::new(std::io::Error::other("disk")) as Box<dyn std::error::Error + Send + Sync>;
        let why = "its hash differs".to_owned();
        for (problem, status, is_damage) in [
            (Problem::from(JournalError::Damaged { session, seq: 3, why }), 500, true),
            (Problem::from(JournalError::Taken { session, seq: 3 }), 503, false),
            (Problem::from(JournalError::Unavailable { source: down() }), 503, false),
            (Problem::from(JournalError::BadQuery("page".to_owned())), 400, false),
            (Problem::from(StoreError::Unavailable { source: down() }), 503, false),
            (Problem::from(RecordingError::NotFound(session)), 404, false),
            (
                Problem::from(RecordingError::Unavailable { source: down() }),
                503,
                false,
            ),
        ] {
            assert_eq!(
                (problem.status, problem.is_damage()),
                (status, is_damage),
                "{problem:?}"
            );
            assert!(
                !problem.detail.contains("disk"),
                "what is inside stays in the log: {problem:?}"
            );
        }
    }
}
