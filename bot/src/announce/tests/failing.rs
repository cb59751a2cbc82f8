//! Chats that refuse, chats that say nothing, and people who are not written to.

use super::*;

#[tokio::test]
async fn a_channel_that_takes_nothing_is_tried_again_seldom_and_shows_the_card_once_it_does() {
    let world = World::new().await;
    let wall = Wall::new(Trouble::NoSuchChannel);
    let bot = world.announcer(&wall, "");
    assert!(until_shown(&bot, &world).await.everywhere());
    assert_eq!(wall.calls.load(Ordering::Relaxed), 2);
    until_shown(&bot, &world).await;
    assert_eq!(wall.calls.load(Ordering::Relaxed), 2, "it was tried a moment ago");
    let stored = world.stored().await;
    assert_eq!(stored.cards(), 0);
    let again = stored.due.unwrap() - Utc::now();
    assert!(
        again > TimeDelta::seconds(55) && again <= REFUSED_AGAIN_AFTER,
        "{again}"
    );

    wall.becomes(Trouble::None);
    let mut later = stored.clone();
    for post in &mut later.posts {
        assert_eq!(post.tried, None, "it was certainly not posted");
        let PostState::Refused { again, .. } = &mut post.state else {
            panic!("{post:?}");
        };
        *again = Some(Utc::now());
    }
    later.version += 1;
    AnnouncementStore::put(&world.store, &later, Some(&stored))
        .await
        .unwrap();
    until_shown(&bot, &world).await;
    assert_eq!(wall.posts().len(), 2);
    assert_eq!(world.stored().await.cards(), 2);
}

#[tokio::test]
async fn a_card_whose_change_is_refused_is_changed_later_and_not_posted_again() {
    let mut world = World::new().await;
    let wall = Wall::new(Trouble::None);
    let bot = world.announcer(&wall, "");
    until_shown(&bot, &world).await;
    wall.becomes(Trouble::NoSuchChannel);
    world.withdraw().await;
    until_shown(&bot, &world).await;
    wall.becomes(Trouble::None);
    let stored = world.stored().await;
    let mut later = stored.clone();
    for post in &mut later.posts {
        if let PostState::Refused { again, .. } = &mut post.state {
            *again = None;
        }
    }
    later.version += 1;
    AnnouncementStore::put(&world.store, &later, Some(&stored))
        .await
        .unwrap();
    until_shown(&bot, &world).await;
    assert_eq!(wall.posts().len(), 4, "two cards and their notes");
    assert!(wall.cards().iter().all(|card| card.buttons.is_empty()));
}

#[tokio::test]
async fn a_workspace_that_never_answers_holds_up_no_other_and_nothing_is_tried_while_it_is_left_alone() {
    let world = World::new().await;
    let slack = Wall::of(ChatPlatform::Slack, Trouble::Silent);
    let discord = Wall::of(ChatPlatform::Discord, Trouble::None);
    let route = "channels = [\"slack:T0001:C0001\", \"discord:T0001:1\", \"discord:T0001:2\"]";
    let walls: Vec<Arc<dyn Chat>> = vec![slack.clone(), discord.clone()];
    let bot = world.announcer_to(Arc::new(world.store.clone()), walls, route);
    let (announcing, id) = (bot.clone(), world.approval.id.clone());
    let announced = tokio::spawn(async move { announcing.announce(&id).await });
    for _ in 0..200 {
        if discord.posts().len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((discord.posts().len(), slack.posts().len()), (2, 0));
    announced.abort();

    // Somebody else learns that it wants to be left alone.
    let world = World::new().await;
    let walls: Vec<Arc<dyn Chat>> = vec![slack.clone(), discord.clone()];
    let bot = world.announcer_to(Arc::new(world.store.clone()), walls, route);
    let workspace = bot.chats.get(&(ChatPlatform::Slack, "T0001".to_owned())).unwrap();
    let after = Duration::from_secs(30);
    let refused = workspace.call(Instant::now() + after, async {
        Err::<(), _>(ChatError::TooOften { after })
    });
    assert!(refused.await.is_err());
    let shown = bot.announce(&world.approval.id).await.unwrap();
    assert_eq!((shown.places, shown.shown), (3, 2));
    let stored = world.stored().await;
    assert!(
        stored
            .posts
            .iter()
            .all(|post| post.room.platform == ChatPlatform::Discord),
        "{stored:?}"
    );
    let wait = stored.due.unwrap() - Utc::now();
    assert!(wait > TimeDelta::seconds(28) && wait < TimeDelta::seconds(32), "{wait}");
    let version = stored.version;
    for _ in 0..10 {
        bot.announce(&world.approval.id).await.unwrap();
    }
    assert_eq!(
        world.stored().await.version,
        version,
        "nothing is written while it waits"
    );
}

#[tokio::test]
async fn nobody_is_written_to_whose_sign_in_is_too_long_ago_or_twice_in_discord() {
    let world = World::new().await;
    let link = |platform, team: &str, user: &str, age: Duration| {
        let account = ChatAccount {
            platform,
            team: team.to_owned(),
            user: user.to_owned(),
        };
        ChatLink::link(account, example::bob(), None, Utc::now() - age)
    };
    let links = [
        link(ChatPlatform::Slack, "T0001", "U1", LINK_LASTS + Duration::from_secs(5)),
        link(ChatPlatform::Slack, "T0001", "U2", LINK_LASTS / 2),
        link(ChatPlatform::Discord, "T0001", "42", Duration::ZERO),
        link(ChatPlatform::Discord, "T0002", "42", Duration::ZERO),
    ];
    let route: Route = "channels = []\ndirect = true"
        .parse::<toml::Table>()
        .unwrap()
        .try_into()
        .unwrap();
    let plan = Plan::of(&Facts {
        approval: &world.approval,
        posted: &Announcement::new(world.approval.id.clone(), world.approval.created),
        route: Some(&route),
        links: &links,
        link_lasts: LINK_LASTS,
        pages: &"https://gateway.example/".parse().unwrap(),
        now: Utc::now(),
    });
    let rooms: Vec<&str> = plan.wanted.iter().map(|wanted| wanted.room.channel.as_str()).collect();
    assert_eq!(rooms, ["U2", "42"]);
}
