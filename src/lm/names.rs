//! Names of a network's parameters in checkpoints: a table per architecture, and older aliases. The tables are next to the
//! mappings of settings, in `architectures`.

use super::architectures;
use super::assemble::Naming;
use super::parts::Description;

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
    pub fn layer_at(&self, description: &Description, number: usize) -> (String, String) {
        match description.sharing {
            None => (self.at(&format!("{}.{number}", self.layers)), format!("layer {number}")),
            Some(sharing) => {
                let (group, within) = (number as i64 / sharing.inner, number as i64 % sharing.inner);
                let path = self.at(&format!("{}.{group}.{}.{within}", self.layers, self.group));
                (path, format!("shared layer {number}"))
            }
        }
    }
}

/// The names of a network's tensors: with and without the model's prefix, layer norms also as gamma and beta, the
/// decoder's bias also at the decoder.
pub(super) struct ModelNames {
    names: &'static Names,
    architecture: &'static str,
    causal: bool,
    shared: bool,
}

impl ModelNames {
    pub fn of(description: &Description) -> Self {
        Self {
            names: description.names,
            architecture: description.architecture,
            causal: description.causal,
            shared: description.sharing.is_some(),
        }
    }

    fn bare<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(self.names.prefix).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name)
    }
}

/// Buffers in checkpoints of causal models: masks and rotary frequencies.
const BUFFERS: [&str; 6] =
    ["attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias", "rotary_emb.inv_freq", "position_ids"];

impl Naming for ModelNames {
    fn aliases(&self, name: &str) -> Vec<String> {
        let mut names = vec![name.to_owned()];
        if !self.names.head.bias.is_empty() && name == self.names.head.bias {
            names.extend(self.names.head.bias_at_decoder());
        }
        let is_norm = !self.causal && (name.contains("LayerNorm") || name.contains("layer_norm"));
        if is_norm {
            if let Some(stem) = name.strip_suffix("weight") {
                names.push(format!("{stem}gamma"));
            } else if let Some(stem) = name.strip_suffix("bias") {
                names.push(format!("{stem}beta"));
            }
        }
        let bare: Vec<String> =
            names.iter().map(|n| self.bare(n)).filter(|n| !names.iter().any(|m| m == n)).map(str::to_owned).collect();
        names.extend(bare);
        let others = names.iter().flat_map(|n| self.names.renamed.iter().map(move |pair| (n, pair)));
        let others: Vec<String> =
            others.filter_map(|(n, (own, other))| Some(format!("{other}{}", n.strip_prefix(own)?))).collect();
        names.extend(others);
        names
    }

    /// ALBERT's tensors carry the number of their group.
    fn layer_number(&self, name: &str) -> Option<i64> {
        let rest = self.bare(name).strip_prefix(self.names.layers)?.strip_prefix('.')?;
        rest.split('.').next()?.parse().ok()
    }

    /// The pooler, the next-sentence head, buffers, and the stored copy of a tied decoder.
    fn is_expected_extra(&self, name: &str) -> bool {
        name.contains("pooler.")
            || name.starts_with("cls.seq_relationship.")
            || BUFFERS.iter().any(|end| name.ends_with(end))
            || name.ends_with("decoder.weight")
            || name.ends_with("decoder.bias")
            || self.is_decoder(name)
    }

    fn is_head(&self, name: &str) -> bool {
        name.starts_with(self.names.head.start)
    }

    fn is_decoder(&self, name: &str) -> bool {
        name.strip_suffix(".weight") == Some(self.names.head.decoder)
    }

    /// GPT-2's maps are stored as convolutions of width one.
    fn is_transposed(&self, name: &str) -> bool {
        self.names.transposed && name.contains(".c_") && name.ends_with(".weight")
    }

    fn no_head(&self) -> &'static str {
        match self.architecture {
            "electra" => {
                "the checkpoint has no generator head (generator_predictions, generator_lm_head): an ELECTRA \
                 discriminator predicts no tokens; use its generator, saved from ElectraForMaskedLM"
            }
            _ if self.causal => "the decoder has separate weights unless tie_word_embeddings is true",
            _ => "the checkpoint has no masked-language-model head; save it from a ...ForMaskedLM class",
        }
    }

    fn layer(&self) -> (&'static str, &'static str) {
        match (self.shared, self.causal) {
            (true, _) => ("a layer group", "num_hidden_groups"),
            (false, true) => ("a layer", self.names.fields.layers),
            (false, false) => ("an encoder layer", self.names.fields.layers),
        }
    }
}

/// Whether a linear map is a decoder, whose rows are logits of tokens.
pub(super) fn is_decoder(module: &str) -> bool {
    names_of_all().any(|names| names.head.decoder == module)
}

/// Whether a linear map is the one from embeddings to the residual stream.
pub(super) fn is_projection(module: &str) -> bool {
    names_of_all().any(|names| !names.projection.is_empty() && names.at(names.projection) == module)
}

/// Whether a parameter is a table of scores or vectors by distance.
pub(super) fn is_table_of_distances(module: &str) -> bool {
    names_of_all().any(|names| !names.relative.is_empty() && names.at(names.relative) == module)
}

fn names_of_all() -> impl Iterator<Item = &'static Names> {
    architectures::ALL.iter().map(|model_type| model_type.names)
}
