//! The table's clock: the `Date` of its answers (RFC 9110, section 6.6.1), which counts whole seconds.

use super::call::{Time, Trouble};
use super::{DynamoStore, text};
use crate::approvals::StoreTime;
use aws_sdk_dynamodb::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::operation::get_item::GetItemError;
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

use super::call::Failed;

impl DynamoStore {
    /// What the table's clock says now: within half a second, and half the time that the answer took.
    pub(crate) async fn clock(&self) -> Result<StoreTime, Trouble> {
        let seen = Seen::default();
        // The time of the try that was answered.
        let asked = Mutex::new(Instant::now());
        let is_answer = |_: &GetItemError| false;
        let mut time = Time::default();
        let sent = self.call("the clock", &mut time, is_answer, || {
            *asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            self.0
                .client
                .get_item()
                .table_name(&self.0.table)
                .key("pk", text("CLOCK"))
                .key("sk", text("CLOCK"))
                .customize()
                .interceptor(seen.clone())
                .send()
        });
        match sent.await {
            Ok(_) => {}
            Err(Failed::Trouble(trouble)) => return Err(trouble),
            Err(Failed::Answered { .. }) => return Err(Trouble::new("the clock was not read")),
        }
        let way = asked.lock().unwrap_or_else(PoisonError::into_inner).elapsed() / 2;
        let date = seen.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let date = date.ok_or_else(|| Trouble::new("its answers have no date"))?;
        let within = TimeDelta::milliseconds(500) + TimeDelta::from_std(way).unwrap_or_default();
        let time = date + within;
        Ok(StoreTime { time, within })
    }
}

/// Keeps the date of an answer.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<Option<DateTime<Utc>>>>);

impl Intercept for Seen {
    fn name(&self) -> &'static str {
        "the date of an answer"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date.map(|date| date.to_utc());
        Ok(())
    }
}
