//! Language models of English with the built-in cloze tasks: the evidence for what is said of them, a file for each model.
//!
//! The family of English prose has several seeds of pre-training at its smaller widths; other models are single ones, so that what is
//! said of them holds over tasks and not over pre-training. Of a seed all widths read the same text in the same order.
//!
//! A file names its model by the digest of its weights, because most weights are not in the repository, and is stored under a
//! digest of the tasks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::agreement_network::doubt;
use super::departure::Update;
use super::family::tasks;
use super::steps::{Predictions, Start, predictions};
use crate::analysis::{Pretrained, SplitName, Study, StudyRequest};
use crate::device::Dtype;
use crate::error::{Error, Result};
use crate::files::{create_dir, digest, load_result, store_result};
use crate::lm::OutputMode;
use crate::natural::{Measured, Variant, measure};
use crate::progress::check_cancelled;
use crate::task::OwnSplit;

/// Changes whenever the measurements of a model change.
const VERSION: &str = "2";

/// Widths of the family of English prose.
pub(super) const WIDTHS: [i64; 3] = [64, 128, 256];

/// The widths with as many seeds of pre-training as confidence sequences need.
pub(super) const REPLICATED: [i64; 1] = [64];

/// Seeds are counted from 1; evidence is looked for up to this one.
const MOST_SEEDS: u64 = 32;

/// Training sentences for steps, half of them with either label, and other sentences as probes.
const STEPPED: usize = 6;
const PROBES: usize = 16;

/// Seed of the sentences' split and of unrelated words: the same for all models.
const SPLIT: u64 = 13;

/// First-order changes of an undecided example's own output in a first step, see [`predictions`].
pub(super) const MOVES: [f64; 3] = [0.05, 0.2, 0.8];

/// |χ| of a task's sentences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sentences {
    /// Mean |χ|, and its standard deviation over the sentences.
    pub chi: f64,
    pub deviation: f64,
    /// Share of the sentences whose right word has the larger logit.
    pub right: f64,
}

impl Sentences {
    /// Mean |χ| if always the word that the model prefers were right, or less.
    pub fn doubt(&self) -> f64 {
        doubt(self.chi, self.deviation)
    }

    fn of(measured: &Measured) -> Self {
        let chi = Tensor::from_slice(&measured.chi);
        let mean = chi.mean(Kind::Double).double_value(&[]);
        Self { chi: mean, deviation: chi.std(true).double_value(&[]), right: measured.accuracy }
    }
}

/// The measurements of a model on a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OfTask {
    pub task: String,
    pub sentences: usize,
    /// With the right words.
    pub own: Sentences,
    /// With unrelated words of the vocabulary in their place, over several draws.
    pub unrelated: Sentences,
    /// Steps of SignGD and Adam of each of [`MOVES`] against every kernel's prediction.
    pub steps_made: Vec<(Update, f64, Predictions)>,
}

impl OfTask {
    /// What the kernels predict of an optimizer's steps of this size.
    pub fn made(&self, update: Update, movement: f64) -> &Predictions {
        let own = self.steps_made.iter().find(|(of, size, _)| (*of, *size) == (update, movement));
        &own.expect("steps of both updates and all sizes").2
    }
}

/// The measurements of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub model: String,
    /// SHA-256 of the weights, as in reports.
    pub weights: String,
    pub parameters: i64,
    pub tasks: Vec<OfTask>,
}

impl Record {
    /// Mean over the tasks.
    pub fn over_tasks(&self, of: impl Fn(&OfTask) -> f64) -> f64 {
        self.each_task(of).iter().sum::<f64>() / self.tasks.len() as f64
    }

    /// One number per task.
    pub fn each_task(&self, of: impl Fn(&OfTask) -> f64) -> Vec<f64> {
        self.tasks.iter().map(of).collect()
    }
}

/// Digest of everything that a model's evidence depends on, apart from its weights.
fn key() -> String {
    let texts = tasks().iter().flat_map(|task| [task.name.as_bytes(), task.text().as_bytes()]);
    digest(texts.chain([VERSION.as_bytes()]))
}

fn file(directory: &Path, model: &str) -> PathBuf {
    directory.join(format!("{model}.json"))
}

/// Measures a model with all tasks and stores the evidence as `NAME.json`, unless that of these weights is there already.
///
/// # Errors
/// Those of [`Pretrained::load`] and [`Study::new`]; [`Error::Interrupted`]; [`Error::Io`].
pub(super) fn collect(name: &str, checkpoint: &Path, directory: &Path, device: Device) -> Result<()> {
    // In double precision: a step that moves outputs by a little is lost in single precision's rounding of weights.
    let network = Pretrained::load(checkpoint, Dtype::F64, device)?;
    let (own, weights) = (file(directory, name), network.facts.digest.clone());
    if load_result::<Record>(&own, &key()).is_some_and(|record| record.weights == weights) {
        return Ok(());
    }
    let tasks = (0..tasks().len()).map(|task| of_task(&network, task)).collect::<Result<_>>()?;
    create_dir(directory)?;
    let parameters = network.facts.parameters;
    store_result(&own, &key(), &Record { model: name.to_owned(), weights, parameters, tasks })
}

fn of_task(network: &Pretrained, at: usize) -> Result<OfTask> {
    let task = &tasks()[at];
    let own = OwnSplit { k: STEPPED, seed: SPLIT, test_limit: None, dev: None, test: None };
    let (definition, splits) = (task.definition()?, task.splits(&own)?);
    let request = StudyRequest::new(network, &definition, &splits);
    let study = Study::new(StudyRequest { k: Some(STEPPED), split_seed: Some(SPLIT), ..request })?;
    let measured = measure(&study, SPLIT)?;
    let of = |variant| measured.iter().find(|m| m.variant == variant).expect("all variants");
    let (own, unrelated) = (of(Variant::Task), of(Variant::UnrelatedWords));
    Ok(OfTask {
        task: task.name.into(),
        sentences: own.chi.len(),
        own: Sentences::of(own),
        unrelated: Sentences::of(unrelated),
        steps_made: steps_made(&study, at % 2)?,
    })
}

/// Steps on sentences of the training set with either label in turn, with one learning rate for all tensors. Adam takes all its
/// steps on the first of them, which has the label `first`.
fn steps_made(study: &Study, first: usize) -> Result<Vec<(Update, f64, Predictions)>> {
    let labels = study.labels(SplitName::Train);
    let with = |label: usize| labels.iter().enumerate().filter(move |(_, l)| **l == label).map(|(i, _)| i);
    let chosen: Vec<usize> = with(first).zip(with(1 - first)).flat_map(|(a, b)| [a, b]).take(STEPPED).collect();
    let all = |split| Ok::<_, Error>(study.examples(split, OutputMode::Difference)?.exact());
    let train = all(SplitName::Train)?.select(&chosen);
    let probes = all(SplitName::Test)?.select(&(0..PROBES).collect::<Vec<_>>());
    let own: Vec<i64> = chosen.iter().map(|i| labels[*i] as i64).collect();
    let own = Tensor::from_slice(&own).to_device(study.device);
    let start = Start::even(&study.parameters, &train, &probes)?;
    let all = [Update::Signgd, Update::Adam].into_iter().flat_map(|update| MOVES.map(|movement| (update, movement)));
    let made = |(update, movement)| {
        check_cancelled()?;
        let found = predictions(&study.parameters, (&train, &probes), &own, &start, (update, movement));
        Ok((update, movement, found))
    };
    all.map(made).collect()
}

/// The shipped evidence.
pub(super) struct English {
    /// Networks of English prose by width and seed.
    prose: BTreeMap<(i64, u64), Record>,
    /// Other models by name.
    pub others: BTreeMap<String, Record>,
}

impl English {
    /// The evidence in the program's sources.
    ///
    /// # Errors
    /// [`Error::Format`] if fewer than two seeds have the widths of [`REPLICATED`], or for a name of none of the networks.
    pub fn shipped() -> Result<Self> {
        Self::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/english"))
    }

    fn read(directory: &Path) -> Result<Self> {
        let key = key();
        let mut own = Self { prose: BTreeMap::new(), others: BTreeMap::new() };
        let found = fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        for record in found.filter_map(|path| load_result::<Record>(&path, &key)) {
            let mut places = WIDTHS.into_iter().flat_map(|width| (1..=MOST_SEEDS).map(move |seed| (width, seed)));
            match places.find(|(width, seed)| record.model == prose(*width, *seed)) {
                Some(place) => drop(own.prose.insert(place, record)),
                None if record.model.starts_with("prose-") => {
                    let message = format!("`{}` names no width and seed of English prose", record.model);
                    return Err(Error::format(directory, message));
                }
                None => drop(own.others.insert(record.model.clone(), record)),
            }
        }
        let seeds = own.seeds_of(&REPLICATED);
        if seeds.len() < 2 {
            let message = format!(
                "evidence of {} seed(s) of English prose with these tasks, two are needed; the example english_evidence \
                 makes it",
                seeds.len()
            );
            return Err(Error::format(directory, message));
        }
        Ok(own)
    }

    /// The seeds that these widths have.
    pub fn seeds_of(&self, widths: &[i64]) -> Vec<u64> {
        let has = |seed: &u64| widths.iter().all(|width| self.prose.contains_key(&(*width, *seed)));
        (1..=MOST_SEEDS).filter(has).collect()
    }

    /// The network of a width and a seed.
    pub fn of(&self, width: i64, seed: u64) -> &Record {
        &self.prose[&(width, seed)]
    }

    /// The evidence, for a report's settings.
    pub fn settings(&self) -> Vec<(String, String)> {
        let seeds = WIDTHS.map(|width| format!("width {width}: {}", self.seeds_of(&[width]).len()));
        let others: Vec<&str> = self.others.keys().map(String::as_str).collect();
        vec![
            super::agreement::stored("reports/english"),
            ("networks of English prose, seeds".into(), seeds.join(", ")),
            ("other models".into(), others.join(", ")),
            super::family::tasks_setting(),
        ]
    }
}

/// Name of a network of English prose.
fn prose(width: i64, seed: u64) -> String {
    format!("prose-{width}-seed-{seed}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrain::family_members;

    /// There are no files of other tasks, and those of the shipped networks are of their weights.
    #[test]
    fn every_committed_file_is_evidence() {
        let evidence = English::shipped().expect("evidence");
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/english");
        let files = fs::read_dir(directory).expect("a directory").count();
        assert_eq!(files, evidence.prose.len() + evidence.others.len());
        for member in family_members().expect("networks") {
            let network = Pretrained::load(&member.directory, Dtype::F32, Device::Cpu).expect("a network");
            assert_eq!(evidence.of(member.width, 1).weights, network.facts.digest, "{}", member.width);
        }
    }

    /// The measurement is that of the committed file.
    #[test]
    fn the_smallest_network_measures_as_committed() {
        let members = family_members().expect("networks");
        let network = Pretrained::load(&members[0].directory, Dtype::F64, Device::Cpu).expect("a network");
        let found = of_task(&network, 0).expect("measurements");
        let evidence = English::shipped().expect("evidence");
        let committed = &evidence.of(members[0].width, 1).tasks[0];
        assert!((found.own.chi - committed.own.chi).abs() < 1e-9, "{found:?}");
        for update in [Update::Signgd, Update::Adam] {
            let (own, other) = (found.made(update, MOVES[0]), committed.made(update, MOVES[0]));
            // A sign of an entry that is nearly zero may differ between processors, and 1e-6 of the steps with it.
            assert!((own.asymmetric.left_by(1.0) - other.asymmetric.left_by(1.0)).abs() < 1e-4, "{own:?} {other:?}");
            assert!((own.sgd.cosine - other.sgd.cosine).abs() < 1e-4, "{own:?} {other:?}");
        }
    }
}
