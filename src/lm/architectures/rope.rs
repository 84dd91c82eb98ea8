//! Rotary positions in settings: `rope_theta` and `rope_scaling` in older files, `rope_parameters` in newer ones, and other
//! names in some architectures.

use serde_json::Value;

use super::super::fields::Fields;
use super::super::rotary::{Rotary, Scaling};
use super::super::rounding::Rounding;
use super::settings::Sizes;
use crate::error::Result;

/// Defaults and alternative names.
#[derive(Clone, Copy)]
pub(super) struct Rope<'a> {
    /// The base.
    pub theta: f64,
    /// Fields of the base in `config.json` itself.
    pub theta_fields: &'a [&'a str],
    /// The fraction of a head's entries that is rotated.
    pub share: f64,
    /// Fields of the fraction in `config.json` itself.
    pub share_fields: &'a [&'a str],
    /// Key in `rope_parameters` if layers of different kinds have separate settings.
    pub kind: &'a str,
    /// Whether the class supports rotating part of a head.
    pub partial: bool,
    /// Whether `rope_scaling` of older files applies to these layers.
    pub scaled: bool,
    /// The class's default for `original_max_position_embeddings` in `config.json` itself.
    pub original: Option<i64>,
}

/// The settings of most architectures.
pub(super) const ROPE: Rope<'static> = Rope {
    theta: 10_000.0,
    theta_fields: &["rope_theta"],
    share: 1.0,
    share_fields: &["partial_rotary_factor"],
    kind: "full_attention",
    partial: false,
    scaled: true,
    original: None,
};

impl Rope<'_> {
    /// Reads them, for heads and texts of these sizes; `None` if nothing is rotated.
    ///
    /// # Errors
    /// Settings that contradict each other, are missing or are not supported.
    pub fn read(&self, fields: &Fields, sizes: &Sizes) -> Result<Option<Rotary>> {
        let head_size = sizes.head_size;
        let newer = match fields.object("rope_parameters")? {
            Some(all) => Some(all.object(self.kind)?.unwrap_or(all)),
            None => None,
        };
        let older = if self.scaled { fields.object("rope_scaling")? } else { None };
        let kind = |scaling: &Fields| -> Result<String> {
            let name = |field: &str| -> Result<Option<String>> {
                let found = scaling.present(field).map(|_| scaling.text(field, "")).transpose()?;
                // Phi-3's first name for it.
                Ok(found.map(|name| if name == "su" { "longrope".to_owned() } else { name.to_owned() }))
            };
            match (name("rope_type")?, name("type")?) {
                (Some(newer), Some(older)) if newer != older => Err(fields.fail(format!(
                    "rotary positions: rope_type `{newer}` and type `{older}` contradict each other; remove one of them"
                ))),
                (newer, older) => Ok(newer.or(older).unwrap_or_else(|| "default".to_owned())),
            }
        };
        if let Some(older) = &older
            && older.present("rope_type").or(older.present("type")).is_none()
        {
            return Err(fields.fail("rope_scaling has no rope_type; name it, or set rope_scaling to null"));
        }
        if let (Some(newer), Some(older)) = (&newer, &older)
            && kind(newer)? != kind(older)?
        {
            let (newer, older) = (kind(newer)?, kind(older)?);
            return Err(
                fields.fail(format!("rope_parameters `{newer}` and rope_scaling `{older}` contradict each other"))
            );
        }
        let nested: Vec<(&str, &Fields)> =
            older.iter().map(|f| ("rope_scaling", f)).chain(newer.iter().map(|f| ("rope_parameters", f))).collect();
        let theta = agreed(fields, &nested, ("rope_theta", self.theta_fields), self.theta)?;
        let share = agreed(fields, &nested, ("partial_rotary_factor", self.share_fields), self.share)?;
        if share != 1.0 && !self.partial {
            return Err(fields.fail(format!("partial_rotary_factor {share} is not supported; only 1.0 is")));
        }
        let turned = (head_size as f64 * share) as i64;
        if turned == 0 {
            return Ok(None);
        }
        // An odd number is rounded up, if the head has that many entries.
        let width = turned + turned % 2;
        if width > head_size {
            return Err(fields.fail(if turned == head_size {
                format!("heads of width {head_size} have no pairs of entries to rotate")
            } else {
                format!("partial_rotary_factor {share} rotates more entries than heads of width {head_size} have")
            }));
        }
        let is_older = older.is_some();
        let scaling = match older.or(newer) {
            None => Scaling::None,
            Some(scaling) => {
                let sizes = (theta, turned, sizes.positions);
                scaling_of(fields, (&scaling, is_older), &kind(&scaling)?, sizes, self.original)?
            }
        };
        Ok(Some(Rotary { width, divisor: turned, theta, scaling, rounding: Rounding::Single }))
    }
}

/// The scaling of angles; `older` settings are those of `rope_scaling`.
fn scaling_of(
    fields: &Fields,
    (scaling, is_older): (&Fields, bool),
    kind: &str,
    (theta, d, most): (f64, i64, i64),
    own_original: Option<i64>,
) -> Result<Scaling> {
    let needed = |name: &str| match scaling.present(name) {
        None => Err(fields.fail(format!("rotary positions of type `{kind}` need `{name}`, which is missing"))),
        Some(_) => scaling.positive(name, 1.0),
    };
    let original = || -> Result<i64> {
        let name = "original_max_position_embeddings";
        let inside = scaling.present(name).map(|_| scaling.size(name, None)).transpose()?;
        let beside = fields.present(name).map(|_| fields.size(name, None)).transpose()?;
        match (inside, beside) {
            (None, Some(beside)) if is_older && beside != most => Err(fields.fail(format!(
                "{name} {beside} stands beside rope_scaling, where versions of transformers read it or not for rotary \
                 positions of type `{kind}`; move it into rope_scaling, or remove it"
            ))),
            _ => Ok(inside.or(beside).unwrap_or(most)),
        }
    };
    let factor = || match scaling.present("factor") {
        Some(_) => needed("factor"),
        None => Ok(most as f64 / original()? as f64),
    };
    match kind {
        "default" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear { factor: needed("factor")? }),
        "dynamic" => {
            if d <= 2 {
                return Err(fields.fail("rotary positions of type `dynamic` need more than one pair of entries"));
            }
            Ok(Scaling::Dynamic { factor: needed("factor")?, trained: most })
        }
        "llama3" => {
            let (low, high) = (needed("low_freq_factor")?, needed("high_freq_factor")?);
            if high <= low {
                return Err(fields.fail(format!("high_freq_factor {high} must be larger than low_freq_factor {low}")));
            }
            Ok(Scaling::Llama3 { factor: needed("factor")?, low, high, trained: original()? as f64 })
        }
        "yarn" if scaling.present("short_factor").is_none() => {
            let (factor, trained) = (factor()?, original()? as f64);
            let boundary =
                |turns: f64| d as f64 * (trained / (turns * std::f64::consts::TAU)).ln() / (2.0 * theta.ln());
            let number = |name: &str, default| scaling.positive(name, default);
            let (mut low, mut high) = (boundary(number("beta_fast", 32.0)?), boundary(number("beta_slow", 1.0)?));
            if scaling.flag("truncate", true)? {
                (low, high) = (low.floor(), high.ceil());
            }
            (low, high) = (low.max(0.0), high.min((d - 1) as f64));
            if low == high {
                high += 0.001;
            }
            let size = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
            let own = scaling.present("attention_factor").map(|_| scaling.positive("attention_factor", 1.0));
            let (mscale, all) = (scaling.number("mscale", 0.0)?, scaling.number("mscale_all_dim", 0.0)?);
            let derived = if mscale != 0.0 && all != 0.0 { size(mscale) / size(all) } else { size(1.0) };
            Ok(Scaling::Yarn { factor, ramp: (low, high), amplitude: own.transpose()?.unwrap_or(derived) })
        }
        // Phi-3's other names for it.
        "longrope" | "yarn" => {
            let list = |name: &str| factors(fields, scaling, name, (d + 1) / 2);
            let (short, long) = (list("short_factor")?, list("long_factor")?);
            // Releases with `rope_scaling` read the trained length only next to it, and derive the factor from it.
            let name = "original_max_position_embeddings";
            let beside = fields.present(name).is_some() || own_original.is_some();
            let (trained, factor) = if is_older {
                let trained = fields.size(name, Some(own_original.unwrap_or(most)))?;
                (trained, if beside { most as f64 / trained as f64 } else { factor()? })
            } else {
                (original()?, factor()?)
            };
            let own = scaling.present("attention_factor").map(|_| scaling.positive("attention_factor", 1.0));
            let derived = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (trained as f64).ln()).sqrt() };
            Ok(Scaling::Long { short, long, trained, amplitude: own.transpose()?.unwrap_or(derived) })
        }
        other => Err(fields.fail(format!(
            "rotary positions of type `{other}` are not supported; default, linear, dynamic, llama3, yarn and longrope \
             are"
        ))),
    }
}

/// A number that may occur in several places, which must agree.
fn agreed(fields: &Fields, nested: &[(&str, &Fields)], names: (&str, &[&str]), default: f64) -> Result<f64> {
    let mut found: Option<(String, f64)> = None;
    let places = names.1.iter().map(|name| ((*name).to_owned(), *name, fields));
    for (at, name, place) in places.chain(nested.iter().map(|(at, f)| (format!("{at}.{}", names.0), names.0, *f))) {
        if place.present(name).is_none() {
            continue;
        }
        let number = place.positive(name, default)?;
        if let Some((other, known)) = found.replace((at.clone(), number))
            && known != number
        {
            return Err(fields.fail(format!("{other} {known} and {at} {number} contradict each other")));
        }
    }
    Ok(found.map_or(default, |(_, number)| number))
}

fn factors(fields: &Fields, scaling: &Fields, name: &str, pairs: i64) -> Result<Vec<f64>> {
    let Some(found) = scaling.present(name) else {
        return Err(fields.fail(format!("rotary positions of type `longrope` need `{name}`, which is missing")));
    };
    let numbers: Option<Vec<f64>> = found
        .as_array()
        .and_then(|list| list.iter().map(Value::as_f64).collect())
        .filter(|l: &Vec<f64>| l.iter().all(|x| *x > 0.0));
    match numbers {
        Some(numbers) if numbers.len() as i64 == pairs => Ok(numbers),
        _ => {
            Err(fields.wrong(name, &format!("a list of {pairs} positive numbers, one for each pair of entries"), found))
        }
    }
}
