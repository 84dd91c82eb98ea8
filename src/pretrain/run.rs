//! Trains one width of a family; an interrupted run continues with the same numbers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::batches::Batches;
use super::corpus::Corpus;
use super::initial::initial;
use super::recipe::Recipe;
use super::step::{evaluate, gradient, optimizer, unigram_loss};
use crate::error::{Error, Result};
use crate::files::{create_dir, load_result, named_seed, store_result, write_atomic};
use crate::jacobian::Parameters;
use crate::lm::{Checkpoint, MaskedLm, save, write_tensors};
use crate::progress::{Monitor, check_cancelled};
use crate::train::{Optimizer, OptimizerState};

/// Losses after a step, in nats per hidden token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Number of the step, from 1.
    pub step: usize,
    /// Mean loss of the steps since the last point.
    pub train_loss: f64,
    /// Loss on held-out text.
    pub heldout_loss: f64,
}

/// The learning curve of one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Width n.
    pub width: i64,
    /// Number of parameters.
    pub parameters: i64,
    /// Held-out loss of the tokens' frequencies.
    pub unigram_loss: f64,
    /// Losses over the run.
    pub points: Vec<CurvePoint>,
}

impl Curve {
    /// Held-out loss after the last step.
    pub fn final_loss(&self) -> f64 {
        self.points.last().map_or(f64::NAN, |p| p.heldout_loss)
    }
}

/// A trained network.
pub struct Trained {
    /// Its checkpoint directory.
    pub directory: PathBuf,
    /// Its learning curve.
    pub curve: Curve,
    /// Seconds of this run; 0 if the network already existed.
    pub seconds: f64,
}

/// The state of a run besides weights and moments.
#[derive(Serialize, Deserialize)]
struct Progress {
    digest: String,
    steps: usize,
    loss_sum: f64,
    loss_count: usize,
    points: Vec<CurvePoint>,
}

const STATE: &str = "state.safetensors";
const RECORD: &str = "training.json";

/// Trains the network of one width in `out_dir/NAME-WIDTH`. An existing network with the same recipe is left as it is; an
/// interrupted run continues from its last saved state, on a CPU with the same result.
///
/// # Errors
/// [`Error::Format`] if a network of another recipe is finished there; [`Error::NotFinite`] if the loss is no longer finite; [`Error::Interrupted`], with the state saved; [`Error::Io`].
pub fn train(
    recipe: &Recipe,
    width: i64,
    corpus: &Corpus,
    out_dir: &Path,
    device: Device,
    monitor: &dyn Monitor,
) -> Result<Trained> {
    let name = recipe.model_name(width);
    let directory = out_dir.join(&name);
    create_dir(&directory)?;
    let digest = recipe.digest(width, &corpus.digest);
    if let Some(curve) = load_result::<Curve>(&directory.join(RECORD), &digest)
        && directory.join("config.json").exists()
    {
        return Ok(Trained { directory, curve, seconds: 0.0 });
    }
    refuse_another(recipe, width, corpus, out_dir)?;
    let model = MaskedLm::new(recipe.config(width));
    let mut run = Run::start(recipe, &model, corpus, &directory, digest, device);
    monitor.begin(&format!("pre-training {name}"), recipe.training.steps as u64);
    monitor.advance(run.progress.steps as u64);
    if run.progress.steps > 0 {
        monitor.note(&format!("{name}: going on after step {}", run.progress.steps));
    }
    let start = Instant::now();
    run.steps(&name, monitor)?;
    monitor.end();
    let curve = Curve {
        width,
        parameters: run.parameters.numel(),
        unigram_loss: run.unigram(),
        points: run.progress.points.clone(),
    };
    write_atomic(&directory.join("tokenizer.json"), corpus.tokenizer.as_bytes())?;
    write_atomic(&directory.join("tokenizer_config.json"), corpus.tokenizer_config.as_bytes())?;
    save(&model, &run.parameters, &directory, recipe.model.dtype)?;
    store_result(&directory.join(RECORD), &run.progress.digest, &curve)?;
    // The state is no longer needed; a run that cannot remove it is complete nevertheless.
    let _ = fs::remove_file(directory.join(STATE));
    Ok(Trained { directory, curve, seconds: start.elapsed().as_secs_f64() })
}

/// Fails if another network is finished where this one would be: it would be lost.
///
/// # Errors
/// [`Error::Format`].
pub(crate) fn refuse_another(recipe: &Recipe, width: i64, corpus: &Corpus, out_dir: &Path) -> Result<()> {
    let directory = out_dir.join(recipe.model_name(width));
    let finished = directory.join(RECORD).exists() && directory.join("model.safetensors").exists();
    if !finished || load_result::<Curve>(&directory.join(RECORD), &recipe.digest(width, &corpus.digest)).is_some() {
        return Ok(());
    }
    let problem = "a network is finished there that this recipe, number of steps, seed and text do not give (or another version of \
                   this program made it), and it would be lost: choose another output directory, or remove that one";
    Err(Error::format(&directory, problem))
}

/// A run in progress.
struct Run<'a> {
    recipe: &'a Recipe,
    model: &'a MaskedLm,
    corpus: &'a Corpus,
    directory: &'a Path,
    parameters: Parameters,
    optimizer: Optimizer,
    train: Batches<'a>,
    heldout: Batches<'a>,
    progress: Progress,
}

impl<'a> Run<'a> {
    fn start(
        recipe: &'a Recipe,
        model: &'a MaskedLm,
        corpus: &'a Corpus,
        directory: &'a Path,
        digest: String,
        device: Device,
    ) -> Self {
        let (tokens, masked) = (recipe.model.tokens, recipe.training.masked);
        let mut run = Self {
            recipe,
            model,
            corpus,
            directory,
            parameters: initial(recipe, model, &corpus.train, recipe.seed, device),
            optimizer: optimizer(recipe, model, recipe.training.learning_rate),
            train: Batches::new(&corpus.train, tokens, masked, named_seed(recipe.seed, "training")),
            heldout: Batches::new(&corpus.heldout, tokens, masked, named_seed(recipe.seed, "held out")),
            progress: Progress { digest, steps: 0, loss_sum: 0.0, loss_count: 0, points: Vec::new() },
        };
        run.resume(device);
        run
    }

    /// Batch size of evaluations: fixed, so that their result does not depend on the recipe's.
    const EVALUATION: usize = 32;

    fn steps(&mut self, name: &str, monitor: &dyn Monitor) -> Result<()> {
        let steps = self.recipe.training.steps;
        let (mut since, mut from) = (Instant::now(), self.progress.steps);
        while self.progress.steps < steps {
            if let Err(stop) = check_cancelled() {
                self.save()?;
                return Err(stop);
            }
            let step = self.progress.steps;
            let batch = self.train.batch(step, self.recipe.training.batch, self.parameters.device());
            let (loss, gradients) = gradient(self.model, &self.parameters, &batch);
            if !loss.is_finite() {
                return Err(Error::NotFinite {
                    what: format!("{name}: the loss"),
                    place: format!("step {}", step + 1),
                    advice: format!("use a smaller training.learning_rate than {}", self.recipe.training.learning_rate),
                });
            }
            let factor = self.recipe.schedule(step, steps);
            self.optimizer.step_in_place(&mut self.parameters, &gradients, factor);
            self.progress.steps += 1;
            self.progress.loss_sum += loss;
            self.progress.loss_count += 1;
            monitor.advance(1);
            if self.progress.steps.is_multiple_of(self.recipe.training.evaluate_every) || self.progress.steps == steps {
                let point = self.evaluate()?;
                let seconds = since.elapsed().as_secs_f64() / (self.progress.steps - from) as f64;
                (since, from) = (Instant::now(), self.progress.steps);
                let tokens = self.recipe.training.batch as f64 * self.recipe.model.tokens as f64;
                monitor.note(&format!(
                    "{name}: step {}/{steps}, loss {:.3}, held out {:.3}, {:.0} tokens/s, {:.0} s left",
                    point.step,
                    point.train_loss,
                    point.heldout_loss,
                    tokens / seconds,
                    seconds * (steps - point.step) as f64
                ));
                self.save()?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<CurvePoint> {
        let sequences = self.recipe.training.heldout_sequences;
        let heldout_loss = evaluate(self.model, &self.parameters, &mut self.heldout, sequences, Self::EVALUATION)?;
        let progress = &mut self.progress;
        let train_loss = progress.loss_sum / progress.loss_count as f64;
        (progress.loss_sum, progress.loss_count) = (0.0, 0);
        let point = CurvePoint { step: progress.steps, train_loss, heldout_loss };
        progress.points.push(point);
        Ok(point)
    }

    fn unigram(&mut self) -> f64 {
        let sequences = self.recipe.training.heldout_sequences;
        let vocabulary = self.recipe.vocabulary();
        unigram_loss(&self.corpus.train, &mut self.heldout, sequences, Self::EVALUATION, vocabulary)
    }

    /// Weights, moments and progress in one file.
    fn save(&self) -> Result<()> {
        let state = self.optimizer.state();
        let mut named: Vec<(String, Tensor)> = Vec::new();
        for ((spec, value), moments) in self.parameters.specs().iter().zip(self.parameters.values()).zip(&state.moments)
        {
            named.push((format!("weight.{}", spec.name), value.shallow_clone()));
            if let Some((first, second)) = moments {
                named.push((format!("first.{}", spec.name), first.shallow_clone()));
                named.push((format!("second.{}", spec.name), second.shallow_clone()));
            }
        }
        let progress = serde_json::to_vec(&self.progress).expect("plain data");
        named.push(("progress".into(), Tensor::from_slice(&progress)));
        write_tensors(&self.directory.join(STATE), &named, &[])
    }

    /// Continues from a saved state with the same digest; any other is ignored.
    fn resume(&mut self, device: Device) {
        let Ok(mut tensors) = Checkpoint::read(&self.directory.join(STATE)) else { return };
        let progress = tensors
            .remove("progress")
            .and_then(|t| serde_json::from_slice::<Progress>(&Vec::<u8>::try_from(t).ok()?).ok());
        let Some(progress) = progress.filter(|p| p.digest == self.progress.digest) else { return };
        let mut take = |prefix: &str, name: &str, shape: &[i64]| {
            let found = tensors.remove(&format!("{prefix}.{name}"))?;
            (found.size() == shape && found.kind() == Kind::Float).then(|| found.to_device(device))
        };
        let (mut values, mut moments) = (Vec::new(), Vec::new());
        for spec in self.parameters.specs() {
            let Some(value) = take("weight", &spec.name, &spec.shape) else { return };
            values.push(value);
            moments.push(take("first", &spec.name, &spec.shape).zip(take("second", &spec.name, &spec.shape)));
        }
        self.parameters = Parameters::new(std::sync::Arc::clone(self.model.specs()), values);
        self.optimizer.restore(OptimizerState { steps: progress.steps as i32, moments });
        self.progress = progress;
    }
}
