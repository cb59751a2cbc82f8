//! The bot as a function on AWS Lambda, behind a function URL or an HTTP API: it costs nothing while nobody asks.
//!
//! Lambda freezes the program from its asking for the next event until there is one, perhaps for ever. So it asks only when
//! nothing is under way: what an answer did not wait for is done after the answer was handed over, and before the next
//! event. What is not done in time is never done: the program ends, and another one begins afresh. Nothing that counts is
//! kept in memory, so it may end between two events without a word. Reminders and escalations come when a gateway rings
//! again, which it does while it holds something.

use super::{Running, assemble, check, load};
use crate::app::Mode;
use crate::chat::discord::DiscordIntake;
use crate::chat::slack::SlackIntake;
use lambda_http::http::Uri;
use lambda_http::http::uri::PathAndQuery;
use lambda_http::lambda_runtime::LambdaInvocation;
use lambda_http::request::RequestContext;
use lambda_http::tower::ServiceExt;
use lambda_http::{Body, Request, RequestExt, Response, Service};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Names the configuration; beside the program where it is not set.
const CONFIG_VARIABLE: &str = "COUNTERSIGN_CONFIG";
const CONFIG_FILE: &str = "countersign.toml";

/// How long all workspaces are asked what is missing, at a start.
const CHECK_WITHIN: Duration = Duration::from_secs(10);
/// How long work may go on after an answer: longer than cards are drawn for one ring.
const WORK_MAX: Duration = Duration::from_secs(45);
/// Work ends so long before Lambda ends the program.
const BEFORE_DEADLINE: Duration = Duration::from_secs(1);
/// The longest answer that Lambda takes. <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
const ANSWER_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Answers until the sandbox ends. An error when work was given up, or Lambda cannot be talked to.
pub async fn run() -> anyhow::Result<()> {
    let path = match std::env::var_os(CONFIG_VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.with_file_name(CONFIG_FILE),
    };
    let (config, bot) = load(&path)?;
    countersign_infra::telemetry::start(true);
    let stop = CancellationToken::new();
    let running = assemble(config, bot, Mode::Function, &stop).await?;
    say_what_is_missing(&running);
    let router = running.router.clone().map_request(without_stage).and_then(whole);
    let work = Work::of(&running);
    let answered = lambda_http::runtime(router)
        .layer(lambda_http::tower::layer::layer_fn(move |inner| Finishing {
            inner,
            work: work.clone(),
        }))
        .run()
        .await;
    stop.cancel();
    answered.map_err(|error| anyhow::anyhow!(error))
}

/// Beside the first event, which need not wait for it.
fn say_what_is_missing(running: &Running) {
    let chats = running.chats.clone();
    running.app.work.spawn(async move {
        match timeout(CHECK_WITHIN, check(&chats)).await {
            Ok(missing) => missing.iter().for_each(|missing| tracing::error!("{missing}")),
            Err(_) => tracing::error!("the chats do not say whether the bot can work there"),
        }
    });
}

/// Takes the stage of an HTTP API from before the path. A function URL has none.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-stages.html>
fn without_stage(mut request: Request) -> Request {
    let stage = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.stage.as_deref(),
        _ => None,
    };
    if let Some(uri) = stage.and_then(|stage| below(request.uri(), stage)) {
        *request.uri_mut() = uri;
    }
    request
}

fn below(uri: &Uri, stage: &str) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix('/')?.strip_prefix(stage)?;
    let path = rest.starts_with('/').then(|| PathAndQuery::try_from(rest).ok())??;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

/// Lambda takes answers as a whole.
async fn whole(answer: axum::response::Response) -> Result<Response<Body>, lambda_http::Error> {
    let (head, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, ANSWER_BYTES_MAX).await?;
    Ok(Response::from_parts(head, Body::from(body.to_vec())))
}

/// Everything that may be under way.
#[derive(Clone)]
struct Work {
    slack: Arc<SlackIntake>,
    discord: Arc<DiscordIntake>,
    tasks: TaskTracker,
}

impl Work {
    fn of(running: &Running) -> Self {
        let tasks = running.app.work.clone();
        // Else nobody could wait for its end; it takes tasks all the same.
        tasks.close();
        Self {
            slack: running.slack.clone(),
            discord: running.discord.clone(),
            tasks,
        }
    }

    /// Waits until nothing is under way, and says whether that was in time.
    async fn is_done(&self, within: Duration) -> bool {
        let done = async {
            // Requests first: what they asked for may outlive them, and nothing else begins anything.
            tokio::join!(self.slack.drain(WORK_MAX), self.discord.drain(WORK_MAX));
            self.tasks.wait().await;
        };
        timeout(within, done).await.is_ok()
    }
}

/// Handles an event and hands its answer over; then finishes what the answer did not wait for.
struct Finishing<S> {
    inner: S,
    work: Work,
}

impl<S> Service<LambdaInvocation> for Finishing<S>
where
    S: Service<LambdaInvocation, Response = (), Error = lambda_http::Error>,
    S::Future: 'static,
{
    type Response = ();
    type Error = lambda_http::Error;
    type Future = Pin<Box<dyn Future<Output = Result<(), lambda_http::Error>>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, invocation: LambdaInvocation) -> Self::Future {
        let deadline = invocation.context.deadline();
        let (answered, work) = (self.inner.call(invocation), self.work.clone());
        Box::pin(async move {
            answered.await?;
            match work.is_done(left(deadline, SystemTime::now())).await {
                true => Ok(()),
                // Thawed at any later time it would go on as if no time had passed.
                false => Err("work that an answer did not wait for took too long and was given up".into()),
            }
        })
    }
}

/// How long work may go on. What emulators give as the deadline may be no moment at all: it is past then.
fn left(deadline: SystemTime, now: SystemTime) -> Duration {
    match deadline.duration_since(now) {
        Ok(left) => left.saturating_sub(BEFORE_DEADLINE).min(WORK_MAX),
        Err(_) => WORK_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stage_itself_is_taken_from_before_a_path() {
        for (uri, stage, wanted) in [
            ("https://h/prod/ring?a=b", "prod", Some("https://h/ring?a=b")),
            ("/prod/slack/events", "prod", Some("/slack/events")),
            ("https://h/prod/prod/ring", "prod", Some("https://h/prod/ring")),
            ("https://h/production/ring", "prod", None),
            ("https://h/prod", "prod", None),
            ("https://h/ring", "$default", None),
        ] {
            let below = below(&uri.parse().unwrap(), stage);
            assert_eq!(below.map(|uri| uri.to_string()).as_deref(), wanted, "{uri}");
        }
    }

    #[test]
    fn work_ends_before_the_deadline_and_within_its_bound() {
        let now = SystemTime::now();
        let seconds = |seconds| Duration::from_secs(seconds);
        assert_eq!(left(now + seconds(10), now), seconds(9));
        assert_eq!(left(now + seconds(900), now), WORK_MAX);
        assert_eq!(left(now + BEFORE_DEADLINE / 2, now), Duration::ZERO);
        assert_eq!(left(SystemTime::UNIX_EPOCH + seconds(600), now), WORK_MAX);
    }
}
