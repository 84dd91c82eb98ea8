//! The effect of rounding on a figure determined by weights and prompts.
//!
//! On one machine with the same number of threads two runs give the same bytes. Other machines, thread counts or GPUs sum in
//! another order. The figures of [`Rounding`] are several times the observed differences (README, "How far to trust it"),
//! and hundreds of times smaller than the changes that the gate should detect. The effect on derived figures, such as a
//! drift or loss, follows from how they are computed: [`Resolution`].

use super::metric::Scale;
use crate::evidence::KernelDrift;

/// Rounding of an analysis, by its element types and precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rounding {
    /// Sums of gradient products and of their absolute values, relative.
    pub smooth: f64,
    /// Sums of products with signs, relative: gradient entries near zero change sign.
    pub signs: f64,
    /// Losses and distances after training, relative: rounding grows during a run.
    pub trained: f64,
}

impl Rounding {
    /// Of an element type (`f32`, `f64`) and a precision of gradient products, if another one was asked for.
    pub(super) fn of(dtype: &str, precision: Option<&str>) -> Self {
        // Engines agree to 1e-10 and equal signs in double precision; to 1e-5 and 2e-3 in single precision.
        let base = if dtype == "f64" {
            Self { smooth: 1e-9, signs: 1e-6, trained: 1e-6 }
        } else {
            Self { smooth: 1e-4, signs: 5e-3, trained: 1e-3 }
        };
        // Effect on one product of rounding its factors.
        let products = match precision {
            Some("bf16") => 4e-3,
            Some("tf32") => 5e-4,
            _ => 0.0,
        };
        Self { smooth: base.smooth.max(products), signs: base.signs.max(products), ..base }
    }

    /// Resolution of a kernel's entries, relative to their size.
    pub(super) fn kernel(&self, formula: &str) -> f64 {
        if formula == "sgd" { self.smooth } else { self.signs }
    }

    /// Resolution of an optimizer's results, relative: SignGD's and Adam's updates flip with the signs of gradients near
    /// zero.
    pub(super) fn run(&self, optimizer: &str) -> f64 {
        if optimizer == "sgd" { self.trained } else { self.trained.max(self.signs) }
    }
}

/// The resolution of a positive figure: `absolute + relative · value`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Resolution {
    /// Relative to the value.
    pub relative: f64,
    /// In the value's unit.
    pub absolute: f64,
}

impl Resolution {
    /// Resolution of a loss or |χ|, which is about `e^-m` for a large margin m of the outputs: the margin is resolved to
    /// `trained` times itself, and the loss relatively to as much as the margin absolutely.
    pub(super) fn of_loss(loss: f64, trained: f64) -> Self {
        let margin = if loss > 0.0 { -loss.ln() } else { 0.0 };
        Self { relative: trained * margin.max(1.0), absolute: 0.0 }
    }

    /// Resolution of a drift `d = |K' - K| / |K|` after a run, with both kernels resolved to `kernel` times their size:
    /// their errors move d by at most `kernel (|K'|/|K| + 1 + d)`, which is at most `2 kernel (1 + d)`.
    pub(super) fn of_drift(trained: f64, kernel: f64) -> Self {
        Self { relative: trained + 2.0 * kernel, absolute: 2.0 * kernel }
    }

    /// Resolution of the mean of `|k' - k| / |k|` over the entries k of a kernel with this many rows, given the whole
    /// kernel's drift. The error of an entry is relative to the kernel's size, not its own: of N² entries with a density at
    /// zero, the smallest are of order 1/N² of that size, and if the error is as large, their quotients are arbitrary. Their
    /// contribution to the mean is what the median does not explain.
    pub(super) fn of_mean_drift(drift: &KernelDrift, whole: Self, kernel: f64, rows: f64) -> Self {
        let carried = (1.0 - 2.0 * drift.median_relative / drift.mean_relative).clamp(0.0, 1.0);
        let carried = if carried.is_nan() { 0.0 } else { carried };
        let lost = (kernel * rows * rows).min(1.0);
        Self { relative: whole.relative + carried * lost, ..whole }
    }

    /// The scale on which a value is compared, and its resolution there: logarithmic, except for values below their own
    /// resolution.
    pub(super) fn step(self, value: f64) -> (Scale, f64) {
        let whole = self.absolute + self.relative * value.abs();
        if whole < value.abs() { (Scale::Log, whole / value.abs()) } else { (Scale::Linear, whole) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors as large as they may be, against the worst direction.
    #[test]
    fn a_drift_moves_by_no_more_than_its_kernels_errors_make() {
        let kernel = 5e-3;
        for drift in [0.0, 0.02, 0.5, 3.0] {
            // Diagonal kernels of two entries: |K| = 1, K' along another direction.
            let of = |k: [f64; 2], after: [f64; 2]| (after[0] - k[0]).hypot(after[1] - k[1]) / k[0].hypot(k[1]);
            let (k, after) = ([1.0, 0.0], [1.0 + drift, 0.0]);
            let exact = of(k, after);
            let size = after[0].hypot(after[1]);
            let moved = of([k[0] - kernel, k[1]], [after[0] + kernel * size, after[1]]);
            let Resolution { relative, absolute } = Resolution::of_drift(0.0, kernel);
            let margin = (absolute + relative * exact) * (1.0 + 2.0 * kernel);
            assert!((moved - exact).abs() <= margin, "{drift}: {moved} {exact} {margin}");
            assert!((moved - exact).abs() >= 0.5 * margin, "{drift}: {moved} {exact} {margin}");
        }
    }

    #[test]
    fn small_losses_are_resolved_as_their_margins_are() {
        // Logistic loss e^-m at a margin of 10, which moves by a thousandth.
        let loss = |margin: f64| (-margin).exp();
        let found = Resolution::of_loss(loss(10.0), 1e-3);
        assert!((loss(9.99) / loss(10.0) - 1.0 - found.relative).abs() < 1e-3 * found.relative * 10.0);
        assert_eq!(Resolution::of_loss(0.7, 1e-3).relative, 1e-3);
        assert_eq!(Resolution::of_loss(0.0, 1e-3).relative, 1e-3);
    }

    #[test]
    fn means_that_a_few_entries_carry_resolve_less() {
        let whole = Resolution::of_drift(0.0, 1e-4);
        let of = |median: f64, rows| {
            let drift = KernelDrift {
                frobenius: 0.2,
                mean_relative: 1.0,
                mean_relative_error: None,
                examples: 32,
                median_relative: median,
                alignment: 1.0,
            };
            Resolution::of_mean_drift(&drift, whole, 1e-4, rows).relative - whole.relative
        };
        assert_eq!(of(0.5, 32.0), 0.0);
        assert!((of(0.2, 32.0) - 0.6 * 0.1024).abs() < 1e-12);
        assert!((of(0.2, 300.0) - 0.6).abs() < 1e-12);
    }

    #[test]
    fn what_lies_below_its_resolution_is_compared_by_differences() {
        let resolution = Resolution::of_drift(0.0, Rounding::of("f32", None).kernel("signgd"));
        assert_eq!(resolution.step(1.0), (Scale::Log, 0.02));
        assert_eq!(resolution.step(0.005), (Scale::Linear, 0.01 + 0.01 * 0.005));
    }
}
