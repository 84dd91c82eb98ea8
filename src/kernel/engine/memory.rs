//! How much memory a computation takes, and how many gradients to keep so that a memory limit holds. Derived from shapes
//! alone, so that the same command makes the same choice everywhere.

use std::collections::BTreeMap;

use tch::{Device, Kind};

use super::Arithmetic;
use super::batches::most_tokens;
use super::options::GramOptions;
use crate::device::threads;
use crate::error::{Error, Result};
use crate::jacobian::{Examples, PackedFactors, Parameters, SiteShape, StripFactors, shapes};
use crate::setting::Field;

/// Bytes that a process with libtorch takes before it holds a tensor: code, thread stacks, buffers of matrix products.
const RUNTIME: f64 = 4e8;

/// Memory of a pass beyond the factors that it leaves, relative to these: activations saved by autograd, and freed blocks
/// that do not fit the next pass.
pub(super) const TRANSIENT: f64 = 2.0;

/// Memory of kept factors on the CPU relative to their bytes: they are scattered among blocks freed by their pass, of which
/// the next pass reuses only some. Measured at RoBERTa-base's shape.
const SCATTERED: f64 = 1.4;

/// Memory by purpose, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryEstimate {
    /// libtorch and the parameters.
    pub fixed: f64,
    /// The kernel matrices, and one panel's products.
    pub results: f64,
    /// Gradient factors kept at a time.
    pub factors: f64,
    /// Passes that run in parallel.
    pub pass: f64,
    /// Tile buffers of all threads.
    pub tiles: f64,
}

impl MemoryEstimate {
    /// The peak.
    pub fn total(&self) -> f64 {
        self.fixed + self.results + self.factors + self.pass + self.tiles
    }
}

impl GramOptions {
    /// Chooses how many gradients to keep, how many passes to run in parallel, and on how many examples, so that the whole
    /// process stays within `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Setting`], with the smallest sufficient limit, if one example on each side does not fit.
    pub fn fit(
        &mut self,
        parameters: &Parameters,
        left: &dyn Examples,
        right: Option<&dyn Examples>,
        limit: f64,
    ) -> Result<()> {
        let sites = longest(parameters, left, right);
        let example = example_bytes(parameters, &sites, left, self);
        let rest = limit - fixed_bytes(parameters) - result_bytes(left, right, self) - tile_bytes(parameters, self);
        // One example in a pass, with the activations that autograd saves, and one on each side.
        let kept = memory_of_kept(parameters, &sites, left, self);
        let least = (TRANSIENT + 2.0 * kept) * example;
        if rest < least {
            let needed = limit - rest + least;
            let expected = format!(
                "{} or more for this kernel: {} for libtorch and the parameters, {} for the kernel matrices, {} for the threads' \
                 tiles, {} for the gradients of two examples and one pass",
                megabytes(needed),
                megabytes(fixed_bytes(parameters)),
                megabytes(result_bytes(left, right, self)),
                megabytes(tile_bytes(parameters, self)),
                megabytes(least),
            );
            return Err(Error::setting(Field::Memory, megabytes(limit), expected));
        }
        let longest = longest_cost(left, right);
        // A batch for every parallel pass, and as many on each side. First reduces the number of passes, then the batch
        // size.
        let at_once = |passes: usize, batch: usize| passes as f64 * longest_batch(batch, longest) * example;
        self.passes = passes(parameters, self);
        while self.passes > 1 && (TRANSIENT + 2.0 * kept) * at_once(self.passes, self.batch) > rest {
            self.passes -= 1;
        }
        while self.batch > 1 && (TRANSIENT + 2.0 * kept) * at_once(self.passes, self.batch) > rest {
            self.batch -= 1;
        }
        self.keep_bytes = ((rest - TRANSIENT * at_once(self.passes, self.batch)) / kept) as usize;
        Ok(())
    }
}

/// Maximum padded tokens of a batch, relative to the longest example's.
pub(super) fn longest_batch(batch: usize, longest: usize) -> f64 {
    (batch * longest).min(most_tokens(longest)) as f64 / longest as f64
}

fn costs(examples: &dyn Examples) -> impl Iterator<Item = usize> {
    (0..examples.len()).map(|i| examples.cost(i))
}

/// Sites of the longest example of both sets.
pub(super) fn longest(parameters: &Parameters, left: &dyn Examples, right: Option<&dyn Examples>) -> Vec<SiteShape> {
    let last = |e: &dyn Examples| (0..e.len()).max_by_key(|i| e.cost(*i)).unwrap_or(0);
    let i = last(left);
    match right.map(|r| (r, last(r))) {
        Some((r, j)) if r.cost(j) > left.cost(i) => shapes(parameters, r, j),
        _ => shapes(parameters, left, i),
    }
}

pub(super) fn element(kind: Kind) -> f64 {
    kind.elt_size_in_bytes() as f64
}

/// Bytes of a site's factors for one example, or for one output if outputs have separate inputs.
pub(super) fn site_bytes(parameters: &Parameters, site: &SiteShape, outputs: f64, size: f64) -> f64 {
    let spec = &parameters.specs()[site.parameter().0];
    let (height, width) = (spec.shape[0] as f64, spec.shape[1..].iter().product::<i64>() as f64);
    match *site {
        SiteShape::Linear { tokens, shared_input, .. } => {
            tokens as f64 * size * (outputs * height + if shared_input { 0.0 } else { width })
        }
        SiteShape::Vector { .. } => outputs * height * size,
        SiteShape::Rows { rows, .. } => rows as f64 * (outputs * width * size + 8.0),
    }
}

pub(super) fn example_bytes(
    parameters: &Parameters,
    sites: &[SiteShape],
    examples: &dyn Examples,
    options: &GramOptions,
) -> f64 {
    let size = element(options.factor_kind(parameters));
    let (inputs, outputs) = inputs_and_outputs(examples);
    inputs * sites.iter().map(|s| site_bytes(parameters, s, outputs, size)).sum::<f64>()
}

/// Number of input sets per example, and of outputs with the same inputs.
pub(super) fn inputs_and_outputs(examples: &dyn Examples) -> (f64, f64) {
    let outputs = examples.outputs() as f64;
    if examples.separate() { (outputs, 1.0) } else { (1.0, outputs) }
}

/// Memory of kept factors relative to their bytes: with those of a parameter that every thread packs for its tiles.
pub(super) fn memory_of_kept(
    parameters: &Parameters,
    sites: &[SiteShape],
    examples: &dyn Examples,
    options: &GramOptions,
) -> f64 {
    if parameters.device() != Device::Cpu {
        return 1.0;
    }
    if options.arithmetic_on(Device::Cpu) != Arithmetic::Cores {
        return SCATTERED;
    }
    let kind = options.factor_kind(parameters);
    // Units take whole steps of tokens, and gradients of few tokens, too, if others have more.
    let (packed, step, least) = match options.parts_used(parameters) {
        Some(parts) => (element(Kind::BFloat16) * parts.count() as f64, PackedFactors::STEP, 1),
        None if kind == Kind::Float => (element(kind), 1, StripFactors::LEAST_TOKENS),
        None => return SCATTERED,
    };
    let (inputs, outputs) = inputs_and_outputs(examples);
    let mut largest = BTreeMap::new();
    for site in sites {
        if let SiteShape::Linear { weight, tokens, .. } = *site
            && options.include[weight.0]
            && tokens >= least
        {
            let tokens = (tokens as u64).next_multiple_of(step as u64) as i64;
            let alone = SiteShape::Linear { weight, tokens, shared_input: false };
            *largest.entry(weight).or_insert(0.0) += inputs * site_bytes(parameters, &alone, outputs, packed);
        }
    }
    let largest = largest.into_values().fold(0.0, f64::max);
    SCATTERED + threads() as f64 * largest / example_bytes(parameters, sites, examples, options)
}

pub(super) fn fixed_bytes(parameters: &Parameters) -> f64 {
    RUNTIME + parameters.numel() as f64 * element(parameters.kind())
}

/// All matrices, and the same again for the products that are added to them.
pub(super) fn result_bytes(left: &dyn Examples, right: Option<&dyn Examples>, options: &GramOptions) -> f64 {
    let f = options.formulas;
    let matrices = f64::from(u8::from(f.sgd) + 2 * u8::from(f.asymmetric) + u8::from(f.signgd));
    let rows = (left.len() * left.outputs()) as f64;
    let columns = right.map_or(rows, |r| (r.len() * r.outputs()) as f64);
    let shares = if options.share_matrices { options.include.iter().filter(|i| **i).count() as f64 } else { 0.0 };
    8.0 * rows * columns * (2.0 * matrices + 2.0 * shares)
}

/// Bytes of one token's factors, from the shapes of the longest example.
pub(super) fn token_bytes(parameters: &Parameters, examples: &dyn Examples, options: &GramOptions) -> f64 {
    let sites = longest(parameters, examples, None);
    example_bytes(parameters, &sites, examples, options) / longest_cost(examples, None) as f64
}

/// Maximum number of parallel passes.
pub(super) fn passes(parameters: &Parameters, options: &GramOptions) -> usize {
    match options.arithmetic_on(parameters.device()) {
        Arithmetic::Cores => options.passes.min(threads()),
        Arithmetic::Matrices => 1,
    }
}

pub(super) fn tile_bytes(parameters: &Parameters, options: &GramOptions) -> f64 {
    let threads = match options.arithmetic_on(parameters.device()) {
        Arithmetic::Cores => threads() as f64,
        Arithmetic::Matrices => 1.0,
    };
    // Two sides, each with room for its signs.
    4.0 * threads * options.tile_entries(parameters.device()) as f64 * element(options.factor_kind(parameters))
}

/// `1500 MB`, rounded up, so that the printed limit suffices.
fn megabytes(bytes: f64) -> String {
    format!("{:.0} MB", (bytes / 1e6).ceil())
}

pub(super) fn longest_cost(left: &dyn Examples, right: Option<&dyn Examples>) -> usize {
    costs(left).chain(right.into_iter().flat_map(costs)).max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::FormulaSet;
    use crate::lm::{Architecture, MaskedLm, ModelConfig, OutputMode, PromptExample, PromptExamples, random};
    use crate::products::Parts;

    /// Kept factors with those of the largest weight, 160 x 96, in every thread: only where they are packed. Fails for: weights that are
    /// left out of the kernel, the wrong number of bytes, a weight's two factors of which one is forgotten.
    #[test]
    fn packed_factors_count_where_there_are_any() {
        const TOKENS: usize = 24;
        const STEP: usize = PackedFactors::STEP as usize;
        let shape = random::tiny(Architecture::Bert, 60);
        let model = MaskedLm::new(ModelConfig { hidden_size: 96, intermediate_size: 160, ..shape });
        let prompt = PromptExample {
            input_ids: (5..5 + TOKENS as i64).collect(),
            segment_ids: vec![0; TOKENS],
            mask_position: 20,
        };
        let examples = PromptExamples::new(&model, vec![prompt], &[8, 11], OutputMode::Difference, Device::Cpu);
        let examples = examples.expect("valid");
        let packed = |kind: Kind, change: fn(&mut GramOptions)| {
            let parameters = random::parameters(&model, 3, 1.0, kind, Device::Cpu);
            let mut options = GramOptions::new(FormulaSet::ALL, parameters.len());
            change(&mut options);
            let sites = longest(&parameters, &examples, None);
            let more = memory_of_kept(&parameters, &sites, &examples, &options) - SCATTERED;
            (more * example_bytes(&parameters, &sites, &examples, &options)).round()
        };
        let numbers = (threads() * TOKENS * (96 + 160)) as f64;
        assert_eq!(packed(Kind::Float, |_| ()), 4.0 * numbers);
        let units = crate::products::splits(Parts::Three);
        let in_steps = numbers * STEP as f64 / TOKENS as f64;
        let expected = if units { 6.0 * in_steps } else { 4.0 * numbers };
        assert_eq!(packed(Kind::Float, |options| options.parts = Some(Parts::Three)), expected);
        assert_eq!(packed(Kind::Double, |_| ()), 0.0);
        assert_eq!(packed(Kind::Float, |options| options.arithmetic = Some(Arithmetic::Matrices)), 0.0);
        assert_eq!(packed(Kind::Float, |options| options.include.fill(false)), 0.0);
    }
}
