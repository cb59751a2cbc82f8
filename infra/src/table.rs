//! Tables of letters of one width, for terminals and chats.

use crate::domain::display::escape;

/// One line of somebody else's text, cut to so many characters.
pub fn head(text: &str, chars_max: usize) -> String {
    let line = escape(text).split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(chars_max.saturating_sub(1)) {
        Some((end, _)) if line.chars().count() > chars_max => format!("{}…", line.get(..end).unwrap_or_default()),
        Some(_) | None => line,
    }
}

/// Lines up rows in columns, two blanks between them. The last column is not filled up.
pub fn table<const N: usize>(title: [&str; N], rows: &[[String; N]]) -> String {
    let width = |cell: &str| cell.chars().count();
    let mut widths = title.map(width);
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    let line = |cells: [&str; N]| {
        let filled = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", filled.collect::<Vec<_>>().join("  ").trim_end())
    };
    let body = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(title)).chain(body).collect()
}

/// What stands before the lines of [`list`] that are below others.
const INDENT: &str = "  ";

/// The same with one more line below each row, for screens too narrow for one more column. No line has more than
/// `chars_max` characters.
pub fn list<const N: usize>(title: [&str; N], rows: &[([String; N], String)], chars_max: usize) -> String {
    let cells: Vec<[String; N]> = rows.iter().map(|(cells, _)| cells.clone()).collect();
    let columns = table(title, &cells);
    let mut lines = columns.lines();
    let first = lines.next().map(|title| cut(title, chars_max));
    let below = rows
        .iter()
        .map(|(_, below)| format!("{INDENT}{}", head(below, chars_max.saturating_sub(INDENT.len()))));
    let rows = lines.zip(below).flat_map(|(row, below)| [cut(row, chars_max), below]);
    first.into_iter().chain(rows).map(|line| format!("{line}\n")).collect()
}

fn cut(line: &str, chars_max: usize) -> String {
    line.chars().take(chars_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_one_line_and_moves_no_cursor() {
        for (text, wanted) in [
            ("DELETE FROM orders\n  WHERE id = 7", "DELETE FROM orders WHERE id = 7"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            (
                "0123456789012345678901234567890123456789",
                "0123456789012345678901234567890123456789",
            ),
            (
                "01234567890123456789012345678901234567890",
                "012345678901234567890123456789012345678…",
            ),
        ] {
            assert_eq!(head(text, 40), wanted);
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            ["a".to_owned(), "é".to_owned(), "x".to_owned()],
            ["bbb".to_owned(), String::new(), String::new()],
        ];
        assert_eq!(table(["N", "WHO", "WHAT"], &rows), "N    WHO  WHAT\na    é    x\nbbb\n");
    }

    #[test]
    fn a_list_is_no_wider_than_it_is_told() {
        let row = |who: &str, what: &str| ([who.to_owned(), "denied".to_owned()], what.to_owned());
        let rows = [row("alice", "delete from orders\n where id = 7"), row("bob", "vacuum")];
        assert_eq!(
            list(["WHO", "STATE"], &rows, 20),
            "WHO    STATE\nalice  denied\n  delete from order…\nbob    denied\n  vacuum\n"
        );
        let rows = [row(&"a".repeat(40), &"b".repeat(40))];
        for line in list(["WHO", "STATE"], &rows, 20).lines() {
            assert!(line.chars().count() <= 20, "{line}");
        }
        assert_eq!(list(["WHO", "STATE"], &[], 20), "WHO  STATE\n");
    }
}
