//! Time and peak memory of fine-tuning steps at the shapes of RoBERTa-base and SmolLM2-135M (125M and 135M parameters, random
//! weights, two label words, single precision). Every row of the table is measured in a separate process.
//! `benches/peers/training.py` prints the same for PyTorch with transformers.
//!
//! usage: cargo bench --bench training \[-- ROW...\] with rows like `adam:8:64`: optimizer (`sgd`, `signgd`, `adam`), examples
//! per step, and tokens per example, or `16-64` for examples with evenly spaced lengths, as in a mixed batch; then optionally
//! `:bf16`, `:bf16x2` or `:bf16x3` for linear maps in bf16 parts. The prefix `smollm2/` selects that shape.

mod rows;

use std::sync::Mutex;
use std::time::Instant;

use kernelview::lm::{
    Activation, Biases, CausalArchitecture, CausalConfig, CausalLm, LanguageModel, MaskedLm, OutputMode, PromptExample,
    PromptExamples, random,
};
use kernelview::products::Parts;
use kernelview::progress::Monitor;
use kernelview::train::{FineTuning, LabelledExamples, OptimizerKind, fine_tune};
use tch::{Device, Kind};

const ROWS: [&str; 9] = [
    "sgd:8:64",
    "adam:8:64",
    "sgd:8:16-64",
    "adam:8:16-64",
    "smollm2/adam:8:64",
    "smollm2/adam:8:16-64",
    "adam:8:64:bf16",
    "adam:8:64:bf16x2",
    "adam:8:64:bf16x3",
];

/// Steps per row; the first, which touches its memory for the first time, does not count.
const STEPS: usize = 8;

struct Row {
    causal: bool,
    optimizer: OptimizerKind,
    batch: usize,
    tokens: (usize, usize),
    parts: Option<Parts>,
}

impl Row {
    fn parse(text: &str) -> Option<Self> {
        let (causal, text) = text.strip_prefix("smollm2/").map_or((false, text), |rest| (true, rest));
        let mut fields = text.split(':');
        let (optimizer, batch, tokens) = (fields.next()?, fields.next()?, fields.next()?);
        let parts = match fields.next() {
            None => None,
            Some(name) => Some(Parts::ALL.into_iter().find(|parts| parts.name() == name)?),
        };
        let optimizer = match optimizer {
            "sgd" => OptimizerKind::Sgd,
            "signgd" => OptimizerKind::Signgd,
            "adam" => OptimizerKind::ADAM,
            _ => return None,
        };
        let (shortest, longest) = tokens.split_once('-').unwrap_or((tokens, tokens));
        Some(Self {
            causal,
            optimizer,
            batch: batch.parse().ok()?,
            tokens: (shortest.parse().ok()?, longest.parse().ok()?),
            parts,
        })
    }

    /// Tokens of an example.
    fn length(&self, example: usize) -> usize {
        let (shortest, longest) = self.tokens;
        // Lengths are not in the examples' order.
        let place = (example * 5) % self.batch;
        shortest + (longest - shortest) * place / self.batch.saturating_sub(1).max(1)
    }
}

/// The shape of SmolLM2-135M.
fn smollm2() -> CausalConfig {
    CausalConfig {
        architecture: CausalArchitecture::Llama,
        vocab_size: 49_152,
        hidden_size: 576,
        layers: 30,
        heads: 9,
        kv_heads: 3,
        head_size: 64,
        intermediate_size: 1536,
        max_positions: 8192,
        norm_eps: 1e-5,
        activation: Activation::Silu,
        rope_theta: 1e5,
        biases: Biases { qkv: false, output: false, feed_forward: false },
        pad_token_id: 2,
        tied_decoder: true,
    }
}

fn main() {
    rows::run(
        &ROWS,
        "| optimizer | examples | tokens | best step, s | median, s | peak memory, MB |\n|---|---|---|---:|---:|---:|",
        measure,
    );
}

fn measure(text: &str) {
    let row = Row::parse(text).unwrap_or_else(|| {
        panic!("`{text}` is not [smollm2/]sgd|signgd|adam:EXAMPLES:TOKENS[-TOKENS][:bf16|bf16x2|bf16x3]")
    });
    let model: Box<dyn LanguageModel> =
        if row.causal { Box::new(CausalLm::new(smollm2())) } else { Box::new(MaskedLm::new(random::roberta_base())) };
    let model = &*model;
    let parameters = random::parameters(model, 1, 1.0, Kind::Float, Device::Cpu);
    let prompt = |i: usize| {
        let tokens = row.length(i);
        let id = |t: usize| ((i * 7919 + t * 104_729) % 30_000 + 5) as i64;
        PromptExample {
            input_ids: (0..tokens).map(id).collect(),
            segment_ids: vec![0; tokens],
            mask_position: if row.causal { tokens - 1 } else { tokens - 3 },
        }
    };
    let prompts = (0..row.batch).map(prompt).collect();
    let all = PromptExamples::new(model, prompts, &[7, 11], OutputMode::Logits, Device::Cpu).expect("valid prompts");
    let labels: Vec<usize> = (0..row.batch).map(|i| i % 2).collect();
    let one = all.select(&[0]);
    let train = LabelledExamples { examples: &all, labels: &labels };
    let dev = LabelledExamples { examples: &one, labels: &labels[..1] };
    let settings = FineTuning {
        optimizer: row.optimizer,
        learning_rate: 1e-6,
        batch_size: row.batch,
        steps: STEPS,
        eval_every: STEPS,
        seed: 1,
        parts: row.parts,
    };
    let include = vec![true; parameters.len()];
    let clock = Clock(Mutex::new((Vec::new(), Instant::now())));
    fine_tune(&parameters, &train, &dev, &include, &settings, &clock, None).expect("finite");
    let (times, _) = clock.0.into_inner().expect("no panic");
    let mut times = times[1..].to_vec();
    times.sort_by(f64::total_cmp);
    let fields = text.replacen(':', " | ", 2);
    println!("| {fields} | {:.3} | {:.3} | {} |", times[0], times[times.len() / 2], rows::peak_megabytes());
}

/// Seconds of each step so far, and when the last one ended.
struct Clock(Mutex<(Vec<f64>, Instant)>);

impl Monitor for Clock {
    fn begin(&self, _: &str, _: u64) {}
    fn end(&self) {}
    fn note(&self, _: &str) {}

    fn advance(&self, _: u64) {
        let (times, since) = &mut *self.0.lock().expect("no panic");
        times.push(since.elapsed().as_secs_f64());
        *since = Instant::now();
    }
}
