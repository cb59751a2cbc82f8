//! What every page has around its content: head, style, who is signed in; and the headers that bound what a browser
//! does with it.

use super::super::problem::Problem;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_infra::domain::display::escape;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");

/// One page. Rendered when it is answered, under a nonce of its own.
pub struct Page {
    pub title: String,
    pub who: Option<Who>,
    pub content: Markup,
    /// Loads itself again after so many seconds: for what goes on without the reader.
    pub refresh_seconds: Option<u32>,
    pub status: StatusCode,
    pub cookies: Vec<HeaderValue>,
}

/// Who is signed in, as the head of each page says, with what a form of theirs carries.
pub struct Who {
    pub name: String,
    pub csrf: String,
}

impl Who {
    /// What makes a form one of this session's.
    pub fn field(&self) -> Markup {
        html! { input type="hidden" name="csrf" value=(self.csrf); }
    }
}

impl Page {
    pub fn new(title: impl Into<String>, who: Option<Who>, content: Markup) -> Self {
        Self {
            title: title.into(),
            who,
            content,
            refresh_seconds: None,
            status: StatusCode::OK,
            cookies: Vec::new(),
        }
    }

    fn markup(&self, nonce: &str) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="robots" content="noindex";
                    @if let Some(seconds) = self.refresh_seconds {
                        meta http-equiv="refresh" content=(seconds);
                    }
                    title { (self.title) " · Countersign" }
                    style nonce=(nonce) { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        a.home href="/approvals" { "Countersign" }
                        @if let Some(who) = &self.who {
                            form.who method="post" action="/sign-out" {
                                (who.field())
                                span { (shown(&who.name)) }
                                button.quiet type="submit" { "Sign out" }
                            }
                        }
                    }
                    main { (self.content) }
                }
            }
        }
    }
}

/// A text of others in one line: whatever would not be seen, or would rearrange what is, shows as an escape.
pub fn shown(text: &str) -> String {
    escape(text).replace(['\n', '\t'], " ")
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let random = match super::random() {
            Ok(random) => random,
            Err(problem) => return problem.into_response(),
        };
        let nonce = URL_SAFE_NO_PAD.encode(random);
        let policy = format!(
            "default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        );
        let mut response = (self.status, self.markup(&nonce).into_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        );
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        for cookie in self.cookies {
            headers.append(header::SET_COOKIE, cookie);
        }
        response
    }
}

/// A problem as a page, in the words that a program would get.
pub fn error_page(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content = html! {
        h1 { (shown(&problem.title)) }
        p.problem role="alert" { (shown(&sentence(&problem.detail))) }
        @if let Some(view) = &problem.approval {
            p { a.button href={ "/approvals/" (view.approval.id) } { "Look at " (view.approval.id) } }
        }
        p { a href="/approvals" { "What waits for a decision" } }
        @if !problem.id.is_empty() {
            p.small { "Request " code { (problem.id) } ": the gateway's log knows more under this number." }
        }
    };
    let page = Page {
        status,
        ..Page::new(problem.title.clone(), None, content)
    };
    page.into_response()
}

/// With a capital letter and a full stop, as sentences have on pages.
pub fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let Some(first) = letters.next() else {
        return String::new();
    };
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), letters.as_str())
}
