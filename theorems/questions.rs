//! Questions of the small language for its networks: sentences with a hidden word, read by the two label words or by a separate
//! readout, and gradients of the outputs.

use std::sync::Arc;

use tch::{Device, Tensor};

use crate::error::Result;
use crate::jacobian::{Examples, Frozen, Param, ParameterSpec, Parameters, PlainTap, Role, Tap};
use crate::kernel::{dense_jacobian, without_round_off};
use crate::lm::{LanguageModel, MaskedLm, Parametrization, Roundings, TokenBatch};
use crate::pretrain::language::{Asked, Question};
use crate::pretrain::language_ids;

/// Ids of `<s>`, `</s>` and `<mask>`.
const START: i64 = 0;
const END: i64 = 2;
const MASK: i64 = 4;

/// How an answer is read.
pub(super) enum Readout {
    /// The logit of the question's second word minus that of the first.
    Words,
    /// A readout vector after the network's own parameters, applied to the decoder's input or, without the head's transform, to
    /// the last hidden state, times a factor.
    Own {
        /// Whether it reads through the transform.
        transform: bool,
        /// The factor.
        scale: f64,
    },
}

/// Sentences with a hidden word as examples with one output.
pub(super) struct Prompts<'a> {
    model: &'a MaskedLm,
    /// \[N, T\]
    ids: Frozen,
    /// Positions to read \[N\].
    positions: Frozen,
    words: Frozen,
    /// Which word is right \[N\]: 1 for the second.
    pub labels: Frozen,
    readout: Readout,
}

impl<'a> Prompts<'a> {
    /// The sentences of a question, read at the hidden word by the label words.
    pub fn new(model: &'a MaskedLm, question: &Question, asked: &[Asked], device: Device) -> Self {
        let numbers = language_ids();
        let row = |a: &Asked| {
            let mut ids = vec![START];
            ids.extend(a.sentence.words().iter().map(|w| i64::from(numbers[w.id()])));
            ids.push(END);
            ids[a.place + 1] = MASK;
            ids
        };
        let ids: Vec<i64> = asked.iter().flat_map(row).collect();
        let positions: Vec<i64> = asked.iter().map(|a| a.place as i64 + 1).collect();
        let labels: Vec<i64> = asked.iter().map(|a| a.label as i64).collect();
        let words = question.words.map(|w| i64::from(numbers[w.id()]));
        Self {
            model,
            ids: Tensor::from_slice(&ids).view([asked.len() as i64, -1]).to_device(device).into(),
            positions: Tensor::from_slice(&positions).to_device(device).into(),
            words: Tensor::from_slice(&words).to_device(device).into(),
            labels: Tensor::from_slice(&labels).into(),
            readout: Readout::Words,
        }
    }

    /// The same sentences read by a separate readout, at the hidden word or at the sentence's first token.
    pub fn read_by(self, readout: Readout, at_mask: bool) -> Self {
        let positions = if at_mask { self.positions } else { self.positions.zeros_like().into() };
        Self { positions, readout, ..self }
    }

    /// `count` examples from `from` on.
    pub fn part(&self, from: i64, count: i64) -> Self {
        Self {
            model: self.model,
            ids: self.ids.narrow(0, from, count).into(),
            positions: self.positions.narrow(0, from, count).into(),
            words: self.words.shallow_clone().into(),
            labels: self.labels.narrow(0, from, count).into(),
            readout: match self.readout {
                Readout::Words => Readout::Words,
                Readout::Own { transform, scale } => Readout::Own { transform, scale },
            },
        }
    }

    fn batch(&self, indices: &[usize]) -> TokenBatch {
        let rows = Tensor::from_slice(&indices.iter().map(|i| *i as i64).collect::<Vec<_>>());
        let rows = rows.to_device(self.ids.device());
        let ids = self.ids.index_select(0, &rows);
        TokenBatch {
            segments: ids.zeros_like(),
            ids,
            present: None,
            mask_positions: self.positions.index_select(0, &rows).unsqueeze(1),
            roundings: Roundings::None,
        }
    }

    /// Root mean square of a separate readout's input, before scaling.
    pub fn state_size(&self, own: &Parameters, transform: bool) -> f64 {
        let _guard = tch::no_grad_guard();
        let indices: Vec<usize> = (0..self.len()).collect();
        super::training::rms(&self.state(&mut PlainTap::new(own), &indices, transform))
    }

    fn state(&self, tap: &mut dyn Tap, indices: &[usize], transform: bool) -> Tensor {
        let batch = self.batch(indices);
        if transform { self.model.transformed(tap, &batch) } else { self.model.features(tap, &batch) }
    }
}

impl Examples for Prompts<'_> {
    fn len(&self) -> usize {
        self.ids.size()[0] as usize
    }

    fn outputs(&self) -> usize {
        1
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        match self.readout {
            Readout::Words => {
                let logits = self.model.label_logits(tap, &self.batch(indices), &self.words);
                logits.narrow(1, 1, 1) - logits.narrow(1, 0, 1)
            }
            Readout::Own { transform, scale } => {
                let state = self.state(tap, indices, transform) * scale;
                tap.linear(&state, Param(self.model.specs().len()), None)
            }
        }
    }
}

/// The decoder's weights \[V, n\].
fn decoder(parameters: &Parameters) -> &Tensor {
    let at = parameters.specs().iter().position(|s| s.name.ends_with("decoder.weight")).expect("an untied decoder");
    &parameters.values()[at]
}

/// The readout vector \[1, n\] of a question: the decoder's row of its second word minus that of the first.
pub(super) fn trained_readout(parameters: &Parameters, prompts: &Prompts<'_>) -> Tensor {
    let rows = decoder(parameters).index_select(0, &prompts.words);
    rows.narrow(0, 1, 1) - rows.narrow(0, 0, 1)
}

/// A network's parameters, followed by a readout vector \[1, n\].
pub(super) fn with_readout(own: &Parameters, readout: &Tensor) -> Parameters {
    let mut specs: Vec<ParameterSpec> = own.specs().to_vec();
    // Its name gives it the decoder's learning rates.
    specs.push(ParameterSpec::new("new.decoder.weight", &readout.size(), Role::Head, "head"));
    let values = own.values().iter().map(Tensor::shallow_clone).chain([readout.detach().copy()]).collect();
    Parameters::new(Arc::from(specs), values)
}

/// Learning rates of all tensors in muP, relative to the base width's, for SGD or for sign updates.
pub(super) fn rates(model: &MaskedLm, parameters: &Parameters, sign: bool) -> Vec<f64> {
    let config = model.config();
    let width = config.hidden_size;
    let scale = Parametrization {
        scaling: crate::lm::Scaling::Mup,
        base_width: config.mup_base_width.unwrap_or(width),
        embedding_deviation: 1.0,
    };
    let rate = |spec| if sign { scale.sign_rate(width, spec) } else { scale.sgd_rate(width, spec) };
    parameters.specs().iter().map(rate).collect()
}

/// All parameter entries \[P\].
pub(super) fn flat(parameters: &Parameters) -> Tensor {
    Tensor::cat(&parameters.values().iter().map(|v| v.reshape([-1])).collect::<Vec<_>>(), 0)
}

/// Gradients of all examples \[N, P\], by autograd. Entries that are zero in exact arithmetic are set to zero.
///
/// # Errors
/// [`Error::Interrupted`](crate::error::Error::Interrupted).
pub(super) fn gradients(parameters: &Parameters, examples: &dyn Examples) -> Result<Tensor> {
    Ok(without_round_off(parameters, dense_jacobian(parameters, examples)?))
}
