//! The HTTP API: list, show, vote, audit, sessions, health. One file per action. And the pages, for browsers.
//!
//! Every action but health, the description and where to sign in needs a bearer token of one of the issuers; a page needs
//! a session, which begins with a sign-in. What a caller may not see does not exist for them (404).

mod caller;
mod describe;
mod end_session;
mod guard;
mod health;
mod link_recording;
mod list_approvals;
mod list_recordings;
mod list_sessions;
mod list_targets;
mod moment;
mod pages;
mod problem;
mod read_digests;
mod read_operation;
mod read_recording;
mod read_session;
mod readings;
mod revoke_grant;
mod search_audit;
mod search_operations;

mod show_approval;
mod show_self;
mod show_sign_in;
mod texts;
mod view;
mod vote;
mod withdraw;
pub mod words;

pub use caller::Caller;
pub use countersign_infra::serve::{ServeLimits, serve};
pub use link_recording::{LinkList, LinkView};
pub use list_approvals::ApprovalPage;
pub use list_sessions::{SessionList, SessionView};
pub use list_targets::TargetList;
pub use moment::moment;
pub use pages::PageParts;
pub use problem::Problem;
pub use read_digests::DigestList;
pub use read_operation::{PartView, WholeView};
pub use read_recording::RecordingFacts;
pub use read_session::EventList;
pub use revoke_grant::{GrantView, RevokeBody};
pub use show_self::SelfView;
pub use show_sign_in::{SignInEntry, SignInList};
pub use view::{ApprovalView, ClauseStanding};
pub use vote::{ChoiceWord, ViaWord, VoteBody};
pub use withdraw::WithdrawBody;

use crate::catalog::Listed;
use crate::directory::Directory;
use crate::sessions::SessionRegistry;
use axum::extract::DefaultBodyLimit;
use chrono::Utc;
use countersign_infra::approvals::{ApprovalStore, StoreClock};
use countersign_infra::domain::approval::Approval;
use countersign_infra::domain::identity::Person;
use countersign_infra::grants::GrantStore;
use countersign_infra::identity::oidc::Verifier;
use countersign_infra::journal::{Journal, SharedJournal};
use countersign_infra::operations::OperationStore;
use countersign_infra::policy::{GatewayAction, PolicyHandle};
use countersign_infra::recordings::RecordingStore;
use countersign_infra::recordings::key::Keyring;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// One target as people may know it, and where the gateway listens for its clients.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct TargetEntry {
    pub name: String,
    /// `postgres`.
    pub kind: String,
    /// Where clients connect: this gateway, not the target.
    pub host: String,
    pub port: u16,
    /// The database when the client names none.
    pub database: String,
}

/// Bounds of the API.
#[derive(Clone, Debug)]
pub struct ApiLimits {
    /// Longest request body in bytes.
    pub body_bytes_max: usize,
    /// Longest time that one request may take.
    pub request_time_max: Duration,
    /// Requests in progress at once; more are answered 503.
    pub requests_max: usize,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 << 10,
            request_time_max: Duration::from_secs(10),
            requests_max: 256,
        }
    }
}

/// What the API is made of.
pub struct ConsoleParts {
    pub gateway: String,
    pub approvals: Arc<dyn ApprovalStore>,
    pub journal: Arc<dyn Journal>,
    pub recordings: Arc<dyn RecordingStore>,
    pub operations: Arc<dyn OperationStore>,
    pub grants: Arc<dyn GrantStore>,
    /// With which recordings are checked: this gateway's own key first, then those of others that it was given.
    pub recording_keys: Keyring,
    pub verifier: Arc<Verifier>,
    /// Told of who signs in.
    pub directory: Arc<Directory>,
    pub policy: PolicyHandle,
    pub sessions: SessionRegistry,
    pub targets: Vec<TargetEntry>,
    /// Where the command line signs people in.
    pub sign_in: Vec<SignInEntry>,
    pub limits: ApiLimits,
    pub clock: Arc<StoreClock>,
    /// Says since when, and why, nothing could be sent to the recording store; none while all is well.
    pub unsent: Unsent,
    /// Told when an approval is seen whose holder has let its lease end.
    pub dead: DeadHolders,
    pub pages: PageParts,
}

/// Asks whoever sends recordings to their store.
pub type Unsent = Arc<dyn Fn() -> Option<Duration> + Send + Sync>;

/// Tells whoever looks for dead holders that there is one.
pub type DeadHolders = Arc<dyn Fn() + Send + Sync>;

/// The API's state, shared by all requests.
pub struct Console {
    gateway: String,
    approvals: Arc<dyn ApprovalStore>,
    recordings: Arc<dyn RecordingStore>,
    operations: Arc<dyn OperationStore>,
    grants: Arc<dyn GrantStore>,
    readings: readings::Readings,
    listed: Listed,
    recording_keys: Keyring,
    reader: Arc<dyn Journal>,
    journal: SharedJournal,
    verifier: Arc<Verifier>,
    directory: Arc<Directory>,
    policy: PolicyHandle,
    sessions: SessionRegistry,
    targets: Vec<TargetEntry>,
    sign_in: Vec<SignInEntry>,
    limits: ApiLimits,
    requests: tokio::sync::Semaphore,
    readiness: health::Readiness,
    clock: Arc<StoreClock>,
    unsent: Unsent,
    dead: DeadHolders,
    pages: pages::Pages,
    tasks: TaskTracker,
}

impl Console {
    /// Makes the API's state and starts its journal writer on `tasks`. The writer ends when the state is dropped.
    pub fn start(parts: ConsoleParts, tasks: &TaskTracker) -> Arc<Self> {
        let journal = SharedJournal::start(
            parts.journal.clone(),
            parts.approvals.clone(),
            parts.gateway.clone(),
            tasks,
        );
        Arc::new(Self {
            gateway: parts.gateway,
            clock: parts.clock,
            unsent: parts.unsent,
            dead: parts.dead,
            pages: pages::Pages::new(parts.pages),
            approvals: parts.approvals,
            recordings: parts.recordings,
            operations: parts.operations,
            grants: parts.grants,
            readings: readings::Readings::default(),
            listed: Listed::default(),
            recording_keys: parts.recording_keys,
            reader: parts.journal,
            journal,
            verifier: parts.verifier,
            directory: parts.directory,
            policy: parts.policy,
            sessions: parts.sessions,
            targets: parts.targets,
            sign_in: parts.sign_in,
            requests: tokio::sync::Semaphore::new(parts.limits.requests_max),
            limits: parts.limits,
            readiness: health::Readiness::default(),
            tasks: tasks.clone(),
        })
    }

    /// Shows an approval to a caller; one whose holder is gone is told on.
    fn view(&self, approval: Approval, reader: &Person) -> ApprovalView {
        let now = Utc::now();
        if !approval.state.is_terminal() && approval.lease.until < now {
            (self.dead)();
        }
        ApprovalView::new(approval, reader, now)
    }

    fn allows(&self, person: &Person, action: GatewayAction) -> bool {
        self.policy.current().allows(person, action, Utc::now())
    }
}

/// Builds the API's routes around its state.
pub fn router(console: Arc<Console>) -> axum::Router {
    let (routes, _) = described().split_for_parts();
    let body_bytes_max = console.limits.body_bytes_max;
    let guard = axum::middleware::from_fn_with_state(console.clone(), guard::guard);
    routes
        .merge(pages::routes())
        .fallback(async || problem::Problem::not_found("there is nothing at this address"))
        .method_not_allowed_fallback(async || problem::Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(guard)
        .with_state(console)
}

/// The API's description, as `GET /api/v1/openapi.json` serves it.
pub fn description() -> utoipa::openapi::OpenApi {
    described().split_for_parts().1
}

fn described() -> OpenApiRouter<Arc<Console>> {
    OpenApiRouter::with_openapi(describe::base())
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(describe::describe))
        .routes(routes!(show_sign_in::show_sign_in))
        .routes(routes!(show_self::show_self))
        .routes(routes!(list_targets::list_targets))
        .routes(routes!(list_approvals::list_approvals))
        .routes(routes!(show_approval::show_approval))
        .routes(routes!(read_operation::read_operation))
        .routes(routes!(pages::review))
        .routes(routes!(vote::vote))
        .routes(routes!(withdraw::withdraw))
        .routes(routes!(revoke_grant::show_grant))
        .routes(routes!(revoke_grant::revoke_grant))
        .routes(routes!(search_audit::search_audit))
        .routes(routes!(search_operations::search_operations))
        .routes(routes!(list_sessions::list_sessions))
        .routes(routes!(read_session::read_session))
        .routes(routes!(read_recording::read_recording))
        .routes(routes!(read_recording::read_chunk))
        .routes(routes!(link_recording::link_recording))
        .routes(routes!(list_recordings::list_recordings))
        .routes(routes!(read_digests::list_digests))
        .routes(routes!(read_digests::read_digest))
        .routes(routes!(end_session::end_session))
}
