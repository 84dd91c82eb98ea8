//! For questions that sentences answer, χ vanishes as width and length of pre-training grow together; for open questions it does not.
//!
//! **Statement.** A downstream task is natural in a pre-training scheme if the output derivative χ of its prompt vanishes as
//! the width grows (the paper, Definition 5.3). In muP an infinitely wide network is trained, too: after a fixed number of
//! steps it knows what it has learned so far, and χ tends to a constant that need not be 0. So of three limits, length of
//! pre-training at a fixed width, width at a fixed length, and both together, the definition can be met in the last, and this
//! claim says that questions answered by the sentence meet it.
//!
//! **Hypotheses.** The networks learn: after the longest pre-training the smallest already chooses the right word more often
//! than chance.
//!
//! **Derivation.** A prompt turns the task into the pre-training task. Where the text determines the hidden word, the least
//! loss is zero, and so is χ, the derivative of that loss in the logits; a network that becomes wide and is trained long
//! approaches it. Where the text leaves it open between two equally likely words, the least loss is `log 2`, and |χ| is 1/2 for
//! every network that knows no more than the text.
//!
//! **Experiment.** Networks pre-trained on a language with both kinds of questions (`fixtures/family/agreement.toml`), one for
//! every width, length and seed; each seed draws weights, text, questions (tasks) and sentences anew, so that intervals over
//! seeds cover all of these. Width and length together: mean |χ| of the largest network (width 512) after the longest
//! pre-training, which bounds χ∞ from above where |χ| falls, must be 0 to 0.05, and from each network to the next, larger in both,
//! |χ| must halve. Length alone, at each width: it must halve from the shortest to the longest. Fits of `χ∞ + c n^-p` are in a
//! table; where |χ| falls faster than the power, they give a χ∞ below 0. Networks in which both grow are of widths 64, 128 and 256,
//! one for each length: the three with twenty seeds or more whose steps are decided. From width 32 to 64 |χ| falls by more than
//! half, but that is undecided, and so is, with its eight seeds, the step from 256 to 512. Seeds were added after a look at the
//! first, so intervals are confidence sequences, which hold whenever one stops. The evidence is in `reports/agreement`.
//!
//! **Control.** Open questions, at the same positions of similar sentences, in the same networks. Their mean |χ| is 1/2 for every
//! network, sure or not, because either label is as likely; so the control takes `min(p, 1 - p)`, their χ if the word that the
//! network prefers were right, which falls to 0 where a network is sure of its answers. The limit of width alone at the shortest
//! length, where little is learned. (At the longest length width alone cannot be told from both together.)
//!
//! **Meaning.** Whether a task is natural can be read off before anything is fine-tuned, and a prompt alone does not make it
//! so: the text must answer the question, and the network must have had time to learn it.

use super::agreement::{Evidence, LENGTHS, LONGEST, interval};
use super::agreement_network::Record;
use super::context::{Context, SHIFTED};
use super::english::{English, WIDTHS};
use super::{Claim, Graded, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Cell, Collected, Figure, Findings, Mark, Open, Series, Table};
use crate::pretrain::language::Topic as Question;
use crate::stats::{Expectation, crossed, student_mean};

const OTHER_WORD: Mutant = Mutant { name: "other-word", change: "χ of the other label word" };
const REVERSED: Mutant = Mutant { name: "reversed-widths", change: "widths and lengths in the wrong order" };
const OPEN: Mutant = Mutant { name: "open-questions", change: "questions that the sentences leave open" };
const RAISED: Graded = Graded { name: "raised", change: "every measured |χ| 0.05 too large" };

pub(super) const CLAIM: Claim = Claim {
    id: "natural-task",
    topic: Topic::Prompt,
    title: "|χ| of questions that sentences answer vanishes as width and length of pre-training grow together",
    source: "the paper, Definition 5.3 and the test of its Section 6",
    prediction: "|χ| falls to 0 where the text answers; where it does not, networks stay undecided; width alone leaves |χ| above 0 after the shortest pre-training",
    text: include_str!("natural_task.rs"),
    mutants: &[OTHER_WORD, REVERSED, OPEN],
    graded: &[SHIFTED, RAISED],
    experiment,
};

/// Accepted distance of |χ| from 0: a tenth of an undecided network's.
const NONE: f64 = 0.05;

/// Powers of the width in fits.
const POWERS: [f64; 3] = [1.0, 2.0, 4.0];

/// The widths of the networks in which width and length grow together, one for each length.
const GROWING: [i64; LENGTHS.len()] = [64, 128, 256];

/// Width and length of these networks.
fn diagonal() -> Vec<(i64, usize)> {
    GROWING.into_iter().zip(LENGTHS).collect()
}

/// `y∞` of the least-squares fit `y = y∞ + c (n/n_0)^-p`.
fn limit(points: &[(f64, f64)], power: f64) -> f64 {
    let z: Vec<f64> = points.iter().map(|(n, _)| (n / points[0].0).powf(-power)).collect();
    let (count, mean) = (points.len() as f64, |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64);
    let y: Vec<f64> = points.iter().map(|(_, y)| *y).collect();
    let (z_mean, y_mean) = (mean(&z), mean(&y));
    let covariance: f64 = z.iter().zip(&y).map(|(z, y)| (z - z_mean) * (y - y_mean)).sum::<f64>() / count;
    let variance: f64 = z.iter().map(|z| (z - z_mean).powi(2)).sum::<f64>() / count;
    y_mean - z_mean * covariance / variance
}

/// χ∞ per seed, along a sequence of networks.
fn limits(evidence: &Evidence, networks: &[(i64, usize)], power: f64, chi: impl Fn(&Record) -> f64) -> Vec<f64> {
    let widths: Vec<i64> = networks.iter().map(|(width, _)| *width).collect();
    evidence.over_seeds_of(&widths, |seed| {
        let point = |(width, steps): &(i64, usize)| (*width as f64, chi(evidence.of(seed, *width, *steps)));
        limit(&networks.iter().map(point).collect::<Vec<_>>(), power)
    })
}

/// Logarithm of the ratio of |χ| after the longest to after the shortest pre-training, per seed, at one width.
fn falls(evidence: &Evidence, width: i64, lengths: (usize, usize), chi: impl Fn(&Record) -> f64) -> Vec<f64> {
    let (from, to) = lengths;
    evidence
        .over_seeds_of(&[width], |seed| (chi(evidence.of(seed, width, to)) / chi(evidence.of(seed, width, from))).ln())
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let evidence = Evidence::shipped()?;
    let answered = |record: &Record| record.chi(&Question::ANSWERED);
    let open = |record: &Record| record.doubt(&Question::OPEN);
    let measured = |record: &Record| {
        let chi = if context.is(OPEN) { open(record) } else { answered(record) };
        let chi = if context.is(OTHER_WORD) { 1.0 - chi } else { chi };
        chi + NONE * context.off(RAISED)
    };
    let mut collected = Collected { settings: evidence.all_settings(), ..Collected::default() };
    let smallest = Evidence::ALL_WIDTHS[0];
    let right =
        evidence.over_seeds_of(&[smallest], |seed| evidence.of(seed, smallest, LONGEST).right(&Question::ANSWERED));
    let title =
        "pre-trained: share of answered questions' sentences on which the smallest network prefers the right word";
    collected.hypotheses.push(Open::sequence(title, Expectation::AtLeast { bound: 0.5 }, right));

    let widest = *Evidence::ALL_WIDTHS.last().expect("several widths");
    let mut path = diagonal();
    let mut lengths = (LENGTHS[0], LONGEST);
    let mut largest = (widest, LONGEST);
    if context.is(REVERSED) {
        path.reverse();
        lengths = (lengths.1, lengths.0);
        largest = path[path.len() - 1];
    }
    let title = "width and length together: |χ| of the largest network after the longest pre-training";
    let over = |(width, steps): (i64, usize), chi: &dyn Fn(&Record) -> f64| {
        evidence.over_seeds_of(&[width], |seed| chi(evidence.of(seed, width, steps)))
    };
    collected.checks.push(Open::sequence(title, context.expected(0.0, NONE), over(largest, &measured)));
    let half = Expectation::AtMost { bound: 0.5f64.ln() };
    for pair in path.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let title = format!(
            "width and length together: logarithm of |χ| at width {}, {} steps, over width {}, {} steps",
            to.0, to.1, from.0, from.1
        );
        let ratios = evidence.over_seeds_of(&[from.0, to.0], |seed| {
            (measured(evidence.of(seed, to.0, to.1)) / measured(evidence.of(seed, from.0, from.1))).ln()
        });
        collected.checks.push(Open::sequence(title, half, ratios));
    }
    for width in Evidence::ALL_WIDTHS {
        let title =
            format!("length alone, width {width}: logarithm of |χ| after the longest pre-training over the shortest");
        collected.checks.push(Open::sequence(title, half, falls(&evidence, *width, lengths, measured)));
    }
    let none = Expectation::Within { target: 0.0, tolerance: NONE };
    let title =
        "width and length together: |χ| of open questions in the same network, if the preferred word were right";
    collected.controls.push(Open::sequence(title, none, over((widest, LONGEST), &open)));
    let title = format!("length alone, width {widest}: the same of open questions");
    collected.controls.push(Open::sequence(title, half, falls(&evidence, widest, (LENGTHS[0], LONGEST), open)));
    let title = format!("width alone: |χ| of answered questions at width {widest} after {} steps", LENGTHS[0]);
    collected.controls.push(Open::sequence(title, none, over((widest, LENGTHS[0]), &answered)));

    collected.tables.extend([levels(&evidence), by_power(&evidence), effects(&evidence), prose(&English::shipped()?)]);
    collected.figures.push(figure(&evidence));
    Ok(context.judged(collected))
}

/// Mean |χ| of every kind of question by width and length.
fn levels(evidence: &Evidence) -> Table {
    let mut columns = vec!["width".to_owned(), "steps".to_owned(), "answered".to_owned()];
    columns.extend(Question::ANSWERED.map(|q| q.text().to_owned()));
    columns.push("open".into());
    let mut rows = Vec::new();
    for width in Evidence::ALL_WIDTHS {
        for steps in LENGTHS {
            let chi = |questions: &[Question]| {
                interval(&evidence.over_seeds_of(&[*width], |s| evidence.of(s, *width, steps).chi(questions)))
            };
            let mut row = vec![Cell::from(*width as f64), Cell::from(steps as f64), chi(&Question::ANSWERED)];
            row.extend(Question::ANSWERED.map(|question| chi(&[question])));
            row.push(chi(&Question::OPEN));
            rows.push(row);
        }
    }
    Table { title: "Mean |χ| with 95% intervals".into(), columns, rows }
}

/// χ∞ for several powers of the correction, in the limits of growing width.
fn by_power(evidence: &Evidence) -> Table {
    let mut columns = vec!["limit".to_owned()];
    columns.extend(POWERS.map(|power| format!("χ∞, correction n^-{power}")));
    let answered = |record: &Record| record.chi(&Question::ANSWERED);
    let row = |name: String, path: &[(i64, usize)]| {
        let mut row = vec![Cell::from(name)];
        row.extend(POWERS.map(|power| interval(&limits(evidence, path, power, answered))));
        row
    };
    let alone = LENGTHS.map(|steps| {
        let path: Vec<(i64, usize)> = Evidence::ALL_WIDTHS.iter().map(|width| (*width, steps)).collect();
        row(format!("width alone, {steps} steps"), &path)
    });
    let rows = std::iter::once(row("width and length together".into(), &diagonal())).chain(alone).collect();
    Table { title: "χ∞ of answered questions with 95% intervals".into(), columns, rows }
}

/// Components of the scatter of |χ| at the largest width: seeds and kinds of question cross.
fn effects(evidence: &Evidence) -> Table {
    let widest = *Evidence::ALL_WIDTHS.last().expect("several widths");
    let rows = LENGTHS.map(|steps| {
        let seeds = evidence.seeds_of(&[widest]);
        let networks: Vec<&Record> = seeds.iter().map(|seed| evidence.of(*seed, widest, steps)).collect();
        let of_kinds = |record: &&Record| Question::ANSWERED.map(|question| record.chi(&[question])).to_vec();
        let table: Vec<Vec<f64>> = networks.iter().map(of_kinds).collect();
        let found = crossed(&table, Mark::CONFIDENCE);
        let answered = |record: &&Record| {
            let own = record.answers.iter().filter(|a| Question::ANSWERED.contains(&a.topic));
            own.map(|a| a.deviation * a.deviation).collect::<Vec<_>>()
        };
        let variances: Vec<f64> = networks.iter().flat_map(answered).collect();
        let sentences = variances.iter().sum::<f64>() / variances.len() as f64;
        let numbers = [found.rows, found.columns, found.rest, sentences].map(|variance| Cell::from(variance.sqrt()));
        [Cell::from(steps as f64), Cell::from(found.mean)].into_iter().chain(numbers).collect()
    });
    let columns = [
        "steps",
        "mean |χ|, over seeds and kinds",
        "deviation over seeds",
        "over kinds of question",
        "of the rest",
        "over sentences of a question",
    ];
    let title = format!("Random effects at width {widest}, answered questions");
    Table { title, columns: columns.map(str::to_owned).to_vec(), rows: rows.to_vec() }
}

/// Mean |χ| of English prose by width, over seeds of pre-training and tasks, and its exponent in the width.
fn prose(english: &English) -> Table {
    let columns = [
        "English prose",
        "seeds",
        "|χ|",
        "deviation over seeds",
        "over tasks",
        "of the rest",
        "unrelated words, if the preferred one were right",
    ];
    let row = |name: String, widths: &[i64], own: &dyn Fn(u64) -> Vec<f64>, unrelated: &dyn Fn(u64) -> Vec<f64>| {
        let seeds = english.seeds_of(widths);
        let table = |of: &dyn Fn(u64) -> Vec<f64>| seeds.iter().map(|seed| of(*seed)).collect::<Vec<_>>();
        let count = Cell::from(seeds.len() as f64);
        let other = |of| over_seeds_and_tasks(&table(of)).0;
        let (mean, deviations) = over_seeds_and_tasks(&table(own));
        let [seed, task, rest] = deviations;
        vec![Cell::from(name), count, mean, seed, task, rest, other(unrelated)]
    };
    let chi = |width: i64, seed: u64| english.of(width, seed).each_task(|task| task.own.chi);
    let unrelated = |width: i64, seed: u64| english.of(width, seed).each_task(|task| task.unrelated.doubt());
    let mut rows: Vec<Vec<Cell>> = WIDTHS
        .iter()
        .map(|w| row(format!("width {w}"), &[*w], &|seed| chi(*w, seed), &|seed| unrelated(*w, seed)))
        .collect();
    for pair in WIDTHS.windows(2) {
        let slope = |of: &dyn Fn(i64, u64) -> Vec<f64>, seed: u64| -> Vec<f64> {
            let ratio = (pair[1] as f64 / pair[0] as f64).ln();
            of(pair[1], seed).iter().zip(of(pair[0], seed)).map(|(to, from)| (to / from).ln() / ratio).collect()
        };
        let name = format!("exponent from width {} to {}", pair[0], pair[1]);
        rows.push(row(name, pair, &|seed| slope(&chi, seed), &|seed| slope(&unrelated, seed)));
    }
    Table {
        title: "English prose at a fixed length of pre-training, 95% intervals over seeds and tasks; with one seed over tasks alone".into(),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
    }
}

/// Mean over seeds (rows) and tasks with its interval, and the deviations over seeds, tasks and the rest. Of a single seed the
/// interval is one over tasks, and only their deviation is known.
fn over_seeds_and_tasks(table: &[Vec<f64>]) -> (Cell, [Cell; 3]) {
    if let [single] = table {
        let mean = student_mean(single, Mark::CONFIDENCE);
        let deviation = mean.standard_error.map(|error| error * (single.len() as f64).sqrt());
        return (
            Cell::from(mean),
            [Cell::from("-"), deviation.map_or_else(|| Cell::from("-"), Cell::from), Cell::from("-")],
        );
    }
    let found = crossed(table, Mark::CONFIDENCE);
    (Cell::from(found.mean), [found.rows, found.columns, found.rest].map(|variance| Cell::from(variance.sqrt())))
}

fn figure(evidence: &Evidence) -> Figure {
    let series = |width: i64, questions: &'static [Question], name: String, control: bool| Series {
        name,
        marks: LENGTHS
            .iter()
            .map(|steps| {
                let chi = evidence.over_seeds_of(&[width], |seed| evidence.of(seed, width, *steps).chi(questions));
                Mark::mean(*steps as f64, &chi)
            })
            .collect(),
        predicted_slope: None,
        control,
    };
    let widest = *Evidence::ALL_WIDTHS.last().expect("several widths");
    let answered = Evidence::ALL_WIDTHS.iter().map(|w| series(*w, &Question::ANSWERED, format!("width {w}"), false));
    let open = series(widest, &Question::OPEN, format!("width {widest}, open questions"), true);
    Figure {
        name: "output-derivative".into(),
        title: "Output derivative over lengths of pre-training".into(),
        x_label: "steps of pre-training".into(),
        y_label: "mean |χ|".into(),
        series: answered.chain([open]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_that_of_the_fit() {
        for power in POWERS {
            let points: Vec<(f64, f64)> =
                [32.0, 64.0, 128.0, 256.0].map(|n: f64| (n, 0.3 + 5.0 * n.powf(-power))).to_vec();
            assert!((limit(&points, power) - 0.3).abs() < 1e-12);
        }
    }
}
