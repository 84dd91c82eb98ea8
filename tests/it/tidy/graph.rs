//! The graph of imports: files by the items that they use, and its cycles.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Module, Source};

/// From a node to the nodes that it needs.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// From a file to the files whose items it uses. A re-exported name (`pub use`) leads to the file that defines it.
pub fn file_graph(sources: &[Source]) -> Graph {
    let files: BTreeMap<&Module, &Source> = sources.iter().map(|s| (&s.module, s)).collect();
    let names: BTreeMap<&Module, BTreeMap<String, Module>> = sources.iter().map(|s| (&s.module, s.names())).collect();
    let mut graph = Graph::new();
    for source in sources {
        let needs = graph.entry(source.path.display().to_string()).or_default();
        for path in code_paths(source) {
            if let Some(file) = home(&path, &files, &names, 0)
                && file.module != source.module
            {
                needs.insert(file.path.display().to_string());
            }
        }
    }
    graph
}

/// The paths that a file uses, without those that it only re-exports.
fn code_paths(source: &Source) -> BTreeSet<Module> {
    let pattern = fancy_regex::Regex::new(r"(?s)\bpub(?:\([a-z]+\))?\s+use\s+[^;]+;").expect("a pattern");
    let without = pattern.replace_all(&source.code, "").into_owned();
    let inner = Source { path: source.path.clone(), module: source.module.clone(), code: without, strings: Vec::new() };
    inner.paths()
}

/// The file that defines `path`: the longest prefix that is a file, followed through re-exported names.
fn home<'a>(
    path: &[String],
    files: &BTreeMap<&Module, &'a Source>,
    names: &BTreeMap<&Module, BTreeMap<String, Module>>,
    depth: usize,
) -> Option<&'a Source> {
    let at = (1..=path.len()).rev().find(|n| files.contains_key(&path[..*n].to_vec()))?;
    let module = path[..at].to_vec();
    let file = files[&module];
    if let Some(item) = path.get(at)
        && let Some(meant) = names.get(&module).and_then(|n| n.get(item))
        && depth < 8
    {
        let whole: Module = meant.iter().chain(&path[at + 1..]).cloned().collect();
        return home(&whole, files, names, depth + 1);
    }
    Some(file)
}

/// The sets of nodes that can each reach the others: strongly connected components of more than one node.
pub fn knots(graph: &Graph) -> Vec<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> = graph.keys().map(|from| (from, reach(graph, from))).collect();
    let mut found = BTreeSet::new();
    for (from, to) in &reached {
        let knot: Vec<String> = to
            .iter()
            .filter(|n| reached.get(**n).is_some_and(|back| back.contains(*from)))
            .map(|n| (*n).clone())
            .collect();
        if knot.len() > 1 {
            found.insert(knot);
        }
    }
    found.into_iter().collect()
}

fn reach<'a>(graph: &'a Graph, from: &String) -> BTreeSet<&'a String> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&String> = graph.get(from).into_iter().flatten().collect();
    while let Some(node) = open.pop() {
        if seen.insert(node) {
            open.extend(graph.get(node).into_iter().flatten());
        }
    }
    seen
}
