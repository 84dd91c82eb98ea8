//! `adapter_config.json`: PEFT's settings of a LoRA adapter. Unsupported settings that would change the function are refused
//! by name, and so are unknown ones.

use std::path::Path;

use fancy_regex::Regex;
use serde_json::Value;

use super::targets::{TargetModules, compile, ending, ends_in};
use crate::error::Result;
use crate::lm::fields::Fields;

/// Fields that do not affect the function: origin, initialization, regularization.
const WITHOUT_EFFECT: [&str; 18] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "rank_pattern",
    "revision",
    "runtime_config",
    "task_type",
    "peft_type",
];

/// Fields that this module reads.
const READ: [&str; 11] = [
    "r",
    "lora_alpha",
    "use_rslora",
    "use_dora",
    "target_modules",
    "exclude_modules",
    "modules_to_save",
    "bias",
    "init_lora_weights",
    "layers_to_transform",
    "layers_pattern",
];

/// Settings of an adapter.
pub(super) struct Settings {
    fields: Fields,
    rank: i64,
    alpha: f64,
    /// Whether the scaling is `alpha / √r` instead of `alpha / r`.
    rslora: bool,
    /// Whether rows have magnitudes.
    pub dora: bool,
    targets: TargetModules,
    excluded: Option<TargetModules>,
    /// Modules saved in full and not adapted.
    saved: Vec<Regex>,
    layers: Option<Layers>,
    ranks: Vec<Pattern<i64>>,
    alphas: Vec<Pattern<f64>>,
}

/// A value for modules with a name suffix that matches a pattern.
struct Pattern<T> {
    text: String,
    regex: Regex,
    value: T,
}

/// The only layers that have adapters.
struct Layers {
    numbers: Vec<i64>,
    /// Patterns of the layer number in a name; the first match counts.
    places: Vec<Regex>,
}

impl Settings {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self> {
        let fields = Fields::read_file(path, "an adapter's settings")?;
        let kind = fields.text("peft_type", "")?;
        if kind != "LORA" {
            return Err(fields.fail(format!("peft_type `{kind}` is not supported; only LORA is")));
        }
        refuse_unknown(&fields)?;
        let Some(targets) = modules(&fields, "target_modules")? else {
            return Err(fields.fail("the field `target_modules` is missing (expected names, a pattern or all-linear)"));
        };
        fields.flag("fan_in_fan_out", false)?;
        let rank = |v: &Value| v.as_i64().filter(|n| *n > 0 && *n <= 1 << 31);
        let number = |v: &Value| v.as_f64().filter(|x| x.is_finite());
        let alpha = fields.present("lora_alpha").map_or(Some(8.0), number);
        Ok(Self {
            rank: fields.size("r", Some(8))?,
            alpha: alpha.ok_or_else(|| fields.fail("the field `lora_alpha` must be a number"))?,
            rslora: fields.flag("use_rslora", false)?,
            dora: fields.flag("use_dora", false)?,
            saved: saved(&fields)?,
            layers: layers(&fields)?,
            targets,
            excluded: modules(&fields, "exclude_modules")?,
            ranks: pattern(&fields, "rank_pattern", "a positive integer", rank)?,
            alphas: pattern(&fields, "alpha_pattern", "a number", number)?,
            fields,
        })
    }

    /// Whether a module has an adapter.
    pub fn adapts(&self, module: &str) -> Result<bool> {
        let ask = |targets: &TargetModules| targets.matches(module).map_err(|e| self.fields.fail(e));
        if !ask(&self.targets)? || self.excluded.as_ref().map_or(Ok(false), ask)? {
            return Ok(false);
        }
        for saved in &self.saved {
            if saved.is_match(module).map_err(|e| self.fields.fail(e.to_string()))? {
                return Ok(false);
            }
        }
        // A full name or a pattern applies in any layer.
        match &self.layers {
            Some(layers) if self.targets.ends(module) => {
                layers.contain(module).map_err(|e| self.fields.fail(format!("layers_pattern: {e}")))
            }
            _ => Ok(true),
        }
    }

    /// Whether embeddings and the decoder can be targets too.
    pub fn names_tables(&self) -> bool {
        !matches!(self.targets, TargetModules::AllLinear)
    }

    /// Names and patterns that match none of these modules.
    pub fn without_effect(&self, modules: &[&str]) -> Vec<String> {
        let mut unused: Vec<String> = Vec::new();
        if let TargetModules::Names(names) = &self.targets {
            let is_unused = |name: &&String| !modules.iter().any(|m| ends_in(m, name));
            unused.extend(names.iter().filter(is_unused).map(|name| format!("target_modules `{name}`")));
        }
        unused.extend(unmatched("rank_pattern", &self.ranks, modules));
        unused.extend(unmatched("alpha_pattern", &self.alphas, modules));
        unused
    }

    /// Rank and scaling s of a module's adapter.
    pub fn of(&self, module: &str) -> Result<(i64, f64)> {
        let rank = self.look_up(&self.ranks, module)?.unwrap_or(self.rank);
        let alpha = self.look_up(&self.alphas, module)?.unwrap_or(self.alpha);
        Ok((rank, alpha / if self.rslora { (rank as f64).sqrt() } else { rank as f64 }))
    }

    fn look_up<T: Copy>(&self, patterns: &[Pattern<T>], module: &str) -> Result<Option<T>> {
        for pattern in patterns {
            if pattern.regex.is_match(module).map_err(|e| self.fields.fail(e.to_string()))? {
                return Ok(Some(pattern.value));
            }
        }
        Ok(None)
    }
}

/// The patterns of a field that match none of these modules.
fn unmatched<T>(field: &str, patterns: &[Pattern<T>], modules: &[&str]) -> Vec<String> {
    let is_unused = |p: &&Pattern<T>| !modules.iter().any(|m| p.regex.is_match(m).unwrap_or(false));
    patterns.iter().filter(is_unused).map(|p| format!("{field} `{}`", p.text)).collect()
}

/// Fails on unsupported settings that change the function. False, null and the like count as absent.
fn refuse_unknown(fields: &Fields) -> Result<()> {
    let bias = fields.text("bias", "none")?;
    if !["none", "all", "lora_only"].contains(&bias) {
        return Err(fields.fail(format!("bias `{bias}` is not supported; none, all and lora_only are")));
    }
    if let Some(start) = fields.present("init_lora_weights").and_then(Value::as_str) {
        // These subtract the initial adapter from the weights, so that the adapter only fits the changed checkpoint.
        let changes = ["pissa", "olora", "corda", "loftq", "lora_ga"];
        if changes.iter().any(|name| start.to_ascii_lowercase().starts_with(name)) {
            return Err(fields.fail(format!(
                "init_lora_weights `{start}` changes the model's own weights and is not supported; convert the adapter with \
                 PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=...)"
            )));
        }
    }
    let says_no = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    let known = |name: &str| WITHOUT_EFFECT.contains(&name) || READ.contains(&name);
    match fields.all().find(|(name, value)| !known(name) && !says_no(value)) {
        None => Ok(()),
        Some((name, value)) => Err(fields.fail(format!(
            "the setting {name} {value} is not supported; merge the adapter into a checkpoint with PEFT \
             (merge_and_unload) and use that"
        ))),
    }
}

/// A list of names, a pattern or nothing.
fn modules(fields: &Fields, field: &str) -> Result<Option<TargetModules>> {
    match fields.present(field) {
        None => Ok(None),
        Some(Value::String(text)) => {
            TargetModules::of_text(text).map(Some).map_err(|e| fields.fail(format!("{field}: {e}")))
        }
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            let names: Vec<String> = items.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            Ok(Some(TargetModules::Names(names)))
        }
        Some(other) => Err(fields.wrong(field, "a list of names or a string", other)),
    }
}

/// Values for modules with a name suffix that matches a pattern; the first match counts.
fn pattern<T>(
    fields: &Fields,
    field: &str,
    wanted: &str,
    value: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<Pattern<T>>> {
    let Some(object) = fields.object(field)? else { return Ok(Vec::new()) };
    let entry = |(name, found): (&str, &Value)| {
        let regex = ending(name).map_err(|e| fields.fail(format!("{field}: {e}")))?;
        let value = value(found).ok_or_else(|| fields.wrong(&format!("{field}.{name}"), wanted, found))?;
        Ok(Pattern { text: name.to_owned(), regex, value })
    };
    object.all().map(entry).collect()
}

/// `layers_to_transform`, a number or a list of them, and `layers_pattern`, the names of the lists of layers.
fn layers(fields: &Fields) -> Result<Option<Layers>> {
    let number = |v: &Value| v.as_i64().filter(|n| *n >= 0);
    let numbers: Vec<i64> = match fields.present("layers_to_transform") {
        None => return Ok(None),
        Some(Value::Array(items)) if items.is_empty() => return Ok(None),
        Some(found) => {
            let one = number(found).map(|n| vec![n]);
            let numbers = one.or_else(|| found.as_array()?.iter().map(number).collect());
            numbers.ok_or_else(|| fields.wrong("layers_to_transform", "a layer's number or a list of them", found))?
        }
    };
    let names: Vec<&str> = match fields.present("layers_pattern") {
        None => Vec::new(),
        Some(Value::String(name)) if name.is_empty() => Vec::new(),
        Some(Value::String(name)) => vec![name],
        Some(found) => {
            let names: Option<Vec<&str>> = found.as_array().and_then(|a| a.iter().map(Value::as_str).collect());
            names.ok_or_else(|| fields.wrong("layers_pattern", "a name or a list of names", found))?
        }
    };
    // By default, any name.
    let place = |name: &&str| compile(name, &format!(r"\A(?:.*?\.)?{name}\.(\d+)\."));
    let places: std::result::Result<Vec<Regex>, String> = if names.is_empty() {
        compile("", r"\A.*?\.[^.]*\.(\d+)\.").map(|any| vec![any])
    } else {
        names.iter().map(place).collect()
    };
    Ok(Some(Layers { numbers, places: places.map_err(|e| fields.fail(format!("layers_pattern: {e}")))? }))
}

impl Layers {
    /// Whether a module is in one of these layers.
    fn contain(&self, module: &str) -> std::result::Result<bool, String> {
        for place in &self.places {
            if let Some(found) = place.captures(module).map_err(|e| e.to_string())? {
                let number = found.get(1).and_then(|digits| digits.as_str().parse().ok());
                return Ok(number.is_some_and(|number| self.numbers.contains(&number)));
            }
        }
        Ok(false)
    }
}

/// The modules named by `modules_to_save`, and all inside them.
fn saved(fields: &Fields) -> Result<Vec<Regex>> {
    let Some(found) = fields.present("modules_to_save") else { return Ok(Vec::new()) };
    let names: Option<Vec<&str>> = found.as_array().and_then(|names| names.iter().map(Value::as_str).collect());
    let names = names.ok_or_else(|| fields.wrong("modules_to_save", "a list of names", found))?;
    let within = |name: &&str| compile(name, &format!(r"\A(?:.*\.)?{name}(?:\z|\.)"));
    let compiled: std::result::Result<_, _> = names.iter().map(within).collect();
    compiled.map_err(|e| fields.fail(format!("modules_to_save: {e}")))
}
