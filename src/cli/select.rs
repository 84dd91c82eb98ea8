//! Turns arguments into a loaded study: model directory, task definition, examples.

use std::path::{Path, PathBuf};

use super::arguments::{AdapterArgs, DEFAULT_CLOZE, DEFAULT_K, DEFAULT_MODEL, EngineArgs, ModelArgs, TaskArgs};
#[cfg(feature = "hub")]
use super::output::errln;
use crate::analysis::{EngineSettings, Head, Pretrained, Study, StudyRequest, split_name};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::hub::HubName;
#[cfg(feature = "hub")]
use crate::hub::Origin;
use crate::jacobian::Subset;
use crate::lm::OutputMode;
use crate::pretrain::{BUILT_IN, FAMILY_VARIABLE, family_directory};
use crate::task::{DataFormat, Overrides, OwnSplit, Splits, TaskDefinition, builtin, cloze, demo, demo_definition};

/// Loads the model and task, and returns them with the kernel engine's settings.
pub(super) fn study(model: &ModelArgs, task: &TaskArgs) -> Result<(Study, EngineSettings)> {
    adapted_study(model, task, None)
}

/// The same, with adapters in the network.
pub(super) fn adapted_study(
    model: &ModelArgs,
    task: &TaskArgs,
    adapters: Option<&AdapterArgs>,
) -> Result<(Study, EngineSettings)> {
    load(model, task, adapters, if model.model == DEFAULT_MODEL { choose_cloze } else { choose })
}

/// The same, with all rows of the data file as training examples, in the file's order.
pub(super) fn undivided_study(model: &ModelArgs, task: &TaskArgs) -> Result<(Study, EngineSettings)> {
    load(model, task, None, choose_all_rows)
}

/// Destructures [`ModelArgs`], so that no option can be ignored.
fn load(
    model: &ModelArgs,
    task: &TaskArgs,
    adapters: Option<&AdapterArgs>,
    choose: fn(&TaskArgs) -> Result<Chosen>,
) -> Result<(Study, EngineSettings)> {
    let ModelArgs { model: name, head, output_mode, engine } = model;
    let EngineArgs { dtype, processor, parameters, batch: _, memory, precision } = engine;
    let batch = engine.batch()?;
    let adapters = adapters.map(AdapterArgs::request).transpose()?.flatten();
    let device = processor.prepare()?;
    let directory = model_directory("--model", name)?;
    let chosen = choose(task)?;
    let network = Pretrained::load(&directory, *dtype, device)?;
    if adapters.is_some() && *parameters != Subset::All {
        let problem = "it selects among the network's own parameters, but with adapters only their factors are trained: remove \
             it";
        return Err(Error::argument("--parameters", problem));
    }
    let request = chosen.request(&network, *head, *parameters, *output_mode);
    // Random heads and adapters need a seed even if the split does not.
    let drawn = *head == Head::Random || adapters.is_some();
    let split_seed = request.split_seed.or_else(|| drawn.then_some(task.seed));
    let study = Study::new(StudyRequest { adapters: adapters.as_ref(), split_seed, ..request })?;
    let engine = EngineSettings {
        batch: batch.unwrap_or_else(|| study.default_batch()),
        memory: memory.map(|m| m.as_u64()),
        precision: *precision,
    };
    Ok((study, engine))
}

/// Resolves a model name: a directory as given, a built-in model, a fetched model in the user's cache, or a model on the
/// Hugging Face hub.
///
/// # Errors
/// [`Error::Arguments`] and [`Error::Hub`], naming `option`.
pub(super) fn model_directory(option: &str, name: &str) -> Result<PathBuf> {
    if let Some(place) = local_model(name)? {
        return Ok(place);
    }
    if BUILT_IN.contains(&name) {
        let problem = format!(
            "a built-in model comes with the sources of this program and is not in {}; set {FAMILY_VARIABLE} to a copy of their \
             directory fixtures/family",
            family_directory().display()
        );
        return Err(Error::argument(format!("{option} {name}"), problem));
    }
    let on_hub = HubName::parse(name);
    if is_path(name) && on_hub.is_none() {
        return Ok(Path::new(name).to_path_buf());
    }
    #[cfg(feature = "hub")]
    if let Some(on_hub) = on_hub {
        let directory = crate::hub::find(&on_hub).map_err(|e| match e {
            Error::Hub { model, reason } => Error::Hub { model: format!("{option} {model}"), reason },
            other => other,
        })?;
        if let Some(origin) = Origin::of(&directory) {
            errln!("{}: commit {}, in {}", origin.model, origin.commit, directory.display());
        }
        return Ok(directory);
    }
    let place = cached_model(name).map_or_else(String::new, |c| format!(" in {}", c.display()));
    let problem = format!(
        "no such directory, built-in model (in {}) or fetched model{place}; `cargo xtask model` lists and fetches \
         models, or give the path of a Hugging Face checkpoint directory{}",
        family_directory().display(),
        if cfg!(feature = "hub") {
            ""
        } else {
            ". This program was built without the feature `hub`, which finds models in the Hugging Face cache and on \
             the hub"
        }
    );
    Err(Error::argument(format!("{option} {name}"), problem))
}

/// Where a model is, if it is on this machine and not in the Hugging Face hub's cache.
///
/// # Errors
/// A directory with several GGUF files.
pub(super) fn local_model(name: &str) -> Result<Option<PathBuf>> {
    let direct = Path::new(name);
    if direct.exists() {
        return Ok(Some(direct.to_path_buf()));
    }
    let built_in = family_directory().join(name);
    if !is_path(name) && built_in.join("config.json").exists() {
        return Ok(Some(built_in));
    }
    match cached_model(name) {
        Some(cached) if cached.join("config.json").exists() || Gguf::find(&cached)?.is_some() => Ok(Some(cached)),
        _ => Ok(None),
    }
}

fn is_path(name: &str) -> bool {
    name.contains(['/', '\\'])
}

/// Where a fetched model of this name is, or would be.
fn cached_model(name: &str) -> Option<PathBuf> {
    cache_directory().filter(|_| !is_path(name)).map(|cache| cache.join("models").join(name))
}

/// `KERNELVIEW_CACHE`, else `XDG_CACHE_HOME/kernelview`, else `~/.cache/kernelview`; the same as `cargo xtask`.
fn cache_directory() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("KERNELVIEW_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|c| c.join("kernelview")))
        .or_else(|| variable("HOME").map(|h| h.join(".cache").join("kernelview")))
}

/// Training examples per class of the built-in task.
const DEMO_K: usize = DEFAULT_K;

/// A task with its examples.
pub(super) struct Chosen {
    pub definition: TaskDefinition,
    splits: Splits,
    pub source: String,
    k: Option<usize>,
    seed: Option<u64>,
}

impl Chosen {
    /// The request for a study of a model on this task.
    pub(super) fn request<'a>(
        &'a self,
        network: &'a Pretrained,
        head: Head,
        subset: Subset,
        output_mode: Option<OutputMode>,
    ) -> StudyRequest<'a> {
        StudyRequest {
            network,
            head,
            subset,
            adapters: None,
            output_mode,
            definition: &self.definition,
            splits: &self.splits,
            source: self.source.clone(),
            k: self.k,
            split_seed: self.seed,
        }
    }
}

/// The task that the arguments name, by default the cloze task.
pub(super) fn choose_cloze(args: &TaskArgs) -> Result<Chosen> {
    if args.task.is_some() || args.task_file.is_some() || args.data_dir.is_some() || args.data.is_some() {
        return choose(args);
    }
    choose(&TaskArgs { task: Some(DEFAULT_CLOZE.into()), ..args.clone() })
}

/// All rows of the data file.
fn choose_all_rows(args: &TaskArgs) -> Result<Chosen> {
    let Some(file) = &args.data else {
        return Err(Error::argument("--all-rows", "--data FILE is missing: whose rows?"));
    };
    let definition = own_definition(named(args)?, args, &overrides(args), file)?;
    let splits = Splits::undivided(file, &definition)?;
    Ok(Chosen { definition, splits, source: file_name(file), k: None, seed: None })
}

fn overrides(args: &TaskArgs) -> Overrides {
    let (lengths, _) = args.limits.parts();
    Overrides {
        template: args.template.clone(),
        label_words: args.label_words.clone(),
        segments: args.segments.then_some(true),
        columns: args.columns.clone(),
        chat: args.chat.then_some(true),
        ..lengths
    }
}

/// The task that the arguments name, if any.
fn named(args: &TaskArgs) -> Result<Option<TaskDefinition>> {
    Ok(match (&args.task_file, &args.task) {
        (Some(file), _) => Some(TaskDefinition::from_toml(file)?),
        (None, Some(name)) if name.to_lowercase().starts_with("cloze-") => Some(cloze::named(name)?.definition()?),
        (None, Some(name)) => Some(builtin(name)?),
        (None, None) => None,
    })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The task that the arguments name, by default the built-in remarks.
pub(super) fn choose(args: &TaskArgs) -> Result<Chosen> {
    let overrides = overrides(args);
    let (_, test_limit) = args.limits.parts();
    let named = named(args)?;
    if let Some(directory) = &args.data_dir {
        let Some(definition) = named else {
            return Err(Error::argument("--data-dir", "--task NAME (or --task-file) is missing: which of its tasks?"));
        };
        let definition = definition.with(&overrides)?;
        let splits = Splits::from_directory(directory, &definition, args.k, args.seed, test_limit)?;
        let source = split_name(&definition.name, args.k, args.seed);
        return Ok(Chosen { definition, splits, source, k: Some(args.k), seed: Some(args.seed) });
    }
    let mut own =
        OwnSplit { k: args.k, seed: args.seed, test_limit, dev: args.dev_data.clone(), test: args.test_data.clone() };
    if let Some(place) = &args.data {
        let file = &whole_file(place, &mut own)?;
        let definition = own_definition(named, args, &overrides, file)?;
        let splits = Splits::from_file(file, &definition, &own)?;
        return Ok(Chosen { definition, splits, source: file_name(file), k: Some(args.k), seed: Some(args.seed) });
    }
    if let Some(task) = args.task.as_deref().and_then(cloze::find) {
        let built_in = task.definition()?;
        let definition = built_in.clone().with(&overrides)?;
        let splits = task.splits(&own)?.relabelled(&built_in, &definition)?;
        return Ok(Chosen {
            definition,
            splits,
            source: "built in (sentences written for this project)".into(),
            k: Some(args.k),
            seed: Some(args.seed),
        });
    }
    if let Some(definition) = named {
        let flag = match &args.task_file {
            Some(file) => format!("--task-file {}", file.display()),
            None => format!("--task {}", definition.name),
        };
        return Err(Error::argument(flag, "no examples given; add --data-dir DIR (few-shot splits) or --data FILE"));
    }
    if args.k != DEMO_K {
        let problem =
            format!("the built-in task has {DEMO_K} training examples per class; --k needs --data-dir or --data");
        return Err(Error::argument(format!("--k {}", args.k), problem));
    }
    let built_in = demo_definition()?;
    let definition = built_in.clone().with(&overrides)?;
    let mut splits = demo()?.relabelled(&built_in, &definition)?;
    splits.limit_test(test_limit, args.seed);
    Ok(Chosen {
        definition,
        splits,
        source: "built in (short remarks written for this project)".into(),
        k: Some(DEMO_K),
        seed: None,
    })
}

/// The file that `--data` names. For a directory laid out like a data set on the Hugging Face hub (train, validation, test),
/// the training file; the others become the dev and test files unless the arguments name some.
fn whole_file(place: &Path, own: &mut OwnSplit) -> Result<PathBuf> {
    if !place.is_dir() {
        return Ok(place.to_path_buf());
    }
    let find = |stems: &[&str]| {
        let names = stems.iter().flat_map(|stem| ["jsonl", "json", "csv", "tsv"].map(|end| format!("{stem}.{end}")));
        let found: Vec<String> = names.filter(|name| place.join(name).is_file()).collect();
        match found.as_slice() {
            [] => Ok(None),
            [name] => Ok(Some(place.join(name))),
            [one, other, ..] => Err(Error::format(
                place,
                format!("the directory has both {one} and {other}; name the one to use, or remove the other"),
            )),
        }
    };
    if own.dev.is_none() {
        own.dev = find(&["validation", "dev", "valid", "val"])?;
    }
    if own.test.is_none() {
        own.test = find(&["test"])?;
    }
    find(&["train"])?.ok_or_else(|| {
        Error::format(
            place,
            "the directory has no train.jsonl, train.json, train.csv or train.tsv; Parquet files are not read: \
             convert them to JSON lines (pandas: to_json(orient=\"records\", lines=True))",
        )
    })
}

/// The task definition for a user's data file: a task file as it is, a named task's template and words, or those given by
/// flags.
fn own_definition(
    named: Option<TaskDefinition>,
    args: &TaskArgs,
    overrides: &Overrides,
    file: &Path,
) -> Result<TaskDefinition> {
    if let Some(definition) = named {
        if args.task_file.is_some() {
            return definition.with(overrides);
        }
        let named_format = TaskDefinition { format: DataFormat::Named, ..definition };
        return named_format.with(overrides);
    }
    let (Some(template), Some(words)) = (&args.template, &args.label_words) else {
        let problem = "a task is missing: give --template and --label-words, or --task NAME, or --task-file FILE";
        return Err(Error::argument("--data", problem));
    };
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    TaskDefinition::new(&name, template, words)?.with(overrides)
}
