//! Writes a recording in one of several forms, checking it on the way.

use super::cast::Cast;
use super::postgres::{Entry, Transcript, What};
use crate::cli::recording::Walk;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use countersign_infra::domain::access_request::Protocol;
use countersign_infra::domain::display::escape;
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::recordings::format::{Direction, Frame, Kind};
use countersign_infra::recordings::proof::{Report, read_header};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

/// The longest pause between frames.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Bytes of one line of hexadecimal.
const RAW_LINE_BYTES: usize = 16;
const NOT_PROVED: &str = "this recording is not proved to be what was recorded";

/// How a recording is written.
pub enum Form {
    /// For people.
    Readable,
    /// A JSON object for each message: what it says.
    Messages,
    /// A JSON object for each frame: its bytes.
    Frames,
    /// Hexadecimal.
    Raw,
    Cast(Cast),
}

pub struct Player<'o> {
    form: Form,
    out: &'o mut dyn Write,
    speed: Option<f64>,
    /// Where the session is.
    micros: u64,
    opened: Option<DateTime<Utc>>,
    transcript: Transcript,
    is_postgres: bool,
}

impl<'o> Player<'o> {
    /// With a `speed` it takes as long as the session did, divided by it.
    pub fn new(form: Form, out: &'o mut dyn Write, speed: Option<f64>) -> Self {
        Self {
            form,
            out,
            speed,
            micros: 0,
            opened: None,
            transcript: Transcript::default(),
            is_postgres: true,
        }
    }

    /// Plays all of it, also what fails its check. Returns whether nothing did.
    pub async fn play(mut self, mut walk: Walk<'_>) -> anyhow::Result<bool> {
        let mut is_first = true;
        while let Some(frames) = walk.next().await? {
            if std::mem::take(&mut is_first) {
                self.header(&frames)?;
            }
            for frame in &frames {
                self.pause(frame.micros).await;
                let text = self.frame(frame);
                self.write(&text)?;
                if self.speed.is_some() {
                    self.out.flush()?;
                }
            }
            self.out.flush()?;
        }
        for entry in std::mem::take(&mut self.transcript).finish() {
            let text = self.entry(&entry);
            self.write(&text)?;
        }
        let report = walk.end();
        let text = self.end(report.as_ref());
        self.write(&text)?;
        self.out.flush()?;
        Ok(report.is_some())
    }

    fn write(&mut self, text: &str) -> std::io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    fn header(&mut self, frames: &[Frame]) -> anyhow::Result<()> {
        let Ok(header) = read_header(frames) else { return Ok(()) };
        self.is_postgres = match header.protocol {
            Protocol::Postgres => true,
            Protocol::Ssh | Protocol::Http => false,
        };
        self.opened = Some(header.opened);
        let text = match &mut self.form {
            Form::Readable => title(&header),
            Form::Messages => line(&json!({"what": "header", "header": header})),
            Form::Cast(cast) => cast.header(&header),
            Form::Frames | Form::Raw => String::new(),
        };
        Ok(self.write(&text)?)
    }

    fn frame(&mut self, frame: &Frame) -> String {
        match (&mut self.form, frame.kind) {
            (Form::Frames, _) => line(&json_of(frame)),
            (Form::Raw, _) => raw_of(frame),
            (Form::Readable | Form::Messages | Form::Cast(_), Kind::Header) => String::new(),
            (Form::Readable | Form::Messages | Form::Cast(_), Kind::Event) => {
                self.remark(frame.micros, &String::from_utf8_lossy(&frame.bytes))
            }
            (Form::Readable | Form::Messages | Form::Cast(_), Kind::Wire(direction)) if self.is_postgres => {
                let entries = self.transcript.push(direction, frame.micros, &frame.bytes);
                entries.iter().map(|entry| self.entry(entry)).collect()
            }
            (Form::Readable, Kind::Wire(_)) => raw_of(frame),
            (Form::Messages, Kind::Wire(_)) => line(&json_of(frame)),
            (Form::Cast(cast), Kind::Wire(_)) => cast.remark(frame.micros, raw_of(frame).trim_end()),
        }
    }

    fn entry(&mut self, entry: &Entry) -> String {
        match &mut self.form {
            Form::Readable => say(entry.micros, mark(entry.direction), &entry.text),
            Form::Messages => line(&self.message_of(entry)),
            Form::Cast(cast) => cast.entry(entry),
            Form::Frames | Form::Raw => String::new(),
        }
    }

    fn message_of(&self, entry: &Entry) -> Value {
        let mut message = json!({
            "micros": entry.micros,
            "at": self.moment(entry.micros),
            "direction": entry.direction,
            "what": entry.what.name(),
            "text": entry.text,
        });
        if let (What::Statement { sql, values }, Some(fields)) = (&entry.what, message.as_object_mut()) {
            fields.insert("sql".to_owned(), sql.as_str().into());
            fields.insert("values".to_owned(), values.as_deref().into());
        }
        message
    }

    fn moment(&self, micros: u64) -> Option<String> {
        let since = TimeDelta::microseconds(i64::try_from(micros).ok()?);
        let at = self.opened?.checked_add_signed(since)?;
        Some(at.to_rfc3339_opts(SecondsFormat::Micros, true))
    }

    fn remark(&mut self, micros: u64, text: &str) -> String {
        let at = self.moment(micros);
        match &mut self.form {
            Form::Readable => say(micros, '*', &escape(text)),
            Form::Messages => line(&json!({"micros": micros, "at": at, "what": "remark", "text": text})),
            Form::Cast(cast) => cast.remark(micros, text),
            Form::Frames | Form::Raw => String::new(),
        }
    }

    fn end(&mut self, report: Option<&Report>) -> String {
        let why = report.map(|report| report.manifest.as_ref().map(|manifest| manifest.why.clone()));
        let text = match &why {
            None => NOT_PROVED.to_owned(),
            Some(None) => "the session was still open when this was recorded".to_owned(),
            Some(Some(why)) => format!("ended: {why}"),
        };
        match &mut self.form {
            // The warning itself went to standard error.
            Form::Readable if why.is_none() => String::new(),
            Form::Readable => say(self.micros, '*', &escape(&text)),
            Form::Messages => line(&json!({"what": "end", "proved": why.is_some(), "text": text})),
            Form::Cast(cast) => cast.remark(self.micros, &text) + &cast.end(),
            Form::Frames | Form::Raw => String::new(),
        }
    }

    async fn pause(&mut self, micros: u64) {
        let step = micros.saturating_sub(self.micros);
        self.micros = self.micros.max(micros);
        if let Some(speed) = self.speed {
            let pause = Duration::try_from_secs_f64(step as f64 / 1e6 / speed).unwrap_or(PAUSE_MAX);
            tokio::time::sleep(pause.min(PAUSE_MAX)).await;
        }
    }
}

fn say(micros: u64, mark: char, text: &str) -> String {
    let time = clock(micros);
    let blank = " ".repeat(time.len());
    let mut out = String::new();
    for (index, line) in text.split('\n').enumerate() {
        let begin = if index == 0 { &time } else { &blank };
        // Nothing fails when writing into a string.
        let _ = writeln!(out, "{begin} {mark} {line}");
    }
    out
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

fn title(header: &SessionHeader) -> String {
    let text = format!(
        "session {} of {} ({}) on {}/{} as {}\nfrom {} with {}, at {}, through {}",
        header.id,
        header.person.name,
        header.person.key,
        header.target,
        header.database,
        header.role,
        header.client.address,
        header.client.application,
        header.opened.format("%Y-%m-%d %H:%M:%S UTC"),
        header.gateway,
    );
    format!("{}\n\n", escape(&text))
}

fn mark(direction: Direction) -> char {
    match direction {
        Direction::ClientToGateway => '>',
        Direction::GatewayToClient => '<',
        Direction::GatewayToUpstream => '^',
    }
}

/// Time since the session began.
fn clock(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!(
        "{hours:02}:{minutes:02}:{:02}.{:03}",
        seconds % 60,
        micros / 1000 % 1000
    )
}

fn json_of(frame: &Frame) -> serde_json::Value {
    serde_json::json!({
        "micros": frame.micros,
        "kind": frame.kind.to_string(),
        "more": frame.more,
        "bytes": STANDARD.encode(&frame.bytes),
    })
}

fn raw_of(frame: &Frame) -> String {
    let mut out = format!("{} {} {} bytes\n", clock(frame.micros), frame.kind, frame.bytes.len());
    for (index, line) in frame.bytes.chunks(RAW_LINE_BYTES).enumerate() {
        let hex = line.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
        let shown = |byte: &u8| {
            if matches!(byte, b' '..=b'~') {
                char::from(*byte)
            } else {
                '.'
            }
        };
        let text = line.iter().map(shown).collect::<String>();
        // Nothing fails when writing into a string.
        let _ = writeln!(out, "  {:08x}  {hex:48} {text}", index * RAW_LINE_BYTES);
    }
    out
}
