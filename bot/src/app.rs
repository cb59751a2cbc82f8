//! The parts of a running bot, and how they are put together.

use crate::announce::{Announcer, People};
use crate::chat::Chat;
use crate::desk::{Desk, DeskParts};
use crate::ring::Bell;
use crate::routes::Routes;
use anyhow::Context;
use countersign_infra::approvals::StoreClock;
use countersign_infra::config::{Bot, Config};
use countersign_infra::journal::SharedJournal;
use countersign_infra::policy::PolicyHandle;
use countersign_infra::ring::RingKey;
use countersign_infra::stores::Stores;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

/// How the bot runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Work goes on after an answer.
    LongLived,
    /// A function that is not called stands still, so the next request waits until all work is done. Whatever changes an
    /// approval is also rung by its gateway: only a ring draws cards, and an answer leaves no work.
    Function,
}

impl Mode {
    /// How long an answer waits for the store. What takes longer than a chat waits is brought later, where there is a later.
    fn answers_within(self) -> Duration {
        match self {
            Self::LongLived => Duration::from_secs(25),
            Self::Function => Duration::from_millis(2500),
        }
    }
}

/// The parts.
pub struct App {
    pub announcer: Arc<Announcer>,
    pub desk: Arc<Desk>,
    pub bell: Arc<Bell>,
    /// Answers, and cards that are drawn: nothing of what was asked for is left once it is empty.
    pub work: TaskTracker,
    /// The journal's writer. It ends with the last that could write.
    pub writer: TaskTracker,
}

impl App {
    /// Opens the stores and the policy, and puts the parts together around the chats.
    pub async fn assemble(
        config: &Config,
        bot: &Bot,
        chats: Vec<Arc<dyn Chat>>,
        mode: Mode,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let (work, writer) = (TaskTracker::new(), TaskTracker::new());
        let stores = Stores::open(config).await?;
        let (path, stopped) = (config.policy.path.clone(), stop.clone());
        let policy = tokio::task::spawn_blocking(move || PolicyHandle::start(path, stopped)).await??;
        for problem in bot.unknown_rules(policy.current().rule_ids()) {
            tracing::error!("{problem}");
        }
        let key = bot.ring_key.clone();
        let key = tokio::task::spawn_blocking(move || key.read())
            .await?
            .context("bot.ring_key")?;
        let key = RingKey::new(key).context("bot.ring_key")?;
        let pages = pages(&config.http.public_url)?;
        let announcer = Arc::new(Announcer::new(
            stores.approvals.clone(),
            stores.announcements.clone(),
            People {
                links: stores.chat_links.clone(),
                directory: stores.directory.clone(),
                verified_email: bot.verified_email,
                link_lasts: Duration::from_secs(u64::from(bot.link_hours_max) * 3600),
            },
            Routes::new(bot.routes.clone()),
            pages.clone(),
            chats.clone(),
        ));
        let journal = SharedJournal::start(
            stores.journal.clone(),
            stores.approvals.clone(),
            format!("{}-bot", config.gateway.name),
            &writer,
        );
        let desk = Desk::new(DeskParts {
            clock: Arc::new(StoreClock::new(stores.approvals.clone())),
            stores,
            journal,
            policy,
            announcer: announcer.clone(),
            chats,
            pages,
            link_lasts: Duration::from_secs(u64::from(bot.link_hours_max) * 3600),
            verified_email: bot.verified_email,
            step_up_rules: bot.step_up_rules.iter().cloned().collect(),
            mode,
            patience: mode.answers_within(),
            tasks: work.clone(),
        });
        let bell = Bell::new(announcer.clone(), key, work.clone());
        Ok(Self {
            announcer,
            desk,
            bell,
            work,
            writer,
        })
    }
}

/// The address that pages are joined to: with a slash at its end.
fn pages(public_url: &Url) -> anyhow::Result<Url> {
    let mut pages = public_url.clone();
    if !pages.path().ends_with('/') {
        pages.set_path(&format!("{}/", public_url.path()));
    }
    Ok(pages)
}
