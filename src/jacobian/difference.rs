//! How far per-example gradients of a linear map moved, computed from their factors.
//!
//! With `G = Σ_t g_t x_tᵀ` before and `G' = Σ_t g'_t x'_tᵀ` after, `G' - G = Σ_t (g'_t - g_t) x_tᵀ + g'_t (x'_t - x_t)ᵀ`: a
//! sum of outer products over 2T tokens in which only factors are subtracted, and whose norm follows from 2T x 2T inner
//! products.

use tch::{Kind, Tensor};

use super::parameters::Param;
use super::recorded::Recorded;
use crate::products::linear;

/// `|G' - G|²` and `|G|²` of a parameter, \[C·B\] each in double precision, row `c·B + b` for output c of example b. `None`
/// if the gradients are not a single sum of outer products over the same tokens on both sides, or if with so many tokens
/// writing the gradients is cheaper.
pub fn outer_distances(before: &Recorded, after: &Recorded, p: Param) -> Option<(Tensor, Tensor)> {
    let ((x, g), (y, h)) = (before.outer_factors(p)?, after.outer_factors(p)?);
    let (tokens, inputs, outputs) = (x.size()[1], x.size()[2], g.size()[3]);
    // Double precision counts twice.
    let dear = 8 * tokens * tokens * (inputs + outputs) > 2 * tokens * inputs * outputs;
    if dear || x.size() != y.size() || g.size() != h.size() {
        return None;
    }
    let wide = |t: &Tensor| t.to_kind(Kind::Double);
    let (x, g, y, h) = (wide(x), wide(g), wide(y), wide(h));
    let size = squares(&x, &g);
    let (inputs, errors) = (Tensor::cat(&[&x, &(y - &x)], 1), Tensor::cat(&[&h - g, h], 2));
    Some((squares(&inputs, &errors), size))
}

/// `|Σ_t g_t x_tᵀ|²` \[C·B\] of x \[B, T, in\] and g \[B, C, T, out\].
fn squares(x: &Tensor, g: &Tensor) -> Tensor {
    let inputs = inner_products(x).unsqueeze(1);
    let (b, c, t, width) = g.size4().expect("g has four axes");
    let errors = inner_products(&g.reshape([b * c, t, width])).view([b, c, t, t]);
    let sums = (errors * inputs).sum_dim_intlist([2i64, 3].as_slice(), false, Kind::Double);
    // A sum of squares, up to rounding.
    sums.clamp_min(0.0).transpose(0, 1).reshape([-1])
}

/// Those of the rows of each matrix \[B, T, d\]: \[B, T, T\].
fn inner_products(x: &Tensor) -> Tensor {
    let each: Vec<Tensor> = (0..x.size()[0]).map(|i| x.get(i)).map(|x| linear(&x, &x, None, None)).collect();
    Tensor::stack(&each, 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tch::Device;

    use super::*;
    use crate::jacobian::{Examples, Frozen, ParameterSpec, Parameters, Role, Tap, record};

    /// Two linear maps over tokens with a nonlinearity between them, two outputs.
    struct Maps(Frozen);

    impl Examples for Maps {
        fn len(&self) -> usize {
            self.0.size()[0] as usize
        }

        fn outputs(&self) -> usize {
            2
        }

        fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
            let rows = Tensor::from_slice(&indices.iter().map(|i| *i as i64).collect::<Vec<_>>());
            let x = self.0.index_select(0, &rows).to_kind(tap.value(Param(0)).kind());
            let hidden = tap.linear(&x, Param(0), None).tanh();
            let sums = tap.linear(&hidden, Param(1), None).tanh();
            sums.narrow(2, 0, 2).sum_dim_intlist(1, false, sums.kind())
        }
    }

    fn parameters(seed: i64, kind: Kind) -> Parameters {
        tch::manual_seed(seed);
        let spec = |name: &str| ParameterSpec {
            name: name.into(),
            shape: vec![96, 96],
            role: Role::Body,
            layer: "all".into(),
            structural_zeros: Vec::new(),
        };
        let draw = |_: &ParameterSpec| Tensor::randn([96, 96], (Kind::Double, Device::Cpu)) * 0.1;
        let specs = [spec("a"), spec("b")];
        let values = specs.iter().map(|s| draw(s).to_kind(kind)).collect();
        Parameters::new(Arc::from(specs.to_vec()), values)
    }

    /// Against gradients that are formed, for movements down to 1e-6 of the parameters: the difference of the formed gradients has
    /// lost six digits there, so 1e-9. Fails for: a cross term that is left out, rows in another order, a distance from the norms
    /// of both gradients and their inner product (whose digits are lost twice). In single precision gradients differ by round-off.
    #[test]
    fn distances_are_those_of_formed_gradients() {
        let examples = Maps(Frozen::from(Tensor::randn([3, 5, 96], (Kind::Double, Device::Cpu))));
        let (start, other) = (parameters(1, Kind::Double), parameters(2, Kind::Double));
        for share in [1.0, 1e-2, 1e-6] {
            let mut ends = other.values().iter();
            let end = start.map(|v| v + (ends.next().expect("an end") - v) * share);
            let (a, b) = (record(&start, &examples, &[2, 0, 1]), record(&end, &examples, &[2, 0, 1]));
            let (distances, sizes) = [0, 1]
                .map(|p| outer_distances(&a, &b, Param(p)).expect("few tokens"))
                .into_iter()
                .reduce(|(d, s), (e, t)| (d + e, s + t))
                .expect("two maps");
            // Rows of a dense Jacobian go example by example.
            let by_output = |t: Tensor| t.view([3, 2]).tr().reshape([-1]);
            let square = |t: Tensor| by_output(t.square().sum_dim_intlist(1, false, Kind::Double));
            let (before, after) = (a.dense(), b.dense());
            let off = |found: &Tensor, expected: &Tensor| ((found / expected) - 1.0).abs().max().double_value(&[]);
            assert!(off(&distances, &square(after - &before)) < 1e-9, "{share}");
            assert!(off(&sizes, &square(before)) < 1e-12, "{share}");
        }
    }

    #[test]
    fn many_tokens_are_left_to_formed_gradients() {
        let examples = Maps(Frozen::from(Tensor::randn([1, 200, 96], (Kind::Double, Device::Cpu))));
        let start = parameters(1, Kind::Double);
        let all = record(&start, &examples, &[0]);
        assert!(outer_distances(&all, &all, Param(0)).is_none());
    }
}
