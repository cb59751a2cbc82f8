//! Who is asking: tokens as issuers make them, and as attackers do.

mod claims;
mod issuers;
pub(crate) mod provider;
mod trust;

use chrono::{DateTime, Utc};
use countersign_infra::domain::identity::{PersonKind, SignedIn};
use countersign_infra::identity::oidc::{self, TokenError, Verifier};
use countersign_tests::issuer::{Claims, Issuer, Signing};
use serde_json::{Map, Value, json};

const AUDIENCE: &str = "countersign";

/// An issuer, and a verifier that trusts it.
struct Setup {
    issuer: Issuer,
    verifier: Verifier,
    now: DateTime<Utc>,
}

impl Setup {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut oidc::Issuer)) -> Self {
        let issuer = start().await;
        let mut trusted = oidc::Issuer::new(issuer.url(), vec![AUDIENCE.to_owned()]);
        trusted.algorithms = vec!["RS256".to_owned(), "ES256".to_owned()];
        change(&mut trusted);
        let verifier = Verifier::new(vec![trusted]).unwrap();
        Self {
            issuer,
            verifier,
            now: Utc::now(),
        }
    }

    /// Alice's claims, with some of them replaced; null takes a claim away.
    fn payload(&self, changes: Value) -> Map<String, Value> {
        let mut payload = alice().payload(&self.issuer.name());
        replace(&mut payload, changes);
        payload
    }

    async fn sign_in(&self, changes: Value) -> Result<SignedIn, TokenError> {
        let token = self.issuer.sign(self.payload(changes), Signing::Rs256);
        self.verifier.verify(&token, self.now).await
    }
}

async fn start() -> Issuer {
    Issuer::start("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

fn alice() -> Claims {
    Claims::person("alice", AUDIENCE, &["engineering"])
}

fn replace(object: &mut Map<String, Value>, changes: Value) {
    for (name, value) in changes.as_object().unwrap().clone() {
        if value.is_null() {
            object.remove(&name);
        } else {
            object.insert(name, value);
        }
    }
}

/// Holds an answer against the beginning of the expected refusal; an empty one expects a person.
fn check(case: &str, answer: Result<SignedIn, TokenError>, expected: &str) {
    match answer {
        Ok(_) => assert_eq!(expected, "", "{case}: was accepted"),
        Err(TokenError::Refused(why)) => {
            assert!(!expected.is_empty(), "{case}: {why}");
            assert!(why.starts_with(expected), "{case}: {why}");
        }
        Err(error @ TokenError::Unavailable { .. }) => panic!("{case}: {error:?}"),
    }
}

#[tokio::test]
async fn a_token_signed_by_the_issuer_says_who_is_asking() {
    let setup = Setup::new().await;
    for signing in [Signing::Rs256, Signing::Es256] {
        let payload = setup.payload(json!({}));
        let ends = payload["exp"].as_i64().unwrap() + 30;
        let signed_in = setup
            .verifier
            .verify(&setup.issuer.sign(payload, signing), setup.now)
            .await
            .unwrap();
        let person = signed_in.person;
        assert_eq!(
            (person.key.issuer, person.key.subject.as_str()),
            (setup.issuer.name(), "alice")
        );
        assert_eq!(
            (person.name.as_str(), person.email.as_deref()),
            ("alice", Some("alice@example.com"))
        );
        assert_eq!(person.groups.into_iter().collect::<Vec<_>>(), ["engineering"]);
        assert_eq!((person.kind, signed_in.expires.timestamp()), (PersonKind::Human, ends));
    }
}

#[tokio::test]
async fn a_token_whose_claims_are_not_in_order_is_refused() {
    let setup = Setup::new().await;
    let now = setup.now.timestamp();
    let year = 365 * 86_400;
    for (claims, expected) in [
        (json!({"exp": now - 31, "iat": now - 100}), "the token expired at "),
        (json!({"exp": now - 20, "iat": now - 100}), ""),
        (
            json!({"exp": now - year, "iat": now - 2 * year}),
            "the token expired at ",
        ),
        (json!({"exp": null}), "the token has no exp"),
        (
            json!({"exp": (now + 60).to_string()}),
            "the token's exp is not a number",
        ),
        (json!({"exp": true}), "the token's exp is not a number"),
        (json!({"exp": [now + 60]}), "the token's exp is not a number"),
        (json!({"exp": 1e300}), "the token's exp is not a number"),
        (json!({"exp": u64::MAX}), "the token's exp is not a number"),
        (json!({"exp": i64::MAX}), "the token's exp is not a number"),
        (json!({"exp": now as f64 + 60.5}), ""),
        (json!({"iat": null}), "the token has no iat"),
        (json!({"iat": now.to_string()}), "the token's iat is not a number"),
        (
            json!({"iat": now + 3000, "exp": now + 6000}),
            "the token was issued at ",
        ),
        (json!({"iat": now + 20}), ""),
        (
            json!({"iat": now + 20, "exp": now + 10}),
            "the token ends (exp) before it begins",
        ),
        (json!({"nbf": now + 60}), "the token is valid only from "),
        (json!({"nbf": now + 20}), ""),
        (json!({"nbf": "tomorrow"}), "the token's nbf is not a number"),
        (
            json!({"aud": "billing"}),
            "the token is for audience \"billing\", this gateway expects \"countersign\"",
        ),
        (json!({"aud": []}), "the token is for nobody, this gateway expects"),
        (json!({"aud": null}), "the token does not say whom it is for"),
        (json!({"aud": 7}), "the token's aud is neither"),
        (
            json!({"aud": ["countersign", 7]}),
            "the token's aud is not a list of texts",
        ),
        (json!({"aud": ["countersign"]}), ""),
        (
            json!({"aud": ["countersign", "billing"]}),
            "the token has several audiences and does not say",
        ),
        (
            json!({"aud": ["countersign", "billing"], "azp": "billing"}),
            "the token was given to \"billing\"",
        ),
        (json!({"aud": ["countersign", "billing"], "azp": "countersign"}), ""),
        (
            json!({"aud": ["countersign", "billing"], "azp": 7}),
            "the token's azp is not text",
        ),
        (json!({"sub": null}), "the token has no sub"),
        (json!({"sub": ""}), "the token has no sub"),
        (json!({"sub": 7}), "the token's sub is not text"),
        (json!({"sub": "a\u{0}b"}), "the token's sub is not a name"),
        (json!({"sub": "a".repeat(256)}), "the token's sub is not a name"),
        (json!({"iss": null}), "the token does not say who issued it"),
        (json!({"iss": 7}), "the token's iss is not text"),
        (
            json!({"iss": "https://evil.example.com"}),
            "no configured issuer is called \"https://evil.example.com\"",
        ),
        (json!({"iss": setup.issuer.name() + "/"}), "the token calls its issuer "),
        (
            json!({"iss": setup.issuer.name() + "/x"}),
            "no configured issuer is called ",
        ),
        (json!({"email": 7}), "the token's email is not text"),
    ] {
        check(&claims.to_string(), setup.sign_in(claims.clone()).await, expected);
    }
}

#[tokio::test]
async fn a_token_that_the_issuer_did_not_sign_is_refused() {
    let setup = Setup::new().await;
    for (signing, header, expected) in [
        (Signing::Rs256, json!({}), ""),
        (Signing::Rs256, json!({"kid": null}), ""),
        (Signing::Rs256, json!({"typ": "at+jwt"}), ""),
        (Signing::Unsigned, json!({}), "the token is not signed (alg none)"),
        (
            Signing::Unsigned,
            json!({"alg": "NONE"}),
            "the token is not signed (alg none)",
        ),
        (
            Signing::Unsigned,
            json!({"alg": "RS256"}),
            "the token's signature is not that of ",
        ),
        (
            Signing::Hs256WithPublicKey,
            json!({}),
            "the token is signed with \"HS256\", which is not accepted from ",
        ),
        (
            Signing::Hs256WithPublicKey,
            json!({"alg": "RS256"}),
            "the token's signature is not that of ",
        ),
        (Signing::ForgedRs256, json!({}), "the token's signature is not that of "),
        (
            Signing::ForgedRs256,
            json!({"kid": null}),
            "the token's signature is not that of ",
        ),
        (
            Signing::ForgedRs256,
            json!({"jku": "https://evil.example.com/keys"}),
            "the token's signature is not",
        ),
        (
            Signing::Rs256,
            json!({"alg": "RS384"}),
            "the token is signed with \"RS384\", which is not accepted",
        ),
        (Signing::Rs256, json!({"alg": "ES256"}), "http://127.0.0.1:"),
        (
            Signing::Rs256,
            json!({"alg": "made-up"}),
            "the token's algorithm \"made-up\" is not known",
        ),
        (
            Signing::Rs256,
            json!({"alg": 7}),
            "the token does not say how it is signed",
        ),
        (
            Signing::Rs256,
            json!({"alg": null}),
            "the token does not say how it is signed",
        ),
        (Signing::Rs256, json!({"kid": 7}), "the token's kid is not text"),
        (
            Signing::Rs256,
            json!({"crit": ["exp"]}),
            "the token has critical extensions",
        ),
        (
            Signing::Rs256,
            json!({"typ": "logout+jwt"}),
            "the token is of the type \"logout+jwt\"",
        ),
        (Signing::Rs256, json!({"zip": "DEF"}), "the token is encrypted"),
    ] {
        let members = header.as_object().cloned().unwrap();
        let token = setup
            .issuer
            .sign_with_header(members, setup.payload(json!({})), signing);
        check(
            &format!("{signing:?} {header}"),
            setup.verifier.verify(&token, setup.now).await,
            expected,
        );
    }
}

#[tokio::test]
async fn a_token_with_a_changed_byte_is_refused() {
    let setup = Setup::new().await;
    let token = setup.issuer.token(&alice());
    check("unchanged", setup.verifier.verify(&token, setup.now).await, "");
    for place in (0..token.len()).step_by(7) {
        let mut changed = token.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        let answer = setup.verifier.verify(&changed, setup.now).await;
        assert!(
            matches!(answer, Err(TokenError::Refused(_))),
            "byte {place}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn what_is_not_a_token_is_refused_and_never_repeated() {
    let setup = Setup::new().await;
    let oversize = setup
        .issuer
        .sign(setup.payload(json!({"more": "x".repeat(70_000)})), Signing::Rs256);
    for (text, expected) in [
        ("", "there is no token"),
        ("hunter2-is-secret", "this is not a signed token"),
        ("a.b.c.d.e", "this is not a signed token"),
        ("..", "the token's header cannot be read"),
        (oversize.as_str(), "the token is longer than 65536 bytes"),
    ] {
        let answer = setup.verifier.verify(text, setup.now).await;
        let shown = format!("{answer:?}");
        assert!(text.len() < 8 || !shown.contains(text), "the answer repeats the token");
        check("no token", answer, expected);
    }
    assert_eq!(setup.issuer.requests(), 0, "nobody is asked about what is no token");
}
