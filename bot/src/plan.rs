//! Which messages an approval should have, as it stands at a moment. Pure: what is there already is compared elsewhere.

use crate::card::Card;
use crate::chat::Content;
use crate::routes::{direct, room, rooms};
use chrono::TimeDelta;
use countersign_infra::config::Route;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::announcement::{Announcement, POSTS_MAX, Post, PostKind, PostState, Room};
use countersign_infra::domain::approval::{Approval, State};
use countersign_infra::domain::chat_link::{ChatLink, ChatPlatform};
use std::collections::BTreeSet;
use std::time::Duration;
use url::Url;

/// Direct messages of one announcement.
const DIRECT_MAX: usize = 20;
/// Messages after which nobody is reminded any more: room stays for cards and outcomes.
const REMINDED_MAX: usize = POSTS_MAX / 2;
/// What was decided and not answered yet is looked at again after that: a ring may be lost.
const LOOK_AGAIN: TimeDelta = TimeDelta::seconds(15);
/// An approval that waits is over by its gateway soon after its deadline.
const AFTER_DEADLINE: TimeDelta = TimeDelta::seconds(30);

/// One message as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub room: Room,
    pub kind: PostKind,
    pub content: Content,
}

/// All messages as they should be, and when to look again though nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub wanted: Vec<Wanted>,
    pub due: Option<Timestamp>,
}

/// What a plan is made of.
pub struct Facts<'a> {
    pub approval: &'a Approval,
    /// What was posted before stays, whatever the routes are now.
    pub posted: &'a Announcement,
    pub route: Option<&'a Route>,
    /// Linked accounts, for direct messages.
    pub links: &'a [ChatLink],
    /// How long a sign-in stands for who somebody is: nobody else is written to.
    pub link_lasts: Duration,
    /// Where people reach the gateway's pages.
    pub pages: &'a Url,
    pub now: Timestamp,
}

impl Plan {
    pub fn of(facts: &Facts<'_>) -> Self {
        let card = Card::of(facts.approval, facts.pages);
        let mut wanted: Vec<Wanted> = card_rooms(facts)
            .into_iter()
            .map(|room| Wanted {
                content: Content::Card(Box::new(card_in(facts, &card, &room))),
                kind: PostKind::Card,
                room,
            })
            .collect();
        let threads: Vec<Room> = wanted
            .iter()
            .map(|wanted| wanted.room.clone())
            .filter(|room| !room.is_direct)
            .collect();
        wanted.extend(threads.iter().flat_map(|room| notes(facts, &card, room)));
        Self {
            wanted,
            due: due(facts),
        }
    }
}

/// The rooms that show the card: those that do already first, in their order.
fn card_rooms(facts: &Facts<'_>) -> Vec<Room> {
    let cards = facts.posted.posts.iter().filter(|post| post.kind == PostKind::Card);
    let mut rooms: Vec<Room> = cards.map(|post| post.room.clone()).collect();
    let mut known: BTreeSet<Room> = rooms.iter().cloned().collect();
    // A channel tells of what was decided while its chat was away, too.
    rooms.extend(new_rooms(facts).into_iter().filter(|room| known.insert(room.clone())));
    rooms
}

fn new_rooms(facts: &Facts<'_>) -> Vec<Room> {
    let Some(route) = facts.route else {
        return Vec::new();
    };
    let mut found: Vec<Room> = route.channels.iter().map(room).collect();
    if let Some(escalation) = &route.escalate
        && facts.approval.is_open()
        && facts.now >= facts.approval.created + TimeDelta::seconds(i64::from(escalation.after_seconds))
    {
        found.extend(rooms(escalation));
    }
    let fresh = || {
        let links = facts.links.iter();
        links.filter(|link| link.is_fresh(facts.now, facts.link_lasts))
    };
    let requester = fresh().filter(|link| link.person.key == facts.approval.requester.key);
    let deciders = fresh().filter(|link| route.direct && facts.approval.may_vote(&link.person).is_ok());
    let cards = facts.posted.posts.iter().filter(|post| post.kind == PostKind::Card);
    let mut written: BTreeSet<&str> = cards.filter_map(|post| written_to(&post.room)).collect();
    let people = requester.chain(deciders).map(|link| direct(&link.account));
    let people: Vec<Room> = people.collect();
    let once = people
        .iter()
        .filter(|room| written_to(room).is_none_or(|user| written.insert(user)));
    found.extend(once.take(DIRECT_MAX).cloned());
    found
}

/// Who is written to in Discord: a person is the same in every server, and need not be written to from each of them.
fn written_to(room: &Room) -> Option<&str> {
    let is_discords = room.is_direct && room.platform == ChatPlatform::Discord;
    is_discords.then_some(room.channel.as_str())
}

/// The requester cannot decide, and is shown no button for it.
fn card_in(facts: &Facts<'_>, card: &Card, room: &Room) -> Card {
    let of_requester =
        |link: &&ChatLink| direct(&link.account) == *room && link.person.key == facts.approval.requester.key;
    let mut card = card.clone();
    if room.is_direct && facts.links.iter().any(|link| of_requester(&link)) {
        card.buttons.clear();
    }
    card
}

/// What stands in the thread of a card: reminders while people can decide, then the outcome.
fn notes(facts: &Facts<'_>, card: &Card, room: &Room) -> Vec<Wanted> {
    let approval = facts.approval;
    let note = |kind, text| Wanted {
        room: room.clone(),
        kind,
        content: Content::Note(text),
    };
    let mut notes: Vec<Wanted> = Vec::new();
    if approval.state.is_terminal() {
        notes.push(note(PostKind::Outcome, card.summary()));
    }
    // Earlier reminders stay as they are.
    let may_remind = approval.is_open() && facts.posted.posts.len() < REMINDED_MAX;
    let number = reminder(facts).filter(|_| may_remind);
    if let Some(number) = number.filter(|number| *number > 0) {
        let left = (approval.deadline - facts.now).num_minutes().max(0);
        let text = format!("Still waits for {}; {left} min left.", approval.quorum_state());
        let kind = PostKind::Reminder { number };
        if facts.posted.post(room, kind).is_none_or(|post| !is_posted(post)) {
            notes.push(note(kind, text));
        }
    }
    notes
}

fn is_posted(post: &Post) -> bool {
    matches!(post.state, PostState::Posted { .. })
}

/// How many reminders should have come by now.
fn reminder(facts: &Facts<'_>) -> Option<u32> {
    let every = i64::from(facts.route?.remind_seconds?);
    let waited = (facts.now - facts.approval.created).num_seconds().max(0);
    u32::try_from(waited.checked_div(every)?).ok()
}

fn due(facts: &Facts<'_>) -> Option<Timestamp> {
    let approval = facts.approval;
    match approval.state {
        State::Pending => {
            let escalation = facts.route.and_then(|route| route.escalate.as_ref());
            let escalates = escalation
                .map(|escalation| approval.created + TimeDelta::seconds(i64::from(escalation.after_seconds)))
                .filter(|at| *at > facts.now);
            let reminds = reminder(facts).and_then(|number| {
                let every = facts.route?.remind_seconds?;
                let next = i64::from(number.checked_add(1)?).checked_mul(i64::from(every))?;
                Some(approval.created + TimeDelta::seconds(next))
            });
            let over = (approval.deadline + AFTER_DEADLINE).max(facts.now + LOOK_AGAIN);
            escalates.into_iter().chain(reminds).chain([over]).min()
        }
        State::Approved { .. } | State::Executing { .. } => Some(facts.now + LOOK_AGAIN),
        State::Denied { .. }
        | State::Expired { .. }
        | State::Withdrawn { .. }
        | State::Abandoned { .. }
        | State::Revoked { .. }
        | State::Done { .. }
        | State::Unknown { .. } => None,
    }
}
