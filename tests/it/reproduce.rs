//! The grid by the real program, on a tiny random model and our own sentences: tables, caching, shards, failed cells.

use std::fs;

use crate::common::command::{Answer, Scratch};

/// `reproduce` over two tasks and two heads, with further arguments.
fn run(scratch: &Scratch, more: &str) -> Answer {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tasks");
    let text = format!(
        "reproduce --models model --data-dir {data} --tasks MRPC,RTE --k 2 --seeds 13 --heads prompt,random --dtype f64 \
         --device cpu --threads 1 --steps 4 --eval-every 2 --train-batch-size 2 --lr-sgd 1e-2 --lr-adam 1e-3 {more}"
    );
    scratch.run(&text.split_whitespace().collect::<Vec<_>>())
}

#[test]
fn a_grid_is_computed_once_and_reported() {
    let scratch = Scratch::new();
    // After two processes with one part each nothing is left to compute for the third, which makes the whole report.
    for shard in ["0/2", "1/2"] {
        let answer = run(&scratch, &format!("--out-dir grid --shard {shard}"));
        assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    }
    let whole = run(&scratch, "--out-dir grid");
    assert_eq!(whole.code, Some(0), "{}", whole.stderr);
    assert_eq!(whole.stderr.matches("already there").count(), 4, "{}", whole.stderr);
    assert!(whole.stdout.contains("4 of 4 cells are there"), "{}", whole.stdout);
    let report = fs::read_to_string(scratch.path("grid/report.md")).expect("a report");
    for wanted in
        ["Scores: model, k = 2, with a prompt", "no prompt, random head", "Heads and adapters side by side", "F1"]
    {
        assert!(report.contains(wanted), "{wanted} is missing in\n{report}");
    }
    // 2 tasks x 2 heads; 6 methods (zero-shot, 2 runs, 3 kernels) of 3 metrics, 2 linearized runs, the most frequent class.
    let csv = fs::read_to_string(scratch.path("grid/results.csv")).expect("figures");
    let scores = csv.lines().filter(|l| l.contains(",dev_accuracy,") || l.contains(",test_")).count();
    assert_eq!(scores, 4 * (6 * 3 + 2 + 1), "{csv}");

    // In one process: the same report.
    let once = run(&scratch, "--out-dir once");
    assert_eq!(once.code, Some(0), "{}", once.stderr);
    for name in ["report.md", "results.csv", "report.json"] {
        let read = |directory: &str| fs::read(scratch.path(&format!("{directory}/{name}"))).expect("a file");
        assert!(read("grid") == read("once"), "{name} differs");
    }
    // Another setting is another cell.
    let plan = run(&scratch, "--out-dir grid --test-limit 3 --dry-run");
    assert!(plan.stdout.contains("4 cells to compute"), "{}", plan.stdout);
    let plan = run(&scratch, "--out-dir grid --dry-run");
    assert!(plan.stdout.contains("0 cells to compute"), "{}", plan.stdout);
}

#[test]
fn a_failed_cell_does_not_stop_the_others() {
    let scratch = Scratch::new();
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tasks");
    let words = format!(
        "reproduce --models model --data-dir {data} --tasks MRPC --k 2 --seeds 99,13 --dtype f64 --device cpu --threads 1 \
         --formula sgd --optimizers= --out-dir grid"
    );
    let answer = scratch.run(&words.split_whitespace().collect::<Vec<_>>());
    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    assert!(answer.stdout.contains("1 of 2 cells are there, 1 failed"), "{}", answer.stdout);
    let report = fs::read_to_string(scratch.path("grid/report.md")).expect("a report");
    assert!(report.contains("no split"), "{report}");
}

#[test]
fn label_words_of_a_task() {
    let scratch = Scratch::new();
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tasks");
    let answer = |words: &str| {
        let words = format!(
            "reproduce --models model --data-dir {data} --tasks MRPC,RTE --label-words {words} --k 2 --seeds 13 --dtype f64 \
             --device cpu --threads 1 --formula sgd --optimizers= --out-dir grid"
        );
        scratch.run(&words.split_whitespace().collect::<Vec<_>>())
    };
    let one = answer("mrpc:[NOWORD],Yes");
    assert_eq!(one.code, Some(1), "{}", one.stderr);
    assert!(one.stderr.contains("label `0` of task `MRPC`: the word `[NOWORD]`"), "{}", one.stderr);
    assert!(one.stdout.contains("1 of 2 cells are there, 1 failed"), "{}", one.stdout);
    let report = fs::read_to_string(scratch.path("grid/report.md")).expect("a report");
    assert!(report.contains("| label words of MRPC | \\[NOWORD\\], Yes |"), "{report}");
    for (words, message) in [("MRPC", "write TASK:WORDS"), ("SNLI:a,b,c", "no such task in the grid")] {
        let refused = answer(words);
        assert_eq!(refused.code, Some(2));
        assert!(refused.stderr.contains(message), "{}", refused.stderr);
    }
}

#[test]
fn bad_settings_are_refused() {
    let scratch = Scratch::new();
    let refused = |arguments: &str, message: &str| {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let answer = scratch.run(&words);
        assert_eq!(answer.code, Some(2), "{arguments}: {}", answer.stderr);
        assert!(answer.stderr.contains(message), "{arguments}: {}", answer.stderr);
    };
    refused("reproduce --models model --data-dir nowhere", "--data-dir is not a directory");
    refused("reproduce --models model --data-dir . --tasks sst2x", "unknown built-in task `sst2x`");
    refused("reproduce --models model --data-dir . --shard 2/2", "shard 2 of 2: shards are counted from 0");
    refused("reproduce --models absent --data-dir .", "absent");
    // Twice the same is no second sample.
    refused("reproduce --models model --data-dir . --k 16,0", "--k: it is 0, expected 1 or more");
    refused("reproduce --models model --data-dir . --test-limit 0", "--test-limit: it is 0, expected 1 or more");
    refused("reproduce --models model --data-dir . --seeds 13,21,13", "--seeds: `13` is given twice");
    refused("reproduce --models model --data-dir . --k 16,16", "--k: `16` is given twice");
    refused("reproduce --models model --data-dir . --tasks sst-2,SST-2", "--tasks: `SST-2` is given twice");
    refused("reproduce --models model --data-dir . --heads prompt,prompt", "--heads: `prompt` is given twice");
    refused("reproduce --models model model --data-dir .", "--models: `model` is given twice");
}
