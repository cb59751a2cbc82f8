//! The thread that writes. What arrives while a commit runs, or shortly after another call, is committed together:
//! one wait for the disk serves them all, and each call gets its own answer.

use super::{CALLS_WAITING_MAX, Trouble, Work};
use rusqlite::{Connection, ErrorCode};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How long a commit waits for company, once calls come in company at all.
const COMPANY_WAIT: Duration = Duration::from_millis(2);

/// Calls in one commit.
const TOGETHER_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Writer {
    queue: Sender<Box<dyn Job>>,
    room: Arc<Semaphore>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> std::io::Result<Self> {
        let (queue, jobs) = channel();
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&connection, &jobs))?;
        Ok(Self {
            queue,
            room: Arc::new(Semaphore::new(CALLS_WAITING_MAX)),
        })
    }

    pub(super) async fn call<T, E, W>(&self, work: W) -> Result<Result<T, E>, Trouble>
    where
        T: Send + 'static,
        E: Send + 'static,
        W: FnOnce(&Connection) -> Work<T, E> + Send + 'static,
    {
        let room = Arc::clone(&self.room)
            .acquire_owned()
            .await
            .map_err(|_| Trouble::ended())?;
        let (reply, answer) = oneshot::channel();
        let call = Call {
            work: Some(work),
            answer: None,
            reply,
            _room: room,
        };
        self.queue.send(Box::new(call)).map_err(|_| Trouble::ended())?;
        answer.await.unwrap_or_else(|_| Err(Trouble::ended()))
    }
}

/// One call on its way through the thread.
trait Job: Send {
    /// Whether somebody still waits for the answer.
    fn is_wanted(&self) -> bool;

    /// Does the work and keeps its answer. Says whether what it did is to stay.
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<bool>;

    /// Gives the answer: what was done is on disk.
    fn committed(self: Box<Self>);

    fn failed(self: Box<Self>, trouble: &Trouble);
}

struct Call<T, E, W> {
    work: Option<W>,
    answer: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<Result<T, E>, Trouble>>,
    _room: OwnedSemaphorePermit,
}

impl<T, E, W> Job for Call<T, E, W>
where
    T: Send,
    E: Send,
    W: FnOnce(&Connection) -> Work<T, E> + Send,
{
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let Some(work) = self.work.take() else { return Ok(false) };
        let answer = work(connection)?;
        let keep = answer.is_ok();
        self.answer = Some(answer);
        Ok(keep)
    }

    fn committed(self: Box<Self>) {
        let answer = self.answer.ok_or_else(Trouble::ended);
        // Nobody waits any more: what was done is done.
        drop(self.reply.send(answer));
    }

    fn failed(self: Box<Self>, trouble: &Trouble) {
        drop(self.reply.send(Err(trouble.clone())));
    }
}

fn run(connection: &Connection, jobs: &Receiver<Box<dyn Job>>) {
    let mut in_company = false;
    while let Ok(first) = jobs.recv() {
        let batch = gather(first, jobs, in_company);
        in_company = batch.len() > 1;
        if let Err(trouble) = commit_together(connection, batch) {
            // Whoever came while this commit waited for the lock has waited as long for nothing.
            jobs.try_iter()
                .take(CALLS_WAITING_MAX)
                .for_each(|job| job.failed(&trouble));
        }
    }
}

/// Collects what goes together. A lone caller is not made to wait.
fn gather(first: Box<dyn Job>, jobs: &Receiver<Box<dyn Job>>, in_company: bool) -> Vec<Box<dyn Job>> {
    let mut batch = vec![first];
    batch.extend(jobs.try_iter().take(TOGETHER_MAX - 1));
    if in_company || batch.len() > 1 {
        let until = Instant::now() + COMPANY_WAIT;
        while batch.len() < TOGETHER_MAX
            && let Ok(job) = jobs.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            batch.push(job);
        }
    }
    batch.retain(|job| job.is_wanted());
    batch
}

/// Runs a batch in one transaction. `Err` when the lock could not be had.
fn commit_together(connection: &Connection, batch: Vec<Box<dyn Job>>) -> Result<(), Trouble> {
    if batch.is_empty() {
        return Ok(());
    }
    if let Err(error) = begin(connection) {
        let trouble = Trouble::of(&error);
        fail_all(batch, &trouble);
        return match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Err(trouble),
            _ => Ok(()),
        };
    }
    let mut done = Vec::with_capacity(batch.len());
    let mut waiting = batch.into_iter();
    while let Some(mut job) = waiting.next() {
        match in_savepoint(connection, job.as_mut()) {
            Ok(()) => done.push(job),
            Err(error) => {
                let trouble = Trouble::of(&error);
                job.failed(&trouble);
                // After some errors (disk full, I/O) SQLite has rolled back everything.
                if connection.is_autocommit() {
                    fail_all(done.into_iter().chain(waiting), &trouble);
                    return Ok(());
                }
            }
        }
    }
    match connection.execute_batch("COMMIT") {
        Ok(()) => done.into_iter().for_each(|job| job.committed()),
        Err(error) => fail_all(done, &Trouble::of(&error)),
    }
    Ok(())
}

fn begin(connection: &Connection) -> rusqlite::Result<()> {
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    connection.execute_batch("BEGIN IMMEDIATE")
}

fn in_savepoint(connection: &Connection, job: &mut dyn Job) -> rusqlite::Result<()> {
    connection.execute_batch("SAVEPOINT call")?;
    let kept = job.run(connection);
    if !matches!(kept, Ok(true)) && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK TO call")?;
    }
    if !connection.is_autocommit() {
        connection.execute_batch("RELEASE call")?;
    }
    kept.map(drop)
}

fn fail_all(jobs: impl IntoIterator<Item = Box<dyn Job>>, trouble: &Trouble) {
    jobs.into_iter().for_each(|job| job.failed(trouble));
}
