//! Criterion benchmarks of both kernel engines on a BERT-tiny-shaped network with random weights: 8 prompts of 32
//! tokens, one output, single precision, one thread count for all.

use criterion::{Criterion, criterion_group, criterion_main};
use kernelview::jacobian::{Parameters, record};
use kernelview::kernel::{FormulaSet, GramOptions, reference_gram, structured_gram};
use kernelview::lm::{MaskedLm, ModelConfig, OutputMode, PromptExample, PromptExamples, random};
use kernelview::progress::Silent;
use tch::{Device, Kind};

const EXAMPLES: usize = 8;
const TOKENS: usize = 32;

fn network() -> (MaskedLm, Parameters) {
    let config = ModelConfig {
        hidden_size: 128,
        layers: 2,
        heads: 2,
        intermediate_size: 512,
        vocab_size: 4000,
        ..random::bert_base()
    };
    let model = MaskedLm::new(config);
    let parameters = random::parameters(&model, 1, 1.0, Kind::Float, Device::Cpu);
    (model, parameters)
}

fn examples(model: &MaskedLm) -> PromptExamples<'_> {
    let prompts = (0..EXAMPLES)
        .map(|i| PromptExample {
            input_ids: (0..TOKENS).map(|t| ((i * 131 + t * 17) % 3990 + 5) as i64).collect(),
            segment_ids: vec![0; TOKENS],
            mask_position: TOKENS - 3,
        })
        .collect();
    PromptExamples::new(model, prompts, &[7, 11], OutputMode::Difference, Device::Cpu).expect("valid prompts")
}

fn engines(c: &mut Criterion) {
    let (model, parameters) = network();
    let examples = examples(&model);
    let include = vec![true; parameters.len()];
    let mut group = c.benchmark_group("bert-tiny shape, 8 x 32 tokens");
    group.sample_size(10);
    for (name, formulas) in [("sgd", FormulaSet::SGD), ("all three", FormulaSet::ALL)] {
        let options = GramOptions::new(formulas, parameters.len());
        group.bench_function(format!("structured, {name}"), |b| {
            b.iter(|| structured_gram(&parameters, &examples, None, &options, &Silent).expect("finite"));
        });
        group.bench_function(format!("reference, {name}"), |b| {
            b.iter(|| reference_gram(&parameters, &examples, None, formulas, &include).expect("finite"));
        });
    }
    group.bench_function("recording alone", |b| b.iter(|| record(&parameters, &examples, &[0, 1, 2, 3, 4, 5, 6, 7])));
    group.finish();
}

criterion_group!(benches, engines);
criterion_main!(benches);
