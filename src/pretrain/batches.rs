//! Masked batches: the sequences of each step and their hidden tokens, the same for every width.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::files::named_seed;
use crate::lm::{Roundings, TokenBatch};

/// Ids of `<s>`, `</s>` and `<mask>`, see [`super::SPECIAL_TOKENS`].
const START: i64 = 0;
const END: i64 = 2;
const MASK: i64 = 4;

/// A batch with its hidden tokens.
pub struct MaskedBatch {
    /// The sequences \[B, T\], with M tokens each replaced by the mask.
    pub input: TokenBatch,
    /// The hidden tokens \[B · M\].
    pub targets: Tensor,
}

/// The sequences of a text, shuffled anew in every epoch.
pub struct Batches<'a> {
    ids: &'a [u16],
    /// Tokens of the text per sequence.
    length: usize,
    masked: usize,
    seed: u64,
    /// The current epoch and its order.
    epoch: Option<(usize, Vec<u32>)>,
}

impl<'a> Batches<'a> {
    /// Sequences of `tokens` tokens including `<s>` and `</s>`; `masked` of the others are hidden.
    pub fn new(ids: &'a [u16], tokens: i64, masked: usize, seed: u64) -> Self {
        Self { ids, length: tokens as usize - 2, masked, seed, epoch: None }
    }

    /// Number of sequences of the text.
    pub fn len(&self) -> usize {
        self.ids.len() / self.length
    }

    /// Whether the text is shorter than one sequence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batch of a step, counted from 0; it depends only on seed, sizes and step.
    pub fn batch(&mut self, step: usize, size: usize, device: Device) -> MaskedBatch {
        let count = self.len();
        let chosen: Vec<usize> = (step * size..(step + 1) * size)
            .map(|k| {
                let epoch = k / count;
                if self.epoch.as_ref().is_none_or(|(e, _)| *e != epoch) {
                    let mut order: Vec<u32> = (0..count as u32).collect();
                    order.shuffle(&mut ChaCha8Rng::seed_from_u64(named_seed(self.seed, &format!("epoch {epoch}"))));
                    self.epoch = Some((epoch, order));
                }
                let (_, order) = self.epoch.as_ref().expect("made above");
                order[k % count] as usize
            })
            .collect();
        let mut rng = ChaCha8Rng::seed_from_u64(named_seed(self.seed, &format!("masks {step}")));
        let width = self.length + 2;
        let mut ids = Vec::with_capacity(size * width);
        let (mut positions, mut targets) = (Vec::new(), Vec::new());
        for sequence in chosen {
            let from = ids.len();
            ids.push(START);
            ids.extend(self.ids[sequence * self.length..][..self.length].iter().map(|id| i64::from(*id)));
            ids.push(END);
            let mut hidden = rand::seq::index::sample(&mut rng, self.length, self.masked).into_vec();
            hidden.sort_unstable();
            for place in hidden {
                let place = place + 1;
                positions.push(place as i64);
                targets.push(std::mem::replace(&mut ids[from + place], MASK));
            }
        }
        let shape = [size as i64, width as i64];
        MaskedBatch {
            input: TokenBatch {
                ids: Tensor::from_slice(&ids).view(shape).to_device(device),
                present: None,
                segments: Tensor::zeros(shape, (Kind::Int64, device)),
                mask_positions: Tensor::from_slice(&positions).view([size as i64, -1]).to_device(device),
                roundings: Roundings::None,
            },
            targets: Tensor::from_slice(&targets).to_device(device),
        }
    }
}
