//! Fine-tuning without the model's own head: a new linear head for C classes on the hidden state of one token (the first one
//! for masked models, the last one for causal ones).
//!
//! Knows no task: the caller supplies the examples' tokens and the head's initial weights.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::examples::{OutputMode, PromptExample, PromptExamples};
use super::model::{LanguageModel, Roundings};
use crate::error::Result;
use crate::jacobian::{Examples, Param, ParameterSpec, Parameters, PlainTap, Role, Tap, batches_by_cost, in_order};

/// Examples with a new head: N examples, C outputs, or the difference of two. The parameters are the model's own, including
/// its unused head, followed by the new head's.
pub struct HeadExamples<'a> {
    model: &'a dyn LanguageModel,
    prompts: PromptExamples<'a>,
    weight: Param,
    bias: Option<Param>,
    classes: usize,
    mode: OutputMode,
}

impl<'a> HeadExamples<'a> {
    /// Examples as token ids, including special tokens; `mask_position` is the token that the head reads.
    ///
    /// # Errors
    /// As [`PromptExamples::new`].
    pub fn new(
        model: &'a dyn LanguageModel,
        examples: Vec<PromptExample>,
        classes: usize,
        mode: OutputMode,
        device: Device,
    ) -> Result<Self> {
        if mode == OutputMode::Difference && classes != 2 {
            return Err(OutputMode::needs_two(classes));
        }
        let prompts = PromptExamples::new(model, examples, &[0], OutputMode::Logits, device)?;
        Ok(Self { model, prompts, weight: Param(model.specs().len()), bias: None, classes, mode })
    }

    /// The same with a bias, which is the last parameter.
    #[must_use]
    pub fn with_bias(self) -> Self {
        Self { bias: Some(Param(self.weight.0 + 1)), ..self }
    }

    /// The same examples with other roundings in a network of double precision.
    #[must_use]
    pub fn rounded(self, roundings: Roundings) -> Self {
        Self { prompts: self.prompts.rounded(roundings), ..self }
    }

    /// The examples at these indices.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        Self { prompts: self.prompts.select(indices), ..*self }
    }

    /// The head's input at the model's own parameters \[N, width\], in double precision.
    pub fn features(&self, parameters: &Parameters, batch: usize) -> Tensor {
        let _guard = tch::no_grad_guard();
        let mut tap = PlainTap::new(parameters);
        let batches = batches_by_cost(self, batch);
        let mut rows = |indices: &Vec<usize>| {
            let found = self.model.features(&mut tap, &self.prompts.batch(indices));
            found.to_kind(Kind::Double).to_device(Device::Cpu)
        };
        in_order(&Tensor::cat(&batches.iter().map(&mut rows).collect::<Vec<_>>(), 0), &batches)
    }
}

/// The model's parameters followed by a head: weight \[C, hidden\] and optionally a bias \[C\].
pub fn with_head(own: &Parameters, weight: &Tensor, bias: Option<&Tensor>) -> Parameters {
    let mut specs = own.specs().to_vec();
    let mut values: Vec<Tensor> = own.values().iter().map(Tensor::shallow_clone).collect();
    for (name, value) in [("weight", Some(weight)), ("bias", bias)] {
        let Some(value) = value else { continue };
        specs.push(ParameterSpec::new(format!("classifier.{name}"), &value.size(), Role::Head, "head"));
        values.push(value.to_kind(own.kind()).to_device(own.device()));
    }
    Parameters::new(Arc::from(specs), values)
}

impl Examples for HeadExamples<'_> {
    fn len(&self) -> usize {
        self.prompts.len()
    }

    fn outputs(&self) -> usize {
        match self.mode {
            OutputMode::Logits => self.classes,
            OutputMode::Difference => 1,
        }
    }

    fn cost(&self, index: usize) -> usize {
        self.prompts.cost(index)
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        let hidden = self.model.features(tap, &self.prompts.batch(indices));
        let logits = tap.linear(&hidden, self.weight, self.bias);
        self.mode.of(&logits)
    }
}
