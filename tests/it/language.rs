//! The small language: every sentence parses, words agree, questions that a sentence answers have one answer, and the others
//! several.

use std::collections::HashSet;

use kernelview::pretrain::language::{Asked, Question, SENTENCE, Sentence, Topic, WORDS, Word, text};
use kernelview::pretrain::{Corpus, LanguageName, LanguageRecipe, language_ids, language_tokenizer};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::common::command::Scratch;

/// A recognizer of the language, independent of the generator: the rest of a sentence after a part of it. Its methods return
/// the part's features.
struct Rest<'a>(&'a [Word]);

impl Rest<'_> {
    fn next(&mut self) -> Option<Word> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// An agreeing determiner and noun, with an adjective between them if allowed: the noun's class and number.
    fn noun_phrase(&mut self, may_be_described: bool) -> Option<(usize, usize)> {
        let Word::Determiner { number: of_determiner, .. } = self.next()? else { return None };
        let mut of_adjective = None;
        if let (true, Some(Word::Adjective { class, .. })) = (may_be_described, self.0.first()) {
            of_adjective = Some(*class);
            self.next();
        }
        let Word::Noun { class, number, .. } = self.next()? else { return None };
        (of_determiner == number && of_adjective.is_none_or(|c| c == class)).then_some((class, number))
    }
}

/// Whether words are a sentence.
fn parses(words: &[Word]) -> bool {
    let whole = || -> Option<bool> {
        let mut rest = Rest(words);
        let (class, number) = rest.noun_phrase(true)?;
        if let Some(Word::Relative { class: of_relative }) = rest.0.first() {
            if *of_relative != class {
                return None;
            }
            rest.next();
            matches!(rest.next()?, Word::Verb { .. }).then_some(())?;
            rest.noun_phrase(false)?;
        }
        let Word::Auxiliary { number: of_auxiliary, .. } = rest.next()? else { return None };
        let Word::Verb { class: of_verb, .. } = rest.next()? else { return None };
        let Word::Case { class: of_case } = rest.next()? else { return None };
        let (of_object, _) = rest.noun_phrase(false)?;
        let Word::Particle { class: of_particle } = rest.next()? else { return None };
        while matches!(rest.0.first(), Some(Word::Adverb(_))) {
            rest.next();
        }
        let ends = matches!(rest.next()?, Word::Time(_)) && rest.0 == [Word::Stop];
        Some(ends && of_auxiliary == number && of_case == of_verb && of_particle == of_object)
    };
    words.len() == SENTENCE && whole() == Some(true)
}

/// All words of the language that could stand at the hidden position.
fn possible(asked: &Asked) -> Vec<Word> {
    let mut words = *asked.sentence.words();
    WORDS
        .iter()
        .copied()
        .filter(|word| {
            words[asked.place] = *word;
            parses(&words)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_sentence_parses(seed in 0u64..u64::MAX) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..20 {
            let sentence = Sentence::draw(&mut rng);
            prop_assert!(parses(sentence.words()), "{}", sentence.text());
            // Words in another order are not a sentence: the recognizer is not constant.
            let mut turned = *sentence.words();
            turned.reverse();
            prop_assert!(!parses(&turned));
        }
    }

    /// Only one of the two label words can stand there, the right one: the answer's entropy is 0.
    #[test]
    fn answered_questions_have_one_answer(topic in prop::sample::select(Topic::ANSWERED.to_vec()), seed in 0u64..1 << 40) {
        let question = Question::draw(topic, seed);
        prop_assert_ne!(question.words[0], question.words[1]);
        for asked in question.ask(4, seed) {
            let possible = possible(&asked);
            let label_words: Vec<Word> = question.words.into_iter().filter(|w| possible.contains(w)).collect();
            prop_assert_eq!(label_words, vec![question.words[asked.label]]);
        }
    }

    /// Both label words can stand there, and they are equally frequent (the next test): the answer's entropy is log 2.
    #[test]
    fn open_questions_have_two_answers(topic in prop::sample::select(Topic::OPEN.to_vec()), seed in 0u64..1 << 40) {
        let question = Question::draw(topic, seed);
        for asked in question.ask(4, seed) {
            let possible = possible(&asked);
            prop_assert!(question.words.iter().all(|w| possible.contains(w)));
        }
    }
}

/// The words that nothing determines are equally frequent, for either number of the noun.
#[test]
fn what_is_free_is_even() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (mut times, mut determiners) = ([0usize; 4], [0usize; 4]);
    let count = 12_000;
    for _ in 0..count {
        let sentence = Sentence::draw(&mut rng);
        for word in sentence.words() {
            if let Word::Time(lexeme) = word {
                times[*lexeme] += 1;
            }
        }
        if let Word::Determiner { lexeme, number } = sentence.words()[0] {
            determiners[2 * lexeme + number] += 1;
        }
    }
    // Five standard deviations of a binomial count.
    let near =
        |n: usize, p: f64| (n as f64 - f64::from(count) * p).abs() < 5.0 * (f64::from(count) * p * (1.0 - p)).sqrt();
    assert!(times.iter().all(|n| near(*n, 0.25)), "{times:?}");
    assert!(determiners.iter().all(|n| near(*n, 0.25)), "{determiners:?}");
}

#[test]
fn words_are_different_and_have_a_token_each() {
    let texts: HashSet<String> = WORDS.iter().map(|w| w.text()).collect();
    assert_eq!(texts.len(), WORDS.len());
    assert!((60..100).contains(&WORDS.len()), "{}", WORDS.len());
    assert!(WORDS.iter().enumerate().all(|(id, word)| word.id() == id));
    let (tokenizer, ids) = (language_tokenizer(), language_ids());
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for _ in 0..50 {
        let sentence = Sentence::draw(&mut rng);
        let found = tokenizer.encode_fast(sentence.text(), false).expect("a sentence");
        let expected: Vec<u32> = sentence.words().iter().map(|w| u32::from(ids[w.id()])).collect();
        assert_eq!(found.get_ids(), expected, "{}", sentence.text());
    }
}

#[test]
fn a_stream_is_that_of_its_seed() {
    assert_eq!(text(3, 7), text(3, 7));
    assert!(text(4, 7).starts_with(&text(3, 7)));
    assert_ne!(text(3, 7), text(3, 8));
    let recipe = LanguageRecipe { name: LanguageName::Agreement, sentences: 40, heldout: 8 };
    let (one, same, other) = (Corpus::draw(&recipe, 1), Corpus::draw(&recipe, 1), Corpus::draw(&recipe, 2));
    assert_eq!((one.train.len(), one.heldout.len()), (40 * SENTENCE, 8 * SENTENCE));
    assert_eq!((&one.train, &one.digest), (&same.train, &same.digest));
    assert_ne!(one.digest, other.digest);
    assert_ne!(one.train[..8 * SENTENCE], one.heldout[..]);
}

const RECIPE: &str = r#"
name = "small"
seed = 3

[language]
name = "agreement"
sentences = 64
heldout = 16

[model]
widths = [16, 32]
base_width = 16
layers = 1
head_dimension = 8
tokens = 17
embedding_deviation = 0.1
position_amplitude = 0.1

[training]
steps = 4
batch = 8
masked = 3
learning_rate = 4e-3
warmup = 0.1
beta1 = 0.9
beta2 = 0.99
epsilon = 1e-12
evaluate_every = 2
heldout_sequences = 16
"#;

/// `pretrain` accepts a language in place of a text; seed and steps on the command line act like those of a recipe.
#[test]
fn networks_are_pre_trained_on_the_language() {
    let scratch = Scratch::new();
    scratch.write("recipe.toml", RECIPE);
    let pretrain = |more: &[&str]| {
        let arguments = ["pretrain", "--config", "recipe.toml", "--device", "cpu", "--threads", "1"];
        scratch.run(&[&arguments, more].concat())
    };
    // In so few steps the network learns nothing, and the report says so: exit code 1.
    let answer = pretrain(&["--out-dir", "out", "--width", "16"]);
    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    let again = pretrain(&["--out-dir", "again", "--width", "16", "--seed", "3", "--steps", "4"]);
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    let weights =
        |out: &str| std::fs::read(scratch.path(&format!("{out}/small-16/model.safetensors"))).expect("weights");
    assert_eq!(weights("out"), weights("again"));
    pretrain(&["--out-dir", "other", "--width", "16", "--seed", "4"]);
    assert_ne!(weights("out"), weights("other"));
    assert!(scratch.path("out/small-16/tokenizer.json").exists());
}

#[test]
fn recipes_with_both_or_neither_are_refused() {
    for (from, to, message) in [
        ("[language]", "[corpus]\ntrain = \"a\"\nheldout = \"b\"\nvocabulary = 600\n[language]", "a recipe has either"),
        ("tokens = 17", "tokens = 18", "model.tokens = 18, but a sentence of the language has 17"),
        ("sentences = 64", "sentences = 8", "language.sentences = 8 must be at least 16"),
    ] {
        let scratch = Scratch::new();
        scratch.write("recipe.toml", RECIPE.replacen(from, to, 1));
        let answer = scratch.run(&["pretrain", "--config", "recipe.toml", "--device", "cpu", "--out-dir", "out"]);
        assert_eq!(answer.code, Some(2), "{}", answer.stderr);
        assert!(answer.stderr.contains(message), "{}", answer.stderr);
    }
}
