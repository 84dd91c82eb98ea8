//! `kernelview solve` on kernel files made here: files that do not belong together, kernels that a solver cannot solve, too
//! large ones, interruptions.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::command::{Answer, Scratch};
use crate::common::shared;
use kernelview::kernel::KernelFile;
use tch::{Kind, Tensor};

/// Kernels of points in the plane, in two separate classes, as three files of one split.
struct Kernels {
    metadata: HashMap<String, String>,
    /// Formula of the kernels.
    name: &'static str,
    /// The kernel of two points.
    kernel: fn(&Tensor, &Tensor) -> Tensor,
    /// Training examples.
    rows: i64,
    /// Rows in another order.
    order: Vec<i64>,
}

impl Kernels {
    fn new() -> Self {
        let metadata = [
            ("model_digest", "aa"),
            ("seed", "13"),
            ("source", "subj/16-13"),
            ("template", "*cls*"),
            ("rows", "train"),
        ];
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { metadata: metadata.into(), name: "kernel.sgd", kernel: linear, rows: 12, order: (0..12).collect() }
    }

    fn points(count: i64, start: i64) -> (Tensor, Tensor) {
        let t = Tensor::arange_start(start, start + count, (Kind::Double, tch::Device::Cpu));
        let labels = Tensor::arange_start(start, start + count, (Kind::Int64, tch::Device::Cpu)).remainder(2);
        let shift = (&labels * 2 - 1).to_kind(Kind::Double);
        (Tensor::stack(&[(&t * 1.7).sin() + &shift, (&t * 0.9).cos() - &shift, t.ones_like()], 1), labels)
    }

    /// One file: the kernel of the training points with themselves, or with those of another split.
    fn write(&self, scratch: &Scratch, columns: &str) {
        let (points, labels) = Self::points(self.rows, 0);
        let order = Tensor::from_slice(&self.order);
        let (left, labels) = (points.index_select(0, &order), labels.index_select(0, &order));
        let logits = |points: &Tensor| points.select(1, 0).unsqueeze(1) * 0.3;
        let mut tensors = vec![("labels".to_owned(), labels), ("logits".to_owned(), logits(&left))];
        let right = if columns == "train" {
            left.shallow_clone()
        } else {
            let (right, labels) = Self::points(8, if columns == "dev" { 100 } else { 200 });
            tensors.push(("labels_right".into(), labels));
            tensors.push(("logits_right".into(), logits(&right)));
            right
        };
        let shape = [self.rows, 1, right.size()[0], 1];
        tensors.push((self.name.into(), (self.kernel)(&left, &right).view(shape)));
        if self.name == "kernel.asymmetric" && columns != "train" {
            let turned = (self.kernel)(&right, &left).tr().contiguous();
            tensors.push(("kernel.asymmetric_reversed".into(), turned.view(shape)));
        }
        let mut metadata = self.metadata.clone();
        metadata.insert("columns".into(), columns.into());
        let file = KernelFile::with(tensors, metadata);
        file.write(&scratch.path(&format!("{columns}.safetensors"))).expect("a kernel file");
    }

    fn write_all(&self, scratch: &Scratch) {
        for columns in ["train", "dev", "test"] {
            self.write(scratch, columns);
        }
    }
}

fn linear(a: &Tensor, b: &Tensor) -> Tensor {
    a.matmul(&b.tr())
}

const FILES: [&str; 7] =
    ["solve", "--train", "train.safetensors", "--dev", "dev.safetensors", "--test", "test.safetensors"];

fn refused(answer: &Answer, message: &str) {
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(2), &*format!("error: {message}\n")));
}

/// Every field of the metadata and the rows themselves are compared between files. Fails for: a field that is not compared.
#[test]
fn kernels_of_different_models_splits_or_rows_are_refused() {
    let scratch = Scratch::new();
    Kernels::new().write_all(&scratch);
    assert_eq!(scratch.run(&FILES).code, Some(0));
    for (field, own) in [("model_digest", "aa"), ("seed", "13"), ("source", "subj/16-13"), ("template", "*cls*")] {
        let mut other = Kernels::new();
        other.metadata.insert(field.into(), "other".into());
        other.write(&scratch, "dev");
        let message = format!(
            "dev.safetensors: {field} is other, and {own} in train.safetensors: the files belong to different kernels"
        );
        refused(&scratch.run(&FILES), &message);
    }
    // Metadata of each row.
    for (field, entry) in [("row_numbers", "number"), ("row_text_digests", "text digest")] {
        let listed = |last: &str| {
            let mut kernels = Kernels::new();
            kernels.metadata.insert(field.into(), format!("1,2,3,4,5,6,7,8,9,10,11,{last}"));
            kernels
        };
        listed("12").write_all(&scratch);
        assert_eq!(scratch.run(&FILES).code, Some(0));
        listed("44").write(&scratch, "test");
        let end = "in train.safetensors: the rows are other examples or in another order";
        refused(&scratch.run(&FILES), &format!("test.safetensors: row 11 has {entry} 44, and 12 {end}"));
    }
    // Without metadata the rows are compared: in another order across classes, and within one class.
    let silent = || Kernels { metadata: HashMap::new(), ..Kernels::new() };
    silent().write_all(&scratch);
    let mut across = silent();
    across.order.swap(2, 3);
    across.write(&scratch, "test");
    let end = "in train.safetensors: the rows are other examples or in another order";
    refused(&scratch.run(&FILES), &format!("test.safetensors: row 2 has label 1, and 0 {end}"));
    let mut within = silent();
    within.order.swap(2, 4);
    within.write(&scratch, "test");
    let answer = scratch.run(&FILES);
    assert!(answer.stderr.starts_with("error: test.safetensors: logit 2 of the rows is "), "{}", answer.stderr);
    // A kernel against test examples in place of the dev kernel, on which settings are chosen.
    Kernels::new().write_all(&scratch);
    let mut swapped = FILES;
    swapped[4] = "test.safetensors";
    let message = "test.safetensors: its columns are those of test; the kernel against dev is needed here";
    refused(&scratch.run(&swapped), message);
}

/// Mixtures of files encountered in practice, if they exist outside the checkout.
#[test]
fn mixed_kernels_that_were_met_are_refused() {
    let Some(files) = shared("cases/reliability/solve-mixed-kernels") else { return };
    let scratch = Scratch::new();
    let run = |dev: &str, test: &str| {
        let path = |name: &str| files.join(format!("{name}.safetensors")).display().to_string();
        scratch.run(&["solve", "--train", &path("train-13"), "--dev", &path(dev), "--test", &path(test)])
    };
    let sound = run("dev-13", "test-13");
    assert!(sound.code == Some(0) && sound.stdout.contains("56.0"), "{}{}", sound.stdout, sound.stderr);
    for (dev, test) in [("dev-13", "test-21"), ("dev-21", "test-21"), ("dev-21", "test-13")] {
        let answer = run(dev, test);
        assert_eq!(answer.code, Some(2), "{}", answer.stdout);
        assert!(answer.stderr.contains("-21.safetensors: source is"), "{}", answer.stderr);
    }
}

/// A solver that fails leaves a note with the kernel's name; the others' results remain valid. The kernel has an eigenvalue of
/// about -8% of its largest: logistic regression has no minimum for the weaker penalties.
#[test]
fn one_solver_that_cannot_does_not_end_all() {
    let scratch = Scratch::new();
    let indefinite = |a: &Tensor, b: &Tensor| linear(a, b) - a.select(1, 2).outer(&b.select(1, 2)) * 1.5;
    Kernels { kernel: indefinite, ..Kernels::new() }.write_all(&scratch);
    let mut words = FILES.to_vec();
    words.extend(["--json", "solved.json"]);
    let answer = scratch.run(&words);
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    assert!(answer.stdout.contains("  least squares "), "{}", answer.stdout);
    assert!(answer.stdout.contains("  support vector machine "), "{}", answer.stdout);
    assert!(answer.stdout.contains("  note: kernel.sgd, logistic regression: "), "{}", answer.stdout);
    let json = std::fs::read_to_string(scratch.path("solved.json")).expect("results");
    assert!(json.contains("\"failures\""), "{json}");
    // Nothing but zeros.
    Kernels { kernel: |a, b| linear(a, b) * 0.0, ..Kernels::new() }.write_all(&scratch);
    let answer = scratch.run(&FILES);
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    assert!(answer.stdout.contains("kernel.sgd, logistic regression: the kernel is zero"), "{}", answer.stdout);
    assert!(answer.stdout.contains("  least squares "), "{}", answer.stdout);
}

/// Unsolvable kernels encountered in practice, if they exist outside the checkout.
#[test]
fn dead_ends_that_were_met_have_results() {
    for case in ["indefinite_0.01", "zero_kernel"] {
        let Some(files) = shared(&format!("cases/reliability/solve-dead-end/{case}")) else { return };
        let scratch = Scratch::new();
        let path = |name: &str| files.join(format!("{name}.safetensors")).display().to_string();
        let answer = scratch.run(&["solve", "--train", &path("train"), "--dev", &path("dev"), "--test", &path("test")]);
        assert_eq!(answer.code, Some(0), "{case}: {}", answer.stderr);
        assert!(answer.stdout.contains("  least squares "), "{case}: {}", answer.stdout);
        assert!(answer.stdout.contains("  note: kernel.sgd, logistic regression: "), "{case}: {}", answer.stdout);
    }
}

/// A file of 10^5 rows with only its header: a kernel that does not fit in memory is refused before it is read.
#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let scratch = Scratch::new();
    let write = |columns: &str, size: u64| {
        let (rows, other) = (100_000, if columns == "train" { 100_000 } else { 10 });
        let mut end = 0;
        let mut entry = |name: &str, kind: &str, shape: &[u64]| {
            let from = end;
            end += 8 * shape.iter().product::<u64>();
            format!(r#","{name}":{{"dtype":"{kind}","shape":{shape:?},"data_offsets":[{from},{end}]}}"#)
        };
        let mut header = entry("kernel.sgd", "F64", &[rows, 1, other, 1]);
        header += &entry("labels", "I64", &[rows]);
        if columns != "train" {
            header += &entry("labels_right", "I64", &[other]);
        }
        let header = format!(r#"{{"__metadata__":{{"format":"kernelview-kernel","format_version":"1"}}{header}}}"#);
        let mut file = File::create(scratch.path(&format!("{columns}.safetensors"))).expect("a file");
        file.write_all(&(header.len() as u64).to_le_bytes()).expect("written");
        file.write_all(header.as_bytes()).expect("written");
        // The unwritten part takes no space on the disk.
        file.set_len(8 + header.len() as u64 + end + size).expect("a length");
    };
    for columns in ["train", "dev", "test"] {
        write(columns, 0);
    }
    let answer = scratch.run(&FILES);
    assert_eq!(answer.code, Some(2), "{}", answer.stderr);
    let start = "error: train.safetensors, kernel.sgd: regression with 100000 rows needs about ";
    assert!(answer.stderr.starts_with(start), "{}", answer.stderr);
    // And a file that was cut off, or grew.
    write("dev", 1);
    refused(
        &scratch.run(&FILES),
        "dev.safetensors: not a complete kernel file (incomplete metadata, file not fully covered)",
    );
}

#[test]
fn what_cannot_hold_a_kernel_is_named() {
    let scratch = Scratch::new();
    scratch.write("empty.safetensors", "");
    scratch.write("empty.pt", "");
    scratch.write("directory/file", "");
    for (name, what) in [("empty.safetensors", "empty"), ("empty.pt", "empty"), ("directory", "a directory")] {
        let answer = scratch.run(&["solve", "--train", name, "--dev", name, "--test", name]);
        refused(&answer, &format!("{name}: is {what}; a kernel file is expected here"));
    }
}

/// A request to stop is noticed within a second or two, even inside a factorization, and `solve` ends like the other commands,
/// with status 130 and without results.
#[test]
fn an_interrupted_solve_ends_soon_and_without_results() {
    let scratch = Scratch::new();
    // Five reductions to band form and as many eliminations, which take several times as long as the signal is delayed.
    let smooth = |a: &Tensor, b: &Tensor| {
        let difference = a.select(1, 0).unsqueeze(1) - b.select(1, 0).unsqueeze(0);
        linear(a, b) + (difference * 40.0).sin() * 2.0
    };
    let rows = 2400;
    Kernels { kernel: smooth, name: "kernel.asymmetric", rows, order: (0..rows).collect(), ..Kernels::new() }
        .write_all(&scratch);
    for signal in ["-INT", "-TERM"] {
        let mut words = FILES.to_vec();
        words.extend(["--json", "solved.json"]);
        let mut child =
            scratch.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        std::thread::sleep(Duration::from_secs(3));
        let sent = Instant::now();
        Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
        let status = child.wait().expect("the program ends");
        let taken = sent.elapsed();
        assert_eq!((status.code(), status.signal()), (Some(130), None), "{signal}");
        assert!(taken < Duration::from_secs(10), "{signal}: {taken:?}");
        assert!(!scratch.path("solved.json").exists());
    }
}
