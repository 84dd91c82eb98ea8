//! The claims: each measured with its controls and its mutants, and the laws that their experiments rest on.

#[path = "../common/mod.rs"]
mod common;

mod claims;
mod dichotomies;
mod identities;
