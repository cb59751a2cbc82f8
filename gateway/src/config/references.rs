//! Everything that a configuration refers to: that it is there, and of use.

use super::load::Problem;
use super::walk::Places;
use super::{AwsStore, Config, OperationsKey, Store, Tls};
use crate::stores::no_operations_key;
use crate::vault::Vault;
use countersign_infra::operations::keys::FileKeys;

/// Reads each reference once and finds those that are of no use. Blocks on the file system.
pub(super) fn check(config: &Config, places: &Places) -> Vec<Problem> {
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
    for (index, issuer) in config.issuers.iter().enumerate() {
        if let Err(error) = issuer.check() {
            problem(&format!("issuer.{index}.ca"), error.to_string());
        }
    }
    for (index, target) in config.targets.iter().enumerate() {
        if let Err(error) = Vault::check_password(target) {
            problem(&format!("target.{index}.password"), error.to_string());
        }
        if let Err(error) = Vault::check_tls(target) {
            problem(&format!("target.{index}.tls.ca"), error.to_string());
        }
    }
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    problems
}
