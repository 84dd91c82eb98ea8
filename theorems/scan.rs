//! Statistics measured over widths (or ranks, or learning rates) and seeds, their exponents, and their plots.

use super::context::Context;
use crate::error::Result;
use crate::evidence::{Cell, Mark, Open, Series, Table};
use crate::progress::check_cancelled;
use crate::stats::{Expectation, Exponent, Scaling, exponent};

/// Smallest number of points for a fit of three coefficients, so that it is more than an interpolation.
const CORRECTED_POINTS: usize = 5;

/// `points` numbers starting at `first`, each twice the one before.
pub(super) fn doubled(first: f64, points: i32) -> Vec<f64> {
    (0..points).map(|p| first * 2f64.powi(p)).collect()
}

/// Numbers as a list for reports.
pub(super) fn list(numbers: &[f64]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Positive statistics over an x axis and seeds.
pub(super) struct Scan {
    /// Names of the statistics.
    names: Vec<&'static str>,
    /// The x axis.
    x: Vec<f64>,
    /// `values[statistic][seed][x]`.
    values: Vec<Vec<Vec<f64>>>,
}

impl Scan {
    /// Measures every statistic at every x for every seed. `measure` gets x and the seed's number and returns one value per
    /// name. Different seeds must draw independently; one seed may use the same numbers at every x, which only makes its slope
    /// more precise. The result may depend on stage, x, seed and the answers to the context's questions, but not on the number
    /// of seeds: the claim and its mutants share it.
    pub fn over(
        context: &Context<'_>,
        stage: &str,
        x: &[f64],
        seeds: usize,
        names: &[&'static str],
        measure: impl Fn(f64, usize) -> Result<Vec<f64>>,
    ) -> Result<Self> {
        Self::watched(context, stage, x, seeds, names, |at, seed| context.shared(stage, at, seed, || measure(at, seed)))
    }

    /// The same for a `measure` that depends only on stage, x and seed and on what it asks the context that it gets, whatever the
    /// experiment asked before: see [`Context::independent`].
    pub fn independent(
        context: &Context<'_>,
        stage: &str,
        x: &[f64],
        seeds: usize,
        names: &[&'static str],
        measure: impl Fn(&Context<'_>, f64, usize) -> Result<Vec<f64>>,
    ) -> Result<Self> {
        Self::watched(context, stage, x, seeds, names, |at, seed| {
            context.independent(stage, at, seed, |own| measure(own, at, seed))
        })
    }

    /// The same without sharing, for a `measure` that records something besides its result, or shares a part of its own work.
    pub fn watched(
        context: &Context<'_>,
        stage: &str,
        x: &[f64],
        seeds: usize,
        names: &[&'static str],
        mut measure: impl FnMut(f64, usize) -> Result<Vec<f64>>,
    ) -> Result<Self> {
        context.monitor.begin(stage, (seeds * x.len()) as u64);
        let mut values = vec![vec![Vec::with_capacity(x.len()); seeds]; names.len()];
        for &at in x {
            for seed in 0..seeds {
                check_cancelled()?;
                let measured = measure(at, seed)?;
                assert_eq!(measured.len(), names.len(), "one value per statistic");
                for (all, value) in values.iter_mut().zip(measured) {
                    all[seed].push(value);
                }
                context.monitor.advance(1);
            }
        }
        context.monitor.end();
        Ok(Self { names: names.to_vec(), x: x.to_vec(), values })
    }

    fn index(&self, name: &str) -> usize {
        self.names.iter().position(|n| *n == name).expect("a statistic of this scan")
    }

    /// Exponent of a statistic in x.
    pub fn exponent(&self, name: &str, confidence: f64) -> Result<Exponent> {
        self.fit(name, None, confidence)
    }

    fn fit(&self, name: &str, correction: Option<f64>, confidence: f64) -> Result<Exponent> {
        exponent(&Scaling { widths: &self.x, values: &self.values[self.index(name)] }, correction, confidence)
    }

    /// A check on the exponent of a statistic, to be judged with all others.
    pub fn scaling(&self, title: impl Into<String>, name: &str, expectation: Expectation) -> Result<Open> {
        // At any confidence level; the interval at another follows from it.
        let slope = self.exponent(name, Mark::CONFIDENCE)?.slope;
        Ok(Open::new(title, expectation, move |confidence| slope.student_at(confidence)))
    }

    /// A check on the mean of a statistic at the largest x, to be judged with all others.
    pub fn level(&self, title: impl Into<String>, name: &str, expectation: Expectation) -> Open {
        Open::mean(title, expectation, self.last(name))
    }

    /// The seeds' values at the x with this index.
    pub fn at(&self, name: &str, place: usize) -> Vec<f64> {
        self.values[self.index(name)].iter().map(|v| v[place]).collect()
    }

    /// The seeds' values at the largest x.
    pub fn last(&self, name: &str) -> Vec<f64> {
        self.at(name, self.x.len() - 1)
    }

    /// A line of a plot: geometric means over seeds.
    pub fn series(&self, legend: &str, name: &str, predicted_slope: Option<f64>, control: bool) -> Series {
        let seeds = &self.values[self.index(name)];
        let marks = self
            .x
            .iter()
            .enumerate()
            .map(|(i, x)| Mark::geometric_mean(*x, &seeds.iter().map(|v| v[i]).collect::<Vec<_>>()));
        Series { name: legend.into(), marks: marks.collect(), predicted_slope, control }
    }

    /// Finite-size analysis of some statistics: slopes between neighbouring x, where a drift along a row is a finite-size
    /// effect, and the exponent of a fit with a finite-size effect of relative order x^-1/2, if there are enough points for it.
    pub fn local_slopes(&self, statistics: &[(&str, f64)]) -> Result<Table> {
        let corrected = self.x.len() >= CORRECTED_POINTS;
        let mut columns = vec!["statistic".to_owned(), "predicted".to_owned()];
        columns.extend(self.x.windows(2).map(|w| format!("{} → {}", w[0], w[1])));
        if corrected {
            columns.push("with a correction x^-1/2".to_owned());
        }
        let mut rows = Vec::new();
        for (name, predicted) in statistics {
            let mut row = vec![Cell::from(*name), Cell::from(*predicted)];
            row.extend(self.exponent(name, 0.95)?.local_slopes.into_iter().map(Cell::from));
            if corrected {
                row.push(Cell::from(self.fit(name, Some(0.5), 0.95)?.slope));
            }
            rows.push(row);
        }
        Ok(Table { title: "Slopes between neighbouring points".into(), columns, rows })
    }
}
