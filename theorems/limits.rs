//! Shared by both claims on limits: their design, perceptrons in NTK parametrization, their empirical kernels layer by layer,
//! and the distance from a limit.

use nalgebra::DMatrix;
use tch::{Device, Kind, Tensor};

use super::context::Context;
use super::convergence::sampled;
use super::scan::{doubled, list};
use crate::error::Result;
use crate::evidence::{Collected, Figure, Profile};
use crate::jacobian::Parameters;
use crate::kernel::{Formula, FormulaSet, Gram, GramOptions, structured_gram};
use crate::network::limits::LayerLimit;
use crate::network::{Abc, Activation, Mlp, MlpExamples, unit_inputs};
use crate::program::LimitOptions;
use crate::program::networks::perceptron_kernels;
use crate::progress::{Silent, check_cancelled};
use crate::stats::Expectation;

/// Input dimension and number of inputs.
const INPUT: i64 = 8;
const COUNT: i64 = 4;

/// Number of networks per sample of the relative error, which is their root mean square. The logarithm of a single network's
/// error has a long tail towards small errors, which many more seeds would be needed to average out.
pub(super) fn block(context: &Context<'_>) -> usize {
    context.pick(10, 4, 4)
}

/// The measurements of both claims: widths, samples and networks.
pub(super) struct Design {
    pub widths: Vec<f64>,
    pub seeds: usize,
    /// Networks per sample.
    pub block: usize,
    pub settings: Vec<Setting>,
}

impl Design {
    /// Samples of `block` networks each, for relu and `second` with two hidden layers; the longer profiles add deeper relu
    /// networks and the `others`.
    pub fn new(context: &Context<'_>, block: usize, second: Activation, others: [Activation; 2]) -> Self {
        let setting = |activation, depth| Setting { activation, depth };
        let mut settings = vec![setting(Activation::Relu, 2), setting(second, 2)];
        if context.profile > Profile::Quick {
            settings.push(setting(Activation::Relu, 3));
            settings.extend(others.map(|activation| setting(activation, 2)));
        }
        let widths = context.pick(doubled(32.0, 5), doubled(32.0, 6), doubled(128.0, 6));
        Self { widths, seeds: context.seeds(24, 32, 32), block, settings }
    }

    /// Findings with nothing but the settings.
    pub fn findings(&self) -> Collected {
        let settings = vec![
            ("networks".into(), self.settings.iter().map(|s| s.name()).collect::<Vec<_>>().join("; ")),
            ("widths".into(), list(&self.widths)),
            ("seeds".into(), format!("{}, each the root mean square of {} networks", self.seeds, self.block)),
        ];
        Collected { settings, ..Collected::default() }
    }

    /// The largest width.
    pub fn widest(&self) -> f64 {
        *self.widths.last().expect("every profile has widths")
    }
}

/// The plot of relative errors over widths, without series.
pub(super) fn error_figure(kernel: &str) -> Figure {
    Figure {
        name: "error".into(),
        title: format!("Relative error of the {kernel}"),
        x_label: "width n".into(),
        y_label: "relative error".into(),
        series: vec![],
    }
}

/// The expected exponent of a relative error.
pub(super) fn error_exponent(context: &Context<'_>) -> Expectation {
    context.expected(-0.5, 0.1)
}

/// The expected mean ratio of a kernel to its limit at the largest width.
pub(super) fn unbiased(context: &Context<'_>, tolerance: f64) -> Expectation {
    context.expected(1.0, tolerance)
}

/// Accepted distance from 1 of the ratio of a layer's sampled limit to its closed form.
pub(super) const CONSTANT: f64 = 0.02;

/// Indices of the two inputs, of different lengths, whose limits are sampled.
const SAMPLED: [usize; 2] = [0, 2];

/// Measurements of one setting: kernels of random networks, and samples of their limit. They do not depend on the closed
/// limits, so that a claim and its mutants share them.
pub(super) struct Sampling {
    pub setting: Setting,
    widths: Vec<f64>,
    /// Kernels by width, seed and network of the seed's block.
    networks: Vec<Vec<Vec<Vec<DMatrix<f64>>>>>,
    /// Kernels of the limit between the sampled inputs, by layer, formula (in the order of [`Formula::ALL`]) and replica.
    limit: Vec<f64>,
}

impl Sampling {
    /// The kernels of a seed's networks.
    pub fn networks(&self, width: f64, seed: usize) -> &[Vec<DMatrix<f64>>] {
        let place = self.widths.iter().position(|w| *w == width).expect("a width of the design");
        &self.networks[place][seed]
    }

    /// The ratio of a layer's limit, as sampled by a tensor program, to its closed form: one value per replica. It has no error
    /// of finite width, so that constants are known to a hundredth.
    pub fn constants(&self, layer: usize, formula: Formula, closed: &[LayerLimit]) -> Vec<f64> {
        let closed = closed[layer].matrix(formula).select_rows(&SAMPLED).select_columns(&SAMPLED);
        let formula = Formula::ALL.iter().position(|f| *f == formula).expect("one of all");
        let entries = SAMPLED.len() * SAMPLED.len();
        let replicas =
            self.limit.chunks(entries).skip((layer * Formula::ALL.len() + formula) * REPLICAS).take(REPLICAS);
        replicas.map(|values| ratio(&DMatrix::from_row_slice(SAMPLED.len(), SAMPLED.len(), values), &closed)).collect()
    }
}

impl Design {
    /// Measures every setting, before any question about mutants. `kernels` computes one network's.
    pub fn measure(
        &self,
        context: &Context<'_>,
        kernels: impl Fn(Setting, f64, usize) -> Result<Vec<DMatrix<f64>>>,
    ) -> Result<Vec<Sampling>> {
        let one = |setting: &Setting| -> Result<Sampling> {
            context.monitor.begin(&setting.name(), (self.widths.len() * self.seeds) as u64);
            let stage = format!("networks, {}", setting.name());
            let sample = |width: f64, seed: usize| -> Result<Vec<Vec<DMatrix<f64>>>> {
                check_cancelled()?;
                let flat = context.shared(&stage, width, seed, || {
                    let mut numbers = Vec::new();
                    for k in 0..self.block {
                        for kernel in kernels(*setting, width, seed * self.block + k)? {
                            numbers.extend_from_slice(kernel.as_slice());
                        }
                    }
                    Ok(numbers)
                })?;
                context.monitor.advance(1);
                let (side, network) = (COUNT as usize, flat.len() / self.block);
                let of_network = |n: &[f64]| -> Vec<DMatrix<f64>> {
                    n.chunks(side * side).map(|k| DMatrix::from_column_slice(side, side, k)).collect()
                };
                Ok(flat.chunks(network).map(of_network).collect())
            };
            let of_width = |width: &f64| -> Result<Vec<Vec<Vec<DMatrix<f64>>>>> {
                (0..self.seeds).map(|seed| sample(*width, seed)).collect()
            };
            let networks = self.widths.iter().map(of_width).collect::<Result<_>>()?;
            context.monitor.end();
            let limit =
                context.shared(&format!("limit, {}", setting.name()), 0.0, 0, || limit_samples(context, *setting))?;
            Ok(Sampling { setting: *setting, widths: self.widths.clone(), networks, limit })
        };
        self.settings.iter().map(one).collect()
    }
}

/// Samples of the kernels' limit, see [`Sampling`].
fn limit_samples(context: &Context<'_>, setting: Setting) -> Result<Vec<f64>> {
    let inputs = matrix(&inputs(context)).select_rows(&SAMPLED);
    let kernels = perceptron_kernels(&inputs, setting.depth, setting.activation, setting.gain())?;
    let samples = context.pick(600_000, 1_000_000, 4_000_000);
    let options =
        LimitOptions { replicas: REPLICAS, ..sampled(context, &format!("limit, {}", setting.name()), samples) };
    let limit = kernels.program.limit(&options)?;
    let mut numbers = Vec::new();
    for layer in &kernels.layers {
        for formula in Formula::ALL {
            let table = match formula {
                Formula::Sgd => &layer.sgd,
                Formula::Asymmetric => &layer.asymmetric,
                Formula::Signgd => &layer.signgd,
            };
            for replica in 0..REPLICAS {
                numbers.extend(table.iter().flatten().map(|scalar| limit.replicas(*scalar)[replica]));
            }
        }
    }
    Ok(numbers)
}

/// Number of replicas of a sampled limit.
const REPLICAS: usize = 32;

/// Name of a layer, counted from 0, of a network with this number of hidden layers.
pub(super) fn layer_name(layer: usize, depth: usize) -> String {
    if layer == depth { "output".to_owned() } else { format!("layer {}", layer + 1) }
}

/// Accepted distance of that mean ratio from 1, for kernels that depend on the size of gradients.
pub(super) const BIAS: f64 = 0.05;

/// An activation with a depth.
#[derive(Clone, Copy)]
pub(super) struct Setting {
    pub activation: Activation,
    pub depth: usize,
}

impl Setting {
    /// √2 keeps the variance of relu networks constant over layers; the others need no gain.
    pub(super) fn gain(self) -> f64 {
        if self.activation == Activation::Relu { 2f64.sqrt() } else { 1.0 }
    }

    pub(super) fn name(self) -> String {
        format!("{}, {} hidden layers", self.activation.name(), self.depth)
    }

    fn mlp(self, width: f64) -> Mlp {
        let (activation, depth, gain) = (self.activation, self.depth, self.gain());
        Mlp { input: INPUT, width: width as i64, depth, outputs: 1, activation, gain, abc: Abc::ntk(depth) }
    }
}

/// The claim's inputs, the same at every width: four directions with lengths √d times 0.7 to 1.6, which make asymmetric kernels
/// visibly so.
pub(super) fn inputs(context: &Context<'_>) -> Tensor {
    let lengths = Tensor::from_slice(&[0.7, 1.0, 1.3, 1.6]).view([COUNT, 1]);
    unit_inputs(COUNT, INPUT, context.seed("inputs"), Kind::Double, Device::Cpu) * lengths
}

/// Kernels of every layer of a random network, from the first to the output layer.
pub(super) fn layer_kernels(
    context: &Context<'_>,
    setting: Setting,
    width: f64,
    seed: usize,
    formulas: FormulaSet,
) -> Result<Vec<Gram>> {
    let (parameters, examples) = network(context, setting, width, seed);
    (0..=setting.depth)
        .map(|layer| {
            let mut options = GramOptions::new(formulas, parameters.len());
            options.include = (0..parameters.len()).map(|p| p == layer).collect();
            structured_gram(&parameters, &examples, None, &options, &Silent)
        })
        .collect()
}

/// Shares of every layer of a random network in the SGD kernel, from the first to the output layer.
pub(super) fn sgd_shares(
    context: &Context<'_>,
    setting: Setting,
    width: f64,
    seed: usize,
) -> Result<Vec<DMatrix<f64>>> {
    let (parameters, examples) = network(context, setting, width, seed);
    let sgd = FormulaSet { sgd: true, asymmetric: false, signgd: false };
    let options = GramOptions { share_matrices: true, ..GramOptions::new(sgd, parameters.len()) };
    let gram = structured_gram(&parameters, &examples, None, &options, &Silent)?;
    Ok(gram.shares.iter().map(|s| matrix(s.sgd.as_ref().expect("shares were asked for"))).collect())
}

fn network(context: &Context<'_>, setting: Setting, width: f64, seed: usize) -> (Parameters, MlpExamples) {
    let mlp = setting.mlp(width);
    let weights = context.seed(&format!("{}, width {width}, seed {seed}", setting.name()));
    let parameters = mlp.parameters(weights, Context::KIND, context.device);
    (parameters, mlp.examples(inputs(context).to_device(context.device)))
}

/// A \[rows, columns\] tensor as a matrix.
pub(super) fn matrix(t: &Tensor) -> DMatrix<f64> {
    let (rows, columns) = (t.size()[0] as usize, t.size()[1] as usize);
    let flat = Vec::<f64>::try_from(t.to_kind(Kind::Double).contiguous().view(-1)).expect("a flat f64 tensor");
    DMatrix::from_row_slice(rows, columns, &flat)
}

/// Root mean square of each column.
pub(super) fn root_mean_squares(rows: &[Vec<f64>]) -> Vec<f64> {
    let columns = rows.first().map_or(0, Vec::len);
    let mean = |c: usize| rows.iter().map(|r| r[c] * r[c]).sum::<f64>() / rows.len() as f64;
    (0..columns).map(|c| mean(c).sqrt()).collect()
}

/// `|measured - limit| / |limit|` in the Frobenius norm.
pub(super) fn distance(measured: &DMatrix<f64>, limit: &DMatrix<f64>) -> f64 {
    (measured - limit).norm() / limit.norm()
}

/// The factor c that makes c·limit closest to what was measured: 1 if there is no bias.
pub(super) fn ratio(measured: &DMatrix<f64>, limit: &DMatrix<f64>) -> f64 {
    measured.dot(limit) / limit.dot(limit)
}
