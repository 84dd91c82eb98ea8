//! Means over seeds, and the answers to the paper's questions.

use crate::evidence::{
    CONFIDENCE, Floor, GridKey, GridResult, METHODS, Outcome, Question, Reproduction, Verdict, accuracy_error,
};
use crate::report::format::optimizer_title;
use crate::stats::{Estimate, Ratio};

/// Cells that differ only in their seed.
pub(super) struct Group<'a> {
    /// The first one's key.
    pub key: &'a GridKey,
    /// The cells with a result.
    pub results: Vec<&'a GridResult>,
}

/// Mean and sample standard deviation of some numbers.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    pub mean: f64,
    /// `None` for a single number.
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

    /// Whether the mean of some gains exceeds twice its standard error: over seeds, and over test examples, which seeds share.
    /// A single seed has no spread; then `alone` decides, from the number of test examples.
    fn is_gain(gains: &[f64], over_examples: f64, alone: impl FnOnce() -> bool) -> bool {
        Self::of(gains).is_some_and(|gain| match gain.deviation {
            Some(deviation) => gain.mean > 2.0 * over_examples.hypot(deviation / (gains.len() as f64).sqrt()),
            None => alone(),
        })
    }
}

/// A question's answer over the seeds of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Answer {
    /// The figure: a ratio of means, or a geometric mean, over seeds.
    pub value: f64,
    /// Its interval; `None` where it is unbounded.
    pub interval: Option<(f64, f64)>,
    /// The answer.
    pub outcome: Outcome,
    /// How many seeds would probably decide an undecided one, if known; of a single seed, how many examples.
    pub needed: Option<usize>,
    /// Whether it is over seeds, and not over the examples of a single one.
    pub over_seeds: bool,
}

impl Answer {
    /// From a ratio over seeds; `scale` makes the figure of it, and `threshold` is the question's before that.
    fn over_seeds(question: Question, ratio: &Ratio, threshold: f64, scale: fn(f64) -> f64) -> Self {
        let estimate = ratio.estimate(CONFIDENCE);
        let Estimate { value, low, high, .. } = estimate;
        let interval = (low.is_finite() && high.is_finite()).then_some((scale(low), scale(high)));
        let outcome =
            question.outcome(&Estimate { value: scale(value), low: scale(low), high: scale(high), ..estimate });
        let needed = ratio.needed(threshold, CONFIDENCE).filter(|_| outcome == Outcome::Undecided);
        Self { value: scale(value), interval, outcome, needed, over_seeds: true }
    }

    /// The answer of a single analysis with a figure.
    fn of(verdict: &Verdict) -> Option<Self> {
        let interval = verdict.low.zip(verdict.high);
        // A report without intervals is undecided.
        let outcome = if interval.is_some() { verdict.outcome } else { Outcome::Undecided };
        Some(Self { value: verdict.value?, interval, outcome, needed: verdict.needed, over_seeds: false })
    }
}

/// A method's kernel analog, with the optimizer's name in verdicts.
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

    /// Whether fine-tuning beats the most frequent class.
    fn learned(&self, tuned: &str) -> bool {
        let gain = |r: &&GridResult| Some(accuracy(r, tuned)? - r.majority_accuracy);
        let gains: Vec<f64> = self.results.iter().filter_map(gain).collect();
        let error = |r: &&GridResult| accuracy_error(accuracy(r, tuned)?, r.examples[2]);
        let errors: Vec<f64> = self.results.iter().filter_map(error).collect();
        let over_examples = Spread::of(&errors).map_or(0.0, |errors| errors.mean);
        Spread::is_gain(&gains, over_examples, || self.any(tuned, Floor::learned))
    }

    /// The fraction of fine-tuning's gain over zero-shot that the linearized model keeps, as a ratio of means over seeds,
    /// because a single seed's gain may be almost zero. Per seed: the gain kept, and the gain.
    fn gains(&self, tuned: &str, optimizer: &str) -> Vec<(f64, f64)> {
        let both = |r: &&GridResult| {
            let (before, after) = (accuracy(r, METHODS[0])?, accuracy(r, tuned)?);
            let (_, linear) = r.linearized.iter().find(|(o, _)| o == optimizer)?;
            Some((linear - before, after - before))
        };
        self.results.iter().filter_map(both).collect()
    }

    /// Scores of the kernel and of fine-tuning, per seed.
    fn both_scores(&self, tuned: &str, kernel: &str) -> Vec<(f64, f64)> {
        let of = |r: &GridResult, method: &str| {
            r.scores.iter().find(|s| s.method == method).map(|s| s.of_task(&self.key.task))
        };
        self.results.iter().filter_map(|r| of(r, kernel).zip(of(r, tuned))).collect()
    }

    /// Whether fine-tuning of any cell satisfies `above`.
    fn any(&self, tuned: &str, above: fn(&Floor, f64) -> bool) -> bool {
        let one = |r: &&GridResult| {
            let zero_shot = accuracy(r, METHODS[0])?;
            let floor = Floor { majority: r.majority_accuracy, zero_shot, examples: r.examples[2] };
            Some(above(&floor, accuracy(r, tuned)?))
        };
        self.results.iter().filter_map(one).any(|found| found)
    }

    /// The answer to a question; `None` if it is not applicable. Over several seeds, Student's interval for the ratio of two
    /// means over them (for fixed features, of the geometric mean: distances have a long tail, so that an interval of their
    /// arithmetic mean would not cover); of a single one, its own figure and interval over examples.
    pub fn answer(&self, question: Question, (tuned, kernel, optimizer): (&str, &str, &str)) -> Option<Answer> {
        let verdicts: Vec<&Verdict> = self
            .results
            .iter()
            .filter_map(|r| r.verdicts.iter().find(|v| v.question == question && v.optimizer == optimizer))
            .collect();
        let ratio = |pairs: Vec<(f64, f64)>| {
            let alone = verdicts.first().filter(|_| pairs.len() == 1).and_then(|verdict| Answer::of(verdict));
            alone.unwrap_or_else(|| {
                Answer::over_seeds(question, &Ratio::Seeds(pairs), question.threshold(), |value| value)
            })
        };
        match question {
            Question::FixedFeatures => {
                let values: Vec<f64> = verdicts.iter().filter_map(|v| v.value).collect();
                match values.as_slice() {
                    [] => None,
                    [_] => verdicts.first().and_then(|verdict| Answer::of(verdict)),
                    _ => {
                        // A distance of 0 has no logarithm; the smallest number stands for it.
                        let logs = values.iter().map(|v| (v.max(f64::MIN_POSITIVE).ln(), 1.0)).collect();
                        Some(Answer::over_seeds(question, &Ratio::Seeds(logs), question.threshold().ln(), f64::exp))
                    }
                }
            }
            _ if !self.learned(tuned) => None,
            Question::Solved => {
                let pairs = self.both_scores(tuned, kernel);
                (!pairs.is_empty()).then(|| ratio(pairs))
            }
            Question::Linearization => {
                let pairs = self.gains(tuned, optimizer);
                (pairs.iter().map(|p| p.1).sum::<f64>() > 0.0).then(|| ratio(pairs))
            }
        }
    }
}

fn accuracy(result: &GridResult, method: &str) -> Option<f64> {
    result.scores.iter().find(|s| s.method == method).map(|s| s.test_accuracy)
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

/// Summarizes the grid by model and head.
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
            let counted = |question| Tally::of(here.iter().filter_map(|g| g.answer(question, analog)));
            let [solved, linear, fixed] = Question::ALL.map(counted);
            if fixed.asked() == 0 {
                continue;
            }
            sentences.push(if solved.asked() == 0 {
                format!("{tuned} beats the most frequent class nowhere, so that there is nothing for {kernel} to match")
            } else {
                let settings = format!("settings where {tuned} beats the most frequent class");
                format!("{kernel} reaches 90% of {tuned} in {}", solved.text(&settings))
            });
            let kept = if linear.asked() == 0 {
                "no linearized model can be compared".to_owned()
            } else {
                format!(
                    "the linearized model keeps half of the gain over zero-shot in {}",
                    linear.text("settings above the most frequent class with a higher mean than zero-shot")
                )
            };
            sentences.push(format!(
                "under {}, {kept}, and the features stay fixed in {}",
                optimizer_title(optimizer),
                fixed.text("settings")
            ));
        }
        if !sentences.is_empty() {
            let text = sentences.join("; ");
            paragraphs.push(format!("**{}, {}**: {text}.", group.key.model, head_title(&group.key.head)));
        }
    }
    paragraphs
}

/// The outcomes of a question over settings.
struct Tally {
    holds: usize,
    fails: usize,
    undecided: usize,
}

impl Tally {
    fn of(answers: impl Iterator<Item = Answer>) -> Self {
        let outcomes: Vec<Outcome> = answers.map(|a| a.outcome).collect();
        let count = |outcome| outcomes.iter().filter(|o| **o == outcome).count();
        Self { holds: count(Outcome::Holds), fails: count(Outcome::Fails), undecided: count(Outcome::Undecided) }
    }

    fn asked(&self) -> usize {
        self.holds + self.fails + self.undecided
    }

    /// `3 of the 9 settings (not in 2, undecided in 4)`.
    fn text(&self, settings: &str) -> String {
        let part = |count: usize, what: &str| (count > 0).then(|| format!("{what} in {count}"));
        let rest: Vec<String> =
            [part(self.fails, "not"), part(self.undecided, "undecided")].into_iter().flatten().collect();
        let rest = if rest.is_empty() { String::new() } else { format!(" ({})", rest.join(", ")) };
        format!("{} of the {} {settings}{rest}", self.holds, self.asked())
    }
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

/// Methods in any of the groups, in the paper's order.
pub(super) fn methods(groups: &[&Group<'_>]) -> Vec<&'static str> {
    METHODS.into_iter().filter(|m| groups.iter().any(|g| g.score(m).is_some())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::GridScore;

    /// Cells with accuracies of zero-shot, SGD-FT, its linearization and K(SGD); half the examples are of one class.
    fn group(cells: &[[f64; 4]]) -> Vec<GridResult> {
        let of = |[zero, tuned, linear, kernel]: &[f64; 4]| {
            let score = |method: &str, a: f64| GridScore {
                method: method.into(),
                dev_accuracy: a,
                test_accuracy: a,
                test_f1: None,
            };
            GridResult {
                examples: [32, 32, 100],
                majority_accuracy: 0.5,
                scores: vec![score("zero-shot", *zero), score("SGD-FT", *tuned), score("K(SGD)", *kernel)],
                linearized: vec![("sgd".into(), *linear)],
                verdicts: Vec::new(),
            }
        };
        cells.iter().map(of).collect()
    }

    #[test]
    fn what_is_at_chance_is_not_asked_about_and_noise_decides_nothing() {
        let key = GridKey { model: "m".into(), task: "mr".into(), k: 16, seed: 13, head: "prompt".into() };
        let answers = |cells: &[[f64; 4]]| {
            let results = group(cells);
            let group = Group { key: &key, results: results.iter().collect() };
            [Question::Solved, Question::Linearization].map(|q| group.answer(q, ANALOGS[0]))
        };
        let of = |answer: Option<Answer>| answer.map(|a| ((1e6 * a.value).round() / 1e6, a.outcome));
        // Means: 0.7 to 0.9 by the optimizer, 0.8 linearized, 0.81 by the kernel: both figures are at their thresholds.
        let [solved, linear] =
            answers(&[[0.7, 0.91, 0.8, 0.81], [0.7, 0.95, 0.9, 0.81], [0.83, 0.84, 0.7, 0.81], [0.57, 0.9, 0.8, 0.81]]);
        assert_eq!((of(solved), of(linear)), (Some((0.9, Outcome::Undecided)), Some((0.5, Outcome::Undecided))));
        // Away from them four seeds decide: 0.86/0.9 of the accuracy; 0.17/0.2 and 0.02/0.2 of the gain.
        let seeds = |linear: f64| [0.0, 0.004, -0.004, 0.002].map(|d| [0.7, 0.9 + d, linear - d, 0.86 + d]);
        let [solved, linear] = answers(&seeds(0.87));
        assert_eq!(
            (solved.map(|a| a.outcome), linear.map(|a| a.outcome)),
            (Some(Outcome::Holds), Some(Outcome::Holds))
        );
        assert_eq!(answers(&seeds(0.72))[1].map(|a| a.outcome), Some(Outcome::Fails));
        // Gains of 0.1, -0.08 and 0.01 are noise, over zero-shot as over the most frequent class.
        assert_eq!(answers(&[[0.5, 0.6, 0.9, 0.6], [0.5, 0.42, 0.9, 0.6], [0.5, 0.51, 0.9, 0.6]]), [None, None]);
        // So they are above chance, where the share of a gain that may be none is anything.
        let noise = [[0.7, 0.8, 0.75, 0.8], [0.7, 0.62, 0.65, 0.62], [0.7, 0.71, 0.71, 0.71]];
        let unbounded = answers(&noise)[1].expect("asked");
        assert_eq!((unbounded.interval, unbounded.outcome), (None, Outcome::Undecided));
        // A single seed, whose 100 examples resolve 0.05: at chance, and with a gain of two examples.
        assert_eq!(answers(&[[0.5, 0.53, 0.53, 0.5]]), [None, None]);
        assert_eq!(of(answers(&[[0.68, 0.7, 0.7, 0.63]])[0]), Some((0.9, Outcome::Undecided)));
        // A loss.
        assert_eq!(answers(&[[0.8, 0.7, 0.9, 0.63]])[1], None);
    }
}
