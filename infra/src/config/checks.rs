//! What must hold between the values of a configuration, without reading anything else.

use super::load::Problem;
use super::walk::Places;
use super::{Config, HttpListener, Issuer, Limits, OperationsKey, Store, Target, UpstreamTlsMode};
use crate::identity::oidc;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use url::Url;

mod bot;

/// Longest name of a target, in bytes: PostgreSQL cuts database names there.
const NAME_BYTES_MAX: usize = 63;

/// Finds everything that contradicts itself or is out of bounds.
pub(super) fn check(config: &Config, places: &Places) -> Vec<Problem> {
    let mut checks = Checks {
        places,
        problems: Vec::new(),
    };
    checks.gateway(config);
    checks.store(&config.store);
    checks.listeners(config);
    checks.issuers(&config.issuers);
    checks.targets(&config.targets);
    checks.limits(&config.limits);
    checks.mask(&config.mask.columns);
    if let Some(bot) = &config.bot {
        checks.bot(bot, &config.targets);
    }
    checks
        .problems
        .sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    checks.problems
}

struct Checks<'a> {
    places: &'a Places,
    problems: Vec<Problem>,
}

impl Checks<'_> {
    fn gateway(&mut self, config: &Config) {
        if let Some(wrong) = wrong_name(&config.gateway.name) {
            self.problem("gateway.name", format!("the gateway's name {wrong}"));
        }
        for (path, key) in [
            (&config.gateway.data_dir, "gateway.data_dir"),
            (&config.policy.path, "policy.path"),
        ] {
            if path.as_os_str().is_empty() {
                self.problem(key, "the path is empty".to_owned());
            }
        }
    }

    fn store(&mut self, store: &Store) {
        let Store::Aws(aws) = store else { return };
        if !is_table(&aws.table) {
            let text = format!(
                "{:?} is no name of a table: 3 to 255 of a-z, A-Z, 0-9, `_`, `-` and `.`",
                aws.table
            );
            self.problem("store.table", text);
        }
        if !is_bucket(&aws.bucket) {
            let text = format!(
                "{:?} is no name of a bucket: 3 to 63 of a-z, 0-9, `-` and `.`",
                aws.bucket
            );
            self.problem("store.bucket", text);
        }
        for key in &aws.operations_keys_before {
            let text = match &aws.operations_key {
                OperationsKey::File(_) => "older keys stand in the file of `operations_key`".to_owned(),
                OperationsKey::Kms(_) if !is_kms_arn(key) => {
                    format!(
                        "{key:?} is no ARN of a KMS key (arn:aws:kms:REGION:ACCOUNT:key/ID): an alias may change again"
                    )
                }
                OperationsKey::Kms(_) => continue,
            };
            self.problem("store.operations_keys_before", text);
        }
        for (key, days) in [
            ("object_lock_days", aws.object_lock_days),
            ("retention_days", aws.retention_days),
        ] {
            if let Some(days) = days {
                self.bounded(&format!("store.{key}"), u64::from(days), 1..=36_500);
            }
        }
    }

    fn listeners(&mut self, config: &Config) {
        let (postgres, http) = (&config.postgres, &config.http);
        if postgres.plaintext_on_loopback && !postgres.listen.ip().is_loopback() {
            self.problem(
                "postgres.plaintext_on_loopback",
                format!(
                    "`plaintext_on_loopback` needs a listener on the loopback interface, not {}",
                    postgres.listen
                ),
            );
        }
        if postgres.listen == http.listen && postgres.listen.port() != 0 {
            self.problem("http.listen", format!("[postgres] listens on {} already", http.listen));
        }
        self.http(http);
    }

    fn http(&mut self, http: &HttpListener) {
        if http.tls.is_none() && !http.listen.ip().is_loopback() {
            self.problem(
                "http.listen",
                format!(
                    "{} can be reached from elsewhere: give [http.tls], or listen on 127.0.0.1",
                    http.listen
                ),
            );
        }
        let url = &http.public_url;
        let safe = url.scheme() == "https" || (url.scheme() == "http" && oidc::is_loopback(url));
        if !safe {
            self.problem(
                "http.public_url",
                format!("{url} is not https: people would send their tokens in the clear"),
            );
        }
    }

    fn issuers(&mut self, issuers: &[Issuer]) {
        let mut seen: HashMap<&Url, usize> = HashMap::new();
        for (index, issuer) in issuers.iter().enumerate() {
            let at = |key: &str| format!("issuer.{index}.{key}");
            if let Some(first) = seen.insert(&issuer.url, index) {
                self.twice(
                    &at("url"),
                    "issuer",
                    issuer.url.as_str(),
                    &format!("issuer.{first}.url"),
                );
            }
            if let Err(wrong) = oidc::may_ask(&issuer.url) {
                self.problem(&at("url"), format!("{}: {wrong}", issuer.url));
            }
            self.issuer(issuer, at);
        }
    }

    fn issuer(&mut self, issuer: &Issuer, at: impl Fn(&str) -> String) {
        self.texts(&at("audiences"), &issuer.audiences, "audience");
        self.texts(&at("name_claims"), &issuer.name_claims, "claim");
        self.texts(&at("algorithms"), &issuer.algorithms, "algorithm");
        if issuer.authorized_parties.iter().any(String::is_empty) {
            self.problem(&at("authorized_parties"), "an authorized party is empty".to_owned());
        }
        if issuer.groups_claim.is_empty() {
            self.problem(&at("groups_claim"), "the groups claim has no name".to_owned());
        }
        for name in &issuer.algorithms {
            if !oidc::Issuer::ALGORITHMS.contains(&name.as_str()) {
                let known = oidc::Issuer::ALGORITHMS.join(", ");
                self.problem(
                    &at("algorithms"),
                    format!("the algorithm {name:?} is not one of {known}"),
                );
            }
        }
        if let Some(client) = &issuer.login_client_id
            && !issuer.audiences.contains(client)
        {
            let text = format!("`audiences` does not list {client:?}: the gateway would refuse what it signs in");
            self.problem(&at("login_client_id"), text);
        }
        let skew_max = oidc::Issuer::CLOCK_SKEW_SECONDS_MAX;
        self.bounded(&at("clock_skew_seconds"), issuer.clock_skew_seconds, 0..=skew_max);
    }

    fn targets(&mut self, targets: &[Target]) {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (index, target) in targets.iter().enumerate() {
            let at = |key: &str| format!("target.{index}.{key}");
            if let Some(first) = seen.insert(&target.name, index) {
                self.twice(&at("name"), "target", &target.name, &format!("target.{first}.name"));
            }
            for (key, value) in [
                ("name", &target.name),
                ("database", &target.database),
                ("user", &target.user),
            ] {
                let slash = key == "name" && value.contains('/');
                let wrong = wrong_name(value).or(slash.then_some("holds a slash, which parts it from the database"));
                if let Some(wrong) = wrong {
                    self.problem(&at(key), format!("the {key} {value:?} {wrong}"));
                }
            }
            if target.tags.iter().any(String::is_empty) {
                self.problem(&at("tags"), "a tag is empty".to_owned());
            }
            self.bounded(&at("port"), u64::from(target.port), 1..=65535);
            self.way_to(target, at);
        }
    }

    /// How the target's server is reached.
    fn way_to(&mut self, target: &Target, at: impl Fn(&str) -> String) {
        for (key, name) in [
            ("host", Some(&target.host)),
            ("tls.server_name", target.tls.server_name.as_ref()),
        ] {
            if let Some(name) = name.filter(|name| ServerName::try_from(name.as_str()).is_err()) {
                self.problem(&at(key), format!("{name:?} is neither a host name nor an address"));
            }
        }
        match target.tls.mode {
            UpstreamTlsMode::VerifyFull => {}
            UpstreamTlsMode::Disable => {
                if !is_loopback(&target.host) {
                    let text = format!(
                        "{} is not on the loopback interface: TLS cannot be disabled",
                        target.host
                    );
                    self.problem(&at("tls.mode"), text);
                }
                if target.tls.ca.is_some() || target.tls.server_name.is_some() {
                    let text = "`ca` and `server_name` mean nothing while TLS is disabled".to_owned();
                    self.problem(&at("tls.mode"), text);
                }
            }
        }
    }

    fn limits(&mut self, limits: &Limits) {
        let bytes = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        const MIB: u64 = 1 << 20;
        for (key, number, bounds) in [
            ("connections_max", bytes(limits.connections_max), 1..=100_000),
            ("handshake_seconds_max", limits.handshake_seconds_max, 1..=600),
            ("statement_bytes_max", bytes(limits.statement_bytes_max), 1..=64 * MIB),
            ("message_bytes_max", bytes(limits.message_bytes_max), 1..=1024 * MIB),
            (
                "hold_in_transaction_seconds_max",
                limits.hold_in_transaction_seconds_max,
                0..=86_400,
            ),
            ("idle_seconds_max", limits.idle_seconds_max, 0..=31_536_000),
            ("spool_bytes_max", limits.spool_bytes_max, 1..=1024 * 1024 * MIB),
            ("record_wait_seconds_max", limits.record_wait_seconds_max, 1..=600),
            ("drain_seconds_max", limits.drain_seconds_max, 0..=86_400),
        ] {
            self.bounded(&format!("limits.{key}"), number, bounds);
        }
        if limits.statement_bytes_max > limits.message_bytes_max {
            let text = "`statement_bytes_max` is above `message_bytes_max`: no such statement can arrive".to_owned();
            self.problem("limits.statement_bytes_max", text);
        }
    }

    fn mask(&mut self, columns: &[String]) {
        for column in columns {
            let parts: Vec<&str> = column.split('.').collect();
            if parts.len() > 2 || parts.iter().any(|part| part.trim().is_empty()) {
                let text = format!("{column:?} is neither `column` nor `table.column`");
                self.problem("mask.columns", text);
            }
        }
    }

    fn texts(&mut self, path: &str, texts: &[String], what: &str) {
        if texts.is_empty() || texts.iter().any(String::is_empty) {
            self.problem(path, format!("at least one {what} is needed, and none may be empty"));
        }
    }

    fn bounded(&mut self, path: &str, number: u64, bounds: RangeInclusive<u64>) {
        if !bounds.contains(&number) {
            let key = path.rsplit('.').next().unwrap_or(path);
            let text = format!(
                "`{key}` is {number}, and must be from {} to {}",
                bounds.start(),
                bounds.end()
            );
            self.problem(path, text);
        }
    }

    fn twice(&mut self, path: &str, what: &str, name: &str, first: &str) {
        let before = self
            .places
            .line(first)
            .map(|line| format!(" (first on line {line})"))
            .unwrap_or_default();
        self.problem(path, format!("the {what} {name:?} is there twice{before}"));
    }

    fn problem(&mut self, path: &str, text: String) {
        self.problems.push(Problem {
            line: self.places.line(path),
            text,
        });
    }
}

/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html>
fn is_kms_arn(key: &str) -> bool {
    key.starts_with("arn:") && key.contains(":kms:") && key.contains(":key/")
}

fn is_table(name: &str) -> bool {
    (3..=255).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
fn is_bucket(name: &str) -> bool {
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    (3..=63).contains(&name.len())
        && name.chars().all(part)
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
}

fn wrong_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > NAME_BYTES_MAX {
        Some("is longer than 63 bytes")
    } else if name.chars().any(char::is_control) {
        Some("holds a control character")
    } else {
        None
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
