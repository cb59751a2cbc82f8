//! Accept, limit, drain: the listener of native clients.

use crate::app::App;
use crate::protocol::postgres::connection;
use crate::protocol::postgres::startup::Entry;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// After a failed accept (no file descriptors left) the next try waits so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that may be told at a time that there is no room.
const TURNED_AWAY_MAX: usize = 64;
const TURN_AWAY_WAIT_MAX: Duration = Duration::from_secs(5);

/// Accepts PostgreSQL clients until `stop`, each in a task of `tasks`. Nothing slow happens between two accepts.
pub async fn postgres(
    app: Arc<App>,
    listener: TcpListener,
    entry: Arc<Entry>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(app.config.limits.connections_max));
    let doors = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted at the moment");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (app, entry) = (app.clone(), entry.clone());
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            tasks.spawn(async move {
                connection::serve(app, entry, socket, address).await;
                drop(slot);
            });
        } else if let Ok(door) = doors.clone().try_acquire_owned() {
            tracing::warn!(client = %address, "too many connections: one is turned away");
            tasks.spawn(async move {
                drop(tokio::time::timeout(TURN_AWAY_WAIT_MAX, connection::turn_away(&app, &entry, socket)).await);
                drop(door);
            });
        }
    }
}
