//! The rules of ARCHITECTURE.md: allowed imports, which modules use which libraries, and that only the command line knows
//! flags.

mod graph;
mod source;
mod surface;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use graph::{file_graph, knots};
use source::{Source, library};

/// From a module to the modules that its code names.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn modules_import_what_the_table_allows() {
    let problems = leaks(&imports(&library()), &table());
    assert!(problems.is_empty(), "ARCHITECTURE.md's table of imports:\n{}", problems.join("\n"));
}

#[test]
fn no_module_imports_itself_through_others() {
    let cycles = knots(&imports(&library()));
    assert!(cycles.is_empty(), "modules that import each other: {cycles:?}");
}

#[test]
fn no_file_imports_itself_through_others() {
    let cycles = knots(&file_graph(&library()));
    assert!(cycles.is_empty(), "files that import each other: {cycles:?}");
}

#[test]
fn libraries_stay_where_they_belong() {
    let problems = foreign(&library());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn only_the_command_line_knows_flags() {
    let problems = flags(&library());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_setting_is_spoken_of() {
    let sources = library();
    let table = sources.iter().find(|s| s.module == ["setting"]).expect("src/setting.rs");
    let field = source::pattern(r"(?m)^    (\w+) = ");
    for field in field.captures_iter(&table.code).map(|c| c.expect("a bounded search")[1].to_owned()) {
        let named = format!("Field::{field}");
        let used = sources.iter().any(|s| s.top() != "cli" && s.code.contains(&named));
        assert!(used, "no message of the library speaks of {named}");
    }
}

#[test]
fn claims_use_public_paths() {
    let problems = private_paths(&library());
    assert!(problems.is_empty(), "a claim of anyone's own could not name these:\n{}", problems.join("\n"));
}

#[test]
fn what_is_public_is_meant() {
    insta::assert_snapshot!(surface::surface(&library()));
}

#[test]
fn every_leak_is_caught() {
    let file = |module: &str, text: &str| {
        let path: Vec<String> = module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Source::new(PathBuf::from(format!("{}.rs", path.join("/"))), path, text)
    };
    // An import that is not in the table, and one in the table that is not needed.
    let allowed = Imports::from([("report".into(), BTreeSet::from(["error".into(), "stats".into()]))]);
    let leaking = [file("report::plots", "use crate::{error::Error, kernel::{Gram, engine}};\nfn f() { stats::g() }")];
    let said = leaks(&imports(&leaking), &allowed);
    assert_eq!(
        said,
        [
            "report imports kernel, which the table does not allow",
            "report no longer imports stats: take it out of the table"
        ]
    );
    // A path in the code is an import too; one in a comment, a string or a test is not.
    let inline = [file(
        "report",
        "// crate::lm\nfn f() { crate::lm::g(\"crate::task\") }\n#[cfg(test)]\nmod tests {\nuse crate::train;\n}",
    )];
    assert_eq!(imports(&inline), Imports::from([("report".into(), BTreeSet::from(["lm".into()]))]));

    let tensors = [file("evidence::claim", "use tch::Tensor;")];
    assert_eq!(foreign(&tensors), ["evidence/claim.rs names tch"]);
    let arguments = [file("analysis::plan", "#[derive(clap::Args)]\nstruct A;")];
    assert_eq!(foreign(&arguments), ["analysis/plan.rs names clap"]);
    let advice = [file("task::prompt", "fn f() -> &'static str { \"set \\\"x\\\" with --max-length\" }")];
    assert_eq!(flags(&advice), ["task/prompt.rs: \"set \\\"x\\\" with --max-length\""]);

    let claims = [
        file("", "pub mod stats;\nmod threads;"),
        file("stats", "pub fn mean() {}\npub(crate) fn inner() {}"),
        file("theorems::lora", "use crate::stats::{inner, mean};\nuse crate::threads::f;"),
    ];
    assert_eq!(private_paths(&claims), ["theorems/lora.rs: stats::inner", "theorems/lora.rs: threads::f"]);

    // Two files that need each other, one of them through a name re-exported by their parent.
    let knot = [
        file("task", "mod prompt;\nmod pieces;\npub use prompt::Prompt;"),
        file("task::prompt", "use super::pieces::Piece;\npub struct Prompt;"),
        file("task::pieces", "use super::Prompt;\npub struct Piece;"),
    ];
    assert_eq!(knots(&file_graph(&knot)), [["task/pieces.rs", "task/prompt.rs"]]);
}

/// The modules that each module names, from `use` lines and paths.
fn imports(sources: &[Source]) -> Imports {
    let mut imports = Imports::new();
    for source in sources.iter().filter(|s| !s.module.is_empty()) {
        let named = imports.entry(source.top().to_owned()).or_default();
        named.extend(source.paths().into_iter().filter_map(|p| p.into_iter().next()).filter(|m| m != source.top()));
    }
    imports
}

fn leaks(found: &Imports, allowed: &Imports) -> Vec<String> {
    let mut problems = Vec::new();
    let none = BTreeSet::new();
    for (module, named) in found {
        let may = allowed.get(module).unwrap_or(&none);
        problems.extend(named.difference(may).map(|n| format!("{module} imports {n}, which the table does not allow")));
        problems
            .extend(may.difference(named).map(|n| format!("{module} no longer imports {n}: take it out of the table")));
        if !allowed.contains_key(module) {
            problems.push(format!("{module} has no row in the table"));
        }
    }
    problems
}

/// The table of ARCHITECTURE.md: `| module | imports |`.
fn table() -> Imports {
    let inside = between("<!-- imports -->", "<!-- /imports -->");
    let rows = inside.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        (words(cells[0])[0].clone(), words(cells[1]).into_iter().collect())
    })
    .collect()
}

/// Files that name a library reserved for other modules.
fn foreign(sources: &[Source]) -> Vec<String> {
    // Results, statistics, solvers and documents consist of numbers.
    const NO_TENSORS: [&str; 11] =
        ["error", "evidence", "files", "gate", "hub", "lock", "progress", "regression", "report", "setting", "stats"];
    let mut problems = Vec::new();
    for source in sources {
        let names = |library: &str| {
            let word = fancy_regex::Regex::new(&format!(r"\b{library}::")).expect("a pattern");
            word.is_match(&source.code).expect("a bounded search")
        };
        let top = source.top();
        let wrong = [
            ("tch", NO_TENSORS.contains(&top)),
            ("clap", top != "cli"),
            ("indicatif", top != "cli"),
            ("plotters", top != "report"),
            ("minijinja", top != "report" && top != "task"),
            ("hf_hub", top != "hub"),
            ("ureq", top != "hub"),
            ("faer", !["regression", "device", "products"].contains(&top)),
            ("tokenizers", top != "task" && top != "pretrain"),
        ];
        let named = wrong.iter().filter(|(library, wrong)| *wrong && names(library));
        problems.extend(named.map(|(library, _)| format!("{} names {library}", source.path.display())));
    }
    problems
}

/// String literals outside the command line that mention a flag. Flags of other programs are recognized by the program's name
/// in the same literal.
fn flags(sources: &[Source]) -> Vec<String> {
    const OTHERS: [&str; 4] = ["llama-gguf-split", "#SBATCH", "sbatch", "srun"];
    let flag = fancy_regex::Regex::new(r"(?<![\w-])--[a-z][a-z-]+").expect("a pattern");
    let mut problems = Vec::new();
    for source in sources.iter().filter(|s| s.top() != "cli") {
        for text in &source.strings {
            let speaks = flag.is_match(text).expect("a bounded search");
            if speaks && !OTHERS.iter().any(|program| text.contains(program)) {
                problems.push(format!("{}: \"{text}\"", source.path.display()));
            }
        }
    }
    problems
}

/// Paths in the claims through a private module, or to an item that is private to the crate.
fn private_paths(sources: &[Source]) -> Vec<String> {
    let public = fancy_regex::Regex::new(r"\bpub mod (\w+)").expect("a pattern");
    let own =
        fancy_regex::Regex::new(r"\bpub\(crate\) (?:fn|struct|enum|trait|type|const|static) (\w+)").expect("a pattern");
    let names = |pattern: &fancy_regex::Regex, code: &str| -> BTreeSet<String> {
        let found = pattern.captures_iter(code).map(|c| c.expect("a bounded search"));
        found.map(|c| c.get(1).expect("one group").as_str().to_owned()).collect()
    };
    let modules: BTreeSet<String> =
        sources.iter().filter(|s| s.module.is_empty()).flat_map(|s| names(&public, &s.code)).collect();
    let hidden: BTreeSet<(String, String)> =
        sources.iter().flat_map(|s| names(&own, &s.code).into_iter().map(|n| (s.top().to_owned(), n))).collect();
    let mut problems = Vec::new();
    for source in sources.iter().filter(|s| s.top() == "theorems") {
        for path in source.paths().iter().filter(|p| p[0] != "theorems") {
            let item = path.last().cloned().unwrap_or_default();
            if !modules.contains(&path[0]) || hidden.contains(&(path[0].clone(), item)) {
                problems.push(format!("{}: {}", source.path.display(), path.join("::")));
            }
        }
    }
    problems
}

/// The text between two marks in ARCHITECTURE.md.
fn between(begin: &str, end: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).expect("ARCHITECTURE.md");
    let inside = text.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
    inside.unwrap_or_else(|| panic!("ARCHITECTURE.md has no {begin} … {end}")).0.to_owned()
}
