//! The paper's kernel files: files by PyTorch are read, written files are read back unchanged, the same kernels give the same
//! solutions from either kind of file, and bad files are refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::bin::{archive, one_tensor};
use crate::common::command::Scratch;
use kernelview::kernel::{Formula, KernelFile, PublishedKernel, read_logits};
use serde_json::Value;
use tch::{Kind, Tensor};

/// A file of fixtures/torch-kernels, made by make.py there.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/torch-kernels").join(name)
}

/// The gradients of make.py, [examples, outputs, 5].
fn gradients(examples: i64, outputs: i64, start: i64) -> Tensor {
    let count = examples * outputs * 5;
    let numbers: Vec<f64> = (start..start + count).map(|i| ((i * 7) % 11 - 5) as f64).collect();
    Tensor::from_slice(&numbers).view([examples, outputs, 5])
}

/// `[N, C, M, C]`, entry by entry.
fn kernel(left: &Tensor, right: &Tensor) -> Tensor {
    let (n, c, _) = left.size3().expect("three axes");
    let (m, d, _) = right.size3().expect("three axes");
    left.view([n * c, 5]).matmul(&right.view([m * d, 5]).tr()).view([n, c, m, d])
}

#[test]
fn files_of_pytorch_are_read_in_the_right_orientation() {
    crate::common::one_thread();
    let (train, dev) = (gradients(4, 1, 0), gradients(2, 1, 3));
    let sgd = PublishedKernel::read(&fixture("sgd.pt")).expect("a kernel");
    assert_eq!(sgd.kernel, kernel(&train, &dev));
    assert!(sgd.reversed.is_none() && !sgd.is_square());
    assert_eq!(sgd.classes, [1, 0]);
    let both = PublishedKernel::read(&fixture("asymmetric.pt")).expect("a kernel");
    assert_eq!(both.kernel, kernel(&train, &dev.sign()));
    assert_eq!(both.reversed.expect("the other orientation"), kernel(&train.sign(), &dev));
    for name in ["train.pt", "asymmetric_train.pt"] {
        let square = PublishedKernel::read(&fixture(name)).expect("a kernel");
        assert!(square.is_square(), "{name}");
        assert_eq!(square.classes, [0, 1, 1, 0]);
    }
    let classes = PublishedKernel::read(&fixture("classes.pt")).expect("a kernel");
    assert_eq!(classes.kernel, kernel(&gradients(2, 3, 1), &gradients(3, 3, 5)));
    assert_eq!((classes.kernel.kind(), classes.classes), (Kind::Double, vec![2, 0, 1]));
    let logits = read_logits(&fixture("logits.pt"), 1, &[1, 0]).expect("logits");
    assert_eq!(logits, Tensor::from_slice(&[0.5, -1.5]).view([2, 1]));
}

#[test]
fn what_is_written_comes_back_with_the_same_bytes() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, formula) in [("sgd.pt", Formula::Signgd), ("asymmetric_train.pt", Formula::Asymmetric)] {
        let read = PublishedKernel::read(&fixture(name)).expect("a kernel");
        let (kernel, reversed, classes) =
            (read.kernel.copy(), read.reversed.as_ref().map(Tensor::copy), read.classes.clone());
        let file = read.into_file(formula, None);
        let again = PublishedKernel::of(&file, formula).expect("the kernel");
        let (first, second) = (directory.path().join("a.pt"), directory.path().join("b.pt"));
        again.write(&first).expect("a file");
        let back = PublishedKernel::read(&first).expect("a kernel");
        assert_eq!((&back.kernel, &back.reversed, &back.classes), (&kernel, &reversed, &classes), "{name}");
        back.write(&second).expect("a file");
        assert_eq!(fs::read(first).expect("a file"), fs::read(second).expect("a file"), "{name}");
    }
}

/// Kernels of a tiny network in this program's files and in the paper's give the same table and numbers.
#[test]
fn the_same_kernels_solve_alike_in_either_kind_of_file() {
    let scratch = Scratch::new();
    let run = |line: &str| {
        let answer = scratch.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(answer.code, Some(0), "{line}: {}", answer.stderr);
        answer.stdout
    };
    for (set, against) in [("train", ""), ("dev", "--against dev "), ("test", "--against test ")] {
        let kernel = format!("kernel --model model --dtype f64 {against}--out");
        run(&format!("{kernel} {set}.safetensors"));
        for formula in ["sgd", "asymmetric"] {
            fs::create_dir_all(scratch.path(formula)).expect("a directory");
            run(&format!("convert {set}.safetensors {formula}/{set}_kernels_demo.pt --formula {formula}"));
        }
        // Written directly, and converted from the other kind.
        run(&format!("{kernel} direct_kernels_{set}.pt --formula sgd"));
        for (one, other) in [("kernels", "kernels"), ("logits", "logits")] {
            let read = |name: String| fs::read(scratch.path(&name)).expect("a file");
            let direct = read(format!("direct_{one}_{set}.pt"));
            assert!(direct == read(format!("sgd/{set}_{other}_demo.pt")), "{set} {one}");
        }
    }
    let ours = "solve --train train.safetensors --dev dev.safetensors --test test.safetensors";
    for (formula, title) in [("sgd", "K, symmetric"), ("asymmetric", "K(A-SignGD)")] {
        run(&format!("{ours} --formula {formula} --json ours.json"));
        let table = run(&format!("solve --kernels {formula} --json theirs.json"));
        assert!(table.starts_with(title) && table.contains("with the network's logits"), "{table}");
        let json = |name: &str| -> Value {
            serde_json::from_slice(&fs::read(scratch.path(name)).expect("a file")).expect("JSON")
        };
        assert_eq!(json("ours.json"), json("theirs.json"), "{formula}");
    }
    assert_eq!(run(ours).matches("least squares").count(), 4, "three formulas, one with two solvers");
    // Converted back: the tensors are those of the first file.
    run("convert asymmetric/dev_kernels_demo.pt back.safetensors");
    let read = |name: &str| KernelFile::read(&scratch.path(name)).expect("a kernel file");
    let (first, back) = (read("dev.safetensors"), read("back.safetensors"));
    for (name, tensor) in &back.tensors {
        assert_eq!(Some(tensor), first.get(name), "{name}");
    }
    assert_eq!(back.tensors.len(), 4);
}

#[test]
fn files_that_are_no_kernels_are_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("K.pt");
    let refused = |bytes: &[u8], message: &str| {
        fs::write(&path, bytes).expect("a file");
        let error = PublishedKernel::read(&path).expect_err("refused");
        assert_eq!((error.exit_code(), error.to_string()), (2, format!("{}: {message}", path.display())));
    };
    let storages = BTreeMap::from([("0".to_owned(), vec![0; 40])]);
    refused(
        &archive(&one_tensor("a", 0, &[2], &[1]), &storages),
        "the pickled value is not a tuple of a kernel and targets",
    );
    refused(&archive(b"\x80\x02)\x85.", &storages), "a tuple of 1 values, expected a kernel and targets");
    let two = b"\x80\x02))\x86.";
    refused(&archive(two, &storages), "the pickled value is not a tuple of two tensors, a kernel and targets");
    refused(
        &archive(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", &storages),
        "archive/data.pkl: it calls `os.system`, which saved tensors do not need: refused",
    );
    refused(
        &fs::read(fixture("logits.pt")).expect("a file"),
        "the kernel has shape [2, 1], expected [N, C, M, C], or [2, N, C, M, C] for the asymmetric formula",
    );
    let mut kernel = PublishedKernel::read(&fixture("sgd.pt")).expect("a kernel");
    let _ = kernel.kernel.get(3).get(0).get(1).fill_(f64::NAN);
    kernel.write(&path).expect("a file");
    let nan = fs::read(&path).expect("a file");
    refused(&nan, "the kernel (shape [4, 1, 2, 1]) holds NaN at [3, 0, 1, 0]");
    kernel.kernel = gradients(4, 1, 0).narrow(2, 0, 2).unsqueeze(-1);
    kernel.classes.push(1);
    kernel.write(&path).expect("a file");
    let targets = fs::read(&path).expect("a file");
    refused(&targets, "3 targets for a kernel with 2 columns of examples");
    let wrong = read_logits(&fixture("logits.pt"), 1, &[1, 1]).expect_err("other targets").to_string();
    assert!(wrong.ends_with("its targets differ from the kernel's: the two files belong to different examples"));
}

/// A few compressed bytes could expand to fill all memory; `torch.save` compresses nothing.
#[test]
fn compressed_storages_are_refused() {
    use std::io::Write as _;
    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("K.pt");
    let options = SimpleFileOptions::default();
    let mut zip = ZipWriter::new(fs::File::create(&path).expect("a file"));
    let program = [&one_tensor("a", 0, &[1000, 1000], &[1000, 1])[..]].concat();
    for (name, method, bytes) in [
        ("archive/data.pkl", CompressionMethod::Stored, program),
        ("archive/data/0", CompressionMethod::Deflated, vec![0; 4_000_000]),
    ] {
        zip.start_file(name, options.compression_method(method)).expect("an entry");
        zip.write_all(&bytes).expect("a file");
    }
    zip.finish().expect("a file");
    let place = directory.path().join("pytorch_model.bin");
    fs::rename(&path, &place).expect("another name");
    let error = kernelview::lm::Checkpoint::open(directory.path()).err().expect("refused").to_string();
    let expected =
        "entry archive/data/0 is compressed, which torch.save never does; save the file again with torch.save";
    assert_eq!(error, format!("{}: {expected}", place.display()));
}

#[test]
fn solve_says_what_does_not_fit() {
    let scratch = Scratch::new();
    for name in ["train", "sgd", "asymmetric", "asymmetric_train"] {
        fs::copy(fixture(&format!("{name}.pt")), scratch.path(&format!("{name}.pt"))).expect("a copy");
    }
    let refused = |line: &str, message: &str| {
        let answer = scratch.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(2), &*format!("error: {message}\n")), "{line}");
    };
    refused(
        "solve --train sgd.pt --dev sgd.pt --test sgd.pt",
        "sgd.pt: is not the kernel of the training examples with themselves, but given as that",
    );
    refused(
        "solve --train train.pt --dev train.pt --test sgd.pt",
        "train.pt: is the kernel of examples with themselves, but given as one against dev or test examples",
    );
    refused("solve --train train.pt --dev asymmetric.pt --test sgd.pt", "asymmetric.pt: holds no kernel.sgd");
    refused(
        "solve --train train.pt --dev sgd.pt --test sgd.pt --formula asymmetric",
        "train.pt: cannot be asymmetric: the kernel has one: sgd or signgd",
    );
    refused("solve --kernels .", ".: has no train_kernels_TASK.pt; give the three files by their names");
    let kinds = "IN and OUT must be of different kinds: one name ends in .pt, .pth or .bin (the paper's format), the \
                 other in .safetensors (this program's)";
    for (from, to) in [("sgd.pt", "other.bin"), ("K.safetensors", "K.txt"), ("sgd.pt", "K"), ("K", "K.safetensors")] {
        refused(&format!("convert {from} {to}"), &format!("{to}: {kinds}"));
    }
    refused("convert sgd.pt none/K.safetensors", "none: the directory of OUT does not exist; create it first");
    refused(
        "kernel --model model --out K.pt",
        "--out: a .pt file holds one kernel: give one --formula and no --shares, or a name ending in .safetensors",
    );
    let solved = scratch.run(&["solve", "--train", "train.pt", "--dev", "sgd.pt", "--test", "sgd.pt"]);
    assert_eq!(solved.code, Some(0), "{}", solved.stderr);
    assert!(solved.stdout.contains("without logits"), "{}", solved.stdout);
}
