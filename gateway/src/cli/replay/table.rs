//! Rows of a result, lined up under their titles.

pub struct Table {
    pub micros: u64,
    titles: Vec<String>,
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
}

impl Table {
    pub fn new(micros: u64, titles: Vec<String>) -> Self {
        Self {
            micros,
            titles,
            rows: Vec::new(),
            widths: Vec::new(),
        }
    }

    /// Adds a row and says how many wait.
    pub fn push(&mut self, row: Vec<String>) -> usize {
        self.rows.push(row);
        self.rows.len()
    }

    /// The rows so far, lined up, under the titles if these were not printed yet.
    pub fn take_text(&mut self) -> String {
        let titles = std::mem::take(&mut self.titles);
        let rows = std::mem::take(&mut self.rows);
        for row in std::iter::once(&titles).chain(&rows) {
            self.widths.resize(self.widths.len().max(row.len()), 0);
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut lines = Vec::new();
        if !titles.is_empty() {
            lines.push(line(&titles, &self.widths));
            let rules = self.widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>();
            lines.push(rules.join("-+-"));
        }
        lines.extend(rows.iter().map(|row| line(row, &self.widths)));
        lines.join("\n")
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let filled = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
    filled.collect::<Vec<_>>().join(" | ").trim_end().to_owned()
}
