//! Runs of made-up claims: order, errors, panics, interruption, and what is measured again afterwards.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

use kernelview::error::{Error, Result};
use kernelview::evidence::{Check, ClaimVerdict, Collected, Fate, Findings, Open, Profile, Verification};
use kernelview::progress::Silent;
use kernelview::stats::{Estimate, Expectation, Outcome, student_mean};
use kernelview::theorems::{Claim, Context, ERROR_RATE, Mutant, Topic};
use kernelview::verify::{Event, Experiment, Listener, UntilDecided, VerifySettings, forget, run};
use tch::Device;

fn check(name: &str, value: f64) -> Check {
    let (expectation, estimate) = (Expectation::AtMost { bound: 0.5 }, Estimate::exact(value, 1));
    let outcome = if value <= 0.5 { Outcome::Holds } else { Outcome::Violated };
    Check { name: name.into(), expectation, estimate, outcome, detectable: Some(0.0) }
}

/// Findings that hold, except for the mutant that the check notices.
fn findings(context: &Context<'_>) -> Findings {
    let value = if context.is("noticed") { 1.0 } else { 0.0 };
    Findings { checks: vec![check("value", value)], controls: vec![check("control", 1.0)], ..Findings::default() }
}

const fn claim(
    id: &'static str,
    mutants: &'static [Mutant],
    experiment: fn(&Context<'_>) -> Result<Findings>,
) -> Claim {
    Claim {
        id,
        topic: Topic::Width,
        title: "a title",
        source: "a source",
        prediction: "a prediction",
        text: "//! A statement.\n",
        mutants,
        graded: &[],
        experiment,
    }
}

fn settings(claims: &[&'static Claim], jobs: usize) -> VerifySettings {
    let claims = claims.to_vec();
    VerifySettings {
        profile: Profile::Standard,
        seed: 3,
        claims,
        mutants: true,
        device: Device::Cpu,
        jobs,
        until_decided: None,
    }
}

fn ids(verification: &Verification) -> Vec<&str> {
    verification.claims.iter().map(|c| c.id.as_str()).collect()
}

fn parts(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("parts")).map_or(0, Iterator::count)
}

#[test]
fn results_come_in_the_order_of_the_plan() {
    static SLOW: Claim = claim("slow", &[], |context| {
        sleep(Duration::from_millis(150));
        Ok(findings(context))
    });
    static MUTATED: Claim = claim(
        "mutated",
        &[Mutant { name: "noticed", change: "a change" }, Mutant { name: "unnoticed", change: "a change" }],
        |context| {
            let expected = if context.is_mutant() { Profile::Quick } else { Profile::Standard };
            assert_eq!(context.profile, expected);
            Ok(findings(context))
        },
    );
    static QUICK: Claim = claim("quick", &[], |context| Ok(findings(context)));
    let claims: [&'static Claim; 3] = [&SLOW, &MUTATED, &QUICK];
    for jobs in [1, 3] {
        let directory = tempfile::tempdir().unwrap();
        let verification = run(&settings(&claims, jobs), directory.path(), &Silent).unwrap();
        assert_eq!(ids(&verification), ["slow", "mutated", "quick"]);
        let mutants: Vec<_> = verification.fates().map(|(m, fate)| (m.mutant.as_str(), fate)).collect();
        assert_eq!(mutants, [("noticed", Fate::Caught), ("unnoticed", Fate::Survived)]);
        assert_eq!((verification.errors.as_slice(), verification.succeeded()), (&[][..], false));
        assert_eq!(parts(directory.path()), 5);
        forget(directory.path()).unwrap();
        assert!(!directory.path().join("parts").exists());
    }
}

#[test]
fn failures_and_panics_take_no_other_claim_with_them() {
    static FAILING: Claim =
        claim("failing", &[], |_| Err(Error::no_solution("inverse", "the kernel is singular at width 64")));
    static PANICKING: Claim =
        claim("panicking", &[Mutant { name: "any", change: "a change" }], |_| panic!("shapes differ\nstack"));
    static SOUND: Claim = claim("sound", &[], |context| Ok(findings(context)));
    let directory = tempfile::tempdir().unwrap();
    let verification = run(&settings(&[&FAILING, &PANICKING, &SOUND], 2), directory.path(), &Silent).unwrap();
    assert_eq!(ids(&verification), ["sound"]);
    let errors: Vec<_> = verification.errors.iter().map(|e| format!("{}: {}", e.name(), e.message)).collect();
    assert_eq!(
        errors,
        [
            "failing: no inverse: the kernel is singular at width 64",
            "panicking: shapes differ (RUST_BACKTRACE=1 shows where)",
            "panicking / any: shapes differ (RUST_BACKTRACE=1 shows where)"
        ]
    );
    assert!(!verification.succeeded());
    assert_eq!(parts(directory.path()), 1, "errors are not kept");
}

#[test]
fn an_interrupted_run_continues() {
    static FIRST_RUNS: AtomicUsize = AtomicUsize::new(0);
    static SECOND_RUNS: AtomicUsize = AtomicUsize::new(0);
    static FAILING: Claim = claim("failing", &[], |_| Err(Error::no_solution("inverse", "the kernel is singular")));
    static FIRST: Claim = claim("first", &[], |context| {
        FIRST_RUNS.fetch_add(1, Ordering::SeqCst);
        Ok(findings(context))
    });
    static SECOND: Claim = claim("second", &[], |context| match SECOND_RUNS.fetch_add(1, Ordering::SeqCst) {
        0 => Err(Error::Interrupted),
        _ => Ok(findings(context)),
    });
    static LAST: Claim = claim("last", &[], |context| {
        assert!(SECOND_RUNS.load(Ordering::SeqCst) > 1, "nothing is begun after an interruption");
        Ok(findings(context))
    });
    let counts = || (FIRST_RUNS.load(Ordering::SeqCst), SECOND_RUNS.load(Ordering::SeqCst));
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(&[&FAILING, &FIRST, &SECOND, &LAST], 1);
    let error = run(&settings, directory.path(), &Silent).unwrap_err();
    assert_eq!((error.exit_code(), parts(directory.path()), counts()), (130, 1, (1, 1)), "{error}");

    let verification = run(&settings, directory.path(), &Silent).unwrap();
    assert_eq!((ids(&verification), counts()), (vec!["first", "second", "last"], (1, 2)));
    // Another seed is another measurement.
    run(&VerifySettings { seed: 4, ..settings.clone() }, directory.path(), &Silent).unwrap();
    assert_eq!(counts(), (2, 3));
    run(&settings, directory.path(), &Silent).unwrap();
    assert_eq!(counts(), (2, 3));
    // So is a run after one that finished.
    std::fs::write(directory.path().join("parts/of-an-analysis.json"), "{}").unwrap();
    forget(directory.path()).unwrap();
    assert_eq!(parts(directory.path()), 1, "files of others stay");
    run(&settings, directory.path(), &Silent).unwrap();
    assert_eq!(counts(), (3, 4));
}

#[test]
fn a_listener_hears_everything_on_its_own_thread() {
    struct Ear(RefCell<Vec<(String, Event)>>);
    impl Listener for Ear {
        fn hear(&self, experiment: &Experiment, event: &Event) {
            let mut event = event.clone();
            if let Event::Finished { seconds, .. } = &mut event {
                *seconds = 0.0;
            }
            self.0.borrow_mut().push((experiment.name(), event));
        }
    }
    static TALKING: Claim = claim("talking", &[], |context| {
        context.monitor.begin("stage", 2);
        context.monitor.advance(2);
        context.monitor.note("a note");
        context.monitor.end();
        Ok(findings(context))
    });
    let directory = tempfile::tempdir().unwrap();
    let heard = || {
        let ear = Ear(RefCell::default());
        run(&settings(&[&TALKING], 2), directory.path(), &ear).unwrap();
        ear.0.into_inner().into_iter().map(|(name, event)| (name == "talking").then_some(event).unwrap()).collect()
    };
    let finished = |stored| Event::Finished { result: "holds".into(), seconds: 0.0, stored };
    let events: Vec<Event> = heard();
    let stage = Event::Stage("stage".into(), 2);
    let note = Event::Note("a note".into());
    assert_eq!(events, [Event::Started, stage, Event::Advanced(2), note, Event::StageEnded, finished(false)]);
    let events: Vec<Event> = heard();
    assert_eq!(events, [Event::Started, finished(true)]);
}

/// Number of samples and error rate at each look, for a claim on a mean of 0 with samples of deviation 1, one per seed of the
/// context.
static LOOKS: std::sync::Mutex<Vec<(usize, f64)>> = std::sync::Mutex::new(Vec::new());

static NOISY: Claim = claim("noisy", &[], |context| {
    let seeds = context.seeds(4, 4, 4);
    let samples: Vec<f64> = (0..seeds).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let open = |bound| Open::mean("mean", Expectation::AtMost { bound }, samples.clone());
    let collected = Collected { checks: vec![open(1.5)], controls: vec![open(-1.5)], ..Collected::default() };
    let findings = context.judged_among(1, collected);
    LOOKS.lock().unwrap().push((seeds, findings.checks[0].estimate.confidence));
    Ok(findings)
});

/// Seeds are added until the claim holds, and each look has a share of the error rate; a run that had too little time continues
/// from its last look; a claim that more seeds do not change ends.
#[test]
fn claims_are_looked_at_until_they_are_decided() {
    static FIXED: Claim = claim("fixed", &[], |context| {
        let _ = context.seeds(4, 4, 4);
        let estimate = student_mean(&[1.0, -1.0], 0.99);
        let judged = |bound| Check::judged("mean", Expectation::AtMost { bound }, estimate.clone());
        Ok(Findings { checks: vec![judged(0.5)], controls: vec![judged(-0.5)], ..Findings::default() })
    });
    let directory = tempfile::tempdir().unwrap();
    let until =
        |at_most| VerifySettings { until_decided: Some(UntilDecided { at_most }), ..settings(&[&NOISY, &FIXED], 1) };
    let short = run(&until(Some(Duration::ZERO)), directory.path(), &Silent).unwrap();
    let note = |found: &Verification, at: usize| found.claims[at].findings.notes.join(" ");
    assert_eq!(short.claims[0].verdict, ClaimVerdict::Underpowered);
    assert!(note(&short, 0).contains("time ran out"), "{}", note(&short, 0));
    assert_eq!(LOOKS.lock().unwrap().len(), 1);

    let whole = run(&until(None), directory.path(), &Silent).unwrap();
    assert_eq!(whole.claims[0].verdict, ClaimVerdict::Holds, "{}", note(&whole, 0));
    assert!(note(&whole, 0).contains("it is decided"), "{}", note(&whole, 0));
    assert!(note(&whole, 1).contains("more seeds have no effect"), "{}", note(&whole, 1));
    // The first look was stored.
    let looks = LOOKS.lock().unwrap().clone();
    let seeds: Vec<usize> = looks.iter().map(|look| look.0).collect();
    assert!(seeds.len() > 2 && seeds[..3] == [4, 6, 9], "{seeds:?}");
    let spent: f64 = looks.iter().map(|look| 2.0 * (1.0 - look.1)).sum();
    assert!(spent < ERROR_RATE && looks.windows(2).all(|pair| pair[0].1 < pair[1].1), "{spent}");

    let again = run(&until(None), directory.path(), &Silent).unwrap();
    assert_eq!(again.claims[0].findings, whole.claims[0].findings);
    assert_eq!(LOOKS.lock().unwrap().len(), looks.len());
}
