//! The parameters of a masked language model under Hugging Face's names, and the older names they also go by.

use std::rc::Rc;

use super::assemble::Naming;
use super::config::{Architecture, ModelConfig};
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
    pub segments: Param,
    pub embedding_norm: Affine,
    pub layers: Vec<Layer>,
    pub transform: Affine,
    pub transform_norm: Affine,
    pub decoder: Param,
    pub decoder_bias: Param,
}

/// Specifications under construction.
struct Builder {
    specs: Vec<ParameterSpec>,
    reasons: Vec<&'static str>,
}

impl Builder {
    fn add(&mut self, name: String, shape: &[i64], role: Role, layer: &str, reason: &'static str) -> Param {
        // Under softmax attention a key bias adds the same number to all scores of a query, which softmax ignores.
        let zeros = if name.ends_with("attention.self.key.bias") { shape[0] } else { 0 };
        let (shape, structural_zeros) = (shape.to_vec(), 0..zeros);
        self.specs.push(ParameterSpec { name, shape, role, layer: layer.into(), structural_zeros });
        self.reasons.push(reason);
        Param(self.specs.len() - 1)
    }

    fn affine(
        &mut self,
        name: &str,
        shape: &[i64],
        role: Role,
        layer: &str,
        reasons: (&'static str, &'static str),
    ) -> Affine {
        let weight = self.add(format!("{name}.weight"), shape, role, layer, reasons.0);
        let bias = self.add(format!("{name}.bias"), &shape[..1], role, layer, reasons.1);
        Affine { weight, bias }
    }
}

const H: &str = "hidden_size";
const H_H: &str = "hidden_size x hidden_size";
const NORM: (&str, &str) = (H, H);
const SQUARE: (&str, &str) = (H_H, H);

/// Specifications in the order in which Hugging Face's classes register them, the layout into them, and for each the
/// configuration fields that fix its shape.
pub(super) fn layout(config: &ModelConfig) -> (Rc<[ParameterSpec]>, Layout, Vec<&'static str>) {
    let (h, v, i) = (config.hidden_size, config.vocab_size, config.intermediate_size);
    let prefix = prefix(config.architecture);
    let mut b = Builder { specs: Vec::new(), reasons: Vec::new() };
    let e = "embeddings";
    let table = |b: &mut Builder, name: &str, rows: i64, reason| {
        b.add(format!("{prefix}.embeddings.{name}.weight"), &[rows, h], Role::Embedding, e, reason)
    };
    let tokens = table(&mut b, "word_embeddings", v, "vocab_size x hidden_size");
    let positions = table(&mut b, "position_embeddings", config.max_positions, "max_position_embeddings x hidden_size");
    let segments = table(&mut b, "token_type_embeddings", config.type_vocab_size, "type_vocab_size x hidden_size");
    let embedding_norm = b.affine(&format!("{prefix}.embeddings.LayerNorm"), &[h], Role::Embedding, e, NORM);
    let layers = (0..config.layers)
        .map(|l| {
            let at = |part: &str| format!("{prefix}.encoder.layer.{l}.{part}");
            let group = format!("layer {l}");
            let mut body = |part: &str, shape: &[i64], reasons| b.affine(&at(part), shape, Role::Body, &group, reasons);
            Layer {
                query: body("attention.self.query", &[h, h], SQUARE),
                key: body("attention.self.key", &[h, h], SQUARE),
                value: body("attention.self.value", &[h, h], SQUARE),
                attention_output: body("attention.output.dense", &[h, h], SQUARE),
                attention_norm: body("attention.output.LayerNorm", &[h], NORM),
                intermediate: body(
                    "intermediate.dense",
                    &[i, h],
                    ("intermediate_size x hidden_size", "intermediate_size"),
                ),
                output: body("output.dense", &[h, i], ("hidden_size x intermediate_size", H)),
                output_norm: body("output.LayerNorm", &[h], NORM),
            }
        })
        .collect();
    let head = "head";
    let (bias_name, dense_name, norm_name, decoder_name) = match config.architecture {
        Architecture::Roberta => ("lm_head.bias", "lm_head.dense", "lm_head.layer_norm", "lm_head.decoder.weight"),
        Architecture::Bert => (
            "cls.predictions.bias",
            "cls.predictions.transform.dense",
            "cls.predictions.transform.LayerNorm",
            "cls.predictions.decoder.weight",
        ),
    };
    let decoder_bias = b.add(bias_name.into(), &[v], Role::Head, head, "vocab_size");
    let transform = b.affine(dense_name, &[h, h], Role::Head, head, SQUARE);
    let transform_norm = b.affine(norm_name, &[h], Role::Head, head, NORM);
    let decoder = if config.tied_decoder {
        tokens
    } else {
        b.add(decoder_name.into(), &[v, h], Role::Head, head, "vocab_size x hidden_size")
    };
    let layout = Layout {
        tokens,
        positions,
        segments,
        embedding_norm,
        layers,
        transform,
        transform_norm,
        decoder,
        decoder_bias,
    };
    (b.specs.into(), layout, b.reasons)
}

fn prefix(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Bert => "bert",
        Architecture::Roberta => "roberta",
    }
}

/// The names of an encoder's tensors: with and without the model's prefix, layer norms also as gamma and beta, the
/// decoder's bias also at the decoder.
pub(super) struct EncoderNames(pub Architecture);

impl Naming for EncoderNames {
    fn aliases(&self, name: &str) -> Vec<String> {
        let mut names = vec![name.to_owned()];
        match name {
            "lm_head.bias" => names.push("lm_head.decoder.bias".into()),
            "cls.predictions.bias" => names.push("cls.predictions.decoder.bias".into()),
            _ => {}
        }
        let is_norm = name.contains("LayerNorm") || name.contains("layer_norm");
        if is_norm {
            if let Some(stem) = name.strip_suffix("weight") {
                names.push(format!("{stem}gamma"));
            } else if let Some(stem) = name.strip_suffix("bias") {
                names.push(format!("{stem}beta"));
            }
        }
        let start = format!("{}.", prefix(self.0));
        let bare: Vec<String> = names.iter().filter_map(|n| n.strip_prefix(&start)).map(str::to_owned).collect();
        names.extend(bare);
        names
    }

    fn layer_number(&self, name: &str) -> Option<i64> {
        let rest = name.split_once("encoder.layer.")?.1;
        rest.split('.').next()?.parse().ok()
    }

    /// The pooler, the next-sentence head, position buffers, and the stored copy of a tied decoder.
    fn is_expected_extra(&self, name: &str) -> bool {
        name.contains("pooler.")
            || name.ends_with("position_ids")
            || name.starts_with("cls.seq_relationship.")
            || name.ends_with("decoder.weight")
            || name.ends_with("decoder.bias")
    }

    fn is_head(&self, name: &str) -> bool {
        name.starts_with("cls.predictions.") || name.starts_with("lm_head.")
    }

    fn no_head(&self) -> &'static str {
        "the checkpoint has no masked-language-model head; save it from a ...ForMaskedLM class"
    }

    fn layer(&self) -> (&'static str, &'static str) {
        ("an encoder layer", "num_hidden_layers")
    }
}
