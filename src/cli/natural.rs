//! `kernelview natural`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use super::arguments::{ProcessorArgs, TaskArgs};
use super::output::outln;
use super::places::check_out_directory;
use super::select::{choose, choose_cloze, model_directory};
use super::terminal::Terminal;
use crate::analysis::{Head, Pretrained, Study};
use crate::device::Dtype;
use crate::error::{Error, Result};
use crate::evidence::SCHEMA_VERSION;
use crate::jacobian::Subset;
use crate::natural::{Naturalness, measure, verdict, write_naturalness};
use crate::pretrain::family_members;
use crate::progress::{Monitor, check_cancelled};
use crate::report::ReportKind;

#[derive(Args)]
pub(super) struct NaturalArgs {
    /// Two or more models that differ only in width: checkpoint directories or names [default: the built-in family]
    #[arg(long, num_args = 2.., value_name = "DIR|NAME")]
    pub models: Vec<String>,
    #[command(flatten)]
    pub task: TaskArgs,
    /// Directory of the report
    #[arg(long, default_value = "kernelview-natural", value_name = "DIR")]
    pub out_dir: PathBuf,
    /// Element type of weights and activations
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: Dtype,
    #[command(flatten)]
    pub processor: ProcessorArgs,
}

/// Measures every model and writes the report.
pub(super) fn run(args: &NaturalArgs) -> Result<()> {
    check_out_directory(&args.out_dir, ReportKind::Naturalness)?;
    let device = args.processor.prepare()?;
    let (directories, chosen): (Vec<_>, _) = if args.models.is_empty() {
        (family_members()?.into_iter().map(|m| m.directory).collect(), choose_cloze(&args.task)?)
    } else {
        let named: Result<Vec<_>> = args.models.iter().map(|name| model_directory("--models", name)).collect();
        (named?, choose(&args.task)?)
    };
    let terminal = Terminal::new();
    terminal.begin(&format!("output derivative on {}", chosen.definition.name), directories.len() as u64);
    let mut rows = Vec::new();
    let mut data = None;
    let [mut architectures, mut tokenizers] = [(); 2].map(|()| BTreeSet::new());
    for directory in &directories {
        check_cancelled()?;
        let network = Pretrained::load(directory, args.dtype, device)?;
        let study = Study::new(chosen.request(&network, Head::Prompt, Subset::All, None))?;
        let facts = &study.model_facts;
        let task = study.task_facts();
        architectures.insert(facts.architecture.clone());
        tokenizers.insert(task.tokenizer_digest);
        data = Some((task.source_digest, task.sets));
        rows.push(((facts.name.clone(), facts.width, facts.layers), measure(&study, args.task.seed)?));
        terminal.advance(1);
    }
    terminal.end();
    rows.sort_by_key(|((_, width, _), _)| *width);
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].0.1 == pair[1].0.1) {
        let (first, second, width) = (&pair[0].0.0, &pair[1].0.0, pair[0].0.1);
        let problem = format!("{first} and {second} both have width {width}; give models of different widths");
        return Err(Error::argument("--models", problem));
    }
    let (models, measured) = rows.into_iter().unzip();
    // At least two models were measured, all on the same data.
    let (source_digest, sets) = data.unwrap_or_default();
    let found = Naturalness {
        schema_version: SCHEMA_VERSION,
        task: chosen.definition.name.clone(),
        source: chosen.source.clone(),
        source_digest,
        sets,
        words: chosen.definition.label_words.iter().map(|l| l.word.clone()).collect(),
        seed: args.task.seed,
        models,
        measured,
        differ: [("architecture", architectures), ("tokenizer", tokenizers)]
            .into_iter()
            .filter_map(|(what, found)| (found.len() > 1).then(|| what.to_owned()))
            .collect(),
    };
    let written = write_naturalness(&found, &args.out_dir)?;
    outln!("{}: {}", found.task, verdict(&found).text())?;
    for ((name, width, _), measured) in found.models.iter().zip(&found.measured) {
        let mean = measured[0].chi.iter().sum::<f64>() / measured[0].chi.len() as f64;
        outln!("  {name} (width {width}): mean |χ| {mean:.4}, accuracy {:.3}", measured[0].accuracy)?;
    }
    if let Some(caveat) = found.caveat() {
        outln!("{caveat}")?;
    }
    outln!("report: {}", written.markdown.display())?;
    Ok(())
}
