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
}
