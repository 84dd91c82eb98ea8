//! A perceptron at random initialization, forward and backward: its NNGP, NTK and sign kernels as scalars of a program.

use nalgebra::DMatrix;

use crate::error::Result;
use crate::network::Activation;
use crate::program::{Builder, Expression, Program, Scalar, Term, Vector};

/// Scalars by pair of inputs.
pub type Table = Vec<Vec<Scalar>>;

/// One layer's shares of the kernels, divided by the power of the width with which they grow.
#[derive(Clone, Debug)]
pub struct LayerKernels {
    /// `<∇f, ∇f'>`.
    pub sgd: Table,
    /// `<∇f, sign ∇f'>`, over n in hidden layers and √n in the first and last.
    pub asymmetric: Table,
    /// `<sign ∇f, sign ∇f'>`, over n² in hidden layers and n in the first and last.
    pub signgd: Table,
}

/// A perceptron's kernels as a program.
pub struct PerceptronKernels {
    /// The program.
    pub program: Program,
    /// Covariance of the outputs given the hidden layers.
    pub nngp: Table,
    /// The tangent kernel: the sum of the layers' SGD kernels.
    pub ntk: Table,
    /// L + 1 layers, from the first to the output layer.
    pub layers: Vec<LayerKernels>,
}

/// Kernels of the perceptron in NTK parametrization of [`crate::network::limits`], `h¹ = g W¹ξ/√d`, `h^l = g W^l
/// φ(h^{l-1})/√n`, `f = g v·φ(h^L)/√n`, at inputs ξ \[N, d\]: at a finite width, and their limits in the limit.
///
/// # Panics
/// If there is no hidden layer or no input.
pub fn perceptron_kernels(
    inputs: &DMatrix<f64>,
    depth: usize,
    activation: Activation,
    gain: f64,
) -> Result<PerceptronKernels> {
    let (count, dimension) = inputs.shape();
    assert!(depth > 0 && count > 0 && dimension > 0, "a perceptron has a hidden layer, and inputs");
    let mut p = Builder::new();
    let columns: Vec<Vector> = (0..dimension).map(|k| p.gaussian(format!("u{}", k + 1), 1.0)).collect();
    let weights: Vec<_> = (2..=depth).map(|l| p.matrix(format!("W{l}"), gain)).collect();
    let readout = p.gaussian("v", 1.0);
    let root = (dimension as f64).sqrt();
    // By input and layer: activations x^l, and b^l = √n ∂f/∂h^l.
    let (mut active, mut errors) = (Vec::new(), Vec::new());
    for i in 0..count {
        let mut hidden = Vec::new();
        let mut own = Vec::new();
        for l in 0..depth {
            let name = format!("h{}({i})", l + 1);
            let h = if l == 0 {
                p.map(
                    name,
                    columns.iter().zip(inputs.row(i).iter()).map(|(u, x)| *u * (gain * x / root)).sum::<Expression>(),
                )
            } else {
                p.multiply(name, weights[l - 1], own[l - 1])
            };
            hidden.push(h);
            own.push(p.map(format!("x{}({i})", l + 1), h.activation(activation)));
        }
        let mut back = vec![p.map(format!("b{depth}({i})"), hidden[depth - 1].derivative(activation) * readout * gain)];
        for l in (0..depth - 1).rev() {
            let z = p.multiply_transposed(format!("z{}({i})", l + 1), weights[l], back[0]);
            back.insert(0, p.map(format!("b{}({i})", l + 1), hidden[l].derivative(activation) * z));
        }
        active.push(own);
        errors.push(back);
    }
    let gram = inputs * inputs.transpose() / dimension as f64;
    let signs = inputs.map(|x| if x == 0.0 { 0.0 } else { x.signum() });
    let sign_gram = &signs * signs.transpose();
    let mixed_gram = inputs * signs.transpose() / root;
    // One layer: the factors from its input and from its output's gradient.
    let column = |of: &[Vec<Vector>], l: usize| -> Vec<Vector> { of.iter().map(|v| v[l]).collect() };
    let mut layers = Vec::new();
    for l in 0..=depth {
        let name = if l == depth { "output".to_owned() } else { format!("layer {}", l + 1) };
        let back = (l < depth).then(|| products(&mut p, &format!("b{}", l + 1), &column(&errors, l)));
        let front = (l > 0).then(|| products(&mut p, &format!("x{l}"), &column(&active, l - 1)));
        let mut table = |kind: usize, given: &DMatrix<f64>, power: f64| -> Table {
            let label = ["SGD", "A-SignGD", "SignGD"][kind];
            let factor =
                |t: &Option<[Table; 3]>, i: usize, j: usize| t.as_ref().map(|t| Expression::from(t[kind][i][j]));
            let pair = |i: usize, j: usize| {
                let front = factor(&front, i, j).unwrap_or(given[(i, j)].into());
                let both = factor(&back, i, j).map_or(front.clone(), |b| b * front);
                (format!("{label} {name} ({i}, {j})"), if power == 1.0 { both } else { both * power })
            };
            tabulate(count, |i, j| {
                let (name, formula) = pair(i, j);
                p.scalar(name, formula)
            })
        };
        layers.push(LayerKernels {
            sgd: table(0, &gram, gain * gain),
            asymmetric: table(1, &mixed_gram, gain),
            signgd: table(2, &sign_gram, 1.0),
        });
    }
    let total = |i: usize, j: usize| layers.iter().map(|l| Expression::from(l.sgd[i][j])).sum::<Expression>();
    let ntk = tabulate(count, |i, j| p.scalar(format!("NTK ({i}, {j})"), total(i, j)));
    let nngp = layers[depth].sgd.clone();
    Ok(PerceptronKernels { program: p.build()?, nngp, ntk, layers })
}

fn tabulate(count: usize, mut entry: impl FnMut(usize, usize) -> Scalar) -> Table {
    (0..count).map(|i| (0..count).map(|j| entry(i, j)).collect()).collect()
}

/// Averages of `x x'`, `x sign x'` and `sign x sign x'` over all pairs.
fn products(p: &mut Builder, name: &str, vectors: &[Vector]) -> [Table; 3] {
    let pair = |i: usize, j: usize| (vectors[i], vectors[j]);
    [
        tabulate(vectors.len(), |i, j| {
            let (x, y) = pair(i, j);
            p.average(format!("{name}·{name} ({i}, {j})"), x * y)
        }),
        tabulate(vectors.len(), |i, j| {
            let (x, y) = pair(i, j);
            p.average(format!("{name}·sign {name} ({i}, {j})"), x * y.sign())
        }),
        tabulate(vectors.len(), |i, j| {
            let (x, y) = pair(i, j);
            p.average(format!("sign {name}·sign {name} ({i}, {j})"), x.sign() * y.sign())
        }),
    ]
}
