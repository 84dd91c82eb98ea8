//! A comparison as Markdown, for a pull request.

use std::fmt::Write as _;

use super::super::format::{code, escape};
use super::Comparison;
use super::words::{accepted, change, headline, remarks, values};

/// A table of what moved, remarks, and a collapsed table of all metrics.
pub fn gate_markdown(comparison: &Comparison) -> String {
    let sign = if comparison.passed() { "✅" } else { "❌" };
    let mut text = format!("### kernelview: {sign} {}\n\n", headline(comparison));
    if !comparison.passed() {
        text.push_str("| metric | | before | now | change | accepted |\n|---|---|---:|---:|---:|---|\n");
        for row in comparison.findings() {
            let (old, new) = values(row);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | **{}** | {} | {} | {} | {} |",
                code(&row.name),
                row.status.text(),
                escape(&old),
                escape(&new),
                change(row),
                escape(&accepted(row))
            );
        }
        text.push('\n');
    }
    for remark in remarks(comparison) {
        let _ = writeln!(text, "- {}", escape(&remark));
    }
    text.push_str("\n<details><summary>All metrics</summary>\n\n");
    text.push_str("| metric | | before | now | accepted |\n|---|---|---:|---:|---|\n");
    for row in &comparison.rows {
        let (old, new) = values(row);
        let (name, status) = (code(&row.name), row.status.text());
        let _ =
            writeln!(text, "| {name} | {status} | {} | {} | {} |", escape(&old), escape(&new), escape(&accepted(row)));
    }
    text.push_str("\n</details>\n");
    text
}
