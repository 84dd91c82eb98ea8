//! A kernel computed in independent shards: the directory of blocks, and their assembly into one file.
//!
//! Every block is a separate kernel file, written atomically, under a digest of everything that it depends on; a repeated
//! shard computes only missing blocks. Knows no model: the caller describes the kernel.

mod directory;
mod manifest;

pub(crate) use directory::{Layout, incomplete};
pub use manifest::{Manifest, ShardStore, merge};
