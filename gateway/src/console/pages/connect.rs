//! `/connect/{secret}`: a client waits on its connection, and its person types the code that it shows.

use super::super::Console;
use super::super::problem::Problem;
use super::layout::{Page, Who, sentence, shown};
use super::session::{NotShown, Sent, Visitor};
use super::ticket::{over, read};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use countersign_infra::domain::secret::Secret;
use countersign_infra::domain::ticket::{CONNECT_TRIES_MAX, ConnectAnswer, ConnectWeb, Purpose, Ticket};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
pub struct Answer {
    #[serde(default)]
    code: String,
    /// `refuse`, or the code counts.
    #[serde(default)]
    choice: String,
}

/// Shows which client waits, and asks for its code.
pub async fn ask(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(secret): Path<String>,
) -> Result<Page, NotShown> {
    let (_, waiting) = waiting(&console, &Secret::new(secret)).await?;
    let content = match &waiting.answer {
        ConnectAnswer::None => question(&waiting, &visitor.who()),
        ConnectAnswer::Person { .. } | ConnectAnswer::Refused { .. } => told(&waiting),
    };
    Ok(Page::new("Connect", Some(visitor.who()), content))
}

/// Gives the client its answer.
pub async fn answer(
    State(console): State<Arc<Console>>,
    Path(secret): Path<String>,
    sent: Sent<Answer>,
) -> Result<Page, NotShown> {
    let secret = Secret::new(secret);
    let (ticket, waiting) = waiting(&console, &secret).await?;
    let (visitor, fields) = (sent.visitor, sent.fields);
    let next = if fields.choice == "refuse" {
        waiting.refused(&visitor.caller.0)
    } else {
        waiting.typed(&secret, &fields.code, &visitor.signed_in())
    };
    let next = next.map_err(|answered| Problem::refused(answered, None))?;
    let replacing = ticket.with(Purpose::ConnectWeb(next.clone()));
    console
        .pages
        .tickets
        .replace(&replacing, &ticket)
        .await
        .map_err(Problem::from)?;
    let page = match &next.answer {
        ConnectAnswer::None => Page {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            ..Page::new("Connect", Some(visitor.who()), question(&next, &visitor.who()))
        },
        ConnectAnswer::Person { .. } | ConnectAnswer::Refused { .. } => {
            Page::new("Connect", Some(visitor.who()), told(&next))
        }
    };
    Ok(page)
}

async fn waiting(console: &Console, secret: &Secret) -> Result<(Ticket, ConnectWeb), Problem> {
    let ticket = read(console, secret).await?;
    match ticket.purpose.clone() {
        Purpose::ConnectWeb(waiting) => Ok((ticket, waiting)),
        Purpose::SignIn(_)
        | Purpose::PageSession(_)
        | Purpose::LinkChat(_)
        | Purpose::ConfirmVote(_)
        | Purpose::AuditPage(_) => Err(over()),
    }
}

fn question(waiting: &ConnectWeb, who: &Who) -> Markup {
    let left = CONNECT_TRIES_MAX.saturating_sub(waiting.tries);
    html! {
        h1 { "Connect to " (shown(&waiting.target)) " as " (shown(&who.name)) "?" }
        (facts(waiting))
        p.problem {
            "Type the code that your own terminal shows. If somebody sent you this link, with or without a code, refuse: they \
             would work in your name."
        }
        @if waiting.tries > 0 {
            p.warnings role="alert" { "That code was wrong. " (left) " more " (if left == 1 { "try" } else { "tries" }) "." }
        }
        form.decide method="post" {
            (who.field())
            label for="code" { "Code from your terminal" }
            input #code.code type="text" name="code" autocomplete="off" autocapitalize="characters" spellcheck="false" maxlength="20" autofocus;
            div.buttons {
                button.yes type="submit" name="choice" value="connect" { "Connect" }
                button.no type="submit" name="choice" value="refuse" { "Refuse" }
            }
        }
    }
}

fn told(waiting: &ConnectWeb) -> Markup {
    html! {
        @match &waiting.answer {
            ConnectAnswer::Person { person, .. } => {
                h1 { "Connected" }
                p.stands.good { "Your client goes on as " strong { (shown(&person.name)) } ". You can close this page." }
            }
            ConnectAnswer::Refused { why } => {
                h1 { "Refused" }
                p.stands.bad { (shown(&sentence(why))) " The client is told so." }
            }
            ConnectAnswer::None => { h1 { "It waits" } }
        }
        (facts(waiting))
    }
}

fn facts(waiting: &ConnectWeb) -> Markup {
    html! {
        dl {
            dt { "Target" } dd { strong { (shown(&waiting.target)) } ", database " (shown(&waiting.database)) }
            dt { "User" } dd { (shown(&waiting.user)) }
            dt { "From" } dd { (shown(&waiting.client.address)) }
            dt { "Program" } dd { (shown(&waiting.client.application)) }
        }
    }
}
