use super::*;
use crate::operations::keys::FileKeys;
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const WHOLE: &str = r#"[gateway]
name = "gateway-1"
data_dir = "data"

[store]
kind = "embedded"

[postgres]
listen = "127.0.0.1:6432"
tls = { certificate = "file:gateway.crt", key = "file:gateway.key" }
plaintext_on_loopback = true

[http]
listen = "127.0.0.1:6480"
public_url = "http://127.0.0.1:6480"

[policy]
path = "policy.cedar"

[[issuer]]
url = "https://login.example.com"
audiences = ["countersign"]

[[target]]
name = "orders"
kind = "postgres"
host = "db.example.com"
database = "shop"
user = "countersign"
password = "file:orders.password"

[limits]
connections_max = 100
"#;

fn written(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("countersign.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

/// The messages about the whole configuration with one text replaced.
fn problems(replaced: &str, by: &str) -> String {
    assert!(WHOLE.contains(replaced), "{replaced}");
    let (dir, path) = written(&WHOLE.replacen(replaced, by, 1));
    let error = Config::load(&path)
        .err()
        .map_or("no problem".to_owned(), |error| error.to_string());
    error.replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn a_whole_configuration_is_read_and_its_paths_stand_beside_it() {
    let (dir, path) = written(WHOLE);
    let config = Config::load(&path).unwrap();
    assert_eq!(config.gateway.data_dir, dir.path().join("data"));
    assert_eq!(config.policy.path, dir.path().join("policy.cedar"));
    assert_eq!(config.postgres.tls.key, Reference::File(dir.path().join("gateway.key")));
    let [target] = &config.targets[..] else {
        panic!("one target")
    };
    assert_eq!(target.password, Reference::File(dir.path().join("orders.password")));
    assert_eq!((target.port, target.tls.mode), (5432, UpstreamTlsMode::VerifyFull));
    let [issuer] = &config.issuers[..] else {
        panic!("one issuer")
    };
    assert_eq!(
        (issuer.groups_claim.as_str(), issuer.clock_skew_seconds),
        ("groups", 30)
    );
    assert_eq!(
        (config.limits.connections_max, config.limits.drain_seconds_max),
        (100, 30)
    );
}

#[test]
fn every_broken_configuration_is_told_with_its_line_and_what_to_do() {
    let second_issuer = "[[target]]\n";
    let issuer = "[[issuer]]\nurl = \"https://login.example.com/\"\naudiences = []\n\n[[target]]\n";
    let second_target = "[limits]\n";
    let target = "[[target]]\nname = \"orders\"\nkind = \"mysql\"\nhost = \"\"\ndatabase = \"shop\"\nuser = \"u\"\n\
                  password = \"hunter2\"\n\n[limits]\n";
    let twin = "[[target]]\nname = \"orders\"\nkind = \"postgres\"\nhost = \"127.0.0.1\"\ndatabase = \"shop\"\n\
                user = \"u\"\npassword = \"env:P\"\ntls = { mode = \"disable\", ca = \"file:ca.pem\" }\n\n[limits]\n";
    let cases = [
        (
            "an unknown key",
            "listen = \"127.0.0.1:6432\"",
            "lisen = \"127.0.0.1:6432\"",
        ),
        ("an unknown key like no other", "[limits]", "[limits]\nzebra = 1"),
        ("an unknown table", "[limits]", "[limit]"),
        ("an unknown key inside an inline table", "certificate =", "certificat ="),
        ("a wrong type", "connections_max = 100", "connections_max = \"many\""),
        ("a number below zero", "connections_max = 100", "connections_max = -1"),
        ("a fraction", "connections_max = 100", "connections_max = 1.5"),
        (
            "text in the place of a list",
            "audiences = [\"countersign\"]",
            "audiences = \"countersign\"",
        ),
        (
            "a value in the place of a table",
            "[store]\nkind = \"embedded\"",
            "[store.kind]",
        ),
        ("a table in the place of a list", "[[issuer]]", "[issuer]"),
        ("an unknown store", "kind = \"embedded\"", "kind = \"dynamo\""),
        ("no address", "listen = \"127.0.0.1:6432\"", "listen = \"localhost\""),
        ("no URL", "\"https://login.example.com\"", "\"login.example.com\""),
        ("broken TOML", "[limits]", "[limits"),
        (
            "a key twice",
            "name = \"gateway-1\"",
            "name = \"gateway-1\"\nname = \"gateway-2\"",
        ),
        ("several at once", second_target, target),
        ("a target twice, TLS disabled with a CA", second_target, twin),
        ("an issuer twice, without audience", second_issuer, issuer),
        ("no gateway name", "name = \"gateway-1\"", "name = \"\""),
        (
            "a target's name with a slash",
            "name = \"orders\"",
            "name = \"orders/shop\"",
        ),
        (
            "a target's name with a line end",
            "name = \"orders\"",
            "name = \"orders\\n\"",
        ),
        (
            "TLS disabled towards another machine",
            "user = \"countersign\"",
            "user = \"c\"\ntls.mode = \"disable\"",
        ),
        (
            "plaintext on every interface",
            "listen = \"127.0.0.1:6432\"",
            "listen = \"0.0.0.0:6432\"",
        ),
        (
            "pages on every interface",
            "listen = \"127.0.0.1:6480\"",
            "listen = \"[::]:6480\"",
        ),
        (
            "one port for both",
            "listen = \"127.0.0.1:6480\"",
            "listen = \"127.0.0.1:6432\"",
        ),
        (
            "pages in the clear",
            "\"http://127.0.0.1:6480\"",
            "\"http://gate.example.com\"",
        ),
        (
            "an issuer in the clear",
            "\"https://login.example.com\"",
            "\"http://login.example.com\"",
        ),
        (
            "a symmetric algorithm",
            "audiences =",
            "algorithms = [\"RS256\", \"HS256\"]\naudiences =",
        ),
        (
            "too much clock skew",
            "audiences =",
            "clock_skew_seconds = 3600\naudiences =",
        ),
        (
            "a client of the command line that is no audience",
            "audiences =",
            "login_client_id = \"cli\"\naudiences =",
        ),
        (
            "limits out of bounds",
            "connections_max = 100",
            "connections_max = 0\nmessage_bytes_max = 9999999999",
        ),
        (
            "limits that contradict",
            "connections_max = 100",
            "message_bytes_max = 1000",
        ),
        (
            "a masked column of three parts",
            "[limits]",
            "[mask]\ncolumns = [\"a.b.c\"]\n\n[limits]",
        ),
    ];
    let mut all = String::new();
    for (name, replaced, by) in cases {
        writeln!(all, "{name}\n{}\n", problems(replaced, by)).unwrap();
    }
    insta::assert_snapshot!(all);
}

#[test]
fn what_is_missing_is_told_with_the_line_of_its_table() {
    let (dir, path) = written("[gateway]\nname = \"g\"\n\n[http]\n");
    let error = Config::load(&path).unwrap_err().to_string();
    insta::assert_snapshot!(error.replace(&format!("{}/", dir.path().display()), ""));
}

#[test]
fn references_that_lead_nowhere_are_told_with_their_lines() {
    let (dir, path) = written(&WHOLE.replace("user =", "tls.ca = \"file:ca.pem\"\nuser ="));
    let file = |name: &str, text: &str, mode| {
        std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    file("gateway.crt", "not a certificate", 0o644);
    file("gateway.key", "not a key", 0o600);
    file(
        "ca.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        0o644,
    );
    file("orders.password", "s3cret", 0o644);
    let target = |target: &Target| {
        let password = target
            .password
            .read()
            .err()
            .map(|error| ("password", error.to_string()));
        password.into_iter().collect()
    };
    let error = Config::load_with_references(&path, target).unwrap_err().to_string();
    insta::assert_snapshot!(error.replace(&format!("{}/", dir.path().display()), ""));
}

#[test]
fn a_missing_key_of_operations_is_told_with_how_to_make_it() {
    let aws =
        "kind = \"aws\"\ntable = \"countersign\"\nbucket = \"recordings\"\noperations_key = \"file:operations.key\"";
    let (dir, path) = written(&WHOLE.replace("kind = \"embedded\"", aws));
    let told = || {
        let error = Config::load_with_references(&path, |_| Vec::new())
            .unwrap_err()
            .to_string();
        error.replace(&format!("{}/", dir.path().display()), "")
    };
    let wanted = "countersign.toml:9: the key of operations: operations.key is missing: take the one of the other \
                  gateways of this store; for the first, make it with `countersign keys operations operations.key`";
    let before = told();
    assert!(before.contains(wanted), "{before}");
    FileKeys::create(&dir.path().join("operations.key")).unwrap();
    let after = told();
    assert!(!after.contains("the key of operations"), "{after}");
}

#[test]
fn keys_that_operations_were_encrypted_with_before_are_named_by_arn() {
    let told = |key: &str, before: &str| {
        let aws = format!(
            "kind = \"aws\"\ntable = \"countersign\"\nbucket = \"recordings\"\noperations_key = \"{key}\"\n\
             operations_keys_before = [\"{before}\"]"
        );
        problems("kind = \"embedded\"", &aws)
    };
    let arn = "arn:aws:kms:eu-central-1:000000000000:key/0b3f";
    assert_eq!(told("kms:alias/countersign", arn), "no problem");
    let alias = told("kms:alias/countersign", "alias/former");
    assert!(
        alias.contains("countersign.toml:10: \"alias/former\" is no ARN of a KMS key"),
        "{alias}"
    );
    let file = told("file:operations.key", arn);
    assert!(file.contains("older keys stand in the file"), "{file}");
}

#[test]
fn a_configuration_that_is_not_there_is_an_error() {
    let error = Config::load(Path::new("/nowhere/countersign.toml")).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable(_)), "{error}");
}
