//! The parameters of a masked language model: their specifications, and where the forward pass finds each of them.

use std::sync::Arc;

use super::config::{ModelConfig, Sharing};
use super::names::Names;
use crate::jacobian::{Param, ParameterSpec, Role};

/// Weight and bias of one affine map.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub weight: Param,
    pub bias: Param,
}

/// Parameters of one encoder layer.
pub(super) struct Layer {
    pub query: Affine,
    pub key: Affine,
    pub value: Affine,
    pub attention_output: Affine,
    pub attention_norm: Affine,
    pub intermediate: Affine,
    pub output: Affine,
    pub output_norm: Affine,
}

/// Where each parameter of the network is.
pub(super) struct Layout {
    pub tokens: Param,
    pub positions: Param,
    /// DistilBERT knows no segments.
    pub segments: Option<Param>,
    pub embedding_norm: Affine,
    /// From the width of the embeddings to that of the layers.
    pub projection: Option<Affine>,
    /// Layers with parameters of their own; see [`ModelConfig::steps`].
    pub layers: Vec<Layer>,
    pub transform: Affine,
    pub transform_norm: Affine,
    pub decoder: Param,
    pub decoder_bias: Param,
}

/// An axis of a parameter: its length, and the field of the configuration that fixes it.
#[derive(Clone, Copy)]
struct Axis(i64, &'static str);

/// Specifications under construction.
struct Builder {
    specs: Vec<ParameterSpec>,
    reasons: Vec<String>,
    role: Role,
    layer: String,
}

impl Builder {
    fn group(&mut self, role: Role, layer: impl Into<String>) {
        (self.role, self.layer) = (role, layer.into());
    }

    fn add(&mut self, name: String, axes: &[Axis]) -> Param {
        let (shape, role, layer) = (axes.iter().map(|a| a.0).collect(), self.role, self.layer.clone());
        self.specs.push(ParameterSpec { name, shape, role, layer, structural_zeros: 0..0 });
        self.reasons.push(axes.iter().map(|a| a.1).collect::<Vec<_>>().join(" x "));
        Param(self.specs.len() - 1)
    }

    fn affine(&mut self, name: &str, axes: &[Axis]) -> Affine {
        let weight = self.add(format!("{name}.weight"), axes);
        let bias = self.add(format!("{name}.bias"), &axes[..1]);
        Affine { weight, bias }
    }
}

/// Specifications in the order in which Hugging Face's BERT registers them, the layout into them, and for each the
/// configuration fields that fix its shape.
pub(super) fn layout(config: &ModelConfig) -> (Arc<[ParameterSpec]>, Layout, Vec<String>) {
    let (names, fields) = (Names::of(config.architecture), config.architecture.fields());
    let prefix = config.architecture.name();
    let h = Axis(config.hidden_size, fields.hidden);
    let i = Axis(config.intermediate_size, fields.intermediate);
    let v = Axis(config.vocab_size, "vocab_size");
    let e = config.embedding_size.map_or(h, |size| Axis(size, "embedding_size"));
    let mut b = Builder { specs: Vec::new(), reasons: Vec::new(), role: Role::Embedding, layer: "embeddings".into() };
    let at = |part: &str| format!("{prefix}.embeddings.{part}");
    let tokens = b.add(at("word_embeddings.weight"), &[v, e]);
    let rows = Axis(config.max_positions, "max_position_embeddings");
    let positions = b.add(at("position_embeddings.weight"), &[rows, e]);
    let segments = config.has_segments().then(|| {
        let rows = Axis(config.type_vocab_size, "type_vocab_size");
        b.add(at("token_type_embeddings.weight"), &[rows, e])
    });
    let embedding_norm = b.affine(&at("LayerNorm"), &[e]);
    b.group(Role::Body, "embedding projection");
    let projection = config.embedding_size.map(|_| b.affine(&format!("{prefix}.{}", names.projection), &[h, e]));
    let own = config.sharing.map_or(config.layers, |Sharing { groups, inner }| groups * inner);
    let layers = (0..own)
        .map(|number| {
            let (path, label) = names.layer_at(config, number);
            let at = |part: &str| format!("{prefix}.{path}.{part}");
            b.group(Role::Body, label);
            let (names, query) = (names.layer, b.affine(&at(names.layer.query), &[h, h]));
            let key = b.affine(&at(names.key), &[h, h]);
            // Under softmax attention a key bias adds the same number to all scores of a query, which softmax ignores.
            b.specs[key.bias.0].structural_zeros = 0..h.0;
            Layer {
                query,
                key,
                value: b.affine(&at(names.value), &[h, h]),
                attention_output: b.affine(&at(names.attention_output), &[h, h]),
                attention_norm: b.affine(&at(names.attention_norm), &[h]),
                intermediate: b.affine(&at(names.intermediate), &[i, h]),
                output: b.affine(&at(names.output), &[h, i]),
                output_norm: b.affine(&at(names.output_norm), &[h]),
            }
        })
        .collect();
    let head = names.head;
    b.group(Role::Head, "head");
    let decoder_bias = b.add(head.decoder_bias.into(), &[v]);
    let transform = b.affine(head.transform, &[e, h]);
    let transform_norm = b.affine(head.norm, &[e]);
    let decoder = if config.tied_decoder { tokens } else { b.add(format!("{}.weight", head.decoder), &[v, e]) };
    let layout = Layout {
        tokens,
        positions,
        segments,
        embedding_norm,
        projection,
        layers,
        transform,
        transform_norm,
        decoder,
        decoder_bias,
    };
    (b.specs.into(), layout, b.reasons)
}
