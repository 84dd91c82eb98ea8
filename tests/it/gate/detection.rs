//! What the gate must notice: the table in the guide to the gate.

use std::fs;

use kernelview::device::Dtype;
use kernelview::evidence::Analysis;
use kernelview::gate::{Baseline, Status, compare};
use serde_json::Value;

use super::{AS_BEFORE, Setting, analysis, baseline, compared, findings, scratch};
use crate::common::command::Scratch;

/// The analysis if one layer's part of the SGD kernel were multiplied by `factor`. Shares and mean diagonal are adapted;
/// everything else stays, though it would change too.
fn with_layer(before: &Analysis, layer: usize, factor: f64) -> Analysis {
    let mut after = before.clone();
    let total: f64 = 1.0 + (factor - 1.0) * before.layers[layer].sgd;
    for (i, l) in after.layers.iter_mut().enumerate() {
        l.sgd *= if i == layer { factor / total } else { 1.0 / total };
    }
    let kernel = after.kernels.iter_mut().find(|k| k.formula == "sgd").expect("the SGD kernel");
    kernel.mean_diagonal *= total;
    after
}

/// Fails for: a layer that is not among the metrics, or only with its share: the share of a layer that is nearly the whole
/// kernel hardly changes.
#[test]
fn five_percent_of_one_layers_kernel() {
    let before = analysis(&scratch(), AS_BEFORE, 1);
    let old = baseline(std::slice::from_ref(&before));
    assert!(before.layers.len() >= 4, "{:?}", before.layers);
    for (i, layer) in before.layers.iter().enumerate() {
        let moved = |factor: f64| compared(&old, &baseline(&[with_layer(&before, i, factor)]));
        let name = format!("layers.{}.sgd_trace", layer.layer);
        for factor in [1.05, 0.95, 1.001] {
            let comparison = moved(factor);
            let traces: Vec<&str> = findings(&comparison).into_iter().filter(|n| n.ends_with("sgd_trace")).collect();
            // That layer, and no other.
            assert_eq!(traces, [name.as_str()], "{factor}");
        }
        // Control: the effect of another machine's order of summation.
        let comparison = moved(1.0 + 1e-6);
        assert!(comparison.passed(), "{name}: {:?}", findings(&comparison));
    }
}

/// The same for another seed than the baseline's, for which the layer's trace is judged by its spread: a layer that grows
/// threefold.
#[test]
fn a_layers_kernel_at_another_seed() {
    let scratch = scratch();
    let runs: Vec<Analysis> = (1..=8).map(|seed| analysis(&scratch, AS_BEFORE, seed)).collect();
    let old = baseline(&runs);
    let other = analysis(&scratch, AS_BEFORE, 30);
    assert!(compared(&old, &baseline(std::slice::from_ref(&other))).passed());
    let layer = &other.layers[1].layer;
    let comparison = compared(&old, &baseline(&[with_layer(&other, 1, 30.0)]));
    assert!(findings(&comparison).contains(&format!("layers.{layer}.sgd_trace").as_str()), "{comparison:?}");
}

fn changed(scratch: &Scratch, setting: Setting) -> Vec<String> {
    let old = baseline(&[analysis(scratch, AS_BEFORE, 1)]);
    let new = baseline(&[analysis(scratch, setting, 1)]);
    let control = baseline(&[analysis(scratch, AS_BEFORE, 1)]);
    assert!(compared(&old, &control).passed());
    findings(&compared(&old, &new)).into_iter().map(str::to_owned).collect()
}

#[test]
fn another_template() {
    let found = changed(&scratch(), Setting { template: "*cls**sent_0*_It_is*mask*.*sep+*", ..AS_BEFORE });
    for name in ["task.template", "task.prompts_digest", "kernels.sgd.mean_diagonal"] {
        assert!(found.iter().any(|f| f == name), "{name}: {found:?}");
    }
}

#[test]
fn another_label_word() {
    let found = changed(&scratch(), Setting { words: "terrible,good", ..AS_BEFORE });
    assert!(found.iter().any(|f| f == "task.label_words"), "{found:?}");
}

#[test]
fn another_element_type() {
    let found = changed(&scratch(), Setting { dtype: Dtype::F64, ..AS_BEFORE });
    assert!(found.iter().any(|f| f == "run.dtype"), "{found:?}");
}

/// Two words of the vocabulary are swapped: same size, same special tokens, same label words, other prompts.
#[test]
fn another_tokenizer() {
    let scratch = scratch();
    let old = baseline(&[analysis(&scratch, AS_BEFORE, 1)]);
    let path = scratch.path("model/tokenizer.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).expect("a tokenizer")).expect("JSON");
    // Control: the same tokenizer, written without its spaces.
    fs::write(&path, serde_json::to_vec(&json).expect("JSON")).expect("a tokenizer");
    assert!(compared(&old, &baseline(&[analysis(&scratch, AS_BEFORE, 1)])).passed());

    let words = json["model"]["vocab"].as_object_mut().expect("a vocabulary");
    let (a, b) = (words["a"].clone(), words["was"].clone());
    words["a"] = b;
    words["was"] = a;
    fs::write(&path, serde_json::to_vec(&json).expect("JSON")).expect("a tokenizer");
    let comparison = compared(&old, &baseline(&[analysis(&scratch, AS_BEFORE, 1)]));
    let found = findings(&comparison);
    for name in ["task.tokenizer_digest", "task.prompts_digest", "kernels.sgd.mean_diagonal"] {
        assert!(found.contains(&name), "{name}: {found:?}");
    }
}

/// A metric that was not measured before, and one that is not measured now.
#[test]
fn new_and_vanished_metrics_are_named() {
    let before = analysis(&scratch(), AS_BEFORE, 1);
    let mut after = before.clone();
    after.kernels.retain(|k| k.formula != "signgd");
    let (old, new) = (baseline(&[before]), baseline(&[after]));
    let statuses = |old: &Baseline, new: &Baseline| -> Vec<(String, Status)> {
        let rows = compared(old, new).rows;
        rows.into_iter().filter(|r| r.status.is_finding()).map(|r| (r.name, r.status)).collect()
    };
    let name = "kernels.signgd.mean_diagonal".to_owned();
    assert!(statuses(&old, &new).contains(&(name.clone(), Status::Vanished)));
    assert!(statuses(&new, &old).contains(&(name, Status::New)));
}

/// Random metrics: a loss far outside its spread is noticed, and with `strict` also one that only differs from that at the same
/// seed.
#[test]
fn random_metrics() {
    let scratch = scratch();
    let runs: Vec<Analysis> = (1..=8).map(|seed| analysis(&scratch, AS_BEFORE, seed)).collect();
    let old = baseline(&runs);
    let with_loss = |factor: f64| {
        let mut after = runs[0].clone();
        after.fine_tuning[0].selected.dev_loss *= factor;
        baseline(&[after])
    };
    let name = "fine_tuning.sgd.dev_loss";
    assert_eq!(findings(&compared(&old, &with_loss(50.0))), [name]);
    let little = compared(&old, &with_loss(1.01));
    assert!(little.passed() && little.count(Status::Within) == 1, "{:?}", little.rows);
    let strict = kernelview::gate::Options { strict: true, ..Default::default() };
    assert_eq!(findings(&compare(&old, &with_loss(1.01), &strict).expect("comparable")), [name]);
    assert!(compare(&old, &with_loss(1.0), &strict).expect("comparable").passed());
}

/// Resolution of a sign kernel's drift: a change by a thousandth, as from another number of threads, is rounding; a change
/// beyond the errors of its two kernels is not.
#[test]
fn drifts_of_kernels() {
    let before = analysis(&scratch(), AS_BEFORE, 1);
    let old = baseline(std::slice::from_ref(&before));
    let strict = kernelview::gate::Options { strict: true, ..Default::default() };
    let after = |formula: &str, change: fn(f64) -> f64| {
        let mut after = before.clone();
        let mut drifts = after.fine_tuning[0].kernel_drift.iter_mut();
        let drift = drifts.find(|(name, _)| name == formula).expect("its drift");
        drift.1.frobenius = change(drift.1.frobenius);
        let comparison = compare(&old, &baseline(&[after]), &strict).expect("comparable");
        findings(&comparison).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(after("signgd", |drift| 1.0011 * drift).is_empty());
    assert_eq!(after("signgd", |drift| 1.1 * drift + 0.05), ["fine_tuning.sgd.kernel_drift.signgd.frobenius"]);
    // The SGD kernel's drift has a better resolution.
    assert!(after("sgd", |drift| 1.0001 * drift).is_empty());
    assert_eq!(after("sgd", |drift| 1.01 * drift + 0.005), ["fine_tuning.sgd.kernel_drift.sgd.frobenius"]);
}
