//! Every architecture with random settings: logits, kernels and parameters' shares by unmodified transformers, and laws of
//! padding, windows, tied decoders and stored precision.
//!
//! `fixtures/architectures/drawn.json` holds them, made there by `make_drawn.py` in double precision; weights are numbers
//! computed from their names, in the same way here and there. tests/it/parity_table.rs compares them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use crate::common::relative_error;
use crate::corpus::values;
use crate::parity::Errors;
use crate::parts::structured;
use kernelview::jacobian::{Parameters, outputs};
use kernelview::kernel::Formula;
use kernelview::lm::{self, LanguageModel, OutputMode, PromptExample, PromptExamples, Roundings};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// The tokens whose logits are read.
const LABELS: [i64; 2] = [17, 31];

/// A network with its values.
#[derive(Deserialize)]
pub struct Drawn {
    config: Value,
    tensors: BTreeMap<String, Vec<i64>>,
    prompts: Vec<Vec<i64>>,
    at: Vec<usize>,
    logits: Vec<Vec<f64>>,
    sgd: Vec<Vec<f64>>,
    asymmetric: Vec<Vec<f64>>,
    signgd: Vec<Vec<f64>>,
    /// Shares of the SGD kernel's trace, by parameter.
    shares: BTreeMap<String, f64>,
}

pub fn all() -> &'static [Drawn] {
    static ALL: OnceLock<Vec<Drawn>> = OnceLock::new();
    ALL.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/architectures/drawn.json");
        serde_json::from_slice(&fs::read(path).expect("a fixture")).expect("networks")
    })
}

fn matrix(rows: &[Vec<f64>]) -> Tensor {
    let rows: Vec<Tensor> = rows.iter().map(|row| Tensor::from_slice(row)).collect();
    Tensor::stack(&rows, 0)
}

type Named = Vec<(String, Tensor)>;
type Loaded = (Box<dyn LanguageModel>, Parameters);

/// A network from its settings and its checkpoint's tensors.
fn load(config: &Value, tensors: &Named, kind: Kind) -> Loaded {
    crate::common::one_thread();
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("config.json"), config.to_string()).expect("config.json");
    Tensor::write_safetensors(tensors, directory.path().join("model.safetensors")).expect("weights");
    lm::load(directory.path(), kind, Device::Cpu).unwrap_or_else(|e| panic!("{config}: {e}"))
}

impl Drawn {
    /// Its settings, for messages.
    pub fn settings(&self) -> String {
        self.config.to_string()
    }

    /// Its `model_type`.
    pub fn architecture(&self) -> &str {
        self.config["model_type"].as_str().expect("a name")
    }

    /// Its checkpoint's tensors, in single precision.
    fn tensors(&self) -> Named {
        let halved = |name, shape: &[i64]| values(name, shape) / if shape.len() > 1 { 2.0 } else { 1.0 };
        self.tensors.iter().map(|(name, shape)| (name.clone(), halved(name, shape))).collect()
    }

    fn load(&self, kind: Kind) -> Loaded {
        load(&self.config, &self.tensors(), kind)
    }

    /// Whether its attention is written out, with softmax in single precision.
    pub fn is_eager(&self) -> bool {
        self.config["eager_attention"] == true
    }

    /// Errors of this program's values, in passes of `batch` texts.
    pub fn errors(&self, kind: Kind, batch: usize) -> Errors {
        let (model, p) = self.load(kind);
        let prompts = self.prompts.iter().zip(&self.at).map(|(ids, at)| PromptExample {
            segment_ids: vec![0; ids.len()],
            input_ids: ids.clone(),
            mask_position: *at,
        });
        let examples = PromptExamples::new(&*model, prompts.collect(), &LABELS, OutputMode::Logits, Device::Cpu)
            .unwrap_or_else(|e| panic!("{}: {e}", self.config));
        let gram = structured(&p, &examples, (batch, 4096, 1 << 30));
        let error = |formula, expected| relative_error(gram.matrix(formula).expect("computed"), &matrix(expected));
        let trace = matrix(&self.sgd).trace().double_value(&[]);
        let shares = gram.shares.iter().map(|share| {
            let name = &p.specs()[share.parameter].name;
            let expected = self.shares.get(name).unwrap_or_else(|| panic!("{}: {name}", self.architecture()));
            (share.trace_sgd - expected).abs() / trace
        });
        Errors {
            logits: relative_error(&outputs(&p, &examples, batch), &matrix(&self.logits)),
            shares: shares.fold(0.0, f64::max),
            sgd: error(Formula::Sgd, &self.sgd),
            asymmetric: error(Formula::Asymmetric, &self.asymmetric),
            signgd: error(Formula::Signgd, &self.signgd),
        }
    }
}

/// Prompts of a network, read at the last token or at any other, within its longest text.
fn prompts(drawn: &Drawn, seeds: &[(u64, usize, u64)]) -> Vec<PromptExample> {
    let longest = drawn.prompts.iter().map(Vec::len).max().expect("prompts");
    let is_masked = drawn.prompts.iter().zip(&drawn.at).any(|(ids, at)| at + 1 < ids.len());
    let prompt = |(seed, length, at): &(u64, usize, u64)| {
        let length = 2 + length % (longest - 1);
        let id = |i: u64| 6 + (seed.wrapping_add(i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as i64 % 34;
        let at = if is_masked { (*at % length as u64) as usize } else { length - 1 };
        let input_ids = (0..length as u64).map(id).collect();
        PromptExample { segment_ids: vec![0; length], input_ids, mask_position: at }
    };
    seeds.iter().map(prompt).collect()
}

fn exact_logits((model, p): &Loaded, prompts: &[PromptExample], batch: usize) -> Tensor {
    let examples = PromptExamples::new(&**model, prompts.to_vec(), &LABELS, OutputMode::Logits, Device::Cpu);
    outputs(p, &examples.expect("prompts").rounded(Roundings::None), batch)
}

/// Whether the decoder is the table of tokens: by the settings, or by its absence from the file.
fn is_tied(drawn: &Drawn) -> bool {
    !drawn.tensors.keys().any(|name| DECODERS.iter().any(|end| name.ends_with(end)))
}

/// Ends of the names of decoders' weights.
const DECODERS: [&str; 5] =
    ["lm_head.weight", "decoder.weight", "embed_out.weight", "vocab_projector.weight", "generator_lm_head.weight"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Including texts beyond windows and trained lengths. 1e-12 of the largest logit, for sums in matrices of other shapes.
    #[test]
    fn logits_are_those_of_a_text_alone_whatever_else_is_in_its_batch(
        network in any::<prop::sample::Index>(),
        seeds in prop::collection::vec(any::<(u64, usize, u64)>(), 2..5),
    ) {
        let drawn = network.get(all());
        let (loaded, prompts) = (drawn.load(Kind::Double), prompts(drawn, &seeds));
        let together = exact_logits(&loaded, &prompts, prompts.len());
        let alone = exact_logits(&loaded, &prompts, 1);
        prop_assert!(relative_error(&together, &alone) <= 1e-12, "{}", drawn.config);
        let single = exact_logits(&drawn.load(Kind::Float), &prompts, prompts.len());
        let error = relative_error(&single, &alone);
        prop_assert!(error <= 5e-5, "{}: single precision is off by {error:.1e}", drawn.config);
    }

    /// Weights in half precision are read as exactly the numbers that they represent.
    #[test]
    fn weights_on_disk_are_their_numbers(
        network in any::<prop::sample::Index>(),
        half in prop_oneof![Just(Kind::BFloat16), Just(Kind::Half)],
        seeds in prop::collection::vec(any::<(u64, usize, u64)>(), 1..3),
    ) {
        let drawn = network.get(all());
        let prompts = prompts(drawn, &seeds);
        let change = |kind: Kind| -> Named {
            drawn.tensors().iter().map(|(name, t)| (name.clone(), t.to_kind(half).to_kind(kind))).collect()
        };
        let of = |tensors: &Named| exact_logits(&load(&drawn.config, tensors, Kind::Double), &prompts, 2);
        prop_assert_eq!(of(&change(half)), of(&change(Kind::Float)), "{}", drawn.config);
    }

    /// A decoder that is a copy of the table of tokens gives the logits of a tied one.
    #[test]
    fn a_tied_decoder_is_the_table_of_tokens(
        network in any::<prop::sample::Index>(),
        seeds in prop::collection::vec(any::<(u64, usize, u64)>(), 1..3),
    ) {
        let untied: Vec<&Drawn> = all().iter().filter(|drawn| !is_tied(drawn)).collect();
        let drawn = *network.get(&untied);
        let prompts = prompts(drawn, &seeds);
        let mut tensors = drawn.tensors();
        let at = |tensors: &Named, is: &dyn Fn(&str) -> bool| tensors.iter().position(|(name, _)| is(name));
        let decoder = at(&tensors, &|name| DECODERS.iter().any(|end| name.ends_with(end))).expect("untied");
        let shape = tensors[decoder].1.size();
        let table = ["word_embeddings.weight", "embed_tokens.weight", "tok_embeddings.weight", "embed_in.weight", "wte.weight"];
        let table = at(&tensors, &|name| table.iter().any(|end| name.ends_with(end))).expect("a table of tokens");
        prop_assume!(tensors[table].1.size() == shape);
        tensors[decoder].1 = tensors[table].1.shallow_clone();
        let copied = exact_logits(&load(&drawn.config, &tensors, Kind::Double), &prompts, 2);
        drop(tensors.remove(decoder));
        let mut config = drawn.config.clone();
        config["tie_word_embeddings"] = true.into();
        let tied = exact_logits(&load(&config, &tensors, Kind::Double), &prompts, 2);
        prop_assert_eq!(copied, tied, "{}", config);
    }
}

/// A network's settings with a window of five tokens, or of four on either side; `None` if it has no window.
fn with_window(drawn: &Drawn) -> Option<Value> {
    let mut config = drawn.config.clone();
    let mut set = |field: &str, value: Value| config[field] = value;
    set("num_hidden_layers", 1.into());
    set("layer_types", json!(["sliding_attention"]));
    set("sliding_window", 5.into());
    match drawn.architecture() {
        "mistral" | "phi3" | "gemma2" | "gemma3_text" => {}
        "qwen2" | "qwen3" => set("use_sliding_window", true.into()),
        "smollm3" => {
            // Layers with a listed type have it regardless.
            set("use_sliding_window", false.into());
            set("no_rope_layers", json!([1]));
        }
        "modernbert" => {
            set("local_attention", 8.into());
            set("global_attn_every_n_layers", Value::Null);
        }
        _ => return None,
    }
    // The angles of a part would differ.
    let scaling = ["rope_scaling", "rope_parameters"].map(|field| config[field].to_string());
    let by_length = ["dynamic", "longrope"].iter().any(|kind| scaling.iter().any(|s| s.contains(kind)));
    (!by_length).then_some(config)
}

/// A single layer reads of a long text only the part within its window: queries and keys are rotated by their distance alone.
/// 1e-12: angles of other positions round differently.
#[test]
fn a_layer_with_a_window_reads_the_part_within_it() {
    let mut seen = BTreeSet::new();
    for drawn in all() {
        let Some(config) = with_window(drawn) else { continue };
        let is_later = |name: &str| (1..9).any(|layer| name.contains(&format!("layers.{layer}.")));
        let tensors: Named = drawn.tensors().into_iter().filter(|(name, _)| !is_later(name)).collect();
        let model = load(&config, &tensors, Kind::Double);
        let both_sides = drawn.architecture() == "modernbert";
        let long: Vec<i64> = (0..16).map(|i| 6 + (i * 7 + i * i) % 34).collect();
        let (at, behind) = if both_sides { (8, 4) } else { (15, 0) };
        let logits = |from: usize| {
            let prompt = PromptExample {
                segment_ids: vec![0; at + behind + 1 - from],
                input_ids: long[from..=at + behind].to_vec(),
                mask_position: at - from,
            };
            exact_logits(&model, &[prompt], 1)
        };
        let (whole, error) = (logits(0), |from| relative_error(&logits(from), &logits(0)));
        assert_eq!(whole.size(), [1, 2]);
        assert!(error(at - 4) <= 1e-12, "{config}: {:.1e}", error(at - 4));
        assert!(error(at - 3) > 1e-7, "{config}: the window is not reached");
        seen.insert(drawn.architecture().to_owned());
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}
