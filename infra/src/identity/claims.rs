//! What a token says, checked and made a person. Pure: values and `now` in, a person out.

use super::oidc::{Issuer, TokenError, quoted};
use crate::domain::Timestamp;
use crate::domain::identity::{Person, PersonKey, PersonKind, SignedIn};
use chrono::{DateTime, TimeDelta};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

type Claims = Map<String, Value>;

/// Longest subject, group, and name, in bytes (OpenID Connect Core 1.0 bounds `sub` at 255).
const TEXT_BYTES_MAX: usize = 255;
const GROUPS_MAX: usize = 2_000;

/// When a token whose claims were checked ends, clock skew included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    ends: Timestamp,
}

/// Checks everything that needs no key: times, audience, authorized party.
pub(super) fn check(issuer: &Issuer, claims: &Claims, now: Timestamp) -> Result<Validity, TokenError> {
    check_audience(issuer, claims)?;
    check_times(issuer, claims, now)
}

/// Makes the person of claims whose signature was checked.
pub(super) fn signed_in(issuer: &Issuer, claims: &Claims, validity: Validity) -> Result<SignedIn, TokenError> {
    let subject = required_text(claims, "sub")?;
    if subject.len() > TEXT_BYTES_MAX || subject.chars().any(char::is_control) {
        return Err(refused(format!(
            "the token's sub is not a name of at most {TEXT_BYTES_MAX} bytes"
        )));
    }
    let email = email(claims)?;
    let person = Person {
        key: PersonKey {
            issuer: required_text(claims, "iss")?.to_owned(),
            subject: subject.to_owned(),
        },
        name: name(issuer, claims, email.as_deref()).unwrap_or_else(|| subject.to_owned()),
        email,
        groups: groups(issuer, claims)?,
        kind: kind(issuer, claims, subject),
    };
    Ok(SignedIn {
        person,
        expires: validity.ends,
        issued: time(claims, "iat")?,
    })
}

/// When the person last proved who they are, where the token says it (`auth_time`).
pub(super) fn authenticated(claims: &Claims) -> Result<Option<Timestamp>, TokenError> {
    time(claims, "auth_time")
}

fn check_audience(issuer: &Issuer, claims: &Claims) -> Result<(), TokenError> {
    let audiences = match claims.get("aud") {
        Some(Value::String(audience)) => vec![audience.as_str()],
        Some(Value::Array(list)) => {
            texts(list).ok_or_else(|| refused("the token's aud is not a list of texts".to_owned()))?
        }
        Some(_) => return Err(refused("the token's aud is neither text nor a list".to_owned())),
        None => return Err(refused("the token does not say whom it is for (aud)".to_owned())),
    };
    if !audiences
        .iter()
        .any(|audience| issuer.audiences.iter().any(|ours| ours == audience))
    {
        let theirs: Vec<String> = audiences.iter().take(5).map(|audience| quoted(audience)).collect();
        let theirs = if theirs.is_empty() {
            "nobody".to_owned()
        } else {
            format!("audience {}", theirs.join(" and "))
        };
        return Err(refused(format!(
            "the token is for {theirs}, this gateway expects {}: ask the issuer for a token of that audience",
            listed(&issuer.audiences),
        )));
    }
    check_party(issuer, claims, audiences.len() > 1)
}

/// Other audiences of the same token could pass it on as if they were its owner: so it must have been asked for by
/// a client that we know (OpenID Connect Core 1.0, 3.1.3.7; in access tokens `client_id` says it, RFC 9068).
fn check_party(issuer: &Issuer, claims: &Claims, several_audiences: bool) -> Result<(), TokenError> {
    let azp = text(claims, "azp")?;
    let party = match azp {
        Some(party) => Some(party),
        None => text(claims, "client_id")?,
    };
    if !several_audiences && issuer.authorized_parties.is_empty() {
        return Ok(());
    }
    let known = |party: &str| {
        let mut parties = issuer.audiences.iter().chain(&issuer.authorized_parties);
        parties.any(|ours| ours == party)
    };
    match party {
        Some(party) if known(party) => Ok(()),
        Some(party) => Err(refused(format!(
            "the token was given to {}, which is not an authorized party of {}",
            quoted(party),
            issuer.url
        ))),
        None => Err(refused(
            "the token has several audiences and does not say which client asked for it (azp)".to_owned(),
        )),
    }
}

fn check_times(issuer: &Issuer, claims: &Claims, now: Timestamp) -> Result<Validity, TokenError> {
    let skew = TimeDelta::seconds(i64::try_from(issuer.clock_skew_seconds).unwrap_or(0));
    let expires = required_time(claims, "exp")?;
    let issued = required_time(claims, "iat")?;
    let ends = expires.checked_add_signed(skew).unwrap_or(expires);
    if ends <= now {
        return Err(refused(format!(
            "the token expired at {}: sign in again",
            shown(expires)
        )));
    }
    if expires <= issued {
        return Err(refused("the token ends (exp) before it begins (iat)".to_owned()));
    }
    let here = format!("and here it is {}: check the clocks, or wait", shown(now));
    let lies_ahead = |moment: Timestamp| moment.checked_sub_signed(skew).unwrap_or(moment) > now;
    if lies_ahead(issued) {
        return Err(refused(format!("the token was issued at {}, {here}", shown(issued))));
    }
    if let Some(begins) = time(claims, "nbf")?.filter(|begins| lies_ahead(*begins)) {
        return Err(refused(format!(
            "the token is valid only from {} on, {here}",
            shown(begins)
        )));
    }
    Ok(Validity { ends })
}

/// A program's token has no person in it. There is no standard mark, so each of these is one: the subject is the
/// client itself (RFC 9068, section 2.2), and the words of Auth0 (`gty`, `...@clients`), Microsoft Entra (`idtyp`)
/// and Keycloak (`service-account-...`) for the same.
fn kind(issuer: &Issuer, claims: &Claims, subject: &str) -> PersonKind {
    let word = |name: &str| claims.get(name).and_then(Value::as_str);
    let clients = || {
        [
            word("client_id"),
            word("azp"),
            word("clientId"),
            word("cid"),
            word("appid"),
        ]
        .into_iter()
        .flatten()
    };
    let is_machine = issuer.machines_only
        || clients().any(|client| subject == client || subject.strip_suffix("@clients") == Some(client))
        || word("gty") == Some("client-credentials")
        || word("idtyp") == Some("app")
        || word("preferred_username")
            .and_then(|name| name.strip_prefix("service-account-"))
            .is_some_and(|account| clients().any(|client| client.eq_ignore_ascii_case(account)));
    if is_machine {
        PersonKind::Machine
    } else {
        PersonKind::Human
    }
}

fn email(claims: &Claims) -> Result<Option<String>, TokenError> {
    let verified = matches!(claims.get("email_verified"), Some(Value::Bool(true)));
    let email = text(claims, "email")?.filter(|email| !email.is_empty() && email.len() <= TEXT_BYTES_MAX);
    Ok(email.filter(|_| verified).map(str::to_owned))
}

fn name(issuer: &Issuer, claims: &Claims, email: Option<&str>) -> Option<String> {
    issuer.name_claims.iter().find_map(|claim| {
        let name = if claim == "email" {
            email
        } else {
            claims.get(claim).and_then(Value::as_str)
        };
        name.map(readable).filter(|name| !name.is_empty())
    })
}

/// A name as it may stand in a log line or on a card.
fn readable(name: &str) -> String {
    let bidi =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let mut text: String = name.chars().filter(|c| !c.is_control() && !bidi(*c)).collect();
    while text.len() > TEXT_BYTES_MAX {
        text.pop();
    }
    text.trim().to_owned()
}

fn groups(issuer: &Issuer, claims: &Claims) -> Result<BTreeSet<String>, TokenError> {
    let path = &issuer.groups_claim;
    let Some(value) = at(claims, path) else {
        return moved_elsewhere(claims, path).map(|()| BTreeSet::new());
    };
    let wrong = || {
        refused(format!(
            "the token's claim {} is not a list of group names",
            quoted(path)
        ))
    };
    let names = match value {
        Value::String(name) => vec![name.as_str()],
        Value::Array(list) => texts(list).ok_or_else(wrong)?,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return Err(wrong()),
    };
    let fits = |name: &&str| !name.is_empty() && name.len() <= TEXT_BYTES_MAX && !name.chars().any(char::is_control);
    if names.len() > GROUPS_MAX || !names.iter().all(fits) {
        return Err(refused(format!(
            "the token's claim {} has more than {GROUPS_MAX} groups, or one that is empty or too long",
            quoted(path)
        )));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// Groups that were too many for the token (Microsoft Entra) are not "no groups": a rule that forbids would miss.
fn moved_elsewhere(claims: &Claims, path: &str) -> Result<(), TokenError> {
    let distributed = claims
        .get("_claim_names")
        .and_then(Value::as_object)
        .is_some_and(|names| names.contains_key(path));
    let overage = matches!(claims.get("hasgroups"), Some(Value::Bool(true)));
    if distributed || overage {
        return Err(refused(format!(
            "the issuer left the groups out of the token because they are too many ({}): let it send only the groups \
             of this application",
            quoted(path)
        )));
    }
    Ok(())
}

/// A claim by its whole name, else by a path with dots between the levels. Names within a path may hold dots
/// themselves (`resource_access.my.client.roles`): the longest name that exists is followed first.
fn at<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    path.rmatch_indices('.').find_map(|(dot, _)| {
        let inner = claims.get(path.get(..dot)?)?.as_object()?;
        at(inner, path.get(dot + 1..)?)
    })
}

fn texts(list: &[Value]) -> Option<Vec<&str>> {
    list.iter().map(Value::as_str).collect()
}

pub(super) fn text<'a>(claims: &'a Claims, name: &str) -> Result<Option<&'a str>, TokenError> {
    match claims.get(name) {
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Null) | None => Ok(None),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(refused(format!("the token's {name} is not text")))
        }
    }
}

fn required_text<'a>(claims: &'a Claims, name: &str) -> Result<&'a str, TokenError> {
    text(claims, name)?
        .filter(|text| !text.is_empty())
        .ok_or_else(|| refused(format!("the token has no {name}")))
}

fn required_time(claims: &Claims, name: &str) -> Result<Timestamp, TokenError> {
    time(claims, name)?.ok_or_else(|| refused(format!("the token has no {name}: it must say when it is valid")))
}

/// A NumericDate (RFC 7519, section 2): seconds, perhaps with a fraction, as a number and nothing else.
fn time(claims: &Claims, name: &str) -> Result<Option<Timestamp>, TokenError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let wrong = || refused(format!("the token's {name} is not a number of seconds"));
    let Value::Number(number) = value else {
        return Err(wrong());
    };
    let seconds = match (number.as_i64(), number.as_f64()) {
        (Some(seconds), _) => seconds,
        #[allow(clippy::cast_possible_truncation, reason = "bounded by the guard")]
        (None, Some(seconds)) if seconds.abs() < 1e12 => seconds.floor() as i64,
        _ => return Err(wrong()),
    };
    DateTime::from_timestamp(seconds, 0).map(Some).ok_or_else(wrong)
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(" or ")
}

fn shown(moment: Timestamp) -> String {
    moment.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn refused(why: String) -> TokenError {
    TokenError::Refused(why)
}
