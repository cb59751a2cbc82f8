//! Answers as a file (RFC 4180).

/// A line of a CSV file. What a spreadsheet would take for a formula is made text.
pub fn line(cells: &[String]) -> String {
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
    fn a_spreadsheet_takes_nothing_for_a_formula() {
        let cells = ["=1+1".to_owned(), "a \"b\"\nc".to_owned(), String::new()];
        assert_eq!(line(&cells), "\"'=1+1\",\"a \"\"b\"\"\nc\",\"\"\r\n");
    }
}
