//! A kernel regression problem with labels, and the scoring of predictions. Knows no solver.
//!
//! One output (`C = 1`, the difference of two logits): classes 0 and 1 are the targets -1 and 1, and a positive prediction
//! means class 1. `C > 1`: one-hot targets, the class of the largest prediction, the lower index on a tie.

use super::checks;
use crate::error::{Error, Result};
use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

/// Kernels, labels and initial logits of a training, a development and a test set.
#[derive(Debug, Clone)]
pub struct KernelProblem {
    /// Outputs per example, `C`.
    pub outputs: usize,
    /// `K[i, j] = k(train i, train j)`, `[n·C, n·C]`.
    pub train: DMatrix<f64>,
    /// `k(train i, dev e)`, `[n·C, m·C]`.
    pub dev: DMatrix<f64>,
    /// `k(train i, test e)`, `[n·C, m·C]`.
    pub test: DMatrix<f64>,
    /// `k(dev e, train i)`, the shape of `dev`; needed for an asymmetric kernel.
    pub dev_flipped: Option<DMatrix<f64>>,
    /// `k(test e, train i)`, the shape of `test`; needed for an asymmetric kernel.
    pub test_flipped: Option<DMatrix<f64>>,
    /// Class per training example, `[n]`.
    pub train_labels: Vec<usize>,
    /// Class per development example.
    pub dev_labels: Vec<usize>,
    /// Class per test example.
    pub test_labels: Vec<usize>,
    /// The network's outputs before any step, `[n·C]`.
    pub train_logits: Vec<f64>,
    /// The same on the development set.
    pub dev_logits: Vec<f64>,
    /// The same on the test set.
    pub test_logits: Vec<f64>,
    /// Whether `k(a, b) = k(b, a)`: checked, and selects the solver of plain least squares.
    pub symmetric: bool,
}

/// How well predictions fit labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Fraction of correctly classified examples.
    pub accuracy: f64,
    /// F1 of class 1, for tasks of two classes.
    pub f1: Option<f64>,
    /// Mean over examples of the squared distance to the target, summed over outputs.
    pub loss: f64,
}

impl KernelProblem {
    /// Checks all shapes, entries and labels.
    ///
    /// # Errors
    /// Bad input: shapes that do not fit, empty sets, labels out of range or a training set of one class; `Numeric` for
    /// non-finite entries.
    pub fn validate(&self) -> Result<()> {
        if self.outputs == 0 {
            return Err(Error::value("outputs of an example", 0, "1 or more"));
        }
        checks::training_kernel(&self.train)?;
        let rows = self.train.nrows();
        self.set("train", rows, &self.train_labels, &self.train_logits)?;
        if self.train_labels.iter().all(|&label| label == self.train_labels[0]) {
            let (examples, class) = (self.train_labels.len(), self.train_labels[0].to_string());
            return Err(Error::OneClass { examples, class });
        }
        checks::evaluation_kernel("dev", &self.dev, rows)?;
        self.set("dev", self.dev.ncols(), &self.dev_labels, &self.dev_logits)?;
        checks::evaluation_kernel("test", &self.test, rows)?;
        self.set("test", self.test.ncols(), &self.test_labels, &self.test_logits)?;
        for (name, flipped, straight) in
            [("flipped dev", &self.dev_flipped, &self.dev), ("flipped test", &self.test_flipped, &self.test)]
        {
            let Some(flipped) = flipped else { continue };
            if flipped.shape() != straight.shape() {
                let expected = format!("it must have the shape {:?} of the unflipped one", checks::shape(straight));
                return Err(checks::misshapen(&format!("the {name} kernel"), flipped, expected));
            }
            checks::finite(&format!("{name} kernel"), flipped)?;
        }
        Ok(())
    }

    /// Checks a set's labels and logits against its side of the kernel.
    fn set(&self, name: &str, size: usize, labels: &[usize], logits: &[f64]) -> Result<()> {
        if labels.len() * self.outputs != size {
            let what = format!("{name}: rows of {} labels with {} outputs each", labels.len(), self.outputs);
            return Err(Error::Length { what, found: labels.len() * self.outputs, expected: size });
        }
        check_labels(name, labels, self.outputs)?;
        checks::vector(&format!("{name} logits"), logits, size)
    }

    /// Targets of the training set, `[n·C]`.
    ///
    /// # Errors
    /// As [`targets`].
    pub fn train_targets(&self) -> Result<DVector<f64>> {
        targets(&self.train_labels, self.outputs)
    }

    /// The kernels that multiply coefficients of training examples in a plain kernel regression, `k(eval, train)`:
    /// `(dev, test)`; the flipped ones unless the kernel is symmetric.
    ///
    /// # Errors
    /// Bad input: the kernel is asymmetric and a flipped kernel is missing.
    pub fn influence(&self) -> Result<(&DMatrix<f64>, &DMatrix<f64>)> {
        if self.symmetric { Ok((&self.dev, &self.test)) } else { self.flipped() }
    }

    /// `(dev, test)` flipped: the unflipped ones if the kernel is symmetric and they are absent.
    ///
    /// # Errors
    /// As [`Self::influence`].
    pub fn flipped(&self) -> Result<(&DMatrix<f64>, &DMatrix<f64>)> {
        let fallback = |name: &str, straight| {
            if self.symmetric {
                return Ok(straight);
            }
            Err(Error::Missing {
                what: format!("flipped {name} kernel"),
                needed: format!("an asymmetric one needs k({name}, train), with train rows"),
            })
        };
        let dev = self.dev_flipped.as_ref().map_or_else(|| fallback("dev", &self.dev), Ok)?;
        let test = self.test_flipped.as_ref().map_or_else(|| fallback("test", &self.test), Ok)?;
        Ok((dev, test))
    }
}

/// ±1 for one output, flattened one-hot for more: `[labels·C]`.
///
/// # Errors
/// Bad input: a label out of range or no label.
pub fn targets(labels: &[usize], outputs: usize) -> Result<DVector<f64>> {
    check_labels("targets", labels, outputs)?;
    if outputs == 1 {
        return Ok(DVector::from_iterator(
            labels.len(),
            labels.iter().map(|&label| if label == 1 { 1.0 } else { -1.0 }),
        ));
    }
    let mut one_hot = DVector::zeros(labels.len() * outputs);
    for (i, &label) in labels.iter().enumerate() {
        one_hot[i * outputs + label] = 1.0;
    }
    Ok(one_hot)
}

/// Accuracy and squared loss of predictions `[m·C]` for `m` labels.
///
/// # Errors
/// Bad input: lengths or labels that do not fit; `NotFinite` for a non-finite prediction.
pub fn score(predictions: &DVector<f64>, labels: &[usize], outputs: usize) -> Result<Score> {
    let wanted = targets(labels, outputs)?;
    checks::vector("predictions", predictions.as_slice(), wanted.len())?;
    let pairs = || classified(predictions.as_slice(), labels, outputs);
    let examples = labels.len() as f64;
    Ok(Score {
        accuracy: pairs().filter(|(found, label)| found == label).count() as f64 / examples,
        f1: (outputs <= 2).then(|| crate::stats::f1(pairs())),
        loss: (predictions - &wanted).norm_squared() / examples,
    })
}

/// Predicted and true class of each example, for predictions `[m·C]`.
pub fn classified<'a>(
    predictions: &'a [f64],
    labels: &'a [usize],
    outputs: usize,
) -> impl Iterator<Item = (usize, usize)> + 'a {
    predictions.chunks(outputs).map(class).zip(labels.iter().copied())
}

/// The class predicted by an example's outputs.
fn class(outputs: &[f64]) -> usize {
    if let [difference] = outputs {
        return usize::from(*difference > 0.0);
    }
    (1..outputs.len()).fold(0, |best, c| if outputs[c] > outputs[best] { c } else { best })
}

pub(super) fn check_labels(name: &str, labels: &[usize], outputs: usize) -> Result<()> {
    if labels.is_empty() || outputs == 0 {
        let found = format!("{} with {outputs} outputs", labels.len());
        return Err(Error::value(format!("number of labels of {name}"), found, "above 0, as that of outputs"));
    }
    let classes = outputs.max(2);
    match labels.iter().position(|&label| label >= classes) {
        None => Ok(()),
        Some(at) => Err(Error::Label {
            set: name.into(),
            index: at,
            label: labels[at] as f64,
            expected: format!("below {classes} with {outputs} outputs"),
        }),
    }
}
