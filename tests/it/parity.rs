//! Values of language models by unmodified transformers: in double precision, except for what it always computes in single
//! precision. The networks of `fixtures/architectures/parts` (see `make_rounded.py`) and twelve more outside the checkout, with
//! the token ids of their texts.
//!
//! Tolerances: 1e-12 of the largest logit, 1e-10 of a kernel's largest entry, sign kernels as equal integers, if this processor
//! rounds single precision like the one that made the values. Otherwise [`ELSEWHERE`]: a sum in another order differs in the
//! seventh digit.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use crate::common::{Golden, integers, read_tensors, relative_error, rounds_as_golden, shared};
use crate::parts::{folder, networks, structured};
use kernelview::jacobian::{Parameters, outputs};
use kernelview::kernel::{Formula, dense_jacobian, sign_rows};
use kernelview::lm::{self, LanguageModel, OutputMode, PromptExample, PromptExamples, Roundings};
use kernelview::task::{Example, PromptTokenizer, PromptedTask, Reading, Split, Splits, TaskDefinition};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// Kernels, relative to their largest entry.
pub const SUMS: f64 = 1e-10;

/// Tolerance if single precision rounds differently.
pub const ELSEWHERE: f64 = 1e-5;

/// Errors of logits, kernels and parameters' shares, relative to the largest value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Errors {
    pub logits: f64,
    pub sgd: f64,
    pub asymmetric: f64,
    /// Error of an integer kernel.
    pub signgd: f64,
    pub shares: f64,
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { logits, sgd, asymmetric, signgd, shares } = self;
        write!(
            f,
            "logits {logits:.1e}, sgd {sgd:.1e}, asymmetric {asymmetric:.1e}, signgd {signgd:.1e}, shares {shares:.1e}"
        )
    }
}

impl Errors {
    /// Whether they are within the tolerances.
    fn are_small(&self, sums: f64) -> bool {
        let (logits, sums) = if rounds_as_golden() { (1e-12, sums) } else { (ELSEWHERE, ELSEWHERE) };
        let signs = self.signgd == 0.0 || !rounds_as_golden();
        signs && self.logits <= logits && self.sgd.max(self.asymmetric).max(self.shares) <= sums
    }
}

/// Fails with all networks whose errors are too large.
pub fn check(sums: f64, all: impl Iterator<Item = (String, Errors)>) {
    let large = all.filter(|(_, errors)| !errors.are_small(sums));
    let large: Vec<String> = large.map(|(name, errors)| format!("{name}: {errors}")).collect();
    assert!(large.is_empty(), "\n{}", large.join("\n"));
}

/// Checkpoints outside the checkout.
pub const BESIDE: [&str; 12] = [
    "xlm-roberta",
    "modernbert",
    "deberta-v2",
    "llama3-rope",
    "mistral",
    "qwen3",
    "gemma2",
    "gemma3",
    "phi3",
    "olmo2",
    "gpt_neox",
    "opt",
];

/// One of these checkpoints.
pub struct Beside {
    directory: PathBuf,
    pub model: Box<dyn LanguageModel>,
    parameters: Parameters,
    values: BTreeMap<String, Tensor>,
    cases: Value,
}

fn numbers(v: &Value) -> Vec<i64> {
    v.as_array().expect("a list").iter().map(|n| n.as_i64().expect("an integer")).collect()
}

impl Beside {
    pub fn load(name: &str) -> Option<Self> {
        crate::common::one_thread();
        let directory = shared(&format!("oracle2/{name}"))?;
        // Its values were made with explicit attention.
        let eager = tempfile::tempdir().expect("a temporary directory");
        let read = if name == "modernbert" {
            for file in ["config.json", "model.safetensors"] {
                fs::copy(directory.join(file), eager.path().join(file)).expect("a copy");
            }
            crate::common::fixture::set(&eager.path().join("config.json"), "eager_attention", true.into());
            eager.path()
        } else {
            &directory
        };
        let (model, parameters) = lm::load(read, Kind::Double, Device::Cpu).unwrap_or_else(|e| panic!("{e}"));
        let cases = fs::read_to_string(directory.join("cases.json")).expect("cases.json");
        let values = read_tensors(&directory.join("golden.safetensors"));
        Some(Self { directory, model, parameters, values, cases: serde_json::from_str(&cases).expect("JSON") })
    }

    fn examples(&self) -> PromptExamples<'_> {
        let positions = numbers(&self.cases["position"]);
        let ids = self.cases["input_ids"].as_array().expect("a list").iter().map(numbers);
        let prompts = ids.zip(positions).map(|(ids, at)| PromptExample {
            segment_ids: vec![0; ids.len()],
            input_ids: ids,
            mask_position: at as usize,
        });
        let labels = integers(&self.values["label_ids"]);
        PromptExamples::new(&*self.model, prompts.collect(), &labels, OutputMode::Logits, Device::Cpu).expect("prompts")
    }

    pub fn errors(&self, batch: usize) -> Errors {
        let (p, examples) = (&self.parameters, self.examples());
        let gram = structured(p, &examples, (batch, 4096, 1 << 30));
        let rows = self.values["logits"].numel() as i64;
        let error = |formula: Formula| {
            let expected = self.values[&format!("kernel.{formula}")].view([rows, rows]);
            relative_error(gram.matrix(formula).expect("computed"), &expected)
        };
        let scale = self.values["kernel.sgd"].abs().max().double_value(&[]);
        let shares = gram.shares.iter().map(|share| {
            let expected = &self.values[&format!("by_parameter.{}", p.specs()[share.parameter].name)];
            let found = share.sgd.as_ref().expect("asked for");
            let error = (found - expected).abs().max().double_value(&[]) / scale;
            if error > 1e-10 {
                println!("  {} {error:.1e}", p.specs()[share.parameter].name);
            }
            error
        });
        Errors {
            logits: relative_error(&outputs(p, &examples, batch), &self.values["logits"]),
            shares: shares.fold(0.0, f64::max),
            sgd: error(Formula::Sgd),
            asymmetric: error(Formula::Asymmetric),
            signgd: error(Formula::Signgd),
        }
    }
}

#[test]
fn networks_beside_the_checkout_have_their_logits_kernels_and_shares() {
    check(SUMS, BESIDE.iter().map_while(|name| Some(((*name).to_owned(), Beside::load(name)?.errors(1)))));
}

/// Numbers of entries whose sign is zero in every row, by parameter.
#[test]
fn entries_that_are_always_zero_are_those_beside_the_checkout() {
    for name in BESIDE {
        let Some(beside) = Beside::load(name) else { return };
        let p = &beside.parameters;
        let signs = sign_rows(p, &dense_jacobian(p, &beside.examples()).expect("not interrupted"));
        let always = signs.abs().amax([0], false).eq(0);
        let mut found = BTreeMap::new();
        let mut start = 0;
        for spec in p.specs() {
            let count = always.narrow(0, start, spec.numel()).sum(Kind::Int64).int64_value(&[]);
            start += spec.numel();
            if count > 0 {
                found.insert(spec.name.clone(), count);
            }
        }
        let expected: BTreeMap<String, i64> =
            serde_json::from_value(beside.cases["always_zero_entries"].clone()).expect("counts");
        assert_eq!(found, expected, "{name}");
    }
}

/// Their texts in their templates, with their own tokenizers, give their token ids; so do the label words.
#[test]
fn token_ids_beside_the_checkout_are_those_of_their_texts() {
    for name in BESIDE {
        let Some(beside) = Beside::load(name) else { return };
        let cases = &beside.cases;
        let tokenizer = PromptTokenizer::from_dir(&beside.directory).unwrap_or_else(|e| panic!("{name}: {e}"));
        let words: Vec<String> = cases["label_words"]
            .as_array()
            .expect("words")
            .iter()
            .enumerate()
            .map(|(class, word)| format!("{class}={}", word.as_str().expect("a word")))
            .collect();
        let template = cases["template"].as_str().expect("a template");
        let task = TaskDefinition::new("own", template, &words.join(",")).unwrap_or_else(|e| panic!("{name}: {e}"));
        let texts = cases["texts"].as_array().expect("texts").iter().zip(numbers(&cases["labels"])).enumerate();
        let examples = texts.map(|(at, (text, label))| Example {
            texts: vec![text.as_str().expect("a text").to_owned()],
            label: label as usize,
            row: at + 2,
            choices: Vec::new(),
        });
        let examples: Vec<Example> = examples.collect();
        let split = || Split { examples: examples.clone(), source: PathBuf::from("own.tsv"), digest: String::new() };
        let splits = Splits { train: split(), dev: split(), test: split(), notes: Vec::new() };
        let reading = match beside.model.facts().reads {
            lm::Reads::Mask => Reading::Mask,
            lm::Reads::LastToken => Reading::LastToken,
        };
        let prompted =
            PromptedTask::read_at(reading, &task, &tokenizer, &splits).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(prompted.label_ids(), Some(integers(&beside.values["label_ids"])), "{name}");
        let right = cases["input_ids"].as_array().expect("rows").iter().zip(numbers(&cases["position"]));
        for (found, (ids, at)) in prompted.train.iter().zip(right) {
            assert_eq!((&found.input_ids, found.mask_pos as i64), (&numbers(ids), at), "{name}");
        }
    }
}

/// Errors of a network of the fixtures against its rounded values.
pub fn errors(name: &str, batch: usize) -> Errors {
    let exact = Golden::read(&folder().join(name), Kind::Double);
    let rounded = read_tensors(&folder().join(name).join("rounded.safetensors"));
    let values = exact.values.into_iter().chain(rounded).collect();
    let golden = Golden { values, roundings: Roundings::AsTransformers, ..exact };
    let (p, examples) = (&golden.parameters, golden.examples());
    let gram = structured(p, &examples, (batch, 500, 1 << 30));
    let error = |formula: Formula| {
        relative_error(gram.matrix(formula).expect("computed"), &golden.kernel(&format!("kernel.{formula}")))
    };
    let all = golden.kernel("kernel.sgd").trace().double_value(&[]);
    let shares = gram.shares.iter().map(|share| {
        let parameter = &p.specs()[share.parameter].name;
        let squares = golden.values[&format!("norm.{parameter}")].square().sum(Kind::Double).double_value(&[]);
        (share.trace_sgd - squares).abs() / all
    });
    Errors {
        logits: relative_error(&outputs(p, &examples, batch), &golden.values["logits"]),
        shares: shares.fold(0.0, f64::max),
        sgd: error(Formula::Sgd),
        asymmetric: error(Formula::Asymmetric),
        signgd: error(Formula::Signgd),
    }
}

#[test]
fn networks_of_the_fixtures_have_the_rounded_logits_kernels_and_shares() {
    check(
        SUMS,
        networks().into_iter().filter(|name| name != "deberta-keys").map(|name| (name.clone(), errors(&name, 1))),
    );
}
