//! `kernelview claims`.

use super::arguments::{ClaimsArgs, ListFormat};
use crate::report::{ClaimFacts, registry_list, registry_markdown};
use crate::theorems::all_claims;

/// Lists the claims that `verify` examines.
pub(super) fn run(args: &ClaimsArgs) {
    let claims: Vec<ClaimFacts> = all_claims()
        .map(|c| ClaimFacts {
            id: c.id,
            family: c.family.text(),
            title: c.title,
            source: c.source,
            prediction: c.prediction,
            mutants: c.mutants.len(),
        })
        .collect();
    match args.format {
        ListFormat::Table => print!("{}", registry_list(&claims)),
        ListFormat::Markdown => println!("{}", registry_markdown(&claims)),
        ListFormat::Json => println!("{}", serde_json::to_string_pretty(&claims).expect("claims are plain data")),
    }
}
