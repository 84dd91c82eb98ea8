//! Networks pre-trained on the small language, by width, length of pre-training and seed, with the measurements of each: the
//! evidence for the claims on pre-training and prompts.
//!
//! A seed determines everything random: initial weights, training sentences and their masks, questions and their sentences. So
//! measurements of different seeds are independent, and their scatter includes all of these. The networks of one seed share
//! sentences and questions across widths and lengths.
//!
//! The evidence of each network is a file, stored with a digest of its recipe.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tch::Device;

use super::agreement_network::{Record, Subject};
use super::context::Context;
use super::scan::list;
use crate::error::{Error, Result};
use crate::evidence::{Cell, Mark};
use crate::files::{create_dir, digest, load_result, store_result};
use crate::lm::MaskedLm;
use crate::pretrain::{Corpus, Recipe, train};
use crate::progress::Silent;
use crate::stats::{Estimate, student_mean};

/// Changes whenever the measurements of a network change.
const VERSION: &str = "2";

/// The lengths of pre-training of the shipped evidence, in steps.
pub(super) const LENGTHS: [usize; 3] = [50, 100, 200];

/// The longest length.
pub(super) const LONGEST: usize = LENGTHS[LENGTHS.len() - 1];

/// The widths with as many seeds as claims over all of them need.
const WIDTHS: [i64; 3] = [32, 64, 128];

/// All widths of the shipped evidence.
const ALL_WIDTHS: [i64; 5] = [32, 64, 128, 256, 512];

/// Seeds are counted from 1; evidence is looked for up to this one.
const MOST_SEEDS: u64 = 128;

/// The recipe of all networks.
fn recipe() -> Recipe {
    toml::from_str(include_str!("../fixtures/family/agreement.toml")).expect("a recipe")
}

/// File of a network's evidence.
fn file(directory: &Path, width: i64, steps: usize, seed: u64) -> PathBuf {
    directory.join(format!("{width}-{steps}-{seed}.json"))
}

/// Digest of everything that a network's evidence depends on.
fn key(width: i64, steps: usize, seed: u64) -> String {
    let mut own = recipe().with_seed(seed).with_steps(steps);
    own.model.widths = vec![width];
    let text = serde_json::to_string(&own).expect("a recipe is plain data");
    digest([text.as_bytes(), VERSION.as_bytes()])
}

/// Pre-trains a network on the small language, measures it and stores the evidence in `directory`, unless it is there already.
///
/// # Errors
/// Those of [`train`].
pub(super) fn collect(width: i64, steps: usize, seed: u64, directory: &Path, device: Device) -> Result<()> {
    let (own, key) = (file(directory, width, steps, seed), key(width, steps, seed));
    if load_result::<Record>(&own, &key).is_some() {
        return Ok(());
    }
    create_dir(directory)?;
    let recipe = recipe().with_seed(seed).with_steps(steps);
    let corpus = Corpus::draw(recipe.language.as_ref().expect("the recipe has a language"), seed);
    let networks = directory.join("networks");
    let weights = networks.join(format!("{width}-{steps}-{seed}"));
    let trained = train(&recipe, width, &corpus, &weights, device, &Silent)?;
    let (model, parameters) = MaskedLm::load(&trained.directory, Context::KIND, device)?;
    let network = Subject { model: &model, own: &parameters, seed };
    store_result(&own, &key, &network.record(steps, steps >= LONGEST, trained.curve.final_loss())?)?;
    // The weights are no longer needed; if they cannot be removed, the evidence is complete nevertheless.
    let _ = fs::remove_dir_all(&weights).and_then(|()| fs::remove_dir(&networks));
    Ok(())
}

/// The evidence in a directory. Widths may have different numbers of seeds.
pub(super) struct Evidence {
    /// Seeds with all lengths at all of [`Self::WIDTHS`].
    pub seeds: Vec<u64>,
    /// Seeds with all lengths, by width.
    by_width: BTreeMap<i64, Vec<u64>>,
    records: BTreeMap<(u64, i64, usize), Record>,
}

impl Evidence {
    pub const WIDTHS: &'static [i64] = &WIDTHS;
    pub const ALL_WIDTHS: &'static [i64] = &ALL_WIDTHS;

    /// The evidence in the program's sources.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub fn shipped() -> Result<Self> {
        Self::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/agreement"))
    }

    /// The evidence in a directory for this recipe.
    ///
    /// # Errors
    /// [`Error::Format`] if fewer than two seeds are complete.
    fn read(directory: &Path) -> Result<Self> {
        let (mut by_width, mut records) = (BTreeMap::<i64, Vec<u64>>::new(), BTreeMap::new());
        for width in ALL_WIDTHS {
            let complete = by_width.entry(width).or_default();
            for seed in 1..=MOST_SEEDS {
                let found = LENGTHS.map(|steps| {
                    let path = file(directory, width, steps, seed);
                    Some(((seed, width, steps), load_result::<Record>(&path, &key(width, steps, seed))?))
                });
                if found.iter().all(Option::is_some) {
                    complete.push(seed);
                    records.extend(found.into_iter().flatten());
                }
            }
        }
        let own = Self { seeds: Vec::new(), by_width, records };
        let seeds = own.seeds_of(&WIDTHS);
        if seeds.len() < 2 {
            let all = WIDTHS.map(|width| width as f64);
            let message = format!(
                "evidence of {} seed(s) of this recipe with widths {} and all lengths, two are needed; the example \
                 agreement_evidence makes it",
                seeds.len(),
                list(&all)
            );
            return Err(Error::format(directory, message));
        }
        Ok(Self { seeds, ..own })
    }

    /// Seeds with all lengths at these widths.
    pub fn seeds_of(&self, widths: &[i64]) -> Vec<u64> {
        let has = |seed: &u64| widths.iter().all(|width| self.by_width[width].contains(seed));
        (1..=MOST_SEEDS).filter(has).collect()
    }

    /// The measurements of a network.
    pub fn of(&self, seed: u64, width: i64, steps: usize) -> &Record {
        &self.records[&(seed, width, steps)]
    }

    /// The networks of a seed at [`Self::WIDTHS`], in the order of widths and lengths.
    pub fn networks(&self, seed: u64) -> impl Iterator<Item = &Record> {
        let all = self.records.range((seed, 0, 0)..(seed + 1, 0, 0)).map(|(_, record)| record);
        all.filter(|record| WIDTHS.contains(&record.width))
    }

    /// One number per seed.
    pub fn over_seeds(&self, of: impl Fn(u64) -> f64) -> Vec<f64> {
        self.seeds.iter().map(|seed| of(*seed)).collect()
    }

    /// The same for all seeds that these widths have.
    pub fn over_seeds_of(&self, widths: &[i64], of: impl Fn(u64) -> f64) -> Vec<f64> {
        self.seeds_of(widths).into_iter().map(of).collect()
    }

    /// One number per seed: the mean over the widths of the networks with the longest pre-training.
    pub fn over_widths(&self, of: impl Fn(&Record) -> f64) -> Vec<f64> {
        let sum = |seed| WIDTHS.iter().map(|width| of(self.of(seed, *width, LONGEST))).sum::<f64>();
        self.over_seeds(|seed| sum(seed) / WIDTHS.len() as f64)
    }

    /// All networks, for a report's settings.
    pub fn all_settings(&self) -> Vec<(String, String)> {
        let numbers = |of: &[i64]| list(&of.iter().map(|n| *n as f64).collect::<Vec<_>>());
        vec![
            stored("reports/agreement"),
            ("networks".into(), format!("RoBERTa, muP, two layers, widths {}", numbers(&ALL_WIDTHS))),
            ("lengths of pre-training, in steps".into(), numbers(&LENGTHS.map(|n| n as i64))),
            ("seeds by width".into(), numbers(&ALL_WIDTHS.map(|width| self.by_width[&width].len() as i64))),
        ]
    }

    /// The networks at [`Self::WIDTHS`], for a report's settings.
    pub fn settings(&self) -> Vec<(String, String)> {
        let numbers = |of: &[i64]| list(&of.iter().map(|n| *n as f64).collect::<Vec<_>>());
        vec![
            stored("reports/agreement"),
            ("networks".into(), format!("RoBERTa, muP, two layers, widths {}", numbers(&WIDTHS))),
            ("lengths of pre-training, in steps".into(), numbers(&LENGTHS.map(|n| n as i64))),
            ("seeds".into(), self.seeds.len().to_string()),
        ]
    }
}

/// Where a claim's measurements are, for a report's settings.
pub(super) fn stored(place: &str) -> (String, String) {
    let text = format!("stored in {place}; the run's seed, profile and device change nothing of them");
    ("measurements".into(), text)
}

/// Mean over seeds with its interval, for tables.
pub(super) fn interval(samples: &[f64]) -> Cell {
    Cell::from(student_mean(samples, Mark::CONFIDENCE))
}

/// Geometric mean over seeds with its interval, from logarithms, for tables.
pub(super) fn geometric(logs: &[f64]) -> Cell {
    let Estimate { value, low, high, .. } = student_mean(logs, Mark::CONFIDENCE);
    Cell::Interval { value: value.exp(), low: low.exp(), high: high.exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There are no files of other recipes or incomplete seeds, and every record agrees with its file's name.
    #[test]
    fn every_committed_file_is_evidence() {
        let evidence = Evidence::shipped().expect("evidence");
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/agreement");
        let files = fs::read_dir(directory).expect("a directory").count();
        assert_eq!(files, evidence.records.len());
        for ((seed, width, steps), record) in &evidence.records {
            assert_eq!((record.seed, record.width, record.steps), (*seed, *width, *steps));
        }
    }

    #[test]
    fn evidence_of_another_recipe_is_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/agreement");
        for at in fs::read_dir(&shipped).expect("a directory") {
            let path = at.expect("an entry").path();
            let text = fs::read_to_string(&path).expect("JSON");
            let name = path.file_name().expect("a name");
            // Changes the first digit of the digest, with which the file begins.
            let other = text.replacen("{\"digest\":\"", "{\"digest\":\"0", 1);
            fs::write(directory.path().join(name), other).expect("written");
        }
        let message = Evidence::read(directory.path()).err().expect("refused").to_string();
        assert!(message.contains("evidence of 0 seed(s) of this recipe"), "{message}");
    }
}
