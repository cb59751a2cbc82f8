//! A thread that reads: it sees what is committed, and waits for no writer.

use super::{CALLS_WAITING_MAX, Trouble, Work};
use rusqlite::Connection;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use tokio::sync::{Semaphore, oneshot};

/// How many of SQLite's steps pass between two looks at whether anybody still waits: some microseconds.
const STEPS_UNSEEN: i32 = 1000;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

pub(super) struct Reader {
    queue: Sender<Job>,
    room: Arc<Semaphore>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// Tells the thread that the caller went away or ran out of time.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Reader {
    pub(super) fn start(name: &str, mut connection: Connection) -> std::io::Result<Self> {
        let (queue, jobs) = channel::<Job>();
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || jobs.iter().for_each(|job| job(&mut connection)))?;
        Ok(Self {
            queue,
            room: Arc::new(Semaphore::new(CALLS_WAITING_MAX)),
        })
    }

    /// Does some reading. When the future is dropped, the reading stops.
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
        let stop = Arc::new(AtomicBool::new(false));
        let waiting = Waiting(Arc::clone(&stop));
        let job = move |connection: &mut Connection| {
            if !reply.is_closed() {
                let answer = unless_stopped(connection, stop, work);
                drop(reply.send(answer.map_err(|error| Trouble::of(&error))));
            }
            drop(room);
        };
        self.queue.send(Box::new(job)).map_err(|_| Trouble::ended())?;
        let answer = answer.await.unwrap_or_else(|_| Err(Trouble::ended()));
        drop(waiting);
        answer
    }
}

fn unless_stopped<T, E>(
    connection: &mut Connection,
    stop: Arc<AtomicBool>,
    work: impl FnOnce(&Connection) -> Work<T, E>,
) -> Work<T, E> {
    connection.progress_handler(STEPS_UNSEEN, Some(move || stop.load(Ordering::Relaxed)))?;
    let answer = work(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    answer
}
