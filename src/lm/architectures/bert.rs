//! BERT and relatives: norms after the residual sums, a position table, biases everywhere. RoBERTa, XLM-RoBERTa and
//! CamemBERT number positions from the padding id + 1; DistilBERT has no segments; ELECTRA's embeddings may be narrower;
//! ALBERT's are, and its layers share parameters.

use super::super::activation::Activation;
use super::super::config::{Architecture, ModelConfig};
use super::super::fields::Fields;
use super::super::names::{FIELDS, FieldNames, HeadNames, LAYER, LayerNames, Names};
use super::super::parts::{
    Around, Count, Description, Embeddings, FeedKind, Head, Layer, Norm, Positions, Projection, Transform,
};
use super::super::rounding::Rounding;
use super::llama;
use super::settings::{Defaults, Sizes, refuse};
use crate::error::Result;

pub(super) const BERT: Names = Names {
    prefix: "bert",
    fields: FIELDS,
    tokens: "embeddings.word_embeddings",
    positions: "embeddings.position_embeddings",
    segments: "embeddings.token_type_embeddings",
    embedding_norm: "embeddings.LayerNorm",
    projection: "embeddings_project",
    relative: "",
    relative_norm: "",
    layers: "encoder.layer",
    group: "",
    layer: LayerNames {
        query: "attention.self.query",
        key: "attention.self.key",
        value: "attention.self.value",
        attention_output: "attention.output.dense",
        attention_outer: "attention.output.LayerNorm",
        up: "intermediate.dense",
        down: "output.dense",
        feed_outer: "output.LayerNorm",
        ..LAYER
    },
    final_norm: "",
    head: HeadNames {
        start: "cls.predictions.",
        projection: "",
        transform: "cls.predictions.transform.dense",
        norm: "cls.predictions.transform.LayerNorm",
        decoder: "cls.predictions.decoder",
        bias: "cls.predictions.bias",
    },
    targets: &["query", "value"],
    transposed: false,
    renamed: &[],
};

pub(super) const ROBERTA: Names = Names {
    prefix: "roberta",
    head: HeadNames {
        start: "lm_head.",
        projection: "",
        transform: "lm_head.dense",
        norm: "lm_head.layer_norm",
        decoder: "lm_head.decoder",
        bias: "lm_head.bias",
    },
    ..BERT
};

pub(super) const DISTILBERT: Names = Names {
    prefix: "distilbert",
    fields: FieldNames {
        hidden: "dim",
        layers: "n_layers",
        heads: "n_heads",
        intermediate: "hidden_dim",
        activation: "activation",
        positions: "max_position_embeddings",
    },
    layers: "transformer.layer",
    layer: LayerNames {
        query: "attention.q_lin",
        key: "attention.k_lin",
        value: "attention.v_lin",
        attention_output: "attention.out_lin",
        attention_outer: "sa_layer_norm",
        up: "ffn.lin1",
        down: "ffn.lin2",
        feed_outer: "output_layer_norm",
        ..LAYER
    },
    head: HeadNames {
        start: "vocab_",
        projection: "",
        transform: "vocab_transform",
        norm: "vocab_layer_norm",
        decoder: "vocab_projector",
        bias: "vocab_projector.bias",
    },
    targets: &["q_lin", "v_lin"],
    ..BERT
};

pub(super) const ELECTRA: Names = Names {
    prefix: "electra",
    head: HeadNames {
        start: "generator_",
        projection: "",
        transform: "generator_predictions.dense",
        norm: "generator_predictions.LayerNorm",
        decoder: "generator_lm_head",
        bias: "generator_lm_head.bias",
    },
    ..BERT
};

pub(super) const ALBERT: Names = Names {
    prefix: "albert",
    projection: "encoder.embedding_hidden_mapping_in",
    layers: "encoder.albert_layer_groups",
    group: "albert_layers",
    layer: LayerNames {
        query: "attention.query",
        key: "attention.key",
        value: "attention.value",
        attention_output: "attention.dense",
        attention_outer: "attention.LayerNorm",
        up: "ffn",
        down: "ffn_output",
        feed_outer: "full_layer_layer_norm",
        ..LAYER
    },
    head: HeadNames {
        start: "predictions.",
        projection: "",
        transform: "predictions.dense",
        norm: "predictions.LayerNorm",
        decoder: "predictions.decoder",
        bias: "predictions.bias",
    },
    ..BERT
};

/// What BERT-like encoders have in common.
#[derive(Clone, Copy)]
pub(super) struct Encoder {
    pub sizes: Sizes,
    pub norm: Norm,
    pub activation: Activation,
    pub pad_token_id: i64,
}

impl Encoder {
    /// By BERT's names of the sizes.
    pub fn read(fields: &Fields, defaults: Defaults, norm: Norm, activation: Activation) -> Result<Self> {
        let sizes = Sizes::read(fields, defaults)?;
        refuse(fields, "num_key_value_heads", &sizes.heads.into())?;
        refuse(fields, "is_decoder", &false.into())?;
        Ok(Self { sizes, norm, activation, pad_token_id: fields.pad_token_id(0)? })
    }

    /// A layer with norms after the residual sums.
    fn layer(&self) -> Layer {
        let mut layer = llama::layer(&self.sizes, self.norm, self.activation, None);
        (layer.attention.biased, layer.attention.output_biased, layer.feed.biased) = (true, true, true);
        (layer.attention.norms, layer.feed.norms) = (Around::outer(self.norm), Around::outer(self.norm));
        layer.feed.kind = FeedKind::Plain;
        layer
    }

    /// Normalized token embeddings, layers, and a head with a map, a norm and biases.
    pub fn described(
        &self,
        (architecture, names): (&'static str, &'static Names),
        head_activation: Activation,
        tied: bool,
    ) -> Description {
        let s = &self.sizes;
        let transform = Transform { biased: true, activation: head_activation, norm: self.norm };
        Description {
            architecture,
            names,
            vocab_size: s.vocab,
            width: s.width,
            max_tokens: s.positions,
            pad_token_id: self.pad_token_id,
            causal: false,
            embeddings: Embeddings {
                width: s.width,
                scale: 1.0,
                scale_rounding: Rounding::None,
                positions: None,
                segments: None,
                norm: Some(self.norm),
                projection: None,
            },
            relative: None,
            layers: vec![self.layer(); s.layers as usize],
            steps: (0..s.layers as usize).collect(),
            sharing: None,
            final_norm: None,
            head: Head { transform: Some(transform), biased: true, ..Head::plain(s.width, tied) },
            mup_base_width: None,
        }
    }
}

pub(super) fn describe(fields: &Fields, _: &'static str) -> Result<Description> {
    Ok(ModelConfig::parse(fields)?.describe())
}

impl Architecture {
    pub(in crate::lm) fn names(self) -> &'static Names {
        match self {
            Self::Bert => &BERT,
            Self::Roberta | Self::XlmRoberta | Self::Camembert => &ROBERTA,
            Self::DistilBert => &DISTILBERT,
            Self::Electra => &ELECTRA,
            Self::Albert => &ALBERT,
        }
    }
}

impl ModelConfig {
    /// As a description by parts.
    pub(in crate::lm) fn describe(&self) -> Description {
        let sizes = Sizes {
            width: self.hidden_size,
            layers: self.sharing.map_or(self.layers, |s| s.groups * s.inner),
            heads: self.heads,
            kv_heads: self.heads,
            head_size: self.hidden_size / self.heads,
            intermediate: self.intermediate_size,
            vocab: self.vocab_size,
            positions: self.max_positions,
        };
        let norm = Norm::layer(self.layer_norm_eps);
        let encoder = Encoder { sizes, norm, activation: self.activation, pad_token_id: self.pad_token_id };
        let of = (self.architecture.name(), self.architecture.names());
        let mut described = encoder.described(of, self.head_activation(), self.tied_decoder);
        let pad = self.pad_token_id;
        let count = if self.architecture.is_roberta() { Count::BehindPadding(pad) } else { Count::From(0) };
        described.embeddings.positions = Some(Positions { rows: self.max_positions, count });
        described.embeddings.segments = Some(self.type_vocab_size).filter(|_| self.has_segments());
        described.max_tokens = self.max_tokens();
        if let Some(size) = self.embedding_size {
            (described.embeddings.width, described.head.width) = (size, size);
            described.embeddings.projection = Some(Projection::Normed);
        }
        (described.steps, described.sharing) = (self.steps(), self.sharing);
        described.mup_base_width = self.mup_base_width;
        described
    }
}
