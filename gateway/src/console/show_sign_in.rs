//! `GET /api/v1/sign-in`: how `countersign login` signs people in.

use super::Console;
use axum::Json;
use axum::extract::State;
use countersign_infra::config::Issuer;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use url::Url;

/// The issuers that sign people in on the command line.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SignInList {
    /// Empty when no issuer of this gateway has a client for the command line.
    pub issuers: Vec<SignInEntry>,
}

/// One issuer, and the public client by which the command line asks it. No part of it is a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SignInEntry {
    #[schema(value_type = String)]
    pub issuer: Url,
    pub client_id: String,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// Signature algorithms that this gateway accepts from it.
    pub algorithms: Vec<String>,
}

impl SignInEntry {
    /// What the configuration of an issuer says of it; none where the command line has no client.
    pub fn of(issuer: &Issuer) -> Option<Self> {
        Some(Self {
            issuer: issuer.url.clone(),
            client_id: issuer.login_client_id.clone()?,
            scopes: issuer.scopes.clone(),
            algorithms: issuer.algorithms.clone(),
        })
    }
}

/// Says where to sign in. It needs no token: who asks has none yet.
#[utoipa::path(get, path = "/api/v1/sign-in", security(()), responses((status = 200, body = SignInList)))]
pub async fn show_sign_in(State(console): State<Arc<Console>>) -> Json<SignInList> {
    let issuers = console.sign_in.clone();
    Json(SignInList { issuers })
}
