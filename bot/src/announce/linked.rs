//! Linked accounts as they were a moment ago: read once for all who ask at the same time.

use countersign_infra::chat_links::ChatLinkStore;
use countersign_infra::domain::chat_link::ChatLink;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// Links that are looked through for direct messages.
const LINKS_MAX: usize = 5000;
/// For how long they are remembered, and for how long that they could not be read.
const LASTS: Duration = Duration::from_secs(30);
const FAILURE_LASTS: Duration = Duration::from_secs(2);

/// None where they could not be read.
type Links = Option<Arc<Vec<ChatLink>>>;

#[derive(Default)]
pub(super) struct Linked(Mutex<Option<(Instant, Arc<OnceCell<Links>>)>>);

impl Linked {
    /// Linked accounts as they were within the last half minute; none when they cannot be read: direct messages are a
    /// courtesy.
    pub(super) async fn accounts(&self, store: &dyn ChatLinkStore) -> Arc<Vec<ChatLink>> {
        let reading = self.reading();
        // Dropped midway, whoever waits beside it reads in its place.
        let links = reading.get_or_init(|| read(store)).await;
        links.clone().unwrap_or_default()
    }

    /// The reading that is young enough, done or on its way; else a new one.
    fn reading(&self) -> Arc<OnceCell<Links>> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let (linked, failures) = (Linked::default(), 1);
        let store = Slow {
            failures,
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
