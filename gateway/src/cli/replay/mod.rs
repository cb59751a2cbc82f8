//! `countersign replay`: prints a recorded session readably, and checks it on the way.

mod message;
mod postgres;
mod values;

use super::recording::{Recording, Source, SourceArgs, witness};
use super::terminal::{complain, print};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_infra::domain::access_request::Protocol;
use countersign_infra::domain::display::escape;
use countersign_infra::domain::id::SessionId;
use countersign_infra::domain::session::SessionHeader;
use countersign_infra::recordings::format::{Direction, Envelope, Frame, Kind};
use countersign_infra::recordings::proof::{Verifier, read_header};
use postgres::Transcript;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

/// The longest pause that --speed makes.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Bytes of one line of --raw.
const RAW_LINE_BYTES: usize = 16;

/// Prints a session from its recording, and warns if it was changed.
///
/// > is what the client sent, < what it got, ^ what the gateway itself sent to the server, * a remark of the gateway.
///
/// Exit code 0: shown, and untouched as far as the recording reaches. 1: it was changed, or a part is missing.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The session's id.
    session: SessionId,
    /// Takes as long as the session did, divided by this; pauses of more than 5 seconds are shortened. Without it all
    /// is printed at once.
    #[arg(long, value_name = "FACTOR", value_parser = speed)]
    speed: Option<f64>,
    /// A JSON object a line for each frame: micros, kind, more, bytes in base 64.
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// The bytes as they are, in hexadecimal and as text.
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    source: SourceArgs,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(factor),
        Ok(_) | Err(_) => Err("a number above 0 is wanted, like 1 or 2.5".to_owned()),
    }
}

#[derive(Clone, Copy)]
enum Form {
    Readable,
    Json,
    Raw,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let form = match (args.json, args.raw) {
        (true, _) => Form::Json,
        (false, true) => Form::Raw,
        (false, false) => Form::Readable,
    };
    let source = args.source.open()?;
    let Some(recording) = source.recording(args.session).await? else {
        complain(&format!("there is no recording of session {}", args.session));
        return Ok(ExitCode::from(1));
    };
    let mut player = Player {
        form,
        speed: args.speed,
        micros: 0,
        transcript: Transcript::default(),
        is_postgres: true,
    };
    let is_sound = player.play(&source, args.session, &recording).await?;
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

struct Player {
    form: Form,
    speed: Option<f64>,
    /// Where the session is.
    micros: u64,
    transcript: Transcript,
    is_postgres: bool,
}

impl Player {
    /// Plays all of it, also what fails its check. Returns whether nothing did.
    async fn play(&mut self, source: &Source, session: SessionId, recording: &Recording) -> anyhow::Result<bool> {
        let mut soundness = Soundness::default();
        let events = match source.events(session).await {
            Ok(events) => events,
            Err(error) => {
                soundness.warn(&format!("the journal cannot be compared: {error:#}"));
                Vec::new()
            }
        };
        let mut verifier = match Verifier::new(session, &recording.key, witness(&events)) {
            Ok(verifier) => Some(verifier),
            Err(broken) => {
                soundness.warn(&broken.to_string());
                None
            }
        };
        for number in 0..recording.chunks {
            let chunk = source.chunk(session, number).await?;
            let checked = verifier.as_mut().map(|verifier| verifier.chunk(&chunk));
            let frames = match checked {
                Some(Ok(frames)) => frames,
                Some(Err(broken)) => {
                    soundness.warn(&broken.to_string());
                    verifier = None;
                    unchecked(&chunk)
                }
                None => unchecked(&chunk),
            };
            self.show_chunk(number, &frames).await?;
        }
        let transcript = std::mem::take(&mut self.transcript);
        for entry in transcript.finish() {
            self.say(entry.micros, mark(entry.direction), &entry.text)?;
        }
        match verifier.map(|verifier| verifier.finish(recording.manifest.as_deref())) {
            Some(Ok(report)) => self.ended(report.manifest.map(|manifest| manifest.why))?,
            Some(Err(broken)) => soundness.warn(&broken.to_string()),
            None => {}
        }
        Ok(soundness.is_sound)
    }

    async fn show_chunk(&mut self, number: u64, frames: &[Frame]) -> anyhow::Result<()> {
        if number == 0 {
            self.show_header(frames)?;
        }
        for frame in frames {
            self.pause(frame.micros).await;
            match self.form {
                Form::Json => print(&format!("{}\n", json_of(frame)))?,
                Form::Raw => print(&raw_of(frame))?,
                Form::Readable => self.show_frame(frame)?,
            }
        }
        Ok(())
    }

    fn show_header(&mut self, frames: &[Frame]) -> anyhow::Result<()> {
        if let (Ok(header), Form::Readable) = (read_header(frames), self.form) {
            self.is_postgres = match header.protocol {
                Protocol::Postgres => true,
                Protocol::Ssh | Protocol::Http => false,
            };
            print(&title(&header))?;
        }
        Ok(())
    }

    fn show_frame(&mut self, frame: &Frame) -> anyhow::Result<()> {
        match frame.kind {
            Kind::Header => Ok(()),
            Kind::Event => self.say(frame.micros, '*', &escape(&String::from_utf8_lossy(&frame.bytes))),
            Kind::Wire(_) if !self.is_postgres => Ok(print(&raw_of(frame))?),
            Kind::Wire(direction) => {
                for entry in self.transcript.push(direction, frame.micros, &frame.bytes) {
                    self.say(entry.micros, mark(entry.direction), &entry.text)?;
                }
                Ok(())
            }
        }
    }

    fn say(&self, micros: u64, mark: char, text: &str) -> anyhow::Result<()> {
        let time = clock(micros);
        let blank = " ".repeat(time.len());
        let mut out = String::new();
        for (index, line) in text.split('\n').enumerate() {
            let begin = if index == 0 { &time } else { &blank };
            writeln!(out, "{begin} {mark} {line}")?;
        }
        Ok(print(&out)?)
    }

    fn ended(&self, why: Option<String>) -> anyhow::Result<()> {
        if !matches!(self.form, Form::Readable) {
            return Ok(());
        }
        let text = match why {
            Some(why) => format!("ended: {}", escape(&why)),
            None => "the session was still open when this was recorded".to_owned(),
        };
        self.say(self.micros, '*', &text)
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

struct Soundness {
    is_sound: bool,
}

impl Default for Soundness {
    fn default() -> Self {
        Self { is_sound: true }
    }
}

impl Soundness {
    fn warn(&mut self, what: &str) {
        self.is_sound = false;
        complain(&format!(
            "WARNING: THIS RECORDING IS NOT PROVED TO BE WHAT WAS RECORDED: {what}"
        ));
    }
}

/// The frames of a chunk that failed its check; none when it cannot even be read.
fn unchecked(chunk: &[u8]) -> Vec<Frame> {
    Envelope::parse(chunk)
        .and_then(|envelope| envelope.frames())
        .unwrap_or_default()
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
