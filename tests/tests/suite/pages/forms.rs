//! The choice of an issuer, the forms of links, and an error, in a real browser on a phone's screen.

use super::chromium::held_at;
use super::connect::Waiting;
use super::stage::Stage;
use anyhow::{Context, Result, ensure};
use chrono::{TimeDelta, Utc};
use countersign_infra::domain::approval::Choice;
use countersign_infra::domain::example::chat_account;
use countersign_infra::domain::secret::Secret;
use countersign_infra::domain::ticket::{ConfirmVote, LinkChat, PageSession, Purpose, Ticket, TicketId};
use countersign_infra::tickets::TicketStore;
use countersign_tests::chromium::{BROWSER_LIMIT, drive};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::BufReader;
use tokio::process::{Child, Command};

/// What one round answers.
struct Round {
    connecting: Waiting,
    /// Alice's psql, held.
    held: Child,
    arguments: Value,
}

async fn link_to(stage: &Stage, random: u8, page: &str, purpose: Purpose) -> String {
    let (secret, ticket) = Ticket::new([random; 32], purpose, Utc::now(), BROWSER_LIMIT);
    TicketStore::create(&stage.store(), &ticket).await.unwrap();
    format!("{}/{page}/{}", stage.world.gateway.http_url(), secret.reveal())
}

async fn round(stage: &Stage, number: u8, choice: Choice) -> Round {
    let account = chat_account(number.into());
    let mut held = Command::from(stage.world.gateway.psql("alice", "shop"));
    held.args(["--command", &format!("delete from orders where id = {number}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut held = held.spawn().unwrap();
    let mut errors = BufReader::new(held.stderr.take().unwrap());
    let page = held_at(&mut errors).await;
    held.stderr = Some(errors.into_inner());
    let approval = page.rsplit('/').next().unwrap().to_owned();
    let link = LinkChat {
        account: account.clone(),
        account_name: "carol.example".to_owned(),
        team_name: "Example & Co".to_owned(),
    };
    let vote = ConfirmVote {
        account,
        approval: approval.parse().unwrap(),
        choice,
        reason: Some("ticket <b>12</b>".to_owned()),
        grants: false,
        evidence: None,
    };
    let connecting = Waiting::start(stage).await;
    let arguments = json!({
        "link": link_to(stage, number, "link", Purpose::LinkChat(link)).await,
        "connect": connecting.link,
        "code": connecting.code,
        "confirm": link_to(stage, number + 100, "confirm", Purpose::ConfirmVote(vote)).await,
        "approval": approval,
    });
    Round {
        connecting,
        held,
        arguments,
    }
}

/// Makes a session's proof of who its person is ten minutes older than it is.
async fn age(stage: &Stage, asked: &str) -> Result<()> {
    let cookie = asked.strip_prefix("age ").context("only that is asked for")?;
    let store = stage.store();
    let former = store.read(TicketId::of(&Secret::new(cookie.to_owned()))).await?;
    let former = former.context("the session is in the store")?;
    let Purpose::PageSession(session) = &former.purpose else {
        anyhow::bail!("the cookie is no session's: {former:?}");
    };
    ensure!(session.authenticated.is_some(), "its person has just signed in anew");
    let older = PageSession {
        authenticated: session.authenticated.map(|proved| proved - TimeDelta::minutes(10)),
        ..session.clone()
    };
    Ok(store
        .replace(&former.with(Purpose::PageSession(older)), &former)
        .await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_forms_are_answered_on_a_phone() {
    let stage = Stage::with_a_choice().await.unwrap();
    let light = round(&stage, 1, Choice::Approve).await;
    let dark = round(&stage, 2, Choice::Deny).await;
    let arguments = json!({
        "gateway": stage.world.gateway.http_url(),
        "issuer": stage.other.as_ref().unwrap().url,
        "person": "carol",
        "light": light.arguments,
        "dark": dark.arguments,
    });
    let said = drive("forms_in_browser.mjs", arguments, async |asked| {
        age(&stage, asked).await
    });
    assert_eq!(said.await.unwrap(), "answered\n");
    assert_eq!(light.connecting.end().await, (0, "42\n".to_owned()));
    let (exit, printed) = dark.connecting.end().await;
    assert!(exit == 2 && printed.contains("in the browser by"), "{exit} {printed}");
    let approved = light.held.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&approved.stdout), "DELETE 1\n");
    let denied = dark.held.wait_with_output().await.unwrap();
    let told = String::from_utf8_lossy(&denied.stderr).into_owned();
    assert!(
        told.contains("denied by") && told.contains("ticket <b>12</b>"),
        "{told}"
    );
}
