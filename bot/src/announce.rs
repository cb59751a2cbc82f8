//! Announcing: makes every message of an approval show how it stands. From any replica, after any restart, any number of
//! times: what shows it already is left alone.
//!
//! Of several at once one has the turn, written into the announcement's record for a while. A message is written down as
//! `posting` before it is posted: who finds it so looks whether it stands in the chat before they post it. Who had the turn
//! looks at the approval again after giving it up, so that a change which came meanwhile, and was left to them, is shown.

use crate::chat::{Chat, ChatError, To};
use crate::plan::{Facts, Plan, Wanted};
use crate::routes::Routes;
use chrono::{TimeDelta, Utc};
use countersign_infra::announcements::{AnnouncementError, AnnouncementStore};
use countersign_infra::approvals::{ApprovalStore, StoreError};
use countersign_infra::chat_links::ChatLinkStore;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::announcement::{
    Announcement, MessageRef, POSTS_MAX, Post, PostKind, PostState, Room, Turn,
};
use countersign_infra::domain::approval::{Approval, State};
use countersign_infra::domain::chat_link::{ChatLink, ChatPlatform};
use countersign_infra::domain::id::ApprovalId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;

/// How long one turn lasts, and how much of that is for the chats.
const TURN_LASTS: TimeDelta = TimeDelta::seconds(45);
const WORK_MAX: Duration = Duration::from_secs(30);
/// Looks at one approval within one call: each after the first for a change that came meanwhile.
const LOOKS_MAX: usize = 8;
/// What a chat would not take is tried again after that.
const AGAIN_AFTER: TimeDelta = TimeDelta::seconds(10);
/// What ended so long ago is announced no more.
const GIVE_UP_AFTER: TimeDelta = TimeDelta::hours(24);
/// Links that are looked through for direct messages, and for how long they are remembered.
const LINKS_MAX: usize = 5000;
const LINKS_LAST: Duration = Duration::from_secs(30);
/// Calls to one workspace at once.
const CALLS_MAX: usize = 4;

/// Why an approval could not be announced.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    #[error(transparent)]
    Approvals(#[from] StoreError),
    #[error(transparent)]
    Announcements(#[from] AnnouncementError),
    #[error("the random source failed")]
    Random,
}

/// How far an announcement has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Messages that there are to be.
    pub places: usize,
    /// Of those, messages that show how the approval stands, and those that a chat will never take.
    pub shown: usize,
}

impl Shown {
    pub fn everywhere(self) -> bool {
        self.shown >= self.places
    }
}

/// Brings messages up to date.
pub struct Announcer {
    pub approvals: Arc<dyn ApprovalStore>,
    pub announcements: Arc<dyn AnnouncementStore>,
    pub links: Arc<dyn ChatLinkStore>,
    pub routes: Routes,
    pub pages: Url,
    chats: HashMap<(ChatPlatform, String), Workspace>,
    /// Links as they were a moment ago.
    linked: Mutex<Option<(Instant, Arc<Vec<ChatLink>>)>>,
}

struct Workspace {
    chat: Arc<dyn Chat>,
    calls: Semaphore,
    /// It said that it is asked too often.
    paused: Mutex<Option<Instant>>,
}

impl Announcer {
    pub fn new(
        approvals: Arc<dyn ApprovalStore>,
        announcements: Arc<dyn AnnouncementStore>,
        links: Arc<dyn ChatLinkStore>,
        routes: Routes,
        pages: Url,
        chats: Vec<Arc<dyn Chat>>,
    ) -> Self {
        let chats = chats.into_iter().map(|chat| {
            let workspace = Workspace {
                calls: Semaphore::new(CALLS_MAX),
                paused: Mutex::default(),
                chat: chat.clone(),
            };
            ((chat.platform(), chat.team().to_owned()), workspace)
        });
        Self {
            approvals,
            announcements,
            links,
            routes,
            pages,
            chats: chats.collect(),
            linked: Mutex::default(),
        }
    }

    /// Makes every message show how the approval stands. Takes at most about 40 s, mostly far less; dropped midway it is
    /// taken up by whoever is asked next, at the latest when it is due.
    pub async fn announce(&self, id: &ApprovalId) -> Result<Shown, AnnounceError> {
        let until = Instant::now() + WORK_MAX;
        let mut shown = Shown { places: 1, shown: 0 };
        for _ in 0..LOOKS_MAX {
            match self.look(id, until).await? {
                Look::Done(now) => return Ok(now),
                Look::Again(now) => shown = now,
                Look::Left(now) => return Ok(now),
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(shown)
    }

    async fn look(&self, id: &ApprovalId, until: Instant) -> Result<Look, AnnounceError> {
        let approval = self.approvals.read(id).await?;
        let stored = self.announcements.read(id).await?;
        let now = Utc::now();
        let current = stored
            .clone()
            .unwrap_or_else(|| Announcement::new(id.clone(), approval.created));
        let links = self.linked().await;
        let plan = self.plan(&approval, &current, &links, now);
        let missing = self.missing(&current, &plan);
        let shown = Shown {
            places: plan.wanted.len(),
            shown: plan.wanted.len() - missing.len(),
        };
        let gives_up = ended(&approval).is_some_and(|at| now - at > GIVE_UP_AFTER);
        if missing.is_empty() || gives_up {
            return self.put_off(current, stored.as_ref(), plan.due, shown).await;
        }
        if current.is_taken(now) {
            return Ok(Look::Left(shown));
        }
        let Some(taken) = self.take_turn(&current, stored.as_ref(), &missing, now).await? else {
            return Ok(Look::Again(shown));
        };
        let (posts, again) = self.work(&current, &taken, &missing, until).await;
        let next = Announcement {
            posts,
            turn: None,
            due: again.or(plan.due),
            version: taken.version + 1,
            ..taken.clone()
        };
        match self.announcements.put(&next, Some(&taken)).await {
            Ok(()) if again.is_none() => Ok(Look::Again(shown)),
            Ok(()) => Ok(Look::Left(Shown {
                shown: plan.wanted.len() - self.missing(&next, &plan).len(),
                ..shown
            })),
            // The turn was over, and somebody else has it.
            Err(AnnouncementError::Conflict { .. }) => Ok(Look::Again(shown)),
            Err(error) => Err(error.into()),
        }
    }

    /// Nothing is to be posted now: at most the time of the next look is another.
    async fn put_off(
        &self,
        current: Announcement,
        stored: Option<&Announcement>,
        due: Option<Timestamp>,
        shown: Shown,
    ) -> Result<Look, AnnounceError> {
        let now = Utc::now();
        let is_worth_it = stored.is_some() || due.is_some();
        if !is_worth_it || current.is_taken(now) || !is_later(current.due, due, now) {
            return Ok(Look::Done(shown));
        }
        let next = Announcement {
            due,
            turn: None,
            version: current.version + 1,
            ..current
        };
        match self.announcements.put(&next, stored).await {
            Ok(()) => Ok(Look::Done(shown)),
            Err(AnnouncementError::Conflict { .. }) => Ok(Look::Again(shown)),
            Err(error) => Err(error.into()),
        }
    }

    fn plan(&self, approval: &Approval, posted: &Announcement, links: &[ChatLink], now: Timestamp) -> Plan {
        let facts = Facts {
            approval,
            posted,
            route: self.routes.of(approval),
            links,
            pages: &self.pages,
            now,
        };
        let mut plan = Plan::of(&facts);
        // A workspace that is configured no more cannot be reached.
        plan.wanted.retain(|wanted| self.workspace(&wanted.room).is_some());
        plan.wanted.truncate(POSTS_MAX);
        plan
    }

    /// What is wanted and does not stand so in a chat. Notes wait for the card in whose thread they stand.
    fn missing<'p>(&self, current: &Announcement, plan: &'p Plan) -> Vec<&'p Wanted> {
        let is_missing = |wanted: &&Wanted| match current.post(&wanted.room, wanted.kind).map(|post| &post.state) {
            Some(PostState::Refused { .. }) => false,
            Some(PostState::Posted { shows, .. }) => {
                let digest = self
                    .workspace(&wanted.room)
                    .map(|workspace| workspace.chat.digest(&wanted.content));
                digest.is_some_and(|digest| digest != *shows)
            }
            Some(PostState::Posting) => true,
            None => {
                let has_room = current.posts.len() < POSTS_MAX;
                has_room && (wanted.kind == PostKind::Card || !is_refused(current, &wanted.room))
            }
        };
        plan.wanted.iter().filter(is_missing).collect()
    }

    /// Writes down what is about to be posted, and by whom. None: somebody else was first.
    async fn take_turn(
        &self,
        current: &Announcement,
        stored: Option<&Announcement>,
        missing: &[&Wanted],
        now: Timestamp,
    ) -> Result<Option<Announcement>, AnnounceError> {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| AnnounceError::Random)?;
        let mut taken = current.clone();
        for wanted in missing {
            if current.post(&wanted.room, wanted.kind).is_none() && taken.posts.len() < POSTS_MAX {
                taken.posts.push(Post {
                    room: wanted.room.clone(),
                    kind: wanted.kind,
                    state: PostState::Posting,
                });
            }
        }
        taken.version += 1;
        taken.turn = Some(Turn {
            bot: u64::from_be_bytes(random) >> 12,
            until: now + TURN_LASTS,
        });
        taken.due = Some(now + TURN_LASTS);
        match self.announcements.put(&taken, stored).await {
            Ok(()) => Ok(Some(taken)),
            Err(AnnouncementError::Conflict { current }) if current.as_deref() == Some(&taken) => Ok(Some(taken)),
            Err(AnnouncementError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Posts and changes messages. The posts as they are then, and when to try again what failed.
    async fn work(
        &self,
        before: &Announcement,
        taken: &Announcement,
        missing: &[&Wanted],
        until: Instant,
    ) -> (Vec<Post>, Option<Timestamp>) {
        let mut posts = taken.posts.clone();
        let mut again: Option<Timestamp> = None;
        for wanted in missing {
            // It was on its way before this turn: it may have arrived.
            let perhaps = before.post(&wanted.room, wanted.kind).is_some();
            // What is written down nowhere would be posted again and again.
            if taken.post(&wanted.room, wanted.kind).is_none() {
                continue;
            }
            // Dropped midway it is looked for by whoever has the next turn, which begins later.
            let shown = timeout_at(until, self.show(&posts, wanted, perhaps, taken)).await;
            let done = shown.unwrap_or_else(|_| Err(ChatError::Unsure("its turn is over".to_owned())));
            let after = match done {
                Ok(state) => {
                    set(&mut posts, wanted, state);
                    continue;
                }
                Err(ChatError::Refused(why)) => {
                    tracing::error!(approval = %taken.approval, room = ?wanted.room, %why, "a message cannot be posted");
                    set(&mut posts, wanted, PostState::Refused { why });
                    continue;
                }
                Err(ChatError::TooOften { after }) => {
                    if !perhaps {
                        // It was certainly not posted, and need not be looked for.
                        posts.retain(|post| post.room != wanted.room || post.kind != wanted.kind);
                    }
                    let after = TimeDelta::from_std(after).unwrap_or(AGAIN_AFTER);
                    after.clamp(TimeDelta::seconds(1), TimeDelta::minutes(5))
                }
                Err(ChatError::Unsure(why)) => {
                    tracing::warn!(approval = %taken.approval, %why, "a chat did not say that it took a message");
                    AGAIN_AFTER
                }
            };
            let at = Utc::now() + after;
            again = Some(again.map_or(at, |other| other.min(at)));
        }
        (posts, again)
    }

    async fn show(
        &self,
        posts: &[Post],
        wanted: &Wanted,
        perhaps: bool,
        announcement: &Announcement,
    ) -> Result<PostState, ChatError> {
        let Some(workspace) = self.workspace(&wanted.room) else {
            return Err(ChatError::Refused("the workspace is not configured".to_owned()));
        };
        let shows = workspace.chat.digest(&wanted.content);
        let posted = |message| PostState::Posted { message, shows };
        let stands = find(posts, &wanted.room, wanted.kind).and_then(message);
        if let Some(message) = stands {
            let changed = workspace.call(workspace.chat.update(message, &wanted.content)).await;
            return changed.map(|()| posted(message.clone()));
        }
        let thread = match wanted.kind {
            PostKind::Card => None,
            PostKind::Outcome | PostKind::Reminder { .. } => {
                let card = find(posts, &wanted.room, PostKind::Card).and_then(message);
                // The card is on its way itself: its note comes after it.
                Some(card.ok_or_else(|| ChatError::Unsure("its card does not stand yet".to_owned()))?)
            }
        };
        let to = To {
            room: &wanted.room,
            thread,
            approval: &announcement.approval,
            kind: wanted.kind,
        };
        if perhaps && let Some(message) = workspace.call(workspace.chat.find(&to, announcement.created)).await? {
            workspace.call(workspace.chat.update(&message, &wanted.content)).await?;
            return Ok(posted(message));
        }
        let message = workspace.call(workspace.chat.post(&to, &wanted.content)).await?;
        Ok(posted(message))
    }

    fn workspace(&self, room: &Room) -> Option<&Workspace> {
        self.chats.get(&(room.platform, room.team.clone()))
    }

    /// Linked accounts as they were within the last half minute; none when they cannot be read: direct messages are a
    /// courtesy.
    async fn linked(&self) -> Arc<Vec<ChatLink>> {
        let remembered = |linked: MutexGuard<'_, Option<(Instant, Arc<Vec<ChatLink>>)>>| {
            let (at, links) = linked.as_ref()?;
            (at.elapsed() < LINKS_LAST).then(|| links.clone())
        };
        if let Some(links) = remembered(self.linked.lock().unwrap_or_else(PoisonError::into_inner)) {
            return links;
        }
        match self.links.all(LINKS_MAX).await {
            Ok(links) => {
                let links = Arc::new(links);
                *self.linked.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), links.clone()));
                links
            }
            Err(error) => {
                tracing::warn!(%error, "nobody is written to directly: linked accounts cannot be read");
                Arc::default()
            }
        }
    }
}

enum Look {
    Done(Shown),
    /// Something changed meanwhile, or may have.
    Again(Shown),
    /// Somebody else is at it, or a chat will be asked again later.
    Left(Shown),
}

impl Workspace {
    /// Asks the chat, unless it said that it is asked too often.
    async fn call<T>(&self, call: impl Future<Output = Result<T, ChatError>>) -> Result<T, ChatError> {
        let permit = self.calls.acquire().await;
        let _permit = permit.map_err(|_| ChatError::Unsure("the bot is stopping".to_owned()))?;
        if let Some(after) = self.pause() {
            return Err(ChatError::TooOften { after });
        }
        let answer = call.await;
        if let Err(ChatError::TooOften { after }) = &answer {
            let until = Instant::now() + *after;
            *self.paused.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
        answer
    }

    fn pause(&self) -> Option<Duration> {
        let paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        let left = paused.and_then(|until| until.checked_duration_since(Instant::now()));
        left.filter(|left| !left.is_zero())
    }
}

fn find<'p>(posts: &'p [Post], room: &Room, kind: PostKind) -> Option<&'p Post> {
    posts.iter().find(|post| post.room == *room && post.kind == kind)
}

fn message(post: &Post) -> Option<&MessageRef> {
    match &post.state {
        PostState::Posted { message, .. } => Some(message),
        PostState::Posting | PostState::Refused { .. } => None,
    }
}

fn is_refused(current: &Announcement, room: &Room) -> bool {
    let card = current.post(room, PostKind::Card);
    card.is_some_and(|post| matches!(post.state, PostState::Refused { .. }))
}

fn set(posts: &mut [Post], wanted: &Wanted, state: PostState) {
    let post = posts
        .iter_mut()
        .find(|post| post.room == wanted.room && post.kind == wanted.kind);
    if let Some(post) = post {
        post.state = state;
    }
}

/// Whether the time of the next look is worth a write: none any more, or one that is past.
fn is_later(current: Option<Timestamp>, next: Option<Timestamp>, now: Timestamp) -> bool {
    match (current, next) {
        (None, None) => false,
        (Some(_), None) | (None, Some(_)) => true,
        (Some(current), Some(next)) => current <= now || next < current,
    }
}

fn ended(approval: &Approval) -> Option<Timestamp> {
    match &approval.state {
        State::Pending | State::Approved { .. } | State::Executing { .. } => None,
        State::Denied { at, .. }
        | State::Expired { at }
        | State::Withdrawn { at, .. }
        | State::Abandoned { at, .. }
        | State::Revoked { at, .. }
        | State::Done { at, .. }
        | State::Unknown { at, .. } => Some(*at),
    }
}

#[cfg(test)]
mod tests;
