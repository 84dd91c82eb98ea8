//! The family's tokenizer: byte-level BPE like RoBERTa's, trained on the corpus or made for a language's words.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::LazyLock;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, Tokenizer};

use super::language::{WORDS, Word};
use crate::error::{Error, Result};
use crate::progress::interruptible;

/// The special tokens in the order of their ids, which is RoBERTa's.
pub const SPECIAL_TOKENS: [&str; 5] = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];

/// `tokenizer_config.json` of the tokenizer.
pub(super) const TOKENIZER_CONFIG: &str = r#"{
  "tokenizer_class": "RobertaTokenizerFast",
  "bos_token": "<s>",
  "cls_token": "<s>",
  "eos_token": "</s>",
  "sep_token": "</s>",
  "pad_token": "<pad>",
  "unk_token": "<unk>",
  "mask_token": "<mask>",
  "add_prefix_space": false
}
"#;

/// The same for a language, whose words are one token each in any position.
pub(super) fn language_tokenizer_config() -> String {
    TOKENIZER_CONFIG.replace("\"add_prefix_space\": false", "\"add_prefix_space\": true")
}

/// Tokens of a language: special ones, letters, the beginnings of words and the words.
static LANGUAGE_TOKENS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let words: Vec<String> = WORDS.iter().map(|word| format!("{SPACE}{}", word.text())).collect();
    let letters: BTreeSet<String> = words.iter().flat_map(|word| word.chars().map(String::from)).collect();
    let mut tokens: Vec<String> = SPECIAL_TOKENS.iter().map(|t| (*t).to_owned()).chain(letters).collect();
    for word in &words {
        for length in 2..=word.chars().count() {
            let beginning: String = word.chars().take(length).collect();
            if !tokens.contains(&beginning) {
                tokens.push(beginning);
            }
        }
    }
    tokens
});

/// Number of tokens of the language's tokenizer.
pub(super) fn language_vocabulary() -> usize {
    LANGUAGE_TOKENS.len()
}

/// The token of each of [`WORDS`].
pub fn language_ids() -> Vec<u16> {
    let id = |word: &Word| {
        let text = format!("{SPACE}{}", word.text());
        LANGUAGE_TOKENS.iter().position(|token| *token == text).expect("every word is a token") as u16
    };
    WORDS.iter().map(id).collect()
}

/// A tokenizer for the language's words: the only merges build them letter by letter from the space in front.
pub fn language_tokenizer() -> Tokenizer {
    let tokens = &*LANGUAGE_TOKENS;
    let vocabulary: Vocab = tokens.iter().cloned().zip(0..).collect();
    let joined = tokens.iter().filter(|token| token.chars().count() > 1 && token.starts_with(SPACE));
    let merges = joined.map(|token| {
        let last = token.char_indices().last().expect("a token has letters").0;
        (token[..last].to_owned(), token[last..].to_owned())
    });
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges.collect())
        .unk_token(SPECIAL_TOKENS[3].to_owned())
        .build()
        .expect("every beginning of a word is a token");
    let mut tokenizer = framed(model, true);
    let special: Vec<AddedToken> = special_tokens();
    tokenizer.add_special_tokens(&special);
    tokenizer
}

/// Represents the space in front of a word.
const SPACE: char = 'Ġ';

/// RoBERTa's pre-tokenizer, decoder and special tokens around a model.
fn framed(model: BPE, prefix_space: bool) -> Tokenizer {
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(prefix_space, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(true, true, true)));
    tokenizer.with_post_processor(Some(RobertaProcessing::new(("</s>".into(), 2), ("<s>".into(), 0))));
    tokenizer
}

fn special_tokens() -> Vec<AddedToken> {
    SPECIAL_TOKENS.iter().map(|t| AddedToken::from(*t, true).lstrip(*t == "<mask>")).collect()
}

/// Trains a tokenizer of `vocabulary` tokens on paragraphs. The same text gives the same tokenizer.
///
/// # Errors
/// [`Error::Format`] if the text has too few different words for the vocabulary; `path` is the text's.
pub fn train_tokenizer(path: &Path, text: &str, vocabulary: usize) -> Result<Tokenizer> {
    let failed = |e: tokenizers::Error| Error::format(path, format!("no tokenizer can be trained on it: {e}"));
    let mut tokenizer = framed(BPE::default(), false);
    let alphabet: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocabulary)
        .min_frequency(2)
        .initial_alphabet(alphabet)
        .special_tokens(special_tokens())
        .build();
    let mut trainer = TrainerWrapper::from(trainer);
    let text = text.to_owned();
    let trained = interruptible(move || {
        tokenizer.train(&mut trainer, text.lines().filter(|l| !l.is_empty())).map(|_| ()).map(|()| tokenizer)
    })?;
    let tokenizer = trained.map_err(failed)?;
    let found = tokenizer.get_vocab_size(true);
    if found != vocabulary {
        return Err(Error::format(
            path,
            format!("it has words for a vocabulary of {found} tokens only; corpus.vocabulary asks for {vocabulary}"),
        ));
    }
    Ok(tokenizer)
}
