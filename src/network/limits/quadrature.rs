//! Integrals against the standard normal density: the trapezoidal rule for analytic integrands, Gauss-Legendre panels for
//! integrands with kinks and steep places given by the caller. Knows no network.

use std::sync::LazyLock;

use nalgebra::{DMatrix, SymmetricEigen};

use crate::network::special::normal_density;

/// Integrals run over ±RANGE standard deviations; the density beyond is below 1e-20.
const RANGE: f64 = 9.5;

/// Step of the trapezoidal rule for an integrand that varies over lengths of order one. For an integrand that is
/// analytic in a strip of half-width y the rule errs by about exp(-2πy/step), times a power of 1/step for poles of
/// higher order: for tanh'², y = π/2, by 1e-13.
const STEP: f64 = 0.25;

/// Nodes of a Gauss-Legendre panel.
const NODES: usize = 24;

static PANEL: LazyLock<Vec<(f64, f64)>> = LazyLock::new(|| gauss_legendre(NODES));

/// Nodes and weights of Gauss-Legendre quadrature on \[-1, 1\], by ascending node: the eigenvalues of the Jacobi matrix
/// and twice the squared first entries of its eigenvectors (G. Golub, J. Welsch 1969).
pub fn gauss_legendre(count: usize) -> Vec<(f64, f64)> {
    let jacobi = DMatrix::from_fn(count, count, |i, j| {
        let k = i.max(j) as f64;
        if i.abs_diff(j) == 1 { k / (4.0 * k * k - 1.0).sqrt() } else { 0.0 }
    });
    let eigen = SymmetricEigen::new(jacobi);
    let mut rule: Vec<(f64, f64)> =
        (0..count).map(|i| (eigen.eigenvalues[i], 2.0 * eigen.eigenvectors[(0, i)].powi(2))).collect();
    rule.sort_by(|a, b| a.0.total_cmp(&b.0));
    rule
}

/// E\[ψ(Z)\] of a standard normal Z for analytic ψ that varies over lengths of order 1/`scale`.
pub fn normal_mean(scale: f64, psi: impl Fn(f64) -> f64) -> f64 {
    let (step, count) = grid(scale);
    (-count..=count).map(|i| f64::from(i) * step).map(|z| psi(z) * normal_density(z)).sum::<f64>() * step
}

/// Step and number of steps per side of the trapezoidal rule.
fn grid(scale: f64) -> (f64, i32) {
    let step = STEP / scale.max(1.0);
    (step, (RANGE / step).ceil() as i32)
}

/// E\[ψ(Z)\] of a standard normal Z for ψ that varies over lengths of order 1/`scale` between the breaks: kinks, jumps and
/// the surroundings of steep places. Breaks may be in any order, outside the range or not finite.
pub fn normal_mean_between(scale: f64, breaks: &[f64], psi: impl Fn(f64) -> f64) -> f64 {
    let panels = (RANGE * scale.max(1.0)).ceil();
    let mut edges: Vec<f64> = (0..=2 * panels as usize).map(|i| RANGE * (i as f64 / panels - 1.0)).collect();
    edges.extend(breaks.iter().filter(|b| b.abs() < RANGE));
    edges.sort_by(f64::total_cmp);
    let panel = |edge: &[f64]| -> f64 {
        let (middle, half) = (f64::midpoint(edge[0], edge[1]), 0.5 * (edge[1] - edge[0]));
        let at = |(node, weight): &(f64, f64)| {
            let z = middle + half * node;
            weight * psi(z) * normal_density(z)
        };
        half * PANEL.iter().map(at).sum::<f64>()
    };
    edges.windows(2).filter(|e| e[0] < e[1]).map(panel).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legendre_integrates_polynomials() {
        for count in [2usize, 5, NODES] {
            let rule = gauss_legendre(count);
            for power in 0..2 * count {
                let sum: f64 = rule.iter().map(|(x, w)| w * x.powi(power as i32)).sum();
                let exact = if power % 2 == 0 { 2.0 / (power as f64 + 1.0) } else { 0.0 };
                assert!((sum - exact).abs() < 1e-14, "{count} nodes, power {power}: {sum}");
            }
        }
    }

    #[test]
    fn normal_moments() {
        for (power, moment) in [(0, 1.0), (1, 0.0), (2, 1.0), (4, 3.0), (6, 15.0)] {
            assert!((normal_mean(1.0, |z| z.powi(power)) - moment).abs() < 1e-12);
            assert!((normal_mean_between(1.0, &[0.3, f64::NAN], |z| z.powi(power)) - moment).abs() < 1e-12);
        }
        // E exp(-a Z²) = (1 + 2a)^{-1/2}; a kink: E|Z - k| for k = 0.7.
        for a in [1.0f64, 9.0, 100.0] {
            assert!((normal_mean((2.0 * a).sqrt(), |z| (-a * z * z).exp()) - (1.0 + 2.0 * a).powf(-0.5)).abs() < 1e-12);
        }
        let k = 0.7;
        let exact = 2.0 * normal_density(k) + k * (2.0 * crate::network::special::normal_distribution(k) - 1.0);
        assert!((normal_mean_between(1.0, &[k], |z| (z - k).abs()) - exact).abs() < 1e-13);
    }
}
