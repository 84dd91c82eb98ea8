//! From the tensors of a checkpoint to a network's parameters: names, shapes, numbers that are finite, and nothing left
//! over that the network would need. Knows no forward pass.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::checkpoint::{Checkpoint, TensorSource};
use crate::error::{Error, Result};
use crate::jacobian::{ParameterSpec, Parameters, Role};

/// How checkpoints of an architecture name their tensors.
pub(super) trait Naming {
    /// Names under which checkpoints hold a parameter.
    fn aliases(&self, name: &str) -> Vec<String>;

    /// Number of the layer that a tensor's name speaks of.
    fn layer_number(&self, name: &str) -> Option<i64>;

    /// Whether a tensor that the network does not use is expected in checkpoints.
    fn is_expected_extra(&self, name: &str) -> bool;

    /// Whether a tensor belongs to the prediction head.
    fn is_head(&self, name: &str) -> bool;

    /// Whether a parameter is the weight of the decoder behind a head that has other parameters too.
    fn is_decoder(&self, _name: &str) -> bool {
        false
    }

    /// Whether checkpoints hold a parameter \[in, out\], which is \[out, in\] in memory.
    fn is_transposed(&self, _name: &str) -> bool {
        false
    }

    /// What to do when a checkpoint has no head.
    fn no_head(&self) -> &'static str;

    /// What a layer is called, and the setting that holds their number.
    fn layer(&self) -> (&'static str, &'static str);
}

/// A network as a checkpoint must hold it.
pub(super) struct Wanted<'a> {
    /// Its parameters.
    pub specs: &'a Arc<[ParameterSpec]>,
    /// For each, the settings that fix its shape.
    pub reasons: Vec<String>,
    /// Number of layers.
    pub layers: i64,
    /// Names.
    pub naming: &'a dyn Naming,
    /// Where the settings are, for messages.
    pub settings: &'static str,
}

impl Wanted<'_> {
    /// Takes the parameters out of a checkpoint.
    ///
    /// # Errors
    /// Missing, misshapen or non-finite tensors; layers beyond the configured number; unknown tensors in layers.
    pub fn assemble(
        &self,
        directory: &Path,
        checkpoint: &Checkpoint,
        kind: Kind,
        device: Device,
    ) -> Result<Parameters> {
        let mut used = BTreeSet::new();
        let mut values = Vec::with_capacity(self.specs.len());
        for (spec, reason) in self.specs.iter().zip(&self.reasons) {
            let aliases = self.naming.aliases(&spec.name);
            let found = aliases.iter().find_map(|a| checkpoint.tensors.get_key_value(a));
            let Some((name, source)) = found else {
                return Err(Error::TensorMissing {
                    path: checkpoint.files.first().map_or_else(|| directory.to_path_buf(), Clone::clone),
                    tensor: spec.name.clone(),
                    expected: self.stored_shape(spec),
                    hint: self.why_missing(spec, &aliases, checkpoint),
                });
            };
            used.insert(name.as_str());
            values.push(self.value(spec, reason, name, source, kind)?.to_device(device));
        }
        self.check_rest(checkpoint, &used)?;
        Ok(Parameters::new(Arc::clone(self.specs), values))
    }

    /// A parameter's shape in files.
    fn stored_shape(&self, spec: &ParameterSpec) -> Vec<i64> {
        let mut shape = spec.shape.clone();
        if self.naming.is_transposed(&spec.name) {
            shape.reverse();
        }
        shape
    }

    fn value(
        &self,
        spec: &ParameterSpec,
        reason: &str,
        name: &str,
        source: &TensorSource,
        kind: Kind,
    ) -> Result<Tensor> {
        let value = &source.tensor;
        let expected = self.stored_shape(spec);
        if value.size() != expected {
            return Err(Error::TensorShape {
                path: source.file.clone(),
                tensor: name.to_owned(),
                expected,
                found: value.size(),
                reason: format!("{reason} in {}", self.settings),
            });
        }
        if !value.is_floating_point() {
            let message = format!(
                "tensor `{name}` holds {:?}, expected floating-point numbers; quantized checkpoints are not supported",
                value.kind()
            );
            return Err(Error::format(&source.file, message));
        }
        let converted = value.to_kind(kind);
        if !all_finite(&converted) {
            let message = if all_finite(value) {
                format!("tensor `{name}` holds numbers beyond the range of single precision; use --dtype f64")
            } else {
                format!("tensor `{name}` holds NaN or infinity: its training diverged, or the file is damaged")
            };
            return Err(Error::format(&source.file, message));
        }
        Ok(if self.naming.is_transposed(&spec.name) { converted.tr().contiguous() } else { converted })
    }

    /// Fails on tensors that belong to a layer and that the network has no use for.
    fn check_rest(&self, checkpoint: &Checkpoint, used: &BTreeSet<&str>) -> Result<()> {
        let (layer, field) = self.naming.layer();
        for (name, source) in checkpoint.tensors.iter().filter(|(n, _)| !used.contains(n.as_str())) {
            let Some(number) = self.naming.layer_number(name) else { continue };
            let message = if number >= self.layers {
                let (layers, settings) = (self.layers, self.settings);
                format!("tensor `{name}` belongs to {layer} beyond {field} = {layers} of {settings}")
            } else if self.naming.is_expected_extra(name) {
                continue;
            } else {
                format!("tensor `{name}` is part of {layer}, but this architecture has no such parameter")
            };
            return Err(Error::format(&source.file, message));
        }
        Ok(())
    }

    /// What to check when a checkpoint lacks a parameter.
    fn why_missing(&self, spec: &ParameterSpec, aliases: &[String], checkpoint: &Checkpoint) -> String {
        let has = |test: &dyn Fn(&str) -> bool| checkpoint.tensors.keys().any(|name| test(name));
        if spec.role == Role::Head {
            if !has(&|name| self.naming.is_head(name)) {
                return self.naming.no_head().into();
            }
            if self.naming.is_decoder(&spec.name) {
                let settings = self.settings;
                return format!(
                    "tie_word_embeddings in {settings} is false, so the decoder must have weights of its own"
                );
            }
        }
        if let Some(layer) = self.naming.layer_number(&spec.name)
            && !has(&|name| self.naming.layer_number(name).is_some_and(|l| l >= layer))
        {
            let (what, field) = self.naming.layer();
            let what = what.split_once(' ').map_or(what, |(_, name)| name);
            return format!("the checkpoint has {layer} {what}(s), {field} in {} is {}", self.settings, self.layers);
        }
        let like = checkpoint.tensors.keys().next().map_or_else(String::new, |name| format!(", such as {name}"));
        format!("looked for {} among its {} tensors{like}", aliases.join(", "), checkpoint.tensors.len())
    }
}

pub(super) fn all_finite(t: &Tensor) -> bool {
    t.isfinite().all().int64_value(&[]) != 0
}
