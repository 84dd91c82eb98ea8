//! A study: a loaded model and a prompted task that fit each other.

use std::rc::Rc;

use tch::{Device, Tensor};

use super::adapters::{AdapterRequest, Adapters};
use super::facts::set_facts;
use super::head::{self, Head};
use super::pretrained::Pretrained;
use crate::device::Dtype;
use crate::error::{Error, Result};
use crate::evidence::{ModelFacts, SetFacts};
use crate::files::digest;
use crate::jacobian::{Parameters, Subset};
use crate::lm::{LanguageModel, OutputMode, Reads, with_head};
use crate::setting::Field;
use crate::subspace::{Lora, Trained};
use crate::task::{Prompt, PromptTokenizer, PromptedTask, Reading, Splits, TaskDefinition};

/// One of the three sets of examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
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

/// What to study.
pub struct StudyRequest<'a> {
    /// The network.
    pub network: &'a Pretrained,
    /// What reads it.
    pub head: Head,
    /// Parameters that take part, where there are no adapters.
    pub subset: Subset,
    /// Adapters that take part in their place.
    pub adapters: Option<&'a AdapterRequest>,
    /// What f is; by default the difference for two classes, logits otherwise.
    pub output_mode: Option<OutputMode>,
    /// The task.
    pub definition: &'a TaskDefinition,
    /// Its examples.
    pub splits: &'a Splits,
    /// Name of the data for files that others read: no path.
    pub source: String,
    /// Examples per class, where known.
    pub k: Option<usize>,
    /// Seed of the split, where it has one; a random head is drawn from it.
    pub split_seed: Option<u64>,
}

impl<'a> StudyRequest<'a> {
    /// A network on a task through its prompt: all parameters, f as the number of classes asks for it, no seed.
    pub fn new(network: &'a Pretrained, definition: &'a TaskDefinition, splits: &'a Splits) -> Self {
        Self {
            network,
            head: Head::Prompt,
            subset: Subset::All,
            adapters: None,
            output_mode: None,
            definition,
            splits,
            source: definition.name.clone(),
            k: None,
            split_seed: None,
        }
    }
}

/// A model and a task, checked against each other.
pub struct Study {
    /// The network.
    pub model: Rc<dyn LanguageModel>,
    /// Its pre-trained parameters, and behind them those of a new head.
    pub parameters: Parameters,
    /// Device of the parameters.
    pub device: Device,
    /// Element type of the parameters.
    pub dtype: Dtype,
    /// Which parameters take part, in order.
    pub include: Vec<bool>,
    /// What f is in the kernels.
    pub mode: OutputMode,
    /// What reads the network.
    pub head: Head,
    /// The checkpoint's tokenizer.
    pub tokenizer: Rc<PromptTokenizer>,
    /// The encoded task.
    pub task: PromptedTask,
    /// Facts about the model for the report.
    pub model_facts: ModelFacts,
    /// Digest of program and libtorch versions, weights, configuration, prompts and what f is.
    pub digest: String,
    pub(super) tokenizer_digest: String,
    pub(super) reading: Reading,
    subset: Subset,
    adapters: Option<Lora>,
    /// Title and identity of the adapters; empty without.
    adapter_texts: [String; 2],
    labels: [Vec<usize>; 3],
    pub(super) source: String,
    /// The sets that are not empty, by [`SplitName`].
    pub(super) sets: Vec<SetFacts>,
    pub(super) notes: Vec<String>,
    pub(super) k: Option<usize>,
    pub(super) split_seed: Option<u64>,
}

impl Study {
    /// Encodes the task for the network and makes the head.
    ///
    /// # Errors
    /// Those of the task's encoding; prompts that the model cannot take; an empty split; a linear probe that fails.
    pub fn new(request: StudyRequest<'_>) -> Result<Self> {
        let StudyRequest { network, head, definition, splits, .. } = request;
        let mut notes = splits.notes.clone();
        let reading = match (network.model.facts().reads, head) {
            (Reads::Mask, Head::Prompt) => Reading::Mask,
            (Reads::Mask, _) => Reading::FirstTokenAlone,
            (Reads::LastToken, Head::Prompt) => {
                notes.push(
                    "The model is causal: a prompt is what stands in front of the template's mask, and f is read at its \
                     last token."
                        .into(),
                );
                Reading::LastToken
            }
            (Reads::LastToken, _) => Reading::LastTokenAlone,
        };
        let task = PromptedTask::read_at(reading, definition, &network.tokenizer, splits)?;
        notes.extend(task.notes.iter().cloned());
        let classes = definition.label_words.len();
        let mode =
            request.output_mode.unwrap_or(if classes == 2 { OutputMode::Difference } else { OutputMode::Logits });
        let mut study = Self {
            digest: String::new(),
            labels: [labels(&task.train), labels(&task.dev), labels(&task.test)],
            model: Rc::clone(&network.model),
            parameters: network.parameters.map(Tensor::shallow_clone),
            device: network.device,
            dtype: network.dtype,
            include: Vec::new(),
            mode,
            tokenizer_digest: network.tokenizer.digest()?,
            head,
            tokenizer: Rc::clone(&network.tokenizer),
            task,
            model_facts: network.facts.clone(),
            reading,
            subset: request.subset,
            adapters: None,
            adapter_texts: Default::default(),
            source: request.source,
            sets: set_facts(splits),
            notes,
            k: request.k,
            split_seed: request.split_seed,
        };
        for split in study.splits() {
            if study.labels(*split).is_empty() {
                return Err(Error::Settings(format!(
                    "the {} set is empty; an analysis needs examples in train, dev and test (is {} 0?)",
                    split.name(),
                    Field::TestLimit
                )));
            }
            study.check_lengths(*split)?;
            study.examples(*split, mode)?;
        }
        study.make_head()?;
        if let Some(request) = request.adapters {
            study.adapt(request)?;
        }
        study.digest = study.compute_digest();
        Ok(study)
    }

    /// Puts the new head behind the parameters, and marks which parameters take part.
    fn make_head(&mut self) -> Result<()> {
        let mut read = vec![true; self.parameters.len()];
        if self.head != Head::Prompt {
            let (weight, bias) = match self.head {
                Head::LinearProbe if self.is_undivided() => {
                    return Err(Error::Settings(
                        "a linear probe is chosen on a dev set, and all rows of a file that is not divided have none; take \
                         another head, or divide the file"
                            .into(),
                    ));
                }
                Head::LinearProbe => {
                    let probed = |split| -> Result<head::Probed<'_>> {
                        let features = self.plain_head(split, self.mode)?.features(&self.parameters, 64);
                        self.check_finite(&features, split)?;
                        Ok(head::Probed { features, labels: self.labels(split) })
                    };
                    head::linear_probe(&probed(SplitName::Train)?, &probed(SplitName::Dev)?, self.classes())?
                }
                _ => head::random(self.classes(), self.model.facts().width, self.split_seed.unwrap_or(0)),
            };
            self.parameters = with_head(&self.parameters, &weight, Some(&bias));
            read = head::read(&self.parameters, 2);
        }
        let specs = self.parameters.specs();
        self.include = specs.iter().zip(read).map(|(s, read)| read && self.subset.contains(s)).collect();
        self.count_parameters();
        Ok(())
    }

    fn count_parameters(&mut self) {
        let chosen = self.parameters.specs().iter().zip(&self.include).filter(|(_, k)| **k);
        self.model_facts.parameters_in_subset = chosen.map(|(s, _)| s.numel()).sum();
        self.model_facts.parameters = self.parameters.numel();
    }

    /// Puts adapters on the network; they take part, and a new head with them.
    fn adapt(&mut self, request: &AdapterRequest) -> Result<()> {
        let architecture = self.model.facts().architecture;
        let Adapters { lora, extended, title, identity, note } =
            Adapters::of(request, architecture, &self.parameters, self.split_seed.unwrap_or(0))?;
        let mut include = lora.include(Trained::Adapters);
        include[self.model.specs().len()..self.parameters.len()].fill(true);
        self.parameters = extended;
        self.include = include;
        self.adapters = Some(lora);
        self.adapter_texts = [title, identity];
        self.notes.extend(note);
        self.count_parameters();
        Ok(())
    }

    /// The adapters, if there are any.
    pub fn adapters(&self) -> Option<&Lora> {
        self.adapters.as_ref()
    }

    /// Whether the training examples are all rows of a file, without dev and test.
    pub fn is_undivided(&self) -> bool {
        self.sets.len() == 1
    }

    /// The sets of examples that there are.
    pub(super) fn splits(&self) -> &'static [SplitName] {
        let all = &[SplitName::Train, SplitName::Dev, SplitName::Test];
        if self.is_undivided() { &all[..1] } else { all }
    }

    /// Number of classes C.
    pub fn classes(&self) -> usize {
        self.task.definition.label_words.len()
    }

    /// Fails when a prompt is longer than the model's position table, naming its row.
    fn check_lengths(&self, split: SplitName) -> Result<()> {
        let max = self.model.facts().max_tokens;
        let length = |p: &Prompt| self.task.length(p);
        match self.prompts(split).iter().find(|p| length(p) as i64 > max) {
            None => Ok(()),
            Some(p) => Err(Error::Settings(format!(
                "{}, row {}: the prompt has {} tokens, the model's position table covers {max}; set {} to {max} or less",
                split.name(),
                p.row,
                length(p),
                Field::MaxLength
            ))),
        }
    }

    /// Examples per batch of the kernel engine where nothing else is asked for: 32, fewer where every example has several
    /// outputs (a batch's gradients cost as much as its examples times outputs).
    pub fn default_batch(&self) -> usize {
        let outputs = if self.mode == OutputMode::Difference { 1 } else { self.classes().max(1) };
        (64 / outputs).clamp(4, 32)
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

    /// The model as a masked one.
    ///
    /// # Errors
    /// [`Error::Settings`] where it is a causal one.
    pub fn masked(&self) -> Result<&dyn LanguageModel> {
        let facts = self.model.facts();
        if facts.reads == Reads::Mask {
            return Ok(&*self.model);
        }
        Err(Error::Settings(format!(
            "the model {} is a causal language model ({}); this needs a masked one (bert, roberta)",
            self.model_facts.name, facts.architecture
        )))
    }

    /// Name of the parameters that take part.
    pub fn subset_name(&self) -> String {
        if self.adapters.is_some() {
            return self.adapter_texts[0].clone();
        }
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
            "the model's output for {} row {row} is not finite: the network overflows in {}{}",
            split.name(),
            self.dtype,
            if self.dtype == Dtype::F32 { format!(" (try {} f64)", Field::Dtype) } else { String::new() }
        )))
    }

    fn compute_digest(&self) -> String {
        let config = self.model.settings();
        let mut text = format!(
            "{} {} {} {config} {} {} {:?} {:?} {} {:?} {:?}{}",
            env!("CARGO_PKG_VERSION"),
            crate::device::TORCH_VERSION,
            self.model_facts.digest,
            self.dtype,
            crate::device::device_kind(self.device),
            self.mode,
            self.subset,
            self.task.words_text(),
            self.head,
            self.split_seed.filter(|_| self.head == Head::Random),
            self.adapter_texts[1]
        );
        text.push_str(&self.prompts_text());
        digest([text.as_bytes()])
    }
}

fn labels(prompts: &[Prompt]) -> Vec<usize> {
    prompts.iter().map(|p| p.label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrain::family_directory;
    use crate::task::{demo, demo_definition};

    /// Processes of one job that each take a GPU of their own work on one study.
    #[test]
    fn which_of_several_gpus_is_not_in_the_digest() {
        let network = Pretrained::load(&family_directory().join("prose-64"), Dtype::F32, Device::Cpu);
        let (network, task, splits) = (network.expect("a network"), demo_definition().expect("a task"), demo());
        let splits = splits.expect("its examples");
        let mut study = Study::new(StudyRequest::new(&network, &task, &splits)).expect("a study");
        let mut on = |device| {
            study.device = device;
            study.compute_digest()
        };
        assert_eq!(on(Device::Cuda(0)), on(Device::Cuda(3)));
        assert_ne!(on(Device::Cuda(0)), on(Device::Cpu));
    }
}
