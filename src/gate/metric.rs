//! A named figure, and the rule for comparing two of its values.

use serde::{Deserialize, Serialize};

/// A value of a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A finite number.
    Number(f64),
    /// A name, digest or setting; also `NaN` and infinities, which are not numbers in JSON.
    Text(String),
}

impl Value {
    /// A number, or its text if it is not finite.
    pub fn number(value: f64) -> Self {
        if value.is_finite() { Self::Number(value) } else { Self::Text(value.to_string()) }
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        if let Self::Number(value) = self { Some(*value) } else { None }
    }
}

/// The scale on which a random metric is assumed to be normal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// The number itself.
    Linear,
    /// The number itself, between 0 and 1.
    Share,
    /// Its logarithm: for losses, norms and distances, which are positive and vary by factors. If all were positive, one
    /// that is not has moved.
    Log,
}

/// How two values of a metric are compared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum Rule {
    /// Equal for all seeds: names, digests, settings, counts.
    Exact,
    /// Equal at the same seed, not comparable between seeds: digests of what a seed draws.
    SameSeed,
    /// Determined by weights and prompts: at the same seed equal up to rounding on another machine, `absolute + relative ·
    /// |value|`. Between seeds, with which prompts change, as random.
    Computed {
        /// Relative to the value.
        relative: f64,
        /// In the value's unit.
        absolute: f64,
    },
    /// Drawn with every seed: the new mean must be in the prediction interval of the baseline's values.
    Random {
        /// The scale on which the values are assumed to be normal.
        scale: Scale,
        /// Distance of two neighbouring values on that scale: 1/n for an accuracy over n examples, or rounding.
        step: f64,
    },
    /// Reported if it changes, but never a finding: versions, machine, paths.
    Note,
}

/// A metric of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Hierarchical name: `layers.layer 0.sgd_trace`.
    pub name: String,
    /// How it is compared.
    pub rule: Rule,
    /// Whether a run may legitimately lack it, such as a residual if the outputs did not move. Its absence is then not a
    /// finding.
    pub optional: bool,
    /// Its value.
    pub value: Value,
}

/// A metric over the runs of a baseline. In a file, `always` is a value common to all runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// See [`Reading::name`].
    pub name: String,
    /// How it is compared.
    pub rule: Rule,
    /// See [`Reading::optional`].
    pub optional: bool,
    /// Its value in each run, in the order of the baseline's seeds; `None` if a run lacks it.
    pub values: Vec<Option<Value>>,
}

/// A metric in a file.
#[derive(Serialize, Deserialize)]
pub(super) struct Line {
    pub name: String,
    #[serde(flatten)]
    rule: Rule,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    always: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<Vec<Option<Value>>>,
}

impl Line {
    pub(super) fn of(metric: &Metric) -> Self {
        let Metric { name, rule, optional, values } = metric.clone();
        let always = values.first().cloned().flatten().filter(|first| values.iter().flatten().all(|v| v == first));
        let always = always.filter(|_| values.iter().all(Option::is_some));
        let values = always.is_none().then_some(values);
        Self { name, rule, optional, always, values }
    }

    /// The metric over this many runs; an error unless it has one entry per run.
    pub(super) fn metric(self, runs: usize) -> Result<Metric, String> {
        let Self { name, rule, optional, always, values } = self;
        let values = match (always, values) {
            (Some(value), None) => vec![Some(value); runs],
            (None, Some(values)) if values.len() == runs => values,
            (None, Some(values)) => {
                return Err(format!("metric `{name}` has {} values, but there are {runs} seeds", values.len()));
            }
            _ => return Err(format!("metric `{name}` must have either `always` or `values`")),
        };
        Ok(Metric { name, rule, optional, values })
    }
}
