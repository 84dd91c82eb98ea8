//! Transfer of the learning rate: the loss after a short run over learning rates, for several widths.

use tch::Device;

use super::batches::Batches;
use super::corpus::Corpus;
use super::initial::initial;
use super::recipe::Recipe;
use super::step::{evaluate, gradient, optimizer};
use crate::error::Result;
use crate::files::named_seed;
use crate::lm::{MaskedLm, Scaling};
use crate::progress::{Monitor, check_cancelled};

/// Held-out losses after short runs.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sweep {
    /// How the family scales.
    pub scaling: Scaling,
    /// Learning rates at the base width.
    pub rates: Vec<f64>,
    /// Width and losses by rate; `None` for a run that diverged.
    pub losses: Vec<(i64, Vec<Option<f64>>)>,
}

impl Sweep {
    /// The rate with the lowest loss in a row.
    pub fn best(&self, row: usize) -> f64 {
        let runs = self.rates.iter().zip(&self.losses[row].1).filter_map(|(rate, loss)| loss.map(|loss| (*rate, loss)));
        runs.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(f64::NAN, |(rate, _)| rate)
    }
}

/// Runs every width at every rate for the recipe's number of sweep steps.
pub fn sweep(
    recipe: &Recipe,
    scaling: Scaling,
    corpus: &Corpus,
    device: Device,
    monitor: &dyn Monitor,
) -> Result<Sweep> {
    let mut recipe = recipe.clone();
    recipe.model.scaling = scaling;
    let checks = recipe.checks.clone();
    let runs = checks.sweep_widths.len() * checks.learning_rates.len();
    monitor.begin(&format!("learning rates: {}", scaling.text()), (runs * checks.sweep_steps) as u64);
    let mut losses = Vec::new();
    for width in &checks.sweep_widths {
        let model = MaskedLm::new(recipe.config(*width));
        let mut row = Vec::new();
        for rate in &checks.learning_rates {
            row.push(short_run(&recipe, &model, *rate, corpus, device, monitor)?);
        }
        losses.push((*width, row));
    }
    monitor.end();
    Ok(Sweep { scaling, rates: checks.learning_rates, losses })
}

fn short_run(
    recipe: &Recipe,
    model: &MaskedLm,
    rate: f64,
    corpus: &Corpus,
    device: Device,
    monitor: &dyn Monitor,
) -> Result<Option<f64>> {
    let (tokens, masked) = (recipe.model.tokens, recipe.training.masked);
    let seed = named_seed(recipe.seed, "sweep");
    let mut parameters = initial(recipe, model, &corpus.train, seed, device);
    let mut optimizer = optimizer(recipe, model, rate);
    let mut batches = Batches::new(&corpus.train, tokens, masked, seed);
    let steps = recipe.checks.sweep_steps;
    for step in 0..steps {
        check_cancelled()?;
        let batch = batches.batch(step, recipe.checks.sweep_batch, device);
        let (loss, gradients) = gradient(model, &parameters, &batch);
        monitor.advance(1);
        if !loss.is_finite() {
            monitor.advance((steps - step - 1) as u64);
            return Ok(None);
        }
        optimizer.step_in_place(&mut parameters, &gradients, recipe.schedule(step, steps));
    }
    let mut heldout = Batches::new(&corpus.heldout, tokens, masked, named_seed(recipe.seed, "held out"));
    let loss = evaluate(model, &parameters, &mut heldout, recipe.training.heldout_sequences, 32)?;
    Ok(loss.is_finite().then_some(loss))
}
