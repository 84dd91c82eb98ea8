//! LoRA adapters of a study: new ones, or those of a PEFT directory. In kernels and fine-tuning they take the place of the
//! weights.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::files::{file_digest, named_seed};
use crate::jacobian::Parameters;
use crate::lm::{Modules, PeftAdapter, default_targets};
use crate::subspace::{Init, Lora, Target};

/// Where the adapters come from.
#[derive(Clone, Debug, PartialEq)]
pub enum AdapterRequest {
    /// New adapters: B is zero, A is drawn from the split's seed.
    New {
        /// Ends of modules' names; `None` for PEFT's default for the architecture.
        targets: Vec<String>,
        /// Rank k.
        rank: i64,
        /// The factor s.
        scaling: f64,
        /// How A is drawn.
        init: Init,
    },
    /// Adapters from a PEFT directory.
    Read(PathBuf),
}

/// Adapters, with the parameters of the network that they extend.
pub(super) struct Adapters {
    pub lora: Lora,
    pub extended: Parameters,
    /// Title in reports.
    pub title: String,
    /// What they depend on, for digests.
    pub identity: String,
    /// A caveat for readers of the results.
    pub note: Option<String>,
}

impl Adapters {
    /// Puts adapters on a network.
    ///
    /// # Errors
    /// Unknown targets; files that do not fit.
    pub fn of(request: &AdapterRequest, architecture: &str, network: &Parameters, seed: u64) -> Result<Self> {
        match request {
            AdapterRequest::New { targets, rank, scaling, init } => {
                let names: Vec<String> = if targets.is_empty() {
                    default_targets(architecture).iter().map(|t| (*t).to_owned()).collect()
                } else {
                    targets.clone()
                };
                let chosen = Modules::of(network.specs()).choose(&names)?;
                let wanted: Vec<Target> =
                    chosen.into_iter().map(|weight| Target { weight, rank: *rank, scaling: *scaling }).collect();
                let lora = Lora::new(network.specs(), &wanted)?;
                let extended = lora.parameters(network, *init, named_seed(seed, "adapters"));
                let title = format!("adapters of rank {rank} on {}", names.join(", "));
                let identity = format!("{names:?} {rank} {scaling:e} {init:?} {seed}");
                Ok(Self { lora, extended, title, identity, note: None })
            }
            AdapterRequest::Read(directory) => {
                let adapter = PeftAdapter::load(directory, network.specs())?;
                let extended = adapter.parameters(network);
                let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let identity = identity(directory)?;
                let without_effect = match &adapter.notes[..] {
                    [] => String::new(),
                    notes => format!(" (without effect: {})", notes.join(", ")),
                };
                let title = format!("the adapters of {name}{without_effect}");
                let note = replaced(&adapter.lora);
                Ok(Self { extended, lora: adapter.lora, title, identity, note })
            }
        }
    }
}

/// A note on parameters of the network that the adapter's files replaced.
fn replaced(lora: &Lora) -> Option<String> {
    let names: Vec<String> = lora.replaced().iter().map(|p| format!("`{}`", lora.specs()[p.0].name)).collect();
    let (first, more) = (names.first()?, names.len() - 1);
    let others = if more == 0 { String::new() } else { format!(" and {more} more") };
    Some(format!(
        "The adapter brings parameters of the network itself ({first}{others}): f is computed with them, but they take no part in \
         kernels and fine-tuning."
    ))
}

/// Digest of a PEFT directory's files.
fn identity(directory: &Path) -> Result<String> {
    let mut all = String::new();
    for name in ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"] {
        let path = directory.join(name);
        if path.exists() {
            all += &file_digest(&path)?;
        }
    }
    Ok(all)
}
