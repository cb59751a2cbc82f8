//! What every store of chat links promises, as checks that each one passes: plain, and behind [`super::flaky`].
//!
//! The checks share one store and keep apart by their accounts.

use super::{ChatLinkError, ChatLinkStore};
use crate::domain::chat_link::{ChatAccount, ChatLink, ChatPlatform};
use crate::domain::example::{alice, at, bob, chat_account};
use std::sync::Arc;

type Store = Arc<dyn ChatLinkStore>;

/// Runs every check. Panics at the first promise that is not kept.
pub async fn holds(store: Store) {
    an_account_has_the_link_that_was_put_last(&store).await;
    accounts_that_read_alike_are_not_taken_for_each_other(&store).await;
    a_link_that_was_not_read_is_not_replaced(&store).await;
    a_link_made_anew_is_not_taken_for_the_former(&store).await;
    a_link_is_removed_once_and_for_all(&store).await;
    of_twenty_who_link_one_account_at_once_one_does(&store).await;
    all_links_are_listed_and_none_that_was_removed(&store).await;
}

async fn an_account_has_the_link_that_was_put_last(store: &Store) {
    assert_eq!(read(store, &chat_account(1)).await, None);
    let first = put(store, link(1, 0), None).await;
    assert_eq!(read(store, &chat_account(1)).await, Some(first.clone()));
    let refreshed = first.refresh(alice(), at(60)).unwrap_or_else(|e| panic!("{e}"));
    let refreshed = put(store, refreshed, Some(&first)).await;
    assert_eq!(read(store, &chat_account(1)).await, Some(refreshed.clone()));
    let other = ChatLink::link(chat_account(1), bob(), Some(&refreshed), at(90));
    let other = put(store, other, Some(&refreshed)).await;
    assert_eq!(read(store, &chat_account(1)).await, Some(other));
}

async fn accounts_that_read_alike_are_not_taken_for_each_other(store: &Store) {
    let account = |platform, team: &str, user: &str| ChatAccount {
        platform,
        team: team.to_owned(),
        user: user.to_owned(),
    };
    let accounts = [
        account(ChatPlatform::Slack, "a#b", "c"),
        account(ChatPlatform::Slack, "a", "b#c"),
        account(ChatPlatform::Discord, "a", "b#c"),
        account(ChatPlatform::Slack, "A", "b#c"),
    ];
    for account in &accounts {
        put(store, ChatLink::link(account.clone(), alice(), None, at(0)), None).await;
    }
    for account in &accounts {
        let found = read(store, account).await;
        assert_eq!(found.map(|link| link.account).as_ref(), Some(account));
    }
}

async fn a_link_that_was_not_read_is_not_replaced(store: &Store) {
    let first = put(store, link(2, 0), None).await;
    let refreshed = first.refresh(alice(), at(60)).unwrap_or_else(|e| panic!("{e}"));
    put(store, refreshed.clone(), Some(&first)).await;
    let late = first.refresh(alice(), at(61)).unwrap_or_else(|e| panic!("{e}"));
    for former in [None, Some(&first), Some(&late)] {
        let refused = again(|| store.put(&late, former)).await;
        let Err(ChatLinkError::Conflict { current }) = refused else {
            panic!("{former:?} was replaced: {refused:?}");
        };
        assert_eq!(current.as_deref(), Some(&refreshed));
    }
    let nobody = link(3, 0);
    let refused = again(|| store.put(&nobody, Some(&nobody))).await;
    assert!(matches!(refused, Err(ChatLinkError::Conflict { current: None })));
    let refused = again(|| store.remove(&first)).await;
    assert!(matches!(refused, Err(ChatLinkError::Conflict { current: Some(current) }) if *current == refreshed));
}

async fn a_link_made_anew_is_not_taken_for_the_former(store: &Store) {
    let alices = put(store, link(4, 0), None).await;
    again(|| store.remove(&alices)).await.unwrap_or_else(|e| panic!("{e}"));
    let bobs = put(store, ChatLink::link(chat_account(4), bob(), None, at(50)), None).await;
    assert_eq!(alices.version, bobs.version);
    let refreshed = alices.refresh(alice(), at(60)).unwrap_or_else(|e| panic!("{e}"));
    let refused = again(|| store.put(&refreshed, Some(&alices))).await;
    assert!(matches!(refused, Err(ChatLinkError::Conflict { .. })));
    let refused = again(|| store.remove(&alices)).await;
    assert!(matches!(refused, Err(ChatLinkError::Conflict { .. })));
    assert_eq!(read(store, &chat_account(4)).await, Some(bobs));
}

async fn a_link_is_removed_once_and_for_all(store: &Store) {
    let made = put(store, link(5, 0), None).await;
    for _ in 0..2 {
        again(|| store.remove(&made)).await.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(read(store, &chat_account(5)).await, None);
    }
}

async fn of_twenty_who_link_one_account_at_once_one_does(store: &Store) {
    let link_it = |store: Store, second| async move {
        let link = link(6, second);
        match again(|| store.put(&link, None)).await {
            Ok(()) => true,
            // Written by a call whose answer was lost.
            Err(ChatLinkError::Conflict { current }) => current.as_deref() == Some(&link),
            Err(other) => panic!("{other}"),
        }
    };
    let calls: Vec<_> = (0..20)
        .map(|second| tokio::spawn(link_it(Arc::clone(store), second)))
        .collect();
    let mut linked = 0;
    for call in calls {
        linked += usize::from(call.await.unwrap_or_else(|e| panic!("{e}")));
    }
    assert_eq!(linked, 1);
}

async fn all_links_are_listed_and_none_that_was_removed(store: &Store) {
    let kept = put(store, link(7, 0), None).await;
    let removed = put(store, link(8, 0), None).await;
    again(|| store.remove(&removed)).await.unwrap_or_else(|e| panic!("{e}"));
    let all = again(|| store.all(1000)).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(all.contains(&kept), "{all:?}");
    assert!(all.iter().all(|link| link.account != chat_account(8)), "{all:?}");
    let one = again(|| store.all(1)).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(one.len() <= 1, "{one:?}");
}

fn link(account: u64, second: i64) -> ChatLink {
    ChatLink::link(chat_account(account), alice(), None, at(second))
}

async fn put(store: &Store, link: ChatLink, former: Option<&ChatLink>) -> ChatLink {
    match again(|| store.put(&link, former)).await {
        Ok(()) => link,
        Err(ChatLinkError::Conflict { current: Some(current) }) if *current == link => link,
        Err(other) => panic!("{other}"),
    }
}

async fn read(store: &Store, account: &ChatAccount) -> Option<ChatLink> {
    again(|| store.read(account)).await.unwrap_or_else(|e| panic!("{e}"))
}

/// Repeats a call until the store says something.
async fn again<T, F, C>(call: C) -> Result<T, ChatLinkError>
where
    C: Fn() -> F,
    F: Future<Output = Result<T, ChatLinkError>>,
{
    for _ in 0..50 {
        match call().await {
            Err(ChatLinkError::Unavailable { .. }) => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
    call().await
}
