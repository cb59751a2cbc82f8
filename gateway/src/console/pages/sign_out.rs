//! `POST /sign-out`: ends the session of this browser.

use super::super::Console;
use super::browser::Cookie;
use super::callback::end;
use super::layout::Page;
use super::session::{NotShown, Sent};
use axum::extract::State;
use maud::html;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
pub struct Nothing {}

/// Ends the session. At the issuer the person stays signed in.
pub async fn sign_out(State(console): State<Arc<Console>>, sent: Sent<Nothing>) -> Result<Page, NotShown> {
    end(&console, sent.visitor.cookie()).await?;
    let content = html! {
        h1 { "Signed out" }
        p { "This browser is signed out here. Your identity provider may still know you." }
        p { a.button href="/approvals" { "Sign in again" } }
    };
    Ok(Page {
        cookies: Cookie::Session.clear(&console.pages.site).into_iter().collect(),
        ..Page::new("Signed out", None, content)
    })
}
