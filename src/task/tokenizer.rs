//! A checkpoint's tokenizer, as prompts need it: text to token ids, and the ids of the special tokens.
//!
//! Reads `tokenizer.json`, a BERT `vocab.txt`, or the metadata of a GGUF file. Adds nothing by itself: no special tokens, no padding, no
//! truncation; a special token's name that occurs in a text is ordinary text. May not know templates, tasks or models.

use std::fmt;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use serde_json::Value;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::{Error, Result, panic_text};
use crate::files::digest;
use crate::gguf::Gguf;

/// A token with a role of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpecialToken {
    /// Starts a sequence: `[CLS]`, `<s>`.
    Cls,
    /// Separates and ends sequences: `[SEP]`, `</s>`.
    Sep,
    /// The masked position: `[MASK]`, `<mask>`.
    Mask,
    /// Fills up a batch: `[PAD]`, `<pad>`.
    Pad,
    /// Stands for what the vocabulary lacks: `[UNK]`, `<unk>`.
    Unk,
}

impl SpecialToken {
    /// All five.
    pub const ALL: [Self; 5] = [Self::Cls, Self::Sep, Self::Mask, Self::Pad, Self::Unk];

    /// The name that Hugging Face's configuration files use.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Cls => "cls_token",
            Self::Sep => "sep_token",
            Self::Mask => "mask_token",
            Self::Pad => "pad_token",
            Self::Unk => "unk_token",
        }
    }

    /// Where no file names the token: BERT's name, then that of `RoBERTa`.
    pub const fn conventions(self) -> [&'static str; 2] {
        match self {
            Self::Cls => ["[CLS]", "<s>"],
            Self::Sep => ["[SEP]", "</s>"],
            Self::Mask => ["[MASK]", "<mask>"],
            Self::Pad => ["[PAD]", "<pad>"],
            Self::Unk => ["[UNK]", "<unk>"],
        }
    }
}

/// A tokenizer that turns the parts of a prompt into token ids.
#[derive(Clone, Debug)]
pub struct PromptTokenizer {
    inner: Tokenizer,
    /// The file it was read from, for messages.
    source: PathBuf,
    /// Ids in the order of [`SpecialToken::ALL`].
    special: [Option<i64>; 5],
    vocab_size: usize,
    max_token_id: i64,
}

impl PromptTokenizer {
    /// Reads the tokenizer of a checkpoint directory: `tokenizer.json` if it is there, else `vocab.txt` (BERT's
    /// `WordPiece`, with `do_lower_case`, `strip_accents` and `tokenize_chinese_chars` of `tokenizer_config.json`).
    /// Where the model is a GGUF file, the tokenizer in it. Special tokens: `tokenizer_config.json`, then `special_tokens_map.json`, then [`SpecialToken::conventions`].
    pub fn from_dir(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        if let Some(file) = Gguf::find(directory)? {
            let file = Gguf::open(&file)?;
            return Self::new(super::byte_pairs::tokenizer(&file)?, file.path().to_path_buf(), &[]);
        }
        let config = read_json(&directory.join("tokenizer_config.json"))?;
        let map = read_json(&directory.join("special_tokens_map.json"))?;
        let json = directory.join("tokenizer.json");
        let vocab = directory.join("vocab.txt");
        if json.is_file() {
            Self::new(read_tokenizer(&json)?, json, &[config, map])
        } else if vocab.is_file() {
            Self::new(word_piece(&vocab, config.as_ref())?, vocab, &[config, map])
        } else {
            Err(Error::format(
                directory,
                "no tokenizer here: neither `tokenizer.json` nor a BERT `vocab.txt`; save the checkpoint with its fast \
                 tokenizer, or copy the file of the model it was trained from",
            ))
        }
    }

    /// Reads one tokenizer file in Hugging Face's JSON format; special tokens by convention.
    pub fn from_tokenizer_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(read_tokenizer(path)?, path.to_path_buf(), &[])
    }

    fn new(mut inner: Tokenizer, source: PathBuf, configs: &[Option<NamedJson>]) -> Result<Self> {
        inner.with_truncation(None).map_err(|reason| Error::format(&source, reason.to_string()))?;
        inner.with_padding(None);
        inner.set_encode_special_tokens(true);
        let mut special = [None; 5];
        for (slot, token) in special.iter_mut().zip(SpecialToken::ALL) {
            *slot = find_special(&inner, &source, configs, token)?;
        }
        let vocab = inner.get_vocab(true);
        let Some(max) = vocab.values().max() else {
            return Err(Error::format(&source, "the vocabulary is empty"));
        };
        let (vocab_size, max_token_id) = (vocab.len(), i64::from(*max));
        Ok(Self { inner, source, special, vocab_size, max_token_id })
    }

    /// The number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The highest id that [`Self::encode`] can give: a model needs more embedding rows than this.
    pub fn max_token_id(&self) -> i64 {
        self.max_token_id
    }

    /// The file that the tokenizer came from.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// SHA-256 of vocabulary, rules and special tokens, however a file writes them down.
    ///
    /// # Errors
    /// [`Error::Format`] where the tokenizer cannot be written as JSON.
    pub fn digest(&self) -> Result<String> {
        let rules = self.inner.to_string(false);
        let rules =
            rules.map_err(|reason| Error::format(&self.source, format!("cannot be written as JSON: {reason}")))?;
        Ok(digest([rules.as_bytes(), format!("{:?}", self.special).as_bytes()]))
    }

    /// The id of a special token, if the tokenizer has it.
    pub fn special(&self, token: SpecialToken) -> Option<i64> {
        self.special[token as usize]
    }

    /// The id of a special token, or an error that names the file, the token and where to declare it.
    pub fn require(&self, token: SpecialToken) -> Result<i64> {
        self.special(token).ok_or_else(|| {
            let [bert, roberta] = token.conventions();
            let key = token.key();
            Error::format(
                &self.source,
                format!(
                    "the vocabulary has no {key}: neither `{bert}` nor `{roberta}`; if it has another name, give it as \
                     \"{key}\" in `tokenizer_config.json` beside this file"
                ),
            )
        })
    }

    /// The tokens that the tokenizer itself puts in front of every text, such as Llama's `<s>`; often none.
    pub fn beginning(&self) -> Result<Vec<i64>> {
        let any = "a";
        let encoding = self.inner.encode_fast(any, true);
        let encoding = encoding.map_err(|reason| Error::format(&self.source, format!("cannot tokenize: {reason}")))?;
        let ids: Vec<i64> = encoding.get_ids().iter().map(|id| i64::from(*id)).collect();
        let text = self.encode(any)?;
        let at = ids.windows(text.len().max(1)).position(|window| window == text).unwrap_or(0);
        Ok(ids[..at].to_vec())
    }

    /// The id that fills up a batch on the right: the pad token, or 0 where there is none (attention masks hide it).
    pub fn pad_id(&self) -> i64 {
        self.special(SpecialToken::Pad).unwrap_or(0)
    }

    /// The id of a token of the vocabulary, written as in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<i64> {
        self.inner.token_to_id(token).map(i64::from)
    }

    /// A token as the vocabulary writes it (`Ġgreat`, `##ing`).
    pub fn id_to_token(&self, id: i64) -> Option<String> {
        u32::try_from(id).ok().and_then(|id| self.inner.id_to_token(id))
    }

    /// The token ids of a text, without special tokens and uncut.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let encoding = self.inner.encode_fast(text, false).map_err(|reason| {
            let shown: String = text.chars().take(40).collect();
            Error::format(&self.source, format!("cannot tokenize `{shown}`: {reason}"))
        })?;
        Ok(encoding.get_ids().iter().map(|id| i64::from(*id)).collect())
    }
}

/// A JSON file that was read, with its path for messages.
type NamedJson = (PathBuf, Value);

fn read_tokenizer(path: &Path) -> Result<Tokenizer> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let wrong = |reason: &dyn fmt::Display| Error::format(path, format!("not a Hugging Face tokenizer file: {reason}"));
    // The library panics on some of what is no JSON, and on some JSON that makes no tokenizer.
    serde_json::from_slice::<IgnoredAny>(&bytes).map_err(|reason| wrong(&reason))?;
    match panic::catch_unwind(|| Tokenizer::from_bytes(&bytes)) {
        Ok(read) => read.map_err(|reason| wrong(&reason)),
        Err(panic) => Err(wrong(&panic_text(&*panic))),
    }
}

/// A BERT tokenizer from the list of its tokens, one a line.
fn word_piece(path: &Path, config: Option<&NamedJson>) -> Result<Tokenizer> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let fail = |reason: tokenizers::Error| Error::format(path, format!("not a BERT vocabulary: {reason}"));
    let vocab = WordPiece::read_bytes(&bytes).map_err(fail)?;
    let named = |key: &str| config.and_then(|(_, value)| value.get(key)).and_then(token_name).map(str::to_string);
    let unk = named(SpecialToken::Unk.key()).unwrap_or_else(|| "[UNK]".to_string());
    if !vocab.contains_key(&unk) {
        let message = format!(
            "the vocabulary has no line `{unk}`, the token for unknown words; if it has another name, give it as \
             \"unk_token\" in `tokenizer_config.json` beside this file"
        );
        return Err(Error::format(path, message));
    }
    let mut special: Vec<_> = SpecialToken::ALL.iter().filter_map(|token| named(token.key())).collect();
    special.extend(SpecialToken::ALL.iter().map(|token| token.conventions()[0].to_string()));
    special.retain(|token| vocab.contains_key(token));
    let lowercase = flag(config, "do_lower_case")?.unwrap_or(true);
    let normalizer = BertNormalizer::new(
        true,
        flag(config, "tokenize_chinese_chars")?.unwrap_or(true),
        flag(config, "strip_accents")?,
        lowercase,
    );
    let model = WordPiece::builder().vocab(vocab).unk_token(unk).build().map_err(fail)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(normalizer)).map_err(fail)?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.add_special_tokens(special.into_iter().map(|token| AddedToken::from(token, true))).map_err(fail)?;
    Ok(tokenizer)
}

/// A JSON object beside the tokenizer, if the file is there.
fn read_json(path: &Path) -> Result<Option<NamedJson>> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|reason| Error::format(path, reason.to_string()))?;
    if value.is_object() {
        Ok(Some((path.to_path_buf(), value)))
    } else {
        Err(Error::format(path, "must hold a JSON object"))
    }
}

/// A boolean field; absent and `null` are the same.
fn flag(config: Option<&NamedJson>, key: &str) -> Result<Option<bool>> {
    match config.and_then(|(path, value)| Some((path, value.get(key)?))) {
        None | Some((_, Value::Null)) => Ok(None),
        Some((_, Value::Bool(value))) => Ok(Some(*value)),
        Some((path, other)) => Err(Error::format(path, format!("`{key}` must be true or false, found {other}"))),
    }
}

/// A token given as `"[MASK]"` or as `{"content": "[MASK]", …}`.
fn token_name(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn find_special(
    inner: &Tokenizer,
    source: &Path,
    configs: &[Option<NamedJson>],
    token: SpecialToken,
) -> Result<Option<i64>> {
    let key = token.key();
    for (path, value) in configs.iter().flatten() {
        let Some(field) = value.get(key).filter(|field| !field.is_null()) else { continue };
        let Some(name) = token_name(field) else {
            return Err(Error::format(path, format!("`{key}` must be a string or an object with `content`")));
        };
        return match inner.token_to_id(name) {
            Some(id) => Ok(Some(i64::from(id))),
            None => Err(Error::format(
                path,
                format!("`{key}` is `{name}`, which the vocabulary in `{}` does not have", source.display()),
            )),
        };
    }
    Ok(token.conventions().iter().find_map(|name| inner.token_to_id(name)).map(i64::from))
}
