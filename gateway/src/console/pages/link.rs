//! `/link/{secret}`: a chat account is to speak for whoever is signed in. Both are named before a yes.

use super::super::Console;
use super::super::problem::Problem;
use super::super::vote::FRESH_FOR;
use super::super::words::person;
use super::layout::{Page, Who, shown};
use super::session::{NotShown, Sent, Visitor};
use super::sign_in::way_in;
use super::ticket::{over, read, take};
use axum::extract::{Path, State};
use axum::http::Uri;
use chrono::Utc;
use countersign_infra::domain::audit::Happening;
use countersign_infra::domain::chat_link::{ChatAccount, ChatLink};
use countersign_infra::domain::identity::{Person, PersonKind};
use countersign_infra::domain::secret::Secret;
use countersign_infra::domain::ticket::{LinkChat, Purpose, Ticket};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
pub struct Yes {
    /// `yes` once the person has said that they asked for it.
    #[serde(default)]
    own: String,
}

/// Shows both accounts and asks.
pub async fn ask(
    State(console): State<Arc<Console>>,
    uri: Uri,
    visitor: Visitor,
    Path(secret): Path<String>,
) -> Result<Page, NotShown> {
    let (_, wish) = wish(&console, &Secret::new(secret)).await?;
    // The link stands for the groups of the sign-in: an old one would be over soon, or at once.
    if Utc::now() - visitor.ticket.made > FRESH_FOR {
        return Err(NotShown::SignIn { at: way_in(uri.path()) });
    }
    let reader = &visitor.caller.0;
    let former = console
        .pages
        .chat_links
        .read(&wish.account)
        .await
        .map_err(Problem::from)?;
    let content = question(&wish, reader, former.as_ref(), &visitor.who());
    Ok(Page::new("Link your chat account", Some(visitor.who()), content))
}

/// Links the account, once.
pub async fn link(
    State(console): State<Arc<Console>>,
    Path(secret): Path<String>,
    sent: Sent<Yes>,
) -> Result<Page, NotShown> {
    let secret = Secret::new(secret);
    let (ticket, wish) = wish(&console, &secret).await?;
    let reader = &sent.visitor.caller.0;
    must_be_human(reader)?;
    if sent.fields.own != "yes" {
        let why = "say that you asked for this link yourself: whoever uses the chat account decides in your name";
        return Err(Problem::bad_request(why).into());
    }
    let links = &console.pages.chat_links;
    let former = links.read(&wish.account).await.map_err(Problem::from)?;
    take(&console, &ticket).await?;
    let linked = Happening::ChatLinked {
        account: wish.account.clone(),
        account_name: wish.account_name.clone(),
        team_name: wish.team_name.clone(),
        former: former.as_ref().map(|link| link.person.key.clone()),
        former_name: former.as_ref().map(|link| link.person.name.clone()),
        mailbox: None,
    };
    console
        .journal
        .note(reader, linked)
        .await
        .map_err(Problem::unavailable)?;
    // The groups are those of the sign-in, however long ago that was.
    let link = ChatLink::link(
        wish.account.clone(),
        reader.clone(),
        former.as_ref(),
        sent.visitor.ticket.made,
    );
    links.put(&link, former.as_ref()).await.map_err(Problem::from)?;
    tracing::info!(account = %wish.account, person = reader.name, "a chat account was linked");
    let content = html! {
        h1 { "Linked" }
        p {
            (shown(&wish.account_name)) " in " (shown(&wish.team_name)) " now speaks for " strong { (shown(&reader.name)) } "."
            @if let Some(former) = former.filter(|former| former.person.key != reader.key) {
                " Before it spoke for " (shown(&former.person.name)) "."
            }
        }
        p { "You can close this page and go on in the chat." }
    };
    Ok(Page::new("Linked", Some(sent.visitor.who()), content))
}

async fn wish(console: &Console, secret: &Secret) -> Result<(Ticket, LinkChat), Problem> {
    let ticket = read(console, secret).await?;
    match ticket.purpose.clone() {
        Purpose::LinkChat(wish) => Ok((ticket, wish)),
        Purpose::SignIn(_)
        | Purpose::PageSession(_)
        | Purpose::ConfirmVote(_)
        | Purpose::ConnectWeb(_)
        | Purpose::AuditPage(_) => Err(over()),
    }
}

fn must_be_human(person: &Person) -> Result<(), Problem> {
    match person.kind {
        PersonKind::Human => Ok(()),
        PersonKind::Machine => Err(Problem::not_allowed(
            "a program has no chat account: a person has to sign in",
        )),
    }
}

fn question(wish: &LinkChat, reader: &Person, former: Option<&ChatLink>, who: &Who) -> Markup {
    html! {
        h1 { "Link your chat account?" }
        p { "From then on, what this chat account decides counts as decided by you." }
        div.people {
            section { h2 { "The chat account" } (account(wish)) }
            section { h2 { "You, as you are signed in" } (signed_in(reader)) }
        }
        @if let Some(former) = former {
            p.stands { "It speaks for " strong { (shown(&person(&former.person.name, former.person.email.as_deref()))) } " until now." }
        }
        p.problem {
            "Whoever uses that chat account will decide in your name. If somebody else sent you this link, close this page."
        }
        form.decide method="post" {
            (who.field())
            p {
                label {
                    input type="checkbox" name="own" value="yes" required; " "
                    "I asked for this link myself, as " (shown(&wish.account_name)) " in " (shown(&wish.team_name))
                }
            }
            div.buttons { button.yes type="submit" { "Yes, link them" } a.button href="/approvals" { "No" } }
        }
    }
}

fn account(wish: &LinkChat) -> Markup {
    let ChatAccount { platform, team, user } = &wish.account;
    html! {
        dl {
            dt { "Name" } dd { strong { (shown(&wish.account_name)) } }
            dt { "Team" } dd { (shown(&wish.team_name)) }
            dt { "Chat" } dd { (platform.as_str()) }
            dt { "Ids" } dd.code { (shown(user)) " in " (shown(team)) }
        }
    }
}

fn signed_in(reader: &Person) -> Markup {
    let groups: Vec<&str> = reader.groups.iter().map(String::as_str).collect();
    html! {
        dl {
            dt { "Name" } dd { strong { (shown(&reader.name)) } }
            dt { "E-mail" } dd { (shown(reader.email.as_deref().unwrap_or("none that is verified"))) }
            dt { "Groups" } dd { (shown(&groups.join(", "))) }
            dt { "Issuer" } dd.code { (shown(&reader.key.issuer)) " " (shown(&reader.key.subject)) }
        }
    }
}
