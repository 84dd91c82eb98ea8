//! Measurements of one network pre-trained on the small language.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::context::Context;
use super::departure::{Departure, Length, Start, Update};
use super::questions::{Prompts, Readout, gradients, rates, trained_readout, with_readout};
use super::steps::{self, Predictions, predictions};
use super::training::{entries, outputs};
use crate::error::Result;
use crate::files::{named_seed, sha256};
use crate::jacobian::Parameters;
use crate::lm::MaskedLm;
use crate::network::normal_tensor;
use crate::pretrain::language::{Question, Topic};
use crate::progress::check_cancelled;
use crate::train::output_derivative;

/// Questions of each topic drawn by a seed, for χ and for fine-tuning.
const QUESTIONS: usize = 2;
/// Sentences per question, for χ.
const SENTENCES: usize = 48;
/// Sentences per question for fine-tuning, and others as probes.
const TRAIN: i64 = 16;
const PROBES: i64 = 16;

/// Norms of a random head, in units of the trained readout's.
pub(super) const NORMS: [f64; 4] = [1.0, 2.0, 4.0, 8.0];

/// χ of a question's sentences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Answers {
    pub topic: Topic,
    /// Mean |χ|, and its standard deviation over the sentences.
    pub chi: f64,
    pub deviation: f64,
    /// Share of the sentences whose right word has the larger logit.
    pub right: f64,
}

/// Fine-tuning runs on a question's sentences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tuned {
    pub topic: Topic,
    pub update: Update,
    pub length: Length,
    pub found: Departure,
}

/// A way of reading, with its runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Read {
    pub topic: Topic,
    pub at_mask: bool,
    pub transform: bool,
    /// Whether the readout is the network's own, instead of one of two random ones.
    pub trained: bool,
    pub draw: usize,
    pub found: Departure,
}

/// The measurements of one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub width: i64,
    pub steps: usize,
    pub seed: u64,
    /// SHA-256 of the weights.
    pub weights: String,
    pub heldout_loss: f64,
    /// By topic, with equally many questions of each.
    pub answers: Vec<Answers>,
    /// Tensors, with their shares of the mean diagonal of the SGD kernel, on the questions of [`BY_TENSOR`].
    pub shares: Vec<(String, f64)>,
    pub tuned: Vec<Tuned>,
    /// Only after the longest pre-training: the ways of reading.
    pub read: Vec<Read>,
    /// Likewise: runs with a random head by its norm, with outputs relative to their initial values.
    pub norms: Vec<(f64, Departure)>,
    /// Likewise: the kernels' predictions of actual steps.
    pub steps_made: Vec<(Update, Predictions)>,
}

/// Mean square of `|χ| - 1/2` over sentences, from the mean |χ| and its deviation.
fn from_half(chi: f64, deviation: f64) -> f64 {
    deviation.powi(2) + (chi - 0.5).powi(2)
}

/// Mean |χ| of sentences if always the word that the network prefers were right, or less, from the mean |χ| and its deviation:
/// `E min(p, 1 - p)` is at least 1/2 less the root mean square of `p - 1/2`. Of questions without an answer the mean |χ| is 1/2 for
/// any network, by the labels' symmetry; this is small for a network that is sure of its answers, right or wrong.
pub(super) fn doubt(chi: f64, deviation: f64) -> f64 {
    (0.5 - from_half(chi, deviation).sqrt()).max(0.0)
}

impl Record {
    fn mean(&self, topics: &[Topic], of: fn(&Answers) -> f64) -> f64 {
        let own: Vec<f64> = self.answers.iter().filter(|a| topics.contains(&a.topic)).map(of).collect();
        own.iter().sum::<f64>() / own.len() as f64
    }

    /// Mean |χ| of some topics' questions.
    pub fn chi(&self, topics: &[Topic]) -> f64 {
        self.mean(topics, |a| a.chi)
    }

    /// Share of these sentences whose right word has the larger logit.
    pub fn right(&self, topics: &[Topic]) -> f64 {
        self.mean(topics, |a| a.right)
    }

    /// Mean [`doubt`] of some topics' questions.
    pub fn doubt(&self, topics: &[Topic]) -> f64 {
        self.mean(topics, |a| doubt(a.chi, a.deviation))
    }

    /// Root mean square of the outputs of some topics' sentences, if outputs are small: to first order `|χ| = 1/2 ± f/4`.
    pub fn small_outputs(&self, topics: &[Topic]) -> f64 {
        4.0 * self.mean(topics, |a| from_half(a.chi, a.deviation)).sqrt()
    }

    /// The runs of a topic.
    pub fn run(&self, topic: Topic, update: Update, length: Length) -> &Departure {
        let own = self.tuned.iter().find(|t| (t.topic, t.update, t.length) == (topic, update, length));
        &own.expect("runs of every topic").found
    }
}

/// The topic whose kernel's diagonal is kept by tensor.
pub(super) const BY_TENSOR: Topic = Topic::AuxiliaryNumber;

/// Topics for the ways of reading.
const READ: [Topic; 2] = [Topic::DeterminerNumber, Topic::RelativeClass];

/// Runs for questions that the sentence answers, and for those that it does not.
const ANSWERED: [(Update, Length); 4] = [
    (Update::Sgd, Length::Natural),
    (Update::Signgd, Length::Natural),
    (Update::Adam, Length::Natural),
    (Update::Signgd, Length::Fixed),
];
const OPEN: [(Update, Length); 2] = [(Update::Sgd, Length::Natural), (Update::Signgd, Length::Natural)];

/// A network, with the seed of its questions.
pub(super) struct Subject<'a> {
    pub model: &'a MaskedLm,
    pub own: &'a Parameters,
    pub seed: u64,
}

impl<'a> Subject<'a> {
    fn device(&self) -> Device {
        self.own.device()
    }

    /// The sentences of a topic's question as prompts; `what` and `at` name the draw.
    fn ask(&self, topic: Topic, at: usize, what: &str, count: usize) -> Prompts<'a> {
        let seed = named_seed(self.seed, &format!("{}, question {at}", topic.text()));
        let question = Question::draw(topic, seed);
        Prompts::new(self.model, &question, &question.ask(count, named_seed(seed, what)), self.device())
    }

    /// Sentences of a topic's first question for fine-tuning.
    fn tuning(&self, topic: Topic) -> Prompts<'a> {
        self.ask(topic, 0, "fine-tuning", (TRAIN + PROBES) as usize)
    }

    /// All measurements; ways of reading, norms and steps only after the longest pre-training.
    pub fn record(&self, steps: usize, is_longest: bool, heldout_loss: f64) -> Result<Record> {
        let own = self.own;
        let bytes: Vec<u8> = own
            .values()
            .iter()
            .flat_map(|v| {
                Vec::<f64>::try_from(v.to_kind(Kind::Double).contiguous().view(-1)).expect("a flat f64 tensor")
            })
            .flat_map(f64::to_le_bytes)
            .collect();
        let (train, probes) = halves(&self.tuning(BY_TENSOR));
        let shares = Start::new(self.model, own, &train, &probes)?.shares();
        Ok(Record {
            width: self.model.config().hidden_size,
            steps,
            seed: self.seed,
            weights: sha256(&bytes),
            heldout_loss,
            answers: self.answers()?,
            shares: own.specs().iter().map(|s| s.name.clone()).zip(shares).collect(),
            tuned: self.tuned()?,
            read: if is_longest { self.read()? } else { Vec::new() },
            norms: if is_longest { self.norms()? } else { Vec::new() },
            steps_made: if is_longest { self.steps_made()? } else { Vec::new() },
        })
    }

    fn answers(&self) -> Result<Vec<Answers>> {
        let mut answers = Vec::new();
        for topic in Topic::ANSWERED.into_iter().chain(Topic::OPEN) {
            check_cancelled()?;
            for at in 0..QUESTIONS {
                let prompts = self.ask(topic, at, "output derivative", SENTENCES);
                let chi = output_derivative(&outputs(self.own, &prompts), &prompts.labels).abs();
                let mean = |t: &Tensor| t.mean(Kind::Double).double_value(&[]);
                let right = mean(&chi.lt(0.5).to_kind(Kind::Double));
                answers.push(Answers { topic, chi: mean(&chi), deviation: chi.std(true).double_value(&[]), right });
            }
        }
        Ok(answers)
    }

    fn tuned(&self) -> Result<Vec<Tuned>> {
        let mut tuned = Vec::new();
        for topic in Topic::ANSWERED.into_iter().chain(Topic::OPEN) {
            let (train, probes) = halves(&self.tuning(topic));
            let start = Start::new(self.model, self.own, &train, &probes)?;
            let runs = if Topic::ANSWERED.contains(&topic) { &ANSWERED[..] } else { &OPEN };
            for (update, length) in runs.iter().copied() {
                tuned.push(Tuned { topic, update, length, found: start.departure(update, length)? });
            }
        }
        Ok(tuned)
    }

    /// Every way of reading, with the network's own readout and with two random ones of its norm.
    fn read(&self) -> Result<Vec<Read>> {
        let mut read = Vec::new();
        for topic in READ {
            let readout = trained_readout(self.own, &self.tuning(topic));
            let reference = self.tuning(topic).state_size(self.own, true);
            for (at_mask, transform) in [(true, true), (true, false), (false, true), (false, false)] {
                // All states that are read have the same size.
                let size = self.tuning(topic).read_by(Readout::Words, at_mask).state_size(self.own, transform);
                for (trained, draw) in [(true, 0), (false, 0), (false, 1)] {
                    let name = format!("random readout {draw}, {}", topic.text());
                    let vector = if trained { readout.shallow_clone() } else { self.random_readout(&name, &readout) };
                    let way = Readout::Own { transform, scale: reference / size };
                    let (train, probes) = halves(&self.tuning(topic).read_by(way, at_mask));
                    let own = with_readout(self.own, &vector);
                    let start = Start::new(self.model, &own, &train, &probes)?;
                    let found = start.departure(Update::Sgd, Length::Natural)?;
                    read.push(Read { topic, at_mask, transform, trained, draw, found });
                }
            }
        }
        Ok(read)
    }

    /// Runs with a random head of several norms.
    fn norms(&self) -> Result<Vec<(f64, Departure)>> {
        let all = || self.tuning(READ[0]).read_by(Readout::Own { transform: true, scale: 1.0 }, true);
        let drawn = self.random_readout("random head", &trained_readout(self.own, &all()));
        let of_norm = |factor: f64| {
            let (train, probes) = halves(&all());
            let own = with_readout(self.own, &(&drawn * factor));
            Ok((factor, Start::new(self.model, &own, &train, &probes)?.departure(Update::Sgd, Length::Centred)?))
        };
        NORMS.into_iter().map(of_norm).collect()
    }

    /// A random readout \[1, n\] with the norm of another.
    fn random_readout(&self, name: &str, other: &Tensor) -> Tensor {
        let seed = named_seed(self.seed, name);
        let drawn = normal_tensor(&other.size(), 1.0, seed, 0, Context::KIND, self.device());
        &drawn * (other.norm() / drawn.norm())
    }

    fn steps_made(&self) -> Result<Vec<(Update, Predictions)>> {
        let own = self.own;
        let (train, probes) = halves(&self.tuning(READ[0]));
        let signs = rates(self.model, own, true);
        let (rate, plain) = (entries(own, &signs), entries(own, &rates(self.model, own, false)));
        let at_start = (&gradients(own, &train)?, &gradients(own, &probes)?);
        let start = steps::Start::weighed(at_start, signs, (&rate, &plain));
        let made = |update| {
            check_cancelled()?;
            Ok((update, predictions(own, (&train, &probes), &train.labels, &start, (update, steps::MOVE))))
        };
        [Update::Signgd, Update::Adam].into_iter().map(made).collect()
    }
}

/// Training and probe sentences.
fn halves<'a>(all: &Prompts<'a>) -> (Prompts<'a>, Prompts<'a>) {
    (all.part(0, TRAIN), all.part(TRAIN, PROBES))
}
