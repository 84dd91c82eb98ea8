//! What reports and kernel files say about a study: the task, and the identity of each example, independent of where the data
//! are stored.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

use super::splits::SplitName;
use super::study::Study;
use crate::evidence::{LabelWordFacts, SetFacts, TaskFacts};
use crate::files::{digest, sha256};
use crate::kernel::Formula;
use crate::lm::OutputMode;
use crate::task::Prompt;

/// Name of a few-shot split, independent of where the data are stored.
pub fn split_name(task: &str, k: usize, seed: u64) -> String {
    format!("{task}/{k}-{seed}")
}

/// SHA-256 of the data: the file's own if there is only one, otherwise that of the list of the files' digests, one per line.
pub(super) fn source_digest(sets: &[SetFacts]) -> String {
    let digests: Vec<&str> = sets.iter().map(|set| set.file_digest.as_str()).collect();
    match digests.as_slice() {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => (*first).to_owned(),
        _ => sha256((digests.join("\n") + "\n").as_bytes()),
    }
}

impl Study {
    /// Metadata of a kernel file: training examples by a split, or by some of its examples, for these formulas.
    pub fn kernel_metadata(
        &self,
        columns: (SplitName, Option<Range<usize>>),
        formulas: &[Formula],
    ) -> HashMap<String, String> {
        let facts = self.task_facts();
        let words: Vec<&str> = facts.label_words.iter().map(|w| w.word.as_str()).collect();
        let names: Vec<&str> = formulas.iter().map(|f| f.name()).collect();
        let number = |n: Option<u64>| n.map_or_else(|| "none".into(), |n| n.to_string());
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut metadata = HashMap::from([
            text("model", &self.model_facts.name),
            text("model_digest", &self.model_facts.digest),
            text("task", &facts.name),
            text("source", &facts.source),
            text("source_digest", &facts.source_digest),
            text("template", &facts.template),
            text("label_words", &words.join(",")),
            ("k".to_owned(), number(self.k.map(|k| k as u64))),
            ("seed".to_owned(), number(self.split_seed)),
            text("formula", &names.join(",")),
            text("output_mode", &facts.output_mode),
            text("head", &facts.head),
            ("subset".to_owned(), self.subset_name()),
            ("dtype".to_owned(), self.dtype.to_string()),
            text("program_version", env!("CARGO_PKG_VERSION")),
            text("torch_version", crate::device::TORCH_VERSION),
        ]);
        let (split, range) = columns;
        let sides = [("row", SplitName::Train, None), ("column", split, range)];
        for (side, split, range) in sides {
            let set = &self.sets[split as usize];
            let range = range.unwrap_or(0..set.rows.len());
            let rows: Vec<String> = set.rows[range.clone()].iter().map(ToString::to_string).collect();
            metadata.extend([
                text(&format!("{side}s"), &set.set),
                text(&format!("{side}_file"), &set.file),
                text(&format!("{side}_file_digest"), &set.file_digest),
                (format!("{side}_numbers"), rows.join(",")),
                (format!("{side}_text_digests"), set.text_digests[range].join(",")),
            ]);
        }
        metadata
    }

    /// Facts about the task for the report.
    pub fn task_facts(&self) -> TaskFacts {
        let count = |split: SplitName, class: usize| self.labels(split).iter().filter(|l| **l == class).count();
        let words = self.task.definition.label_words.iter().enumerate();
        let label_words: Vec<LabelWordFacts> = words
            .map(|(class, pair)| LabelWordFacts {
                label: pair.label.clone(),
                word: pair.word.clone(),
                token_id: self.task.words.get(class).and_then(|word| if let [id] = word[..] { Some(id) } else { None }),
                token_ids: self.task.words.get(class).filter(|word| word.len() > 1).cloned().unwrap_or_default(),
                train: count(SplitName::Train, class),
                test: count(SplitName::Test, class),
            })
            .collect();
        let most = label_words.iter().map(|w| w.test).max().unwrap_or(0);
        TaskFacts {
            name: self.task.definition.name.clone(),
            source: self.source.clone(),
            source_digest: source_digest(&self.sets),
            sets: self.sets.clone(),
            template: self.template(),
            head: self.head.title().into(),
            majority_accuracy: most as f64 / self.task.test.len().max(1) as f64,
            label_words,
            k: self.k,
            split_seed: self.split_seed,
            train: self.task.train.len(),
            dev: self.task.dev.len(),
            test: self.task.test.len(),
            longest_prompt: self.task.longest(),
            output_mode: match (self.mode, self.is_answered()) {
                (OutputMode::Logits, false) => "logits".into(),
                (OutputMode::Difference, false) => "difference".into(),
                (OutputMode::Logits, true) => "log-probabilities".into(),
                (OutputMode::Difference, true) => "difference of log-probabilities".into(),
            },
            notes: self.notes.clone(),
            tokenizer_digest: self.tokenizer_digest.clone(),
            tokenizer: self.tokenizer.description(),
            first_prompt: self.task.train.first().map(|prompt| self.token_names(prompt)).unwrap_or_default(),
            prompts_digest: digest([self.prompts_text().as_bytes()]),
        }
    }

    /// The tokens of a prompt as spelled in the vocabulary.
    fn token_names(&self, prompt: &Prompt) -> Vec<String> {
        let name = |id: &i64| self.tokenizer.id_to_token(*id).unwrap_or_else(|| format!("id {id}"));
        prompt.input_ids.iter().map(name).collect()
    }

    /// All prompts as token ids, with their labels.
    pub(super) fn prompts_text(&self) -> String {
        let mut text = String::new();
        for split in [SplitName::Train, SplitName::Dev, SplitName::Test] {
            for p in self.prompts(split) {
                let row = (&p.input_ids, &p.segment_ids, p.mask_pos, p.label);
                let _ = write!(text, "\n{} {row:?}", split.name());
                if !p.choices.is_empty() {
                    let _ = write!(text, " {:?}", p.choices);
                }
            }
        }
        text
    }

    /// Digest of everything that stored results depend on or repeat: the study, and the names, files and rows of its examples.
    pub(super) fn results_digest(&self) -> String {
        let provenance = serde_json::to_string(&(&self.source, &self.sets)).expect("facts are plain data");
        digest([self.digest().as_bytes(), provenance.as_bytes()])
    }

    /// The template of the prompts; empty without a prompt.
    fn template(&self) -> String {
        let template = || self.task.definition.template_for(self.reading).to_string();
        self.reading.prompted().then(template).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(digest: &str) -> SetFacts {
        SetFacts {
            set: String::new(),
            file: String::new(),
            file_digest: digest.into(),
            rows: Vec::new(),
            text_digests: Vec::new(),
        }
    }

    #[test]
    fn data_of_one_file_have_its_digest() {
        assert_eq!(source_digest(&[set("aa"), set("aa"), set("aa")]), "aa");
        // printf 'aa\nbb\nbb\n' | sha256sum
        assert_eq!(
            source_digest(&[set("aa"), set("bb"), set("bb")]),
            "e7668c8c68262c8ef287026d4c78c4a1211af14eb824bbd21da6242ffeced6b0"
        );
    }
}
