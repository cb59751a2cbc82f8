//! `GET /approvals/{id}`: the review page: the whole operation, what it would do, how it stands, and the vote.

use super::super::Console;
use super::super::caller::Query;
use super::super::problem::Problem;
use super::super::readings::has_read_whole;
use super::super::revoke_grant::{GrantView, given};
use super::super::show_approval::seen;
use super::super::texts::{REASON_CHARS_MAX, approval_id};
use super::super::view::ApprovalView;
use super::super::vote::wants_fresh_sign_in;
use super::super::words::{cast, in_words, length, person, time, warnings};
use super::accept::wants_page;
use super::layout::{Page, Who, sentence, shown};
use super::operation::{Part, Turned, marked, read_part};
use super::session::{NotShown, Visitor};
use super::sign_in::way_in_anew;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use countersign_infra::domain::approval::{Approval, State as Standing};
use countersign_infra::domain::id::ApprovalId;
use countersign_infra::domain::identity::Person;
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;

/// What was approved runs at once: its end is soon there.
const SOON_SECONDS: u32 = 3;
/// While others decide.
const LATER_SECONDS: u32 = 15;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Which part of a long operation; the first unless said otherwise.
    part: Option<u64>,
}

/// The page on which an approval is read and decided, for browsers. Programs are told how to decide, whether there is one
/// of that number or not.
#[utoipa::path(
    get, path = "/approvals/{id}", security(()),
    params(("id" = String, Path, description = "The approval's number"), Wanted),
    responses(
        (status = 200, description = "The page, or for programs how to decide", content((String = "text/plain"), (String = "text/html"))),
        (status = 303, description = "A browser without a session is sent to sign in"),
        (status = 400, body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn review(
    State(console): State<Arc<Console>>,
    uri: Uri,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
    visitor: Result<Visitor, NotShown>,
) -> Result<Response, NotShown> {
    if !wants_page(uri.path(), &headers) {
        return Ok(signpost(&approval_id(&id)?).into_response());
    }
    let visitor = visitor?;
    let approval = seen(&console, &visitor.caller, &id).await?;
    let part = read_part(&console, &visitor, &approval, wanted.part, Turned::of(&headers)).await?;
    let has_read = has_read_whole(&console, &visitor.caller, &approval).await?;
    let wants_fresh = wants_fresh_sign_in(&console, &approval, visitor.authenticated());
    let grant = given(&console, &approval).await?;
    let review = Review {
        grant: grant.map(|grant| GrantView::of(&grant, Utc::now())),
        view: console.view(approval, &visitor.caller.0),
        reader: visitor.caller.0.clone(),
        who: visitor.who(),
        part,
        has_read,
        wants_fresh,
    };
    Ok(review.page().into_response())
}

fn signpost(id: &ApprovalId) -> String {
    format!(
        "Approval {id} is shown and decided at this address by a browser, or on the command line:\n\n\
         countersign approvals show {id}\n\
         countersign approvals approve {id}\n\
         countersign approvals deny {id} --reason 'why'\n"
    )
}

/// What the page is made of.
struct Review {
    view: ApprovalView,
    reader: Person,
    who: Who,
    part: Part,
    /// All of it was served to the reader.
    has_read: bool,
    /// A rule asks for a fresher sign-in before an approval.
    wants_fresh: bool,
    /// What was approved together with it.
    grant: Option<GrantView>,
}

impl Review {
    fn page(self) -> Page {
        let approval = &self.view.approval;
        let form = self.form();
        let refresh_seconds = match &approval.state {
            Standing::Approved { .. } | Standing::Executing { .. } => Some(SOON_SECONDS),
            Standing::Pending if form.is_none() => Some(LATER_SECONDS),
            Standing::Pending
            | Standing::Denied { .. }
            | Standing::Expired { .. }
            | Standing::Withdrawn { .. }
            | Standing::Abandoned { .. }
            | Standing::Revoked { .. }
            | Standing::Done { .. }
            | Standing::Unknown { .. } => None,
        };
        let content = html! {
            h1 { (headline(approval)) }
            (stands(&self.view))
            @if approval.is_open() { (warned(&self.view, self.part.as_asked)) }
            (facts(approval))
            (self.operation())
            @match form {
                Some(form) => (form),
                None => (self.why_not()),
            }
            (votes(approval))
            @if let Some(grant) = &self.grant { (self.granted(grant)) }
            (details(&self.view))
            (recording(approval))
        };
        Page {
            refresh_seconds,
            ..Page::new(format!("Approval {}", approval.id), Some(self.who), content)
        }
    }

    fn operation(&self) -> Markup {
        let (part, operation) = (&self.part, &self.view.approval.operation);
        html! {
            h2 id="operation" {
                "The operation"
                @if part.of > 1 { ": part " (part.number) " of " (part.of) }
            }
            @if part.of > 1 { p.small { (operation.display_bytes) " bytes in all." } }
            pre aria-label="The operation" { "\n" (marked(&part.text)) }
            @if part.of > 1 { (self.turning()) }
        }
    }

    /// From part to part.
    fn turning(&self) -> Markup {
        let (part, id) = (&self.part, &self.view.approval.id);
        let at = |number: u64| format!("/approvals/{id}?part={number}#operation");
        html! {
            nav.parts {
                @if part.number > 1 { a.button href=(at(part.number - 1)) { "Previous part" } }
                @if !part.is_last() { a.button href=(at(part.number + 1)) { "Next part" } }
                span.small { "Part " (part.number) " of " (part.of) }
            }
        }
    }

    /// The form of a vote, for whoever's vote would count.
    fn form(&self) -> Option<Markup> {
        if !self.view.may_vote {
            return None;
        }
        let id = &self.view.approval.id;
        let is_closed = !self.has_read || self.wants_fresh;
        Some(html! {
            form.decide method="post" action={ "/approvals/" (id) "/decide" } {
                h2 { "Your decision" }
                (self.who.field())
                label for="reason" { "Reason (shown to whoever asked)" }
                input #reason type="text" name="reason" maxlength=(REASON_CHARS_MAX) autocomplete="off";
                @if !self.has_read {
                    p.small { "Approve can be chosen once the whole operation was shown to you: read all its parts in turn." }
                }
                @if self.wants_fresh {
                    p.small {
                        "The rule that holds it asks for a fresh sign-in: "
                        a href=(way_in_anew(&format!("/approvals/{id}"))) { "sign in anew" } ", then approve within 5 minutes."
                    }
                }
                div.buttons {
                    button.yes type="submit" name="choice" value="approve" disabled[is_closed] { "Approve" }
                    @if let Some(seconds) = self.view.approval.terms.grant_seconds {
                        button type="submit" name="choice" value="grant" disabled[is_closed] {
                            "Approve, and what is alike for " (length(seconds))
                        }
                    }
                    button.no type="submit" name="choice" value="deny" { "Deny" }
                }
            }
        })
    }

    /// What was approved together with it, and the form that takes it back.
    fn granted(&self, grant: &GrantView) -> Markup {
        let may_revoke = grant.is_active() && self.view.approval.concerns(&self.reader);
        html! {
            h2 { "Approved together with it" }
            p {
                "What is alike, in the same session, until " (time(grant.until)) ": used " (grant.uses)
                @if grant.uses == 1 { " time" } @else { " times" }
                @match grant.state.as_str() {
                    "active" => "."
                    "revoked" => {
                        ", revoked by " strong { (shown(grant.revoked_by.as_deref().unwrap_or_default())) }
                        @if let Some(why) = &grant.why { ": " (shown(why)) }
                    }
                    _ => ", over."
                }
            }
            @if may_revoke {
                form.decide method="post" action={ "/approvals/" (grant.approval) "/revoke" } {
                    (self.who.field())
                    div.buttons { button.no type="submit" { "Revoke: ask again from now on" } }
                }
            }
        }
    }

    /// Why the reader has no vote on what waits.
    fn why_not(&self) -> Markup {
        let approval = &self.view.approval;
        let why = approval.may_vote(&self.reader).err().filter(|_| approval.is_open());
        html! {
            @if let Some(why) = why { p.problem { (shown(&sentence(&why.to_string()))) } }
        }
    }
}

/// One line: who would do what where.
pub fn headline(approval: &Approval) -> Markup {
    let verb = if approval.is_open() { "wants to" } else { "asked to" };
    html! {
        (shown(&approval.requester.name)) " " (verb) " " (shown(&approval.operation.effects.as_deed()))
        " on " (shown(&approval.place.target))
    }
}

fn stands(view: &ApprovalView) -> Markup {
    let approval = &view.approval;
    let class = match &approval.state {
        Standing::Pending | Standing::Approved { .. } | Standing::Executing { .. } => "stands",
        Standing::Done { outcome, .. } if outcome.ok => "stands good",
        Standing::Done { .. } | Standing::Unknown { .. } | Standing::Denied { .. } => "stands bad",
        Standing::Expired { .. }
        | Standing::Withdrawn { .. }
        | Standing::Abandoned { .. }
        | Standing::Revoked { .. } => "stands",
    };
    html! {
        div class=(class) role="status" {
            strong { (sentence(&in_words(&approval.state))) }
            " Votes: " (shown(&sentence(&approval.quorum_state())))
            @if approval.is_open() { " " (length(view.seconds_left)) " left." }
        }
    }
}

/// What to mind before one decides.
pub fn warned(view: &ApprovalView, as_asked: bool) -> Markup {
    let warnings = warnings(view);
    html! {
        @if !warnings.is_empty() || !as_asked {
            ul.warnings {
                @for warning in warnings { li { (sentence(warning)) } }
                @if !as_asked {
                    li {
                        "The same operation was asked for again and is shown otherwise now than when this was asked. It \
                         cannot be approved here."
                    }
                }
            }
        }
    }
}

/// What an approver looks at first.
pub fn facts(approval: &Approval) -> Markup {
    let Approval {
        requester,
        client,
        place,
        operation,
        terms,
        ..
    } = approval;
    let groups: Vec<&str> = requester.groups.iter().map(String::as_str).collect();
    html! {
        dl {
            dt { "Asked by" } dd {
                (shown(&person(&requester.name, requester.email.as_deref())))
                @if !groups.is_empty() { br; span.small { "in " (shown(&groups.join(", "))) } }
            }
            dt { "From" } dd { (shown(&client.address)) " (" (shown(&client.application)) ")" }
            dt { "Where" } dd { (shown(&place.target)) ", database " (shown(&place.database)) }
            dt { "Effects" } dd {
                @for (kind, objects) in operation.effects.iter() {
                    div {
                        strong { (kind) } " "
                        (shown(&objects.iter().map(String::as_str).collect::<Vec<_>>().join(", ")))
                    }
                }
            }
            @for reason in &terms.reasons { dt { "Because" } dd { (shown(reason)) } }
        }
    }
}

/// What else there is to know.
fn details(view: &ApprovalView) -> Markup {
    let Approval {
        id,
        place,
        operation,
        created,
        deadline,
        session,
        ..
    } = &view.approval;
    html! {
        h2 { "Details" }
        dl {
            dt { "Approval" } dd.code { (id) }
            @for standing in &view.quorum {
                dt { "Rule" } dd {
                    (shown(&standing.rule)) ": " (standing.quorum) " of " (shown(&standing.approvers.join(", ")))
                    @if !standing.approved_by.is_empty() { ", so far " (shown(&standing.approved_by.join(", "))) }
                }
            }
            dt { "Runs as" } dd { (shown(&place.role)) ", search_path " (shown(&place.search_path)) }
            dt { "Asked" } dd { (time(*created)) }
            dt { "Deadline" } dd { (time(*deadline)) }
            dt { "Session" } dd.code { (session) }
            dt { "SHA-256" } dd { span.code { (operation.digest) } " over " (operation.size_bytes) " bytes" }
        }
    }
}

/// How what ran is seen again.
fn recording(approval: &Approval) -> Markup {
    let has_run = matches!(
        approval.state,
        Standing::Executing { .. } | Standing::Done { .. } | Standing::Unknown { .. }
    );
    let session = &approval.session;
    html! {
        @if has_run {
            h2 #recording { "Recording" }
            p { "Every byte of its session, in both directions, is recorded. Whoever may audit sees it by" }
            pre aria-label="Commands" { "countersign replay " (session) "\ncountersign verify " (session) }
        }
    }
}

fn votes(approval: &Approval) -> Markup {
    html! {
        @if !approval.votes.is_empty() {
            h2 { "Votes" }
            ul { @for vote in &approval.votes { li { (shown(&cast(vote))) } } }
        }
    }
}
