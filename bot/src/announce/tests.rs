use super::{Announcer, REFUSED_AGAIN_AFTER, Shown};
use crate::announce::People;
use crate::card::Card;
use crate::chat::{Chat, ChatError, Content, Profile, To};
use crate::plan::{Facts, Plan};
use crate::routes::Routes;
use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use countersign_infra::announcements::AnnouncementStore;
use countersign_infra::announcements::flaky::FlakyAnnouncements;
use countersign_infra::approvals::{ApprovalStore, Tell};
use countersign_infra::chat_links::ChatLinkStore;
use countersign_infra::config::Route;
use countersign_infra::domain::announcement::{
    Announcement, MessageRef, POSTS_MAX, Post, PostKind, PostState, Room, Span, Turn,
};
use countersign_infra::domain::approval::{Approval, Change};
use countersign_infra::domain::chat_link::{ChatAccount, ChatLink, ChatPlatform};
use countersign_infra::domain::example;
use countersign_infra::domain::id::Digest;
use countersign_infra::embedded::EmbeddedStore;
use countersign_infra::flaky::Schedule;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

mod failing;

const LINK_LASTS: Duration = Duration::from_secs(3600);

/// A chat whose messages are looked at, and which does not always answer.
struct Wall {
    posts: Mutex<Vec<Posted>>,
    calls: AtomicUsize,
    trouble: Mutex<Trouble>,
    platform: ChatPlatform,
}

#[derive(Clone, Debug)]
struct Posted {
    room: Room,
    kind: PostKind,
    thread: Option<String>,
    approval: String,
    content: Content,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// Each third call does nothing, each fifth loses its answer, each seventh comes too often.
    Some,
    NoSuchChannel,
    /// It never answers.
    Silent,
}

impl Wall {
    fn new(trouble: Trouble) -> Arc<Self> {
        Self::of(ChatPlatform::Slack, trouble)
    }

    fn of(platform: ChatPlatform, trouble: Trouble) -> Arc<Self> {
        Arc::new(Self {
            posts: Mutex::default(),
            calls: AtomicUsize::new(0),
            trouble: Mutex::new(trouble),
            platform,
        })
    }

    fn becomes(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = trouble;
    }

    async fn answers(&self) {
        let trouble = *self.trouble.lock().unwrap();
        if trouble == Trouble::Silent {
            std::future::pending().await
        }
        tokio::task::yield_now().await;
    }

    /// Whether the effect happens, and whether the answer arrives.
    fn fate(&self) -> (Result<(), ChatError>, Result<(), ChatError>) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let unsure = || Err(ChatError::Unsure("no answer".to_owned()));
        match *self.trouble.lock().unwrap() {
            Trouble::None | Trouble::Silent => (Ok(()), Ok(())),
            Trouble::NoSuchChannel => (Err(ChatError::Refused("no such channel".to_owned())), Ok(())),
            Trouble::Some if call.is_multiple_of(7) => {
                let after = Duration::from_millis(5);
                (Err(ChatError::TooOften { after }), Ok(()))
            }
            Trouble::Some if call.is_multiple_of(5) => (Ok(()), unsure()),
            Trouble::Some if call.is_multiple_of(3) => (unsure(), Ok(())),
            Trouble::Some => (Ok(()), Ok(())),
        }
    }

    fn posts(&self) -> Vec<Posted> {
        self.posts.lock().unwrap().clone()
    }

    fn cards(&self) -> Vec<Card> {
        let card = |post: Posted| match post.content {
            Content::Card(card) => Some(*card),
            Content::Note(_) => None,
        };
        self.posts().into_iter().filter_map(card).collect()
    }
}

#[async_trait]
impl Chat for Wall {
    fn platform(&self) -> ChatPlatform {
        self.platform
    }

    fn team(&self) -> &str {
        "T0001"
    }

    fn digest(&self, content: &Content) -> Digest {
        Digest::of(format!("{content:?}").as_bytes())
    }

    async fn post(&self, to: &To<'_>, content: &Content) -> Result<MessageRef, ChatError> {
        self.answers().await;
        let (effect, answer) = self.fate();
        effect?;
        let mut posts = self.posts.lock().unwrap();
        posts.push(Posted {
            room: to.room.clone(),
            kind: to.kind,
            thread: to.thread.map(|message| message.message.clone()),
            approval: to.approval.to_string(),
            content: content.clone(),
        });
        answer?;
        Ok(MessageRef {
            channel: to.room.channel.clone(),
            message: (posts.len() - 1).to_string(),
        })
    }

    async fn find(&self, to: &To<'_>, _tried: Span) -> Result<Option<MessageRef>, ChatError> {
        let (effect, answer) = self.fate();
        effect.and(answer)?;
        let posts = self.posts.lock().unwrap();
        let is_it =
            |post: &Posted| post.room == *to.room && post.kind == to.kind && post.approval == to.approval.to_string();
        Ok(posts.iter().position(is_it).map(|place| MessageRef {
            channel: to.room.channel.clone(),
            message: place.to_string(),
        }))
    }

    async fn update(&self, message: &MessageRef, content: &Content) -> Result<(), ChatError> {
        let (effect, answer) = self.fate();
        effect?;
        let place: usize = message.message.parse().unwrap();
        self.posts.lock().unwrap()[place].content = content.clone();
        answer
    }

    async fn profile(&self, _user: &str) -> Result<Profile, ChatError> {
        Err(ChatError::Refused("nobody asks here".to_owned()))
    }

    async fn check(&self) -> Result<(), ChatError> {
        Ok(())
    }
}

struct World {
    store: EmbeddedStore,
    _directory: tempfile::TempDir,
    approval: Approval,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.db")).unwrap();
        // As of now: reminders and escalations count from here.
        let (_, mut approval) = example::approvals().remove(0);
        let wait = approval.deadline - approval.created;
        approval.created = chrono::SubsecRound::trunc_subsecs(Utc::now(), 6);
        approval.deadline = approval.created + wait;
        assert!(approval.is_open(), "{approval:?}");
        store.create(&approval, &[]).await.unwrap();
        Self {
            store,
            _directory: directory,
            approval,
        }
    }

    fn announcer(&self, wall: &Arc<Wall>, more: &str) -> Arc<Announcer> {
        self.announcer_on(Arc::new(self.store.clone()), wall, more)
    }

    fn announcer_on(&self, store: Arc<dyn AnnouncementStore>, wall: &Arc<Wall>, more: &str) -> Arc<Announcer> {
        let route = format!("channels = [\"slack:T0001:C0001\", \"slack:T0001:C0002\"]\n{more}");
        self.announcer_to(store, vec![wall.clone()], &route)
    }

    fn announcer_to(
        &self,
        store: Arc<dyn AnnouncementStore>,
        walls: Vec<Arc<dyn Chat>>,
        route: &str,
    ) -> Arc<Announcer> {
        let route: Route = route.parse::<toml::Table>().unwrap().try_into().unwrap();
        let announcer = Announcer::new(
            Arc::new(self.store.clone()),
            store,
            People {
                links: Arc::new(self.store.clone()),
                directory: Arc::new(self.store.clone()),
                verified_email: false,
                link_lasts: LINK_LASTS,
            },
            Routes::new(vec![route]),
            "https://gateway.example/".parse().unwrap(),
            walls,
        );
        Arc::new(announcer.resting(Duration::from_millis(2)))
    }

    async fn stored(&self) -> Announcement {
        let stored = AnnouncementStore::read(&self.store, &self.approval.id).await;
        stored.unwrap().unwrap()
    }

    async fn change(&mut self, change: Change) {
        let next = self.approval.apply(change, self.approval.created).unwrap();
        self.store.replace(&next, &[], Tell::Nobody).await.unwrap();
        self.approval = next;
    }

    async fn withdraw(&mut self) {
        let why = "she gave up".to_owned();
        self.change(Change::Withdraw { why }).await;
    }
}

async fn until_shown(announcer: &Announcer, world: &World) -> Shown {
    for _ in 0..2000 {
        if let Ok(shown) = announcer.announce(&world.approval.id).await
            && shown.everywhere()
        {
            return shown;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it was never shown everywhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_rings_at_two_bots_post_one_card_in_each_channel() {
    let world = World::new().await;
    let wall = Wall::new(Trouble::None);
    let bots = [world.announcer(&wall, ""), world.announcer(&wall, "")];
    let rings: Vec<_> = (0..100)
        .map(|ring| {
            let (bot, id) = (bots[ring % 2].clone(), world.approval.id.clone());
            tokio::spawn(async move { bot.announce(&id).await })
        })
        .collect();
    for ring in rings {
        ring.await.unwrap().unwrap();
    }
    until_shown(&bots[0], &world).await;
    let rooms: Vec<String> = wall.posts().into_iter().map(|post| post.room.channel).collect();
    assert_eq!(rooms, ["C0001", "C0002"]);
    let settled = wall.calls.load(Ordering::Relaxed);
    until_shown(&bots[1], &world).await;
    assert_eq!(wall.calls.load(Ordering::Relaxed), settled, "what stands is left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_a_chat_and_a_store_do_no_message_is_lost_or_doubled() {
    for seed in 1..=5 {
        let mut world = World::new().await;
        let wall = Wall::new(Trouble::Some);
        let flaky = Arc::new(FlakyAnnouncements::new(world.store.clone(), Schedule::new(seed)));
        let bots = [
            world.announcer_on(flaky.clone(), &wall, ""),
            world.announcer_on(flaky, &wall, ""),
        ];
        for step in 0..2 {
            let rings = (0..20).map(|ring| {
                let (bot, id) = (bots[ring % 2].clone(), world.approval.id.clone());
                tokio::spawn(async move { drop(bot.announce(&id).await) })
            });
            for ring in rings.collect::<Vec<_>>() {
                ring.await.unwrap();
            }
            rescue(&world).await;
            until_shown_by_anybody(&bots, &world).await;
            if step == 0 {
                world.withdraw().await;
            }
        }
        let mut seen = HashSet::new();
        for post in wall.posts() {
            assert!(
                seen.insert((post.room.clone(), post.kind)),
                "seed {seed}: {post:?} is there twice"
            );
            if post.kind == PostKind::Outcome {
                assert!(post.thread.is_some(), "seed {seed}: {post:?}");
            }
        }
        assert_eq!(seen.len(), 4, "seed {seed}: two cards and two outcomes");
        for card in wall.cards() {
            assert!(
                card.buttons.is_empty() && card.deadline.is_none(),
                "seed {seed}: {card:?}"
            );
        }
    }
}

/// A bot whose store failed keeps its turn until that is over: here nobody waits for that.
async fn rescue(world: &World) {
    let stored = AnnouncementStore::read(&world.store, &world.approval.id).await.unwrap();
    if let Some(stored) = stored.filter(|stored| stored.turn.is_some()) {
        let free = Announcement {
            turn: None,
            version: stored.version + 1,
            ..stored.clone()
        };
        AnnouncementStore::put(&world.store, &free, Some(&stored))
            .await
            .unwrap();
    }
}

async fn until_shown_by_anybody(bots: &[Arc<Announcer>], world: &World) {
    for round in 0..2000 {
        let shown = bots[round % bots.len()].announce(&world.approval.id).await;
        if shown.is_ok_and(Shown::everywhere) {
            return;
        }
        rescue(world).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it was never shown everywhere");
}

#[tokio::test]
async fn what_a_dead_bot_was_posting_is_found_and_not_posted_again() {
    let world = World::new().await;
    let wall = Wall::new(Trouble::None);
    let bot = world.announcer(&wall, "");
    until_shown(&bot, &world).await;
    // As it stood when the bot had posted and not yet written so.
    let stored = AnnouncementStore::read(&world.store, &world.approval.id)
        .await
        .unwrap()
        .unwrap();
    let mut died = stored.clone();
    for post in &mut died.posts {
        post.state = PostState::Posting;
    }
    died.turn = Some(Turn {
        bot: 7,
        until: Utc::now() - TimeDelta::seconds(1),
    });
    AnnouncementStore::put(&world.store, &died, Some(&stored))
        .await
        .unwrap();
    until_shown(&world.announcer(&wall, ""), &world).await;
    assert_eq!(wall.posts().len(), 2);
}

#[tokio::test]
async fn while_another_bot_has_the_turn_nothing_is_posted() {
    let world = World::new().await;
    let wall = Wall::new(Trouble::None);
    let taken = Announcement {
        turn: Some(Turn {
            bot: 7,
            until: Utc::now() + TimeDelta::seconds(30),
        }),
        ..Announcement::new(world.approval.id.clone(), world.approval.created)
    };
    AnnouncementStore::put(&world.store, &taken, None).await.unwrap();
    let shown = world.announcer(&wall, "").announce(&world.approval.id).await.unwrap();
    assert_eq!((shown.places, shown.shown), (2, 0));
    assert!(wall.posts().is_empty());
}

#[tokio::test]
async fn the_requester_and_those_who_may_decide_are_written_to() {
    let world = World::new().await;
    let account = |user: &str| ChatAccount {
        platform: ChatPlatform::Slack,
        team: "T0001".to_owned(),
        user: user.to_owned(),
    };
    let people = [
        ("U1", world.approval.requester.clone()),
        ("U2", example::bob()),
        ("U3", example::person("mallory", &["nobody"])),
    ];
    for (user, person) in people {
        let link = ChatLink::link(account(user), person, None, Utc::now());
        ChatLinkStore::put(&world.store, &link, None).await.unwrap();
    }
    let wall = Wall::new(Trouble::None);
    until_shown(&world.announcer(&wall, "direct = true"), &world).await;
    let direct: Vec<(String, bool)> = wall
        .posts()
        .into_iter()
        .filter(|post| post.room.is_direct)
        .filter_map(|post| match post.content {
            Content::Card(card) => Some((post.room.channel, card.buttons.is_empty())),
            Content::Note(_) => None,
        })
        .collect();
    assert_eq!(direct, [("U1".to_owned(), true), ("U2".to_owned(), false)]);
}

#[tokio::test]
async fn who_does_not_decide_is_reminded_and_others_are_asked_and_all_is_quiet_once_decided() {
    let mut world = World::new().await;
    let wall = Wall::new(Trouble::None);
    let more = "remind_seconds = 1\nescalate = { after_seconds = 2, channels = [\"slack:T0001:C0009\"] }";
    let bot = world.announcer(&wall, more);
    until_shown(&bot, &world).await;
    let stored = AnnouncementStore::read(&world.store, &world.approval.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.due, Some(world.approval.created + TimeDelta::seconds(1)));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    until_shown(&bot, &world).await;
    let count = |wanted: fn(&Posted) -> bool| wall.posts().iter().filter(|post| wanted(post)).count();
    assert_eq!(
        count(|post| post.room.channel == "C0009" && post.kind == PostKind::Card),
        1
    );
    assert!(count(|post| matches!(post.kind, PostKind::Reminder { number: 2 })) >= 2);
    let missed = count(|post| matches!(post.kind, PostKind::Reminder { number: 1 }));
    assert_eq!(missed, 0, "one reminder at a time");
    world.withdraw().await;
    until_shown(&bot, &world).await;
    let quiet = wall.posts().len();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    until_shown(&bot, &world).await;
    assert_eq!(wall.posts().len(), quiet);
    let stored = AnnouncementStore::read(&world.store, &world.approval.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.due, None);
}

#[tokio::test]
async fn a_full_announcement_posts_nothing_twice() {
    let world = World::new().await;
    let wall = Wall::new(Trouble::None);
    let bot = world.announcer(&wall, "");
    until_shown(&bot, &world).await;
    let stored = AnnouncementStore::read(&world.store, &world.approval.id)
        .await
        .unwrap()
        .unwrap();
    let mut full = stored.clone();
    let room = full.posts[0].room.clone();
    for number in 0..POSTS_MAX as u32 {
        full.posts.push(Post {
            room: room.clone(),
            kind: PostKind::Reminder { number },
            state: PostState::Refused {
                why: String::new(),
                again: None,
                message: None,
            },
            tried: None,
        });
    }
    full.version += 1;
    AnnouncementStore::put(&world.store, &full, Some(&stored))
        .await
        .unwrap();
    let mut world = world;
    world.withdraw().await;
    let before = wall.posts().len();
    for _ in 0..3 {
        bot.announce(&world.approval.id).await.unwrap();
    }
    assert_eq!(wall.posts().len(), before, "there is no room for the outcome's note");
    assert!(
        wall.cards().iter().all(|card| card.buttons.is_empty()),
        "the cards tell of it"
    );
}
