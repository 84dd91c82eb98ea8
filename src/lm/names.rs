//! Names of a network's parameters in checkpoints: a table per architecture, and older aliases. The tables are next to the
//! mappings of settings, in `architectures`.

use super::config::Sharing;

/// Names of one architecture's parameters. Maps and norms are given without `.weight` and `.bias`; names that an
/// architecture does not have are empty. All but the head's names follow the prefix.
#[derive(Debug)]
pub(super) struct Names {
    /// Prefix of names in the class with a head, absent in the class without.
    pub prefix: &'static str,
    /// Names of the sizes in `config.json`.
    pub fields: FieldNames,
    pub tokens: &'static str,
    pub positions: &'static str,
    pub segments: &'static str,
    pub embedding_norm: &'static str,
    /// From the embeddings to the layers.
    pub projection: &'static str,
    /// The table of distances, and its norm.
    pub relative: &'static str,
    pub relative_norm: &'static str,
    /// The list of layers, or of groups of them.
    pub layers: &'static str,
    /// The list of layers in a group.
    pub group: &'static str,
    pub layer: LayerNames,
    pub final_norm: &'static str,
    pub head: HeadNames,
    /// PEFT's default targets; where PEFT has none, the maps to queries and values.
    pub targets: &'static [&'static str],
    /// Whether linear maps are stored \[in, out\].
    pub transposed: bool,
    /// Prefixes of names, with alternatives in other files.
    pub renamed: &'static [(&'static str, &'static str)],
}

/// Names of fields in `config.json`.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldNames {
    pub hidden: &'static str,
    pub layers: &'static str,
    pub heads: &'static str,
    pub intermediate: &'static str,
    pub activation: &'static str,
    pub positions: &'static str,
}

/// The names that most configurations have.
pub(super) const FIELDS: FieldNames = FieldNames {
    hidden: "hidden_size",
    layers: "num_hidden_layers",
    heads: "num_attention_heads",
    intermediate: "intermediate_size",
    activation: "hidden_act",
    positions: "max_position_embeddings",
};

/// Names within one layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerNames {
    /// Before the attention.
    pub attention_before: &'static str,
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    /// One map to all three.
    pub fused: &'static str,
    pub query_norm: &'static str,
    pub key_norm: &'static str,
    /// Maps of distances, if they differ from those of tokens.
    pub position_query: &'static str,
    pub position_key: &'static str,
    pub attention_output: &'static str,
    /// On the attention's output.
    pub attention_after: &'static str,
    /// On the sum with it.
    pub attention_outer: &'static str,
    pub feed_before: &'static str,
    /// The gate, or the combined map of gate and up.
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub feed_after: &'static str,
    pub feed_outer: &'static str,
}

/// No names.
pub(super) const LAYER: LayerNames = LayerNames {
    attention_before: "",
    query: "",
    key: "",
    value: "",
    fused: "",
    query_norm: "",
    key_norm: "",
    position_query: "",
    position_key: "",
    attention_output: "",
    attention_after: "",
    attention_outer: "",
    feed_before: "",
    gate: "",
    up: "",
    down: "",
    feed_after: "",
    feed_outer: "",
};

/// Names of the head's parts, in full; the bias of the decoder with its `.bias`.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadNames {
    /// Prefix of the names of the head's tensors.
    pub start: &'static str,
    /// From the residual stream to the decoder's width.
    pub projection: &'static str,
    pub transform: &'static str,
    pub norm: &'static str,
    pub decoder: &'static str,
    pub bias: &'static str,
}

impl HeadNames {
    /// The decoder's own name for its bias, if that differs.
    pub fn bias_at_decoder(&self) -> Option<String> {
        Some(format!("{}.bias", self.decoder)).filter(|name| name != self.bias && !self.bias.is_empty())
    }
}

impl Names {
    /// A name with the prefix.
    pub fn at(&self, part: &str) -> String {
        if self.prefix.is_empty() { part.to_owned() } else { format!("{}.{part}", self.prefix) }
    }

    /// The prefix of a layer's parameters, and its name in reports. `number` counts the layers that have their own
    /// parameters.
    pub fn layer_at(&self, sharing: Option<Sharing>, number: usize) -> (String, String) {
        match sharing {
            None => (self.at(&format!("{}.{number}", self.layers)), format!("layer {number}")),
            Some(sharing) => {
                let (group, within) = (number as i64 / sharing.inner, number as i64 % sharing.inner);
                let path = self.at(&format!("{}.{group}.{}.{within}", self.layers, self.group));
                (path, format!("shared layer {number}"))
            }
        }
    }
}
