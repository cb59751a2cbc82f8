//! The API around an embedded store, an issuer and a policy of its own, without a socket.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use chrono::Utc;
use countersign_gateway::console::{ApiLimits, Console, ConsoleParts, PageParts, SignInEntry, TargetEntry, router};
use countersign_gateway::directory::Directory;
use countersign_gateway::sessions::SessionRegistry;
use countersign_infra::approvals::StoreClock;
use countersign_infra::approvals::embedded::EmbeddedStore;
use countersign_infra::approvals::{ApprovalStore, ApprovalStoreExt};
use countersign_infra::domain::access_request::{Client, Part, Place, Protocol};
use countersign_infra::domain::approval::{Approval, Clause, HeldOperation, Lease, NewApproval, Terms};
use countersign_infra::domain::audit::{Chain, Event, Happening};
use countersign_infra::domain::display::head;
use countersign_infra::domain::effect::{EffectKind, Effects};
use countersign_infra::domain::id::{ApprovalId, Digest, RunId, SessionId};
use countersign_infra::domain::identity::{Person, PersonKey, PersonKind};
use countersign_infra::domain::session::{SessionHeader, SessionNumber};
use countersign_infra::identity::oidc::{Issuer as Trusted, Verifier};
use countersign_infra::identity::sign_in::{BrowserSignIn, WebClient};
use countersign_infra::journal::{Journal, JournalQuery};
use countersign_infra::operations::disk::DiskOperations;
use countersign_infra::operations::keys::FileKeys;
use countersign_infra::operations::{OperationStore, WholeOperation};
use countersign_infra::policy::PolicyHandle;
use countersign_infra::recordings::RecordingStore;
use countersign_infra::recordings::disk::DiskRecordings;
use countersign_infra::recordings::key::SigningKey;
use countersign_tests::issuer::{Claims, Issuer};
use serde_json::Value;
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

pub const AUDIENCE: &str = "countersign";
/// Where the pages are.
pub const PAGES: &str = "https://gateway.example.com:8443";
/// As which the issuer knows the pages.
pub const PAGES_CLIENT: &str = "countersign-pages";

const POLICY: &str = r#"
@id("auditors-look")
permit (principal in Group::"auditors", action in [Action::"audit", Action::"watch"], resource);
@id("dbas-end-sessions")
permit (principal in Group::"dba", action == Action::"end_session", resource);
@id("fresh-only") @hold @approvers("dba") @quorum("1")
permit (principal in Group::"engineering", action == Action::"ddl", resource);
"#;

/// Everything that one test needs.
pub struct Room {
    pub router: Router,
    pub issuer: Issuer,
    pub store: EmbeddedStore,
    pub recordings: Arc<dyn RecordingStore>,
    pub operations: Arc<dyn OperationStore>,
    pub sessions: SessionRegistry,
    pub policy: PolicyHandle,
    pub directory: tempfile::TempDir,
    _stop: DropGuard,
}

/// One answer.
pub struct Answer {
    pub status: StatusCode,
    pub headers: axum::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn detail(&self) -> String {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["id"], self.headers["x-request-id"].to_str().unwrap());
        problem["detail"].as_str().unwrap().to_owned()
    }
}

impl Room {
    pub async fn new() -> Self {
        Self::with_limits(ApiLimits::default()).await
    }

    pub async fn with_limits(limits: ApiLimits) -> Self {
        // Fails only when another test was first.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let directory = tempfile::tempdir().unwrap();
        let issuer = Issuer::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let store = EmbeddedStore::open(directory.path().join("store.sqlite")).unwrap();
        let recordings: Arc<dyn RecordingStore> = Arc::new(DiskRecordings::under(directory.path()));
        let keys = FileKeys::load_or_create(&directory.path().join("keys/operations.key")).unwrap();
        let operations: Arc<dyn OperationStore> = Arc::new(DiskOperations::under(directory.path(), Arc::new(keys)));
        let policy_path = directory.path().join("policy.cedar");
        std::fs::write(&policy_path, POLICY).unwrap();
        let stop = CancellationToken::new();
        let policy = PolicyHandle::start(policy_path, stop.clone()).unwrap();
        let room = Self {
            router: Router::new(),
            issuer,
            store,
            recordings,
            operations,
            sessions: SessionRegistry::default(),
            policy,
            directory,
            _stop: stop.drop_guard(),
        };
        let router = room.gateway("g1", limits);
        Self { router, ..room }
    }

    /// The same room behind another gateway, which remembers nothing of what the first did.
    pub fn moved_to(self, gateway: &str) -> Self {
        let router = self.gateway(gateway, ApiLimits::default());
        Self { router, ..self }
    }

    fn gateway(&self, name: &str, limits: ApiLimits) -> Router {
        let trusted = Trusted::new(self.issuer.url(), vec![AUDIENCE.to_owned()]);
        let parts = ConsoleParts {
            gateway: name.to_owned(),
            approvals: Arc::new(self.store.clone()),
            journal: Arc::new(self.store.clone()),
            recordings: self.recordings.clone(),
            operations: self.operations.clone(),
            grants: Arc::new(self.store.clone()),
            recording_keys: SigningKey::generate().unwrap().public().clone().into(),
            verifier: Arc::new(Verifier::new(vec![trusted]).unwrap()),
            directory: Arc::new(Directory::new(None, TaskTracker::new())),
            policy: self.policy.clone(),
            sessions: self.sessions.clone(),
            targets: vec![TargetEntry {
                name: "orders".to_owned(),
                kind: "postgres".to_owned(),
                host: "gateway.example.com".to_owned(),
                port: 6432,
                database: "shop".to_owned(),
            }],
            sign_in: vec![SignInEntry {
                issuer: self.issuer.url(),
                client_id: "countersign-cli".to_owned(),
                scopes: vec!["groups".to_owned()],
                algorithms: vec!["RS256".to_owned()],
            }],
            limits,
            clock: Arc::new(StoreClock::new(Arc::new(self.store.clone()))),
            unsent: Arc::new(|| None),
            dead: Arc::new(|| {}),
            pages: PageParts {
                public_url: PAGES.parse().unwrap(),
                sign_ins: vec![self.sign_in()],
                tickets: Arc::new(self.store.clone()),
                chat_links: Arc::new(self.store.clone()),
                step_up_rules: ["fresh-only".to_owned()].into(),
            },
        };
        router(Console::start(parts, &TaskTracker::new()))
    }

    fn sign_in(&self) -> BrowserSignIn {
        let trusted = Trusted::new(self.issuer.url(), vec![AUDIENCE.to_owned()]);
        let client = WebClient {
            id: PAGES_CLIENT.to_owned(),
            secret: None,
            scopes: vec!["groups".to_owned()],
            redirect: format!("{PAGES}/sign-in/callback").parse().unwrap(),
        };
        BrowserSignIn::new(trusted, client).unwrap()
    }

    /// A token of alice (engineer), bob or dora (DBAs), oscar (auditor), or of anybody without groups.
    pub fn token(&self, name: &str) -> String {
        self.issuer.token(&Claims::person(name, AUDIENCE, groups(name)))
    }

    /// The person whom the token speaks for.
    pub fn person(&self, name: &str) -> Person {
        Person {
            key: PersonKey {
                issuer: self.issuer.name(),
                subject: name.to_owned(),
            },
            name: name.to_owned(),
            email: Some(format!("{name}@example.com")),
            groups: groups(name).iter().map(|group| (*group).to_owned()).collect(),
            kind: PersonKind::Human,
        }
    }

    pub async fn get(&self, name: &str, path: &str) -> Answer {
        let request = self.request(Method::GET, name, path);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, name: &str, path: &str, body: Value) -> Answer {
        let request = self.request(Method::POST, name, path);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub fn request(&self, method: Method, name: &str, path: &str) -> axum::http::request::Builder {
        let token = format!("Bearer {}", self.token(name));
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, token)
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.to_vec(),
        }
    }

    /// An approval that alice asked for and a DBA has to decide.
    pub async fn held(&self, number: [u8; 5]) -> Approval {
        self.held_with(number, "alice", |_| {}).await
    }

    pub async fn held_with(&self, number: [u8; 5], requester: &str, change: impl FnOnce(&mut NewApproval)) -> Approval {
        let mut new = new_approval(ApprovalId::from_random(number), self.person(requester));
        change(&mut new);
        let approval = Approval::open(new, Utc::now()).unwrap();
        self.store.open(&approval, &[]).await.unwrap();
        approval
    }

    /// An approval of an operation whose display text is longer than what its record keeps; the whole of it is kept.
    pub async fn held_long(&self, number: [u8; 5]) -> (Approval, WholeOperation) {
        let display = format!("UPDATE orders SET note = '{}' -- the end", "long ".repeat(8_000));
        let whole = WholeOperation {
            protocol: Protocol::Postgres,
            person: self.person("alice").key,
            place: new_approval(ApprovalId::from_random(number), self.person("alice")).place,
            parts: vec![Part {
                tag: "query".to_owned(),
                bytes: format!("{display} with a secret {number:?}").into(),
            }],
            display: display.into(),
        };
        self.operations.keep(whole.digest(), &whole).await.unwrap();
        let approval = self.held_with(number, "alice", |new| {
            new.operation.digest = whole.digest();
            new.operation.display = head(&whole.display).to_owned();
            new.operation.display_bytes = whole.display.len() as u64;
        });
        (approval.await, whole)
    }

    /// Journals an opened session of that person, and lists it as live until the guard is dropped.
    pub async fn session(&self, name: &str) -> (SessionHeader, CancellationToken, impl Sized) {
        let header = header(self.person(name));
        let (token, now) = (CancellationToken::new(), Utc::now());
        let mut chain = Chain::new(header.id, "g1", Some(&header.person), Some(header.target.clone()));
        let opened = chain.next(now, Happening::SessionOpened { header: header.clone() });
        let what = "SELECT set_config('x', '', true)".to_owned();
        let sent = chain.next(now, Happening::GatewaySent { what });
        self.store.append(&[opened, sent]).await.unwrap();
        let guard = self.sessions.register(&header, token.clone());
        (header, token, guard)
    }

    /// What the API journaled itself, oldest first.
    pub async fn noted(&self, event: &str) -> Vec<Event> {
        let query = JournalQuery {
            events: vec![event.to_owned()],
            ..JournalQuery::default()
        };
        let mut events = self.store.search(&query).await.unwrap().events;
        events.reverse();
        events
    }

    pub async fn stored(&self, id: &ApprovalId) -> Approval {
        self.store.read(id).await.unwrap()
    }
}

fn groups(name: &str) -> &'static [&'static str] {
    match name {
        "alice" => &["engineering"],
        "bob" | "dora" => &["dba"],
        "oscar" => &["auditors"],
        _ => &[],
    }
}

fn header(person: Person) -> SessionHeader {
    SessionHeader {
        id: SessionId(uuid::Uuid::now_v7()),
        gateway: "g1".to_owned(),
        number: SessionNumber {
            run: RunId(uuid::Uuid::now_v7()),
            number: 0,
        },
        protocol: Protocol::Postgres,
        person,
        client: client(),
        target: "orders".to_owned(),
        database: "shop".to_owned(),
        role: "app".to_owned(),
        opened: Utc::now(),
    }
}

fn client() -> Client {
    Client {
        address: "127.0.0.1:50000".to_owned(),
        application: "psql".to_owned(),
    }
}

fn new_approval(id: ApprovalId, requester: Person) -> NewApproval {
    let mut effects = Effects::default();
    effects.add_object(EffectKind::Write, "orders");
    let now = Utc::now();
    NewApproval {
        id,
        requester,
        client: client(),
        session: SessionId(uuid::Uuid::now_v7()),
        place: Place {
            target: "orders".to_owned(),
            database: "shop".to_owned(),
            role: "app".to_owned(),
            search_path: "public".to_owned(),
        },
        operation: HeldOperation {
            protocol: Protocol::Postgres,
            digest: Digest::of(b"DELETE FROM orders WHERE id = 7"),
            display: "DELETE FROM orders WHERE id = 7".to_owned(),
            display_bytes: 31,
            size_bytes: 31,
            effects,
            has_where: true,
            unseen_data: false,
            in_transaction: false,
        },
        terms: Terms {
            clauses: vec![Clause {
                rule: "writes-need-a-dba".to_owned(),
                approvers: vec!["dba".to_owned()],
                quorum: 1,
            }],
            expires_seconds: 600,
            grant_seconds: None,
            critical: false,
            reasons: vec!["Writes to orders need a DBA.".to_owned()],
        },
        lease: Lease {
            gateway: "g1".to_owned(),
            epoch: 1,
            until: now + chrono::TimeDelta::seconds(30),
        },
    }
}
