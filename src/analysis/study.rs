//! A study: a loaded model and a prompted task that match.

use std::path::Path;
use std::rc::Rc;

use tch::{Device, Tensor};

use super::adapters::{AdapterRequest, Adapters};
use super::head::{self, Head};
use super::pretrained::Pretrained;
use super::splits::{SplitName, names, prompts, set_facts, source, token_examples};
use crate::device::Dtype;
use crate::error::{Error, Result};
use crate::evidence::{ModelFacts, SetFacts};
use crate::files::digest;
use crate::jacobian::{FORWARD_BATCH, Parameters, Subset};
use crate::lm::{HeadExamples, LanguageModel, OutputMode, Reads, with_head};
use crate::setting::Field;
use crate::subspace::{Lora, Trained};
use crate::task::{Prompt, PromptTokenizer, PromptedTask, Reading, Splits, TaskDefinition};

/// What to study.
pub struct StudyRequest<'a> {
    /// The network.
    pub network: &'a Pretrained,
    /// How it is read.
    pub head: Head,
    /// Included parameters, if there are no adapters.
    pub subset: Subset,
    /// Adapters that are included in their place.
    pub adapters: Option<&'a AdapterRequest>,
    /// The output f; by default the difference for two classes, logits otherwise.
    pub output_mode: Option<OutputMode>,
    /// The task.
    pub definition: &'a TaskDefinition,
    /// Its examples.
    pub splits: &'a Splits,
    /// Name of the data in files for others: no path.
    pub source: String,
    /// Examples per class, if known.
    pub k: Option<usize>,
    /// Seed of the split, if it has one; a random head is drawn from it.
    pub split_seed: Option<u64>,
}

impl<'a> StudyRequest<'a> {
    /// A network on a task through its prompt: all parameters, the default f, no seed.
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
    /// Its pre-trained parameters, followed by those of a new head.
    pub parameters: Parameters,
    /// Device of the parameters.
    pub device: Device,
    /// Element type of the parameters.
    pub dtype: Dtype,
    /// Which parameters are included, in order.
    pub include: Vec<bool>,
    /// The output f in the kernels.
    pub mode: OutputMode,
    /// How the network is read.
    pub head: Head,
    /// The checkpoint's tokenizer.
    pub tokenizer: Rc<PromptTokenizer>,
    /// The encoded task.
    pub task: PromptedTask,
    /// Facts about the model for the report.
    pub model_facts: ModelFacts,
    pub(super) tokenizer_digest: String,
    pub(super) reading: Reading,
    subset: Subset,
    adapters: Option<StudyAdapters>,
    labels: [Vec<usize>; 3],
    pub(super) source: String,
    /// The sets that are not empty, by [`SplitName`].
    pub(super) sets: Vec<SetFacts>,
    pub(super) notes: Vec<String>,
    pub(super) k: Option<usize>,
    pub(super) split_seed: Option<u64>,
}

/// The adapters of a study, with their entries in reports and digests.
struct StudyAdapters {
    lora: Lora,
    title: String,
    identity: String,
}

impl Study {
    /// Encodes the task for the network and creates the head.
    ///
    /// # Errors
    /// Those of the task's encoding; prompts that the model does not accept; an empty split; a linear probe that fails.
    pub fn new(request: StudyRequest<'_>) -> Result<Self> {
        let StudyRequest { network, head, definition, splits, subset, .. } = request;
        let facts = network.model.facts();
        let mut notes = splits.notes.clone();
        let reading = match (facts.reads, head) {
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
        let positions = usize::try_from(facts.max_tokens).ok();
        let task = PromptedTask::read_within(positions, reading, definition, &network.tokenizer, splits)?;
        notes.extend(task.notes.iter().cloned());
        let sets = set_facts(splits);
        for split in names(&sets) {
            check_prompts(&task, source(splits, *split), *split, facts.max_tokens)?;
        }
        let classes = definition.label_words.len();
        let usual = if classes == 2 { OutputMode::Difference } else { OutputMode::Logits };
        let mode = request.output_mode.unwrap_or(usual);
        let seed = request.split_seed.unwrap_or(0);

        let headed = match head {
            Head::Prompt => None,
            Head::LinearProbe => Some(probe(network, &task, &sets, mode)?),
            Head::Random => Some(head::random(classes, facts.width, seed)),
        };
        let (parameters, read) = match headed {
            None => (network.parameters.map(Tensor::shallow_clone), vec![true; network.parameters.len()]),
            Some((weight, bias)) => {
                let parameters = with_head(&network.parameters, &weight, Some(&bias));
                let read = head::read(&parameters, 2);
                (parameters, read)
            }
        };
        let (parameters, include, adapters) = match request.adapters {
            None => {
                let include = parameters.specs().iter().zip(read).map(|(s, read)| read && subset.contains(s)).collect();
                (parameters, include, None)
            }
            // They are included, and a new head with them.
            Some(asked) => {
                let Adapters { lora, extended, title, identity, note } =
                    Adapters::of(asked, facts.architecture, &parameters, seed)?;
                let mut include = lora.include(Trained::Adapters);
                include[network.parameters.len()..parameters.len()].fill(true);
                notes.extend(note);
                (extended, include, Some(StudyAdapters { lora, title, identity }))
            }
        };
        let chosen = parameters.specs().iter().zip(&include).filter(|(_, included)| **included);
        let model_facts = ModelFacts {
            parameters: parameters.numel(),
            parameters_in_subset: chosen.map(|(spec, _)| spec.numel()).sum(),
            ..network.facts.clone()
        };
        let study = Self {
            model: Rc::clone(&network.model),
            parameters,
            device: network.device,
            dtype: network.dtype,
            include,
            mode,
            head,
            tokenizer: Rc::clone(&network.tokenizer),
            labels: [labels(&task.train), labels(&task.dev), labels(&task.test)],
            task,
            model_facts,
            tokenizer_digest: network.tokenizer.digest()?,
            reading,
            subset,
            adapters,
            source: request.source,
            sets,
            notes,
            k: request.k,
            split_seed: request.split_seed,
        };
        // Errors of examples are reported now.
        for split in study.splits() {
            study.examples(*split, mode)?;
        }
        Ok(study)
    }

    /// The adapters, if there are any.
    pub fn adapters(&self) -> Option<&Lora> {
        self.adapters.as_ref().map(|adapters| &adapters.lora)
    }

    /// Whether all rows of a file are training examples, without dev and test.
    pub fn is_undivided(&self) -> bool {
        self.sets.len() == 1
    }

    /// The sets of examples that exist.
    pub(super) fn splits(&self) -> &'static [SplitName] {
        names(&self.sets)
    }

    /// Number of classes C.
    pub fn classes(&self) -> usize {
        self.task.definition.label_words.len()
    }

    /// Default number of examples per batch of the kernel engine: 32, fewer if every example has several outputs (a batch's
    /// gradients cost as much as its examples times outputs).
    pub fn default_batch(&self) -> usize {
        let outputs = if self.mode == OutputMode::Difference { 1 } else { self.classes().max(1) };
        (64 / outputs).clamp(4, 32)
    }

    /// The prompts of a split.
    pub fn prompts(&self, split: SplitName) -> &[Prompt] {
        prompts(&self.task, split)
    }

    /// Class indices of a split.
    pub fn labels(&self, split: SplitName) -> &[usize] {
        &self.labels[split as usize]
    }

    /// Name of the included parameters.
    pub fn subset_name(&self) -> String {
        if let Some(adapters) = &self.adapters {
            return adapters.title.clone();
        }
        serde_json::to_value(self.subset).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Fails if a logit is not finite, naming split and row.
    pub fn check_finite(&self, logits: &Tensor, split: SplitName) -> Result<()> {
        check_finite(logits, split, self.prompts(split), self.dtype)
    }

    /// Digest of program and libtorch versions, weights, configuration, prompts and the kind of f.
    pub fn digest(&self) -> String {
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
            self.adapters.as_ref().map_or("", |adapters| &adapters.identity)
        );
        text.push_str(&self.prompts_text());
        digest([text.as_bytes()])
    }
}

/// Fails if a split is empty or has a prompt longer than the model's position table.
fn check_prompts(task: &PromptedTask, file: &Path, split: SplitName, most: i64) -> Result<()> {
    let prompts = prompts(task, split);
    if prompts.is_empty() {
        return Err(Error::Missing {
            what: format!("{} examples", split.name()),
            needed: format!("an analysis needs some in train, dev and test (is {} 0?)", Field::TestLimit),
        });
    }
    match prompts.iter().find(|p| task.length(p) as i64 > most) {
        None => Ok(()),
        Some(p) => Err(Error::TooLong {
            example: format!("{}, row {}: the prompt", file.display(), p.row),
            tokens: task.length(p),
            most,
        }),
    }
}

fn check_finite(logits: &Tensor, split: SplitName, prompts: &[Prompt], dtype: Dtype) -> Result<()> {
    let bad = logits.isfinite().logical_not().nonzero();
    if bad.size()[0] == 0 {
        return Ok(());
    }
    let row = prompts[bad.int64_value(&[0, 0]) as usize].row;
    let further = if dtype == Dtype::F32 { format!(" (try {} f64)", Field::Dtype) } else { String::new() };
    Err(Error::NotFinite {
        what: "the model's output".into(),
        place: format!("{} row {row}", split.name()),
        advice: format!("the network overflows in {dtype}{further}"),
    })
}

/// Weight and bias of a linear probe on the pre-trained network's features, with its strength chosen on dev.
fn probe(network: &Pretrained, task: &PromptedTask, sets: &[SetFacts], mode: OutputMode) -> Result<(Tensor, Tensor)> {
    if names(sets).len() == 1 {
        let needed = "a linear probe is chosen on them, and a file that is not divided has none; take another head, or divide \
                      the file";
        return Err(Error::Missing { what: "dev examples".into(), needed: needed.into() });
    }
    let classes = task.definition.label_words.len();
    let [train, dev] = [SplitName::Train, SplitName::Dev].map(|split| -> Result<(Tensor, Vec<usize>)> {
        let prompts = prompts(task, split);
        let examples = HeadExamples::new(&*network.model, token_examples(prompts), classes, mode, network.device)?;
        let features = examples.features(&network.parameters, FORWARD_BATCH);
        check_finite(&features, split, prompts, network.dtype)?;
        Ok((features, labels(prompts)))
    });
    let ((train, train_labels), (dev, dev_labels)) = (train?, dev?);
    let train = head::Probed { features: train, labels: &train_labels };
    head::linear_probe(&train, &head::Probed { features: dev, labels: &dev_labels }, classes)
}

fn labels(prompts: &[Prompt]) -> Vec<usize> {
    prompts.iter().map(|p| p.label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrain::family_directory;
    use crate::task::{demo, demo_definition};

    /// Processes of one job, each with its own GPU, work on one study.
    #[test]
    fn which_of_several_gpus_is_not_in_the_digest() {
        let network = Pretrained::load(&family_directory().join("prose-64"), Dtype::F32, Device::Cpu);
        let (network, task, splits) = (network.expect("a network"), demo_definition().expect("a task"), demo());
        let splits = splits.expect("its examples");
        let mut study = Study::new(StudyRequest::new(&network, &task, &splits)).expect("a study");
        let mut on = |device| {
            study.device = device;
            study.digest()
        };
        assert_eq!(on(Device::Cuda(0)), on(Device::Cuda(3)));
        assert_ne!(on(Device::Cuda(0)), on(Device::Cpu));
    }
}
