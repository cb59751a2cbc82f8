//! Logging: one line an event, as JSON or as text, to standard error.

/// Starts logging. `RUST_LOG` chooses what is shown (default `info`); `json` chooses the format.
/// A second call does nothing.
pub fn start(json: bool) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = if json {
        lines.json().try_init()
    } else {
        lines.try_init()
    };
    drop(started);
}
