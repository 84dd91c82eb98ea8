//! A comparison as GitHub Actions workflow commands, which are shown as annotations of a pull request.

use super::super::format::plain;
use super::Comparison;
use super::words::{accepted, headline, values};

/// GitHub shows ten errors per step; the tenth states how many more there are.
const MOST: usize = 9;

/// An error per finding, on the baseline's file in the repository; nothing without findings.
pub fn gate_annotations(comparison: &Comparison, file: &str) -> String {
    let error = |title: &str, message: &str| {
        format!("::error file={},title={}::{}\n", property(file), property(title), data(message))
    };
    let findings: Vec<_> = comparison.findings().collect();
    let shown = if findings.len() > MOST + 1 { MOST } else { findings.len() };
    let mut text = String::new();
    for row in &findings[..shown] {
        let (old, new) = values(row);
        let title = format!("{} {}", plain(&row.name), row.status.text());
        text.push_str(&error(&title, &format!("{old} before, {new} now; accepted: {}", accepted(row))));
    }
    if findings.len() > shown {
        let more = format!("{} more: {}", findings.len() - shown, headline(comparison));
        text.push_str(&error("kernelview", &more));
    }
    text
}

/// Escapes the message after the second `::`.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property, which ends at a comma or colon.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
