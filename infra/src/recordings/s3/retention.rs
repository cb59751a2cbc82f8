//! How long, and how firmly, objects are locked.

use super::fault::Fault;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockMode, ObjectLockRetentionMode,
};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(crate) const NO_LOCK: &str =
    "the bucket has no Object Lock: create one that has, or leave store.object_lock_days out";

/// Until when a version of an object can be neither deleted nor changed.
///
/// The mode is governance unless the bucket's own default is compliance. In either mode nobody with the gateway's
/// rights can delete a version. Governance leaves a way out to those whom the account gives
/// `s3:BypassGovernanceRetention`: recordings can hold what a court or a person may demand to be erased, and a slip of
/// the pen in the days would otherwise stand for as long as it says, since compliance can be shortened by no one. Whoever
/// wants that firmness says so where it belongs, in the bucket's default retention, and it is then never weakened:
/// neither the mode nor the days that are set here stay below it.
///
/// Source: Amazon S3 User Guide, "Locking objects with Object Lock", retention modes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    pub mode: ObjectLockMode,
    days: u32,
}

impl Retention {
    pub fn until(&self, now: SystemTime) -> DateTime {
        DateTime::from(now + DAY * self.days)
    }

    /// What `days` and a bucket's configuration come to; none where the bucket locks nothing.
    pub fn of(days: u32, found: Option<&ObjectLockConfiguration>) -> Option<Self> {
        let locks = found.filter(|found| found.object_lock_enabled() == Some(&ObjectLockEnabled::Enabled))?;
        let default = locks.rule().and_then(|rule| rule.default_retention());
        Some(Self::with_default(days, default))
    }

    fn with_default(days: u32, default: Option<&DefaultRetention>) -> Self {
        let firm = default.and_then(DefaultRetention::mode) == Some(&ObjectLockRetentionMode::Compliance);
        let default_days = default.map_or(0, |default| {
            let years = default.years().unwrap_or(0);
            default.days().unwrap_or(0).saturating_add(years.saturating_mul(366))
        });
        Self {
            mode: if firm {
                ObjectLockMode::Compliance
            } else {
                ObjectLockMode::Governance
            },
            days: days.max(u32::try_from(default_days).unwrap_or(0)),
        }
    }
}

/// What `days` and the bucket's own default come to.
pub(super) async fn of_bucket(client: &Client, bucket: &str, days: u32) -> Result<Retention, Fault> {
    let found = match client.get_object_lock_configuration().bucket(bucket).send().await {
        Ok(found) => found.object_lock_configuration,
        Err(error) if error.code() == Some("ObjectLockConfigurationNotFoundError") => None,
        Err(error) => return Err(Fault::of(&error)),
    };
    Retention::of(days, found.as_ref()).ok_or_else(|| Fault::Lasting(NO_LOCK.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default(mode: ObjectLockRetentionMode, days: Option<i32>, years: Option<i32>) -> DefaultRetention {
        let builder = DefaultRetention::builder().mode(mode);
        builder.set_days(days).set_years(years).build()
    }

    #[test]
    fn the_buckets_default_is_never_weakened() {
        use ObjectLockRetentionMode::{Compliance, Governance};
        let cases = [
            (None, ObjectLockMode::Governance, 30),
            (Some(default(Governance, Some(7), None)), ObjectLockMode::Governance, 30),
            (
                Some(default(Governance, Some(90), None)),
                ObjectLockMode::Governance,
                90,
            ),
            (Some(default(Compliance, Some(7), None)), ObjectLockMode::Compliance, 30),
            (
                Some(default(Compliance, None, Some(2))),
                ObjectLockMode::Compliance,
                732,
            ),
        ];
        for (default, mode, days) in cases {
            let expected = Retention { mode, days };
            assert_eq!(Retention::with_default(30, default.as_ref()), expected, "{default:?}");
        }
    }
}
