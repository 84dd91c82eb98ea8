//! Kernels of adapters and projections over ranks and draws, compared with the kernel that they compress.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::settings::LoraSettings;
use crate::analysis::{EngineSettings, ResultStore, SplitName, Study, StudyExamples};
use crate::error::{Error, Result};
use crate::evidence::{KernelDistance, ModelFacts, SCHEMA_VERSION, TaskFacts};
use crate::files::named_seed;
use crate::jacobian::{Examples, Parameters};
use crate::kernel::{FormulaSet, Gram, GramOptions, gram_units, structured_gram};
use crate::lm::{Modules, PeftAdapter};
use crate::measure::kernel_distance;
use crate::progress::Monitor;
use crate::setting::Field;
use crate::subspace::{Init, Lora, Projection, Streaming, Target, Trained, projected_gradients};

/// The share of the full kernel's trace from a layer's adapted weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerCoverage {
    /// The layer's name in reports.
    pub layer: String,
    /// The layer's share of the trace of the full kernel.
    pub share: f64,
    /// The part of that share from adapted weights.
    pub adapted: f64,
}

/// Distances over ranks and draws.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Ranks, or dimensions, increasing.
    pub ranks: Vec<i64>,
    /// Distance to the compressed kernel (the adapted weights' share, or the whole), after division by the known factor of
    /// its mean: `distances[draw][rank]`.
    pub distances: Vec<Vec<KernelDistance>>,
    /// Distance of the same kernel to the full one.
    pub to_full: Vec<Vec<KernelDistance>>,
    /// Trace of the compressed kernel over its Frobenius norm, for the bound on the rank.
    pub trace_over_norm: f64,
    /// Rows N·C of the kernel.
    pub rows: usize,
}

/// All results: `report.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraReport {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// Program and libtorch.
    pub versions: [String; 2],
    /// The model.
    pub model: ModelFacts,
    /// The task.
    pub task: TaskFacts,
    /// The settings.
    pub settings: LoraSettings,
    /// The adapted weights, by name.
    pub targets: Vec<String>,
    /// Share of the full kernel's trace that the adapted weights have, by layer.
    pub coverage: Vec<LayerCoverage>,
    /// Distance of the adapted weights' share to the full kernel, which does not depend on the rank.
    pub share_to_full: Option<KernelDistance>,
    /// Adapters over ranks.
    pub adapters: Option<Sweep>,
    /// The adapter that was read: its directory's name and its ranks.
    #[serde(default)]
    pub adapter: Option<String>,
    /// The kernel of an adapter that was read, compared with the adapted weights' share and with the full kernel.
    pub trained: Option<[KernelDistance; 2]>,
    /// Random projections over dimensions.
    pub projections: Option<Sweep>,
}

/// Measures as the settings say; every kernel's distances are stored in `directory`.
///
/// # Errors
/// Unknown targets; an adapter that does not fit; kernels that are zero or not finite; interruption.
pub fn measure(
    study: &Study,
    settings: &LoraSettings,
    engine: &EngineSettings,
    adapter: Option<&Path>,
    directory: &Path,
    monitor: &dyn Monitor,
) -> Result<LoraReport> {
    let modules = Modules::of(study.parameters.specs());
    let read = adapter.map(|path| PeftAdapter::load(path, study.parameters.specs())).transpose()?;
    let chosen = match &read {
        Some(adapter) => adapter.lora.adapters().iter().map(|a| a.weight).collect(),
        None => modules.choose(&settings.targets)?,
    };
    let specs = study.parameters.specs();
    let targets: Vec<String> = chosen.iter().map(|p| specs[p.0].name.clone()).collect();
    let store = ResultStore::open(directory, &study.digest())?;
    let examples = study.examples(SplitName::Train, study.mode)?;
    let asked = Asked { study, settings, engine, examples: &examples, monitor, targets: &targets };

    let mut included = vec![false; specs.len()];
    for p in &chosen {
        included[p.0] = true;
    }
    if let Some(left_out) = chosen.iter().find(|p| !study.include[p.0]) {
        let problem =
            format!("it is a target, but {} {} excludes it from the kernel", Field::Subset, study.subset_name());
        return Err(Error::Adapter { weight: specs[left_out.0].name.clone(), problem });
    }
    let full = asked.kernel("full kernel", &study.parameters, &examples, &study.include)?;
    let share = asked.kernel("kernel of the adapted weights", &study.parameters, &examples, &included)?;
    let (full_matrix, share_matrix) = (sgd(&full), sgd(&share));

    let adapters = if settings.ranks.is_empty() || read.is_some() {
        None
    } else {
        let distances = asked.over("rank", &settings.ranks, &store, |rank, seed| {
            let scaling = settings.scaled.factor(rank);
            let wanted: Vec<Target> = chosen.iter().map(|weight| Target { weight: *weight, rank, scaling }).collect();
            let lora = Lora::new(specs, &wanted)?;
            let extended = lora.parameters(&study.parameters, settings.init, seed);
            // At B = 0 the gradient in A vanishes: B alone has the whole kernel.
            let gram = asked.kernel(
                &format!("adapters of rank {rank}"),
                &extended,
                &lora.examples(&examples),
                &lora.include(Trained::OnlyB),
            )?;
            let kernel = rescaled(&lora, &gram, settings.init);
            asked.compare(&kernel, share_matrix, full_matrix)
        })?;
        Some(sweep(&settings.ranks, &distances, share_matrix))
    };
    let projections = if settings.dimensions.is_empty() {
        None
    } else {
        let distances = asked.over("dimension", &settings.dimensions, &store, |dimension, seed| {
            let projection = Projection::new(dimension, seed);
            let streaming = Streaming { include: study.include.clone(), batch: engine.batch, keep_bytes: 1 << 30 };
            monitor.begin(&format!("projection to dimension {dimension}"), specs.len() as u64);
            let gradients = projected_gradients(&projection, &study.parameters, &examples, &streaming, monitor);
            monitor.end();
            let gradients = gradients?;
            asked.compare(&gradients.matmul(&gradients.tr()), full_matrix, full_matrix)
        })?;
        Some(sweep(&settings.dimensions, &distances, full_matrix))
    };
    let trained = match &read {
        None => None,
        Some(adapter) => {
            let extended = adapter.parameters(&study.parameters);
            let lora = &adapter.lora;
            let gram = asked.kernel(
                "kernel of the adapter",
                &extended,
                &lora.examples(&examples),
                &lora.include(Trained::Adapters),
            )?;
            Some(asked.compare(sgd(&gram), share_matrix, full_matrix)?)
        }
    };
    Ok(LoraReport {
        schema_version: SCHEMA_VERSION,
        versions: [env!("CARGO_PKG_VERSION").into(), crate::device::TORCH_VERSION.into()],
        model: study.model_facts.clone(),
        task: study.task_facts(),
        settings: settings.clone(),
        coverage: coverage(study, &full, &included),
        share_to_full: kernel_distance(share_matrix, full_matrix)?,
        targets,
        adapters,
        adapter: read.as_ref().zip(adapter).map(|(read, directory)| described(&read.lora, directory)),
        trained,
        projections,
    })
}

/// An adapter's directory and its ranks.
fn described(lora: &Lora, directory: &Path) -> String {
    // B is [.., rank] whatever it adapts.
    let ranks: BTreeSet<i64> = lora.adapters().iter().map(|a| lora.specs()[a.b.0].shape[1]).collect();
    let ranks: Vec<String> = ranks.iter().map(ToString::to_string).collect();
    let whole = directory.canonicalize().unwrap_or_else(|_| directory.to_path_buf());
    let name = whole.file_name().unwrap_or(directory.as_os_str()).to_string_lossy();
    format!("{name}, rank {}", ranks.join(", "))
}

/// Data common to all kernels.
struct Asked<'a> {
    study: &'a Study,
    settings: &'a LoraSettings,
    engine: &'a EngineSettings,
    examples: &'a StudyExamples<'a>,
    monitor: &'a dyn Monitor,
    targets: &'a [String],
}

impl Asked<'_> {
    fn kernel(&self, stage: &str, parameters: &Parameters, examples: &dyn Examples, include: &[bool]) -> Result<Gram> {
        let mut options = GramOptions::new(FormulaSet::SGD, parameters.len());
        options.include = include.to_vec();
        options.batch = self.engine.batch;
        if let Some(precision) = self.engine.precision {
            precision.apply(&self.study.parameters, &mut options)?;
        }
        options.share_matrices = true;
        if let Some(limit) = self.engine.memory {
            options.fit(parameters, examples, None, limit as f64)?;
        }
        self.monitor.begin(stage, gram_units(self.examples.len(), None));
        let gram = structured_gram(parameters, examples, None, &options, self.monitor);
        self.monitor.end();
        gram
    }

    /// Distances `[to the compressed kernel, to the full one]`.
    fn compare(&self, kernel: &Tensor, compressed: &Tensor, full: &Tensor) -> Result<[KernelDistance; 2]> {
        let of = |to: &Tensor| {
            kernel_distance(kernel, to)?.ok_or_else(|| {
                let name = &self.study.model_facts.name;
                Error::no_solution(format!("distance to a kernel of {name}"), "it is zero or not finite")
            })
        };
        Ok([of(compressed)?, of(full)?])
    }

    /// Distances of every draw and rank; finished ones are stored.
    fn over(
        &self,
        what: &str,
        ranks: &[i64],
        store: &ResultStore,
        compute: impl Fn(i64, u64) -> Result<[KernelDistance; 2]>,
    ) -> Result<Vec<Vec<[KernelDistance; 2]>>> {
        let mut all = Vec::new();
        for draw in 0..self.settings.draws {
            let mut row = Vec::new();
            for rank in ranks {
                let seed = named_seed(self.settings.seed, &format!("{what} {rank}, draw {draw}"));
                let LoraSettings { init, scaled, .. } = self.settings;
                let depends = ("lora", what, rank, seed, init, scaled, self.targets, self.engine.precision);
                let name = format!("lora-{what}-{rank}-{draw}");
                row.push(store.get_or_compute(&name, &depends, self.monitor, || compute(*rank, seed))?);
            }
            all.push(row);
        }
        Ok(all)
    }
}

fn sgd(gram: &Gram) -> &Tensor {
    gram.sgd.as_ref().expect("the requested formula")
}

/// The sum of the adapters' kernels, each divided by the factor of its mean.
fn rescaled(lora: &Lora, gram: &Gram, init: Init) -> Tensor {
    let mut sum = sgd(gram).zeros_like();
    for adapter in lora.adapters() {
        let [rank, input] = lora.specs()[adapter.a.0].shape[..] else { continue };
        let share = gram.shares.iter().find(|s| s.parameter == adapter.b.0).and_then(|s| s.sgd.as_ref());
        sum += share.expect("shares were requested, and adapters are included")
            / init.factor(rank, input, adapter.scaling);
    }
    sum
}

fn sweep(ranks: &[i64], found: &[Vec<[KernelDistance; 2]>], compressed: &Tensor) -> Sweep {
    let part = |i: usize| found.iter().map(|row| row.iter().map(|pair| pair[i]).collect()).collect();
    let norm = compressed.norm().double_value(&[]);
    Sweep {
        ranks: ranks.to_vec(),
        distances: part(0),
        to_full: part(1),
        trace_over_norm: compressed.trace().to_kind(Kind::Double).double_value(&[]) / norm,
        rows: compressed.size()[0] as usize,
    }
}

/// Shares of the full kernel's trace by layer, in the network's order.
fn coverage(study: &Study, full: &Gram, adapted: &[bool]) -> Vec<LayerCoverage> {
    let total: f64 = full.shares.iter().filter(|s| study.include[s.parameter]).map(|s| s.trace_sgd).sum();
    let mut layers: Vec<LayerCoverage> = Vec::new();
    for share in full.shares.iter().filter(|s| study.include[s.parameter]) {
        let layer = &study.parameters.specs()[share.parameter].layer;
        let part = if total > 0.0 { share.trace_sgd / total } else { 0.0 };
        let at = layers.iter().position(|l| l.layer == *layer).unwrap_or_else(|| {
            layers.push(LayerCoverage { layer: layer.clone(), share: 0.0, adapted: 0.0 });
            layers.len() - 1
        });
        layers[at].share += part;
        if adapted[share.parameter] {
            layers[at].adapted += part;
        }
    }
    layers
}
