//! The commands and their help texts.

use clap::{CommandFactory, Parser, Subcommand};

use super::analyze::AnalyzeArgs;
use super::claims::ClaimsArgs;
use super::cloze::ClozeArgs;
use super::gate::CompareArgs;
use super::kernel::KernelArgs;
use super::lora::LoraArgs;
use super::natural::NaturalArgs;
use super::numbers::with_numbers;
use super::pretrain::PretrainArgs;
use super::reproduce::ReproduceArgs;
use super::shards::{MergeArgs, SubmitArgs};
use super::sketch::{SketchArgs, SketchKernelArgs};
use super::solve::{ConvertArgs, SolveArgs};
use super::verify::VerifyArgs;

/// Is this fine-tuning in the kernel regime? Empirical kernels of language models, after Malladi et al. (ICML 2023).
#[derive(Parser)]
#[command(
    name = "kernelview",
    version,
    arg_required_else_help = true,
    after_help = "Every command has help with examples: kernelview analyze --help\n\nExit status: 0 success; 1 the \
                  computation or a claim failed, or a metric moved; 2 bad input or settings; 130 interrupted; 70 a \
                  bug in this program."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// The commands as they are parsed.
pub(super) fn commands() -> clap::Command {
    with_numbers(Cli::command())
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Report on one model and task: kernels, kernel regression, fine-tuning and all measures
    ///
    /// Computes the empirical kernels of the pre-trained model on a prompted few-shot task, solves the task by kernel
    /// regression, fine-tunes with the corresponding optimizers, and measures how far fine-tuning is from its kernel: output
    /// derivative, linearization, gradient and kernel drift. Writes report.md, report.json, plots and kernels to --out-dir.
    /// Repeat the command to continue an interrupted run.
    ///
    /// Without arguments: the built-in model `prose-128` on the built-in task `cloze-was-were`.
    #[command(
        after_help = "Examples:\n  kernelview analyze\n  kernelview analyze --model M --data-dir DATA/k-shot-1k-test --task SST-2 --k 16 --out-dir sst2\n  kernelview analyze --model roberta-base/ --data mine.csv \\\n    --template '*cls**sent_0*_It_was*mask*.*sep+*' --label-words bad,good"
    )]
    Analyze(Box<AnalyzeArgs>),
    /// Kernel matrices of one model and task, as a safetensors file
    ///
    /// Writes kernel.sgd, kernel.asymmetric and kernel.signgd as [N, C, M, C] in double precision (row example, row output,
    /// column example, column output; the asymmetric kernel has plain gradients on its rows and signs on its columns),
    /// logits, labels, and metadata: the file and line of each example, the SHA-256 of its texts, and everything else that
    /// the kernel depends on. `docs/kernel-file.md` documents every field.
    #[command(
        after_help = "Examples:\n  kernelview kernel --formula sgd --out K.safetensors\n  kernelview kernel --model M --data-dir DATA --task RTE --formula sgd --out train_kernels_rte.pt\n  kernelview kernel --model M --data-dir DATA --task RTE --dtype f64 --out K.safetensors\n  kernelview kernel --model M --data-dir DATA --task RTE --against test --memory 6GB --plan\n  kernelview kernel --model M --data rows.tsv --out K.safetensors \\\n    --template '*cls**sent_0*_It_was*mask*.*sep+*' --label-words a,b\n  kernelview kernel --model M --data rows.tsv --all-rows --task SST-2 --out K.safetensors"
    )]
    Kernel(Box<KernelArgs>),
    /// Kernel regression on kernels given as files, this program's or the paper's
    ///
    /// Solves the task with the kernels in --train (training examples with themselves), --dev and --test (training examples
    /// against those sets), using every solver of `kernelview analyze` with settings chosen on dev, and prints the
    /// accuracies. A file ending in .pt is read in the format of the paper's program: a `torch.save`d tuple of the kernel,
    /// [N, C, M, C] (asymmetric: [2, N, C, M, C]), and targets; nothing in it is executed. The network's logits are used if
    /// the paper's files of them (train_logits_TASK.pt) are in the same directory.
    #[command(
        after_help = "Examples:\n  kernelview solve --kernels result/SST-2-roberta-base/16-13\n  kernelview solve --train train.safetensors --dev dev.safetensors --test test.safetensors \\\n    --json solved.json\n  kernelview solve --kernels result/all --task rte --formula signgd"
    )]
    Solve(SolveArgs),
    /// Convert a kernel file to or from the format of the paper's program
    ///
    /// The file extensions decide: .safetensors for this program's files, .pt for the paper's, which hold one kernel and the
    /// targets of its columns. If a name contains `_kernels_`, logits are read from or written to the same name with
    /// `_logits_`.
    #[command(
        after_help = "Examples:\n  kernelview convert train_kernels_sst-2.pt train.safetensors --formula signgd\n  kernelview convert K.safetensors train_kernels_sst-2.pt --formula sgd"
    )]
    Convert(ConvertArgs),
    /// Join the shards of `kernel --shard` into one kernel file
    ///
    /// Checks that all blocks exist and belong to the same run, names unfinished shards, and fills the lower triangle of a
    /// symmetric kernel. The result equals that of `kernel --block` with the same block size and number of threads, bit for
    /// bit.
    #[command(after_help = "Examples:\n  kernelview merge K.safetensors.shards --out K.safetensors")]
    Merge(MergeArgs),
    /// Write scripts that run a sharded kernel or grid under Slurm: a job array of shards, then a merge
    ///
    /// The command behind -- is parsed as its jobs will parse it: arguments that they would be refused for are refused at once.
    #[command(
        after_help = "Examples:\n  kernelview submit --slurm --shards 16 --option=--time=02:00:00 --option=--gpus=1 -- \\\n    kernel --model roberta-base/ --data-dir DATA --task MNLI --against test --out K.safetensors\n  \
                      kernelview submit --slurm --shards 8 -- reproduce \\\n    --models roberta-base/ --data-dir DATA --tasks all"
    )]
    Submit(SubmitArgs),
    /// Sketch the gradients of very many examples: a fixed number of entries each
    ///
    /// For more examples than the exact kernel can handle: time grows with the number of examples, not its square. Each
    /// gradient is added up into --size numbers with random signs (a count sketch), from which `sketch-kernel` computes SGD
    /// kernels. Entries are unbiased, with a root mean square error of at most sqrt((K_ii K_jj + K_ij^2) / size), that is 3%
    /// to 4% of sqrt(K_ii K_jj) at 1024. The error is also measured on a few examples. Repeat the command to continue an
    /// interrupted run. `docs/sketch.md` has the mathematics and the layout of the directory.
    #[command(
        after_help = "Examples:\n  kernelview sketch --out train.sketch\n  kernelview sketch --model M --data-dir DATA --task SST-2 --k 512 --split train --out train.sketch\n  kernelview sketch --model M --data-dir DATA --task SST-2 --k 512 --split test --out test.sketch\n  kernelview sketch --data rows.tsv --all-rows --size 4096 --shard 0/4 --out rows.sketch \\\n    --template '*cls**sent_0*_It_was*mask*.*sep+*' --label-words a,b\n  kernelview sketch-kernel train.sketch --against test.sketch --out K.safetensors"
    )]
    Sketch(Box<SketchArgs>),
    /// Compute an SGD kernel from sketches, as a kernel file for `solve`
    ///
    /// The kernel of one sketch's examples with themselves, or between two sketches of the same network, prompt, size and
    /// sketch seed. The file's metadata records the sketch's size, seed, error bound and measured error.
    #[command(
        after_help = "Examples:\n  kernelview sketch-kernel train.sketch --out train.safetensors\n  kernelview sketch-kernel train.sketch --against dev.sketch --out dev.safetensors\n  kernelview sketch-kernel rows.sketch --first 5000 --out K.safetensors"
    )]
    SketchKernel(SketchKernelArgs),
    /// List the built-in tasks with their templates and label words
    ///
    /// One task per line: name, template in LM-BFF's language, label=word. Give the name with --task; --template and
    /// --label-words override the other two.
    #[command(
        after_help = "Examples:\n  kernelview tasks\n  kernelview analyze --model M --data-dir DATA --task RTE\n  kernelview analyze --task cloze-he-she"
    )]
    Tasks,
    /// Make a cloze task from any text: sentences with one word left out, and the candidate words
    ///
    /// Takes sentences that contain exactly one of the words, exactly once, and writes equally many for each word as a TSV
    /// with the columns text (what precedes the word), text2 (what follows it) and label (the word). Prints the command that
    /// analyzes it. Even a small masked language model can solve such a task if it knows the text's language.
    ///
    /// The text is UTF-8, plain or gzip, with one paragraph per line: sentences do not cross lines.
    #[command(
        after_help = "Examples:\n  kernelview cloze --text novel.txt --words he,she --out he-she.tsv\n  kernelview cloze --text books.txt.gz --words was,were --limit 500 --seed 7 --out was-were.tsv\n  kernelview cloze --text novel.txt --words in,on,at --min-words 8 --max-words 20 --out in-on-at.tsv\n  kernelview analyze --data he-she.tsv \\\n    --template '*cls**sent_0**mask**sent_1**sep+*' --label-words he=he,she=she"
    )]
    Cloze(ClozeArgs),
    /// Check the theory: measure every claim of the paper and its foundations, with controls that must fail
    ///
    /// Each claim (`kernelview claims` lists them) predicts numbers, such as the slope of an error in width. They are
    /// measured on networks drawn from --seed and compared through confidence intervals; the same check is also made where
    /// it must fail, to show that it can. Writes report.md, report.json, junit.xml and plots to --out-dir. Repeat the
    /// command to continue an interrupted run.
    ///
    /// A mutant is a deliberately wrong implementation or formula that its claim must notice; with mutants, mutants.md
    /// is written too.
    ///
    /// Needs no model and no data. Exit status: 0 no claim is violated, no control passes, no mutant survives and every
    /// experiment finished; 1 otherwise; 2 bad settings; 130 interrupted.
    #[command(
        after_help = "Examples:\n  kernelview verify\n  kernelview verify --mutants --jobs 4\n  kernelview verify --claim sign-kernel-limit,chi-law --seed 7 --out-dir two-claims\n  kernelview verify --profile standard --no-mutants\n  kernelview verify --suite family\n  kernelview verify --profile full"
    )]
    Verify(Box<VerifyArgs>),
    /// Test whether a task is natural for a family of models: the output derivative χ over widths, without training
    ///
    /// The paper's cheap test: over pre-trained models that differ only in width, |χ| = 1 - p(y) must fall on the downstream
    /// examples. Measured on all examples, next to three controls for which it must not fall: permuted labels, unrelated
    /// label words, and a random head without a prompt. Writes report.md, report.json and a plot to --out-dir.
    #[command(
        after_help = "Examples:\n  kernelview natural --models family/prose-64 family/prose-128 family/prose-256 --task cloze-he-she\n  kernelview natural --models A B --data-dir DATA --task SST-2 --max-length 64 --first-limit 50\n  kernelview natural --models A B C --data he-she.tsv --k 16 \\\n    --template '*cls**sent_0**mask**sent_1**sep+*' --label-words he=he,she=she"
    )]
    Natural(Box<NaturalArgs>),
    /// Pre-train a family of masked language models that differ only in width, in muP
    ///
    /// The recipe (TOML) fixes everything that the weights depend on: text, vocabulary, sizes, schedule, seed. Writes a
    /// Hugging Face checkpoint per width to --out-dir/NAME-WIDTH, and a report with learning curves. The tokenizer is
    /// trained on the text. Repeat the command to continue a killed run from its last saved state; on a CPU with the same
    /// number of threads the weights are the same bit for bit.
    #[command(
        after_help = "Examples:\n  kernelview pretrain --config fixtures/family/recipe.toml --corpus-dir BOOKS --out-dir family\n  kernelview pretrain --config my.toml --width 64\n  kernelview pretrain --config my.toml --check coordinates,learning-rates --no-training\n  kernelview pretrain --config my.toml --width 512,1024 --device cuda:0"
    )]
    Pretrain(Box<PretrainArgs>),
    /// Repeat the paper's study: kernels and fine-tuning of models on its tasks over seeds, in the paper's tables
    ///
    /// Every cell of models x tasks x k x seeds x heads is an analysis, stored under the digest of its inputs when finished.
    /// Repeat the command to continue a killed run; a failed cell does not stop the others. Writes report.md, report.json,
    /// results.csv and a plot to --out-dir, and each cell's own report under cells/.
    ///
    /// Exit status: 0 all cells finished; 1 a cell failed; 2 bad settings; 130 interrupted.
    #[command(
        after_help = "Examples:\n  kernelview reproduce --models roberta-base/ --data-dir DATA/k-shot-1k-test --k 16,64\n  kernelview reproduce --models smollm2-135m --data-dir DATA --tasks SST-2,mr --seeds 13 --dry-run\n  kernelview reproduce --models prose-64 prose-256 --data-dir DATA --heads prompt,linear-probe \\\n    --max-length 64 --first-limit 50"
    )]
    Reproduce(Box<ReproduceArgs>),
    /// Compare two runs: baselines or report.json of `analyze` or `verify`
    ///
    /// Flattens both sides into named metrics and compares each by its own rule: names and digests must be equal; what
    /// weights and prompts determine may differ by rounding; what is random may differ by its spread over the old side's
    /// seeds. Prints the metrics that moved, appeared or vanished.
    ///
    /// Exit status: 0 nothing moved; 1 something moved; 2 the two cannot be compared.
    #[command(
        after_help = "Examples:\n  kernelview compare old/report.json new/report.json\n  kernelview compare baseline.json kernelview-report/report.json --markdown moved.md\n  kernelview compare baseline.json new-baseline.json --ignore model.digest,plan.*"
    )]
    Compare(CompareArgs),
    /// Find the LoRA rank that preserves the kernel: distance of adapter kernels to the full one over ranks
    ///
    /// Measures the SGD kernel of LoRA adapters at initialization (or of a PEFT adapter) on the training examples: the share
    /// of the full kernel that the adapted weights cover, layer by layer; the adapters' distance to it over ranks and draws;
    /// and the rank needed for a given distance, measured and proved. In the kernel regime this determines what LoRA can
    /// learn. Writes report.md, report.json and plots to --out-dir.
    #[command(
        after_help = "Examples:\n  kernelview lora\n  kernelview lora --data-dir DATA --task SST-2 --model roberta-base/ --ranks 1,4,16 --distance 0.2\n  kernelview lora --targets all-linear --intrinsic 64,256\n  kernelview lora --model M --data-dir DATA --task mr --adapter my-adapter/"
    )]
    Lora(Box<LoraArgs>),
    /// List the claims that `kernelview verify` examines, with their predictions and sources
    ///
    /// Give an identifier with `kernelview verify --claim`.
    #[command(
        after_help = "Examples:\n  kernelview claims\n  kernelview claims --format markdown\n  kernelview claims --format json"
    )]
    Claims(ClaimsArgs),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails for: an example that the widest help folds, so that a shell would see two commands.
    #[test]
    fn examples_are_as_wide_as_help_at_most() {
        for command in commands().get_subcommands() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in after.lines().filter(|line| line.starts_with("  ")) {
                assert!(line.chars().count() <= 100, "{}: {line}", command.get_name());
            }
        }
    }
}
