//! Rust sources as text: their imports and string literals. Comments and test modules are left out.
//!
//! Knows nothing of this project's modules but their location.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use fancy_regex::Regex;

/// The path of a module: `["kernel", "engine", "tiles"]`.
pub type Module = Vec<String>;

/// One source file.
pub struct Source {
    /// Relative to the project's root.
    pub path: PathBuf,
    /// The module that the file contains.
    pub module: Module,
    /// Its code, without comments and with every string literal replaced by `""`.
    pub code: String,
    /// Its string literals, as written.
    pub strings: Vec<String>,
}

impl Source {
    /// The source with this text.
    pub fn new(path: PathBuf, module: Module, text: &str) -> Self {
        let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
        let (code, strings) = split_strings(own);
        Self { path, module, code, strings }
    }

    /// The first component of the module's path, as in the table of ARCHITECTURE.md.
    pub fn top(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }

    /// Every path of the code that names something of this crate, absolute and with braces resolved: `crate::a::{b, c::d}` gives
    /// `a::b` and `a::c::d`. A path's last components may be items.
    pub fn paths(&self) -> BTreeSet<Module> {
        let mut found = BTreeSet::new();
        for import in matches(&IMPORT, &self.code) {
            for path in braces_resolved(&import) {
                found.extend(self.absolute(&path));
            }
        }
        for path in matches(&PATH, &self.code) {
            found.extend(self.absolute(&split(&path)));
        }
        found
    }

    /// Names that `pub use` (of any visibility) and plain `use` add to this module, with their paths.
    pub fn names(&self) -> BTreeMap<String, Module> {
        let mut names = BTreeMap::new();
        for import in matches(&IMPORT, &self.code) {
            for path in braces_resolved(&import) {
                let path = self.absolute(&path).or_else(|| self.child(&path));
                if let Some(path) = path
                    && let Some(name) = path.last().cloned()
                {
                    names.insert(name, path);
                }
            }
        }
        names
    }

    /// The modules that this file declares.
    pub fn declares(&self) -> BTreeSet<String> {
        matches(&MODULE, &self.code).into_iter().collect()
    }

    fn child(&self, path: &[String]) -> Option<Module> {
        let first = path.first()?;
        self.declares().contains(first).then(|| self.module.iter().chain(path).cloned().collect())
    }

    fn absolute(&self, path: &[String]) -> Option<Module> {
        let (first, mut rest) = path.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Module::new(),
            "self" => self.module.clone(),
            "super" => self.module[..self.module.len().checked_sub(1)?].to_vec(),
            _ => return self.child(path),
        };
        while let Some((next, after)) = rest.split_first()
            && next == "super"
        {
            base.pop()?;
            rest = after;
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }
}

/// The sources of the library: `src` and, as the module `theorems`, the directory beside it.
pub fn library() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    collect(root, &root.join("src"), &Module::new(), &mut sources);
    collect(root, &root.join("theorems"), &vec!["theorems".into()], &mut sources);
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn collect(root: &Path, directory: &Path, module: &Module, sources: &mut Vec<Source>) {
    for entry in std::fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            collect(root, &path, &[module.as_slice(), &[stem]].concat(), sources);
        } else if path.extension().is_some_and(|e| e == "rs") && stem != "main" {
            let module =
                if stem == "mod" || stem == "lib" { module.clone() } else { [module.as_slice(), &[stem]].concat() };
            let text = std::fs::read_to_string(&path).expect("a source");
            sources.push(Source::new(path.strip_prefix(root).expect("below the root").to_path_buf(), module, &text));
        }
    }
}

fn split(path: &str) -> Vec<String> {
    path.split("::").map(|p| p.trim().to_owned()).collect()
}

/// `a::{b, c::{d, e as f}}` as `a::b`, `a::c::d`, `a::c::e`.
fn braces_resolved(import: &str) -> Vec<Vec<String>> {
    let import = import.trim();
    let Some((head, rest)) = import.split_once('{') else {
        let name = import.split(" as ").next().unwrap_or(import).trim();
        let mut path = split(name);
        path.retain(|p| !p.is_empty());
        if path.len() > 1 && path.last().is_some_and(|last| last == "self" || last == "*") {
            path.pop();
        }
        return if path.is_empty() { Vec::new() } else { vec![path] };
    };
    let inside = &rest[..rest.rfind('}').unwrap_or(rest.len())];
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in inside.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("at least one").push(c);
    }
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(|part| braces_resolved(&format!("{head}{part}"))).collect()
}

static IMPORT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?s)\buse\s+([^;]+);"));
static PATH: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b((?:crate|super|self)(?:::[A-Za-z_]\w*)+)"));
static MODULE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bmod\s+([a-z_]\w*)\s*;"));

/// A regular expression of these tests.
pub fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn matches(pattern: &Regex, text: &str) -> Vec<String> {
    let found = pattern.captures_iter(text).map(|found| found.expect("a bounded search"));
    found.map(|found| found.get(1).expect("one group").as_str().to_owned()).collect()
}

/// The code without comments and with empty string literals, and the literals.
fn split_strings(text: &str) -> (String, Vec<String>) {
    let (mut code, mut strings) = (String::with_capacity(text.len()), Vec::new());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if let Some((literal, after)) = literal(rest, &code) {
            code.push_str("\"\"");
            strings.push(literal.to_owned());
            rest = after;
        } else if let Some(after) = character(rest) {
            code.push_str("' '");
            rest = after;
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    (code, strings)
}

/// A string literal at the start of `rest`, raw or not, and what follows it.
fn literal<'a>(rest: &'a str, before: &str) -> Option<(&'a str, &'a str)> {
    let in_word = before.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word && let Some(raw) = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')) {
        let hashes = raw.chars().take_while(|c| *c == '#').count();
        if let Some(inside) = raw[hashes..].strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let at = inside.find(&end)?;
            return Some((&inside[..at], &inside[at + end.len()..]));
        }
    }
    let inside = rest.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some((&inside[..at], &inside[at + 1..])),
            _ => {}
        }
    }
    None
}

/// What follows a character literal at the start of `rest`; a lifetime is not one.
fn character(rest: &str) -> Option<&str> {
    let inside = rest.strip_prefix('\'')?;
    if let Some(escape) = inside.strip_prefix('\\') {
        let at = escape.char_indices().skip(1).find(|(_, c)| *c == '\'')?.0;
        return Some(&escape[at + 1..]);
    }
    let mut chars = inside.chars();
    chars.next()?;
    chars.as_str().strip_prefix('\'')
}
