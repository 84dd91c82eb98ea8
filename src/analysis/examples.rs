//! The examples of a study: in a prompt, or read by a new head; through adapters, if there are any.

use tch::Tensor;

use super::head::Head;
use super::splits::{SplitName, token_examples};
use super::study::Study;
use crate::error::Result;
use crate::jacobian::{Examples, Tap};
use crate::lm::{
    AnswerExamples, AnsweredExample, HeadExamples, OutputMode, PromptExample, PromptExamples, Reads, Roundings,
};
use crate::subspace::Lora;
use crate::task::{Prompt, SpecialToken};

/// Examples of a study.
pub struct StudyExamples<'a> {
    pub(super) network: NetworkExamples<'a>,
    pub(super) adapters: Option<&'a Lora>,
}

/// How the network's inputs are made and its outputs read.
pub(super) enum NetworkExamples<'a> {
    /// In a prompt whose answer is one token.
    Prompted(PromptExamples<'a>),
    /// In a prompt whose answer has several tokens.
    Answered(AnswerExamples<'a>),
    /// Read by a new head.
    Headed(HeadExamples<'a>),
}

impl StudyExamples<'_> {
    fn inner(&self) -> &dyn Examples {
        match &self.network {
            NetworkExamples::Prompted(examples) => examples,
            NetworkExamples::Answered(examples) => examples,
            NetworkExamples::Headed(examples) => examples,
        }
    }

    /// The same examples, for differences of nearly equal outputs: a network in double precision then rounds nothing, even
    /// where transformers does.
    #[must_use]
    pub fn exact(self) -> Self {
        let network = match self.network {
            NetworkExamples::Prompted(examples) => NetworkExamples::Prompted(examples.rounded(Roundings::None)),
            NetworkExamples::Answered(examples) => NetworkExamples::Answered(examples.rounded(Roundings::None)),
            NetworkExamples::Headed(examples) => NetworkExamples::Headed(examples.rounded(Roundings::None)),
        };
        Self { network, ..self }
    }

    /// The examples at `indices`, in that order.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let network = match &self.network {
            NetworkExamples::Prompted(examples) => NetworkExamples::Prompted(examples.select(indices)),
            NetworkExamples::Answered(examples) => NetworkExamples::Answered(examples.select(indices)),
            NetworkExamples::Headed(examples) => NetworkExamples::Headed(examples.select(indices)),
        };
        Self { network, adapters: self.adapters }
    }
}

impl Examples for StudyExamples<'_> {
    fn len(&self) -> usize {
        self.inner().len()
    }

    fn outputs(&self) -> usize {
        self.inner().outputs()
    }

    fn cost(&self, index: usize) -> usize {
        self.inner().cost(index)
    }

    fn separate(&self) -> bool {
        self.inner().separate()
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        match self.adapters {
            Some(lora) => lora.examples(self.inner()).forward(tap, indices),
            None => self.inner().forward(tap, indices),
        }
    }
}

impl Study {
    /// The examples of a split, with this kind of outputs.
    pub fn examples(&self, split: SplitName, mode: OutputMode) -> Result<StudyExamples<'_>> {
        let network = match self.head {
            Head::Prompt => match self.task.label_ids() {
                Some(words) => NetworkExamples::Prompted(self.examples_for(split, &words, mode)?),
                None => NetworkExamples::Answered(self.answered(split, mode, |p| self.task.answers(p).to_vec())?),
            },
            Head::Random | Head::LinearProbe => {
                let examples = self.token_examples(split);
                let headed = HeadExamples::new(&*self.model, examples, self.classes(), mode, self.device)?;
                NetworkExamples::Headed(headed.with_bias())
            }
        };
        Ok(StudyExamples { network, adapters: self.adapters() })
    }

    /// The same with other label words of several tokens each, scored by their log-probabilities.
    pub fn answered_for(&self, split: SplitName, words: &[Vec<i64>], mode: OutputMode) -> Result<AnswerExamples<'_>> {
        self.answered(split, mode, |_| words.to_vec())
    }

    fn answered(
        &self,
        split: SplitName,
        mode: OutputMode,
        answers: impl Fn(&Prompt) -> Vec<Vec<i64>>,
    ) -> Result<AnswerExamples<'_>> {
        let prompts = self.prompts(split).iter().zip(self.token_examples(split));
        let examples: Vec<_> = prompts.map(|(p, prompt)| AnsweredExample { prompt, answers: answers(p) }).collect();
        AnswerExamples::new(&*self.model, &examples, mode, self.device)
    }

    /// Whether f is made of log-probabilities, summed over the tokens of answers, instead of logits.
    pub fn is_answered(&self) -> bool {
        self.head == Head::Prompt && self.task.label_ids().is_none()
    }

    /// The same with other label words, given as token ids.
    pub fn examples_for(&self, split: SplitName, words: &[i64], mode: OutputMode) -> Result<PromptExamples<'_>> {
        PromptExamples::new(&*self.model, self.token_examples(split), words, mode, self.device)
    }

    fn token_examples(&self, split: SplitName) -> Vec<PromptExample> {
        token_examples(self.prompts(split))
    }

    /// The examples of a split for a new head with this many outputs: the prompt without its mask, read at the first token, or a
    /// causal model's prompt, read at its last. A control for the claims on prompts that changes only the head.
    ///
    /// # Errors
    /// Those of [`HeadExamples::new`].
    pub fn head_examples(&self, split: SplitName, outputs: usize) -> Result<HeadExamples<'_>> {
        let new = |examples| HeadExamples::new(&*self.model, examples, outputs, OutputMode::Logits, self.device);
        if self.model.facts().reads == Reads::LastToken {
            return new(self.token_examples(split));
        }
        let mask = self.tokenizer.require(SpecialToken::Mask)?;
        let first = |p: &Prompt| {
            let ids: Vec<i64> = p.input_ids.iter().copied().filter(|id| *id != mask).collect();
            PromptExample { segment_ids: vec![0; ids.len()], input_ids: ids, mask_position: 0 }
        };
        new(self.prompts(split).iter().map(first).collect())
    }
}
