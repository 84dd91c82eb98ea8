//! The examples of a study: under a prompt or read by a new head, seen through adapters where there are any.

use tch::Tensor;

use crate::jacobian::{Examples, Tap};
use crate::lm::{AnswerExamples, HeadExamples, PromptExamples, Roundings};
use crate::subspace::Lora;

/// Examples of a study.
pub struct StudyExamples<'a> {
    pub(super) network: NetworkExamples<'a>,
    pub(super) adapters: Option<&'a Lora>,
}

/// What the network reads, and what reads the network.
pub(super) enum NetworkExamples<'a> {
    /// Under a prompt that a token answers.
    Prompted(PromptExamples<'a>),
    /// Under a prompt that several tokens answer.
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

    /// The same examples for measures that subtract nearly equal outputs: nothing is rounded in a network of double
    /// precision, where transformers would.
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
