//! Against a server that answers by a script: what S3 says rarely, or only when it is in trouble.

use super::*;
use crate::aws::Aws;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const CHUNK: Bytes = Bytes::from_static(b"a chunk");

/// How one request is answered.
#[derive(Clone)]
enum Reply {
    Status(u16, String),
    /// An object, and the checksum that is claimed of it.
    Object(Bytes, String),
    /// An object whose second half does not come.
    Half(Bytes),
    /// The connection is closed.
    Nothing,
    /// No answer ever.
    Silence,
}

use Reply::{Half, Nothing, Object, Silence, Status};

fn ok() -> Reply {
    Status(200, String::new())
}

fn error(status: u16, code: &str) -> Reply {
    let xml =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>words of the server</Message></Error>");
    Status(status, xml)
}

fn object(bytes: &Bytes) -> Reply {
    Object(bytes.clone(), BASE64_STANDARD.encode(Digest::of(bytes).0))
}

/// The heads of the requests that came, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn heads(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.heads().len()
    }
}

/// A server that gives one reply to each request; what comes after the last is closed without an answer.
async fn scripted(replies: Vec<Reply>) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let to_see = seen.clone();
    tokio::spawn(async move {
        let mut replies = replies.into_iter();
        while let Ok((stream, _)) = listener.accept().await {
            let reply = replies.next().unwrap_or(Nothing);
            tokio::spawn(answer(stream, reply, to_see.clone()));
        }
    });
    (address, seen)
}

async fn answer(stream: TcpStream, reply: Reply, seen: Seen) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.unwrap();
    seen.0.lock().unwrap().push(head);
    let answered = |status: u16, length: usize, more: &str| {
        format!("HTTP/1.1 {status} Said\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n")
    };
    let sum = |checksum: &str| format!("x-amz-checksum-sha256: {checksum}\r\n");
    let bytes = match reply {
        Status(status, xml) => [answered(status, xml.len(), ""), xml].concat().into_bytes(),
        Object(bytes, checksum) => [answered(200, bytes.len(), &sum(&checksum)).as_bytes(), &bytes].concat(),
        Half(bytes) => [answered(200, bytes.len(), "").as_bytes(), &bytes[..bytes.len() / 2]].concat(),
        Nothing => return,
        Silence => std::future::pending().await,
    };
    let _ = stream.write_all(&bytes).await;
}

fn options() -> S3Options {
    S3Options {
        bucket: "evidence".to_owned(),
        ..S3Options::default()
    }
}

async fn store(options: S3Options, replies: Vec<Reply>) -> (S3Recordings, Seen) {
    let (endpoint, seen) = scripted(replies).await;
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_millis(500))
        .build();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "tests"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .build();
    (S3Recordings::new(Client::from_conf(config), options), seen)
}

fn session() -> SessionId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
}

async fn put(options: S3Options, replies: Vec<Reply>) -> (Result<(), RecordingError>, Seen) {
    let (store, seen) = store(options, replies).await;
    (store.put_chunk(session(), 0, CHUNK).await, seen)
}

#[tokio::test]
async fn a_put_goes_on_through_trouble_that_passes() {
    let troubles = vec![
        error(503, "SlowDown"),
        error(500, "InternalError"),
        Nothing,
        error(409, "ConditionalRequestConflict"),
        Silence,
        error(400, "RequestTimeout"),
        ok(),
    ];
    let count = troubles.len();
    let (result, seen) = put(options(), troubles).await;
    result.unwrap();
    assert_eq!(seen.count(), count);
    assert!(seen.heads().iter().all(|head| head.contains("if-none-match: *\r\n")));
}

#[tokio::test]
async fn what_will_not_pass_is_told_at_once_with_what_to_do() {
    let cases = [
        (error(403, "AccessDenied"), "s3:PutObject"),
        (error(404, "NoSuchBucket"), "create the bucket"),
        (error(301, "PermanentRedirect"), "AWS_REGION"),
        (error(400, "KMS.DisabledException"), "store.sse_kms_key"),
        (error(403, "RequestTimeTooSkewed"), "set the clock"),
        (error(403, "ExpiredToken"), "credentials"),
        (error(400, "InvalidTag"), "words of the server"),
    ];
    for (reply, advice) in cases {
        let (result, seen) = put(options(), vec![reply]).await;
        let error = result.unwrap_err();
        assert!(matches!(error, RecordingError::Unavailable { .. }), "{error:?}");
        let text = error.to_string();
        let place = "PutObject s3://evidence/recordings/2023/06/30/01890a5d-ac96-774b-bcce-b302099a8057/0.chunk: HTTP";
        assert!(text.contains(place), "{text}");
        assert!(text.contains(advice), "{text}");
        assert_eq!(seen.count(), 1, "{text}");
    }
}

#[tokio::test]
async fn what_is_there_already_decides_whether_a_put_succeeded() {
    let refused = || error(412, "PreconditionFailed");
    let other = |bytes: &'static [u8]| object(&Bytes::from_static(bytes));

    let (result, seen) = put(options(), vec![refused(), object(&CHUNK)]).await;
    result.unwrap();
    assert_eq!(seen.count(), 2, "a failed condition is not tried again");

    for found in [b"another", &b"a chunk and more"[..], b"a chu", b""] {
        let (result, _) = put(options(), vec![refused(), other(found)]).await;
        let error = result.unwrap_err();
        assert!(matches!(error, RecordingError::Exists(_)), "{error:?}");
        assert!(error.to_string().contains("0.chunk exists already"), "{error}");
    }

    let (result, seen) = put(options(), vec![refused(), error(404, "NoSuchKey"), ok()]).await;
    result.unwrap();
    assert_eq!(seen.count(), 3, "it was deleted in between");
}

#[tokio::test]
async fn a_read_that_was_cut_off_or_damaged_on_the_way_is_made_again() {
    let damaged = Object(
        Bytes::from_static(b"a chunj"),
        BASE64_STANDARD.encode(Digest::of(&CHUNK).0),
    );
    let (store, seen) = store(options(), vec![Half(CHUNK), damaged, object(&CHUNK)]).await;
    assert_eq!(store.read_chunk(session(), 0).await.unwrap(), CHUNK);
    assert_eq!(seen.count(), 3);
}

#[tokio::test]
async fn an_object_that_is_too_long_is_read_one_byte_too_far_and_no_further() {
    let long = Bytes::from(vec![7; MANIFEST_BYTES_MAX * 3]);
    let (store, _) = store(options(), vec![object(&long)]).await;
    let found = store.read_manifest(session()).await.unwrap().unwrap();
    assert_eq!(found.len(), MANIFEST_BYTES_MAX + 1);
}

#[tokio::test]
async fn a_put_carries_checksum_key_and_tags() {
    let options = S3Options {
        sse_kms_key: Some("alias/recordings".to_owned()),
        tags: BTreeMap::from([("retention".to_owned(), "7 years".to_owned())]),
        ..options()
    };
    let (result, seen) = put(options, vec![ok()]).await;
    result.unwrap();
    let head = &seen.heads()[0];
    for header in [
        "x-amz-checksum-sha256: fyoh6uibowbdn8r",
        "x-amz-server-side-encryption: aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id: alias/recordings",
        "x-amz-tagging: retention=7+years&session=01890a5d-ac96-774b-bcce-b302099a8057",
    ] {
        let named = header.split_once(": ").unwrap().0;
        let found = head.lines().find(|line| line.starts_with(named));
        let sum = format!(
            "{named}: {}",
            BASE64_STANDARD.encode(Digest::of(&CHUNK).0).to_ascii_lowercase()
        );
        let expected = if named.contains("checksum") {
            sum.as_str()
        } else {
            header
        };
        assert_eq!(found, Some(expected), "{head}");
    }
    assert!(!head.contains("x-amz-object-lock"), "{head}");
}

#[tokio::test]
async fn the_locks_mode_is_asked_once_and_put_with_every_object() {
    let config = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                  <Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    let options = S3Options {
        object_lock_days: Some(30),
        ..options()
    };
    let replies = vec![error(503, "SlowDown"), Status(200, config.to_owned()), ok(), ok()];
    let (store, seen) = store(options, replies).await;
    store.put_chunk(session(), 0, CHUNK).await.unwrap();
    store.put_chunk(session(), 1, CHUNK).await.unwrap();
    let heads = seen.heads();
    assert_eq!(heads.len(), 4);
    let day = (chrono::Utc::now() + chrono::TimeDelta::days(30)).format("%Y-%m-%d");
    for head in &heads[2..] {
        assert!(head.contains("x-amz-object-lock-mode: compliance\r\n"), "{head}");
        assert!(
            head.contains(&format!("x-amz-object-lock-retain-until-date: {day}")),
            "{head}"
        );
    }
}

#[tokio::test]
async fn a_bucket_without_lock_is_told_when_a_lock_is_wanted() {
    let options = S3Options {
        object_lock_days: Some(30),
        ..options()
    };
    let none = error(404, "ObjectLockConfigurationNotFoundError");
    let (result, seen) = put(options, vec![none]).await;
    let text = result.unwrap_err().to_string();
    assert!(text.contains("the bucket has no Object Lock"), "{text}");
    assert_eq!(seen.count(), 1, "nothing was put");
}

#[tokio::test]
async fn a_link_is_made_without_asking_the_store() {
    let (store, seen) = store(options(), Vec::new()).await;
    let object = RecordingObject::Chunk(7);
    let link = store
        .link(session(), object, Duration::from_secs(600))
        .await
        .unwrap()
        .unwrap();
    let url = link.url.as_str();
    assert!(
        url.contains("/evidence/recordings/2023/06/30/01890a5d-ac96-774b-bcce-b302099a8057/7.chunk?"),
        "{url}"
    );
    assert!(url.contains("X-Amz-Expires=600"), "{url}");
    assert!(!format!("{link:?}").contains("X-Amz"), "{link:?}");
    assert_eq!(seen.count(), 0);
}

#[tokio::test]
async fn a_link_does_not_outlive_the_credentials_that_signed_it() {
    let link = async |credentials_live: u64| {
        let started = SystemTime::now();
        let expiry = started + Duration::from_secs(credentials_live);
        let credentials = Credentials::new("id", "secret", Some("token".to_owned()), Some(expiry), "tests");
        let config = aws_config::SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url("http://127.0.0.1:1")
            .build();
        let aws = Aws::of(&config);
        let store = S3Recordings::new(aws.s3, options()).ending(aws.s3_credentials);
        let link = store.link(session(), RecordingObject::Manifest, Duration::from_secs(600));
        let until = SystemTime::from(link.await.unwrap().unwrap().until);
        until.duration_since(started).unwrap().as_secs()
    };
    assert_eq!(link(300).await, 300);
    assert!((600..610).contains(&link(3600).await));
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_says_what_was_said_last() {
    let limit = Duration::from_secs(1);
    let call = || Call {
        operation: "PutObject",
        bucket: "evidence",
        key: "recordings/probe",
        limit,
    };
    let begun = tokio::time::Instant::now();
    let mut tries = 0;
    let passing = || {
        tries += 1;
        async { Err::<(), _>(Fault::Passing("slow down".to_owned())) }
    };
    let text = call().made(passing).await.unwrap_err().to_string();
    assert!(begun.elapsed() < limit * 2);
    assert!(tries > 1, "{tries}");
    let said = format!("no success in {tries} tries within 1 s, the last: slow down");
    assert!(text.contains(&said), "{text}");

    let begun = tokio::time::Instant::now();
    let silent = call().made(std::future::pending::<Result<(), Fault>>).await;
    assert!(begun.elapsed() >= limit);
    assert!(silent.unwrap_err().to_string().contains("it did not answer"));
}
