//! Cloze tasks: examples made from a text, the built-in tasks, and the command with its refusals.

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::common::command::Scratch;
use crate::common::shared;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use kernelview::task::cloze::{self, ClozeSettings, Drawn, LEAST, TEMPLATE};
use kernelview::task::{Example, OwnSplit, PromptTokenizer, PromptedTask, Reading, parse_examples};
use proptest::prelude::*;
use serde_json::Value;

const HE_SHE: [&str; 2] = ["he", "she"];
const SOURCE: &str = "novel.txt";
/// Three usable sentences for each word, and lines that must not become examples.
const NOVEL: &str = "\
The king said that he would come. The queen said that she would come. Nobody came.
Then he spoke. She saw that he wept. A wolf, he thought, was near the house.
“Was it she?” asked the old nurse. The man cried when he saw it.

At  last   she slept in the chair. The king said that he would come.
Mr. Hale knew that he'll die. On the stairs stood a tall woman, and she
";

fn draw(text: &str, settings: &ClozeSettings) -> kernelview::error::Result<Drawn> {
    cloze::draw(Path::new(SOURCE), text, &HE_SHE, settings)
}

fn restored(drawn: &Drawn) -> Vec<String> {
    drawn.examples.iter().map(|example| cloze::restore(example, &HE_SHE)).collect()
}

/// Number of occurrences of a list's words in a text, ignoring case, found in another way than the generator's.
fn occurrences(text: &str, words: &[&str]) -> usize {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|piece| words.contains(piece)).count()
}

/// Properties of all examples of any text: the sentence is in the text, has only its own word, and occurs in one example.
fn check_examples(text: &str, words: &[&str], settings: &ClozeSettings, drawn: &Drawn) {
    let lines: Vec<String> =
        text.lines().map(|l| l.split(' ').filter(|p| !p.is_empty()).collect::<Vec<_>>().join(" ")).collect();
    let mut seen = HashSet::new();
    let mut last_row = 0;
    for example in &drawn.examples {
        let sentence = cloze::restore(example, words);
        assert!(lines[example.row - 1].contains(&sentence), "line {}: {sentence}", example.row);
        assert_eq!(occurrences(&sentence, words), 1, "{sentence}");
        assert!((settings.min_words..=settings.max_words).contains(&sentence.split_whitespace().count()), "{sentence}");
        assert!(!sentence.contains(char::is_control), "{sentence}");
        assert!(seen.insert(example.texts.clone()), "twice: {sentence}");
        assert!(last_row <= example.row, "the order of the text");
        last_row = example.row;
    }
    let counts: Vec<usize> =
        (0..words.len()).map(|label| drawn.examples.iter().filter(|e| e.label == label).count()).collect();
    let rarest = drawn.found.iter().copied().min().unwrap();
    assert_eq!(counts, vec![settings.limit.map_or(rarest, |limit| limit.min(rarest)); words.len()]);
}

#[test]
fn sentences_with_one_label_word_become_examples() {
    let drawn = draw(NOVEL, &ClozeSettings::default()).unwrap();
    // `Then he spoke.` is too short, its neighbour has both words, the king's sentence is repeated, `he'll` is not `he`, and
    // the last sentence has no end.
    assert_eq!(
        restored(&drawn),
        [
            "The king said that he would come.",
            "The queen said that she would come.",
            "A wolf, he thought, was near the house.",
            "“Was it she?” asked the old nurse.",
            "The man cried when he saw it.",
            "At last she slept in the chair."
        ]
    );
    assert_eq!(drawn.found, [3, 3]);
    assert_eq!(drawn.examples[3].texts, ["“Was it", "?” asked the old nurse."]);
    assert_eq!(drawn.examples[5].row, 5);
}

#[test]
fn limit_and_seed_choose_among_sentences() {
    let couple = |i| [format!("The man of house {i} said he was ill."), format!("His wife said she was {i} and ill.")];
    let text = (0..40).flat_map(couple).collect::<Vec<_>>().join("\n");
    let settings = ClozeSettings { limit: Some(10), ..ClozeSettings::default() };
    let chosen = |seed| restored(&draw(&text, &ClozeSettings { seed, ..settings.clone() }).unwrap());
    assert_eq!(chosen(1).len(), 20);
    assert_eq!(chosen(1), chosen(1));
    assert_ne!(chosen(1), chosen(2));
    let all = draw(&text, &ClozeSettings { limit: Some(1000), ..settings }).unwrap();
    assert_eq!((all.examples.len(), all.found), (80, vec![40, 40]));
}

#[test]
fn what_cannot_become_a_task_is_refused() {
    let message = |result: kernelview::error::Result<Drawn>| result.unwrap_err().to_string();
    assert_eq!(
        message(draw("The king said that he would come.\n", &ClozeSettings::default())),
        "novel.txt: `she` is the only label word in 0 sentence(s) of 5 to 30 words, but a task needs at least 3 per word; give a longer text, other words, or other lengths (setting `min_words`, setting `max_words`)"
    );
    let bounds = ClozeSettings { min_words: 9, max_words: 8, ..ClozeSettings::default() };
    assert_eq!(
        message(draw(NOVEL, &bounds)),
        "setting `min_words` is 9, expected 8 or less, as setting `max_words` is"
    );
    assert_eq!(
        message(draw(NOVEL, &ClozeSettings { limit: Some(2), ..ClozeSettings::default() })),
        "setting `limit` is 2, expected 3 or more: one example per word for train, dev and test each"
    );
    let way_out = "write two or more lower-case words separated by commas, e.g. he,she";
    for (words, problem) in [
        (vec!["he"], "cloze words `he`: there is nothing to choose between"),
        (vec!["he", "She"], "cloze words `he,She`: `She` is not a single word of lower-case letters"),
        (vec!["he", "the one"], "cloze words `he,the one`: `the one` is not a single word of lower-case letters"),
        (vec!["he", ""], "cloze words `he,`: `` is not a single word of lower-case letters"),
        (vec!["he", "he's"], "cloze words `he,he's`: `he's` is not a single word of lower-case letters"),
        (vec!["he", "she", "he"], "cloze words `he,she,he`: `he` occurs twice"),
    ] {
        let result = cloze::draw(Path::new(SOURCE), NOVEL, &words, &ClozeSettings::default());
        assert_eq!(message(result), format!("{problem}; {way_out}"));
        assert_eq!(cloze::definition(&words).unwrap_err().to_string(), format!("{problem}; {way_out}"));
    }
}

/// Label words in various contexts, ends, beginnings, and characters that break words.
const PIECES: [&str; 24] = [
    "he",
    "she",
    "He",
    "SHE",
    "he's",
    "she-bear",
    "the",
    "there",
    "old king",
    "wept",
    "and",
    "Mr.",
    "said,",
    "“Go!”",
    "\"Who",
    "is it?\"",
    "(he",
    "she)",
    "—",
    "he,",
    "she;",
    "in 1840",
    "ﬁn",
    "Élan",
];

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![12 => prop::sample::select(&PIECES[..]).prop_map(String::from), 1 => "[ -~\t\u{a0}’]{0,4}"]
}

fn sentence() -> impl Strategy<Value = String> {
    (prop::sample::select(&["The", "A", "“Oh", "then", "Now"][..]), prop::collection::vec(piece(), 1..9), "[.!?]{0,2}")
        .prop_map(|(first, pieces, end)| format!("{first} {}{end}", pieces.join(" ")))
}

proptest! {
    /// Every example, reassembled, is a sentence of the text with only its own word; the same settings give the same examples,
    /// equally many for each word.
    #[test]
    fn examples_are_sentences_of_the_text(
        lines in prop::collection::vec(prop::collection::vec(sentence(), 0..5), 0..40),
        limit in prop::option::of(LEAST..6),
        seed: u64,
        min_words in 0..5_usize,
        max_words in 5..12_usize,
    ) {
        let text = lines.iter().map(|line| line.join(" ")).collect::<Vec<_>>().join("\n");
        let settings = ClozeSettings { limit, seed, min_words, max_words };
        match draw(&text, &settings) {
            Ok(drawn) => {
                check_examples(&text, &HE_SHE, &settings, &drawn);
                prop_assert_eq!(draw(&text, &settings).unwrap(), drawn);
            }
            Err(error) => prop_assert!(error.to_string().contains("is the only label word in "), "{}", error),
        }
    }

    /// A text of usable sentences, none of which begins with a label word, gives all of them.
    #[test]
    fn no_good_sentence_is_lost(
        sentences in prop::collection::hash_set(
            ("[A-R][a-z]{2}( [b-d]{2,5}){2,5}", 0..2_usize, "(, [b-d]{3}| [b-d]{4}){0,3}[.!?]"),
            12..30,
        ),
        per_line in 1..4_usize,
    ) {
        let frames: HashSet<_> = sentences.iter().map(|(before, _, after)| (before, after)).collect();
        prop_assume!(frames.len() == sentences.len());
        let whole: Vec<String> =
            sentences.iter().map(|(before, label, after)| format!("{before} {}{after}", HE_SHE[*label])).collect();
        let text = whole.chunks(per_line).map(|line| line.join(" ")).collect::<Vec<_>>().join("\n");
        let expected: Vec<usize> = (0..2).map(|label| sentences.iter().filter(|s| s.1 == label).count()).collect();
        prop_assume!(expected.iter().all(|count| *count >= LEAST));
        let settings = ClozeSettings { min_words: 1, ..ClozeSettings::default() };
        prop_assert_eq!(draw(&text, &settings).unwrap().found, expected);
    }

    /// Whatever the text is, the data file has the same examples, spaces and quotation marks included.
    #[test]
    fn the_data_file_reads_back(
        texts in prop::collection::vec(("[!-~é“][ -~é“”]{0,20}", "[ -~é“”]{0,20}[.!?]", 0..2_usize), 1..20),
    ) {
        let examples: Vec<Example> = (2..).zip(texts)
            .map(|(row, (before, after, label))| Example { texts: vec![before, after], choices: Vec::new(), label, row })
            .collect();
        let task = cloze::definition(&HE_SHE).unwrap();
        let tsv = cloze::to_tsv(&examples, &HE_SHE);
        prop_assert_eq!(parse_examples(Path::new("he-she.tsv"), tsv.as_bytes(), &task).unwrap(), examples);
    }
}

#[test]
fn built_in_tasks_are_balanced_distinct_and_wholly_usable() {
    let mut all = HashSet::new();
    assert!(cloze::builtin().len() >= 8);
    for task in cloze::builtin() {
        let definition = task.definition().unwrap();
        assert_eq!((definition.name.as_str(), definition.template.to_string().as_str()), (task.name, TEMPLATE));
        let examples = task.examples().unwrap();
        let lines: Vec<&str> = task.text().lines().collect();
        let sentences: Vec<String> = examples.iter().map(|example| cloze::restore(example, task.words)).collect();
        assert_eq!(sentences, lines, "{}: every line is an example", task.name);
        for (label, word) in task.words.iter().enumerate() {
            assert_eq!(examples.iter().filter(|e| e.label == label).count(), 50, "{}: {word}", task.name);
        }
        assert!(sentences.iter().all(|s| occurrences(s, task.words) == 1), "{}", task.name);
        assert!(sentences.into_iter().all(|s| all.insert(s)), "{}: a sentence of another task", task.name);
        assert_eq!(cloze::find(&task.name.to_uppercase()).unwrap(), task);

        let own = OwnSplit { k: 16, seed: 13, test_limit: None, dev: None, test: None };
        let splits = task.splits(&own).unwrap();
        let sizes = [&splits.train, &splits.dev, &splits.test].map(|split| split.examples.len());
        assert_eq!(sizes, [32, 32, 36], "{}", task.name);
    }
}

/// For byte-level tokenizers the prompt's tokens are the sentence's, except for the word's own.
#[test]
fn prompts_are_the_sentences_tokens() {
    let Some(file) = shared("oracle/roberta/tokenizer.json") else { return };
    let tokenizer = PromptTokenizer::from_tokenizer_file(file).unwrap();
    let ids = |text: &str| tokenizer.encode(text).unwrap();
    for task in cloze::builtin() {
        for example in task.examples().unwrap() {
            let word = format!(" {}", task.words[example.label]);
            let parts = [ids(&example.texts[0]), ids(&word), ids(&example.texts[1])].concat();
            let whole = cloze::restore(&example, task.words);
            assert_eq!(parts, ids(&whole), "{whole}");
        }
    }
}

/// A causal model continues the text before the word, and is asked for the word's token, which begins with the space.
#[test]
fn causal_models_read_the_text_before_the_word() {
    let family = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/family/prose-64");
    let tokenizer = PromptTokenizer::from_dir(&family).unwrap();
    let own = OwnSplit { k: 8, seed: 13, test_limit: None, dev: None, test: None };
    for task in cloze::builtin() {
        let (definition, splits) = (task.definition().unwrap(), task.splits(&own).unwrap());
        let read = PromptedTask::read_at(Reading::LastToken, &definition, &tokenizer, &splits).unwrap();
        for (prompt, example) in read.test.iter().zip(&splits.test.examples) {
            // Behind the tokens that begin every text of this tokenizer.
            let text = tokenizer.encode(&example.texts[0]).unwrap();
            assert_eq!(&prompt.input_ids[prompt.input_ids.len() - text.len()..], text, "{}", task.name);
            assert!(prompt.input_ids.len() <= text.len() + 1);
            assert_eq!(prompt.mask_pos + 1, prompt.input_ids.len());
        }
        let words: Vec<_> = task.words.iter().map(|word| tokenizer.encode(&format!(" {word}")).unwrap()).collect();
        assert_eq!(read.words, words, "{}", task.name);
    }
}

#[test]
fn a_book_gives_hundreds() {
    let Some(file) = shared("corpus/books-heldout.txt.gz") else { return };
    let mut text = String::new();
    GzDecoder::new(fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
    let settings = ClozeSettings { limit: Some(500), ..ClozeSettings::default() };
    let drawn = draw(&text, &settings).unwrap();
    assert_eq!(drawn.examples.len(), 1000, "{:?}", drawn.found);
    check_examples(&text, &HE_SHE, &settings, &drawn);
}

/// A directory whose model has tokens for `he` and `she`; missing ones replace another word in its vocabulary.
fn scratch_with_he_and_she() -> Scratch {
    let scratch = Scratch::new();
    let path = scratch.path("model/tokenizer.json");
    let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let vocabulary = json["model"]["vocab"].as_object_mut().unwrap();
    for (word, other) in [("he", "terrible"), ("she", "great")] {
        if !vocabulary.contains_key(word) {
            let id = vocabulary.remove(other).expect("a label word of the built-in tasks");
            vocabulary.insert(word.to_string(), id);
        }
    }
    fs::write(path, json.to_string()).unwrap();
    scratch
}

#[test]
fn the_command_writes_a_task_that_it_says_how_to_use() {
    let scratch = scratch_with_he_and_she();
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(NOVEL.as_bytes()).unwrap();
    scratch.write("novel.txt.gz", packed.finish().unwrap());
    scratch.write(SOURCE, format!("\u{feff}{NOVEL}"));
    let mut written = Vec::new();
    for text in ["novel.txt", "novel.txt.gz"] {
        let answer = scratch.run(&["cloze", "--text", text, "--words", "he,she", "--out", "he-she.tsv"]);
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""));
        let (first, command) = answer.stdout.split_once('\n').unwrap();
        assert_eq!(first, format!("he-she.tsv: 3 sentences of each word; {text} has he 3, she 3"));
        assert_eq!(
            command,
            "kernelview analyze --data he-she.tsv --k 1 \\\n    --template '*cls**sent_0**mask**sent_1**sep+*' \
             --label-words 'he=he,she=she'\n"
        );
        written.push(fs::read_to_string(scratch.path("he-she.tsv")).unwrap());
    }
    assert_eq!(written[0], written[1]);
    assert!(written[0].starts_with("text\ttext2\tlabel\nThe king said that\t would come.\the\n"), "{}", written[0]);
    let task = "--data he-she.tsv --k 1 --template *cls**sent_0**mask**sent_1**sep+* --label-words he=he,she=she";
    let answer = scratch.kernel(&format!("--formula sgd --against test --out K.safetensors {task}"));
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    assert!(answer.stdout.starts_with("K.safetensors: 2 x 2 examples"), "{}", answer.stdout);
}

#[test]
fn a_cloze_task_by_name_has_its_own_sentences() {
    let scratch = scratch_with_he_and_she();
    let answer =
        scratch.kernel("--task cloze-he-she --k 4 --formula sgd --against test --test-limit 6 --out K.safetensors");
    assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    assert!(answer.stdout.starts_with("K.safetensors: 8 x 6 examples"), "{}", answer.stdout);
    for (arguments, message) in [
        (
            "--task cloze-he-she --k 26",
            "(built in)/cloze-he-she.txt: label `he` has 50 row(s), but k = 26 needs 26 for train and as many for dev; \
             lower k, add rows, or give separate files for dev and test",
        ),
        (
            "--task cloze-he-it",
            "unknown built-in cloze task `cloze-he-it`; the tasks are cloze-he-she, cloze-his-her, cloze-him-them, \
             cloze-was-were, cloze-has-have, cloze-this-these, cloze-in-on, cloze-to-of; for other words make a data file \
             from a text with `kernelview cloze`",
        ),
        ("--task RTE", "--task RTE: no examples given; add --data-dir DIR (few-shot splits) or --data FILE"),
    ] {
        let answer = scratch.kernel(&format!("--out none.safetensors {arguments}"));
        assert_eq!((answer.code, answer.stderr), (Some(2), format!("error: {message}\n")));
    }
}

#[test]
fn bad_input_is_refused_and_nothing_is_written() {
    let scratch = Scratch::new();
    scratch.write(SOURCE, NOVEL);
    scratch.write("short.txt", "Nobody came to the old house.\n");
    scratch.write("latin.txt", b"The king said.\nThe caf\xe9 was closed.\n");
    scratch.write("damaged.gz", b"\x1f\x8b\x08\x00nothing");
    scratch.write("he-she.tsv", "an older task");
    let before = scratch.contents();
    for (text, words, out, message) in [
        ("no.txt", "he,she", "he-she.tsv", "cannot read no.txt: No such file or directory (os error 2)"),
        (
            "latin.txt",
            "he,she",
            "he-she.tsv",
            "latin.txt, row 2: is not UTF-8 text; convert the file from what it is in, e.g. with `iconv -f ISO-8859-1 -t UTF-8`",
        ),
        (
            "damaged.gz",
            "he,she",
            "he-she.tsv",
            "damaged.gz: cannot be unpacked as gzip (corrupt deflate stream); download the file again",
        ),
        (
            "short.txt",
            "he,she",
            "he-she.tsv",
            "short.txt: `he` is the only label word in 0 sentence(s) of 5 to 30 words, but a task needs at least 3 per word; give a longer text, other words, or other lengths (--min-words, --max-words)",
        ),
        (
            "novel.txt",
            "he,She",
            "he-she.tsv",
            "cloze words `he,She`: `She` is not a single word of lower-case letters; write two or more lower-case words separated by commas, e.g. he,she",
        ),
        ("novel.txt", "he,she", "he-she.csv", "he-she.csv: --out is tab-separated; give a name that ends in .tsv"),
        ("novel.txt", "he,she", "novel.txt", "novel.txt: --out is the text itself; give another name"),
        ("novel.txt", "he,she", "model", "model: --out is a directory; give a file, e.g. he-she.tsv"),
        ("novel.txt", "he,she", "no/x.tsv", "no: the directory of --out does not exist; create it first"),
    ] {
        let answer = scratch.run(&["cloze", "--text", text, "--words", words, "--out", out]);
        assert_eq!(answer.stderr, format!("error: {message}\n"));
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(2), ""), "{message}");
        assert!(scratch.contents() == before, "{message}: a file was made or touched");
    }
}
