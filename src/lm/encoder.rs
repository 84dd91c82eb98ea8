//! BERT, RoBERTa, DistilBERT, ELECTRA's generator and ALBERT: post-layer-norm transformer encoders with a masked-LM head,
//! written once over the tap.

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::assemble::Wanted;
use super::checkpoint::{Checkpoint, check_directory};
use super::config::{Architecture, ModelConfig};
use super::layout::{Affine, Layer, Layout, layout};
use super::model::{LanguageModel, NetworkFacts, Reads, TokenBatch, filler};
use super::names::EncoderNames;
use crate::error::Result;
use crate::jacobian::{ParameterSpec, Parameters, Tap};

/// A masked language model: configuration, names and forward pass. Values live in [`Parameters`], so that one model
/// can be evaluated at many parameter vectors.
pub struct MaskedLm {
    config: ModelConfig,
    specs: Arc<[ParameterSpec]>,
    layout: Layout,
}

impl MaskedLm {
    /// The network of a configuration.
    pub fn new(config: ModelConfig) -> Self {
        let (specs, layout, _) = layout(&config);
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
        let (_, _, reasons) = layout(&config);
        let model = Self::new(config);
        let naming = EncoderNames(model.config.architecture);
        let specs = &model.specs;
        let layers = model.config.sharing.map_or(model.config.layers, |s| s.groups);
        let wanted = Wanted { specs, reasons, layers, naming: &naming, settings: "config.json" };
        let parameters = wanted.assemble(directory, &checkpoint, kind, device)?;
        Ok((model, parameters))
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Specifications of the parameters.
    pub fn specs(&self) -> &Arc<[ParameterSpec]> {
        &self.specs
    }

    /// Logits of the whole vocabulary at every mask \[B, M, V\]: what pre-training reads.
    pub fn vocabulary_logits(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        let h = self.encode(tap, batch);
        let h = self.transform(tap, &h);
        tap.linear(&h, self.layout.decoder, Some(self.layout.decoder_bias))
    }

    /// The head between the encoder and the decoder.
    fn transform(&self, tap: &mut dyn Tap, h: &Tensor) -> Tensor {
        let h = self.config.head_activation().apply(&linear(tap, h, self.layout.transform));
        self.norm(tap, &h, self.layout.transform_norm)
    }

    /// The encoder's last hidden states at the masks \[B, M, hidden\]. Nothing reads the others, so the last layer
    /// computes the masks' alone, from the keys and values of all tokens.
    pub(super) fn encode(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        let mut x = self.embed(tap, batch);
        let absent = batch.present.as_ref().map(|p| p.logical_not().unsqueeze(1).unsqueeze(1));
        let width = self.config.hidden_size;
        let at_mask = |x: &Tensor| {
            let index = batch.mask_positions.unsqueeze(-1).expand([-1, -1, width], false);
            x.gather(1, &index, false)
        };
        let steps = self.config.steps();
        for (number, layer) in steps.iter().map(|l| &self.layout.layers[*l]).enumerate() {
            let queries = if number + 1 == steps.len() { at_mask(&x) } else { x.shallow_clone() };
            let attended = self.attention(tap, &queries, &x, absent.as_ref(), layer);
            x = self.norm(tap, &(attended + queries), layer.attention_norm);
            let inner = self.config.activation.apply(&linear(tap, &x, layer.intermediate));
            let written = linear(tap, &inner, layer.output) + &x;
            x = self.norm(tap, &written, layer.output_norm);
        }
        // Without layers, the embeddings' own.
        if steps.is_empty() { at_mask(&x) } else { x }
    }

    /// What the first layer reads \[B, T, hidden\].
    fn embed(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        // Not in place: recorded outputs of sites are leaves.
        let sum = tap.embedding(self.layout.tokens, &batch.ids);
        let sum = match self.layout.segments {
            Some(segments) => sum + tap.embedding(segments, &batch.segments),
            None => sum,
        };
        let sum = sum + tap.embedding(self.layout.positions, &self.positions(batch));
        let x = self.norm(tap, &sum, self.layout.embedding_norm);
        match self.layout.projection {
            Some(projection) => linear(tap, &x, projection),
            None => x,
        }
    }

    /// Position numbers \[B, T\], counted from 0; only RoBERTa counts the tokens that are not padding from `pad + 1` and
    /// gives padding the position `pad`.
    fn positions(&self, batch: &TokenBatch) -> Tensor {
        let size = batch.ids.size();
        if self.config.architecture == Architecture::Roberta {
            let pad = self.config.pad_token_id;
            let token = batch.ids.not_equal(pad).to_kind(Kind::Int64);
            return token.cumsum(1, Kind::Int64) * token + pad;
        }
        Tensor::arange(size[1], (Kind::Int64, batch.ids.device())).unsqueeze(0).expand(&size, false).contiguous()
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

    fn norm(&self, tap: &mut dyn Tap, x: &Tensor, affine: Affine) -> Tensor {
        let none: Option<&Tensor> = None;
        let width = x.size()[x.dim() - 1];
        let n = x.layer_norm([width], none, none, self.config.layer_norm_eps, false);
        tap.scale_shift(&n, affine.weight, Some(affine.bias))
    }
}

impl LanguageModel for MaskedLm {
    fn specs(&self) -> &Arc<[ParameterSpec]> {
        &self.specs
    }

    fn facts(&self) -> NetworkFacts {
        let config = &self.config;
        NetworkFacts {
            architecture: config.architecture.name(),
            vocab_size: config.vocab_size,
            max_tokens: config.max_tokens(),
            segments: config.type_vocab_size,
            pad_token_id: filler(config.pad_token_id, config.vocab_size),
            layers: config.layers,
            width: config.hidden_size,
            reads: Reads::Mask,
        }
    }

    fn settings(&self) -> String {
        serde_json::to_string(&self.config).expect("a configuration is plain data")
    }

    fn features(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        self.encode(tap, batch).squeeze_dim(1)
    }

    fn label_logits(&self, tap: &mut dyn Tap, batch: &TokenBatch, label_ids: &Tensor) -> Tensor {
        let h = self.features(tap, batch);
        let h = self.transform(tap, &h);
        tap.select_rows(&h, self.layout.decoder, Some(self.layout.decoder_bias), label_ids)
    }

    fn masked(&self) -> Option<&MaskedLm> {
        Some(self)
    }
}

fn linear(tap: &mut dyn Tap, x: &Tensor, affine: Affine) -> Tensor {
    tap.linear(x, affine.weight, Some(affine.bias))
}
