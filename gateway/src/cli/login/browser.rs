//! Signs in with the browser of this machine, whose answer comes to a port of the loopback interface (RFC 8252,
//! section 7.3).

use crate::cli::client::ClientError;
use crate::cli::signed_in::{AskedCode, IssuerClient, SignIn};
use crate::cli::terminal::tell;
use crate::console::{ServeLimits, serve};
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use countersign_infra::domain::display::escape;
use openidconnect::RedirectUrl;
use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use url::Url;

/// How long a person may take to sign in.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);
/// An opener that runs longer is the browser itself.
const OPENER_TIME_MAX: Duration = Duration::from_secs(3);
const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

/// Whether this process runs where a browser can show itself.
pub fn can_be_opened() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(target_os = "macos") || set("DISPLAY") || set("WAYLAND_DISPLAY")
}

pub async fn sign_in(issuer: &IssuerClient) -> Result<SignIn, ClientError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let port = listener.and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
    let failed = |error| {
        ClientError::Usage(format!(
            "no port of 127.0.0.1 can be listened on: {error}; use --device"
        ))
    };
    let (port, listener) = port.map_err(failed)?;
    let redirect = RedirectUrl::new(format!("http://127.0.0.1:{port}/callback"));
    let redirect = redirect.map_err(|error| ClientError::Usage(error.to_string()))?;
    let asked = issuer.ask_code(redirect);
    tell(&format!("Sign in at\n\n  {}\n", asked.link));
    if can_be_opened() && !open(&asked.link).await {
        tell("The browser could not be opened: open the link yourself, on this machine.");
    }
    tell("Waiting for the browser ...");
    match answer(listener, Expected::of(&asked)).await? {
        Answer::Code(code) => issuer.redeem(code, asked).await,
        Answer::Refused(why) => Err(ClientError::NotSignedIn(format!(
            "{} says no: {}",
            issuer.url(),
            escape(&why)
        ))),
    }
}

async fn open(link: &Url) -> bool {
    let child = tokio::process::Command::new(OsStr::new(OPENER))
        .arg(link.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        return false;
    };
    match tokio::time::timeout(OPENER_TIME_MAX, child.wait()).await {
        Ok(ended) => ended.is_ok_and(|status| status.success()),
        Err(_) => true,
    }
}

/// What the issuer answered through the browser.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Code(String),
    Refused(String),
}

/// What an answer must name to be that of this sign-in.
struct Expected {
    state: String,
    issuer: String,
    names_issuer: bool,
}

impl Expected {
    fn of(asked: &AskedCode) -> Self {
        Self {
            state: asked.state.secret().clone(),
            issuer: asked.issuer.clone(),
            names_issuer: asked.names_issuer,
        }
    }

    /// Reads an answer. What does not name the state comes from somebody else, and is none.
    fn read(&self, query: &str) -> Option<Answer> {
        let all = |wanted: &str| -> Vec<String> {
            let pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs
                .filter(|(name, _)| name == wanted)
                .map(|(_, value)| value.into_owned())
                .collect()
        };
        let [state] = <[String; 1]>::try_from(all("state")).ok()?;
        aws_lc_rs::constant_time::verify_slices_are_equal(state.as_bytes(), self.state.as_bytes()).ok()?;
        let refused = |why: String| Some(Answer::Refused(why));
        match all("iss").as_slice() {
            [] if !self.names_issuer => {}
            [issuer] if *issuer == self.issuer => {}
            [] => return refused("its answer does not name its issuer".to_owned()),
            others => return refused(format!("the answer is that of {}", others.join(" and "))),
        }
        match (all("code").as_slice(), all("error").as_slice()) {
            ([code], []) if !code.is_empty() => Some(Answer::Code(code.clone())),
            ([], [error]) => refused([vec![error.clone()], all("error_description")].concat().join(": ")),
            _ => refused("its answer holds neither one code nor one error".to_owned()),
        }
    }
}

/// One use: whoever takes the sender out gives the answer.
struct Desk {
    expected: Expected,
    answer: Mutex<Option<oneshot::Sender<Answer>>>,
}

async fn answer(listener: TcpListener, expected: Expected) -> Result<Answer, ClientError> {
    let (sender, receiver) = oneshot::channel();
    let desk = Arc::new(Desk {
        expected,
        answer: Mutex::new(Some(sender)),
    });
    let limits = ServeLimits {
        connections_max: 16,
        drain_max: Duration::from_secs(2),
        ..ServeLimits::default()
    };
    let stop = CancellationToken::new();
    let router = Router::new().route("/callback", get(callback)).with_state(desk);
    let serving = tokio::spawn(serve(listener, None, router, limits, stop.clone()));
    let answer = tokio::time::timeout(ANSWER_TIME_MAX, receiver).await;
    // The page is sent to its end.
    stop.cancel();
    drop(serving.await);
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(ClientError::NotSignedIn(format!(
            "nobody signed in within {} min: run `countersign login` again",
            ANSWER_TIME_MAX.as_secs() / 60
        ))),
    }
}

async fn callback(State(desk): State<Arc<Desk>>, RawQuery(query): RawQuery) -> Response {
    let Some(answer) = desk.expected.read(&query.unwrap_or_default()) else {
        return page(
            StatusCode::BAD_REQUEST,
            "This is not the answer to the sign-in that is waited for.",
        );
    };
    let sender = desk.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
    let words = match &answer {
        Answer::Code(_) => "The terminal goes on from here: you can close this page.",
        Answer::Refused(_) => "You are not signed in. The terminal says why: you can close this page.",
    };
    match sender.map(|sender| sender.send(answer)) {
        Some(Ok(())) => page(StatusCode::OK, words),
        Some(Err(_)) | None => page(StatusCode::CONFLICT, "This sign-in has its answer already."),
    }
}

fn page(status: StatusCode, words: &str) -> Response {
    let text = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Countersign</title>\
         <h1>Countersign</h1><p>{words}</p></html>"
    );
    let headers = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, Html(text)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names_issuer: bool, query: &str, wanted: Option<Answer>) {
        let expected = Expected {
            state: "s&t".to_owned(),
            issuer: "https://login.example.com".to_owned(),
            names_issuer,
        };
        assert_eq!(expected.read(query), wanted, "{query}");
    }

    #[test]
    fn only_an_answer_with_the_state_counts() {
        for query in [
            "",
            "code=c",
            "code=c&state=",
            "code=c&state=S%26t",
            "code=c&state=s%26t&state=x",
            "state=s&t&code=c",
        ] {
            check(false, query, None);
        }
        check(false, "code=c&state=s%26t", Some(Answer::Code("c".to_owned())));
    }

    #[test]
    fn an_answer_of_another_issuer_ends_the_sign_in() {
        let good = "code=c&state=s%26t&iss=https%3A%2F%2Flogin.example.com";
        check(true, good, Some(Answer::Code("c".to_owned())));
        check(false, good, Some(Answer::Code("c".to_owned())));
        let refused = |why: &str| Some(Answer::Refused(why.to_owned()));
        check(
            true,
            "code=c&state=s%26t",
            refused("its answer does not name its issuer"),
        );
        for names_issuer in [true, false] {
            check(
                names_issuer,
                "code=c&state=s%26t&iss=https://x",
                refused("the answer is that of https://x"),
            );
            check(
                names_issuer,
                &format!("{good}&iss=y"),
                refused("the answer is that of https://login.example.com and y"),
            );
        }
    }

    #[test]
    fn a_refusal_is_told_and_an_ambiguous_answer_is_one() {
        let refused = |why: &str| Some(Answer::Refused(why.to_owned()));
        check(false, "error=access_denied&state=s%26t", refused("access_denied"));
        let told = "error=access_denied&error_description=not+today&state=s%26t";
        check(false, told, refused("access_denied: not today"));
        let neither = "its answer holds neither one code nor one error";
        for query in [
            "state=s%26t",
            "state=s%26t&code=",
            "state=s%26t&code=a&code=b",
            "state=s%26t&code=a&error=b",
        ] {
            check(false, query, refused(neither));
        }
    }

    #[tokio::test]
    async fn a_strangers_request_does_not_end_the_wait_and_the_answer_counts_once() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let expected = Expected {
            state: "right".to_owned(),
            issuer: String::new(),
            names_issuer: false,
        };
        let waiting = tokio::spawn(answer(listener, expected));
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let browser = reqwest::Client::new();
        for (path, status) in [
            ("/callback?code=c&state=wrong", 400),
            ("/callback", 400),
            ("/", 404),
            ("/callback?code=c&state=right", 200),
        ] {
            assert!(!waiting.is_finished(), "{path}");
            let said = browser.get(format!("{url}{path}")).send().await.unwrap();
            assert_eq!(said.status().as_u16(), status, "{path}");
            if status != 404 {
                assert_eq!(said.headers()[header::CACHE_CONTROL], "no-store");
                assert!(said.text().await.unwrap().contains("Countersign"), "{path}");
            }
        }
        assert_eq!(waiting.await.unwrap().unwrap(), Answer::Code("c".to_owned()));
        assert!(browser.get(&url).send().await.is_err(), "it still listens");
    }
}
