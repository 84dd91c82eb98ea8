//! Sketched kernels: unbiased over seeds with the stated variance, and the program's directories of them.

use std::fs;

use crate::common::command::{Answer, Scratch};
use kernelview::jacobian::{Examples, Parameters, record};
use kernelview::kernel::{KernelFile, PublishedKernel};
use kernelview::network::{Abc, Activation, Mlp, MlpExamples, unit_inputs};
use kernelview::progress::Silent;
use kernelview::sketch::{SketchSettings, bound, sketch};
use tch::{Device, Kind, Tensor};

/// A small network in double precision with its dense Jacobian \[rows, P\].
fn network(outputs: i64) -> (Parameters, MlpExamples, Tensor) {
    let abc = Abc::ntk(3);
    let mlp = Mlp { input: 6, width: 11, depth: 3, outputs, activation: Activation::Tanh, gain: 1.0, abc };
    let parameters = mlp.parameters(3, Kind::Double, Device::Cpu);
    let examples = mlp.examples(unit_inputs(4, 6, 5, Kind::Double, Device::Cpu));
    let all: Vec<usize> = (0..examples.len()).collect();
    let dense = record(&parameters, &examples, &all).dense();
    (parameters, examples, dense)
}

fn settings(parameters: &Parameters, size: usize, seed: u64) -> SketchSettings {
    SketchSettings { size, seed, batch: 3, include: vec![true; parameters.len()] }
}

fn gram(rows: &Tensor) -> Tensor {
    let rows = rows.to_kind(Kind::Double);
    rows.matmul(&rows.tr())
}

/// `|∇f|²|∇f'|² + <∇f,∇f'>²` minus the terms of pairs of entries in one run, which do not collide: runs are the rows of
/// parameters, cut into pieces of at most `size` entries.
fn variance(parameters: &Parameters, dense: &Tensor, size: usize, a: i64, b: i64) -> f64 {
    let (a, b) = (dense.get(a), dense.get(b));
    let term = |a: &Tensor, b: &Tensor| {
        let product = |x: &Tensor, y: &Tensor| x.dot(y).double_value(&[]);
        product(a, a) * product(b, b) + product(a, b).powi(2)
    };
    let (mut within, mut at) = (0.0, 0);
    for spec in parameters.specs() {
        let width: i64 = spec.shape[1..].iter().product();
        for _ in 0..spec.shape[0] {
            for from in (0..width).step_by(size) {
                let length = (size as i64).min(width - from);
                within += term(&a.narrow(0, at + from, length), &b.narrow(0, at + from, length));
            }
            at += width;
        }
    }
    (term(&a, &b) - within) / size as f64
}

/// Over 500 seeds the mean of every entry is the exact kernel's within five standard errors, and the variance the closed form's
/// within 40% (five standard deviations of a sample variance of heavy-tailed numbers). Runs shorter and longer than the sketch.
/// Fails for: signs shared by two entries, dependent places, a parameter that is left out or shares its fold with another, a
/// bound that is exceeded.
#[test]
fn entries_are_right_on_average_with_the_stated_variance() {
    for (outputs, size) in [(1, 32), (2, 7)] {
        let (parameters, examples, dense) = network(outputs);
        let exact = gram(&dense);
        let rows = exact.size()[0];
        let seeds = 500;
        let (mut sum, mut squares) = (exact.zeros_like(), exact.zeros_like());
        for seed in 0..seeds {
            let found = sketch(&parameters, &examples, &settings(&parameters, size, seed), &Silent).expect("a sketch");
            let off = gram(&found.rows) - &exact;
            squares += &off * &off;
            sum += off;
        }
        for i in 0..rows {
            for j in 0..=i {
                let value = |t: &Tensor, i, j| t.double_value(&[i, j]);
                let wanted = variance(&parameters, &dense, size, i, j);
                let mean = value(&sum, i, j) / seeds as f64;
                assert!(
                    mean.abs() <= 5.0 * (wanted / seeds as f64).sqrt(),
                    "entry {i}, {j}: off by {mean:.3e} on average"
                );
                let ratio = value(&squares, i, j) / seeds as f64 / wanted;
                assert!((0.6..1.4).contains(&ratio), "entry {i}, {j}: variance {ratio:.3} times the closed form");
                let most = bound(value(&exact, i, i), value(&exact, j, j), value(&exact, i, j), size);
                assert!(wanted <= most * most * (1.0 + 1e-12));
            }
        }
    }
}

/// Neither the batch nor the element type changes a sketch beyond rounding: `S` does not depend on them. Fails for: rows in
/// the wrong place, a fold that depends on tiles.
#[test]
fn batches_and_precision_do_not_matter() {
    let (parameters, examples, _) = network(2);
    let whole = sketch(&parameters, &examples, &settings(&parameters, 50, 1), &Silent).expect("a sketch");
    for batch in [1, 2, 4] {
        let settings = SketchSettings { batch, ..settings(&parameters, 50, 1) };
        let other = sketch(&parameters, &examples, &settings, &Silent).expect("a sketch");
        let gap = (&whole.rows - other.rows).abs().max().double_value(&[]);
        assert!(gap <= 1e-6 * whole.rows.abs().max().double_value(&[]), "batch {batch}: {gap:.3e}");
        assert!((&whole.outputs - other.outputs).abs().max().double_value(&[]) <= 1e-14);
    }
}

/// `sketch --model model ARGUMENTS`, split at spaces.
fn run(scratch: &Scratch, arguments: &str) -> Answer {
    let start = ["sketch", "--model", "model", "--dtype", "f64", "--device", "cpu", "--threads", "1"];
    let words: Vec<&str> = start.into_iter().chain(arguments.split_whitespace()).collect();
    scratch.run(&words)
}

fn kernel(scratch: &Scratch, arguments: &str) -> Answer {
    let words: Vec<&str> = ["sketch-kernel"].into_iter().chain(arguments.split_whitespace()).collect();
    scratch.run(&words)
}

fn done(answer: &Answer) -> &Answer {
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    answer
}

/// The whole procedure: sketches of three sets, kernels from them, `solve`. Entries are within the bound of the exact ones, and
/// the measured error is printed and stored. Fails for: rows in another order than the kernel's, labels or lists from the wrong
/// side, a kernel that is not symmetric to the last bit.
#[test]
fn solve_reads_kernels_from_sketches() {
    let scratch = Scratch::new();
    let size = 512;
    for split in ["train", "dev", "test"] {
        let made = run(&scratch, &format!("--split {split} --size {size} --block 11 --out {split}.sketch"));
        assert!(done(&made).stdout.contains("exact ones"), "{}", made.stdout);
    }
    done(&kernel(&scratch, "train.sketch --out train.safetensors"));
    done(&kernel(&scratch, "train.sketch --out train.pt"));
    let published = PublishedKernel::read(&scratch.path("train.pt")).expect("a kernel in the paper's format");
    let own = KernelFile::read(&scratch.path("train.safetensors")).expect("a kernel");
    assert_eq!(Some(&published.kernel), own.get("kernel.sgd"));
    for split in ["dev", "test"] {
        done(&kernel(&scratch, &format!("train.sketch --against {split}.sketch --out {split}.safetensors")));
        done(&scratch.kernel(&format!("--dtype f64 --formula sgd --against {split} --out exact-{split}.safetensors")));
    }
    done(&scratch.kernel("--dtype f64 --formula sgd --out exact-train.safetensors"));
    let read = |name: &str| KernelFile::read(&scratch.path(&format!("{name}.safetensors"))).expect("a kernel");
    let diagonal = |name: &str| read(name).to_gram().expect("a kernel").sgd.expect("sgd").diagonal(0, 0, 1);
    let own = diagonal("exact-train");
    for split in ["train", "dev", "test"] {
        let (found, exact) = (read(split), read(&format!("exact-{split}")));
        for name in ["labels", "labels_right"] {
            assert_eq!(found.get(name).is_some(), exact.get(name).is_some());
            if let (Some(a), Some(b)) = (found.get(name), exact.get(name)) {
                assert_eq!(a, b);
            }
        }
        for (field, value) in &exact.metadata {
            if !["digest", "shares"].contains(&field.as_str()) {
                assert_eq!(found.metadata.get(field), Some(value), "{split}: {field}");
            }
        }
        assert_eq!(found.metadata["sketch_size"], size.to_string());
        let matrix = |file: &KernelFile| file.to_gram().expect("a kernel").sgd.expect("sgd");
        let (found, exact) = (matrix(&found), matrix(&exact));
        let error = (&found - &exact).square().mean(Kind::Double).double_value(&[]).sqrt();
        // The diagonal entries of one network's examples are similar: twice the bound covers their differences.
        let unit = own.mean(Kind::Double).double_value(&[]);
        assert!(error <= 2.0 * bound(unit, unit, unit, size) && error > 0.0, "{split}: {error:.3e} of {unit:.3e}");
        if split == "train" {
            assert_eq!(found, found.tr());
        }
    }
    let files = ["--train", "train.safetensors", "--dev", "dev.safetensors", "--test", "test.safetensors"];
    let solved = scratch.run(&[&["solve"][..], &files].concat());
    assert!(done(&solved).stdout.contains("  least squares "), "{}", solved.stdout);
}

/// Shards and a continued run give the same bytes as a single run; missing blocks are named, damaged ones are made again. Fails
/// for: blocks that depend on the process that makes them.
#[test]
fn shards_and_continued_runs_are_the_whole() {
    let scratch = Scratch::new();
    let flags = "--size 64 --block 7 --sample 5";
    done(&run(&scratch, &format!("{flags} --out whole")));
    done(&run(&scratch, &format!("{flags} --out parts --shard 1/2")));
    let early = kernel(&scratch, "parts --out K.safetensors");
    assert_eq!(early.code, Some(2));
    let named = "blocks are missing or from another run: block-00000.safetensors";
    assert!(early.stderr.contains(named) && early.stderr.contains("compute again --shard 0/2"), "{}", early.stderr);
    assert!(!scratch.path("K.safetensors").exists());
    done(&run(&scratch, &format!("{flags} --out parts --shard 0/2")));
    fs::write(scratch.path("parts/block-00002.safetensors"), b"half").expect("written");
    let damaged = kernel(&scratch, "parts --out K.safetensors");
    assert_eq!(damaged.code, Some(2));
    assert!(damaged.stderr.contains("block-00002.safetensors: not a complete block"), "{}", damaged.stderr);
    let again = run(&scratch, &format!("{flags} --out parts"));
    assert!(done(&again).stderr.contains("are already complete"), "{}", again.stderr);
    for name in ["manifest.json", "sample.safetensors", "block-00000.safetensors", "block-00002.safetensors"] {
        let read = |directory: &str| fs::read(scratch.path(&format!("{directory}/{name}"))).expect("a file");
        assert!(read("whole") == read("parts"), "{name} differs");
    }
}

/// Bad input gives status 2 and a message with advice; nothing is written.
#[test]
fn bad_input_is_refused() {
    let scratch = Scratch::new();
    done(&run(&scratch, "--size 16 --out a"));
    done(&run(&scratch, "--size 16 --sketch-seed 1 --split test --out b"));
    scratch.write("file", "text");
    let refused = |answer: Answer, message: &str| {
        assert_eq!(answer.code, Some(2), "{}", answer.stderr);
        assert!(answer.stderr.contains(message), "{}", answer.stderr);
    };
    refused(run(&scratch, "--size 0 --out c"), "--size: it is 0, expected 1 or more");
    refused(run(&scratch, "--block 0 --out c"), "--block: it is 0, expected 1 or more");
    let more = format!("--size {} --out c", u64::MAX);
    refused(run(&scratch, &more), "a sketch has fewer numbers than a gradient, which has ");
    refused(run(&scratch, "--out file"), "--out is a file");
    refused(run(&scratch, "--size 17 --out a"), "a: this is another sketch");
    refused(run(&scratch, "--precision bf16 --out c"), "remove it");
    refused(run(&scratch, "--shard 3/2 --out c"), "shards are counted from 0");
    refused(kernel(&scratch, "nowhere --out K.safetensors"), "nowhere: no manifest.json here");
    refused(kernel(&scratch, "a --against b --out K.safetensors"), "b: sketch_seed is 1, but 0 in a");
    refused(kernel(&scratch, "a --first 0 --out K.safetensors"), "--first: it is 0, expected 1 or more");
    refused(
        kernel(&scratch, "a --first 1000000 --out K.safetensors"),
        "the number of examples of a is 1000000; it must be 1 to ",
    );
    let manifest = scratch.path("a/manifest.json");
    let text = fs::read_to_string(&manifest).expect("a manifest");
    fs::write(&manifest, text.replace("\"kernelview_sketch\": 1", "\"kernelview_sketch\": 9")).expect("written");
    refused(kernel(&scratch, "a --out K.safetensors"), "field `kernelview_sketch` is 9, but this program reads 1");
    assert!(!scratch.path("K.safetensors").exists() && !scratch.path("c").exists());
}
