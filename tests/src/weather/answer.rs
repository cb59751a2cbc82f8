//! Answers: those of the cloud, passed on, and those that trouble gives in its place.

use super::request::{Seen, Service};
use anyhow::{Context, Result, bail};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, TimeDelta, Utc};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

const BYTES_MAX: usize = 64 << 20;

/// Headers that concern one connection: the client and the server of the other one write their own.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    header::TE,
];

/// What the cloud answered.
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// Asks the cloud, with the host that the client named: it is part of what the client signed.
    pub(super) async fn fetch(client: &reqwest::Client, upstream: &str, head: &Parts, seen: &Seen) -> Result<Self> {
        let mut headers = end_to_end(&head.headers);
        headers.remove(header::CONTENT_LENGTH);
        let request = client.request(head.method.clone(), format!("{upstream}{}", seen.path));
        let mut request = request.headers(headers);
        // An empty body of a GET is no body; where a length was sent it is sent again.
        if head.headers.contains_key(header::CONTENT_LENGTH) || !seen.body.is_empty() {
            request = request.body(seen.body.clone());
        }
        let mut answer = request.send().await.context("the cloud does not answer")?;
        let status = answer.status();
        let headers = end_to_end(answer.headers());
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.context("the cloud's answer ends early")? {
            if body.len() + chunk.len() > BYTES_MAX {
                bail!("the cloud's answer is longer than 64 MiB");
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self {
            status,
            headers,
            body: body.freeze(),
        })
    }

    /// Moves the `Date`; one without a date gets one.
    pub(super) fn shift_date(&mut self, seconds: i64) {
        let said = self
            .headers
            .get(header::DATE)
            .and_then(|value| DateTime::parse_from_rfc2822(value.to_str().ok()?).ok());
        let said = said.map_or_else(Utc::now, |date| date.to_utc());
        let moved = TimeDelta::try_seconds(seconds).and_then(|delta| said.checked_add_signed(delta));
        let text = moved.unwrap_or(said).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        if let Ok(value) = HeaderValue::from_str(&text) {
            self.headers.insert(header::DATE, value);
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    for name in HOP_BY_HOP {
        kept.remove(name);
    }
    kept
}

/// What a service says that failed inside.
pub(super) fn failure(seen: &Seen) -> Response<Body> {
    match seen.service {
        Service::S3 => xml(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        Service::DynamoDb | Service::Kms | Service::Other => {
            json(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError")
        }
    }
}

/// What a service says to those who ask too much.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>,
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
pub(super) fn throttled(seen: &Seen) -> Response<Body> {
    match seen.service {
        Service::S3 => xml(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
        Service::DynamoDb => json(StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException"),
        Service::Kms | Service::Other => json(StatusCode::BAD_REQUEST, "ThrottlingException"),
    }
}

/// The proxy's own trouble, which no test ordered.
pub(super) fn proxy_failure(message: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("the proxy before the cloud: {message}")));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

fn json(status: StatusCode, code: &str) -> Response<Body> {
    let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"Ordered by a test"}}"#);
    response(status, "application/x-amz-json-1.0", body)
}

fn xml(status: StatusCode, code: &str) -> Response<Body> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>Ordered by a test</Message>\
         <RequestId>ordered</RequestId></Error>"
    );
    response(status, "application/xml", body)
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
