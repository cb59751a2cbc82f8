//! As much of a browser as the pages need: cookies, forms, and the way to the issuer and back.

use crate::api::room::{Answer, PAGES_CLIENT, Room};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use countersign_tests::issuer::Claims;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use url::{Url, form_urlencoded};

static CODES: AtomicU64 = AtomicU64::new(0);

/// A browser in a room.
#[derive(Clone)]
pub struct Browser<'r> {
    room: &'r Room,
    pub cookies: BTreeMap<String, String>,
    /// Of the last page that had a form.
    pub csrf: String,
}

/// A browser that is at the issuer.
pub struct Journey {
    pub query: BTreeMap<String, String>,
}

impl Journey {
    fn field(&self, name: &str) -> &str {
        self.query.get(name).map(String::as_str).unwrap_or_default()
    }

    /// What the ID token of this journey says.
    pub fn payload(&self, room: &Room, name: &str) -> Map<String, Value> {
        let groups: Vec<String> = room.person(name).groups.into_iter().collect();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let mut payload = Claims::person(name, PAGES_CLIENT, &groups).payload(&room.issuer.name());
        payload.insert("nonce".to_owned(), json!(self.field("nonce")));
        payload.insert("auth_time".to_owned(), json!(chrono::Utc::now().timestamp()));
        payload
    }

    /// The issuer's way back, with a code that is good for this payload.
    pub fn back(&self, room: &Room, payload: Map<String, Value>) -> String {
        let code = format!("code-{}", CODES.fetch_add(1, Ordering::Relaxed));
        room.issuer.give_code(&code, self.field("code_challenge"), payload);
        format!("/sign-in/callback?code={code}&state={}", self.field("state"))
    }
}

impl<'r> Browser<'r> {
    pub fn of(room: &'r Room) -> Self {
        Self {
            room,
            cookies: BTreeMap::new(),
            csrf: String::new(),
        }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let request = Request::builder()
            .uri(path)
            .header(header::ACCEPT, "text/html,*/*;q=0.8");
        self.send(request, Body::empty()).await
    }

    /// As `curl` asks.
    pub async fn as_program(&mut self, path: &str) -> Answer {
        let request = Request::builder().uri(path).header(header::ACCEPT, "*/*");
        self.send(request, Body::empty()).await
    }

    /// Sends a form of the last page.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf.clone();
        let here = [("origin", "null"), ("sec-fetch-site", "same-origin")];
        self.post_with(path, &csrf, fields, &here).await
    }

    pub async fn post_with(
        &mut self,
        path: &str,
        csrf: &str,
        fields: &[(&str, &str)],
        headers: &[(&'static str, &str)],
    ) -> Answer {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields).append_pair("csrf", csrf);
        let body = Body::from(form.finish());
        let mut request = Request::builder()
            .method("POST")
            .uri(path)
            .header(header::ACCEPT, "text/html,*/*;q=0.8")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request, body).await
    }

    /// Goes to the issuer.
    pub async fn leave(&mut self, path: &str) -> Journey {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
        let at: Url = answer.headers[header::LOCATION].to_str().unwrap().parse().unwrap();
        assert_eq!(at.origin(), self.room.issuer.url().origin());
        let query = at.query_pairs().into_owned().collect();
        Journey { query }
    }

    /// Signs in, and goes on to where the page leads.
    pub async fn sign_in(&mut self, name: &str) -> Answer {
        self.sign_in_at("/sign-in", name).await
    }

    pub async fn sign_in_at(&mut self, path: &str, name: &str) -> Answer {
        let journey = self.leave(path).await;
        let back = journey.back(self.room, journey.payload(self.room, name));
        let answer = self.get(&back).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
        answer
    }

    async fn send(&mut self, request: axum::http::request::Builder, body: Body) -> Answer {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = request.header(header::COOKIE, cookies.join("; "));
        let answer = self.room.send(request.body(body).unwrap()).await;
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            let value = rest.split(';').next().unwrap_or_default();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let page = answer.text();
        if let Some((_, rest)) = page.split_once("name=\"csrf\" value=\"") {
            self.csrf = rest.split('"').next().unwrap_or_default().to_owned();
        }
        answer
    }
}
