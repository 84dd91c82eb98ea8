//! Commands that are killed at random moments and run again. `KERNELVIEW_KILLS=50` kills each fifty times, `cargo test` twice.

use std::fs;
use std::thread::sleep;
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::common::command::Scratch;
use super::common::recipe::{RECIPE, text};
use super::{ANALYZE, command, results, same};

/// Number of kills per command.
fn kills() -> usize {
    std::env::var("KERNELVIEW_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(2)
}

const KERNEL: &str = "kernel --model model --dtype f64 --device cpu --threads 1 --out OUT/K.safetensors";
const VERIFY: &str = "verify --claim sign-factorization,structural-zeros --jobs 1 --device cpu --out-dir OUT";
const LORA: &str = "lora --model model --dtype f64 --device cpu --threads 1 --ranks 1,2 --draws 2 --out-dir OUT";
const PRETRAIN: &str = "pretrain --config recipe.toml --device cpu --threads 1 --out-dir OUT";

fn reproduce() -> String {
    format!(
        "reproduce --models model --data-dir {} --tasks MRPC,RTE --k 2 --seeds 13 --dtype f64 --device cpu --threads 1 \
         --steps 2 --eval-every 2 --train-batch-size 2 --lr-sgd 1e-2 --lr-adam 1e-3 --out-dir OUT",
        concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tasks")
    )
}

fn killed_anywhere(command_line: &str) {
    let scratch = Scratch::new();
    scratch.write("recipe.toml", RECIPE);
    scratch.write("text.txt", text());
    let place = |out: &str| {
        let path = scratch.path(out);
        fs::create_dir_all(&path).expect("a directory");
        path
    };
    let whole = place("whole");
    let start = Instant::now();
    let code = command(&scratch, command_line, "whole").status().expect("the program starts").code();
    // Forty steps need not meet every bound that `pretrain` checks: it then ends with exit code 1.
    assert!(code == Some(0) || (command_line == PRETRAIN && code == Some(1)), "exit code {code:?}");
    let (time, wanted) = (start.elapsed(), results(&whole));
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let mut survived = 0;
    for i in 0..kills() {
        let out = format!("killed-{i}");
        let directory = place(&out);
        let mut child = command(&scratch, command_line, &out).spawn().expect("the program starts");
        sleep(time.mul_f64(rng.random_range(0.05..0.95)));
        survived += usize::from(child.try_wait().expect("a child").is_some());
        child.kill().expect("a signal");
        child.wait().expect("an end");
        let again = command(&scratch, command_line, &out).status().expect("the program starts");
        assert_eq!(again.code(), code, "kill {i}: the command ends otherwise after it");
        same(&results(&directory), &wanted, &format!("kill {i}"));
    }
    println!("{} kills, {survived} of them after the end: {command_line}", kills());
}

#[test]
fn kernel_killed() {
    killed_anywhere(KERNEL);
}

#[test]
fn analyze_killed() {
    killed_anywhere(ANALYZE);
}

#[test]
fn verify_killed() {
    killed_anywhere(VERIFY);
}

#[test]
fn pretrain_killed() {
    killed_anywhere(PRETRAIN);
}

#[test]
fn lora_killed() {
    killed_anywhere(LORA);
}

#[test]
fn reproduce_killed() {
    killed_anywhere(&reproduce());
}
