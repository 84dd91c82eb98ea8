//! Baseline files: written ones are read back, other files are refused.

use std::fs;

use kernelview::evidence::SCHEMA_VERSION;
use kernelview::gate::{Baseline, Ignored, Options, compare};

use super::{AS_BEFORE, analysis, baseline, compared, read, scratch};

#[test]
fn a_baseline_survives_its_file() {
    let scratch = scratch();
    let runs = [1, 2, 3].map(|seed| analysis(&scratch, AS_BEFORE, seed));
    let before = baseline(&runs);
    let path = scratch.path("baseline.json");
    before.write(&path).expect("written");
    assert_eq!(Baseline::read(&path).expect("read"), before);
    let text = read(&path);
    assert!(text.starts_with("{\n  \"kernelview_baseline\": 1,\n  \"kind\": \"analysis\",\n"), "{text}");
    // One line per metric, with a single value if it is always the same.
    assert_eq!(text.lines().filter(|l| l.starts_with("    {\"name\":")).count(), before.metrics.len());
    assert!(text.contains(r#"    {"name":"run.dtype","rule":"exact","always":"f32"},"#), "{text}");

    // A report is a baseline of one run.
    let report = scratch.path("report.json");
    fs::write(&report, serde_json::to_string(&runs[0]).expect("JSON")).expect("written");
    let single = Baseline::read(&report).expect("read");
    assert_eq!(single.seeds, [1]);
    assert!(compared(&before, &single).passed());
}

#[test]
fn what_is_no_baseline_is_refused() {
    let scratch = scratch();
    let path = scratch.path("b.json");
    let good = {
        baseline(&[1, 2].map(|seed| analysis(&scratch, AS_BEFORE, seed))).write(&path).expect("written");
        read(&path)
    };
    for (text, message) in [
        ("half a fi".to_owned(), "neither a baseline nor a report.json of `analyze` or `verify`"),
        ("{}".to_owned(), "it has neither `kernelview_baseline` nor `schema_version`"),
        (format!(r#"{{"schema_version": {SCHEMA_VERSION}, "task": "x"}}"#), "it is a report of another command"),
        (r#"{"schema_version": 99, "zero_shot": {}}"#.to_owned(), "field `schema_version` is 99, but kernelview"),
        (good.replace("\"kernelview_baseline\": 1", "\"kernelview_baseline\": 7"), "field `kernelview_baseline` is 7"),
        (good.replace("\"seeds\": [1,2]", "\"seeds\": []"), "field `seeds` is empty"),
        (good.replace("\"seeds\": [1,2]", "\"seeds\": [1,2,3]"), "values, but there are 3 seeds"),
        (good.replace("\"always\":\"f32\"", "\"never\":\"f32\""), "must have either `always` or `values`"),
        (good.replace("\"rule\":\"exact\"", "\"rule\":\"exactly\""), "damaged or edited"),
    ] {
        fs::write(&path, text).expect("written");
        let error = Baseline::read(&path).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(message) && error.to_string().contains("b.json"), "{error}");
    }
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let scratch = scratch();
    let run = analysis(&scratch, AS_BEFORE, 1);
    let single = |change: &dyn Fn(&mut kernelview::evidence::Analysis)| {
        let mut other = run.clone();
        change(&mut other);
        baseline(&[other])
    };
    let old = single(&|_| {});
    let refused = |new: &Baseline, options: &Options, message: &str| {
        let error = compare(&old, new, options).expect_err("refused");
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.exit_code(), 2);
    };
    let plain = Options::default();
    refused(&single(&|a| a.model.width = 99), &plain, "the model's width was 16 and is 99");
    refused(&single(&|a| a.task.name = "other".into()), &plain, "the task was rows and is other");
    refused(
        &single(&|a| a.run.seed = 2),
        &plain,
        "the seed was 1 and is 2; a single run does not show the effect of the seed",
    );
    let ignored = Options { ignored: Ignored::new(&["no.such.*".to_owned()]), strict: false };
    refused(&old, &ignored, "setting `ignored` is no.such.*, expected a pattern that matches a metric's name");
    let error = Baseline::of_analyses(&[run.clone(), run]).expect_err("one seed twice");
    assert!(error.to_string().contains("in a baseline the run of seed `1` is given twice"), "{error}");
}
