//! Fine-tuning on a prompt's true labels departs from its kernel in proportion to the χ that pre-training has left.
//!
//! **Statement.** If a pre-training scheme is stable (outputs do not grow with the width) and non-trivial (outputs can be
//! updated), and a task is natural in it (χ, the loss's derivative in the output, vanishes on the true labels), then
//! fine-tuning on the task's prompt shows kernel behaviour (the paper, Theorem 5.5): under SGD, and under SignGD and early Adam
//! with a learning rate in proportion to χ. At finite width and length of pre-training: every departure from the kernel is
//! proportional to the χ that is left, whether width or length has made it small.
//!
//! **Hypotheses.** Measured first, over seeds of pre-training. Natural: from the smallest network with the shortest
//! pre-training to the largest with the longest, the mean |χ| of questions that sentences answer falls by half or more. Stable
//! and non-trivial, after the longest pre-training, on questions that sentences leave open, which no network can learn whatever
//! its width: in the width the outputs' size does not grow, and the kernels' diagonals in the parametrization's own learning
//! rates neither grow nor fall; exponents to 0.15.
//!
//! **Derivation.** In muP a step with a χ of order one changes features by order one at every width (`r = 0`,
//! dynamical-dichotomy-sgd): no kernel behaviour. The change is proportional to `ηχ` under SGD and to η under sign updates, and
//! so is the second order of the outputs over the first (chi-law). The curvature of the outputs per change of given size is a
//! property of the weights, which pre-training changes, too; the theorem takes it to be of order one. If it is, departures over
//! networks have the exponent 1 in χ; if it grows with what networks learn in pre-training, a smaller one. Exponents in this
//! theory are multiples of a half, so a quarter is accepted on either side.
//!
//! **Experiment.** Networks pre-trained on a language with questions that sentences answer (`fixtures/family/agreement.toml`),
//! one for every width, length and seed. Five steps on the true label of one sentence, in muP's learning rates; relative
//! residual of the linearization, drift of the gradients and of the kernel on other sentences, mean over two sentences, one
//! with either label. Exponent in the sentences' mean |χ| over widths and lengths, with a level of its own for each kind of
//! question: one exponent for each seed, which draws weights, text, questions and sentences anew, and an interval over seeds.
//! The evidence is in `reports/agreement`, a file for each network.
//!
//! **Control.** Questions that the sentences leave open, in the same networks, against the χ of those that they answer: effects
//! of pre-training on any task are not effects of χ. SignGD with a learning rate that does not depend on χ.
//!
//! **Meaning.** To make fine-tuning follow a kernel, a prompt must make χ small. The limit is that of length and width
//! together: in muP neither alone makes χ vanish.

use super::agreement::{Evidence, LENGTHS, LONGEST, interval};
use super::agreement_network::Record;
use super::context::{Context, SHIFTED};
use super::departure::{Departure, Length, Update};
use super::{Claim, Mutant, Topic};
use crate::error::Result;
use crate::evidence::{Cell, Collected, Figure, Findings, Mark, Open, Series, Table};
use crate::pretrain::language::Topic as Question;
use crate::stats::{Estimate, Expectation, Levelled, Scaling, components, exponent, levelled_slope};

const HALF: Mutant = Mutant { name: "half-expansion", change: "the residual against half of the Taylor expansion" };
const SQUARED: Mutant = Mutant { name: "squared-chi", change: "χ² in the place of χ" };
const UNMATCHED: Mutant =
    Mutant { name: "unmatched-rate", change: "sign updates with a learning rate that does not know χ" };

pub(super) const CLAIM: Claim = Claim {
    id: "prompt-kernel-regime",
    topic: Topic::Prompt,
    title: "With a prompt, fine-tuning of pre-trained networks on true labels departs from its kernel in proportion to the χ that is left",
    source: "the paper, Theorem 5.5",
    prediction: "residual, gradient drift and kernel drift have the exponent 1 in the natural χ, under SGD and, with η in proportion to χ, SignGD and early Adam",
    text: include_str!("prompt_kernel_regime.rs"),
    mutants: &[HALF, SQUARED, UNMATCHED],
    graded: &[SHIFTED],
    experiment,
};

/// Accepted distance of an exponent in χ from 1: half the spacing of this theory's exponents.
const QUARTER: f64 = 0.25;

/// Accepted distance of a hypothesis' exponent in width from the theory's 0.
const STILL: f64 = 0.15;

const UPDATES: [Update; 3] = [Update::Sgd, Update::Signgd, Update::Adam];

/// A statistic of a departure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Statistic {
    Residual,
    Gradient,
    Kernel,
}

impl Statistic {
    const ALL: [Self; 3] = [Self::Residual, Self::Gradient, Self::Kernel];

    fn text(self) -> &'static str {
        match self {
            Self::Residual => "linearization residual",
            Self::Gradient => "gradient drift",
            Self::Kernel => "kernel drift",
        }
    }

    fn of(self, found: &Departure) -> f64 {
        match self {
            Self::Residual => found.residual,
            Self::Gradient => found.gradient,
            Self::Kernel => found.kernel,
        }
    }
}

/// Which networks of a seed share a level, apart from the kind of question.
#[derive(Clone, Copy)]
enum Limit {
    /// All of them: width and length vary together.
    Both,
    /// Those of one width: only the length varies.
    LengthAlone,
    /// Those of one length: only the width varies.
    WidthAlone,
}

impl Limit {
    fn text(self) -> &'static str {
        match self {
            Self::Both => "width and length",
            Self::LengthAlone => "length at a fixed width",
            Self::WidthAlone => "width at a fixed length",
        }
    }

    fn level(self, record: &Record) -> i64 {
        match self {
            Self::Both => 0,
            Self::LengthAlone => record.width,
            Self::WidthAlone => record.steps as i64,
        }
    }
}

/// A seed's exponent of a departure in χ, over some questions; NaN if χ does not vary.
fn slope(
    evidence: &Evidence,
    seed: u64,
    limit: Limit,
    questions: &[Question],
    of: impl Fn(&Record, Question) -> (f64, f64),
) -> f64 {
    let mut levels = Vec::new();
    let mut points = Vec::new();
    for record in evidence.networks(seed) {
        for question in questions {
            let level = (*question, limit.level(record));
            let group = levels.iter().position(|l| *l == level).unwrap_or(levels.len());
            if group == levels.len() {
                levels.push(level);
            }
            let (chi, departure) = of(record, *question);
            points.push(Levelled { group, x: chi.ln(), y: departure.ln() });
        }
    }
    levelled_slope(&points).unwrap_or(f64::NAN)
}

/// Exponents of a departure in the questions' own χ, one per seed.
fn natural(evidence: &Evidence, limit: Limit, update: Update, length: Length, statistic: Statistic) -> Vec<f64> {
    evidence.over_seeds(|seed| {
        slope(evidence, seed, limit, &Question::ANSWERED, |record, question| {
            let chi = record.run(question, update, Length::Natural).chi;
            (chi, statistic.of(record.run(question, update, length)))
        })
    })
}

/// Exponents of open questions' departures in the χ of the same network's answered questions.
fn open(evidence: &Evidence, update: Update, statistic: Statistic) -> Vec<f64> {
    evidence.over_seeds(|seed| {
        slope(evidence, seed, Limit::Both, &Question::OPEN, |record, question| {
            (record.chi(&Question::ANSWERED), statistic.of(record.run(question, update, Length::Natural)))
        })
    })
}

fn experiment(context: &Context<'_>) -> Result<Findings> {
    let evidence = Evidence::shipped()?;
    let mut collected = Collected { settings: evidence.settings(), ..Collected::default() };
    hypotheses(&evidence, &mut collected)?;
    for update in UPDATES {
        for statistic in Statistic::ALL {
            let sign = update != Update::Sgd;
            let length = if sign && context.is(UNMATCHED) { Length::Fixed } else { Length::Natural };
            let of = |found: &Departure| match statistic {
                Statistic::Residual if context.is(HALF) => found.half_residual,
                _ => statistic.of(found),
            };
            let power = if context.is(SQUARED) { 2.0 } else { 1.0 };
            let update_of = if length == Length::Fixed { Update::Signgd } else { update };
            let slopes = evidence.over_seeds(|seed| {
                slope(&evidence, seed, Limit::Both, &Question::ANSWERED, |record, question| {
                    let chi = record.run(question, update, Length::Natural).chi;
                    (chi.powf(power), of(record.run(question, update_of, length)))
                })
            });
            let title = format!("{}: exponent of the {} in χ", update.text(), statistic.text());
            collected.checks.push(Open::mean(title, context.expected(1.0, QUARTER), slopes));
        }
    }
    let one = Expectation::Within { target: 1.0, tolerance: QUARTER };
    for statistic in Statistic::ALL {
        let title = format!("open questions, SGD: exponent of the {} in the χ of answered ones", statistic.text());
        collected.controls.push(Open::mean(title, one, open(&evidence, Update::Sgd, statistic)));
        let title = format!("SignGD with a fixed rate: exponent of the {} in χ", statistic.text());
        let slopes = natural(&evidence, Limit::Both, Update::Signgd, Length::Fixed, statistic);
        collected.controls.push(Open::mean(title, one, slopes));
    }
    collected.tables.extend([by_limit(&evidence), effects(&evidence), by_tensor(&evidence)?]);
    collected.figures.extend(Statistic::ALL.map(|statistic| figure(&evidence, statistic)));
    Ok(context.judged(collected))
}

/// Exponent in width of a quantity after the longest pre-training, over seeds.
fn in_width(evidence: &Evidence, of: impl Fn(&Record) -> f64) -> Result<Estimate> {
    let widths: Vec<f64> = Evidence::WIDTHS.iter().map(|w| *w as f64).collect();
    let row = |seed: &u64| Evidence::WIDTHS.iter().map(|width| of(evidence.of(*seed, *width, LONGEST))).collect();
    let values: Vec<Vec<f64>> = evidence.seeds.iter().map(row).collect();
    Ok(exponent(&Scaling { widths: &widths, values: &values }, None, Mark::CONFIDENCE)?.slope)
}

/// Geometric mean over open questions, which no network can learn, whatever its width.
fn typical(record: &Record, update: Update, of: fn(&Departure) -> f64) -> f64 {
    let logs = Question::OPEN.map(|question| of(record.run(question, update, Length::Natural)).ln());
    (logs.iter().sum::<f64>() / logs.len() as f64).exp()
}

fn hypotheses(evidence: &Evidence, collected: &mut Collected) -> Result<()> {
    let falls = evidence.over_seeds(|seed| {
        let chi = |record: Option<&Record>| record.expect("networks of every seed").chi(&Question::ANSWERED).ln();
        // In the order of widths and lengths.
        chi(evidence.networks(seed).last()) - chi(evidence.networks(seed).next())
    });
    let half = Expectation::AtMost { bound: 0.5f64.ln() };
    let title = "natural: logarithm of the mean |χ| of the largest network with the longest pre-training over that of the first";
    collected.hypotheses.push(Open::mean(title, half, falls));
    let still = Expectation::Within { target: 0.0, tolerance: STILL };
    let bounded = Expectation::AtMost { bound: STILL };
    let diagonal = |update: Update| in_width(evidence, move |record| typical(record, update, |found| found.diagonal));
    for (title, expected, slope) in [
        (
            "stable: exponent of open questions' outputs in width",
            bounded,
            in_width(evidence, |record| record.small_outputs(&Question::OPEN))?,
        ),
        ("non-trivial: exponent of the diagonal of SGD's kernel in width", still, diagonal(Update::Sgd)?),
        ("non-trivial: exponent of the diagonal of SignGD's kernel in width", still, diagonal(Update::Signgd)?),
    ] {
        collected.hypotheses.push(Open::new(title, expected, move |confidence| slope.student_at(confidence)));
    }
    Ok(())
}

/// Exponents in each limit; not judged.
fn by_limit(evidence: &Evidence) -> Table {
    let mut columns = vec!["fine-tuning".to_owned(), "limit".to_owned()];
    columns.extend(Statistic::ALL.map(|s| s.text().to_owned()));
    let mut rows = Vec::new();
    for update in UPDATES {
        for limit in [Limit::Both, Limit::LengthAlone, Limit::WidthAlone] {
            let mut row = vec![Cell::from(update.text()), Cell::from(limit.text())];
            row.extend(Statistic::ALL.map(|s| interval(&natural(evidence, limit, update, Length::Natural, s))));
            rows.push(row);
        }
    }
    Table { title: "Exponents in χ with 95% intervals".into(), columns, rows }
}

/// Components of the exponents' scatter, for SGD.
fn effects(evidence: &Evidence) -> Table {
    let rows = Statistic::ALL.map(|statistic| {
        let groups: Vec<Vec<f64>> = evidence
            .seeds
            .iter()
            .map(|seed| {
                let of = |record: &Record, question| {
                    let found = record.run(question, Update::Sgd, Length::Natural);
                    (found.chi, statistic.of(found))
                };
                Question::ANSWERED.map(|question| slope(evidence, *seed, Limit::Both, &[question], of)).to_vec()
            })
            .collect();
        let found = components(&groups, Mark::CONFIDENCE);
        let name = Cell::from(statistic.text());
        vec![name, Cell::from(found.mean), Cell::from(found.between.sqrt()), Cell::from(found.within.sqrt())]
    });
    let columns =
        ["SGD", "mean of single questions' exponents", "deviation over seeds", "deviation over questions of a seed"];
    Table { title: "Random effects".into(), columns: columns.map(str::to_owned).to_vec(), rows: rows.to_vec() }
}

/// A part of the network: its name, and which parameters belong to it.
type Part = (&'static str, fn(&str) -> bool);

/// Which parts of the network make the kernel's diagonal grow or fall with the width.
fn by_tensor(evidence: &Evidence) -> Result<Table> {
    const PARTS: [Part; 5] = [
        ("embeddings", |name| name.contains("embeddings.")),
        ("attention", |name| name.contains(".attention.")),
        ("feed-forward layers", |name| name.contains("encoder.") && !name.contains(".attention.")),
        ("the head's transform", |name| {
            name.starts_with("lm_head.") && !name.contains("decoder") && name != "lm_head.bias"
        }),
        ("decoder", |name| name.contains("decoder") || name == "lm_head.bias"),
    ];
    let columns = ["part", "exponent in width of its share of the diagonal", "share at the largest width"];
    let rows = PARTS.map(|(part, is_own)| {
        let size =
            move |record: &Record| record.shares.iter().filter(|(name, _)| is_own(name)).map(|s| s.1).sum::<f64>();
        let widest = *Evidence::WIDTHS.last().expect("several widths");
        let share = evidence.over_seeds(|seed| {
            let record = evidence.of(seed, widest, LONGEST);
            size(record) / record.shares.iter().map(|s| s.1).sum::<f64>()
        });
        Ok(vec![Cell::from(part), Cell::from(in_width(evidence, size)?), interval(&share)])
    });
    let rows = rows.into_iter().collect::<Result<_>>()?;
    Ok(Table {
        title: "SGD's kernel by part, 95% intervals".into(),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
    })
}

/// A departure against χ: a point for each width and length.
fn figure(evidence: &Evidence, statistic: Statistic) -> Figure {
    let points = |questions: &'static [Question], update: Update, of_open: bool| {
        let mut marks: Vec<Mark> = Evidence::WIDTHS
            .iter()
            .flat_map(|width| {
                LENGTHS.map(|steps| {
                    let logs = |of: &dyn Fn(&Record, Question) -> f64| {
                        evidence.over_seeds_of(&[*width], |seed| {
                            let record = evidence.of(seed, *width, steps);
                            questions.iter().map(|q| of(record, *q).ln()).sum::<f64>() / questions.len() as f64
                        })
                    };
                    let chi = logs(&|record, question| {
                        if of_open {
                            record.chi(&Question::ANSWERED)
                        } else {
                            record.run(question, update, Length::Natural).chi
                        }
                    });
                    let x = (chi.iter().sum::<f64>() / chi.len() as f64).exp();
                    let y = logs(&|record, question| statistic.of(record.run(question, update, Length::Natural)));
                    Mark::geometric_mean(x, &y.into_iter().map(f64::exp).collect::<Vec<_>>())
                })
            })
            .collect();
        marks.sort_by(|a, b| a.x.total_cmp(&b.x));
        marks
    };
    let mut series: Vec<Series> = UPDATES
        .into_iter()
        .map(|update| Series {
            name: update.text().into(),
            marks: points(&Question::ANSWERED, update, false),
            predicted_slope: Some(1.0),
            control: false,
        })
        .collect();
    series.push(Series {
        name: "SGD, open questions".into(),
        marks: points(&Question::OPEN, Update::Sgd, true),
        predicted_slope: None,
        control: true,
    });
    Figure {
        name: statistic.text().replace(' ', "-"),
        title: format!("Departure from the kernel over networks: {}", statistic.text()),
        x_label: "mean |χ| of answered questions".into(),
        y_label: statistic.text().into(),
        series,
    }
}
