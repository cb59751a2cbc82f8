//! What one turn does in the chats: posts and changes messages, in each workspace by itself.

use super::{Announcer, REFUSED_AGAIN_AFTER, REFUSING_MAX, TURN_LASTS, find, find_mut, message};
use crate::chat::{ChatError, Content, To};
use crate::plan::Wanted;
use chrono::Utc;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::announcement::{Announcement, MessageRef, Post, PostKind, PostState, Room, Span};
use countersign_infra::domain::chat_link::ChatPlatform;
use futures_util::future::join_all;
use std::collections::{BTreeMap, HashMap};
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

impl Announcer {
    /// Posts and changes messages, in each workspace by itself. The posts as they are then.
    pub(super) async fn work(
        &self,
        before: &Announcement,
        taken: &Announcement,
        missing: &[&Wanted],
        until: Instant,
    ) -> Vec<Post> {
        let mut groups: BTreeMap<(ChatPlatform, &str), Vec<&Wanted>> = BTreeMap::new();
        for wanted in missing {
            // What is written down nowhere would be posted again and again.
            if taken.post(&wanted.room, wanted.kind).is_some() {
                groups.entry(workspace_of(&wanted.room)).or_default().push(wanted);
            }
        }
        let worked = groups.values().map(|wanted| self.work_in(before, taken, wanted, until));
        let worked: HashMap<_, _> = groups.keys().copied().zip(join_all(worked).await).collect();
        let after = taken.posts.iter().filter_map(|post| {
            let Some(posts) = worked.get(&workspace_of(&post.room)) else {
                return Some(post.clone());
            };
            find(posts, &post.room, post.kind).cloned()
        });
        after.collect()
    }

    /// The same in one workspace: one message after another, the card before its notes.
    async fn work_in(
        &self,
        before: &Announcement,
        taken: &Announcement,
        missing: &[&Wanted],
        until: Instant,
    ) -> Vec<Post> {
        let mut posts = taken.posts.clone();
        for wanted in missing {
            let perhaps = perhaps(before.post(&wanted.room, wanted.kind), before.created, Utc::now());
            let done = self.show(&posts, wanted, perhaps, taken, until).await;
            let state = match done.state {
                Ok(state) => {
                    self.takes(&wanted.room);
                    Some(state)
                }
                Err(ChatError::Refused(why)) => {
                    self.refuses(&wanted.room, &why, taken);
                    let message = find(&posts, &wanted.room, wanted.kind).and_then(message).cloned();
                    let again = Some(Utc::now() + REFUSED_AGAIN_AFTER);
                    Some(PostState::Refused { why, again, message })
                }
                Err(ChatError::TooOften { .. }) => None,
                Err(ChatError::Unsure(why)) => {
                    tracing::warn!(approval = %taken.approval, %why, "a chat did not say that it took a message");
                    None
                }
            };
            let Some(post) = find_mut(&mut posts, wanted) else {
                continue;
            };
            post.tried = done.tried;
            if let Some(state) = state {
                post.state = state;
            } else if post.state == PostState::Posting && post.tried.is_none() {
                // It was certainly not posted, and need not be looked for.
                posts.retain(|post| post.room != wanted.room || post.kind != wanted.kind);
            }
        }
        posts
    }

    async fn show(
        &self,
        posts: &[Post],
        wanted: &Wanted,
        perhaps: Option<Span>,
        announcement: &Announcement,
        until: Instant,
    ) -> Done {
        let not = |error, tried| Done {
            state: Err(error),
            tried,
        };
        let Some(workspace) = self.workspace(&wanted.room) else {
            let why = "the workspace is not configured".to_owned();
            return not(ChatError::Refused(why), perhaps);
        };
        let shows = workspace.chat.digest(&wanted.content);
        let posted = |message| Done {
            state: Ok(PostState::Posted { message, shows }),
            tried: None,
        };
        let update = |message: MessageRef| async move {
            let changing = workspace.chat.update(&message, &wanted.content);
            let changed = workspace.call(until, changing).await;
            changed.map(|()| message)
        };
        if let Some(message) = find(posts, &wanted.room, wanted.kind).and_then(message) {
            return update(message.clone())
                .await
                .map_or_else(|error| not(error, None), posted);
        }
        let thread = match wanted.kind {
            PostKind::Card => None,
            PostKind::Outcome | PostKind::Reminder { .. } => {
                let Some(card) = find(posts, &wanted.room, PostKind::Card).and_then(message) else {
                    // The card is on its way itself: its note comes after it.
                    let after = Duration::from_secs(1);
                    return not(ChatError::TooOften { after }, perhaps);
                };
                Some(card)
            }
        };
        let to = To {
            room: &wanted.room,
            thread,
            approval: &announcement.approval,
            kind: wanted.kind,
        };
        if let Some(span) = perhaps {
            match workspace.call(until, workspace.chat.find(&to, span)).await {
                Err(error) => return not(error, perhaps),
                // What a note says does not change, and a card's is to be as it is now.
                Ok(Some(message)) => match wanted.content {
                    Content::Note(_) => return posted(message),
                    Content::Card(_) => {
                        return update(message).await.map_or_else(|error| not(error, perhaps), posted);
                    }
                },
                Ok(None) => {}
            }
        }
        let from = Utc::now();
        match workspace.call(until, workspace.chat.post(&to, &wanted.content)).await {
            Ok(message) => posted(message),
            Err(ChatError::Unsure(why)) => {
                let to = Utc::now() + TURN_LASTS;
                not(ChatError::Unsure(why), Some(Span { from, to }))
            }
            Err(error @ (ChatError::Refused(_) | ChatError::TooOften { .. })) => not(error, None),
        }
    }

    /// Tells of a room that takes nothing, once, until it does again or refuses for another reason.
    fn refuses(&self, room: &Room, why: &str, announcement: &Announcement) {
        let mut refusing = self.refusing.lock().unwrap_or_else(PoisonError::into_inner);
        if refusing.get(room).is_some_and(|known| known == why) {
            return;
        }
        tracing::error!(approval = %announcement.approval, ?room, %why, "messages cannot be posted there; tried again every minute");
        if refusing.len() < REFUSING_MAX || refusing.contains_key(room) {
            refusing.insert(room.clone(), why.to_owned());
        }
    }

    fn takes(&self, room: &Room) {
        let mut refusing = self.refusing.lock().unwrap_or_else(PoisonError::into_inner);
        if refusing.remove(room).is_some() {
            tracing::info!(?room, "messages can be posted there again");
        }
    }
}

/// What became of one message, and when it may have been posted though nobody knows.
struct Done {
    state: Result<PostState, ChatError>,
    tried: Option<Span>,
}

/// When somebody may have posted a message without writing that down.
pub(super) fn perhaps(post: Option<&Post>, created: Timestamp, now: Timestamp) -> Option<Span> {
    let post = post?;
    let any_time = Span { from: created, to: now };
    post.tried
        .or_else(|| (post.state == PostState::Posting).then_some(any_time))
}

fn workspace_of(room: &Room) -> (ChatPlatform, &str) {
    (room.platform, room.team.as_str())
}
