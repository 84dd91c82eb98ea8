//! A comparison for the terminal.

use super::super::format::{plain, shorten};
use super::super::terminal::{WIDTH, table, wrap};
use super::Comparison;
use super::words::{accepted, change, headline, remarks, values};

/// A table of what moved, at most 100 columns wide except for long names, then remarks.
pub fn gate_summary(comparison: &Comparison) -> String {
    let mut lines = Vec::new();
    let mut rows = vec![["metric", "", "before", "now", "change", "accepted"].map(String::from)];
    for row in comparison.findings() {
        let (old, new) = values(row);
        let cells = [plain(&row.name), row.status.text().to_owned(), old, new, change(row), accepted(row)];
        rows.push(cells.map(|cell| shorten(&cell, WIDTH)));
    }
    if rows.len() > 1 {
        lines.extend(table(&rows));
        lines.push(String::new());
    }
    lines.push(format!("gate: {}", headline(comparison)));
    lines.extend(remarks(comparison).iter().flat_map(|r| wrap(r)));
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}
