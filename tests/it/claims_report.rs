//! Reports of claims from made-up evidence: snapshots with every verdict, errors and mutants, and properties of all reports.

use std::fs;
use std::path::Path;

use crate::common::svg::texts_of;
use kernelview::evidence::{
    Cell, Check, ClaimEvidence, ClaimVerdict, ExperimentError, Fate, Figure, Findings, Mark, MutantResult, Profile,
    SCHEMA_VERSION, Series, Table, Verification, VerificationFacts,
};
use kernelview::report::{claims_markdown, claims_summary, junit, mutants_markdown, write_claims};
use kernelview::stats::{Estimate, Expectation, Method, Outcome};

fn student(value: f64, margin: f64, samples: usize) -> Estimate {
    Estimate {
        value,
        low: value - margin,
        high: value + margin,
        confidence: 1.0 - 1e-5,
        standard_error: Some(margin / 4.0),
        samples,
        method: Method::Student,
    }
}

fn check(name: &str, expectation: Expectation, estimate: Estimate) -> Check {
    let outcome = expectation.judge(&estimate);
    let detectable = Some(estimate.standard_error.map_or(0.0, |e| 5.3 * e));
    Check { name: name.into(), expectation, estimate, outcome, detectable }
}

fn slope(target: f64) -> Expectation {
    Expectation::Within { target, tolerance: 0.05 }
}

fn series(name: &str, start: f64, exponent: f64, predicted_slope: Option<f64>, control: bool) -> Series {
    let mark = |i: i32| {
        let x = 64.0 * 2f64.powi(i);
        let y = start * (x / 64.0).powf(exponent) * (1.0 + 0.1 * f64::from(i % 2));
        Mark { x, y, low: 0.8 * y, high: 1.25 * y }
    };
    Series { name: name.into(), marks: (0..6).map(mark).collect(), predicted_slope, control }
}

fn figure(name: &str, series: Vec<Series>) -> Figure {
    Figure {
        name: name.into(),
        title: "Relative error of kernels in width".into(),
        x_label: "width".into(),
        y_label: "relative error".into(),
        series,
    }
}

/// A claim with findings and their verdict.
fn claim(id: &str, topic: &str, verdict: ClaimVerdict, findings: Findings) -> ClaimEvidence {
    assert_eq!(findings.verdict(), verdict, "{id}");
    ClaimEvidence {
        id: id.into(),
        topic: topic.into(),
        title: format!("What {id} says in one line"),
        source: "Theorem 4.3".into(),
        prediction: "error ~ n^(-1/2)".into(),
        statement:
            "In *one* paragraph.\n\n# Hypotheses\n\n1. Width n → ∞.\n\n## Derivation\n\n```text\n# not a heading\n```"
                .into(),
        findings,
        verdict,
        seconds: 12.34,
    }
}

fn sound() -> Findings {
    Findings {
        checks: vec![check("slope of the error", slope(-0.5), student(-0.4967, 0.0213, 12))],
        controls: vec![check("slope without the scale", slope(-0.5), student(0.0041, 0.0302, 12))],
        ..Findings::default()
    }
}

fn holding() -> ClaimEvidence {
    let mut findings = sound();
    findings.settings = vec![("widths".into(), "64, …, 2048".into()), ("activation | gain".into(), "tanh".into())];
    findings.hypotheses =
        vec![check("kurtosis of the weights", Expectation::AtMost { bound: 3.5 }, student(3.01, 0.2, 400))];
    findings.checks.push(check("limit of the ratio", slope(1.0), student(0.99991, 0.0001, 12)));
    findings.checks.push(check("round-off", Expectation::AtMost { bound: 1e-10 }, Estimate::exact(3.2e-15, 96)));
    findings.tables = vec![Table {
        title: "Slopes between neighbouring points".into(),
        columns: ["statistic", "predicted", "64 → 128"].map(String::from).to_vec(),
        rows: vec![
            vec!["K(SGD)".into(), Cell::from(-0.5), Cell::from(-0.482_13)],
            vec!["a|b".into(), Cell::from(0.0), Cell::from(-4.4e-14)],
        ],
    }];
    findings.figures = vec![
        figure(
            "error",
            vec![
                series("K(SGD)", 0.3, -0.5, Some(-0.5), false),
                series("K(SignGD), the kernel of the sign of the gradient", 0.9, -0.27, Some(-0.25), false),
                series("K(SGD) without the scale", 0.5, 0.02, Some(-0.5), true),
            ],
        ),
        figure("narrow", vec![series("loss & <others>", 0.31, 0.002, Some(0.0), false)]),
    ];
    findings.notes = vec!["The smallest width is *left out* of the fit.".into()];
    claim("sign-kernel-limit", "infinite width", ClaimVerdict::Holds, findings)
}

fn realistic() -> Verification {
    let with = |change: fn(&mut Findings)| {
        let mut findings = sound();
        change(&mut findings);
        findings
    };
    let violated = with(|f| {
        f.checks.push(check("identity", Expectation::AtMost { bound: 1e-12 }, Estimate::exact(4.56e-11, 96)));
        f.checks.push(check("slope of the output", slope(-1.0), student(-0.71, 0.03, 12)));
    });
    let broken = with(|f| {
        f.controls.push(check("slope of another kernel", slope(-0.5), student(-0.5, 0.01, 12)));
    });
    let uncontrolled = with(|f| f.controls.clear());
    let underpowered = with(|f| f.checks.push(check("wide", slope(-0.5), student(-0.47, 0.2, 3))));
    let not_applicable = with(|f| {
        let diverged = Estimate { value: f64::NAN, ..student(0.0, f64::INFINITY, 2) };
        f.hypotheses = vec![check("the loss falls", Expectation::AtMost { bound: 0.5 }, student(0.9, 0.1, 12))];
        f.checks.push(Check { outcome: Outcome::Violated, ..check("diverged", slope(0.0), diverged) });
    });
    let error = |claim: &str, mutant: Option<&str>, message: &str| ExperimentError {
        claim: claim.into(),
        topic: "kernel behaviour".into(),
        prediction: "kernel regression = SGD".into(),
        mutant: mutant.map(String::from),
        message: message.into(),
    };
    let mutant = |claim: &str, name: &str, change: &str, caught_by: &[&str]| MutantResult {
        claim: claim.into(),
        mutant: name.into(),
        strength: None,
        change: change.into(),
        of_prediction: false,
        verdict: if caught_by.is_empty() { ClaimVerdict::Holds } else { ClaimVerdict::Violated },
        caught_by: caught_by.iter().map(ToString::to_string).collect(),
        seconds: 1.5,
    };
    let shifted = |strength: f64, caught_by: &[&str]| MutantResult {
        strength: Some(strength),
        of_prediction: true,
        ..mutant("sign-kernel-limit", "shifted", "every predicted value a tolerance too large", caught_by)
    };
    Verification {
        schema_version: SCHEMA_VERSION,
        run: VerificationFacts {
            version: "0.0.0".into(),
            profile: Profile::Standard,
            seed: 13,
            device: "cpu".into(),
            error_rate: 1e-3,
            claims_in_registry: 8,
        },
        claims: vec![
            claim("broken-one", "exact identity", ClaimVerdict::Broken, broken),
            claim("uncontrolled", "exact identity", ClaimVerdict::Broken, uncontrolled),
            holding(),
            claim("violated-one", "infinite width", ClaimVerdict::Violated, violated),
            claim("few-seeds", "kernel behaviour", ClaimVerdict::Underpowered, underpowered),
            claim("no-prompt", "pre-training and prompts", ClaimVerdict::NotApplicable, not_applicable),
        ],
        mutants: vec![
            mutant(
                "sign-kernel-limit",
                "no-scale",
                "the last layer keeps its scale",
                &["slope of the error", "round-off"],
            ),
            mutant("sign-kernel-limit", "sign of zero", "sign(0) = 1 | not 0", &[]),
            shifted(0.5, &[]),
            shifted(2.0, &["slope of the error"]),
        ],
        errors: vec![
            error("singular", None, "the kernel has no inverse\nat width 64"),
            error("singular", Some("ridge"), "out of memory"),
        ],
    }
}

/// The same run with everything as it should be.
fn successful() -> Verification {
    let mut verification = realistic();
    verification.claims.retain(|c| c.verdict == ClaimVerdict::Holds);
    verification.mutants.retain(|m| !m.caught_by.is_empty());
    verification.errors.clear();
    verification
}

/// The file meets the requirements of Jenkins, GitLab and GitHub.
#[test]
fn junit_files_follow_their_readers() {
    let root = crate::common::junit::check(&junit(&realistic()).unwrap());
    assert_eq!((root.attributes["tests"].as_str(), root.children.len()), ("12", 5));
    let empty = Verification { claims: Vec::new(), mutants: Vec::new(), errors: Vec::new(), ..realistic() };
    assert!(crate::common::junit::check(&junit(&empty).unwrap()).children.is_empty());
}

#[test]
fn every_verdict_is_reported() {
    let verification = realistic();
    assert!(!verification.succeeded());
    insta::assert_snapshot!("markdown", claims_markdown(&verification).unwrap());
    insta::assert_snapshot!("mutants", mutants_markdown(&verification).unwrap().unwrap());
    insta::assert_snapshot!("junit", junit(&verification).unwrap());
    insta::assert_snapshot!("summary", claims_summary(&verification));
}

/// A check that the claim itself does not pass says nothing of a mutant; any other check does.
#[test]
fn a_violated_claim_does_not_blame_its_mutants() {
    let mut verification = realistic();
    verification.errors.clear();
    verification.claims.retain(|c| c.id == "violated-one");
    let own = verification.claims[0].findings.checks.iter().find(|c| c.outcome == Outcome::Violated).unwrap();
    let mutant = |strength: Option<f64>, by: &str| MutantResult {
        claim: "violated-one".into(),
        mutant: "off".into(),
        strength,
        change: "off by a part of its tolerance".into(),
        of_prediction: false,
        verdict: ClaimVerdict::Violated,
        caught_by: vec![by.to_owned()],
        seconds: 1.0,
    };
    let all = |by: &str| [Some(0.5), Some(2.0), None].map(|strength| mutant(strength, by));
    verification.mutants = [all(&own.name), all("another")].concat();
    let fates: Vec<Fate> = verification.fates().map(|(_, fate)| fate).collect();
    let undecided = Fate::Undecided;
    assert_eq!(fates, [undecided, undecided, undecided, Fate::WronglyCaught, Fate::Caught, Fate::Caught]);
    verification.mutants.truncate(3);
    verification.mutants[1].of_prediction = true;
    let summary = claims_summary(&verification);
    assert!(
        summary.contains("3 mutants were noticed only by checks that their claims themselves do not pass."),
        "{summary}"
    );
    assert!(!summary.contains("WRONGLY") && !summary.contains("All 0"), "{summary}");
    assert!(!summary.contains("came out as"), "{summary}");
    assert!(mutants_markdown(&verification).unwrap().unwrap().contains("## Undecided"));
}

#[test]
fn success_is_told_in_a_line() {
    let verification = successful();
    assert!(verification.succeeded());
    let markdown = claims_markdown(&verification).unwrap();
    let paragraph = markdown.lines().nth(2).unwrap();
    assert_eq!(
        paragraph,
        "The one claim examined holds. The one mutant was noticed. One run with a moved prediction, which measures nothing \
         and tests the judging, came out as it must. The run succeeded."
    );
}

#[test]
fn figures_are_well_formed() {
    let directory = tempfile::tempdir().unwrap();
    let written = write_claims(&realistic(), directory.path()).unwrap().report;
    let texts: Vec<String> = written
        .plots
        .iter()
        .map(|path| {
            let svg = fs::read_to_string(path).unwrap();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", path.display());
            format!("{}\n  {}\n", path.file_name().unwrap().to_str().unwrap(), texts_of(&svg).join("\n  "))
        })
        .collect();
    insta::assert_snapshot!("figures", texts.concat());
    let markdown = fs::read_to_string(&written.markdown).unwrap();
    let named: Vec<&str> = markdown.split("](plots/").skip(1).map(|t| t.split(')').next().unwrap()).collect();
    assert_eq!(named, ["sign-kernel-limit-error.svg", "sign-kernel-limit-narrow.svg"]);
}

#[test]
fn figures_that_logarithms_cannot_show_are_left_out() {
    let mark = |x, y| Mark { x, y, low: f64::NAN, high: f64::INFINITY };
    let series = |marks: Vec<Mark>| Series { name: "s".into(), marks, predicted_slope: Some(-0.5), control: false };
    let nothing = figure("nothing", vec![series(vec![mark(0.0, 1.0), mark(2.0, -1.0), mark(4.0, f64::NAN)])]);
    let single = figure("single", vec![series(vec![mark(0.0, 1.0), mark(1e-3, 1.0)]), series(Vec::new())]);
    let mut verification = successful();
    verification.claims[0].findings.figures = vec![nothing, single];
    let directory = tempfile::tempdir().unwrap();
    let written = write_claims(&verification, directory.path()).unwrap().report;
    assert_eq!(names(&directory.path().join("plots")), ["sign-kernel-limit-single.svg"]);
    texts_of(&fs::read_to_string(&written.plots[0]).unwrap());
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_report_replaces_the_last_one_and_touches_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    write_claims(&realistic(), directory.path()).unwrap();
    fs::write(at("plots/mine.svg"), "mine").unwrap();
    assert_eq!(names(directory.path()), ["junit.xml", "mutants.md", "plots", "report.json", "report.md"]);
    let mut next = successful();
    next.mutants.clear();
    next.claims[0].findings.figures.truncate(1);
    next.claims[0].seconds = 99.0;
    write_claims(&next, directory.path()).unwrap();
    assert_eq!(names(directory.path()), ["junit.xml", "plots", "report.json", "report.md"]);
    assert_eq!(names(&at("plots")), ["mine.svg", "sign-kernel-limit-error.svg"]);
    // Run times are not part of the report for people.
    next.claims[0].seconds = 1.0;
    let before = fs::read(at("report.md")).unwrap();
    write_claims(&next, directory.path()).unwrap();
    assert!(before == fs::read(at("report.md")).unwrap());
    assert_eq!(serde_json::from_slice::<Verification>(&fs::read(at("report.json")).unwrap()).unwrap(), next);
}

#[test]
fn the_report_of_an_analysis_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("report.json"), r#"{"schema_version": 1, "zero_shot": {"dev": 0.5}}"#).unwrap();
    let message = write_claims(&successful(), directory.path()).unwrap_err().to_string();
    assert!(message.ends_with(
        "report.json: the report of an analysis is here; choose another directory (setting `out_directory`), or move it away"
    ));
    assert_eq!(names(directory.path()), ["report.json"]);
}
