//! Who calls: the bearer token, and the extractors whose refusals are problems.

use super::Console;
use super::guard::AskedBy;
use super::problem::Problem;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use chrono::Utc;
use countersign_infra::domain::identity::{Person, PersonKey};
use countersign_infra::identity::oidc::TokenError;
use countersign_infra::policy::GatewayAction;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A signed-in caller.
pub struct Caller(pub Person);

impl Caller {
    pub fn is(&self, key: &PersonKey) -> bool {
        self.0.key == *key
    }

    /// Refuses callers whom the policy does not let audit.
    pub fn must_audit(&self, console: &Console) -> Result<(), Problem> {
        if console.allows(&self.0, GatewayAction::Audit) {
            return Ok(());
        }
        Err(Problem::not_allowed(
            "the policy does not let you read the audit: it needs a rule that permits Action::\"audit\"",
        ))
    }
}

impl FromRequestParts<Arc<Console>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, Problem> {
        let token = bearer(parts)?;
        let signed_in = console.verifier.verify(token, Utc::now()).await.map_err(refused)?;
        console.directory.saw(&signed_in);
        if let Some(asked_by) = parts.extensions.get::<AskedBy>() {
            asked_by.set(signed_in.person.name.clone());
        }
        Ok(Self(signed_in.person))
    }
}

fn bearer(parts: &Parts) -> Result<&str, Problem> {
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Problem::not_signed_in(
            "send one `Authorization: Bearer` header with your token",
        ));
    };
    let scheme_and_token = value.to_str().ok().and_then(|text| text.split_once(' '));
    match scheme_and_token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => Ok(token.trim()),
        _ => Err(Problem::not_signed_in(
            "the Authorization header is not `Bearer` and a token",
        )),
    }
}

fn refused(error: TokenError) -> Problem {
    match error {
        TokenError::Refused(why) => Problem::not_signed_in(format!("your token is refused: {why}")),
        TokenError::Unavailable { issuer, source } => {
            tracing::warn!(issuer, error = %source, "the identity provider is unavailable");
            Problem::unavailable(format!("the identity provider {issuer} does not answer; try again"))
        }
    }
}

/// The query string as a value. Unknown and repeated keys are problems.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(query) => Ok(Self(query.0)),
            Err(rejection) => Err(Problem::unreadable(rejection.status(), rejection.body_text())),
        }
    }
}

/// A JSON body as a value.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(body) => Ok(Self(body.0)),
            Err(rejection) => Err(Problem::unreadable(rejection.status(), rejection.body_text())),
        }
    }
}
