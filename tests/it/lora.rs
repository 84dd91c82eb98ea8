//! LoRA on language models: the command, PEFT files that are read back bit for bit, and refused files.

use std::fs;
use std::path::Path;

use crate::common::command::Scratch;
use kernelview::analysis::Pretrained;
use kernelview::device::Dtype;
use kernelview::jacobian::Parameters;
use kernelview::lm::{Modules, PeftAdapter, save_adapter};
use kernelview::network::normal_tensor;
use kernelview::report::read_json;
use kernelview::subspace::{Lora, Target};
use tch::{Device, Kind};

#[test]
fn the_command_reports_measures_once_and_repeats_itself() {
    let scratch = Scratch::new();
    let run = |out: &str| {
        let text = format!(
            "lora --model model --dtype f64 --device cpu --threads 1 --ranks 1,8 --draws 2 --intrinsic 4 --distance 0.3 \
             --out-dir {out}"
        );
        scratch.run(&text.split_whitespace().collect::<Vec<_>>())
    };
    let first = run("a");
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(first.stdout.contains("of the trace of the full kernel"), "{}", first.stdout);
    let report = |out: &str| fs::read_to_string(scratch.path(&format!("{out}/report.md"))).expect("a report");
    for wanted in ["What the targets cover", "LoRA: the rank for a distance of 0.3", "Random subspace: distances"] {
        assert!(report("a").contains(wanted), "{wanted}");
    }
    let again = run("a");
    assert_eq!(again.stderr.matches("already there").count(), 6, "{}", again.stderr);
    assert_eq!(run("b").code, Some(0));
    assert_eq!(report("a"), report("b"));
}

fn network(scratch: &Scratch) -> Pretrained {
    Pretrained::load(&scratch.path("model"), Dtype::F32, Device::Cpu).expect("a network")
}

/// Adapters of ranks 2 and 3 on queries and values with random factors.
fn adapted(network: &Pretrained) -> (Lora, Parameters) {
    let specs = network.parameters.specs();
    let chosen = Modules::of(specs).choose(&["query".into(), "value".into()]).expect("there are some");
    let target = |(i, weight)| {
        let rank = 2 + i64::from(i == 1);
        Target { weight, rank, scaling: 16.0 / rank as f64 }
    };
    let targets: Vec<Target> = chosen.into_iter().enumerate().map(target).collect();
    let lora = Lora::new(specs, &targets).expect("linear maps");
    let factors: Vec<_> = lora
        .adapters()
        .iter()
        .map(|a| {
            let draw = |p: kernelview::jacobian::Param| {
                normal_tensor(&lora.specs()[p.0].shape, 0.3, 5, p.0 as u64, Kind::Float, Device::Cpu)
            };
            (draw(a.a), draw(a.b))
        })
        .collect();
    let extended = lora.assemble(&network.parameters, factors);
    (lora, extended)
}

#[test]
fn a_saved_adapter_comes_back_bit_for_bit() {
    let scratch = Scratch::new();
    let network = network(&scratch);
    let (lora, extended) = adapted(&network);
    let directory = scratch.path("adapter");
    save_adapter(&directory, "bert", "model", &lora, &extended).expect("written");
    let read = PeftAdapter::load(&directory, network.parameters.specs()).expect("readable");
    assert_eq!(read.lora.adapters(), lora.adapters());
    let again = read.parameters(&network.parameters);
    for (a, b) in extended.values().iter().zip(again.values()) {
        assert!(a.equal(b));
    }
    // The command accepts it.
    let text = "lora --model model --device cpu --threads 1 --adapter adapter --out-dir out";
    let answer = scratch.run(&text.split_whitespace().collect::<Vec<_>>());
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    assert!(answer.stdout.contains("The adapter's kernel is at a cosine of"), "{}", answer.stdout);
    // Nothing was drawn, and the report says whose adapter it was.
    let report = fs::read_to_string(scratch.path("out/report.md")).expect("a report");
    assert!(report.contains("| adapter, as it was read | adapter, rank "), "{report}");
    assert!(!report.contains("initial distribution") && !report.contains("| draws |"), "{report}");
}

/// Fails for: training of other parameters than the adapters, written adapters that are not the trained ones, another reading
/// of them.
#[test]
fn trained_adapters_are_written_and_give_the_same_answers() {
    let scratch = Scratch::new();
    let common = "analyze --model model --dtype f64 --device cpu --threads 1 --test-limit 40 --formula sgd --steps 6 \
                  --eval-every 3 --train-batch-size 8";
    let run = |more: &str| {
        let text = format!("{common} {more}");
        let answer = scratch.run(&text.split_whitespace().collect::<Vec<_>>());
        assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    };
    run("--lora-rank 2 --optimizers adam --lr-adam 3e-2 --out-dir trained");
    let trained = read_json(&scratch.path("trained/report.json")).expect("a report");
    assert_eq!(trained.run.subset, "adapters of rank 2 on query, value");
    // Two layers, two maps of width 16 each: A [2, 16] and B [16, 2].
    let width = trained.model.width;
    assert_eq!(trained.model.parameters_in_subset, trained.model.layers * 2 * 2 * 2 * width);
    assert!(trained.fine_tuning[0].parameter_change > 0.0);
    run("--lora-adapter trained/adapters/adam --optimizers= --out-dir again");
    let again = read_json(&scratch.path("again/report.json")).expect("a report");
    assert_eq!(again.run.subset, "the adapters of adam");
    assert_eq!(again.zero_shot.test, trained.fine_tuning[0].test_accuracy);
    let (a, b) = (again.output_derivative.test, trained.fine_tuning[0].output_derivative.test);
    assert!((a.mean - b.mean).abs() < 1e-12 && (a.median - b.median).abs() < 1e-12, "{a:?} {b:?}");
    // At initialization B is zero, and the adapted network is the network itself.
    run("--optimizers= --out-dir plain");
    let plain = read_json(&scratch.path("plain/report.json")).expect("a report");
    assert_eq!(plain.zero_shot, trained.zero_shot);
    let refused = scratch.run(&["analyze", "--model", "model", "--lora-rank", "2", "--parameters", "no-head"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
}

#[test]
fn adapters_that_cannot_be_used_are_refused_by_name() {
    let scratch = Scratch::new();
    let network = network(&scratch);
    let (lora, extended) = adapted(&network);
    let directory = scratch.path("adapter");
    save_adapter(&directory, "bert", "model", &lora, &extended).expect("written");
    let config = directory.join("adapter_config.json");
    let good = fs::read_to_string(&config).expect("settings");
    let refused = |text: &str, message: &str| {
        fs::write(&config, text).expect("written");
        let error = PeftAdapter::load(&directory, network.parameters.specs()).expect_err(message);
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.exit_code(), 2);
    };
    refused("{", "not a JSON document");
    refused(&good.replace("\"LORA\"", "\"IA3\""), "peft_type `IA3` is not supported");
    refused(&good.replace("\"use_dora\": false", "\"use_dora\": true"), "query.lora_magnitude_vector.weight");
    refused(&good.replace("\"bias\": \"none\"", "\"bias\": \"some\""), "bias `some` is not supported");
    refused(&good.replace("\"r\": 2", "\"r\": 4"), "expected [4,");
    refused(&good.replace("\"query\"", "\"key\""), "lora_A.weight");
    fs::write(&config, &good).expect("written");
    fs::remove_file(directory.join("adapter_model.safetensors")).expect("removed");
    let error = PeftAdapter::load(&directory, network.parameters.specs()).expect_err("no weights").to_string();
    assert!(error.contains("no weights: expected adapter_model.safetensors"), "{error}");
    let error = PeftAdapter::load(Path::new("nowhere"), network.parameters.specs()).expect_err("nothing").to_string();
    assert!(error.contains("no adapter_config.json here"), "{error}");
    let answer = scratch.run(&["lora", "--model", "model", "--targets", "queries", "--out-dir", "out"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.contains("unknown target `queries`; this network"), "{}", answer.stderr);
}
