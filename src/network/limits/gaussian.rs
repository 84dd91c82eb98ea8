//! Expectations of a nonlinearity, its derivative and their signs under two correlated Gaussians: the ingredients of kernel
//! limits. Closed forms if available, quadrature otherwise; error below 1e-10. Knows no network.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, PI, SQRT_2};

use super::quadrature::{normal_mean, normal_mean_between};
use crate::kernel::Formula;
use crate::network::Activation;
use crate::network::special::normal_distribution;

/// Where gelu has its minimum: the root of Φ(x) + xΦ'(x).
const GELU_MINIMUM: f64 = -0.751_791_524_693_564_5;

/// Two jointly Gaussian numbers (h, h') of mean zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianPair {
    /// Variance of h.
    pub left: f64,
    /// Variance of h'.
    pub right: f64,
    /// Their covariance.
    pub covariance: f64,
}

/// The function of h in an expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// ψ = φ.
    Value,
    /// ψ = φ'.
    Derivative,
}

impl Part {
    fn at(self, phi: Activation, x: f64) -> f64 {
        match self {
            Self::Value => phi.value(x),
            Self::Derivative => phi.derivative(x),
        }
    }
}

/// The sign of a function that changes sign at most once, from `below` to `above` at `place`.
#[derive(Clone, Copy)]
struct Step {
    below: f64,
    above: f64,
    place: f64,
}

impl Step {
    /// sign φ or sign φ'.
    fn of(phi: Activation, part: Part) -> Self {
        match (phi, part) {
            (Activation::Relu, _) => Self { below: 0.0, above: 1.0, place: 0.0 },
            (Activation::Gelu, Part::Derivative) => Self { below: -1.0, above: 1.0, place: GELU_MINIMUM },
            (_, Part::Value) => Self { below: -1.0, above: 1.0, place: 0.0 },
            (_, Part::Derivative) => Self { below: 1.0, above: 1.0, place: 0.0 },
        }
    }

    fn at(self, x: f64) -> f64 {
        if x > self.place { self.above } else { self.below }
    }
}

impl GaussianPair {
    /// A pair with these variances and covariance.
    pub fn new(left: f64, right: f64, covariance: f64) -> Self {
        Self { left, right, covariance }
    }

    /// Root of the covariance matrix's determinant: exactly zero for h = h'.
    fn volume(&self) -> f64 {
        (self.left * self.right - self.covariance * self.covariance).max(0.0).sqrt()
    }

    /// The angle between h and h' in \[0, π\]: exactly 0 for h = h', where an arc cosine would err by 1e-8.
    fn angle(&self) -> f64 {
        self.volume().atan2(self.covariance)
    }

    /// With ψ = φ or φ' (`part`): E\[ψ(h) ψ(h')\] for the SGD formula, E\[ψ(h) sign ψ(h')\] for the asymmetric one,
    /// E\[sign ψ(h) sign ψ(h')\] for SignGD.
    pub fn expectation(&self, phi: Activation, part: Part, formula: Formula) -> f64 {
        match formula {
            Formula::Sgd => self.plain(phi, part),
            Formula::Asymmetric => self.mixed(phi, part),
            Formula::Signgd => self.signs(phi, part),
        }
    }

    /// The same with the identity for ψ: the covariance, E\[h sign h'\] = √(2/π) Cov/√Var(h'), and
    /// E\[sign h sign h'\] = (2/π) arcsin of the correlation.
    pub fn identity_expectation(&self, formula: Formula) -> f64 {
        match formula {
            Formula::Sgd => self.covariance,
            Formula::Asymmetric => FRAC_2_PI.sqrt() * self.covariance / self.right.sqrt(),
            Formula::Signgd => FRAC_2_PI * (FRAC_PI_2 - self.angle()),
        }
    }

    /// Probability that both are positive.
    fn both_positive(&self) -> f64 {
        (PI - self.angle()) / (2.0 * PI)
    }

    fn plain(&self, phi: Activation, part: Part) -> f64 {
        let erf_scale = (1.0 + 2.0 * self.left) * (1.0 + 2.0 * self.right);
        match (phi, part) {
            (Activation::Relu, Part::Value) => {
                // Y. Cho, L. Saul, "Kernel Methods for Deep Learning": the arc-cosine kernel of order 1.
                (self.volume() + self.covariance * (PI - self.angle())) / (2.0 * PI)
            }
            (Activation::Relu, Part::Derivative) => self.both_positive(),
            // C. Williams, "Computing with Infinite Networks".
            (Activation::Erf, Part::Value) => FRAC_2_PI * (2.0 * self.covariance / erf_scale.sqrt()).asin(),
            (Activation::Erf, Part::Derivative) => {
                4.0 / PI / (erf_scale - 4.0 * self.covariance * self.covariance).sqrt()
            }
            (Activation::Tanh | Activation::Gelu, _) => self.plain_by_quadrature(phi, part),
        }
    }

    fn mixed(&self, phi: Activation, part: Part) -> f64 {
        let s = self.left.sqrt();
        match (phi, part) {
            (Activation::Relu, Part::Value) => (s + self.covariance / self.right.sqrt()) / (2.0 * (2.0 * PI).sqrt()),
            (Activation::Relu, Part::Derivative) => self.both_positive(),
            // The closed form of E[erf erf], with an infinite variance of h'.
            (Activation::Erf, Part::Value) => {
                FRAC_2_PI * (SQRT_2 * self.covariance / (self.right * (1.0 + 2.0 * self.left)).sqrt()).asin()
            }
            // φ' is positive.
            (Activation::Erf, Part::Derivative) => 2.0 / (PI * (1.0 + 2.0 * self.left)).sqrt(),
            (Activation::Tanh, Part::Derivative) => normal_mean(s, |z| phi.derivative(s * z)),
            (Activation::Tanh, Part::Value) | (Activation::Gelu, _) => {
                self.mean_with_step(&[], |h| part.at(phi, h), Step::of(phi, part))
            }
        }
    }

    fn signs(&self, phi: Activation, part: Part) -> f64 {
        match (phi, part) {
            (Activation::Relu, _) => self.both_positive(),
            (Activation::Gelu, Part::Derivative) => {
                let step = Step::of(phi, part);
                self.mean_with_step(&[step.place], |h| step.at(h), step)
            }
            (_, Part::Value) => self.identity_expectation(Formula::Signgd),
            (_, Part::Derivative) => 1.0,
        }
    }

    /// E\[ψ(h) ψ(h')\] for analytic ψ, as a mean over two independent standard normals.
    fn plain_by_quadrature(&self, phi: Activation, part: Part) -> f64 {
        let (s, t) = (self.left.sqrt(), self.right.sqrt());
        let (along, across) = (self.covariance / s, self.volume() / s);
        normal_mean(s.max(t), |z| part.at(phi, s * z) * normal_mean(across, |y| part.at(phi, along * z + across * y)))
    }

    /// E\[ψ(h) step(h')\] for ψ smooth between `kinks`: given h, h' is Gaussian, so its part is a probability, and one
    /// integral is left. That probability is steep around the h whose conditional mean of h' is the step's place.
    fn mean_with_step(&self, kinks: &[f64], psi: impl Fn(f64) -> f64, step: Step) -> f64 {
        let s = self.left.sqrt();
        let (along, across) = (self.covariance / s, self.volume() / s);
        let (center, width) = (step.place / along, across / along.abs());
        let mut breaks: Vec<f64> = kinks.iter().map(|k| k / s).collect();
        breaks.extend((-4..=4).map(|i| center + 2.0 * f64::from(i) * width));
        normal_mean_between(s, &breaks, |z| {
            let other = if across > 0.0 {
                step.below + (step.above - step.below) * normal_distribution((along * z - step.place) / across)
            } else {
                step.at(along * z)
            };
            psi(s * z) * other
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [Part; 2] = [Part::Value, Part::Derivative];

    fn pairs() -> Vec<GaussianPair> {
        let mut pairs = Vec::new();
        for (left, right) in [(1.0, 1.0), (0.3, 2.0), (4.0, 0.5)] {
            for rho in [-1.0, -0.999_999, -0.9, -0.3, 0.0, 1e-9, 0.5, 0.99, 0.999_999_99, 1.0] {
                pairs.push(GaussianPair::new(left, right, rho * f64::sqrt(left * right)));
            }
        }
        pairs
    }

    #[test]
    fn quadrature_gives_the_closed_forms_of_erf() {
        for pair in pairs() {
            for part in PARTS {
                let (closed, numeric) =
                    (pair.plain(Activation::Erf, part), pair.plain_by_quadrature(Activation::Erf, part));
                assert!((closed - numeric).abs() < 1e-12, "{pair:?} {part:?}: {closed} {numeric}");
                let step = Step::of(Activation::Erf, part);
                let numeric = pair.mean_with_step(&[], |h| part.at(Activation::Erf, h), step);
                let closed = pair.mixed(Activation::Erf, part);
                assert!((closed - numeric).abs() < 1e-12, "{pair:?} sign {part:?}: {closed} {numeric}");
            }
        }
    }

    #[test]
    fn quadrature_gives_the_closed_forms_of_relu() {
        let relu = Activation::Relu;
        for pair in pairs() {
            for part in PARTS {
                let step = Step::of(relu, part);
                let numeric = pair.mean_with_step(&[0.0], |h| part.at(relu, h), step);
                let closed = pair.mixed(relu, part);
                assert!((closed - numeric).abs() < 1e-10, "{pair:?} sign {part:?}: {closed} {numeric}");
            }
            let numeric = pair.mean_with_step(&[0.0], |h| f64::from(h > 0.0), Step::of(relu, Part::Value));
            assert!((pair.signs(relu, Part::Value) - numeric).abs() < 1e-10, "{pair:?}");
            // E[relu relu'] from E[h' | h] and the truncated normal's mean: given h, E[relu(h')] = m Φ(m/s) + s φ(m/s).
            let (along, across) = (pair.covariance / pair.left.sqrt(), pair.volume() / pair.left.sqrt());
            let numeric = normal_mean_between(1.0, &[0.0], |z| {
                let (m, x) = (along * z, along * z / across);
                let density = if across > 0.0 { across * crate::network::special::normal_density(x) } else { 0.0 };
                relu.value(pair.left.sqrt() * z) * (m * normal_distribution(x) + density)
            });
            let steep = pair.volume() < 0.01 * (pair.left * pair.right).sqrt();
            let tolerance = if steep { 1e-5 } else { 1e-12 };
            assert!((pair.plain(relu, Part::Value) - numeric).abs() < tolerance, "{pair:?}");
        }
    }

    /// At correlation one the two are the same number: every expectation is one of a single Gaussian.
    #[test]
    fn equal_arguments_reduce_to_one_gaussian() {
        for phi in Activation::ALL {
            for part in PARTS {
                for variance in [0.3f64, 1.0, 5.0] {
                    let pair = GaussianPair::new(variance, variance, variance);
                    let step = Step::of(phi, part);
                    let kinks = [0.0, GELU_MINIMUM / variance.sqrt()];
                    for formula in Formula::ALL {
                        let single = normal_mean_between(variance.sqrt(), &kinks, |z| {
                            let (psi, sign) = (part.at(phi, variance.sqrt() * z), step.at(variance.sqrt() * z));
                            match formula {
                                Formula::Sgd => psi * psi,
                                Formula::Asymmetric => psi * sign,
                                Formula::Signgd => sign * sign,
                            }
                        });
                        let value = pair.expectation(phi, part, formula);
                        assert!((value - single).abs() < 1e-11, "{phi} {part:?} {formula}: {value} {single}");
                    }
                }
            }
        }
    }

    /// Swapping h and h' leaves the symmetric formulas as they are; so does changing both signs for odd φ.
    #[test]
    fn symmetric_formulas_are_symmetric() {
        for pair in pairs() {
            let swapped = GaussianPair::new(pair.right, pair.left, pair.covariance);
            for phi in Activation::ALL {
                for part in PARTS {
                    for formula in [Formula::Sgd, Formula::Signgd] {
                        let (a, b) = (pair.expectation(phi, part, formula), swapped.expectation(phi, part, formula));
                        assert!((a - b).abs() < 1e-11, "{pair:?} {phi} {part:?} {formula}: {a} {b}");
                    }
                }
            }
        }
    }
}
