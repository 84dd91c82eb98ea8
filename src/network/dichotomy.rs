//! Theoretical predictions for training in an abc-parametrization from its exponents: how fast features move with width, and
//! whether training is stable. SGD after G. Yang, E. Hu, "Tensor Programs IV" (Dynamical Dichotomy); sign updates, and Adam,
//! after G. Yang, E. Littwin, "Tensor Programs IVb". Knows exponents only.
//!
//! Derivation, with a learning-rate exponent per layer. Let x^l have entries of order one.
//!
//! - *SGD*. ∂f/∂x^L is n^-a_{L+1} w^{L+1}: entries n^-(a_{L+1}+b_{L+1}) at first; the first update adds entries
//!   n^-(2a_{L+1}+c_{L+1}), so ∂f/∂x^L ~ n^-s, `s = min(a_{L+1}+b_{L+1}, 2a_{L+1}+c_{L+1})`, and back-propagation
//!   through layers with a_l+b_l = 1/2 keeps that order. One update of layer l changes h^l by
//!   `n^-(2a_l+c_l) ∂f/∂h^l <x^{l-1}, x^{l-1}'>`, the inner product of order n for l ≥ 2 and of order one for l = 1.
//!   Hence features move as n^-r with `r = s - 1 + min_l (2a_l + c_l + 1(l=1))`. With one c for all layers this is the
//!   paper's r.
//! - *Sign updates* have entries n^-(a_l+c_l) once multiplied, whatever the gradient's size:
//!   `r = min(a_1 + c_1, a_l + c_l - 1)`, l = 2..L.
//! - *Output.* The last layer's own update moves f by n^{1-(2a+c)} (SGD) or n^{1-(a+c)} (sign), moving features
//!   move it by n^{1-(a+b)-r}. Neither may grow (stable); one must not vanish (non-trivial).

use super::abc::Abc;

/// Differences below it count as ties: exponents are sums of a few simple fractions, perhaps shifted at random.
const TIE: f64 = 1e-9;

/// Predictions for training at large width.
#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    /// Features (pre-activations of hidden layers) move as n^-r over a training run; negative r: they blow up.
    pub r: f64,
    /// Whether outputs and features stay bounded as n grows, at initialization and in training.
    pub stable: bool,
    /// Whether training still moves the outputs as n grows.
    pub non_trivial: bool,
    /// Whether features move in the limit: stable, non-trivial and r = 0. A stable and non-trivial parametrization with
    /// r > 0 is in the kernel regime.
    pub feature_learning: bool,
    /// Violated conditions of stability and non-triviality, one inequality each, with numbers; empty if none.
    pub reasons: Vec<String>,
}

impl Classification {
    /// Whether training is that of a fixed kernel in the limit: stable, non-trivial and r > 0.
    pub fn kernel_regime(&self) -> bool {
        self.stable && self.non_trivial && !self.feature_learning
    }
}

/// Classifies SGD training with learning rates η n^-c_l.
pub fn classify_sgd(abc: &Abc) -> Classification {
    let (a, b, c) = last_layer(abc);
    let backward = (a + b).min(2.0 * a + c);
    let slowest = hidden(abc).map(|(l, a, c)| 2.0 * a + c + f64::from(l == 0)).fold(f64::INFINITY, f64::min);
    classify(abc, backward - 1.0 + slowest, ("2a_{L+1} + c_{L+1}", 2.0 * a + c))
}

/// Classifies sign updates of size η n^-c_l (SignGD; Adam, whose first step is one).
pub fn classify_sign(abc: &Abc) -> Classification {
    let (a, _, c) = last_layer(abc);
    let r = hidden(abc).map(|(l, a, c)| a + c - f64::from(l > 0)).fold(f64::INFINITY, f64::min);
    classify(abc, r, ("a_{L+1} + c_{L+1}", a + c))
}

/// (a, b, c) of the output layer.
fn last_layer(abc: &Abc) -> (f64, f64, f64) {
    let l = abc.hidden();
    (abc.layers[l].a, abc.layers[l].b, abc.c[l])
}

/// (index, a, c) of the hidden layers; index 0 is the input layer.
fn hidden(abc: &Abc) -> impl Iterator<Item = (usize, f64, f64)> {
    abc.layers.iter().zip(&abc.c).take(abc.hidden()).enumerate().map(|(l, (s, c))| (l, s.a, *c))
}

/// The conditions common to both update rules; `update` is the name and value of the exponent with which the output layer's
/// own update moves f.
fn classify(abc: &Abc, r: f64, update: (&str, f64)) -> Classification {
    let mut reasons = Vec::new();
    for (l, scale) in abc.layers.iter().take(abc.hidden()).enumerate() {
        let (sum, expected) = (scale.a + scale.b, if l == 0 { 0.0 } else { 0.5 });
        if (sum - expected).abs() > TIE {
            let layer = l + 1;
            reasons.push(format!(
                "initial features do not stay of order one: a_{layer} + b_{layer} = {sum}, needs {expected}"
            ));
        }
    }
    let (a, b, _) = last_layer(abc);
    let mut at_least = |what: &str, name: &str, value: f64, bound: f64| {
        if value < bound - TIE {
            reasons.push(format!("{what}: {name} = {value}, needs at least {bound}"));
        }
    };
    at_least("the initial output grows with width", "a_{L+1} + b_{L+1}", a + b, 0.5);
    at_least("features blow up in training", "r", r, 0.0);
    at_least("the output layer's update moves the output without bound", update.0, update.1, 1.0);
    at_least("moving features move the output without bound", "a_{L+1} + b_{L+1} + r", a + b + r, 1.0);
    let stable = reasons.is_empty();
    let non_trivial = update.1.min(a + b + r) <= 1.0 + TIE;
    if !non_trivial {
        reasons.push(format!(
            "training does not move the output: {} = {} and a_{{L+1}} + b_{{L+1}} + r = {} both exceed 1",
            update.0,
            update.1,
            a + b + r
        ));
    }
    let feature_learning = stable && non_trivial && r.abs() <= TIE;
    Classification { r, stable, non_trivial, feature_learning, reasons }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Scale;

    fn uniform(abc: Abc, c: f64) -> Abc {
        let layers = abc.layers.len();
        abc.with_learning_rates(vec![c; layers])
    }

    /// The paper's formula for one learning-rate exponent c.
    fn paper_r(abc: &Abc) -> f64 {
        let (a, b, c) = last_layer(abc);
        let least = hidden(abc).map(|(l, a, _)| 2.0 * a + f64::from(l == 0)).fold(f64::INFINITY, f64::min);
        (a + b).min(2.0 * a + c) + c - 1.0 + least
    }

    #[test]
    fn known_parametrizations() {
        for depth in 1..5 {
            let ntk = classify_sgd(&Abc::ntk(depth));
            assert_eq!((ntk.r, ntk.stable, ntk.non_trivial, ntk.kernel_regime()), (0.5, true, true, true));
            let mup = classify_sgd(&Abc::mup(depth));
            assert_eq!((mup.r, mup.stable, mup.non_trivial, mup.feature_learning), (0.0, true, true, true));
            let sign = classify_sign(&Abc::mup_sign(depth));
            assert_eq!((sign.r, sign.feature_learning), (0.0, true), "{:?}", sign.reasons);
            let sign = classify_sign(&Abc::ntk_sign(depth));
            assert_eq!((sign.r, sign.kernel_regime()), (0.5, true), "{:?}", sign.reasons);
        }
        // Standard parametrization: the largest stable uniform learning rate is 1/n, in the kernel regime (with one
        // hidden layer features move by 1/n: the input layer's update lacks the sum over n).
        assert_eq!(classify_sgd(&uniform(Abc::standard(1), 1.0)).r, 1.5);
        let standard = classify_sgd(&uniform(Abc::standard(3), 1.0));
        assert_eq!((standard.r, standard.kernel_regime()), (0.5, true), "{:?}", standard.reasons);
        // Its usual constant learning rate is not stable.
        let constant = classify_sgd(&Abc::standard(3));
        assert_eq!((constant.r, constant.stable), (-1.0, false));
        assert_eq!(constant.reasons.len(), 3, "{:?}", constant.reasons);
    }

    #[test]
    fn unstable_and_trivial_ones() {
        let trivial = classify_sgd(&uniform(Abc::ntk(2), 0.5));
        assert_eq!((trivial.stable, trivial.non_trivial, trivial.feature_learning), (true, false, false));
        assert!(trivial.reasons[0].contains("2a_{L+1} + c_{L+1} = 1.5"), "{:?}", trivial.reasons);
        let mut vanishing = Abc::ntk(2);
        vanishing.layers[1].b = 0.25;
        let vanishing = classify_sgd(&vanishing);
        assert!(!vanishing.stable && vanishing.reasons[0].contains("a_2 + b_2 = 0.75"), "{:?}", vanishing.reasons);
        let mut large = Abc::ntk(2);
        large.layers[2] = Scale { a: 0.25, b: 0.0 };
        let large = classify_sgd(&large);
        assert_eq!((large.stable, large.reasons.len()), (false, 3), "{:?}", large.reasons);
        let sign = classify_sign(&Abc::ntk(2));
        assert_eq!((sign.r, sign.stable), (-0.5, false), "constant sign steps blow up: {:?}", sign.reasons);
    }

    /// Exponents in between: r = 1/4.
    #[test]
    fn between_the_two_regimes() {
        let quarter = Abc {
            layers: vec![Scale { a: -0.25, b: 0.25 }, Scale { a: 0.25, b: 0.25 }, Scale { a: 0.5, b: 0.25 }],
            c: vec![0.0; 3],
        };
        let class = classify_sgd(&quarter);
        assert_eq!((class.r, class.kernel_regime()), (0.25, true), "{:?}", class.reasons);
    }

    proptest::proptest! {
        #[test]
        fn shifts_change_nothing_and_one_rate_gives_the_papers_r(
            exponents in proptest::collection::vec((-1.0f64..1.0, -1.0f64..1.0), 2..6),
            c in -1.0f64..1.0,
            theta in proptest::collection::vec(-1.0f64..1.0, 6),
        ) {
            let layers: Vec<Scale> = exponents.iter().map(|(a, b)| Scale { a: *a, b: *b }).collect();
            let theta = &theta[..layers.len()];
            let abc = Abc { c: vec![c; layers.len()], layers };
            let sgd = classify_sgd(&abc);
            proptest::prop_assert!((sgd.r - paper_r(&abc)).abs() < 1e-12);
            let shifted = classify_sgd(&abc.shifted_for_sgd(theta));
            proptest::prop_assert!((sgd.r - shifted.r).abs() < 1e-12);
            proptest::prop_assert_eq!(sgd.stable, shifted.stable);
            proptest::prop_assert_eq!(sgd.non_trivial, shifted.non_trivial);
            let (sign, shifted) = (classify_sign(&abc), classify_sign(&abc.shifted_for_sign(theta)));
            proptest::prop_assert!((sign.r - shifted.r).abs() < 1e-12);
            proptest::prop_assert_eq!(sign.stable, shifted.stable);
        }

        /// Stable parametrizations stay so under shifts, ties included.
        #[test]
        fn shifts_keep_ties(theta in proptest::collection::vec(-1.0f64..1.0, 4)) {
            for abc in [Abc::ntk(3), Abc::mup(3)] {
                let (plain, shifted) = (classify_sgd(&abc), classify_sgd(&abc.shifted_for_sgd(&theta)));
                proptest::prop_assert!(shifted.stable && shifted.non_trivial, "{:?}", shifted.reasons);
                proptest::prop_assert_eq!(plain.feature_learning, shifted.feature_learning);
            }
        }
    }
}
