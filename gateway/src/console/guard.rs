//! What stands around every request: its id, its bounds, the security headers, and its one log line.

use super::Console;
use super::pages::{error_page, wants_page};
use super::problem::{Marked, Problem};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// The gateway's own id of a request. What a client sends under that name is ignored.
#[derive(Clone, Debug)]
pub struct RequestId(uuid::Uuid);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// Who asked, for the log line: set once the token is checked.
#[derive(Clone, Debug, Default)]
pub struct AskedBy(Arc<OnceLock<String>>);

impl AskedBy {
    pub fn set(&self, person: String) {
        self.0.get_or_init(|| person);
    }
}

const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Runs one request within the API's bounds.
pub async fn guard(State(console): State<Arc<Console>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId(uuid::Uuid::now_v7());
    let asked_by = AskedBy::default();
    let as_page = wants_page(request.uri().path(), request.headers());
    let (method, path) = (request.method().clone(), to_log(request.uri().path()).to_owned());
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(asked_by.clone());

    let response = name_problem(bounded(&console, request, next).await, &id, as_page);
    let response = with_headers(response, &id);
    tracing::info!(
        request = %id,
        %method,
        path,
        status = response.status().as_u16(),
        ms = started.elapsed().as_millis() as u64,
        person = asked_by.0.get().map_or("-", String::as_str),
        "answered a request"
    );
    response
}

/// A path as the log may have it: what stands behind these words is a secret.
fn to_log(path: &str) -> &str {
    let secret = ["/link/", "/confirm/", "/connect/"]
        .into_iter()
        .find(|word| path.starts_with(word));
    secret.unwrap_or(path)
}

async fn bounded(console: &Console, request: Request, next: Next) -> Response {
    // Whoever asks whether the process lives must not be told "no" because it is busy.
    if request.uri().path() == super::health::LIVE_PATH {
        return next.run(request).await;
    }
    let Ok(_slot) = console.requests.try_acquire() else {
        return Problem::unavailable("the gateway has too many requests at once; try again").into_response();
    };
    let late = |_| Problem::unavailable("the request took too long; try again").into_response();
    tokio::time::timeout(console.limits.request_time_max, next.run(request))
        .await
        .unwrap_or_else(late)
}

/// Puts the request's id into a problem; one for a browser becomes a page.
fn name_problem(mut response: Response, id: &RequestId, as_page: bool) -> Response {
    match response.extensions_mut().remove::<Marked>() {
        Some(Marked(problem)) if as_page => error_page(&problem.with_id(id)),
        Some(Marked(problem)) => problem.with_id(id).into_response(),
        None => response,
    }
}

fn with_headers(mut response: Response, id: &RequestId) -> Response {
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        // A page has a policy of its own, for its style and forms.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::to_log;

    #[test]
    fn the_secret_of_a_link_is_not_logged() {
        for (path, logged) in [
            ("/approvals/K7Q2M4XA", "/approvals/K7Q2M4XA"),
            ("/link/secret", "/link/"),
            ("/confirm/secret", "/confirm/"),
            ("/connect/secret/more", "/connect/"),
        ] {
            assert_eq!(to_log(path), logged);
        }
    }
}
