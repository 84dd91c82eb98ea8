//! Training a perceptron step by step as a program: exact for the finite network, and its limit.
//!
//! With `θ` = 1 in muP and n^-1/2 in NTK parametrization, and entries of order one everywhere, the weights after some steps are
//! `U + θ δU`, `W^l + θ δW^l`, `v + θ δv`, where every step on an example ξ_s adds `a_s b^l_s ⊗ x^{l-1}_s/n` to δW^l, `a_s b¹_s
//! ⊗ ξ_s/√d` to δU and `a_s x^L_s` to δv, with `a_s = -η χ_s` (for sign updates `-η sign χ_s` and the signs of the vectors).
//! Pre-activations are `h^l = h^l_0 + θ δh^l` with
//!
//! - `δh¹(ξ) = Σ_s a_s (ξ_s·ξ/d) b¹_s`, where sign updates have `sign ξ_s·ξ/√d`,
//! - `δh^l = W^l δx^{l-1} + Σ_s a_s avg(x_s^{l-1} x^{l-1}) b^l_s` with `δx = (φ(h_0 + θ δh) - φ(h_0))/θ`.
//!
//! In muP the output is `avg(v x^L)` with the weights of the moment; in NTK parametrization it is `v·x^L/√n`, which is random at
//! initialization and moves by `avg(δv x^L + v_0 δx^L)`: programs hold what it moved by, that is, the output of the centred
//! network `f - f_0`. For θ → 0 that is linear in the updates: the kernel regime.

mod forward;

use std::collections::HashMap;

use crate::error::Result;
use crate::network::Activation;
use crate::program::{Builder, Expression, Matrix, Program, Scalar, Term, Vector};

/// Parametrization of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regime {
    /// [`Abc::ntk`](crate::network::Abc::ntk), and `ntk_sign` for sign updates; the output of the centred network.
    NeuralTangent,
    /// [`Abc::mup`](crate::network::Abc::mup), and `mup_sign` for sign updates.
    MaximalUpdate,
}

/// Kind of updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// SGD.
    Sgd,
    /// SignGD, one example per step.
    Sign,
}

/// The perceptron of [`crate::network::Mlp`] with one output and gain 1.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Input dimension d.
    pub dimension: usize,
    /// Hidden layers L.
    pub depth: usize,
    /// The nonlinearity φ.
    pub activation: Activation,
    /// Parametrization.
    pub regime: Regime,
    /// Kind of updates.
    pub update: Update,
}

/// An input with a name, used in the names of the program's lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Name.
    pub name: String,
    /// The d entries.
    pub entries: Vec<f64>,
}

/// Output and gradient of the network at some step, as factors.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// The output f.
    pub output: Scalar,
    entries: Vec<f64>,
    /// x^1, …, x^L.
    active: Vec<Vector>,
    /// b^1, …, b^L: gradients in the pre-activations.
    errors: Vec<Vector>,
    /// Whether it holds the signs of a gradient.
    signs: bool,
}

/// The update of the weights from one example in one step.
#[derive(Clone, Debug)]
pub struct Movement {
    /// Gradient of the example before the step; its signs for sign updates.
    pub direction: Gradient,
    /// The output derivative χ of the example.
    pub chi: Scalar,
    /// -η χ, or -η sign χ.
    pub coefficient: Scalar,
}

/// Initial pre-activations and activations of an input.
#[derive(Clone)]
struct Start {
    entries: Vec<f64>,
    hidden: Vec<Vector>,
    active: Vec<Vector>,
}

/// A forward pass with the weights at some step.
#[derive(Clone)]
struct Pass {
    hidden: Vec<Expression>,
    active: Vec<Vector>,
    output: Scalar,
}

/// A network in training, as a program under construction.
pub struct Training {
    /// The program so far; lines may be added between steps.
    pub builder: Builder,
    network: Network,
    columns: Vec<Vector>,
    /// W^2, …, W^L.
    matrices: Vec<Matrix>,
    readout: Vector,
    /// δv.
    readout_change: Option<Vector>,
    /// n^-1/2 in NTK parametrization.
    theta: Option<Scalar>,
    movements: Vec<Movement>,
    /// Number of changes of the weights so far.
    moment: usize,
    starts: HashMap<String, Start>,
    passes: HashMap<Occasion, Pass>,
    gradients: HashMap<Occasion, Gradient>,
    directions: HashMap<Occasion, Gradient>,
}

/// Cached forward passes by input and step.
type Occasion = (usize, String);

impl Training {
    /// A network at random initialization.
    ///
    /// # Panics
    /// If it has no hidden layer or no input.
    pub fn new(network: Network) -> Self {
        assert!(network.depth > 0 && network.dimension > 0, "a network has a hidden layer, and inputs");
        let mut builder = Builder::new();
        let columns = (1..=network.dimension).map(|k| builder.gaussian(format!("u{k}"), 1.0)).collect();
        let matrices = (2..=network.depth).map(|l| builder.matrix(format!("W{l}"), 1.0)).collect();
        let readout = builder.gaussian("v", 1.0);
        let theta = (network.regime == Regime::NeuralTangent).then(|| builder.width_power("θ", -0.5));
        Self {
            builder,
            network,
            columns,
            matrices,
            readout,
            readout_change: None,
            theta,
            movements: Vec::new(),
            moment: 0,
            starts: HashMap::new(),
            passes: HashMap::new(),
            gradients: HashMap::new(),
            directions: HashMap::new(),
        }
    }

    /// The initial values of a finite network: the columns of U, the matrices W^2, …, W^L, and v.
    pub fn weights(&self) -> (&[Vector], &[Matrix], Vector) {
        (&self.columns, &self.matrices, self.readout)
    }

    /// The output with the current weights.
    ///
    /// # Panics
    /// If the input has the wrong number of entries, or another input's name.
    pub fn output(&mut self, input: &Input) -> Scalar {
        self.pass(input).output
    }

    /// Output and gradient with the current weights.
    ///
    /// # Panics
    /// As [`Self::output`].
    pub fn gradient(&mut self, input: &Input) -> Gradient {
        let pass = self.pass(input);
        let occasion = (self.moment, input.name.clone());
        if let Some(gradient) = self.gradients.get(&occasion) {
            return gradient.clone();
        }
        let label = format!("{}({})", self.moment, input.name);
        let (depth, phi) = (self.network.depth, self.network.activation);
        let readout = match self.readout_change {
            None => Expression::from(self.readout),
            Some(change) => self.readout + self.in_units(change.into()),
        };
        let mut errors = vec![
            self.builder.map(format!("b{depth} {label}"), pass.hidden[depth - 1].clone().derivative(phi) * readout),
        ];
        for l in (0..depth - 1).rev() {
            let above = errors[0];
            let mut back = Expression::from(self.builder.multiply_transposed(
                format!("z{} {label}", l + 1),
                self.matrices[l],
                above,
            ));
            let learned = self.learned(&format!("b{}", l + 2), &label, above, |m| (m.errors[l + 1], m.active[l]));
            if let Some(learned) = learned {
                back = back + self.in_units(learned);
            }
            errors.insert(
                0,
                self.builder.map(format!("b{} {label}", l + 1), pass.hidden[l].clone().derivative(phi) * back),
            );
        }
        let entries = input.entries.clone();
        let gradient = Gradient { output: pass.output, entries, active: pass.active, errors, signs: false };
        self.gradients.insert(occasion, gradient.clone());
        gradient
    }

    /// The direction in which a step on an example moves the weights: its gradient, for sign updates the gradient's signs.
    pub fn direction(&mut self, input: &Input) -> Gradient {
        let gradient = self.gradient(input);
        if self.network.update == Update::Sgd {
            return gradient;
        }
        let occasion = (self.moment, input.name.clone());
        if let Some(direction) = self.directions.get(&occasion) {
            return direction.clone();
        }
        let label = format!("{}({})", self.moment, input.name);
        let mut every = |name: &str, vectors: &[Vector]| -> Vec<Vector> {
            let sign = |(l, v): (usize, &Vector)| self.builder.map(format!("sign {name}{} {label}", l + 1), v.sign());
            vectors.iter().enumerate().map(sign).collect()
        };
        let (active, errors) = (every("x", &gradient.active), every("b", &gradient.errors));
        let direction = Gradient { active, errors, signs: true, ..gradient };
        self.directions.insert(occasion, direction.clone());
        direction
    }

    /// One step of gradient descent on the sum of the losses of some examples; `chi` gives the output derivative from the
    /// example's index and output.
    ///
    /// # Panics
    /// If sign updates get more than one example: the sign of a sum does not factor.
    pub fn step(&mut self, examples: &[&Input], rate: f64, chi: impl Fn(usize, Scalar) -> Expression) -> Vec<Movement> {
        let sign = self.network.update == Update::Sign;
        assert!(!sign || examples.len() == 1, "sign updates take one example per step");
        let mut movements = Vec::new();
        for (i, input) in examples.iter().enumerate() {
            let label = format!("{}({})", self.moment, input.name);
            let direction = self.direction(input);
            let chi = self.builder.scalar(format!("χ{label}"), chi(i, direction.output));
            let size = if sign { chi.sign() } else { chi.into() };
            let coefficient = self.builder.scalar(format!("a{label}"), size * -rate);
            movements.push(Movement { direction, chi, coefficient });
        }
        for movement in &movements {
            let last = movement.coefficient * movement.direction.active[self.network.depth - 1];
            let moved = self.readout_change.map_or(last.clone(), |change| change + last);
            let name = format!("δv after {}", self.movements.len() + 1);
            self.readout_change = Some(self.builder.map(name, moved));
            self.movements.push(movement.clone());
        }
        self.moment += 1;
        movements
    }

    /// Replaces the trained readout by a random one of the same size, so that only what it had learned is lost.
    ///
    /// # Panics
    /// In NTK parametrization, whose program only holds changes since initialization.
    pub fn replace_readout(&mut self) {
        assert_eq!(self.network.regime, Regime::MaximalUpdate, "a new readout needs muP");
        let trained = self.readout_change.map_or(self.readout.into(), |change| self.readout + change);
        let moment = self.moment;
        let square = self.builder.average(format!("v{moment}²"), trained.clone() * trained);
        let random = self.builder.gaussian(format!("random{moment}"), 1.0);
        self.readout = self.builder.map(format!("v{moment} anew"), random * square.sqrt());
        self.readout_change = None;
        self.moment += 1;
    }

    /// The kernel between the output with gradient `left` and a movement in `direction`: K_SGD for a gradient, K_A-SignGD
    /// for signs.
    pub fn kernel(&mut self, name: &str, left: &Gradient, direction: &Gradient) -> Scalar {
        let last = self.network.depth - 1;
        let mut sum = vec![];
        for l in 0..=last {
            let back = self.builder.average(format!("{name}, b{}", l + 1), left.errors[l] * direction.errors[l]);
            let front = if l == 0 {
                Expression::from(self.input_product(direction, &left.entries))
            } else {
                self.builder.average(format!("{name}, x{l}"), left.active[l - 1] * direction.active[l - 1]).into()
            };
            sum.push(back * front);
        }
        let output = self.builder.average(format!("{name}, x{}", last + 1), left.active[last] * direction.active[last]);
        let total = sum.into_iter().fold(Expression::from(output), |total, layer| total + layer);
        self.builder.scalar(name, total)
    }

    /// First-order prediction of an output's change by some movements, from its gradient before them.
    pub fn first_order(&mut self, name: &str, before: &Gradient, movements: &[Movement]) -> Scalar {
        let mut terms = Vec::new();
        for (s, movement) in movements.iter().enumerate() {
            let kernel = self.kernel(&format!("{name}, K{s}"), before, &movement.direction);
            terms.push(movement.coefficient * kernel);
        }
        self.builder.scalar(name, terms.into_iter().sum::<Expression>())
    }

    /// The finished program.
    pub fn finish(self) -> Result<Program> {
        self.builder.build()
    }

    /// An expression in units of θ.
    fn in_units(&self, change: Expression) -> Expression {
        match self.theta {
            Some(theta) => change * theta,
            None => change,
        }
    }

    /// ξ_s·ξ/d, for signs sign ξ_s·ξ/√d, where ξ_s is the input of a direction.
    fn input_product(&self, direction: &Gradient, input: &[f64]) -> f64 {
        let d = self.network.dimension as f64;
        let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
        let products = direction.entries.iter().zip(input);
        if direction.signs {
            products.map(|(a, b)| sign(*a) * b).sum::<f64>() / d.sqrt()
        } else {
            products.map(|(a, b)| a * b).sum::<f64>() / d
        }
    }

    /// `Σ_s a_s avg(left_s vector) right_s` over all movements; `None` if there are none.
    fn learned(
        &mut self,
        name: &str,
        label: &str,
        vector: Vector,
        factors: impl Fn(&Gradient) -> (Vector, Vector),
    ) -> Option<Expression> {
        let mut terms = Vec::new();
        for (s, movement) in self.movements.iter().enumerate() {
            let (left, right) = factors(&movement.direction);
            let product = self.builder.average(format!("{name} {label} with {}", s + 1), left * vector);
            terms.push(movement.coefficient * product * right);
        }
        terms.into_iter().reduce(|a, b| a + b)
    }
}
