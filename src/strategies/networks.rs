//! Activations, abc-parametrizations, perceptrons and transformers.

use proptest::prelude::*;

use crate::network::{Abc, Activation, Heads, Mlp, Scale, Transformer, TransformerAbc, TransformerShape};

/// An activation.
pub fn activation() -> impl Strategy<Value = Activation> {
    proptest::sample::select(Activation::ALL.to_vec())
}

/// Any abc-parametrization of a network with `hidden` hidden layers: exponents on a grid of quarters between -1 and 2, most of
/// them unstable or trivial. Shrinks towards zeros.
pub fn abc(hidden: usize) -> impl Strategy<Value = Abc> {
    let exponent = || (-4..=8i32).prop_map(|quarters| f64::from(quarters) / 4.0);
    let layers = proptest::collection::vec((exponent(), exponent()), hidden + 1);
    let rates = proptest::collection::vec(exponent(), hidden + 1);
    (layers, rates).prop_map(|(layers, c)| {
        let layers = layers.into_iter().map(|(a, b)| Scale { a, b }).collect();
        Abc { layers, c }
    })
}

/// A stable, non-trivial parametrization under SGD: the neural-tangent or the maximal-update parametrization in any of its
/// equivalent forms, with each layer's multiplier shifted. Shrinks towards no shift.
pub fn shifted_for_sgd(hidden: usize) -> impl Strategy<Value = Abc> {
    let shift = (-4..=4i32).prop_map(|quarters| f64::from(quarters) / 4.0);
    let kind = proptest::sample::select(vec![Abc::ntk(hidden), Abc::mup(hidden)]);
    (kind, proptest::collection::vec(shift, hidden + 1)).prop_map(|(abc, theta)| abc.shifted_for_sgd(&theta))
}

/// A perceptron with up to three hidden layers of up to eight units.
pub fn mlp() -> impl Strategy<Value = Mlp> {
    (1..6i64, 1..9i64, 1..4usize, 1..3i64, activation(), 0..3usize).prop_map(
        |(input, width, depth, outputs, activation, abc)| {
            let abc = [Abc::standard, Abc::ntk, Abc::mup][abc](depth);
            Mlp { input, width, depth, outputs, activation, gain: 1.2, abc }
        },
    )
}

/// A transformer with up to two layers over 7 tokens and 5 positions.
pub fn transformer() -> impl Strategy<Value = Transformer> {
    let heads = proptest::sample::select(vec![Heads::Number(1), Heads::Number(2), Heads::Dimension(3)]);
    let abc = proptest::sample::select(vec![TransformerAbc::standard(), TransformerAbc::ntk(), TransformerAbc::mup()]);
    (1..3i64, heads, 1..3usize, 1..3i64, 1..3i64, activation(), abc).prop_map(
        |(sixths, heads, layers, inner, outputs, activation, abc)| {
            let shape = TransformerShape {
                vocab: 7,
                positions: 5,
                width: 6 * sixths,
                heads,
                layers,
                inner,
                outputs,
                activation,
            };
            Transformer::new(shape, abc)
        },
    )
}
