//! The gate from the user's side: exit status, table, Markdown, JUnit, annotations.

use std::fs;

use super::{read, scratch};
use crate::common::command::{Answer, Scratch};

fn analyze(scratch: &Scratch, more: &[&str]) -> Answer {
    let fixed = "analyze --model model --device cpu --threads 1 --data rows.tsv --k 4 --test-limit 16 --formula sgd \
                 --optimizers sgd --lr-sgd 1e-2 --steps 2 --eval-every 2 --train-batch-size 4 --label-words terrible,great \
                 --template *cls**sent_0*_It_was*mask*.*sep+*";
    let words: Vec<&str> = fixed.split_whitespace().chain(more.iter().copied()).collect();
    let output = scratch.command(&words).env_remove("GITHUB_ACTIONS").output().expect("the program starts");
    scratch.answer(&output)
}

#[test]
fn a_baseline_is_written_passed_and_missed() {
    let scratch = scratch();
    let written = analyze(&scratch, &["--baseline", "b.json", "--write-baseline", "--baseline-seeds", "13,14"]);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    assert!(written.stdout.contains("\nbaseline: b.json ("), "{}", written.stdout);
    for report in ["kernelview-report/report.md", "kernelview-report/seed-14/report.md"] {
        assert!(scratch.path(report).is_file(), "{report}");
    }
    assert!(read(&scratch.path("kernelview-report/report.md")).contains("--steps 2"));
    assert!(!read(&scratch.path("kernelview-report/report.json")).contains("--write-baseline"));

    let passed = analyze(&scratch, &["--baseline", "b.json", "--out-dir", "again"]);
    assert_eq!(passed.code, Some(0), "{}", passed.stdout);
    assert!(
        passed.stdout.contains("\ngate: nothing moved: ") && !passed.stdout.contains("::error"),
        "{}",
        passed.stdout
    );

    let moved = analyze(
        &scratch,
        &["--baseline=b.json", "--dtype=f64", "--out-dir=other", "--markdown=m.md", "--junit=j.xml", "--github"],
    );
    assert_eq!(moved.code, Some(1), "{}", moved.stdout);
    for text in [
        "\nrun.dtype  moved  f32     f64          the same at seed 13\n",
        "\ngate: 1 moved: ",
        "\n::error file=b.json,title=run.dtype moved::f32 before, f64 now; accepted: the same at seed 13\n",
    ] {
        assert!(moved.stdout.contains(text), "{text}{}", moved.stdout);
    }
    let markdown = read(&scratch.path("m.md"));
    assert!(markdown.starts_with("### kernelview: ❌ 1 moved: "), "{markdown}");
    assert!(markdown.contains("\n| `run.dtype` | **moved** | f32 | f64 |  | the same at seed 13 |\n"), "{markdown}");
    let junit = read(&scratch.path("j.xml"));
    crate::common::junit::check(&junit);
    assert!(junit.contains(r#"<testsuite name="run" "#) && junit.matches("<failure ").count() == 1, "{junit}");

    // The same with `compare`, for reports and for a baseline; excluded metrics do not count.
    let compare = |words: &[&str]| scratch.run(&[&["compare"], words].concat());
    let reports = ["kernelview-report/report.json", "other/report.json"];
    assert_eq!(compare(&reports).code, Some(1));
    assert_eq!(compare(&["b.json", reports[1]]).code, Some(1));
    let left_out = compare(&["b.json", reports[1], "--ignore", "run.dtype"]);
    assert_eq!(left_out.code, Some(0), "{}", left_out.stdout);
    assert!(left_out.stdout.contains("1 metrics were left out, as asked."), "{}", left_out.stdout);
    assert_eq!(compare(&["b.json", "b.json"]).code, Some(0));
    let output = scratch.command(&["compare", "b.json", reports[1]]).env("GITHUB_ACTIONS", "true").output();
    assert!(scratch.answer(&output.expect("it starts")).stdout.contains("::error file=b.json"));
}

/// Two threads add in another order than one: only rounding, in every figure, for every optimizer and formula.
#[test]
fn another_number_of_threads_moves_nothing() {
    let scratch = scratch();
    let fixed = "analyze --model model --device cpu --data rows.tsv --k 6 --test-limit 16 --optimizers sgd,signgd,adam \
                 --lr-sgd 1e-1 --lr-signgd 1e-3 --lr-adam 1e-2 --steps 24 --eval-every 8 --train-batch-size 4 --batch 5 \
                 --label-words terrible,great --template *cls**sent_0*_It_was*mask*.*sep+*";
    for threads in ["1", "2"] {
        let more = ["--threads", threads, "--out-dir", threads];
        let words: Vec<&str> = fixed.split_whitespace().chain(more).collect();
        let output = scratch.command(&words).env_remove("OMP_NUM_THREADS").output().expect("the program starts");
        assert_eq!(output.status.code(), Some(0), "{}", scratch.answer(&output).stderr);
    }
    let answer = scratch.run(&["compare", "1/report.json", "2/report.json", "--strict"]);
    assert_eq!(answer.code, Some(0), "{}", answer.stdout);
}

/// Settings for the output of a comparison are refused without a comparison, before the run.
#[test]
fn what_a_comparison_is_written_to_needs_one() {
    let scratch = scratch();
    for more in [
        &["--markdown", "m.md"][..],
        &["--junit", "j.xml"],
        &["--strict"],
        &["--junit", "j.xml", "--baseline", "b.json", "--write-baseline"],
    ] {
        let answer = analyze(&scratch, more);
        assert_eq!(answer.code, Some(2), "{more:?}");
        let message = format!("error: {}: needs a comparison: give --baseline without --write-baseline\n", more[0]);
        assert_eq!(answer.stderr, message);
        assert!(!scratch.path("kernelview-report").exists());
    }
}

#[test]
fn bad_input_is_refused_before_the_run() {
    let scratch = scratch();
    fs::write(scratch.path("bad.json"), "{\"kernelview_baseline\": 99}").expect("a file");
    for (file, message) in [
        ("none.json", "error: none.json: there is no baseline; make one with --write-baseline\n"),
        ("bad.json", "error: bad.json: field `kernelview_baseline` is 99, but kernelview "),
    ] {
        let answer = analyze(&scratch, &["--baseline", file]);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(2), ""));
        assert!(answer.stderr.starts_with(message), "{}", answer.stderr);
        assert!(!scratch.path("kernelview-report").exists());
    }
    let alone = analyze(&scratch, &["--write-baseline"]);
    assert_eq!(alone.code, Some(2));
    assert!(alone.stderr.contains("--baseline <FILE>"), "{}", alone.stderr);
    let answer = scratch.run(&["compare", "bad.json", "none.json"]);
    assert_eq!((answer.code, answer.stderr.starts_with("error: bad.json: field")), (Some(2), true));
}

/// One quick claim with three seeds, then with another.
#[test]
fn claims_have_baselines_too() {
    let scratch = scratch();
    let verify = |more: &str| {
        let fixed = "verify --claim output-derivative --device cpu --jobs 1 --baseline b.json";
        let words: Vec<&str> = fixed.split_whitespace().chain(more.split_whitespace()).collect();
        scratch.run(&words)
    };
    let written = verify("--write-baseline --baseline-seeds 3 --out-dir one");
    assert_eq!(written.code, Some(0), "{}{}", written.stdout, written.stderr);
    assert!(scratch.path("one/seed-15/report.json").is_file() && !scratch.path("one/seed-15/parts").exists());
    let passed = verify("--seed 99 --out-dir two");
    assert_eq!(passed.code, Some(0), "{}", passed.stdout);
    // Control: another verdict, and another profile.
    let text = read(&scratch.path("b.json"));
    fs::write(scratch.path("b.json"), text.replace("not violated", "violated")).expect("written");
    let moved = scratch.run(&["compare", "b.json", "two/report.json"]);
    assert_eq!(moved.code, Some(1), "{}", moved.stdout);
    assert!(moved.stdout.contains("claims.output-derivative.verdict  moved  violated"), "{}", moved.stdout);
    fs::write(scratch.path("b.json"), text.replace(r#"["profile","quick"]"#, r#"["profile","full"]"#))
        .expect("written");
    let refused = scratch.run(&["compare", "b.json", "two/report.json"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("the profile was full and is quick"), "{}", refused.stderr);
}
