//! `countersign replay`: prints a recorded session readably, and checks it on the way.

mod cast;
mod message;
mod player;
mod postgres;
mod table;
mod values;

pub use cast::{Cast, CastVersion};
pub use player::{Form, Player};

use super::recording::{SourceArgs, Walk};
use super::terminal::complain;
use countersign_infra::domain::id::SessionId;
use std::process::ExitCode;

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

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let form = match (args.json, args.raw) {
        (true, _) => Form::Frames,
        (false, true) => Form::Raw,
        (false, false) => Form::Readable,
    };
    let source = args.source.open().await?;
    let Some(walk) = Walk::begin(&source, args.session).await? else {
        complain(&format!("there is no recording of session {}", args.session));
        return Ok(ExitCode::from(1));
    };
    let mut out = std::io::BufWriter::new(std::io::stdout());
    let is_sound = Player::new(form, &mut out, args.speed).play(walk).await?;
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
