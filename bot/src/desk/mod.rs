//! What stands behind the chats: who somebody is, what they may do, and the answer. Both chats meet here.

use crate::announce::Announcer;
use crate::answer::Answers;
use crate::app::Mode;
use crate::chat::{Answer, Ask, Chat, Request, Say};
use crate::limits::Limits;
use async_trait::async_trait;
use chrono::Utc;
use command::Command;
use countersign_infra::approvals::StoreClock;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::chat_link::{ChatAccount, ChatPlatform};
use countersign_infra::domain::id::ApprovalId;
use countersign_infra::domain::identity::Person;
use countersign_infra::domain::secret::Secret;
use countersign_infra::domain::ticket::{Purpose, Ticket};
use countersign_infra::journal::SharedJournal;
use countersign_infra::policy::{GatewayAction, PolicyHandle};
use countersign_infra::stores::Stores;
use countersign_infra::tickets::TicketError;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;
use url::Url;

mod approver;
mod audit;
pub(crate) mod command;
mod decide;
mod home;
mod pending;
mod sessions;

/// Widest line of a table, in characters: a phone shows no more of a block of code without wrapping it.
const TABLE_CHARS_MAX: usize = 40;

/// What the desk is made of.
pub struct DeskParts {
    pub stores: Stores,
    pub journal: SharedJournal,
    pub clock: Arc<StoreClock>,
    pub policy: PolicyHandle,
    pub announcer: Arc<Announcer>,
    pub chats: Vec<Arc<dyn Chat>>,
    /// Where people reach the gateway's pages.
    pub pages: Url,
    /// How long a sign-in stands for what its person may do.
    pub link_lasts: Duration,
    /// The address that a workspace verified says whose account it is.
    pub verified_email: bool,
    /// Votes on what these rules hold are confirmed by a fresh sign-in.
    pub step_up_rules: BTreeSet<String>,
    pub mode: Mode,
    /// How long an answer is waited for. Where nothing brings it later, chats drop what is not answered within 3 s.
    pub patience: Duration,
    pub tasks: TaskTracker,
}

/// Answers what people do in chats.
pub struct Desk {
    stores: Stores,
    journal: SharedJournal,
    clock: Arc<StoreClock>,
    policy: PolicyHandle,
    announcer: Arc<Announcer>,
    chats: HashMap<(ChatPlatform, String), Arc<dyn Chat>>,
    profiles: approver::Profiles,
    limits: Limits,
    pages: Url,
    link_lasts: Duration,
    verified_email: bool,
    step_up_rules: BTreeSet<String>,
    mode: Mode,
    patience: Duration,
    tasks: TaskTracker,
}

impl Desk {
    pub fn new(parts: DeskParts) -> Arc<Self> {
        let key = |chat: &Arc<dyn Chat>| (chat.platform(), chat.team().to_owned());
        Arc::new(Self {
            chats: parts.chats.into_iter().map(|chat| (key(&chat), chat)).collect(),
            stores: parts.stores,
            journal: parts.journal,
            clock: parts.clock,
            policy: parts.policy,
            announcer: parts.announcer,
            profiles: approver::Profiles::default(),
            limits: Limits::default(),
            pages: parts.pages,
            link_lasts: parts.link_lasts,
            verified_email: parts.verified_email,
            step_up_rules: parts.step_up_rules,
            mode: parts.mode,
            patience: parts.patience,
            tasks: parts.tasks,
        })
    }

    async fn respond(&self, request: Request) -> Answer {
        let admitted = match self.limits.take(&request.account, std::time::Instant::now()) {
            Ok(()) => self.admit(request).await,
            Err(wait) => Err(too_many(wait)),
        };
        let request = match &admitted {
            Ok(request) => request,
            Err(answer) => return answer.clone(),
        };
        match &request.ask {
            Ask::Press { action, approval } => self.press(request, action, approval).await,
            Ask::Reason { approval, reason } => self.deny(request, approval, reason).await,
            Ask::Command { text } => self.command(request, text).await,
            Ask::Page { ticket } => self.turn_page(request, &Secret::new(ticket.clone())).await,
        }
        .unwrap_or_else(|answer| answer)
    }

    /// Finds out of which workspace a request is, and whether that takes any more.
    async fn admit(&self, request: Request) -> Result<Request, Answer> {
        let request = self.at_home(request).await?;
        // A store that does not answer says so once more where it is asked who this is.
        let link = self.stores.chat_links.read(&request.account).await;
        let is_linked = link.is_ok_and(|link| link.is_some());
        let now = std::time::Instant::now();
        let taken = self.limits.take_shared(&request.account, is_linked, now);
        taken.map(|()| request).map_err(too_many)
    }

    async fn command(&self, request: &Request, text: &str) -> Result<Answer, Answer> {
        match Command::read(text).map_err(Answer::say)? {
            Command::Help => Ok(Answer::say(command::HELP)),
            Command::Link => self.link(request).await,
            Command::Pending => self.pending(request).await,
            Command::Show(id) => self.show(request, &id).await,
            Command::Approve(id) => self.press(request, "approve", id.as_str()).await,
            Command::Deny(id, reason) => self.deny(request, id.as_str(), &reason).await,
            Command::Audit(question) => self.audit(request, &question).await,
            Command::Sessions => self.sessions(request).await,
        }
    }

    /// Whether the policy lets a person do something on the gateway itself.
    fn allows(&self, person: &Person, action: GatewayAction) -> bool {
        self.policy.current().allows(person, action, Utc::now())
    }

    /// The secret of a ticket: it opens what `purpose` says, as long as it `lasts`.
    async fn ticket(&self, purpose: Purpose, lasts: Duration) -> Result<Secret, Answer> {
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| unready("the random source failed"))?;
        let (secret, ticket) = Ticket::new(random, purpose, Utc::now(), lasts);
        match self.stores.tickets.create(&ticket).await {
            Ok(()) => Ok(secret),
            Err(TicketError::Conflict { current: Some(current) }) if *current == ticket => Ok(secret),
            Err(error) => Err(unready(error)),
        }
    }

    fn page(&self, path: &str) -> Result<Url, Answer> {
        self.pages.join(path).map_err(unready)
    }

    /// Draws the cards of a decided approval anew. A function leaves that to the ring of the gateway that holds it: the gateway
    /// looks at each vote anyway, and the next click need not wait.
    fn redraw_decided(&self, id: &ApprovalId) {
        match self.mode {
            Mode::LongLived => self.redraw(id),
            Mode::Function => {}
        }
    }

    /// Draws the cards anew after the answer.
    fn redraw(&self, id: &ApprovalId) {
        let (announcer, id) = (self.announcer.clone(), id.clone());
        self.tasks.spawn(async move {
            if let Err(error) = announcer.announce(&id).await {
                tracing::warn!(approval = %id, %error, "the cards of a decided approval could not be drawn anew");
            }
        });
    }
}

#[async_trait]
impl Answers for Arc<Desk> {
    async fn answer(&self, request: Request) -> Answer {
        // A decision goes on though its answer is late: the card shows it then.
        let desk = self.clone();
        let answered = self.tasks.spawn(async move { desk.respond(request).await });
        match tokio::time::timeout(self.patience, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::error!(%error, "a chat's request was not answered");
                Answer::say("That went wrong here: look at the card before you try again.")
            }
            Err(_) => Answer::say(
                "The store takes its time. What you asked for may still be done: look at the card in a moment before you \
                 try again.",
            ),
        }
    }
}

fn too_many(wait: Duration) -> Answer {
    let seconds = wait.as_secs().max(1);
    Answer::say(format!("Too many requests at once: try again in {seconds} s."))
}

/// What cannot be done now.
fn unready(why: impl std::fmt::Display) -> Answer {
    tracing::warn!(%why, "a chat's request could not be carried out");
    Answer::say("The store cannot be asked just now, so nothing was done. Try again in a moment.")
}

/// Reads the number of an approval as a person or a button gives it.
fn approval_id(text: &str) -> Result<ApprovalId, Answer> {
    let none = |_| Answer::say(format!("There is no approval {}.", shown(text)));
    text.trim().to_uppercase().parse().map_err(none)
}

/// A text of somebody's as it may be shown in a sentence.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(40).collect();
    countersign_infra::domain::display::escape(&cut).replace(['\n', '\t'], " ")
}

/// `14:03 UTC`, or with the date where it is another day's.
fn clock(at: Timestamp, now: Timestamp) -> String {
    let form = if at.date_naive() == now.date_naive() {
        "%H:%M UTC"
    } else {
        "%m-%d %H:%M"
    };
    at.format(form).to_string()
}

/// An answer with a link that is for this person alone.
fn with_link(text: impl Into<String>, label: &str, url: Url) -> Answer {
    Answer::Say(Box::new(Say {
        text: text.into(),
        links: vec![(label.to_owned(), url)],
        ..Say::default()
    }))
}

/// Names of an account in tickets and evidence.
fn named(account: &ChatAccount, name: &str) -> String {
    format!("{} ({})", shown(name), account.user)
}
