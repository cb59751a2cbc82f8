//! What a request asks for, read off its head: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html>
//! for S3; the services that speak JSON say it in a header.

use bytes::Bytes;
use hyper::Method;
use hyper::http::request::Parts;

/// A service of the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    DynamoDb,
    S3,
    Kms,
    /// Any other that takes JSON or a form.
    Other,
}

/// A request that was read whole.
#[derive(Clone, Debug)]
pub struct Seen {
    pub service: Service,
    /// As the service's documentation calls it: `TransactWriteItems`, `PutObject`.
    pub operation: String,
    /// With its query, as sent.
    pub path: String,
    pub body: Bytes,
}

impl Seen {
    pub(super) fn read(head: &Parts, body: Bytes) -> Self {
        let (service, operation) = service_and_operation(head, &body);
        Self {
            service,
            operation,
            path: head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            body,
        }
    }

    /// Whether the text stands in path or body.
    pub fn contains(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        self.path.contains(text) || bytes.is_empty() || self.body.windows(bytes.len()).any(|window| window == bytes)
    }
}

fn service_and_operation(head: &Parts, body: &[u8]) -> (Service, String) {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some((interface, operation)) = header("x-amz-target").and_then(|target| target.split_once('.')) {
        let service = match interface {
            "DynamoDB_20120810" => Service::DynamoDb,
            "TrentService" => Service::Kms,
            _ => Service::Other,
        };
        return (service, operation.to_owned());
    }
    if header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
        let mut pairs = url::form_urlencoded::parse(body);
        let action = pairs.find(|(name, _)| name == "Action");
        return (
            Service::Other,
            action.map_or("unknown".to_owned(), |(_, action)| action.into_owned()),
        );
    }
    let copied = header("x-amz-copy-source").is_some();
    let query = head.uri.query().unwrap_or_default();
    (Service::S3, s3_operation(&head.method, head.uri.path(), query, copied))
}

/// The operation of S3, in path style: the client says it itself where method and path do not tell.
fn s3_operation(method: &Method, path: &str, query: &str, copied: bool) -> String {
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let said = pairs.iter().find(|(name, _)| name == "x-id");
    if let Some((_, operation)) = said {
        return operation.clone();
    }
    let has = |wanted: &str| pairs.iter().any(|(name, _)| name == wanted);
    let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    let verb = if *method == Method::POST { "Post" } else { verb(method) };
    if key.is_empty() {
        if bucket.trim_matches('/').is_empty() {
            return "ListBuckets".to_owned();
        }
        return bucket_operation(verb, has);
    }
    let of_object = [
        ("tagging", "ObjectTagging"),
        ("retention", "ObjectRetention"),
        ("legal-hold", "ObjectLegalHold"),
        ("attributes", "ObjectAttributes"),
    ];
    if let Some((_, part)) = of_object.into_iter().find(|(name, _)| has(name)) {
        return format!("{verb}{part}");
    }
    let multipart = has("uploadId");
    let named = match verb {
        "Post" if has("uploads") => "CreateMultipartUpload",
        "Post" => "CompleteMultipartUpload",
        "Put" if has("partNumber") => "UploadPart",
        "Put" if copied => "CopyObject",
        "Get" if multipart => "ListParts",
        "Delete" if multipart => "AbortMultipartUpload",
        _ => return format!("{verb}Object"),
    };
    named.to_owned()
}

fn bucket_operation(verb: &str, has: impl Fn(&str) -> bool) -> String {
    let of_bucket = [
        ("versioning", "BucketVersioning"),
        ("object-lock", "ObjectLockConfiguration"),
        ("lifecycle", "BucketLifecycleConfiguration"),
        ("encryption", "BucketEncryption"),
        ("policy", "BucketPolicy"),
        ("tagging", "BucketTagging"),
        ("publicAccessBlock", "PublicAccessBlock"),
        ("location", "BucketLocation"),
    ];
    if let Some((_, part)) = of_bucket.into_iter().find(|(name, _)| has(name)) {
        return format!("{verb}{part}");
    }
    let named = match verb {
        "Get" if has("versions") => "ListObjectVersions",
        "Get" if has("uploads") => "ListMultipartUploads",
        "Get" if has("list-type") => "ListObjectsV2",
        "Get" => "ListObjects",
        "Post" if has("delete") => "DeleteObjects",
        "Put" => "CreateBucket",
        _ => return format!("{verb}Bucket"),
    };
    named.to_owned()
}

fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "Get",
        "PUT" => "Put",
        "HEAD" => "Head",
        "DELETE" => "Delete",
        _ => "Other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(method: Method, uri: &str, headers: &[(&str, &str)], body: &str) -> (Service, String) {
        let mut request = hyper::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let seen = Seen::read(&head, Bytes::copy_from_slice(body.as_bytes()));
        (seen.service, seen.operation)
    }

    #[test]
    fn an_operation_of_s3_is_read_from_method_path_and_query() {
        for (method, uri, expected) in [
            (Method::GET, "/", "ListBuckets"),
            (Method::PUT, "/bucket", "CreateBucket"),
            (Method::PUT, "/bucket/", "CreateBucket"),
            (Method::HEAD, "/bucket", "HeadBucket"),
            (Method::DELETE, "/bucket", "DeleteBucket"),
            (Method::GET, "/bucket?list-type=2&prefix=a%2F", "ListObjectsV2"),
            (Method::GET, "/bucket?versions", "ListObjectVersions"),
            (Method::GET, "/bucket/?object-lock", "GetObjectLockConfiguration"),
            (Method::POST, "/bucket?delete", "DeleteObjects"),
            (Method::PUT, "/bucket/a/b?x-id=PutObject", "PutObject"),
            (Method::PUT, "/bucket/a/b", "PutObject"),
            (Method::GET, "/bucket/a/b?versionId=7", "GetObject"),
            (Method::HEAD, "/bucket/a", "HeadObject"),
            (Method::DELETE, "/bucket/a", "DeleteObject"),
            (Method::PUT, "/bucket/a?tagging", "PutObjectTagging"),
            (Method::GET, "/bucket/a?retention", "GetObjectRetention"),
            (Method::POST, "/bucket/a?uploads", "CreateMultipartUpload"),
            (Method::PUT, "/bucket/a?partNumber=1&uploadId=u", "UploadPart"),
            (Method::POST, "/bucket/a?uploadId=u", "CompleteMultipartUpload"),
            (Method::DELETE, "/bucket/a?uploadId=u", "AbortMultipartUpload"),
        ] {
            let found = operation(method.clone(), uri, &[], "");
            assert_eq!(found, (Service::S3, expected.to_owned()), "{method} {uri}");
        }
        let copy = [("x-amz-copy-source", "other/a")];
        assert_eq!(operation(Method::PUT, "/bucket/a", &copy, "").1, "CopyObject");
    }

    #[test]
    fn other_services_name_their_operation() {
        let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        for (headers, body, service, expected) in [
            (
                [("x-amz-target", "DynamoDB_20120810.PutItem")],
                "{}",
                Service::DynamoDb,
                "PutItem",
            ),
            (
                [("x-amz-target", "TrentService.GenerateDataKey")],
                "{}",
                Service::Kms,
                "GenerateDataKey",
            ),
            (
                [("x-amz-target", "Logs_20140328.PutLogEvents")],
                "{}",
                Service::Other,
                "PutLogEvents",
            ),
            (
                form,
                "Version=2011-06-15&Action=GetCallerIdentity",
                Service::Other,
                "GetCallerIdentity",
            ),
        ] {
            let found = operation(Method::POST, "/", &headers, body);
            assert_eq!(found, (service, expected.to_owned()));
        }
    }
}
