//! `report.md`: renders the evidence with the template `report.md.j2`.
//!
//! The template has the text; this module has the filters that format figures and external texts as Markdown.

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::format::{code, count, escape, kernel_title, number, optimizer_title, percent, rate, with_error};
use super::plots::Figure;
use super::{answer, caveats, rows};
use crate::error::{Error, Result};
use crate::evidence::{Analysis, KernelDrift, Movement};

const TEMPLATE: &str = include_str!("report.md.j2");

/// Renders the template; `figures` are those of the same analysis.
pub(super) fn render(analysis: &Analysis, figures: &[Figure]) -> Result<String> {
    let render = || -> std::result::Result<String, minijinja::Error> {
        let mut environment = environment();
        let images: Vec<(&'static str, usize, Option<String>)> =
            figures.iter().map(|f| (f.kind.name(), f.index, f.plot.image())).collect();
        environment.add_function("figure", move |kind: String, index: usize| {
            let found = images.iter().find(|(name, at, _)| *name == kind && *at == index);
            Value::from(found.and_then(|(_, _, image)| image.clone()))
        });
        environment.add_template("report.md", TEMPLATE)?;
        let mut text = environment.get_template("report.md")?.render(context(analysis))?;
        text.truncate(text.trim_end().len());
        text.push('\n');
        Ok(text)
    };
    render().map_err(|e| Error::document("report.md", format!("{e:#}")))
}

fn context(analysis: &Analysis) -> Value {
    let classes = analysis.task.label_words.len();
    let title = |formula: &str| rows::title_of(analysis, formula);
    let runs: Vec<Value> = analysis
        .fine_tuning
        .iter()
        .map(|run| {
            let drift = |(f, d): &(String, KernelDrift)| context! { kernel => title(f), drift => Serde(*d) };
            let drifts: Vec<Value> = run.kernel_drift.iter().map(drift).collect();
            context! {
                title => optimizer_title(&run.optimizer),
                analog => title(&run.analog),
                recovered => rows::recovered(analysis, run),
                agreement => Serde(Agreement::of(&run.linearization.movements)),
                drifts,
                computed => rows::computed(run),
                steps => rows::steps(run),
                along => rows::along(run),
                drift_computed => rows::drift_computed(run),
            }
        })
        .collect();
    context! {
        a => Serde(analysis),
        runs,
        paragraphs => answer::paragraphs(analysis),
        caveats => caveats::caveats(analysis),
        accuracies => Serde(rows::accuracies(analysis)),
        verdicts => Serde(rows::verdicts(analysis)),
        // ‖χ‖ of a model for which all classes are equally likely.
        guess => (classes > 0).then(|| (1.0 - 1.0 / classes as f64).sqrt()),
        features => rows::features(analysis),
        parameters => analysis.layers.iter().map(|l| l.parameters as f64).sum::<f64>(),
    }
}

/// Numbers of examples on which the fine-tuned and linearized models are both right or wrong, or differ.
#[derive(serde::Serialize)]
struct Agreement {
    count: usize,
    agree: usize,
    only_trained: usize,
    only_linearized: usize,
}

impl Agreement {
    fn of(movements: &[Movement]) -> Self {
        let count = |holds: fn(bool, bool) -> bool| {
            movements.iter().filter(|m| holds(m.trained > 0.0, m.linearized > 0.0)).count()
        };
        Self {
            count: movements.len(),
            agree: count(|a, b| a == b),
            only_trained: count(|a, b| a && !b),
            only_linearized: count(|a, b| !a && b),
        }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("pct", |value: Value| figure(&value, percent));
    environment.add_filter("num", |value: Value| figure(&value, number));
    environment.add_filter("rate", |value: Value| figure(&value, rate));
    environment.add_filter("count", |value: i64| count(value));
    environment.add_filter("accuracy", |value: f64, n: usize| with_error(value, n));
    environment.add_filter("esc", |text: String| escape(&text));
    environment.add_filter("code", |text: String| code(&text));
    environment.add_filter("optimizer", |name: String| escape(&optimizer_title(&name)));
    environment.add_filter("kernel", |name: String| escape(&kernel_title(&name)));
    environment.add_function("share", |part: f64, whole: f64| (whole > 0.0).then(|| part / whole));
    environment
}

/// A figure as text, or `n/a` if there is none.
fn figure(value: &Value, text: fn(f64) -> String) -> String {
    f64::try_from(value.clone()).map_or_else(|_| "n/a".to_owned(), text)
}
