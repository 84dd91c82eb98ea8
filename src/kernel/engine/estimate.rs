//! What a computation will cost, before it runs: method, time and memory by layer, and how many gradients to keep so that
//! a memory limit holds. Derived from shapes alone, so that the same command makes the same estimate everywhere; only the
//! rate of matrix products, by which operations become seconds, is measured.

use std::collections::BTreeMap;
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::method::{Method, Pairing};
use super::options::GramOptions;
use super::panel::{most_tokens, padded, parts};
use super::{Arithmetic, HELD, work};
use crate::device::threads;
use crate::error::{Error, Result};
use crate::jacobian::{Examples, Param, Parameters, SiteShape, shapes};
use crate::setting::Field;

/// Bytes that a process with libtorch takes before it holds a tensor: code, thread stacks, buffers of matrix products.
const RUNTIME: f64 = 4e8;

/// What one pass needs beyond the factors it leaves, in units of these: activations that autograd saves, and freed blocks
/// that do not fit the next pass.
const TRANSIENT: f64 = 2.0;

/// Memory of kept factors on the CPU in units of their bytes: they lie among blocks that their pass has freed, and the next
/// pass fills only part of these. Measured at the shape of RoBERTa-base.
const SCATTERED: f64 = 1.4;

/// Share of the rate of matrix products that a pass through a network reaches: the rest is activations and
/// normalization, which are bound by memory.
const PASS_EFFICIENCY: f64 = 0.6;

/// The same for products of gradients.
const PRODUCT_EFFICIENCY: f64 = 0.8;

/// What a computation will take.
#[derive(Clone, Debug)]
pub struct KernelEstimate {
    /// By layer, in the network's order.
    pub layers: Vec<LayerEstimate>,
    /// Seconds for forward and backward passes.
    pub pass_seconds: f64,
    /// Bytes by purpose.
    pub memory: MemoryEstimate,
    /// Examples of a panel that is held, and of one that passes by.
    pub panels: (usize, usize),
    /// Examples that are recorded, those that are recorded again included.
    pub recorded: usize,
    /// Measured rate of matrix products in operations a second.
    pub rate: f64,
}

impl KernelEstimate {
    /// Seconds in all.
    pub fn seconds(&self) -> f64 {
        self.pass_seconds + self.layers.iter().map(|l| l.seconds).sum::<f64>()
    }
}

/// What one layer takes of it.
#[derive(Clone, Debug)]
pub struct LayerEstimate {
    /// Name as in reports.
    pub layer: String,
    /// Parameter entries.
    pub entries: i64,
    /// Methods with the number of parameter tensors that they are chosen for.
    pub methods: BTreeMap<&'static str, usize>,
    /// Bytes of gradient factors of the examples that are kept at a time.
    pub bytes: f64,
    /// Seconds for products of gradients.
    pub seconds: f64,
}

/// Bytes by purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryEstimate {
    /// libtorch and the parameters.
    pub fixed: f64,
    /// The kernel matrices, and one panel's products.
    pub results: f64,
    /// Gradient factors that are kept at a time.
    pub factors: f64,
    /// What the passes that run at a time need.
    pub pass: f64,
    /// Tiles that threads write gradients to.
    pub tiles: f64,
}

impl MemoryEstimate {
    /// The peak.
    pub fn total(&self) -> f64 {
        self.fixed + self.results + self.factors + self.pass + self.tiles
    }
}

/// The shapes behind an estimate, for one example of the greatest length.
struct Shapes<'a> {
    parameters: &'a Parameters,
    options: &'a GramOptions,
    sites: Vec<SiteShape>,
    /// Outputs over the same inputs.
    outputs: f64,
    /// Sets of inputs of an example: as many as outputs where each has its own.
    inputs: f64,
    /// Padded tokens of all left and all right examples.
    tokens: (f64, f64),
    examples: (usize, usize),
    same: bool,
}

impl GramOptions {
    /// Chooses how many gradients to keep, how many passes run at a time, and over how many examples, so that the whole
    /// process stays within `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Setting`] with the least limit that would do, where one example on each side does not fit.
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
        // One part that passes, with what autograd keeps, and a part on either side.
        let kept = memory_of_kept(parameters);
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
        // A part of every pass that runs at a time, and as many on either side; smaller ones only where there is one pass.
        let at_once = |passes: usize, batch: usize| passes as f64 * longest_part(batch, longest) * example;
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

/// Most padded tokens of a part, in units of the longest example's.
fn longest_part(batch: usize, longest: usize) -> f64 {
    (batch * longest).min(most_tokens(longest)) as f64 / longest as f64
}

fn costs(examples: &dyn Examples) -> impl Iterator<Item = usize> {
    (0..examples.len()).map(|i| examples.cost(i))
}

/// Sites of the longest example of both sets.
fn longest(parameters: &Parameters, left: &dyn Examples, right: Option<&dyn Examples>) -> Vec<SiteShape> {
    let last = |e: &dyn Examples| (0..e.len()).max_by_key(|i| e.cost(*i)).unwrap_or(0);
    let i = last(left);
    match right.map(|r| (r, last(r))) {
        Some((r, j)) if r.cost(j) > left.cost(i) => shapes(parameters, r, j),
        _ => shapes(parameters, left, i),
    }
}

fn element(kind: Kind) -> f64 {
    kind.elt_size_in_bytes() as f64
}

/// Bytes of the factors of one example, or of one output with inputs of its own, at a site.
fn site_bytes(parameters: &Parameters, site: &SiteShape, outputs: f64, size: f64) -> f64 {
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

fn example_bytes(parameters: &Parameters, sites: &[SiteShape], examples: &dyn Examples, options: &GramOptions) -> f64 {
    let size = element(options.factor_kind(parameters));
    let (inputs, outputs) = inputs_and_outputs(examples);
    inputs * sites.iter().map(|s| site_bytes(parameters, s, outputs, size)).sum::<f64>()
}

/// Sets of inputs of an example, and outputs over the same inputs.
fn inputs_and_outputs(examples: &dyn Examples) -> (f64, f64) {
    let outputs = examples.outputs() as f64;
    if examples.separate() { (outputs, 1.0) } else { (1.0, outputs) }
}

/// Memory of kept factors in units of their bytes.
fn memory_of_kept(parameters: &Parameters) -> f64 {
    if parameters.device() == Device::Cpu { SCATTERED } else { 1.0 }
}

fn fixed_bytes(parameters: &Parameters) -> f64 {
    RUNTIME + parameters.numel() as f64 * element(parameters.kind())
}

/// All matrices, and as much again for the products that are added to them.
fn result_bytes(left: &dyn Examples, right: Option<&dyn Examples>, options: &GramOptions) -> f64 {
    let f = options.formulas;
    let matrices = f64::from(u8::from(f.sgd) + 2 * u8::from(f.asymmetric) + u8::from(f.signgd));
    let rows = (left.len() * left.outputs()) as f64;
    let columns = right.map_or(rows, |r| (r.len() * r.outputs()) as f64);
    let shares = if options.share_matrices { options.include.iter().filter(|i| **i).count() as f64 } else { 0.0 };
    8.0 * rows * columns * (2.0 * matrices + 2.0 * shares)
}

/// Bytes of the factors of one token, from the shapes of the longest example.
pub(super) fn token_bytes(parameters: &Parameters, examples: &dyn Examples, options: &GramOptions) -> f64 {
    let sites = longest(parameters, examples, None);
    example_bytes(parameters, &sites, examples, options) / longest_cost(examples, None) as f64
}

/// Most passes that run at a time.
pub(super) fn passes(parameters: &Parameters, options: &GramOptions) -> usize {
    match options.arithmetic_on(parameters.device()) {
        Arithmetic::Cores => options.passes.min(threads()),
        Arithmetic::Matrices => 1,
    }
}

fn tile_bytes(parameters: &Parameters, options: &GramOptions) -> f64 {
    let threads = match options.arithmetic_on(parameters.device()) {
        Arithmetic::Cores => threads() as f64,
        Arithmetic::Matrices => 1.0,
    };
    // Two sides, each with room for its signs.
    4.0 * threads * options.tile_entries(parameters.device()) as f64 * element(options.factor_kind(parameters))
}

/// `1500 MB`, rounded up: a limit that is given as it is printed suffices.
fn megabytes(bytes: f64) -> String {
    format!("{:.0} MB", (bytes / 1e6).ceil())
}

/// What [`super::structured_gram`] will take with the same arguments.
pub fn estimate_gram(
    parameters: &Parameters,
    left: &dyn Examples,
    right: Option<&dyn Examples>,
    options: &GramOptions,
) -> KernelEstimate {
    let total = |e: &dyn Examples| parts(e, options.batch).iter().map(|p| padded(e, p)).sum::<usize>() as f64;
    // The smaller set is held.
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
        tokens: (total(held), passing.map_or(0.0, total)),
        examples: (held.len(), passing.map_or(0, Examples::len)),
        same: right.is_none(),
    };
    shapes.estimate(left, right)
}

impl Shapes<'_> {
    fn estimate(&self, left: &dyn Examples, right: Option<&dyn Examples>) -> KernelEstimate {
        let rate = measured_rate(self.parameters.kind(), self.parameters.device());
        let example = example_bytes(self.parameters, &self.sites, left, self.options);
        let room = (self.options.keep_bytes as f64 / example).max(2.0);
        let (n, m) = self.examples;
        let (hold, pass) = match (self.same, n as f64 <= room) {
            (true, true) => (n, 0),
            (true, false) => (((HELD * room) as usize).max(1), (((1.0 - HELD) * room) as usize).max(1)),
            (false, _) => {
                let hold = n.min((HELD * room) as usize).max(1);
                (hold, m.min(room as usize - hold.min(room as usize - 1)).max(1))
            }
        };
        let held_panels = n.div_ceil(hold);
        // Every held panel sees all later examples of the same set, or all of the other one.
        let passing = if self.same { n.saturating_sub(hold) * held_panels / 2 } else { m * held_panels };
        let passing_panels = if pass == 0 { 0.0 } else { passing as f64 / pass as f64 };
        let per_example = self.tokens.0.max(1.0) / n as f64;
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
            let kept = (hold + pass).min(n + m) as f64;
            let size = element(self.options.factor_kind(self.parameters));
            layer.bytes += kept * self.inputs * site_bytes(self.parameters, site, self.outputs, size);
            // A parameter that is used twice is multiplied once.
            let again = self.sites.iter().take_while(|s| !std::ptr::eq(*s, site)).any(|s| s.parameter() == p);
            if !again {
                let own = self.products(site, (hold, hold), true);
                let other = self.products(site, (hold, pass.max(1)), false);
                let cost = if self.same { held_panels as f64 * own.1 } else { 0.0 } + passing_panels * other.1;
                layer.entries += spec.numel();
                *layer.methods.entry(if self.same { own.0 } else { other.0 }).or_default() += 1;
                layer.seconds += 2.0 * cost / rate / PRODUCT_EFFICIENCY;
            }
        }
        let recorded = n + passing;
        let longest = longest_cost(left, right);
        let scale = per_example / longest as f64;
        let part = longest_part(self.options.batch, longest);
        KernelEstimate {
            layers,
            pass_seconds: operations * scale * recorded as f64 / rate / PASS_EFFICIENCY,
            memory: MemoryEstimate {
                fixed: fixed_bytes(self.parameters),
                results: result_bytes(left, right, self.options),
                factors: memory_of_kept(self.parameters) * (hold + pass).min(n + m) as f64 * example * scale,
                pass: TRANSIENT * (part * passes(self.parameters, self.options) as f64).min(n.max(m) as f64) * example,
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

    /// Method and cost of one parameter between panels of this many examples.
    fn products(&self, site: &SiteShape, (hold, pass): (usize, usize), same: bool) -> (&'static str, f64) {
        let p = site.parameter();
        let spec = &self.parameters.specs()[p.0];
        let shape = (spec.shape[0], spec.shape[1..].iter().product());
        let outputs = self.outputs as i64;
        // An output with inputs of its own is multiplied like an example.
        let (hold, pass) = (hold as i64 * self.inputs as i64, pass as i64 * self.inputs as i64);
        // Gradients of a weight that is used twice are sums over its uses: more tokens, and no ghost products.
        let uses = || self.sites.iter().filter(|s| s.parameter() == p);
        let (tokens, height) = match *site {
            SiteShape::Linear { .. } => (uses().map(SiteShape::tokens).sum(), shape.0),
            SiteShape::Vector { .. } => (1, shape.0),
            // Rows that some example touches; a guess that no row is shared.
            SiteShape::Rows { rows, .. } => (1, (rows * hold.max(pass)).min(shape.0)),
        };
        let pairing = Pairing {
            tokens: (tokens * hold, tokens * pass),
            longest: tokens,
            outputs,
            rows: (hold * outputs, pass * outputs),
            shape: (height, shape.1),
            same,
        };
        let formulas = work::wanted(self.options.formulas, spec.is_structural_zero());
        let method = match site {
            SiteShape::Linear { .. } if uses().count() == 1 => {
                let method = self.options.method.unwrap_or_else(|| pairing.choose(formulas));
                if pairing.allows_ghost(formulas) { method } else { Method::Tiles }
            }
            _ => Method::Tiles,
        };
        (method.name(), pairing.cost(method, formulas))
    }
}

fn longest_cost(left: &dyn Examples, right: Option<&dyn Examples>) -> usize {
    costs(left).chain(right.into_iter().flat_map(costs)).max().unwrap_or(1)
}

/// Operations a second of a matrix product of middling size, the best of a few.
fn measured_rate(kind: Kind, device: Device) -> f64 {
    const SIZE: i64 = 512;
    let a = Tensor::ones([SIZE, SIZE], (kind, device));
    let time = || {
        let start = Instant::now();
        let _ = a.mm(&a).double_value(&[0, 0]);
        start.elapsed().as_secs_f64()
    };
    let best = (0..6).map(|_| time()).fold(f64::INFINITY, f64::min);
    2.0 * (SIZE * SIZE * SIZE) as f64 / best
}
