//! The three sets of a task's examples: their names, their prompts, and their rows in which files.

use std::path::Path;

use crate::evidence::SetFacts;
use crate::lm::PromptExample;
use crate::task::{Example, Prompt, PromptedTask, Split, Splits};

/// One of the three sets of examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitName {
    /// Training examples.
    Train,
    /// Examples on which settings are chosen.
    Dev,
    /// Examples on which results are reported.
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

/// Name of the only set of an undivided file.
const ALL: &str = "all";

/// The sets that exist: all rows of an undivided file are training examples.
pub(super) fn names(sets: &[SetFacts]) -> &'static [SplitName] {
    let all = &[SplitName::Train, SplitName::Dev, SplitName::Test];
    if sets.len() == 1 { &all[..1] } else { all }
}

/// The prompts of a split.
pub(super) fn prompts(task: &PromptedTask, split: SplitName) -> &[Prompt] {
    match split {
        SplitName::Train => &task.train,
        SplitName::Dev => &task.dev,
        SplitName::Test => &task.test,
    }
}

/// The data file of a split, for messages.
pub(super) fn source(splits: &Splits, split: SplitName) -> &Path {
    match split {
        SplitName::Train => &splits.train.source,
        SplitName::Dev => &splits.dev.source,
        SplitName::Test => &splits.test.source,
    }
}

/// Prompts as the network's inputs.
pub(super) fn token_examples(prompts: &[Prompt]) -> Vec<PromptExample> {
    let example = |p: &Prompt| PromptExample {
        input_ids: p.input_ids.clone(),
        segment_ids: p.segment_ids.clone(),
        mask_position: p.mask_pos,
    };
    prompts.iter().map(example).collect()
}

/// The sets of a task that have examples.
pub(super) fn set_facts(splits: &Splits) -> Vec<SetFacts> {
    let train = if splits.is_undivided() { ALL } else { SplitName::Train.name() };
    let sets = [(train, &splits.train), (SplitName::Dev.name(), &splits.dev), (SplitName::Test.name(), &splits.test)];
    let facts = |(set, split): (&str, &Split)| SetFacts {
        set: set.to_owned(),
        file: split.source.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        file_digest: split.digest.clone(),
        rows: split.examples.iter().map(|e| e.row).collect(),
        text_digests: split.examples.iter().map(Example::digest).collect(),
    };
    sets.into_iter().filter(|(_, split)| !split.examples.is_empty()).map(facts).collect()
}
