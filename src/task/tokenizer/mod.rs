//! A checkpoint's tokenizer, as prompts need it: text to token ids, and the ids of the special tokens.
//!
//! The tokens are those of transformers' `AutoTokenizer` (4.57), or the tokenizer is refused: `files` finds the class and reads
//! what stands beside the vocabulary, `class` says what the class does, `special` and `rules` do it, `convert` and
//! `sentence_piece` make tokenizers of the files of slow classes. In a text the names of special and added tokens are these
//! tokens, as there; no special token is added, nothing is cut or filled up. May not know templates, tasks or models.

mod class;
mod convert;
mod files;
mod rules;
mod sentence_piece;
mod special;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::panic;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use tokenizers::{Encoding, Token, Tokenizer};

use self::class::{Class, class, class_names};
use self::convert::Converted;
use self::files::{Flag, Settings};
use self::special::SpecialTokens;
use crate::error::{Error, Result, panic_text};
use crate::files::{digest, read_whole};
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
    /// What else had a say: the class, and the files beside the vocabulary.
    origin: Origin,
    /// Ids in the order of [`SpecialToken::ALL`].
    special: [Option<i64>; 5],
    /// The names of special tokens by their role, for chat templates and messages.
    roles: BTreeMap<&'static str, String>,
    /// Special tokens that a file names and the vocabulary does not have; the library gives them new ids.
    invented: BTreeSet<String>,
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

/// How a tokenizer keeps the spaces of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spaces {
    /// Not at all: words are cut at them.
    Dropped,
    /// As bytes in front of words (`Ġ`).
    Bytes,
    /// As a mark in front of words (`▁`), often one more in front of a text.
    Marks,
}

/// A token of a text and the bytes of the text that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its id.
    pub id: i64,
    /// Its bytes in the text.
    pub bytes: Range<usize>,
}

impl PromptTokenizer {
    /// Reads the tokenizer of a checkpoint directory as `AutoTokenizer` does: the class that `tokenizer_config.json` or
    /// `config.json` names, on `tokenizer.json` if it is there, else converted from the class's own files (`vocab.txt`,
    /// `vocab.json` and `merges.txt`, or a SentencePiece model). Where the model is a GGUF file, the tokenizer in it.
    ///
    /// # Errors
    /// [`Error::Format`] for files that are damaged or missing, and for classes whose tokens are not known here.
    pub fn from_dir(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        if let Some(file) = Gguf::find(directory)? {
            let file = Gguf::open(&file)?;
            return Self::of_gguf(&file);
        }
        let settings = Settings::read(directory)?;
        let class = chosen_class(&settings)?;
        let json = settings.tokenizer_file();
        let stored = json.as_deref().map(read_tokenizer).transpose()?;
        let from_slow = goes_back(class, &settings, stored.as_ref())?;
        let tokens = stored.as_ref().map(special::stored_tokens);
        let (mut special, added) = settings.tokens(tokens)?;
        special.fill(class.defaults, class.additional);
        let usable = stored.zip(json).filter(|_| !from_slow);
        let (mut inner, source, around) = if let Some((inner, source)) = usable {
            special.dress(class.fast);
            (inner, source, None)
        } else {
            special.dress(class.slow);
            let converted = convert::convert(class, &settings, &special)?;
            let Converted { inner, source, before, after } =
                converted.ok_or_else(|| no_tokenizer(&settings, class, from_slow))?;
            (inner, source, Some((before, after)))
        };
        let fail = |reason: tokenizers::Error| {
            Error::format(settings.config_path(), format!("the tokens that it adds to {}: {reason}", source.display()))
        };
        let invented = special.contents().into_iter().filter(|token| inner.token_to_id(token).is_none()).collect();
        special.add_to(&mut inner, &added).map_err(fail)?;
        if let Some((before, after)) = around.filter(|(before, after)| !before.is_empty() || !after.is_empty()) {
            let processor = rules::surrounded(&inner, &source, &before, &after)?;
            inner.with_post_processor(Some(processor));
        }
        rules::apply(&mut inner, class, &settings, &special, &source)?;
        let origin = Origin { class: Some(class.name), files: settings.paths(), chat: settings.chat_templates()? };
        Ok(Self { invented, ..Self::new(inner, source, &special, origin)? })
    }

    /// The tokenizer in a GGUF file, with its chat template and the tokens that the template asks for.
    fn of_gguf(file: &Gguf) -> Result<Self> {
        let inner = super::byte_pairs::tokenizer(file)?;
        let mut special = SpecialTokens::default();
        for (key, field) in [("bos_token", "tokenizer.ggml.bos_token_id"), ("eos_token", "tokenizer.ggml.eos_token_id")]
        {
            let name = file.index(field).ok().and_then(|id| inner.id_to_token(id as u32));
            if let Some(name) = name {
                let set = special.set(key, &name.into(), true);
                set.map_err(|problem| Error::format(file.path(), problem))?;
            }
        }
        let chat = file.text("tokenizer.chat_template").ok().map(|text| ("default".to_string(), text.to_string()));
        let origin = Origin { chat: chat.into_iter().collect(), ..Origin::default() };
        Self::new(inner, file.path().to_path_buf(), &special, origin)
    }

    /// Reads one tokenizer file in Hugging Face's JSON format; special tokens by convention.
    pub fn from_tokenizer_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(read_tokenizer(path)?, path.to_path_buf(), &SpecialTokens::default(), Origin::default())
    }

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
            invented,
            special_ids,
            vocab_size,
            max_token_id,
            max_vocabulary_id,
            spaces,
        })
    }

    /// The number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The highest id that [`Self::encode`] can give: a model needs more embedding rows than this.
    pub fn max_token_id(&self) -> i64 {
        self.max_token_id
    }

    /// The same without tokens that were added to the vocabulary, which a model may lack as long as no prompt has them.
    pub fn max_vocabulary_id(&self) -> i64 {
        self.max_vocabulary_id
    }

    /// The file that the vocabulary came from.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Which class of transformers the tokens follow, and the files that decided, by their names.
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

    /// All special tokens by their keys.
    pub fn roles(&self) -> &BTreeMap<&'static str, String> {
        &self.roles
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
        let key = token.key();
        if let Some(name) = self.role(key).filter(|name| self.invented.contains(*name)) {
            return Err(Error::format(
                &self.source,
                format!(
                    "the vocabulary has no {key}: its class calls it `{name}`, which is not there; if it has another name, \
                     give it as \"{key}\" in `tokenizer_config.json` beside this file"
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

    /// The tokens that the tokenizer itself puts in front of every text, such as Llama's `<s>`; often none.
    pub fn beginning(&self) -> Result<Vec<i64>> {
        // An id that no vocabulary has stands for the text.
        const TEXT: u32 = u32::MAX;
        let text = Encoding::from_tokens(vec![Token::new(TEXT, String::new(), (0, 0))], 0);
        let around = self.inner.post_process(text, None, true);
        let around = around.map_err(|reason| Error::format(&self.source, format!("cannot tokenize: {reason}")))?;
        Ok(around.get_ids().iter().take_while(|id| **id != TEXT).map(|id| i64::from(*id)).collect())
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

    /// Whether a text's tokens depend on what stands in front of it: spaces are marks, of which a text gets one more.
    pub fn marks_spaces(&self) -> bool {
        self.spaces == Spaces::Marks
    }

    /// The token ids of a text, uncut; names of special and added tokens in it are these tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let encoding = self.inner.encode_fast(text, false).map_err(|reason| self.cannot(text, &*reason))?;
        Ok(encoding.get_ids().iter().map(|id| i64::from(*id)).collect())
    }

    /// The same with the bytes of the text that each token stands for.
    pub fn encode_placed(&self, text: &str) -> Result<Vec<Placed>> {
        let encoding = self.inner.encode(text, false).map_err(|reason| self.cannot(text, &*reason))?;
        let places = encoding.get_ids().iter().zip(encoding.get_offsets());
        Ok(places.map(|(id, (start, end))| Placed { id: i64::from(*id), bytes: *start..*end }).collect())
    }

    /// One character as tokens of its own: the vocabulary's entry for it, by its bytes where the vocabulary is one of bytes.
    pub fn encode_character(&self, character: char) -> Result<Vec<i64>> {
        let text = character.to_string();
        let added = self.inner.get_added_vocabulary().get_vocab().get(&text).map(|id| i64::from(*id));
        let entry = added.or_else(|| match self.spaces {
            Spaces::Bytes => self.token_to_id(&byte_text(&text)),
            Spaces::Marks | Spaces::Dropped => self.token_to_id(&text),
        });
        entry.map_or_else(|| self.encode(&text), |id| Ok(vec![id]))
    }

    /// The tokens of a text that continues another one: what it has with a word in front of it, without that word.
    pub fn encode_continuing(&self, text: &str) -> Result<Vec<i64>> {
        const BEFORE: &str = "a";
        let placed = self.encode_placed(&format!("{BEFORE}{text}"))?;
        Ok(placed.into_iter().filter(|token| token.bytes.end > BEFORE.len()).map(|token| token.id).collect())
    }

    /// The token that a text is as a whole, with nothing in front of it: none where the vocabulary has no such token.
    pub fn whole_token(&self, text: &str) -> Option<i64> {
        let written = if self.spaces == Spaces::Bytes { byte_text(text) } else { text.to_string() };
        let id = self.token_to_id(&written)?;
        // Byte by byte the vocabulary may spell the text in a way that no text is cut into.
        let alone = self.encode(text).is_ok_and(|ids| ids == [id]);
        (alone || self.spaces == Spaces::Marks).then_some(id)
    }

    fn cannot(&self, text: &str, reason: &dyn fmt::Display) -> Error {
        let shown: String = text.chars().take(40).collect();
        Error::format(&self.source, format!("cannot tokenize `{shown}`: {reason}"))
    }
}

/// The class that the files name.
fn chosen_class(settings: &Settings) -> Result<&'static Class> {
    let Some((name, place)) = settings.class()? else {
        // Nothing says: the rules that the file itself holds, or BERT's for its list of words.
        let plain = settings.tokenizer_file().is_some() || settings.file("vocab.txt").is_none();
        let name = if plain { "PreTrainedTokenizer" } else { "BertTokenizer" };
        return Ok(class(name).expect("an entry of the table"));
    };
    class(&name).ok_or_else(|| {
        Error::format(
            settings.directory(),
            format!(
                "the tokenizer is a {name} ({place}), whose tokens are not known here (tokenizer_class); known are: {}. If \
                 tokenizer.json says everything, set \"tokenizer_class\" in tokenizer_config.json to \
                 \"PreTrainedTokenizerFast\"",
                class_names()
            ),
        )
    })
}

/// Whether the class reads its slow files although there is a `tokenizer.json`: Llama's does where `add_prefix_space` is set.
/// Without the slow file transformers fails; what the field asks for may be what `tokenizer.json` does.
fn goes_back(class: &Class, settings: &Settings, stored: Option<&Tokenizer>) -> Result<bool> {
    let (Flag::Set(wanted), true) = (settings.flag("add_prefix_space")?, class.name == "LlamaTokenizer") else {
        return Ok(false);
    };
    let class::Vocabulary::SentencePiece(file, _) = class.vocabulary else { return Ok(false) };
    let Some(stored) = stored.filter(|_| settings.file(file).is_none()) else { return Ok(true) };
    let parts = [written(stored.get_normalizer()), written(stored.get_pre_tokenizer())].concat();
    let prepends = parts.contains("\"Prepend\"")
        || parts.contains("\"prepend_scheme\":\"first\"")
        || parts.contains("\"prepend_scheme\":\"always\"");
    Ok(prepends != wanted)
}

/// A component as JSON; empty where it is not there.
fn written(component: Option<&impl serde::Serialize>) -> String {
    component.and_then(|part| serde_json::to_string(part).ok()).unwrap_or_default()
}

/// The error for a class whose files are not there.
fn no_tokenizer(settings: &Settings, class: &Class, from_slow: bool) -> Error {
    use class::Vocabulary;
    let files = match class.vocabulary {
        Vocabulary::None => String::new(),
        Vocabulary::WordPiece => "`vocab.txt`".to_string(),
        Vocabulary::Pairs(_) => "`vocab.json` with `merges.txt`".to_string(),
        Vocabulary::SentencePiece(name, _) => format!("`{name}`"),
    };
    if from_slow {
        let message = format!(
            "`add_prefix_space` is set, for which {} reads {files} and not tokenizer.json, but there is none; add the file, or \
             take the field out",
            class.name
        );
        return Error::format(settings.config_path(), message);
    }
    let (neither, nor) = if files.is_empty() {
        ("no `tokenizer.json`".to_string(), String::new())
    } else {
        ("neither `tokenizer.json`".to_string(), format!(" nor {files}"))
    };
    let message = format!(
        "no tokenizer here: {neither}{nor} (for a {}); save the checkpoint with its fast tokenizer, or copy the file of the \
         model it was trained from",
        class.name
    );
    Error::format(settings.directory(), message)
}

fn read_tokenizer(path: &Path) -> Result<Tokenizer> {
    let bytes = read_whole(path)?;
    let wrong = |reason: &dyn fmt::Display| Error::format(path, format!("not a Hugging Face tokenizer file: {reason}"));
    // The library panics on some of what is no JSON, and on some JSON that makes no tokenizer.
    serde_json::from_slice::<IgnoredAny>(&bytes).map_err(|reason| wrong(&reason))?;
    match panic::catch_unwind(|| Tokenizer::from_bytes(&bytes)) {
        Ok(read) => read.map_err(|reason| wrong(&reason)),
        Err(panic) => Err(wrong(&panic_text(&*panic))),
    }
}

/// How spaces are kept, by the components that a tokenizer has.
fn spaces(inner: &Tokenizer) -> Spaces {
    let (normalizer, cut) = (written(inner.get_normalizer()), written(inner.get_pre_tokenizer()));
    if cut.contains("\"ByteLevel\"") || normalizer.contains("\"ByteLevel\"") {
        Spaces::Bytes
    } else if cut.contains("\"Metaspace\"") || normalizer.contains('▁') {
        Spaces::Marks
    } else {
        Spaces::Dropped
    }
}

/// A text as byte-level vocabularies write it: a printable character for every byte.
fn byte_text(text: &str) -> String {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let character = |byte: u8| {
        if printable(byte) {
            return char::from(byte);
        }
        let place = (0..byte).filter(|other| !printable(*other)).count() as u32;
        char::from_u32(256 + place).unwrap_or(char::REPLACEMENT_CHARACTER)
    };
    text.bytes().map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_byte_level_vocabularies_write_them() {
        assert_eq!(byte_text("a.\n \té"), "a.ĊĠĉÃ©");
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let all: BTreeSet<char> = (0..=255u8)
            .flat_map(|byte| byte_text(&String::from_utf8_lossy(&[byte])).chars().collect::<Vec<_>>())
            .collect();
        assert!(all.iter().all(|character| alphabet.contains(character)));
    }
}
