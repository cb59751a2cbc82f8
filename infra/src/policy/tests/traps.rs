//! What goes wrong with policies elsewhere, one test each.

use super::super::{PAIRS_MAX, Question, TEXT_BYTES_MAX};
use super::{alice, asking, check, in_words, judge, load, now, shop};
use crate::domain::effect::EffectKind::{self, Call, Ddl, Read, Session, Transaction, Write};
use crate::domain::identity::PersonKind;

const READ: &str = r#"@id("reads") permit (principal, action == Action::"read", resource);"#;
const ALL: &str = r#"@id("all") permit (principal, action in Action::"any", resource);"#;
const DBA: &str = r#"@id("by-dba") @hold @approvers("dba") @quorum("2") @expires("10m") @grant("15m")
    permit (principal, action == Action::"write", resource);"#;
const OWNER: &str = r#"@id("by-owner") @hold @approvers("owners,leads") @expires("5m") @grant("1h") @critical
    @reason("orders are money") permit (principal, action == Action::"write", resource);"#;
const NEVER: &str = r#"@id("never") forbid (principal, action in Action::"change", resource);"#;

#[test]
fn nothing_that_matches_is_a_denial_that_says_what_to_do() {
    check(
        READ,
        &asking(&[(Write, "orders")]),
        "deny [] no rule allows write (orders) on shop for group engineering; ask whoever keeps the policy for one",
    );
}

#[test]
fn a_forbid_beats_a_hold_and_a_hold_beats_an_allow() {
    let write = asking(&[(Write, "orders")]);
    check(ALL, &write, "allow all");
    check(
        &[ALL, DBA].concat(),
        &write,
        "hold [by-dba: 2 of dba] within 600s, grant 900s",
    );
    check(
        &[ALL, DBA, NEVER].concat(),
        &write,
        "deny [never] rule `never` forbids write (orders) on shop",
    );
}

#[test]
fn every_hold_that_matches_binds_with_the_shortest_times() {
    check(
        &[ALL, DBA, OWNER].concat(),
        &asking(&[(Write, "orders")]),
        "hold [by-dba: 2 of dba; by-owner: 1 of leads+owners] within 300s, grant 900s, critical orders are money",
    );
}

#[test]
fn there_is_no_grant_unless_each_hold_grants() {
    let no_grant = r#"@id("strict") @hold @approvers("ciso") permit (principal, action == Action::"write", resource);"#;
    check(
        &[DBA, no_grant].concat(),
        &asking(&[(Write, "orders")]),
        "hold [by-dba: 2 of dba; strict: 1 of ciso] within 600s, grant none",
    );
}

#[test]
fn each_effect_is_judged_by_itself_and_the_strictest_counts() {
    let rules = [READ, DBA].concat();
    check(
        &rules,
        &asking(&[(Read, "orders"), (Write, "orders")]),
        "hold [by-dba: 2 of dba] within 600s, grant 900s",
    );
    check(
        &rules,
        &asking(&[(Read, "orders"), (Write, "orders"), (Ddl, "orders")]),
        "deny [] no rule allows ddl (orders) on shop for group engineering; ask whoever keeps the policy for one",
    );
}

#[test]
fn a_permit_for_one_table_does_not_cover_another_that_is_joined_to_it() {
    let rules = r#"@id("orders") permit (principal, action == Action::"read", resource)
        when { context.tables.contains("orders") };"#;
    check(rules, &asking(&[(Read, "orders")]), "allow orders");
    check(
        rules,
        &asking(&[(Read, "orders"), (Read, "salaries")]),
        "deny [] no rule allows read (salaries) on shop for group engineering; ask whoever keeps the policy for one",
    );
}

#[test]
fn an_operation_without_effects_is_judged_as_a_read() {
    check(READ, &asking(&[]), "allow reads");
    check(
        DBA,
        &asking(&[]),
        "deny [] no rule allows read on shop for group engineering; ask whoever keeps the policy for one",
    );
}

#[test]
fn more_pairs_than_can_be_judged_are_denied_even_where_all_is_allowed() {
    let names: Vec<_> = (0..=PAIRS_MAX).map(|number| format!("t{number}")).collect();
    let mut effects: Vec<_> = names.iter().map(|name| (Read, name.as_str())).collect();
    check(
        ALL,
        &asking(&effects),
        "deny [] the operation has 65 effects on different objects, and at most 64 can be judged together: \
         split it into smaller statements",
    );
    effects.pop();
    check(ALL, &asking(&effects), "allow all");
}

#[test]
fn a_forbid_that_cannot_be_evaluated_denies_instead_of_being_skipped() {
    let overflow = r#"@id("broken") forbid (principal, action == Action::"write", resource)
        when { context.hour + 9223372036854775807 > 0 };"#;
    let policies = load(&[ALL, overflow].concat()).unwrap();
    let verdict = in_words(&judge(&policies, &asking(&[(Write, "orders")])));
    assert!(
        verdict.starts_with("deny [broken] policy `broken` could not be evaluated, so nothing passes: "),
        "{verdict}"
    );
    assert_eq!(in_words(&judge(&policies, &asking(&[(Read, "orders")]))), "allow all");
}

#[test]
fn a_permit_that_cannot_be_evaluated_denies_even_beside_one_that_can() {
    let overflow = r#"@id("broken") permit (principal, action == Action::"read", resource)
        when { context.hour * 9223372036854775807 > 0 };"#;
    let verdict = in_words(&judge(
        &load(&[ALL, overflow].concat()).unwrap(),
        &asking(&[(Read, "orders")]),
    ));
    assert!(verdict.starts_with("deny [broken]"), "{verdict}");
}

#[test]
fn a_forbid_on_any_denies_every_effect() {
    let rules = [
        ALL,
        r#"@id("stop") forbid (principal, action in Action::"any", resource);"#,
    ]
    .concat();
    for kind in EffectKind::ALL {
        let expected = format!("deny [stop] rule `stop` forbids {kind} (x) on shop");
        check(&rules, &asking(&[(kind, "x")]), &expected);
    }
}

#[test]
fn every_effect_is_either_a_look_or_a_change() {
    let rules = r#"@id("look") permit (principal, action in Action::"look", resource);
        @id("change") permit (principal, action in Action::"change", resource);"#;
    for kind in EffectKind::ALL {
        let group = if matches!(kind, Read | Session | Transaction) {
            "look"
        } else {
            "change"
        };
        check(rules, &asking(&[(kind, "x")]), &format!("allow {group}"));
    }
}

#[test]
fn a_name_without_a_schema_in_a_rule_matches_in_any_schema() {
    let rules = [
        ALL,
        r#"@id("secret") forbid (principal, action, resource is Target) when { context.objects.contains("salaries") };"#,
    ]
    .concat();
    for name in ["salaries", "hr.salaries", "db.hr.salaries"] {
        let expected = format!("deny [secret] rule `secret` forbids read ({name}) on shop");
        check(&rules, &asking(&[(Read, name)]), &expected);
    }
    check(&rules, &asking(&[(Read, "hr.salaries_public")]), "allow all");
}

#[test]
fn leaving_the_schema_out_of_a_statement_escapes_no_forbid_and_gains_no_permit() {
    let forbid = [
        ALL,
        r#"@id("secret") forbid (principal, action in Action::"any", resource)
            when { context.objects.contains("hr.salaries") };"#,
    ]
    .concat();
    check(
        &forbid,
        &asking(&[(Read, "salaries")]),
        "deny [secret] rule `secret` forbids read (salaries) on shop",
    );
    check(&forbid, &asking(&[(Read, "public.salaries")]), "allow all");
    let permit = r#"@id("one") permit (principal, action == Action::"read", resource)
        when { context.tables.contains("shop.orders") };"#;
    check(permit, &asking(&[(Read, "shop.orders")]), "allow one");
    check(
        permit,
        &asking(&[(Read, "orders")]),
        "deny [] no rule allows read (orders) on shop for group engineering; ask whoever keeps the policy for one",
    );
}

#[test]
fn a_rule_may_speak_of_all_that_is_in_a_schema() {
    let forbid = [
        ALL,
        r#"@id("hr") forbid (principal, action in Action::"any", resource) when { context.objects.contains("hr.*") };"#,
    ]
    .concat();
    // A name without a schema could lie in it, and `hr` could be the schema itself.
    for name in ["hr.salaries", "db.hr.salaries", "salaries", "hr"] {
        let expected = format!("deny [hr] rule `hr` forbids ddl ({name}) on shop");
        check(&forbid, &asking(&[(Ddl, name)]), &expected);
    }
    check(&forbid, &asking(&[(Ddl, "shop.hr")]), "allow all");
    let permit = r#"@id("hr") permit (principal, action == Action::"read", resource)
        when { context.tables.contains("hr.*") };"#;
    check(permit, &asking(&[(Read, "hr.people")]), "allow hr");
    check(
        permit,
        &asking(&[(Read, "people")]),
        "deny [] no rule allows read (people) on shop for group engineering; ask whoever keeps the policy for one",
    );
}

#[test]
fn a_function_is_not_taken_for_a_table_of_its_name() {
    let rules = r#"@id("t") permit (principal, action, resource is Target) when { context.tables.contains("f") };"#;
    check(rules, &asking(&[(Read, "f")]), "allow t");
    check(
        rules,
        &asking(&[(Call, "f")]),
        "deny [] no rule allows call (f) on shop for group engineering; ask whoever keeps the policy for one",
    );
}

#[test]
fn a_rule_that_trusts_the_text_denies_when_the_text_was_cut() {
    let blind = [
        ALL,
        r#"@id("no-drop") forbid (principal, action in Action::"any", resource) when { context.text like "*drop*" };"#,
    ]
    .concat();
    let mut request = asking(&[(Read, "orders")]);
    check(&blind, &request, "allow all");
    request.operation.text = format!("{} drop", "é".repeat(TEXT_BYTES_MAX / 2));
    check(
        &blind,
        &request,
        "deny [] rule `no-drop` looks at the operation's text, of which only the first 64 KB are seen: \
         send a shorter statement",
    );
    let careful = blind.replace("like \"*drop*\"", "like \"*drop*\" || context.text_truncated");
    check(
        &careful,
        &request,
        "deny [no-drop] rule `no-drop` forbids read (orders) on shop",
    );
    check(ALL, &request, "allow all");
}

#[test]
fn what_is_known_of_the_person_the_place_and_the_time_can_be_asked_for() {
    let conditions = [
        r#"principal in Group::"engineering""#,
        r#"!(principal in Group::"dba")"#,
        r#"principal.kind == PersonKind::"human""#,
        r#"principal == Person::"https://id.example#alice""#,
        r#"principal.issuer == "https://id.example" && principal.subject == "alice""#,
        r#"principal has email && principal.email like "*@example.com""#,
        r#"resource == Target::"shop" && resource.name == "shop""#,
        r#"resource.tags.contains("production")"#,
        r#"resource.kind == Protocol::"postgres" && context.protocol == Protocol::"postgres""#,
        r#"context.client_address.isInRange(ip("10.0.0.0/8"))"#,
        r#"context.application == "psql""#,
        r#"context.database == "shop" && context.role == "app""#,
        r#"context.has_where && !context.in_transaction && !context.unseen_data"#,
        r#"context.hour == 17 && context.weekday == Weekday::"sunday""#,
        r#"context.now > datetime("2026-11-22T16:59:59Z") && context.now < datetime("2026-11-22T17:00:01Z")"#,
        r#"context.text like "delete from *" && !context.text_truncated"#,
    ];
    for condition in conditions {
        let rules = format!(
            r#"@id("when") permit (principal, action in Action::"any", resource) when {{ {condition} }};
               @id("unless") forbid (principal, action in Action::"any", resource) unless {{ {condition} }};"#
        );
        check(&rules, &asking(&[(Write, "orders")]), "allow when");
    }
}

#[test]
fn a_client_address_that_is_none_denies_where_a_rule_looks_at_it() {
    let rules = [
        ALL,
        r#"@id("office") forbid (principal, action in Action::"any", resource)
            unless { context.client_address.isInRange(ip("10.0.0.0/8")) };"#,
    ]
    .concat();
    let mut request = asking(&[(Read, "orders")]);
    for (address, verdict) in [
        ("10.1.2.3", "allow all"),
        ("[::ffff:10.1.2.3]:5", "allow all"),
        ("[::1]:5", "deny [office] rule `office` forbids read (orders) on shop"),
        (
            "somewhere",
            "deny [] the operation could not be put to the policy: a rule looks at the client's address, \
             and \"somewhere\" is not an IP address",
        ),
    ] {
        request.client.address = address.to_owned();
        check(&rules, &request, verdict);
    }
    check(ALL, &request, "allow all");
}

#[test]
fn the_cache_answers_only_what_is_alike_in_all_that_rules_look_at() {
    let rules = [
        ALL,
        r#"@id("machines") forbid (principal, action in Action::"any", resource)
            when { principal.kind == PersonKind::"machine" || context.text like "*nuke*" && !context.text_truncated };"#,
        r#"@id("night") forbid (principal, action in Action::"any", resource) when { context.hour < 6 };"#,
        r#"@id("no-where") forbid (principal, action == Action::"write", resource) unless { context.has_where };"#,
    ]
    .concat();
    let policies = load(&rules).unwrap();
    let allowed = asking(&[(Write, "orders")]);
    let ask = |request, now| {
        let word = in_words(&policies.evaluate(&Question {
            request,
            target: &shop(),
            now,
        }));
        word.split(' ').take(2).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ask(&allowed, now()), "allow all");
    assert_eq!(ask(&allowed, now() + chrono::Duration::hours(10)), "deny [night]");
    let mut machine = allowed.clone();
    machine.person.kind = PersonKind::Machine;
    assert_eq!(ask(&machine, now()), "deny [machines]");
    let mut text = allowed.clone();
    text.operation.text = "nuke".to_owned();
    assert_eq!(ask(&text, now()), "deny [machines]");
    let mut no_where = allowed.clone();
    no_where.operation.has_where = false;
    assert_eq!(ask(&no_where, now()), "deny [no-where]");
    let mut same = allowed.clone();
    same.client.application = "no rule looks at it".to_owned();
    let entries = policies.cache.lock().unwrap().len();
    assert_eq!(ask(&same, now()), "allow all");
    assert_eq!(policies.cache.lock().unwrap().len(), entries, "found, not added");
}

#[test]
fn a_rule_about_the_moment_is_never_answered_from_the_cache() {
    let rules = r#"@id("until") permit (principal, action == Action::"read", resource)
        when { context.now < datetime("2026-11-22T17:00:01Z") };"#;
    let policies = load(rules).unwrap();
    let request = asking(&[(Read, "orders")]);
    assert_eq!(in_words(&judge(&policies, &request)), "allow until");
    let question = Question {
        request: &request,
        target: &shop(),
        now: now() + chrono::Duration::seconds(2),
    };
    assert!(in_words(&policies.evaluate(&question)).starts_with("deny"));
}

#[test]
fn the_display_name_decides_nothing() {
    let mut impostor = asking(&[(Write, "orders")]);
    impostor.person = alice(&[]);
    impostor.person.name = "dba".to_owned();
    let error = load(r#"@id("x") permit (principal, action, resource) when { principal.name == "dba" };"#);
    assert!(error.unwrap_err().to_string().contains("attribute `name`"));
    check(
        DBA.replace("principal,", "principal in Group::\"dba\",").as_str(),
        &impostor,
        "deny [] no rule allows write (orders) on shop for someone in no group; ask whoever keeps the policy for one",
    );
}
