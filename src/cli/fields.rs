//! The flag of each setting of the library.

use crate::setting::Field;

/// The flag of a setting, as it is typed.
fn flag(field: Field) -> &'static str {
    match field {
        Field::Alpha => "--alpha",
        Field::Batch => "--batch",
        Field::BatchSize => "--train-batch-size",
        Field::Chat => "--chat",
        Field::Confidence => "--confidence",
        Field::Device => "--device",
        Field::Dimensions => "--intrinsic",
        Field::Distance => "--distance",
        Field::Draws => "--draws",
        Field::Dtype => "--dtype",
        Field::EvalEvery => "--eval-every",
        Field::FirstSentenceLimit => "--first-limit",
        Field::Formulas => "--formula",
        Field::Ignored => "--ignore",
        Field::K => "--k",
        Field::Limit => "--limit",
        Field::LrAdam => "--lr-adam",
        Field::LrSgd => "--lr-sgd",
        Field::LrSigngd => "--lr-signgd",
        Field::MaxLength => "--max-length",
        Field::MaxWords => "--max-words",
        Field::Memory => "--memory",
        Field::MinWords => "--min-words",
        Field::OtherSentenceLimit => "--other-limit",
        Field::Out => "--out",
        Field::OutDirectory => "--out-dir",
        Field::OutputMode => "--output-mode",
        Field::Precision => "--precision",
        Field::Probes => "--probes",
        Field::Ranks => "--ranks",
        Field::Segments => "--segments",
        Field::Shard => "--shard",
        Field::Steps => "--steps",
        Field::Subset => "--parameters",
        Field::Task => "--task",
        Field::Template => "--template",
        Field::TestLimit => "--test-limit",
        Field::Threads => "--threads",
        Field::TrainPrecision => "--train-precision",
        Field::WriteBaseline => "--write-baseline",
    }
}

/// Replaces names of settings by their flags.
pub fn spoken(text: &str) -> String {
    let named = Field::ALL.iter().map(|field| (field.to_string(), flag(*field)));
    named.fold(text.to_owned(), |text, (name, flag)| text.replace(&name, flag))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::super::command::Cli;
    use super::*;
    use crate::error::{Error, SHORTAGE_ADVICE};

    /// Flags that no message of the library names: files, names and choices that are checked where they are read.
    const UNSPOKEN: &[&str] = &[
        "--adapter",
        "--against",
        "--all-rows",
        "--at-most",
        "--baseline",
        "--baseline-seeds",
        "--block",
        "--check",
        "--claim",
        "--columns",
        "--config",
        "--corpus-dir",
        "--data",
        "--data-dir",
        "--dev",
        "--dev-data",
        "--dry-run",
        "--engine",
        "--first",
        "--first-against",
        "--format",
        "--github",
        "--head",
        "--heads",
        "--init",
        "--jobs",
        "--json",
        "--junit",
        "--kernels",
        "--label-words",
        "--lora-adapter",
        "--lora-alpha",
        "--lora-init",
        "--lora-rank",
        "--lora-targets",
        "--markdown",
        "--measure-steps",
        "--measures",
        "--model",
        "--models",
        "--mutants",
        "--no-mutants",
        "--no-training",
        "--optimizers",
        "--option",
        "--parameter-chunks",
        "--plan",
        "--profile",
        "--rslora",
        "--sample",
        "--seed",
        "--seeds",
        "--shards",
        "--shares",
        "--size",
        "--sketch-seed",
        "--slurm",
        "--split",
        "--strict",
        "--suite",
        "--targets",
        "--task-file",
        "--tasks",
        "--test",
        "--test-data",
        "--text",
        "--train",
        "--until-decided",
        "--width",
        "--words",
    ];

    #[test]
    fn every_setting_has_a_flag_and_every_flag_of_the_table_is_one() {
        let whole = Cli::command();
        let flags: BTreeSet<String> = whole
            .get_subcommands()
            .flat_map(|command| command.get_arguments().filter_map(|a| a.get_long()).map(|name| format!("--{name}")))
            .collect();
        let named: BTreeSet<String> = Field::ALL.iter().map(|field| flag(*field).to_owned()).collect();
        assert_eq!(named.len(), Field::ALL.len(), "two settings with one flag");
        let unknown: Vec<&String> = named.difference(&flags).collect();
        assert!(unknown.is_empty(), "no command has {unknown:?}");
        let missing: Vec<&String> = flags.difference(&named).filter(|f| !UNSPOKEN.contains(&f.as_str())).collect();
        assert!(missing.is_empty(), "neither of a setting nor said to be unspoken: {missing:?}");
        let stale: Vec<&&str> = UNSPOKEN.iter().filter(|f| !flags.contains(**f) || named.contains(**f)).collect();
        assert!(stale.is_empty(), "not to be listed: {stale:?}");
    }

    #[test]
    fn messages_name_flags_in_place_of_settings() {
        let error = Error::setting(Field::BatchSize, 0, format!("1 or more, or a smaller {}", Field::Memory));
        assert_eq!(error.to_string(), "setting `batch_size` is 0, expected 1 or more, or a smaller setting `memory`");
        assert_eq!(spoken(&error.to_string()), "--train-batch-size is 0, expected 1 or more, or a smaller --memory");
        assert_eq!(spoken(SHORTAGE_ADVICE), super::super::SHORTAGE_ADVICE);
    }
}
