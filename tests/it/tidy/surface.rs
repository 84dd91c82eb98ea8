//! The public surface of the library: what another crate can name. A snapshot shows every change, so that nothing becomes
//! public by accident.

use std::collections::{BTreeMap, BTreeSet};

use fancy_regex::Regex;

use super::source::{Module, Source};

/// Every public item by its path, types followed by their methods, grouped by module.
pub fn surface(sources: &[Source]) -> String {
    let files: BTreeMap<&Module, &Source> = sources.iter().map(|s| (&s.module, s)).collect();
    let methods = methods(sources);
    let mut lines = Vec::new();
    let mut open: Vec<Module> = vec![Module::new()];
    while let Some(module) = open.pop() {
        let Some(source) = files.get(&module) else { continue };
        for name in captures(r"(?m)^pub mod (\w+);", &source.code) {
            open.push([module.as_slice(), &[name]].concat());
        }
        let mut items: BTreeSet<String> = captures(ITEM, &source.code).into_iter().collect();
        items.extend(passed_on(source));
        for item in items {
            let path = [module.as_slice(), std::slice::from_ref(&item)].concat().join("::");
            let own = methods
                .get(&(source.top().to_owned(), item.clone()))
                .map(|m| m.iter().cloned().collect::<Vec<_>>().join(" "))
                .unwrap_or_default();
            lines.push(if own.is_empty() { path } else { format!("{path}: {own}") });
        }
    }
    lines.sort();
    lines.join("\n")
}

const ITEM: &str = r"(?m)^pub (?:const fn|fn|struct|enum|trait|type|const|static) (\w+)";

/// Names of `pub use`, without whole modules re-exported from other crates.
fn passed_on(source: &Source) -> BTreeSet<String> {
    let uses = captures(r"(?sm)^pub use ([^;]+);", &source.code);
    let name = Regex::new(r"(\w+)\s*(?=,|\}|$)").expect("a pattern");
    uses.iter()
        .flat_map(|text| {
            name.captures_iter(text).map(|c| c.expect("a bounded search")[1].to_owned()).collect::<Vec<_>>()
        })
        .collect()
}

/// Public methods by the module and the name of their type.
fn methods(sources: &[Source]) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut found: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let block = Regex::new(r"(?ms)^impl(?:<[^>]*>)? (\w+)(?:<[^>]*>)? \{\n(.*?)^\}").expect("a pattern");
    for source in sources {
        for block in block.captures_iter(&source.code) {
            let block = block.expect("a bounded search");
            let methods = captures(r"(?m)^    pub (?:const )?fn (\w+)", &block[2]);
            found.entry((source.top().to_owned(), block[1].to_owned())).or_default().extend(methods);
        }
    }
    found
}

fn captures(pattern: &str, text: &str) -> Vec<String> {
    let pattern = Regex::new(pattern).expect("a pattern");
    pattern.captures_iter(text).map(|c| c.expect("a bounded search")[1].to_owned()).collect()
}
