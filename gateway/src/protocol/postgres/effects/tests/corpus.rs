//! The labelled corpora: statements with what a real server did with them, and our own.

use super::{LIMITS, on_a_deep_stack};
use crate::cli::effects::answer_all;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Reported, and neither required nor tolerated by the label, with the argument for each. Empty: there is none.
const DIFFERENCES: [(&str, &str); 0] = [];

#[test]
fn the_corpus_with_a_real_servers_truth_holds() {
    check(
        include_str!("../../../../../../tests/corpus/sql_effects.public.jsonl"),
        512,
    );
}

#[test]
fn our_own_corpus_holds() {
    check(
        include_str!("../../../../../../tests/corpus/sql_effects.own.jsonl"),
        300,
    );
}

fn check(corpus: &'static str, rows_min: usize) {
    let rows = corpus
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .collect::<Vec<_>>();
    assert!(rows.len() >= rows_min, "{} rows", rows.len());
    let asked = ["id", "sql", "sql_b64", "settings", "setup", "params"];
    let lines = rows.iter().map(|row| {
        let fields = asked
            .iter()
            .filter(|key| !row[**key].is_null())
            .map(|key| ((*key).to_owned(), row[*key].clone()));
        Value::Object(fields.collect::<Map<_, _>>()).to_string() + "\n"
    });
    let input = lines.collect::<String>();
    let output = on_a_deep_stack(move || {
        let mut output = Vec::new();
        answer_all(input.as_bytes(), &mut output, LIMITS).unwrap();
        output
    });
    let answers = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let answers = answers
        .map(|line| serde_json::from_slice::<Value>(line).unwrap())
        .collect::<Vec<_>>();
    assert_eq!(answers.len(), rows.len(), "an answer a line, in order");
    let mut faults = BTreeMap::<&str, Vec<String>>::new();
    for (row, answer) in rows.iter().zip(&answers) {
        assert_eq!(row["id"], answer["id"]);
        let argued = DIFFERENCES.iter().any(|(id, _)| row["id"] == *id);
        match verdict(row, answer) {
            "pass" => assert!(!argued, "{} does not differ any more", row["id"]),
            "differs" if argued => {}
            fault => faults
                .entry(fault)
                .or_default()
                .push(format!("{} {}: {answer}", row["id"], row["sql"])),
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The rules of `tests/corpus/score_effects.py`.
fn verdict(row: &Value, answer: &Value) -> &'static str {
    const DANGER: [&str; 6] = ["write", "ddl", "privilege", "admin", "call", "unknown"];
    let dangerous = |kinds: &BTreeSet<&str>| DANGER.iter().any(|kind| kinds.contains(kind));
    let refuse = &row["refuse"];
    let has_settings = row["settings"].as_object().is_some_and(|settings| !settings.is_empty());
    if answer["error"].is_string() {
        let may = refuse == true || refuse.is_string() || row["sql"].is_null() || has_settings;
        return if may { "pass" } else { "refused though valid" };
    }
    if refuse == true {
        return "accepted though it must be refused";
    }
    let effects = answer["effects"].as_array().unwrap();
    let kinds = effects
        .iter()
        .map(|effect| effect["kind"].as_str().unwrap())
        .collect::<BTreeSet<_>>();
    let expected = words(&row["effects"]);
    let others = row["alt"].as_array().into_iter().flatten().map(words);
    let required = std::iter::once(expected.clone()).chain(others).collect::<Vec<_>>();
    if has_settings && required.iter().any(|required| required.is_subset(&kinds)) {
        return "pass";
    }
    let mut extra = words(&row["tolerates"]);
    extra.extend(["lock", "read"]);
    let fits = |(index, required): (usize, &BTreeSet<&str>)| {
        let mut allowed = required.union(&extra).copied().collect::<BTreeSet<_>>();
        if index > 0 {
            allowed.extend(&expected);
        }
        required.is_subset(&kinds) && kinds.is_subset(&allowed)
    };
    if required.iter().enumerate().any(fits) {
        return "pass";
    }
    if row["needs"] == "catalog" {
        return "pass";
    }
    let surplus = kinds.difference(&extra).copied().collect::<BTreeSet<_>>();
    match (dangerous(&expected), dangerous(&kinds)) {
        (true, false) => "miss",
        (false, _) if dangerous(&surplus) => "false alarm",
        (true | false, true | false) => "differs",
    }
}

fn words(list: &Value) -> BTreeSet<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}
