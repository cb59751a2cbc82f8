//! Secrets in AWS Secrets Manager.
//!
//! Region, credentials and endpoint come from the environment, as for every AWS client; a secret that is named by its ARN is
//! asked for in the region of that. Each is asked for once in the life of the program, however many references name it, so
//! that all of them are of one version: a secret that was changed is seen by the next start.

use crate::aws;
use aws_config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::{Builder, Region};
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// From the first try to the end of the last.
const READ_MAX: Duration = Duration::from_secs(10);
const TRIES_MAX: u32 = 3;
/// Longest ARN. <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>
const NAME_BYTES_MAX: usize = 2048;

/// Where a secret stands: `NAME-OR-ARN`, or `NAME-OR-ARN#KEY` for one text of a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSecret {
    name: String,
    key: Option<String>,
}

/// Why a secret cannot be had from Secrets Manager. Names its place and what to do, never what stands there.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoredSecretError {
    #[error(
        "Secrets Manager has no secret {name} in {region}: correct the name or AWS_REGION, or create it with \
         `aws secretsmanager create-secret`"
    )]
    NotFound { name: String, region: String },
    #[error(
        "the secret {name} may not be read: allow this program's role secretsmanager:GetSecretValue on it, and kms:Decrypt \
         on a key of its own ({why})"
    )]
    Denied { name: String, why: String },
    #[error("the secret {0} holds binary data: store it as text")]
    Binary(String),
    #[error("the secret {0} is no JSON object: name it without a #KEY, or store key and value pairs")]
    NotAnObject(String),
    #[error("the secret {name} has no key {key:?} with a text: correct the #KEY, or add it")]
    NoKey { name: String, key: String },
    #[error("the secret {name} cannot be read: {why}")]
    Unavailable { name: String, why: String },
}

/// The text of a secret, shared by its keys.
type Whole = Result<Arc<Zeroizing<String>>, StoredSecretError>;

impl StoredSecret {
    /// Reads what stands after `secret:`.
    pub(super) fn parse(place: &str) -> Result<Self, &'static str> {
        let (name, key) = match place.split_once('#') {
            Some((name, key)) => (name, Some(key.to_owned())),
            None => (place, None),
        };
        // What Secrets Manager lets a name have, `!` in those that AWS manages, and the colons of an ARN.
        let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+=.@-:!".contains(&byte);
        let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_of_names);
        match is_name && key.as_deref() != Some("") {
            true => Ok(Self {
                name: name.to_owned(),
                key,
            }),
            false => {
                Err("write secret:NAME or secret:ARN, or with #KEY for one text of a secret that is a JSON object")
            }
        }
    }

    /// The region that an ARN names: `arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME`.
    fn region(&self) -> Option<&str> {
        let mut parts = self.name.strip_prefix("arn:")?.split(':');
        parts.nth(2).filter(|region| !region.is_empty())
    }

    /// Reads it, for at most 10 s when it was not read before.
    pub(super) fn read(&self) -> Result<Zeroizing<String>, StoredSecretError> {
        let whole = self.whole()?;
        match &self.key {
            None => Ok(Zeroizing::new(whole.as_str().to_owned())),
            Some(key) => pick(&self.name, &whole, key),
        }
    }

    /// The whole text, of which each key is a part.
    fn whole(&self) -> Whole {
        static WHOLE: Mutex<Option<HashMap<String, Whole>>> = Mutex::new(None);
        // Held until it is there: who asks for the same one meanwhile waits for this answer.
        let mut read = WHOLE.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read.get_or_insert_with(HashMap::new);
        if let Some(whole) = read.get(&self.name) {
            return whole.clone();
        }
        // A failure is kept as well: each key of it would wait as long again.
        let whole = self.fetch().map(Arc::new);
        read.insert(self.name.clone(), whole.clone());
        whole
    }

    /// A thread with a runtime of its own, because callers block: with a runtime around them, or without one.
    fn fetch(&self) -> Result<Zeroizing<String>, StoredSecretError> {
        let asked = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("secrets".to_owned());
            let thread = thread.spawn_scoped(scope, || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| self.unavailable(error))?;
                let asked = runtime.block_on(async { tokio::time::timeout(READ_MAX, self.ask()).await });
                // What looks a name up in the background is not waited for.
                runtime.shutdown_background();
                asked.unwrap_or_else(|_| Err(self.unavailable(format!("no answer within {} s", READ_MAX.as_secs()))))
            });
            thread.map(std::thread::ScopedJoinHandle::join)
        });
        match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.unavailable("its reader failed")),
            Err(error) => Err(self.unavailable(error)),
        }
    }

    async fn ask(&self) -> Result<Zeroizing<String>, StoredSecretError> {
        let environment = aws::environment(RetryConfig::standard().with_max_attempts(TRIES_MAX)).await;
        let mut config = Builder::from(&environment);
        if let Some(region) = self.region() {
            config.set_region(Some(Region::new(region.to_owned())));
        }
        let config = config.build();
        let region = config.region().map_or("no region", Region::as_ref).to_owned();
        let client = aws_sdk_secretsmanager::Client::from_conf(config);
        let answer = client.get_secret_value().secret_id(&self.name).send().await;
        let name = self.name.clone();
        let answer = answer.map_err(|error| match error.as_service_error() {
            Some(GetSecretValueError::ResourceNotFoundException(_)) => StoredSecretError::NotFound { name, region },
            Some(GetSecretValueError::DecryptionFailure(_)) => StoredSecretError::Denied {
                name,
                why: aws::said(&error),
            },
            _ if error.code() == Some("AccessDeniedException") => StoredSecretError::Denied {
                name,
                why: aws::said(&error),
            },
            _ => self.unavailable(aws::said(&error)),
        })?;
        let text = answer.secret_string.map(Zeroizing::new);
        text.ok_or_else(|| StoredSecretError::Binary(self.name.clone()))
    }

    fn unavailable(&self, why: impl fmt::Display) -> StoredSecretError {
        StoredSecretError::Unavailable {
            name: self.name.clone(),
            why: why.to_string(),
        }
    }
}

impl fmt::Display for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}#{key}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

fn pick(name: &str, whole: &str, key: &str) -> Result<Zeroizing<String>, StoredSecretError> {
    // The parser's error may show what it read.
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(whole).map_err(|_| StoredSecretError::NotAnObject(name.to_owned()))?;
    match object.get(key).and_then(serde_json::Value::as_str) {
        Some(text) => Ok(Zeroizing::new(text.to_owned())),
        None => Err(StoredSecretError::NoKey {
            name: name.to_owned(),
            key: key.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/countersign-a1B2c3";

    #[test]
    fn a_name_or_an_arn_is_a_place_and_a_key_may_follow() {
        for (place, name, key, region) in [
            ("prod/countersign", "prod/countersign", None, None),
            ("a.b_c+d=e@f-g#slack", "a.b_c+d=e@f-g", Some("slack"), None),
            (ARN, ARN, None, Some("eu-west-1")),
            (&format!("{ARN}#ring#key"), ARN, Some("ring#key"), Some("eu-west-1")),
        ] {
            let parsed = StoredSecret::parse(place).unwrap();
            assert_eq!((parsed.name.as_str(), parsed.key.as_deref()), (name, key));
            assert_eq!((parsed.region(), parsed.to_string().as_str()), (region, place));
        }
    }

    #[test]
    fn what_no_secret_can_be_called_is_refused() {
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for place in ["", "#key", "name#", "two words", "naïve", "a\nb", &long] {
            assert!(StoredSecret::parse(place).is_err(), "{place:?}");
        }
    }

    #[test]
    fn a_key_is_one_text_of_an_object() {
        let whole = r#"{"slack":"xoxb-1","port":5432,"nested":{"slack":"no"}}"#;
        assert_eq!(pick("s", whole, "slack").unwrap().as_str(), "xoxb-1");
        for key in ["port", "nested", "Slack", ""] {
            let picked = pick("s", whole, key);
            assert!(
                matches!(picked, Err(StoredSecretError::NoKey { .. })),
                "{key}: {picked:?}"
            );
        }
        for whole in ["xoxb-1", "[\"slack\"]", "", "{\"slack\":"] {
            let picked = pick("s", whole, "slack");
            let Err(error @ StoredSecretError::NotAnObject(_)) = picked else {
                panic!("{whole}: {picked:?}");
            };
            assert!(!error.to_string().contains("xoxb"), "{error}");
        }
    }
}
