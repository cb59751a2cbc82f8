//! Logging: one line an event, as JSON or as text, to standard error.

use tracing_subscriber::EnvFilter;

/// What is not shown even where everything is: addresses of connections to Slack hold tickets, and frames hold tokens.
const NEVER: [&str; 3] = [
    "slack_morphism::hyper_tokio::socket_mode=off",
    "tokio_tungstenite=info",
    "tungstenite=info",
];

/// Starts logging. `RUST_LOG` chooses what is shown (default `info`); `json` chooses the format.
/// A second call does nothing.
pub fn start(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = closed(filter);
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

fn closed(filter: EnvFilter) -> EnvFilter {
    let never = NEVER.iter().filter_map(|directive| directive.parse().ok());
    never.fold(filter, EnvFilter::add_directive)
}

#[cfg(test)]
mod tests {
    use super::{EnvFilter, NEVER, closed};

    #[test]
    fn what_is_never_shown_is_not_shown_whatever_is_chosen() {
        for chosen in [
            "trace",
            "slack_morphism=trace",
            "slack_morphism::hyper_tokio::socket_mode=trace,tungstenite=trace",
        ] {
            let filter = closed(EnvFilter::new(chosen)).to_string();
            let directives: Vec<&str> = filter.split(',').collect();
            assert!(NEVER.iter().all(|never| directives.contains(never)), "{filter}");
            for opened in ["socket_mode=trace", "tungstenite=trace"] {
                assert!(!filter.contains(opened), "{filter}");
            }
        }
    }
}
