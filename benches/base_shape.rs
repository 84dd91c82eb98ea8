//! Whole-process time and peak memory of the kernel engines at the shape of RoBERTa-base (125M parameters, random
//! weights), one output, single precision. Every row of the table is a process of its own, so that peak memory is that
//! row's. Prints a markdown table for `benches/record/`.
//!
//! usage: cargo bench --bench `base_shape` \[-- ROW...\] with rows like `structured:32:sgd:64`:
//!
//! - engine: `structured` (the plan's choice), `ghost`, `tiles` (one method for every weight), `reference`;
//!   `floor` is not a measurement but what forward and backward pass, weight gradients and their Gram matrix would
//!   take at libtorch's rate of matrix products, measured beside it; `mlp` is a relu perceptron of width 1024 with
//!   three hidden layers and 64 inputs, `tiny` the shape of BERT-tiny;
//! - examples N, or NxM for a kernel between two sets;
//! - formulas: `sgd`, `signgd` or `all`;
//! - tokens (64 where left out).

use std::process::Command;
use std::time::Instant;

use kernelview::jacobian::{Examples, Parameters};
use kernelview::kernel::{FormulaSet, GramOptions, Method, reference_gram, structured_gram};
use kernelview::lm::{MaskedLm, ModelConfig, OutputMode, PromptExample, PromptExamples, random};
use kernelview::network::{Abc, Activation, Mlp, unit_inputs};
use kernelview::progress::Silent;
use tch::{Device, Kind, Tensor};

const ROWS: [&str; 13] = [
    "floor:32:sgd",
    "structured:32:sgd",
    "structured:32:signgd",
    "structured:32:all",
    "structured:32x32:sgd",
    "structured:128x32:sgd",
    "structured:1032x32:sgd",
    "structured:32:sgd:16",
    "ghost:32:sgd:16",
    "tiles:32:sgd:16",
    "structured:32:sgd:128",
    "tiles:32:sgd:128",
    "reference:8:sgd",
];

struct Row {
    engine: String,
    left: usize,
    right: Option<usize>,
    formulas: FormulaSet,
    tokens: usize,
}

impl Row {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(':');
        let engine = fields.next()?.to_owned();
        let examples = fields.next()?;
        let (left, right) = match examples.split_once('x') {
            Some((left, right)) => (left.parse().ok()?, Some(right.parse().ok()?)),
            None => (examples.parse().ok()?, None),
        };
        let formulas = match fields.next()? {
            "sgd" => FormulaSet::SGD,
            "signgd" => FormulaSet { sgd: false, asymmetric: false, signgd: true },
            "all" => FormulaSet::ALL,
            _ => return None,
        };
        let tokens = fields.next().map_or(Some(64), |t| t.parse().ok())?;
        Some(Self { engine, left, right, formulas, tokens })
    }
}

fn main() {
    kernelview::device::prepare_process();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [flag, row] = arguments.as_slice()
        && flag == "--row"
    {
        measure(row);
        return;
    }
    let rows = if arguments.is_empty() { ROWS.map(str::to_owned).to_vec() } else { arguments };
    println!("| engine | examples | formulas | tokens | seconds | peak memory, MB |\n|---|---|---|---|---|---|");
    for row in rows {
        let program = std::env::current_exe().expect("the path of this program");
        let status = Command::new(program).args(["--row", &row]).status().expect("a child process");
        if !status.success() {
            println!("| {} | failed: {status} |", row.replace(':', " | "));
        }
    }
}

fn measure(text: &str) {
    let row = Row::parse(text).unwrap_or_else(|| panic!("`{text}` is not ENGINE:N[xM]:sgd|signgd|all[:TOKENS]"));
    let seconds = match row.engine.as_str() {
        "floor" => floor(&row),
        "mlp" => perceptron(&row),
        "tiny" => {
            let shape =
                ModelConfig { hidden_size: 128, layers: 2, heads: 2, intermediate_size: 512, ..random::bert_base() };
            language_model(shape, &row)
        }
        _ => language_model(random::roberta_base(), &row),
    };
    let fields: Vec<&str> = text.split(':').collect();
    let [engine, examples, formulas] = fields[..3] else { unreachable!("parsed above") };
    println!("| {engine} | {examples} | {formulas} | {} | {seconds:.2} | {} |", row.tokens, peak_megabytes());
}

fn language_model(shape: ModelConfig, row: &Row) -> f64 {
    let model = MaskedLm::new(shape);
    let parameters = random::parameters(&model, 1, 1.0, Kind::Float, Device::Cpu);
    let examples = |from: usize, n: usize| {
        let prompts = (from..from + n)
            .map(|i| PromptExample {
                input_ids: (0..row.tokens).map(|t| ((i * 7919 + t * 104_729) % 30_000 + 5) as i64).collect(),
                segment_ids: vec![0; row.tokens],
                mask_position: row.tokens - 3,
            })
            .collect();
        PromptExamples::new(&model, prompts, &[7, 11], OutputMode::Difference, Device::Cpu).expect("valid prompts")
    };
    let (left, right) = (examples(0, row.left), row.right.map(|n| examples(row.left, n)));
    kernel(&parameters, &left, right.as_ref().map(|r| r as &dyn Examples), row)
}

fn perceptron(row: &Row) -> f64 {
    let (activation, gain) = (Activation::Relu, 2f64.sqrt());
    let mlp = Mlp { input: 64, width: 1024, depth: 3, outputs: 1, activation, gain, abc: Abc::ntk(3) };
    let parameters = mlp.parameters(1, Kind::Float, Device::Cpu);
    let examples = mlp.examples(unit_inputs(row.left as i64, 64, 2, Kind::Float, Device::Cpu));
    kernel(&parameters, &examples, None, row)
}

fn kernel(parameters: &Parameters, left: &dyn Examples, right: Option<&dyn Examples>, row: &Row) -> f64 {
    let start = Instant::now();
    if row.engine == "reference" {
        let include = vec![true; parameters.len()];
        reference_gram(parameters, left, right, row.formulas, &include).expect("finite");
    } else {
        let method = match row.engine.as_str() {
            "ghost" => Some(Method::Ghost),
            "tiles" => Some(Method::Tiles),
            _ => None,
        };
        let options = GramOptions { method, ..GramOptions::new(row.formulas, parameters.len()) };
        structured_gram(parameters, left, right, &options, &Silent).expect("finite");
    }
    start.elapsed().as_secs_f64()
}

/// Seconds that the matrix products alone take at the measured rate: forward pass, backward pass, weight gradients, and
/// (for a symmetric matrix half of) their Gram matrix.
fn floor(row: &Row) -> f64 {
    let shape = random::roberta_base();
    let (h, f) = (shape.hidden_size as f64, shape.intermediate_size as f64);
    let weights = shape.layers as f64 * (4.0 * h * h + 2.0 * h * f);
    let examples = (row.left + row.right.unwrap_or(0)) as f64;
    let pairs = row.right.map_or((row.left * (row.left + 1) / 2) as f64, |m| (row.left * m) as f64);
    let operations = 2.0 * weights * (3.0 * examples * row.tokens as f64 + pairs);
    let (a, b) = (random_matrix(2048, 768), random_matrix(768, 3072));
    let out = Tensor::empty([2048, 3072], (Kind::Float, Device::Cpu));
    let best = (0..20)
        .map(|_| {
            let start = Instant::now();
            let _ = a.mm_out(&out, &b);
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    operations * best / (2.0 * 2048.0 * 768.0 * 3072.0)
}

fn random_matrix(rows: i64, columns: i64) -> Tensor {
    Tensor::randn([rows, columns], (Kind::Float, Device::Cpu))
}

/// Peak resident memory of this process from the system's own account; 0 where there is none.
fn peak_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}
