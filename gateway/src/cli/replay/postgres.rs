//! A recorded PostgreSQL session as text for people. Pure: bytes in, entries out; it never fails on odd bytes.
//!
//! Messages: <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use super::message::{Fields, Message, Stream, is_request_packet};
use super::table::Table;
use super::values;
use countersign_infra::domain::display::escape;
use countersign_infra::recordings::format::Direction;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

/// Rows that are lined up together; what follows in the same result keeps their widths.
const ROWS_TOGETHER_MAX: usize = 500;
/// Prepared statements whose parameter types are remembered.
const STATEMENTS_MAX: usize = 10_000;
/// Bytes of their texts that are remembered.
const PARSED_BYTES_MAX: usize = 32 << 20;

/// One thing that happened, as it is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub micros: u64,
    pub direction: Direction,
    /// Escaped; may have several lines.
    pub text: String,
    pub what: What,
}

/// What an entry is, for views that show less than the whole conversation. Texts are escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Statements that run now, with their bound values where they have some.
    Statement { sql: String, values: Option<String> },
    /// Rows of a result.
    Rows,
    /// A statement is done; its tag.
    Done(String),
    /// A notice or an error, as the server words it.
    Report(String),
    /// The server waits for the next statement; in which state of a transaction.
    Ready(u8),
    /// Data of a COPY.
    Data(String),
    /// All else: of the protocol, not of the conversation.
    Protocol,
}

impl What {
    /// The name that exports give it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Statement { .. } => "statement",
            Self::Rows => "rows",
            Self::Done(_) => "done",
            Self::Report(_) => "report",
            Self::Ready(_) => "ready",
            Self::Data(_) => "data",
            Self::Protocol => "protocol",
        }
    }
}

/// Turns a session's bytes into entries.
#[derive(Default)]
pub struct Transcript {
    client: Stream,
    server: Stream,
    upstream: Stream,
    /// What was parsed, by statement name.
    statements: BTreeMap<Vec<u8>, Parsed>,
    /// Bytes of their texts.
    parsed_bytes: usize,
    /// Statements whose description was asked for and not answered yet, each with the unit it belongs to.
    described: VecDeque<(u64, Vec<u8>)>,
    /// Units (up to a Sync or a Query) that were sent, and those that were answered.
    units_sent: u64,
    units_answered: u64,
    columns: Vec<Column>,
    table: Option<Table>,
    entries: Vec<Entry>,
}

#[derive(Default)]
struct Parsed {
    /// Parameter types.
    types: Vec<u32>,
    /// Its text; none where there are too many to remember.
    sql: Option<String>,
}

#[derive(Clone)]
struct Column {
    name: String,
    kind: u32,
    is_binary: bool,
}

impl Transcript {
    /// Takes recorded bytes and returns what is complete with them.
    pub fn push(&mut self, direction: Direction, micros: u64, bytes: &[u8]) -> Vec<Entry> {
        let stream = match direction {
            Direction::ClientToGateway => &mut self.client,
            Direction::GatewayToClient => &mut self.server,
            Direction::GatewayToUpstream => &mut self.upstream,
        };
        stream.push(bytes);
        while let Some(message) = self.next_message(direction) {
            self.message(direction, micros, &message);
        }
        std::mem::take(&mut self.entries)
    }

    /// Returns what was still open at the end.
    pub fn finish(mut self) -> Vec<Entry> {
        self.flush_table();
        self.entries
    }

    fn next_message(&mut self, direction: Direction) -> Option<Message> {
        match direction {
            Direction::ClientToGateway => self.client.next_from_client(),
            Direction::GatewayToClient => self.server.next(),
            Direction::GatewayToUpstream => self.upstream.next(),
        }
    }

    fn message(&mut self, direction: Direction, micros: u64, message: &Message) {
        if direction == Direction::GatewayToClient {
            return self.answer(micros, message);
        }
        let (text, what) = match message {
            Message::Packet(body) => (packet(body), What::Protocol),
            Message::Typed(kind, body) => {
                if direction == Direction::ClientToGateway {
                    self.expect(*kind, body);
                }
                self.question(*kind, body)
            }
            Message::Skipped { kind, length } => (skipped(*kind, *length), What::Protocol),
        };
        self.say(direction, micros, text, what);
    }

    fn say(&mut self, direction: Direction, micros: u64, text: String, what: What) {
        self.entries.push(Entry {
            micros,
            direction,
            text,
            what,
        });
    }

    /// Remembers which answers the client's message will have.
    fn expect(&mut self, kind: u8, body: &[u8]) {
        match (kind, body) {
            (b'S' | b'Q' | b'F', _) => self.units_sent += 1,
            (b'D', [b'S', name @ ..]) if self.described.len() < STATEMENTS_MAX => {
                let name = Fields(name).bytes_to_zero().to_vec();
                self.described.push_back((self.units_sent, name));
            }
            _ => {}
        }
    }

    /// Learns parameter types from the server, where the client left them to it. After an error the rest of a unit has
    /// no answers.
    fn learn(&mut self, kind: u8, mut fields: Fields<'_>) {
        match kind {
            b't' => {
                let count = fields.u16().unwrap_or_default();
                let types = (0..count).map_while(|_| fields.u32()).collect();
                if let Some((_, name)) = self.described.pop_front() {
                    self.statements.entry(name).or_default().types = types;
                }
            }
            b'Z' if self.units_answered < self.units_sent => {
                self.units_answered += 1;
                let answered = self.units_answered;
                self.described.retain(|(unit, _)| *unit >= answered);
            }
            _ => {}
        }
    }

    fn question(&mut self, kind: u8, body: &[u8]) -> (String, What) {
        let mut fields = Fields(body);
        match kind {
            b'Q' => {
                let sql = escape(&fields.text());
                (format!("Query: {sql}"), What::Statement { sql, values: None })
            }
            b'B' => self.bind(fields),
            b'd' => {
                let data = values::text_or_hex(body);
                (format!("Copy data: {data}"), What::Data(data))
            }
            _ => (self.other_question(kind, body), What::Protocol),
        }
    }

    fn other_question(&mut self, kind: u8, body: &[u8]) -> String {
        let mut fields = Fields(body);
        match kind {
            b'P' => self.parse(fields),
            b'E' => {
                let portal = name(&fields.text());
                match fields.i32() {
                    Some(rows) if rows > 0 => format!("Execute{portal}, at most {rows} rows"),
                    Some(_) | None => format!("Execute{portal}"),
                }
            }
            b'D' => format!("Describe {}", fields.statement_or_portal()),
            b'C' => format!("Close {}", fields.statement_or_portal()),
            b'F' => format!("Function call of {}", fields.u32().unwrap_or_default()),
            b'c' => "Copy done".to_owned(),
            b'f' => format!("Copy failed: {}", escape(&fields.text())),
            b'H' => "Flush".to_owned(),
            b'S' => "Sync".to_owned(),
            b'X' => "Terminate".to_owned(),
            b'p' => format!("Password or authentication data, {} bytes (not shown)", body.len()),
            other => unknown(other, body),
        }
    }

    fn parse(&mut self, mut fields: Fields<'_>) -> String {
        let statement = fields.bytes_to_zero().to_vec();
        let sql = fields.text();
        let count = fields.u16().unwrap_or_default();
        let types = (0..count).map_while(|_| fields.u32()).collect::<Vec<_>>();
        let shown = name(&String::from_utf8_lossy(&statement));
        let sql = escape(&sql);
        let text = format!("Parse{shown}: {sql}");
        if self.statements.len() < STATEMENTS_MAX || self.statements.contains_key(&statement) {
            self.remember(statement, types, sql);
        }
        text
    }

    fn remember(&mut self, statement: Vec<u8>, types: Vec<u32>, sql: String) {
        let forgotten = self.statements.remove(&statement).and_then(|parsed| parsed.sql);
        self.parsed_bytes -= forgotten.map_or(0, |sql| sql.len());
        let fits = self.parsed_bytes + sql.len() <= PARSED_BYTES_MAX;
        self.parsed_bytes += if fits { sql.len() } else { 0 };
        let sql = fits.then_some(sql);
        self.statements.insert(statement, Parsed { types, sql });
    }

    fn bind(&self, mut fields: Fields<'_>) -> (String, What) {
        let portal = name(&fields.text());
        let statement = fields.bytes_to_zero();
        let parsed = self.statements.get(statement);
        let types = parsed.map(|parsed| parsed.types.as_slice()).unwrap_or_default();
        let head = format!("Bind{portal}{}", of(&String::from_utf8_lossy(statement)));
        let mut text = String::new();
        let formats = fields.formats();
        let count = fields.u16().unwrap_or_default();
        for index in 0..usize::from(count) {
            let Some(value) = fields.value() else {
                text.push_str(" (the rest is not understood)");
                break;
            };
            let is_binary = format_of(&formats, index);
            let kind = types.get(index).copied().unwrap_or_default();
            let value = match value {
                Some(bytes) => values::quoted(kind, is_binary, bytes),
                None => "NULL".to_owned(),
            };
            // Nothing fails when writing into a string.
            let _ = write!(text, "{}${} = {value}", if index == 0 { "" } else { ", " }, index + 1);
        }
        let sql = parsed
            .and_then(|parsed| parsed.sql.clone())
            .unwrap_or_else(|| format!("(statement{})", of(&String::from_utf8_lossy(statement))));
        let values = (!text.is_empty()).then_some(text);
        let shown = values
            .as_ref()
            .map_or(head.clone(), |values| format!("{head}: {values}"));
        (shown, What::Statement { sql, values })
    }

    fn answer(&mut self, micros: u64, message: &Message) {
        let (kind, body) = match message {
            Message::Typed(b'T', body) => return self.row_description(micros, Fields(body)),
            Message::Typed(b'D', body) => return self.data_row(micros, Fields(body)),
            Message::Typed(kind, body) => (*kind, body),
            Message::Packet(body) => (0, body),
            Message::Skipped { kind, length } => {
                self.flush_table();
                let text = skipped(*kind, *length);
                return self.say(Direction::GatewayToClient, micros, text, What::Protocol);
            }
        };
        self.flush_table();
        self.learn(kind, Fields(body));
        let what = what_of_answer(kind, body);
        self.say(Direction::GatewayToClient, micros, answer(kind, body), what);
    }

    fn row_description(&mut self, micros: u64, mut fields: Fields<'_>) {
        self.flush_table();
        let count = fields.u16().unwrap_or_default();
        self.columns = (0..count).map_while(|_| column(&mut fields)).collect();
        let titles = self.columns.iter().map(|column| column.name.clone()).collect();
        self.table = Some(Table::new(micros, titles));
    }

    fn data_row(&mut self, micros: u64, mut fields: Fields<'_>) {
        let count = fields.u16().unwrap_or_default();
        let mut cells = Vec::new();
        for index in 0..usize::from(count) {
            let Some(value) = fields.value() else { break };
            let column = self.columns.get(index);
            let (kind, is_binary) = column.map_or((0, false), |column| (column.kind, column.is_binary));
            cells.push(value.map_or_else(|| "NULL".to_owned(), |bytes| values::cell(kind, is_binary, bytes)));
        }
        let table = self.table.get_or_insert_with(|| Table::new(micros, Vec::new()));
        if table.push(cells) >= ROWS_TOGETHER_MAX {
            let text = table.take_text();
            let micros = table.micros;
            self.say(Direction::GatewayToClient, micros, text, What::Rows);
        }
    }

    fn flush_table(&mut self) {
        if let Some(mut table) = self.table.take() {
            let text = table.take_text();
            if !text.is_empty() {
                self.say(Direction::GatewayToClient, table.micros, text, What::Rows);
            }
        }
    }
}

fn column(fields: &mut Fields<'_>) -> Option<Column> {
    let name = escape(&fields.text());
    fields.u32()?; // table
    fields.u16()?; // attribute
    let kind = fields.u32()?;
    fields.u16()?; // size
    fields.u32()?; // modifier
    let is_binary = fields.u16()? == 1;
    Some(Column { name, kind, is_binary })
}

fn format_of(formats: &[u16], index: usize) -> bool {
    match formats {
        [] => false,
        [all] => *all == 1,
        each => each.get(index) == Some(&1),
    }
}

fn what_of_answer(kind: u8, body: &[u8]) -> What {
    match (kind, body) {
        (b'C', _) => What::Done(escape(&Fields(body).text())),
        (b'I', _) => What::Done(String::new()),
        (b'E' | b'N', _) => What::Report(report(Fields(body))),
        (b'Z', [state]) => What::Ready(*state),
        (b'd', _) => What::Data(values::text_or_hex(body)),
        _ => What::Protocol,
    }
}

fn answer(kind: u8, body: &[u8]) -> String {
    let mut fields = Fields(body);
    match kind {
        b'C' => format!("Complete: {}", escape(&fields.text())),
        b'E' => format!("Error: {}", report(fields)),
        b'N' => format!("Notice: {}", report(fields)),
        b'Z' => match body {
            b"I" => "Ready".to_owned(),
            b"T" => "Ready, in a transaction".to_owned(),
            b"E" => "Ready, in a failed transaction".to_owned(),
            _ => unknown(kind, body),
        },
        b'R' => match fields.u32() {
            Some(0) => "Signed in".to_owned(),
            Some(3) => "Asks for a password".to_owned(),
            Some(other) => format!("Authentication step {other}"),
            None => unknown(kind, body),
        },
        b'S' => {
            let name = escape(&fields.text());
            format!("Setting: {name} = {}", escape(&fields.text()))
        }
        b'A' => {
            let _process = fields.u32();
            let channel = escape(&fields.text());
            format!("Notification on {channel}: {}", escape(&fields.text()))
        }
        b'K' => "Cancel key (not shown)".to_owned(),
        b'I' => "Complete: empty query".to_owned(),
        b'1' => "Parse complete".to_owned(),
        b'2' => "Bind complete".to_owned(),
        b'3' => "Close complete".to_owned(),
        b's' => "Portal suspended".to_owned(),
        b'n' => "No rows to describe".to_owned(),
        b't' => "Parameter description".to_owned(),
        b'G' => "Copy in begins".to_owned(),
        b'H' => "Copy out begins".to_owned(),
        b'W' => "Copy both begins".to_owned(),
        b'd' => format!("Copy data: {}", values::text_or_hex(body)),
        b'c' => "Copy done".to_owned(),
        b'V' => "Function call answered".to_owned(),
        b'v' => "Negotiates the protocol version".to_owned(),
        other => unknown(other, body),
    }
}

/// The fields of an error or notice: severity, code, message, then what else is there.
fn report(mut fields: Fields<'_>) -> String {
    let mut found = BTreeMap::new();
    while let Some(code) = fields.byte().filter(|code| *code != 0) {
        found.insert(code, escape(&fields.text()));
    }
    let field = |code| found.get(&code).map(String::as_str).unwrap_or_default();
    let mut text = format!("{} {}: {}", field(b'S'), field(b'C'), field(b'M'));
    for (code, title) in [(b'D', "DETAIL"), (b'H', "HINT"), (b'W', "CONTEXT"), (b'P', "POSITION")] {
        if found.contains_key(&code) {
            let _ = write!(text, "\n{title}: {}", field(code));
        }
    }
    text
}

/// A packet without a type: the very first of a connection.
fn packet(body: &[u8]) -> String {
    let mut fields = Fields(body);
    match fields.u32() {
        Some(80_877_103) => "Asks for TLS".to_owned(),
        Some(80_877_104) => "Asks for GSSAPI encryption".to_owned(),
        Some(80_877_102) => "Asks to cancel (key not shown)".to_owned(),
        Some(version) if is_request_packet(version) => {
            let mut settings = Vec::new();
            while let key @ [_, ..] = fields.bytes_to_zero() {
                let key = escape(&String::from_utf8_lossy(key));
                settings.push(format!("{key}={}", escape(&fields.text())));
            }
            format!("Startup {}.{}: {}", version >> 16, version & 0xffff, settings.join(" "))
        }
        Some(_) | None => unknown(0, body),
    }
}

fn skipped(kind: u8, length: usize) -> String {
    format!(
        "Message {} of {length} bytes: too long to show",
        escape(&char::from(kind).to_string())
    )
}

fn unknown(kind: u8, body: &[u8]) -> String {
    let kind = escape(&char::from(kind).to_string());
    format!("Message {kind}, {} bytes: {}", body.len(), values::text_or_hex(body))
}

fn name(name: &str) -> String {
    match name {
        "" => String::new(),
        name => format!(" {}", escape(name)),
    }
}

fn of(statement: &str) -> String {
    match statement {
        "" => String::new(),
        statement => format!(" of {}", escape(statement)),
    }
}

#[cfg(test)]
mod tests;
