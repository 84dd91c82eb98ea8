//! A program in the infinite-width limit: every vector is a sample of its random variable, every average a mean over the
//! sample. Uses `operator` for matrices and draws none.

use tch::{Device, Kind, Tensor};

use super::expression::Scalar;
use super::finite::{evaluate, mixed};
use super::lines::{Line, Program};
use super::operator::{Basis, Operator};
use crate::error::{Error, Result};
use crate::files::named_seed;
use crate::network::normal_tensor;
use crate::progress::check_cancelled;
use crate::stats::{Estimate, student_mean};

/// How to sample a limit.
#[derive(Clone, Copy, Debug)]
pub struct LimitOptions {
    /// Samples per vector M, over all replicas.
    pub samples: usize,
    /// Independent runs that share the samples; their spread gives the standard errors. They run one after another, so
    /// that memory holds M / replicas samples.
    pub replicas: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Device of the samples.
    pub device: Device,
    /// Whether to add the correction term for the dependence of W and Wᵀ. Without it they are independent matrices: the
    /// gradient independence assumption of mean-field theory, which is wrong in general.
    pub correction: bool,
}

impl LimitOptions {
    /// M samples in 16 replicas on the CPU.
    pub fn new(samples: usize, seed: u64) -> Self {
        Self { samples, replicas: 16, seed, device: Device::Cpu, correction: true }
    }
}

/// A program's scalars in the limit.
///
/// A scalar's value is the mean over the replicas, its standard error comes from their spread. Both have a bias of order
/// 1/M', for M' samples per replica, if the scalar depends nonlinearly on means over the samples. (Measured on outputs near
/// 1 after six steps of SGD on three examples: 0.5/M'.) The standard error is of order 1/√(R M') for R replicas, so the bias
/// is small against it while M' is large against R.
pub struct LimitRun<'a> {
    program: &'a Program,
    /// `replicas[slot][replica]`.
    replicas: Vec<Vec<f64>>,
}

impl Program {
    /// Runs the program in the limit. Draws are identified as in [`Self::run`], so that programs with the same first lines
    /// have the same first samples.
    ///
    /// # Errors
    /// [`Error::Value`] for fewer than two replicas or fewer samples in each than the program has Gaussians,
    /// [`Error::NotFinite`] if a scalar is not finite, [`Error::Interrupted`].
    pub fn limit(&self, options: &LimitOptions) -> Result<LimitRun<'_>> {
        let LimitOptions { samples, replicas, seed, .. } = *options;
        // The constant and every Gaussian must fit into the samples of a replica as orthogonal rows.
        let gaussians = 2 + self.initial() + self.uses().into_iter().flatten().sum::<usize>();
        if replicas < 2 || samples / replicas.max(1) < gaussians {
            let expected = format!("in two replicas or more, of {gaussians} samples or more each for this program");
            return Err(Error::value(
                "the number of samples of a limit",
                format!("{samples} in {replicas} replicas"),
                expected,
            ));
        }
        let mut values = vec![Vec::with_capacity(replicas); self.scalars.len()];
        for replica in 0..replicas {
            check_cancelled()?;
            let seed = named_seed(seed, &format!("replica {replica}"));
            for (all, value) in values.iter_mut().zip(self.replica(options, seed)?) {
                all.push(value);
            }
        }
        Ok(LimitRun { program: self, replicas: values })
    }

    /// The run whose [`LimitRun::values`] were kept: those of this program, or of one with the same lines.
    ///
    /// # Panics
    /// If there is not one list for every scalar, or the lists are not of one length.
    pub fn limit_of(&self, values: Vec<Vec<f64>>) -> LimitRun<'_> {
        assert_eq!(values.len(), self.scalars.len(), "one list for every scalar");
        assert!(values.windows(2).all(|pair| pair[0].len() == pair[1].len()), "one value for every replica");
        LimitRun { program: self, replicas: values }
    }

    /// All scalars of one replica, by slot.
    fn replica(&self, options: &LimitOptions, seed: u64) -> Result<Vec<f64>> {
        let samples = (options.samples / options.replicas) as i64;
        let normals =
            |name: &str| normal_tensor(&[samples], 1.0, named_seed(seed, name), 0, Kind::Double, options.device);
        let mut initial = Basis::new(1 + self.initial(), samples, options.device);
        initial.extend(&Tensor::ones([samples], (Kind::Double, options.device)));
        let uses = self.uses();
        // All initial Gaussians are drawn first, whatever the order of lines, because operators need them all.
        let mut standard = Vec::new();
        for line in &self.lines {
            if let Line::Gaussians { vectors, .. } = line {
                for vector in vectors {
                    initial.extend(&normals(&self.vectors[*vector]));
                    standard.push(initial.last());
                }
            }
        }
        let mut standard = standard.into_iter();
        let (mut vectors, mut scalars, mut operators) = (Vec::new(), Vec::new(), Vec::new());
        for line in &self.lines {
            match line {
                Line::Gaussians { vectors: slots, covariance } => {
                    let own: Vec<Tensor> = standard.by_ref().take(slots.len()).collect();
                    vectors.extend(mixed(covariance, &own));
                }
                Line::Matrix { matrix, sigma } => {
                    operators.push(Operator::new(*sigma, uses[*matrix], &initial, options.correction));
                }
                Line::Product { output, matrix, transposed, vector } => {
                    let fresh = || normals(&self.vectors[*output]);
                    vectors.push(operators[*matrix].apply(&vectors[*vector], *transposed, fresh));
                }
                Line::WidthPower { .. } => scalars.push(0.0),
                Line::Map { .. } | Line::Average { .. } | Line::Compute { .. } => {
                    evaluate(self, line, &mut vectors, &mut scalars)?;
                }
            }
        }
        Ok(scalars)
    }
}

impl LimitRun<'_> {
    /// All values: for every scalar, in program order, one for each replica.
    pub fn values(&self) -> &[Vec<f64>] {
        &self.replicas
    }

    /// A scalar's values in the replicas.
    ///
    /// # Panics
    /// Like the methods below, if it belongs to another program.
    pub fn replicas(&self, scalar: Scalar) -> &[f64] {
        &self.replicas[self.program.scalar_slot(scalar)]
    }

    /// A scalar's limit with Student's interval over the replicas.
    pub fn estimate(&self, scalar: Scalar, confidence: f64) -> Estimate {
        student_mean(self.replicas(scalar), confidence)
    }

    /// A scalar's limit.
    pub fn scalar(&self, scalar: Scalar) -> f64 {
        let values = self.replicas(scalar);
        values.iter().sum::<f64>() / values.len() as f64
    }

    /// Standard error of a scalar's limit.
    pub fn standard_error(&self, scalar: Scalar) -> f64 {
        // The confidence level only affects the interval.
        self.estimate(scalar, 0.95).standard_error.expect("two replicas or more, all finite")
    }
}
