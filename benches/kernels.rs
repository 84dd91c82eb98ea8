//! Criterion benchmarks of the kernel engines, single precision, random weights: whole Gram matrices of a BERT-tiny-shaped
//! network (8 prompts of 32 tokens, one output) by every method, and single weights at the width of BERT-base.

use criterion::{Criterion, criterion_group, criterion_main};
use kernelview::jacobian::{Parameters, record};
use kernelview::kernel::{FormulaSet, GramOptions, Method, reference_gram, structured_gram};
use kernelview::lm::{MaskedLm, ModelConfig, OutputMode, PromptExample, PromptExamples, random};
use kernelview::progress::Silent;
use tch::{Device, Kind};

const EXAMPLES: usize = 8;
const TOKENS: usize = 32;

fn network(config: ModelConfig) -> (MaskedLm, Parameters) {
    let model = MaskedLm::new(config);
    let parameters = random::parameters(&model, 1, 1.0, Kind::Float, Device::Cpu);
    (model, parameters)
}

fn examples(model: &MaskedLm, tokens: usize) -> PromptExamples<'_> {
    let prompts = (0..EXAMPLES)
        .map(|i| PromptExample {
            input_ids: (0..tokens).map(|t| ((i * 131 + t * 17) % 3990 + 5) as i64).collect(),
            segment_ids: vec![0; tokens],
            mask_position: tokens - 3,
        })
        .collect();
    PromptExamples::new(model, prompts, &[7, 11], OutputMode::Difference, Device::Cpu).expect("valid prompts")
}

const METHODS: [(&str, Option<Method>); 3] =
    [("planned", None), ("ghost", Some(Method::Ghost)), ("tiles", Some(Method::Tiles))];

fn grams(c: &mut Criterion) {
    let (model, parameters) = network(ModelConfig {
        hidden_size: 128,
        layers: 2,
        heads: 2,
        intermediate_size: 512,
        vocab_size: 4000,
        ..random::bert_base()
    });
    let examples = examples(&model, TOKENS);
    let include = vec![true; parameters.len()];
    let mut group = c.benchmark_group("bert-tiny shape, 8 x 32 tokens");
    group.sample_size(10);
    for (name, formulas) in [("sgd", FormulaSet::SGD), ("all three", FormulaSet::ALL)] {
        for (method_name, method) in METHODS {
            let options = GramOptions { method, ..GramOptions::new(formulas, parameters.len()) };
            group.bench_function(format!("{method_name}, {name}"), |b| {
                b.iter(|| structured_gram(&parameters, &examples, None, &options, &Silent).expect("finite"));
            });
        }
        group.bench_function(format!("reference, {name}"), |b| {
            b.iter(|| reference_gram(&parameters, &examples, None, formulas, &include).expect("finite"));
        });
    }
    group.bench_function("recording alone", |b| b.iter(|| record(&parameters, &examples, &[0, 1, 2, 3, 4, 5, 6, 7])));
    group.finish();
}

/// The first layer's weights of width 768 by both methods; the time includes one forward and backward pass.
fn sites(c: &mut Criterion) {
    let (model, parameters) = network(ModelConfig { layers: 2, vocab_size: 4000, ..random::bert_base() });
    for tokens in [16, 64] {
        let examples = examples(&model, tokens);
        let mut group = c.benchmark_group(format!("width 768, 8 x {tokens} tokens"));
        group.sample_size(10);
        for name in ["attention.self.query.weight", "intermediate.dense.weight"] {
            let first = format!("layer.0.{name}");
            let include: Vec<bool> = parameters.specs().iter().map(|s| s.name.ends_with(&first)).collect();
            assert_eq!(include.iter().filter(|i| **i).count(), 1, "one weight is called {first}");
            for (method_name, method) in METHODS {
                let defaults = GramOptions::new(FormulaSet::SGD, parameters.len());
                let options = GramOptions { method, include: include.clone(), ..defaults };
                group.bench_function(format!("{name}, {method_name}"), |b| {
                    b.iter(|| structured_gram(&parameters, &examples, None, &options, &Silent).expect("finite"));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, grams, sites);
criterion_main!(benches);
