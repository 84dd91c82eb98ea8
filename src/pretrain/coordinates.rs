//! The coordinate check: whether the size of activations is independent of width as training begins (G. Yang et al., "Tensor
//! Programs V", Appendix D.1).

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::batches::Batches;
use super::corpus::Corpus;
use super::initial::initial;
use super::recipe::Recipe;
use super::step::{gradient, optimizer};
use crate::error::Result;
use crate::files::named_seed;
use crate::jacobian::{Param, ParameterSpec, Parameters, PlainTap, Tap};
use crate::lm::{LanguageModel, MaskedLm, Scaling};
use crate::progress::{Monitor, check_cancelled};
use crate::stats::{Estimate, Scaling as Widths, exponent};

/// Number of training steps.
pub(super) const STEPS: usize = 5;

/// Root mean square change of activations since initialization, by width and seed.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CoordinateCheck {
    /// How the family scales.
    pub scaling: Scaling,
    /// The widths.
    pub widths: Vec<i64>,
    /// By place in the network: `values[seed][width]` after the last step.
    pub places: BTreeMap<String, Vec<Vec<f64>>>,
    /// The logits' root mean square changes by step, `logits[step][width]`: means over seeds.
    pub logits: Vec<Vec<f64>>,
}

impl CoordinateCheck {
    /// Exponents in width of the changes at each place, with their intervals.
    pub fn exponents(&self, confidence: f64) -> Result<BTreeMap<String, Estimate>> {
        let widths: Vec<f64> = self.widths.iter().map(|w| *w as f64).collect();
        let fit = |values: &Vec<Vec<f64>>| exponent(&Widths { widths: &widths, values }, None, confidence);
        self.places.iter().map(|(name, values)| Ok((name.clone(), fit(values)?.slope))).collect()
    }
}

/// A tap that keeps the output of every linear map and layer norm.
struct WatchingTap<'a> {
    plain: PlainTap<'a>,
    specs: &'a [ParameterSpec],
    seen: BTreeMap<String, Tensor>,
}

impl WatchingTap<'_> {
    fn keep(&mut self, weight: Param, output: Tensor) -> Tensor {
        let name = self.specs[weight.0].name.trim_end_matches(".weight");
        self.seen.insert(name.trim_start_matches("roberta.").to_owned(), output.detach());
        output
    }
}

impl Tap for WatchingTap<'_> {
    fn linear(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        let y = self.plain.linear(x, weight, bias);
        self.keep(weight, y)
    }

    fn embedding(&mut self, table: Param, ids: &Tensor) -> Tensor {
        self.plain.embedding(table, ids)
    }

    fn scale_shift(&mut self, x: &Tensor, weight: Param, bias: Option<Param>) -> Tensor {
        let y = self.plain.scale_shift(x, weight, bias);
        self.keep(weight, y)
    }

    fn select_rows(&mut self, h: &Tensor, table: Param, bias: Option<Param>, rows: &Tensor) -> Tensor {
        self.plain.select_rows(h, table, bias, rows)
    }

    fn value(&self, parameter: Param) -> Tensor {
        self.plain.value(parameter)
    }
}

/// Trains networks of the recipe's check widths for a few steps at the full learning rate and measures how far every activation
/// moves.
pub fn check_coordinates(
    recipe: &Recipe,
    scaling: Scaling,
    corpus: &Corpus,
    device: Device,
    monitor: &dyn Monitor,
) -> Result<CoordinateCheck> {
    let mut recipe = recipe.clone();
    recipe.model.scaling = scaling;
    let widths = recipe.checks.coordinate_widths.clone();
    let seeds = recipe.checks.coordinate_seeds;
    monitor.begin(&format!("coordinate check: {}", scaling.text()), (seeds * widths.len()) as u64);
    let mut places: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
    let mut logits = vec![vec![0.0; widths.len()]; STEPS];
    for seed in 0..seeds {
        let mut own: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (w, width) in widths.iter().enumerate() {
            let sizes = one_network(&recipe, *width, seed, corpus, device)?;
            for (step, sizes) in sizes.iter().enumerate() {
                logits[step][w] += sizes.get(LOGITS).copied().unwrap_or(f64::NAN) / seeds as f64;
            }
            for (place, size) in sizes.into_iter().next_back().expect("steps were made") {
                own.entry(place).or_default().push(size);
            }
            monitor.advance(1);
        }
        for (place, values) in own {
            places.entry(place).or_default().push(values);
        }
    }
    monitor.end();
    Ok(CoordinateCheck { scaling, widths, places, logits })
}

/// The place of the logits.
const LOGITS: &str = "lm_head.decoder";

/// Changes at every place, after every step.
fn one_network(
    recipe: &Recipe,
    width: i64,
    seed: usize,
    corpus: &Corpus,
    device: Device,
) -> Result<Vec<BTreeMap<String, f64>>> {
    let model = MaskedLm::new(recipe.config(width));
    let seed = named_seed(recipe.seed, &format!("coordinate check {seed}"));
    let mut parameters = initial(recipe, &model, &corpus.train, seed, device);
    let mut optimizer = optimizer(recipe, &model, recipe.training.learning_rate);
    let mut batches = Batches::new(&corpus.train, recipe.model.tokens, recipe.training.masked, seed);
    let probe = batches.batch(STEPS, recipe.checks.sweep_batch, device);
    let watch = |parameters: &Parameters| {
        let _guard = tch::no_grad_guard();
        let mut tap = WatchingTap { plain: PlainTap::new(parameters), specs: model.specs(), seen: BTreeMap::new() };
        let _ = model.vocabulary_logits(&mut tap, &probe.input);
        tap.seen
    };
    let before = watch(&parameters);
    let mut sizes = Vec::with_capacity(STEPS);
    for step in 0..STEPS {
        check_cancelled()?;
        let batch = batches.batch(step, recipe.checks.sweep_batch, device);
        let (_, gradients) = gradient(&model, &parameters, &batch);
        parameters = optimizer.step(&parameters, &gradients);
        let after = watch(&parameters);
        let size = |(name, x): (&String, &Tensor)| {
            let change = (x - &before[name]).square().mean(Kind::Double).sqrt().double_value(&[]);
            (name.clone(), change)
        };
        sizes.push(after.iter().map(size).collect());
    }
    Ok(sizes)
}
