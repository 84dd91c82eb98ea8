//! Slopes of |χ| in width, their intervals, the verdict and the report.

use std::path::Path;

use super::measure::{Naturalness, Variant};
use crate::error::Result;
use crate::evidence::{Cell, Check, Figure, Findings, Mark, Series, Table};
use crate::report::{Document, Written, write_document};
use crate::stats::{Estimate, Expectation, Outcome, clopper_pearson, student_mean};

/// Smallest fall of |χ| that counts, as an exponent of the width: below it, doubling the width takes off less than 3%.
const FALLS: f64 = -0.04;

/// Confidence of every interval.
const CONFIDENCE: f64 = 0.99;

/// Whether a task is natural.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// |χ| falls with width, and no control's |χ| does.
    Natural,
    /// |χ| does not fall.
    NotNatural,
    /// The interval does not decide.
    Undecided,
}

impl Verdict {
    /// Text in reports.
    pub fn text(self) -> &'static str {
        match self {
            Self::Natural => "natural",
            Self::NotNatural => "not natural",
            Self::Undecided => "undecided",
        }
    }
}

/// Exponent in width of the mean of |χ| over examples, `chi[model][example]`, with Student's interval over the examples.
///
/// The exponent is a function of the models' means. To first order an example contributes its influence `Σ_w a_w χ_w/mean_w`,
/// where a are the weights of the least-squares slope (which sum to zero); the influences of examples are independent.
fn slope(widths: &[f64], chi: &[&[f64]], confidence: f64) -> Estimate {
    let logs: Vec<f64> = widths.iter().map(|w| w.ln()).collect();
    let centre = logs.iter().sum::<f64>() / logs.len() as f64;
    let spread: f64 = logs.iter().map(|x| (x - centre).powi(2)).sum();
    let weights: Vec<f64> = logs.iter().map(|x| (x - centre) / spread).collect();
    let means: Vec<f64> = chi.iter().map(|c| c.iter().sum::<f64>() / c.len() as f64).collect();
    let slope: f64 = weights.iter().zip(&means).map(|(a, m)| a * m.ln()).sum();
    let influence = |i: usize| slope + weights.iter().zip(chi).zip(&means).map(|((a, c), m)| a * c[i] / m).sum::<f64>();
    let influences: Vec<f64> = (0..chi[0].len()).map(influence).collect();
    student_mean(&influences, confidence)
}

/// The slope of each variant.
fn slopes(found: &Naturalness) -> Vec<(Variant, Estimate)> {
    let widths: Vec<f64> = found.models.iter().map(|(_, width, _)| *width as f64).collect();
    let of = |(v, variant): (usize, Variant)| {
        let chi: Vec<&[f64]> = found.measured.iter().map(|m| m[v].chi.as_slice()).collect();
        (variant, slope(&widths, &chi, CONFIDENCE))
    };
    Variant::ALL.into_iter().enumerate().map(of).collect()
}

/// The verdict. The task's interval decides, but if a control falls too, a natural task is undecided.
pub fn verdict(found: &Naturalness) -> Verdict {
    let falls = Expectation::AtMost { bound: FALLS };
    let outcomes: Vec<Outcome> = slopes(found).iter().map(|(_, s)| falls.judge(s)).collect();
    match outcomes[0] {
        Outcome::Holds if outcomes[1..].contains(&Outcome::Holds) => Verdict::Undecided,
        Outcome::Holds => Verdict::Natural,
        Outcome::Violated => Verdict::NotNatural,
        Outcome::Underpowered => Verdict::Undecided,
    }
}

/// Everything in the report.
pub fn naturalness_findings(found: &Naturalness) -> Findings {
    let falls = Expectation::AtMost { bound: FALLS };
    let examples = found.measured[0][0].chi.len();
    let mut findings = Findings {
        settings: vec![
            ("task".into(), format!("{}: {}", found.task, found.words.join(" / "))),
            ("examples".into(), format!("{examples}, {}", found.data())),
            ("models".into(), found.models.iter().map(|m| m.0.clone()).collect::<Vec<_>>().join(", ")),
            ("seed".into(), found.seed.to_string()),
        ],
        ..Findings::default()
    };
    for (variant, slope) in slopes(found) {
        let row = Check::judged(format!("{}: exponent of the mean |χ| in width", variant.text()), falls, slope);
        if variant == Variant::Task { &mut findings.checks } else { &mut findings.controls }.push(row);
    }
    let last = found.measured.len() - 1;
    let falling = (0..examples).filter(|i| found.measured[last][0].chi[*i] < found.measured[0][0].chi[*i]).count();
    let share = clopper_pearson(falling, examples, CONFIDENCE);
    let (small, large) = (found.models[0].1, found.models[last].1);
    let title = format!("share of examples on which |χ| is smaller at width {large} than at {small}");
    findings.checks.push(Check::judged(title, Expectation::AtLeast { bound: 0.5 }, share));

    let mut columns = vec!["model".to_owned(), "width".to_owned()];
    columns.extend(["accuracy", "mean |χ|"].map(str::to_owned));
    columns.extend(Variant::ALL[1..].iter().map(|v| format!("mean |χ|, {}", v.text())));
    let mean = |chi: &[f64]| student_mean(chi, CONFIDENCE);
    let row = |(model, measured): (&(String, i64, i64), &Vec<super::Measured>)| {
        let mut cells =
            vec![Cell::from(model.0.as_str()), Cell::from(model.1 as f64), Cell::from(measured[0].accuracy)];
        cells.extend(measured.iter().map(|m| Cell::from(mean(&m.chi))));
        cells
    };
    findings.tables.push(Table {
        title: "Models".into(),
        columns,
        rows: found.models.iter().zip(&found.measured).map(row).collect(),
    });
    let series = |(v, variant): (usize, Variant)| Series {
        name: variant.text().into(),
        marks: found
            .models
            .iter()
            .zip(&found.measured)
            .map(|(model, measured)| Mark::mean(model.1 as f64, &measured[v].chi))
            .collect(),
        predicted_slope: None,
        control: variant != Variant::Task,
    };
    findings.figures.push(Figure {
        name: "output-derivative".into(),
        title: format!("Output derivative over widths: {}", found.task),
        x_label: "width n".into(),
        y_label: "mean |χ|".into(),
        series: Variant::ALL.into_iter().enumerate().map(series).collect(),
    });
    findings.notes.extend(found.caveat());
    findings
}

/// Writes the report.
///
/// # Errors
/// Those of [`write_document`].
pub fn write_naturalness(found: &Naturalness, directory: &Path) -> Result<Written> {
    let paragraphs = vec![
        format!("Verdict: **{}**.", verdict(found).text()),
        "A task is natural in a pre-training scheme if the loss's derivative in the output, χ, vanishes as the width grows, \
         with no update made (the paper, Definition 5.3). The test is necessary for kernel behaviour of prompt-based \
         fine-tuning, not sufficient. Here |χ| is 1 - p(y) for the right label y among the label words. Intervals are over \
         examples; they say nothing about other pre-training seeds. The controls are the same examples with something \
         natural taken away: there |χ| must not fall."
            .to_owned(),
    ];
    let title = format!("Is {} natural?", found.task);
    write_document(
        &Document { title, paragraphs, findings: naturalness_findings(found), pictures: Vec::new() },
        found,
        directory,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_means() {
        let widths = [64.0, 128.0, 256.0];
        let chi: Vec<Vec<f64>> = widths
            .iter()
            .map(|w: &f64| (0..40).map(|i| w.powf(-0.3) * (1.0 + 0.5 * f64::from(i % 7))).collect())
            .collect();
        let rows: Vec<&[f64]> = chi.iter().map(Vec::as_slice).collect();
        let found = slope(&widths, &rows, 0.99);
        assert!((found.value + 0.3).abs() < 1e-12, "{found:?}");
        // Every example falls alike, so nothing scatters.
        assert!(found.high - found.low < 1e-9, "{found:?}");
    }
    #[test]
    fn what_differs_beside_the_width_is_said() {
        let of = |depths: [i64; 2], differ: &[&str]| {
            let found = Naturalness {
                schema_version: 1,
                task: String::new(),
                source: String::new(),
                source_digest: String::new(),
                sets: Vec::new(),
                words: Vec::new(),
                seed: 0,
                models: [64, 128].into_iter().zip(depths).map(|(w, d)| (format!("m{w}"), w, d)).collect(),
                measured: Vec::new(),
                differ: differ.iter().map(|what| (*what).to_owned()).collect(),
            };
            found.caveat().map(|text| text.split_once(", too:").expect("a list").0.to_owned())
        };
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(of([2, 2], &[]), None);
        assert_eq!(of([2, 3], &[]), said("The models differ in depth"));
        assert_eq!(of([2, 2], &["tokenizer"]), said("The models differ in tokenizer"));
        let all = of([2, 3], &["architecture", "tokenizer"]);
        assert_eq!(all, said("The models differ in depth, architecture and tokenizer"));
    }
}
