//! Pre-training of families: recipes, batches, the parametrization, interruption and resumption, and `natural` on the results.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::command::Scratch;
use crate::common::read_tensors;
use crate::common::recipe::{RECIPE, text};
use kernelview::jacobian::Role;
use kernelview::lm::{Checkpoint, MaskedLm, Parametrization, Scaling};
use kernelview::pretrain::{Batches, Recipe, train_tokenizer};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// A directory with a text and a recipe, with one replacement in the recipe.
fn prepared(from: &str, to: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.write("text.txt", text());
    assert!(RECIPE.contains(from), "{from}");
    scratch.write("recipe.toml", RECIPE.replacen(from, to, 1));
    scratch
}

fn pretrain(scratch: &Scratch, out: &str, more: &[&str]) -> crate::common::command::Answer {
    let arguments = [&["pretrain", "--config", "recipe.toml", "--device", "cpu", "--out-dir", out], more].concat();
    scratch.run(&arguments)
}

fn weights(scratch: &Scratch, file: &str) -> Vec<u8> {
    fs::read(scratch.path(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

#[test]
fn recipes_that_cannot_be() {
    let refused = |from: &str, to: &str, message: &str| {
        let scratch = prepared(from, to);
        let answer = pretrain(&scratch, "out", &[]);
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(2), format!("error: {message}\n").as_str()));
        assert!(!scratch.path("out").exists());
    };
    refused(
        "steps = 40",
        "step = 40",
        "recipe.toml: line 20: unknown field `step`, expected one of `steps`, `batch`, \
        `masked`, `learning_rate`, `warmup`, `beta1`, `beta2`, `epsilon`, `evaluate_every`, `heldout_sequences`",
    );
    refused("[16, 32]", "[32, 16]", "recipe.toml: model.widths must be a growing list of widths");
    refused("[16, 32]", "[16, 20]", "recipe.toml: width 20 is not a positive multiple of model.head_dimension = 8");
    refused("masked = 4", "masked = 17", "recipe.toml: training.masked = 17 exceeds the 16 tokens of a sequence");
    refused("4e-3", "-1.0", "recipe.toml: training.learning_rate = -1 must be positive");
    refused("small", "a/b", "recipe.toml: name `a/b` must be letters, digits, `-` and `_`: it names directories");
    refused("text.txt", "none.txt", "cannot read none.txt: No such file or directory (os error 2)");
    let scratch = prepared("vocabulary = 600", "vocabulary = 60000");
    let answer = pretrain(&scratch, "out", &[]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.contains("tokens only; corpus.vocabulary asks for 60000"), "{}", answer.stderr);
}

#[test]
fn another_text_than_the_recipes_is_refused() {
    let scratch = prepared("vocabulary", "train_sha256 = \"00\"\nvocabulary");
    let answer = pretrain(&scratch, "out", &[]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.contains("but the recipe's corpus.train_sha256 is 00: another version"), "{}", answer.stderr);
}

#[test]
fn the_tokenizer_is_the_same_every_time() {
    let json =
        || train_tokenizer(Path::new("text"), &text(), 500).expect("enough words").to_string(false).expect("JSON");
    assert_eq!(json(), json());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// A batch hides exactly the requested number of tokens of every sequence, keeps them as targets in order, and depends only
    /// on its step.
    #[test]
    fn batches_hide_tokens_and_remember_them(
        seed in 0u64..1000, step in 0usize..40, size in 1usize..7, masked in 1usize..9, count in 3usize..30,
    ) {
        let ids: Vec<u16> = (0..count * 9 + 4).map(|i| 5 + (i % 700) as u16).collect();
        let draw = |earlier: usize| {
            let mut batches = Batches::new(&ids, 11, masked, seed);
            for step in 0..earlier {
                batches.batch(step, size, Device::Cpu);
            }
            let batch = batches.batch(step, size, Device::Cpu);
            let flat = |t: &Tensor| Vec::<i64>::try_from(t.contiguous().view(-1)).expect("integers");
            (flat(&batch.input.ids), flat(&batch.input.mask_positions), flat(&batch.targets))
        };
        let (input, positions, targets) = draw(0);
        prop_assert_eq!(&(input.clone(), positions.clone(), targets.clone()), &draw(step));
        prop_assert_eq!(input.iter().filter(|id| **id == 4).count(), size * masked);
        let mut restored = input;
        for (k, (position, target)) in positions.iter().zip(&targets).enumerate() {
            restored[k / masked * 11 + *position as usize] = *target;
        }
        for sequence in restored.chunks(11) {
            prop_assert_eq!((sequence[0], sequence[10]), (0, 2));
            let start = sequence[1] - 5;
            let expected: Vec<i64> = (0..9).map(|i| 5 + (start + i) % 700).collect();
            prop_assert_eq!(&sequence[1..10], expected.as_slice());
        }
    }
}

/// In muP, matrices with growing fan-in have rates that fall as 1/n for sign updates; for SGD tables and vectors have rates
/// that grow as n, and the decoder's rate falls. In the standard parametrization every rate is 1.
#[test]
fn rates_and_initial_values_follow_the_width() {
    let recipe = toml::from_str::<Recipe>(RECIPE).expect("a recipe");
    let model = MaskedLm::new(recipe.config(64));
    let mup = recipe.parametrization();
    let standard = Parametrization { scaling: Scaling::Standard, ..mup };
    for spec in model.specs().iter() {
        let name = spec.name.as_str();
        let decoder = name == "lm_head.decoder.weight";
        let hidden = spec.shape.len() == 2 && spec.role != Role::Embedding && !decoder;
        assert_eq!(
            mup.sign_rate(model.config().hidden_size, spec),
            if hidden || decoder { 0.25 } else { 1.0 },
            "{name}"
        );
        let expected = match (hidden, decoder, name) {
            (true, ..) | (.., "lm_head.bias") => 1.0,
            (_, true, _) => 0.25,
            _ => 4.0,
        };
        assert_eq!(mup.sgd_rate(model.config().hidden_size, spec), expected, "{name}");
        if hidden {
            assert_eq!(mup.initial(spec).deviation, (spec.shape[1] as f64).powf(-0.5), "{name}");
        }
        assert_eq!(standard.sign_rate(model.config().hidden_size, spec), 1.0, "{name}");
    }
}

/// Training, its files, resumption after `kill -9`, and uses of the networks, in one run of the program each.
#[test]
fn a_killed_run_goes_on_to_the_same_weights() {
    let scratch = prepared("steps = 40", "steps = 300");
    let whole = pretrain(&scratch, "whole", &[]);
    // The held-out text was trained on, and 300 small steps need not reach every bound.
    assert!(matches!(whole.code, Some(0 | 1)), "{}", whole.stderr);
    let state = scratch.path("killed/small-16/state.safetensors");
    let mut kills = 0;
    loop {
        let arguments = ["pretrain", "--config", "recipe.toml", "--device", "cpu", "--out-dir", "killed"];
        let mut child =
            scratch.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let start = Instant::now();
        let patience = Duration::from_millis(400 + 300 * kills);
        let ended = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break Some(status);
            }
            if start.elapsed() > patience && state.exists() && kills < 4 {
                child.kill().expect("SIGKILL");
                child.wait().expect("a dead child");
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        if ended.is_some() {
            break;
        }
        kills += 1;
    }
    assert!(kills > 0, "nothing was interrupted");
    for width in [16, 32] {
        for file in ["model.safetensors", "config.json", "tokenizer.json", "training.json"] {
            let name = format!("small-{width}/{file}");
            assert!(
                weights(&scratch, &format!("whole/{name}")) == weights(&scratch, &format!("killed/{name}")),
                "{name}"
            );
        }
        assert!(!scratch.path(&format!("killed/small-{width}/state.safetensors")).exists());
    }
    assert_eq!(weights(&scratch, "whole/report.md"), weights(&scratch, "killed/report.md"));

    // Everything is done, and nothing changes.
    let before = scratch.contents();
    let again = pretrain(&scratch, "whole", &[]);
    assert!(again.stdout.contains("already there"), "{}", again.stdout);
    assert!(before == scratch.contents());

    // transformers 5 looks for an untied decoder's bias at the decoder, older ones beside it.
    let stored = read_tensors(&scratch.path("whole/small-16/model.safetensors"));
    assert_eq!(stored["lm_head.decoder.bias"], stored["lm_head.bias"]);

    // The networks have learned something, load, and give answers.
    let losses: serde_json::Value = serde_json::from_slice(&weights(&scratch, "whole/report.json")).expect("JSON");
    for curve in losses["curves"].as_array().expect("curves") {
        let last = curve["points"].as_array().and_then(|p| p.last()).expect("points")["train_loss"].as_f64();
        assert!(last.expect("a loss") < curve["unigram_loss"].as_f64().expect("a loss"), "{curve}");
    }
    let natural = scratch.run(&[
        "natural",
        "--models",
        "whole/small-16",
        "whole/small-32",
        "--task",
        "cloze-he-she",
        "--device",
        "cpu",
        "--max-length",
        "18",
        "--first-limit",
        "7",
        "--other-limit",
        "7",
    ]);
    assert_eq!(natural.code, Some(0), "{}", natural.stderr);
    let report: serde_json::Value =
        serde_json::from_slice(&weights(&scratch, "kernelview-natural/report.json")).expect("JSON");
    assert_eq!(report["models"][1][1], 32);
    assert_eq!(report["measured"][0].as_array().map(Vec::len), Some(4));
    let same = scratch.run(&[
        "natural",
        "--models",
        "whole/small-16",
        "whole/small-16",
        "--task",
        "cloze-he-she",
        "--max-length",
        "18",
        "--first-limit",
        "7",
        "--other-limit",
        "7",
    ]);
    assert_eq!(same.code, Some(2));
    assert!(same.stderr.contains("both have width 16; give models of different widths"), "{}", same.stderr);
}

/// The checks of the parametrization separately; the networks in the standard parametrization are the control.
#[test]
fn checks_of_the_parametrization_are_kept() {
    let scratch = prepared("seed = 3", "seed = 4");
    let more = ["--check", "coordinates,learning-rates", "--no-training"];
    let first = pretrain(&scratch, "out", &more);
    assert!(matches!(first.code, Some(0 | 1)), "{}", first.stderr);
    let report = String::from_utf8(weights(&scratch, "out/report.md")).expect("UTF-8");
    for part in ["muP: largest exponent in width", "Held-out loss after a short run over learning rates: muP"] {
        assert!(report.contains(part), "{part}");
    }
    let second = pretrain(&scratch, "out", &more);
    assert!(!second.stderr.contains("coordinate check"), "made again: {}", second.stderr);
    assert_eq!(report.into_bytes(), weights(&scratch, "out/report.md"));
    assert!(!scratch.path("out/small-16/model.safetensors").exists());
}

/// A finished network is not overwritten by one of other settings.
#[test]
fn finished_networks_stay() {
    let scratch = prepared("steps = 40", "steps = 2");
    let first = pretrain(&scratch, "out", &["--width", "16"]);
    assert!(matches!(first.code, Some(0 | 1)), "{}", first.stderr);
    // The bounds are for longer runs; each line says what was measured.
    assert!(
        first.stdout.contains("check failed: width 16: held-out loss below that of the tokens' frequencies, in nats: ")
    );
    assert!(first.stdout.contains(", expected ≥ "), "{}", first.stdout);
    let files = ["small-16/model.safetensors", "report.json", "report.md"].map(|name| format!("out/{name}"));
    let read = || files.clone().map(|name| weights(&scratch, &name));
    let finished = read();
    for more in [["--steps", "3"], ["--seed", "9"]] {
        let answer = pretrain(&scratch, "out", &[&["--width", "16"], &more[..]].concat());
        assert_eq!(answer.code, Some(2), "{}", answer.stderr);
        assert!(answer.stderr.contains("out/small-16: a network is finished there"), "{}", answer.stderr);
        assert!(finished == read(), "{more:?}");
    }
}

/// Half precision halves the file and loads to within its rounding.
#[test]
fn checkpoints_in_half_precision() {
    let scratch = prepared("steps = 40", "steps = 3");
    let full = pretrain(&scratch, "full", &["--width", "16"]);
    assert!(matches!(full.code, Some(0 | 1)), "{}", full.stderr);
    scratch.write(
        "recipe.toml",
        RECIPE.replacen("steps = 40", "steps = 3", 1).replacen("[training]", "dtype = \"f16\"\n[training]", 1),
    );
    let half = pretrain(&scratch, "half", &["--width", "16"]);
    assert!(matches!(half.code, Some(0 | 1)), "{}", half.stderr);
    let read = |name: &str| Checkpoint::read(&scratch.path(name)).expect("a checkpoint");
    let (full, half) = (read("full/small-16/model.safetensors"), read("half/small-16/model.safetensors"));
    assert_eq!(full.len(), half.len());
    for (name, value) in &full {
        assert_eq!(half[name].kind(), Kind::Half, "{name}");
        let error = (value - half[name].to_kind(Kind::Float)).abs().max().double_value(&[]);
        assert!(error <= 5e-4 * value.abs().max().double_value(&[]), "{name}: {error}");
    }
}
