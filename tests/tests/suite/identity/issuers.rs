//! Issuers that rotate their keys, fail, and misbehave.

use super::{AUDIENCE, Setup, alice, check, start};
use chrono::TimeDelta;
use countersign_infra::domain::identity::PersonKind;
use countersign_infra::identity::oidc::{self, IssuerError, TokenError, Verifier};
use countersign_tests::issuer::{Behaviour, Claims, Signing};
use countersign_tests::wait::eventually;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Discovery document and keys.
const ONE_FETCH: usize = 2;

fn assert_unavailable(answer: &Result<impl std::fmt::Debug, TokenError>, why: &str) {
    let Err(TokenError::Unavailable { source, .. }) = answer else {
        panic!("{answer:?}")
    };
    assert!(source.to_string().contains(why), "{source}");
}

#[tokio::test]
async fn unknown_keys_make_the_issuer_be_asked_at_most_once_in_ten_seconds() {
    let setup = Setup::new().await;
    check("first", setup.sign_in(json!({})).await, "");
    assert_eq!(setup.issuer.requests(), ONE_FETCH);
    for (seconds, fetches) in [(0, 1), (9, 1), (10, 2), (15, 2), (20, 3)] {
        for number in 0..20 {
            let header = Map::from_iter([("kid".to_owned(), Value::from(format!("made-up-{seconds}-{number}")))]);
            let token = setup
                .issuer
                .sign_with_header(header, setup.payload(json!({})), Signing::Rs256);
            let answer = setup
                .verifier
                .verify(&token, setup.now + TimeDelta::seconds(seconds))
                .await;
            check("flood", answer, setup.issuer.url().as_str());
        }
        assert_eq!(setup.issuer.requests(), fetches * ONE_FETCH, "after {seconds} s");
    }
}

#[tokio::test]
async fn rotated_keys_are_found_without_a_restart_and_old_ones_end() {
    let setup = Setup::new().await;
    let old = setup.issuer.token(&alice());
    check("old", setup.verifier.verify(&old, setup.now).await, "");
    setup.issuer.rotate().unwrap();
    let new = setup.issuer.token(&alice());
    let later = setup.now + TimeDelta::seconds(10);
    check("new", setup.verifier.verify(&new, later).await, "");
    check(
        "old again",
        setup.verifier.verify(&old, later + TimeDelta::seconds(10)).await,
        setup.issuer.url().as_str(),
    );
}

#[tokio::test]
async fn a_withdrawn_key_is_not_trusted_for_longer_than_ten_minutes() {
    let setup = Setup::new().await;
    let old = setup.issuer.token(&alice());
    check("old", setup.verifier.verify(&old, setup.now).await, "");
    setup.issuer.rotate().unwrap();
    let before = setup.now + TimeDelta::minutes(10) - TimeDelta::seconds(1);
    check("before", setup.verifier.verify(&old, before).await, "");
    let after = setup.now + TimeDelta::minutes(10);
    check(
        "after",
        setup.verifier.verify(&old, after).await,
        setup.issuer.url().as_str(),
    );
}

#[tokio::test]
async fn keys_of_an_issuer_that_is_down_are_trusted_for_a_day() {
    let setup = Setup::new().await;
    let long = setup.issuer.sign(
        setup.payload(json!({"exp": setup.now.timestamp() + 9 * 86_400})),
        Signing::Rs256,
    );
    check("up", setup.verifier.verify(&long, setup.now).await, "");
    setup.issuer.behave(Behaviour::Down);
    for hours in [1, 12, 23] {
        check(
            "down",
            setup.verifier.verify(&long, setup.now + TimeDelta::hours(hours)).await,
            "",
        );
    }
    let answer = setup.verifier.verify(&long, setup.now + TimeDelta::hours(24)).await;
    assert_unavailable(&answer, "503");
    setup.issuer.behave(Behaviour::Normal);
    check(
        "up again",
        setup.verifier.verify(&long, setup.now + TimeDelta::hours(25)).await,
        "",
    );
}

#[tokio::test]
async fn an_issuer_that_starts_after_the_gateway_is_soon_found() {
    let setup = Setup::new().await;
    setup.issuer.behave(Behaviour::Down);
    assert_unavailable(&setup.sign_in(json!({})).await, "503");
    setup.issuer.behave(Behaviour::Normal);
    let token = setup.issuer.token(&alice());
    assert_unavailable(&setup.verifier.verify(&token, setup.now).await, "503");
    check(
        "a second later",
        setup.verifier.verify(&token, setup.now + TimeDelta::seconds(1)).await,
        "",
    );
}

#[tokio::test]
async fn an_issuer_that_misbehaves_is_not_believed() {
    for (behaviour, why) in [
        (Behaviour::Down, "503"),
        (Behaviour::WrongIssuer, "its discovery document is that of"),
        (Behaviour::HugeKeys, "more than 1048576 bytes"),
        (Behaviour::Redirect, "302"),
        (Behaviour::NoKeys, "no usable key"),
        (Behaviour::NotJson, "its discovery document cannot be read"),
    ] {
        let setup = Setup::new().await;
        setup.issuer.behave(behaviour);
        assert_unavailable(&setup.sign_in(json!({})).await, why);
    }
}

#[tokio::test]
async fn an_issuer_that_never_answers_is_waited_for_five_seconds() {
    let setup = Setup::new().await;
    setup.issuer.behave(Behaviour::Silent);
    let begun = std::time::Instant::now();
    assert_unavailable(&setup.sign_in(json!({})).await, "timed out");
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn callers_share_one_fetch() {
    let setup = Setup::new().await;
    setup.issuer.behave(Behaviour::Silent);
    let verifier = Arc::new(setup.verifier);
    let token = setup.issuer.token(&alice());
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let (verifier, token, now) = (Arc::clone(&verifier), token.clone(), setup.now);
            tokio::spawn(async move { verifier.verify(&token, now).await })
        })
        .collect();
    asked(&setup.issuer).await;
    setup.issuer.behave(Behaviour::Normal);
    for caller in callers {
        check("caller", caller.await.unwrap(), "");
    }
    assert_eq!(setup.issuer.requests(), ONE_FETCH);
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_end_the_fetch_of_others() {
    let setup = Setup::new().await;
    setup.issuer.behave(Behaviour::Silent);
    let verifier = Arc::new(setup.verifier);
    let token = setup.issuer.token(&alice());
    let caller = tokio::spawn({
        let (verifier, token, now) = (Arc::clone(&verifier), token.clone(), setup.now);
        async move { verifier.verify(&token, now).await.is_ok() }
    });
    asked(&setup.issuer).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    setup.issuer.behave(Behaviour::Normal);
    check("another", verifier.verify(&token, setup.now).await, "");
    assert_eq!(setup.issuer.requests(), ONE_FETCH);
}

#[tokio::test]
async fn each_of_several_issuers_vouches_only_for_its_own_people() {
    let (one, other) = (start().await, start().await);
    let trusted =
        |issuer: &countersign_tests::issuer::Issuer| oidc::Issuer::new(issuer.url(), vec![AUDIENCE.to_owned()]);
    let verifier = Verifier::new(vec![trusted(&one), trusted(&other)]).unwrap();
    let now = chrono::Utc::now();
    let mut people = Vec::new();
    for issuer in [&one, &other] {
        people.push(verifier.verify(&issuer.token(&alice()), now).await.unwrap().person.key);
    }
    assert_ne!(
        people[0], people[1],
        "the same subject of another issuer is another person"
    );
    let forged = other.sign(alice().payload(&one.name()), Signing::Rs256);
    check(
        "forged",
        verifier.verify(&forged, now).await,
        "the token's signature is not that of ",
    );
}

#[test]
fn issuers_that_cannot_be_trusted_are_refused_at_start() {
    let good = || oidc::Issuer::new("http://127.0.0.1:1".parse().unwrap(), vec![AUDIENCE.to_owned()]);
    let url = |text: &str| oidc::Issuer {
        url: text.parse().unwrap(),
        ..good()
    };
    let algorithms = |names: &[&str]| oidc::Issuer {
        algorithms: names.iter().map(|name| (*name).to_owned()).collect(),
        ..good()
    };
    for (issuer, expected) in [
        (good(), ""),
        (url("http://login.example.com"), "is reached by https"),
        (url("ftp://127.0.0.1"), "is reached by https"),
        (url("https://user:secret@login.example.com"), "no user name or password"),
        (
            url("https://login.example.com/?tenant=1"),
            "neither a query nor a fragment",
        ),
        (algorithms(&[]), "at least one signature algorithm"),
        (algorithms(&["none"]), "\"none\" is not accepted"),
        (algorithms(&["RS256", "HS256"]), "\"HS256\" is not accepted"),
        (algorithms(&["ES512"]), "\"ES512\" is not accepted"),
        (
            oidc::Issuer {
                audiences: Vec::new(),
                ..good()
            },
            "at least one audience",
        ),
        (
            oidc::Issuer {
                audiences: vec![String::new()],
                ..good()
            },
            "at least one audience",
        ),
        (
            oidc::Issuer {
                groups_claim: String::new(),
                ..good()
            },
            "groups claim has no name",
        ),
        (
            oidc::Issuer {
                clock_skew_seconds: 301,
                ..good()
            },
            "at most 300 s",
        ),
    ] {
        let url = issuer.url.clone();
        match Verifier::new(vec![issuer]).err() {
            None => assert_eq!(expected, "", "{url} was taken"),
            Some(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
        }
    }
    let twice = Verifier::new(vec![good(), url("http://127.0.0.1:1/")]).err();
    assert!(matches!(twice, Some(IssuerError::Twice(_))), "{twice:?}");
}

#[tokio::test]
async fn the_test_issuers_token_endpoint_gives_tokens_for_the_right_secret_only() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let setup = Setup::new().await;
    setup
        .issuer
        .register("etl", "right", Claims::machine("etl", AUDIENCE, &["batch"]));
    let endpoint = setup.issuer.url().join("token").unwrap();
    for (secret, status) in [("right", 200), ("wrong", 401)] {
        let body = format!("grant_type=client_credentials&client_id=etl&client_secret={secret}");
        let answer = reqwest::Client::new()
            .post(endpoint.clone())
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status);
        let answer: Value = answer.json().await.unwrap();
        if let Some(token) = answer["access_token"].as_str() {
            let etl = setup.verifier.verify(token, setup.now).await.unwrap().person;
            assert_eq!((etl.key.subject.as_str(), etl.kind), ("etl", PersonKind::Machine));
        }
    }
}

async fn asked(issuer: &countersign_tests::issuer::Issuer) {
    eventually("the issuer is asked", std::time::Duration::from_secs(10), async || {
        (issuer.requests() == 1).then_some(())
    })
    .await
    .unwrap();
}
