//! Reports of made-up evidence: a realistic one as snapshots, degenerate and random ones for properties of all reports.

mod evidence;
mod random;

use std::fmt::Write;

use crate::common::svg::texts_of;
use evidence::{bare, realistic};
use kernelview::evidence::{Analysis, Answers, MatrixPicture, Outcome, SCHEMA_VERSION, Verdict, judge};
use kernelview::report::{read_json, render_markdown, terminal_summary, write};

#[test]
fn realistic_report() {
    insta::assert_snapshot!("markdown", render_markdown(&realistic()).unwrap());
    insta::assert_snapshot!("terminal", terminal_summary(&realistic()));
}

#[test]
fn figures_show_their_labels() {
    let directory = tempfile::tempdir().unwrap();
    let written = write(&realistic(), directory.path()).unwrap();
    let mut all = String::new();
    for path in &written.plots {
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", path.display());
        writeln!(all, "{}", path.file_name().unwrap().to_str().unwrap()).unwrap();
        for text in texts_of(&svg) {
            writeln!(all, "  {text}").unwrap();
        }
    }
    insta::assert_snapshot!("figures", all);
}

#[test]
fn two_reports_of_one_analysis_are_the_same_bytes() {
    let read = |directory: &std::path::Path| -> Vec<Vec<u8>> {
        let written = write(&realistic(), directory).unwrap();
        let paths = written.plots.iter().chain([&written.json, &written.markdown]);
        paths.map(|p| std::fs::read(p).unwrap()).collect()
    };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_eq!(read(one.path()), read(&two.path().join("made/on/the/way")));
}

#[test]
fn every_figure_that_the_markdown_names_exists() {
    let directory = tempfile::tempdir().unwrap();
    let written = write(&realistic(), directory.path()).unwrap();
    let text = std::fs::read_to_string(&written.markdown).unwrap();
    let named: Vec<_> = text.split("](plots/").skip(1).map(|t| t.split(')').next().unwrap().to_owned()).collect();
    assert_eq!(named.len(), written.plots.len());
    for name in named {
        assert!(directory.path().join("plots").join(&name).is_file(), "{name}");
    }
}

#[test]
fn json_keeps_everything() {
    let directory = tempfile::tempdir().unwrap();
    for analysis in [realistic(), bare()] {
        let written = write(&analysis, directory.path()).unwrap();
        assert_eq!(read_json(&written.json).unwrap(), analysis);
    }
}

#[test]
fn another_version_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    let error = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let message = read_json(&path).unwrap_err().to_string();
        assert!(message.starts_with(path.to_str().unwrap()), "{message}");
        message[path.to_str().unwrap().len()..].to_owned()
    };
    let here = env!("CARGO_PKG_VERSION");
    assert_eq!(
        error(r#"{"schema_version": 7, "run": {"program_version": "9.1.0"}}"#),
        format!(
            ": field `schema_version` is 7 (written by kernelview 9.1.0), but kernelview {here} reads version \
             {SCHEMA_VERSION}: read it with the kernelview that wrote it, or analyze again"
        )
    );
    assert!(error("{}").contains("`schema_version` is missing"));
    assert!(error("[1").contains("not a kernelview report"));
    let message = error(&format!(r#"{{"schema_version": {SCHEMA_VERSION}}}"#));
    assert!(message.contains("missing field `run`"), "{message}");
}

#[test]
fn numbers_that_are_not_finite_are_refused_before_anything_is_written() {
    type Spoil = fn(&mut Analysis);
    let spoil: [(&str, Spoil); 3] = [
        ("`fine_tuning[1].history[3].dev_loss`", |a| a.fine_tuning[1].history[3].dev_loss = f64::NAN),
        ("`verdicts[0].value`", |a| a.verdicts[0].value = Some(f64::INFINITY)),
        ("`kernels[0].picture.cells[5]`", |a| a.kernels[0].picture.cells[5] = f64::NEG_INFINITY),
    ];
    for (field, spoil) in spoil {
        let mut analysis = realistic();
        spoil(&mut analysis);
        let directory = tempfile::tempdir().unwrap();
        let message = write(&analysis, directory.path()).unwrap_err().to_string();
        assert!(message.contains(field), "{message}");
        assert!(render_markdown(&analysis).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn degenerate_evidence_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let text = render_markdown(&bare()).unwrap();
    assert!(text.contains("nothing was fine-tuned"), "{text}");
    write(&bare(), directory.path()).unwrap();

    let mut analysis = realistic();
    for run in &mut analysis.fine_tuning {
        run.history.clear();
        run.candidates.clear();
        run.kernel_drift.clear();
        run.gradient_drift = None;
        run.linearization.recovered_share = None;
        run.linearization.cumulative_residual = None;
        run.linearization.movements.clear();
        for step in &mut run.linearization.steps {
            (step.residual, step.cumulative) = (None, None);
        }
    }
    for kernel in &mut analysis.kernels {
        kernel.methods.clear();
        kernel.picture.cells.truncate(5);
    }
    analysis.verdicts = judged(&analysis);
    assert!(analysis.verdicts.iter().all(|v| v.outcome == Outcome::NotApplicable));
    let text = render_markdown(&analysis).unwrap();
    assert!(text.contains("K(SGD) is not among this analysis' kernels"), "{text}");
    assert_eq!(write(&analysis, directory.path()).unwrap().plots.len(), 2);

    let mut one_class = realistic();
    one_class.task.label_words.truncate(1);
    one_class.kernels[0].picture = MatrixPicture {
        size: 1,
        cells: vec![0.0],
        class_starts: vec![0],
        class_names: vec!["a & <b>".into()],
        rows: Vec::new(),
    };
    one_class.fine_tuning[0].history.truncate(1);
    one_class.fine_tuning[0].linearization.movements.truncate(1);
    one_class.fine_tuning[0].linearization.steps.truncate(1);
    let written = write(&one_class, directory.path()).unwrap();
    for path in &written.plots {
        texts_of(&std::fs::read_to_string(path).unwrap());
    }
}

/// The answers to the questions, from the analysis's own figures.
fn judged(analysis: &Analysis) -> Vec<Verdict> {
    judge(&analysis.kernels, &analysis.fine_tuning, &analysis.floor(), &analysis.zero_shot_answers)
}

/// An analysis with this many examples of about three classes, the most frequent of which has `majority` examples. The other
/// numbers count the right answers before training, after it, of the linearized model and of the kernel; they are always the
/// first examples of the set.
fn asked(examples: usize, majority: usize, [zero_shot, tuned, linear, kernel]: [usize; 4]) -> Analysis {
    let share = |right: usize| right as f64 / examples as f64;
    let answers = |right: usize| Answers((0..examples).map(|i| i < right).collect());
    let mut analysis = realistic();
    analysis.fine_tuning.truncate(1);
    (analysis.task.majority_accuracy, analysis.task.test) = (share(majority), examples);
    (analysis.zero_shot.test, analysis.zero_shot_answers) = (share(zero_shot), answers(zero_shot));
    let method = &mut analysis.kernels[0].methods[0];
    (method.test_accuracy, method.test_answers) = (share(kernel), answers(kernel));
    let run = &mut analysis.fine_tuning[0];
    (run.test_accuracy, run.test_answers) = (share(tuned), answers(tuned));
    let gain = tuned as f64 - zero_shot as f64;
    let linearization = &mut run.linearization;
    linearization.recovered_share = (gain > 0.0).then(|| (linear as f64 - zero_shot as f64) / gain);
    (linearization.test_accuracy, linearization.test_answers) = (share(linear), answers(linear));
    analysis.verdicts = judged(&analysis);
    analysis
}

fn outcomes(analysis: &Analysis) -> Vec<Outcome> {
    analysis.verdicts.iter().map(|v| v.outcome).collect()
}

/// The first sentence of a report.
fn headline(analysis: &Analysis) -> String {
    render_markdown(analysis).unwrap().lines().nth(2).unwrap().to_owned()
}

/// Three classes, no better than the most frequent one, with one more right example after fine-tuning: neither of the two questions about learning is
/// applicable, in the terminal, in the report, and in its first sentence.
#[test]
fn no_better_than_one_class_nothing_is_learned_or_linearized() {
    use Outcome::{Holds, NotApplicable};
    for (majority, zero_shot, tuned, reason) in [
        (34, 32, 33, "(not clearly better than one class)"),
        (33, 32, 34, "(not clearly better than one class)"),
        (34, 33, 32, "(no gain)"),
    ] {
        let chance = asked(90, majority, [zero_shot, tuned, tuned, 70]);
        assert_eq!(outcomes(&chance), [NotApplicable, NotApplicable, Holds]);
        let report = render_markdown(&chance).unwrap();
        assert!(report.contains(&format!("| n/a {reason} |")), "{report}");
        let first = headline(&chance);
        assert!(
            first.ends_with(
                "is on test not clearly better than the most frequent class, and its features stay fixed: whether it behaves like \
                 its kernel K(SGD) cannot be asked."
            ),
            "{first}"
        );
        let terminal = terminal_summary(&chance);
        let line = terminal.lines().find(|l| l.starts_with("linearization ")).unwrap();
        assert!(line.contains("n/a     n/a") && line.ends_with("≥ 50.0%"), "{terminal}");
    }
}

/// A question that a few examples leave undecided is reported so, with the number of examples that would decide it.
#[test]
fn few_examples_decide_nothing() {
    use Outcome::{Fails, Holds, Undecided};
    // 30 of 36 are right, 20 of them before training; the kernel has 27, exactly 90%; the linearized model, 29.
    let little = asked(36, 18, [20, 30, 29, 27]);
    assert_eq!(outcomes(&little), [Undecided, Holds, Holds]);
    let first = headline(&little);
    assert!(first.ends_with("behaves like its kernel K(SGD) in **2 of 3 respects**, and 1 is undecided."), "{first}");
    let report = render_markdown(&little).unwrap();
    assert!(report.contains("no number of examples can be named"), "{report}");
    // A gain of one example; the linearized model gains two.
    let one = asked(36, 12, [27, 28, 29, 28]);
    let verdict = &one.verdicts[1];
    assert_eq!((verdict.outcome, verdict.value, verdict.low), (Undecided, Some(2.0), None));
    let terminal = terminal_summary(&one);
    assert!(terminal.contains("200.0%") && terminal.contains("unbounded"), "{terminal}");
    let needed = verdict.needed.expect("a number");
    assert!((200..600).contains(&needed), "{needed}");
    assert!(terminal.contains("cannot be told from none; about"), "{terminal}");
    // This many examples decide, and a few more because of rounded counts.
    let factor = needed.div_ceil(36);
    let more = asked(36 * factor, 12 * factor, [27, 28, 29, 28].map(|c| c * factor));
    assert_eq!(outcomes(&more)[1], Holds);
    // A kernel with 80 of 100 if fine-tuning has 99, and a linearized model that keeps nothing of a large gain.
    let fails = asked(100, 50, [60, 99, 60, 80]);
    assert_eq!(outcomes(&fails), [Fails, Fails, Holds]);
    assert!(headline(&fails).ends_with("in **1 of 3 respects**, not in 2."), "{}", headline(&fails));
    // Everything undecided: features may or may not have moved too far.
    let mut open = asked(36, 12, [27, 28, 29, 25]);
    open.fine_tuning[0].kernel_drift[0].1.mean_relative = 1.9;
    open.verdicts = judged(&open);
    assert_eq!(outcomes(&open), [Undecided; 3]);
    let first = headline(&open);
    assert!(
        first.ends_with(
            "whether fine-tuning with SGD behaves like its kernel K(SGD) is undecided in **all 3 respects**."
        ),
        "{first}"
    );
    // Without answers to each example there is no interval, and nothing is decided.
    let mut unknown = asked(100, 50, [60, 99, 99, 99]);
    unknown.zero_shot_answers = Answers::default();
    assert_eq!(judged(&unknown)[1].outcome, Undecided);
}

#[test]
fn texts_of_others_do_not_break_tables() {
    let mut analysis = realistic();
    analysis.task.template = "*cls*a|b`c*mask*".into();
    analysis.task.label_words[0].word = "<br>|`\n# x".into();
    analysis.model.note = Some("a | b\n\n# not a heading <script>".into());
    let text = render_markdown(&analysis).unwrap();
    let mut columns = 0;
    for line in text.lines() {
        let bars = line.replace("\\|", "").matches('|').count();
        assert!(!line.starts_with('|') || columns == 0 || bars == columns, "{line}");
        columns = if line.starts_with('|') { bars } else { 0 };
    }
    assert!(!text.contains("<script>") && !text.contains("\n# not"));
    assert!(terminal_summary(&analysis).lines().all(|l| l.chars().count() <= 100));
}
