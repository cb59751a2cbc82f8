//! `GET /sign-in`: on to the issuer, or a choice where there are several.

use super::super::Console;
use super::super::caller::Query;
use super::super::problem::Problem;
use super::browser::Cookie;
use super::layout::{Page, shown};
use super::{Site, random};
use crate::pace::Pace;
use axum::extract::State;
use axum::http::header::{self, HeaderMap};
use axum::response::{IntoResponse, Redirect, Response};
use chrono::Utc;
use countersign_infra::domain::secret::Secret;
use countersign_infra::domain::ticket::{Purpose, SignIn, Ticket, browser_digest};
use countersign_infra::identity::oidc::TokenError;
use countersign_infra::identity::sign_in::{BrowserSignIn, Journey};
use countersign_infra::serve::Peer;
use maud::html;
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use url::{Url, form_urlencoded};

/// How long a browser may take at the issuer.
const LASTS: Duration = Duration::from_secs(600);
/// Sign-ins that this gateway lets begin within that time: anybody may begin one, and each is a ticket in the store.
const BEGUN_MAX: usize = 2000;
/// Of those, of one address: a load balancer before the gateway is one, and so is an office.
const BEGUN_OF_ONE_MAX: usize = 500;
/// Longest path to come back to, in bytes.
const RETURN_BYTES_MAX: usize = 1000;
/// Where people go who said nothing else.
const HOME: &str = "/approvals";

#[derive(Debug, Deserialize)]
pub struct Wanted {
    return_to: Option<String>,
    /// The address of the issuer to go to.
    issuer: Option<String>,
    /// The person has to prove anew who they are.
    #[serde(default)]
    anew: bool,
}

/// Bounds how many sign-ins begin at once.
pub fn pace() -> Pace {
    Pace::new(BEGUN_MAX, BEGUN_OF_ONE_MAX, LASTS)
}

/// Where a browser signs in that is to come back to a page.
pub fn way_in(return_to: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("return_to", return_to);
    format!("/sign-in?{}", query.finish())
}

/// The same for a person who has to prove anew who they are.
pub fn way_in_anew(return_to: &str) -> String {
    format!("{}&anew=true", way_in(return_to))
}

/// Sends the browser to the issuer, or lets the person choose one.
pub async fn sign_in(
    State(console): State<Arc<Console>>,
    Peer(peer): Peer,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let pages = &console.pages;
    let return_to = path_of_ours(&pages.site, wanted.return_to.as_deref());
    match (chosen(&pages.sign_ins, wanted.issuer.as_deref())?, pages.sign_ins.len()) {
        (Some(chosen), _) => {
            if !pages.sign_in_pace.allows(peer, Instant::now()) {
                return Err(Problem::unavailable(
                    "too many people sign in at once; try again in some minutes",
                ));
            }
            begin(&console, chosen, &headers, return_to, wanted.anew).await
        }
        (None, _) => Ok(choice(&pages.sign_ins, &return_to, wanted.anew).into_response()),
    }
}

fn chosen<'a>(sign_ins: &'a [BrowserSignIn], wanted: Option<&str>) -> Result<Option<&'a BrowserSignIn>, Problem> {
    match (sign_ins, wanted) {
        ([], _) => Err(Problem::not_found(
            "nobody can sign in by a browser here: no issuer of the configuration has a `client_id`. The command line \
             works: `countersign approvals list`",
        )),
        (_, Some(wanted)) => {
            let found = sign_ins.iter().find(|sign_in| sign_in.issuer().as_str() == wanted);
            let unknown = || Problem::bad_request("there is no such issuer: choose one that is offered");
            found.map(Some).ok_or_else(unknown)
        }
        ([only], None) => Ok(Some(only)),
        (_, None) => Ok(None),
    }
}

fn choice(sign_ins: &[BrowserSignIn], return_to: &str, anew: bool) -> Page {
    let way = |issuer: &Url| {
        let way = if anew {
            way_in_anew(return_to)
        } else {
            way_in(return_to)
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("issuer", issuer.as_str());
        format!("{way}&{}", query.finish())
    };
    let content = html! {
        h1 { "Sign in" }
        p { "Who knows you?" }
        div.buttons {
            @for sign_in in sign_ins {
                a.button href=(way(sign_in.issuer())) { (shown(sign_in.issuer().as_str())) }
            }
        }
    };
    Page::new("Sign in", None, content)
}

async fn begin(
    console: &Console,
    sign_in: &BrowserSignIn,
    headers: &HeaderMap,
    return_to: String,
    anew: bool,
) -> Result<Response, Problem> {
    let pages = &console.pages;
    let now = Utc::now();
    // One that is there is kept: pages that are opened at once are all on their way with it.
    let cookie = match Cookie::Browser.read(&pages.site, headers) {
        Some(cookie) => cookie,
        None => new_cookie()?,
    };
    let purpose = Purpose::SignIn(SignIn {
        issuer: sign_in.issuer().to_string(),
        return_to,
        browser: browser_digest(&cookie),
        anew,
    });
    let (state, ticket) = Ticket::new(random()?, purpose, now, LASTS);
    let journey = Journey {
        state,
        cookie,
        anew,
        begun: now,
    };
    let at = sign_in.start(&journey, now).await.map_err(not_signed_in)?;
    pages.tickets.create(&ticket).await?;
    let mut response = Redirect::to(at.as_str()).into_response();
    if let Some(set) = Cookie::Browser.set(&pages.site, &journey.cookie, LASTS) {
        response.headers_mut().append(header::SET_COOKIE, set);
    }
    Ok(response)
}

fn new_cookie() -> Result<Secret, Problem> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(random()?)))
}

/// Why a sign-in came to nothing.
pub fn not_signed_in(error: TokenError) -> Problem {
    match error {
        TokenError::Refused(why) => Problem::not_allowed(format!("you are not signed in: {why}")),
        TokenError::Unavailable { issuer, source } => {
            tracing::warn!(issuer, error = %source, "the identity provider is unavailable");
            Problem::unavailable(format!("the identity provider {issuer} does not answer; try again"))
        }
    }
}

/// A path of these pages to come back to: anything else would send people who have just signed in to a stranger.
fn path_of_ours(site: &Site, wanted: Option<&str>) -> String {
    let ours = |path: &&str| {
        let url = Url::parse(&site.origin).and_then(|here| here.join(path));
        let stays = url.is_ok_and(|url| url.origin().ascii_serialization() == site.origin);
        let is_path = path.starts_with('/') && !path.starts_with("//") && path.len() <= RETURN_BYTES_MAX;
        is_path && stays && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    let api = |path: &&str| path.starts_with("/api/") || path.starts_with("/sign-");
    let wanted = wanted.filter(ours).filter(|path| !api(path));
    wanted.unwrap_or(HOME).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_infra::identity::oidc::Issuer;
    use countersign_infra::identity::sign_in::WebClient;

    #[test]
    fn nobody_is_sent_to_a_stranger() {
        let site = Site::of(&"https://gateway.example:8443".parse().unwrap());
        let check =
            |wanted: &str, expected: &str| assert_eq!(path_of_ours(&site, Some(wanted)), expected, "{wanted:?}");
        check("/approvals/K7Q2M4XA?part=2", "/approvals/K7Q2M4XA?part=2");
        check("/link/abc_-", "/link/abc_-");
        for wrong in [
            "",
            "approvals",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example/",
            "https:/approvals",
            "/\t/evil.example",
            "/approvals\r\nSet-Cookie: a=b",
            "/approvals ü",
            "javascript:alert(1)",
            "/api/v1/whoami",
            "/sign-out",
            &format!("/{}", "x".repeat(RETURN_BYTES_MAX)),
        ] {
            check(wrong, HOME);
        }
        assert_eq!(path_of_ours(&site, None), HOME);
    }

    fn sign_in_at(url: &str) -> BrowserSignIn {
        let client = WebClient {
            id: "pages".to_owned(),
            secret: None,
            scopes: Vec::new(),
            redirect: "https://gateway.example/sign-in/callback".parse().unwrap(),
        };
        let issuer = Issuer::new(url.parse().unwrap(), vec!["countersign".to_owned()]);
        BrowserSignIn::new(issuer, client).unwrap()
    }

    #[test]
    fn of_several_issuers_the_person_chooses_one() {
        let both = ["http://127.0.0.1:1/a", "http://127.0.0.1:2/b"].map(sign_in_at);
        assert!(chosen(&both, None).unwrap().is_none());
        let second = chosen(&both, Some("http://127.0.0.1:2/b")).unwrap().unwrap();
        assert_eq!(second.issuer().as_str(), "http://127.0.0.1:2/b");
        assert_eq!(chosen(&both, Some("https://evil.example/")).err().unwrap().status, 400);
        assert!(chosen(&both[..1], None).unwrap().is_some());
        assert_eq!(chosen(&[], None).err().unwrap().status, 404);
        let page = choice(&both, "/approvals/K7Q2M4XA?part=2", true).content.into_string();
        for issuer in ["http%3A%2F%2F127.0.0.1%3A1%2Fa", "http%3A%2F%2F127.0.0.1%3A2%2Fb"] {
            let way = format!(
                "href=\"/sign-in?return_to=%2Fapprovals%2FK7Q2M4XA%3Fpart%3D2&amp;anew=true&amp;issuer={issuer}\""
            );
            assert!(page.contains(&way), "{way}: {page}");
        }
    }
}
