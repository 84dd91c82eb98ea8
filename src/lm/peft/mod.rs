//! LoRA adapters as the PEFT library stores them: a directory with `adapter_config.json` and
//! `adapter_model.safetensors`. Knows files and names of modules; what an adapter does is `subspace`'s.

mod config;
mod save;
mod targets;

use std::collections::BTreeMap;
use std::path::Path;

use tch::Tensor;

pub use save::save_adapter;
pub use targets::{Modules, TargetModules, default_targets};

use self::config::Settings;
use super::assemble::all_finite;
use super::checkpoint::{self, TensorSource};
use crate::error::{Error, Result};
use crate::jacobian::{ParameterSpec, Parameters};
use crate::subspace::{Lora, Target};

/// What PEFT puts in front of every module's name.
const WRAPPER: &str = "base_model.model.";
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What older versions wrote.
const OLDER_WEIGHTS: &str = "adapter_model.bin";

/// An adapter of a network, as read.
#[derive(Debug)]
pub struct PeftAdapter {
    /// Which weights are adapted, with ranks and factors s.
    pub lora: Lora,
    factors: Vec<(Tensor, Tensor)>,
}

impl PeftAdapter {
    /// Reads an adapter of a network with these parameters. Tensors may be in half, single or double precision.
    ///
    /// # Errors
    /// Settings that are not supported; tensors that are missing, misshapen, not finite, or of a module that the network
    /// does not have or the settings do not name.
    pub fn load(directory: &Path, network: &[ParameterSpec]) -> Result<Self> {
        let config = directory.join(CONFIG);
        if !config.exists() {
            let message = format!("no {CONFIG} here: expected the directory of a PEFT adapter");
            return Err(Error::format(directory, message));
        }
        let settings = Settings::read(&config)?;
        let (mut stored, weights) = read_weights(directory)?;
        let modules = names_as_stored(Modules::of(network), network, &stored);
        let (mut targets, mut factors) = (Vec::new(), Vec::new());
        for (module, weight) in modules.iter() {
            if !settings.adapts(module)? {
                continue;
            }
            let (rank, scaling) = settings.of(module)?;
            let [out, input] = network[weight.0].shape[..] else { continue };
            let mut take = |factor: &str, shape: [i64; 2]| {
                let name = format!("{WRAPPER}{module}.{factor}.weight");
                let source = stored.remove(&name);
                checked(source, &name, &shape, rank, &weights)
            };
            factors.push((take("lora_A", [rank, input])?, take("lora_B", [out, rank])?));
            targets.push(Target { weight, rank, scaling });
        }
        if let Some((name, source)) = stored.first_key_value() {
            return Err(Error::format(&source.file, left_over(name, &modules)));
        }
        if targets.is_empty() {
            let kinds = modules.kinds().join(", ");
            return Err(Error::format(
                &config,
                format!("target_modules names no linear map of this network; it has: {kinds}"),
            ));
        }
        Ok(Self { lora: Lora::new(network, &targets)?, factors })
    }

    /// The network's parameters extended by the factors.
    pub fn parameters(&self, network: &Parameters) -> Parameters {
        self.lora.assemble(network, self.factors.iter().map(|(a, b)| (a.shallow_clone(), b.shallow_clone())))
    }
}

/// The tensors of the adapter, and the file that they are in.
fn read_weights(directory: &Path) -> Result<(BTreeMap<String, TensorSource>, std::path::PathBuf)> {
    let (weights, older) = (directory.join(WEIGHTS), directory.join(OLDER_WEIGHTS));
    if weights.exists() {
        Ok((checkpoint::read(&weights)?, weights))
    } else if older.exists() {
        Ok((checkpoint::read(&older)?, older))
    } else {
        Err(Error::format(directory, format!("no weights: expected {WEIGHTS} or {OLDER_WEIGHTS} beside {CONFIG}")))
    }
}

/// Modules by the names that the file has for them: an adapter of a class without a head has no model's prefix.
fn names_as_stored(modules: Modules, network: &[ParameterSpec], stored: &BTreeMap<String, TensorSource>) -> Modules {
    let Some((prefix, _)) = network.first().and_then(|spec| spec.name.split_once('.')) else { return modules };
    let is_known =
        |m: &Modules| stored.keys().any(|key| module_of(key).is_some_and(|(module, _)| m.find(module).is_some()));
    let bare = modules.without_prefix(prefix);
    if !is_known(&modules) && is_known(&bare) { bare } else { modules }
}

/// Module and factor that a tensor's name speaks of.
fn module_of(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(WRAPPER).unwrap_or(name);
    let at = rest.rfind(".lora_")?;
    Some((&rest[..at], &rest[at + 1..]))
}

/// A factor of the right shape with finite numbers.
fn checked(source: Option<TensorSource>, name: &str, shape: &[i64], rank: i64, file: &Path) -> Result<Tensor> {
    let Some(TensorSource { tensor, file }) = source else {
        return Err(Error::TensorMissing {
            path: file.to_path_buf(),
            tensor: name.to_owned(),
            expected: shape.to_vec(),
            hint: format!("target_modules of {CONFIG} names its module; does the adapter belong to this model?"),
        });
    };
    if tensor.size() != shape {
        return Err(Error::TensorShape {
            path: file,
            tensor: name.to_owned(),
            expected: shape.to_vec(),
            found: tensor.size(),
            reason: format!("rank {rank} by r and rank_pattern of {CONFIG}, the rest by the model's own weight"),
        });
    }
    if !tensor.is_floating_point() {
        let message = format!("tensor `{name}` holds {:?}, expected floating-point numbers", tensor.kind());
        return Err(Error::format(file, message));
    }
    if !all_finite(&tensor) {
        return Err(Error::format(file, format!("tensor `{name}` holds NaN or infinity: its training diverged")));
    }
    Ok(tensor)
}

/// What is wrong with a tensor that no adapted module has a use for.
fn left_over(name: &str, modules: &Modules) -> String {
    let Some((module, factor)) = module_of(name) else {
        return format!("tensor `{name}` is no LoRA factor; modules that are saved whole are not supported");
    };
    if factor.starts_with("lora_embedding") {
        return format!("tensor `{name}` adapts an embedding, which is not supported; adapt linear maps only");
    }
    if !["lora_A.weight", "lora_B.weight"].contains(&factor) {
        return format!("tensor `{name}`: the factor `{factor}` is not supported; lora_A.weight and lora_B.weight are");
    }
    if modules.find(module).is_some() {
        return format!("tensor `{name}` belongs to a module that target_modules of {CONFIG} does not name");
    }
    format!(
        "tensor `{name}` belongs to `{module}`, which is no linear map of this model that can be adapted; it has: {}",
        modules.kinds().join(", ")
    )
}
