//! Who is at the browser: the session behind its cookie, and forms that only its own pages can have sent.

use super::super::Console;
use super::super::caller::Caller;
use super::super::guard::AskedBy;
use super::super::problem::Problem;
use super::browser::{Cookie, must_be_from_here};
use super::layout::Who;
use super::sign_in::way_in;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_infra::domain::Timestamp;
use countersign_infra::domain::id::DigestBuilder;
use countersign_infra::domain::identity::SignedIn;
use countersign_infra::domain::secret::Secret;
use countersign_infra::domain::ticket::{PageSession, Purpose, Ticket, TicketId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Why a page was not shown.
pub enum NotShown {
    /// Nobody is signed in: the browser goes and does it, and comes back.
    SignIn {
        at: String,
    },
    Problem(Box<Problem>),
}

impl From<Problem> for NotShown {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl IntoResponse for NotShown {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn { at } => Redirect::to(&at).into_response(),
            Self::Problem(problem) => problem.into_response(),
        }
    }
}

/// A person at a browser. Good for pages that change nothing: forms come as [`Sent`].
pub struct Visitor {
    pub caller: Caller,
    pub session: PageSession,
    pub ticket: Ticket,
    cookie: Secret,
}

impl Visitor {
    /// Who the browser's cookie says it is; none when there is no such session, or no more.
    async fn of(console: &Console, headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(cookie) = Cookie::Session.read(&console.pages.site, headers) else {
            return Ok(None);
        };
        let Some(ticket) = console.pages.tickets.read(TicketId::of(&cookie)).await? else {
            return Ok(None);
        };
        let Purpose::PageSession(session) = ticket.purpose.clone() else {
            return Ok(None);
        };
        Ok(Some(Self {
            caller: Caller(session.person.clone()),
            session,
            ticket,
            cookie,
        }))
    }

    pub fn who(&self) -> Who {
        Who {
            name: self.caller.0.name.clone(),
            csrf: self.csrf(),
        }
    }

    /// Who is signed in, and for how long.
    pub fn signed_in(&self) -> SignedIn {
        SignedIn {
            person: self.caller.0.clone(),
            expires: self.ticket.expires,
            issued: None,
        }
    }

    /// When the person last proved who they are.
    pub fn authenticated(&self) -> Option<Timestamp> {
        self.session.authenticated
    }

    pub fn cookie(&self) -> &Secret {
        &self.cookie
    }

    /// What the forms of this session carry. Derived from its cookie, which no other site can read.
    fn csrf(&self) -> String {
        let mut digest = DigestBuilder::default();
        digest
            .part("countersign", b"csrf/1")
            .part("cookie", self.cookie.reveal().as_bytes());
        URL_SAFE_NO_PAD.encode(digest.finish().0)
    }
}

impl FromRequestParts<Arc<Console>> for Visitor {
    type Rejection = NotShown;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, NotShown> {
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return Err(Problem::method_not_allowed().into());
        }
        let Some(visitor) = Self::of(console, &parts.headers).await? else {
            let here = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            let at = way_in(here);
            return Err(NotShown::SignIn { at });
        };
        known(parts, &visitor);
        Ok(visitor)
    }
}

/// A form that a page of this session sent.
pub struct Sent<T> {
    pub visitor: Visitor,
    pub fields: T,
}

#[derive(Deserialize)]
struct Posted<T> {
    #[serde(default)]
    csrf: String,
    #[serde(flatten)]
    fields: T,
}

impl<T: DeserializeOwned> FromRequest<Arc<Console>> for Sent<T> {
    type Rejection = NotShown;

    async fn from_request(request: Request, console: &Arc<Console>) -> Result<Self, NotShown> {
        let (parts, body) = request.into_parts();
        must_be_from_here(&console.pages.site, &parts.headers)?;
        let Some(visitor) = Visitor::of(console, &parts.headers).await? else {
            let why = "you are not signed in any more: open the page again, sign in, and repeat it";
            return Err(Problem::not_signed_in(why).into());
        };
        known(&parts, &visitor);
        let request = Request::from_parts(parts, body);
        let posted = match axum::Form::<Posted<T>>::from_request(request, console).await {
            Ok(axum::Form(posted)) => posted,
            Err(rejection) => return Err(Problem::unreadable(rejection.status(), rejection.body_text()).into()),
        };
        if verify_slices_are_equal(posted.csrf.as_bytes(), visitor.csrf().as_bytes()).is_err() {
            let why = "this form is not of your session: open the page again and repeat it";
            return Err(Problem::not_allowed(why).into());
        }
        let fields = posted.fields;
        Ok(Self { visitor, fields })
    }
}

fn known(parts: &Parts, visitor: &Visitor) {
    if let Some(asked_by) = parts.extensions.get::<AskedBy>() {
        asked_by.set(visitor.caller.0.name.clone());
    }
}
