//! GPT-2, Llama and Qwen2: pre-norm transformer decoders, written once over the tap.
//!
//! A prompt is read at one token, usually its last: no later token, and no padding, reaches it.

mod config;
mod gguf;
mod names;
mod rotary;

pub(super) use config::CAUSAL;
pub use config::{Biases, CausalArchitecture, CausalConfig};

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use self::gguf::GgufNames;
use self::names::{CausalNames, FeedForward, Layer, Layout, Map, Projections};
use self::rotary::Rotary;
use super::assemble::{Naming, Wanted};
use super::checkpoint::{Checkpoint, check_directory};
use super::model::{LanguageModel, NetworkFacts, Reads, TokenBatch, filler};
use crate::error::Result;
use crate::gguf::Gguf;
use crate::jacobian::{ParameterSpec, Parameters, Tap};

/// A causal language model: configuration, names and forward pass.
pub struct CausalLm {
    config: CausalConfig,
    specs: Arc<[ParameterSpec]>,
    layout: Layout,
}

impl CausalLm {
    /// The network of a configuration.
    pub fn new(config: CausalConfig) -> Self {
        let (specs, layout, _) = names::layout(&config);
        Self { config, specs, layout }
    }

    /// Reads configuration and weights of a checkpoint directory, or of a GGUF file.
    ///
    /// # Errors
    /// Those of [`super::load`].
    pub fn load(place: &Path, kind: Kind, device: Device) -> Result<(Self, Parameters)> {
        // Settings before the weights, which may be large: what is not supported is refused at once.
        let (config, checkpoint, naming, settings): (_, _, Box<dyn Naming>, _) = if let Some(file) = Gguf::find(place)?
        {
            let file = Gguf::open(&file)?;
            let config = gguf::config(&file)?;
            let checkpoint = gguf::checkpoint(&file, &config)?;
            (config, checkpoint, Box::new(GgufNames), "the file's metadata, in Hugging Face's words")
        } else {
            check_directory(place)?;
            let config = CausalConfig::read(place)?;
            let naming = Box::new(CausalNames(config.architecture));
            (config, Checkpoint::open(place)?, naming, "config.json")
        };
        let (_, _, reasons) = names::layout(&config);
        let model = Self::new(config);
        let (specs, layers) = (&model.specs, model.config.layers);
        let reasons = reasons.into_iter().map(str::to_owned).collect();
        let wanted = Wanted { specs, reasons, layers, naming: &*naming, settings };
        let parameters = wanted.assemble(place, &checkpoint, kind, device)?;
        Ok((model, parameters))
    }

    /// The configuration.
    pub fn config(&self) -> &CausalConfig {
        &self.config
    }

    /// The last hidden states at the positions that are read \[B, M, hidden\]. Nothing reads the others, so the last
    /// layer computes these alone, from the keys and values of all tokens before them.
    fn decode(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        let words = tap.embedding(self.layout.tokens, &batch.ids);
        let tokens = batch.ids.size()[1];
        let numbers = Tensor::arange(tokens, (Kind::Int64, batch.ids.device()));
        let (mut x, rotary) = if let Some(table) = self.layout.positions {
            let places = tap.embedding(table, &numbers.expand(batch.ids.size(), false).contiguous());
            (words + places, None)
        } else {
            let CausalConfig { head_size, rope_theta, .. } = self.config;
            let rotary = Rotary::new(tokens, head_size, rope_theta, words.kind(), words.device());
            (words, Some(rotary))
        };
        // Blocked: [1 or B, 1, 1, Q, T], keys behind the query.
        let behind = |positions: &Tensor| numbers.gt_tensor(&positions.unsqueeze(-1)).unsqueeze(1).unsqueeze(1);
        let (all, read) = (behind(&numbers.unsqueeze(0)), behind(&batch.mask_positions));
        let last = self.layout.layers.len().checked_sub(1);
        for (number, layer) in self.layout.layers.iter().enumerate() {
            let at = (Some(number) == last).then_some(&batch.mask_positions);
            let blocked = if at.is_some() { &read } else { &all };
            let attended = self.attention(tap, &x, at, blocked, rotary.as_ref(), layer);
            let residual = at.map_or_else(|| x.shallow_clone(), |at| gather(&x, at));
            x = residual + attended;
            let normed = self.norm(tap, &x, layer.feed_norm);
            x = &x + self.feed_forward(tap, &normed, &layer.feed);
        }
        // Without layers, the embeddings' own.
        let x = if last.is_none() { gather(&x, &batch.mask_positions) } else { x };
        self.norm(tap, &x, self.layout.final_norm)
    }

    /// Softmax attention of the positions `at` \[B, M\], or of all, to all tokens before them and themselves. Explicit
    /// products: libtorch's fused kernel would not keep what gradients of single examples need.
    fn attention(
        &self,
        tap: &mut dyn Tap,
        x: &Tensor,
        at: Option<&Tensor>,
        blocked: &Tensor,
        rotary: Option<&Rotary>,
        layer: &Layer,
    ) -> Tensor {
        let CausalConfig { heads, kv_heads, head_size, .. } = self.config;
        let b = x.size()[0];
        let x = self.norm(tap, x, layer.attention_norm);
        let here = |y: Tensor| at.map_or_else(|| y.shallow_clone(), |at| gather(&y, at));
        let (q, k, v) = match &layer.projections {
            Projections::Fused(map) => {
                let parts = linear(tap, &x, *map).chunk(3, -1);
                (here(parts[0].shallow_clone()), parts[1].shallow_clone(), parts[2].shallow_clone())
            }
            Projections::Separate { query, key, value } => {
                (linear(tap, &here(x.shallow_clone()), *query), linear(tap, &x, *key), linear(tap, &x, *value))
            }
        };
        let split = |y: &Tensor, heads: i64| y.reshape([b, -1, heads, head_size]).transpose(1, 2);
        let (mut q, mut k, v) = (split(&q, heads), split(&k, kv_heads), split(&v, kv_heads));
        if let Some(rotary) = rotary {
            q = at.map_or_else(|| rotary.turn(&q), |at| rotary.turn_at(&q, at));
            k = rotary.turn(&k);
        }
        let queries = q.size()[2];
        let q = q.reshape([b, kv_heads, heads / kv_heads, queries, head_size]);
        let scale = 1.0 / (head_size as f64).sqrt();
        let scores = q.matmul(&k.unsqueeze(2).transpose(-2, -1)) * scale;
        let weights = scores.masked_fill(blocked, f64::NEG_INFINITY).softmax(-1, scores.kind());
        let mixed = weights.matmul(&v.unsqueeze(2)).reshape([b, heads, queries, head_size]);
        linear(tap, &mixed.transpose(1, 2).reshape([b, queries, heads * head_size]), layer.attention_output)
    }

    fn feed_forward(&self, tap: &mut dyn Tap, x: &Tensor, feed: &FeedForward) -> Tensor {
        let activation = self.config.activation;
        match feed {
            FeedForward::Plain { up, down } => {
                let inner = activation.apply(&linear(tap, x, *up));
                linear(tap, &inner, *down)
            }
            FeedForward::Gated { gate, up, down } => {
                let inner = activation.apply(&linear(tap, x, *gate)) * linear(tap, x, *up);
                linear(tap, &inner, *down)
            }
        }
    }

    /// GPT-2's layer norm, or the root mean square norm of the others, which has no bias.
    fn norm(&self, tap: &mut dyn Tap, x: &Tensor, affine: Map) -> Tensor {
        let eps = self.config.norm_eps;
        let normed = if affine.bias.is_some() {
            let none: Option<&Tensor> = None;
            x.layer_norm([self.config.hidden_size], none, none, eps, false)
        } else {
            x * (x.square().mean_dim(-1, true, x.kind()) + eps).rsqrt()
        };
        tap.scale_shift(&normed, affine.weight, affine.bias)
    }
}

impl LanguageModel for CausalLm {
    fn specs(&self) -> &Arc<[ParameterSpec]> {
        &self.specs
    }

    fn facts(&self) -> NetworkFacts {
        let config = &self.config;
        NetworkFacts {
            architecture: config.architecture.name(),
            vocab_size: config.vocab_size,
            max_tokens: config.max_positions,
            segments: 1,
            pad_token_id: filler(config.pad_token_id, config.vocab_size),
            layers: config.layers,
            width: config.hidden_size,
            reads: Reads::LastToken,
        }
    }

    fn settings(&self) -> String {
        serde_json::to_string(&self.config).expect("a configuration is plain data")
    }

    fn features(&self, tap: &mut dyn Tap, batch: &TokenBatch) -> Tensor {
        self.decode(tap, batch).squeeze_dim(1)
    }

    fn label_logits(&self, tap: &mut dyn Tap, batch: &TokenBatch, label_ids: &Tensor) -> Tensor {
        let h = self.features(tap, batch);
        tap.select_rows(&h, self.layout.decoder, None, label_ids)
    }
}

/// The states \[B, M, d\] of x \[B, T, d\] at the positions \[B, M\].
fn gather(x: &Tensor, at: &Tensor) -> Tensor {
    let index = at.unsqueeze(-1).expand([-1, -1, x.size()[2]], false);
    x.gather(1, &index, false)
}

fn linear(tap: &mut dyn Tap, x: &Tensor, map: Map) -> Tensor {
    tap.linear(x, map.weight, map.bias)
}
