//! One call of DynamoDB: tried again while that can help, within a deadline; and what became of it.

use super::{CALL_SECONDS_MAX, DynamoStore, TURN_SECONDS_MAX};
use crate::aws::said;
use crate::backoff::Backoff;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

pub(super) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(25), Duration::from_secs(1));
pub(super) const TURN_MAX: Duration = Duration::from_secs(TURN_SECONDS_MAX);

/// The first try of a call; each that follows one without an answer may take twice as long. So a connection that swallows
/// everything does not cost the whole time, and a service that is only slow still comes to answer.
const TRY_MAX: Duration = Duration::from_millis(1500);

/// Why DynamoDB did not do what it was asked, in words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Trouble(String);

impl Trouble {
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// How one try ended that did not work.
enum Ended<E> {
    /// It was not carried out, and may be tried again.
    NotDone(String),
    /// It may have been carried out, and may be tried again.
    NotKnown(String),
    /// The service's own answer: the caller knows what it means.
    Answered(E),
    /// Trying again does not help.
    Hopeless(String),
}

/// What a call came to that did not work.
pub(super) enum Failed<E> {
    /// The service's own answer. `unsure`: an earlier try of the same call may have been carried out.
    Answered {
        error: E,
        unsure: bool,
    },
    Trouble(Trouble),
}

/// Whose turns a piece of work takes, so that many questions at once never keep a decision waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Records, hints and events: what a held statement waits for.
    #[default]
    Decide,
    /// Lists, searches and sessions: what people look through.
    Look,
}

/// The time that one piece of work may take, from the first request's turn on; and whose turns it takes.
#[derive(Debug, Default)]
pub(super) struct Time {
    lane: Lane,
    deadline: Option<Instant>,
}

impl Time {
    pub fn of(lane: Lane) -> Self {
        Self { lane, deadline: None }
    }

    /// When the work must have ended.
    pub fn deadline(&mut self) -> Instant {
        *self
            .deadline
            .get_or_insert_with(|| Instant::now() + Duration::from_secs(CALL_SECONDS_MAX))
    }
}

/// Which answers of the service are the caller's to read.
pub(super) type IsAnswer<E> = fn(&E) -> bool;

impl DynamoStore {
    /// Makes a call until it works, its time is over, or the service says what only the caller can read.
    pub(super) async fn call<T, E, F, S>(
        &self,
        what: &str,
        time: &mut Time,
        is_answer: IsAnswer<E>,
        mut send: S,
    ) -> Result<T, Failed<E>>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        S: FnMut() -> F,
    {
        let turns = match time.lane {
            Lane::Decide => &self.0.turns,
            Lane::Look => &self.0.looks,
        };
        let _turn = match timeout(TURN_MAX, turns.acquire()).await {
            Ok(turn) => turn,
            Err(_) => return Err(self.trouble(what, "too many requests are under way")),
        };
        let deadline = time.deadline();
        let (mut unsure, mut backoff) = (false, BACKOFF);
        let mut try_max = TRY_MAX;
        loop {
            let ended = match timeout_at(deadline.min(Instant::now() + try_max), send()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => ended(error, is_answer),
                Err(_) => {
                    try_max *= 2;
                    Ended::NotKnown("it did not answer in time".to_owned())
                }
            };
            let why = match ended {
                Ended::Answered(error) => return Err(Failed::Answered { error, unsure }),
                Ended::Hopeless(why) => return Err(self.trouble(what, &why)),
                Ended::NotDone(why) => why,
                Ended::NotKnown(why) => {
                    unsure = true;
                    why
                }
            };
            let wait = backoff.pause();
            if Instant::now() + wait >= deadline {
                return Err(self.trouble(what, &why));
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn trouble<E>(&self, what: &str, why: &str) -> Failed<E> {
        Failed::Trouble(Trouble(format!("DynamoDB table {}, {what}: {why}", self.0.table)))
    }
}

fn ended<E>(error: SdkError<E, HttpResponse>, is_answer: IsAnswer<E>) -> Ended<E>
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let words = said(&error);
    match error {
        SdkError::ConstructionFailure(_) => Ended::Hopeless(words),
        SdkError::ServiceError(answer) => {
            let answer = answer.into_err();
            if is_answer(&answer) {
                return Ended::Answered(answer);
            }
            let code = answer.code().unwrap_or_default().to_owned();
            match code.as_str() {
                "ProvisionedThroughputExceededException"
                | "ThrottlingException"
                | "RequestLimitExceeded"
                | "LimitExceededException"
                | "ReplicatedWriteConflictException"
                | "TransactionConflictException"
                | "TransactionInProgressException" => Ended::NotDone(words),
                "ResourceNotFoundException" => {
                    Ended::Hopeless("there is no such table: make it with the Terraform module `store`".to_owned())
                }
                "AccessDeniedException" | "UnrecognizedClientException" | "ExpiredTokenException" => {
                    Ended::Hopeless(format!("this program's credentials do not allow it ({code})"))
                }
                "ValidationException" | "ItemCollectionSizeLimitExceededException" | "SerializationException" => {
                    Ended::Hopeless(words)
                }
                // Every other answer is the service's own trouble: it may have done what it was asked.
                _ => Ended::NotKnown(words),
            }
        }
        // Also of further kinds, which the SDK may get: what is not known may have been done.
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) | _ => {
            Ended::NotKnown(words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::operation::get_item::GetItemError;
    use std::cell::Cell;

    type Answer = Result<(), SdkError<GetItemError, HttpResponse>>;

    #[tokio::test]
    async fn a_try_that_nobody_answers_leaves_time_for_others() {
        let (store, tries) = (DynamoStore::unchecked(), Cell::new(0));
        let mut time = Time::default();
        let send = async || -> Answer {
            tries.set(tries.get() + 1);
            match tries.get() {
                1 => std::future::pending().await,
                _ => Ok(()),
            }
        };
        let started = Instant::now();
        let called = store.call("a read", &mut time, |_| true, send).await;
        assert!(called.is_ok() && tries.get() == 2);
        assert!(started.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test]
    async fn a_service_that_never_answers_is_given_up_in_time() {
        let (store, tries) = (DynamoStore::unchecked(), Cell::new(0));
        let mut time = Time::default();
        let send = || {
            tries.set(tries.get() + 1);
            std::future::pending::<Answer>()
        };
        let started = Instant::now();
        let Err(Failed::Trouble(trouble)) = store.call("a read", &mut time, |_| true, send).await else {
            panic!("it answered");
        };
        assert!(trouble.to_string().ends_with("it did not answer in time"), "{trouble}");
        assert!(tries.get() > 1 && started.elapsed() < Duration::from_secs(CALL_SECONDS_MAX + 1));
    }

    #[tokio::test]
    async fn many_questions_at_once_leave_decisions_their_turns() {
        let store = DynamoStore::unchecked();
        let looked = tokio::spawn({
            let store = store.clone();
            async move {
                let looks = (0..200).map(|_| async {
                    let mut time = Time::of(Lane::Look);
                    let send = || std::future::pending::<Answer>();
                    store.call("an index", &mut time, |_| true, send).await.is_ok()
                });
                futures_util::future::join_all(looks).await
            }
        });
        tokio::task::yield_now().await;
        assert_eq!(store.0.looks.available_permits(), 0);
        let mut time = Time::default();
        let decided = store.call("a vote", &mut time, |_| true, async || -> Answer { Ok(()) });
        let decided = timeout(Duration::from_secs(1), decided).await;
        assert!(decided.is_ok_and(|decided| decided.is_ok()));
        looked.abort();
    }
}
