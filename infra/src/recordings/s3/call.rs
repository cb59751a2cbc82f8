//! One call of S3, made again while that may help.

use super::super::RecordingError;
use super::fault::{Fault, S3Error};
use crate::backoff::Backoff;
use std::time::Duration;
use tokio::time::Instant;

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(3));

pub(super) struct Call<'a> {
    pub operation: &'static str,
    pub bucket: &'a str,
    pub key: &'a str,
    /// How long all tries may take together.
    pub limit: Duration,
}

impl Call<'_> {
    /// Tries until there is an answer, a fault that lasts, or no time.
    pub async fn made<T, F>(self, mut attempt: impl FnMut() -> F) -> Result<T, RecordingError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let deadline = Instant::now() + self.limit;
        let (mut tries, mut backoff) = (0, BACKOFF);
        let mut last = "it did not answer".to_owned();
        loop {
            tries += 1;
            match tokio::time::timeout_at(deadline, attempt()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(Fault::Answer(answer))) => return Err(answer),
                Ok(Err(Fault::Lasting(message))) => return Err(self.failed(message)),
                Ok(Err(Fault::Passing(message))) => last = message,
                Err(_) => return Err(self.out_of_time(tries, &last)),
            }
            let again = Instant::now() + backoff.pause();
            if again >= deadline {
                return Err(self.out_of_time(tries, &last));
            }
            tokio::time::sleep_until(again).await;
        }
    }

    fn out_of_time(&self, tries: u32, last: &str) -> RecordingError {
        let seconds = self.limit.as_secs();
        self.failed(format!(
            "no success in {tries} tries within {seconds} s, the last: {last}"
        ))
    }

    fn failed(&self, message: String) -> RecordingError {
        RecordingError::Unavailable {
            source: Box::new(S3Error {
                operation: self.operation,
                bucket: self.bucket.to_owned(),
                key: self.key.to_owned(),
                message,
            }),
        }
    }
}
