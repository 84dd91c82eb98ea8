//! Users' mistakes, as runs of the real program: exit status 2, the full reason on stderr, nothing on stdout, and no file
//! created or changed.

mod tasks;

use std::fs;
#[cfg(unix)]
use std::process::Command;

use crate::common::command::Scratch;
use crate::common::fixture::{tiny_checkpoint, tokenizer_json};
use kernelview::lm::Architecture;

const TEMPLATE: &str = "*cls**sent_0*_It_was*mask*.*sep+*";

/// Fails unless the run is refused with this message and leaves everything as it was.
fn refused(scratch: &Scratch, arguments: &[&str], message: &str) {
    let before = scratch.contents();
    let answer = scratch.run(arguments);
    let about = arguments.join(" ");
    assert_eq!(answer.stderr, format!("error: {message}\n"), "{about}");
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(2), ""), "{about}");
    let after = scratch.contents();
    assert!(before == after, "{about}: {:?}, now {:?}", before.keys(), after.keys());
}

/// The same for `kernel --model model --out old.safetensors ARGUMENTS`, whose output file exists already.
fn kernel_refused(scratch: &Scratch, arguments: &[&str], message: &str) {
    scratch.write("old.safetensors", "an older kernel");
    let kernel = ["kernel", "--model", "model", "--out", "old.safetensors"];
    refused(scratch, &[&kernel, arguments].concat(), message);
}

/// The same for `analyze --model model --out-dir report ARGUMENTS`.
fn analyze_refused(scratch: &Scratch, arguments: &[&str], message: &str) {
    let analyze = ["analyze", "--model", "model", "--out-dir", "report"];
    refused(scratch, &[&analyze, arguments].concat(), message);
}

/// The same for a user's data file.
fn data_refused(scratch: &Scratch, content: &str, arguments: &[&str], message: &str) {
    scratch.write("rows.tsv", content);
    let own = ["--data", "rows.tsv", "--template", TEMPLATE, "--k", "1"];
    kernel_refused(scratch, &[&own, arguments].concat(), message);
}

fn vocabulary(scratch: &Scratch) -> u64 {
    let config = fs::read(scratch.path("model/config.json")).expect("config.json");
    let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
    config["vocab_size"].as_u64().expect("a number")
}

#[test]
fn adapters_that_cannot_be() {
    let scratch = Scratch::new();
    analyze_refused(&scratch, &["--lora-rank", "0"], "--lora-rank: it is 0, expected 1 or more");
    for alpha in ["nan", "0", "inf"] {
        let arguments = ["--lora-rank", "2", "--lora-alpha", alpha];
        analyze_refused(&scratch, &arguments, "--lora-alpha: it must be a positive number");
    }
    let answer = scratch.run(&["analyze", "--model", "model", "--lora-rank", "9223372036854775807"]);
    assert_eq!(answer.code, Some(2), "{}", answer.stderr);
    assert!(answer.stderr.contains("have more numbers than any memory holds"), "{}", answer.stderr);
}

#[test]
fn models_that_are_not_there() {
    let scratch = Scratch::new();
    let kernel = |model: &str, message: &str| {
        refused(&scratch, &["kernel", "--model", model, "--out", "K.safetensors"], message);
    };
    kernel(
        "no/such/model",
        "no/such/model: not a model directory (it does not exist); expected a directory with config.json, weights and \
         tokenizer.json",
    );
    // With the feature `hub` these are names on the hub, see tests/it/hub.rs.
    if !cfg!(feature = "hub") {
        let rest = "`cargo xtask model` lists and fetches models, or give the path of a Hugging Face checkpoint directory. This program was built without the feature `hub`, which finds models in the Hugging Face cache and on the hub";
        for (name, place) in [("roberta-base", " in DIR/cache/models/roberta-base"), ("org/name", "")] {
            kernel(
                name,
                &format!(
                    "--model {name}: no such directory, built-in model (in DIR/family) or fetched model{place}; {rest}"
                ),
            );
        }
    }
    kernel(
        "model/config.json",
        "model/config.json: not a model directory (it is a file); expected a directory with config.json, weights and \
         tokenizer.json",
    );
    refused(
        &scratch,
        &["natural"],
        "DIR/family: 0 pre-trained network(s) here, two widths are needed; set KERNELVIEW_FAMILY to a directory that \
         `kernelview pretrain` made",
    );
    // Not asked of the hub.
    kernel(
        "prose-64",
        "--model prose-64: a built-in model comes with the sources of this program and is not in DIR/family; set \
         KERNELVIEW_FAMILY to a copy of their directory fixtures/family",
    );
    fs::create_dir(scratch.path("empty")).expect("a directory");
    kernel(
        "empty",
        "empty: no config.json here: expected a Hugging Face checkpoint directory with config.json, weights and \
         tokenizer.json",
    );
}

/// A bad checkpoint of every kind is in `checkpoint_errors.rs`; here one of them shows that a refusal reaches the user.
#[test]
fn models_and_tokenizers_that_cannot_be_used() {
    let scratch = Scratch::new();
    let whole = fs::read(scratch.path("model/model.safetensors")).expect("weights");
    scratch.write("model/model.safetensors", &whole[..1000]);
    kernel_refused(
        &scratch,
        &[],
        "model/model.safetensors: not a complete safetensors file of 1000 bytes (invalid header length); download it \
         again",
    );
    scratch.write("model/model.safetensors", &whole);
    let tokenizer = fs::read(scratch.path("model/tokenizer.json")).expect("a tokenizer");
    fs::remove_file(scratch.path("model/tokenizer.json")).expect("a file");
    kernel_refused(
        &scratch,
        &[],
        "model: no tokenizer: no `tokenizer.json` (for a PreTrainedTokenizer); save the checkpoint with its fast tokenizer, or copy the file from the model it was trained from",
    );
    scratch.write("model/tokenizer.json", &tokenizer[..200]);
    let answer = scratch.kernel("--out K.safetensors");
    assert!(answer.stderr.starts_with("error: model/tokenizer.json: not a Hugging Face tokenizer file: "));
    assert_eq!(answer.code, Some(2));

    // A tokenizer with more tokens than the model has embeddings.
    let words: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        .map(String::from)
        .into_iter()
        .chain((0..5000).map(|i| format!("w{i}")))
        .collect();
    scratch.write("model/tokenizer.json", tokenizer_json(Architecture::Bert, &words).to_string());
    let entries = vocabulary(&scratch);
    kernel_refused(
        &scratch,
        &[],
        &format!(
            "model/tokenizer.json: the tokenizer's largest token id is 5004, but the model's vocabulary has {entries} \
             entries (vocab_size in config.json): the tokenizer does not belong to this model"
        ),
    );
    // One with as many tokens, but for another model: it lacks the task's words.
    scratch.write("model/tokenizer.json", tokenizer_json(Architecture::Bert, &words[..50]).to_string());
    kernel_refused(
        &scratch,
        &[],
        "model/tokenizer.json: label `0` of task `remarks`: the word `terrible` is not in the tokenizer's vocabulary; \
         choose another word in the label words",
    );
}

/// `analyze` chooses model and task like `kernel`, and must not create its directory before it has both.
#[test]
fn analyze_refuses_the_same() {
    let scratch = Scratch::new();
    analyze_refused(&scratch, &["--threads", "0"], "--threads is 0, expected 1 or more");
    analyze_refused(
        &scratch,
        &["--data", "rows.tsv", "--task", "SST-2"],
        "cannot read rows.tsv: No such file or directory (os error 2)",
    );
    analyze_refused(
        &scratch,
        &["--label-words", "xylo,Xylo"],
        "model/tokenizer.json: label `1` of task `remarks`: the word `Xylo` has the same tokens (`x` `##y` `##l` `##o`) as `xylo` of label `0`; choose another word in the label words",
    );
    fs::remove_file(scratch.path("model/tokenizer.json")).expect("a file");
    analyze_refused(
        &scratch,
        &[],
        "model: no tokenizer: no `tokenizer.json` (for a PreTrainedTokenizer); save the checkpoint with its fast tokenizer, or copy the file from the model it was trained from",
    );
}

#[test]
fn settings_out_of_range() {
    let scratch = Scratch::new();
    kernel_refused(&scratch, &["--threads", "0"], "--threads is 0, expected 1 or more");
    kernel_refused(&scratch, &["--batch", "0"], "--batch is 0, expected 1 or more");
    kernel_refused(
        &scratch,
        // Every thread has its own tiles.
        &["--memory", "100MB", "--threads", "1"],
        "--memory is 100 MB, expected 409 MB or more for this kernel: 401 MB for libtorch and the parameters, 1 MB for the kernel \
         matrices, 9 MB for the threads' tiles, 1 MB for the gradients of two examples and one pass",
    );
    kernel_refused(
        &scratch,
        &["--device", "cpu", "--precision", "tf32"],
        "--precision is tf32, expected f32, or bf16 to save memory: tf32 is a mode of CUDA devices",
    );
    // The machine may have a GPU or several, but not ten thousand.
    let answer = scratch.kernel("--device cuda:9999 --out K.safetensors");
    let numberless = answer.stderr.replace(|c: char| c.is_ascii_digit(), "");
    assert_eq!(
        numberless,
        "error: --device is cuda:, expected cpu, or a libtorch built with CUDA (LIBTORCH): this one finds  CUDA device(s)\n"
    );
    assert_eq!(answer.code, Some(2));
    // Refused by the parser of arguments: the wording is the parser's, the values that it offers are ours.
    for (arguments, parts) in [
        ("--device tpu", ["'tpu'", "`tpu` is not one of auto, cpu, cuda, cuda:INDEX"]),
        ("--dtype f16", ["'f16'", "[possible values: f32, f64]"]),
        ("--formula ntk", ["'ntk'", "[possible values: sgd, asymmetric, signgd]"]),
        ("--parameters head", ["'head'", "[possible values: all, no-embeddings, no-head, biases-only]"]),
        ("--data a.tsv --data-dir b", ["--data <FILE>", "cannot be used with"]),
        ("--dev-data a.tsv", ["--data <FILE>", "required"]),
        ("--learning-rate 1", ["--learning-rate", "unexpected argument"]),
        ("--seed first", ["'first'", "'--seed <SEED>'"]),
    ] {
        let answer = scratch.kernel(&format!("--out K.safetensors {arguments}"));
        assert_eq!(answer.code, Some(2), "{arguments}");
        for part in parts {
            assert!(answer.stderr.contains(part), "{arguments}: {}", answer.stderr);
        }
    }
    analyze_refused(&scratch, &["--optimizers", "adamw"], "--optimizers: `adamw` is not one of sgd, signgd, adam");
    analyze_refused(&scratch, &["--steps", "0"], "--steps is 0, expected 1 or more");
    analyze_refused(&scratch, &["--lr-sgd=-1"], "--lr-sgd is -1, expected a positive and finite number");
    assert!(!scratch.path("K.safetensors").exists());
}

#[test]
fn outputs_that_cannot_be_written() {
    let scratch = Scratch::new();
    let kernel = |out: &str, message: &str| {
        refused(&scratch, &["kernel", "--model", "model", "--out", out], message);
    };
    kernel("none/K.safetensors", "none: the directory of --out does not exist; create it first");
    kernel("model", "model: --out is a directory; give a file, e.g. K.safetensors");
    refused(
        &scratch,
        &["solve", "--train", "K", "--dev", "K", "--test", "K", "--json", "none/x.json"],
        "none: the directory of --json does not exist; create it first",
    );
    refused(
        &scratch,
        &["kernel", "--model", "model", "--shares", "--against", "test", "--out", "K.safetensors"],
        "--shares: only for the kernel of the training examples; remove --against",
    );
    scratch.write("file", "");
    refused(
        &scratch,
        &["analyze", "--model", "model", "--out-dir", "file"],
        "file: --out-dir is a file; give a new directory or that of an earlier run",
    );
}

/// A finished file would take the place of a pipe, whose reader would wait forever. Refused before anything is read.
#[test]
#[cfg(unix)]
fn outputs_that_are_pipes() {
    use std::os::unix::fs::{FileTypeExt as _, symlink};
    let scratch = Scratch::new();
    let pipe = scratch.path("pipe.safetensors");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    symlink("pipe.safetensors", scratch.path("link.safetensors")).expect("a link");
    for (line, flag, example) in [
        ("kernel --model no/such/model --out", "--out", "K.safetensors"),
        ("merge nowhere --out", "--out", "K.safetensors"),
        ("sketch-kernel nowhere --out", "--out", "K.safetensors"),
        ("convert none.pt", "OUT", "K.safetensors"),
        ("solve --train K --dev K --test K --json", "--json", "solved.json"),
        ("cloze --text none.txt --words he,she --out", "--out", "he-she.tsv"),
        ("compare old new --markdown", "--markdown", "moved.md"),
        ("compare old new --junit", "--junit", "moved.xml"),
        ("analyze --model no/such/model --write-baseline --baseline", "--baseline", "baseline.json"),
    ] {
        for name in ["pipe.safetensors", "link.safetensors"] {
            let words: Vec<&str> = line.split(' ').chain([name]).collect();
            let answer = scratch.run(&words);
            let message = format!("error: {name}: {flag} is a pipe; give a file, e.g. {example}\n");
            assert_eq!((answer.code, answer.stderr), (Some(2), message), "{line}");
        }
    }
    let kind = fs::symlink_metadata(&pipe).expect("the pipe").file_type();
    assert!(kind.is_fifo() && scratch.path("link.safetensors").is_symlink());
    assert_eq!(fs::read_dir(scratch.path("")).expect("a directory").count(), 3, "the model, the pipe and the link");
}

/// Nobody, not even root, may create a file in /proc: the refusal must come before the computation, and even before the model
/// is looked for.
#[test]
#[cfg(target_os = "linux")]
fn an_unwritable_directory_is_found_before_the_computation() {
    let scratch = Scratch::new();
    let answer = scratch.run(&["kernel", "--model", "no/such/model", "--out", "/proc/K.safetensors"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.starts_with("error: cannot write /proc/K.safetensors: "), "{}", answer.stderr);
}

/// A RoBERTa checkpoint through the whole program, and a limit of its own: its position table.
#[test]
fn prompts_longer_than_the_position_table() {
    let scratch = Scratch::new();
    tiny_checkpoint(&scratch.path("roberta"), Architecture::Roberta, 2);
    let rows: Vec<String> = (0..5).map(|i| format!("{}\t{}\n", "it was ".repeat(70), i % 2)).collect();
    scratch.write("rows.tsv", format!("text\tlabel\n{}", rows.concat()));
    let arguments =
        ["kernel", "--model", "roberta", "--data", "rows.tsv", "--task", "SST-2", "--k", "1", "--out", "K.safetensors"];
    let with = |limits: &[&'static str]| [&arguments[..], limits].concat();
    let beyond = "rows.tsv, row 4: the mask would be token 144, but the model has only 134 positions: give --max-length 134 and \
                  --first-limit 130 together";
    refused(&scratch, &with(&["--max-length", "200"]), beyond);
    refused(&scratch, &with(&["--max-length", "134"]), beyond);
    refused(
        &scratch,
        &with(&["--max-length", "200", "--first-limit", "130"]),
        "rows.tsv, row 4: the prompt has 136 tokens, but the model has only 134 positions: --max-length must be at most 134",
    );
    let advised = scratch.run(&with(&["--max-length", "134", "--first-limit", "130"]));
    assert_eq!(advised.code, Some(0), "{}", advised.stderr);
}

#[test]
fn instructions_that_are_none_are_refused() {
    let scratch = Scratch::new();
    let mut command = scratch.command(&["tasks"]);
    let output = command.env("KERNELVIEW_INSTRUCTIONS", "sse9").output().expect("a run");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("KERNELVIEW_INSTRUCTIONS is `sse9`; it must be portable, avx2, avx512, avx512bf16 or amx"),
        "{text}"
    );
}

/// The program starts itself again with bounded waiting: once, with the same arguments and answer; not if the user has set it.
#[test]
fn waiting_is_bounded_where_the_user_has_not_chosen() {
    let scratch = Scratch::new();
    scratch.write("data.tsv", "text\tlabel\ngood film\t1\nbad film\t0\n");
    let arguments = "kernel --model model --data data.tsv --dev-data data.tsv --test-data data.tsv --k 1 --template \
                     *cls**sent_0*_It_was*mask*.*sep+* --label-words 0=bad,1=good --device cpu --plan";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let run = |choice: Option<(&str, &str)>| {
        let mut command = scratch.command(&arguments);
        command
            .env_remove("GOMP_SPINCOUNT")
            .env_remove("OMP_WAIT_POLICY")
            .env("OMP_DISPLAY_ENV", "verbose")
            .envs(choice);
        let output = command.output().expect("a run");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
        // OpenMP's library prints its settings each time it is loaded.
        let spins: Vec<String> = text
            .lines()
            .filter(|l| l.contains("GOMP_SPINCOUNT"))
            .map(|l| l.split('\'').nth(1).unwrap_or_default().to_owned())
            .collect();
        // The first line contains the machine's present speed.
        let answer = String::from_utf8_lossy(&output.stdout).lines().skip(1).collect::<Vec<_>>().join("\n");
        (answer, spins)
    };
    let (answer, spins) = run(None);
    assert_eq!(spins.len(), 2, "loaded twice: {spins:?}");
    assert_eq!(spins[1], "4000");
    let (same, chosen) = run(Some(("GOMP_SPINCOUNT", "77")));
    assert_eq!((same, chosen), (answer, vec!["77".to_owned()]));
    assert_eq!(run(Some(("OMP_WAIT_POLICY", "active"))).1.len(), 1);
}
