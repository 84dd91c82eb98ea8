//! What was found about kernels and kernel regression.

use super::Answers;

/// One kernel formula on the training set, and the regressions with it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct KernelFacts {
    /// `sgd`, `signgd` or `asymmetric`.
    pub formula: String,
    /// The paper's name: `K(SGD)`, `K(SignGD)`, `K(A-SignGD)`.
    pub title: String,
    /// Jacobian rows of the training set, N·C.
    pub rows: i64,
    /// Mean of the diagonal.
    pub mean_diagonal: f64,
    /// Mean of the entries between examples of one class over the mean between classes, both off the diagonal; above 1 the
    /// kernel separates the classes. `None` if a mean is not positive.
    pub class_contrast: Option<f64>,
    /// `exp` of the entropy of the spectrum's shares: how many directions the kernel effectively has, from 1 to N·C.
    /// Singular values for the asymmetric kernel.
    pub effective_rank: f64,
    /// If gradients were multiplied in another precision than the network's: the largest difference of an entry from double
    /// precision, relative to the largest entry, on a few examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision_error: Option<f64>,
    /// Kernel regression by one or more solvers; the first is the one that summaries quote.
    pub methods: Vec<MethodResult>,
    /// Solvers that failed, with the reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// The training kernel's picture, examples ordered by class.
    pub picture: MatrixPicture,
}

/// Kernel regression with settings chosen on dev.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MethodResult {
    /// `least squares`, `asymmetric least squares`, `logistic`, `svm`, …
    pub solver: String,
    /// Chosen settings in words, e.g. `regularization 0.01, f0 scaling 100`.
    pub setting: String,
    /// Accuracy on dev with them.
    pub dev_accuracy: f64,
    /// Loss on dev with them (mean squared error per example, or cross-entropy for logistic regression).
    pub dev_loss: f64,
    /// Accuracy on test.
    pub test_accuracy: f64,
    /// Which test examples were answered correctly.
    #[serde(default)]
    pub test_answers: Answers,
    /// F1 of the second class on test, for tasks of two classes.
    pub test_f1: Option<f64>,
    /// Loss on test.
    pub test_loss: f64,
    /// Number of settings that were compared.
    pub grid_size: usize,
}

/// A solver that failed, or failed for some settings.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// As in [`MethodResult::solver`].
    pub solver: String,
    /// Why.
    pub reason: String,
}

/// A matrix coarse enough to draw: at most 96 x 96 cells, each the mean of its entries.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MatrixPicture {
    /// Cells per side.
    pub size: usize,
    /// Cells by rows.
    pub cells: Vec<f64>,
    /// First cell of each class, in order of classes (rows of one class are adjacent).
    pub class_starts: Vec<usize>,
    /// Label words in the same order.
    pub class_names: Vec<String>,
    /// The training examples behind each row of cells, as lines of the training file ([`super::SetFacts`]). Empty in older
    /// reports.
    #[serde(default)]
    pub rows: Vec<Vec<usize>>,
}

/// Distance of one kernel from another, relative to the other's size.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct KernelDistance {
    /// In the Frobenius norm: over all entries.
    pub frobenius: f64,
    /// In the operator norm: in the worst direction.
    pub operator: f64,
    /// Cosine of the two as vectors of entries.
    pub alignment: f64,
}

impl KernelDistance {
    /// Frobenius distance of the kernel's best multiple: the part that no learning rate can make up for.
    pub fn at_best_rate(&self) -> f64 {
        (1.0 - self.alignment * self.alignment).max(0.0).sqrt()
    }
}
