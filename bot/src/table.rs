//! Tables that people can read on a phone.

/// A cell: one line, escaped, of at most so many characters.
pub fn cell(text: &str, chars_max: usize) -> String {
    let line = countersign_infra::domain::display::escape(text).replace(['\n', '\t'], " ");
    let line = line.trim();
    if line.chars().count() <= chars_max {
        return line.to_owned();
    }
    let kept: String = line.chars().take(chars_max.saturating_sub(2)).collect();
    format!("{kept}..")
}

/// Columns of letters of one width, two blanks between them.
pub fn draw<const N: usize>(title: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = title.map(|name| name.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(title)).chain(rows).collect::<Vec<_>>().join("\n")
}

/// A line of a CSV file (RFC 4180). What a spreadsheet would take for a formula is made text.
pub fn csv_line(cells: &[String]) -> String {
    let cells = cells.iter().map(|cell| {
        let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let mark = if formula { "'" } else { "" };
        format!("\"{mark}{}\"", cell.replace('"', "\"\""))
    });
    format!("{}\r\n", cells.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [
            ["a".to_owned(), "long one".to_owned()],
            ["bcd".to_owned(), "x".to_owned()],
        ];
        assert_eq!(draw(["N", "WHAT"], &rows), "N    WHAT\na    long one\nbcd  x");
        assert_eq!(cell("a\nb\u{202e}", 40), "a b\\u{202e}");
        assert_eq!(cell("abcdef", 4), "ab..");
    }

    #[test]
    fn a_spreadsheet_takes_nothing_for_a_formula() {
        let cells = ["=1+1".to_owned(), "a \"b\"\nc".to_owned(), String::new()];
        assert_eq!(csv_line(&cells), "\"'=1+1\",\"a \"\"b\"\"\nc\",\"\"\r\n");
    }
}
