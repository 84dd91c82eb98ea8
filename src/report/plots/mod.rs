//! The figures of a report as SVG, with their titles and alternative texts.
//!
//! Knows no tensors; a figure is a function of the evidence, to the byte. White background, sans-serif texts whose size
//! is never measured, colours that colour-blind readers can tell apart.

mod axis;
mod bars;
mod canvas;
pub(super) mod comparison;
mod heatmap;
mod lines;
mod scaling;
mod scatter;

use std::collections::HashSet;

use super::files::{PLOTS, Plot};
use super::format::{optimizer_title, plain, slug};
use super::rows::accuracies;
use crate::error::Result;
use crate::evidence::{Analysis, FineTuningResult};

pub(super) use scaling::scaling;

/// A figure of the report.
pub(super) struct Figure {
    /// Its kind.
    pub kind: Kind,
    /// Index of the kernel or fine-tuning run.
    pub index: usize,
    pub plot: Plot,
}

/// Kinds of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Accuracies,
    Kernel,
    Learning,
    Scatter,
    Residuals,
    Layers,
}

impl Kind {
    /// The name in the template and of the files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accuracies => "accuracies",
            Self::Kernel => "kernel",
            Self::Learning => "learning",
            Self::Scatter => "linearization",
            Self::Residuals => "residuals",
            Self::Layers => "layers",
        }
    }
}

/// All figures, in the order of the report.
pub(super) fn figures(analysis: &Analysis) -> Result<Vec<Figure>> {
    let mut figures = Figures::default();
    let task = &analysis.task;
    let title = format!("Accuracy on the {} test examples", task.test);
    let alt = "Bars of test accuracy: without training, fine-tuned, and by kernel regression.";
    let svg = bars::accuracies(&accuracies(analysis), task.majority_accuracy, task.test, &title, alt)?;
    figures.add(Kind::Accuracies, 0, None, alt, Some(svg));
    for (index, kernel) in analysis.kernels.iter().enumerate() {
        let name = plain(&kernel.title);
        let alt = format!("Heat map of the training kernel {name}, examples ordered by class.");
        let svg = heatmap::heatmap(&kernel.picture, &format!("Training kernel {name}"), &alt)?;
        figures.add(Kind::Kernel, index, Some(&kernel.formula), &alt, svg);
    }
    for (index, run) in analysis.fine_tuning.iter().enumerate() {
        fine_tuning(&mut figures, analysis, index, run)?;
    }
    if !analysis.layers.is_empty() {
        let alt = "Bars of each layer's share of the parameters, of the trace of K(SGD) and of the trace of K(SignGD).";
        let svg = bars::layers(&analysis.layers, "Share of the layers", alt)?;
        figures.add(Kind::Layers, 0, None, alt, Some(svg));
    }
    Ok(figures.all)
}

fn fine_tuning(figures: &mut Figures, analysis: &Analysis, index: usize, run: &FineTuningResult) -> Result<()> {
    let name = optimizer_title(&run.optimizer);
    let mut add = |kind, alt: &str, svg| figures.add(kind, index, Some(&run.optimizer), alt, svg);

    let alt = format!("Accuracy and loss on dev and loss on the mini-batches by step of fine-tuning with {name}.");
    let svg = lines::learning(&run.history, run.selected.step, &format!("Fine-tuning with {name}"), &alt)?;
    add(Kind::Learning, &alt, svg);

    let words: Vec<&str> = analysis.task.label_words.iter().map(|l| l.word.as_str()).collect();
    let alt = format!("Margins of test examples after fine-tuning with {name} against those of the linearized model.");
    let title = format!("{name}: fine-tuned against linearized");
    let svg = scatter::scatter(&run.linearization.movements, &words, &title, &alt)?;
    add(Kind::Scatter, &alt, svg);

    let alt = format!("Relative residual of the linearization by step of fine-tuning with {name}, logarithmic.");
    let title = format!("{name}: what the linearization misses on dev");
    let svg = lines::residuals(&run.linearization.steps, &title, &alt)?;
    add(Kind::Residuals, &alt, svg);
    Ok(())
}

/// Figures with distinct file names.
#[derive(Default)]
struct Figures {
    all: Vec<Figure>,
    names: HashSet<String>,
}

impl Figures {
    fn add(&mut self, kind: Kind, index: usize, of: Option<&str>, alt: &str, svg: Option<String>) {
        let base = of.map_or_else(|| kind.name().to_owned(), |of| format!("{}-{}", kind.name(), slug(of)));
        let mut name = base.clone();
        let mut number = 2;
        while !self.names.insert(name.clone()) {
            name = format!("{base}-{number}");
            number += 1;
        }
        let plot = Plot { file: format!("{PLOTS}/{name}.svg"), alt: alt.to_owned(), svg };
        self.all.push(Figure { kind, index, plot });
    }
}
