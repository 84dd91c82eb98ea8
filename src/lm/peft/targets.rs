//! Which linear maps of a network are adapted, by PEFT's rules: by name suffix, by regular expression, or all of them. Knows
//! names and parameters; knows no file.

use fancy_regex::Regex;

use crate::error::{Error, Result};
use crate::jacobian::{Param, ParameterSpec, Role};
use crate::lm::model_names::{is_decoder, is_projection, is_table_of_distances};

/// PEFT's word for every linear map but the output layer.
const ALL_LINEAR: &str = "all-linear";

/// The linear maps of a network, by their modules' names in Hugging Face's classes.
///
/// The decoder and tables (of tokens, positions, segments, distances), whose rows are looked up, are not included.
#[derive(Clone, Debug)]
pub struct Modules {
    named: Vec<(String, Param)>,
}

impl Modules {
    /// The linear maps of a network with these parameters, in order.
    pub fn of(network: &[ParameterSpec]) -> Self {
        let named = network.iter().enumerate().filter_map(|(i, spec)| {
            let name = spec.name.strip_suffix(".weight")?;
            let is_output = name == "classifier" || is_decoder(name);
            let is_table = match spec.role {
                Role::Embedding => !is_projection(name),
                _ => is_table_of_distances(name),
            };
            let is_map = spec.shape.len() == 2 && !is_table && !is_output;
            is_map.then(|| (name.to_owned(), Param(i)))
        });
        Self { named: named.collect() }
    }

    /// The same by the names of the class without a head, which lack the model's prefix; without the head's maps.
    pub(super) fn without_prefix(&self, prefix: &str) -> Self {
        let start = format!("{prefix}.");
        let bare = |(name, p): &(String, Param)| name.strip_prefix(&start).map(|name| (name.to_owned(), *p));
        Self { named: self.named.iter().filter_map(bare).collect() }
    }

    /// Names and weights.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Param)> {
        self.named.iter().map(|(name, p)| (name.as_str(), *p))
    }

    /// The weight of a module.
    pub fn find(&self, name: &str) -> Option<Param> {
        self.named.iter().find(|(n, _)| n == name).map(|(_, p)| *p)
    }

    /// The available names, without layer numbers, in order of first occurrence.
    pub fn kinds(&self) -> Vec<&str> {
        let mut kinds = Vec::new();
        for (name, _) in &self.named {
            let kind = Self::kind(name);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }

    /// A module's name within its layer, after the last number, e.g. `attention.self.query`; the full name if it is in no
    /// layer.
    pub fn kind(name: &str) -> &str {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let (mut kind, mut rest) = (name, name);
        while let Some((part, behind)) = rest.split_once('.') {
            if is_number(part) {
                kind = behind;
            }
            rest = behind;
        }
        kind
    }

    /// The modules matched by a user's names, in the network's order.
    ///
    /// # Errors
    /// [`Error::Unknown`], listing the known names, if a name matches nothing.
    pub fn choose(&self, names: &[String]) -> Result<Vec<Param>> {
        let known = || format!("this network's linear maps are: {}, or {ALL_LINEAR}", self.kinds().join(", "));
        if names.is_empty() {
            return Err(Error::Missing { what: "targets".into(), needed: known() });
        }
        let targets = TargetModules::of_names(names);
        if let TargetModules::Names(names) = &targets
            && let Some(name) = names.iter().find(|name| !self.iter().any(|(m, _)| ends_in(m, name)))
        {
            return Err(Error::Unknown { what: "target".into(), name: name.clone(), hint: known() });
        }
        let matched = self.iter().filter(|(name, _)| targets.matches(name).unwrap_or(false));
        Ok(matched.map(|(_, p)| p).collect())
    }
}

/// Whether a module's name is this one, or ends with it after a dot.
pub(super) fn ends_in(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// The value of `target_modules` or `exclude_modules`.
#[derive(Clone, Debug)]
pub enum TargetModules {
    /// Modules with one of these names or suffixes.
    Names(Vec<String>),
    /// Modules whose full name matches a regular expression.
    Pattern(Regex),
    /// Every linear map but the output layer.
    AllLinear,
}

impl TargetModules {
    /// Names as a user types them.
    pub(super) fn of_names(names: &[String]) -> Self {
        match names {
            [one] if one.eq_ignore_ascii_case(ALL_LINEAR) => Self::AllLinear,
            _ => Self::Names(names.to_vec()),
        }
    }

    /// A single string, which is a regular expression unless it is `all-linear`.
    pub(super) fn of_text(text: &str) -> std::result::Result<Self, String> {
        if text.eq_ignore_ascii_case(ALL_LINEAR) { Ok(Self::AllLinear) } else { Ok(Self::Pattern(whole(text)?)) }
    }

    /// Whether a module is matched by its name's suffix, rather than its full name or a pattern.
    pub(super) fn ends(&self, module: &str) -> bool {
        match self {
            Self::Names(names) => !names.iter().any(|name| name == module),
            Self::Pattern(_) => false,
            Self::AllLinear => true,
        }
    }

    /// Whether a module is matched.
    ///
    /// # Errors
    /// If a regular expression takes too many steps.
    pub(super) fn matches(&self, module: &str) -> std::result::Result<bool, String> {
        match self {
            Self::Names(names) => Ok(names.iter().any(|name| ends_in(module, name))),
            Self::Pattern(pattern) => pattern.is_match(module).map_err(|e| e.to_string()),
            Self::AllLinear => Ok(true),
        }
    }
}

/// A regular expression that must match a full name.
fn whole(pattern: &str) -> std::result::Result<Regex, String> {
    compile(pattern, &format!(r"\A(?:{pattern})\z"))
}

/// A key of `rank_pattern` or `alpha_pattern`: a regular expression for a name's suffix after a dot.
pub(super) fn ending(pattern: &str) -> std::result::Result<Regex, String> {
    compile(pattern, &format!(r"\A(?:.*\.)?(?:{pattern})\z"))
}

pub(super) fn compile(pattern: &str, whole: &str) -> std::result::Result<Regex, String> {
    Regex::new(whole).map_err(|e| format!("`{pattern}` is not a supported regular expression: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(names: &[&str]) -> Modules {
        Modules { named: names.iter().enumerate().map(|(i, n)| ((*n).to_owned(), Param(i))).collect() }
    }

    #[test]
    fn names_match_at_dots_only() {
        let all = modules(&["m.layer.0.self.query", "m.layer.0.self.my_query", "m.layer.1.self.query", "query"]);
        let of = |names: &[&str]| all.choose(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["query"]).expect("matches"), [Param(0), Param(2), Param(3)]);
        assert_eq!(of(&["m.layer.1.self.query"]).expect("matches"), [Param(2)]);
        assert_eq!(of(&["all-linear"]).expect("matches").len(), 4);
        let error = of(&["query", "value"]).expect_err("no value").to_string();
        assert!(error.contains("`value`") && error.contains("self.query, self.my_query, query"), "{error}");
        assert!(of(&[]).is_err());
    }

    /// The rule of PEFT's `get_pattern_key`: `re.match(rf"(.*\.)?({key})$", name)`.
    #[test]
    fn patterns_match_ends_at_dots() {
        let matches = |pattern: &str, name: &str| ending(pattern).expect("compiles").is_match(name).expect("runs");
        assert!(matches("query", "a.0.query") && matches("query", "query") && !matches("query", "a.my_query"));
        assert!(matches("layer.[02].query", "m.layer.2.query") && !matches("layer.[02].query", "m.layer.1.query"));
        assert!(matches("^m.layer.2.query", "m.layer.2.query") && !matches("^layer.2.query", "m.layer.2.query"));
        let pattern = whole(r"^(?!.*\.0\.).*\.(query|value)").expect("lookaheads are read");
        assert!(pattern.is_match("m.1.value").expect("runs") && !pattern.is_match("m.0.value").expect("runs"));
        assert!(ending("(").expect_err("no expression").contains("`(`"));
    }
}
