//! What becomes of a token's claims: groups, names, and whether anybody is behind it.

use super::{AUDIENCE, Setup, check};
use countersign_infra::domain::identity::PersonKind;
use countersign_tests::issuer::Claims;
use serde_json::{Value, json};

#[tokio::test]
async fn groups_are_found_where_the_configuration_says() {
    let url = "https://example.com/groups";
    for (path, claims, expected) in [
        ("groups", json!({"groups": ["a", "b", "a"]}), vec!["a", "b"]),
        ("groups", json!({"groups": "a"}), vec!["a"]),
        ("groups", json!({"groups": []}), vec![]),
        ("groups", json!({"groups": null}), vec![]),
        (
            "realm_access.roles",
            json!({"realm_access": {"roles": ["a"]}}),
            vec!["a"],
        ),
        (
            "realm_access.roles",
            json!({"realm_access.roles": ["a"], "realm_access": {"roles": ["b"]}}),
            vec!["a"],
        ),
        ("realm_access.roles", json!({"realm_access": "none"}), vec![]),
        (url, json!({url: ["a"]}), vec!["a"]),
        (
            "resource.my.client.roles",
            json!({"resource": {"my.client": {"roles": ["a"]}}}),
            vec!["a"],
        ),
        (
            "https://example.com/access.roles",
            json!({"https://example.com/access": {"roles": ["a"]}}),
            vec!["a"],
        ),
        ("cognito:groups", json!({"cognito:groups": ["a, b"]}), vec!["a, b"]),
    ] {
        let setup = Setup::with(|issuer| issuer.groups_claim = path.to_owned()).await;
        let person = setup.sign_in(claims.clone()).await.unwrap().person;
        let groups: Vec<&str> = person.groups.iter().map(String::as_str).collect();
        assert_eq!(groups, expected, "{path} in {claims}");
    }
}

#[tokio::test]
async fn groups_that_are_no_list_of_names_are_refused() {
    let setup = Setup::new().await;
    let many: Vec<String> = (0..2001).map(|number| format!("g{number}")).collect();
    for (groups, expected) in [
        (json!(7), "the token's claim \"groups\" is not a list"),
        (json!(true), "the token's claim \"groups\" is not a list"),
        (json!({"a": true}), "the token's claim \"groups\" is not a list"),
        (json!(["a", 7]), "the token's claim \"groups\" is not a list"),
        (json!(["a", ["b"]]), "the token's claim \"groups\" is not a list"),
        (json!(["a", ""]), "the token's claim \"groups\" has more than"),
        (json!(["a\nb"]), "the token's claim \"groups\" has more than"),
        (json!(["a".repeat(256)]), "the token's claim \"groups\" has more than"),
        (json!(many), "the token's claim \"groups\" has more than"),
    ] {
        check("groups", setup.sign_in(json!({"groups": groups})).await, expected);
    }
    let moved = json!({"groups": null, "_claim_names": {"groups": "src1"}});
    check("moved", setup.sign_in(moved).await, "the issuer left the groups out");
    let overage = json!({"groups": null, "hasgroups": true});
    check(
        "overage",
        setup.sign_in(overage).await,
        "the issuer left the groups out",
    );
}

#[tokio::test]
async fn a_token_without_a_person_is_a_machines() {
    use PersonKind::{Human, Machine};
    let setup = Setup::new().await;
    for (claims, expected) in [
        (json!({}), Human),
        (json!({"azp": "laptop"}), Human),
        (json!({"client_id": "laptop", "scope": "openid"}), Human),
        (json!({"sub": "etl", "client_id": "etl"}), Machine),
        (json!({"sub": "etl", "azp": "etl"}), Machine),
        (
            json!({"sub": "etl@clients", "azp": "etl", "gty": "client-credentials"}),
            Machine,
        ),
        (json!({"sub": "etl@clients", "azp": "etl"}), Machine),
        (json!({"idtyp": "app"}), Machine),
        (json!({"idtyp": "user"}), Human),
        (
            json!({"preferred_username": "service-account-etl", "azp": "etl"}),
            Machine,
        ),
        (
            json!({"preferred_username": "service-account-etl", "azp": "laptop"}),
            Human,
        ),
    ] {
        assert_eq!(
            setup.sign_in(claims.clone()).await.unwrap().person.kind,
            expected,
            "{claims}"
        );
    }
    let workloads = Setup::with(|issuer| issuer.machines_only = true).await;
    assert_eq!(workloads.sign_in(json!({})).await.unwrap().person.kind, Machine);
    let etl = setup.issuer.token(&Claims::machine("etl", AUDIENCE, &["batch"]));
    assert_eq!(
        setup.verifier.verify(&etl, setup.now).await.unwrap().person.kind,
        Machine
    );
}

#[tokio::test]
async fn an_email_address_counts_only_when_it_is_verified() {
    let setup = Setup::new().await;
    for (verified, expected) in [
        (json!(true), Some("alice@example.com")),
        (json!(false), None),
        (json!("true"), None),
        (json!(1), None),
        (Value::Null, None),
    ] {
        let person = setup.sign_in(json!({"email_verified": verified})).await.unwrap().person;
        assert_eq!(person.email.as_deref(), expected, "{verified}");
    }
}

#[tokio::test]
async fn the_name_is_the_first_of_the_configured_claims_made_readable() {
    let setup = Setup::new().await;
    for (claims, expected) in [
        (json!({}), "alice"),
        (json!({"preferred_username": null, "name": "Alice A."}), "Alice A."),
        (json!({"preferred_username": " ", "name": "Alice A."}), "Alice A."),
        (json!({"preferred_username": null}), "alice@example.com"),
        (
            json!({"preferred_username": null, "email_verified": false, "sub": "7"}),
            "7",
        ),
        (json!({"preferred_username": "bob\u{202e}\n\u{200b}by"}), "bobby"),
    ] {
        assert_eq!(
            setup.sign_in(claims.clone()).await.unwrap().person.name,
            expected,
            "{claims}"
        );
    }
    let long = setup
        .sign_in(json!({"preferred_username": "ä".repeat(500)}))
        .await
        .unwrap()
        .person
        .name;
    assert_eq!(long.len(), 254);
}

#[tokio::test]
async fn an_authorized_party_is_asked_for_where_parties_are_configured() {
    let setup = Setup::with(|issuer| issuer.authorized_parties = vec!["cli".to_owned()]).await;
    for (claims, expected) in [
        (json!({"azp": "cli"}), ""),
        (json!({"client_id": "cli"}), ""),
        (json!({"aud": [AUDIENCE, "other"], "azp": "cli"}), ""),
        (json!({"azp": "web"}), "the token was given to \"web\""),
        (
            json!({"azp": "web", "client_id": "cli"}),
            "the token was given to \"web\"",
        ),
    ] {
        check(&claims.to_string(), setup.sign_in(claims.clone()).await, expected);
    }
}
