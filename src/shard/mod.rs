//! A kernel as independent shards: which part is this process's, where its blocks lie, and how they become one file again.
//!
//! Every block is a kernel file of its own, written whole, under a digest of everything that it depends on; a shard that is
//! run again computes what is missing. Knows no model: what a kernel is of comes from its caller.

mod directory;
mod manifest;

pub(crate) use directory::Layout;
pub use manifest::{Manifest, ShardStore, merge};
