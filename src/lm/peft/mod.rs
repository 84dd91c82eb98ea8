//! LoRA adapters as the PEFT library stores them: a directory with `adapter_config.json` and `adapter_model.safetensors`.
//! Knows files and names of modules; `subspace` implements adapters.

mod config;
mod files;
mod save;
mod stored;
mod targets;

use std::path::Path;

use tch::Tensor;

pub use save::save_adapter;
pub use targets::{Modules, TargetModules};

use self::config::Settings;
use self::files::{CONFIG, WRAPPER};
use self::stored::{Stored, Tensors};
use super::assemble::all_finite;
use super::checkpoint::{TensorSource, difference};
use super::model_names::{is_decoder, is_projection};
use crate::error::{Error, Result};
use crate::jacobian::{Param, ParameterSpec, Parameters, Role};
use crate::subspace::{Lora, Placement, Target, Use};

/// An adapter of a network, as read.
#[derive(Debug)]
pub struct PeftAdapter {
    /// Which weights are adapted, with ranks and scalings s.
    pub lora: Lora,
    /// Settings without effect on this network: names and patterns that match no adapted module.
    pub notes: Vec<String>,
    /// Factors and magnitudes in the order of the extended parameters.
    values: Vec<Tensor>,
    /// Parameters of the network that came with the adapter.
    whole: Vec<(Param, Tensor)>,
}

/// A module that can be adapted: its name, its weight, and its use of the weight.
struct Module {
    name: String,
    weight: Param,
    of: Use,
}

impl PeftAdapter {
    /// Reads an adapter of a network with these parameters. Tensors may be in half, single or double precision. Modules
    /// saved in full and trained biases replace the network's own.
    ///
    /// # Errors
    /// Unsupported settings; tensors that are missing, misshapen, not finite, or of a module that the network does not have
    /// or the settings do not name.
    pub fn load(directory: &Path, network: &[ParameterSpec]) -> Result<Self> {
        let config = directory.join(CONFIG);
        if !config.exists() {
            let message = format!("no {CONFIG} here: expected the directory of a PEFT adapter");
            return Err(Error::format(directory, message));
        }
        let settings = Settings::read(&config)?;
        let mut stored = Tensors::read(directory)?;
        let linear = names_as_stored(Modules::of(network), network, &stored);
        let modules = all_modules(&linear, network, &stored, settings.names_tables());
        let (mut placements, mut values, mut adapted) = (Vec::new(), Vec::new(), Vec::new());
        for Module { name, weight, of } in &modules {
            if !settings.adapts(name)? {
                continue;
            }
            let (rank, scaling) = settings.of(name)?;
            let [out, input] = network[weight.0].shape[..] else { continue };
            let file = stored.file.clone();
            let mut take = |factor: &str, shape: &[i64]| {
                let found = stored.factors.remove(&(name.clone(), factor.to_owned()));
                let plain = if *of == Use::Embedding { "" } else { ".weight" };
                let expected = format!("{WRAPPER}{name}.{factor}{plain}");
                checked(found, &expected, shape, rank, &file)
            };
            if *of == Use::Embedding {
                values.push(take("lora_embedding_A", &[rank, out])?.tr().contiguous());
                values.push(take("lora_embedding_B", &[input, rank])?);
            } else {
                values.push(take("lora_A", &[rank, input])?);
                values.push(take("lora_B", &[out, rank])?);
            }
            if settings.dora {
                values.push(take("lora_magnitude_vector", &[out])?);
            }
            adapted.push(name.as_str());
            let is_own = network[weight.0].name.strip_suffix(".weight").is_some_and(|own| own.ends_with(name.as_str()));
            let target = Target { weight: *weight, rank, scaling };
            let name = (!is_own).then(|| name.clone());
            placements.push(Placement { target, of: *of, magnitudes: settings.dora, name });
        }
        if let Some(left) = stored.factors.into_iter().next() {
            let ((module, factor), stored) = left;
            return Err(Error::format(
                &stored.source.file,
                left_over((module.as_str(), factor.as_str()), &stored.name, &linear),
            ));
        }
        if placements.is_empty() {
            let kinds = linear.kinds().join(", ");
            return Err(Error::format(
                &config,
                format!("target_modules matches no linear map of this network; it has: {kinds}"),
            ));
        }
        let whole = replaced(stored.whole.into_iter(), network)?;
        let lora = Lora::placed(network, &placements).map_err(|e| Error::format(&config, e.to_string()))?;
        let lora = lora.with_replaced(whole.iter().map(|(p, _)| *p).collect());
        Ok(Self { lora, notes: settings.without_effect(&adapted), values, whole })
    }

    /// The network's parameters with those that came with the adapter, extended by the factors.
    pub fn parameters(&self, network: &Parameters) -> Parameters {
        let mut index = 0..;
        let own = network.map(|value| {
            let p = Param(index.next().expect("an open range"));
            let place = |t: &Tensor| t.to_kind(network.kind()).to_device(network.device());
            self.whole.iter().find(|(q, _)| *q == p).map_or_else(|| value.shallow_clone(), |(_, t)| place(t))
        });
        self.lora.extend(&own, self.values.iter().map(Tensor::shallow_clone))
    }
}

/// Modules by their names in the file: an adapter of a class without a head lacks the model's prefix.
fn names_as_stored(modules: Modules, network: &[ParameterSpec], stored: &Tensors) -> Modules {
    let Some((prefix, _)) = network.first().and_then(|spec| spec.name.split_once('.')) else { return modules };
    let is_known = |m: &Modules| stored.factors.keys().any(|(module, _)| m.find(module).is_some());
    let bare = modules.without_prefix(prefix);
    if !is_known(&modules) && is_known(&bare) { bare } else { modules }
}

/// The linear maps and, if settings can target them, embedding tables and the decoder. A decoder tied to the token
/// embeddings has no parameter of its own, and is included if the file has factors for it.
fn all_modules(linear: &Modules, network: &[ParameterSpec], stored: &Tensors, tables: bool) -> Vec<Module> {
    let of = |of: Use| move |(name, weight): (&str, Param)| Module { name: name.to_owned(), weight, of };
    let mut modules: Vec<Module> = linear.iter().map(of(Use::Linear)).collect();
    if !tables {
        return modules;
    }
    let named = || network.iter().enumerate().filter_map(|(i, s)| Some((s.name.strip_suffix(".weight")?, s, Param(i))));
    let embeddings =
        named().filter(|(name, spec, _)| spec.role == Role::Embedding && spec.shape.len() == 2 && !is_projection(name));
    modules.extend(embeddings.map(|(name, _, p)| of(Use::Embedding)((name, p))));
    let own = named().find(|(name, ..)| is_decoder(name)).map(|(name, _, p)| of(Use::Decoder)((name, p)));
    let shared = || {
        let (name, _) = stored.factors.keys().find(|(module, factor)| is_decoder(module) && factor == "lora_A")?;
        Some(of(Use::Decoder)((name.as_str(), Param(0))))
    };
    modules.extend(own.or_else(shared));
    modules
}

/// A factor, checked for shape and finiteness.
fn checked(stored: Option<Stored>, name: &str, shape: &[i64], rank: i64, file: &Path) -> Result<Tensor> {
    let Some(Stored { name, source: TensorSource { tensor, file, .. } }) = stored else {
        return Err(Error::TensorMissing {
            path: file.to_path_buf(),
            tensor: name.to_owned(),
            expected: shape.to_vec(),
            hint: format!("target_modules of {CONFIG} names its module; does the adapter belong to this model?"),
        });
    };
    // Magnitudes of convolutions of width one have an additional axis.
    let tensor = if shape.len() == 1 && tensor.size() == [1, shape[0]] { tensor.squeeze_dim(0) } else { tensor };
    if tensor.size() != shape {
        return Err(Error::TensorShape {
            path: file,
            tensor: name,
            expected: shape.to_vec(),
            found: tensor.size(),
            reason: format!("rank {rank} by r and rank_pattern of {CONFIG}, the rest by the model's own weight"),
        });
    }
    finite(&tensor, &name, &file)
}

fn finite(tensor: &Tensor, name: &str, file: &Path) -> Result<Tensor> {
    if !tensor.is_floating_point() {
        let message = format!("tensor `{name}` holds {:?}, expected floating-point numbers", tensor.kind());
        return Err(Error::format(file, message));
    }
    if !all_finite(tensor) {
        return Err(Error::format(file, format!("tensor `{name}` holds NaN or infinity: its training diverged")));
    }
    // The stored tensor may be a view of the file.
    Ok(tensor.copy())
}

/// The network's own parameters in the file.
///
/// # Errors
/// Tensors that match no parameter; two that represent one parameter and differ.
fn replaced(whole: impl Iterator<Item = (String, Stored)>, network: &[ParameterSpec]) -> Result<Vec<(Param, Tensor)>> {
    let first = network.first().map_or("", |spec| spec.name.as_str());
    let (prefix, tied) =
        (first.split('.').next().unwrap_or_default(), !network.iter().any(|s| is_decoder_weight(&s.name)));
    let mut found: Vec<(Param, Tensor, String)> = Vec::new();
    // Of the first parameter, the token embeddings: whether it is the decoder's.
    let mut copies: Vec<bool> = Vec::new();
    for (own, Stored { name, source: TensorSource { tensor, file, .. } }) in whole {
        // The decoder's bias also goes by the decoder's name, its shared weight by that of the embeddings.
        let names = [own.clone(), format!("{prefix}.{own}"), own.replace(".decoder.bias", ".bias")];
        let at = network.iter().position(|spec| names.contains(&spec.name));
        let at = at.or_else(|| (tied && is_decoder_weight(&own)).then_some(0));
        let Some(at) = at else {
            let message = format!(
                "tensor `{name}` is not a LoRA factor, and this network has no parameter `{own}` that it could \
                 replace: an adapter of another class, such as a classifier, cannot be used"
            );
            return Err(Error::format(file, message));
        };
        let spec = &network[at];
        let is_turned = first.starts_with("transformer.wte") && own.contains(".c_") && own.ends_with(".weight");
        let tensor = if is_turned { tensor.tr().contiguous() } else { tensor };
        if tensor.size() != spec.shape {
            return Err(Error::TensorShape {
                path: file,
                tensor: name,
                expected: spec.shape.clone(),
                found: tensor.size(),
                reason: format!("the model's own `{}`, which it replaces", spec.name),
            });
        }
        let tensor = finite(&tensor, &name, &file)?;
        if at == 0 {
            copies.push(is_decoder_weight(bare(&name)));
        }
        match found.iter().find(|(p, ..)| p.0 == at) {
            None => found.push((Param(at), tensor, name)),
            Some((_, known, other)) => {
                if let Some(how) = difference(known, &tensor) {
                    let message = format!(
                        "tensors `{other}` and `{name}` are one parameter of this model, but {how}; merge the adapter in \
                         PEFT (merge_and_unload) and save the model with tie_word_embeddings false"
                    );
                    return Err(Error::format(file, message));
                }
            }
        }
    }
    // PEFT gives either use of tied embeddings a copy of its own.
    if let Some((_, _, name)) = found.iter().find(|(p, ..)| p.0 == 0 && tied) {
        let other = if is_decoder_weight(bare(name)) { "token embeddings" } else { "decoder" };
        let both = copies.contains(&true) && copies.contains(&false);
        if !both {
            let problem = format!(
                "it is a copy for one use alone, and the model's {other}, tied to it, would stay as before: merge the adapter \
                 in PEFT (merge_and_unload) and save the model with tie_word_embeddings false"
            );
            return Err(Error::Adapter { weight: name.clone(), problem });
        }
    }
    Ok(found.into_iter().map(|(p, tensor, _)| (p, tensor)).collect())
}

fn bare(name: &str) -> &str {
    name.strip_prefix(WRAPPER).unwrap_or(name)
}

fn is_decoder_weight(name: &str) -> bool {
    name.strip_suffix(".weight").is_some_and(is_decoder)
}

/// What is wrong with a factor that belongs to no adapted module.
fn left_over((module, factor): (&str, &str), name: &str, modules: &Modules) -> String {
    if factor == "lora_magnitude_vector" {
        return format!("tensor `{name}` holds magnitudes, but use_dora in {CONFIG} is not true");
    }
    if modules.find(module).is_some() || is_decoder(module) || factor.starts_with("lora_embedding") {
        return format!("tensor `{name}` belongs to a module that target_modules in {CONFIG} does not match");
    }
    format!(
        "tensor `{name}` belongs to `{module}`, which is not an adaptable linear map of this model; it has: {}",
        modules.kinds().join(", ")
    )
}
