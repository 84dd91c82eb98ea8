//! Means over seeds, and what they say about the paper's findings.

use crate::evidence::{GridKey, GridResult, METHODS, Question, Reproduction};
use crate::report::format::optimizer_title;

/// Cells that differ in their seed alone.
pub(super) struct Group<'a> {
    /// The first one's key.
    pub key: &'a GridKey,
    /// Those with a result.
    pub results: Vec<&'a GridResult>,
}

/// Mean and sample standard deviation of some numbers.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    pub mean: f64,
    /// None for a single number.
    pub deviation: Option<f64>,
}

impl Spread {
    /// `None` without numbers.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        (!values.is_empty()).then_some(Self { mean, deviation })
    }
}

/// The kernel that is a method's analog, with the optimizer as verdicts name it.
pub(super) const ANALOGS: [(&str, &str, &str); 3] =
    [("SGD-FT", "K(SGD)", "sgd"), ("Adam-FT", "K(A-SignGD)", "adam"), ("SignGD-FT", "K(A-SignGD)", "signgd")];

impl<'a> Group<'a> {
    /// The groups in the order of the grid.
    pub fn all(grid: &'a Reproduction) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for cell in &grid.cells {
            let same = |g: &Self| GridKey { seed: g.key.seed, ..cell.key.clone() } == *g.key;
            let at = groups.iter().position(same).unwrap_or_else(|| {
                groups.push(Self { key: &cell.key, results: Vec::new() });
                groups.len() - 1
            });
            groups[at].results.extend(cell.result.as_ref());
        }
        groups
    }

    /// A method's score over seeds.
    pub fn score(&self, method: &str) -> Option<Spread> {
        let values: Vec<f64> = self
            .results
            .iter()
            .filter_map(|r| r.scores.iter().find(|s| s.method == method))
            .map(|s| s.of_task(&self.key.task))
            .collect();
        Spread::of(&values)
    }

    /// A verdict's figure over the seeds on which the question could be asked.
    pub fn figures(&self, question: Question, optimizer: &str) -> Vec<f64> {
        let of = |r: &&GridResult| {
            let found = r.verdicts.iter().find(|v| v.question == question && v.optimizer == optimizer);
            found.and_then(|v| v.value)
        };
        self.results.iter().filter_map(of).collect()
    }

    /// Whether fine-tuning beats the most frequent class, over seeds.
    fn learned(&self, method: &str) -> bool {
        let accuracy = |r: &&GridResult| {
            let found = r.scores.iter().find(|s| s.method == method).map(|s| s.test_accuracy);
            found.map(|a| a - r.majority_accuracy)
        };
        let gains: Vec<f64> = self.results.iter().filter_map(accuracy).collect();
        Spread::of(&gains).is_some_and(|s| s.mean > 0.0)
    }

    /// The answer to a question from the means over seeds; `None` where it cannot be asked.
    pub fn answer(&self, question: Question, (tuned, kernel, optimizer): (&str, &str, &str)) -> Option<bool> {
        let threshold = question.threshold();
        match question {
            Question::Solved => {
                let (tuned_score, kernel) = (self.score(tuned)?, self.score(kernel)?);
                self.learned(tuned).then_some(kernel.mean >= threshold * tuned_score.mean)
            }
            Question::Linearization => Spread::of(&self.figures(question, optimizer))
                .filter(|_| self.learned(tuned))
                .map(|s| s.mean >= threshold),
            Question::FixedFeatures => Spread::of(&self.figures(question, optimizer)).map(|s| s.mean < threshold),
        }
    }
}

/// Pairs for the plot: name, and (fine-tuning, kernel) for every group.
pub(super) fn pairs(groups: &[Group<'_>]) -> Vec<(String, Vec<(f64, f64)>)> {
    let all = [("SGD-FT", "K(SGD)"), ("Adam-FT", "K(SignGD)"), ("Adam-FT", "K(A-SignGD)")];
    let of = |(tuned, kernel): (&str, &str)| {
        let points = groups.iter().filter_map(|g| Some((g.score(tuned)?.mean, g.score(kernel)?.mean)));
        (format!("{kernel} against {tuned}"), points.collect())
    };
    all.into_iter().map(of).collect()
}

/// What the grid says, model by model and head by head.
pub(super) fn paragraphs(groups: &[Group<'_>], grid: &Reproduction) -> Vec<String> {
    let mut paragraphs = Vec::new();
    let (done, failed) = (
        grid.cells.iter().filter(|c| c.result.is_some()).count(),
        grid.cells.iter().filter(|c| c.error.is_some()).count(),
    );
    let missing = grid.cells.len() - done - failed;
    let some = |n: usize, what: &str| if n > 0 { format!(", {n} {what}") } else { String::new() };
    paragraphs.push(format!(
        "{done} of {} cells are there{}{}.",
        grid.cells.len(),
        some(failed, "failed (listed at the end)"),
        some(missing, "were left to other shards")
    ));
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for group in groups {
        let place = (group.key.model.as_str(), group.key.head.as_str());
        if seen.contains(&place) {
            continue;
        }
        seen.push(place);
        let here: Vec<&Group<'_>> =
            groups.iter().filter(|g| (g.key.model.as_str(), g.key.head.as_str()) == place).collect();
        let mut sentences = Vec::new();
        for analog in ANALOGS {
            let (tuned, kernel, optimizer) = analog;
            let counted = |question| {
                let answers: Vec<bool> = here.iter().filter_map(|g| g.answer(question, analog)).collect();
                (answers.iter().filter(|a| **a).count(), answers.len())
            };
            let [solved, linear, fixed] = Question::ALL.map(counted);
            if fixed.1 == 0 {
                continue;
            }
            sentences.push(if solved.1 == 0 {
                format!("{tuned} beats the most frequent class nowhere, so that there is nothing for {kernel} to match")
            } else {
                format!(
                    "{kernel} reaches 90% of {tuned} in {} of the {} settings where {tuned} beats the most frequent class",
                    solved.0, solved.1
                )
            });
            sentences.push(format!(
                "under {}, the linearized model keeps half of the gain in {} of {}, and the features stay fixed in {} of {}",
                optimizer_title(optimizer),
                linear.0,
                linear.1,
                fixed.0,
                fixed.1
            ));
        }
        if !sentences.is_empty() {
            let text = sentences.join("; ");
            paragraphs.push(format!("**{}, {}**: {text}.", group.key.model, head_title(&group.key.head)));
        }
    }
    paragraphs
}

/// A head in words.
pub(super) fn head_title(head: &str) -> String {
    match head {
        "prompt" => "with a prompt".into(),
        "random" => "no prompt, random head".into(),
        "linear-probe" => "no prompt, linear probe".into(),
        other => {
            other.strip_prefix("lora-").map_or_else(|| other.to_owned(), |k| format!("LoRA of rank {k}, with a prompt"))
        }
    }
}

/// Methods that any of the groups has, in the paper's order.
pub(super) fn methods(groups: &[&Group<'_>]) -> Vec<&'static str> {
    METHODS.into_iter().filter(|m| groups.iter().any(|g| g.score(m).is_some())).collect()
}
