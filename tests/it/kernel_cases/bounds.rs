//! Accepted differences of an engine's kernels from the reference's, and the comparison.

use kernelview::jacobian::{Examples, Parameters};
use kernelview::kernel::{Formula, FormulaSet, Gram, dense_jacobian, sign_rows};
use tch::{Kind, Tensor};

/// Allowed differences in double precision, relative to a kernel's largest entry.
pub const DOUBLE: f64 = 1e-10;

/// The same in single precision: about a hundred successive roundings of 6e-8 through the network, forward and backward; the
/// observed differences are 2e-6.
const SINGLE: f64 = 2e-5;

/// Round-off of a gradient entry in single precision, relative to the largest entry of the same parameter in the same row:
/// smaller entries have doubtful signs. The observed differences are 4e-6, for queries and keys, whose entries are themselves
/// differences of larger numbers.
const DOUBTFUL: f64 = 2e-5;

/// Accepted differences of an engine from the reference.
pub struct Bounds {
    /// Relative to the largest entry.
    relative: f64,
    /// The largest effect of doubtful signs on each entry of the asymmetric kernel, of the reversed one and of SignGD's, and on
    /// the traces of SignGD by parameter; `None` in double precision.
    pub doubt: Option<([Tensor; 3], Vec<f64>)>,
}

impl Bounds {
    pub const DOUBLE: Self = Self { relative: DOUBLE, doubt: None };

    /// A doubtful sign `s` changes a product `g·s` by up to `2|g|`, and a product of signs by up to 2.
    pub fn single(parameters: &Parameters, left: &dyn Examples, right: Option<&dyn Examples>) -> Self {
        let side = |examples: &dyn Examples| {
            let j = dense_jacobian(parameters, examples).expect("not interrupted");
            let (nonzero, size) = (sign_rows(parameters, &j).abs(), j.abs());
            let mut start = 0;
            let parts = parameters.specs().iter().map(|spec| {
                let part = size.narrow(1, start, spec.numel());
                start += spec.numel();
                part.le_tensor(&(part.amax([1], true) * DOUBTFUL)).to_kind(Kind::Double)
            });
            let doubtful = Tensor::cat(&parts.collect::<Vec<_>>(), 1) * &nonzero;
            (size, nonzero, doubtful)
        };
        let l = side(left);
        let other = right.map(side);
        let r = other.as_ref().unwrap_or(&l);
        let product = |a: &Tensor, b: &Tensor| a.mm(&b.tr()) * 2.0;
        let slack = [product(&l.0, &r.2), product(&l.2, &r.0), product(&l.2, &r.1) + product(&l.1, &r.2)];
        let mut start = 0;
        let traces = parameters.specs().iter().map(|spec| {
            start += spec.numel();
            l.2.narrow(1, start - spec.numel(), spec.numel()).sum(Kind::Double).double_value(&[])
        });
        Self { relative: SINGLE, doubt: Some((slack, traces.collect())) }
    }
}

/// A kernel in single precision against the values of every formula, allowing for doubtful signs; the network and its examples
/// are those in double precision. `relative` is the tolerance of sums, relative to the largest entry.
pub fn agrees_in_single_precision(
    what: &str,
    gram: &Gram,
    expected: impl Fn(Formula) -> Tensor,
    (parameters, examples): (&Parameters, &dyn Examples),
    relative: f64,
) {
    let doubt = Bounds::single(parameters, examples, None).doubt.expect("in single precision");
    let mut failures = Failures::default();
    for (formula, relative, slack) in [
        (Formula::Sgd, relative, None),
        (Formula::Asymmetric, relative, Some(&doubt.0[0])),
        (Formula::Signgd, 0.0, Some(&doubt.0[2])),
    ] {
        let found = gram.matrix(formula).expect("computed");
        failures.near(&format!("{what} {formula}"), found, &expected(formula), relative, slack);
    }
    failures.none();
}

/// Whether all entries are within a bound; a NaN is not.
fn all_within(t: &Tensor, bound: f64) -> bool {
    t.le(bound).all().int64_value(&[]) == 1
}

/// Differences beyond their bounds, in words.
#[derive(Default)]
pub struct Failures(Vec<String>);

impl Failures {
    /// Every entry within `relative` times the largest expected entry, plus `slack`.
    pub fn near(&mut self, what: &str, actual: &Tensor, expected: &Tensor, relative: f64, slack: Option<&Tensor>) {
        if actual.size() != expected.size() || actual.kind() != Kind::Double {
            self.0.push(format!("{what}: {:?} {:?}, not {:?}", actual.kind(), actual.size(), expected.size()));
            return;
        }
        let scale = expected.abs().max().double_value(&[]);
        let difference = (actual - expected).abs();
        let excess = slack.map_or_else(|| difference.shallow_clone(), |slack| &difference - slack);
        if !all_within(&excess, relative * scale) {
            let at = excess.argmax(None::<i64>, false).int64_value(&[]);
            let (a, e) = (actual.reshape([-1]).double_value(&[at]), expected.reshape([-1]).double_value(&[at]));
            self.0.push(format!(
                "{what}: entry {at} is {a:e}, not {e:e} (largest {scale:e}, allowed {relative:e} of it)"
            ));
        }
    }

    /// A Gram matrix against the reference's.
    pub fn check(&mut self, name: &str, gram: &Gram, reference: &Gram, formulas: FormulaSet, bounds: &Bounds) {
        let shape = |g: &Gram| (g.left, g.right, g.outputs, g.symmetric, g.shares.len());
        if shape(gram) != shape(reference) {
            self.0.push(format!("{name}: shape {:?}, not {:?}", shape(gram), shape(reference)));
            return;
        }
        let slack = |i: usize| bounds.doubt.as_ref().map(|(slack, _)| &slack[i]);
        let relative = bounds.relative;
        for (what, wanted, actual, expected, relative, slack) in [
            ("SGD", formulas.sgd, &gram.sgd, &reference.sgd, relative, None),
            ("asymmetric", formulas.asymmetric, &gram.asymmetric, &reference.asymmetric, relative, slack(0)),
            (
                "reversed",
                formulas.asymmetric,
                &gram.asymmetric_reversed,
                &reference.asymmetric_reversed,
                relative,
                slack(1),
            ),
            ("SignGD", formulas.signgd, &gram.signgd, &reference.signgd, 0.0, slack(2)),
        ] {
            match (wanted, actual, expected) {
                (true, Some(actual), Some(expected)) => {
                    if what == "SignGD" && !actual.equal(&actual.round()) {
                        self.0.push(format!("{name}: SignGD entries are not integers"));
                    }
                    self.near(&format!("{name}: {what}"), actual, expected, relative, slack);
                }
                (false, None, _) => {}
                _ => self.0.push(format!("{name}: {what} wanted {wanted}, there {}", actual.is_some())),
            }
        }
        self.near(&format!("{name}: left outputs"), &gram.left_outputs, &reference.left_outputs, relative, None);
        self.near(&format!("{name}: right outputs"), &gram.right_outputs, &reference.right_outputs, relative, None);
        let trace: f64 = reference.shares.iter().map(|s| s.trace_sgd).sum();
        for (share, expected) in gram.shares.iter().zip(&reference.shares) {
            let p = share.parameter;
            let within = |a: f64, e: f64, bound: f64| (a - e).abs() <= bound;
            if !within(share.trace_sgd, expected.trace_sgd, relative * trace) {
                let (a, e) = (share.trace_sgd, expected.trace_sgd);
                self.0.push(format!("{name}: SGD trace of parameter {p} is {a:e}, not {e:e}"));
            }
            let doubt = bounds.doubt.as_ref().map_or(0.0, |(_, traces)| traces[p]);
            let signs = share.trace_signgd.zip(expected.trace_signgd);
            if formulas.signgd && !signs.is_some_and(|(own, expected)| within(own, expected, doubt)) {
                let (a, e) = (share.trace_signgd, expected.trace_signgd);
                self.0.push(format!("{name}: SignGD trace of parameter {p} is {a:?}, not {e:?}"));
            }
            if let (Some(a), Some(e), Some(all)) = (&share.sgd, &expected.sgd, &reference.sgd) {
                // Relative to the whole kernel: a share may be zero up to round-off (key biases).
                let scale = all.abs().max().double_value(&[]);
                if !all_within(&(a - e).abs(), relative * scale) {
                    self.0.push(format!("{name}: SGD share of parameter {p}"));
                }
            }
        }
    }

    pub fn none(self) {
        assert!(self.0.is_empty(), "{} differences:\n{}", self.0.len(), self.0.join("\n"));
    }
}
