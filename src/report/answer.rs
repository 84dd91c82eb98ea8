//! The answer in words: a paragraph on all optimizers, and one on each.
//!
//! Every sentence follows from the verdicts and their figures.

use super::format::{code, escape, join, optimizer_title, percent, with_error};
use super::rows::{figure, interval, question, threshold, title_of, why_not, why_undecided};
use crate::evidence::{Analysis, FineTuningResult, Outcome, Question, Verdict};

/// One paragraph for each optimizer, first the one on all of them; Markdown.
pub(super) fn paragraphs(analysis: &Analysis) -> Vec<String> {
    let pairs = pairs(analysis);
    let setting = format!("On {} with the model {}", code(&analysis.task.name), code(&analysis.model.name));
    if pairs.is_empty() {
        return vec![format!(
            "{setting}, nothing was fine-tuned, so whether fine-tuning is in the kernel regime cannot be said. {}",
            kernels_alone(analysis)
        )];
    }
    let parts: Vec<String> = pairs.iter().map(|pair| pair.headline(analysis)).collect();
    let mut paragraphs = vec![format!("{setting}, {}.", parts.join("; "))];
    paragraphs.extend(pairs.iter().map(|pair| pair.paragraph(analysis)));
    paragraphs
}

fn kernels_alone(analysis: &Analysis) -> String {
    let results: Vec<String> = analysis
        .kernels
        .iter()
        .filter_map(|k| Some((k, k.methods.first()?)))
        .map(|(k, m)| format!("{} {}", escape(&k.title), with_error(m.test_accuracy, analysis.task.test)))
        .collect();
    let before = with_error(analysis.zero_shot.test, analysis.task.test);
    if results.is_empty() {
        return format!("The model without any training answers {before} of the test examples right.");
    }
    format!("Test accuracy is {before} without any training; regression with the kernels reaches {}.", join(&results))
}

/// An optimizer with its kernel and the verdicts on them.
struct Pair<'a> {
    optimizer: String,
    kernel: String,
    formula: &'a str,
    run: Option<&'a FineTuningResult>,
    verdicts: Vec<&'a Verdict>,
}

fn pairs(analysis: &Analysis) -> Vec<Pair<'_>> {
    let mut pairs: Vec<Pair> = Vec::new();
    for verdict in &analysis.verdicts {
        let run = analysis.fine_tuning.iter().find(|r| r.optimizer == verdict.optimizer);
        let optimizer = escape(&optimizer_title(&verdict.optimizer));
        if let Some(known) = pairs.iter_mut().find(|p| p.optimizer == optimizer && p.formula == verdict.formula) {
            known.verdicts.push(verdict);
            continue;
        }
        let kernel = escape(&title_of(analysis, &verdict.formula));
        pairs.push(Pair { optimizer, kernel, formula: &verdict.formula, run, verdicts: vec![verdict] });
    }
    pairs
}

impl Pair<'_> {
    fn count(&self, outcome: Outcome) -> usize {
        self.verdicts.iter().filter(|v| v.outcome == outcome).count()
    }

    fn headline(&self, analysis: &Analysis) -> String {
        let Self { optimizer, kernel, .. } = self;
        let learned = self.run.is_none_or(|run| analysis.floor().learned(run.test_accuracy));
        let features = self.verdicts.iter().find(|v| v.question == Question::FixedFeatures);
        if let (false, Some(features)) = (learned, features) {
            let stay = match features.outcome {
                Outcome::Holds => "and its features stay fixed",
                Outcome::Fails => "though its features move",
                Outcome::Undecided => "and whether its features stay fixed is undecided",
                Outcome::NotApplicable => "and whether its features stay fixed was not measured",
            };
            return format!(
                "fine-tuning with {optimizer} is on test not clearly better than the most frequent class, {stay}: whether it behaves \
                 like its kernel {kernel} cannot be asked"
            );
        }
        let [holds, fails, open] = [Outcome::Holds, Outcome::Fails, Outcome::Undecided].map(|o| self.count(o));
        let asked = holds + fails + open;
        let (fine_tuning, whether) =
            (format!("fine-tuning with {optimizer}"), format!("behaves like its kernel {kernel}"));
        if asked == 0 {
            return format!("whether {fine_tuning} {whether} cannot be said");
        }
        if holds == asked && asked == Question::ALL.len() {
            return format!(
                "{fine_tuning} {whether} in **all {asked} respects**: by the paper's measures it is in the kernel regime"
            );
        }
        let rest = if asked < self.verdicts.len() { " that can be asked" } else { "" };
        let respects = |count: usize| match (count, asked) {
            (1, 1) => format!("**the one respect**{rest}"),
            (all, _) if all == asked => format!("**all {asked} respects**{rest}"),
            _ => format!("**{count} of {asked} respects**{rest}"),
        };
        if open == asked {
            return format!("whether {fine_tuning} {whether} is undecided in {}", respects(open));
        }
        let mut parts = Vec::new();
        match (holds, fails) {
            (0, 0) => {}
            (0, fails) if fails == asked && asked > 1 => {
                parts.push(format!("{whether} in **none of the {asked} respects**{rest}"));
            }
            (0, fails) => parts.push(format!("does not behave like its kernel {kernel} in {}", respects(fails))),
            (holds, 0) => parts.push(format!("{whether} in {}", respects(holds))),
            (holds, fails) => parts.push(format!("{whether} in {}, not in {fails}", respects(holds))),
        }
        if open > 0 {
            parts.push(format!("{open} {} undecided", if open == 1 { "is" } else { "are" }));
        }
        format!("{fine_tuning} {}", parts.join(", and "))
    }

    fn paragraph(&self, analysis: &Analysis) -> String {
        let mut sentences = vec![format!("**{}.**", self.optimizer)];
        sentences.extend(self.accuracies(analysis));
        let clauses = |outcome| -> Vec<String> {
            self.verdicts.iter().filter(|v| v.outcome == outcome).map(|v| self.clause(v)).collect()
        };
        let (holds, fails) = (clauses(Outcome::Holds), clauses(Outcome::Fails));
        if !holds.is_empty() {
            sentences.push(format!("As a kernel would have it, {}.", join(&holds)));
        }
        if !fails.is_empty() {
            let start = if holds.is_empty() { "Unlike with a kernel," } else { "But" };
            sentences.push(format!("{start} {}.", join(&fails)));
        }
        for verdict in self.verdicts.iter().filter(|v| v.outcome == Outcome::Undecided) {
            let reason = why_undecided(verdict).unwrap_or_default();
            let value = verdict.value.map_or_else(|| "n/a".to_owned(), |v| figure(verdict.question, v));
            sentences.push(format!(
                "Undecided is “{}”: the figure is {value} (asked: {}), but {reason}.",
                question(verdict.question),
                threshold(verdict)
            ));
        }
        for verdict in &self.verdicts {
            if let Some(reason) = why_not(analysis, verdict) {
                let name = question(verdict.question);
                sentences.push(format!("The question of “{name}” cannot be asked: {}.", escape(&reason)));
            }
        }
        sentences.join(" ")
    }

    /// Accuracies of fine-tuning, the kernel and the model without training.
    fn accuracies(&self, analysis: &Analysis) -> Vec<String> {
        let Some(run) = self.run else { return Vec::new() };
        let n = analysis.task.test;
        let fitted = analysis.kernels.iter().find(|k| k.formula == self.formula).and_then(|k| k.methods.first());
        let kernel = fitted.map_or_else(String::new, |method| {
            format!(" regression with {} {},", self.kernel, with_error(method.test_accuracy, n))
        });
        let mut sentences = vec![format!(
            "Fine-tuning answers {} of the {n} test examples right,{kernel} the model without any training {}.",
            with_error(run.test_accuracy, n),
            with_error(analysis.zero_shot.test, n),
        )];
        if run.test_accuracy <= analysis.task.majority_accuracy {
            let below = run.test_accuracy < analysis.zero_shot.test;
            sentences.push(format!(
                "Fine-tuning is not above the {} of always answering the most frequent class{}.",
                percent(analysis.task.majority_accuracy),
                if below { ", and below the model without any training" } else { "" }
            ));
        }
        sentences
    }

    /// One verdict as part of a sentence.
    fn clause(&self, verdict: &Verdict) -> String {
        let Some(value) = verdict.value else { return "one figure is missing".to_owned() };
        let (value, asked) = (figure(verdict.question, value), figure(verdict.question, verdict.threshold));
        let good = verdict.outcome == Outcome::Holds;
        let between = interval(verdict);
        match verdict.question {
            Question::Solved => format!(
                "{} {} the task ({value} of fine-tuning's accuracy, {between}; at least {asked} is asked)",
                self.kernel,
                if good { "solves" } else { "does not solve" }
            ),
            Question::Linearization => format!(
                "the linearized model recovers {value} of fine-tuning's gain over the pre-trained model ({between}; at \
                 least {asked} is asked)"
            ),
            Question::FixedFeatures => format!(
                "the features {} (the kernel's entries change by {value} times their size on average, {between}; less \
                 than {asked} is asked)",
                if good { "stay" } else { "move" }
            ),
        }
    }
}
