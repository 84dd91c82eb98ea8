//! A whole analysis by the real program on a tiny random model: report, determinism, resumption.
//!
//! The snapshot holds figures rounded as the report rounds them, computed in double precision on one thread: another
//! machine's order of summation moves them by about 1e-12, far below the last digit shown.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::command::Scratch;
use kernelview::report::read_json;

/// A short analysis with everything: both optimizers, all formulas.
fn arguments(out: &str) -> Vec<String> {
    let text = format!(
        "analyze --model model --dtype f64 --device cpu --threads 1 --test-limit 24 --batch 8 --steps 12 --eval-every 4 \
         --train-batch-size 4 --lr-sgd 1e-2,1e-1 --lr-adam 1e-3,1e-2 --out-dir {out}"
    );
    text.split_whitespace().map(str::to_owned).collect()
}

fn run(scratch: &Scratch, out: &str) -> (String, String) {
    let answer = scratch.run(&arguments(out));
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    (answer.stdout, answer.stderr)
}

/// Every file of a report with its bytes, without the stored parts, which hold no more than the report.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    all_files(directory).into_iter().filter(|(name, _)| !name.starts_with("parts")).collect()
}

fn all_files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(directory).expect("inside").display().to_string();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push((name, fs::read(&path).expect("a file")));
            }
        }
    }
    found.sort();
    found
}

/// Byte for byte the same report and kernels.
fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (files(a), files(b));
    assert_eq!(a.iter().map(|f| &f.0).collect::<Vec<_>>(), b.iter().map(|f| &f.0).collect::<Vec<_>>());
    for ((name, x), (_, y)) in a.iter().zip(&b) {
        assert!(x == y, "{name} differs");
    }
}

#[test]
fn the_report_of_a_tiny_model() {
    let scratch = Scratch::new();
    let (stdout, stderr) = run(&scratch, "out");
    assert!(stdout.contains("report: out/report.md"), "{stdout}");
    assert!(stderr.contains("32 train, 32 dev, 24 test examples, cpu"), "{stderr}");
    let report = fs::read_to_string(scratch.path("out/report.md")).expect("a report");
    insta::assert_snapshot!("tiny_report", report);
    assert!(!stderr.contains("again"), "a run was trained twice: {stderr}");
    let left = all_files(&scratch.path("out")).into_iter().find(|(name, _)| name.contains("selected"));
    assert_eq!(left.map(|(name, _)| name), None, "a network that was measured is left");
    let analysis = read_json(&scratch.path("out/report.json")).expect("a readable report");
    assert_eq!(analysis.fine_tuning.len(), 2);
    assert_eq!(analysis.kernels.len(), 3);
    assert_eq!(analysis.verdicts.len(), 6);
    for name in ["train", "dev", "test"] {
        let file = kernelview::kernel::KernelFile::read(&scratch.path(&format!("out/kernels/{name}.safetensors")));
        let gram = file.expect("a kernel file").to_gram().expect("its Gram matrix");
        assert_eq!(gram.left, 32);
    }
}

#[test]
fn two_runs_give_the_same_report() {
    let scratch = Scratch::new();
    run(&scratch, "first");
    run(&scratch, "second");
    assert_same(&scratch.path("first"), &scratch.path("second"));
}

/// Results that are missing, damaged or from other settings are computed again, others are reused; the report is the same.
#[test]
fn a_rerun_continues_from_finished_parts() {
    let scratch = Scratch::new();
    run(&scratch, "whole");
    run(&scratch, "part");
    let part = scratch.path("part");
    fs::remove_file(part.join("parts/adam-measures.json")).expect("a part");
    fs::remove_file(part.join("kernels/test.safetensors")).expect("a kernel");
    fs::write(part.join("kernels/dev.safetensors"), b"half a fi").expect("a damaged kernel");
    fs::write(part.join("parts/sgd-1e-2.json"), b"{\"digest\": \"").expect("a damaged part");
    fs::remove_file(part.join("report.md")).expect("a report");
    let (_, stderr) = run(&scratch, "part");
    for reused in ["kernel train: already there", "sgd-1e-1: already there", "regression-sgd: already there"] {
        assert!(stderr.contains(reused), "{reused} missing in: {stderr}");
    }
    for made in ["kernel dev", "kernel test", "sgd-1e-2", "adam-measures"] {
        assert!(!stderr.contains(&format!("{made}: already there")), "{made} was reused: {stderr}");
    }
    // The measured network no longer exists.
    assert!(stderr.contains("adam, learning rate 1e-3, again"), "{stderr}");
    assert_same(&scratch.path("whole"), &part);

    // Other steps are other runs on the same kernels. The report of the earlier ones is not left beside what replaces them.
    let other: Vec<String> = arguments("part").into_iter().map(|w| if w == "12" { "8".into() } else { w }).collect();
    let answer = scratch.run(&other);
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    assert!(answer.stderr.contains("kernel train: already there"), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("part: the report of another analysis was there, and is removed"),
        "{}",
        answer.stderr
    );
    assert!(!answer.stderr.contains("sgd-1e-1: already there"), "{}", answer.stderr);
    // Another configuration with the same weights is another study: nothing may be reused.
    let config = scratch.path("model/config.json");
    let text = fs::read_to_string(&config).expect("a configuration").replace("1e-12", "1e-3");
    fs::write(&config, text).expect("a configuration");
    let (_, stderr) = run(&scratch, "part");
    assert!(!stderr.contains("already there"), "{stderr}");
}

/// Interrupted at different moments, a run ends with status 130, leaves no half-written file, and the same command
/// then gives the report of an uninterrupted one.
#[test]
fn an_interrupted_run_continues() {
    let scratch = Scratch::new();
    let start = Instant::now();
    run(&scratch, "whole");
    let duration = start.elapsed();
    let mut interrupted = 0;
    for percent in [15, 40, 70, 10, 5, 2] {
        if percent < 15 && interrupted > 0 {
            break;
        }
        let mut child = scratch
            .command(&arguments("broken"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        std::thread::sleep(duration * percent / 100 + Duration::from_millis(20));
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
        let status = child.wait().expect("the program ends");
        interrupted += u32::from(sent.success() && status.code() == Some(130));
        // Before the program's own first line the signal still has its default effect.
        assert!([Some(0), Some(130)].contains(&status.code()) || status.signal() == Some(libc::SIGINT), "{status}");
        let left = if scratch.path("broken").exists() { all_files(&scratch.path("broken")) } else { Vec::new() };
        assert!(left.iter().all(|(name, _)| !name.contains(".part-")), "a half-written file is left");
        if status.code() == Some(0) {
            // The machine was slow when the time was measured: again, and earlier.
            fs::remove_dir_all(scratch.path("broken")).expect("removed");
        }
    }
    assert!(interrupted > 0, "no run was interrupted");
    run(&scratch, "broken");
    assert_same(&scratch.path("whole"), &scratch.path("broken"));
}

#[test]
fn a_diverging_grid_says_what_to_do() {
    let scratch = Scratch::new();
    let words: Vec<String> = arguments("out").into_iter().map(|w| w.replace("1e-2,1e-1", "1e30,1e31")).collect();
    let answer = scratch.run(&words);
    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("sgd diverged each time at learning rates 1e30, 1e31; try smaller ones: --lr-sgd"),
        "{}",
        answer.stderr
    );
    assert!(!scratch.path("out/report.md").exists(), "no report of a failed analysis");
}

/// A report says how many dev and test examples are training examples, too.
#[test]
fn examples_seen_in_training_are_told() {
    let scratch = Scratch::new();
    let rows: Vec<String> = (0..8).map(|i| format!("the film number {i} was so\t{}", i % 2)).collect();
    scratch.write("rows.tsv", format!("text\tlabel\n{}\n", rows.join("\n")));
    let run = |more: &str| {
        let text = format!(
            "analyze --model model --data rows.tsv --template *cls**sent_0*_It_was*mask*.*sep+* --label-words 0=bad,1=good \
             --formula sgd --optimizers= --device cpu --threads 1 {more}"
        );
        scratch.run(&text.split_whitespace().collect::<Vec<_>>())
    };
    let report = |more: &str| {
        let answer = run(more);
        assert_eq!(answer.code, Some(0), "{}", answer.stderr);
        let directory = more.rsplit(' ').next().expect("a directory");
        fs::read_to_string(scratch.path(&format!("{directory}/report.md"))).expect("a report")
    };
    let shared = report("--k 2 --dev-data rows.tsv --test-data rows.tsv --out-dir shared");
    let said = "The texts of 4 of the 8 dev examples and 4 of the 8 test examples are also those of training examples";
    assert!(shared.contains(said), "{shared}");
    // Another report takes its place, with the plots that it showed; other files stay.
    scratch.write("shared/plots/mine.svg", "mine");
    let plots = || fs::read_dir(scratch.path("shared/plots")).expect("plots").count();
    let own = report("--k 1 --dev-data rows.tsv --test-data rows.tsv --out-dir shared");
    assert!(own != shared && scratch.path("shared/plots/mine.svg").exists() && plots() > 0);
    // One that is refused leaves it.
    for refused in ["--memory 1MB", "--precision tf32"] {
        let answer = run(&format!("{refused} --k 2 --dev-data rows.tsv --test-data rows.tsv --out-dir shared"));
        assert_eq!(answer.code, Some(2), "{}", answer.stderr);
        assert_eq!(fs::read_to_string(scratch.path("shared/report.md")).expect("a report"), own, "{refused}");
    }
    scratch.write("shared/report.json", "{\"run\": {\"profile\": \"quick\"}}");
    let answer = run("--k 2 --dev-data rows.tsv --test-data rows.tsv --out-dir shared");
    let said = "shared/report.json: a file that is no report of this program is here";
    assert!(answer.code == Some(2) && answer.stderr.contains(said), "{}", answer.stderr);
    assert_eq!(fs::read_to_string(scratch.path("shared/report.md")).expect("a report"), own);
    assert!(!report("--k 1 --out-dir apart").contains("also those of training examples"));
}
