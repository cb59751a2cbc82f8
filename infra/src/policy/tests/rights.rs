//! Rights on the gateway itself.

use super::super::GatewayAction::{self, Audit, EndSession, Watch};
use super::{alice, load, now};

#[track_caller]
fn check(rules: &str, groups: &[&str], expected: &[GatewayAction]) {
    let policies = load(rules).unwrap_or_else(|error| panic!("{error}"));
    let person = alice(groups);
    let allowed: Vec<_> = GatewayAction::ALL
        .into_iter()
        .filter(|action| policies.allows(&person, *action, now()))
        .collect();
    assert_eq!(allowed, expected, "\n{rules}");
}

#[test]
fn a_right_is_given_to_the_groups_that_a_rule_names() {
    let rules = r#"@id("auditors") permit (principal in Group::"auditors", action == Action::"audit", resource);
        @id("ops") permit (principal in Group::"ops", action in Action::"oversee", resource is Gateway);"#;
    check(rules, &["auditors"], &[Audit]);
    check(rules, &["ops"], &[Audit, Watch, EndSession]);
    check(rules, &["engineering"], &[]);
}

#[test]
fn a_rule_about_targets_gives_no_right_on_the_gateway() {
    let rules = r#"@id("all") permit (principal, action in Action::"any", resource);"#;
    check(rules, &["ops"], &[]);
}

#[test]
fn a_forbid_and_a_rule_that_fails_take_a_right_away() {
    let all = r#"@id("all") permit (principal, action in Action::"oversee", resource);"#;
    check(all, &[], &[Audit, Watch, EndSession]);
    let no_sundays = r#"@id("rest") forbid (principal, action == Action::"watch", resource)
        when { context.weekday == Weekday::"sunday" };
        @id("broken") forbid (principal, action == Action::"end_session", resource)
        when { context.hour + 9223372036854775807 > 0 };"#;
    check(&[all, no_sundays].concat(), &[], &[Audit]);
}

#[test]
fn a_hold_gives_no_right_because_nobody_is_asked() {
    let rules = r#"@id("all") permit (principal, action, resource);
        @id("ask") @hold @approvers("ops") permit (principal, action, resource);"#;
    check(rules, &[], &[]);
}
