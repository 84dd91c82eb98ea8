//! How checkpoints name the tensors of a described network, and what modules are by their names.

use super::architectures;
use super::assemble::Naming;
use super::names::Names;
use super::parts::Description;

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
