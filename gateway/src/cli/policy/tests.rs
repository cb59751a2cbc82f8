//! The command's arguments, and its answers.

use super::case::VerdictName;
use super::*;
use clap::Parser;
use countersign_infra::policy::Policies;
use std::path::Path;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/policies")
        .join(file)
}

fn ground() -> Ground {
    Ground::new(Policies::load(&example("example.cedar")).unwrap(), None).unwrap()
}

fn test_of(line: &[&str]) -> Result<Test, clap::Error> {
    let words = ["policy", "test"].iter().chain(line);
    match Line::try_parse_from(words)?.args.command {
        Command::Test(test) => Ok(*test),
        Command::Check(_) => panic!("it is a test"),
    }
}

const ALICE: [&str; 8] = [
    "--as",
    "alice",
    "--groups",
    "engineering",
    "--target",
    "shop",
    "--tags",
    "production",
];

async fn answer_to(sql: &str) -> Answer {
    let test = test_of(&[&ALICE[..], &[sql]].concat()).unwrap();
    ground().answer(&test.asked()).await.unwrap()
}

#[tokio::test]
async fn a_hold_is_answered_with_effects_rules_reasons_and_terms() {
    let answer = answer_to("DELETE FROM orders WHERE id = 7").await;
    insta::assert_json_snapshot!(answer);
    insta::assert_snapshot!(in_lines(&answer));
}

#[tokio::test]
async fn what_is_forbidden_says_why() {
    let answer = answer_to("DELETE FROM orders").await;
    insta::assert_json_snapshot!(answer);
}

#[tokio::test]
async fn sql_that_is_not_understood_is_denied() {
    let deep = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    for sql in ["SELEKT 1", "SELECT 'a", deep.as_str()] {
        let answer = answer_to(sql).await;
        assert_eq!(answer.verdict, VerdictName::Deny);
        assert!(
            answer.reasons[0].starts_with("the statement is not understood: "),
            "{:?}",
            answer.reasons
        );
    }
}

#[tokio::test]
async fn an_execute_does_what_its_prepare_says_and_an_unknown_name_is_no_read() {
    let held = answer_to("PREPARE p AS DELETE FROM orders WHERE id = 7; EXECUTE p").await;
    assert_eq!(held.rules, ["writes-need-a-dba"]);
    for sql in [
        "EXECUTE p",
        "PREPARE p AS SELECT 1; DEALLOCATE p; EXECUTE p",
        "PREPARE p AS SELECT 1; DISCARD ALL; EXECUTE p",
    ] {
        let answer = answer_to(sql).await;
        assert_ne!(answer.verdict, VerdictName::Allow, "{sql}");
    }
    assert_eq!(
        answer_to("PREPARE p AS SELECT 1; EXECUTE p").await.verdict,
        VerdictName::Allow
    );
}

#[tokio::test]
async fn the_example_policy_answers_as_its_cases_say() {
    let outcomes = expectations::outcomes(&example("example.toml"), &ground())
        .await
        .unwrap();
    let wrong: Vec<_> = outcomes
        .iter()
        .filter(|outcome| !outcome.ok)
        .map(|outcome| outcome.in_words())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(outcomes.len() > 10);
}

#[tokio::test]
async fn a_case_that_comes_out_otherwise_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cases.toml");
    let case = r#"[[case]]
name = "hoped for"
ask = { as = "mallory", target = "shop", sql = "SELECT 1" }
verdict = "allow""#;
    std::fs::write(&file, case).unwrap();
    let outcomes = expectations::outcomes(&file, &ground()).await.unwrap();
    assert!(!outcomes[0].ok);
    assert!(
        outcomes[0]
            .in_words()
            .starts_with("WRONG hoped for: expected allow , got deny [] for "),
        "{}",
        outcomes[0].in_words()
    );
    assert_eq!(
        expectations::run(&file, &ground(), true).await.unwrap(),
        ExitCode::from(1)
    );
    for (from, to, told) in [
        ("verdict", "verdikt", "unknown field `verdikt`"),
        ("allow", "yes", "unknown variant `yes`"),
    ] {
        std::fs::write(&file, case.replace(from, to)).unwrap();
        let error = expectations::outcomes(&file, &ground()).await.err().unwrap();
        assert!(format!("{error:#}").contains(told), "{error:#}");
    }
}

#[test]
fn arguments_that_do_not_go_together_are_refused() {
    for (line, told) in [
        (&["--as", "alice", "SELECT 1"][..], "--target <TARGET>"),
        (&["--target", "shop", "SELECT 1"], "--as <PERSON>"),
        (&["--as", "alice", "--target", "shop"], "<SQL>"),
        (&["--tests", "x.toml", "SELECT 1"], "cannot be used with"),
        (
            &["--as", "alice", "--target", "shop", "--client", "home", "SELECT 1"],
            "invalid value 'home'",
        ),
        (
            &["--as", "alice", "--target", "shop", "--at", "noon", "SELECT 1"],
            "invalid value 'noon'",
        ),
    ] {
        let error = test_of(line).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[test]
fn a_check_tells_every_fault_of_the_policy() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.cedar");
    std::fs::write(
        &file,
        "@id(\"a\") @hodl permit (principal, action, resource);\npermit (principal, action, resource);",
    )
    .unwrap();
    let source = |policy: &Path| Source {
        policy: Some(policy.to_owned()),
        config: None,
    };
    let error = check(&source(&file)).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 2, "{error}");
    assert_eq!(check(&source(&example("example.cedar"))).unwrap(), ExitCode::SUCCESS);
}
