//! Whole-process time and peak memory of the kernel engines at the shape of RoBERTa-base (125M parameters, random weights), one
//! output, single precision. Every row of the table is measured in a separate process, so that peak memory is the row's own.
//! Prints a markdown table for `benches/record/`.
//!
//! usage: cargo bench --bench `base_shape` \[-- ROW...\] with rows like `structured:32:sgd:64`:
//!
//! - engine: `structured` (the plan's choice), `ghost`, `tiles` (one method for every weight), `bf16`, `bf16x2`, `bf16x3` (the
//!   plan's choice in that precision), `reference`; with `tiny-` before it at the shape of BERT-tiny instead, with `mlp-` on a
//!   relu perceptron of width 1024 with three hidden layers and 64 inputs, with `error-` compared with the structured engine in
//!   double precision: the relative error of every formula in the Frobenius norm (its time is that of the kernel in single
//!   precision); with `again-` the second of two kernels, in memory that the first has touched (the first touch of a page can
//!   cost a virtual machine more than the arithmetic on it); `floor` is not a measurement, but the time of forward and backward
//!   pass, weight gradients and their Gram matrix at libtorch's rate of matrix products, which is measured;
//! - examples N, or NxM for a kernel between two sets;
//! - formulas: `sgd`, `signgd` or `all`;
//! - tokens (default 64);
//! - memory limit in GB (default none).
//!
//! For a kernel that takes less than a second, the best of eight measurements counts.

mod rows;

use std::time::Instant;

use kernelview::jacobian::{Examples, Parameters};
use kernelview::kernel::{Formula, FormulaSet, Gram, GramOptions, Method, Precision, reference_gram, structured_gram};
use kernelview::lm::{MaskedLm, ModelConfig, OutputMode, PromptExample, PromptExamples, random};
use kernelview::network::{Abc, Activation, Mlp, unit_inputs};
use kernelview::progress::Silent;
use tch::{Device, Kind, Tensor};

const ROWS: [&str; 23] = [
    "floor:32:sgd",
    "structured:32:sgd",
    "again-structured:32:sgd",
    "structured:32:signgd",
    "structured:32:all",
    "structured:32x32:sgd",
    "structured:64x32:sgd",
    "structured:96x32:sgd",
    "structured:128x32:sgd",
    "structured:1032x32:sgd",
    "structured:32x1000:sgd:64:6",
    "structured:32:sgd:16",
    "ghost:32:sgd:16",
    "tiles:32:sgd:16",
    "structured:32:sgd:128",
    "ghost:32:sgd:128",
    "tiles:32:sgd:128",
    "tiny-structured:32:sgd",
    "tiny-ghost:32:sgd",
    "tiny-tiles:32:sgd",
    "reference:8:sgd",
    "error-structured:8:all",
    "error-reference:8:all",
];

/// Seconds from which one measurement of a kernel is enough.
const LONG: f64 = 1.0;

/// Number of measurements of faster kernels.
const AGAIN: usize = 8;

struct Row {
    network: Network,
    engine: Engine,
    /// Whether to compare with double precision.
    error: bool,
    /// Whether the second computation counts instead of the first.
    again: bool,
    left: usize,
    right: Option<usize>,
    formulas: FormulaSet,
    tokens: usize,
    /// Bytes.
    memory: Option<f64>,
}

enum Network {
    Base,
    Tiny,
    Perceptron,
}

#[derive(Clone, Copy)]
enum Engine {
    Floor,
    Reference,
    /// With one method for every weight, or the plan's choice.
    Structured(Option<Method>),
    /// With the plan's choice in another precision.
    Precision(Precision),
}

impl Row {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(':');
        let name = fields.next()?;
        let (kind, engine) = name.split_once('-').unwrap_or(("", name));
        let network = match kind {
            "" | "error" | "again" => Network::Base,
            "tiny" => Network::Tiny,
            "mlp" => Network::Perceptron,
            _ => return None,
        };
        let engine = match engine {
            "floor" => Engine::Floor,
            "reference" => Engine::Reference,
            "structured" => Engine::Structured(None),
            "ghost" => Engine::Structured(Some(Method::Ghost)),
            "tiles" => Engine::Structured(Some(Method::Tiles)),
            "bf16" => Engine::Precision(Precision::Bf16),
            "bf16x2" => Engine::Precision(Precision::Bf16x2),
            "bf16x3" => Engine::Precision(Precision::Bf16x3),
            _ => return None,
        };
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
        let memory = match fields.next() {
            Some(gigabytes) => Some(gigabytes.parse::<f64>().ok()? * 1e9),
            None => None,
        };
        let (error, again) = (kind == "error", kind == "again");
        let row = Self { network, engine, error, again, left, right, formulas, tokens, memory };
        fields.next().is_none().then_some(row)
    }
}

/// The measurements.
struct Figures {
    seconds: f64,
    more: String,
}

fn main() {
    rows::run(
        &ROWS,
        "| engine | examples | formulas | tokens | seconds | peak memory, MB | more |\n|---|---|---|---|---|---|---|",
        measure,
    );
}

fn measure(text: &str) {
    let row = Row::parse(text).unwrap_or_else(|| {
        panic!("`{text}` is not [tiny-|mlp-|error-|again-]ENGINE:N[xM]:sgd|signgd|all[:TOKENS[:GB]]")
    });
    let Figures { seconds, more } = match (&row.engine, &row.network) {
        (Engine::Floor, _) => floor(&row),
        (_, Network::Perceptron) => perceptron(&row),
        (_, Network::Tiny) => {
            let shape =
                ModelConfig { hidden_size: 128, layers: 2, heads: 2, intermediate_size: 512, ..random::bert_base() };
            language_model(shape, &row)
        }
        (_, Network::Base) => language_model(random::roberta_base(), &row),
    };
    let fields: Vec<&str> = text.split(':').collect();
    let [engine, examples, formulas] = fields[..3] else { unreachable!("parsed above") };
    let (tokens, peak) = (row.tokens, rows::peak_megabytes());
    println!("| {engine} | {examples} | {formulas} | {tokens} | {seconds:.4} | {peak} | {more} |");
}

fn language_model(shape: ModelConfig, row: &Row) -> Figures {
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
    figures(&parameters, &left, right.as_ref().map(|r| r as &dyn Examples), row)
}

fn perceptron(row: &Row) -> Figures {
    let (activation, gain) = (Activation::Relu, 2f64.sqrt());
    let mlp = Mlp { input: 64, width: 1024, depth: 3, outputs: 1, activation, gain, abc: Abc::ntk(3) };
    let parameters = mlp.parameters(1, Kind::Float, Device::Cpu);
    let examples = mlp.examples(unit_inputs(row.left as i64, 64, 2, Kind::Float, Device::Cpu));
    figures(&parameters, &examples, None, row)
}

fn figures(parameters: &Parameters, left: &dyn Examples, right: Option<&dyn Examples>, row: &Row) -> Figures {
    let time = || {
        let start = Instant::now();
        let gram = kernel(parameters, left, right, row, row.engine);
        (start.elapsed().as_secs_f64(), gram)
    };
    let (mut seconds, mut gram) = time();
    if row.again {
        (seconds, gram) = time();
    }
    if seconds < LONG {
        seconds = (1..AGAIN).map(|_| time().0).fold(seconds, f64::min);
    }
    let more = if row.error {
        let exact = parameters.map(|value| value.to_kind(Kind::Double));
        errors(&gram, &kernel(&exact, left, right, row, Engine::Structured(None)))
    } else {
        String::new()
    };
    Figures { seconds, more }
}

fn kernel(
    parameters: &Parameters,
    left: &dyn Examples,
    right: Option<&dyn Examples>,
    row: &Row,
    engine: Engine,
) -> Gram {
    let structured = match engine {
        Engine::Structured(method) => Some((method, None)),
        Engine::Precision(precision) => Some((None, Some(precision))),
        Engine::Floor | Engine::Reference => None,
    };
    let gram = if let Some((method, precision)) = structured {
        let mut options = GramOptions { method, ..GramOptions::new(row.formulas, parameters.len()) };
        if let Some(precision) = precision {
            precision.apply(parameters, &mut options).expect("a CPU in single precision");
        }
        if let Some(limit) = row.memory {
            options.fit(parameters, left, right, limit).expect("enough memory");
        }
        structured_gram(parameters, left, right, &options, &Silent)
    } else {
        let include = vec![true; parameters.len()];
        reference_gram(parameters, left, right, row.formulas, &include)
    };
    gram.expect("finite")
}

/// Relative errors in the Frobenius norm, by formula.
fn errors(own: &Gram, exact: &Gram) -> String {
    let norm = |t: Tensor| t.square().sum(Kind::Double).sqrt().double_value(&[]);
    let error = |formula: Formula| {
        let (a, b) = (own.matrix(formula)?, exact.matrix(formula)?);
        Some(format!("{formula} {:.1e}", norm(a - b) / norm(b.shallow_clone())))
    };
    let all: Vec<String> = Formula::ALL.into_iter().filter_map(error).collect();
    format!("relative error: {}", all.join(", "))
}

/// Seconds for the matrix products alone at the measured rate: forward pass, backward pass, weight gradients, and (for a
/// symmetric matrix half of) their Gram matrix. The first figure counts the whole last layer; the second, as in the engine,
/// only its keys and values for every token.
fn floor(row: &Row) -> Figures {
    let shape = random::roberta_base();
    let (h, f) = (shape.hidden_size as f64, shape.intermediate_size as f64);
    let layer = 4.0 * h * h + 2.0 * h * f;
    let layers = shape.layers as f64;
    let examples = (row.left + row.right.unwrap_or(0)) as f64;
    let pairs = row.right.map_or((row.left * (row.left + 1) / 2) as f64, |m| (row.left * m) as f64);
    let tokens = row.tokens as f64;
    let operations = |last: f64| {
        let passes = 3.0 * examples * ((layers - 1.0) * layer * tokens + last);
        2.0 * (passes + pairs * layers * layer)
    };
    let rate = matrix_rate();
    let keys_and_values = 2.0 * h * h;
    let least = operations(keys_and_values * tokens + (layer - keys_and_values)) / rate;
    Figures {
        seconds: operations(layer * tokens) / rate,
        more: format!("{:.0} GFLOP/s; {least:.2} s with one token in the last layer", rate / 1e9),
    }
}

/// Operations per second of libtorch's matrix products, at a shape for which they are fastest.
fn matrix_rate() -> f64 {
    let (a, b) = (random_matrix(2048, 768), random_matrix(768, 3072));
    let out = Tensor::empty([2048, 3072], (Kind::Float, Device::Cpu));
    let best = (0..20)
        .map(|_| {
            let start = Instant::now();
            let _ = a.mm_out(&out, &b);
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    2.0 * 2048.0 * 768.0 * 3072.0 / best
}

fn random_matrix(rows: i64, columns: i64) -> Tensor {
    Tensor::randn([rows, columns], (Kind::Float, Device::Cpu))
}
