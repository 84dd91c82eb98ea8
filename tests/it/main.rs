//! Tests of the library and of the program, in one binary with a module for each topic. Claims are in `tests/claims`,
//! disturbances of a run from outside in `tests/faults`.

#[path = "../common/mod.rs"]
mod common;

mod adapters;
mod all_linear;
mod analysis;
mod answers;
mod architectures;
mod cancellation;
mod causal_checkpoints;
mod checkpoint_errors;
mod checkpoint_settings;
mod checkpoints;
mod choices;
mod claims_report;
mod cli;
mod cli_errors;
mod cli_verify;
mod cloze;
mod committed_reports;
mod corpus;
mod data_files;
mod decoders;
mod drawn;
mod exchange;
mod full_disk;
mod gate;
mod gguf;
mod golden;
#[cfg(feature = "hub")]
mod hub;
mod kernel_cases;
mod kernel_file;
mod language;
mod laws;
mod lora;
mod network;
mod not_finite;
mod parity;
mod parity_table;
mod parts;
mod pretrain;
mod program;
mod readme;
mod refused;
mod report;
mod reproduce;
mod shards;
mod sketch;
mod solve;
mod solvers;
mod stats;
mod strategies;
mod task_golden;
mod tasks;
mod tidy;
mod tokenizers;
mod training;
mod verify;
mod weights;
