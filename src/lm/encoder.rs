//! BERT and RoBERTa: post-layer-norm transformer encoders with a masked-LM head, written once over the tap.

use std::path::Path;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::checkpoint::{Checkpoint, check_directory};
use super::config::{Activation, Architecture, ModelConfig};
use super::names::{self, Affine, Layer, Layout};
use crate::error::{Error, Result};
use crate::jacobian::{ParameterSpec, Parameters, Role, Tap};

/// Token sequences of one batch, padded on the right.
#[derive(Debug)]
pub struct TokenBatch {
    /// Token ids \[B, T\].
    pub ids: Tensor,
    /// Whether a position holds a token rather than padding \[B, T\]; `None` where all do.
    pub present: Option<Tensor>,
    /// Segment ids \[B, T\].
    pub segments: Tensor,
    /// Positions of the masks \[B, M\].
    pub mask_positions: Tensor,
}

/// A masked language model: configuration, names and forward pass. Values live in [`Parameters`], so that one model
/// can be evaluated at many parameter vectors.
pub struct MaskedLm {
    config: ModelConfig,
    specs: Rc<[ParameterSpec]>,
    layout: Layout,
}

impl MaskedLm {
    /// The network of a configuration.
    pub fn new(config: ModelConfig) -> Self {
        let (specs, layout, _) = names::layout(&config);
        Self { config, specs, layout }
    }

    /// Reads configuration and weights of a checkpoint directory.
    ///
    /// # Errors
    /// Unknown architectures; missing, misshapen or non-finite tensors; layers beyond the configured number.
    pub fn load(directory: &Path, kind: Kind, device: Device) -> Result<(Self, Parameters)> {
        check_directory(directory)?;
        // Before the weights, which may be large: another architecture is refused at once.
        let config = ModelConfig::read(directory)?;
        let checkpoint = Checkpoint::open(directory)?;
        let model = Self::new(config);
        let parameters = model.assemble(directory, &checkpoint, kind, device)?;
        Ok((model, parameters))
    }

    fn assemble(&self, directory: &Path, checkpoint: &Checkpoint, kind: Kind, device: Device) -> Result<Parameters> {
        let (_, _, reasons) = names::layout(&self.config);
        let mut used = std::collections::BTreeSet::new();
        let mut values = Vec::with_capacity(self.specs.len());
        for (spec, reason) in self.specs.iter().zip(reasons) {
            let aliases = names::aliases(self.config.architecture, &spec.name);
            let found = aliases.iter().find_map(|a| checkpoint.tensors.get_key_value(a));
            let Some((name, source)) = found else {
                return Err(Error::TensorMissing {
                    path: checkpoint.files.first().map_or_else(|| directory.to_path_buf(), Clone::clone),
                    tensor: spec.name.clone(),
                    expected: spec.shape.clone(),
                    hint: self.why_missing(spec, &aliases, checkpoint),
                });
            };
            used.insert(name.clone());
            let value = &source.tensor;
            if value.size() != spec.shape {
                return Err(Error::TensorShape {
                    path: source.file.clone(),
                    tensor: name.clone(),
                    expected: spec.shape.clone(),
                    found: value.size(),
                    reason: format!("{reason} in config.json"),
                });
            }
            if !value.is_floating_point() {
                let message = format!(
                    "tensor `{name}` holds {:?}, expected floating-point numbers; quantized checkpoints are not \
                     supported",
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
            values.push(converted.to_device(device));
        }
        for (name, source) in checkpoint.tensors.iter().filter(|(n, _)| !used.contains(*n)) {
            if names::layer_number(name).is_some_and(|l| l >= self.config.layers) {
                return Err(Error::format(
                    &source.file,
                    format!(
                        "tensor `{name}` belongs to an encoder layer beyond num_hidden_layers = {} of config.json",
                        self.config.layers
                    ),
                ));
            }
            if !names::is_expected_extra(name) && names::layer_number(name).is_some() {
                return Err(Error::format(
                    &source.file,
                    format!("tensor `{name}` is part of an encoder layer, but this architecture has no such parameter"),
                ));
            }
        }
        Ok(Parameters::new(Rc::clone(&self.specs), values))
    }

    /// What to check when a checkpoint lacks a parameter.
    fn why_missing(&self, spec: &ParameterSpec, aliases: &[String], checkpoint: &Checkpoint) -> String {
        let has = |test: &dyn Fn(&str) -> bool| checkpoint.tensors.keys().any(|name| test(name));
        if spec.role == Role::Head {
            if !has(&|name| names::is_head(name)) {
                return "the checkpoint has no masked-language-model head; save it from a ...ForMaskedLM class".into();
            }
            if spec.name.ends_with("decoder.weight") {
                return "tie_word_embeddings in config.json is false, so the decoder must have weights of its own"
                    .into();
            }
        }
        if let Some(layer) = names::layer_number(&spec.name)
            && !has(&|name| names::layer_number(name).is_some_and(|l| l >= layer))
        {
            return format!(
                "the checkpoint has {layer} encoder layer(s), num_hidden_layers in config.json is {}",
                self.config.layers
            );
        }
        let like = checkpoint.tensors.keys().next().map_or_else(String::new, |name| format!(", such as {name}"));
        format!("looked for {} among its {} tensors{like}", aliases.join(", "), checkpoint.tensors.len())
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Specifications of the parameters.
    pub fn specs(&self) -> &Rc<[ParameterSpec]> {
        &self.specs
    }

    /// Logits of the label words at the one mask of each sequence \[B, C\]; `label_ids` \[C\] are their token ids.
    pub fn label_logits(&self, tap: &mut dyn Tap, batch: &TokenBatch, label_ids: &Tensor) -> Tensor {
        let h = self.encode(tap, batch).squeeze_dim(1);
        let h = self.transform(tap, &h);
        tap.select_rows(&h, self.layout.decoder, Some(self.layout.decoder_bias), label_ids)
    }

    /// Logits of the whole vocabulary at every mask \[B, M, V\]: what pre-training reads.
    pub fn vocabulary_logits(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        let h = self.encode(tap, batch);
        let h = self.transform(tap, &h);
        tap.linear(&h, self.layout.decoder, Some(self.layout.decoder_bias))
    }

    /// The head between the encoder and the decoder.
    fn transform(&self, tap: &mut dyn Tap, h: &Tensor) -> Tensor {
        let h = self.activate(&linear(tap, h, self.layout.transform));
        self.norm(tap, &h, self.layout.transform_norm)
    }

    /// The encoder's last hidden states at the masks \[B, M, hidden\]. Nothing reads the others, so the last layer
    /// computes the masks' alone, from the keys and values of all tokens.
    pub(super) fn encode(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        let embedded = tap.embedding(self.layout.tokens, &batch.ids)
            + tap.embedding(self.layout.segments, &batch.segments)
            + tap.embedding(self.layout.positions, &self.positions(batch));
        let mut x = self.norm(tap, &embedded, self.layout.embedding_norm);
        let absent = batch.present.as_ref().map(|p| p.logical_not().unsqueeze(1).unsqueeze(1));
        let width = self.config.hidden_size;
        let at_mask = |x: &Tensor| {
            let index = batch.mask_positions.unsqueeze(-1).expand([-1, -1, width], false);
            x.gather(1, &index, false)
        };
        for (number, layer) in self.layout.layers.iter().enumerate() {
            let queries = if number + 1 == self.layout.layers.len() { at_mask(&x) } else { x.shallow_clone() };
            let attended = self.attention(tap, &queries, &x, absent.as_ref(), layer);
            x = self.norm(tap, &(attended + queries), layer.attention_norm);
            let inner = self.activate(&linear(tap, &x, layer.intermediate));
            let written = linear(tap, &inner, layer.output) + &x;
            x = self.norm(tap, &written, layer.output_norm);
        }
        // Without layers, the embeddings' own.
        if self.layout.layers.is_empty() { at_mask(&x) } else { x }
    }

    /// Position numbers \[B, T\]: BERT counts from 0; RoBERTa counts the tokens that are not padding from `pad + 1` and
    /// gives padding the position `pad`.
    fn positions(&self, batch: &TokenBatch) -> Tensor {
        let size = batch.ids.size();
        match self.config.architecture {
            Architecture::Bert => Tensor::arange(size[1], (Kind::Int64, batch.ids.device()))
                .unsqueeze(0)
                .expand(&size, false)
                .contiguous(),
            Architecture::Roberta => {
                let pad = self.config.pad_token_id;
                let token = batch.ids.not_equal(pad).to_kind(Kind::Int64);
                token.cumsum(1, Kind::Int64) * token + pad
            }
        }
    }

    /// Multi-head softmax attention of some positions \[B, Q, hidden\] to all \[B, T, hidden\], with explicit products:
    /// libtorch's fused kernel would not keep what gradients of single examples need.
    fn attention(
        &self,
        tap: &mut dyn Tap,
        queries: &Tensor,
        x: &Tensor,
        absent: Option<&Tensor>,
        layer: &Layer,
    ) -> Tensor {
        let (b, positions, h) = queries.size3().expect("hidden states have three axes");
        let heads = self.config.heads;
        let split = |y: Tensor| y.view([b, -1, heads, h / heads]).transpose(1, 2);
        let q = split(linear(tap, queries, layer.query));
        let k = split(linear(tap, x, layer.key));
        let v = split(linear(tap, x, layer.value));
        let scale = 1.0 / ((h / heads) as f64).sqrt();
        let scores = q.matmul(&k.transpose(-2, -1)) * scale;
        let scores = match absent {
            Some(absent) => scores.masked_fill(absent, f64::NEG_INFINITY),
            None => scores,
        };
        let mixed = scores.softmax(-1, scores.kind()).matmul(&v);
        linear(tap, &mixed.transpose(1, 2).reshape([b, positions, h]), layer.attention_output)
    }

    fn activate(&self, x: &Tensor) -> Tensor {
        match self.config.activation {
            Activation::Gelu => x.gelu("none"),
            Activation::GeluTanh => x.gelu("tanh"),
            Activation::Relu => x.relu(),
            Activation::Silu => x.silu(),
            Activation::Tanh => x.tanh(),
        }
    }

    fn norm(&self, tap: &mut dyn Tap, x: &Tensor, affine: Affine) -> Tensor {
        let none: Option<&Tensor> = None;
        let n = x.layer_norm([self.config.hidden_size], none, none, self.config.layer_norm_eps, false);
        tap.scale_shift(&n, affine.weight, affine.bias)
    }
}

fn all_finite(t: &Tensor) -> bool {
    t.isfinite().all().int64_value(&[]) != 0
}

fn linear(tap: &mut dyn Tap, x: &Tensor, affine: Affine) -> Tensor {
    tap.linear(x, affine.weight, Some(affine.bias))
}
