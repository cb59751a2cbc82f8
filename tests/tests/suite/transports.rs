//! What people do in chats reaches whoever answers, and the answer reaches them: every way in, in both chats; and what
//! becomes of messages when a chat fails.

mod discord;
mod slack;

use anyhow::Result;
use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use countersign_bot::answer::Answers;
use countersign_bot::card::Card;
use countersign_bot::chat::{Answer, Ask, Chat, ChatError, Content, File, Request, Say, To};
use countersign_infra::config::Reference;
use countersign_infra::domain::announcement::{MessageRef, PostKind, Room, Span};
use countersign_infra::domain::approval::Approval;
use countersign_infra::domain::example;
use countersign_tests::chat::Fault;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use url::Url;

/// How what people do comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Signed,
    Connected,
}

/// Stands in for who answers: says what a test gave it, and keeps what was asked.
struct StandIn(Mutex<Script>);

struct Script {
    answer: Answer,
    takes: Duration,
    asked: Vec<Request>,
}

impl StandIn {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Script {
            answer: Answer::Silent,
            takes: Duration::ZERO,
            asked: Vec::new(),
        })))
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn will(&self, answer: Answer, takes: Duration) {
        let mut script = self.script();
        (script.answer, script.takes) = (answer, takes);
    }

    fn will_say(&self, text: &str) {
        self.will(Answer::say(text), Duration::ZERO);
    }

    /// Everything that was asked since it was last looked at.
    fn asked(&self) -> Vec<Ask> {
        let asked = std::mem::take(&mut self.script().asked);
        asked.into_iter().map(|request| request.ask).collect()
    }
}

#[async_trait]
impl Answers for StandIn {
    async fn answer(&self, request: Request) -> Answer {
        let (answer, takes) = {
            let mut script = self.script();
            script.asked.push(request);
            (script.answer.clone(), script.takes)
        };
        tokio::time::sleep(takes).await;
        answer
    }
}

/// A file with a secret, by reference.
fn secret(dir: &Path, name: &str, text: &str) -> Reference {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("file:{}", path.display()).try_into().unwrap()
}

/// Serves a router on the loopback interface.
async fn serve(router: axum::Router) -> Result<Url> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?).parse()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

fn press(action: &str, approval: &Approval) -> Ask {
    Ask::Press {
        action: action.to_owned(),
        approval: approval.id.to_string(),
    }
}

/// An approval that waits.
fn pending() -> Approval {
    let (_, approval) = example::approvals().remove(0);
    assert!(approval.is_open());
    approval
}

fn card(approval: &Approval) -> Content {
    Content::Card(Box::new(Card::of(
        approval,
        &"https://gateway.example/".parse().unwrap(),
    )))
}

/// An answer with everything that one may have.
fn rich_answer(approval: &Approval) -> Answer {
    let Content::Card(card) = card(approval) else {
        unreachable!("it is a card");
    };
    Answer::Say(Box::new(Say {
        text: "Two of *them*".to_owned(),
        table: Some("WHO    WHAT\nalice  delete".to_owned()),
        links: vec![(
            "Sign in".to_owned(),
            "https://gateway.example/sign-in?ticket=1".parse().unwrap(),
        )],
        buttons: vec![("Next".to_owned(), "ticket-1".to_owned())],
        card: Some(card),
        file: Some(File {
            name: "audit.csv".to_owned(),
            bytes: b"who,what\nalice,delete\n".to_vec(),
        }),
    }))
}

fn to<'a>(room: &'a Room, approval: &'a Approval, kind: PostKind, thread: Option<&'a MessageRef>) -> To<'a> {
    To {
        room,
        thread,
        approval: &approval.id,
        kind,
    }
}

/// What a test of failures needs of a chat.
struct Failing<'a> {
    chat: &'a dyn Chat,
    room: Room,
    direct: Room,
    fail: &'a dyn Fn(Fault),
    outage: &'a dyn Fn(bool),
    /// How many messages stand in the room.
    count: &'a dyn Fn() -> usize,
}

/// Every fault has its meaning, and what was posted is found by who lost the answer.
async fn check_failures(failing: Failing<'_>) {
    let (chat, approval) = (failing.chat, pending());
    let content = card(&approval);
    let to_card = to(&failing.room, &approval, PostKind::Card, None);
    let since = Span {
        from: Utc::now(),
        to: Utc::now() + TimeDelta::seconds(60),
    };
    assert_eq!(chat.find(&to_card, since).await, Ok(None));

    (failing.fail)(Fault::RateLimited(Duration::from_secs(7)));
    let after = Duration::from_secs(7);
    assert_eq!(chat.post(&to_card, &content).await, Err(ChatError::TooOften { after }));
    for fault in [Fault::Status(503), Fault::Drop] {
        (failing.fail)(fault);
        let posted = chat.post(&to_card, &content).await;
        assert!(matches!(posted, Err(ChatError::Unsure(_))), "{fault:?}: {posted:?}");
    }
    (failing.outage)(true);
    let posted = chat.post(&to_card, &content).await;
    assert!(matches!(posted, Err(ChatError::Unsure(_))), "{posted:?}");
    (failing.outage)(false);
    assert_eq!(chat.find(&to_card, since).await, Ok(None), "none of them did anything");
    assert_eq!((failing.count)(), 0);

    (failing.fail)(Fault::DoneButDrop);
    let posted = chat.post(&to_card, &content).await;
    assert!(matches!(posted, Err(ChatError::Unsure(_))), "{posted:?}");
    let found = chat.find(&to_card, since).await.unwrap().unwrap();
    assert_eq!((failing.count)(), 1);
    chat.update(&found, &content).await.unwrap();

    let outcome = to(&failing.room, &approval, PostKind::Outcome, Some(&found));
    assert_eq!(chat.find(&outcome, since).await, Ok(None));
    let note = Content::Note("approved by bob: `DELETE 1`".to_owned());
    let posted = chat.post(&outcome, &note).await.unwrap();
    assert_eq!(chat.find(&outcome, since).await, Ok(Some(posted)));
    let reminder = to(&failing.room, &approval, PostKind::Reminder { number: 0 }, Some(&found));
    assert_eq!(chat.find(&reminder, since).await, Ok(None));

    let direct = to(&failing.direct, &approval, PostKind::Card, None);
    assert_eq!(chat.find(&direct, since).await, Ok(None));
    let posted = chat.post(&direct, &content).await.unwrap();
    assert_eq!(chat.find(&direct, since).await, Ok(Some(posted)));
}
