//! The committed reports are this program's: it reads their evidence, writes the same text about it, and `compare` accepts them
//! as baselines. `KERNELVIEW_BLESS=1` rewrites them from their evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use kernelview::evidence::{Reproduction, SCHEMA_VERSION, Verification};
use kernelview::gate::{Baseline, Options, compare};
use kernelview::lora::{LoraReport, write_lora};
use kernelview::pretrain::{FamilyReport, write_family};
use kernelview::report::{write_claims, write_reproduction};
use serde::de::DeserializeOwned;

fn reports() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reports")
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = reports().join(name).join("report.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Files below a directory. For plots only the names, because the position of a mark in hundredths of a pixel depends on the
/// machine.
fn files(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let name = path.strip_prefix(root).expect("below").display().to_string();
            let plot = path.extension().is_some_and(|e| e == "svg");
            let text = if plot { String::new() } else { fs::read_to_string(&path).expect("text") };
            found.insert(name, text);
        }
    }
    found
}

/// Rewrites the report of a directory and compares.
fn current(name: &str, write: impl Fn(&Path)) {
    let own = reports().join(name);
    if std::env::var_os("KERNELVIEW_BLESS").is_some() {
        write(&own);
    }
    let new = tempfile::tempdir().expect("a temporary directory");
    write(new.path());
    let (committed, written) = (files(&own), files(new.path()));
    assert_eq!(committed.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>(), "{name}");
    for (file, text) in &written {
        assert!(committed[file] == *text, "reports/{name}/{file} is not what this program writes of its report.json");
    }
}

#[test]
fn reports_are_what_this_program_writes() {
    for name in ["standard", "full", "program", "family"] {
        let found: Verification = read(name);
        assert_eq!(found.schema_version, SCHEMA_VERSION, "{name}");
        current(name, |directory| drop(write_claims(&found, directory).expect("written")));
    }
    for name in ["pretraining", "learning-rates"] {
        let found: FamilyReport = read(name);
        assert_eq!(found.schema_version, SCHEMA_VERSION, "{name}");
        current(name, |directory| drop(write_family(&found, directory).expect("written")));
    }
    for name in ["bert-tiny", "prose-64", "smollm2"] {
        let found: Reproduction = read(name);
        assert_eq!(found.schema_version, SCHEMA_VERSION, "{name}");
        current(name, |directory| drop(write_reproduction(&found, directory).expect("written")));
    }
    let found: LoraReport = read("lora");
    assert_eq!(found.schema_version, SCHEMA_VERSION, "lora");
    current("lora", |directory| drop(write_lora(&found, directory).expect("written")));
}

#[test]
fn reports_of_claims_are_baselines() {
    for name in ["standard", "full", "program", "family"] {
        let path = reports().join(name).join("report.json");
        let baseline = Baseline::read(&path).unwrap_or_else(|e| panic!("{e}"));
        assert!(compare(&baseline, &baseline, &Options::default()).expect("comparable").passed(), "{name}");
    }
}

/// Every interval on the page about pre-trained networks is in the family's report, digit by digit.
#[test]
fn the_page_on_prompts_has_the_reports_intervals() {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let page = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/prompts-and-width.md"));
    let report = read(&reports().join("family/report.md"));
    let interval = fancy_regex::Regex::new(r"-?\d[\d.]* \\\[-?\d[\d.]*, -?\d[\d.]*\\\]").expect("an expression");
    let intervals = |text: &str| -> BTreeSet<String> {
        interval.find_iter(text).map(|m| m.expect("a match").as_str().to_owned()).collect()
    };
    assert_eq!(page.matches(r"\[").count(), interval.find_iter(&page).count(), "an interval over two lines");
    let (found, theirs) = (intervals(&page), intervals(&report));
    assert!(found.len() > 50, "{} intervals", found.len());
    let missing: Vec<&String> = found.difference(&theirs).collect();
    assert!(missing.is_empty(), "not in reports/family/report.md: {missing:#?}");
}
