//! `jacobian`'s view of a language model's prompted examples.

use tch::{Device, Kind, Tensor};

use super::model::{LanguageModel, NetworkFacts, Roundings, TokenBatch};
use crate::error::{Error, Result};
use crate::jacobian::{Examples, Tap};
use crate::setting::Field;

/// Token ids of one prompted example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptExample {
    /// Token ids, including special tokens, without padding.
    pub input_ids: Vec<i64>,
    /// Segment ids, as long as `input_ids`.
    pub segment_ids: Vec<i64>,
    /// Index of the token read: the mask, or the last one.
    pub mask_position: usize,
}

/// A prompt and the token ids of its possible answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredExample {
    /// The prompt, with one mask, or ending at the token before the answer.
    pub prompt: PromptExample,
    /// The answers in the order of the outputs, each of one or more tokens.
    pub answers: Vec<Vec<i64>>,
}

/// The output f.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputMode {
    /// The logits of the C label words.
    Logits,
    /// The second label word's logit minus the first's: one output, for two classes.
    Difference,
}

impl OutputMode {
    /// f \[B, C\] or \[B, 1\] from the classes' logits \[B, C\].
    pub(super) fn of(self, logits: &Tensor) -> Tensor {
        match self {
            Self::Logits => logits.shallow_clone(),
            Self::Difference => logits.narrow(1, 1, 1) - logits.narrow(1, 0, 1),
        }
    }

    /// The error for a difference without exactly two classes.
    pub(super) fn needs_two(classes: usize) -> Error {
        let expected = format!("logits: the task has {classes} classes, but a difference needs two");
        Error::setting(Field::OutputMode, "difference", expected)
    }
}

/// Prompted examples with a model and label words: N examples, C outputs.
pub struct PromptExamples<'a> {
    model: &'a dyn LanguageModel,
    examples: Vec<PromptExample>,
    label_ids: Vec<i64>,
    mode: OutputMode,
    device: Device,
    roundings: Roundings,
}

impl<'a> PromptExamples<'a> {
    /// Checks the examples against the model.
    ///
    /// # Errors
    /// Token ids outside the vocabulary, sequences longer than the position table, segment ids outside the segment table,
    /// difference mode without exactly two label words.
    pub fn new(
        model: &'a dyn LanguageModel,
        examples: Vec<PromptExample>,
        label_ids: &[i64],
        mode: OutputMode,
        device: Device,
    ) -> Result<Self> {
        let facts = model.facts();
        if mode == OutputMode::Difference && label_ids.len() != 2 {
            return Err(OutputMode::needs_two(label_ids.len()));
        }
        for (c, id) in label_ids.iter().enumerate() {
            check_id(&facts, *id, &format!("label word {c}"))?;
        }
        for (i, e) in examples.iter().enumerate() {
            check_tokens(&facts, i, &e.input_ids, &e.segment_ids)?;
            if e.segment_ids.len() != e.input_ids.len() || e.mask_position >= e.input_ids.len() {
                let problem = "segment ids or mask position do not fit its tokens".into();
                return Err(Error::Example { index: i, problem });
            }
        }
        Ok(Self { model, examples, label_ids: label_ids.to_vec(), mode, device, roundings: Roundings::default() })
    }

    /// The same examples with other roundings in a double-precision network.
    #[must_use]
    pub fn rounded(self, roundings: Roundings) -> Self {
        Self { roundings, ..self }
    }

    /// The same examples in another output mode.
    pub fn with_mode(&self, mode: OutputMode) -> Result<Self> {
        let same = Self::new(self.model, self.examples.clone(), &self.label_ids, mode, self.device)?;
        Ok(same.rounded(self.roundings))
    }

    /// The examples at `indices`, in that order.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            model: self.model,
            examples: indices.iter().map(|i| self.examples[*i].clone()).collect(),
            label_ids: self.label_ids.clone(),
            mode: self.mode,
            device: self.device,
            roundings: self.roundings,
        }
    }

    /// Number of tokens of the longest example.
    pub fn longest(&self) -> usize {
        self.examples.iter().map(|e| e.input_ids.len()).max().unwrap_or(0)
    }

    /// The examples at `indices` as one padded batch.
    pub(super) fn batch(&self, indices: &[usize]) -> TokenBatch {
        let examples: Vec<&PromptExample> = indices.iter().map(|i| &self.examples[*i]).collect();
        let sequences: Vec<(&[i64], &[i64])> =
            examples.iter().map(|e| (e.input_ids.as_slice(), e.segment_ids.as_slice())).collect();
        let positions: Vec<i64> = examples.iter().map(|e| e.mask_position as i64).collect();
        let positions = Tensor::from_slice(&positions).view([-1, 1]);
        let batch = padded(&sequences, &positions, self.model.facts().pad_token_id, self.device);
        TokenBatch { roundings: self.roundings, ..batch }
    }
}

fn check_id(facts: &NetworkFacts, id: i64, what: &str) -> Result<()> {
    if (0..facts.vocab_size).contains(&id) {
        return Ok(());
    }
    Err(Error::NotInVocabulary { what: what.into(), id, entries: facts.vocab_size })
}

/// Checks a sequence of example i against the model.
pub(super) fn check_tokens(facts: &NetworkFacts, i: usize, ids: &[i64], segments: &[i64]) -> Result<()> {
    let max = facts.max_tokens;
    if ids.len() as i64 > max {
        return Err(Error::TooLong { example: format!("example {i}"), tokens: ids.len(), most: max });
    }
    for id in ids {
        check_id(facts, *id, &format!("example {i}"))?;
    }
    if let Some(s) = segments.iter().find(|s| !(0..facts.segments).contains(*s)) {
        let rows = facts.segments;
        let problem =
            format!("segment id {s}, but the model's segment table has {rows} rows: turn {} off", Field::Segments);
        return Err(Error::Example { index: i, problem });
    }
    Ok(())
}

/// Sequences of token and segment ids as one padded batch, read at these positions \[B, M\].
pub(super) fn padded(sequences: &[(&[i64], &[i64])], positions: &Tensor, pad: i64, device: Device) -> TokenBatch {
    let (b, t) = (sequences.len(), sequences.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0));
    let mut all_ids = vec![pad; b * t];
    let mut all_segments = vec![0i64; b * t];
    let mut present = vec![false; b * t];
    for (i, (ids, segments)) in sequences.iter().enumerate() {
        let n = ids.len();
        all_ids[i * t..i * t + n].copy_from_slice(ids);
        all_segments[i * t..i * t + n].copy_from_slice(segments);
        present[i * t..i * t + n].fill(true);
    }
    let shaped = |t_: Tensor| t_.view([b as i64, t as i64]).to_device(device);
    TokenBatch {
        ids: shaped(Tensor::from_slice(&all_ids)),
        present: present.contains(&false).then(|| shaped(Tensor::from_slice(&present).to_kind(Kind::Bool))),
        segments: shaped(Tensor::from_slice(&all_segments)),
        mask_positions: positions.to_device(device),
        roundings: Roundings::default(),
    }
}

impl Examples for PromptExamples<'_> {
    fn len(&self) -> usize {
        self.examples.len()
    }

    fn outputs(&self) -> usize {
        match self.mode {
            OutputMode::Logits => self.label_ids.len(),
            OutputMode::Difference => 1,
        }
    }

    fn cost(&self, index: usize) -> usize {
        self.examples[index].input_ids.len()
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        let batch = self.batch(indices);
        let label_ids = Tensor::from_slice(&self.label_ids).to_device(self.device);
        self.mode.of(&self.model.label_logits(tap, &batch, &label_ids))
    }
}
