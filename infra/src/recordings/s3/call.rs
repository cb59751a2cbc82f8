//! One call of S3, made again while that may help.

use super::super::RecordingError;
use super::fault::{Fault, S3Error};
use std::time::Duration;
use tokio::time::Instant;

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

pub(super) struct Call<'a> {
    pub operation: &'static str,
    pub bucket: &'a str,
    pub key: &'a str,
    /// How long all tries may take together.
    pub limit: Duration,
}

impl Call<'_> {
    /// Tries until there is an answer, a fault that lasts, or no time. Between tries it pauses for a random part of a
    /// bound that doubles, so that many callers do not come back at once.
    pub async fn made<T, F>(self, mut attempt: impl FnMut() -> F) -> Result<T, RecordingError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let deadline = Instant::now() + self.limit;
        let (mut tries, mut pause_max) = (0, PAUSE_FIRST);
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
            let again = Instant::now() + random_part(pause_max);
            if again >= deadline {
                return Err(self.out_of_time(tries, &last));
            }
            tokio::time::sleep_until(again).await;
            pause_max = (pause_max * 2).min(PAUSE_MAX);
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

fn random_part(bound: Duration) -> Duration {
    let mut random = [0; 4];
    match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => bound.mul_f64(f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX)),
        Err(_) => bound,
    }
}
