//! Announcing: makes every message of an approval show how it stands. From any replica, after any restart, any number of
//! times: what shows it already is left alone.
//!
//! Of several at once one has the turn, written into the announcement's record for a while. A message is written down as
//! `posting` before it is posted: who finds it so looks whether it stands in the chat before they post it. Who had the turn
//! looks at the approval again after giving it up, so that a change which came meanwhile, and was left to them, is shown.
//!
//! Workspaces do not wait for each other: within a turn each is worked on by itself, and of one that is left alone at
//! present nothing is written down or tried.

mod linked;
mod work;
mod workspace;

use crate::chat::Chat;
use crate::plan::{Facts, Plan, Wanted};
use crate::routes::Routes;
use chrono::{TimeDelta, Utc};
use countersign_infra::announcements::{AnnouncementError, AnnouncementStore};
use countersign_infra::approvals::{ApprovalStore, StoreError};
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::announcement::{
    Announcement, MessageRef, POSTS_MAX, Post, PostKind, PostState, Room, Span, Turn,
};
use countersign_infra::domain::approval::{Approval, State};
use countersign_infra::domain::chat_link::{ChatLink, ChatPlatform};
use countersign_infra::domain::id::ApprovalId;
use linked::Linked;
pub use linked::People;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use url::Url;
use work::perhaps;
use workspace::Workspace;

/// How long one turn lasts, and until when within it calls of chats begin: those end 10 s later, and some time is left to
/// write down what they did.
const TURN_LASTS: TimeDelta = TimeDelta::seconds(25);
const WORK_MAX: Duration = Duration::from_secs(10);
/// Looks at one approval within one call: each after the first for a change that came meanwhile.
const LOOKS_MAX: usize = 8;
/// What a chat refused is tried again so often, as whoever is responsible may have seen to it: while the approval goes on,
/// and for a while after its end.
const REFUSED_AGAIN_AFTER: TimeDelta = TimeDelta::seconds(60);
const REFUSED_AGAIN_AFTER_END: TimeDelta = TimeDelta::minutes(5);
const REFUSED_GIVE_UP_AFTER: TimeDelta = TimeDelta::hours(1);
/// What ended so long ago is announced no more.
const GIVE_UP_AFTER: TimeDelta = TimeDelta::hours(24);
/// Rooms that are remembered for refusing.
const REFUSING_MAX: usize = 10_000;

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
    /// Of those, messages that show how the approval stands, and those that a chat refuses for now.
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
    pub routes: Routes,
    pub pages: Url,
    chats: HashMap<(ChatPlatform, String), Workspace>,
    linked: Linked,
    /// Rooms that take no messages, and why not: told once.
    refusing: Mutex<BTreeMap<Room, String>>,
    /// Something will be due soon.
    stirred: Notify,
}

impl Announcer {
    pub fn new(
        approvals: Arc<dyn ApprovalStore>,
        announcements: Arc<dyn AnnouncementStore>,
        people: People,
        routes: Routes,
        pages: Url,
        chats: Vec<Arc<dyn Chat>>,
    ) -> Self {
        let chats = chats.into_iter().map(|chat| {
            let name = (chat.platform(), chat.team().to_owned());
            (name, Workspace::new(chat))
        });
        Self {
            approvals,
            announcements,
            routes,
            pages,
            chats: chats.collect(),
            linked: Linked::new(people),
            refusing: Mutex::default(),
            stirred: Notify::new(),
        }
    }

    /// Leaves workspaces that do not answer alone for another time.
    #[cfg(test)]
    fn resting(mut self, first: Duration) -> Self {
        for workspace in self.chats.values_mut() {
            workspace.rest_first = first;
        }
        self
    }

    /// Waits until an announcement was written down that will be due. Cancel safe.
    pub async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// Makes every message show how the approval stands. Takes at most about 20 s, mostly far less; dropped midway it is
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
        let with_deciders = self.routes.of(&approval).is_some_and(|route| route.direct);
        let links = self.linked.concerned(&approval, with_deciders).await;
        let mut plan = self.plan(&approval, &current, &links, now);
        plan.due = soonest([plan.due, refused_until(&current, &plan, &approval)]);
        let missing = self.missing(&current, &plan, &approval, now);
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
        let (resting, ready): (Vec<&Wanted>, Vec<&Wanted>) =
            missing.into_iter().partition(|wanted| self.rests(&wanted.room));
        let waits = soonest(resting.iter().map(|wanted| self.back_at(&wanted.room, id)));
        if ready.is_empty() {
            let due = soonest([plan.due, waits]);
            return self.put_off(current, stored.as_ref(), due, shown).await;
        }
        let Some(taken) = self.take_turn(&current, stored.as_ref(), &ready, now).await? else {
            return Ok(Look::Again(shown));
        };
        let posts = self.work(&current, &taken, &ready, until).await;
        let mut next = Announcement {
            posts,
            turn: None,
            version: taken.version + 1,
            ..taken.clone()
        };
        let left = self.missing(&next, &plan, &approval, Utc::now());
        let again = left.iter().map(|wanted| self.back_at(&wanted.room, id));
        let again = soonest(again.chain([refused_until(&next, &plan, &approval)]));
        next.due = soonest([plan.due.filter(|due| *due > now), again]);
        let is_done = left.is_empty();
        let shown = Shown {
            shown: plan.wanted.len() - left.len(),
            ..shown
        };
        match self.put(&next, Some(&taken)).await {
            Ok(()) if is_done => Ok(Look::Again(shown)),
            Ok(()) => Ok(Look::Left(shown)),
            // The turn was over, and somebody else has it.
            Err(AnnouncementError::Conflict { .. }) => Ok(Look::Again(shown)),
            Err(error) => Err(error.into()),
        }
    }

    async fn put(&self, next: &Announcement, former: Option<&Announcement>) -> Result<(), AnnouncementError> {
        let put = self.announcements.put(next, former).await;
        if next.due.is_some() {
            self.stirred.notify_one();
        }
        put
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
        match self.put(&next, stored).await {
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
            link_lasts: self.linked.people.link_lasts,
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
    fn missing<'p>(
        &self,
        current: &Announcement,
        plan: &'p Plan,
        approval: &Approval,
        now: Timestamp,
    ) -> Vec<&'p Wanted> {
        let is_missing = |wanted: &&Wanted| match current.post(&wanted.room, wanted.kind).map(|post| &post.state) {
            Some(PostState::Refused { again, .. }) => {
                is_tried_again(approval, now) && again.is_none_or(|again| again <= now)
            }
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
            let is_there = current.post(&wanted.room, wanted.kind).is_some();
            if !is_there && taken.posts.len() < POSTS_MAX {
                taken.posts.push(Post {
                    room: wanted.room.clone(),
                    kind: wanted.kind,
                    state: PostState::Posting,
                    tried: None,
                });
            }
            if let Some(post) = find_mut(&mut taken.posts, wanted).filter(|post| message(post).is_none()) {
                let from = perhaps(Some(post), current.created, now).map_or(now, |span| span.from);
                let to = now + TURN_LASTS;
                post.tried = Some(Span { from, to });
            }
        }
        taken.version += 1;
        taken.turn = Some(Turn {
            bot: u64::from_be_bytes(random) >> 12,
            until: now + TURN_LASTS,
        });
        taken.due = Some(now + TURN_LASTS);
        match self.put(&taken, stored).await {
            Ok(()) => Ok(Some(taken)),
            Err(AnnouncementError::Conflict { current }) if current.as_deref() == Some(&taken) => Ok(Some(taken)),
            Err(AnnouncementError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn workspace(&self, room: &Room) -> Option<&Workspace> {
        self.chats.get(&(room.platform, room.team.clone()))
    }

    fn rests(&self, room: &Room) -> bool {
        self.workspace(room).is_some_and(Workspace::rests)
    }

    /// When an approval that waits for a room's workspace is looked at again.
    fn back_at(&self, room: &Room, approval: &ApprovalId) -> Option<Timestamp> {
        let wait = self.workspace(room)?.back_in(approval);
        Some(Utc::now() + TimeDelta::from_std(wait).ok()?)
    }
}

enum Look {
    Done(Shown),
    /// Something changed meanwhile, or may have.
    Again(Shown),
    /// Somebody else is at it, or a chat will be asked again later.
    Left(Shown),
}

fn find<'p>(posts: &'p [Post], room: &Room, kind: PostKind) -> Option<&'p Post> {
    posts.iter().find(|post| post.room == *room && post.kind == kind)
}

fn message(post: &Post) -> Option<&MessageRef> {
    match &post.state {
        PostState::Posted { message, .. } => Some(message),
        PostState::Refused { message, .. } => message.as_ref(),
        PostState::Posting => None,
    }
}

fn is_refused(current: &Announcement, room: &Room) -> bool {
    let card = current.post(room, PostKind::Card);
    card.is_some_and(|post| matches!(post.state, PostState::Refused { .. }))
}

fn find_mut<'p>(posts: &'p mut [Post], wanted: &Wanted) -> Option<&'p mut Post> {
    posts
        .iter_mut()
        .find(|post| post.room == wanted.room && post.kind == wanted.kind)
}

/// Whether it is still worth while to try again what a chat refused.
fn is_tried_again(approval: &Approval, now: Timestamp) -> bool {
    ended(approval).is_none_or(|at| now - at <= REFUSED_GIVE_UP_AFTER)
}

/// When the first of what was refused is to be tried again.
fn refused_until(current: &Announcement, plan: &Plan, approval: &Approval) -> Option<Timestamp> {
    let posts = plan
        .wanted
        .iter()
        .filter_map(|wanted| current.post(&wanted.room, wanted.kind));
    let times = posts.filter_map(|post| match &post.state {
        PostState::Refused { again, .. } => *again,
        PostState::Posting | PostState::Posted { .. } => None,
    });
    let seldom = ended(approval).map_or(TimeDelta::zero(), |_| REFUSED_AGAIN_AFTER_END - REFUSED_AGAIN_AFTER);
    times
        .min()
        .map(|at| at + seldom)
        .filter(|at| is_tried_again(approval, *at))
}

fn soonest(times: impl IntoIterator<Item = Option<Timestamp>>) -> Option<Timestamp> {
    times.into_iter().flatten().min()
}

/// Whether the time of the next look is worth a write: none any more, or one that is past.
fn is_later(current: Option<Timestamp>, next: Option<Timestamp>, now: Timestamp) -> bool {
    match (current, next) {
        (None, None) => false,
        (Some(_), None) | (None, Some(_)) => true,
        // Moments of two clocks, each computed anew: a difference of less than a second is none.
        (Some(current), Some(next)) => current <= now || next + TimeDelta::seconds(1) < current,
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
