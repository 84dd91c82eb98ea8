//! Every bad input with its message.

use super::*;

/// The message of an error, which must be about bad input (exit status 2).
fn message<T>(result: Result<T, Error>) -> String {
    let Err(error) = result else { panic!("must be refused") };
    assert_eq!(error.exit_code(), 2, "{error}");
    error.to_string()
}

#[test]
fn bad_data_files_are_refused_with_row_and_way_out() {
    let sst = builtin("SST-2").unwrap();
    let mrpc = builtin("MRPC").unwrap();
    let mr = builtin("mr").unwrap();
    let own = TaskDefinition::new("own", "*sent_0**mask*", "negative=bad,positive=good").unwrap();
    let pair = TaskDefinition::new("own", "*sent_0**mask**sent_1*", "bad,good").unwrap();
    let refused =
        |task: &TaskDefinition, file: &str, bytes: &[u8]| message(parse_examples(Path::new(file), bytes, task));

    insta::assert_snapshot!(refused(&sst, "t.tsv", b"sentence\tlabel\nfine\t1\nodd\t7\n"), @"t.tsv, row 3: label `7` has no label word; the labels of task `SST-2` are 0=terrible, 1=great; correct the row, or give every label a word (`7=WORD`) in the label words");
    insta::assert_snapshot!(refused(&sst, "t.tsv", b"sentence\tlabel\nfine 1\n"), @"t.tsv, row 2: has 1 column(s), but task `SST-2` reads text from column 1 and the label from column 2 (counted from 1)");
    insta::assert_snapshot!(refused(&mrpc, "t.tsv", b"Quality\t#1\n1\t2\t3\tone\n"), @"t.tsv, row 2: has 4 fields, but the file has 2 columns: a text that contains the separator must be in quotation marks (in files without quoting it must not contain it)");
    insta::assert_snapshot!(refused(&sst, "t.tsv", b""), @"t.tsv: has no rows of data for task `SST-2`");
    insta::assert_snapshot!(refused(&sst, "t.tsv", b"sentence\tlabel\n"), @"t.tsv: has no rows of data for task `SST-2`");
    insta::assert_snapshot!(refused(&sst, "t.tsv", b"sentence\tlabel\nfine\t1\nna\xefve\t1\n"), @"t.tsv, row 3: is not UTF-8 text; convert the file from what it is in, e.g. with `iconv -f ISO-8859-1 -t UTF-8`");
    insta::assert_snapshot!(refused(&mr, "t.csv", b"1,fine\n\n\n0,\"two\nlines\"\n2,odd\n"), @"t.csv, row 6: label `2` has no label word; the labels of task `mr` are 0=terrible, 1=great; correct the row, or give every label a word (`2=WORD`) in the label words");
    insta::assert_snapshot!(refused(&mr, "t.csv", b"1,fine\n0,\"open\n1,other\n"), @"t.csv, row 2: a quotation mark opens here and is not closed in the row; double quotation marks inside a quoted text, and quote a text that begins with one");
    insta::assert_snapshot!(refused(&own, "t.csv", b"sentence,label\nfine,positive\n"), @"t.csv, row 1: the header has the columns `sentence`, `label`, but `text` is missing; name the columns text, text2 (only if there is a second text) and label, or say which they are (columns `text=NAME,label=NAME`; numbers from 0 for a file without a header)");
    insta::assert_snapshot!(refused(&own, "t.csv", b"text,label,label\nfine,positive,negative\n"), @"t.csv, row 1: the header has 2 columns `label`; rename all but one");
    insta::assert_snapshot!(refused(&own, "t.csv", b"Text,TEXT,label\nfine,well,positive\n"), @"t.csv, row 1: the header has 2 columns `text`; rename all but one");
    insta::assert_snapshot!(refused(&own, "t.csv", b"text\nfine\n"), @"t.csv, row 1: the header has the columns `text`, but `label` is missing; name the columns text, text2 (only if there is a second text) and label, or say which they are (columns `text=NAME,label=NAME`; numbers from 0 for a file without a header)");
    insta::assert_snapshot!(refused(&pair, "t.tsv", b"text\tlabel\nfine\t1\n"), @"t.tsv, row 1: the header has the columns `text`, `label`, but `text2` is missing; name the columns text, text2 (only if there is a second text) and label, or say which they are (columns `text=NAME,label=NAME`; numbers from 0 for a file without a header)");
    insta::assert_snapshot!(refused(&own, "t.csv", b"label,text\npositive, \n"), @"t.csv, row 2: the column `text` is empty; write a text or remove the row");
    insta::assert_snapshot!(refused(&own, "t.csv", b"\n"), @"t.csv: is empty; the first line must name the columns text, label");
    assert!(message(read_examples("absent/file.csv", &own)).starts_with("cannot read absent/file.csv: "));
}

#[test]
fn bad_definitions_are_refused() {
    let over = |overrides: Overrides| message(builtin("SST-2").unwrap().with(&overrides));
    let words = |words: &str| over(Overrides { label_words: Some(words.to_string()), ..Overrides::default() });
    let template = |template: &str| over(Overrides { template: Some(template.to_string()), ..Overrides::default() });
    insta::assert_snapshot!(message(builtin("sst2")), @"unknown built-in task `sst2`; the paper's tasks are SST-2, sst-5, mr, cr, mpqa, subj, trec, ag_news, MRPC, QQP, QNLI, RTE, MNLI, SNLI (`kernelview tasks` lists those with built-in sentences, too); for other data `analyze` and `kernel` take your own file with a template and label words, or a task TOML");
    insta::assert_snapshot!(words("bad,okay,good"), @"label words `bad,okay,good`: 3 word(s) for the 2 labels 0, 1; write `terrible,great` in the order of the labels, or `0=terrible,1=great`");
    insta::assert_snapshot!(words("0=bad,good"), @"label words `0=bad,good`: some words have a label and some have none; write `terrible,great` in the order of the labels, or `0=terrible,1=great`");
    insta::assert_snapshot!(words("0=bad,1="), @"label words `0=bad,1=`: item 2 is empty; write `terrible,great` in the order of the labels, or `0=terrible,1=great`");
    insta::assert_snapshot!(words("very\tbad,good"), @r"label words `very	bad,good`: `very\tbad` contains a newline or tab; write `terrible,great` in the order of the labels, or `0=terrible,1=great`");
    insta::assert_snapshot!(words("0=bad,0=good"), @"task `SST-2`: the label `0` has two words");
    insta::assert_snapshot!(words("0=bad"), @"task `SST-2`: 1 label word(s), but a classification needs at least two");
    insta::assert_snapshot!(template("*sent_1**mask*"), @"task `SST-2`: the template reads sent_1, but its rows have 1 text(s), from sent_0");
    insta::assert_snapshot!(template("It_was*mask*"), @"task `SST-2`: the template `It_was*mask*` reads no text (sent_0 is the first)");
    insta::assert_snapshot!(template("*sent_0**mask**label_2*"), @"task `SST-2`: the template reads label_2, but there are 2 labels, from label_0");
    insta::assert_snapshot!(over(Overrides { max_length: Some(0), ..Overrides::default() }), @"task `SST-2`: setting `max_length` is 0, expected 1 or more");
    let relabelled = Overrides { label_words: Some("1=good,0=bad".to_string()), ..Overrides::default() };
    assert_eq!(builtin("mrpc").unwrap().with(&relabelled).unwrap().label_summary(), "1=good, 0=bad");
}

#[test]
fn task_files_are_read_and_their_mistakes_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("task.toml");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        TaskDefinition::from_toml(&path)
    };
    let refused = |text: &str| message(read(text)).replace(&path.display().to_string(), "task.toml");
    let start = "name = \"reviews\"\ntemplate = \"*cls**sent_0*_It_was*mask*.*sep+*\"\n";
    let task = read(&format!(
        "{start}label_words = [\"negative=bad\", \"positive=good\"]\nfirst_sentence_limit = 50\n\
         [format]\nkind = \"tsv\"\ntexts = [0]\nlabel = -1\n"
    ))
    .unwrap();
    assert_eq!(task.label_summary(), "negative=bad, positive=good");
    assert_eq!((task.max_length, task.first_sentence_limit, task.other_sentence_limit), (128, Some(50), None));
    assert_eq!(task.format, DataFormat::Tsv { texts: vec![0], label: -1, header: true });
    let plain = read(&format!("{start}label_words = [\"bad\", \"good\"]\n")).unwrap();
    assert_eq!(
        (plain.format, plain.template),
        (DataFormat::Named, Template::parse("*cls**sent_0*_It_was*mask*.*sep+*").unwrap())
    );

    insta::assert_snapshot!(refused(&format!("{start}label_word = []\n")), @"task.toml: line 3: unknown field `label_word`, expected one of `name`, `template`, `causal_template`, `label_words`, `max_length`, `first_sentence_limit`, `other_sentence_limit`, `format`, `segments`, `columns`, `chat`");
    insta::assert_snapshot!(refused(start), @"task.toml: line 1: missing field `label_words`");
    insta::assert_snapshot!(refused(&format!("{start}label_words = [\"bad\", \"good\"]\n[format]\nkind = \"tsv\"\ntexts = [0]\n")), @"task.toml: line 4: missing field `label`");
    insta::assert_snapshot!(refused(&format!("{start}label_words = [\"bad\", \"good\"]\n[format]\nkind = \"json\"\n")), @"task.toml: line 5: unknown variant `json`, expected one of `tsv`, `csv`, `named`");
    insta::assert_snapshot!(refused(&format!("{start}label_words = [\"bad\"]\n")), @"task.toml: task `reviews`: 1 label word(s), but a classification needs at least two");
    let format = |fields: &str| refused(&format!("{start}label_words = [\"bad\", \"good\"]\n[format]\n{fields}\n"));
    insta::assert_snapshot!(format("kind = \"tsv\"\ntexts = [0]\nlabel = 1\ntitle = 2"), @"task.toml: line 4: unknown field `title`, expected one of `texts`, `label`, `header`");
    insta::assert_snapshot!(format("kind = \"named\"\ntexts = [0]"), @"task.toml: line 4: unknown field `texts`, there are no fields");
    insta::assert_snapshot!(refused("name = "), @"task.toml: line 1: string values must be quoted, expected literal string");
}

#[test]
fn bad_label_words_are_refused_with_their_tokens() {
    let tokenizer = word_piece(&["good", "bad", "un"]);
    let source = tokenizer.source().display().to_string();
    let refused = |words: &str| {
        let task = TaskDefinition::new("own", "*sent_0**mask*", words).unwrap();
        message(label_word_tokens(&task, &tokenizer)).replace(&source, "vocab.txt")
    };
    insta::assert_snapshot!(refused("nice,Nice"), @"vocab.txt: label `1` of task `own`: the word `Nice` has the same tokens (`n` `##i` `##c` `##e`) as `nice` of label `0`; choose another word in the label words");
    insta::assert_snapshot!(refused("good,nice 猫"), @"vocab.txt: label `1` of task `own`: the word `nice 猫` has parts that are not in the tokenizer's vocabulary; choose another word in the label words");
    insta::assert_snapshot!(refused("good,猫"), @"vocab.txt: label `1` of task `own`: the word `猫` is not in the tokenizer's vocabulary; choose another word in the label words");
    insta::assert_snapshot!(refused("good,[X]"), @"vocab.txt: label `1` of task `own`: the word `[X]` is not in the tokenizer's vocabulary; choose another word in the label words");
    insta::assert_snapshot!(refused("good,GOOD"), @"vocab.txt: label `1` of task `own`: the word `GOOD` has the same token (`good`) as `good` of label `0`; choose another word in the label words");
    let task = TaskDefinition::new("own", "*sent_0**mask*", "[CLS],.").unwrap();
    let ids = |tokens: &[&str]| tokens.iter().map(|token| tokenizer.token_to_id(token).unwrap()).collect::<Vec<_>>();
    assert_eq!(label_word_tokens(&task, &tokenizer).unwrap(), [ids(&["[CLS]"]), ids(&["."])]);
    let task = TaskDefinition::new("own", "*sent_0**mask*", "0=good,1=nice bad").unwrap();
    let expected = [ids(&["good"]), ids(&["n", "##i", "##c", "##e", "bad"])];
    assert_eq!(label_word_tokens(&task, &tokenizer).unwrap(), expected);
}

#[test]
fn bad_prompts_are_refused() {
    let tokenizer = word_piece(&[]);
    let refused = |template: &str, max_length: usize, texts: &[&str]| {
        let task = TaskDefinition::new("own", template, "a,b").unwrap();
        let task = task.with(&Overrides { max_length: Some(max_length), ..Overrides::default() }).unwrap();
        let texts = texts.iter().map(|text| (*text).to_string()).collect();
        message(encode(
            &task,
            &tokenizer,
            &[Example { texts, choices: Vec::new(), label: 0, row: 9 }],
            Path::new("own.csv"),
        ))
    };
    insta::assert_snapshot!(refused("*cls**sent_0**mask*", 6, &["abcdefg"]), @"own.csv, row 9: the mask would be token 9 of a prompt truncated to 6 tokens: setting `max_length` must be at least 9, or setting `first_sentence_limit` 4 at most");
    insta::assert_snapshot!(refused("*cls**sent_0**sent_1**mask*", 6, &["ab", "abcdefg"]), @"own.csv, row 9: the mask would be token 11 of a prompt truncated to 6 tokens: setting `max_length` must be at least 11, or setting `other_sentence_limit` 2 at most");
    insta::assert_snapshot!(refused("It_was*sent_0**mask*", 3, &["a"]), @"own.csv, row 9: the mask would be token 7 of a prompt truncated to 3 tokens: setting `max_length` must be at least 7");
    insta::assert_snapshot!(refused("*sent_0**sent_1**mask*", 6, &["ab"]), @"own.csv, row 9: has 1 text(s), but the template `*sent_0**sent_1**mask*` needs 2");
    insta::assert_snapshot!(refused("*sent_0**mask*the_[MASK]*", 6, &["ab"]), @"template `*sent_0**mask*the_[MASK]`: `[MASK]` is this tokenizer's mask; write `*mask*` instead");
}

#[test]
fn bad_tokenizers_are_refused() {
    let none = tempfile::tempdir().unwrap();
    let refused = |directory: &tempfile::TempDir| {
        message(PromptTokenizer::from_dir(directory.path())).replace(&directory.path().display().to_string(), "DIR")
    };
    insta::assert_snapshot!(refused(&none), @"DIR: no tokenizer: no `tokenizer.json` (for a PreTrainedTokenizer); save the checkpoint with its fast tokenizer, or copy the file from the model it was trained from");
    let elsewhere = word_piece_directory(&[], r#"{"mask_token": "<mask>"}"#);
    let read = PromptTokenizer::from_dir(elsewhere.path()).unwrap();
    let unknown = message(read.require(SpecialToken::Mask)).replace(&elsewhere.path().display().to_string(), "DIR");
    insta::assert_snapshot!(unknown, @r#"DIR/vocab.txt: the vocabulary has no mask_token: its class calls it `<mask>`, which is missing; if it has another name, give it as "mask_token" in `tokenizer_config.json` beside this file"#);
    insta::assert_snapshot!(refused(&word_piece_directory(&[], r#"{"unk_token": "<unk>"}"#)), @r#"DIR/vocab.txt: the vocabulary has no line `<unk>`, the token for unknown words; if it has another name, give it as "unk_token" in `tokenizer_config.json` beside this file"#);
    insta::assert_snapshot!(refused(&word_piece_directory(&[], r#"{"mask_token": 7}"#)), @"DIR/tokenizer_config.json: `mask_token` must be a string or an object with `content`");
    insta::assert_snapshot!(refused(&word_piece_directory(&[], r#"{"do_lower_case": "no"}"#)), @r#"DIR/tokenizer_config.json: `do_lower_case` must be true or false, found "no""#);
    insta::assert_snapshot!(refused(&word_piece_directory(&[], "[]")), @"DIR/tokenizer_config.json: must hold a JSON object");
    // As interrupted downloads leave them in Hugging Face's cache: without the file's fields the tokens would be others.
    for name in ["tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"] {
        let cut = word_piece_directory(&[], "{}");
        let _ = fs::remove_file(cut.path().join(name));
        std::os::unix::fs::symlink("../../blobs/0123", cut.path().join(name)).unwrap();
        let expected = format!(
            "DIR/{name}: this is a link to ../../blobs/0123, which does not exist: an interrupted download; download the model again"
        );
        assert_eq!(refused(&cut), expected);
    }
    fs::write(none.path().join("tokenizer.json"), "{}").unwrap();
    assert!(refused(&none).starts_with("DIR/tokenizer.json: not a Hugging Face tokenizer file: "));
    fs::remove_file(none.path().join("tokenizer.json")).unwrap();
    fs::write(none.path().join("vocab.txt"), "[UNK]\n[CLS]\na\nb\n").unwrap();
    let tokenizer = PromptTokenizer::from_dir(none.path()).unwrap();
    let missing = message(tokenizer.require(SpecialToken::Mask)).replace(&none.path().display().to_string(), "DIR");
    insta::assert_snapshot!(missing, @r#"DIR/vocab.txt: the vocabulary has no mask_token: its class calls it `[MASK]`, which is missing; if it has another name, give it as "mask_token" in `tokenizer_config.json` beside this file"#);
}

#[test]
fn bad_splits_are_refused() {
    let task = builtin("SST-2").unwrap();
    let relative = |message: String| message.replace(FIXTURES, "DATA");
    let split = |data: &str, name: &str, k: usize| {
        relative(message(Splits::from_directory(data, &builtin(name).unwrap(), k, 13, None)))
    };
    insta::assert_snapshot!(split(FIXTURES, "SST-2", 64), @"DATA/SST-2: no split `64-13` (k = 64, seed = 13); there are 16-13; k up to 256 can be derived if `512-13` exists");
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().display().to_string();
    insta::assert_snapshot!(split(&path, "SST-2", 16).replace(&path, "EMPTY"), @"EMPTY: no directory for task `SST-2`; there are no directories; check the data directory");
    fs::create_dir_all(empty.path().join("sst-2/16-13")).unwrap();
    insta::assert_snapshot!(split(&path, "SST-2", 32).replace(&path, "EMPTY"), @"EMPTY/sst-2: no split `32-13` (k = 32, seed = 13); there are 16-13; k up to 256 can be derived if `512-13` exists");
    fs::create_dir_all(empty.path().join("mnli/2-13")).unwrap();
    fs::copy(format!("{FIXTURES}/MNLI/2-13/train.tsv"), empty.path().join("mnli/2-13/train.tsv")).unwrap();
    insta::assert_snapshot!(split(&path, "MNLI", 2).replace(&path, "EMPTY"), @"EMPTY/mnli/2-13: no dev file; looked for `dev.tsv`, `dev_matched.tsv`");
    assert!(split("absent", "SST-2", 16).starts_with("cannot read absent: "));

    let file = format!("{FIXTURES}/SST-2/16-13/train.tsv");
    let own = |k: usize| OwnSplit { k, seed: 1, test_limit: None, dev: None, test: None };
    insta::assert_snapshot!(relative(message(Splits::from_file(&file, &task, &own(9)))), @"DATA/SST-2/16-13/train.tsv: label `0` has 16 row(s), but k = 9 needs 9 for train and as many for dev; lower k, add rows, or give separate files for dev and test");
    insta::assert_snapshot!(relative(message(Splits::from_file(&file, &task, &own(8)))), @"DATA/SST-2/16-13/train.tsv: k = 8 takes all 32 rows and leaves none for test; lower k, add rows, or give a separate test file");
    insta::assert_snapshot!(message(Splits::from_file(&file, &task, &own(0))), @"setting `k` is 0, expected 1 or more: it is the number of rows per label");
}
