//! The analyst: parses on its own threads, with bounds, and remembers what it has seen.

use super::{Analysis, Limits, STACK_BYTES, Unparseable, parse};
use aws_lc_rs::digest::{SHA256, digest};
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

const PARSERS: usize = 2;
/// Statements that wait for a parser; more of them are refused.
const QUEUE_MAX: usize = 1024;
/// A statement longer than this waits for the one permit for long statements: a megabyte of SQL may need 700 MB as a tree.
const LONG_BYTES: usize = 64 << 10;
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const CACHE_ENTRIES_MAX: usize = 4096;
const CACHE_BYTES_MAX: usize = 8 << 20;

/// Why an analyst could not be made.
#[derive(Debug, thiserror::Error)]
#[error("a parser thread could not be started: {0}")]
pub struct AnalystError(#[from] std::io::Error);

/// Analyses statements on threads of its own. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct Analyst(Arc<Inner>);

struct Inner {
    limits: Limits,
    jobs: mpsc::SyncSender<Job>,
    long: Arc<Semaphore>,
    cache: Mutex<Cache>,
}

struct Job {
    sql: Vec<u8>,
    answer: oneshot::Sender<Result<Arc<Analysis>, Unparseable>>,
    _long: Option<OwnedSemaphorePermit>,
}

impl Analyst {
    /// Starts the parser threads. Statements longer than `statement_bytes_max` bytes are refused.
    pub fn new(statement_bytes_max: usize) -> Result<Self, AnalystError> {
        let limits = Limits { statement_bytes_max };
        let (jobs, queue) = mpsc::sync_channel::<Job>(QUEUE_MAX);
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..PARSERS {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new()
                .name(format!("sql-parser-{number}"))
                .stack_size(STACK_BYTES)
                .spawn(move || work(&queue, limits))?;
        }
        let long = Arc::new(Semaphore::new(1));
        Ok(Self(Arc::new(Inner {
            limits,
            jobs,
            long,
            cache: Mutex::default(),
        })))
    }

    /// Says what a string of statements would do. A text seen before is answered without leaving the calling thread.
    /// Cancel safe: a dropped call leaves the parser to finish on its own.
    pub async fn analyse(&self, sql: &[u8]) -> Result<Arc<Analysis>, Unparseable> {
        self.0.limits.check(sql)?;
        let key = Key::of(sql);
        if let Some(analysis) = self.cache().seen(&key) {
            return Ok(analysis);
        }
        let analysis = tokio::time::timeout(ANSWER_WITHIN, self.parse(sql))
            .await
            .unwrap_or_else(|_elapsed| Err(busy()))?;
        self.cache().keep(key, &analysis);
        Ok(analysis)
    }

    async fn parse(&self, sql: &[u8]) -> Result<Arc<Analysis>, Unparseable> {
        let _long = match sql.len() > LONG_BYTES {
            true => Some(
                Arc::clone(&self.0.long)
                    .acquire_owned()
                    .await
                    .map_err(|_closed| busy())?,
            ),
            false => None,
        };
        let (answer, wait) = oneshot::channel();
        let job = Job {
            sql: sql.to_vec(),
            answer,
            _long,
        };
        self.0.jobs.try_send(job).map_err(|_full| busy())?;
        wait.await.unwrap_or_else(|_gone| Err(busy()))
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>, limits: Limits) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if job.answer.is_closed() {
            continue;
        }
        let Job { sql, answer, _long } = job;
        let result = std::panic::catch_unwind(|| parse::analyse(&sql, limits)).unwrap_or_else(|_panic| {
            Err(Unparseable::new("XX000", "the statement could not be analysed").hint("Report this statement."))
        });
        drop(_long);
        // Whoever asked may be gone: nobody is left to tell.
        let _gone = answer.send(result.map(Arc::new));
    }
}

fn busy() -> Unparseable {
    Unparseable::new("53400", "too many long statements wait to be analysed").hint("Send the statement again later.")
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key([u8; 32]);

impl Key {
    fn of(sql: &[u8]) -> Self {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, sql).as_ref());
        Self(key)
    }
}

/// Remembers analyses in order of arrival; the oldest goes first.
#[derive(Default)]
struct Cache {
    seen: HashMap<Key, (Arc<Analysis>, usize)>,
    order: VecDeque<Key>,
    bytes: usize,
}

impl Cache {
    fn seen(&self, key: &Key) -> Option<Arc<Analysis>> {
        self.seen.get(key).map(|(analysis, _)| Arc::clone(analysis))
    }

    fn keep(&mut self, key: Key, analysis: &Arc<Analysis>) {
        let bytes = analysis.weight();
        if bytes > CACHE_BYTES_MAX / 8 || self.seen.contains_key(&key) {
            return;
        }
        while self.order.len() >= CACHE_ENTRIES_MAX || self.bytes + bytes > CACHE_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some((_, freed)) = self.seen.remove(&oldest) {
                self.bytes -= freed;
            }
        }
        self.bytes += bytes;
        self.order.push_back(key.clone());
        self.seen.insert(key, (Arc::clone(analysis), bytes));
    }
}
