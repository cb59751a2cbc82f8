//! A recorded session as an asciicast, for players of terminal recordings: prompts, statements, rows, what the server
//! said.
//!
//! Versions 2 and 3: <https://docs.asciinema.org/manual/asciicast/v2/>, <https://docs.asciinema.org/manual/asciicast/v3/>

use super::postgres::{Entry, What};
use countersign_infra::domain::display::escape;
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::recordings::format::Direction;
use serde_json::{Value, json};

const COLUMNS: u32 = 120;
const ROWS: u32 = 40;
/// Players shorten pauses to so many seconds.
const IDLE_SECONDS_MAX: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CastVersion {
    #[value(name = "2")]
    Two,
    #[value(name = "3")]
    Three,
}

/// Turns entries into lines of an asciicast.
pub struct Cast {
    version: CastVersion,
    database: String,
    /// Of the last event.
    micros: u64,
    /// The state of the transaction, as the server said last.
    state: u8,
    is_at_prompt: bool,
}

impl Cast {
    pub fn new(version: CastVersion) -> Self {
        Self {
            version,
            database: String::new(),
            micros: 0,
            state: b'I',
            is_at_prompt: false,
        }
    }

    /// The first line, which says what the rest is.
    pub fn header(&mut self, header: &SessionHeader) -> String {
        self.database = escape(&header.database);
        let title = format!(
            "{} on {}/{} as {} through {}, session {}",
            header.person.name, header.target, header.database, header.role, header.gateway, header.id
        );
        let (timestamp, title) = (header.opened.timestamp(), escape(&title));
        let line = match self.version {
            CastVersion::Two => json!({
                "version": 2, "width": COLUMNS, "height": ROWS, "timestamp": timestamp,
                "idle_time_limit": IDLE_SECONDS_MAX, "title": title, "env": {"TERM": "xterm-256color"},
            }),
            CastVersion::Three => json!({
                "version": 3, "term": {"cols": COLUMNS, "rows": ROWS, "type": "xterm-256color"},
                "timestamp": timestamp, "idle_time_limit": IDLE_SECONDS_MAX, "title": title,
            }),
        };
        format!("{line}\n")
    }

    /// The lines of one entry; none for what is of the protocol only.
    pub fn entry(&mut self, entry: &Entry) -> String {
        match &entry.what {
            What::Statement { sql, values } => self.statement(entry, sql, values.as_deref()),
            What::Rows => self.lines(entry.micros, &entry.text),
            What::Done(tag) => self.lines(entry.micros, tag),
            What::Report(text) => self.lines(entry.micros, text),
            What::Data(text) => self.lines(entry.micros, text.trim_end_matches('\n')),
            What::Ready(state) => {
                self.state = *state;
                self.prompt(entry.micros)
            }
            What::Protocol => String::new(),
        }
    }

    /// A remark of the gateway, or about the recording.
    pub fn remark(&mut self, micros: u64, text: &str) -> String {
        self.lines(micros, &format!("-- countersign: {}", escape(text)))
    }

    /// The last line, where the version has one.
    pub fn end(&mut self) -> String {
        match self.version {
            CastVersion::Two => String::new(),
            CastVersion::Three => self.event(self.micros, "x", "0"),
        }
    }

    fn statement(&mut self, entry: &Entry, sql: &str, values: Option<&str>) -> String {
        if entry.direction == Direction::GatewayToUpstream {
            return self.remark(entry.micros, &format!("sent to the server: {sql}"));
        }
        let mut out = String::new();
        if !self.is_at_prompt {
            out.push_str(&self.prompt(entry.micros));
        }
        self.is_at_prompt = false;
        let values = values.map_or(String::new(), |values| format!("  -- {values}"));
        out.push_str(&self.event(entry.micros, "o", &on_terminal(&format!("{sql}{values}\n"))));
        out
    }

    fn prompt(&mut self, micros: u64) -> String {
        let mark = match self.state {
            b'T' => "*",
            b'E' => "!",
            _ => "",
        };
        let prompt = format!("{}={mark}> ", self.database);
        self.is_at_prompt = true;
        self.event(micros, "o", &prompt)
    }

    fn lines(&mut self, micros: u64, text: &str) -> String {
        if text.is_empty() {
            return String::new();
        }
        // What comes while the prompt stands begins on a line of its own.
        let begin = if std::mem::take(&mut self.is_at_prompt) {
            "\n"
        } else {
            ""
        };
        self.event(micros, "o", &on_terminal(&format!("{begin}{text}\n")))
    }

    /// Times never go back: version 2 has them since the beginning, version 3 since the event before.
    fn event(&mut self, micros: u64, code: &str, data: &str) -> String {
        let micros = micros.max(self.micros);
        let shown = match self.version {
            CastVersion::Two => micros,
            CastVersion::Three => micros - self.micros,
        };
        self.micros = micros;
        let (seconds, rest) = (shown / 1_000_000, shown % 1_000_000);
        format!("[{seconds}.{rest:06}, \"{code}\", {}]\n", Value::from(data))
    }
}

fn on_terminal(text: &str) -> String {
    text.replace('\n', "\r\n")
}
