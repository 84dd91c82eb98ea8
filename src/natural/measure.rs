//! |χ| of every example under one model, for the task and for variants of it that are not natural.

use std::collections::BTreeSet;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::analysis::{SplitName, Study};
use crate::error::{Error, Result};
use crate::evidence::SetFacts;
use crate::files::named_seed;
use crate::jacobian::all_outputs;
use crate::lm::{OutputMode, with_head};
use crate::measure::output_derivative_sizes;
use crate::network::normal_tensor;
use crate::train::accuracy;

/// The task, or a variant of it that must not be natural.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// The task itself.
    Task,
    /// The examples' labels, in random order.
    PermutedLabels,
    /// Other words of the vocabulary in place of the label words, in several draws.
    UnrelatedWords,
    /// No label words: a new random head, at the first token of the prompt without its mask, or at the last of a causal model's.
    RandomHead,
}

impl Variant {
    /// All variants, the task first.
    pub const ALL: [Self; 4] = [Self::Task, Self::PermutedLabels, Self::UnrelatedWords, Self::RandomHead];

    /// Text in reports.
    pub fn text(self) -> &'static str {
        match self {
            Self::Task => "the task",
            Self::PermutedLabels => "permuted labels",
            Self::UnrelatedWords => "unrelated label words",
            Self::RandomHead => "no prompt, random head",
        }
    }
}

/// Measurements of one variant under one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Which variant.
    pub variant: Variant,
    /// Share of examples whose most likely label is their own.
    pub accuracy: f64,
    /// `|χ_y| = 1 - p(y)` per example, half the sum of |χ| over the labels, in the order of [`Naturalness::sets`].
    pub chi: Vec<f64>,
}

/// All measurements of a task: `report.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Naturalness {
    /// [`crate::evidence::SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// Name of the task.
    pub task: String,
    /// Name of the data.
    pub source: String,
    /// SHA-256 of the data. Empty in older reports.
    #[serde(default)]
    pub source_digest: String,
    /// The examples of [`Measured::chi`]: the sets one after another. Empty as above.
    #[serde(default)]
    pub sets: Vec<SetFacts>,
    /// Label words, in the order of the labels.
    pub words: Vec<String>,
    /// Seed of permutations, words and heads.
    pub seed: u64,
    /// Name, width and depth of each model, in order of width.
    pub models: Vec<(String, i64, i64)>,
    /// `measured[model][variant]`, with variants in the order of [`Variant::ALL`].
    pub measured: Vec<Vec<Measured>>,
    /// What the models differ in beside width and depth. Empty in older reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differ: Vec<String>,
}

impl Naturalness {
    /// That the models differ in more than their width, if they do.
    pub fn caveat(&self) -> Option<String> {
        let depths: BTreeSet<i64> = self.models.iter().map(|model| model.2).collect();
        let depth = (depths.len() > 1).then(|| "depth".to_owned());
        let all: Vec<String> = depth.into_iter().chain(self.differ.iter().cloned()).collect();
        let (last, others) = all.split_last()?;
        let list = if others.is_empty() { last.clone() } else { format!("{} and {last}", others.join(", ")) };
        Some(format!(
            "The models differ in {list}, too: what changes over them is not the width alone, and the test says less."
        ))
    }

    /// The data's name with the beginning of its digest, if it has one.
    pub(super) fn data(&self) -> String {
        let beginning: String = self.source_digest.chars().take(12).collect();
        if beginning.is_empty() { self.source.clone() } else { format!("{} (SHA-256 {beginning}…)", self.source) }
    }
}

/// Draws of permutations, unrelated words and random heads over which |χ| is averaged, because a single one might be lucky.
const DRAWS: usize = 16;

/// Prompts per batch.
const BATCH: usize = 64;

/// Beginnings of tokens that start a word: of byte-level vocabularies, and of SentencePiece.
const MARKS: [char; 2] = ['Ġ', '▁'];

/// Fewest words to draw from.
const WORDS: usize = 100;

/// Labels in random order, each as often as before.
fn relabelled(labels: &[usize], seed: u64, draw: usize) -> Vec<usize> {
    let mut shuffled = labels.to_vec();
    shuffled.shuffle(&mut ChaCha8Rng::seed_from_u64(named_seed(seed, &format!("permuted labels {draw}"))));
    shuffled
}

/// Measures all variants on all examples of a study. Nothing is trained, so training examples count as well.
///
/// # Errors
/// [`Error::Missing`] if the tokenizer has too few words; [`Error::Task`] for a multiple-choice task; [`Error::NotFinite`] if a
/// logit is not finite; [`Error::Interrupted`].
pub fn measure(study: &Study, seed: u64) -> Result<Vec<Measured>> {
    if study.task.definition.is_choice() {
        let problem = "unrelated label words are a control of this test, but a multiple choice has no label words";
        return Err(Error::task(&study.task.definition.name, problem));
    }
    let labels: Vec<usize> = SPLITS.into_iter().flat_map(|split| study.labels(split).to_vec()).collect();
    let logits = over_splits(|split| {
        let own = all_outputs(&study.parameters, &study.examples(split, OutputMode::Logits)?, BATCH)?;
        study.check_finite(&own, split)?;
        Ok(own)
    })?;
    let classes = study.classes();
    let mut measured = vec![
        average(Variant::Task, [(labels.clone(), logits.shallow_clone())]),
        average(Variant::PermutedLabels, (0..DRAWS).map(|d| (relabelled(&labels, seed, d), logits.shallow_clone()))),
    ];
    let by_draw = |logits: Tensor| logits.chunk(DRAWS as i64, 1).into_iter().map(|logits| (labels.clone(), logits));
    let logits = if study.is_answered() {
        let draw = |draw| {
            let words = unrelated_answers(study, seed, draw)?;
            over_splits(|split| {
                all_outputs(&study.parameters, &study.answered_for(split, &words, OutputMode::Logits)?, BATCH)
            })
        };
        Tensor::cat(&(0..DRAWS).map(draw).collect::<Result<Vec<_>>>()?, 1)
    } else {
        // One pass gives the outputs for all draws: they differ only in the last map.
        let chosen = unrelated_words(study, seed, DRAWS)?;
        over_splits(|split| {
            all_outputs(&study.parameters, &study.examples_for(split, &chosen, OutputMode::Logits)?, BATCH)
        })?
    };
    measured.push(average(Variant::UnrelatedWords, by_draw(logits)));
    let head = |draw: usize| random_head(study, classes, named_seed(seed, &format!("head {draw}")));
    let heads = Tensor::cat(&(0..DRAWS).map(head).collect::<Vec<_>>(), 0);
    let parameters = with_head(&study.parameters, &heads, None);
    let logits = over_splits(|split| all_outputs(&parameters, &study.head_examples(split, DRAWS * classes)?, BATCH))?;
    measured.push(average(Variant::RandomHead, by_draw(logits)));
    Ok(measured)
}

/// All sets of examples.
const SPLITS: [SplitName; 3] = [SplitName::Train, SplitName::Dev, SplitName::Test];

/// Outputs for all splits, one after another.
fn over_splits(outputs: impl Fn(SplitName) -> Result<Tensor>) -> Result<Tensor> {
    Ok(Tensor::cat(&SPLITS.into_iter().map(outputs).collect::<Result<Vec<_>>>()?, 0))
}

/// A random head \[C, hidden\] in muP: entries are of order 1/n, so that its outputs vanish with width.
fn random_head(study: &Study, outputs: usize, seed: u64) -> Tensor {
    let width = study.model.facts().width;
    normal_tensor(&[outputs as i64, width], 8.0 / width as f64, seed, 0, Kind::Double, study.device)
}

/// Words of the vocabulary that are not the task's: for each of `draws`, as many as it has labels, one draw after another.
/// Equal tokenizers get equal words.
///
/// # Errors
/// [`Error::Missing`] if the tokenizer has too few words.
fn unrelated_words(study: &Study, seed: u64, draws: usize) -> Result<Vec<i64>> {
    let words = words_of(study)?;
    Ok((0..draws).flat_map(|draw| unrelated(study, &words, seed, draw, study.classes())).collect())
}

/// One draw: for each label as many consecutive words as its own has tokens.
fn unrelated_answers(study: &Study, seed: u64, draw: usize) -> Result<Vec<Vec<i64>>> {
    let lengths: Vec<usize> = study.task.words.iter().map(Vec::len).collect();
    let mut drawn = unrelated(study, &words_of(study)?, seed, draw, lengths.iter().sum()).into_iter();
    Ok(lengths.into_iter().map(|length| drawn.by_ref().take(length).collect()).collect())
}

/// Words of one draw: different from one another and from the label words.
fn unrelated(study: &Study, words: &[i64], seed: u64, draw: usize, count: usize) -> Vec<i64> {
    let mut rng = ChaCha8Rng::seed_from_u64(named_seed(seed, &format!("unrelated words {draw}")));
    let mut chosen: Vec<i64> = Vec::with_capacity(count);
    while chosen.len() < count {
        let word = words[rng.random_range(0..words.len())];
        if !chosen.contains(&word) && !study.task.words.iter().flatten().any(|known| *known == word) {
            chosen.push(word);
        }
    }
    chosen
}

/// Ids of tokens that count as words.
fn words_of(study: &Study) -> Result<Vec<i64>> {
    let tokens = (0..study.model.facts().vocab_size).filter_map(|id| Some((id, study.tokenizer.id_to_token(id)?)));
    let words = words(&tokens.collect::<Vec<_>>());
    if words.len() < WORDS {
        let needed = format!("unrelated label words are drawn at random, and the tokenizer has {}", words.len());
        return Err(Error::Missing { what: "words to draw from".into(), needed });
    }
    Ok(words)
}

/// Tokens of more than two letters and nothing else, which in a vocabulary that marks where words begin have such a mark: without it
/// they are pieces of words.
fn words(tokens: &[(i64, String)]) -> Vec<i64> {
    let is_word = |text: &str| text.chars().count() > 2 && text.chars().all(char::is_alphabetic);
    let of = |counts: &dyn Fn(&str) -> bool| -> Vec<i64> {
        tokens.iter().filter(|(_, text)| counts(text)).map(|(id, _)| *id).collect()
    };
    let marked = of(&|text| text.strip_prefix(MARKS).is_some_and(is_word));
    if marked.len() >= WORDS { marked } else { of(&is_word) }
}

/// Means over draws, each with its labels and logits \[N, C\].
fn average(variant: Variant, draws: impl IntoIterator<Item = (Vec<usize>, Tensor)>) -> Measured {
    let (mut count, mut right, mut chi) = (0.0, 0.0, Vec::new());
    for (labels, logits) in draws {
        count += 1.0;
        right += accuracy(&logits, &labels);
        chi.resize(labels.len(), 0.0);
        for (sum, size) in chi.iter_mut().zip(output_derivative_sizes(&logits, &labels)) {
            *sum += size;
        }
    }
    Measured { variant, accuracy: right / count, chi: chi.into_iter().map(|sum| sum / count).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails for pieces of words that count as words, and for vocabularies of which only pieces do.
    #[test]
    fn pieces_are_no_words() {
        // Three letters each, different ones.
        let letters = |i: usize| [i / 26, i % 26, 1].map(|l| char::from(b'a' + l as u8)).iter().collect::<String>();
        let of = |word: &dyn Fn(String) -> String, piece: &dyn Fn(String) -> String| {
            let texts = (0..300).map(|i| if i % 2 == 0 { word(letters(i)) } else { piece(letters(i)) });
            words(&texts.enumerate().map(|(id, text)| (id as i64, text)).collect::<Vec<_>>())
        };
        let even: Vec<i64> = (0..300).step_by(2).collect();
        assert_eq!(of(&|w| format!("Ġ{w}"), &|w| w), even, "byte-level");
        assert_eq!(of(&|w| format!("▁{w}"), &|w| w), even, "SentencePiece");
        assert_eq!(of(&|w| w, &|w| format!("##{w}")), even, "WordPiece");
        // A letter of Maltese is no mark.
        assert_eq!(words(&[(0, "Ġgantija".into()), (1, "the".into()), (2, "##the".into()), (3, "is".into())]), [0, 1]);
    }
}
