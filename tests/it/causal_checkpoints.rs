//! Causal checkpoints in every form, refused settings, and prompts that end before the mask.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::causal::{config_json, tensors, write};
use crate::common::fixture::tiny_checkpoint;
use kernelview::analysis::{Pretrained, SplitName, Study, StudyRequest};
use kernelview::device::Dtype;
use kernelview::jacobian::{Examples, Parameters, all_outputs};
use kernelview::lm::{self, Architecture, CausalArchitecture, CausalLm, OutputMode, random, with_head, write_tensors};
use kernelview::task::{
    PromptTokenizer, PromptedTask, Reading, Splits, TaskDefinition, Template, demo, demo_definition,
};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

const ALL: [CausalArchitecture; 3] = [CausalArchitecture::Gpt2, CausalArchitecture::Llama, CausalArchitecture::Qwen2];

/// A tiny checkpoint's parts.
struct Source {
    config: Value,
    parameters: Parameters,
    tensors: Vec<(String, Tensor)>,
}

fn source(architecture: CausalArchitecture, tied: bool) -> Source {
    crate::common::one_thread();
    let mut config = random::tiny_causal(architecture, 150);
    config.tied_decoder = tied;
    let model = CausalLm::new(config);
    let parameters = random::parameters(&model, 8, 1.5, Kind::Float, Device::Cpu);
    Source { config: config_json(model.config()), tensors: tensors(&parameters), parameters }
}

impl Source {
    fn stored(&self) -> TempDir {
        let directory = tempfile::tempdir().expect("a temporary directory");
        write(directory.path(), &self.config, &self.tensors);
        directory
    }

    fn assert_loads(&self, directory: &Path, what: &str) {
        let (_, found) = lm::load(directory, Kind::Float, Device::Cpu).unwrap_or_else(|e| panic!("{what}: {e}"));
        for (spec, (a, b)) in found.specs().iter().zip(found.values().iter().zip(self.parameters.values())) {
            assert_eq!(a, b, "{what}: {}", spec.name);
        }
    }
}

#[test]
fn every_form_of_a_checkpoint_gives_the_same_model() {
    for architecture in ALL {
        for tied in [true, false] {
            let mut source = source(architecture, tied);
            let what = format!("{architecture:?}, tied {tied}");
            source.assert_loads(source.stored().path(), &what);
            // Without the model's prefix; with buffers, and a copy of the tied decoder.
            for (name, _) in &mut source.tensors {
                *name = name.trim_start_matches("transformer.").trim_start_matches("model.").to_owned();
            }
            let buffers = if architecture == CausalArchitecture::Gpt2 {
                vec!["h.0.attn.bias", "h.0.attn.masked_bias"]
            } else {
                vec!["layers.0.self_attn.rotary_emb.inv_freq"]
            };
            let zeros = || Tensor::zeros([2], (Kind::Float, Device::Cpu));
            source.tensors.extend(buffers.into_iter().map(|name| (name.to_owned(), zeros())));
            if tied {
                source.tensors.push(("lm_head.weight".into(), source.parameters.values()[0].copy()));
            }
            source.assert_loads(source.stored().path(), &format!("{what}, other names"));
            // Shards.
            let directory = source.stored();
            fs::remove_file(directory.path().join("model.safetensors")).expect("the file");
            let mut map = BTreeMap::new();
            for (part, some) in source.tensors.chunks(9).enumerate() {
                let file = format!("model-{part}.safetensors");
                map.extend(some.iter().map(|(name, _)| (name.clone(), file.clone())));
                write_tensors(&directory.path().join(&file), some, &[("format", "pt")]).expect("a shard");
            }
            let index = json!({ "weight_map": map }).to_string();
            fs::write(directory.path().join("model.safetensors.index.json"), index).expect("the index");
            source.assert_loads(directory.path(), &format!("{what}, shards"));
        }
    }
}

/// Both kinds of half precision are widened exactly.
#[test]
fn half_precision_is_widened_exactly() {
    for architecture in ALL {
        for kind in [Kind::Half, Kind::BFloat16] {
            let mut source = source(architecture, true);
            source.parameters = source.parameters.map(|v| v.to_kind(kind).to_kind(Kind::Float));
            let directory = source.stored();
            let narrow: Vec<(&String, Tensor)> = source.tensors.iter().map(|(n, t)| (n, t.to_kind(kind))).collect();
            let narrow: Vec<(&String, &Tensor)> = narrow.iter().map(|(n, t)| (*n, t)).collect();
            Tensor::write_safetensors(&narrow, directory.path().join("model.safetensors")).expect("weights");
            source.assert_loads(directory.path(), &format!("{architecture:?}, {kind:?}"));
        }
    }
}

/// Settings that would change the function are never ignored.
#[test]
fn unsupported_settings_are_refused_by_name() {
    let scaling = |kind: &str| json!({ "rope_type": kind, "factor": 8.0 });
    let (gpt2, llama, qwen2) = (CausalArchitecture::Gpt2, CausalArchitecture::Llama, CausalArchitecture::Qwen2);
    for (architecture, field, value, message) in [
        (gpt2, "n_embd", json!(15), "n_embd 15 is not a multiple of n_head 4"),
        (gpt2, "scale_attn_weights", json!(false), "scale_attn_weights false is not supported; only true is"),
        (
            gpt2,
            "scale_attn_by_inverse_layer_idx",
            json!(true),
            "scale_attn_by_inverse_layer_idx true is not supported; only false is",
        ),
        (gpt2, "n_layer", json!(9_999), "the field `n_layer` must be at most 1000, found 9999"),
        (
            llama,
            "rope_scaling",
            scaling("llama3"),
            "rotary positions of type `llama3` need `low_freq_factor`, which is missing",
        ),
        (
            llama,
            "rope_scaling",
            json!({ "type": "mrope", "mrope_section": [1, 1] }),
            "rotary positions of type `mrope` are not supported; default, linear, dynamic, llama3, yarn and longrope are",
        ),
        (
            llama,
            "rope_parameters",
            json!({ "rope_type": "longrope", "short_factor": [1.0, 2.0, 3.0], "long_factor": [1.0, 1.0] }),
            "the field `short_factor` must be a list of 2 positive numbers, one for each pair of entries, found \
             [1.0,2.0,3.0]",
        ),
        (llama, "rope_theta", json!(0), "the field `rope_theta` must be a positive number, found 0"),
        (llama, "partial_rotary_factor", json!(0.5), "partial_rotary_factor 0.5 is not supported; only 1.0 is"),
        (llama, "sliding_window", json!(4096), "sliding_window 4096 is not supported: attention must be to all tokens"),
        (llama, "num_key_value_heads", json!(3), "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        (llama, "head_dim", json!(3), "heads of width 3 have no pairs of entries to rotate"),
        (
            qwen2,
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            "layer_types names layers with a window, but there is no sliding_window",
        ),
        (
            qwen2,
            "layer_types",
            json!(["full_attention", "chunked_attention"]),
            "layer_types has \"chunked_attention\", which is not supported; `full_attention` and `sliding_attention` are",
        ),
        (qwen2, "layer_types", json!(["full_attention"]), "layer_types has 1 entries for 2 layers"),
        (
            llama,
            "model_type",
            json!("mamba"),
            "model_type `mamba` is not supported; supported are: bert, roberta, xlm-roberta, camembert, distilbert, \
             electra, albert, modernbert, deberta-v2, mpnet, gpt2, llama, mistral, qwen2, qwen3, gemma2, gemma3_text, \
             phi3, olmo2, gpt_neox, opt, smollm3, granite",
        ),
    ] {
        let mut source = source(architecture, true);
        source.config[field] = value;
        let directory = source.stored();
        let file = directory.path().join("config.json");
        let found = lm::load(directory.path(), Kind::Float, Device::Cpu).err().expect(message).to_string();
        assert_eq!(found, format!("{}: {message}", file.display()));
    }
    // Settings without effect are accepted.
    let mut source = source(llama, true);
    source.config["rope_scaling"] = scaling("default");
    source.config["layer_types"] = json!(["full_attention", "full_attention"]);
    source.assert_loads(source.stored().path(), "harmless settings");
}

#[test]
fn missing_and_misshapen_tensors_are_named_as_the_file_has_them() {
    let refused = |source: &Source, message: &str| {
        let directory = source.stored();
        let found = lm::load(directory.path(), Kind::Float, Device::Cpu).err().expect(message).to_string();
        let file = directory.path().join("model.safetensors");
        assert_eq!(found, format!("{}: tensor {message}", file.display()));
    };
    let mut untied = source(CausalArchitecture::Llama, true);
    untied.config["tie_word_embeddings"] = json!(false);
    refused(
        &untied,
        "`lm_head.weight` (shape [150, 16]) is missing; the decoder has separate weights unless tie_word_embeddings is true",
    );
    let mut turned = source(CausalArchitecture::Gpt2, true);
    let at = turned.tensors.iter().position(|(name, _)| name == "transformer.h.1.mlp.c_fc.weight").expect("a map");
    turned.tensors[at].1 = turned.tensors[at].1.tr().contiguous();
    refused(
        &turned,
        "`transformer.h.1.mlp.c_fc.weight` has shape [24, 16], expected [16, 24] (n_embd x n_inner in config.json)",
    );
    let mut more = source(CausalArchitecture::Qwen2, true);
    more.config["num_hidden_layers"] = json!(1);
    refused(
        &more,
        "`model.layers.1.input_layernorm.weight` belongs to a layer beyond num_hidden_layers = 1 of config.json",
    );
}

/// A study of the built-in demonstration with a tiny Llama and a tokenizer of whole words.
fn study(template: &str) -> kernelview::error::Result<(Study, PromptTokenizer)> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    tiny_checkpoint(directory.path(), Architecture::Bert, 1);
    let tokenizer = PromptTokenizer::from_dir(directory.path()).expect("a tokenizer");
    let mut config = random::tiny_causal(CausalArchitecture::Llama, tokenizer.max_token_id() + 1);
    config.max_positions = 136;
    let model = CausalLm::new(config);
    let parameters = random::parameters(&model, 8, 1.5, Kind::Float, Device::Cpu);
    write(directory.path(), &config_json(model.config()), &tensors(&parameters));
    let splits = demo().expect("the demonstration");
    let definition = TaskDefinition { template: Template::parse(template)?, ..demo_definition()? };
    let network = Pretrained::load(directory.path(), Dtype::F64, Device::Cpu)?;
    Ok((Study::new(StudyRequest::new(&network, &definition, &splits))?, tokenizer))
}

/// The rows of a causal model's decoder for the label words \[C, width\].
fn decoder(study: &Study) -> Tensor {
    let at = study.parameters.specs().iter().position(|spec| spec.name.ends_with("lm_head.weight"));
    // Tied to the embeddings otherwise.
    let words: Vec<i64> = study.task.words.iter().map(|word| word[0]).collect();
    study.parameters.values()[at.unwrap_or(0)].index_select(0, &Tensor::from_slice(&words))
}

#[test]
fn a_causal_prompt_is_the_template_up_to_its_mask() {
    let (study, tokenizer) = study("*cls**sent_0*_It_was*mask*.*sep+*").expect("a study");
    let splits = demo().expect("the demonstration");
    for (prompt, example) in study.prompts(SplitName::Train).iter().zip(&splits.train.examples) {
        let whole = format!("{} It was", example.texts[0]);
        assert_eq!(prompt.input_ids, tokenizer.encode(&whole).expect("tokens"));
        assert_eq!(prompt.mask_pos, prompt.input_ids.len() - 1);
    }
    let facts = study.task_facts();
    assert!(facts.notes.iter().any(|note| note.starts_with("The model is causal:")), "{:?}", facts.notes);
    assert_eq!(study.model_facts.architecture, "llama");
    let examples = study.examples(SplitName::Train, study.mode).expect("examples");
    assert_eq!(examples.outputs(), 1);
    // A new head reads the same token.
    let heads = study.head_examples(SplitName::Train, 3).expect("a head's examples");
    let width = study.model_facts.width;
    let weight = Tensor::arange(3 * width, (Kind::Double, Device::Cpu)).view([3, width]).sin();
    let found = all_outputs(&with_head(&study.parameters, &weight, None), &heads, 4).expect("outputs");
    let expected = heads.features(&study.parameters, 4).matmul(&weight.transpose(0, 1));
    assert!((found - expected).abs().max().double_value(&[]) < 1e-12);
    let same = heads.features(&study.parameters, 1).matmul(&decoder(&study).transpose(0, 1));
    let logits = study.examples(SplitName::Train, OutputMode::Logits).expect("examples");
    let logits = all_outputs(&study.parameters, &logits, 4).expect("outputs");
    assert!((same - logits).abs().max().double_value(&[]) < 1e-12);
}

#[test]
fn texts_behind_the_mask_are_refused() {
    for (template, part) in [("*cls**mask*:*+sent_0**sep+*", "+sent_0"), ("*sent_0**mask*,*label_1*", "label_1")] {
        let message = study(template).err().expect("refused").to_string();
        assert_eq!(
            message,
            format!(
                "template `{template}`: a causal language model reads the prompt up to its mask, but `{part}` follows it; give a setting `template` with all texts before the mask, such as `*sent_0*_It_was*mask*`"
            )
        );
    }
}

/// The token to read must be there, and must survive `max_length`.
#[test]
fn prompts_without_a_token_to_read_are_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    tiny_checkpoint(directory.path(), Architecture::Bert, 1);
    let tokenizer = PromptTokenizer::from_dir(directory.path()).expect("a tokenizer");
    let mut splits = demo().expect("the demonstration");
    splits.train.examples[0].texts[0] = String::new();
    let mut definition = demo_definition().expect("the demonstration");
    definition.template = Template::parse("*cls**sent_0**mask*").expect("a template");
    let refused = |definition: &TaskDefinition, splits: &Splits| {
        let read = PromptedTask::read_at(Reading::LastToken, definition, &tokenizer, splits);
        read.expect_err("refused").to_string()
    };
    let empty = refused(&definition, &splits);
    assert!(empty.ends_with("the prompt is empty: there is no token to read"), "{empty}");
    splits.train.examples.remove(0);
    // Texts are shortened so that what follows them is kept; a prompt that is too long without them is refused.
    definition.template = Template::parse("*cls**sent_0*_It_was*mask*").expect("a template");
    definition.max_length = 9;
    let short = PromptedTask::read_at(Reading::LastToken, &definition, &tokenizer, &splits).expect("texts are cut");
    let was = tokenizer.encode(" It was").expect("tokens");
    for prompt in &short.train {
        assert!(prompt.input_ids.len() <= 9 && prompt.input_ids.ends_with(&was), "{prompt:?}");
        assert_eq!(prompt.mask_pos + 1, prompt.input_ids.len());
    }
    definition.max_length = 1;
    let cut = refused(&definition, &splits);
    assert!(cut.contains("the token before the mask would be token "), "{cut}");
    assert!(cut.contains("of a prompt truncated to 1 tokens: setting `max_length` must be at least 2"), "{cut}");
}
