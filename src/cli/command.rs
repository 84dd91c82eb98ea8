//! The commands, with the help text that teaches them.

use clap::{Parser, Subcommand};

use super::analyze::AnalyzeArgs;
use super::claims::ClaimsArgs;
use super::cloze::ClozeArgs;
use super::gate::CompareArgs;
use super::kernel::KernelArgs;
use super::lora::LoraArgs;
use super::natural::NaturalArgs;
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
    after_help = "Every command explains itself, with examples: kernelview analyze --help\n\nExit status: 0 done, 1 the computation or a claim failed or something moved, 2 bad input or settings, 130 interrupted, 70 a defect of this program."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Kernels, kernel regression, fine-tuning and all measures of one model on one task, as a report
    ///
    /// Computes the empirical kernels of the pre-trained model on a prompted few-shot task, solves the task by kernel
    /// regression, fine-tunes with the optimizers that the kernels are analogs of, and measures how far fine-tuning is
    /// from its kernel: output derivative, linearization, gradient and kernel drift. Writes report.md, report.json,
    /// plots and kernels to --out-dir. An interrupted run continues where it was when the same command is given again.
    ///
    /// Without arguments: the pre-trained network `prose-128` that comes with the sources, on the built-in task
    /// `cloze-was-were`.
    #[command(
        after_help = "Examples:\n  kernelview analyze\n  kernelview analyze --data-dir DATA/k-shot-1k-test --task SST-2 --k 16 --seed 13 --out-dir sst2\n  kernelview analyze --model roberta-base/ --data mine.csv \\\n    --template '*cls**sent_0*_It_was*mask*.*sep+*' --label-words bad,good"
    )]
    Analyze(Box<AnalyzeArgs>),
    /// Kernel matrices of one model on one task, as a safetensors file
    ///
    /// Writes kernel.sgd, kernel.asymmetric and kernel.signgd as [N, C, M, C] in double precision (row example, row
    /// output, column example, column output; the asymmetric kernel has plain gradients on its rows and signs on its
    /// columns), logits, labels, and metadata: which row of which file each example is, by line number and by the SHA-256 of
    /// its texts, and everything that the kernel depends on. `docs/kernel-file.md` says what every field means.
    #[command(
        after_help = "Examples:\n  kernelview kernel --formula sgd --out K.safetensors\n  kernelview kernel --data-dir DATA --task RTE --formula sgd --out train_kernels_rte.pt\n  kernelview kernel --data-dir DATA --task RTE --against test --dtype f64 --out RTE.safetensors\n  kernelview kernel --data-dir DATA --task RTE --against test --memory 6GB --plan\n  kernelview kernel --model M --data rows.tsv --out K.safetensors \\\n    --template '*cls**sent_0*_It_was*mask*.*sep+*' --label-words a,b\n  kernelview kernel --model M --data rows.tsv --all-rows --task SST-2 --out K.safetensors"
    )]
    Kernel(Box<KernelArgs>),
    /// Kernel regression on kernels given as files, this program's or the paper's
    ///
    /// Solves the task whose kernels --train (training examples with themselves), --dev and --test (against those sets)
    /// hold, with every solver of `kernelview analyze`, its settings chosen on dev, and prints the accuracies. A file ending
    /// in .pt is read as the paper's program writes it: a `torch.save`d tuple of the kernel, [N, C, M, C] (asymmetric:
    /// [2, N, C, M, C]), and targets; nothing in it is executed. The network's logits are used where files of the paper's
    /// names (train_logits_TASK.pt) lie beside.
    #[command(
        after_help = "Examples:\n  kernelview solve --kernels result/SST-2-roberta-base/16-13\n  kernelview solve --train train.safetensors --dev dev.safetensors --test test.safetensors \\\n    --json solved.json\n  kernelview solve --kernels result/all --task rte --formula signgd"
    )]
    Solve(SolveArgs),
    /// Convert a kernel file to or from the format of the paper's program
    ///
    /// The names' endings say which: .safetensors for this program's files, .pt for the paper's, which hold one kernel and
    /// the targets of its columns. Where a name has `_kernels_`, the logits go to or come from the same name with
    /// `_logits_`.
    #[command(
        after_help = "Examples:\n  kernelview convert train_kernels_sst-2.pt train.safetensors --formula signgd\n  kernelview convert K.safetensors train_kernels_sst-2.pt --formula sgd"
    )]
    Convert(ConvertArgs),
    /// Join the shards of `kernel --shard` into one kernel file
    ///
    /// Checks that every block is there and of the same run, names the shards that are unfinished, and fills the lower
    /// triangle of a symmetric kernel. The file is the one that `kernel --block` writes with the same block size and number of
    /// threads, bit for bit.
    #[command(after_help = "Examples:\n  kernelview merge K.safetensors.shards --out K.safetensors")]
    Merge(MergeArgs),
    /// Scripts that submit a sharded kernel or grid to Slurm: an array of shards, and a merge that waits for it
    #[command(
        after_help = "Examples:\n  kernelview submit --slurm --shards 16 --option=--time=02:00:00 --option=--gpus=1 -- \\\n    kernel --model roberta-base/ --data-dir DATA --task MNLI --against test --out K.safetensors\n  \
                      kernelview submit --slurm --shards 8 -- reproduce \\\n    --models roberta-base/ --data-dir DATA --tasks all"
    )]
    Submit(SubmitArgs),
    /// Gradients of very many examples, folded to a fixed number of entries each, as a directory
    ///
    /// For kernels of examples that are too many for the exact kernel: the time grows with the number of examples, not with
    /// its square. Each gradient is added into --size numbers with random signs, from which `sketch-kernel` makes SGD kernels.
    /// An entry is right on average, and off by at most sqrt((K_ii K_jj + K_ij^2) / size) in the root mean square: 3% to 4% of
    /// sqrt(K_ii K_jj) at 1024. The error is also measured on a few examples. An interrupted run continues where it was when
    /// the same command is given again. `docs/sketch.md` has the mathematics and the layout.
    #[command(
        after_help = "Examples:\n  kernelview sketch --out train.sketch\n  kernelview sketch --data-dir DATA --task SST-2 --k 512 --split train --out train.sketch\n  kernelview sketch --data-dir DATA --task SST-2 --k 512 --split test --out test.sketch\n  kernelview sketch --data rows.tsv --all-rows --size 4096 --shard 0/4 --out rows.sketch \\\n    --template '*cls**sent_0*_It_was*mask*.*sep+*' --label-words a,b\n  kernelview sketch-kernel train.sketch --against test.sketch --out K.safetensors"
    )]
    Sketch(Box<SketchArgs>),
    /// SGD kernel from sketches, as a kernel file that `solve` reads
    ///
    /// The kernel of one sketch's examples with themselves, or of two sketches of the same network, prompt, size and sketch
    /// seed. The file's metadata has size, seed, bound and measured error of the sketch.
    #[command(
        after_help = "Examples:\n  kernelview sketch-kernel train.sketch --out train.safetensors\n  kernelview sketch-kernel train.sketch --against dev.sketch --out dev.safetensors\n  kernelview sketch-kernel rows.sketch --first 5000 --out K.safetensors"
    )]
    SketchKernel(SketchKernelArgs),
    /// The built-in tasks with their templates and label words
    ///
    /// One task a line: name, template in LM-BFF's language, label=word. The name goes with --task; --template and
    /// --label-words replace the other two.
    #[command(
        after_help = "Examples:\n  kernelview tasks\n  kernelview analyze --data-dir DATA --task RTE\n  kernelview analyze --task cloze-he-she"
    )]
    Tasks,
    /// A task from any text: sentences with one word left out, and the words that could stand there
    ///
    /// Takes sentences of the text that have exactly one of the words, once, and writes the same number for each word as
    /// a TSV with the columns text (what stands before the word), text2 (what follows it) and label (the word). Prints
    /// the command that analyzes it. A masked language model can do such a task if it knows the text's language, however
    /// small it is.
    ///
    /// The text is UTF-8, plain or gzip, with a paragraph a line: sentences do not go on from one line to the next.
    #[command(
        after_help = "Examples:\n  kernelview cloze --text novel.txt --words he,she --out he-she.tsv\n  kernelview cloze --text books.txt.gz --words was,were --limit 500 --seed 7 --out was-were.tsv\n  kernelview cloze --text novel.txt --words in,on,at --min-words 8 --max-words 20 --out in-on-at.tsv\n  kernelview analyze --data he-she.tsv \\\n    --template '*cls**sent_0**mask**sent_1**sep+*' --label-words he=he,she=she"
    )]
    Cloze(ClozeArgs),
    /// Check the theory: every claim of the paper and of what it rests on, measured, with controls that must fail
    ///
    /// Each claim (`kernelview claims` lists them) predicts numbers, such as the slope of an error in width. They are
    /// measured on networks drawn from --seed and compared through confidence intervals; the same check is made where
    /// it must fail, so that a check that cannot fail shows. Writes report.md, report.json, junit.xml and plots to
    /// --out-dir. An interrupted run continues where it was when the same command is given again.
    ///
    /// A mutant is a deliberately wrong implementation or formula that its claim must notice; with mutants, mutants.md
    /// is written too.
    ///
    /// Needs no model and no data. Exit status: 0 no claim is violated, no control passes, no mutant survives and every
    /// experiment came to its end; 1 otherwise; 2 bad settings; 130 interrupted.
    #[command(
        after_help = "Examples:\n  kernelview verify\n  kernelview verify --mutants --jobs 4\n  kernelview verify --claim sign-kernel-limit,chi-law --seed 7 --out-dir two-claims\n  kernelview verify --profile standard --no-mutants\n  kernelview verify --suite family\n  kernelview verify --profile full --device cuda:0"
    )]
    Verify(Box<VerifyArgs>),
    /// Whether a task is natural for a family of models: the output derivative χ over widths, no update made
    ///
    /// The paper's cheap test: over pre-trained models of one scheme that differ only in width, |χ| = 1 - p(y) must fall on
    /// the downstream examples. Measured on all examples beside three controls that must not fall: permuted labels,
    /// unrelated label words, and a random head without a prompt. Writes report.md, report.json and a plot to --out-dir.
    #[command(
        after_help = "Examples:\n  kernelview natural --models family/prose-64 family/prose-128 family/prose-256 --task cloze-he-she\n  kernelview natural --models A B --data-dir DATA/k-shot-1k-test --task SST-2 --max-length 64 --first-limit 50\n  kernelview natural --models A B C --data he-she.tsv --k 16 \\\n    --template '*cls**sent_0**mask**sent_1**sep+*' --label-words he=he,she=she"
    )]
    Natural(Box<NaturalArgs>),
    /// Pre-train a family of masked language models that differ only in width, in muP
    ///
    /// The recipe (TOML) says everything that the weights depend on: text, vocabulary, sizes, schedule, seed. For every
    /// width a checkpoint in Hugging Face's layout is written to --out-dir/NAME-WIDTH, and a report with learning curves.
    /// The tokenizer is trained on the text. A run that was killed goes on from its last saved state when the same command
    /// is given again, with the same weights bit for bit on a CPU with as many threads.
    #[command(
        after_help = "Examples:\n  kernelview pretrain --config fixtures/family/recipe.toml --corpus-dir BOOKS --out-dir family\n  kernelview pretrain --config my.toml --width 64\n  kernelview pretrain --config my.toml --check coordinates,learning-rates --no-training\n  kernelview pretrain --config my.toml --width 512,1024 --device cuda:0"
    )]
    Pretrain(Box<PretrainArgs>),
    /// The paper's study: kernels and fine-tuning of models on its tasks, over seeds, as tables in the paper's shape
    ///
    /// Every cell of models x tasks x k x seeds x heads is an analysis, stored when it is finished under the digest of its
    /// inputs: a killed run goes on when the same command is given again, and a failed cell does not stop the others.
    /// Writes report.md, report.json, results.csv and a plot to --out-dir, and every cell's own report below cells/.
    ///
    /// Exit status: 0 all cells are there, 1 a cell failed, 2 bad settings, 130 interrupted.
    #[command(
        after_help = "Examples:\n  kernelview reproduce --models roberta-base/ --data-dir DATA/k-shot-1k-test --k 16,64\n  kernelview reproduce --models smollm2-135m --data-dir DATA --tasks SST-2,mr --seeds 13,21 --dry-run\n  kernelview reproduce --models prose-64 prose-256 --data-dir DATA --heads prompt,random,linear-probe \\\n    --max-length 64 --first-limit 50"
    )]
    Reproduce(Box<ReproduceArgs>),
    /// What moved between two runs: baselines or report.json of `analyze` or `verify`
    ///
    /// Flattens both sides into named metrics and compares each by its own rule: names and digests must be equal, what
    /// weights and prompts determine may differ by rounding, what is random may differ by its spread over the seeds of the
    /// old side. Prints what moved, appeared or vanished.
    ///
    /// Exit status: 0 nothing moved, 1 something did, 2 the two cannot be compared.
    #[command(
        after_help = "Examples:\n  kernelview compare old/report.json new/report.json\n  kernelview compare baseline.json kernelview-report/report.json --markdown moved.md\n  kernelview compare baseline.json new-baseline.json --ignore model.digest,plan.*"
    )]
    Compare(CompareArgs),
    /// Which rank of LoRA keeps the kernel: distance of the adapters' kernel to the full one over ranks
    ///
    /// Measures the SGD kernel of LoRA adapters at initialization (or of a PEFT adapter) on the training examples: what share
    /// of the full kernel the adapted weights cover, layer by layer; how near the adapters come over ranks and draws; the
    /// rank that an asked distance needs, measured and proved. In the kernel regime that is what LoRA can learn. Writes
    /// report.md, report.json and plots to --out-dir.
    #[command(
        after_help = "Examples:\n  kernelview lora\n  kernelview lora --data-dir DATA --task SST-2 --model roberta-base/ --ranks 1,4,16,64 --distance 0.2\n  kernelview lora --targets all-linear --intrinsic 64,256\n  kernelview lora --model M --data-dir DATA --task mr --adapter my-adapter/"
    )]
    Lora(Box<LoraArgs>),
    /// The claims that `kernelview verify` examines, with their predictions and sources
    ///
    /// The identifier goes with `kernelview verify --claim`.
    #[command(
        after_help = "Examples:\n  kernelview claims\n  kernelview claims --format markdown\n  kernelview claims --format json"
    )]
    Claims(ClaimsArgs),
}
