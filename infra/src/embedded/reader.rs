//! A thread that reads: it sees what is committed, and waits for no writer.

use super::{CALLS_WAITING_MAX, Trouble, Work};
use rusqlite::{Connection, InterruptHandle};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};

type Job = Box<dyn FnOnce(&Connection) + Send>;

pub(super) struct Reader {
    queue: Sender<Job>,
    room: Arc<Semaphore>,
    running: Arc<Running>,
    calls: AtomicU64,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// Which call runs now (0: none), and how to stop it.
struct Running {
    call: Mutex<u64>,
    interrupt: InterruptHandle,
}

impl Running {
    fn is(&self, call: u64) {
        *self.call.lock().unwrap_or_else(PoisonError::into_inner) = call;
    }

    /// Stops a call if it is the one that runs. The lock is held meanwhile: no other call is hit.
    fn stop(&self, call: u64) {
        let running = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        if *running == call {
            self.interrupt.interrupt();
        }
    }
}

/// Stops a call whose caller went away or ran out of time.
struct StopOnDrop {
    running: Arc<Running>,
    call: u64,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.running.stop(self.call);
    }
}

impl Reader {
    pub(super) fn start(name: &str, connection: Connection) -> std::io::Result<Self> {
        let interrupt = connection.get_interrupt_handle();
        let (queue, jobs) = channel::<Job>();
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || jobs.iter().for_each(|job| job(&connection)))?;
        Ok(Self {
            queue,
            room: Arc::new(Semaphore::new(CALLS_WAITING_MAX)),
            running: Arc::new(Running {
                call: Mutex::new(0),
                interrupt,
            }),
            calls: AtomicU64::new(0),
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
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let (reply, answer) = oneshot::channel();
        let running = Arc::clone(&self.running);
        let job = move |connection: &Connection| {
            if !reply.is_closed() {
                running.is(call);
                let answer = work(connection).map_err(|error| Trouble::of(&error));
                running.is(0);
                drop(reply.send(answer));
            }
            drop(room);
        };
        let _stop = StopOnDrop {
            running: Arc::clone(&self.running),
            call,
        };
        self.queue.send(Box::new(job)).map_err(|_| Trouble::ended())?;
        answer.await.unwrap_or_else(|_| Err(Trouble::ended()))
    }
}
