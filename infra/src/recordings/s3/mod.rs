//! Recordings as objects of an S3 bucket.
//!
//! Every object is put with its SHA-256 (`x-amz-checksum-sha256`), which S3 checks before it confirms, and with
//! `If-None-Match: *`, so that it never replaces another. In a bucket with versions whoever may delete can hide an
//! object behind a delete marker and put another in its place: the signed chain and the journal's anchors show that.
//!
//! Source: Amazon S3 API Reference (PutObject, GetObject, ListObjectsV2) and the User Guide's "Conditional requests".

mod call;
mod fault;
pub(crate) mod retention;

use super::chain::MANIFEST_BYTES_MAX;
use super::format::CHUNK_BYTES_MAX;
use super::layout::{self, DIGEST_BYTES_MAX, DIGESTS_MAX, SESSIONS_MAX};
use super::{Link, RecordingError, RecordingObject, RecordingStore};
use crate::aws::{CredentialsEnd, status_of, words};
use crate::domain::id::{Digest, SessionId};
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use call::Call;
use chrono::NaiveDate;
use fault::Fault;
use retention::Retention;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use tokio::sync::OnceCell;
use url::form_urlencoded;

/// One put, with all its tries.
const PUT_WAIT_MAX: Duration = Duration::from_secs(20);
/// One read, or one page of a listing, with all its tries.
const READ_WAIT_MAX: Duration = Duration::from_secs(10);
/// Each of the two requests of a probe, with all its tries: together they fit into the time of a readiness check.
const PROBE_WAIT_MAX: Duration = Duration::from_millis(1400);
/// The longest that the signature of a link can hold.
const LINK_VALID_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Most chunks of one recording: ten terabytes, or a year and a half of a session that is never idle.
const CHUNKS_MAX: usize = 10_000_000;
/// Written once, and never again as long as it is there.
const PROBE_KEY: &str = "recordings/probe";
const PROBE: &[u8] = b"countersign probe\n";

/// How objects are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Options {
    pub bucket: String,
    /// The KMS key with which S3 encrypts the objects; without it the bucket's own setting holds.
    pub sse_kms_key: Option<String>,
    /// For so many days no version of an object can be deleted (Object Lock), or for longer where the bucket's own
    /// default says so. Without it only the bucket's default holds.
    pub object_lock_days: Option<u32>,
    /// What each object is tagged with, for the bucket's lifecycle rules, such as `retention`. Objects of a session are
    /// then also tagged `session`. With none at all no tag is set.
    pub tags: BTreeMap<String, String>,
}

/// Recordings in a bucket.
///
/// A call that may succeed a moment later (throttling, 5xx, no connection, no answer) is made again, with a random
/// pause below a bound that doubles, until its deadline: 20 s for a put, 10 s for a read or a page of a listing. What
/// will not pass (no such bucket, no permission) is an error at once. A call that is dropped may have had its effect.
#[derive(Debug)]
pub struct S3Recordings {
    client: Client,
    options: S3Options,
    credentials: CredentialsEnd,
    /// What the options and the bucket's own default come to; asked once, with the first put.
    retention: OnceCell<Option<Retention>>,
}

impl S3Recordings {
    /// Keeps recordings in a bucket that is there. Asks nothing yet. The client must not repeat calls by itself.
    pub fn new(client: Client, options: S3Options) -> Self {
        Self {
            client,
            options,
            credentials: CredentialsEnd::default(),
            retention: OnceCell::new(),
        }
    }

    /// Gives no link a longer life than these credentials, which are the client's, have.
    pub fn ending(self, credentials: CredentialsEnd) -> Self {
        Self { credentials, ..self }
    }

    fn call<'a>(&'a self, operation: &'static str, key: &'a str, limit: Duration) -> Call<'a> {
        Call {
            operation,
            bucket: &self.options.bucket,
            key,
            limit,
        }
    }

    async fn put(&self, key: &str, session: Option<SessionId>, bytes: Bytes) -> Result<(), RecordingError> {
        let tagging = self.tagging(session);
        let call = self.call("PutObject", key, PUT_WAIT_MAX);
        call.made(|| self.try_put(key, tagging.as_deref(), &bytes)).await
    }

    async fn try_put(&self, key: &str, tagging: Option<&str>, bytes: &Bytes) -> Result<(), Fault> {
        let retention = self.retention().await?;
        let kms = self.options.sse_kms_key.clone();
        let put = self
            .client
            .put_object()
            .bucket(&self.options.bucket)
            .key(key)
            .if_none_match("*")
            .checksum_sha256(BASE64_STANDARD.encode(Digest::of(bytes).0))
            .set_server_side_encryption(kms.as_ref().map(|_| ServerSideEncryption::AwsKms))
            .set_ssekms_key_id(kms)
            .set_object_lock_mode(retention.map(|retention| retention.mode.clone()))
            .set_object_lock_retain_until_date(retention.map(|retention| retention.until(SystemTime::now())))
            .set_tagging(tagging.map(str::to_owned))
            .body(ByteStream::from(bytes.clone()));
        match put.send().await {
            Ok(_) => Ok(()),
            Err(error) if status_of(&error) == Some(412) => self.compare(key, bytes).await,
            Err(error) => Err(Fault::of(&error)),
        }
    }

    /// What is already there decides: the same bytes are accepted, others are not.
    async fn compare(&self, key: &str, bytes: &Bytes) -> Result<(), Fault> {
        match self.try_get(key, bytes.len()).await? {
            Some(found) if found == *bytes => Ok(()),
            Some(_) => Err(Fault::Answer(RecordingError::Exists(self.address(key)))),
            None => Err(Fault::Passing("it was there, and then it was not".to_owned())),
        }
    }

    async fn get(&self, key: &str, max: usize) -> Result<Option<Bytes>, RecordingError> {
        let call = self.call("GetObject", key, READ_WAIT_MAX);
        call.made(|| self.try_get(key, max)).await
    }

    /// Reads at most one byte more than `max`, so that a longer object shows and never fills the memory. The SDK holds
    /// what it reads to the end against the checksum.
    async fn try_get(&self, key: &str, max: usize) -> Result<Option<Bytes>, Fault> {
        let get = self.client.get_object().bucket(&self.options.bucket).key(key);
        let mut body = match get.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(found) => found.body,
            Err(error) if error.as_service_error().is_some_and(|error| error.is_no_such_key()) => return Ok(None),
            Err(error) => return Err(Fault::of(&error)),
        };
        let mut bytes = Vec::new();
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| Fault::Passing(words(&error)))?;
            let room = (max + 1).saturating_sub(bytes.len());
            bytes.extend(part.iter().take(room));
            if bytes.len() > max {
                break;
            }
        }
        Ok(Some(bytes.into()))
    }

    /// What `pick` makes of the names directly under `directory`, in the order of the names; stops after `max`.
    async fn list<T>(
        &self,
        directory: &str,
        start_after: Option<String>,
        max: usize,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, RecordingError> {
        let prefix = format!("{directory}/");
        let (mut picked, mut token) = (Vec::new(), None);
        loop {
            let call = self.call("ListObjectsV2", &prefix, READ_WAIT_MAX);
            let page = call
                .made(|| self.try_list(&prefix, start_after.clone(), token.clone()))
                .await?;
            let names = names_under(&prefix, &page);
            picked.extend(names.into_iter().filter_map(&pick).take(max - picked.len()));
            token = page.next_continuation_token;
            if token.is_none() || picked.len() >= max {
                return Ok(picked);
            }
        }
    }

    async fn try_list(
        &self,
        prefix: &str,
        start_after: Option<String>,
        token: Option<String>,
    ) -> Result<ListObjectsV2Output, Fault> {
        let list = self.client.list_objects_v2().bucket(&self.options.bucket);
        let list = list.prefix(prefix).delimiter("/").set_start_after(start_after);
        let page = list.set_continuation_token(token).send().await;
        page.map_err(|error| Fault::of(&error))
    }

    async fn retention(&self) -> Result<Option<&Retention>, Fault> {
        let Some(days) = self.options.object_lock_days else {
            return Ok(None);
        };
        let ask = || async move {
            let retention = retention::of_bucket(&self.client, &self.options.bucket, days).await?;
            Ok(Some(retention))
        };
        Ok(self.retention.get_or_try_init(ask).await?.as_ref())
    }

    fn tagging(&self, session: Option<SessionId>) -> Option<String> {
        if self.options.tags.is_empty() {
            return None;
        }
        let mut tagging = form_urlencoded::Serializer::new(String::new());
        tagging.extend_pairs(&self.options.tags);
        if let Some(session) = session {
            tagging.append_pair("session", &session.to_string());
        }
        Some(tagging.finish())
    }

    fn address(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.options.bucket)
    }
}

fn key_of(session: SessionId, object: RecordingObject) -> String {
    format!("{}/{}", layout::session(session), layout::object(object))
}

fn digest_key(day: NaiveDate, name: &str) -> String {
    format!("{}/{name}", layout::digests(day))
}

fn names_under<'p>(prefix: &str, page: &'p ListObjectsV2Output) -> Vec<&'p str> {
    let objects = page.contents().iter().filter_map(|object| object.key());
    let directories = page
        .common_prefixes()
        .iter()
        .filter_map(|found| found.prefix()?.strip_suffix('/'));
    let mut names = objects
        .chain(directories)
        .filter_map(|key| key.strip_prefix(prefix))
        .collect::<Vec<_>>();
    names.sort_unstable();
    names
}

#[async_trait]
impl RecordingStore for S3Recordings {
    async fn put_chunk(&self, session: SessionId, number: u64, bytes: Bytes) -> Result<(), RecordingError> {
        let key = key_of(session, RecordingObject::Chunk(number));
        self.put(&key, Some(session), bytes).await
    }

    async fn put_manifest(&self, session: SessionId, bytes: Bytes) -> Result<(), RecordingError> {
        let key = key_of(session, RecordingObject::Manifest);
        self.put(&key, Some(session), bytes).await
    }

    async fn chunks(&self, session: SessionId) -> Result<u64, RecordingError> {
        let directory = layout::session(session);
        let numbers = |name: &str| Some(layout::chunk_number(name));
        let found = self.list(&directory, None, CHUNKS_MAX + 1, numbers).await?;
        if found.is_empty() {
            return Err(RecordingError::NotFound(session));
        }
        if found.len() > CHUNKS_MAX {
            return Err(RecordingError::Unavailable {
                source: format!("{} holds more than {CHUNKS_MAX} objects", self.address(&directory)).into(),
            });
        }
        Ok(layout::unbroken(found.into_iter().flatten().collect()))
    }

    async fn read_chunk(&self, session: SessionId, number: u64) -> Result<Bytes, RecordingError> {
        let key = key_of(session, RecordingObject::Chunk(number));
        let found = self.get(&key, CHUNK_BYTES_MAX).await?;
        found.ok_or(RecordingError::NotFound(session))
    }

    async fn read_manifest(&self, session: SessionId) -> Result<Option<Bytes>, RecordingError> {
        self.get(&key_of(session, RecordingObject::Manifest), MANIFEST_BYTES_MAX)
            .await
    }

    async fn sessions(&self, day: NaiveDate, after: Option<SessionId>) -> Result<Vec<SessionId>, RecordingError> {
        let directory = layout::day(day);
        // The character after `/`: beyond all objects of the session, before those of the next.
        let start_after = after.map(|after| format!("{directory}/{after}0"));
        let later = |name: &str| layout::session_named(name).filter(|found| after.is_none_or(|after| *found > after));
        self.list(&directory, start_after, SESSIONS_MAX, later).await
    }

    async fn put_digest(&self, day: NaiveDate, name: &str, bytes: Bytes) -> Result<(), RecordingError> {
        layout::check_digest(name, &bytes)?;
        self.put(&digest_key(day, name), None, bytes).await
    }

    async fn digests(&self, day: NaiveDate) -> Result<Vec<String>, RecordingError> {
        let directory = layout::digests(day);
        let proper = |name: &str| {
            let is_proper = layout::check_digest_name(name).is_ok();
            is_proper.then(|| name.to_owned())
        };
        let names = self.list(&directory, None, DIGESTS_MAX + 1, proper).await?;
        if names.len() > DIGESTS_MAX {
            return Err(layout::too_many_digests(&self.address(&directory)));
        }
        Ok(names)
    }

    async fn read_digest(&self, day: NaiveDate, name: &str) -> Result<Bytes, RecordingError> {
        layout::check_digest_name(name)?;
        let key = digest_key(day, name);
        let found = self.get(&key, DIGEST_BYTES_MAX).await?;
        found.ok_or_else(|| RecordingError::NoDigest(self.address(&key)))
    }

    async fn link(
        &self,
        session: SessionId,
        object: RecordingObject,
        valid: Duration,
    ) -> Result<Option<Link>, RecordingError> {
        if valid.is_zero() || valid > LINK_VALID_MAX {
            return Err(RecordingError::Invalid(format!(
                "a link can be valid for 1 to {} seconds",
                LINK_VALID_MAX.as_secs()
            )));
        }
        let key = key_of(session, object);
        let call = self.call("the link to read", &key, READ_WAIT_MAX);
        call.made(|| self.try_link(&key, valid)).await.map(Some)
    }

    /// Two requests: whether the bucket is there, and a put of one fixed object, `recordings/probe`.
    ///
    /// The put bears the condition that all puts bear. The first ever makes the object, with the lock, key and tags of
    /// all others; each later one is answered 412, which S3 says only to a caller who may put there (who may not is told
    /// 403 first). So a probe adds no object and no version, and never runs into Object Lock. What it does not see is a
    /// KMS key that stopped working after the first: that shows with the next chunk.
    async fn probe(&self) -> Result<(), RecordingError> {
        let call = self.call("HeadBucket", "", PROBE_WAIT_MAX);
        call.made(|| async {
            let head = self.client.head_bucket().bucket(&self.options.bucket).send().await;
            head.map(drop).map_err(|error| Fault::of(&error))
        })
        .await?;
        let (tagging, probe) = (self.tagging(None), Bytes::from_static(PROBE));
        let call = self.call("PutObject", PROBE_KEY, PROBE_WAIT_MAX);
        call.made(|| self.try_put(PROBE_KEY, tagging.as_deref(), &probe)).await
    }
}

impl S3Recordings {
    async fn try_link(&self, key: &str, valid: Duration) -> Result<Link, Fault> {
        let now = SystemTime::now();
        let ends_before = self.credentials.at();
        let lasting = |error: &dyn std::error::Error| Fault::Lasting(words(error));
        let config = PresigningConfig::builder().start_time(now).expires_in(valid).build();
        let config = config.map_err(|error| lasting(&error))?;
        let get = self.client.get_object().bucket(&self.options.bucket).key(key);
        let request = get.presigned(config).await.map_err(|error| Fault::of(&error))?;
        let url = request
            .uri()
            .parse()
            .map_err(|error: url::ParseError| lasting(&error))?;
        // Others may have come while it was made: which of them signed it is not known.
        let ends = [ends_before, self.credentials.at()].into_iter().flatten().min();
        let until = ends.map_or(now + valid, |end| end.min(now + valid)).into();
        Ok(Link { url, until })
    }
}

#[cfg(test)]
mod tests;
