//! What Hugging Face's classes call the parameters of a masked language model, and the older names they also go by.

use super::assemble::Naming;
use super::config::{Architecture, ModelConfig, Sharing};

/// Names within one encoder layer.
#[derive(Clone, Copy)]
pub(super) struct LayerNames {
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub attention_output: &'static str,
    pub attention_norm: &'static str,
    pub intermediate: &'static str,
    pub output: &'static str,
    pub output_norm: &'static str,
}

/// Names of the head's parts: maps and the norm without `.weight` and `.bias`, the bias of the decoder in full.
#[derive(Clone, Copy)]
pub(super) struct HeadNames {
    pub transform: &'static str,
    pub norm: &'static str,
    pub decoder: &'static str,
    pub decoder_bias: &'static str,
}

impl HeadNames {
    /// The name of the decoder's bias at the decoder, where that is another one.
    pub fn bias_at_decoder(&self) -> Option<String> {
        Some(format!("{}.bias", self.decoder)).filter(|name| name != self.decoder_bias)
    }
}

/// Names of one architecture. Embeddings have the same names in all, behind the model's prefix, its `model_type`.
#[derive(Clone, Copy)]
pub(super) struct Names {
    /// The list of layers, or of groups of them, behind the prefix.
    layers: &'static str,
    /// The map from the embeddings to the layers, behind the prefix; not every architecture has one.
    pub projection: &'static str,
    pub layer: LayerNames,
    pub head: HeadNames,
    /// What names of the head's tensors begin with.
    head_start: &'static str,
}

const BERT: Names = Names {
    layers: "encoder.layer",
    projection: "embeddings_project",
    layer: LayerNames {
        query: "attention.self.query",
        key: "attention.self.key",
        value: "attention.self.value",
        attention_output: "attention.output.dense",
        attention_norm: "attention.output.LayerNorm",
        intermediate: "intermediate.dense",
        output: "output.dense",
        output_norm: "output.LayerNorm",
    },
    head: HeadNames {
        transform: "cls.predictions.transform.dense",
        norm: "cls.predictions.transform.LayerNorm",
        decoder: "cls.predictions.decoder",
        decoder_bias: "cls.predictions.bias",
    },
    head_start: "cls.predictions.",
};

const ROBERTA: Names = Names {
    head: HeadNames {
        transform: "lm_head.dense",
        norm: "lm_head.layer_norm",
        decoder: "lm_head.decoder",
        decoder_bias: "lm_head.bias",
    },
    head_start: "lm_head.",
    ..BERT
};

const DISTILBERT: Names = Names {
    layers: "transformer.layer",
    layer: LayerNames {
        query: "attention.q_lin",
        key: "attention.k_lin",
        value: "attention.v_lin",
        attention_output: "attention.out_lin",
        attention_norm: "sa_layer_norm",
        intermediate: "ffn.lin1",
        output: "ffn.lin2",
        output_norm: "output_layer_norm",
    },
    head: HeadNames {
        transform: "vocab_transform",
        norm: "vocab_layer_norm",
        decoder: "vocab_projector",
        decoder_bias: "vocab_projector.bias",
    },
    head_start: "vocab_",
    ..BERT
};

const ELECTRA: Names = Names {
    head: HeadNames {
        transform: "generator_predictions.dense",
        norm: "generator_predictions.LayerNorm",
        decoder: "generator_lm_head",
        decoder_bias: "generator_lm_head.bias",
    },
    head_start: "generator_",
    ..BERT
};

const ALBERT: Names = Names {
    layers: "encoder.albert_layer_groups",
    projection: "encoder.embedding_hidden_mapping_in",
    layer: LayerNames {
        query: "attention.query",
        key: "attention.key",
        value: "attention.value",
        attention_output: "attention.dense",
        attention_norm: "attention.LayerNorm",
        intermediate: "ffn",
        output: "ffn_output",
        output_norm: "full_layer_layer_norm",
    },
    head: HeadNames {
        transform: "predictions.dense",
        norm: "predictions.LayerNorm",
        decoder: "predictions.decoder",
        decoder_bias: "predictions.bias",
    },
    head_start: "predictions.",
};

impl Names {
    pub fn of(architecture: Architecture) -> Self {
        match architecture {
            Architecture::Bert => BERT,
            Architecture::Roberta => ROBERTA,
            Architecture::DistilBert => DISTILBERT,
            Architecture::Electra => ELECTRA,
            Architecture::Albert => ALBERT,
        }
    }

    /// Where the parameters of a layer are, behind the prefix, and what reports call it. `number` counts the layers that
    /// have parameters of their own.
    pub fn layer_at(&self, config: &ModelConfig, number: i64) -> (String, String) {
        match config.sharing {
            None => (format!("{}.{number}", self.layers), format!("layer {number}")),
            Some(Sharing { inner, .. }) => {
                let (group, within) = (number / inner, number % inner);
                (format!("{}.{group}.albert_layers.{within}", self.layers), format!("shared layer {number}"))
            }
        }
    }
}

/// The names of an encoder's tensors: with and without the model's prefix, layer norms also as gamma and beta, the
/// decoder's bias also at the decoder.
pub(super) struct EncoderNames(pub Architecture);

impl Naming for EncoderNames {
    fn aliases(&self, name: &str) -> Vec<String> {
        let mut names = vec![name.to_owned()];
        let head = Names::of(self.0).head;
        if name == head.decoder_bias {
            names.extend(head.bias_at_decoder());
        }
        let is_norm = name.contains("LayerNorm") || name.contains("layer_norm");
        if is_norm {
            if let Some(stem) = name.strip_suffix("weight") {
                names.push(format!("{stem}gamma"));
            } else if let Some(stem) = name.strip_suffix("bias") {
                names.push(format!("{stem}beta"));
            }
        }
        let start = format!("{}.", self.0.name());
        let bare: Vec<String> = names.iter().filter_map(|n| n.strip_prefix(&start)).map(str::to_owned).collect();
        names.extend(bare);
        names
    }

    /// ALBERT's tensors carry the number of their group.
    fn layer_number(&self, name: &str) -> Option<i64> {
        let rest = name.split_once(Names::of(self.0).layers)?.1.strip_prefix('.')?;
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
        name.starts_with(Names::of(self.0).head_start)
    }

    fn is_decoder(&self, name: &str) -> bool {
        name.strip_suffix(".weight") == Some(Names::of(self.0).head.decoder)
    }

    fn no_head(&self) -> &'static str {
        match self.0 {
            Architecture::Electra => {
                "the checkpoint has no generator head (generator_predictions, generator_lm_head): an ELECTRA \
                 discriminator predicts no tokens; take the generator of its pair, saved from ElectraForMaskedLM"
            }
            _ => "the checkpoint has no masked-language-model head; save it from a ...ForMaskedLM class",
        }
    }

    fn layer(&self) -> (&'static str, &'static str) {
        match self.0 {
            Architecture::Albert => ("a layer group", "num_hidden_groups"),
            _ => ("an encoder layer", self.0.fields().layers),
        }
    }
}

/// Whether a linear map is a decoder, whose rows are logits of tokens.
pub(super) fn is_decoder(module: &str) -> bool {
    module == "lm_head" || Architecture::ALL.into_iter().any(|a| Names::of(a).head.decoder == module)
}
