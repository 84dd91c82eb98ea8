//! Means over seeds, and what they say about the paper's findings.

use crate::evidence::{Floor, GridKey, GridResult, METHODS, Question, Reproduction};
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

    /// Whether the mean of some gains is above zero by more than noise: by more than twice its standard error over seeds. A
    /// single seed has no spread; there `alone` says it, from the number of test examples.
    fn is_gain(gains: &[f64], alone: impl FnOnce() -> bool) -> bool {
        Self::of(gains).is_some_and(|gain| match gain.deviation {
            Some(deviation) => gain.mean > 2.0 * deviation / (gains.len() as f64).sqrt(),
            None => alone(),
        })
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

    /// Whether fine-tuning beats the most frequent class.
    fn learned(&self, tuned: &str) -> bool {
        let gain = |r: &&GridResult| Some(accuracy(r, tuned)? - r.majority_accuracy);
        let gains: Vec<f64> = self.results.iter().filter_map(gain).collect();
        Spread::is_gain(&gains, || self.any(tuned, Floor::learned))
    }

    /// Share of fine-tuning's gain in accuracy over zero-shot that the linearized model keeps: a ratio of means over seeds,
    /// because a single seed's gain may be next to nothing. `None` where the gain is not above noise.
    fn recovered(&self, tuned: &str, optimizer: &str) -> Option<f64> {
        let both = |r: &&GridResult| {
            let (before, after) = (accuracy(r, METHODS[0])?, accuracy(r, tuned)?);
            let (_, linear) = r.linearized.iter().find(|(o, _)| o == optimizer)?;
            Some((after - before, linear - before))
        };
        let (gains, kept): (Vec<f64>, Vec<f64>) = self.results.iter().filter_map(both).unzip();
        let gained = Spread::is_gain(&gains, || self.any(tuned, Floor::gained));
        gained.then(|| kept.iter().sum::<f64>() / gains.iter().sum::<f64>())
    }

    /// Whether fine-tuning of any cell is above what `above` asks.
    fn any(&self, tuned: &str, above: fn(&Floor, f64) -> bool) -> bool {
        let one = |r: &&GridResult| {
            let zero_shot = accuracy(r, METHODS[0])?;
            let floor = Floor { majority: r.majority_accuracy, zero_shot, examples: r.examples[2] };
            Some(above(&floor, accuracy(r, tuned)?))
        };
        self.results.iter().filter_map(one).any(|found| found)
    }

    /// The figure that answers a question; `None` where it cannot be asked.
    pub fn figure(&self, question: Question, (tuned, kernel, optimizer): (&str, &str, &str)) -> Option<f64> {
        match question {
            Question::Solved => {
                let (tuned_score, kernel) = (self.score(tuned)?, self.score(kernel)?);
                self.learned(tuned).then(|| kernel.mean / tuned_score.mean)
            }
            Question::Linearization => self.recovered(tuned, optimizer).filter(|_| self.learned(tuned)),
            Question::FixedFeatures => {
                let of = |r: &&GridResult| {
                    let found = r.verdicts.iter().find(|v| v.question == question && v.optimizer == optimizer);
                    found.and_then(|v| v.value)
                };
                Spread::of(&self.results.iter().filter_map(of).collect::<Vec<_>>()).map(|s| s.mean)
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
                let figures: Vec<f64> = here.iter().filter_map(|g| g.figure(question, analog)).collect();
                (figures.iter().filter(|v| question.holds(**v)).count(), figures.len())
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
            let kept = if linear.1 == 0 {
                "nothing is gained over zero-shot".to_owned()
            } else {
                format!(
                    "the linearized model keeps half of the gain over zero-shot in {} of the {} settings with one",
                    linear.0, linear.1
                )
            };
            sentences.push(format!(
                "under {}, {kept}, and the features stay fixed in {} of {}",
                optimizer_title(optimizer),
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
    fn only_gains_above_noise_are_asked_about() {
        let key = GridKey { model: "m".into(), task: "mr".into(), k: 16, seed: 13, head: "prompt".into() };
        let figures = |cells: &[[f64; 4]]| {
            let results = group(cells);
            let group = Group { key: &key, results: results.iter().collect() };
            [Question::Solved, Question::Linearization].map(|q| group.figure(q, ANALOGS[0]))
        };
        // Means: 0.7 to 0.9 by the optimizer, 0.8 linearized, 0.81 by the kernel. One seed's gain alone is 0.01.
        let [solved, linear] =
            figures(&[[0.7, 0.91, 0.8, 0.81], [0.7, 0.95, 0.9, 0.81], [0.83, 0.84, 0.7, 0.81], [0.57, 0.9, 0.8, 0.81]]);
        assert!((solved.expect("asked") - 0.9).abs() < 1e-12 && (linear.expect("asked") - 0.5).abs() < 1e-12);
        // Gains of 0.1, -0.08 and 0.01 are noise, over zero-shot as over the most frequent class.
        assert_eq!(figures(&[[0.5, 0.6, 0.9, 0.6], [0.5, 0.42, 0.9, 0.6], [0.5, 0.51, 0.9, 0.6]]), [None, None]);
        // A single seed, whose 100 examples resolve 0.05: at chance, and with a gain of two examples.
        assert_eq!(figures(&[[0.5, 0.53, 0.53, 0.5]]), [None, None]);
        assert_eq!(figures(&[[0.68, 0.7, 0.7, 0.63]]), [Some(0.63 / 0.7), None]);
        // A loss, and a single seed.
        assert_eq!(figures(&[[0.8, 0.7, 0.9, 0.63]]), [Some(0.63 / 0.7), None]);
    }
}
