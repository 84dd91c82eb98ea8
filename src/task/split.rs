//! Few-shot splits: LM-BFF's directories `DATA_DIR/TASK/K-SEED/`, or a user's file split with a seed.
//!
//! May not know templates or tokenizers. The same arguments give the same splits on every machine: random choices use
//! `ChaCha20` with a seed made from the user's seed and the name of the purpose, and a shuffle implemented here.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use rand::RngCore;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use super::data::{Example, parse_examples};
use super::definition::TaskDefinition;
use crate::error::{Error, Result};
use crate::files::sha256;
use crate::setting::Field;

/// The examples of one split and the file they came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The examples.
    pub examples: Vec<Example>,
    /// Their file, for messages.
    pub source: PathBuf,
    /// SHA-256 of the file.
    pub digest: String,
}

impl Split {
    /// All examples of a data file, in order.
    ///
    /// # Errors
    /// As [`parse_examples`], and if the file cannot be read.
    pub fn read(path: &Path, task: &TaskDefinition) -> Result<Self> {
        Self::parse(path, &fs::read(path).map_err(Error::io("read", path))?, task)
    }

    /// The same for bytes in memory; `source` is their name in messages.
    ///
    /// # Errors
    /// Those of [`parse_examples`].
    pub fn parse(source: &Path, bytes: &[u8], task: &TaskDefinition) -> Result<Self> {
        Ok(Self { examples: parse_examples(source, bytes, task)?, source: source.to_path_buf(), digest: sha256(bytes) })
    }

    /// Other examples of the same file.
    fn with(&self, examples: Vec<Example>) -> Self {
        Self { examples, source: self.source.clone(), digest: self.digest.clone() }
    }
}

/// Training, development and test examples of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splits {
    /// k examples per label.
    pub train: Split,
    /// k examples per label, for selecting settings.
    pub dev: Split,
    /// Examples for reporting results.
    pub test: Split,
    /// Notes for readers of the results, such as a label with too few rows; often empty.
    pub notes: Vec<String>,
}

impl Splits {
    /// All rows of a user's file as training examples, in the file's order; dev and test are empty.
    ///
    /// # Errors
    /// Those of [`Split::read`].
    pub fn undivided(path: impl AsRef<Path>, task: &TaskDefinition) -> Result<Self> {
        let train = Split::read(path.as_ref(), task)?;
        Ok(Self { dev: train.with(Vec::new()), test: train.with(Vec::new()), train, notes: Vec::new() })
    }

    /// Examples that were made for one definition of a task, for another: labels are matched by name, as they are in files.
    ///
    /// # Errors
    /// [`Error::Task`] for a label without examples, and for examples whose label has no word.
    pub fn relabelled(mut self, from: &TaskDefinition, to: &TaskDefinition) -> Result<Self> {
        let labels: Vec<&str> = from.label_words.iter().map(|pair| pair.label.as_str()).collect();
        if let Some(empty) = to.label_words.iter().find(|pair| !labels.contains(&pair.label.as_str())) {
            let those = labels.join(", ");
            let problem =
                format!("label `{}` has no examples; those that there are have the labels {those}", empty.label);
            return Err(Error::task(&to.name, problem));
        }
        let place = |label: &&str| {
            let wordless = || Error::task(&to.name, format!("label `{label}` has examples, but no word: give it one"));
            to.label_index(label).ok_or_else(wordless)
        };
        let places = labels.iter().map(place).collect::<Result<Vec<usize>>>()?;
        for split in [&mut self.train, &mut self.dev, &mut self.test] {
            split.examples.iter_mut().for_each(|example| example.label = places[example.label]);
        }
        Ok(self)
    }

    /// Whether these are all rows of an unsplit file.
    pub fn is_undivided(&self) -> bool {
        self.dev.examples.is_empty() && self.test.examples.is_empty()
    }
}

/// How to split a user's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSplit {
    /// Rows per label for train, and as many for dev.
    pub k: usize,
    /// Seed of the choice of rows.
    pub seed: u64,
    /// Maximum number of test rows; all if `None`.
    pub test_limit: Option<usize>,
    /// A separate file for dev, all of which is used; otherwise k rows per label.
    pub dev: Option<PathBuf>,
    /// A separate file for test; otherwise the remaining rows.
    pub test: Option<PathBuf>,
}

/// The k of the directory from which other k are derived.
const LARGE_K: usize = 512;

impl Splits {
    /// Reads `data_dir/TASK/K-SEED/{train,dev,test}`, ignoring the case of the task's name; MNLI's `dev_matched` and
    /// `test_matched` count as dev and test.
    ///
    /// Without a `K-SEED` directory, but with `512-SEED`, k up to 256 is derived from its `train` as by the paper's
    /// generator: per label, in the file's order, the first k rows are train and the next k (or as many as there are, with a
    /// note) are dev; test is that of `512-SEED`. The paper's k = 64 is made this way.
    ///
    /// `test_limit` keeps rows chosen by a shuffle seeded by `seed`, in the file's order.
    pub fn from_directory(
        data_dir: impl AsRef<Path>,
        task: &TaskDefinition,
        k: usize,
        seed: u64,
        test_limit: Option<usize>,
    ) -> Result<Self> {
        check_k(k)?;
        let task_dir = task_directory(data_dir.as_ref(), &task.name)?;
        let exact = task_dir.join(format!("{k}-{seed}"));
        let large = task_dir.join(format!("{LARGE_K}-{seed}"));
        let mut splits = if exact.is_dir() {
            let read = |stem: &str| read_split(&exact, stem, task);
            Self { train: read("train")?, dev: read("dev")?, test: read("test")?, notes: Vec::new() }
        } else if 2 * k <= LARGE_K && large.is_dir() {
            derive(&read_split(&large, "train", task)?, read_split(&large, "test", task)?, task, k)?
        } else {
            return Err(no_split(&task_dir, k, seed));
        };
        splits.limit_test(test_limit, seed);
        Ok(splits)
    }

    /// Splits a user's file, in the task's format: after a shuffle seeded by `own.seed`, the first k rows per label are
    /// train, the next k dev, the others test, unless dev or test have separate files. Train and dev are ordered by label,
    /// test as in the file. A label with too few rows is an error.
    pub fn from_file(path: impl AsRef<Path>, task: &TaskDefinition, own: &OwnSplit) -> Result<Self> {
        Self::divide(&Split::read(path.as_ref(), task)?, task, own)
    }

    /// The same for examples in memory.
    ///
    /// # Errors
    /// As [`Splits::from_file`].
    pub fn divide(whole: &Split, task: &TaskDefinition, own: &OwnSplit) -> Result<Self> {
        let Split { examples, source, .. } = whole;
        check_k(own.k)?;
        let order = shuffled(examples.len(), "own file", own.seed);
        let sharing = if own.dev.is_none() { 2 } else { 1 };
        let (mut train, mut dev) = (Vec::new(), Vec::new());
        for (label, pair) in task.label_words.iter().enumerate() {
            let rows: Vec<usize> = order.iter().copied().filter(|at| examples[*at].label == label).collect();
            if rows.len() < sharing * own.k {
                let purpose = if sharing == 2 { "train and as many for dev" } else { "train" };
                return Err(Error::format(
                    source,
                    format!(
                        "label `{}` has {} row(s), but k = {} needs {} for {purpose}; lower k, add rows, or give \
                         separate files for dev and test",
                        pair.label,
                        rows.len(),
                        own.k,
                        own.k
                    ),
                ));
            }
            train.extend_from_slice(&rows[..own.k]);
            if sharing == 2 {
                dev.extend_from_slice(&rows[own.k..2 * own.k]);
            }
        }
        let pick = |rows: &[usize]| rows.iter().map(|at| examples[*at].clone()).collect::<Vec<_>>();
        let mut test = if let Some(file) = &own.test {
            Split::read(file, task)?
        } else {
            let used: HashSet<usize> = train.iter().chain(&dev).copied().collect();
            let rest: Vec<usize> = (0..examples.len()).filter(|at| !used.contains(at)).collect();
            if rest.is_empty() {
                let message = format!(
                    "k = {} takes all {} rows and leaves none for test; lower k, add rows, or give a separate \
                     test file",
                    own.k,
                    examples.len()
                );
                return Err(Error::format(source, message));
            }
            whole.with(pick(&rest))
        };
        test.examples = limited(test.examples, own.test_limit, own.seed);
        let dev = own.dev.as_ref().map_or_else(|| Ok(whole.with(pick(&dev))), |file| Split::read(file, task))?;
        Ok(Self { train: whole.with(pick(&train)), dev, test, notes: Vec::new() })
    }
}

/// The task's directory, ignoring case.
fn task_directory(data_dir: &Path, name: &str) -> Result<PathBuf> {
    let found = subdirectories(data_dir)?;
    if let Some(directory) = found.iter().find(|directory| directory.eq_ignore_ascii_case(name)) {
        return Ok(data_dir.join(directory));
    }
    let listed = if found.is_empty() { "no directories".to_string() } else { found.join(", ") };
    let message = format!("no directory for task `{name}`; there are {listed}; check the data directory");
    Err(Error::format(data_dir, message))
}

/// The error for a missing K-SEED directory, listing those that exist in numerical order.
fn no_split(task_dir: &Path, k: usize, seed: u64) -> Error {
    let mut found = match subdirectories(task_dir) {
        Ok(found) => found,
        Err(error) => return error,
    };
    let numbers = |name: &String| {
        let (k, seed) = name.split_once('-')?;
        Some((k.parse::<usize>().ok()?, seed.parse::<u64>().ok()?))
    };
    found.retain(|name| numbers(name).is_some());
    found.sort_by_key(numbers);
    let listed =
        if found.is_empty() { "there are none".to_string() } else { format!("there are {}", found.join(", ")) };
    let message = format!(
        "no split `{k}-{seed}` (k = {k}, seed = {seed}); {listed}; k up to {} can be derived if `{LARGE_K}-{seed}` \
         exists",
        LARGE_K / 2
    );
    Error::format(task_dir, message)
}

/// Names of the directories in a directory, sorted.
fn subdirectories(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(Error::io("read", directory))? {
        let path = entry.map_err(Error::io("read", directory))?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| path.is_dir()) {
            names.push(name.to_string());
        }
    }
    names.sort();
    Ok(names)
}

/// Reads `STEM.tsv`, `STEM.csv`, or for dev and test `STEM_matched`.
fn read_split(directory: &Path, stem: &str, task: &TaskDefinition) -> Result<Split> {
    let mut names = Vec::new();
    for extension in task.format.extensions() {
        names.push(format!("{stem}.{extension}"));
        if stem != "train" {
            names.push(format!("{stem}_matched.{extension}"));
        }
    }
    let found: Vec<&String> = names.iter().filter(|name| directory.join(name).is_file()).collect();
    let extension = |name: &str| name.rsplit_once('.').map(|(_, end)| end.to_owned());
    if let Some(other) = found.iter().find(|name| extension(name) != extension(found[0])) {
        let message = format!("there are both `{}` and `{other}`; remove the one that is not meant", found[0]);
        return Err(Error::format(directory, message));
    }
    let Some(source) = found.first().map(|name| directory.join(name)) else {
        let wanted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        return Err(Error::format(directory, format!("no {stem} file; looked for {}", wanted.join(", "))));
    };
    Split::read(&source, task)
}

/// Train and dev for a smaller k from the train file of a larger one.
fn derive(large: &Split, test: Split, task: &TaskDefinition, k: usize) -> Result<Splits> {
    let mut labels: Vec<usize> = Vec::new();
    for example in &large.examples {
        if !labels.contains(&example.label) {
            labels.push(example.label);
        }
    }
    let (mut train, mut dev, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for label in labels {
        let rows: Vec<_> =
            large.examples.iter().filter(|example| example.label == label).take(2 * k).cloned().collect();
        let name = &task.label_words[label].label;
        if rows.len() < k {
            let message = format!("label `{name}` has {} row(s), but k = {k} needs {k} for train", rows.len());
            return Err(Error::format(&large.source, message));
        }
        let left = rows.len() - k;
        if left < k {
            notes.push(format!("label `{name}` has only {left} rows for dev instead of {k}"));
        }
        train.extend_from_slice(&rows[..k]);
        dev.extend_from_slice(&rows[k..]);
    }
    Ok(Splits { train: large.with(train), dev: large.with(dev), test, notes })
}

impl Splits {
    /// Keeps at most `limit` test rows, chosen by a shuffle seeded by `seed`, in the file's order.
    pub fn limit_test(&mut self, limit: Option<usize>, seed: u64) {
        self.test.examples = limited(std::mem::take(&mut self.test.examples), limit, seed);
    }
}

fn check_k(k: usize) -> Result<()> {
    if k == 0 { Err(Error::setting(Field::K, k, "1 or more: it is the number of rows per label")) } else { Ok(()) }
}

/// The first `limit` rows after a seeded shuffle, put back into the file's order.
fn limited(examples: Vec<Example>, limit: Option<usize>, seed: u64) -> Vec<Example> {
    let Some(limit) = limit.filter(|limit| *limit < examples.len()) else { return examples };
    let kept: HashSet<usize> = shuffled(examples.len(), "test limit", seed).into_iter().take(limit).collect();
    examples.into_iter().enumerate().filter(|(at, _)| kept.contains(at)).map(|(_, example)| example).collect()
}

/// 0..n in random order (Fisher and Yates), fixed by purpose and seed.
pub(super) fn shuffled(n: usize, purpose: &str, seed: u64) -> Vec<usize> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    for (slot, byte) in key[8..].iter_mut().zip(purpose.bytes()) {
        *slot = byte;
    }
    let mut random = ChaCha20Rng::from_seed(key);
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        // The upper half of a 128-bit product is uniform on 0..=last, up to a bias below 2⁻⁴⁰ for any file size.
        let at = (u128::from(random.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, at as usize);
    }
    order
}
