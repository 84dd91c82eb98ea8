//! Networks pre-trained on the small language, by width, length of pre-training and seed, and what was measured of each: the evidence that
//! the claims on pre-training and prompts are judged from.
//!
//! A seed stands for everything that is drawn: initial weights, the sentences trained on and their masks, the questions asked and their
//! sentences. So what is measured of different seeds is independent, and its scatter over seeds is that of all of these. Widths and lengths of
//! one seed have sentences and questions in common.
//!
//! The evidence of each network is a file under a digest of its recipe.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::context::Context;
use super::departure::{Departure, Update, departure, shares};
use super::questions::{Prompts, Readout, gradients, rates, trained_readout, with_readout};
use super::steps::{Unexplained, unexplained};
use super::training::{entries, outputs};
use crate::error::Result;
use crate::files::{create_dir, digest, load_result, named_seed, sha256, store_result};
use crate::jacobian::Parameters;
use crate::lm::MaskedLm;
use crate::network::normal_tensor;
use crate::pretrain::language::{Question, Topic};
use crate::pretrain::{Corpus, Recipe, train};
use crate::progress::{Silent, check_cancelled};
use crate::train::output_derivative;

/// Changes when the same network would be measured otherwise.
const VERSION: &str = "1";

/// Questions of each topic that a seed draws, for χ and for fine-tuning.
const QUESTIONS: usize = 2;
/// Sentences of a question, for χ.
const SENTENCES: usize = 48;
/// Training and probe sentences of a fine-tuning run.
const TRAIN: i64 = 16;
const PROBES: i64 = 16;

/// Topics of the ways of reading.
const READ: [Topic; 2] = [Topic::AuxiliaryNumber, Topic::ParticleClass];

/// Norms of a random head, in units of the trained readout's.
pub(super) const NORMS: [f64; 4] = [1.0, 2.0, 4.0, 8.0];

/// χ of a question's sentences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Answers {
    pub topic: Topic,
    /// Mean |χ|.
    pub chi: f64,
    /// Share of the sentences whose right word has the larger logit.
    pub right: f64,
}

/// A fine-tuning run on a question's sentences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tuned {
    pub topic: Topic,
    pub update: Update,
    pub found: Departure,
}

/// A way of reading, and a run with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Read {
    pub at_mask: bool,
    pub transform: bool,
    /// Whether the readout is the network's own; else one of two random ones.
    pub trained: bool,
    pub draw: usize,
    pub found: Departure,
}

/// What was measured of one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub width: i64,
    pub steps: usize,
    pub seed: u64,
    /// SHA-256 of the weights.
    pub weights: String,
    pub heldout_loss: f64,
    /// Topics in order, [`QUESTIONS`] of each.
    pub answers: Vec<Answers>,
    /// Tensors with their shares of the mean diagonal of SGD's kernel.
    pub shares: Vec<(String, f64)>,
    pub tuned: Vec<Tuned>,
    /// After the longest pre-training alone: the ways of reading.
    pub read: Vec<Read>,
    /// The same with a random head of a norm, outputs counted from where they begin.
    pub norms: Vec<(f64, Departure)>,
    /// The same: what kernels leave unexplained of steps as they are made.
    pub steps_made: Vec<(Update, Unexplained)>,
}

/// The recipe of all networks.
pub(super) fn recipe() -> Recipe {
    toml::from_str(include_str!("../fixtures/family/agreement.toml")).expect("a recipe")
}

/// File of a network's evidence.
fn file(directory: &Path, width: i64, steps: usize, seed: u64) -> PathBuf {
    directory.join(format!("{width}-{steps}-{seed}.json"))
}

/// What a network's evidence depends on.
fn key(width: i64, steps: usize, seed: u64) -> String {
    let mut own = recipe().with_seed(seed).with_steps(steps);
    own.model.widths = vec![width];
    let text = serde_json::to_string(&own).expect("a recipe is plain data");
    digest([text.as_bytes(), VERSION.as_bytes()])
}

/// The lengths of pre-training of the shipped evidence, in steps.
pub(super) const LENGTHS: [usize; 4] = [200, 400, 800, 1600];

/// The longest of them.
pub(super) const LONGEST: usize = LENGTHS[LENGTHS.len() - 1];

/// Pre-trains a network on the small language and measures it, unless `directory` has its evidence, and keeps that there.
///
/// # Errors
/// As [`train`].
pub(super) fn collect(width: i64, steps: usize, seed: u64, directory: &Path, device: Device) -> Result<Record> {
    let (own, key) = (file(directory, width, steps, seed), key(width, steps, seed));
    if let Some(found) = load_result(&own, &key) {
        return Ok(found);
    }
    create_dir(directory)?;
    let recipe = recipe().with_seed(seed).with_steps(steps);
    let corpus = Corpus::draw(recipe.language.as_ref().expect("the recipe has a language"), seed);
    let networks = directory.join("networks").join(format!("{steps}-{seed}"));
    let trained = train(&recipe, width, &corpus, &networks, device, &Silent)?;
    let (model, parameters) = MaskedLm::load(&trained.directory, Context::KIND, device)?;
    let found = measure(&model, &parameters, (steps, seed), trained.curve.final_loss())?;
    store_result(&own, &key, &found)?;
    Ok(found)
}

/// A question of a topic and its sentences as prompts, those of seed and number.
fn ask<'a>(
    model: &'a MaskedLm,
    topic: Topic,
    at: usize,
    what: &str,
    count: usize,
    seed: u64,
    device: Device,
) -> Prompts<'a> {
    let seed = named_seed(seed, &format!("{}, question {at}", topic.text()));
    let question = Question::draw(topic, seed);
    Prompts::new(model, &question, &question.ask(count, named_seed(seed, what)), device)
}

/// Training and probe sentences.
fn halves<'a>(all: &Prompts<'a>) -> (Prompts<'a>, Prompts<'a>) {
    (all.part(0, TRAIN), all.part(TRAIN, PROBES))
}

fn measure(model: &MaskedLm, own: &Parameters, (steps, seed): (usize, u64), heldout_loss: f64) -> Result<Record> {
    let device = own.device();
    let bytes: Vec<u8> = own
        .values()
        .iter()
        .flat_map(|v| Vec::<f64>::try_from(v.to_kind(Kind::Double).contiguous().view(-1)).expect("a flat f64 tensor"))
        .flat_map(f64::to_le_bytes)
        .collect();
    let mut answers = Vec::new();
    for topic in Topic::ANSWERED.into_iter().chain(Topic::OPEN) {
        check_cancelled()?;
        for at in 0..QUESTIONS {
            let prompts = ask(model, topic, at, "output derivative", SENTENCES, seed, device);
            let chi = output_derivative(&outputs(own, &prompts), &prompts.labels).abs();
            let mean = |t: &Tensor| t.mean(Kind::Double).double_value(&[]);
            answers.push(Answers { topic, chi: mean(&chi), right: mean(&chi.lt(0.5).to_kind(Kind::Double)) });
        }
    }
    let tuning = |topic| ask(model, topic, 0, "fine-tuning", (TRAIN + PROBES) as usize, seed, device);
    let mut tuned = Vec::new();
    for topic in Topic::ANSWERED.into_iter().chain(Topic::OPEN) {
        let (train, probes) = halves(&tuning(topic));
        let updates = if Topic::ANSWERED.contains(&topic) { &Update::ALL[..] } else { &Update::ALL[..1] };
        for update in updates {
            check_cancelled()?;
            let found = departure(model, own, (&train, &probes), *update, false)?;
            tuned.push(Tuned { topic, update: *update, found });
        }
    }
    let shares = shares(model, own, &halves(&tuning(Topic::AuxiliaryNumber)).1)?;
    let (mut read, mut norms, mut steps_made) = (Vec::new(), Vec::new(), Vec::new());
    if steps >= LONGEST {
        for topic in READ {
            let readout = trained_readout(own, &tuning(topic));
            let random = |draw: usize| {
                let name = format!("random readout {draw}, {}", topic.text());
                let drawn = normal_tensor(&readout.size(), 1.0, named_seed(seed, &name), 0, Context::KIND, device);
                &drawn * (readout.norm() / drawn.norm())
            };
            let reference = tuning(topic).state_size(own, true);
            for (at_mask, transform) in [(true, true), (true, false), (false, true), (false, false)] {
                for (trained, draw) in [(true, 0), (false, 0), (false, 1)] {
                    check_cancelled()?;
                    let vector = if trained { readout.shallow_clone() } else { random(draw) };
                    // What is read has one size, whichever state it is.
                    let size = tuning(topic).read_by(Readout::Words, at_mask).state_size(own, transform);
                    let way = Readout::Own { transform, scale: reference / size };
                    let (train, probes) = halves(&tuning(topic).read_by(way, at_mask));
                    let start = with_readout(own, &vector);
                    let found = departure(model, &start, (&train, &probes), Update::Sgd, false)?;
                    read.push(Read { at_mask, transform, trained, draw, found });
                }
            }
        }
        let topic = Topic::AuxiliaryNumber;
        let readout = trained_readout(own, &tuning(topic));
        let drawn = normal_tensor(&readout.size(), 1.0, named_seed(seed, "random head"), 0, Context::KIND, device);
        for factor in NORMS {
            check_cancelled()?;
            let way = Readout::Own { transform: true, scale: 1.0 };
            let (train, probes) = halves(&tuning(topic).read_by(way, true));
            let start = with_readout(own, &(&drawn * (readout.norm() / drawn.norm() * factor)));
            norms.push((factor, departure(model, &start, (&train, &probes), Update::Sgd, true)?));
        }
        let (train, probes) = halves(&tuning(topic));
        let signs = rates(model, own, true);
        let (rate, plain) = (entries(own, &signs), entries(own, &rates(model, own, false)));
        let at_start = (gradients(own, &train)?, gradients(own, &probes)?);
        for update in [Update::Signgd, Update::Adam] {
            check_cancelled()?;
            let found = unexplained(
                own,
                (&train, &probes),
                &train.labels,
                (&at_start.0, &at_start.1),
                (&signs, &rate, &plain),
                update,
            );
            steps_made.push((update, found));
        }
    }
    Ok(Record {
        width: model.config().hidden_size,
        steps,
        seed,
        weights: sha256(&bytes),
        heldout_loss,
        answers,
        shares: own.specs().iter().map(|s| s.name.clone()).zip(shares).collect(),
        tuned,
        read,
        norms,
        steps_made,
    })
}
