//! Assembles a network's parameters from a checkpoint's tensors, checking names, shapes, finiteness and leftover tensors.
//! Knows no forward pass.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::checkpoint::{Checkpoint, TensorSource, difference};
use super::layout::layout;
use super::parts::Description;
use crate::error::{Error, Result};
use crate::jacobian::{ParameterSpec, Parameters, Role};
use crate::progress::check_cancelled;
use crate::setting::Field;

/// How checkpoints of an architecture name their tensors.
pub(super) trait Naming {
    /// Names under which checkpoints hold a parameter.
    fn aliases(&self, name: &str) -> Vec<String>;

    /// The layer number in a tensor's name.
    fn layer_number(&self, name: &str) -> Option<i64>;

    /// Whether a tensor that the network does not use is expected in checkpoints.
    fn is_expected_extra(&self, name: &str) -> bool;

    /// Whether a tensor belongs to the prediction head.
    fn is_head(&self, name: &str) -> bool;

    /// Whether a parameter is the decoder's weight, in a head that has other parameters too.
    fn is_decoder(&self, _name: &str) -> bool {
        false
    }

    /// Whether checkpoints store a parameter as \[in, out\] that is \[out, in\] in memory.
    fn is_transposed(&self, _name: &str) -> bool {
        false
    }

    /// What to do if a checkpoint has no head.
    fn no_head(&self) -> &'static str;

    /// What a layer is called, and the setting for their number.
    fn layer(&self) -> (&'static str, &'static str);
}

/// Prefixes of names in classifiers' heads.
const CLASSIFIERS: [&str; 6] =
    ["classifier.", "pre_classifier.", "score.", "qa_outputs.", "classification_head.", "sop_classifier."];

/// Suffixes of names of quantized weights and their scales.
const QUANTIZED: [&str; 9] = [
    ".qweight",
    ".qzeros",
    ".absmax",
    ".quant_map",
    ".SCB",
    ".weight_scale",
    ".weight_scale_inv",
    ".weight_packed",
    "_blocks",
];

/// What a network needs from a checkpoint.
pub(super) struct Wanted<'a> {
    /// Its parameters.
    pub specs: Arc<[ParameterSpec]>,
    /// For each, the settings that determine its shape.
    pub reasons: Vec<String>,
    /// Number of layers.
    pub layers: i64,
    /// Names.
    pub naming: &'a dyn Naming,
    /// The file with the settings, for messages.
    pub settings: &'static str,
}

impl<'a> Wanted<'a> {
    /// The network of a description, under these names.
    pub fn of(d: &Description, naming: &'a dyn Naming, settings: &'static str) -> Self {
        let (specs, _, reasons) = layout(d);
        let layers = d.sharing.map_or(d.layers.len() as i64, |s| s.groups);
        Self { specs, reasons, layers, naming, settings }
    }

    /// Extracts the parameters from a checkpoint.
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
            check_cancelled()?;
            let aliases = self.naming.aliases(&spec.name);
            let copies = self.copies(spec, &aliases, checkpoint)?;
            let Some((name, source)) = copies.first() else {
                return Err(Error::TensorMissing {
                    path: checkpoint.files.first().map_or_else(|| directory.to_path_buf(), Clone::clone),
                    tensor: spec.name.clone(),
                    expected: self.stored_shape(spec),
                    hint: self.why_missing(spec, &aliases, checkpoint),
                });
            };
            used.extend(copies.iter().map(|(name, _)| name.as_str()));
            values.push(self.value(spec, reason, name, source, kind)?.to_device(device));
        }
        self.check_rest(checkpoint, &used)?;
        Ok(Parameters::new(Arc::clone(&self.specs), values))
    }

    /// All tensors that represent a parameter: under its aliases, and if the decoder is tied to the token embeddings, under
    /// the decoder's name too.
    ///
    /// # Errors
    /// Two that differ. Versions of transformers then use different ones: 4.57 ignores the decoder's weight and uses the
    /// bias of RoBERTa's decoder but BERT's other one; 5.0 uses the decoder's.
    fn copies<'c>(
        &self,
        spec: &ParameterSpec,
        aliases: &[String],
        checkpoint: &'c Checkpoint,
    ) -> Result<Vec<(&'c String, &'c TensorSource)>> {
        let mut copies: Vec<_> = aliases.iter().filter_map(|a| checkpoint.tensors.get_key_value(a)).collect();
        let is_tied = !self.specs.iter().any(|spec| self.naming.is_decoder(&spec.name));
        let shares_decoder = is_tied && self.specs.first().is_some_and(|tokens| tokens.name == spec.name);
        if shares_decoder {
            copies.extend(checkpoint.tensors.iter().filter(|(name, _)| self.naming.is_decoder(name)));
        }
        let [(first, one), others @ ..] = &copies[..] else { return Ok(copies) };
        for (name, other) in others {
            let Some(how) = difference(&one.tensor, &other.tensor) else { continue };
            let way_out = if shares_decoder && self.naming.is_decoder(name) {
                format!(
                    "set it to false in {} if the decoder has separate weights, otherwise remove `{name}`",
                    self.settings
                )
            } else {
                "versions of transformers use different ones; remove the stale one".into()
            };
            let why = if shares_decoder { "by tie_word_embeddings" } else { "by their names" };
            let message = format!("tensors `{first}` and `{name}` are one parameter {why}, but {how}; {way_out}");
            return Err(Error::format(&other.file, message));
        }
        Ok(copies)
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
        let converted = value.to_dtype(kind, false, source.is_view);
        if !all_finite(&converted) {
            let message = if all_finite(value) {
                format!("tensor `{name}` holds numbers beyond the range of single precision; use {} f64", Field::Dtype)
            } else {
                format!("tensor `{name}` holds NaN or infinity: its training diverged, or the file is damaged")
            };
            return Err(Error::format(&source.file, message));
        }
        Ok(if self.naming.is_transposed(&spec.name) { converted.tr().contiguous() } else { converted })
    }

    /// Fails on tensors in layers that the network does not use.
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
            let classifier = checkpoint.tensors.keys().find(|name| CLASSIFIERS.iter().any(|c| name.starts_with(c)));
            // ModernBERT's classifiers have a head of the same name without a decoder.
            if classifier.is_some() || !has(&|name| self.naming.is_head(name)) {
                return match classifier {
                    None => self.naming.no_head().into(),
                    Some(name) => format!(
                        "this is a classifier (it has `{name}`) without the language model's head; take the model that it \
                         was fine-tuned from"
                    ),
                };
            }
            if self.naming.is_decoder(&spec.name) {
                let settings = self.settings;
                return format!(
                    "tie_word_embeddings in {settings} is false, so the decoder must have weights of its own"
                );
            }
        }
        if let Some(name) = checkpoint.tensors.keys().find(|name| name.starts_with("base_model.model.")) {
            return format!(
                "the checkpoint is the state of a PEFT model (it has `{name}`); merge it in PEFT (merge_and_unload) and save the \
                 model, or save the adapter with save_pretrained"
            );
        }
        if let Some(name) = checkpoint.tensors.keys().find(|name| QUANTIZED.iter().any(|end| name.ends_with(end))) {
            return format!(
                "the checkpoint is quantized (it has `{name}`), which is not supported; dequantize it in transformers and \
                 save it, or take the model that it was made of"
            );
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

/// Whether all numbers are finite. In one pass: a minimum is not a number if any number is not.
pub(super) fn all_finite(t: &Tensor) -> bool {
    if t.numel() == 0 {
        return true;
    }
    // Kinds of eight bits have no minimum.
    let known = matches!(t.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
    let (least, most) = if known { t.shallow_clone() } else { t.to_kind(Kind::Float) }.aminmax(None, false);
    [least, most].iter().all(|t| t.double_value(&[]).is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One number among many that is not finite, anywhere, in every kind that files hold; the largest numbers of a kind are
    /// finite, whatever their sum. Fails for: a minimum that skips what is not a number, a sum in place of a minimum.
    #[test]
    fn one_number_that_is_not_finite_is_found() {
        for (kind, largest) in [
            (Kind::Half, 65504.0),
            (Kind::BFloat16, 3e38),
            (Kind::Float, 3e38),
            (Kind::Double, 1e308),
            (Kind::Float8e5m2, 57344.0),
        ] {
            for count in [1, 17, 100_000] {
                let of = |place: i64, number: f64| {
                    let t = Tensor::full([count], largest, (Kind::Double, Device::Cpu));
                    let _ = t.get(place).fill_(number);
                    t.to_kind(kind)
                };
                assert!(all_finite(&of(0, -largest)), "{kind:?}, {count}");
                for place in [0, count / 2, count - 1] {
                    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                        assert!(!all_finite(&of(place, number)), "{kind:?}, {count}: {number} at {place}");
                    }
                }
            }
        }
        assert!(all_finite(&Tensor::zeros([0], (Kind::Float, Device::Cpu))));
    }
}
