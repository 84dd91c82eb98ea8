//! Compares two baselines: which metrics moved, and by how much they were allowed to.

use super::baseline::Baseline;
use super::ignore::Ignored;
use super::metric::{Metric, Rule, Scale, Value};
use crate::error::{Error, Result};
use crate::setting::Field;
use crate::stats::prediction_margin;

/// Probability of any false alarm, if figures are normally distributed. Divided by the number of metrics judged by their
/// spread (Bonferroni), which is valid however they depend on each other.
pub const FALSE_ALARMS: f64 = 1e-3;

/// The outcome for a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It differs by more than allowed.
    Moved,
    /// The old side lacks it.
    New,
    /// The new side lacks it.
    Vanished,
    /// Changed, but never a finding.
    Noted,
    /// Changed at the same seed, but within the spread over seeds.
    Within,
    /// Nothing to compare: a different seed, or a figure that the old side rarely has.
    NotCompared,
    /// Unchanged.
    Same,
}

impl Status {
    /// Whether it fails the gate.
    pub fn is_finding(self) -> bool {
        matches!(self, Self::Moved | Self::New | Self::Vanished)
    }

    /// Text in tables.
    pub fn text(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::New => "new",
            Self::Vanished => "vanished",
            Self::Noted => "noted",
            Self::Within => "within the spread",
            Self::NotCompared => "not compared",
            Self::Same => "same",
        }
    }
}

/// The criterion of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Basis {
    /// Equality.
    Equality,
    /// Rounding, at the same seed.
    Rounding,
    /// The prediction interval of this many runs.
    Spread(usize),
}

/// A metric, compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its outcome.
    pub status: Status,
    /// The old value: at the seed with the largest difference, or the mean over seeds (on the metric's scale).
    pub old: Option<Value>,
    /// The new value.
    pub new: Option<Value>,
    /// The accepted values, for numbers.
    pub accepted: Option<(f64, f64)>,
    /// The criterion.
    pub basis: Basis,
    /// The seed of the two values, if they have the same.
    pub seed: Option<u64>,
}

/// Two baselines, compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The metrics, findings first, then in the order of the old side.
    pub rows: Vec<Row>,
    /// Seeds of the old side.
    pub old_seeds: Vec<u64>,
    /// Seeds of the new side.
    pub new_seeds: Vec<u64>,
    /// Number of metrics judged by their spread.
    pub judged_by_spread: usize,
    /// Number of metrics excluded by the user.
    pub ignored: usize,
}

impl Comparison {
    /// The rows that fail the gate.
    pub fn findings(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|r| r.status.is_finding())
    }

    /// Whether nothing moved, appeared or vanished.
    pub fn passed(&self) -> bool {
        self.findings().next().is_none()
    }

    /// Number of rows of a status.
    pub fn count(&self, status: Status) -> usize {
        self.rows.iter().filter(|r| r.status == status).count()
    }
}

/// Options of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Metrics to ignore.
    pub ignored: Ignored,
    /// Whether random metrics, too, must be equal at the same seed up to rounding.
    pub strict: bool,
}

/// Compares two baselines.
///
/// # Errors
/// [`Error::Incomparable`] for different commands, models or tasks, or single runs with different seeds, for which the
/// effect of the seed is unknown; [`Error::Setting`] if a pattern to ignore matches nothing.
pub fn compare(old: &Baseline, new: &Baseline, options: &Options) -> Result<Comparison> {
    let Options { ignored, strict } = options;
    comparable(old, new)?;
    let names: Vec<&str> = old.metrics.iter().chain(&new.metrics).map(|m| m.name.as_str()).collect();
    if let Some(pattern) = ignored.unused(&names).first() {
        return Err(Error::setting(Field::Ignored, pattern, "a pattern that matches a metric's name"));
    }
    let kept = |m: &&Metric| !ignored.has(&m.name) && m.values.iter().any(Option::is_some);
    let new_metric = |name: &str| new.metrics.iter().filter(kept).find(|m| m.name == name);
    let old_metrics: Vec<&Metric> = old.metrics.iter().filter(kept).collect();
    let pairs: Vec<Pair<'_>> = old_metrics
        .iter()
        .filter_map(|m| {
            new_metric(&m.name).map(|n| Pair { old: (m, &old.seeds), new: (n, &new.seeds), strict: *strict })
        })
        .collect();
    let judged_by_spread = pairs.iter().filter(|p| p.by_spread()).count();
    let error_rate = FALSE_ALARMS / judged_by_spread.max(1) as f64;
    let mut rows: Vec<Row> = pairs.iter().map(|p| p.judge(error_rate)).collect();
    let lone = |m: &Metric, status: Status| {
        let value = m.values.iter().flatten().next().cloned();
        let status = match m.rule {
            Rule::Note => Status::Noted,
            _ if m.optional => Status::NotCompared,
            _ => status,
        };
        let (old, new) = if status == Status::New { (None, value) } else { (value, None) };
        Row { name: m.name.clone(), status, old, new, accepted: None, basis: Basis::Equality, seed: None }
    };
    let vanished = old_metrics.iter().filter(|m| new_metric(&m.name).is_none());
    rows.extend(vanished.map(|m| lone(m, Status::Vanished)));
    let appeared = new.metrics.iter().filter(kept).filter(|m| !old_metrics.iter().any(|o| o.name == m.name));
    rows.extend(appeared.map(|m| lone(m, Status::New)));
    rows.sort_by_key(|r| r.status);
    Ok(Comparison {
        rows,
        old_seeds: old.seeds.clone(),
        new_seeds: new.seeds.clone(),
        judged_by_spread,
        ignored: names.iter().collect::<std::collections::HashSet<_>>().iter().filter(|n| ignored.has(n)).count(),
    })
}

fn comparable(old: &Baseline, new: &Baseline) -> Result<()> {
    if old.kind != new.kind {
        return Err(Error::Incomparable {
            aspect: "kind".into(),
            first: old.kind.text().into(),
            second: new.kind.text().into(),
            advice: "the two have no metric in common".into(),
        });
    }
    for ((name, before), (_, after)) in old.identity.iter().zip(&new.identity) {
        if before != after {
            return Err(Error::Incomparable {
                aspect: name.clone(),
                first: before.clone(),
                second: after.clone(),
                advice: "compare runs with the same model and task, or write a new baseline".into(),
            });
        }
    }
    let shared = old.seeds.iter().any(|s| new.seeds.contains(s));
    if !shared && old.seeds.len() < 2 {
        return Err(Error::Incomparable {
            aspect: "seed".into(),
            first: old.seeds[0].to_string(),
            second: new.seeds[0].to_string(),
            advice: format!(
                "a single run does not show the effect of the seed: compare runs with the same seed, or write a \
                 baseline over several ({})",
                Field::WriteBaseline
            ),
        });
    }
    Ok(())
}

/// A metric of both sides, with the seeds of its values.
struct Pair<'a> {
    old: (&'a Metric, &'a [u64]),
    new: (&'a Metric, &'a [u64]),
    strict: bool,
}

impl Pair<'_> {
    fn rule(&self) -> Rule {
        self.old.0.rule
    }

    /// Values of both sides at common seeds.
    fn shared(&self) -> Vec<(u64, &Value, &Value)> {
        let (olds, news) = (&self.old.0.values, &self.new.0.values);
        let pair = |(i, seed): (usize, &u64)| {
            let j = self.new.1.iter().position(|s| s == seed)?;
            Some((*seed, olds[i].as_ref()?, news[j].as_ref()?))
        };
        self.old.1.iter().enumerate().filter_map(pair).collect()
    }

    /// Whether to use the prediction interval: the rule asks for it, and the old side has a spread.
    fn by_spread(&self) -> bool {
        let several = self.old.0.values.iter().flatten().count() >= 2;
        match self.rule() {
            Rule::Random { .. } if !self.strict => several,
            Rule::Random { .. } | Rule::Computed { .. } => several && self.shared().is_empty(),
            Rule::Exact | Rule::SameSeed | Rule::Note => false,
        }
    }

    fn judge(&self, error_rate: f64) -> Row {
        match self.rule() {
            Rule::Exact => self.equality(Status::Moved, false),
            Rule::Note => self.equality(Status::Noted, false),
            Rule::SameSeed => self.equality(Status::Moved, true),
            _ if self.by_spread() => self.spread(error_rate),
            _ => self.rounding(),
        }
    }

    fn row(&self, status: Status, basis: Basis) -> Row {
        let first = |m: &Metric| m.values.iter().flatten().next().cloned();
        let (old, new) = (first(self.old.0), first(self.new.0));
        Row { name: self.old.0.name.clone(), status, old, new, accepted: None, basis, seed: None }
    }

    /// Whether all values are equal, or (`same_seed`) those of each seed.
    fn equality(&self, otherwise: Status, same_seed: bool) -> Row {
        let shared = self.shared();
        let status = if same_seed && shared.is_empty() { Status::NotCompared } else { Status::Same };
        let row = self.row(status, Basis::Equality);
        if let Some((seed, old, new)) = shared.iter().find(|(_, old, new)| old != new) {
            return Row {
                status: otherwise,
                old: Some((*old).clone()),
                new: Some((*new).clone()),
                seed: Some(*seed),
                ..row
            };
        }
        if !same_seed {
            let known: Vec<&Value> = self.old.0.values.iter().flatten().collect();
            if let Some(new) = self.new.0.values.iter().flatten().find(|v| !known.contains(v)) {
                return Row { status: otherwise, new: Some(new.clone()), ..row };
            }
        }
        row
    }

    /// Whether the values at each common seed are equal up to rounding.
    fn rounding(&self) -> Row {
        let shared = self.shared();
        let mut row = self.row(Status::Same, Basis::Rounding);
        if shared.is_empty() {
            return Row { status: Status::NotCompared, ..row };
        }
        // The pair with the largest difference relative to its margin.
        let mut worst = f64::NEG_INFINITY;
        for (seed, old, new) in shared {
            let (excess, accepted) = match (old.as_number(), new.as_number()) {
                (Some(a), Some(b)) => {
                    let (low, high) = self.rounded(a, b);
                    ((b - high).max(low - b), Some((low, high)))
                }
                _ if old == new => (f64::NEG_INFINITY, None),
                _ => (f64::INFINITY, None),
            };
            if excess > worst || row.seed.is_none() {
                worst = excess;
                row = Row { old: Some(old.clone()), new: Some(new.clone()), accepted, seed: Some(seed), ..row };
            }
        }
        Row { status: if worst > 0.0 { Status::Moved } else { Status::Same }, ..row }
    }

    /// The values equal to `old` up to rounding.
    fn rounded(&self, old: f64, new: f64) -> (f64, f64) {
        let margin = match self.rule() {
            Rule::Computed { relative, absolute } => absolute + relative * old.abs().max(new.abs()),
            Rule::Random { scale: Scale::Log, step } => step * old.abs(),
            Rule::Random { step, .. } => step,
            Rule::Exact | Rule::SameSeed | Rule::Note => 0.0,
        };
        (old - margin, old + margin)
    }

    /// Whether the new mean is in the prediction interval of the old values.
    fn spread(&self, error_rate: f64) -> Row {
        let (scale, step) = match self.rule() {
            Rule::Random { scale, step } => (scale, step),
            Rule::Computed { relative, absolute } => {
                let size = numbers(self.old.0).unwrap_or_default().iter().fold(0.0_f64, |m, v| m.max(v.abs()));
                (Scale::Linear, 2.0 * (absolute + relative * size))
            }
            Rule::Exact | Rule::SameSeed | Rule::Note => (Scale::Linear, 0.0),
        };
        let row = self.row(Status::Same, Basis::Spread(self.old.0.values.iter().flatten().count()));
        let (Some(old), Some(new)) = (numbers(self.old.0), numbers(self.new.0)) else {
            // If a side has non-finite values, both must have the same.
            let status = if row.old == row.new { Status::Same } else { Status::Moved };
            return Row { status, ..row };
        };
        // Zero, such as the loss of a model that is certain, has no logarithm.
        let scale = if old.iter().any(|v| *v <= 0.0) { Scale::Linear } else { scale };
        let to = |values: &[f64]| -> Vec<f64> {
            if scale == Scale::Log { values.iter().map(|v| v.ln()).collect() } else { values.to_vec() }
        };
        let from = |value: f64| if scale == Scale::Log { value.exp() } else { value };
        let (before, after) = (to(&old), to(&new));
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let margin = prediction_margin(&before, step, after.len(), error_rate).max(step);
        let (middle, found) = (mean(&before), mean(&after));
        let shared = self.shared();
        let repeated = self.new.1.iter().all(|seed| self.old.1.contains(seed));
        let equal = shared.iter().all(|(_, old, new)| old == new);
        let status = if repeated && equal {
            // Also if the seed is an outlier in its own baseline.
            Status::Same
        } else if (found - middle).abs() <= margin {
            if equal { Status::Same } else { Status::Within }
        } else {
            // Also for infinities and NaN: a value that was positive and is no longer.
            Status::Moved
        };
        let (low, high) = (from(middle - margin), from(middle + margin));
        let accepted = if scale == Scale::Share { (low.max(0.0), high.min(1.0)) } else { (low, high) };
        Row {
            status,
            old: Some(Value::number(from(middle))),
            new: Some(Value::number(from(found))),
            accepted: Some(accepted),
            ..row
        }
    }
}

/// A metric's values, if all are numbers.
fn numbers(metric: &Metric) -> Option<Vec<f64>> {
    metric.values.iter().flatten().map(Value::as_number).collect()
}
