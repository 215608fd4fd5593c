//! A table as lines of aligned columns, for a preformatted block.

use pulldown_cmark::Alignment;
use unicode_width::UnicodeWidthStr;

/// Columns are not padded beyond this: one long cell must not widen every row.
const MAX_WIDTH: usize = 40;

#[derive(Debug)]
pub(super) struct Table {
    alignments: Vec<Alignment>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(alignments: Vec<Alignment>) -> Self {
        Self {
            alignments,
            rows: Vec::new(),
        }
    }

    pub(super) fn begin_row(&mut self) {
        self.rows.push(Vec::new());
    }

    pub(super) fn cell(&mut self, text: &str) {
        if let Some(row) = self.rows.last_mut() {
            row.push(text.trim().to_owned());
        }
    }

    pub(super) fn render(mut self) -> String {
        // The parser completes short rows; cells that are empty to the end need no padding.
        for row in &mut self.rows {
            while row.last().is_some_and(String::is_empty) {
                row.pop();
            }
        }
        let mut widths = vec![0; self.alignments.len()];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().min(MAX_WIDTH).max(*width);
            }
        }
        let mut lines: Vec<String> = self.rows.iter().map(|row| self.row(row, &widths)).collect();
        if lines.len() > 1 {
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            lines.insert(1, rule.join("-+-"));
        }
        lines.join("\n")
    }

    fn row(&self, row: &[String], widths: &[usize]) -> String {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .zip(&self.alignments)
            .map(|((cell, width), alignment)| pad(cell, *width, *alignment))
            .collect();
        cells.join(" | ").trim_end().to_owned()
    }
}

fn pad(cell: &str, width: usize, alignment: Alignment) -> String {
    let missing = width.saturating_sub(cell.width());
    let before = match alignment {
        Alignment::Right => missing,
        Alignment::Center => missing / 2,
        Alignment::Left | Alignment::None => 0,
    };
    format!(
        "{}{cell}{}",
        " ".repeat(before),
        " ".repeat(missing - before)
    )
}
