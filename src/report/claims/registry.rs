//! The list of claims, for the terminal and the README.

use crate::report::format::{escape, plain};

/// A claim in the list.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct ClaimFacts<'a> {
    /// Identifier.
    pub id: &'a str,
    /// Topic.
    pub topic: &'a str,
    /// One line.
    pub title: &'a str,
    /// Where the statement comes from.
    pub source: &'a str,
    /// The prediction in a few words.
    pub prediction: &'a str,
    /// Number of mutants that its checks must notice.
    pub mutants: usize,
}

/// A Markdown table, without a trailing newline.
pub fn registry_markdown(claims: &[ClaimFacts]) -> String {
    let mut lines = vec!["| claim | statement | prediction | source |".to_owned(), "|---|---|---|---|".to_owned()];
    lines.extend(
        claims
            .iter()
            .map(|c| format!("| `{}` | {} | {} | {} |", c.id, escape(c.title), escape(c.prediction), escape(c.source))),
    );
    lines.join("\n")
}

/// For a terminal: topics with their claims, three lines per claim.
pub fn registry_list(claims: &[ClaimFacts]) -> String {
    let mut lines = Vec::new();
    let mut topic = "";
    for claim in claims {
        if claim.topic != topic {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.push(format!("{}:", claim.topic));
            topic = claim.topic;
        }
        lines.push(format!("  {}  {}", claim.id, plain(claim.title)));
        lines.push(format!("      predicts  {}", plain(claim.prediction)));
        lines.push(format!("      source    {}", plain(claim.source)));
    }
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}
