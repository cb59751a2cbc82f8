//! Which requests meet which trouble.

use super::request::{Seen, Service};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Something to do with a request before or after it is forwarded; the request waits for it.
pub type Hook = Arc<dyn Fn(Seen) -> BoxFuture<'static, ()> + Send + Sync>;

/// What goes wrong. Unless it is said otherwise the request is not forwarded.
#[derive(Clone)]
pub enum Trouble {
    /// Answers 500, as the service words it.
    Fail,
    /// Answers what the service answers to those who ask too much.
    Throttle,
    /// Never answers, and keeps the connection open.
    Silence,
    /// Forwards, then closes the connection instead of answering.
    LoseAnswer,
    /// Waits first, then forwards.
    Slow(Duration),
    /// Cuts all connections, this one too, as `Weather::cut` does.
    Cut,
    /// Forwards, and moves the answer's `Date` by so many seconds.
    ShiftDate(i64),
    /// Calls a hook, then forwards.
    Before(Hook),
    /// Forwards, and calls a hook before it answers.
    After(Hook),
}

impl Trouble {
    /// A hook before the request is forwarded.
    pub fn before<F: Future<Output = ()> + Send + 'static>(hook: impl Fn(Seen) -> F + Send + Sync + 'static) -> Self {
        Self::Before(Arc::new(move |seen| Box::pin(hook(seen))))
    }

    /// A hook between the answer's coming and its being passed on.
    pub fn after<F: Future<Output = ()> + Send + 'static>(hook: impl Fn(Seen) -> F + Send + Sync + 'static) -> Self {
        Self::After(Arc::new(move |seen| Box::pin(hook(seen))))
    }
}

/// Some of the requests to come: all that every given condition holds for.
#[derive(Clone, Debug)]
pub struct Requests {
    service: Option<Service>,
    operation: Option<String>,
    containing: Option<String>,
    first: u64,
    times: u64,
}

impl Requests {
    pub fn all() -> Self {
        Self {
            service: None,
            operation: None,
            containing: None,
            first: 1,
            times: u64::MAX,
        }
    }

    /// Those of one service.
    pub fn of(service: Service) -> Self {
        Self {
            service: Some(service),
            ..Self::all()
        }
    }

    /// Those of one operation (`PutItem`, `GetObject`, ...).
    pub fn named(self, operation: &str) -> Self {
        Self {
            operation: Some(operation.to_owned()),
            ..self
        }
    }

    /// Those with this text in the path with its query, as sent, or in the body.
    pub fn containing(self, text: &str) -> Self {
        Self {
            containing: Some(text.to_owned()),
            ..self
        }
    }

    /// Of those that all else holds for: from the n-th on, counted from 1 and from when the trouble was ordered.
    pub fn from_nth(self, first: u64) -> Self {
        Self { first, ..self }
    }

    /// No more than so many.
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    fn hold_for(&self, seen: &Seen) -> bool {
        self.service.is_none_or(|service| service == seen.service)
            && self
                .operation
                .as_ref()
                .is_none_or(|operation| *operation == seen.operation)
            && self.containing.as_ref().is_none_or(|text| seen.contains(text))
    }
}

/// An ordered trouble with its count.
pub(super) struct Rule {
    requests: Requests,
    trouble: Trouble,
    matched: AtomicU64,
    met: AtomicU64,
}

impl Rule {
    pub(super) fn new(requests: Requests, trouble: Trouble) -> Self {
        Self {
            requests,
            trouble,
            matched: AtomicU64::new(0),
            met: AtomicU64::new(0),
        }
    }

    pub(super) fn met(&self) -> u64 {
        self.met.load(Ordering::SeqCst)
    }

    /// Counts the request, and gives the trouble that it meets.
    pub(super) fn strikes(&self, seen: &Seen) -> Option<Trouble> {
        if !self.requests.hold_for(seen) {
            return None;
        }
        let before = self.matched.fetch_add(1, Ordering::SeqCst);
        let skipped = self.requests.first.saturating_sub(1);
        if before < skipped || before - skipped >= self.requests.times {
            return None;
        }
        self.met.fetch_add(1, Ordering::SeqCst);
        Some(self.trouble.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn seen(service: Service, operation: &str, body: &str) -> Seen {
        Seen {
            service,
            operation: operation.to_owned(),
            path: "/".to_owned(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn only_the_nth_and_as_many_as_ordered_meet_it() {
        let rule = Rule::new(
            Requests::of(Service::DynamoDb).named("PutItem").from_nth(2).times(2),
            Trouble::Fail,
        );
        let put = seen(Service::DynamoDb, "PutItem", "");
        let met: Vec<bool> = (0..5).map(|_| rule.strikes(&put).is_some()).collect();
        assert_eq!(met, [false, true, true, false, false]);
        assert_eq!(rule.met(), 2);
    }

    #[test]
    fn what_is_different_in_one_thing_does_not_meet_it() {
        let rule = Rule::new(
            Requests::of(Service::DynamoDb)
                .named("PutItem")
                .containing("APPROVAL#7"),
            Trouble::Throttle,
        );
        assert!(rule.strikes(&seen(Service::S3, "PutItem", "APPROVAL#7")).is_none());
        assert!(
            rule.strikes(&seen(Service::DynamoDb, "GetItem", "APPROVAL#7"))
                .is_none()
        );
        assert!(
            rule.strikes(&seen(Service::DynamoDb, "PutItem", "APPROVAL#8"))
                .is_none()
        );
        assert!(
            rule.strikes(&seen(Service::DynamoDb, "PutItem", "{APPROVAL#7}"))
                .is_some()
        );
    }
}
