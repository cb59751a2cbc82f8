//! `/confirm/{secret}`: a vote that was clicked in a chat counts once its person has proved anew who they are.

use super::super::Console;
use super::super::problem::Problem;
use super::super::readings::has_read_whole;
use super::super::show_approval::seen;
use super::super::view::ApprovalView;
use super::super::vote::{FRESH_FOR, Voting};
use super::super::words::{in_words, length};
use super::layout::{Page, Who, sentence, shown};
use super::operation::marked;
use super::review::{facts, headline, warned};
use super::session::{NotShown, Sent, Visitor};
use super::sign_in::way_in_anew;
use super::sign_out::Nothing;
use super::ticket::{over, read, take};
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use chrono::{TimeDelta, Utc};
use countersign_infra::chat_links::ChatLinkError;
use countersign_infra::domain::approval::{Choice, Via};
use countersign_infra::domain::chat_link::{ChatAccount, ChatLink};
use countersign_infra::domain::secret::Secret;
use countersign_infra::domain::ticket::{ConfirmVote, Purpose, Ticket};
use maud::{Markup, html};
use std::sync::Arc;

/// Bot and gateway tell the time by clocks that differ by less.
const CLOCK_MARGIN: TimeDelta = TimeDelta::seconds(5);

/// Shows the vote and what it is about, to its person alone.
pub async fn ask(
    State(console): State<Arc<Console>>,
    uri: Uri,
    visitor: Visitor,
    Path(secret): Path<String>,
) -> Result<Page, NotShown> {
    let (ticket, vote) = vote(&console, &Secret::new(secret)).await?;
    if !is_fresh(&visitor, &ticket) {
        let at = way_in_anew(uri.path());
        return Err(NotShown::SignIn { at });
    }
    linked(&console, &visitor, &vote).await?;
    let approval = seen(&console, &visitor.caller, vote.approval.as_str()).await?;
    let has_read = has_read_whole(&console, &visitor.caller, &approval).await?;
    let view = console.view(approval, &visitor.caller.0);
    let content = question(&vote, &view, has_read, &visitor.who());
    Ok(Page::new("Confirm your vote", Some(visitor.who()), content))
}

/// Casts the vote, once.
pub async fn confirm(
    State(console): State<Arc<Console>>,
    uri: Uri,
    Path(secret): Path<String>,
    sent: Sent<Nothing>,
) -> Result<Response, NotShown> {
    let visitor = sent.visitor;
    let (ticket, vote) = vote(&console, &Secret::new(secret)).await?;
    if !is_fresh(&visitor, &ticket) {
        return Ok(too_late(&uri, visitor.who()).into_response());
    }
    let link = linked(&console, &visitor, &vote).await?;
    let approval = seen(&console, &visitor.caller, vote.approval.as_str()).await?;
    if vote.choice == Choice::Approve && !has_read_whole(&console, &visitor.caller, &approval).await? {
        let why = "read the whole operation first, on its own page; this link stays good until then";
        return Err(Problem::refused(why, None).into());
    }
    take(&console, &ticket).await?;
    let voting = Voting {
        choice: vote.choice,
        reason: vote.reason,
        via: Via::Console,
        evidence: Some(proof(&vote.account, vote.evidence.as_deref())),
        grants: vote.grants,
        proved: visitor.authenticated(),
    };
    refresh(&console, &visitor, &link).await;
    let view = voting.cast(console, visitor.caller, approval.id.as_str()).await?;
    Ok(Redirect::to(&format!("/approvals/{}", view.approval.id)).into_response())
}

/// Of the sign-in, and of the click that it confirms.
fn proof(account: &ChatAccount, click: Option<&str>) -> String {
    let confirmed = format!("clicked by {account} and confirmed by a sign-in of its person");
    match click {
        Some(click) => format!("{confirmed}: {click}"),
        None => confirmed,
    }
}

/// A form may not lead to another site, as the issuer is: the way there is a link.
fn too_late(uri: &Uri, who: Who) -> Page {
    let content = html! {
        h1 { "Sign in once more" }
        p.problem { "Your sign-in is older than 5 minutes: nothing was decided." }
        p { a.button href=(way_in_anew(uri.path())) { "Sign in and confirm" } }
    };
    Page {
        status: StatusCode::FORBIDDEN,
        ..Page::new("Sign in once more", Some(who), content)
    }
}

async fn vote(console: &Console, secret: &Secret) -> Result<(Ticket, ConfirmVote), Problem> {
    let ticket = read(console, secret).await?;
    match ticket.purpose.clone() {
        Purpose::ConfirmVote(vote) => Ok((ticket, vote)),
        Purpose::SignIn(_)
        | Purpose::PageSession(_)
        | Purpose::LinkChat(_)
        | Purpose::ConnectWeb(_)
        | Purpose::AuditPage(_) => Err(over()),
    }
}

/// Whether the visitor proved who they are since the click, and not long ago.
fn is_fresh(visitor: &Visitor, ticket: &Ticket) -> bool {
    let since_click = |proved| proved + CLOCK_MARGIN >= ticket.made;
    visitor
        .authenticated()
        .is_some_and(|proved| since_click(proved) && Utc::now() - proved <= FRESH_FOR)
}

/// The link of the account that clicked, which must be this person's.
async fn linked(console: &Console, visitor: &Visitor, vote: &ConfirmVote) -> Result<ChatLink, Problem> {
    let link = console.pages.chat_links.read(&vote.account).await?;
    match link {
        Some(link) if visitor.caller.is(&link.person.key) => Ok(link),
        Some(_) => Err(Problem::not_allowed(format!(
            "you are signed in as {}, and the chat account that clicked speaks for somebody else: sign out, and sign in as \
             that person",
            visitor.caller.0.name
        ))),
        None => Err(Problem::not_allowed(
            "the chat account that clicked is linked to nobody any more: link it anew in the chat",
        )),
    }
}

/// The sign-in counts for the chat account's next votes too.
async fn refresh(console: &Console, visitor: &Visitor, link: &ChatLink) {
    // The groups are those of the sign-in, not of this moment.
    let signed_in = visitor.ticket.made;
    if signed_in <= link.refreshed {
        return;
    }
    let Ok(refreshed) = link.refresh(visitor.caller.0.clone(), signed_in) else {
        return;
    };
    match console.pages.chat_links.put(&refreshed, Some(link)).await {
        Ok(()) | Err(ChatLinkError::Conflict { .. }) => {}
        Err(error @ (ChatLinkError::Damaged { .. } | ChatLinkError::Unavailable { .. })) => {
            tracing::warn!(%error, "a chat link was not refreshed");
        }
    }
}

fn question(vote: &ConfirmVote, view: &ApprovalView, has_read: bool, who: &Who) -> Markup {
    let approval = &view.approval;
    let (word, class) = match vote.choice {
        Choice::Approve => ("Approve", "yes"),
        Choice::Deny => ("Deny", "no"),
    };
    let may_confirm = has_read || vote.choice == Choice::Deny;
    html! {
        h1 { "Confirm: " (word) " " (approval.id) "?" }
        p { (headline(approval)) "." }
        dl {
            dt { "Clicked by" } dd.code { (shown(&vote.account.to_string())) }
            dt { "Vote" } dd {
                strong { (word) }
                @if vote.grants {
                    ", and what is alike" @if let Some(seconds) = approval.terms.grant_seconds { " for " (length(seconds)) }
                }
            }
            @if let Some(reason) = &vote.reason { dt { "Reason" } dd { (shown(reason)) } }
        }
        h2 { "What it is about" }
        (warned(view, true))
        (facts(approval))
        p.stands role="status" { (sentence(&in_words(&approval.state))) " Votes: " (shown(&sentence(&approval.quorum_state()))) }
        pre aria-label="The operation" { "\n" (marked(&approval.operation.display)) }
        @if may_confirm {
            form.decide method="post" {
                (who.field())
                div.buttons {
                    button class=(class) type="submit" { (word) }
                    a.button href={ "/approvals/" (approval.id) } { "No, look at it first" }
                }
            }
        } @else {
            p.problem { "This is only the beginning: read the whole operation, then come back to this link." }
            p { a.button href={ "/approvals/" (approval.id) } { "Read the whole" } }
        }
    }
}
