//! Writes an adapter so that PEFT and this program read it back bit for bit.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use tch::Tensor;

use super::files::{CONFIG, WEIGHTS, WRAPPER};
use super::targets::{Modules, TargetModules};
use crate::error::{Error, Result};
use crate::files::{create_dir, write_atomic};
use crate::jacobian::Parameters;
use crate::lm::save::write_tensors;
use crate::subspace::{Adapter, Lora, Use};

/// Writes the factors in `extended` in their own precision, and the network's parameters that came with the adapters, for a
/// model of this `model_type` with name or path `base_model`. The settings are written last, as the sign that all is
/// complete.
///
/// # Errors
/// [`Error::Adapter`] if PEFT could not adapt one of the weights; [`Error::Io`].
pub fn save_adapter(
    directory: &Path,
    architecture: &str,
    base_model: &str,
    lora: &Lora,
    extended: &Parameters,
) -> Result<()> {
    let modules = Modules::of(lora.network_specs());
    let mut adapted: Vec<(&str, &Adapter)> = Vec::new();
    for adapter in lora.adapters() {
        let is_known = adapter.of != Use::Linear || modules.iter().any(|(_, weight)| weight == adapter.weight);
        let factor = &lora.specs()[adapter.a.0].name;
        let name = factor.strip_suffix(".lora_A").or_else(|| factor.strip_suffix(".lora_embedding_A"));
        let Some(name) = name.filter(|_| is_known) else {
            let name = &lora.specs()[adapter.weight.0].name;
            return Err(Error::Adapter {
                weight: name.clone(),
                problem: "PEFT could not adapt it: it is not a linear map".into(),
            });
        };
        adapted.push((name, adapter));
    }
    create_dir(directory)?;
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    for (name, x) in &adapted {
        let value = |p| extended.get(p).shallow_clone();
        let mut add = |factor: &str, t: Tensor| tensors.push((format!("{WRAPPER}{name}.{factor}"), t));
        if x.of == Use::Embedding {
            add("lora_embedding_A", value(x.a).tr().contiguous());
            add("lora_embedding_B", value(x.b));
        } else {
            add("lora_A.weight", value(x.a));
            add("lora_B.weight", value(x.b));
        }
        if let Some(magnitude) = x.magnitude {
            add("lora_magnitude_vector.weight", value(magnitude));
        }
    }
    let turned = |name: &str| architecture == "gpt2" && name.contains(".c_") && name.ends_with(".weight");
    for p in lora.replaced() {
        let (name, value) = (&lora.specs()[p.0].name, extended.get(*p));
        let value = if turned(name) { value.tr().contiguous() } else { value.shallow_clone() };
        // The original parameters of an adapted module are nested one level deeper.
        let name = match name.rsplit_once('.').filter(|(module, _)| is_adapted(&adapted, module)) {
            Some((module, part)) => format!("{WRAPPER}{module}.base_layer.{part}"),
            None => format!("{WRAPPER}{name}"),
        };
        tensors.push((name, value));
    }
    write_tensors(&directory.join(WEIGHTS), &tensors, &[("format", "pt")])?;
    let text = serde_json::to_string_pretty(&config_json(architecture, base_model, lora, &modules, &adapted))
        .expect("a JSON value prints");
    write_atomic(&directory.join(CONFIG), (text + "\n").as_bytes())
}

fn config_json(
    architecture: &str,
    base_model: &str,
    lora: &Lora,
    modules: &Modules,
    adapted: &[(&str, &Adapter)],
) -> Value {
    // The columns of B, whatever the use.
    let rank_of = |x: &Adapter| lora.specs()[x.b.0].shape[1];
    let rank = most_frequent(adapted.iter().map(|(_, x)| rank_of(x)));
    let scalings: Vec<(f64, i64)> = adapted.iter().map(|(_, x)| (x.scaling, rank_of(x))).collect();
    let (rslora, alphas) = alphas(&scalings);
    let alpha = f64::from_bits(most_frequent(alphas.iter().map(|a| a.to_bits())));
    let (mut ranks, mut own_alphas) = (Map::new(), Map::new());
    for ((name, x), own) in adapted.iter().zip(&alphas) {
        if rank_of(x) != rank {
            ranks.insert((*name).to_owned(), rank_of(x).into());
        }
        if *own != alpha {
            own_alphas.insert((*name).to_owned(), number(*own));
        }
    }
    let replaced: Vec<&str> = lora.replaced().iter().map(|p| lora.specs()[p.0].name.as_str()).collect();
    let weights = replaced.iter().filter_map(|name| name.strip_suffix(".weight"));
    let saved: Vec<&str> = weights.filter(|module| !is_adapted(adapted, module)).collect();
    let lone_bias = |name: &&str| name.strip_suffix(".bias").is_some_and(|module| !saved.contains(&module));
    json!({
        "alpha_pattern": own_alphas,
        "auto_mapping": null,
        "base_model_name_or_path": base_model,
        "bias": if replaced.iter().any(lone_bias) { "all" } else { "none" },
        // GPT-2's maps are stored [in, out]; the factors are not.
        "fan_in_fan_out": architecture == "gpt2",
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": number(alpha),
        "lora_dropout": 0.0,
        "modules_to_save": if saved.is_empty() { Value::Null } else { saved.into() },
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": ranks,
        "revision": null,
        "target_modules": target_names(modules, adapted),
        "task_type": null,
        "use_dora": adapted.iter().any(|(_, x)| x.magnitude.is_some()),
        "use_rslora": rslora,
    })
}

/// Whether a module has an adapter.
fn is_adapted(adapted: &[(&str, &Adapter)], module: &str) -> bool {
    adapted.iter().any(|(name, _)| *name == module)
}

/// The last components of the modules' names if these match the same modules, else their full names.
fn target_names(modules: &Modules, adapted: &[(&str, &Adapter)]) -> Vec<String> {
    let mut short: Vec<String> = Vec::new();
    for (name, _) in adapted {
        let last = name.rsplit('.').next().unwrap_or(name).to_owned();
        if !short.contains(&last) {
            short.push(last);
        }
    }
    let targets = TargetModules::Names(short.clone());
    let named = modules.iter().filter(|(name, _)| targets.matches(name).unwrap_or(false)).count();
    if named == adapted.len() { short } else { adapted.iter().map(|(name, _)| (*name).to_owned()).collect() }
}

/// Whether scalings are `alpha / √rank`, and the alphas that reproduce them, bit for bit if possible.
fn alphas(scalings: &[(f64, i64)]) -> (bool, Vec<f64>) {
    let by = |root: bool| -> Option<Vec<f64>> {
        let divisor = |rank: i64| if root { (rank as f64).sqrt() } else { rank as f64 };
        scalings.iter().map(|(s, rank)| alpha(*s, divisor(*rank))).collect()
    };
    let plain = by(false);
    let is_whole = |alphas: &Vec<f64>| alphas.iter().all(|a| a.fract() == 0.0);
    let rooted = by(true).filter(|_| !plain.as_ref().is_some_and(is_whole));
    match (plain, rooted) {
        (Some(plain), Some(rooted)) if !is_whole(&rooted) => (false, plain),
        (_, Some(rooted)) => (true, rooted),
        (Some(plain), None) => (false, plain),
        // Scalings that PEFT could not have made: off by a rounding.
        (None, None) => (false, scalings.iter().map(|(s, rank)| s * *rank as f64).collect()),
    }
}

/// An alpha with `alpha / divisor = s` exactly, preferably a whole number.
fn alpha(scaling: f64, divisor: f64) -> Option<f64> {
    let near = scaling * divisor;
    let candidates = [near.round(), near, near.next_up(), near.next_down(), near.next_up().next_up()];
    candidates.into_iter().find(|a| a / divisor == scaling)
}

/// A whole number without a decimal point, as PEFT writes it.
fn number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { (x as i64).into() } else { x.into() }
}

/// The most frequent value, the smallest among ties; there is at least one value.
fn most_frequent<T: Ord + Copy>(values: impl Iterator<Item = T>) -> T {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let best = counts.values().max().copied().expect("at least one adapter");
    counts.into_iter().find(|(_, count)| *count == best).map(|(value, _)| value).expect("the best is one of them")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Breaks when the factors of an adapter that PEFT could have made are others after it was saved and read.
        #[test]
        fn factors_survive(alpha_in in 1e-3f64..1e3, ranks in prop::collection::vec(1i64..2000, 1..5), root in any::<bool>()) {
            let divisor = |rank: i64, root: bool| if root { (rank as f64).sqrt() } else { rank as f64 };
            let scalings: Vec<(f64, i64)> = ranks.iter().map(|r| (alpha_in / divisor(*r, root), *r)).collect();
            let (found_root, found) = alphas(&scalings);
            for ((s, rank), alpha) in scalings.iter().zip(found) {
                prop_assert_eq!(alpha / divisor(*rank, found_root), *s);
            }
        }
    }

    #[test]
    fn whole_alphas_stay_whole() {
        assert_eq!(alphas(&[(16.0 / 3.0, 3), (4.0, 4)]), (false, vec![16.0, 16.0]));
        assert_eq!(alphas(&[(16.0 / 3f64.sqrt(), 3), (4.0, 4)]), (true, vec![16.0, 8.0]));
        assert_eq!((number(16.0), number(1.5)), (json!(16), json!(1.5)));
    }
}
