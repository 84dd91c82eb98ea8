//! Standard output that cannot be written: every command that prints ends with status 2 and one line, and its computed results
//! exist.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use crate::common::command::Scratch;

/// A file on a disk that is always full.
fn full() -> Option<Stdio> {
    let file = File::options().write(true).open("/dev/full").ok();
    if file.is_none() {
        let _ = writeln!(std::io::stderr(), "skipped: this system has no /dev/full");
    }
    file.map(Stdio::from)
}

#[test]
fn a_full_disk_is_an_error_in_one_line() {
    let scratch = Scratch::new();
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tasks");
    let kernel = "kernel --model model --device cpu --threads 1 --formula sgd";
    let analyze = "analyze --model model --device cpu --threads 1 --test-limit 16 --formula sgd --optimizers=";
    let reproduce = format!(
        "reproduce --models model --data-dir {data} --tasks MRPC --k 2 --seeds 13 --device cpu --threads 1 --formula sgd \
         --optimizers="
    );
    // Sentences that differ only in the word count once.
    let prose = |word: &str, places: [&str; 3]| {
        places.map(|place| format!("One day {word} came to the old {place} again.\n")).concat()
    };
    let prose = prose("he", ["house", "river", "garden"]) + &prose("she", ["market", "bridge", "tower"]);
    scratch.write("prose.txt", prose);
    // Each command's files, which later ones read.
    let commands = [
        ("claims", ""),
        ("claims --format markdown", ""),
        ("claims --format json", ""),
        ("tasks", ""),
        ("--help", ""),
        ("--version", ""),
        ("analyze --help", ""),
        (&format!("{kernel} --out K.safetensors"), "K.safetensors"),
        (&format!("{kernel} --out K.pt"), "K.pt"),
        (&format!("{kernel} --plan"), ""),
        (&format!("{kernel} --out S.safetensors --shard 0/1"), "S.safetensors.shards/manifest.json"),
        ("merge S.safetensors.shards --out S.safetensors", "S.safetensors"),
        ("convert K.safetensors C.pt", "C.pt"),
        ("submit --slurm -- kernel --out K.safetensors", "kernelview-submit/submit.sh"),
        ("cloze --text prose.txt --words he,she --min-words 2 --out he-she.tsv", "he-she.tsv"),
        (analyze, "kernelview-report/report.json"),
        (
            &format!("{analyze} --baseline b.json --write-baseline --baseline-seeds 1,2"),
            "kernelview-report/report.json",
        ),
        ("compare kernelview-report/report.json kernelview-report/report.json", ""),
        ("lora --model model --device cpu --threads 1 --ranks 1 --draws 1", "kernelview-lora/report.json"),
        (&format!("{reproduce} --dry-run"), ""),
        (&reproduce, "kernelview-reproduce/report.json"),
        ("verify --claim output-derivative --device cpu --jobs 1", "kernelview-verify/report.json"),
    ];
    for (line, left) in commands {
        let Some(full) = full() else { return };
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = scratch.command(&words).stdout(full).output().expect("the program starts");
        let answer = scratch.answer(&output);
        assert_eq!(answer.code, Some(2), "{line}: {}", answer.stderr);
        let errors: Vec<&str> = answer.stderr.lines().filter(|l| l.contains("error")).collect();
        assert_eq!(errors.len(), 1, "{line}: {}", answer.stderr);
        assert!(
            errors[0].starts_with("error: cannot write standard output: ")
                && answer.stderr.ends_with(&format!("{}\n", errors[0])),
            "{line}: {}",
            answer.stderr
        );
        assert!(left.is_empty() || scratch.path(left).exists(), "{line} left no {left}");
    }
}

/// Output to stderr may be lost: progress is not a result.
#[test]
fn notes_that_nobody_reads_stop_nothing() {
    let scratch = Scratch::new();
    let Some(full) = full() else { return };
    let words = "kernel --model model --device cpu --threads 1000 --formula sgd --out K.safetensors";
    let words: Vec<&str> = words.split_whitespace().collect();
    let output = scratch.command(&words).stderr(full).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(0));
    assert!(scratch.path("K.safetensors").is_file());
}
