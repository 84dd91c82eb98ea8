//! What a computation will cost, before it runs: method, time and memory per layer. Derived from shapes alone, except for the
//! rate of matrix products, which converts operations to seconds and is measured.

use std::collections::BTreeMap;
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::batches::{batches, padded};
use super::memory::{
    MemoryEstimate, TRANSIENT, element, example_bytes, fixed_bytes, inputs_and_outputs, longest, longest_batch,
    longest_cost, memory_of_kept, passes, result_bytes, site_bytes, tile_bytes,
};
use super::method::{Method, Pairing};
use super::options::GramOptions;
use super::{HELD, work};
use crate::jacobian::{Examples, Param, Parameters, SiteShape};
use crate::products::{Parts, linear};

/// Fraction of the rate of matrix products that a pass through a network reaches; activations and normalization are bound by
/// memory.
const PASS_EFFICIENCY: f64 = 0.6;

/// The same for products of gradients.
const PRODUCT_EFFICIENCY: f64 = 0.8;

/// Rate of matrix units in products of gradients, relative to that of a linear map, which they also pack and write.
const UNIT_EFFICIENCY: f64 = 1.6;

/// Estimated cost of a computation.
#[derive(Clone, Debug)]
pub struct KernelEstimate {
    /// By layer, in the network's order.
    pub layers: Vec<LayerEstimate>,
    /// Seconds for forward and backward passes.
    pub pass_seconds: f64,
    /// Bytes by purpose.
    pub memory: MemoryEstimate,
    /// Number of examples in a held panel, and in a streamed one.
    pub panels: (usize, usize),
    /// Number of examples recorded, counting repetitions.
    pub recorded: usize,
    /// Measured rate of matrix products in operations per second.
    pub rate: f64,
}

impl KernelEstimate {
    /// Total seconds.
    pub fn seconds(&self) -> f64 {
        self.pass_seconds + self.layers.iter().map(|l| l.seconds).sum::<f64>()
    }
}

/// Estimated cost of one layer.
#[derive(Clone, Debug)]
pub struct LayerEstimate {
    /// Name in reports.
    pub layer: String,
    /// Parameter entries.
    pub entries: i64,
    /// Methods, with the number of parameter tensors for which each is chosen.
    pub methods: BTreeMap<&'static str, usize>,
    /// Bytes of gradient factors kept at a time.
    pub bytes: f64,
    /// Seconds for products of gradients.
    pub seconds: f64,
}

/// The shapes behind an estimate, for an example of maximal length.
struct Shapes<'a> {
    parameters: &'a Parameters,
    options: &'a GramOptions,
    sites: Vec<SiteShape>,
    /// Number of outputs with the same inputs.
    outputs: f64,
    /// Number of input sets per example: C if outputs have separate inputs, else 1.
    inputs: f64,
    /// Cost of the longest example.
    longest: usize,
    /// Padded tokens of an example, relative to those of the longest: of the held set, and of the streamed one.
    scale: (f64, f64),
    examples: (usize, usize),
    same: bool,
}

/// The estimated cost of [`super::structured_gram`] with the same arguments.
pub fn estimate_gram(
    parameters: &Parameters,
    left: &dyn Examples,
    right: Option<&dyn Examples>,
    options: &GramOptions,
) -> KernelEstimate {
    let most = longest_cost(left, right);
    let scale = |e: &dyn Examples| {
        let tokens: usize = batches(e, options.batch).iter().map(|p| padded(e, p)).sum();
        tokens.max(1) as f64 / e.len().max(1) as f64 / most as f64
    };
    // The smaller set is held, the larger one streamed.
    let (held, passing) = match right {
        Some(r) if r.len() < left.len() => (r, Some(left)),
        other => (left, other),
    };
    let (inputs, outputs) = inputs_and_outputs(left);
    let shapes = Shapes {
        parameters,
        options,
        sites: longest(parameters, left, right),
        outputs,
        inputs,
        longest: most,
        scale: (scale(held), scale(passing.unwrap_or(held))),
        examples: (held.len(), passing.map_or(0, Examples::len)),
        same: right.is_none(),
    };
    shapes.estimate(left, right)
}

impl Shapes<'_> {
    fn estimate(&self, left: &dyn Examples, right: Option<&dyn Examples>) -> KernelEstimate {
        let rate = measured_rate(self.parameters.kind(), self.parameters.device(), None);
        // Products of gradients in single precision, and on matrix units.
        let single = PRODUCT_EFFICIENCY * rate;
        let units = if self.on_units().is_some() {
            UNIT_EFFICIENCY * measured_rate(Kind::Float, Device::Cpu, self.options.parts)
        } else {
            single
        };
        let example = example_bytes(self.parameters, &self.sites, left, self.options);
        let (n, m) = self.examples;
        let keep = self.options.keep_bytes as f64;
        // Bytes of an example on either side, on average, as if all of an example grew with its tokens, and how many of them a part of
        // what is kept has room for.
        let bytes = (example * self.scale.0, example * self.scale.1);
        let fit = |share: f64, bytes: f64| ((share / bytes) as usize).max(1);
        let (hold, pass) = match (self.same, n as f64 * bytes.0 <= keep) {
            (true, true) => (n, 0),
            (true, false) => (fit(HELD * keep, bytes.0), fit((1.0 - HELD) * keep, bytes.0)),
            (false, _) => {
                let hold = n.min(fit(HELD * keep, bytes.0)).max(1);
                (hold, m.min(fit(keep - hold as f64 * bytes.0, bytes.1)).max(1))
            }
        };
        // Examples kept, as if all of them were the longest.
        let kept = (hold as f64 * self.scale.0 + pass as f64 * self.scale.1)
            .min(n as f64 * self.scale.0 + m as f64 * self.scale.1);
        let held_panels = n.div_ceil(hold);
        // Every held panel meets all later examples of the same set, or all of the other set.
        let passing = if self.same { n.saturating_sub(hold) * held_panels / 2 } else { m * held_panels };
        let passing_panels = if pass == 0 { 0.0 } else { passing as f64 / pass as f64 };
        let mut layers: Vec<LayerEstimate> = Vec::new();
        let mut operations = 0.0;
        for site in &self.sites {
            let p = site.parameter();
            if let SiteShape::Linear { tokens, .. } = *site {
                operations += 4.0 * self.entries(p) * self.inputs * tokens as f64 * self.outputs.mul_add(0.5, 0.5);
            }
            if !self.options.include[p.0] {
                continue;
            }
            let spec = &self.parameters.specs()[p.0];
            if layers.iter().all(|l| l.layer != spec.layer) {
                let (layer, methods) = (spec.layer.clone(), BTreeMap::new());
                layers.push(LayerEstimate { layer, entries: 0, methods, bytes: 0.0, seconds: 0.0 });
            }
            let layer = layers.iter_mut().find(|l| l.layer == spec.layer).expect("pushed above");
            let size = element(self.options.factor_kind(self.parameters));
            layer.bytes += kept * self.inputs * site_bytes(self.parameters, site, self.outputs, size);
            // A parameter with several uses is multiplied once.
            let again = self.sites.iter().take_while(|s| !std::ptr::eq(*s, site)).any(|s| s.parameter() == p);
            if !again {
                let own = self.products(site, (hold, hold), true);
                let other = self.products(site, (hold, pass.max(1)), false);
                let cost = if self.same { held_panels as f64 * own.1 } else { 0.0 } + passing_panels * other.1;
                layer.entries += spec.numel();
                *layer.methods.entry(if self.same { own.0 } else { other.0 }).or_default() += 1;
                layer.seconds += 2.0 * cost / if own.2 { units } else { single };
            }
        }
        let recorded = n + passing;
        let batch = longest_batch(self.options.batch, self.longest);
        let packed = memory_of_kept(self.parameters, &self.sites, left, self.options);
        let passes_of_longest = n as f64 * self.scale.0 + passing as f64 * self.scale.1;
        KernelEstimate {
            layers,
            pass_seconds: operations * passes_of_longest / rate / PASS_EFFICIENCY,
            memory: MemoryEstimate {
                fixed: fixed_bytes(self.parameters),
                results: result_bytes(left, right, self.options),
                factors: packed * kept * example,
                pass: TRANSIENT * (batch * passes(self.parameters, self.options) as f64).min(n.max(m) as f64) * example,
                tiles: tile_bytes(self.parameters, self.options),
            },
            panels: (hold, pass),
            recorded,
            rate,
        }
    }

    fn entries(&self, p: Param) -> f64 {
        self.parameters.specs()[p.0].numel() as f64
    }

    fn on_units(&self) -> Option<Parts> {
        let kind = self.options.factor_kind(self.parameters);
        self.options.parts_used(self.parameters).and(self.options.on_units(kind, self.parameters.device()))
    }

    /// Method and cost of one parameter between panels of this many examples, and whether that is a cost of matrix units.
    fn products(&self, site: &SiteShape, (hold, pass): (usize, usize), same: bool) -> (&'static str, f64, bool) {
        let p = site.parameter();
        let spec = &self.parameters.specs()[p.0];
        let shape = (spec.shape[0], spec.shape[1..].iter().product());
        let outputs = self.outputs as i64;
        // An output with separate inputs is treated as an example.
        let (hold, pass) = (hold as i64 * self.inputs as i64, pass as i64 * self.inputs as i64);
        // Gradients of a weight with several uses are sums over the uses: more tokens, and no ghost products.
        let uses = || self.sites.iter().filter(|s| s.parameter() == p);
        let (tokens, height) = match *site {
            SiteShape::Linear { .. } => (uses().map(SiteShape::tokens).sum(), shape.0),
            SiteShape::Vector { .. } => (1, shape.0),
            // Rows that some example touches, assuming that none is shared.
            SiteShape::Rows { rows, .. } => (1, (rows * hold.max(pass)).min(shape.0)),
        };
        // Nothing is shorter than the token that an answer is read at.
        let all = |examples: i64, scale: f64| ((tokens as f64 * scale).max(1.0) * examples as f64).round() as i64;
        let pairing = Pairing {
            tokens: (all(hold, self.scale.0), all(pass, self.scale.1)),
            longest: tokens,
            outputs,
            rows: (hold * outputs, pass * outputs),
            shape: (height, shape.1),
            same,
            units: self.on_units(),
        };
        let formulas = work::wanted(self.options.formulas, spec.is_structural_zero());
        let method = match site {
            SiteShape::Linear { .. } if uses().count() == 1 => {
                let method = self.options.method.unwrap_or_else(|| pairing.choose(formulas));
                if pairing.allows_ghost(formulas) { method } else { Method::Tiles }
            }
            _ => Method::Tiles,
        };
        (method.name(), pairing.cost(method, formulas), pairing.uses_units(formulas))
    }
}

/// Operations per second of a medium-sized linear map, the best of a few.
fn measured_rate(kind: Kind, device: Device, parts: Option<Parts>) -> f64 {
    const SIZE: i64 = 512;
    let a = Tensor::ones([SIZE, SIZE], (kind, device));
    let time = || {
        let start = Instant::now();
        let _ = linear(&a, &a, None, parts).double_value(&[0, 0]);
        start.elapsed().as_secs_f64()
    };
    let best = (0..6).map(|_| time()).fold(f64::INFINITY, f64::min);
    2.0 * (SIZE * SIZE * SIZE) as f64 / best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::FormulaSet;
    use crate::lm::{Architecture, MaskedLm, OutputMode, PromptExample, PromptExamples, random};

    /// Fifteen short examples and a long one take the time and the memory of their tokens. Fails for: either of sixteen long ones, of
    /// sixteen short ones.
    #[test]
    fn short_examples_cost_what_they_have_of_the_longest() {
        let model = MaskedLm::new(random::tiny(Architecture::Bert, 60));
        let parameters = random::parameters(&model, 3, 1.0, Kind::Float, Device::Cpu);
        let of = |lengths: &[i64]| {
            let prompt = |length: &i64| PromptExample {
                input_ids: (5..5 + length).collect(),
                segment_ids: vec![0; *length as usize],
                mask_position: 3,
            };
            let prompts = lengths.iter().map(prompt).collect();
            PromptExamples::new(&model, prompts, &[8, 11], OutputMode::Difference, Device::Cpu).expect("valid")
        };
        let mut lengths = [6; 16];
        lengths[4] = 24;
        let (long, mixed) = (of(&[24; 16]), of(&lengths));
        let mut options = GramOptions::new(FormulaSet::ALL, parameters.len());
        // Without padding.
        options.batch = 1;
        let example = example_bytes(&parameters, &longest(&parameters, &long, None), &long, &options);
        options.keep_bytes = (8.0 * example) as usize;
        let [long, mixed] = [&long, &mixed].map(|examples| estimate_gram(&parameters, examples, None, &options));
        let share = 114.0 / 384.0;
        let passes = (mixed.pass_seconds * mixed.rate) / (long.pass_seconds * long.rate);
        assert!(long.recorded > 16 && mixed.recorded == 16, "{} and {}", long.recorded, mixed.recorded);
        assert!((passes * long.recorded as f64 / 16.0 - share).abs() < 1e-9, "{passes}");
        let kept = long.panels.0 + long.panels.1;
        assert!(mixed.panels == (16, 0) && (6..=8).contains(&kept), "{:?} and {kept}", mixed.panels);
        let factors = mixed.memory.factors / long.memory.factors;
        assert!((factors * kept as f64 / 16.0 - share).abs() < 1e-9, "{factors}");
        let products = |e: &KernelEstimate| e.layers.iter().map(|l| l.seconds).sum::<f64>() * e.rate;
        assert!(products(&mixed) < products(&long), "{} of {}", products(&mixed), products(&long));
    }
}
