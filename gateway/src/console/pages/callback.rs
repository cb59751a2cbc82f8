//! `GET /sign-in/callback`: the browser is back from the issuer.

use super::super::Console;
use super::super::caller::Query;
use super::super::problem::Problem;
use super::browser::Cookie;
use super::random;
use super::sign_in::not_signed_in;
use axum::extract::State;
use axum::http::header::{self, HeaderMap};
use axum::response::{IntoResponse, Redirect, Response};
use chrono::Utc;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::identity::SignedIn;
use countersign_infra::domain::secret::Secret;
use countersign_infra::domain::ticket::{PageSession, Purpose, SignIn, Ticket, TicketId, browser_digest};
use countersign_infra::identity::sign_in::{Answer, BrowserSignIn, Journey};
use countersign_infra::tickets::TicketError;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// A session ends with the token that began it, and not later than this.
const SESSION_MAX: Duration = Duration::from_secs(12 * 3600);

#[derive(Debug, Deserialize)]
pub struct Brought {
    #[serde(default)]
    state: String,
    #[serde(flatten)]
    answer: Answer,
}

/// Signs in whoever comes back with the state that this very browser was given, once.
pub async fn callback(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    Query(brought): Query<Brought>,
) -> Result<Response, Problem> {
    let pages = &console.pages;
    let state = Secret::new(brought.state);
    let cookie = Cookie::Browser
        .read(&pages.site, &headers)
        .ok_or_else(not_this_browser)?;
    let ticket = pages.tickets.read(TicketId::of(&state)).await?.ok_or_else(over)?;
    let Purpose::SignIn(begun) = &ticket.purpose else {
        return Err(over());
    };
    if begun.browser != browser_digest(&cookie) {
        return Err(not_this_browser());
    }
    let sign_in = asked(&console, begun).ok_or_else(over)?;
    pages.tickets.take(&ticket).await.map_err(|error| match error {
        TicketError::Conflict { .. } => over(),
        error @ (TicketError::Damaged { .. } | TicketError::Unavailable { .. }) => error.into(),
    })?;
    let journey = Journey {
        state,
        cookie,
        anew: begun.anew,
        begun: ticket.made,
    };
    let arrived = sign_in.finish(&brought.answer, &journey, Utc::now()).await;
    let arrived = arrived.map_err(not_signed_in)?;
    console.directory.saw(&arrived);
    let anew = begun.anew.then_some(ticket.made);
    enter(&console, arrived, anew, &headers, &begun.return_to).await
}

fn asked<'a>(console: &'a Console, begun: &SignIn) -> Option<&'a BrowserSignIn> {
    let mut sign_ins = console.pages.sign_ins.iter();
    sign_ins.find(|sign_in| sign_in.issuer().as_str() == begun.issuer)
}

/// Begins a session under a new cookie; `anew` says when its person was sent to prove anew who they are, and ends the one that was there.
async fn enter(
    console: &Console,
    arrived: SignedIn,
    anew: Option<Timestamp>,
    headers: &HeaderMap,
    return_to: &str,
) -> Result<Response, Problem> {
    let (pages, now) = (&console.pages, Utc::now());
    let left = (arrived.expires - now).to_std().unwrap_or_default();
    let lasts = left.min(SESSION_MAX);
    tracing::info!(person = arrived.person.name, "signed in by a browser");
    let purpose = Purpose::PageSession(PageSession {
        person: arrived.person,
        authenticated: anew,
        reading: None,
    });
    let (cookie, ticket) = Ticket::new(random()?, purpose, now, lasts);
    pages.tickets.create(&ticket).await?;
    if let Some(former) = Cookie::Session.read(&pages.site, headers) {
        end(console, &former).await?;
    }
    let mut response = Redirect::to(return_to).into_response();
    if let Some(set) = Cookie::Session.set(&pages.site, &cookie, lasts) {
        response.headers_mut().append(header::SET_COOKIE, set);
    }
    Ok(response)
}

/// Ends the session of a cookie, if there is one.
pub async fn end(console: &Console, cookie: &Secret) -> Result<(), Problem> {
    let tickets = &console.pages.tickets;
    let mut found = tickets.read(TicketId::of(cookie)).await?;
    while let Some(ticket) = found.filter(|ticket| ticket.signed_in().is_some()) {
        found = match tickets.take(&ticket).await {
            Ok(()) => None,
            // It was written anew in between.
            Err(TicketError::Conflict { current }) => current.map(|current| *current),
            Err(error @ (TicketError::Damaged { .. } | TicketError::Unavailable { .. })) => return Err(error.into()),
        };
    }
    Ok(())
}

fn over() -> Problem {
    Problem::bad_request("this sign-in is over, or was used already: open the page that you want and sign in again")
}

fn not_this_browser() -> Problem {
    Problem::bad_request(
        "this sign-in was not begun in this browser, or its cookie is gone: open the page that you want and sign in \
         again here",
    )
}
