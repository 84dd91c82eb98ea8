//! Writing an adapter so that PEFT and this program read it again, bit for bit.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use tch::Tensor;

use super::targets::{Modules, TargetModules};
use super::{CONFIG, WEIGHTS, WRAPPER};
use crate::error::{Error, Result};
use crate::files::{create_dir, write_atomic};
use crate::jacobian::Parameters;
use crate::lm::save::write_tensors;
use crate::subspace::{Adapter, Lora};

/// Writes the factors of `extended` in their own precision, for a model of this `model_type` whose name or path is
/// `base_model`. The settings come last, so that where they are, the factors are too.
///
/// # Errors
/// [`Error::Settings`] where an adapted weight is no module that PEFT could adapt; [`Error::Io`].
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
        let Some((name, _)) = modules.iter().find(|(_, weight)| *weight == adapter.weight) else {
            let name = &lora.specs()[adapter.weight.0].name;
            return Err(Error::Settings(format!("`{name}` is no linear map that PEFT could adapt")));
        };
        adapted.push((name, adapter));
    }
    create_dir(directory)?;
    let factors: Vec<(String, Tensor)> = adapted
        .iter()
        .flat_map(|(name, x)| [(name, "lora_A", x.a), (name, "lora_B", x.b)])
        .map(|(name, factor, p)| (format!("{WRAPPER}{name}.{factor}.weight"), extended.get(p).shallow_clone()))
        .collect();
    write_tensors(&directory.join(WEIGHTS), &factors, &[("format", "pt")])?;
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
    let rank_of = |x: &Adapter| lora.specs()[x.a.0].shape[0];
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
    json!({
        "alpha_pattern": own_alphas,
        "auto_mapping": null,
        "base_model_name_or_path": base_model,
        "bias": "none",
        // GPT-2's maps are stored [in, out]; the factors are not.
        "fan_in_fan_out": architecture == "gpt2",
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": number(alpha),
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": ranks,
        "revision": null,
        "target_modules": target_names(modules, adapted),
        "task_type": null,
        "use_dora": false,
        "use_rslora": rslora,
    })
}

/// The last parts of the modules' names where these name the same modules, else their whole names.
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

/// Whether factors are `alpha / √rank`, and the alphas that give these factors back: to the last bit where there are any.
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
        // Factors that PEFT could not have made: off by a rounding.
        (None, None) => (false, scalings.iter().map(|(s, rank)| s * *rank as f64).collect()),
    }
}

/// An alpha with `alpha / divisor = s` to the last bit, a whole one before others.
fn alpha(scaling: f64, divisor: f64) -> Option<f64> {
    let near = scaling * divisor;
    let candidates = [near.round(), near, near.next_up(), near.next_down(), near.next_up().next_up()];
    candidates.into_iter().find(|a| a / divisor == scaling)
}

/// A whole number without a point, as PEFT writes it.
fn number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { (x as i64).into() } else { x.into() }
}

/// The value that occurs most, the smallest among equals; there is at least one.
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
