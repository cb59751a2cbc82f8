//! The outer form of a token: three parts in base64url (RFC 7515, compact serialization).

use super::oidc::{TokenError, quoted};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::JsonWebKey;
use openidconnect::core::{CoreJsonWebKey, CoreJwsSigningAlgorithm};
use serde_json::{Map, Value};

/// Longest token, in bytes. PostgreSQL's password message is itself bounded near this.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// What a header's `typ` may say; case does not matter, and neither does `application/` before it. Tokens made
/// for something else (`logout+jwt`, `dpop+jwt`, `secevent+jwt`) say so there, and are refused.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// A token that was taken apart. Nothing in it is proven.
pub(super) struct Token {
    header: Map<String, Value>,
    payload: Map<String, Value>,
    signed: String,
    signature: Vec<u8>,
}

impl Token {
    /// Takes a token apart and checks its header.
    pub(super) fn read(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(refused("there is no token: sign in and give the token as the password"));
        }
        if text.len() > TOKEN_BYTES_MAX {
            return Err(refused(&format!("the token is longer than {TOKEN_BYTES_MAX} bytes")));
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refused(
                "this is not a signed token (JWT): give an ID token or a JWT access token, not an opaque one",
            ));
        };
        let token = Self {
            header: object(header, "header")?,
            payload: object(payload, "payload")?,
            signed: format!("{header}.{payload}"),
            signature: URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed("signature"))?,
        };
        token.check_header()?;
        Ok(token)
    }

    /// The issuer that the token says it is from: good only to choose whose keys to try.
    pub(super) fn issuer(&self) -> Result<&str, TokenError> {
        match self.payload.get("iss") {
            Some(Value::String(issuer)) => Ok(issuer),
            Some(_) => Err(refused("the token's iss is not text")),
            None => Err(refused("the token does not say who issued it (iss)")),
        }
    }

    pub(super) fn payload(&self) -> &Map<String, Value> {
        &self.payload
    }

    pub(super) fn algorithm_name(&self) -> &str {
        self.header.get("alg").and_then(Value::as_str).unwrap_or("")
    }

    pub(super) fn algorithm(&self) -> Result<CoreJwsSigningAlgorithm, TokenError> {
        match self.header.get("alg") {
            Some(Value::String(name)) if name.eq_ignore_ascii_case("none") => {
                Err(refused("the token is not signed (alg none): sign in again"))
            }
            Some(name @ Value::String(_)) => serde_json::from_value(name.clone()).map_err(|_| {
                refused(&format!(
                    "the token's algorithm {} is not known",
                    quoted(self.algorithm_name())
                ))
            }),
            Some(_) | None => Err(refused("the token does not say how it is signed (alg)")),
        }
    }

    pub(super) fn key_id(&self) -> Result<Option<&str>, TokenError> {
        match self.header.get("kid") {
            Some(Value::String(kid)) => Ok(Some(kid)),
            Some(_) => Err(refused("the token's kid is not text")),
            None => Ok(None),
        }
    }

    pub(super) fn is_signed_by(&self, key: &CoreJsonWebKey, algorithm: &CoreJwsSigningAlgorithm) -> bool {
        key.verify_signature(algorithm, self.signed.as_bytes(), &self.signature)
            .is_ok()
    }

    fn check_header(&self) -> Result<(), TokenError> {
        if self.header.contains_key("crit") {
            return Err(refused(
                "the token has critical extensions (crit), which are not supported",
            ));
        }
        if self.header.contains_key("enc") || self.header.contains_key("zip") {
            return Err(refused("the token is encrypted: ask for a signed one"));
        }
        let Some(named) = self.header.get("typ") else {
            return Ok(());
        };
        let name = named.as_str().unwrap_or("").to_ascii_lowercase();
        let short = name.strip_prefix("application/").unwrap_or(&name);
        if TYPES.contains(&short) {
            Ok(())
        } else {
            Err(refused(&format!(
                "the token is of the type {}: give an ID token or a JWT access token",
                quoted(&name)
            )))
        }
    }
}

fn object(part: &str, name: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed(name))?;
    serde_json::from_slice(&bytes).map_err(|_| malformed(name))
}

fn malformed(part: &str) -> TokenError {
    refused(&format!("the token's {part} cannot be read: was it copied whole?"))
}

fn refused(why: &str) -> TokenError {
    TokenError::Refused(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> String {
        format!(
            "{}.{}.AAAA",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        )
    }

    fn check(text: &str, expected: &str) {
        match Token::read(text) {
            Ok(_) => assert_eq!(expected, "", "{text} was read"),
            Err(error) => assert!(
                !expected.is_empty() && error.to_string().contains(expected),
                "{text}: {error}"
            ),
        }
    }

    #[test]
    fn only_three_parts_of_base64url_json_are_a_token() {
        let good = token(r#"{"alg":"RS256"}"#, r#"{"iss":"x"}"#);
        check(&good, "");
        check(&format!(" {good}\n"), "");
        check("", "there is no token");
        check("opaque", "not a signed token");
        check("a.b", "not a signed token");
        check(&format!("{good}.x.y"), "not a signed token");
        check(&format!("!{good}"), "header cannot be read");
        check(&token("[]", "{}"), "header cannot be read");
        check(&token("{}", "nonsense"), "payload cannot be read");
        check(
            &token("{}", &format!("{}{}", "[".repeat(3000), "]".repeat(3000))),
            "payload cannot be read",
        );
        check(&format!("{good}="), "signature cannot be read");
        check(&"a".repeat(TOKEN_BYTES_MAX + 1), "longer than 65536 bytes");
    }

    #[test]
    fn a_token_made_for_something_else_is_refused() {
        for (header, expected) in [
            (r#"{"typ":"JWT"}"#, ""),
            (r#"{"typ":"at+jwt"}"#, ""),
            (r#"{"typ":"application/AT+JWT"}"#, ""),
            (r#"{"typ":"logout+jwt"}"#, r#"of the type "logout+jwt""#),
            (r#"{"typ":7}"#, "of the type"),
            (r#"{"crit":["b64"],"b64":false}"#, "critical"),
            (r#"{"enc":"A256GCM"}"#, "encrypted"),
        ] {
            check(&token(header, "{}"), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[A-Za-z0-9_=.-]{0,200}|\\PC{0,80}") {
            let _ = Token::read(&text);
        }

        #[test]
        fn a_header_of_any_kind_is_read_or_refused(
            name in "alg|kid|typ|crit|enc",
            value in "[1-9]{1,3}|null|true|\\[1\\]|\"[a-zA-Z0-9 ]{0,20}\"",
        ) {
            if let Ok(token) = Token::read(&token(&format!("{{\"{name}\":{value}}}"), "{}")) {
                assert!(name != "crit" && name != "enc" && token.issuer().is_err());
                assert_eq!(token.key_id().is_err(), name == "kid" && !value.starts_with('"'));
            }
        }
    }
}
