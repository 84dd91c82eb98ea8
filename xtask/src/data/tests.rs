//! Splits of made-up data against NumPy and pandas, splits of real data against the published ones, and bad input.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::tasks::Task;
use super::{DataArgs, run};

/// Originals and results of one test.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.directory.path().join("from").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn args(&self, k: &[usize], seed: &[u32]) -> DataArgs {
        DataArgs {
            from: self.directory.path().join("from"),
            out: self.directory.path().join("out"),
            task: Vec::new(),
            k: k.to_vec(),
            seed: seed.to_vec(),
            derive: false,
            allow_few: false,
        }
    }

    fn split(&self, task: &str, split: &str) -> PathBuf {
        self.directory.path().join("out/k-shot-1k-test").join(task).join(split)
    }

    fn refused(&self, args: &DataArgs) -> String {
        let text = run(args).expect_err("refused").to_string();
        text.replace(&self.directory.path().display().to_string(), "DIR")
    }
}

/// The published splits beside the checkout; `None`, after printing that the test is skipped, where they are absent.
fn published() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/k-shot-1k-test");
    if path.exists() {
        return Some(path);
    }
    // Straight to stderr: the test harness would swallow what a passing test prints.
    let _ = writeln!(std::io::stderr(), "skipped: {} is not there, so nothing was compared", path.display());
    None
}

fn lines(header: &str, rows: impl Iterator<Item = String>) -> String {
    rows.fold(format!("{header}\n"), |text, row| text + &row + "\n")
}

/// The data sets of golden/make.py.
fn made_up(place: &Place) {
    let entailed = ["not_entailment", "entailment"];
    let question = |n: usize| {
        let row = |i: usize| format!("{i}\tWho is {i}?\tIt is {}.\t{}", i * i % 97, entailed[i * i % 7 % 2]);
        lines("index\tquestion\tsentence\tlabel", (0..n).map(row))
    };
    place.write("QNLI/train.tsv", question(300));
    place.write("QNLI/dev.tsv", question(1200));
    let pair = |n: usize| {
        let row = |i: usize| format!("{}\t{i}\t{}\tOne {i}\tOther \u{a0}{i} ", i * i % 11 % 2, i + 1);
        lines("\u{feff}Quality\tid\tid\tone\tother", (0..n).map(row))
    };
    place.write("MRPC/train.tsv", pair(90).replace('\n', "\r\n"));
    place.write("MRPC/dev.tsv", pair(50).trim_end_matches('\n'));
    let inferred = ["neutral", "entailment", "contradiction"];
    let inference = |n: usize| {
        let row = |i: usize| format!("{i}{}\tA {i}\tB {i}\t{}", "\tx".repeat(7), inferred[i * 7 % 13 % 3]);
        lines(&format!("index{}\tgold_label", "\tc".repeat(9)), (0..n).map(row))
    };
    place.write("MNLI/train.tsv", inference(400));
    place.write("MNLI/dev_matched.tsv", inference(1001));
    place.write("MNLI/dev_mismatched.tsv", inference(1300));
    let texts = [
        "plain words",
        "with \"quotes\"",
        "a, comma",
        "two\nlines",
        "null",
        "café – naïve",
        " spaces ",
        "None",
        "NA",
        "don't",
    ];
    let comma = |rows: Vec<Vec<String>>| {
        rows.iter().fold(String::new(), |mut file, row| {
            let field = |field: &String| {
                let quoted = field.contains([' ', ',', '"', '\n']);
                if quoted { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.clone() }
            };
            let row: Vec<_> = row.iter().map(field).collect();
            let _ = write!(file, "{}\r\n", row.join(","));
            file
        })
    };
    let review = |n: usize| {
        let text =
            |i: usize| if i.is_multiple_of(3) { format!("{} {i}", texts[i % 10]) } else { texts[i % 10].to_owned() };
        comma((0..n).map(|i| vec![(i * i % 23 % 2).to_string(), text(i)]).collect())
    };
    place.write("mr/train.csv", review(200));
    place.write("mr/test.csv", review(1500));
    let news = |n: usize| {
        let row =
            |i: usize| vec![(1 + i * i % 19 % 4).to_string(), format!("Title {i}"), format!("{}, {i}", texts[i % 10])];
        comma((0..n).map(row).collect())
    };
    place.write("ag_news/train.csv", news(250));
    place.write("ag_news/test.csv", news(900));
}

#[test]
fn splits_of_every_layout_are_those_of_numpy_and_pandas() {
    let place = Place::new();
    made_up(&place);
    run(&place.args(&[4], &[13, 42, u32::MAX])).expect("splits");
    let mut compared = 0;
    for line in include_str!("golden/splits.txt").lines().filter(|line| !line.starts_with('#')) {
        let [task, split, name, expected] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let file = fs::read(place.split(task, split).join(name)).expect("a file of the split");
        let found = Sha256::digest(&file).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        assert_eq!(
            found,
            expected,
            "{task} {split} {name}:\n{}",
            String::from_utf8_lossy(&file[..file.len().min(400)])
        );
        compared += 1;
    }
    assert_eq!(compared, 3 * (4 * 3 + 4), "files");
}

/// Four data sets number their rows, so that an original can be put together in which every row that a published split
/// shows is where it was, and the others are of the label that is complete first. Of it the generator must make the
/// published files, byte for byte: the shuffle, the order of labels, the choice of test rows.
#[test]
fn published_splits_come_out_byte_for_byte() {
    let Some(published) = published() else { return };
    for (name, train_rows, tests, seeds) in [
        ("RTE", 2490, &[("dev", 277)][..], &[13, 21, 42, 87, 100][..]),
        ("QNLI", 104_743, &[("dev", 5463)], &[13, 21, 42, 87, 100]),
        ("MNLI", 392_702, &[("dev_matched", 9815), ("dev_mismatched", 9832)], &[13]),
        ("SNLI", 549_367, &[("dev", 9842)], &[100]),
    ] {
        let task = Task::named(name).expect("a task");
        for &seed in seeds {
            let place = Place::new();
            let large = published.join(name).join(format!("512-{seed}"));
            let known = |file: &str| fs::read_to_string(large.join(file)).expect("a published split");
            let dev = if name == "MNLI" { "dev_matched.tsv" } else { "dev.tsv" };
            let (train, dev_rows) = (known("train.tsv"), known(dev));
            // With RTE some labels have no more rows than were drawn; whichever label fills the rest shows no row.
            let filler = complete_first(&train, &dev_rows, train_rows, seed);
            place.write(&format!("{name}/train.tsv"), original(&[&train, &dev_rows], train_rows, &filler));
            for ((from, rows), (_, split)) in tests.iter().zip(task.tests) {
                let test = known(&format!("{split}.tsv"));
                place.write(&format!("{name}/{from}.tsv"), original(&[&test], *rows, &filler));
            }
            run(&place.args(&[16, 512], &[seed])).expect("splits");
            for split in [format!("16-{seed}"), format!("512-{seed}")] {
                same_directory(&place.split(name, &split), &published.join(name).join(&split));
            }
        }
    }
}

/// An original of numbered rows with those of the files in their places.
fn original(files: &[&str], rows: usize, filler: &str) -> String {
    let mut by_number = BTreeMap::new();
    let mut header = "";
    for file in files {
        let (first, rest) = file.split_once('\n').expect("a header");
        header = first;
        for line in rest.lines() {
            let number: usize = line.split('\t').next().and_then(|n| n.parse().ok()).expect("a row number");
            by_number.insert(number, line);
        }
    }
    let row = |i: usize| by_number.get(&i).map_or_else(|| format!("{i}\t{filler}"), |line| (*line).to_owned());
    lines(header, (0..rows).map(row))
}

/// The label of which the shuffle shows the last row that a split takes before it does so of any other.
fn complete_first(train: &str, dev: &str, rows: usize, seed: u32) -> String {
    let mut places: Vec<usize> = (0..rows).collect();
    super::numpy::Legacy::seed(seed).shuffle(&mut places);
    let mut at = vec![0; rows];
    for (place, row) in places.into_iter().enumerate() {
        at[row] = place;
    }
    let mut last = BTreeMap::<&str, usize>::new();
    for line in train.lines().skip(1).chain(dev.lines().skip(1)) {
        let number: usize = line.split('\t').next().and_then(|n| n.parse().ok()).expect("a row number");
        let label = line.rsplit('\t').next().expect("a label");
        let entry = last.entry(label).or_default();
        *entry = (*entry).max(at[number]);
    }
    last.into_iter().min_by_key(|(_, place)| *place).expect("a label").0.to_owned()
}

fn same_directory(made: &Path, published: &Path) {
    let mut names: Vec<_> =
        fs::read_dir(published).expect("a split").map(|e| e.expect("an entry").file_name()).collect();
    names.sort();
    let mut ours: Vec<_> = fs::read_dir(made).expect("a split").map(|e| e.expect("an entry").file_name()).collect();
    ours.sort();
    assert_eq!(ours, names, "{}", published.display());
    for name in names {
        let read = |directory: &Path| fs::read(directory.join(&name)).expect("a file");
        assert!(read(made) == read(published), "{} of {} differs", name.display(), published.display());
    }
}

/// The shorter way gives the published 16-shot splits of all tasks and seeds, and shows that CSV is written as it is
/// read.
#[test]
fn published_16_shot_splits_lie_in_the_512_shot_ones() {
    let Some(published) = published() else { return };
    let place = Place::new();
    let tasks: Vec<_> = super::TASKS.iter().map(|task| task.name).filter(|name| *name != "ag_news").collect();
    let seeds = [13, 21, 42, 87, 100];
    let args = DataArgs {
        from: published.clone(),
        task: tasks.iter().map(|name| (*name).to_owned()).collect(),
        derive: true,
        allow_few: true,
        ..place.args(&[16, 64], &seeds)
    };
    run(&args).expect("splits");
    for task in tasks {
        for seed in seeds {
            let split = format!("16-{seed}");
            same_directory(&place.split(task, &split), &published.join(task).join(&split));
            assert!(place.split(task, &format!("64-{seed}")).is_dir());
        }
    }
}

#[test]
fn a_split_that_is_there_is_kept() {
    let place = Place::new();
    made_up(&place);
    let args = DataArgs { task: vec!["mr".into()], ..place.args(&[4], &[13]) };
    run(&args).expect("splits");
    run(&args).expect("the same splits again");
    let file = place.split("mr", "4-13").join("dev.csv");
    fs::write(&file, "1,my own\n").expect("a file");
    assert_eq!(
        place.refused(&args),
        "DIR/out/k-shot-1k-test/mr/4-13: exists with different content; remove it, or give another --out"
    );
    assert_eq!(fs::read_to_string(file).expect("a file"), "1,my own\n");
}

#[test]
fn bad_originals_are_named_and_nothing_is_written() {
    let place = Place::new();
    made_up(&place);
    let refused = |task: &str, file: &str, text: &[u8], message: &str| {
        place.write(file, text);
        let args = DataArgs { task: vec![task.into()], ..place.args(&[4], &[13]) };
        assert_eq!(place.refused(&args), format!("DIR/from/{message}"));
    };
    refused(
        "rte",
        "x/y",
        b"",
        "RTE/train.tsv: is missing: it holds the original data, in the layout of LM-BFF's download",
    );
    refused("mr", "mr/test.csv", b"", "mr/test.csv: has no rows of data");
    refused("mr", "mr/test.csv", b"0,fine\n1,a,b\n", "mr/test.csv: row 2 has 3 column(s), but mr has 2");
    refused(
        "mr",
        "mr/train.csv",
        b"0,fine\n2,two stars\n",
        "mr/train.csv: row 2: `2` in the first column is not a label of mr, whose labels are 0, 1",
    );
    refused("mr", "mr/train.csv", b"0,fine\n1,\xff\n", "mr/train.csv: row 2 is not UTF-8 text");
    place.write("mr/test.csv", "0,fine\n");
    refused(
        "mr",
        "mr/train.csv",
        b"0,a\n0,b\n0,c\n0,d\n0,e\n0,f\n0,g\n0,h\n1,i\n",
        "mr/train.csv: label `1` has 1 training row(s), but k = 4 needs 8, half of them for dev; lower --k, or give --allow-few to take what is available, as the published 512-shot splits do",
    );
    refused(
        "QNLI",
        "QNLI/train.tsv",
        b"question,sentence,label\n",
        "QNLI/train.tsv: its header has 1 column(s), but QNLI has 4, divided by tabs",
    );
    refused(
        "QNLI",
        "QNLI/train.tsv",
        b"index\tquestion\tsentence\tlabel\n0\tWho?\tI.\n",
        "QNLI/train.tsv: row 2: `I.` in the last column is not a label of QNLI, whose labels are not_entailment, entailment",
    );
    assert!(!place.directory.path().join("out").exists(), "nothing was written");
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let place = Place::new();
    let tasks = "SST-2, sst-5, mr, cr, mpqa, subj, trec, ag_news, MRPC, QQP, QNLI, RTE, MNLI, SNLI";
    assert_eq!(
        place.refused(&place.args(&[4], &[13])),
        "DIR/from: is not a directory; --from must be a directory with a subdirectory per task"
    );
    place.write("other/file", "");
    assert_eq!(place.refused(&place.args(&[4], &[13])), format!("DIR/from: has none of the directories {tasks}"));
    let unknown = DataArgs { task: vec!["sst2".into()], ..place.args(&[4], &[13]) };
    assert_eq!(place.refused(&unknown), format!("unknown task `sst2`; the tasks are {tasks}"));
    made_up(&place);
    assert_eq!(place.refused(&place.args(&[0], &[13])), "--k needs numbers of at least 1, --seed at least one number");
    let derived = DataArgs { derive: true, ..place.args(&[300], &[13]) };
    assert_eq!(place.refused(&derived), "--derive takes train and dev from 512 rows per label: --k 300 is above 256");
}
