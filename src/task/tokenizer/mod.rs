//! A checkpoint's tokenizer, for prompts: text to token ids, and the ids of the special tokens.
//!
//! The tokens are those of transformers' `AutoTokenizer` (4.57), or the tokenizer is refused: `load` assembles it, `files`
//! finds the class and reads the files next to the vocabulary, `class` describes the class, `special` and `rules` apply it,
//! `convert` and `sentence_piece` convert the files of slow classes; `encode` turns texts into ids. As there, names of
//! special and added tokens in a text become these tokens; no special tokens, truncation or padding are added. May not know
//! templates, tasks or models.

mod class;
mod convert;
mod converted;
mod encode;
mod files;
mod load;
mod rules;
mod sentence_piece;
mod spaces;
mod special;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::{Encoding, Token, Tokenizer};

use self::spaces::{Spaces, spaces};
use self::special::SpecialTokens;
use crate::error::{Error, Result};
use crate::files::digest;

/// A token with a special role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpecialToken {
    /// Starts a sequence: `[CLS]`, `<s>`.
    Cls,
    /// Separates and ends sequences: `[SEP]`, `</s>`.
    Sep,
    /// The masked position: `[MASK]`, `<mask>`.
    Mask,
    /// Padding: `[PAD]`, `<pad>`.
    Pad,
    /// Replaces what the vocabulary lacks: `[UNK]`, `<unk>`.
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

    /// If no file names the token: BERT's name, then that of `RoBERTa`.
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
    /// The file from which it was read, for messages.
    source: PathBuf,
    /// The class and the other files that affect it.
    origin: Origin,
    /// Ids in the order of [`SpecialToken::ALL`].
    special: [Option<i64>; 5],
    /// The names of special tokens by their role, for messages.
    roles: BTreeMap<&'static str, String>,
    /// All special tokens' names, for chat templates.
    template_tokens: BTreeMap<String, Value>,
    /// Special tokens named in a file but not in the vocabulary; the library gives them new ids.
    invented: BTreeSet<String>,
    /// Rows of the model's token table, if `config.json` says.
    rows: Option<i64>,
    special_ids: BTreeSet<i64>,
    vocab_size: usize,
    max_token_id: i64,
    max_vocabulary_id: i64,
    spaces: Spaces,
}

/// Where a tokenizer's rules come from.
#[derive(Clone, Debug, Default)]
struct Origin {
    class: Option<&'static str>,
    files: Vec<PathBuf>,
    chat: BTreeMap<String, String>,
}

impl PromptTokenizer {
    fn new(mut inner: Tokenizer, source: PathBuf, named: &SpecialTokens, origin: Origin) -> Result<Self> {
        inner.with_truncation(None).map_err(|reason| Error::format(&source, reason.to_string()))?;
        inner.with_padding(None);
        let special = SpecialToken::ALL.map(|token| {
            let names = named.role(token.key()).into_iter().chain(token.conventions());
            names.filter_map(|name| inner.token_to_id(name)).map(i64::from).next()
        });
        let roles = special::KEYS.iter().filter_map(|key| Some((*key, named.role(key)?.to_string()))).collect();
        let vocab = inner.get_vocab(true);
        let Some(max) = vocab.values().max() else {
            return Err(Error::format(&source, "the vocabulary is empty"));
        };
        let (vocab_size, max_token_id) = (vocab.len(), i64::from(*max));
        let max_vocabulary_id = inner.get_vocab(false).values().max().map_or(-1, |id| i64::from(*id));
        let spaces = spaces(&inner);
        let invented = BTreeSet::new();
        let added = inner.get_added_tokens_decoder();
        let special_ids = added.iter().filter(|(_, token)| token.special).map(|(id, _)| i64::from(*id)).collect();
        Ok(Self {
            inner,
            source,
            origin,
            special,
            roles,
            template_tokens: named.map(),
            invented,
            rows: None,
            special_ids,
            vocab_size,
            max_token_id,
            max_vocabulary_id,
            spaces,
        })
    }

    /// The number of tokens, including added ones.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The highest id that [`Self::encode`] can give: a model needs more embedding rows than this.
    pub fn max_token_id(&self) -> i64 {
        self.max_token_id
    }

    /// The same without added tokens, which a model may lack as long as no prompt has them.
    pub fn max_vocabulary_id(&self) -> i64 {
        self.max_vocabulary_id
    }

    /// The file of the vocabulary.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The class of transformers that the tokens follow, and the names of the files used.
    pub fn description(&self) -> String {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files: Vec<_> = std::iter::once(self.source.as_path())
            .chain(self.origin.files.iter().map(PathBuf::as_path))
            .map(name)
            .collect();
        match self.origin.class {
            Some(class) => format!("{class}, from {}", files.join(", ")),
            None => format!("from {}", files.join(", ")),
        }
    }

    /// The checkpoint's chat templates by name.
    pub fn chat_templates(&self) -> &BTreeMap<String, String> {
        &self.origin.chat
    }

    /// The name of a special token by its key in Hugging Face's files, such as `bos_token`.
    pub fn role(&self, key: &str) -> Option<&str> {
        self.roles.get(key).map(String::as_str)
    }

    /// The special tokens' texts by their keys in Hugging Face's files, for chat templates; a list for those without a role.
    pub(in crate::task) fn template_tokens(&self) -> &BTreeMap<String, Value> {
        &self.template_tokens
    }

    /// SHA-256 of vocabulary, rules and special tokens, independent of the file format.
    ///
    /// # Errors
    /// [`Error::Format`] if the tokenizer cannot be written as JSON.
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

    /// The id of a special token, or an error that names the file, the token and where to declare it. A token known only to
    /// the class has the first id beyond the vocabulary, as in transformers, if the model has a row for it.
    pub fn require(&self, token: SpecialToken) -> Result<i64> {
        let key = token.key();
        // DeBERTa v3's mask is such a token: its model has a row for it.
        let has_row = self.special(token).zip(self.rows).is_some_and(|(id, rows)| id < rows);
        if let Some(name) = self.role(key).filter(|name| self.invented.contains(*name) && !has_row) {
            return Err(Error::format(
                &self.source,
                format!(
                    "the vocabulary has no {key}: its class calls it `{name}`, which is missing; if it has another \
                     name, give it as \"{key}\" in `tokenizer_config.json` beside this file"
                ),
            ));
        }
        self.special(token).ok_or_else(|| {
            let [bert, roberta] = token.conventions();
            Error::format(
                &self.source,
                format!(
                    "the vocabulary has no {key}: neither `{bert}` nor `{roberta}`; if it has another name, give it as \
                     \"{key}\" in `tokenizer_config.json` beside this file"
                ),
            )
        })
    }

    /// The tokens that the tokenizer itself puts before every text, such as Llama's `<s>`; often none. A class's default
    /// token that neither the vocabulary nor the model has is omitted.
    pub fn beginning(&self) -> Result<Vec<i64>> {
        // An id outside any vocabulary represents the text.
        const TEXT: u32 = u32::MAX;
        let text = Encoding::from_tokens(vec![Token::new(TEXT, String::new(), (0, 0))], 0);
        let around = self.inner.post_process(text, None, true);
        let around = around.map_err(|reason| Error::format(&self.source, format!("cannot tokenize: {reason}")))?;
        let before = around.get_ids().iter().take_while(|id| **id != TEXT).map(|id| i64::from(*id));
        let beyond = |id: &i64| {
            let invented = self.id_to_token(*id).is_some_and(|name| self.invented.contains(&name));
            invented && self.rows.is_some_and(|rows| *id >= rows)
        };
        Ok(before.filter(|id| !beyond(id)).collect())
    }

    /// The id of padding on the right: the pad token, or 0 if there is none (attention masks hide it).
    pub fn pad_id(&self) -> i64 {
        self.special(SpecialToken::Pad).unwrap_or(0)
    }

    /// The id of a token, spelled as in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<i64> {
        self.inner.token_to_id(token).map(i64::from)
    }

    /// A token's spelling in the vocabulary (`Ġgreat`, `##ing`).
    pub fn id_to_token(&self, id: i64) -> Option<String> {
        u32::try_from(id).ok().and_then(|id| self.inner.id_to_token(id))
    }

    /// Whether an id is that of a special token.
    pub fn is_special(&self, id: i64) -> bool {
        self.special_ids.contains(&id)
    }

    /// The names of special and added tokens, longest first.
    pub fn added_names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.inner.get_added_tokens_decoder().values().map(|token| token.content.clone()).collect();
        names.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        names
    }
}
