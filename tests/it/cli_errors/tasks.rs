//! Label words, rows, prompts and tasks that do not fit.

use kernelview::task::KNOWN_VARIABLES;

use super::*;

#[test]
fn label_words_that_do_not_fit() {
    let scratch = Scratch::new();
    kernel_refused(
        &scratch,
        &["--label-words", "xylo,Xylo"],
        "model/tokenizer.json: label `1` of task `remarks`: the word `Xylo` has the same tokens (`x` `##y` `##l` `##o`) as `xylo` of label `0`; choose another word in the label words",
    );
    kernel_refused(
        &scratch,
        &["--label-words", "good,Good"],
        "model/tokenizer.json: label `1` of task `remarks`: the word `Good` has the same token (`good`) as `good` of label `0`; choose another word in the label words",
    );
    kernel_refused(
        &scratch,
        &["--label-words", "bad,okay,good"],
        "label words `bad,okay,good`: 3 word(s) for the 2 labels 0, 1; write `terrible,great` in the order of the \
         labels, or `0=terrible,1=great`",
    );
    // Three labels have no difference.
    let rows = "text\tlabel\na\t0\nb\t1\nc\t2\nd\t0\ne\t1\nf\t2\ng\t0\n";
    data_refused(
        &scratch,
        rows,
        &["--label-words", "bad,okay,good", "--output-mode", "difference"],
        "--output-mode is difference, expected logits: the task has 3 classes, but a difference needs two",
    );
}

#[test]
fn rows_that_do_not_fit() {
    let scratch = Scratch::new();
    let two = ["--label-words", "0=bad,1=good"];
    // Row numbers count the header and empty lines, as an editor does.
    data_refused(
        &scratch,
        "text\tlabel\nit was\t0\n\nit is\tmaybe\n",
        &two,
        "rows.tsv, row 4: label `maybe` has no label word; the labels of task `rows` are 0=bad, 1=good; correct the row, \
         or give every label a word (`maybe=WORD`) in the label words",
    );
    data_refused(&scratch, "", &two, "rows.tsv: is empty; the first line must name the columns text, label");
    data_refused(&scratch, "text\tlabel\n", &two, "rows.tsv: has no rows of data for task `rows`");
    data_refused(
        &scratch,
        "sentence\tlabel\nit was\t0\n",
        &two,
        "rows.tsv, row 1: the header has the columns `sentence`, `label`, but `text` is missing; name the columns text, \
         text2 (only if there is a second text) and label, or say which they are (columns `text=NAME,label=NAME`; numbers \
         from 0 for a file without a header)",
    );
    data_refused(
        &scratch,
        "text\tlabel\nit was\n",
        &two,
        "rows.tsv, row 2: has 1 column(s), but task `rows` reads text from column 1 and the label from column 2 (counted from 1)",
    );
    data_refused(
        &scratch,
        "text\tlabel\nit was\t0\nit is\t1\n",
        &two,
        "rows.tsv: label `0` has 1 row(s), but k = 1 needs 1 for train and as many for dev; lower k, add rows, or give \
         separate files for dev and test",
    );
    fs::remove_file(scratch.path("rows.tsv")).expect("a file");
    kernel_refused(
        &scratch,
        &["--data", "rows.tsv", "--task", "SST-2"],
        "cannot read rows.tsv: No such file or directory (os error 2)",
    );
}

#[test]
fn prompts_that_do_not_fit() {
    let scratch = Scratch::new();
    let answer = scratch.kernel("--max-length 3 --out K.safetensors");
    assert_eq!(answer.code, Some(2));
    // The number of tokens of the first remark depends on the demonstration, and is not tested here.
    let (start, rest) = answer.stderr.split_once("would be token ").expect("the reason");
    assert_eq!(start, "error: (built in)/remarks/train.tsv, row 2: the mask ");
    assert!(rest.contains(" of a prompt truncated to 3 tokens: --max-length must be at least "), "{rest}");
    assert!(!scratch.path("K.safetensors").exists());

    kernel_refused(
        &scratch,
        &["--template", "*cls**sent_0*_It_was.*sep+*"],
        "template `*cls**sent_0*_It_was.*sep+*`: it has no `mask` part, but exactly one is needed; the variables are \
         cls, mask, sep, sep+ (a separator after which the segment id grows), sent_N (the Nth text, counted from 0), +sent_N (with a preceding space), sent-_N (without its last character), sentl_N or sentu_N (first character lower or \
         upper case), their combinations such as +sentl_N and sentl-_N, label_N (the Nth label word), \
         reply (where the answer of a chat begins), choice (instead of the mask: each of the row's choices; choicel, choiceu and choice- as for sent)",
    );
    kernel_refused(
        &scratch,
        &["--template", "*cls**snet_0**sent_0*_It_was*mask*.*sep+*"],
        &format!(
            "template `*cls**snet_0**sent_0*_It_was*mask*.*sep+*`: `snet_0` is not a variable (did you mean `*sent_0*`? as text \
             it needs a space in front: `_snet_0`); the variables are {KNOWN_VARIABLES}"
        ),
    );
    kernel_refused(
        &scratch,
        &["--template", "*cls**sent_0**mask**sent_1*"],
        "task `remarks`: the template reads sent_1, but its rows have 1 text(s), from sent_0",
    );
    let long = "it was ".repeat(100);
    data_refused(
        &scratch,
        &format!("text\tlabel\n{long}\t0\nb\t0\nc\t1\nd\t1\ne\t1\n"),
        &["--label-words", "bad,good", "--max-length", "400"],
        "rows.tsv, row 2: the mask would be token 204, but the model has only 136 positions: give --max-length 136 and \
         --first-limit 132 together",
    );
    let own = ["--data", "rows.tsv", "--k", "1", "--label-words", "bad,good", "--max-length", "400"];
    kernel_refused(
        &scratch,
        &[&own[..], &["--template", "*cls**mask**sent_0**sep+*"]].concat(),
        "rows.tsv, row 2: the prompt has 203 tokens, but the model has only 136 positions: --max-length must be at most 136",
    );
}

#[test]
fn tasks_and_splits_that_are_not_there() {
    let scratch = Scratch::new();
    kernel_refused(
        &scratch,
        &["--task", "SST2", "--data-dir", "data"],
        "unknown built-in task `SST2`; the paper's tasks are SST-2, sst-5, mr, cr, mpqa, subj, trec, ag_news, MRPC, QQP, \
         QNLI, RTE, MNLI, SNLI (`kernelview tasks` lists those with built-in sentences, too); for other data `analyze` and \
         `kernel` take your own file with a template and label words, or a task TOML",
    );
    kernel_refused(
        &scratch,
        &["--data-dir", "data"],
        "--data-dir: --task NAME (or --task-file) is missing: which of its tasks?",
    );
    kernel_refused(
        &scratch,
        &["--task", "RTE"],
        "--task RTE: no examples given; add --data-dir DIR (few-shot splits) or --data FILE",
    );
    let in_data = ["--data-dir", "data", "--task", "RTE"];
    kernel_refused(&scratch, &in_data, "cannot read data: No such file or directory (os error 2)");
    scratch.write("data/SST-2/16-13/train.tsv", "");
    kernel_refused(&scratch, &in_data, "data: no directory for task `RTE`; there are SST-2; check the data directory");
    kernel_refused(
        &scratch,
        &["--data-dir", "data", "--task", "SST-2", "--k", "8", "--seed", "42"],
        "data/SST-2: no split `8-42` (k = 8, seed = 42); there are 16-13; k up to 256 can be derived if `512-42` exists",
    );
    kernel_refused(
        &scratch,
        &["--data-dir", "data", "--task", "SST-2"],
        "data/SST-2/16-13/train.tsv: has no rows of data for task `SST-2`",
    );
    kernel_refused(
        &scratch,
        &["--data", "rows.tsv"],
        "--data: a task is missing: give --template and --label-words, or --task NAME, or --task-file FILE",
    );
    kernel_refused(
        &scratch,
        &["--k", "8"],
        "--k 8: the built-in task has 16 training examples per class; --k needs --data-dir or --data",
    );
    scratch.write("task.toml", "name = \"mine\"\ntemplate = 3\n");
    kernel_refused(
        &scratch,
        &["--task-file", "task.toml", "--data", "rows.tsv"],
        "task.toml: line 2: invalid type: integer `3`, expected a string",
    );
}
