//! `countersign recordings export`.

use crate::cli::recording::{SourceArgs, Walk};
use crate::cli::replay::{Cast, CastVersion, Form, Player};
use crate::cli::terminal::complain;
use anyhow::Context;
use countersign_infra::domain::id::SessionId;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Writes a recording to a file or to standard output, and warns if it was changed.
///
/// Exit code 0: written, and untouched as far as the recording reaches. 1: it was changed, or a part is missing; what
/// could be read is written all the same, and says so at its end (text: on standard error).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The session's id.
    session: SessionId,
    #[arg(long, value_enum)]
    format: Format,
    /// The version of an asciicast.
    #[arg(long, value_enum, default_value = "2", value_name = "VERSION")]
    asciicast_version: CastVersion,
    /// Readable by you alone; one that is there is replaced.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people: as replay prints it.
    Text,
    /// A JSON object a line for each message: when, which way, what it is, what it says.
    Json,
    /// For players of terminal recordings, like asciinema.
    Asciicast,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let form = match args.format {
        Format::Text => Form::Readable,
        Format::Json => Form::Messages,
        Format::Asciicast => Form::Cast(Cast::new(args.asciicast_version)),
    };
    let source = args.source.open().await?;
    let Some(walk) = Walk::begin(&source, args.session).await? else {
        complain(&format!("there is no recording of session {}", args.session));
        return Ok(ExitCode::from(1));
    };
    let is_sound = match &args.output {
        None => {
            let mut out = BufWriter::new(std::io::stdout());
            Player::new(form, &mut out, None).play(walk).await?
        }
        Some(path) => to_file(path, form, walk).await?,
    };
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What is at `path` is the old file or the whole new one, never a part.
async fn to_file(path: &Path, form: Form, walk: Walk<'_>) -> anyhow::Result<bool> {
    let named = || format!("{} cannot be written", path.display());
    let temporary = path.with_added_extension(format!("{}.part", uuid::Uuid::now_v7().simple()));
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(named)?;
    let mut out = BufWriter::new(file);
    let played = Player::new(form, &mut out, None).play(walk).await;
    let written = played.and_then(|is_sound| {
        out.flush()?;
        out.get_ref().sync_all()?;
        std::fs::rename(&temporary, path)?;
        Ok(is_sound)
    });
    if written.is_err() {
        // The error that came first is the one to tell.
        drop(std::fs::remove_file(&temporary));
    }
    written.with_context(named)
}
