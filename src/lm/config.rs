//! `config.json`: a checkpoint's architecture and sizes.

use std::path::Path;

use super::activation::Activation;
use super::fields::{Fields, MOST_LAYERS};
use crate::error::{Error, Result};

/// BERT-like masked language models, whose configurations can also be built in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// BERT with its masked-LM head.
    Bert,
    /// RoBERTa with its masked-LM head: BERT's encoder, other position numbers, other names.
    Roberta,
    /// XLM-RoBERTa with its masked-LM head: RoBERTa's network.
    #[serde(rename = "xlm-roberta")]
    XlmRoberta,
    /// CamemBERT with its masked-LM head: RoBERTa's network.
    Camembert,
    /// DistilBERT with its masked-LM head: BERT without segments.
    DistilBert,
    /// ELECTRA's generator: BERT whose embeddings and head may be narrower than its layers.
    Electra,
    /// ALBERT with its masked-LM head: narrow embeddings, and layers that share their parameters.
    Albert,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Bert, Self::Roberta, Self::XlmRoberta, Self::Camembert, Self::DistilBert, Self::Electra, Self::Albert];

    /// Its `model_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::Roberta => "roberta",
            Self::XlmRoberta => "xlm-roberta",
            Self::Camembert => "camembert",
            Self::DistilBert => "distilbert",
            Self::Electra => "electra",
            Self::Albert => "albert",
        }
    }

    /// The one of this `model_type`.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }

    fn defaults(self) -> Defaults {
        let base = Defaults { vocab: 30_522, hidden: 768, layers: 12, heads: 12, intermediate: 3072 };
        match self {
            Self::Bert | Self::XlmRoberta | Self::Camembert => base,
            Self::Roberta => Defaults { vocab: 50_265, ..base },
            Self::DistilBert => Defaults { layers: 6, ..base },
            Self::Electra => Defaults { hidden: 256, heads: 4, intermediate: 1024, ..base },
            Self::Albert => Defaults { vocab: 30_000, hidden: 4096, heads: 64, intermediate: 16_384, ..base },
        }
    }

    /// Whether positions are numbered from the padding id + 1.
    pub(super) fn is_roberta(self) -> bool {
        matches!(self, Self::Roberta | Self::XlmRoberta | Self::Camembert)
    }
}

/// What transformers' classes take for sizes that `config.json` does not give.
struct Defaults {
    vocab: i64,
    hidden: i64,
    layers: i64,
    heads: i64,
    intermediate: i64,
}

/// How ALBERT's layers share parameters: consecutive layers form a group, and each of them runs the group's inner layers in
/// turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Sharing {
    /// Number of groups.
    pub groups: i64,
    /// Inner layers of a group, each with its own parameters.
    pub inner: i64,
}

/// The error for an unknown `model_type`.
pub(super) fn unknown_model(fields: &Fields, found: &str, known: &[&str]) -> Error {
    if found.is_empty() {
        let known: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
        return fields.fail(format!("the field `model_type` is missing (expected {})", known.join(" or ")));
    }
    fields.fail(format!("model_type `{found}` is not supported; supported are: {}", known.join(", ")))
}

/// The fields of `config.json` that determine the network.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ModelConfig {
    /// Architecture.
    pub architecture: Architecture,
    /// Vocabulary size V.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width of the embeddings and head, if a map leads from the embeddings to the residual stream; otherwise they have the
    /// latter's width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_size: Option<i64>,
    /// Number of encoder layers.
    pub layers: i64,
    /// How they share parameters, if they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharing: Option<Sharing>,
    /// Attention heads per layer.
    pub heads: i64,
    /// Width of the feed-forward layers.
    pub intermediate_size: i64,
    /// Rows of the position table, an ordinary parameter, even if it was initialized with sinusoids (DistilBERT's
    /// `sinusoidal_pos_embds`).
    pub max_positions: i64,
    /// Rows of the segment table; 1 if there is none.
    pub type_vocab_size: i64,
    /// Added to variances in layer norms.
    pub layer_norm_eps: f64,
    /// Activation.
    pub activation: Activation,
    /// Token id of padding, which may be outside the vocabulary; RoBERTa's position numbers start after it.
    pub pad_token_id: i64,
    /// Whether the decoder is tied to the token embeddings.
    pub tied_decoder: bool,
    /// The base width of a network pre-trained by this program in muP, which determines its learning rates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mup_base_width: Option<i64>,
}

impl ModelConfig {
    /// Reads `config.json` in a checkpoint directory.
    pub fn read(directory: &Path) -> Result<Self> {
        Self::parse(&Fields::read(directory)?)
    }

    pub(super) fn parse(fields: &Fields) -> Result<Self> {
        let name = fields.text("model_type", "")?;
        let Some(architecture) = Architecture::named(name) else {
            return Err(unknown_model(fields, name, &Architecture::ALL.map(Architecture::name)));
        };
        let (names, defaults) = (architecture.names().fields, architecture.defaults());
        let pad_token_id = fields.pad_token_id(i64::from(architecture.is_roberta()))?;
        let unusable = fields.is_null("pad_token_id").then(|| "null".to_owned());
        let unusable = unusable.or_else(|| (pad_token_id < -1).then(|| pad_token_id.to_string()));
        if let Some(found) = unusable.filter(|_| architecture.is_roberta()) {
            return Err(fields
                .fail(format!("the field `pad_token_id` is {found}, but RoBERTa's position numbers start after it")));
        }
        let layers = fields.layers([names.layers, "num_hidden_layers"], defaults.layers)?;
        // DistilBERT's norms always have this value, whatever the file says.
        let layer_norm_eps =
            if architecture == Architecture::DistilBert { 1e-12 } else { fields.number("layer_norm_eps", 1e-12)? };
        let tied_decoder = tied_decoder(fields)?;
        if fields.is_null("position_embedding_type") {
            return Err(fields.fail("position_embedding_type null is not supported; only `absolute` is"));
        }
        let positions = fields.text("position_embedding_type", "absolute")?;
        if positions != "absolute" {
            let message = format!("position_embedding_type `{positions}` is not supported; only `absolute` is");
            return Err(fields.fail(message));
        }
        if fields.flag("is_decoder", false)? {
            return Err(fields.fail("is_decoder true is not supported: attention must be bidirectional"));
        }
        let default = if architecture == Architecture::Albert { "gelu_new" } else { "gelu" };
        let activation = fields.activation(names.activation, default)?;
        let mup_base_width = match fields.present("mup_base_width") {
            None => None,
            Some(_) => Some(fields.size("mup_base_width", None)?),
        };
        let hidden_size = fields.size_under([names.hidden, "hidden_size"], defaults.hidden)?;
        let config = Self {
            architecture,
            vocab_size: fields.size("vocab_size", Some(defaults.vocab))?,
            hidden_size,
            embedding_size: embedding_size(fields, architecture, hidden_size)?,
            layers,
            sharing: if architecture == Architecture::Albert { Some(sharing(fields, layers)?) } else { None },
            heads: fields.size_under([names.heads, "num_attention_heads"], defaults.heads)?,
            intermediate_size: fields.size(names.intermediate, Some(defaults.intermediate))?,
            max_positions: fields.size("max_position_embeddings", Some(512))?,
            type_vocab_size: match architecture {
                Architecture::DistilBert => 1,
                _ => fields.size("type_vocab_size", Some(2))?,
            },
            layer_norm_eps,
            activation,
            pad_token_id,
            tied_decoder,
            mup_base_width,
        };
        fields.multiple((names.hidden, config.hidden_size), (names.heads, config.heads))?;
        if config.architecture.is_roberta() && config.max_tokens() < 1 {
            return Err(fields.fail(format!(
                "max_position_embeddings {} leaves no position after pad_token_id {}",
                config.max_positions, config.pad_token_id
            )));
        }
        Ok(config)
    }

    /// Longest sequence covered by the position table.
    pub fn max_tokens(&self) -> i64 {
        if self.architecture.is_roberta() { self.max_positions - self.pad_token_id - 1 } else { self.max_positions }
    }

    /// Whether tokens have segment ids.
    pub(super) fn has_segments(&self) -> bool {
        self.architecture != Architecture::DistilBert
    }

    /// Activation of the head: for ELECTRA and RoBERTa always exact GELU, as in transformers' `ElectraGeneratorPredictions`
    /// and `RobertaLMHead`.
    pub(super) fn head_activation(&self) -> Activation {
        if self.architecture == Architecture::Electra || self.architecture.is_roberta() {
            Activation::Gelu
        } else {
            self.activation
        }
    }

    /// For each step through the encoder, the index of the layer whose parameters it uses.
    pub(super) fn steps(&self) -> Vec<usize> {
        let Some(Sharing { groups, inner }) = self.sharing else { return (0..self.layers as usize).collect() };
        // In floating point, as transformers computes it.
        let per_group = self.layers as f64 / groups as f64;
        let group = |layer: i64| (layer as f64 / per_group) as i64;
        (0..self.layers).flat_map(|l| (0..inner).map(move |i| (group(l) * inner + i) as usize)).collect()
    }
}

/// Whether the decoder is tied, by the general field and DistilBERT's older one, which must agree.
fn tied_decoder(fields: &Fields) -> Result<bool> {
    let older = fields.flag("tie_weights_", true)?;
    let tied = fields.flag("tie_word_embeddings", true)?;
    if fields.present("tie_weights_").is_some() && older != tied {
        return Err(fields.fail(format!("tie_weights_ {older} and tie_word_embeddings {tied} contradict each other")));
    }
    Ok(tied)
}

/// Width of embeddings that are mapped to the residual stream: ALBERT's always, ELECTRA's if widths differ.
fn embedding_size(fields: &Fields, architecture: Architecture, hidden_size: i64) -> Result<Option<i64>> {
    match architecture {
        Architecture::Albert => Ok(Some(fields.size("embedding_size", Some(128))?)),
        Architecture::Electra => Ok(Some(fields.size("embedding_size", Some(128))?).filter(|e| *e != hidden_size)),
        _ => Ok(None),
    }
}

fn sharing(fields: &Fields, layers: i64) -> Result<Sharing> {
    let groups = fields.size("num_hidden_groups", Some(1))?;
    if groups > layers {
        return Err(fields.fail(format!(
            "num_hidden_groups {groups} is larger than num_hidden_layers {layers}: some groups would have no layer"
        )));
    }
    let inner = fields.size("inner_group_num", Some(1))?;
    if layers.saturating_mul(inner) > MOST_LAYERS {
        return Err(fields
            .fail(format!("num_hidden_layers {layers} times inner_group_num {inner} must be at most {MOST_LAYERS}")));
    }
    Ok(Sharing { groups, inner })
}
