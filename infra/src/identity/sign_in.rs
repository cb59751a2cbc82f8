//! Signing in by a browser: the authorization code flow of OpenID Connect Core 1.0, section 3.1, with PKCE (RFC 7636).
//!
//! Where a browser is on its way is a ticket's business. Nonce and code verifier are derived from the browser's cookie
//! and the state together, so that neither the store nor whoever sees one of the two can finish what a browser began.

use super::claims;
use super::keys::{Doors, Keys};
use super::oidc::{Issuer, IssuerError, TokenError, Verifier, quoted};
use super::token::Token;
use crate::domain::Timestamp;
use crate::domain::id::DigestBuilder;
use crate::domain::identity::SignedIn;
use crate::domain::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use openidconnect::{PkceCodeChallenge, PkceCodeVerifier};
use serde::Deserialize;
use std::sync::Arc;
use url::{Url, form_urlencoded};

/// Longest code that an issuer may send, in bytes.
const CODE_BYTES_MAX: usize = 4096;

/// Signs people in at one issuer.
pub struct BrowserSignIn {
    issuer: Issuer,
    client: WebClient,
    verifier: Verifier,
    keys: Arc<Keys>,
}

/// What this program is to the issuer.
#[derive(Clone, Debug)]
pub struct WebClient {
    pub id: String,
    /// None: a public client, which PKCE alone protects.
    pub secret: Option<Secret>,
    /// Asked for beside `openid`.
    pub scopes: Vec<String>,
    /// Where the issuer sends browsers back to.
    pub redirect: Url,
}

/// What one browser keeps between its way to the issuer and its way back.
pub struct Journey {
    /// What the issuer hands back.
    pub state: Secret,
    /// The browser's own.
    pub cookie: Secret,
    /// The person has to prove anew who they are.
    pub anew: bool,
    pub begun: Timestamp,
}

/// What the issuer sent along with the browser.
#[derive(Debug, Default, Deserialize)]
pub struct Answer {
    pub code: Option<String>,
    pub error: Option<String>,
    /// The issuer's own name (RFC 9207).
    pub iss: Option<String>,
}

impl BrowserSignIn {
    /// Makes the way in by an issuer. Its ID tokens are for the client, whatever audiences its other tokens are for.
    ///
    /// Blocks on the file system, as [`Verifier::new`] does. Nothing is fetched yet.
    pub fn new(issuer: Issuer, client: WebClient) -> Result<Self, IssuerError> {
        let audiences = vec![client.id.clone()];
        let issuer = Issuer { audiences, ..issuer };
        let verifier = Verifier::new(vec![issuer.clone()])?;
        let keys = verifier.keys().cloned().ok_or_else(|| IssuerError::Unusable {
            url: issuer.url.to_string(),
            reason: "it has no keys".to_owned(),
        })?;
        Ok(Self {
            issuer,
            client,
            verifier,
            keys,
        })
    }

    /// What people choose it by, and what a ticket keeps of it.
    pub fn issuer(&self) -> &Url {
        &self.issuer.url
    }

    /// Where to send the browser.
    pub async fn start(&self, journey: &Journey, now: Timestamp) -> Result<Url, TokenError> {
        let mut url = self.doors(now).await?.authorization;
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&journey.code_verifier());
        let scopes: Vec<&str> = std::iter::once("openid")
            .chain(self.client.scopes.iter().map(String::as_str))
            .collect();
        let nonce = journey.nonce();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client.id)
            .append_pair("redirect_uri", self.client.redirect.as_str())
            .append_pair("scope", &scopes.join(" "))
            .append_pair("state", journey.state.reveal())
            .append_pair("nonce", nonce.reveal())
            .append_pair("code_challenge", challenge.as_str())
            .append_pair("code_challenge_method", challenge.method().as_str());
        if journey.anew {
            url.query_pairs_mut()
                .append_pair("prompt", "login")
                .append_pair("max_age", "0");
        }
        Ok(url)
    }

    /// Makes the person of what the issuer sent along with the browser; one who has to prove anew who they are has done
    /// so since the journey began. The caller has seen that state and cookie are
    /// those of one journey, which is not made twice.
    pub async fn finish(&self, answer: &Answer, journey: &Journey, now: Timestamp) -> Result<SignedIn, TokenError> {
        let doors = self.doors(now).await?;
        self.check_sender(answer, &doors)?;
        let code = match (&answer.error, &answer.code) {
            (None, Some(code)) if code.len() <= CODE_BYTES_MAX => code,
            (Some(error), _) => {
                let issuer = &self.issuer.url;
                return Err(refused(format!("{issuer} did not sign you in: {}", quoted(error))));
            }
            (None, Some(_) | None) => return Err(refused(format!("{} sent no code", self.issuer.url))),
        };
        let token = self.exchange(&doors, code, journey).await?;
        let signed_in = self.verifier.verify(token.reveal(), now).await?;
        let token = Token::read(token.reveal())?;
        if claims::text(token.payload(), "nonce")? != Some(journey.nonce().reveal()) {
            return Err(refused(
                "the token was not made for this sign-in (its nonce is another)".to_owned(),
            ));
        }
        if journey.anew {
            self.check_anew(claims::authenticated(token.payload())?, journey.begun)?;
        }
        Ok(signed_in)
    }

    async fn doors(&self, now: Timestamp) -> Result<Doors, TokenError> {
        let published = Keys::published(&self.keys, now).await?;
        let missing = || {
            refused(format!(
                "{} does not say where people sign in: its discovery document lacks an authorization or token endpoint \
                 that may be used",
                self.issuer.url
            ))
        };
        published.doors.clone().ok_or_else(missing)
    }

    /// Refuses what another issuer sent in the place of this one (mix-up, RFC 9207).
    fn check_sender(&self, answer: &Answer, doors: &Doors) -> Result<(), TokenError> {
        match &answer.iss {
            Some(name) if self.issuer.is_called(name) => Ok(()),
            None if !doors.names_itself => Ok(()),
            Some(name) => Err(refused(format!(
                "the answer is of {}, and {} was asked",
                quoted(name),
                self.issuer.url
            ))),
            None => Err(refused(format!(
                "the answer does not say that it is of {}, which always says it",
                self.issuer.url
            ))),
        }
    }

    fn check_anew(&self, authenticated: Option<Timestamp>, begun: Timestamp) -> Result<(), TokenError> {
        let skew = TimeDelta::seconds(i64::try_from(self.issuer.clock_skew_seconds).unwrap_or(0));
        match authenticated {
            Some(moment) if moment.checked_add_signed(skew).unwrap_or(moment) >= begun => Ok(()),
            Some(_) => Err(refused(format!(
                "{} did not ask you anew who you are: sign in again with your password or key",
                self.issuer.url
            ))),
            None => Err(refused(format!(
                "{} does not say when you proved who you are (auth_time): its tokens are no proof for this",
                self.issuer.url
            ))),
        }
    }

    async fn exchange(&self, doors: &Doors, code: &str, journey: &Journey) -> Result<Secret, TokenError> {
        let (form, basic) = self.request(doors, code, journey);
        let basic = basic.as_ref().map(|(name, secret)| (name.as_str(), secret.reveal()));
        let answered = self.keys.post(&doors.token, form, basic).await;
        let (status, body) = answered.map_err(|source| self.unavailable(source))?;
        if status == 200 {
            return match serde_json::from_slice::<Tokens>(&body) {
                Ok(tokens) => Ok(Secret::new(tokens.id_token)),
                Err(_) => Err(refused(format!("{} answered without an ID token", self.issuer.url))),
            };
        }
        Err(self.not_exchanged(status, &body))
    }

    /// The form of a token request, and the client's name and secret where they go into its head.
    fn request(&self, doors: &Doors, code: &str, journey: &Journey) -> (String, Option<(String, Secret)>) {
        let verifier = journey.code_verifier();
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", self.client.redirect.as_str())
            .append_pair("code_verifier", verifier.secret());
        let mut basic = None;
        match &self.client.secret {
            Some(secret) if doors.secret_in_body => {
                form.append_pair("client_id", &self.client.id)
                    .append_pair("client_secret", secret.reveal());
            }
            // Both are form-encoded before they go into the head (RFC 6749, section 2.3.1).
            Some(secret) => basic = Some((encoded(&self.client.id), Secret::new(encoded(secret.reveal())))),
            None => {
                form.append_pair("client_id", &self.client.id);
            }
        }
        (form.finish(), basic)
    }

    fn not_exchanged(&self, status: u16, body: &[u8]) -> TokenError {
        let error = serde_json::from_slice::<Refusal>(body).map(|refusal| refusal.error);
        match error {
            Ok(error) if status < 500 => {
                // Often a wrong client or redirect URI: the operator's to mend.
                tracing::warn!(issuer = %self.issuer.url, status, error, "a code was not exchanged");
                let issuer = &self.issuer.url;
                refused(format!(
                    "{issuer} did not take the code ({}): sign in again",
                    quoted(&error)
                ))
            }
            Ok(_) | Err(_) => self.unavailable(format!("its token endpoint answered {status}").into()),
        }
    }

    fn unavailable(&self, source: Box<dyn std::error::Error + Send + Sync>) -> TokenError {
        let issuer = self.issuer.url.to_string();
        TokenError::Unavailable { issuer, source }
    }
}

impl Journey {
    fn nonce(&self) -> Secret {
        Secret::new(self.derived("nonce"))
    }

    /// 43 letters, as RFC 7636, section 4.1, wants.
    fn code_verifier(&self) -> PkceCodeVerifier {
        PkceCodeVerifier::new(self.derived("code verifier"))
    }

    fn derived(&self, what: &str) -> String {
        let mut digest = DigestBuilder::default();
        digest
            .part("countersign", b"journey/1")
            .part("what", what.as_bytes())
            .part("cookie", self.cookie.reveal().as_bytes())
            .part("state", self.state.reveal().as_bytes());
        URL_SAFE_NO_PAD.encode(digest.finish().0)
    }
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

/// RFC 6749, section 5.2.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn refused(why: String) -> TokenError {
    TokenError::Refused(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::example::at;

    fn sign_in() -> BrowserSignIn {
        let url: Url = "https://id.example/".parse().unwrap();
        let client = WebClient {
            id: "web".to_owned(),
            secret: None,
            scopes: vec!["groups".to_owned()],
            redirect: "https://gateway.example/sign-in/callback".parse().unwrap(),
        };
        BrowserSignIn::new(Issuer::new(url, vec!["countersign".to_owned()]), client).unwrap()
    }

    fn journey(state: &str, cookie: &str) -> Journey {
        Journey {
            state: Secret::new(state.to_owned()),
            cookie: Secret::new(cookie.to_owned()),
            anew: true,
            begun: at(0),
        }
    }

    #[test]
    fn nonce_and_verifier_are_of_state_and_cookie_together() {
        let own = journey("state", "cookie");
        assert_eq!(own.nonce().reveal(), journey("state", "cookie").nonce().reveal());
        for other in [
            journey("state", "other"),
            journey("other", "cookie"),
            journey("statec", "ookie"),
        ] {
            assert_ne!(other.nonce().reveal(), own.nonce().reveal());
            assert_ne!(other.code_verifier().secret(), own.code_verifier().secret());
        }
        assert_ne!(own.nonce().reveal(), own.code_verifier().secret());
        assert_eq!(own.code_verifier().secret().len(), 43);
    }

    #[test]
    fn an_answer_of_another_issuer_is_refused() {
        let doors = |names_itself| Doors {
            authorization: "https://id.example/auth".parse().unwrap(),
            token: "https://id.example/token".parse().unwrap(),
            secret_in_body: false,
            names_itself,
        };
        for (iss, names_itself, good) in [
            (None, false, true),
            (None, true, false),
            (Some("https://id.example"), true, true),
            (Some("https://id.example/"), false, true),
            (Some("https://evil.example"), false, false),
            (Some(""), false, false),
        ] {
            let answer = Answer {
                iss: iss.map(str::to_owned),
                ..Answer::default()
            };
            let checked = sign_in().check_sender(&answer, &doors(names_itself));
            assert_eq!(checked.is_ok(), good, "{iss:?}, {names_itself}");
        }
    }

    #[test]
    fn who_has_to_prove_anew_who_they_are_did_it_since() {
        let sign_in = sign_in();
        for (authenticated, good) in [
            (Some(at(5)), true),
            (Some(at(-30)), true),
            (Some(at(-31)), false),
            (None, false),
        ] {
            let checked = sign_in.check_anew(authenticated, at(0));
            assert_eq!(checked.is_ok(), good, "{authenticated:?}");
        }
    }
}
