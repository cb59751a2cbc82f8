//! What the commands print: escaped, so that nothing that came from elsewhere moves the reader's cursor.

pub use crate::console::words::{ago, length, time};
use countersign_infra::domain::display::escape;
pub use countersign_infra::table::{head, table};
use std::io::Write;

/// Writes to standard output at once.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a value as JSON, indented, with a newline at the end.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(print(&format!("{text}\n"))?)
}

/// Says something beside the result, on standard error: nobody pipes it on.
pub fn tell(text: &str) {
    // Nobody is left to tell when this fails.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// Writes an error to standard error.
pub fn complain(text: &str) {
    // Nobody is left to tell when this fails.
    drop(writeln!(std::io::stderr().lock(), "countersign: {}", escape(text)));
}
