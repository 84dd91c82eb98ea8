//! The limit of a Gaussian matrix, in terms of samples.
//!
//! In the limit the entries of a vector x are independent copies of a random variable `Z^x`, and the Master Theorem (G.
//! Yang, "Tensor Programs III: Neural Matrix Laws") says `Z^{Wx} = Ẑ + Ż`:
//!
//! - Ẑ is Gaussian, jointly with the other `Ẑ^{Wx'}` of the same matrix and independent of everything else, with covariance
//!   `σ² E[Z^x Z^x']`. Let `q_k` be an orthonormal basis, in the sense `E[q_k q_l] = δ_kl`, of all x that W was applied to,
//!   and `g_k` independent standard Gaussians. Then `Ẑ = σ Σ_k E[Z^x q_k] g_k`: drawing a new `g_k` for the part of x that
//!   earlier ones do not span is drawing Ẑ conditionally on them, and where there is no such part (a covariance without
//!   full rank) nothing is drawn.
//! - Ż = `σ² Σ_j E[∂Z^x/∂Ẑ^{Wᵀy_j}] Z^{y_j}` over all earlier `Wᵀy_j`. With the basis `q̃_k` of the `y_j` and the Gaussians
//!   `g̃_k` of `Ẑ^{Wᵀy}` this is `σ Σ_k E[∂Z^x/∂g̃_k] q̃_k` by the chain rule, and Stein's lemma gives `E[∂Z^x/∂g̃_k] = E[Z^x
//!   g̃_k]`, with no derivative: x may have a sign in it.
//!
//! For Wᵀ the two pairs of bases change places: `W = σ Σ_k (g_k ⊗ q_k + q̃_k ⊗ g̃_k)`.
//!
//! Expectations are means over the samples. New Gaussians are made orthonormal, in the samples, to what theory says they
//! are uncorrelated with: the constant, the initial Gaussians, the Gaussians of the same direction and the basis of the
//! other one. Then covariances of the Ẑ are exactly the samples' `σ² E[Z^x Z^x']`, and `E[Z^y Z^{Wx}] = E[Z^{Wᵀy} Z^x]` holds to
//! rounding, as it does for real matrices. That takes noise of order 1/√M out of every mean; what it adds is of order 1/M.
//! (Antithetic samples would not: the averages of networks are even in all Gaussians together, and pairs of equal
//! values halve the number of samples.)

use tch::{Device, Kind, Tensor};

/// The component of a vector orthogonal to earlier ones counts as rounding if its relative length is below this.
const RANK_TOLERANCE: f64 = 1e-10;

/// Orthonormal rows, in the sense that means of products over the samples are 0 and 1.
pub(super) struct Basis {
    /// \[capacity, M\]; the first `len` rows are used.
    rows: Tensor,
    len: i64,
}

impl Basis {
    /// An empty basis with room for `capacity` rows.
    pub fn new(capacity: usize, samples: i64, device: Device) -> Self {
        Self { rows: Tensor::empty([capacity as i64, samples], (Kind::Double, device)), len: 0 }
    }

    fn present(&self) -> Tensor {
        self.rows.narrow(0, 0, self.len)
    }

    /// E\[x b_k\] for every row b_k.
    fn coefficients(&self, x: &Tensor) -> Tensor {
        self.present().mv(x) / self.rows.size()[1] as f64
    }

    /// Σ_k c_k b_k.
    fn combine(&self, coefficients: &Tensor) -> Tensor {
        self.present().tr().mv(coefficients)
    }

    fn push(&mut self, x: &Tensor) {
        self.rows.get(self.len).copy_(x);
        self.len += 1;
    }

    /// Coefficients of x and the remainder. A second pass removes rounding errors of the first.
    fn split(&self, x: &Tensor) -> (Tensor, Tensor) {
        let first = self.coefficients(x);
        let rest = x - self.combine(&first);
        let second = self.coefficients(&rest);
        let rest = rest - self.combine(&second);
        (first + second, rest)
    }

    /// Adds the component of x orthogonal to the basis, scaled to length 1; returns whether there is one.
    pub fn extend(&mut self, x: &Tensor) -> bool {
        let (_, rest) = self.split(x);
        let length = length(&rest);
        let new = length > RANK_TOLERANCE * self::length(x);
        if new {
            self.push(&(rest / length));
        }
        new
    }

    /// The last row added.
    pub fn last(&self) -> Tensor {
        self.rows.get(self.len - 1)
    }
}

/// √E\[x²\].
fn length(x: &Tensor) -> f64 {
    x.square().mean(Kind::Double).sqrt().double_value(&[])
}

/// One direction of a matrix: W, or Wᵀ.
struct Direction {
    /// q_k: a basis of the multiplied vectors.
    inputs: Basis,
    /// g_k: a Gaussian for each.
    outputs: Basis,
    /// Directions to which a new Gaussian must be orthogonal.
    taken: Basis,
}

/// A random matrix in the limit.
pub(super) struct Operator {
    sigma: f64,
    /// W and Wᵀ.
    directions: [Direction; 2],
    /// Whether Ż is added.
    correction: bool,
}

impl Operator {
    /// A matrix of variance `sigma`²/n, for at most `uses` products with it and with its transpose. `initial` is a basis of
    /// the constant and the initial Gaussians.
    pub fn new(sigma: f64, uses: [usize; 2], initial: &Basis, correction: bool) -> Self {
        let (samples, device) = (initial.rows.size()[1], initial.rows.device());
        let direction = |own: usize| {
            let mut taken = Basis::new(initial.len as usize + uses[0] + uses[1], samples, device);
            (0..initial.len).for_each(|row| taken.push(&initial.rows.get(row)));
            let basis = || Basis::new(uses[own], samples, device);
            Direction { inputs: basis(), outputs: basis(), taken }
        };
        Self { sigma, directions: [direction(0), direction(1)], correction }
    }

    /// Samples of Wx, or of Wᵀx. `fresh` draws independent standard Gaussians \[M\]; it is called if x is not spanned by
    /// earlier vectors.
    pub fn apply(&mut self, x: &Tensor, transposed: bool, fresh: impl FnOnce() -> Tensor) -> Tensor {
        let [forward, backward] = &mut self.directions;
        let (own, other) = if transposed { (backward, forward) } else { (forward, backward) };
        if own.inputs.extend(x) {
            // The rows of x's space are what outputs of the other direction are made of.
            other.taken.extend(&own.inputs.last());
            own.taken.extend(&fresh());
            own.outputs.push(&own.taken.last());
        }
        let gaussian = own.outputs.combine(&own.inputs.coefficients(x));
        let z =
            if self.correction { gaussian + other.inputs.combine(&other.outputs.coefficients(x)) } else { gaussian };
        z * self.sigma
    }
}
