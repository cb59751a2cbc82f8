//! What is wrong with a policy is said all at once, with file and line.

use super::super::load::Sources;
use super::super::{Policies, PolicyError};
use super::load;
use std::path::Path;

/// One rule with these annotations.
fn permit(annotations: &str) -> String {
    format!("{annotations}\npermit (principal, action == Action::\"write\", resource);")
}

fn faults_of(text: &str) -> String {
    load(text).expect_err("it should not load").to_string()
}

#[test]
fn annotations_are_a_closed_set_with_checked_values() {
    let cases = [
        "",
        r#"@id("a") @hodl @approvers("dba")"#,
        r#"@id("a") @hold @aprovers("dba")"#,
        r#"@id("a") @advice("dba")"#,
        r#"@id("a") @ID("b")"#,
        r#"@id("") @hold @approvers("dba")"#,
        r#"@id("a b")"#,
        r#"@id"#,
        r#"@id("a") @hold"#,
        r#"@id("a") @hold("no") @approvers("dba")"#,
        r#"@id("a") @hold @approvers("")"#,
        r#"@id("a") @hold @approvers("dba,,ops")"#,
        r#"@id("a") @hold @approvers("dba") @quorum("0")"#,
        r#"@id("a") @hold @approvers("dba") @quorum("21")"#,
        r#"@id("a") @hold @approvers("dba") @quorum("+1")"#,
        r#"@id("a") @hold @approvers("dba") @quorum("two")"#,
        r#"@id("a") @hold @approvers("dba") @expires("9s")"#,
        r#"@id("a") @hold @approvers("dba") @expires("25h")"#,
        r#"@id("a") @hold @approvers("dba") @expires("10")"#,
        r#"@id("a") @hold @approvers("dba") @expires("10é")"#,
        r#"@id("a") @hold @approvers("dba") @expires("99999999999999999999h")"#,
        r#"@id("a") @hold @approvers("dba") @grant("30s")"#,
        r#"@id("a") @hold @approvers("dba") @grant("9h")"#,
        r#"@id("a") @hold @approvers("dba") @critical("maybe")"#,
        r#"@id("a") @reason("")"#,
        r#"@id("a") @approvers("dba")"#,
        r#"@id("a") @critical @quorum("2")"#,
    ];
    let told: Vec<_> = cases
        .iter()
        .map(|case| format!("{case}\n    {}", faults_of(&permit(case))))
        .collect();
    insta::assert_snapshot!(told.join("\n").replace("\nrules", "\n    rules"));
}

#[test]
fn a_misspelt_hold_is_never_loaded_as_an_allow() {
    for misspelt in ["@Hold", "@holds", "@hol", "@on_hold", "@holD"] {
        assert!(load(&permit(&format!(r#"@id("a") {misspelt}"#))).is_err(), "{misspelt}");
    }
}

#[test]
fn durations_are_read_in_seconds_minutes_and_hours() {
    for (text, seconds) in [("10s", 10), ("90s", 90), ("10m", 600), ("2h", 7200), ("24h", 86400)] {
        let rules = permit(&format!(r#"@id("a") @hold @approvers("dba") @expires("{text}")"#));
        let verdict = super::judge(
            &load(&rules).unwrap(),
            &super::asking(&[(super::EffectKind::Write, "t")]),
        );
        assert!(
            super::in_words(&verdict).contains(&format!("within {seconds}s")),
            "{text}"
        );
    }
}

#[test]
fn an_obligation_on_a_forbid_is_a_fault() {
    let rules = r#"@id("a")
@hold
@approvers("dba")
@reason("a reason is welcome")
forbid (principal, action, resource);

@id("b")
@critical
forbid (principal, action, resource);"#;
    insta::assert_snapshot!(faults_of(rules));
}

#[test]
fn every_fault_of_every_file_is_told_with_its_line() {
    let one = r#"// A comment, so that lines count.
@id("first")
permit (principal, action == Action::"wirte", resource);

@id("second")
@hold
@quorom("2")
@approvers("dba")
permit (principal, action == Action::"write", resource)
when { context.has_were };
"#;
    let two = r#"
@id("first") permit (principal, action == Action::"read", resource);
@id("other") permit (principal, action == Action::"read", resource) when { context.tabels.contains("x") };
"#;
    let three = "permit (principal, action resource);\n\npermit (;";
    let four = r#"@id("t")
permit (principal == ?principal, action, resource);"#;
    let five = r#"@id("never") permit (principal, action == Action::"read", resource) when { false };
@id("kind") permit (principal, action == Action::"read", resource) when { principal.kind == "machine" };
@id("typo") permit (principal, action == Action::"read", resource) when { principal.kind == PersonKind::"robot" };
@id("mail") permit (principal, action == Action::"read", resource) when { principal.email == "a@b" };
@id("everywhere") permit (principal, action, resource) when { context.has_where };"#;
    let sources = Sources::of_texts(&[
        ("1.cedar", one),
        ("2.cedar", two),
        ("3.cedar", three),
        ("4.cedar", four),
        ("5.cedar", five),
    ]);
    insta::assert_snapshot!(Policies::from_sources(&sources).unwrap_err());
}

#[test]
fn a_policy_without_a_rule_is_a_fault() {
    assert_eq!(
        faults_of("// nothing yet\n"),
        "policies: holds no rule: everything would be denied"
    );
}

fn load_error(path: &Path) -> PolicyError {
    Policies::load(path).expect_err("it should not load")
}

#[test]
fn a_directory_is_read_whole_and_only_its_cedar_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert!(
        load_error(path)
            .to_string()
            .ends_with("holds no .cedar file: everything would be denied")
    );
    std::fs::write(path.join("b.cedar"), permit(r#"@id("b")"#)).unwrap();
    std::fs::write(path.join("a.cedar"), permit(r#"@id("a")"#)).unwrap();
    std::fs::write(path.join("notes.txt"), "not a policy").unwrap();
    let policies = Policies::load(path).unwrap();
    assert_eq!(policies.rule_ids().collect::<Vec<_>>(), ["a", "b"]);
    let version = policies.version();
    std::fs::write(path.join("c.cedar"), permit(r#"@id("a")"#)).unwrap();
    let duplicate = load_error(path).to_string();
    assert!(
        duplicate.contains("c.cedar:1: @id(\"a\") is already the rule at "),
        "{duplicate}"
    );
    std::fs::write(path.join("c.cedar"), b"\xff\xfe").unwrap();
    assert!(load_error(path).to_string().ends_with("c.cedar: is not UTF-8 text"));
    std::fs::remove_file(path.join("c.cedar")).unwrap();
    assert_eq!(Policies::load(path).unwrap().version(), version);
}

#[test]
fn a_file_that_is_missing_or_huge_is_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules.cedar");
    assert!(load_error(&path).to_string().contains("cannot be read: No such file"));
    std::fs::write(&path, "/".repeat(5 << 20)).unwrap();
    assert!(load_error(&path).to_string().ends_with("more than 4 MB of policy"));
}

#[test]
fn the_policies_that_the_project_shows_load() {
    for shown in ["policies/example.cedar", "demo/policy.cedar"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests").join(shown);
        Policies::load(&path).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn what_cedar_accepts_and_would_never_do_what_it_says_is_a_fault() {
    let rules = r#"@id("equal") forbid (principal, action == Action::"read", resource)
when { context.objects == ["hr.salaries"] };
@id("subset") forbid (principal, action == Action::"read", resource)
when { ["hr.salaries"].containsAll(context.tables) };
@id("fine") forbid (principal, action == Action::"read", resource)
when { context.objects.containsAll(["hr.salaries"]) || ["a"].containsAny(context.tables) };
@id("ask-for-audit") @hold @approvers("dba") permit (principal, action == Action::"audit", resource);"#;
    insta::assert_snapshot!(faults_of(rules));
}

#[test]
fn a_pipe_instead_of_a_file_is_a_fault_and_no_wait() {
    assert_eq!(
        load_error(Path::new("/dev/null")).to_string(),
        "/dev/null: is neither a file nor a directory"
    );
}

#[test]
fn the_version_of_a_rule_changes_with_its_text_and_with_nothing_else() {
    let one = load(r#"@id("a") permit (principal, action == Action::"read", resource);"#).unwrap();
    let two = load(
        r#"@id("b") permit (principal, action == Action::"write", resource);
           @id("a") permit (principal, action == Action::"read", resource);"#,
    )
    .unwrap();
    let three = load(r#"@id("a") @hold @approvers("x") permit (principal, action == Action::"read", resource);"#);
    assert_eq!(one.rule_version("a"), two.rule_version("a"));
    assert_ne!(one.rule_version("a"), three.unwrap().rule_version("a"));
    assert_ne!(one.version(), two.version());
    assert_eq!(one.rule_version("b"), None);
}
