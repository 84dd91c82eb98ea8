//! `kernelview` tells whether fine-tuning a language model is in the kernel (lazy) regime, after S. Malladi, A. Wettig,
//! D. Yu, D. Chen, S. Arora, "A Kernel-Based View of Language Model Fine-Tuning" (ICML 2023, arXiv 2210.05643).
//!
//! Data flows one way: task and model → prompted batch → per-example gradients → kernels → solvers and measures →
//! report. See `ARCHITECTURE.md` for the map.

pub mod analysis;
pub mod cli;
pub mod device;
pub mod error;
pub mod evidence;
pub mod files;
pub mod gate;
pub mod gguf;
pub mod hub;
pub mod jacobian;
pub mod kernel;
pub mod lm;
pub mod lock;
pub mod lora;
mod machine;
pub mod measure;
pub mod natural;
pub mod network;
mod pickle;
pub mod pretrain;
pub mod program;
pub mod progress;
pub mod regression;
pub mod report;
pub mod reproduce;
pub mod shard;
pub mod stats;
pub mod subspace;
pub mod task;
#[path = "../theorems/mod.rs"]
pub mod theorems;
mod threads;
pub mod train;
pub mod verify;
