//! `GET /approvals`: what waits for a decision and the visitor may see, newest first.

use super::super::Console;
use super::super::caller::Query;
use super::super::list_approvals::{PAGE, visible};
use super::super::view::ApprovalView;
use super::super::words::{ago, in_words, length};
use super::layout::{Page, shown};
use super::session::{NotShown, Visitor};
use axum::extract::State;
use axum::response::Redirect;
use chrono::Utc;
use countersign_infra::approvals::ApprovalQuery;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::approval::Approval;
use countersign_infra::domain::display::head;
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;

const LISTED_MAX: usize = 50;
/// What the list shows of an operation, in characters.
const GLIMPSE_CHARS_MAX: usize = 200;
const REFRESH_SECONDS: u32 = 15;

#[derive(Debug, Deserialize)]
pub struct Wanted {
    /// Also what waits no more.
    #[serde(default)]
    all: bool,
}

/// Leads to the list.
pub async fn home() -> Redirect {
    Redirect::to("/approvals")
}

pub async fn list(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Query(wanted): Query<Wanted>,
) -> Result<Page, NotShown> {
    let query = ApprovalQuery {
        pending_only: !wanted.all,
        before: None,
        limit: PAGE,
    };
    let page = visible(&console, &visitor.caller, query, LISTED_MAX).await?;
    let (title, other, way) = if wanted.all {
        ("All approvals", "/approvals", "Only what waits")
    } else {
        (
            "What waits for a decision",
            "/approvals?all=true",
            "Also what was decided",
        )
    };
    let now = Utc::now();
    let content = html! {
        h1 { (title) }
        @if page.approvals.is_empty() { p { "Nothing that you may see." } }
        ul.cards { @for view in &page.approvals { li { (entry(view, now)) } } }
        @if page.next.is_some() {
            p.small { "These are the newest " (LISTED_MAX) "; the command line lists more: " code { "countersign approvals list" } }
        }
        p { a href=(other) { (way) } }
    };
    Ok(Page {
        refresh_seconds: Some(REFRESH_SECONDS),
        ..Page::new(title, Some(visitor.who()), content)
    })
}

fn entry(view: &ApprovalView, now: Timestamp) -> Markup {
    let Approval {
        id,
        requester,
        place,
        operation,
        created,
        state,
        ..
    } = &view.approval;
    let standing = if view.approval.is_open() {
        format!("{} · {} left", view.approval.quorum_state(), length(view.seconds_left))
    } else {
        in_words(state)
    };
    let glimpse: String = head(&operation.display).chars().take(GLIMPSE_CHARS_MAX).collect();
    html! {
        a href={ "/approvals/" (id) } {
            strong.code { (id) } " "
            (shown(&requester.name)) ": " (shown(&operation.effects.in_words())) " on " (shown(&place.target))
            div.small { (shown(&standing)) " · asked " (ago(*created, now)) " ago" }
            pre { (shown(&glimpse)) }
        }
    }
}
