//! What a browser brings: cookies, and from which page a form was sent.

use super::super::problem::Problem;
use super::{Site, secret_header};
use axum::http::HeaderMap;
use axum::http::header::{COOKIE, HeaderName, HeaderValue, ORIGIN};
use countersign_infra::domain::secret::Secret;
use std::time::Duration;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A cookie of these pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// Names the browser while it is on its way to the issuer and back.
    Browser,
    /// Names the session of who is signed in.
    Session,
}

impl Cookie {
    /// With the prefix browsers let no other host, path or plain connection set it (RFC 6265bis, section 4.1.3.2).
    fn name(self, site: &Site) -> String {
        let prefix = if site.is_secure { "__Host-" } else { "" };
        let name = match self {
            Self::Browser => "countersign-browser",
            Self::Session => "countersign-session",
        };
        format!("{prefix}{name}")
    }

    /// Its value, if the browser sent exactly one that could be ours.
    pub fn read(self, site: &Site, headers: &HeaderMap) -> Option<Secret> {
        let wanted = self.name(site);
        let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = texts
            .flat_map(|text| text.split(';'))
            .filter_map(|pair| pair.split_once('='));
        let mut values = pairs
            .filter(|(name, _)| name.trim() == wanted)
            .map(|(_, value)| value.trim());
        match (values.next(), values.next()) {
            (Some(value), None) if is_ours(value) => Some(Secret::new(value.to_owned())),
            _ => None,
        }
    }

    pub fn set(self, site: &Site, value: &Secret, lasts: Duration) -> Option<HeaderValue> {
        secret_header(&self.header(site, value.reveal(), lasts))
    }

    pub fn clear(self, site: &Site) -> Option<HeaderValue> {
        secret_header(&self.header(site, "", Duration::ZERO))
    }

    /// Lax: links from chats lead to pages, and forms of other sites do not.
    fn header(self, site: &Site, value: &str, lasts: Duration) -> Secret {
        let secure = if site.is_secure { "; Secure" } else { "" };
        Secret::new(format!(
            "{}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}",
            self.name(site),
            lasts.as_secs()
        ))
    }
}

/// 256 bits in base64url.
fn is_ours(value: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    value.len() == 43 && value.bytes().all(fits)
}

/// Refuses a form that was not sent from one of these pages. With `Referrer-Policy: no-referrer` browsers say `null` for
/// the origin of a form, and where it is from in `Sec-Fetch-Site`; those that are older say only the origin.
pub fn must_be_from_here(site: &Site, headers: &HeaderMap) -> Result<(), Problem> {
    let one = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => Ok(value.to_str().ok()),
            (Some(_), Some(_)) => Err(elsewhere()),
        }
    };
    let is_here = |origin: &str| origin == site.origin;
    match (one(SEC_FETCH_SITE)?, one(ORIGIN)?) {
        (Some("same-origin"), None | Some("null")) => Ok(()),
        (Some("same-origin") | None, Some(origin)) if is_here(origin) => Ok(()),
        _ => Err(elsewhere()),
    }
}

fn elsewhere() -> Problem {
    Problem::not_allowed("this form was not sent from a page of this gateway: open the page here and try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(url: &str) -> Site {
        Site::of(&url.parse().unwrap())
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_cookie_is_for_this_site_alone() {
        let value = Secret::new("v".repeat(43));
        let set = |url: &str| {
            let header = Cookie::Session
                .set(&site(url), &value, Duration::from_secs(60))
                .unwrap();
            header.to_str().unwrap().to_owned()
        };
        let rest = format!("{}; Path=/; Max-Age=60; HttpOnly; SameSite=Lax", value.reveal());
        assert_eq!(
            set("https://gateway.example:8443"),
            format!("__Host-countersign-session={rest}; Secure")
        );
        assert_eq!(set("http://127.0.0.1:6580"), format!("countersign-session={rest}"));
    }

    #[test]
    fn a_cookie_that_is_there_twice_or_could_not_be_ours_is_none() {
        let (site, value) = (site("http://127.0.0.1"), "v".repeat(43));
        let check = |cookies: &[&str], found: bool| {
            let pairs: Vec<_> = cookies.iter().map(|cookie| ("cookie", *cookie)).collect();
            let read = Cookie::Session.read(&site, &headers(&pairs));
            assert_eq!(read.is_some(), found, "{cookies:?}");
        };
        let own = format!("countersign-session={value}");
        check(&[&own], true);
        check(&[&format!("a=b; {own}; c")], true);
        check(&["a=b", &own], true);
        check(&[&own, &own], false);
        check(&[&format!("{own}; {own}")], false);
        check(&["countersign-session=short"], false);
        check(&[&format!("countersign-session={}", "=".repeat(43))], false);
        check(&[&format!("__Host-{own}")], false);
        check(&[], false);
    }

    #[test]
    fn a_form_of_another_site_is_refused() {
        let site = site("https://gateway.example:8443/");
        let here = "https://gateway.example:8443";
        for (pairs, good) in [
            (&[("sec-fetch-site", "same-origin"), ("origin", "null")][..], true),
            (&[("sec-fetch-site", "same-origin"), ("origin", here)], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("origin", here)], true),
            (&[], false),
            (&[("origin", "null")], false),
            (&[("origin", "https://gateway.example")], false),
            (&[("origin", "https://evil.example")], false),
            (
                &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")],
                false,
            ),
            (&[("sec-fetch-site", "same-site"), ("origin", here)], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "null")], false),
            (&[("sec-fetch-site", "none"), ("origin", here)], false),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none")], false),
            (&[("origin", here), ("origin", here)], false),
        ] {
            assert_eq!(must_be_from_here(&site, &headers(pairs)).is_ok(), good, "{pairs:?}");
        }
    }
}
