//! Initial weights of a family's networks.
//!
//! Random attention averages over a whole sequence, and random feed-forward layers drown what little of a neighbour comes
//! through: from such weights a small network spends its first millions of tokens at the loss of the tokens' frequencies. So
//! residual branches start at zero, except for the first attention, and every head starts by attending to one neighbour: its
//! queries are its keys, shifted by an offset. Random weights are Gaussian with muP's deviations. The scheme is the same at
//! every width: half of a layer's heads look back, half ahead.

use std::f64::consts::PI;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::recipe::Recipe;
use super::step::log_frequencies;
use crate::files::named_seed;
use crate::jacobian::{ParameterSpec, Parameters};
use crate::lm::MaskedLm;
use crate::network::normal_tensor;

/// Factor of the keys' deviation, which makes attention to the neighbour sharp.
const KEY_GAIN: f64 = 2.5;

/// Factor of the first attention's output, which must not be small beside the embedding of the mask.
const OUTPUT_GAIN: f64 = 3.0;

/// A tensor's part in the network, which determines how its initial values are made.
enum Part {
    /// Waves.
    Positions,
    /// The decoder's biases.
    Frequencies,
    /// Keys of a layer, and the queries made from them.
    Keys,
    Queries(i64),
    /// Output of the first attention.
    FirstOutput,
    /// Outputs of the other residual branches.
    Branch,
    Other,
}

impl Part {
    fn of(spec: &ParameterSpec) -> Self {
        let name = spec.name.as_str();
        let layer = name.split_once("encoder.layer.").and_then(|(_, rest)| rest.split('.').next()?.parse().ok());
        match layer {
            None if name.ends_with("position_embeddings.weight") => Self::Positions,
            None if name == "lm_head.bias" => Self::Frequencies,
            Some(_) if name.ends_with("self.key.weight") => Self::Keys,
            Some(layer) if name.ends_with("self.query.weight") => Self::Queries(layer),
            Some(0) if name.ends_with("attention.output.dense.weight") => Self::FirstOutput,
            Some(_) if name.ends_with("output.dense.weight") => Self::Branch,
            _ => Self::Other,
        }
    }
}

/// Initial weights of a network, in single precision; `text` are the ids of the training text.
pub(super) fn initial(recipe: &Recipe, model: &MaskedLm, text: &[u16], seed: u64, device: Device) -> Parameters {
    let parametrization = recipe.parametrization();
    let (width, head) = (model.config().hidden_size, recipe.model.head_dimension);
    let seed = named_seed(seed, &format!("weights of width {width}"));
    let draw = |stream: usize, factor: f64| {
        let spec = &model.specs()[stream];
        let initial = parametrization.initial(spec);
        let deviation = factor * initial.deviation;
        normal_tensor(&spec.shape, deviation, seed, stream as u64, Kind::Float, device) + initial.mean
    };
    let mut values: Vec<Tensor> = Vec::with_capacity(model.specs().len());
    for (stream, spec) in model.specs().iter().enumerate() {
        let value = match Part::of(spec) {
            Part::Positions => waves(&spec.shape, recipe.model.position_amplitude).to_device(device),
            Part::Frequencies => {
                // Without them, everything else would first be trained to take their place.
                Tensor::from_slice(&log_frequencies(text, recipe.vocabulary())).to_kind(Kind::Float).to_device(device)
            }
            Part::Queries(layer) => {
                let keys = spec.name.replace("query", "key");
                let keys = model.specs().iter().position(|s| s.name == keys).expect("keys beside queries");
                let keys = draw(keys, KEY_GAIN);
                let rows = |h: i64| {
                    let offset = if h % 2 == 0 { -(layer + 1) } else { layer + 1 };
                    keys.narrow(0, h * head, head).matmul(&shift(width, offset as f64).to_device(device))
                };
                Tensor::cat(&(0..width / head).map(rows).collect::<Vec<_>>(), 0)
            }
            Part::Keys => draw(stream, KEY_GAIN),
            Part::FirstOutput => draw(stream, OUTPUT_GAIN),
            Part::Branch => Tensor::zeros(spec.shape.as_slice(), (Kind::Float, device)),
            Part::Other => draw(stream, 1.0),
        };
        values.push(value);
    }
    Parameters::new(Arc::clone(model.specs()), values)
}

/// Frequency of the wave in columns 2i and 2i + 1. Frequencies are evenly spaced, so that vectors of different positions are
/// nearly orthogonal.
fn frequency(i: i64, width: i64) -> f64 {
    PI * (i as f64 + 0.5) / (width as f64 / 2.0)
}

/// Position vectors `(sin ωp, cos ωp, …)` \[rows, width\]. They are trained.
fn waves(shape: &[i64], amplitude: f64) -> Tensor {
    let (rows, width) = (shape[0], shape[1]);
    let mut numbers = Vec::with_capacity((rows * width) as usize);
    for position in 0..rows {
        for column in 0..width {
            let angle = position as f64 * frequency(column / 2, width);
            numbers.push((amplitude * if column % 2 == 0 { angle.sin() } else { angle.cos() }) as f32);
        }
    }
    Tensor::from_slice(&numbers).view(shape)
}

/// The orthogonal matrix that shifts position vectors (as columns) by an offset.
fn shift(width: i64, offset: f64) -> Tensor {
    let mut numbers = vec![0f32; (width * width) as usize];
    let mut put = |row: i64, column: i64, value: f64| numbers[(row * width + column) as usize] = value as f32;
    for i in 0..width / 2 {
        let (sin, cos) = (offset * frequency(i, width)).sin_cos();
        put(2 * i, 2 * i, cos);
        put(2 * i, 2 * i + 1, sin);
        put(2 * i + 1, 2 * i, -sin);
        put(2 * i + 1, 2 * i + 1, cos);
    }
    Tensor::from_slice(&numbers).view([width, width])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_moves_positions() {
        let (width, rows) = (16, 9);
        let table = waves(&[rows, width], 0.7);
        for offset in [-2i64, 1, 3] {
            let moved = table.matmul(&shift(width, offset as f64).transpose(0, 1));
            for p in 3..5 {
                let error = (moved.get(p) - table.get(p + offset)).abs().max().double_value(&[]);
                assert!(error < 1e-6, "{p} + {offset}: {error}");
            }
        }
    }
}
