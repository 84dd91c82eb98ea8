//! `kernelview verify` and `kernelview claims` from the user's side.

use std::fs;

use crate::common::command::Scratch;
use kernelview::theorems::{all_claims, registry};

/// Fails unless the run is refused with this message before any file is created.
fn refused(scratch: &Scratch, arguments: &[&str], message: &str) {
    let before = scratch.contents();
    let answer = scratch.run(arguments);
    assert_eq!(answer.stderr, format!("error: {message}\n"), "{arguments:?}");
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(2), ""), "{arguments:?}");
    assert!(before == scratch.contents(), "{arguments:?}");
}

#[test]
fn settings_that_cannot_be() {
    let scratch = Scratch::new();
    refused(
        &scratch,
        &["verify", "--claim", "no-claim-has-a-name-like-this-one"],
        "--claim no-claim-has-a-name-like-this-one: no such claim; `kernelview claims` lists them",
    );
    refused(&scratch, &["verify", "--jobs", "0"], "--jobs: it is 0, expected 1 or more");
    let output = scratch.command(&["verify", "--suite", "family"]).env("KERNELVIEW_FAMILY", "nowhere").output();
    let answer = scratch.answer(&output.expect("the program starts"));
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(2), ""), "{}", answer.stderr);
    assert!(answer.stderr.contains("nowhere: 0 pre-trained network(s) here"), "{}", answer.stderr);
    for claim in all_claims() {
        let mistyped = format!("{}s", claim.id);
        let message =
            format!("--claim {mistyped}: no such claim; did you mean `{}`? `kernelview claims` lists them", claim.id);
        refused(&scratch, &["verify", "--claim", &mistyped], &message);
    }
    let answer = scratch.run(&["verify", "--profile", "quik"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.contains("[possible values: quick, standard, full]"), "{}", answer.stderr);
    assert!(answer.stderr.contains("'quick'"), "{}", answer.stderr);
}

#[test]
fn directories_that_cannot_be_written() {
    let scratch = Scratch::new();
    scratch.write("file", "mine");
    refused(
        &scratch,
        &["verify", "--out-dir", "file"],
        "file: --out-dir is a file; give a new directory or that of an earlier run",
    );
    let answer = scratch.run(&["verify", "--out-dir", "file/inside"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(2), ""));
    assert!(answer.stderr.starts_with("error: cannot create directory file/inside: "), "{}", answer.stderr);
    scratch.write("analysis/report.json", r#"{"schema_version": 1, "zero_shot": {"dev": 0.5, "test": 0.5}}"#);
    refused(
        &scratch,
        &["verify", "--out-dir", "analysis"],
        "analysis/report.json: the report of an analysis is here; choose another directory (--out-dir), or move it away",
    );
}

#[test]
fn claims_are_listed_in_three_forms() {
    let scratch = Scratch::new();
    let list = |format: &str| {
        let answer = scratch.run(&["claims", "--format", format]);
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""));
        answer.stdout
    };
    let (table, markdown) = (list("table"), list("markdown"));
    let json: Vec<serde_json::Value> = serde_json::from_str(&list("json")).expect("an array");
    assert_eq!(scratch.run(&["claims"]).stdout, table);
    assert_eq!((json.len(), markdown.lines().count()), (all_claims().count(), all_claims().count() + 2));
    for (claim, object) in all_claims().zip(json) {
        assert_eq!(object["id"], claim.id);
        assert_eq!(object["prediction"], claim.prediction);
        assert!(table.contains(&format!("\n  {}  {}\n", claim.id, claim.title)), "{table}");
        assert!(markdown.contains(&format!("\n| `{}` | ", claim.id)), "{markdown}");
    }
}

/// Fails for: an example in a help text that is not a valid command line.
#[test]
fn help_texts_show_examples_that_parse() {
    let scratch = Scratch::new();
    // No example gets beyond its output directory.
    for name in ["kernelview-verify", "two-claims"] {
        scratch.write(name, "a file");
    }
    for command in ["verify", "claims"] {
        let help = scratch.run(&[command, "--help"]).stdout;
        let (_, examples) = help.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{help}"));
        for line in examples.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[..2], ["kernelview", command]);
            let answer = scratch.run(&words[1..]);
            let expected = if command == "verify" { "--out-dir is a file" } else { "" };
            assert!(answer.stderr.contains(expected) && !answer.stderr.contains("--help"), "{line}: {}", answer.stderr);
        }
    }
}

/// The quickest way through the whole program: only the first claim, twice.
#[test]
fn a_claim_goes_all_the_way_to_its_report() {
    let Some(claim) = registry().first() else { return };
    let scratch = Scratch::new();
    let report = |directory: &str| {
        let answer = scratch.run(&["verify", "--claim", claim.id, "--device", "cpu", "--out-dir", directory]);
        assert_eq!(answer.code, Some(0), "{}{}", answer.stdout, answer.stderr);
        assert!(answer.stderr.contains(&format!("[1/1] {}: ", claim.id)), "{}", answer.stderr);
        assert!(answer.stdout.ends_with(&format!("report: {directory}/report.md\n")), "{}", answer.stdout);
        for name in ["report.json", "junit.xml"] {
            assert!(scratch.path(directory).join(name).is_file(), "{name}");
        }
        assert!(!scratch.path(directory).join("parts").exists());
        fs::read_to_string(scratch.path(directory).join("report.md")).expect("a report")
    };
    assert_eq!(report("one"), report("two"));
}
