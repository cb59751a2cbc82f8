//! Properties of every policy.

use super::super::Verdict;
use super::{asking, in_words, judge, load};
use crate::domain::effect::EffectKind;
use proptest::prelude::*;

const ACTIONS: [&str; 6] = [
    r#"action in Action::"any""#,
    r#"action in Action::"look""#,
    r#"action in Action::"change""#,
    r#"action == Action::"write""#,
    r#"action == Action::"read""#,
    r#"action in [Action::"ddl", Action::"call"]"#,
];
const CONDITIONS: [&str; 6] = [
    "",
    r#"when { context.objects.contains("orders") }"#,
    r#"when { context.tables.contains("shop.orders") }"#,
    r#"unless { context.has_where }"#,
    r#"when { principal in Group::"engineering" }"#,
    r#"when { context.hour + 9223372036854775800 > 0 }"#,
];
const EFFECTS: [&str; 3] = ["permit", "@hold @approvers(\"dba\") permit", "forbid"];

fn rule() -> impl Strategy<Value = String> {
    (0..EFFECTS.len(), 0..ACTIONS.len(), 0..CONDITIONS.len()).prop_map(|(effect, action, condition)| {
        format!(
            "{} (principal, {}, resource) {};",
            EFFECTS[effect], ACTIONS[action], CONDITIONS[condition]
        )
    })
}

fn named(rules: &[String]) -> Vec<String> {
    rules
        .iter()
        .enumerate()
        .map(|(number, rule)| format!("@id(\"r{number}\") {rule}\n"))
        .collect()
}

fn effects() -> impl Strategy<Value = Vec<(EffectKind, &'static str)>> {
    let object = prop::sample::select(vec!["", "orders", "shop.orders", "x.orders", "items"]);
    prop::collection::vec((prop::sample::select(EffectKind::ALL.to_vec()), object), 0..4)
}

/// How strict: what is forbidden is stricter than what waits, and that than what passes.
fn strictness(verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Allow { .. } => 0,
        Verdict::Hold { terms, .. } => terms.clauses.len(),
        Verdict::Deny { .. } => usize::MAX,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn adding_a_forbid_or_a_hold_never_makes_a_verdict_laxer_where_something_was_permitted(
        rules in prop::collection::vec(rule(), 1..5), added in rule(), effects in effects(), has_where: bool,
    ) {
        let mut request = asking(&effects);
        request.operation.has_where = has_where;
        let before = judge(&load(&named(&rules).concat()).unwrap(), &request);
        let forbids = added.starts_with("forbid");
        prop_assume!(forbids || (added.starts_with("@hold") && !matches!(before, Verdict::Deny { .. })));
        let mut more = rules.clone();
        more.push(added);
        let after = judge(&load(&named(&more).concat()).unwrap(), &request);
        prop_assert!(strictness(&after) >= strictness(&before), "{before:?} became {after:?}");
    }

    #[test]
    fn the_order_of_rules_does_not_matter(
        rules in prop::collection::vec(rule(), 1..5), effects in effects(), turn in 0usize..5,
    ) {
        let request = asking(&effects);
        let mut texts = named(&rules);
        let before = in_words(&judge(&load(&texts.concat()).unwrap(), &request));
        let turn = turn % texts.len();
        texts.rotate_left(turn);
        texts.reverse();
        prop_assert_eq!(before, in_words(&judge(&load(&texts.concat()).unwrap(), &request)));
    }

    #[test]
    fn no_text_ends_the_process(text in "\\PC{0,200}") {
        let _ = load(&text);
        let _ = load(&format!("@id(\"a\") permit (principal, action, resource) when {{ {text} }};"));
    }
}
