//! The family's tokenizer: byte-level BPE as RoBERTa's, trained on the corpus.

use std::collections::HashSet;
use std::path::Path;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::{Error, Result};
use crate::progress::interruptible;

/// The special tokens in the order of their ids: RoBERTa's.
pub const SPECIAL_TOKENS: [&str; 5] = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];

/// `tokenizer_config.json` beside the tokenizer.
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

/// Trains a tokenizer of `vocabulary` tokens on paragraphs. The same text gives the same tokenizer.
///
/// # Errors
/// [`Error::Format`] where the text has too few different words for the vocabulary; `path` is the text's.
pub fn train_tokenizer(path: &Path, text: &str, vocabulary: usize) -> Result<Tokenizer> {
    let failed = |e: tokenizers::Error| Error::format(path, format!("no tokenizer can be trained on it: {e}"));
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(true, true, true)));
    tokenizer.with_post_processor(Some(RobertaProcessing::new(("</s>".into(), 2), ("<s>".into(), 0))));
    let special = SPECIAL_TOKENS.iter().map(|t| AddedToken::from(*t, true).lstrip(*t == "<mask>")).collect();
    let alphabet: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocabulary)
        .min_frequency(2)
        .initial_alphabet(alphabet)
        .special_tokens(special)
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
