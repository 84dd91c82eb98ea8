//! The parameters of a transformer: names, shapes, kinds and initial values in one fixed order. Knows no forward pass.

use crate::jacobian::{Param, ParameterSpec, Role};

use super::scales::{Kind, TransformerShape};

/// Initial value of a vector, before division by its multiplier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Start {
    /// Random Gaussian entries (everything but vectors).
    Random,
    /// A constant.
    Constant(f64),
}

/// A parameter with the data for its scaling.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) spec: ParameterSpec,
    pub(super) kind: Kind,
    pub(super) start: Start,
}

/// Weight and bias of a linear map, or gain and shift of a layer norm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    pub(super) weight: Param,
    pub(super) bias: Param,
}

/// Parameters of one layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: Affine,
    pub(super) query: Affine,
    pub(super) key: Affine,
    pub(super) value: Affine,
    pub(super) attention_output: Affine,
    pub(super) perceptron_norm: Affine,
    pub(super) up: Affine,
    pub(super) down: Affine,
}

/// The index of every parameter of the network.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) tokens: Param,
    pub(super) positions: Param,
    pub(super) layers: Vec<Layer>,
    pub(super) final_norm: Affine,
    pub(super) output: Param,
}

/// Collects parameters in order.
struct Builder {
    entries: Vec<Entry>,
    role: Role,
    layer: String,
}

impl Builder {
    fn push(&mut self, name: &str, shape: Vec<i64>, kind: Kind, start: Start) -> Param {
        let name = format!("{}.{name}", self.layer.replace(' ', "."));
        // A key bias only adds a constant to all logits of a query, which softmax ignores.
        let structural_zeros =
            if name.ends_with("attention.key.bias") { std::iter::once(0..shape[0]).collect() } else { Vec::new() };
        let spec = ParameterSpec { name, shape, role: self.role, layer: self.layer.clone(), structural_zeros };
        self.entries.push(Entry { spec, kind, start });
        Param(self.entries.len() - 1)
    }

    fn linear(&mut self, name: &str, rows: i64, columns: i64) -> Affine {
        Affine {
            weight: self.push(&format!("{name}.weight"), vec![rows, columns], Kind::Hidden, Start::Random),
            bias: self.push(&format!("{name}.bias"), vec![rows], Kind::Vector, Start::Constant(0.0)),
        }
    }

    fn norm(&mut self, name: &str, width: i64) -> Affine {
        Affine {
            weight: self.push(&format!("{name}.weight"), vec![width], Kind::Vector, Start::Constant(1.0)),
            bias: self.push(&format!("{name}.bias"), vec![width], Kind::Vector, Start::Constant(0.0)),
        }
    }
}

/// All parameters of a shape, and their indices.
pub(super) fn layout(shape: &TransformerShape) -> (Vec<Entry>, Layout) {
    let n = shape.width;
    let inner = shape.inner * n;
    let mut build = Builder { entries: Vec::new(), role: Role::Embedding, layer: "embeddings".into() };
    let tokens = build.push("tokens.weight", vec![shape.vocab, n], Kind::Embedding, Start::Random);
    let positions = build.push("positions.weight", vec![shape.positions, n], Kind::Embedding, Start::Random);
    build.role = Role::Body;
    let layers = (1..=shape.layers)
        .map(|number| {
            build.layer = format!("layer {number}");
            Layer {
                attention_norm: build.norm("attention.norm", n),
                query: build.linear("attention.query", n, n),
                key: build.linear("attention.key", n, n),
                value: build.linear("attention.value", n, n),
                attention_output: build.linear("attention.output", n, n),
                perceptron_norm: build.norm("perceptron.norm", n),
                up: build.linear("perceptron.up", inner, n),
                down: build.linear("perceptron.down", n, inner),
            }
        })
        .collect();
    (build.role, build.layer) = (Role::Head, "head".into());
    let final_norm = build.norm("norm", n);
    let output = build.push("output.weight", vec![shape.outputs, n], Kind::Output, Start::Random);
    (build.entries, Layout { tokens, positions, layers, final_norm, output })
}
