//! Standard fine-tuning, without a prompt: a new linear head on the first token's hidden state in place of the masked-LM
//! head.

use std::rc::Rc;

use tch::Tensor;

use super::encoder::MaskedLm;
use super::examples::{PromptExample, PromptExamples};
use crate::error::Result;
use crate::jacobian::{Examples, Param, ParameterSpec, Parameters, Role, Tap};

/// Examples read by a new head: N examples, C outputs. Its parameters are the model's own, which the masked-LM head's
/// belong to but nothing reads, and the head's weight \[C, hidden\] behind them.
pub struct HeadExamples<'a> {
    model: &'a MaskedLm,
    prompts: PromptExamples<'a>,
    head: Param,
    outputs: usize,
}

impl<'a> HeadExamples<'a> {
    /// Texts as the model reads them, special tokens included, without a mask.
    ///
    /// # Errors
    /// As [`PromptExamples::new`].
    pub fn new(model: &'a MaskedLm, texts: Vec<Vec<i64>>, outputs: usize, device: tch::Device) -> Result<Self> {
        let first = |ids: Vec<i64>| PromptExample { segment_ids: vec![0; ids.len()], input_ids: ids, mask_position: 0 };
        let prompts = texts.into_iter().map(first).collect();
        let prompts = PromptExamples::new(model, prompts, &[0], super::OutputMode::Logits, device)?;
        Ok(Self { model, prompts, head: Param(model.specs().len()), outputs })
    }

    /// The examples at these indices.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        Self { model: self.model, prompts: self.prompts.select(indices), head: self.head, outputs: self.outputs }
    }
}

/// The model's parameters with a head \[C, hidden\] behind them.
pub fn with_head(own: &Parameters, head: &Tensor) -> Parameters {
    let mut specs = own.specs().to_vec();
    specs.push(ParameterSpec {
        name: "classifier.weight".into(),
        shape: head.size(),
        role: Role::Head,
        layer: "head".into(),
        structural_zeros: 0..0,
    });
    let mut values: Vec<Tensor> = own.values().iter().map(Tensor::shallow_clone).collect();
    values.push(head.to_kind(own.kind()).to_device(own.device()));
    Parameters::new(Rc::from(specs), values)
}

impl Examples for HeadExamples<'_> {
    fn len(&self) -> usize {
        self.prompts.len()
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn cost(&self, index: usize) -> usize {
        self.prompts.cost(index)
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        let hidden = self.model.encode(tap, &self.prompts.batch(indices)).squeeze_dim(1);
        tap.linear(&hidden, self.head, None)
    }
}
