//! What is held, part by part, and how far somebody has read it.

use super::super::Console;
use super::super::problem::Problem;
use super::super::read_operation::is_as_asked;
use super::super::readings::has_read_whole;
use super::super::search_audit::note_reading;
use super::session::Visitor;
use axum::http::{HeaderMap, HeaderValue};
use countersign_infra::domain::approval::Approval;
use countersign_infra::domain::display::escape;
use countersign_infra::domain::id::ApprovalId;
use countersign_infra::domain::ticket::{PageReading, PageSession, Purpose, Ticket};
use countersign_infra::journal::reading::Reading;
use countersign_infra::tickets::TicketError;
use maud::{Markup, html};

/// As much of an operation as one page shows, in bytes.
const PART_BYTES_MAX: usize = 32 << 10;
/// How often the note of a reading is tried against pages that are opened at the same time.
const TRIES_MAX: usize = 3;

/// One part of an operation's display text.
pub struct Part {
    pub text: String,
    /// Counts from 1.
    pub number: u64,
    pub of: u64,
    /// The approval's record shows the beginning of this very text.
    pub as_asked: bool,
}

impl Part {
    pub fn is_last(&self) -> bool {
        self.number == self.of
    }
}

/// By whom a page was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// By the visitor, or by a page of this site.
    Here,
    Elsewhere,
}

impl Turned {
    /// As the browser says (Fetch Metadata Request Headers, <https://www.w3.org/TR/fetch-metadata/>). What says nothing is no
    /// browser of today, and nobody's page sent it.
    pub fn of(headers: &HeaderMap) -> Self {
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        match site {
            None | Some(b"same-origin" | b"none") => Self::Here,
            Some(_) => Self::Elsewhere,
        }
    }
}

/// Reads a part for a visitor. With the last one the reading of the whole is journaled, if the parts before were served
/// too.
pub async fn read_part(
    console: &Console,
    visitor: &Visitor,
    approval: &Approval,
    wanted: Option<u64>,
    turned: Turned,
) -> Result<Part, Problem> {
    let record = &approval.operation;
    if record.display.len() as u64 >= record.display_bytes {
        // A card shows less than a record keeps.
        if approval.is_open() && !console.readings.remembers(&approval.id, &visitor.caller.0.key) {
            note_whole(console, visitor, approval, true).await?;
        }
        return Ok(Part {
            text: record.display.clone(),
            number: 1,
            of: 1,
            as_asked: true,
        });
    }
    // Operations may be large, so few are in memory at once. The request's own deadline bounds the wait.
    let _place = console.readings.place().await?;
    let whole = console.operations.read(record.digest).await?;
    let parts = parts(&whole.display);
    let of = parts.len() as u64;
    let number = wanted.unwrap_or(1);
    let text = number
        .checked_sub(1)
        .and_then(|index| parts.get(usize::try_from(index).ok()?));
    let text = text.ok_or_else(|| Problem::not_found(format!("this operation has {of} parts")))?;
    let part = Part {
        text: (*text).to_owned(),
        number,
        of,
        as_asked: is_as_asked(&whole, record),
    };
    // Another site may open a first part: a chat's link does. It cannot turn the pages.
    let counts = turned == Turned::Here || number == 1;
    if !counts {
        return Ok(part);
    }
    let served = note_part(console, &visitor.ticket, &approval.id, number).await?;
    if part.is_last() && served >= of && !has_read_whole(console, &visitor.caller, approval).await? {
        note_whole(console, visitor, approval, part.as_asked).await?;
    }
    Ok(part)
}

/// Parts of a text, none empty: they end with a line where one ends in the second half of what a part may have.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while rest.len() > PART_BYTES_MAX {
        let room = rest.get(..rest.floor_char_boundary(PART_BYTES_MAX)).unwrap_or(rest);
        let line = room
            .rfind('\n')
            .map(|end| end + 1)
            .filter(|end| *end > PART_BYTES_MAX / 2);
        let (part, more) = rest.split_at(line.unwrap_or(room.len()));
        parts.push(part);
        rest = more;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(rest);
    }
    parts
}

/// Notes in the session that a part is served. Says how many were, from the first on without a gap.
async fn note_part(console: &Console, ticket: &Ticket, approval: &ApprovalId, number: u64) -> Result<u64, Problem> {
    let mut ticket = ticket.clone();
    for _ in 0..TRIES_MAX {
        let Purpose::PageSession(session) = &ticket.purpose else {
            break;
        };
        let before = served(session, approval);
        if number != before + 1 {
            return Ok(before);
        }
        let reading = PageReading {
            approval: approval.clone(),
            parts: number,
        };
        let next = ticket.with(Purpose::PageSession(PageSession {
            reading: Some(reading),
            ..session.clone()
        }));
        match console.pages.tickets.replace(&next, &ticket).await {
            Ok(()) => return Ok(number),
            Err(TicketError::Conflict { current: Some(current) }) => ticket = *current,
            Err(TicketError::Conflict { current: None }) => break,
            Err(error @ (TicketError::Damaged { .. } | TicketError::Unavailable { .. })) => return Err(error.into()),
        }
    }
    Err(Problem::refused(
        "you read in several windows at once, or were signed out: load this page again",
        None,
    ))
}

fn served(session: &PageSession, approval: &ApprovalId) -> u64 {
    let reading = session.reading.as_ref().filter(|reading| reading.approval == *approval);
    reading.map_or(0, |reading| reading.parts)
}

async fn note_whole(console: &Console, visitor: &Visitor, approval: &Approval, as_asked: bool) -> Result<(), Problem> {
    let reading = Reading {
        approval: &approval.id,
        exact: false,
        as_asked,
    };
    note_reading(console, &visitor.caller, reading.in_words()).await?;
    console.readings.note(&reading, &visitor.caller.0.key);
    Ok(())
}

/// The text with its escapes marked: what they stand for would not be seen, or would rearrange what is.
pub fn marked(text: &str) -> Markup {
    let text = escape(text);
    html! {
        @for (piece, is_escape) in pieces(&text) {
            @if is_escape { mark { (piece) } } @else { (piece) }
        }
    }
}

/// Cuts a text at its escapes (`\u{..}`).
fn pieces(text: &str) -> Vec<(&str, bool)> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    let mut from = 0;
    while let Some(start) = rest
        .get(from..)
        .and_then(|more| more.find("\\u{"))
        .map(|start| from + start)
    {
        let digits = rest.get(start + 3..).unwrap_or_default();
        let length = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
        let is_escape = (1..=6).contains(&length) && digits.as_bytes().get(length) == Some(&b'}');
        if !is_escape {
            from = start + 3;
            continue;
        }
        let (before, found) = rest.split_at(start);
        let (escape, after) = found.split_at(length + 4);
        pieces.extend([(before, false), (escape, true)]);
        (rest, from) = (after, 0);
    }
    pieces.push((rest, false));
    pieces.retain(|(piece, _)| !piece.is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_text_are_all_of_it_and_end_with_lines_where_they_can() {
        let lines = "select 1; -- ü\n".repeat(20_000);
        for text in [
            "",
            "short",
            &lines,
            &"x".repeat(3 * PART_BYTES_MAX),
            &"€".repeat(100_000),
        ] {
            let parts = parts(text);
            assert_eq!(parts.concat(), text);
            assert!(parts.iter().all(|part| part.len() <= PART_BYTES_MAX));
            assert!(text.is_empty() || parts.iter().all(|part| !part.is_empty()));
        }
        assert_eq!(parts("").len(), 1);
        assert_eq!(parts(&"x".repeat(PART_BYTES_MAX)).len(), 1);
        assert_eq!(parts(&"x".repeat(PART_BYTES_MAX + 1)).len(), 2);
        assert!(parts(&lines).iter().all(|part| part.ends_with('\n')));
    }

    #[test]
    fn escapes_stand_out_and_markup_is_text() {
        let check = |text: &str, expected: &str| assert_eq!(marked(text).into_string(), expected, "{text:?}");
        check("select 1", "select 1");
        check("a\u{202e}b", "a<mark>\\u{202e}</mark>b");
        check("\u{200b}\u{7}", "<mark>\\u{200b}</mark><mark>\\u{7}</mark>");
        check("<b>'\"&", "&lt;b&gt;'&quot;&amp;");
        check("\\u{", "\\u{");
        check("\\u{}\\u{zz}\\u{12", "\\u{}\\u{zz}\\u{12");
        check("\\u{\\u{41}", "\\u{<mark>\\u{41}</mark>");
        check("two\nlines\tand a tab", "two\nlines\tand a tab");
    }
}
