//! What was measured in training: accuracies, linearization, fixed features, output derivative.

use super::Answers;

/// Mean, quartiles and extremes of a sample.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// Number of values.
    pub count: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Smallest value.
    pub min: f64,
    /// Lower quartile (linear interpolation between order statistics).
    pub q25: f64,
    /// Median.
    pub median: f64,
    /// Upper quartile.
    pub q75: f64,
    /// Largest value.
    pub max: f64,
}

impl Summary {
    /// Summarizes a sample; `None` if it is empty or contains a value that is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |q: f64| {
            let position = q * (sorted.len() - 1) as f64;
            let (low, part) = (position.floor() as usize, position.fract());
            let high = (low + 1).min(sorted.len() - 1);
            sorted[low] + part * (sorted[high] - sorted[low])
        };
        Some(Self {
            count: sorted.len(),
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            min: at(0.0),
            q25: at(0.25),
            median: at(0.5),
            q75: at(0.75),
            max: at(1.0),
        })
    }
}

/// Norms of the output derivative χ = ∂ℓ/∂f (Definition 3.1): 0 if the model is certain and right, at most √2 for cross-entropy
/// over label words.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OutputDerivative {
    /// |χ| over training examples.
    pub train: Summary,
    /// |χ| over test examples.
    pub test: Summary,
}

/// Dev metrics after some step.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Evaluation {
    /// Steps made so far.
    pub step: usize,
    /// Mean training loss of the mini-batches since the last evaluation.
    pub train_loss: f64,
    /// Accuracy on dev.
    pub dev_accuracy: f64,
    /// Mean cross-entropy on dev.
    pub dev_loss: f64,
}

/// One learning rate of a grid.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Candidate {
    /// Learning rate.
    pub learning_rate: f64,
    /// Best evaluation of its run; `None` if the run diverged before the first.
    pub selected: Option<Evaluation>,
    /// Whether the loss stopped being finite.
    pub diverged: bool,
}

/// Precision of the arithmetic behind a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arithmetic {
    /// 24 significant bits.
    Single,
    /// 53 significant bits.
    Double,
}

/// How a figure was computed.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Computed {
    /// Precision of the arithmetic.
    pub arithmetic: Arithmetic,
    /// Estimated absolute error of the figure; `None` if it is not finite.
    pub error: Option<f64>,
}

/// Residual of the linearization over one step.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StepResidual {
    /// Number of the step, from 1.
    pub step: usize,
    /// `|Δf - <∇f_{t-1}, Δθ>| / |Δf|` over the probes; `None` if the outputs did not move.
    pub residual: Option<f64>,
    /// The cumulative residual up to this step, `|f_t - f_0 - <∇f_0, θ_t - θ_0>| / |f_t - f_0|`, on the same examples.
    pub cumulative: Option<f64>,
    /// The larger of their estimated absolute errors.
    #[serde(default)]
    pub error: Option<f64>,
}

/// Movement of one test example's output: as trained, and as predicted by the linearized model.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Movement {
    /// Output of the trained model (difference of the right label word's logit and the best other one's).
    pub trained: f64,
    /// The same for the linearized model.
    pub linearized: f64,
    /// Class of the example.
    pub class: usize,
    /// The example's line in the test file ([`super::SetFacts`]); `None` in older reports.
    #[serde(default)]
    pub row: Option<usize>,
}

/// How well the first-order Taylor expansion describes the fine-tuned model.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Linearization {
    /// Accuracy on test of `f_0 + <∇f_0, θ_T - θ_0>`.
    pub test_accuracy: f64,
    /// Which test examples it answers correctly.
    #[serde(default)]
    pub test_answers: Answers,
    /// Share of fine-tuning's gain over the pre-trained model that it recovers; `None` if fine-tuning gained nothing.
    pub recovered_share: Option<f64>,
    /// `|f_T - f_0 - <∇f_0, θ_T - θ_0>| / |f_T - f_0|` on test.
    pub cumulative_residual: Option<f64>,
    /// How the residual was computed; `None` in older reports.
    #[serde(default)]
    pub computed: Option<Computed>,
    /// Number of dev examples on which the residuals along the run are measured; 0 if there are none, and in older reports.
    #[serde(default)]
    pub probes: usize,
    /// Residuals along the run, at steps on a logarithmic scale.
    pub steps: Vec<StepResidual>,
    /// Margins of (at most 400) test examples.
    pub movements: Vec<Movement>,
}

/// Movement of the gradient features on the training set.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GradientDrift {
    /// `|∇f_t - ∇f_0| / |∇f_0|` over examples and outputs.
    pub relative: Summary,
    /// The same with the norms taken over all examples and outputs together.
    pub total: f64,
    /// How `total` was computed; `None` in older reports.
    #[serde(default)]
    pub computed: Option<Computed>,
}

/// Movement of a kernel matrix.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct KernelDrift {
    /// `|K_t - K_0|_F / |K_0|_F`
    pub frobenius: f64,
    /// Mean over entries of `|K_t(i,j) - K_0(i,j)| / |K_0(i,j)|`: the paper's fixed-features measure, threshold 2.
    pub mean_relative: f64,
    /// Standard error of that mean over the training examples, by the jackknife: each example's rows and columns are left out
    /// in turn. `None` for fewer than two examples.
    #[serde(default)]
    pub mean_relative_error: Option<f64>,
    /// Number of those examples.
    #[serde(default)]
    pub examples: usize,
    /// Median of the same, which is robust against entries near zero.
    pub median_relative: f64,
    /// Cosine between the matrices, `<K_t, K_0>_F / (|K_t|_F |K_0|_F)`: 1 if only the kernel's scale changed.
    pub alignment: f64,
}

/// One layer's part of the trace of the kernels.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LayerShare {
    /// Name of the layer, e.g. `embeddings`, `layer 0`, `head`.
    pub layer: String,
    /// Parameters in it.
    pub parameters: i64,
    /// Share of the trace of K(SGD), between 0 and 1.
    pub sgd: f64,
    /// Share of the trace of K(SignGD): of the non-zero gradient entries.
    #[serde(default)]
    pub signgd: Option<f64>,
}

/// Fine-tuning with one optimizer: the selected run and its measures.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FineTuningResult {
    /// `sgd`, `signgd` or `adam`.
    pub optimizer: String,
    /// The kernel formula that is its analog: `sgd`, or `asymmetric` for SignGD and Adam.
    pub analog: String,
    /// Examples per step.
    pub batch_size: usize,
    /// Steps per run.
    pub steps: usize,
    /// The learning rates tried.
    pub candidates: Vec<Candidate>,
    /// The selected learning rate.
    pub learning_rate: f64,
    /// The selected evaluation.
    pub selected: Evaluation,
    /// All evaluations of the selected run.
    pub history: Vec<Evaluation>,
    /// Accuracy on test at the selected step.
    pub test_accuracy: f64,
    /// Which test examples were answered correctly there.
    #[serde(default)]
    pub test_answers: Answers,
    /// F1 of the second class on test, for tasks of two classes.
    pub test_f1: Option<f64>,
    /// `|θ_T - θ_0| / |θ_0|`
    pub parameter_change: f64,
    /// Linearization.
    pub linearization: Linearization,
    /// Movement of the gradients; `None` if it is not finite.
    pub gradient_drift: Option<GradientDrift>,
    /// Movement of the training kernel, by formula name.
    pub kernel_drift: Vec<(String, KernelDrift)>,
    /// |χ| after training.
    pub output_derivative: OutputDerivative,
    /// What the precision of training changed, if it was not the network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_precision: Option<OwnPrecision>,
}

/// The measures of a run, and of the same run, up to its selected step, in the network's own precision.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OwnPrecision {
    /// Precision of linear maps in training.
    pub trained_in: String,
    /// Name of a measure, its value as trained, and in the network's own precision.
    pub measures: Vec<(String, Option<f64>, Option<f64>)>,
}

impl OwnPrecision {
    /// All measures of both runs that are single numbers.
    pub fn of(trained_in: &str, run: &FineTuningResult, own: &FineTuningResult) -> Self {
        let numbers = |r: &FineTuningResult| -> Vec<(String, Option<f64>)> {
            let line = &r.linearization;
            let fixed = [
                ("accuracy on test", Some(r.test_accuracy)),
                ("F1 on test", r.test_f1),
                ("change of the parameters", Some(r.parameter_change)),
                ("accuracy of the linearization", Some(line.test_accuracy)),
                ("share of the gain that it recovers", line.recovered_share),
                ("residual of the linearization", line.cumulative_residual),
                ("drift of the gradients", r.gradient_drift.map(|d| d.total)),
                ("mean |χ| on test afterwards", Some(r.output_derivative.test.mean)),
            ];
            let drifts =
                r.kernel_drift.iter().map(|(name, d)| (format!("drift of the kernel {name}"), Some(d.mean_relative)));
            fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(drifts).collect()
        };
        let pairs = numbers(run).into_iter().zip(numbers(own));
        let both = pairs.map(|((name, a), (_, b))| (name, a, b)).filter(|(_, a, b)| a.is_some() || b.is_some());
        Self { trained_in: trained_in.to_owned(), measures: both.collect() }
    }
}
