//! The rules of the house, kept by reading the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 600;
const CRATES: [&str; 4] = ["infra", "gateway", "bot", "tests"];
const TOP_LEVEL: [&str; 12] = [
    "Cargo.toml",
    "gateway",
    "bot",
    "infra",
    "terraform",
    "tests",
    "localstack",
    "README.md",
    "Makefile",
    "CHANGELOG.md",
    "LICENSE",
    "Cargo.lock",
];

#[test]
fn the_top_level_holds_what_the_map_names_and_nothing_else() {
    let entries = std::fs::read_dir(root()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<String> = names
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    assert_eq!(names, TOP_LEVEL.map(str::to_owned).into());
}

#[test]
fn gateway_and_bot_meet_only_in_the_store() {
    for (member, allowed) in [
        ("infra", &[][..]),
        ("gateway", &["countersign-infra"]),
        ("bot", &["countersign-infra"]),
        (
            "tests",
            &["countersign-infra", "countersign-gateway", "countersign-bot"],
        ),
    ] {
        let manifest = std::fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        let ours = manifest.lines().filter(|line| line.starts_with("countersign-"));
        for line in ours {
            assert!(
                allowed.iter().any(|name| line.starts_with(name)),
                "{member} depends on {line}"
            );
        }
    }
}

#[test]
fn the_domain_has_no_io_and_no_clock() {
    let banned = [
        "tokio",
        "std::fs",
        "std::net",
        "std::io",
        "std::env",
        "std::process",
        "std::thread",
        "SystemTime",
        "Instant::",
        "Utc::now",
        "Local::now",
        "async ",
        ".await",
        "rusqlite",
        "reqwest",
        "tracing",
    ];
    for (path, text) in sources(&["infra/src/domain"]) {
        for word in banned {
            assert!(!product(&text).contains(word), "{} speaks of {word:?}", path.display());
        }
    }
}

#[test]
fn a_permit_is_made_in_one_place() {
    for (path, text) in sources(&["gateway/src", "infra/src", "bot/src"]) {
        let made = text.lines().filter(|line| {
            let line = line.trim();
            line.contains("Permit {") && !line.contains("struct ") && !line.starts_with("impl") && !line.contains("->")
        });
        let here = path.ends_with("gateway/src/gate.rs") || path.components().any(|part| part.as_os_str() == "gate");
        assert!(here || made.count() == 0, "{} makes a Permit", path.display());
    }
}

#[test]
fn secrets_leave_the_vault_only_into_the_upstream() {
    // Not upstream credentials: the listeners' own keys, a person's own tokens on their way to be checked or kept, the cookies
    // and links that a page's reader has, and the bot's own tokens, signing secrets and one-time links of chats.
    let others = [
        "config/tls.rs",
        "postgres/connection.rs",
        "cli/client.rs",
        "cli/env.rs",
        "cli/signed_in/",
        "startup.rs",
        "slack/workspace.rs",
        "discord/guild.rs",
        "bot/src/desk/",
        "console/pages/",
        "postgres/web.rs",
    ];
    let allowed = [&["vault/", "upstream"][..], &others].concat();
    for (path, text) in sources(&["gateway/src", "bot/src"]) {
        let named = path.to_string_lossy();
        let reveals = product(&text).contains(".reveal()");
        assert!(
            !reveals || allowed.iter().any(|part| named.contains(part)),
            "{named} reveals a secret"
        );
    }
}

#[test]
fn no_file_is_longer_than_600_lines() {
    for (path, text) in sources(&CRATES) {
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines", path.display());
    }
}

#[test]
fn nothing_is_left_to_do_or_skipped() {
    let banned = [
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("#[ig", "nore"),
        concat!("FIX", "ME"),
    ];
    for (path, text) in sources(&CRATES) {
        for word in banned {
            assert!(!text.contains(word), "{} holds {word}", path.display());
        }
    }
}

#[test]
fn no_path_of_a_machine_stands_in_the_tree() {
    let banned = [
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
    ];
    let ends = [
        "rs", "toml", "md", "sh", "sql", "cedar", "yml", "yaml", "tf", "js", "json", "py",
    ];
    for (path, text) in files_of(&CRATES, &ends)
        .into_iter()
        .chain(read(&["README.md", "Makefile", "CHANGELOG.md"]))
    {
        for word in banned {
            assert!(!text.contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn every_invariant_of_the_readme_has_a_test_of_that_name() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, section) = readme
        .split_once("## Invariants")
        .expect("the README has a section on invariants");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows: BTreeMap<u32, Vec<String>> = section.lines().filter_map(invariant).collect();
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
    let all: String = sources(&CRATES).into_values().collect();
    for (number, tests) in rows {
        assert!(!tests.is_empty(), "invariant {number} names no test");
        for test in tests {
            assert!(
                all.contains(&format!("fn {test}(")),
                "invariant {number}: there is no test {test}"
            );
        }
    }
}

/// A row of the table: its number, and the tests named in its last cell.
fn invariant(line: &str) -> Option<(u32, Vec<String>)> {
    let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
    let number = cells.first()?.parse().ok()?;
    let tests = cells.last()?.split('`').skip(1).step_by(2).map(str::to_owned);
    Some((number, tests.collect()))
}

/// The part of a source file that is not its tests.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or_default()
}

fn sources(places: &[&str]) -> BTreeMap<PathBuf, String> {
    files_of(places, &["rs"])
}

fn files_of(places: &[&str], ends: &[&str]) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open: Vec<PathBuf> = places.iter().map(|place| root().join(place)).collect();
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", "node_modules", ".venv"].contains(&name.as_str()) {
                    open.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|end| ends.iter().any(|wanted| end == *wanted))
            {
                found.insert(
                    path.clone(),
                    String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned(),
                );
            }
        }
    }
    assert!(!found.is_empty(), "nothing under {places:?}");
    found
}

fn read(names: &[&str]) -> BTreeMap<PathBuf, String> {
    names
        .iter()
        .map(|name| (root().join(name), std::fs::read_to_string(root().join(name)).unwrap()))
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
