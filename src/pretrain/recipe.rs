//! The recipe of a family: one TOML file with everything that the weights depend on.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::language::SENTENCE;
use super::vocabulary::language_vocabulary;
use crate::error::{Error, Result};
use crate::files::{digest, read_text, without_directory};
use crate::lm::{Activation, Architecture, ModelConfig, Parametrization, Scaling, StoredType};

/// Everything that a family of pre-trained networks depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the family; its networks are called `NAME-WIDTH`.
    pub name: String,
    /// Seed of initial weights, order of sequences and masks.
    pub seed: u64,
    /// Text from files; a recipe has either this or a language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corpus: Option<CorpusRecipe>,
    /// The language from which the text is drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<LanguageRecipe>,
    /// The networks.
    pub model: ModelRecipe,
    /// How they are trained.
    pub training: TrainingRecipe,
    /// The checks of the parametrization.
    #[serde(default)]
    pub checks: ChecksRecipe,
}

/// Location and digests of the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusRecipe {
    /// File to train on, one paragraph per line, plain or gzip; relative to the recipe unless a directory is given.
    pub train: PathBuf,
    /// File for the held-out loss.
    pub heldout: PathBuf,
    /// SHA-256 of the training file as stored, in hexadecimal.
    #[serde(default)]
    pub train_sha256: Option<String>,
    /// The same for the held-out file.
    #[serde(default)]
    pub heldout_sha256: Option<String>,
    /// Size of the byte-level BPE vocabulary, including special tokens.
    pub vocabulary: usize,
}

impl CorpusRecipe {
    /// The same with file names in place of paths, for reports.
    #[must_use]
    pub fn without_directories(&self) -> Self {
        let named = |path: &PathBuf| PathBuf::from(without_directory(path));
        Self { train: named(&self.train), heldout: named(&self.heldout), ..self.clone() }
    }
}

/// A language from which the text is drawn, see [`super::language`]; seed, sizes and name determine every word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageRecipe {
    /// Which language.
    pub name: LanguageName,
    /// Sentences to train on.
    pub sentences: usize,
    /// Sentences of the held-out text.
    pub heldout: usize,
}

/// Artificial languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LanguageName {
    /// A small grammar with agreement over distances and lexical classes.
    Agreement,
}

/// Sizes and parametrization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecipe {
    /// Widths n, from small to large.
    pub widths: Vec<i64>,
    /// Width for which the recipe's learning rate is stated.
    pub base_width: i64,
    /// Encoder layers.
    pub layers: i64,
    /// Dimension of a head: a network has n / dimension heads.
    pub head_dimension: i64,
    /// Tokens per sequence, including `<s>` and `</s>`.
    pub tokens: i64,
    /// How weights and rates scale with the width.
    #[serde(default)]
    pub scaling: Scaling,
    /// Standard deviation of the embedding tables' entries.
    pub embedding_deviation: f64,
    /// Amplitude of the waves that are the initial position vectors.
    pub position_amplitude: f64,
    /// Element type of the finished checkpoints.
    #[serde(default)]
    pub dtype: StoredType,
}

/// Optimizer, schedule and batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingRecipe {
    /// Number of Adam steps.
    pub steps: usize,
    /// Sequences per step.
    pub batch: usize,
    /// Masked tokens per sequence, each replaced by `<mask>`.
    pub masked: usize,
    /// Largest learning rate at the base width.
    pub learning_rate: f64,
    /// Share of the steps in which the rate rises linearly from zero; after them it falls linearly to zero.
    pub warmup: f64,
    /// Decay of Adam's first moment.
    pub beta1: f64,
    /// Decay of its second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Steps between evaluations of the held-out loss, after each of which the state is saved.
    pub evaluate_every: usize,
    /// Held-out sequences per evaluation.
    pub heldout_sequences: usize,
}

/// Sizes of the checks of the parametrization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChecksRecipe {
    /// Widths of the coordinate check.
    pub coordinate_widths: Vec<i64>,
    /// Seeds of the coordinate check.
    pub coordinate_seeds: usize,
    /// Learning rates of the sweep, at the base width.
    pub learning_rates: Vec<f64>,
    /// Widths of the sweep.
    pub sweep_widths: Vec<i64>,
    /// Steps of each run of the sweep.
    pub sweep_steps: usize,
    /// Sequences per step of the sweep.
    pub sweep_batch: usize,
}

impl Default for ChecksRecipe {
    fn default() -> Self {
        Self {
            coordinate_widths: vec![64, 128, 256, 512],
            coordinate_seeds: 4,
            learning_rates: vec![5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2],
            sweep_widths: vec![64, 128, 256],
            sweep_steps: 300,
            sweep_batch: 16,
        }
    }
}

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`], naming the wrong line or field.
    pub fn read(path: &Path) -> Result<Self> {
        let recipe: Self = toml::from_str(&read_text(path)?).map_err(|e| {
            let at = e.span().map(|s| s.start);
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let line = at.map(|at| format!("line {}: ", 1 + text[..at.min(text.len())].matches('\n').count()));
            Error::format(path, format!("{}{}", line.unwrap_or_default(), e.message()))
        })?;
        recipe.check().map_err(|message| Error::format(path, message))?;
        Ok(recipe)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let (m, t) = (&self.model, &self.training);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return Err(format!("name `{}` must be letters, digits, `-` and `_`: it names directories", self.name));
        }
        if m.widths.is_empty() || !m.widths.is_sorted_by(|a, b| a < b) {
            return Err("model.widths must be a growing list of widths".into());
        }
        let all = m.widths.iter().chain(&self.checks.coordinate_widths).chain(&self.checks.sweep_widths);
        for width in all.chain([&m.base_width]) {
            if *width < 1 || m.head_dimension < 1 || width % m.head_dimension != 0 {
                let d = m.head_dimension;
                return Err(format!("width {width} is not a positive multiple of model.head_dimension = {d}"));
            }
        }
        let at_least = |name: &str, value: i64, least: i64| {
            if value < least { Err(format!("{name} = {value} must be at least {least}")) } else { Ok(()) }
        };
        at_least("model.layers", m.layers, 1)?;
        at_least("model.tokens", m.tokens, 4)?;
        match (&self.corpus, &self.language) {
            (Some(corpus), None) => at_least("corpus.vocabulary", corpus.vocabulary as i64, 300)?,
            (None, Some(language)) => {
                let tokens = SENTENCE as i64 + 2;
                if m.tokens != tokens {
                    return Err(format!("model.tokens = {}, but a sentence of the language has {tokens}", m.tokens));
                }
                let batch = t.batch.max(self.checks.sweep_batch) as i64;
                at_least("language.sentences", language.sentences as i64, batch)?;
                at_least("language.heldout", language.heldout as i64, 1)?;
            }
            _ => return Err("a recipe has either a table [corpus] or a table [language]".into()),
        }
        at_least("training.steps", t.steps as i64, 1)?;
        at_least("training.batch", t.batch as i64, 1)?;
        at_least("training.masked", t.masked as i64, 1)?;
        at_least("training.evaluate_every", t.evaluate_every as i64, 1)?;
        at_least("training.heldout_sequences", t.heldout_sequences as i64, 1)?;
        if t.masked as i64 > m.tokens - 2 {
            return Err(format!("training.masked = {} exceeds the {} tokens of a sequence", t.masked, m.tokens - 2));
        }
        if self.vocabulary() > usize::from(u16::MAX) {
            return Err(format!("corpus.vocabulary = {} exceeds {}", self.vocabulary(), u16::MAX));
        }
        let positive = [
            ("training.learning_rate", t.learning_rate),
            ("model.embedding_deviation", m.embedding_deviation),
            ("model.position_amplitude", m.position_amplitude),
            ("training.epsilon", t.epsilon),
        ];
        for (name, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!("{name} = {value} must be positive"));
            }
        }
        for (name, value) in [("training.warmup", t.warmup), ("training.beta1", t.beta1), ("training.beta2", t.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(format!("{name} = {value} must be at least 0 and below 1"));
            }
        }
        Ok(())
    }

    /// The same recipe for other widths.
    ///
    /// # Errors
    /// A message about an impossible width.
    pub fn with_widths(&self, widths: &[i64]) -> std::result::Result<Self, String> {
        let mut widths = widths.to_vec();
        widths.sort_unstable();
        widths.dedup();
        let recipe = Self { model: ModelRecipe { widths, ..self.model.clone() }, ..self.clone() };
        recipe.check()?;
        Ok(recipe)
    }

    /// The same recipe with another seed.
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        Self { seed, ..self.clone() }
    }

    /// The same recipe with another number of steps.
    #[must_use]
    pub fn with_steps(&self, steps: usize) -> Self {
        Self { training: TrainingRecipe { steps, ..self.training.clone() }, ..self.clone() }
    }

    /// Size of the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.corpus.as_ref().map_or_else(language_vocabulary, |corpus| corpus.vocabulary)
    }

    /// Name of the network with this width.
    pub fn model_name(&self, width: i64) -> String {
        format!("{}-{width}", self.name)
    }

    /// Configuration of the network with this width.
    pub fn config(&self, width: i64) -> ModelConfig {
        ModelConfig {
            architecture: Architecture::Roberta,
            vocab_size: self.vocabulary() as i64,
            hidden_size: width,
            embedding_size: None,
            layers: self.model.layers,
            sharing: None,
            heads: width / self.model.head_dimension,
            intermediate_size: 4 * width,
            // RoBERTa counts positions from the padding token's id + 1.
            max_positions: self.model.tokens + 2,
            type_vocab_size: 1,
            layer_norm_eps: 1e-5,
            activation: Activation::Gelu,
            pad_token_id: 1,
            tied_decoder: false,
            mup_base_width: (self.model.scaling == Scaling::Mup).then_some(self.model.base_width),
        }
    }

    /// How the family scales.
    pub fn parametrization(&self) -> Parametrization {
        Parametrization {
            scaling: self.model.scaling,
            base_width: self.model.base_width,
            embedding_deviation: self.model.embedding_deviation,
        }
    }

    /// Factor of the learning rate in a step, counted from 0: a linear rise, then a linear fall to zero.
    pub fn schedule(&self, step: usize, steps: usize) -> f64 {
        let rise = (self.training.warmup * steps as f64).max(1.0);
        let at = step as f64 + 1.0;
        (at / rise).min((steps as f64 - step as f64) / (steps as f64 - rise).max(1.0)).min(1.0)
    }

    /// Digest of everything that the weights of one width depend on, including the corpus's digest and this program's version.
    pub fn digest(&self, width: i64, corpus: &str) -> String {
        // Other widths and the checks do not affect this width's weights.
        let model = ModelRecipe { widths: vec![width], ..self.model.clone() };
        let own = Self { model, checks: ChecksRecipe::default(), ..self.clone() };
        let text = serde_json::to_string(&own).expect("a recipe is plain data");
        digest([text.as_bytes(), corpus.as_bytes(), env!("CARGO_PKG_VERSION").as_bytes()])
    }
}
