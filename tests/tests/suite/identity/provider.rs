//! Tokens of a certified OpenID provider, asked for as clients ask.

use super::AUDIENCE;
use chrono::{TimeDelta, Utc};
use countersign_infra::domain::identity::PersonKind;
use countersign_infra::identity::oidc::{self, TokenError, Verifier};
use countersign_tests::provider::Provider;

const ALGORITHMS: [&str; 5] = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];

fn trusted(provider: &Provider) -> oidc::Issuer {
    let mut issuer = oidc::Issuer::new(provider.url.clone(), vec![AUDIENCE.to_owned()]);
    issuer
        .audiences
        .extend(ALGORITHMS.map(|algorithm| format!("web-{algorithm}")));
    issuer.algorithms = ALGORITHMS.map(str::to_owned).to_vec();
    issuer
}

#[tokio::test]
async fn a_certified_providers_tokens_are_accepted_in_every_algorithm() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let provider = Provider::start().await.unwrap();
    let verifier = Verifier::new(vec![trusted(&provider)]).unwrap();
    for algorithm in ALGORITHMS {
        let token = provider.id_token(algorithm, "bob").await.unwrap();
        let bob = verifier.verify(&token, Utc::now()).await.unwrap().person;
        assert_eq!(
            (bob.key.subject.as_str(), bob.kind),
            ("bob", PersonKind::Human),
            "{algorithm}"
        );
        assert_eq!(
            (bob.name.as_str(), bob.email.as_deref()),
            ("bob", Some("bob@example.com")),
            "{algorithm}"
        );
        assert_eq!(
            bob.groups.into_iter().collect::<Vec<_>>(),
            ["dba", "engineering"],
            "{algorithm}"
        );

        let token = provider.access_token(algorithm, "urn:countersign").await.unwrap();
        let etl = verifier.verify(&token, Utc::now()).await.unwrap().person;
        assert_eq!(
            (etl.key.subject, etl.kind),
            (format!("etl-{algorithm}"), PersonKind::Machine),
            "{algorithm}"
        );
        assert_eq!(etl.groups.into_iter().collect::<Vec<_>>(), ["batch"], "{algorithm}");
    }
}

#[tokio::test]
async fn a_certified_providers_tokens_for_others_or_of_yesterday_are_refused() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let provider = Provider::start().await.unwrap();
    let mut trusted = trusted(&provider);
    trusted.algorithms = vec!["ES256".to_owned()];
    trusted.audiences = vec![AUDIENCE.to_owned()];
    let verifier = Verifier::new(vec![trusted]).unwrap();
    let now = Utc::now();
    let good = provider.access_token("ES256", "urn:countersign").await.unwrap();
    let of_another_algorithm = provider.access_token("RS256", "urn:countersign").await.unwrap();
    let for_another = provider.access_token("ES256", "urn:billing").await.unwrap();
    let of_a_web_page = provider.id_token("ES256", "alice").await.unwrap();
    for (token, when, expected) in [
        (&good, now, ""),
        (&good, now + TimeDelta::days(1), "the token expired at "),
        (&of_another_algorithm, now, "the token is signed with \"RS256\""),
        (&for_another, now, "the token is for audience \"something-else\""),
        (&of_a_web_page, now, "the token is for audience \"web-ES256\""),
        (&"opaque-access-token".to_owned(), now, "this is not a signed token"),
    ] {
        match verifier.verify(token, when).await {
            Ok(_) => assert_eq!(expected, "", "was accepted"),
            Err(TokenError::Refused(why)) => assert!(!expected.is_empty() && why.starts_with(expected), "{why}"),
            Err(error) => panic!("{error:?}"),
        }
    }
}
