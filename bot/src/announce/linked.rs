//! Who is written to directly. Linked accounts are read once for all who ask at the same time; what their people's last
//! sign-ins said is read for those whom an approval concerns.

use countersign_infra::chat_links::ChatLinkStore;
use countersign_infra::directory::DirectoryStore;
use countersign_infra::domain::approval::Approval;
use countersign_infra::domain::chat_link::ChatLink;
use countersign_infra::domain::directory::DirectoryEntry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// Links that are looked through for direct messages.
const LINKS_MAX: usize = 5000;
/// Of those, accounts of people whom one approval concerns.
const CONCERNED_MAX: usize = 50;
/// For how long they are remembered, and for how long that they could not be read.
const LASTS: Duration = Duration::from_secs(30);
const FAILURE_LASTS: Duration = Duration::from_secs(2);

/// None where they could not be read.
type Links = Option<Arc<Vec<ChatLink>>>;

/// Who people are in chats.
pub struct People {
    pub links: Arc<dyn ChatLinkStore>,
    pub directory: Arc<dyn DirectoryStore>,
    /// Links that an address made stand.
    pub verified_email: bool,
    /// How long a sign-in stands for who somebody is.
    pub link_lasts: Duration,
}

pub(super) struct Linked {
    pub(super) people: People,
    remembered: Mutex<Option<(Instant, Arc<OnceCell<Links>>)>>,
}

impl Linked {
    pub(super) fn new(people: People) -> Self {
        let remembered = Mutex::default();
        Self { people, remembered }
    }

    /// Accounts of whoever asked and, where they are written to, of those who may decide; each person as of their last
    /// sign-in. Whom the last sign-in put into a group that decides is among them once they clicked or were linked since.
    pub(super) async fn concerned(&self, approval: &Approval, with_deciders: bool) -> Vec<ChatLink> {
        let accounts = self.accounts(&*self.people.links).await;
        let is_concerned = |link: &&ChatLink| {
            let is_requesters = link.person.key == approval.requester.key;
            is_requesters || with_deciders && approval.may_vote(&link.person).is_ok()
        };
        let concerned = accounts.iter().filter(is_concerned).take(CONCERNED_MAX);
        let known = concerned.map(|link| self.as_known(link));
        futures_util::future::join_all(known)
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    /// The link as of its person's last sign-in; none where it stands no more, or nobody can say.
    async fn as_known(&self, link: &ChatLink) -> Option<ChatLink> {
        let entry = match self.people.directory.read(&link.person.key).await {
            Ok(entry) => entry,
            Err(error) => {
                tracing::warn!(account = %link.account, %error, "somebody is not written to directly");
                return None;
            }
        };
        let is_borne = |mailbox: &String| {
            let borne = entry.as_ref().and_then(DirectoryEntry::mailbox);
            self.people.verified_email && borne.as_ref() == Some(mailbox)
        };
        if !link.mailbox.as_ref().is_none_or(is_borne) {
            return None;
        }
        match entry.filter(|entry| entry.as_of > link.refreshed) {
            Some(entry) => link.refresh(entry.person, entry.as_of).ok(),
            None => Some(link.clone()),
        }
    }

    /// Linked accounts as they were within the last half minute; none when they cannot be read: direct messages are a
    /// courtesy.
    async fn accounts(&self, store: &dyn ChatLinkStore) -> Arc<Vec<ChatLink>> {
        let reading = self.reading();
        // Dropped midway, whoever waits beside it reads in its place.
        let links = reading.get_or_init(|| read(store)).await;
        links.clone().unwrap_or_default()
    }

    /// The reading that is young enough, done or on its way; else a new one.
    fn reading(&self) -> Arc<OnceCell<Links>> {
        let mut current = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, reading)) = current.as_ref() {
            let lasts = match reading.get() {
                Some(None) => FAILURE_LASTS,
                Some(Some(_)) | None => LASTS,
            };
            if at.elapsed() < lasts {
                return Arc::clone(reading);
            }
        }
        let reading = Arc::new(OnceCell::new());
        *current = Some((Instant::now(), Arc::clone(&reading)));
        reading
    }
}

async fn read(store: &dyn ChatLinkStore) -> Links {
    match store.all(LINKS_MAX).await {
        Ok(links) => Some(Arc::new(links)),
        Err(error) => {
            tracing::warn!(%error, "nobody is written to directly: linked accounts cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use countersign_infra::chat_links::ChatLinkError;
    use countersign_infra::domain::chat_link::ChatAccount;
    use countersign_infra::embedded::EmbeddedStore;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A slow store that fails the first so many times.
    struct Slow {
        failures: usize,
        reads: AtomicUsize,
    }

    #[async_trait]
    impl ChatLinkStore for Slow {
        async fn read(&self, _: &ChatAccount) -> Result<Option<ChatLink>, ChatLinkError> {
            Ok(None)
        }
        async fn put(&self, _: &ChatLink, _: Option<&ChatLink>) -> Result<(), ChatLinkError> {
            Ok(())
        }
        async fn remove(&self, _: &ChatLink) -> Result<(), ChatLinkError> {
            Ok(())
        }
        async fn all(&self, _: usize) -> Result<Vec<ChatLink>, ChatLinkError> {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if self.reads.fetch_add(1, Ordering::SeqCst) < self.failures {
                let source = "away".into();
                return Err(ChatLinkError::Unavailable { source });
            }
            Ok(Vec::new())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_who_ask_at_once_read_once() {
        let file = tempfile::tempdir().unwrap();
        let embedded = EmbeddedStore::open(file.path().join("store.db")).unwrap();
        let linked = Linked::new(People {
            links: Arc::new(embedded.clone()),
            directory: Arc::new(embedded),
            verified_email: false,
            link_lasts: Duration::from_secs(60),
        });
        let store = Slow {
            failures: 1,
            reads: AtomicUsize::new(0),
        };
        let ask = async || {
            let asked = (0..100).map(|_| linked.accounts(&store));
            futures_util::future::join_all(asked).await;
            store.reads.load(Ordering::SeqCst)
        };
        assert_eq!(ask().await, 1, "it failed, and the others did not try it again");
        tokio::time::sleep(FAILURE_LASTS).await;
        assert_eq!(ask().await, 2);
        assert_eq!(ask().await, 2, "it is remembered");
        tokio::time::sleep(LASTS).await;
        assert_eq!(ask().await, 3);
    }
}
