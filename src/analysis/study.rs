//! A study: a loaded model and a prompted task that fit each other.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tch::{Device, Tensor};

use crate::device::Dtype;
use crate::error::{Error, Result};
use crate::evidence::{LabelWordFacts, ModelFacts, TaskFacts};
use crate::files::digest;
use crate::jacobian::{Parameters, Subset};
use crate::kernel::Formula;
use crate::lm::{HeadExamples, LanguageModel, MaskedLm, OutputMode, PromptExample, PromptExamples, Reads};
use crate::task::{Prompt, PromptTokenizer, PromptedTask, Reading, SpecialToken, Splits, TaskDefinition};

/// One of the three sets of examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SplitName {
    /// Training examples.
    Train,
    /// Examples that settings are chosen on.
    Dev,
    /// Examples that results are reported on.
    Test,
}

impl SplitName {
    /// Name in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }
}

/// What to load.
pub struct StudyRequest<'a> {
    /// Checkpoint directory.
    pub model: &'a Path,
    /// Element type.
    pub dtype: Dtype,
    /// Device.
    pub device: Device,
    /// Parameters that take part.
    pub subset: Subset,
    /// What f is; by default the difference for two classes, logits otherwise.
    pub output_mode: Option<OutputMode>,
    /// The task.
    pub definition: &'a TaskDefinition,
    /// Its examples.
    pub splits: &'a Splits,
    /// Where they come from, for the report.
    pub source: String,
    /// Examples per class, where known.
    pub k: Option<usize>,
    /// Seed of the split, where it has one.
    pub split_seed: Option<u64>,
}

/// A model and a task, checked against each other.
pub struct Study {
    /// The network.
    pub model: Box<dyn LanguageModel>,
    /// Its pre-trained parameters.
    pub parameters: Parameters,
    /// Device of the parameters.
    pub device: Device,
    /// Element type of the parameters.
    pub dtype: Dtype,
    /// Which parameters take part, in order.
    pub include: Vec<bool>,
    /// What f is in the kernels.
    pub mode: OutputMode,
    /// The checkpoint's tokenizer.
    pub tokenizer: PromptTokenizer,
    /// The encoded task.
    pub task: PromptedTask,
    /// Facts about the model for the report.
    pub model_facts: ModelFacts,
    /// Digest of program and libtorch versions, weights, configuration, prompts and what f is.
    pub digest: String,
    tokenizer_digest: String,
    subset: Subset,
    labels: [Vec<usize>; 3],
    source: String,
    notes: Vec<String>,
    k: Option<usize>,
    split_seed: Option<u64>,
}

impl Study {
    /// Loads model, tokenizer and prompts.
    ///
    /// # Errors
    /// Those of the loaders; a tokenizer that does not belong to the model; prompts that the model cannot take.
    pub fn load(request: StudyRequest<'_>) -> Result<Self> {
        let (model, parameters) = crate::lm::load(request.model, request.dtype.kind(), request.device)?;
        let tokenizer = PromptTokenizer::from_dir(request.model)?;
        if tokenizer.max_token_id() >= model.facts().vocab_size {
            return Err(Error::format(
                tokenizer.source(),
                format!(
                    "the tokenizer's largest token id is {}, but the model's vocabulary has {} entries (vocab_size in \
                     config.json): the tokenizer does not belong to this model",
                    tokenizer.max_token_id(),
                    model.facts().vocab_size
                ),
            ));
        }
        let mut notes = request.splits.notes.clone();
        let reading = match model.facts().reads {
            Reads::Mask => Reading::Mask,
            Reads::LastToken => {
                notes.push(
                    "The model is causal: a prompt is what stands in front of the template's mask, and f is read at its \
                     last token."
                        .into(),
                );
                Reading::LastToken
            }
        };
        let task = PromptedTask::read_at(reading, request.definition, &tokenizer, request.splits)?;
        let mode = request.output_mode.unwrap_or(if task.label_ids.len() == 2 {
            OutputMode::Difference
        } else {
            OutputMode::Logits
        });
        let include: Vec<bool> = parameters.specs().iter().map(|s| request.subset.contains(s)).collect();
        let model_facts = model_facts(request.model, &*model, &parameters, &include)?;
        let mut study = Self {
            digest: String::new(),
            labels: [labels(&task.train), labels(&task.dev), labels(&task.test)],
            model,
            parameters,
            device: request.device,
            dtype: request.dtype,
            include,
            mode,
            tokenizer_digest: tokenizer.digest()?,
            tokenizer,
            task,
            model_facts,
            subset: request.subset,
            source: request.source,
            notes,
            k: request.k,
            split_seed: request.split_seed,
        };
        study.digest = study.compute_digest();
        for split in [SplitName::Train, SplitName::Dev, SplitName::Test] {
            if study.labels(split).is_empty() {
                return Err(Error::Settings(format!(
                    "the {} set is empty; an analysis needs examples in train, dev and test (is --test-limit 0?)",
                    split.name()
                )));
            }
            study.check_lengths(split)?;
            study.examples(split, mode)?;
        }
        Ok(study)
    }

    /// Fails when a prompt is longer than the model's position table, naming its row.
    fn check_lengths(&self, split: SplitName) -> Result<()> {
        let max = self.model.facts().max_tokens;
        match self.prompts(split).iter().find(|p| p.input_ids.len() as i64 > max) {
            None => Ok(()),
            Some(p) => Err(Error::Settings(format!(
                "{}, row {}: the prompt has {} tokens, the model's position table covers {max}; set --max-length to {max} \
                 or less",
                split.name(),
                p.row,
                p.input_ids.len()
            ))),
        }
    }

    /// The prompts of a split.
    pub fn prompts(&self, split: SplitName) -> &[Prompt] {
        match split {
            SplitName::Train => &self.task.train,
            SplitName::Dev => &self.task.dev,
            SplitName::Test => &self.task.test,
        }
    }

    /// Class indices of a split.
    pub fn labels(&self, split: SplitName) -> &[usize] {
        &self.labels[split as usize]
    }

    /// The examples of a split with outputs of the given kind.
    pub fn examples(&self, split: SplitName, mode: OutputMode) -> Result<PromptExamples<'_>> {
        self.examples_for(split, &self.task.label_ids, mode)
    }

    /// The same with other label words, given as token ids.
    pub fn examples_for(&self, split: SplitName, words: &[i64], mode: OutputMode) -> Result<PromptExamples<'_>> {
        let examples = self
            .prompts(split)
            .iter()
            .map(|p| PromptExample {
                input_ids: p.input_ids.clone(),
                segment_ids: p.segment_ids.clone(),
                mask_position: p.mask_pos,
            })
            .collect();
        PromptExamples::new(&*self.model, examples, words, mode, self.device)
    }

    /// The examples of a split without a prompt's mask, read by a new head of some outputs on the first token.
    ///
    /// # Errors
    /// [`Error::Settings`] where the model is a causal one.
    pub fn head_examples(&self, split: SplitName, outputs: usize) -> Result<HeadExamples<'_>> {
        let mask = self.tokenizer.require(SpecialToken::Mask)?;
        let text = |p: &Prompt| p.input_ids.iter().copied().filter(|id| *id != mask).collect();
        HeadExamples::new(self.masked()?, self.prompts(split).iter().map(text).collect(), outputs, self.device)
    }

    /// The model as a masked one.
    ///
    /// # Errors
    /// [`Error::Settings`] where it is a causal one.
    pub fn masked(&self) -> Result<&MaskedLm> {
        self.model.masked().ok_or_else(|| {
            let (name, architecture) = (&self.model_facts.name, self.model.facts().architecture);
            Error::Settings(format!(
                "the model {name} is a causal language model ({architecture}); this needs a masked one (bert, roberta)"
            ))
        })
    }

    /// Name of the parameter subset.
    pub fn subset_name(&self) -> String {
        serde_json::to_value(self.subset).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Fails when a logit is not finite, naming split and row.
    pub fn check_finite(&self, logits: &Tensor, split: SplitName) -> Result<()> {
        let bad = logits.isfinite().logical_not().nonzero();
        if bad.size()[0] == 0 {
            return Ok(());
        }
        let row = self.prompts(split)[bad.int64_value(&[0, 0]) as usize].row;
        Err(Error::Numeric(format!(
            "the model's output for {} row {row} is not finite: the network overflows in {} (try --dtype f64)",
            split.name(),
            self.dtype
        )))
    }

    /// What a kernel file says of itself: train rows against the columns of a split, in these formulas.
    pub fn kernel_metadata(&self, columns: SplitName, formulas: &[Formula]) -> HashMap<String, String> {
        let facts = self.task_facts();
        let words: Vec<&str> = facts.label_words.iter().map(|w| w.word.as_str()).collect();
        let names: Vec<&str> = formulas.iter().map(|f| f.name()).collect();
        let number = |n: Option<u64>| n.map_or_else(|| "none".into(), |n| n.to_string());
        HashMap::from([
            ("model".to_owned(), self.model_facts.name.clone()),
            ("model_digest".to_owned(), self.model_facts.digest.clone()),
            ("task".to_owned(), facts.name),
            ("source".to_owned(), facts.source),
            ("template".to_owned(), facts.template),
            ("label_words".to_owned(), words.join(",")),
            ("k".to_owned(), number(self.k.map(|k| k as u64))),
            ("seed".to_owned(), number(self.split_seed)),
            ("rows".to_owned(), SplitName::Train.name().to_owned()),
            ("columns".to_owned(), columns.name().to_owned()),
            ("formula".to_owned(), names.join(",")),
            ("output_mode".to_owned(), facts.output_mode),
            ("subset".to_owned(), self.subset_name()),
            ("dtype".to_owned(), self.dtype.to_string()),
            ("program_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("torch_version".to_owned(), crate::device::TORCH_VERSION.to_owned()),
        ])
    }

    /// Facts about the task for the report.
    pub fn task_facts(&self) -> TaskFacts {
        let count = |split: SplitName, class: usize| self.labels(split).iter().filter(|l| **l == class).count();
        let words = self.task.definition.label_words.iter().zip(&self.task.label_ids).enumerate();
        let label_words: Vec<LabelWordFacts> = words
            .map(|(class, (pair, id))| LabelWordFacts {
                label: pair.label.clone(),
                word: pair.word.clone(),
                token_id: *id,
                train: count(SplitName::Train, class),
                test: count(SplitName::Test, class),
            })
            .collect();
        let most = label_words.iter().map(|w| w.test).max().unwrap_or(0);
        TaskFacts {
            name: self.task.definition.name.clone(),
            source: self.source.clone(),
            template: self.task.definition.template.to_string(),
            majority_accuracy: most as f64 / self.task.test.len().max(1) as f64,
            label_words,
            k: self.k,
            split_seed: self.split_seed,
            train: self.task.train.len(),
            dev: self.task.dev.len(),
            test: self.task.test.len(),
            longest_prompt: self.task.longest(),
            output_mode: match self.mode {
                OutputMode::Logits => "logits".into(),
                OutputMode::Difference => "difference".into(),
            },
            notes: self.notes.clone(),
            tokenizer_digest: self.tokenizer_digest.clone(),
            prompts_digest: digest([self.prompts_text().as_bytes()]),
        }
    }

    /// All prompts as token ids, with their labels.
    fn prompts_text(&self) -> String {
        let mut text = String::new();
        for split in [SplitName::Train, SplitName::Dev, SplitName::Test] {
            for p in self.prompts(split) {
                let row = (&p.input_ids, &p.segment_ids, p.mask_pos, p.label);
                let _ = write!(text, "\n{} {row:?}", split.name());
            }
        }
        text
    }

    fn compute_digest(&self) -> String {
        let config = self.model.settings();
        let mut text = format!(
            "{} {} {} {config} {} {} {:?} {:?} {:?}",
            env!("CARGO_PKG_VERSION"),
            crate::device::TORCH_VERSION,
            self.model_facts.digest,
            self.dtype,
            crate::device::device_name(self.device),
            self.mode,
            self.subset,
            self.task.label_ids
        );
        text.push_str(&self.prompts_text());
        digest([text.as_bytes()])
    }
}

fn labels(prompts: &[Prompt]) -> Vec<usize> {
    prompts.iter().map(|p| p.label).collect()
}

fn model_facts(
    directory: &Path,
    model: &dyn LanguageModel,
    parameters: &Parameters,
    include: &[bool],
) -> Result<ModelFacts> {
    let network = model.facts();
    let counted = parameters.specs().iter().zip(include).filter(|(_, k)| **k).map(|(s, _)| s.numel()).sum();
    let name = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf());
    Ok(ModelFacts {
        name: name.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        architecture: network.architecture.into(),
        parameters: parameters.numel(),
        parameters_in_subset: counted,
        layers: network.layers,
        width: network.width,
        digest: weights_digest(parameters),
        note: model_note(directory)?,
    })
}

/// Digest of the loaded parameters, whatever kind of file they came from.
fn weights_digest(parameters: &Parameters) -> String {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for (spec, value) in parameters.specs().iter().zip(parameters.values()) {
        // Double precision holds the values of either element type exactly.
        let exact = value.to_kind(tch::Kind::Double).to_device(Device::Cpu).contiguous().view(-1);
        let numbers = Vec::<f64>::try_from(exact).expect("a flat f64 tensor");
        let mut hash_input = spec.name.clone().into_bytes();
        hash_input.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
        parts.push(digest([hash_input.as_slice()]).into_bytes());
    }
    digest(parts.iter().map(Vec::as_slice))
}

/// What a checkpoint's `MODEL.md` says that a reader of results should know: its line beginning with `Note:`.
fn model_note(directory: &Path) -> Result<Option<String>> {
    let path: PathBuf = directory.join("MODEL.md");
    if !path.exists() {
        return Ok(None);
    }
    let text = crate::files::read_text(&path)?;
    Ok(text.lines().find_map(|l| l.strip_prefix("Note:")).map(|l| l.trim().to_owned()))
}
