//! The paper's study as a grid: every model on every task, k, seed and head, each cell a separate analysis.
//!
//! A finished cell is stored under the digest of its inputs, so that a killed run can continue, a changed setting recomputes
//! only affected cells, and several processes can share a grid. A failed cell is reported, and the others continue. May not
//! print.

mod estimate;
mod files;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tch::Device;

pub use estimate::Estimate;

use crate::analysis::{
    AdapterRequest, AnalysisSettings, Head, OptimizerGrid, Plan, Pretrained, Study, StudyRequest, analyze, split_name,
};
use crate::device::{Dtype, TORCH_VERSION, device_kind, device_name};
use crate::error::{Error, Result, panic_text};
use crate::evidence::{GridCell, GridKey, GridResult, Reproduction, SCHEMA_VERSION};
use crate::files::{create_dir, digest, load_result, store_result, without_directories};
use crate::jacobian::Subset;
use crate::launch::Place;
use crate::progress::{Monitor, check_cancelled};
use crate::report;
use crate::subspace::Init;
use crate::task::{Overrides, Splits, TaskDefinition, builtin};

/// Incremented when the meaning of a stored cell changes, so that older ones are recomputed.
const CELL_VERSION: &str = "2";

/// The grid and the settings of its cells.
pub struct GridSettings {
    /// Models: the given name, and the directory.
    pub models: Vec<(String, PathBuf)>,
    /// Tasks, with distinct names.
    pub tasks: Vec<TaskDefinition>,
    /// Training examples per class.
    pub k: Vec<usize>,
    /// Seeds of splits.
    pub seeds: Vec<u64>,
    /// Output heads.
    pub heads: Vec<Head>,
    /// Rank of adapters, for additional cells: with the prompt, N(0, 1/k) and scaling 1, so that the weights' learning rates
    /// suit them.
    pub lora_rank: Option<i64>,
    /// Directory of the few-shot splits.
    pub data_dir: PathBuf,
    /// Overrides of the tasks' settings.
    pub overrides: Overrides,
    /// Maximum number of test examples.
    pub test_limit: Option<usize>,
    /// Element type.
    pub dtype: Dtype,
    /// Device.
    pub device: Device,
    /// Parameters to include.
    pub subset: Subset,
    /// Examples per pass, if given.
    pub batch: Option<usize>,
    /// Settings of the analyses.
    pub analysis: AnalysisSettings,
    /// This process's shard of the cells.
    pub shard: Option<Place>,
}

/// A cell before it is computed.
struct Planned {
    key: GridKey,
    variant: Variant,
    directory: PathBuf,
    inputs: Result<Inputs>,
}

/// The head, and what is trained.
#[derive(Clone, Copy, Debug)]
struct Variant {
    head: Head,
    rank: Option<i64>,
}

impl Variant {
    /// Name in keys and directories.
    fn name(self) -> String {
        match self.rank {
            Some(rank) => format!("lora-{rank}"),
            None => head_name(self.head),
        }
    }

    fn adapters(self) -> Option<AdapterRequest> {
        self.rank.map(|rank| AdapterRequest::New { targets: Vec::new(), rank, scaling: 1.0, init: Init::Gaussian })
    }
}

struct Inputs {
    definition: TaskDefinition,
    splits: Splits,
    digest: String,
}

/// A dry run's information on a cell.
pub struct Preview {
    /// Its key.
    pub key: GridKey,
    /// Whether it is already finished.
    pub stored: bool,
    /// Its estimated cost, or why it cannot be computed; `None` if it is finished.
    pub estimate: Option<Result<Estimate>>,
}

/// Computes the missing cells of this process's shard, and returns the whole grid.
///
/// # Errors
/// [`Error::Interrupted`]; unusable model or output directories. Errors of a single cell are stored in it.
pub fn run(settings: &GridSettings, out_dir: &Path, monitor: &dyn Monitor) -> Result<Reproduction> {
    let mut cells = Vec::new();
    let total = settings.size();
    for (name, directory) in &settings.models {
        let mut network = None;
        for planned in settings.planned(name, directory, out_dir)? {
            check_cancelled()?;
            let number = cells.len();
            let key = planned.key.clone();
            let title = format!("[{}/{total}] {}", number + 1, label(&key));
            let inputs = match planned.inputs {
                Ok(inputs) => inputs,
                Err(error) => {
                    monitor.note(&format!("{title}: failed: {error}"));
                    cells.push(GridCell {
                        key,
                        digest: String::new(),
                        result: None,
                        error: Some(without_directories(&error.to_string())),
                    });
                    continue;
                }
            };
            let path = planned.directory.join("cell.json");
            let mut cell = GridCell { key, digest: inputs.digest.clone(), result: None, error: None };
            if let Some(result) = load_result::<GridResult>(&path, &inputs.digest) {
                monitor.note(&format!("{title}: already there"));
                cell.result = Some(result);
            } else if settings.shard.is_none_or(|place| place.has(number)) {
                monitor.note(&title);
                // libtorch reports its failures as panics; unfinished work is dropped.
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    let network = settings.network(directory, &mut network)?;
                    settings.compute(network, &planned.key, planned.variant, &inputs, &planned.directory, monitor)
                }));
                match outcome {
                    Ok(Ok(result)) => {
                        store_result(&path, &inputs.digest, &result)?;
                        cell.result = Some(result);
                    }
                    Ok(Err(Error::Interrupted)) => return Err(Error::Interrupted),
                    Ok(Err(error)) => cell.error = Some(error.to_string()),
                    Err(payload) => cell.error = Some(panic_text(payload.as_ref())),
                }
                if let Some(error) = &mut cell.error {
                    monitor.note(&format!("{title}: failed: {error}"));
                    *error = without_directories(error);
                }
            }
            cells.push(cell);
        }
    }
    Ok(Reproduction {
        schema_version: SCHEMA_VERSION,
        program_version: env!("CARGO_PKG_VERSION").into(),
        torch_version: TORCH_VERSION.into(),
        settings: settings.described(),
        cells,
    })
}

/// What a run would compute for this process's shard, with estimates of time and memory, made for one seed and used for the
/// others.
///
/// # Errors
/// As [`run`].
pub fn preview(settings: &GridSettings, out_dir: &Path) -> Result<Vec<Preview>> {
    let mut previews: Vec<Preview> = Vec::new();
    let mut number = 0;
    for (name, directory) in &settings.models {
        let mut network = None;
        for planned in settings.planned(name, directory, out_dir)? {
            check_cancelled()?;
            number += 1;
            if settings.shard.is_some_and(|place| !place.has(number - 1)) {
                continue;
            }
            let key = planned.key;
            let inputs = match planned.inputs {
                Ok(inputs) => inputs,
                Err(error) => {
                    previews.push(Preview { key, stored: false, estimate: Some(Err(error)) });
                    continue;
                }
            };
            let path = planned.directory.join("cell.json");
            if load_result::<GridResult>(&path, &inputs.digest).is_some() {
                previews.push(Preview { key, stored: true, estimate: None });
                continue;
            }
            let like = |p: &&Preview| GridKey { seed: key.seed, ..p.key.clone() } == key;
            let known = previews.iter().filter(like).find_map(|p| p.estimate.as_ref()?.as_ref().ok().copied());
            let estimate = match known {
                Some(estimate) => Ok(estimate),
                None => settings.network(directory, &mut network).and_then(|network| {
                    let study = settings.study(network, &key, planned.variant, &inputs)?;
                    estimate::estimate(&study, &settings.plan_for(&study, key.seed))
                }),
            };
            previews.push(Preview { key, stored: false, estimate: Some(estimate) });
        }
    }
    Ok(previews)
}

/// A cell in one line.
pub fn label(key: &GridKey) -> String {
    format!("{} on {}, k = {}, seed {}, {}", key.model, key.task, key.k, key.seed, key.head)
}

impl GridSettings {
    /// Number of cells.
    pub fn size(&self) -> usize {
        self.models.len() * self.tasks.len() * self.k.len() * self.seeds.len() * self.variants().len()
    }

    /// Heads, followed by adapters.
    fn variants(&self) -> Vec<Variant> {
        let heads = self.heads.iter().map(|head| Variant { head: *head, rank: None });
        heads.chain(self.lora_rank.map(|rank| Variant { head: Head::Prompt, rank: Some(rank) })).collect()
    }

    /// The cells of a model, with their data read.
    fn planned(&self, name: &str, directory: &Path, out_dir: &Path) -> Result<Vec<Planned>> {
        let model = files::directory_digest(directory)?;
        let mut all = Vec::new();
        for task in &self.tasks {
            for k in &self.k {
                for seed in &self.seeds {
                    for variant in self.variants() {
                        let slug = variant.name();
                        let key = GridKey {
                            model: name.to_owned(),
                            task: task.name.clone(),
                            k: *k,
                            seed: *seed,
                            head: slug.clone(),
                        };
                        let place = Path::new("cells").join(files::safe_name(name)).join(&task.name);
                        let directory = out_dir.join(place).join(format!("{k}-{seed}-{slug}"));
                        let inputs = self.inputs(&model, task, &key, variant);
                        all.push(Planned { key, variant, directory, inputs });
                    }
                }
            }
        }
        Ok(all)
    }

    fn inputs(&self, model: &str, task: &TaskDefinition, key: &GridKey, variant: Variant) -> Result<Inputs> {
        let definition = task.clone().with(&self.overrides)?;
        let splits = Splits::from_directory(&self.data_dir, &definition, key.k, key.seed, self.test_limit)?;
        let examples = [&splits.train, &splits.dev, &splits.test].map(|split| &split.examples);
        let analysis = serde_json::to_string(&self.analysis).expect("settings are plain data");
        let text = format!(
            "{CELL_VERSION} {} {TORCH_VERSION} {model} {definition:?} {examples:?} {} {} {variant:?} {} {} {:?} {:?} {analysis}",
            env!("CARGO_PKG_VERSION"),
            key.k,
            key.seed,
            self.dtype,
            device_kind(self.device),
            self.subset,
            self.batch
        );
        Ok(Inputs { definition, splits, digest: digest([text.as_bytes()]) })
    }

    fn network<'a>(&self, directory: &Path, loaded: &'a mut Option<Pretrained>) -> Result<&'a Pretrained> {
        if loaded.is_none() {
            *loaded = Some(Pretrained::load(directory, self.dtype, self.device)?);
        }
        Ok(loaded.as_ref().expect("just loaded"))
    }

    fn study(&self, network: &Pretrained, key: &GridKey, variant: Variant, inputs: &Inputs) -> Result<Study> {
        let adapters = variant.adapters();
        Study::new(StudyRequest {
            network,
            head: variant.head,
            subset: self.subset,
            adapters: adapters.as_ref(),
            output_mode: None,
            definition: &inputs.definition,
            splits: &inputs.splits,
            source: split_name(&key.task, key.k, key.seed),
            k: Some(key.k),
            split_seed: Some(key.seed),
        })
    }

    fn plan_for(&self, study: &Study, seed: u64) -> Plan {
        Plan { settings: self.analysis.clone(), batch: self.batch.unwrap_or_else(|| study.default_batch()), seed }
    }

    fn compute(
        &self,
        network: &Pretrained,
        key: &GridKey,
        variant: Variant,
        inputs: &Inputs,
        directory: &Path,
        monitor: &dyn Monitor,
    ) -> Result<GridResult> {
        let study = self.study(network, key, variant, inputs)?;
        create_dir(directory)?;
        let command = format!("kernelview reproduce ({})", label(key));
        let analysis = analyze(&study, &self.plan_for(&study, key.seed), &command, directory, monitor)?;
        report::write(&analysis, directory)?;
        Ok(GridResult::of(&analysis))
    }

    /// Settings for the report.
    fn described(&self) -> Vec<(String, String)> {
        let list = |items: Vec<String>| items.join(", ");
        let rates = |o: &OptimizerGrid| {
            let rates: Vec<String> = o.learning_rates.iter().map(|r| format!("{r:e}")).collect();
            format!("{} ({})", o.kind.name(), rates.join(", "))
        };
        let analysis = &self.analysis;
        let limit = self.test_limit.map_or_else(|| "all".to_owned(), |n| n.to_string());
        let mut rows = vec![
            ("models".into(), list(self.models.iter().map(|(name, _)| name.clone()).collect())),
            ("tasks".into(), list(self.tasks.iter().map(|t| t.name.clone()).collect())),
            ("examples per class".into(), list(self.k.iter().map(ToString::to_string).collect())),
            ("seeds".into(), list(self.seeds.iter().map(ToString::to_string).collect())),
            (
                "heads".into(),
                list(
                    self.heads
                        .iter()
                        .map(|h| h.title().to_owned())
                        .chain(self.lora_rank.map(|k| format!("adapters of rank {k}")))
                        .collect(),
                ),
            ),
            ("test examples, at most".into(), limit),
            ("fine-tuning".into(), list(analysis.optimizers.iter().map(rates).collect())),
            (
                "steps".into(),
                format!(
                    "{} of {} examples, evaluated every {}",
                    analysis.steps, analysis.batch_size, analysis.eval_every
                ),
            ),
            ("computed in".into(), format!("{} on {}", self.dtype, device_name(self.device))),
        ];
        rows.extend(self.replaced());
        rows
    }

    /// Overrides of the built-in tasks' settings.
    fn replaced(&self) -> Vec<(String, String)> {
        let own = |t: &&TaskDefinition| builtin(&t.name).is_ok_and(|b| b.label_words != t.label_words);
        let words = |t: &TaskDefinition| {
            let words: Vec<&str> = t.label_words.iter().map(|w| w.word.as_str()).collect();
            (format!("label words of {}", t.name), words.join(", "))
        };
        let lengths = [
            ("tokens of a prompt, at most", self.overrides.max_length),
            ("tokens of the first text, at most", self.overrides.first_sentence_limit),
            ("tokens of other texts, at most", self.overrides.other_sentence_limit),
        ];
        let lengths = lengths.into_iter().filter_map(|(what, n)| Some((what.to_owned(), n?.to_string())));
        self.tasks.iter().filter(own).map(words).chain(lengths).collect()
    }
}

fn head_name(head: Head) -> String {
    serde_json::to_value(head).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
