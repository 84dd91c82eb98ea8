//! Multiple choice: rows with their own choices, reading of their files, and the model's inputs.

use std::path::Path;

use crate::common::command::Scratch;
use kernelview::analysis::{Head, Pretrained, SplitName, Study, StudyRequest};
use kernelview::device::Dtype;
use kernelview::error::Error;
use kernelview::jacobian::{Examples, Subset, outputs};
use kernelview::kernel::KernelFile;
use kernelview::lm::{AnswerExamples, AnsweredExample, OutputMode, PromptExample};
use kernelview::task::{DataFormat, Example, Overrides, Splits, TaskDefinition, parse_examples};
use tch::Device;

const TEMPLATE: &str = "*cls**sent_0*_because*choicel*.*sep+*";

fn task(template: &str, columns: &str) -> TaskDefinition {
    TaskDefinition::new("own", template, columns).expect("a task")
}

fn read(file: &str, bytes: &str, task: &TaskDefinition) -> Result<Vec<Example>, Error> {
    parse_examples(Path::new(file), bytes.as_bytes(), task)
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.expect_err("refused");
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

#[test]
fn choices_are_columns_of_the_row() {
    let named = task(TEMPLATE, "0=right,1=wrong");
    let right = [["It rained.", "It shone."], ["A", "B"]];
    let choices = |found: Vec<Example>| found.into_iter().map(|example| example.choices).collect::<Vec<_>>();
    let tsv = "wrong\ttext\tright\tlabel\nIt shone.\tHe was wet\tIt rained.\t0\nB\tc\tA\t1\n";
    let found = read("t.tsv", tsv, &named).expect("rows");
    assert_eq!((found[0].texts.as_slice(), found[1].label), (["He was wet".to_string()].as_slice(), 1));
    assert_eq!(choices(found), right);
    // Labels with other names, columns by number.
    let numbered =
        task(TEMPLATE, "1=2,2=0").with(&Overrides { columns: Some("text=1,label=3".into()), ..Overrides::default() });
    let body = tsv.split_once('\n').expect("a header").1.replace("\t1\n", "\t2\n").replace("\t0\n", "\t1\n");
    let found = read("t.tsv", &body, &numbered.expect("a task")).expect("rows");
    assert_eq!(found.iter().map(|example| example.label).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(choices(found), right);
    let format = DataFormat::Tsv { texts: vec![1], label: -1, header: true };
    let glue = TaskDefinition { format, ..task(TEMPLATE, "2,0") };
    assert_eq!(choices(read("t.tsv", tsv, &glue).expect("rows")), right);
    // A list of choices, fields inside fields.
    let listed = task(TEMPLATE, "endings.0,endings.1");
    let json = "{\"text\": \"x\", \"endings\": [\"A\", \"B\"], \"label\": 1}\n{\"text\": \"y\", \"endings\": [\"C\", 3], \"label\": \"0\"}\n";
    assert_eq!(choices(read("t.jsonl", json, &listed).expect("rows")), [["A", "B"], ["C", "3"]]);
    let nested = task(TEMPLATE, "A=choices.text.0,B=choices.text.1");
    let nested =
        nested.with(&Overrides { columns: Some("text=question.stem,label=answerKey".into()), ..Overrides::default() });
    let json = "{\"question\": {\"stem\": \"x\"}, \"choices\": {\"text\": [\"A\", \"B\"]}, \"answerKey\": \"B\"}\n";
    let found = read("t.jsonl", json, &nested.expect("a task")).expect("rows");
    assert_eq!((found[0].texts[0].as_str(), found[0].label, found[0].choices.len()), ("x", 1, 2));
}

#[test]
fn rows_without_their_choices_are_refused_by_number() {
    let named = task(TEMPLATE, "right,wrong");
    let tsv = |rows: &str| refused(read("t.tsv", &format!("text\tright\twrong\tlabel\n{rows}"), &named));
    insta::assert_snapshot!(tsv("x\ta\tb\t0\nx\ta\t \t0\n"), @"t.tsv, row 3: the choice `wrong` is empty; every row must have as many choices");
    insta::assert_snapshot!(tsv("x\ta\ta \t0\n"), @"t.tsv, row 2: the choices `right` and `wrong` are the same text");
    insta::assert_snapshot!(refused(read("t.tsv", "text\tright\tlabel\nx\ta\t0\n", &named)), @"t.tsv, row 1: the header has the columns `text`, `right`, `label`, but `wrong` is missing; name the columns text, text2 (only if there is a second text) and label, or say which they are (columns `text=NAME,label=NAME`; numbers from 0 for a file without a header)");
    let listed = task(TEMPLATE, "e.0,e.1");
    let json =
        |list: &str| refused(read("t.jsonl", &format!("{{\"text\": \"x\", \"e\": {list}, \"label\": 0}}"), &listed));
    insta::assert_snapshot!(json("[\"a\", \"b\", \"c\"]"), @"t.jsonl, row 1: `e` is a list of 3, but the task reads 2 choices of it; every row must have as many choices");
    insta::assert_snapshot!(json("[\"a\"]"), @"t.jsonl, row 1: `e` is a list of 1, but the task reads 2 choices of it; every row must have as many choices");
    insta::assert_snapshot!(json("[\"a\", \"\"]"), @"t.jsonl, row 1: the choice `e.1` is empty; every row must have as many choices");
    insta::assert_snapshot!(json("[\"a\", [\"b\"]]"), @r#"t.jsonl, row 1: `e.1` must be a text or a number, found ["b"]"#);
    insta::assert_snapshot!(json("{\"0\": \"a\"}"), @"t.jsonl, row 1: has the fields `text`, `e`, `label`, but `e.1` is missing");
}

#[test]
fn definitions_that_do_not_fit_are_refused() {
    let new = |template: &str, words: &str| refused(TaskDefinition::new("own", template, words));
    insta::assert_snapshot!(new("*sent_0**choice**mask*", "a,b").split("; ").next().unwrap_or_default(), @"template `*sent_0**choice**mask*`: it has 2 `mask` and `choice` parts, but exactly one is needed");
    insta::assert_snapshot!(new(TEMPLATE, "a,a"), @"task `own`: two labels have the choice in the column `a`");
    insta::assert_snapshot!(new("*sent_0**label_0**choice*", "a,b"), @"task `own`: the template reads a label's word, but in multiple choice the words differ by row");
    let numbered =
        task(TEMPLATE, "a,b").with(&Overrides { columns: Some("text=1,label=3".into()), ..Overrides::default() });
    insta::assert_snapshot!(refused(read("t.tsv", "a\tb\tc\t0\n", &numbered.expect("a task"))), @"task `own`: the label words of a multiple choice name the choices' columns, but `a` is not a number, which the columns of this file are");
}

const ROWS: &str =
    "{\"text\": \"it was good\", \"e\": [\"This is world news.\", \"Sports.\", \"Good news.\"], \"label\": 0}
{\"text\": \"this is bad news about sports\", \"e\": [\"It was bad.\", \"xy.\", \"Yes.\"], \"label\": 1}
{\"text\": \"great\", \"e\": [\"Good.\", \"Bad.\", \"Okay.\"], \"label\": 2}
";

fn study(scratch: &Scratch, mode: Option<OutputMode>, template: &str, columns: &str) -> Result<Study, Error> {
    let path = scratch.write("rows.jsonl", ROWS);
    let definition = task(template, columns);
    let network = Pretrained::load(&scratch.path("model"), Dtype::F64, Device::Cpu).expect("a network");
    Study::new(StudyRequest {
        network: &network,
        head: Head::Prompt,
        subset: Subset::All,
        adapters: None,
        output_mode: mode,
        splits: &Splits::undivided(path, &definition).expect("rows"),
        definition: &definition,
        source: "rows.jsonl".into(),
        k: None,
        split_seed: None,
    })
}

/// f of each choice separately, with its tokens as they are after a space, changed as the template says.
#[test]
fn each_choice_is_read_in_the_masks_place() {
    crate::common::one_thread();
    let scratch = Scratch::new();
    let study = study(&scratch, None, TEMPLATE, "e.0,e.1,e.2").expect("a study");
    let examples = study.examples(SplitName::Train, study.mode).expect("examples");
    assert_eq!((study.mode, examples.len(), examples.outputs()), (OutputMode::Logits, 3, 3));
    let found = outputs(&study.parameters, &examples, 2);
    let mask = study.prompts(SplitName::Train)[0].input_ids[study.prompts(SplitName::Train)[0].mask_pos];
    assert_eq!(study.tokenizer.id_to_token(mask).as_deref(), Some("[MASK]"));
    let rows: Vec<serde_json::Value> =
        ROWS.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    for (i, row) in rows.iter().enumerate() {
        for c in 0..3 {
            // The tokenizer lower-cases in any case; the full stop is a separate token.
            let text = row["e"][c].as_str().expect("a text");
            let answer = study.tokenizer.encode(&format!(" {text}")).expect("tokens");
            let prompt = &study.prompts(SplitName::Train)[i];
            assert_eq!(prompt.choices[c], answer);
            let example = PromptExample {
                input_ids: prompt.input_ids.clone(),
                segment_ids: prompt.segment_ids.clone(),
                mask_position: prompt.mask_pos,
            };
            let alone = [AnsweredExample { prompt: example, answers: vec![answer] }];
            let alone =
                AnswerExamples::new(&*study.model, &alone, OutputMode::Logits, Device::Cpu).expect("an example");
            let alone = outputs(&study.parameters, &alone, 1).double_value(&[0, 0]);
            let all = found.double_value(&[i as i64, c as i64]);
            assert!((all - alone).abs() < 1e-12 * alone.abs(), "row {i}, choice {c}: {all} and {alone}");
        }
    }
}

#[test]
fn a_task_of_multiple_choice_runs_through_the_program() {
    let scratch = Scratch::new();
    scratch.write("rows.jsonl", ROWS);
    let run = |arguments: &str| {
        let words = format!("kernel --model model --data rows.jsonl --dtype f64 --device cpu {arguments}");
        let mut words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        words.extend(["--label-words".into(), "e.0,e.1,e.2".into(), "--template".into(), TEMPLATE.into()]);
        scratch.run(&words)
    };
    let answer = run("--all-rows --out K.safetensors");
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    let file = KernelFile::read(&scratch.path("K.safetensors")).expect("a kernel file");
    assert_eq!(file.get("kernel.signgd").expect("computed").size(), [3, 3, 3, 3]);
    assert_eq!(file.metadata["output_mode"], "log-probabilities");
    let answer = run("--all-rows --head random --out H.safetensors");
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.contains("a multiple choice has different choices in every row"), "{}", answer.stderr);
    // Room for the longest choice is kept: prompts are shortened, or a message says how much is needed.
    let answer = run("--all-rows --max-length 9 --out S.safetensors");
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.contains("of a prompt truncated to 9 tokens"), "{}", answer.stderr);
}
