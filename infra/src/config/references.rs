//! Everything that a configuration refers to: that it is there, and of use.

use super::load::Problem;
use super::walk::Places;
use super::{AwsStore, Config, OperationsKey, Store, Target, Tls};
use crate::operations::keys::FileKeys;
use crate::ring::RingKey;
use crate::stores::no_operations_key;

/// Reads each reference once and finds those that are of no use; `target` says what is wrong with those of a target, and
/// under which key. Blocks on the file system.
pub(super) fn check(
    config: &Config,
    places: &Places,
    target: impl Fn(&Target) -> Vec<(&'static str, String)>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut problem = |path: &str, text: String| {
        problems.push(Problem {
            line: places.line(path),
            text,
        })
    };
    let listeners: [(&str, Option<&Tls>); 2] = [
        ("postgres.tls", Some(&config.postgres.tls)),
        ("http.tls", config.http.tls.as_ref()),
    ];
    for (path, tls) in listeners {
        if let Some(Err(error)) = tls.map(Tls::check) {
            problem(path, error.to_string());
        }
    }
    if let Err(source) = std::fs::metadata(&config.policy.path) {
        problem(
            "policy.path",
            format!("{} cannot be read: {source}", config.policy.path.display()),
        );
    }
    if let Store::Aws(AwsStore {
        operations_key: OperationsKey::File(path),
        ..
    }) = &config.store
        && let Err(error) = FileKeys::load(path)
    {
        problem("store.operations_key", no_operations_key(&error));
    }
    if let Some(bot) = &config.bot {
        let key = bot.ring_key.read().map_err(|error| error.to_string());
        if let Err(text) = key.and_then(|key| RingKey::new(key).map_err(|error| error.to_string())) {
            problem("bot.ring_key", text);
        }
    }
    for (index, issuer) in config.issuers.iter().enumerate() {
        if let Err(error) = issuer.check() {
            problem(&format!("issuer.{index}.{}", error.key()), error.to_string());
        }
    }
    for (index, entry) in config.targets.iter().enumerate() {
        for (key, text) in target(entry) {
            problem(&format!("target.{index}.{key}"), text);
        }
    }
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    problems
}
