//! The pages: signing in by a browser, the approvals that wait, and each of them whole. One file per page.
//!
//! Plain HTML without scripts. Every text goes through the templates of `maud`, which escape it; nothing here makes
//! markup of a text. Whoever is not signed in is sent to sign in and comes back.

mod accept;
mod browser;
mod callback;
mod confirm;
mod connect;
mod decide;
mod layout;
mod link;
mod list;
mod operation;
mod review;
mod session;
mod sign_in;
mod sign_out;
mod ticket;

pub use accept::wants_page;
pub use layout::error_page;
pub use review::{__path_review, review};

use super::Console;
use super::problem::Problem;
use crate::pace::Pace;
use axum::Router;
use axum::http::header::HeaderValue;
use axum::routing::{get, post};
use countersign_infra::chat_links::{ChatLinkError, ChatLinkStore};
use countersign_infra::domain::secret::Secret;
use countersign_infra::identity::sign_in::BrowserSignIn;
use countersign_infra::tickets::{TicketError, TicketStore};
use std::collections::BTreeSet;
use std::sync::Arc;
use url::Url;

/// What the pages are made of.
pub struct PageParts {
    /// How people reach the gateway: pages are served for this address alone.
    pub public_url: Url,
    pub sign_ins: Vec<BrowserSignIn>,
    pub tickets: Arc<dyn TicketStore>,
    pub chat_links: Arc<dyn ChatLinkStore>,
    /// An approval of what one of these rules holds counts shortly after a sign-in only.
    pub step_up_rules: BTreeSet<String>,
}

/// The pages' share of the state.
pub struct Pages {
    site: Site,
    sign_ins: Vec<BrowserSignIn>,
    tickets: Arc<dyn TicketStore>,
    chat_links: Arc<dyn ChatLinkStore>,
    pub(super) step_up_rules: BTreeSet<String>,
    sign_in_pace: Pace,
}

impl Pages {
    pub fn new(parts: PageParts) -> Self {
        Self {
            site: Site::of(&parts.public_url),
            sign_ins: parts.sign_ins,
            tickets: parts.tickets,
            chat_links: parts.chat_links,
            step_up_rules: parts.step_up_rules,
            sign_in_pace: sign_in::pace(),
        }
    }
}

/// The address of the pages.
struct Site {
    /// As browsers send it in `Origin`.
    origin: String,
    /// Reached by https: cookies are for it alone.
    is_secure: bool,
}

impl Site {
    fn of(url: &Url) -> Self {
        Self {
            origin: url.origin().ascii_serialization(),
            is_secure: url.scheme() == "https",
        }
    }
}

/// The routes of the pages, but for the one of an approval, which also answers programs.
pub fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/", get(list::home))
        .route("/approvals", get(list::list))
        .route("/approvals/{id}/decide", post(decide::decide))
        .route("/approvals/{id}/revoke", post(decide::revoke))
        .route("/link/{secret}", get(link::ask).post(link::link))
        .route("/confirm/{secret}", get(confirm::ask).post(confirm::confirm))
        .route("/connect/{secret}", get(connect::ask).post(connect::answer))
        .route("/sign-in", get(sign_in::sign_in))
        .route("/sign-in/callback", get(callback::callback))
        .route("/sign-out", post(sign_out::sign_out))
}

/// Randomness for tickets, cookies and nonces.
fn random() -> Result<[u8; 32], Problem> {
    let mut random = [0; 32];
    match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => Ok(random),
        Err(error) => {
            tracing::error!(%error, "the random source failed");
            Err(Problem::unavailable("the random source failed; try again"))
        }
    }
}

/// A header whose value is a secret: it is not shown where headers are logged.
fn secret_header(text: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text.reveal()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl From<TicketError> for Problem {
    fn from(error: TicketError) -> Self {
        match error {
            TicketError::Conflict { .. } => {
                Self::refused("this was used or changed in the meantime: start again", None)
            }
            TicketError::Damaged { id, why } => {
                tracing::error!(ticket = %id, why, "a ticket is damaged in the store");
                Self::damaged("what this link or cookie stands for is damaged in the store: start again")
            }
            TicketError::Unavailable { source } => {
                tracing::warn!(error = %source, "the store of tickets is unavailable");
                Self::unavailable("the store does not answer; try again")
            }
        }
    }
}

impl From<ChatLinkError> for Problem {
    fn from(error: ChatLinkError) -> Self {
        match error {
            ChatLinkError::Conflict { .. } => Self::refused(
                "the chat account was linked otherwise in the meantime: ask for a new link in the chat",
                None,
            ),
            ChatLinkError::Damaged { account, why } => {
                tracing::error!(%account, why, "a chat link is damaged in the store");
                Self::damaged("the link of this chat account is damaged in the store: nothing is done with it")
            }
            ChatLinkError::Unavailable { source } => {
                tracing::warn!(error = %source, "the store of chat links is unavailable");
                Self::unavailable("the store does not answer; try again")
            }
        }
    }
}
