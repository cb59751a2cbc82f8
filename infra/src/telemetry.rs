//! Logging: one line an event, as JSON or as text, to standard error.

/// What is never shown: it logs the address of a connection to Slack, which holds the ticket to it, and what comes over it.
const NEVER: &str = "slack_morphism::hyper_tokio::socket_mode=off";

/// Starts logging. `RUST_LOG` chooses what is shown (default `info`); `json` chooses the format.
/// A second call does nothing.
pub fn start(json: bool) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = match NEVER.parse() {
        Ok(never) => filter.add_directive(never),
        Err(_) => filter,
    };
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

#[cfg(test)]
mod tests {
    use super::NEVER;
    use tracing_subscriber::EnvFilter;

    #[test]
    fn what_is_never_shown_is_not_shown_whatever_is_chosen() {
        for chosen in [
            "trace",
            "slack_morphism=trace",
            "slack_morphism::hyper_tokio::socket_mode=trace",
        ] {
            let filter = EnvFilter::new(chosen).add_directive(NEVER.parse().unwrap()).to_string();
            assert!(filter.contains(NEVER), "{filter}");
            assert!(!filter.contains("socket_mode=trace"), "{filter}");
        }
    }
}
