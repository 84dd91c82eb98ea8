//! Information in files that leave a machine: the identity of each row, and no path of the machine that made them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::command::Scratch;
use crate::common::relative_error;
use kernelview::evidence::Analysis;
use kernelview::files::sha256;
use kernelview::kernel::KernelFile;
use serde_json::Value;
use tch::Tensor;

/// Rows whose order a shuffle changes, with a blank line, which counts as a line of the file.
const ROWS: &str = "label\ttext\n1\tgood\n0\tawful, dull\n\n1\tfine work\n0\tbad\n1\ta joy\n0\tno fun\n1\tgreat\n0\tpoor\n1\tlovely\n0\tdull\n";

/// Line, class and digest of every row of [`ROWS`].
fn expected() -> Vec<(usize, i64, String)> {
    let lines = ROWS.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty());
    lines
        .map(|(at, line)| {
            let (label, text) = line.split_once('\t').expect("two columns");
            (at + 1, i64::from(label == "1"), sha256(text.as_bytes()))
        })
        .collect()
}

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("data/rows.tsv", ROWS);
    scratch
}

/// A kernel of the rows in double precision; their file is given by its absolute path.
fn kernel(scratch: &Scratch, arguments: &str) -> KernelFile {
    let data = scratch.path("data/rows.tsv").display().to_string();
    let answer = scratch
        .kernel(&format!("--task SST-2 --dtype f64 --data {data} --out K.safetensors --formula sgd {arguments}"));
    assert_eq!(answer.code, Some(0), "{arguments}: {}", answer.stderr);
    KernelFile::read(&scratch.path("K.safetensors")).expect("a kernel file")
}

fn list<'a>(file: &'a KernelFile, field: &str) -> Vec<&'a str> {
    file.metadata[field].split(',').collect()
}

fn classes(file: &KernelFile, name: &str) -> Vec<i64> {
    Vec::try_from(file.get(name).expect("labels")).expect("integers")
}

/// Every row of a side with its class, according to the file.
fn side(file: &KernelFile, side: &str, labels: &str) -> Vec<(usize, i64, String)> {
    let rows = list(file, &format!("{side}_numbers")).into_iter().map(|n| n.parse().expect("a line"));
    let digests = list(file, &format!("{side}_text_digests")).into_iter().map(str::to_owned);
    let (rows, digests): (Vec<usize>, Vec<String>) = (rows.collect(), digests.collect());
    let classes = classes(file, labels);
    assert_eq!((rows.len(), digests.len()), (classes.len(), classes.len()));
    rows.into_iter().zip(classes).zip(digests).map(|((row, class), digest)| (row, class, digest)).collect()
}

#[test]
fn rows_and_columns_are_named_by_line_and_digest() {
    let scratch = scratch();
    let all: BTreeMap<usize, (i64, String)> = expected().into_iter().map(|(row, c, d)| (row, (c, d))).collect();
    let file = kernel(&scratch, "--k 1 --against test");
    let (left, right) = (side(&file, "row", "labels"), side(&file, "column", "labels_right"));
    assert_eq!((left.len(), right.len()), (2, 6));
    for (row, class, digest) in left.iter().chain(&right) {
        assert_eq!(all.get(row), Some(&(*class, digest.clone())), "line {row}");
    }
    assert!(left.iter().all(|l| right.iter().all(|r| l.0 != r.0)), "no example on both sides");
    let metadata = |field: &str| file.metadata[field].as_str();
    let digest = sha256(ROWS.as_bytes());
    for field in ["source", "row_file", "column_file"] {
        assert_eq!(metadata(field), "rows.tsv");
    }
    for field in ["source_digest", "row_file_digest", "column_file_digest"] {
        assert_eq!(metadata(field), digest);
    }
    assert_eq!((metadata("rows"), metadata("columns"), metadata("seed"), metadata("k")), ("train", "test", "13", "1"));
}

/// The kernel of all rows is in the file's order, and its entries are those of the kernel of the split file.
#[test]
fn all_rows_are_in_the_files_order() {
    let scratch = scratch();
    let whole = kernel(&scratch, "--all-rows");
    assert_eq!(side(&whole, "row", "labels"), expected());
    assert_eq!(list(&whole, "column_numbers"), list(&whole, "row_numbers"));
    let metadata = |field: &str| whole.metadata[field].as_str();
    assert_eq!(
        (metadata("rows"), metadata("columns"), metadata("seed"), metadata("k")),
        ("all", "all", "none", "none")
    );

    let part = kernel(&scratch, "--k 2");
    let place = |row: &(usize, i64, String)| expected().iter().position(|r| r == row).expect("a row") as i64;
    let places: Vec<i64> = side(&part, "row", "labels").iter().map(place).collect();
    assert!(places.windows(2).any(|pair| pair[0] > pair[1]), "the split is not in the file's order");
    let places = Tensor::from_slice(&places);
    let of = |file: &KernelFile| file.get("kernel.sgd").expect("a kernel").squeeze();
    let chosen = of(&whole).index_select(0, &places).index_select(1, &places);
    assert!(relative_error(&of(&part), &chosen) <= 1e-12);

    for (arguments, message) in [
        ("--data data/rows.tsv --against test", "--against"),
        ("--data data/rows.tsv --k 2", "--k"),
        ("", "--data"),
        ("--data data/rows.tsv --head linear-probe", "has none"),
    ] {
        let answer = scratch.kernel(&format!("--task SST-2 --all-rows --out L.safetensors {arguments}"));
        assert_eq!(answer.code, Some(2), "{arguments}: {}", answer.stderr);
        assert!(answer.stderr.contains(message), "{arguments}: {}", answer.stderr);
    }
    assert!(!scratch.path("L.safetensors").exists());
}

/// A file from an older program, without the rows' identities, is still read.
#[test]
fn old_files_stay_readable() {
    let scratch = scratch();
    let mut file = kernel(&scratch, "--k 2");
    file.metadata.retain(|name, _| !["row_", "column_", "source_"].iter().any(|prefix| name.starts_with(prefix)));
    file.metadata.insert("source".into(), "/some/where/rows.tsv".into());
    file.write(&scratch.path("old.safetensors")).expect("a file");
    let old = KernelFile::read(&scratch.path("old.safetensors")).expect("a kernel file");
    assert_eq!(old.metadata, file.metadata);
    assert!(old.to_gram().is_some());
    let answer = scratch.run(&["convert", "old.safetensors", "train_kernels_x.pt"]);
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
}

/// Every figure per example names its row.
fn check_report(analysis: &Analysis) {
    let all: BTreeMap<usize, (i64, String)> = expected().into_iter().map(|(row, c, d)| (row, (c, d))).collect();
    let sets: Vec<&str> = analysis.task.sets.iter().map(|set| set.set.as_str()).collect();
    assert_eq!(sets, ["train", "dev", "test"]);
    for set in &analysis.task.sets {
        for (row, digest) in set.rows.iter().zip(&set.text_digests) {
            assert_eq!(all.get(row).map(|(_, d)| d), Some(digest), "{}, line {row}", set.set);
        }
    }
    let [train, _, test] = &analysis.task.sets[..] else { panic!("three sets") };
    for run in &analysis.fine_tuning {
        let movements = &run.linearization.movements;
        assert_eq!(movements.iter().filter_map(|m| m.row).collect::<Vec<_>>(), test.rows);
        assert!(movements.iter().all(|m| m.row.is_some_and(|row| all[&row].0 == m.class as i64)));
    }
    for kernel in &analysis.kernels {
        let mut rows = kernel.picture.rows.concat();
        assert!(rows.iter().is_sorted_by_key(|row| (all[row].0, train.rows.iter().position(|r| r == row))));
        rows.sort_unstable();
        let mut trained = train.rows.clone();
        trained.sort_unstable();
        assert_eq!(rows, trained);
    }
}

/// Files below a directory with their content.
fn files(directory: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push((path.display().to_string(), fs::read(&path).expect("a file")));
        }
    }
}

/// Model, data and output directory are given by absolute paths; no written file contains one of them.
#[test]
fn no_file_for_others_holds_a_path_of_the_machine() {
    let scratch = scratch();
    let home = scratch.path("").display().to_string();
    let home = home.trim_end_matches('/');
    let run = |arguments: &str| {
        let arguments = arguments.replace("HOME", home);
        let answer = scratch.run(&arguments.split_whitespace().collect::<Vec<_>>());
        assert_eq!(answer.code, Some(0), "{arguments}: {}", answer.stderr);
    };
    let task = "--model HOME/model --task SST-2 --data HOME/data/rows.tsv --k 1";
    run(&format!("analyze {task} --steps 2 --eval-every 1 --optimizers sgd --lr-sgd 1e-3 --out-dir HOME/out/analyze"));
    run(&format!("kernel {task} --against dev --out HOME/out/K.safetensors"));
    run(&format!("kernel {task} --block 1 --shard 0/1 --out HOME/out/S.safetensors"));
    run(&format!("lora {task} --ranks 1 --draws 2 --out-dir HOME/out/lora"));
    let mut found = Vec::new();
    files(&scratch.path("out"), &mut found);
    assert!(found.len() > 10, "{} files", found.len());
    for (name, content) in &found {
        let there = content.windows(home.len()).any(|window| window == home.as_bytes());
        assert!(!there, "{name} holds {home}");
    }
    let text = fs::read_to_string(scratch.path("out/analyze/report.json")).expect("a report");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["task"]["source"], "rows.tsv");
    assert_eq!(document["task"]["source_digest"], sha256(ROWS.as_bytes()));
    let command = document["run"]["command"].as_str().expect("a command");
    assert!(command.starts_with("kernelview analyze --model model --task SST-2 --data rows.tsv --k 1"), "{command}");
    check_report(&serde_json::from_value(document).expect("an analysis"));
}
