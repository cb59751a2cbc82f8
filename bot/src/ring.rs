//! `POST /ring`: a gateway says that an approval is to be looked at. The id is all it says: the store is asked for the rest.

use crate::announce::{AnnounceError, Announcer, Shown};
use crate::chat::inbound::{Counters, Turned};
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use chrono::Utc;
use countersign_infra::approvals::StoreError;
use countersign_infra::ring::{
    BODY_BYTES_MAX, PATH, Ring, RingAnswer, RingKey, RingRefused, SIGNATURE_HEADER, TIME_HEADER,
};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// How long one ring waits for the chats; the work goes on after the answer. Gateways give up after 5 s, of which a
/// function's start may take the rest. One that has given up rings again after a growing pause, and finds done what was
/// done meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_millis(2500);

/// What answers rings.
pub struct Bell {
    pub announcer: Arc<Announcer>,
    pub key: RingKey,
    pub tasks: TaskTracker,
    counters: Counters,
}

impl Bell {
    pub fn new(announcer: Arc<Announcer>, key: RingKey, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            announcer,
            key,
            tasks,
            counters: Counters::default(),
        })
    }
}

pub fn router(bell: Arc<Bell>) -> Router {
    Router::new()
        .route(PATH, post(ring))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(bell)
}

async fn ring(State(bell): State<Arc<Bell>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let verified = bell
        .key
        .verify(Utc::now(), header(TIME_HEADER), header(SIGNATURE_HEADER), &body);
    if let Err(why) = verified {
        let turned = match why {
            RingRefused::Time => Turned::Malformed,
            RingRefused::Age => Turned::Stale,
            RingRefused::Signature => Turned::Tampered,
        };
        bell.counters.turn_away("ring", turned);
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Ok(Ring { approval }) = serde_json::from_slice(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let announcer = bell.announcer.clone();
    let id = approval.clone();
    let announced = bell.tasks.spawn(async move { announcer.announce(&id).await });
    match tokio::time::timeout(ANSWER_WITHIN, announced).await {
        Ok(Ok(Ok(shown))) => answer(shown),
        Ok(Ok(Err(AnnounceError::Approvals(StoreError::NotFound(_))))) => StatusCode::NOT_FOUND.into_response(),
        Ok(Ok(Err(error))) => {
            tracing::warn!(%approval, %error, "an approval could not be announced");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        Ok(Err(error)) => {
            tracing::error!(%approval, %error, "an approval was not announced");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        // It goes on.
        Err(_) => answer(Shown { places: 1, shown: 0 }),
    }
}

fn answer(shown: Shown) -> Response {
    let status = match shown.everywhere() {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let answer = RingAnswer {
        places: count(shown.places),
        shown: count(shown.shown),
    };
    (status, Json(answer)).into_response()
}
