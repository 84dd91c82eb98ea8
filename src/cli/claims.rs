//! `kernelview claims`.

use clap::Args;

use super::output::{self, outln};
use crate::error::Result;
use crate::report::{ClaimFacts, registry_list, registry_markdown};
use crate::theorems::all_claims;

#[derive(Args)]
pub(super) struct ClaimsArgs {
    /// Output format: text, the README's table, or JSON
    #[arg(long, value_enum, default_value = "table")]
    pub format: ListFormat,
}

/// Forms of the list of claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ListFormat {
    /// Three lines per claim, by topic.
    Table,
    /// A Markdown table.
    Markdown,
    /// An array of objects.
    Json,
}

/// Lists the claims that `verify` examines.
pub(super) fn run(args: &ClaimsArgs) -> Result<()> {
    let claims: Vec<ClaimFacts> = all_claims()
        .map(|c| ClaimFacts {
            id: c.id,
            topic: c.topic.text(),
            title: c.title,
            source: c.source,
            prediction: c.prediction,
            mutants: c.mutants.len() + c.graded.len(),
        })
        .collect();
    match args.format {
        ListFormat::Table => output::text(registry_list(&claims)),
        ListFormat::Markdown => outln!("{}", registry_markdown(&claims)),
        ListFormat::Json => outln!("{}", serde_json::to_string_pretty(&claims).expect("claims are plain data")),
    }
}
