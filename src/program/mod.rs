//! Tensor programs (G. Yang, "Tensor Programs II, III, IVb"): a network, its gradients or its whole training written as one
//! program over vectors of n entries, run at a finite width or in the limit n → ∞.
//!
//! A program has initial Gaussian vectors, n × n Gaussian matrices, products by W and Wᵀ, functions of the entries of any
//! number of vectors, averages over the entries, and scalars made of averages. The Master Theorem says that every average
//! converges, and gives its limit: each vector's entries become independent copies of a random variable, averages become
//! expectations, and products follow the rule in `operator`. [`Program::run`] is the network at a finite width;
//! [`Program::limit`] samples the random variables, with a standard error for every scalar.
//!
//! Nonlinearities may be any that the theorem allows, and also signs, which the theorem does not cover but whose limits are
//! found in the same way. Knows nonlinearities from `network`, intervals from `stats`; knows no language model and no claim.
//!
//! # Your architecture
//!
//! A residual network `y = h + W relu(h)`, `f = v·y/√n` with first pre-activations `h = Uξ/√d`, at two inputs with |ξ|² = d and
//! cosine 0.6. First the forward pass, then `b = √n ∂f/∂h = v + relu'(h) Wᵀv`, then the kernels: gradients of f are `y/√n` in
//! v, `v ⊗ x/n` in W and `b ⊗ ξ/√(dn)` in U.
//!
//! ```
//! use kernelview::network::Activation::Relu;
//! use kernelview::program::{Builder, LimitOptions, Term};
//! use nalgebra::DMatrix;
//! use tch::Device;
//!
//! let cosine = 0.6;
//! let mut p = Builder::new();
//! let h = p.gaussians(&["h", "h'"], &DMatrix::from_row_slice(2, 2, &[1.0, cosine, cosine, 1.0]));
//! let w = p.matrix("W", 1.0);
//! let v = p.gaussian("v", 1.0);
//! let back = p.multiply_transposed("Wᵀv", w, v);
//! let (mut x, mut y, mut b) = (vec![], vec![], vec![]);
//! for (h, prime) in h.into_iter().zip(["", "'"]) {
//!     x.push(p.map(format!("x{prime}"), h.activation(Relu)));
//!     let wx = p.multiply(format!("Wx{prime}"), w, x[x.len() - 1]);
//!     y.push(p.map(format!("y{prime}"), h + wx));
//!     b.push(p.map(format!("b{prime}"), v + h.derivative(Relu) * back));
//! }
//! let nngp = p.average("NNGP", y[0] * y[1]);
//! let features = p.average("x·x'", x[0] * x[1]);
//! let errors = p.average("b·b'", b[0] * b[1]);
//! let ntk = p.scalar("NTK", nngp + features + errors * cosine);
//! let program = p.build()?;
//!
//! assert_eq!(
//!     program.to_string(),
//!     "h, h' ~ N(0, [[1, 0.6], [0.6, 1]])\n\
//!      W ~ N(0, 1/n), n × n\n\
//!      v ~ N(0, 1)\n\
//!      Wᵀv = Wᵀ v\n\
//!      x = relu(h)\n\
//!      Wx = W x\n\
//!      y = h + Wx\n\
//!      b = v + relu'(h) Wᵀv\n\
//!      x' = relu(h')\n\
//!      Wx' = W x'\n\
//!      y' = h' + Wx'\n\
//!      b' = v + relu'(h') Wᵀv\n\
//!      NNGP = average of y y'\n\
//!      x·x' = average of x x'\n\
//!      b·b' = average of b b'\n\
//!      NTK = NNGP + x·x' + 0.6 b·b'\n"
//! );
//!
//! // For relu both kernels have closed limits: the arc-cosine kernels of angle arccos 0.6.
//! let angle = cosine.acos();
//! let features = (angle.sin() + cosine * (std::f64::consts::PI - angle)) / std::f64::consts::TAU;
//! let positive = (std::f64::consts::PI - angle) / std::f64::consts::TAU;
//! let exact_nngp = cosine + features;
//! let exact_ntk = exact_nngp + features + cosine * (1.0 + positive);
//!
//! let limit = program.limit(&LimitOptions::new(100_000, 1))?;
//! for (scalar, exact) in [(nngp, exact_nngp), (ntk, exact_ntk)] {
//!     let error = limit.standard_error(scalar);
//!     assert!(error < 0.01 && (limit.scalar(scalar) - exact).abs() < 4.0 * error);
//! }
//! let network = program.run(1000, 1, Device::Cpu)?;
//! assert!((network.scalar(ntk) - exact_ntk).abs() < 0.3);
//! # Ok::<(), kernelview::error::Error>(())
//! ```
//!
//! [`networks`] has programs for perceptrons and their kernels, recurrent networks, attention, and training.

mod builder;
mod expression;
mod finite;
mod limit;
mod lines;
pub mod networks;
mod operator;

pub use builder::Builder;
pub use expression::{Expression, Function, Matrix, Scalar, Term, Vector};
pub use finite::FiniteRun;
pub use limit::{LimitOptions, LimitRun};
pub use lines::Program;
