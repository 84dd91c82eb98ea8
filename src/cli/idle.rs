//! Options that have no effect in combination with others. None is ignored silently: if a file or figure asked for would be
//! missing, the command line is refused; otherwise a note is printed.

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};

use super::arguments::DEFAULT_MODEL;
use super::command::Cli;
use super::gate::Seeds;
use super::kernel::Engine;
use super::output::errln;
use crate::analysis::{Head, Measures};
use crate::error::{Error, Result};
use crate::kernel::Formula;

/// Options of some commands, and when they have no effect.
struct Rule {
    commands: &'static [&'static str],
    /// Names of the arguments' fields.
    options: &'static [&'static str],
    idle: fn(&ArgMatches) -> bool,
    /// The message, which follows the option's name.
    because: &'static str,
    refused: bool,
}

const RULES: [Rule; 18] = [
    Rule {
        commands: &["analyze", "verify"],
        options: &["ignore", "strict", "markdown", "junit", "github"],
        idle: |m| !given(m, "baseline") || m.get_flag("write_baseline"),
        because: "needs a comparison: give --baseline without --write-baseline",
        refused: true,
    },
    Rule {
        commands: &["analyze", "verify"],
        options: &["seed"],
        idle: |m| m.get_flag("write_baseline") && matches!(m.get_one("baseline_seeds"), Some(Seeds::List(_))),
        because: "has no effect: --baseline-seeds lists the seeds",
        refused: false,
    },
    Rule {
        commands: &["analyze", "reproduce"],
        options: &["lr_sgd"],
        idle: |m| !runs(m, "sgd"),
        because: "has no effect: sgd is not among --optimizers",
        refused: false,
    },
    Rule {
        commands: &["analyze", "reproduce"],
        options: &["lr_signgd"],
        idle: |m| !runs(m, "signgd"),
        because: "has no effect: signgd is not among --optimizers",
        refused: false,
    },
    Rule {
        commands: &["analyze", "reproduce"],
        options: &["lr_adam"],
        idle: |m| !runs(m, "adam"),
        because: "has no effect: adam is not among --optimizers",
        refused: false,
    },
    Rule {
        commands: &["analyze", "reproduce"],
        options: &["train_batch_size", "steps", "eval_every", "measures", "measure_steps", "probes", "train_precision"],
        idle: |m| m.get_many::<String>("optimizers").is_some_and(|mut all| all.all(String::is_empty)),
        because: "has no effect: --optimizers names none",
        refused: false,
    },
    Rule {
        commands: &["analyze"],
        options: &["measure_steps", "probes"],
        idle: |m| m.get_one("measures") == Some(&Measures::End),
        because: "has no effect: nothing is measured along a run with --measures end",
        refused: false,
    },
    Rule {
        commands: &["reproduce"],
        options: &["measure_steps", "probes"],
        idle: |m| m.get_one("measures") != Some(&Measures::Full),
        because: "has no effect: nothing is measured along a run without --measures full",
        refused: false,
    },
    Rule {
        commands: &["kernel"],
        options: &["precision"],
        idle: by_reference,
        because: "needs the structured engine; remove --engine reference",
        refused: true,
    },
    Rule {
        commands: &["kernel"],
        options: &["engine"],
        idle: |m| by_reference(m) && m.get_flag("plan"),
        because: "reference has no plan: --plan needs the structured engine",
        refused: true,
    },
    Rule {
        commands: &["kernel"],
        options: &["batch", "memory"],
        idle: by_reference,
        because: "has no effect: the reference engine takes one example at a time and has no memory limit",
        refused: false,
    },
    Rule {
        commands: &["kernel"],
        options: &["shares"],
        idle: |m| !m.get_many::<Formula>("formula").is_some_and(|mut all| all.any(|f| *f == Formula::Sgd)),
        because: "needs the SGD kernel: include sgd in --formula",
        refused: true,
    },
    Rule {
        commands: &["kernel"],
        options: &["seed"],
        idle: |m| {
            let own = m.get_one::<String>("model").is_some_and(|model| model == DEFAULT_MODEL);
            let chosen = ["task", "task_file", "data_dir", "data", "test_limit"].iter().any(|id| given(m, id));
            !own && !chosen && m.get_one("head") == Some(&Head::Prompt)
        },
        because: "has no effect: the built-in remarks have a fixed split",
        refused: false,
    },
    Rule {
        commands: &["lora"],
        options: &["ranks", "targets", "init", "alpha", "rslora"],
        idle: |m| given(m, "adapter"),
        because: "applies to adapters at initialization; remove it or --adapter",
        refused: true,
    },
    Rule {
        commands: &["lora"],
        options: &["draws", "distance", "confidence"],
        idle: |m| given(m, "adapter") && !given(m, "intrinsic"),
        because: "has no effect: nothing is drawn with --adapter",
        refused: false,
    },
    Rule {
        commands: &["analyze", "kernel", "lora", "natural", "sketch"],
        options: &["columns"],
        idle: |m| !(given(m, "data") || given(m, "data_dir") && given(m, "task_file")),
        because: "has no effect: it names the columns of --data",
        refused: false,
    },
    Rule {
        commands: &["solve"],
        options: &["task"],
        idle: |m| !given(m, "kernels"),
        because: "names files in --kernels; remove it",
        refused: true,
    },
    Rule {
        commands: &["verify"],
        options: &["suite"],
        idle: |m| given(m, "claim"),
        because: "has no effect: --claim selects claims from all suites",
        refused: false,
    },
];

/// Whether an option was given explicitly.
fn given(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

fn runs(matches: &ArgMatches, optimizer: &str) -> bool {
    matches.get_many::<String>("optimizers").is_some_and(|mut all| all.any(|name| name == optimizer))
}

fn by_reference(matches: &ArgMatches) -> bool {
    matches.get_one("engine") == Some(&Engine::Reference)
}

/// Reports options that have no effect.
///
/// # Errors
/// [`Error::Arguments`] if something asked for would be missing.
pub(super) fn tell(matches: &ArgMatches) -> Result<()> {
    for (refused, flag, because) in found(matches) {
        if refused {
            return Err(Error::argument(flag, because));
        }
        errln!("note: {flag} {because}");
    }
    Ok(())
}

/// The findings: whether each is a refusal, the flag, and the reason.
fn found(matches: &ArgMatches) -> Vec<(bool, String, &'static str)> {
    let Some((command, matches)) = matches.subcommand() else { return Vec::new() };
    let mut found = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.commands.contains(&command)) {
        for id in rule.options.iter().filter(|id| given(matches, id) && (rule.idle)(matches)) {
            found.push((rule.refused, format!("--{}", flag(command, id)), rule.because));
        }
    }
    found
}

/// An option as it is typed.
fn flag(command: &str, id: &str) -> String {
    let whole = Cli::command();
    let argument = whole.find_subcommand(command).and_then(|c| c.get_arguments().find(|a| a.get_id() == id));
    argument.and_then(|a| a.get_long()).unwrap_or(id).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Vec<(bool, String, &'static str)> {
        let words = std::iter::once("kernelview").chain(line.split_whitespace());
        found(&Cli::command().try_get_matches_from(words).unwrap_or_else(|e| panic!("{line}: {e}")))
    }

    /// A line on which each option of each rule has nothing to do, and one that differs in what it needs. A rule that is added
    /// without such a line is noticed.
    #[test]
    fn every_idle_option_is_told() {
        let lines = [
            ("analyze --ignore x --strict --markdown m --junit j --github", "--baseline b"),
            ("verify --ignore x --strict --markdown m --junit j --github", "--baseline b"),
            ("analyze --baseline b --seed 1 --write-baseline --baseline-seeds 1,2", "--baseline-seeds=3"),
            ("verify --baseline b --seed 1 --write-baseline --baseline-seeds 1,2", "--baseline-seeds=3"),
            ("analyze --lr-sgd 1 --lr-signgd 1 --lr-adam 1 --optimizers=", "--optimizers=sgd,signgd,adam"),
            (
                "reproduce --models m --data-dir d --lr-sgd 1 --lr-signgd 1 --lr-adam 1 --optimizers=",
                "--optimizers=sgd,signgd,adam",
            ),
            (
                "analyze --train-batch-size 1 --steps 1 --eval-every 1 --measures full --measure-steps 3 --probes 4 --train-precision bf16 --optimizers=",
                "--optimizers=adam",
            ),
            (
                "reproduce --models m --data-dir d --train-batch-size 1 --steps 1 --eval-every 1 --measures full \
                 --measure-steps 3 --probes 4 --train-precision bf16 --optimizers=",
                "--optimizers=sgd",
            ),
            ("analyze --measures end --measure-steps 3 --probes 4", "--measures full"),
            ("reproduce --models m --data-dir d --measure-steps 3 --probes 4", "--measures=full"),
            ("kernel --out K --engine reference --precision bf16 --batch 1 --memory 1GB", "--engine=structured"),
            ("kernel --plan --engine reference", "--engine=structured"),
            ("kernel --out K --shares --formula signgd", "--formula=sgd"),
            ("kernel --out K --model m --seed 1", "--test-limit 9"),
            ("lora --adapter a --draws 1 --distance 0.1 --confidence 0.9", "--intrinsic 4"),
            ("lora --adapter a --ranks 1 --targets q --init gaussian --alpha 1 --rslora", ""),
            ("verify --claim chi-law --suite all", ""),
            ("analyze --columns text=a,label=b", "--data f"),
            ("kernel --out K --columns text=a,label=b", "--data f"),
            ("lora --columns text=a,label=b", "--data f"),
            ("natural --columns text=a,label=b", "--data f"),
            ("sketch --out S --columns text=a,label=b", "--data f"),
            ("solve --train a --dev b --test c --task t", ""),
        ];
        let mut left: Vec<(&str, &str)> = RULES
            .iter()
            .flat_map(|rule| rule.commands.iter().flat_map(|c| rule.options.iter().map(move |option| (*c, *option))))
            .collect();
        for (line, needed) in lines {
            let told = said(line);
            assert!(!told.is_empty(), "{line}");
            let command = line.split_whitespace().next().expect("a command");
            left.retain(|(c, id)| {
                *c != command || !told.iter().any(|(_, told, _)| *told == format!("--{}", flag(c, id)))
            });
            if !needed.is_empty() {
                // The last of two values counts.
                let name = needed.split(['=', ' ']).next().expect("a flag");
                let kept: Vec<&str> = line.split_whitespace().collect();
                let at = kept.iter().position(|w| w.split('=').next() == Some(name));
                let value = usize::from(at.is_some_and(|i| !kept[i].contains('=')));
                let other: Vec<&str> = match at {
                    Some(i) => [&kept[..i], &kept[i + 1 + value..]].concat(),
                    None => kept,
                };
                let changed = said(&format!("{} {needed}", other.join(" ")));
                assert!(changed.is_empty(), "{line} {needed}: {changed:?}");
            }
        }
        assert!(left.is_empty(), "not on any line: {left:?}");
        assert!(said("tasks").is_empty());
    }

    /// The precision that must be set before libtorch is used, whichever command it is given to.
    #[test]
    fn every_command_with_a_precision_hears_tf32() {
        let whole = Cli::command();
        let with: Vec<&str> = whole
            .get_subcommands()
            .filter(|c| c.get_arguments().any(|a| a.get_id() == "precision"))
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(with, ["analyze", "kernel", "sketch", "reproduce", "lora"]);
        for command in with {
            let needed = match command {
                "kernel" | "sketch" => "--out K",
                "reproduce" => "--models m --data-dir d",
                _ => "",
            };
            let heard = |precision: &str| {
                let line = format!("kernelview {command} {needed} --precision {precision}");
                let matches = Cli::command().try_get_matches_from(line.split_whitespace());
                super::super::asks_for_tf32(&matches.unwrap_or_else(|e| panic!("{line}: {e}")))
            };
            assert!(heard("tf32") && !heard("f32"), "{command}");
        }
    }
}
