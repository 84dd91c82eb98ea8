//! The claims: each is measured with its controls and mutants; and the laws on which their experiments rest.

#[path = "../common/mod.rs"]
mod common;

mod claims;
mod dichotomies;
mod identities;
