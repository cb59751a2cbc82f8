//! The policy in force, and its change without a restart and without dropping sessions.

use super::fault::PolicyError;
use super::load::{Policies, Sources};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The policy in force. Clones share it.
#[derive(Clone)]
pub struct PolicyHandle {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    current: RwLock<Arc<Policies>>,
    changes: watch::Sender<u64>,
    /// What was read last, whether it could be used or not, and what was wrong with it.
    last: Mutex<Last>,
    /// One reading at a time, to its end: an older one must not win.
    reading: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
}

struct Last {
    seen: Result<Sources, PolicyError>,
    error: Option<PolicyError>,
}

impl PolicyHandle {
    /// Loads the policy and follows its file or directory until `stop` is cancelled: it looks every second, and at
    /// once on SIGHUP. What it finds by itself must be the same on two looks: a file that is still being written may
    /// be valid without the forbids at its end. Must be called within a Tokio runtime.
    pub fn start(path: PathBuf, stop: CancellationToken) -> Result<Self, PolicyError> {
        let sources = Sources::read(&path)?;
        let policies = Policies::from_sources(&sources)?;
        let shared = Shared {
            path,
            current: RwLock::new(Arc::new(policies)),
            changes: watch::Sender::new(0),
            last: Mutex::new(Last {
                seen: Ok(sources),
                error: None,
            }),
            reading: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
        };
        let handle = Self {
            shared: Arc::new(shared),
        };
        let follower = handle.clone();
        // Listened to from here on: until then a SIGHUP ends the process.
        let hangup = hangups();
        handle
            .shared
            .tasks
            .spawn(async move { follower.follow(stop, hangup).await });
        handle.shared.tasks.close();
        Ok(handle)
    }

    /// The rules in force now. Hold the value for one decision, not for a session.
    pub fn current(&self) -> Arc<Policies> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts the changes of the rules in force: a reason to judge live sessions and held operations again.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// What is wrong with the files as they are now, while the rules read before stay in force.
    pub fn last_error(&self) -> Option<PolicyError> {
        self.shared
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .error
            .clone()
    }

    /// Reads the files now. On an error the rules read before stay in force. Reading goes on when this is dropped
    /// midway, and its result is then taken in by the next look.
    pub async fn reload_now(&self) -> Result<(), PolicyError> {
        let _one = self.shared.reading.lock().await;
        let seen = self.read().await?;
        self.take_up(seen).await
    }

    async fn read(&self) -> Result<Result<Sources, PolicyError>, PolicyError> {
        let path = self.shared.path.clone();
        off_the_runtime(&self.shared.path, move || Ok(Sources::read(&path))).await
    }

    async fn take_up(&self, seen: Result<Sources, PolicyError>) -> Result<(), PolicyError> {
        if self.shared.last.lock().unwrap_or_else(PoisonError::into_inner).seen == seen {
            return self.last_error().map_or(Ok(()), Err);
        }
        let sources = seen.clone();
        let loaded = off_the_runtime(&self.shared.path, move || Policies::from_sources(&sources?)).await;
        self.take_in(seen, loaded)
    }

    /// Waits until the task that follows the files has ended, after `stop` was cancelled.
    pub async fn stopped(&self) {
        self.shared.tasks.wait().await;
    }

    fn take_in(
        &self,
        seen: Result<Sources, PolicyError>,
        loaded: Result<Policies, PolicyError>,
    ) -> Result<(), PolicyError> {
        let mut last = self.shared.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.seen = seen;
        match loaded {
            Ok(policies) => {
                last.error = None;
                self.put_in_force(policies);
                Ok(())
            }
            Err(error) => {
                tracing::error!(
                    path = %self.shared.path.display(), faults = error.faults.len(), in_force = %self.current().version(),
                    "the policy was changed and cannot be used; the rules read before stay in force:\n{error}"
                );
                last.error = Some(error.clone());
                Err(error)
            }
        }
    }

    fn put_in_force(&self, policies: Policies) {
        let mut current = self.shared.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.version() == policies.version() {
            tracing::info!(version = %policies.version(), "the policy is again what is in force");
            return;
        }
        let (version, rules) = (policies.version(), policies.rule_ids().count());
        *current = Arc::new(policies);
        drop(current);
        tracing::info!(%version, rules, "the policy was changed and is in force");
        self.shared.changes.send_modify(|count| *count += 1);
    }

    async fn follow(self, stop: CancellationToken, mut hangup: Option<Signal>) {
        let mut before = None;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            // All three arms may be dropped midway: none has taken anything out of anywhere.
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => false,
                _ = asked => true,
            };
            if asked {
                tracing::info!("SIGHUP: the policy is read again");
            }
            let _one = self.shared.reading.lock().await;
            let Ok(seen) = self.read().await else { continue };
            if asked || before.as_ref() == Some(&seen) {
                // What is wrong is logged where it is found, once a change.
                let _ = self.take_up(seen.clone()).await;
            }
            before = Some(seen);
        }
    }
}

fn hangups() -> Option<Signal> {
    match signal(SignalKind::hangup()) {
        Ok(hangups) => Some(hangups),
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be listened to; the policy is looked at every second");
            None
        }
    }
}

async fn off_the_runtime<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, PolicyError> + Send + 'static,
) -> Result<T, PolicyError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(super::Fault::of_file(path, format!("reading it failed: {error}")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn rules(id: &str) -> String {
        format!("@id(\"{id}\") permit (principal, action == Action::\"read\", resource);")
    }

    fn started(text: &str) -> (TempDir, PathBuf, PolicyHandle, CancellationToken) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules.cedar");
        std::fs::write(&path, text).unwrap();
        let stop = CancellationToken::new();
        let handle = PolicyHandle::start(path.clone(), stop.clone()).unwrap();
        (directory, path, handle, stop)
    }

    fn in_force(handle: &PolicyHandle) -> Vec<String> {
        handle.current().rule_ids().map(str::to_owned).collect()
    }

    /// Waits for the follower to see a change by itself: it looks every second.
    async fn seen(changes: &mut watch::Receiver<u64>) {
        tokio::time::timeout(Duration::from_secs(60), changes.changed())
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn a_changed_file_comes_into_force_without_being_asked_for() {
        let (_directory, path, handle, stop) = started(&rules("one"));
        let mut changes = handle.changed();
        assert_eq!(in_force(&handle), ["one"]);
        std::fs::write(&path, rules("two")).unwrap();
        seen(&mut changes).await;
        assert_eq!(in_force(&handle), ["two"]);
        stop.cancel();
        handle.stopped().await;
    }

    #[tokio::test]
    async fn a_broken_file_leaves_the_old_rules_in_force_and_says_so() {
        let (_directory, path, handle, _stop) = started(&rules("one"));
        let changes = handle.changed();
        std::fs::write(&path, "@id(\"two\") @hodl permit (principal, action, resource);").unwrap();
        let error = handle.reload_now().await.unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("rules.cedar:1: unknown annotation @hodl: did you mean @hold?"),
            "{error}"
        );
        assert_eq!(handle.last_error(), Some(error.clone()));
        assert_eq!(handle.reload_now().await, Err(error), "it stays broken");
        assert_eq!(in_force(&handle), ["one"]);
        assert!(!changes.has_changed().unwrap());
        std::fs::write(&path, rules("one")).unwrap();
        handle.reload_now().await.unwrap();
        assert_eq!(handle.last_error(), None);
        assert!(!changes.has_changed().unwrap(), "the same rules are no change");
    }

    #[tokio::test]
    async fn a_file_that_vanishes_leaves_the_old_rules_in_force_until_it_is_back() {
        let (_directory, path, handle, _stop) = started(&rules("one"));
        std::fs::remove_file(&path).unwrap();
        assert!(
            handle
                .reload_now()
                .await
                .unwrap_err()
                .to_string()
                .contains("cannot be read")
        );
        assert_eq!(in_force(&handle), ["one"]);
        std::fs::write(&path, rules("two")).unwrap();
        handle.reload_now().await.unwrap();
        assert_eq!(in_force(&handle), ["two"]);
        assert_eq!(handle.last_error(), None);
    }

    #[tokio::test]
    async fn a_holder_of_the_old_rules_keeps_them_for_its_decision() {
        let (_directory, path, handle, _stop) = started(&rules("one"));
        let old = handle.current();
        std::fs::write(&path, rules("two")).unwrap();
        handle.reload_now().await.unwrap();
        assert_eq!(old.rule_ids().collect::<Vec<_>>(), ["one"]);
    }

    #[tokio::test]
    async fn a_start_with_a_broken_file_fails() {
        let directory = tempfile::tempdir().unwrap();
        assert!(PolicyHandle::start(directory.path().to_owned(), CancellationToken::new()).is_err());
    }
}
