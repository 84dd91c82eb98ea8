//! The program from the user's side: help, kernel files, interruption.

#[cfg(unix)]
mod interruption;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::process::Stdio;

use crate::common::command::Scratch;
use crate::common::relative_error;
use kernelview::kernel::KernelFile;
use kernelview::task::{BUILTIN_NAMES, cloze, demo};
use tch::{Kind, Tensor};

const KERNELS: [&str; 3] = ["kernel.sgd", "kernel.asymmetric", "kernel.signgd"];

/// Writes a kernel of the built-in task in double precision and reads it back.
fn kernel_file(scratch: &Scratch, arguments: &str) -> KernelFile {
    let answer = scratch.kernel(&format!("--dtype f64 --out K.safetensors {arguments}"));
    assert_eq!(answer.code, Some(0), "{arguments}: {}", answer.stderr);
    assert!(answer.stdout.starts_with("K.safetensors: 32 x "), "{}", answer.stdout);
    KernelFile::read(&scratch.path("K.safetensors")).expect("a kernel file")
}

fn tensor<'a>(file: &'a KernelFile, name: &str) -> &'a Tensor {
    file.get(name).unwrap_or_else(|| panic!("{name} is not in the file"))
}

fn names(file: &KernelFile) -> BTreeSet<&str> {
    file.tensors.iter().map(|(name, _)| name.as_str()).collect()
}

/// Sum of the stored shares of the parameters accepted by `chosen`.
fn shares(file: &KernelFile, chosen: impl Fn(&str) -> bool) -> Tensor {
    let of = |(name, t): &(String, Tensor)| name.strip_prefix("share.").filter(|n| chosen(n)).map(|_| t.copy());
    file.tensors.iter().filter_map(of).reduce(|a, b| a + b).expect("shares")
}

/// Words of a command line as split by a shell, for the quoting in the help texts.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("one word at least").push(c),
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

/// Fails for: an example in a help text that is not a valid command line, or is folded so that a shell would see two commands.
#[test]
fn help_texts_show_examples_that_parse() {
    let scratch = Scratch::new();
    let top = scratch.run(&["--help"]);
    assert_eq!(top.code, Some(0));
    for command in ["analyze", "kernel", "solve", "convert", "cloze", "tasks"] {
        assert!(top.stdout.contains(&format!("\n  {command} ")), "{}", top.stdout);
        let help = scratch.run(&[command, "--help"]);
        assert_eq!(help.code, Some(0));
        let (_, examples) =
            help.stdout.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{command}: {}", help.stdout));
        let lines = examples.replace("\\\n", " ");
        let commands: Vec<&str> = lines.lines().filter(|line| !line.trim().is_empty()).collect();
        assert!(!commands.is_empty());
        for line in commands {
            let words = shell_words(line);
            assert_eq!(words[0], "kernelview", "{command}: `{line}` does not begin a command");
            let answer = scratch.run(&words[1..]);
            // The model and the data do not exist, so every run but `tasks` is refused, though not for its arguments.
            assert!(!answer.stderr.contains("--help"), "{line}: {}", answer.stderr);
            assert!(answer.code == Some(0) || answer.stderr.starts_with("error: "), "{line}: {}", answer.stderr);
        }
    }
    assert!(top.stdout.contains("Exit status: 0"), "{}", top.stdout);
    for (arguments, texts) in [
        (["kernel", "--help"], ["[N, C, M, C]", "safetensors", "--against", "--label-words"]),
        (["analyze", "--help"], ["--out-dir", "continue an interrupted run", "--lr-adam", "built-in task"]),
    ] {
        let help = scratch.run(&arguments).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in texts {
            assert!(help.contains(text), "{text} is not in {help}");
        }
    }
    let bare: [&str; 0] = [];
    let answer = scratch.run(&bare);
    assert_eq!((answer.code, answer.stderr.contains("Usage: kernelview <COMMAND>")), (Some(2), true));
}

#[test]
fn tasks_lists_the_fourteen_and_the_cloze_tasks_with_template_and_words() {
    let answer = Scratch::new().run(&["tasks"]);
    assert_eq!(answer.code, Some(0));
    let lines: Vec<&str> = answer.stdout.lines().collect();
    let first: Vec<&str> = lines.iter().filter_map(|line| line.split_whitespace().next()).collect();
    let names: Vec<&str> = BUILTIN_NAMES.into_iter().chain(cloze::builtin().iter().map(|task| task.name)).collect();
    assert_eq!(first, names);
    assert_eq!(
        lines[11].split_whitespace().collect::<Vec<_>>(),
        ["RTE", "*cls**sent-_0*?*mask*,*+sentl_1**sep+*", "not_entailment=No", "entailment=Yes"]
    );
}

/// Fails for: a closed pipe (`kernelview tasks | head -1`) that is reported as a defect of the program.
#[test]
#[cfg(unix)]
fn a_reader_that_leaves_early_is_no_error() {
    let scratch = Scratch::new();
    let mut child =
        scratch.command(&["tasks"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
    child.wait().expect("it ends");
    assert_eq!(stderr, "");
}

/// The file's metadata, and the agreement of both engines on the kernel. 1e-10 relative: sums over 15 000 products in double
/// precision; sign kernels are integers and must be equal.
#[test]
fn both_engines_write_the_same_kernel() {
    let scratch = Scratch::new();
    let structured = kernel_file(&scratch, "--output-mode logits --batch 5");
    let reference = kernel_file(&scratch, "--output-mode logits --engine reference");
    assert_eq!(
        names(&structured),
        BTreeSet::from(["kernel.sgd", "kernel.asymmetric", "kernel.signgd", "labels", "logits"])
    );
    assert_eq!(names(&structured), names(&reference));
    for name in KERNELS {
        let (a, b) = (tensor(&structured, name), tensor(&reference, name));
        assert_eq!((a.size(), a.kind()), (vec![32, 2, 32, 2], Kind::Double), "{name}");
        let error = relative_error(a, b);
        assert!(error <= if name == "kernel.signgd" { 0.0 } else { 1e-10 }, "{name}: {error:.2e}");
    }
    assert!(relative_error(tensor(&structured, "logits"), tensor(&reference, "logits")) <= 1e-12);
    let expected: Vec<i64> = demo().expect("built in").train.examples.iter().map(|e| e.label as i64).collect();
    assert_eq!(crate::common::integers(tensor(&structured, "labels")), expected);

    let says = |key: &str| structured.metadata.get(key).map_or("(nothing)", String::as_str);
    for (key, value) in [
        ("model", "model"),
        ("task", "remarks"),
        ("template", "*cls**sent_0*_It_was*mask*.*sep+*"),
        ("label_words", "terrible,great"),
        ("k", "16"),
        ("seed", "none"),
        ("rows", "train"),
        ("columns", "train"),
        ("formula", "sgd,asymmetric,signgd"),
        ("output_mode", "logits"),
        ("subset", "all"),
        ("dtype", "f64"),
        ("program_version", env!("CARGO_PKG_VERSION")),
        ("torch_version", "2.11.0"),
        ("format_version", "1"),
    ] {
        assert_eq!(says(key), value, "{key}");
    }
}

/// Fails for: anything in a file that depends on time, addresses or the order of a hash table.
#[test]
fn the_same_command_writes_the_same_bytes() {
    let scratch = Scratch::new();
    let bytes = |_| {
        drop(kernel_file(&scratch, "--shares"));
        fs::read(scratch.path("K.safetensors")).expect("a file")
    };
    let runs = [1, 2, 3].map(bytes);
    assert!(runs[0] == runs[1] && runs[1] == runs[2], "three runs wrote different bytes");
}

/// Fails for: a link that is replaced by the file, or one that is refused because its target does not exist yet.
#[test]
#[cfg(unix)]
fn an_output_may_be_a_link() {
    let scratch = Scratch::new();
    scratch.write("far/other", "");
    std::os::unix::fs::symlink("far/K.safetensors", scratch.path("K.safetensors")).expect("a link");
    for run in ["first", "second"] {
        drop(kernel_file(&scratch, "--formula sgd"));
        assert!(scratch.path("K.safetensors").is_symlink(), "{run}");
        KernelFile::read(&scratch.path("far/K.safetensors")).expect("the link's target");
    }
    assert_eq!(fs::read_dir(scratch.path("far")).expect("a directory").count(), 2);
}

#[test]
fn against_another_split_the_kernel_is_rectangular_and_has_both_orientations() {
    let scratch = Scratch::new();
    let file = kernel_file(&scratch, "--against test --test-limit 7");
    for name in KERNELS.into_iter().chain(["kernel.asymmetric_reversed"]) {
        assert_eq!(tensor(&file, name).size(), [32, 1, 7, 1], "{name}");
    }
    assert_eq!(tensor(&file, "logits").size(), [32, 1]);
    assert_eq!(tensor(&file, "logits_right").size(), [7, 1]);
    assert_eq!((tensor(&file, "labels").size(), tensor(&file, "labels_right").size()), (vec![32], vec![7]));
    assert_eq!(file.metadata["columns"], "test");
    assert_eq!(tensor(&kernel_file(&scratch, "--against dev"), "kernel.sgd").size(), [32, 1, 32, 1]);
    // Against train is the square kernel itself.
    let square = kernel_file(&scratch, "--against train --formula sgd");
    assert_eq!(names(&square), BTreeSet::from(["kernel.sgd", "labels", "logits"]));
    let k = tensor(&square, "kernel.sgd").view([32, 32]);
    // 1e-14: within a block of examples, the order of summation differs above and below the diagonal.
    assert!(relative_error(&k, &k.tr()) <= 1e-14);
}

/// f = logit₁ - logit₀, so the SGD kernel of the difference is K₁₁ - K₁₀ - K₀₁ + K₀₀. 1e-12: cancellation of the four terms may
/// lose two digits of 1e-15. Also fails for: another default for two classes.
#[test]
fn the_difference_kernel_follows_from_the_kernel_of_the_logits() {
    let scratch = Scratch::new();
    let logits = kernel_file(&scratch, "--output-mode logits --formula sgd");
    let k = tensor(&logits, "kernel.sgd");
    let at = |c: i64, d: i64| k.select(1, c).select(2, d);
    let expected = at(1, 1) - at(1, 0) - at(0, 1) + at(0, 0);
    let difference = kernel_file(&scratch, "--output-mode difference --formula sgd");
    let error = relative_error(&tensor(&difference, "kernel.sgd").view([32, 32]), &expected);
    assert!(error <= 1e-12, "{error:.2e}");
    let f = tensor(&logits, "logits").select(1, 1) - tensor(&logits, "logits").select(1, 0);
    assert!(relative_error(&tensor(&difference, "logits").view(-1), &f) <= 1e-12);
    let default = kernel_file(&scratch, "--formula sgd");
    assert_eq!(default.metadata["output_mode"], "difference");
    assert_eq!(tensor(&default, "kernel.sgd"), tensor(&difference, "kernel.sgd"));
}

/// The SGD kernel is a sum over parameters; a subset's kernel is the sum over its parameters. 1e-12 of the largest entry: 42
/// matrices added in another order. Fails for: a parameter that is left out, counted twice, or in the wrong subset.
#[test]
fn shares_add_up_to_the_kernel_of_every_parameter_subset() {
    let scratch = Scratch::new();
    let all = kernel_file(&scratch, "--shares --formula sgd");
    let is_embedding = |name: &str| name.contains(".embeddings.");
    let is_head = |name: &str| name.starts_with("cls.");
    for (subset, count) in [("all", 42), ("no-embeddings", 37), ("no-head", 37), ("biases-only", 20)] {
        let chosen = |name: &str| match subset {
            "no-embeddings" => !is_embedding(name),
            "no-head" => !is_head(name),
            "biases-only" => name.ends_with("bias"),
            _ => true,
        };
        let file = kernel_file(&scratch, &format!("--parameters {subset} --shares --formula sgd"));
        let kernel = tensor(&file, "kernel.sgd").view([32, 32]);
        for (what, sum) in [("its own shares", shares(&file, |_| true)), ("shares of all", shares(&all, chosen))] {
            let error = relative_error(&sum, &kernel);
            assert!(error <= 1e-12, "{subset}, {what}: {error:.2e}");
        }
        assert_eq!(names(&file).iter().filter(|n| n.starts_with("share.")).count(), count, "{subset}");
        assert_eq!(file.metadata["subset"], subset);
    }
}

#[test]
fn a_file_of_ones_own_gives_as_many_rows_as_k_asks_for() {
    let scratch = Scratch::new();
    let rows: Vec<String> = (0..12).map(|i| format!("it was row {i},{}\n", ["bad", "fine", "good"][i % 3])).collect();
    scratch.write("rows.csv", format!("text,label\n{}", rows.concat()));
    let words = "bad=terrible,fine=okay,good=great";
    let answer = scratch.run(&[
        "kernel",
        "--model",
        "model",
        "--data",
        "rows.csv",
        "--template",
        "*cls**sent_0*_It_was*mask*.*sep+*",
        "--label-words",
        words,
        "--k",
        "1",
        "--out",
        "K.safetensors",
    ]);
    assert_eq!(
        (answer.code, answer.stdout.as_str()),
        (Some(0), "K.safetensors: 3 x 3 examples, 3 output(s), sgd, asymmetric, signgd\n"),
        "{}",
        answer.stderr
    );
    let file = KernelFile::read(&scratch.path("K.safetensors")).expect("a kernel file");
    assert_eq!(crate::common::integers(tensor(&file, "labels")), [0, 1, 2]);
    assert_eq!((file.metadata["k"].as_str(), file.metadata["source"].as_str()), ("1", "rows.csv"));
}

#[test]
fn a_plan_says_what_would_be_done_and_does_nothing() {
    let scratch = Scratch::new();
    let before = fs::read_dir(scratch.path(".")).expect("the scratch directory").count();
    let answer = scratch.kernel("--plan --memory 2GB --against test");
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    for expected in ["About ", " 32 held and ", "| gradient factors kept |", "| layer | parameters | method |"] {
        assert!(answer.stdout.contains(expected), "{expected}: {}", answer.stdout);
    }
    assert_eq!(fs::read_dir(scratch.path(".")).expect("the scratch directory").count(), before);
}

/// The smallest accepted memory means panels of a few examples, each recorded many times: other sums, but the same kernel up to
/// a few roundings of double precision.
#[test]
fn a_memory_limit_changes_no_kernel() {
    let scratch = Scratch::new();
    let free = kernel_file(&scratch, "--against dev");
    let refused = scratch.kernel("--dtype f64 --against dev --memory 1MB --out L.safetensors");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let least = refused.stderr.split("expected ").nth(1).and_then(|t| t.split(" MB").next()).expect("a limit");
    let limited = kernel_file(&scratch, &format!("--against dev --memory {least}MB"));
    assert_eq!(tensor(&free, "kernel.signgd"), tensor(&limited, "kernel.signgd"));
    for name in ["kernel.sgd", "kernel.asymmetric", "kernel.asymmetric_reversed"] {
        assert!(relative_error(tensor(&limited, name), tensor(&free, name)) < 1e-12, "{name}");
    }
}

/// Factors of 8 significant bits: entries are sums of many products with independent roundings of 2⁻⁹ each, so that a
/// kernel's error is far below 2⁻⁸ but far above that of single precision.
#[test]
fn reduced_precision_comes_with_its_measured_error() {
    let scratch = Scratch::new();
    let exact = kernel_file(&scratch, "--formula sgd");
    let rounded = kernel_file(&scratch, "--formula sgd --precision bf16");
    let error = relative_error(tensor(&rounded, "kernel.sgd"), tensor(&exact, "kernel.sgd"));
    assert!((1e-6..4e-3).contains(&error), "{error}");
    assert_eq!(rounded.metadata.get("precision").map(String::as_str), Some("bf16"));
    let stated = rounded.metadata.get("precision_error").and_then(|t| t.strip_prefix("sgd ")).expect("the error");
    let stated: f64 = stated.parse().expect("a number");
    assert!((1e-6..4e-3).contains(&stated), "{stated}");
}
