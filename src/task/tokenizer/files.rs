//! The files next to a vocabulary that affect tokenization, and the class of transformers that reads them.
//!
//! Source of the rules: `AutoTokenizer.from_pretrained` and `PreTrainedTokenizerBase._from_pretrained` of transformers 4.57.
//! May not know what the classes do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::class::class_of_model;
use super::special::{ADDITIONAL, EXTRA, KEYS, SpecialTokens, Token};
use crate::error::{Error, Result};
use crate::files::{is_there, read_text, read_whole};

/// A parsed JSON object, with its path for messages.
pub(super) struct NamedJson {
    pub path: PathBuf,
    pub fields: Map<String, Value>,
}

impl NamedJson {
    /// Reads a JSON object, if the file exists.
    pub fn read(path: PathBuf) -> Result<Option<Self>> {
        if !is_there(&path)? {
            return Ok(None);
        }
        let bytes = read_whole(&path)?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let value: Value = serde_json::from_slice(bytes).map_err(|reason| Error::format(&path, reason.to_string()))?;
        match value {
            Value::Object(fields) => Ok(Some(Self { path, fields })),
            _ => Err(Error::format(path, "must hold a JSON object")),
        }
    }
}

/// A field that may be absent, `null` or set, which transformers' constructors distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    /// The field is absent: the class's default.
    Absent,
    /// The field is `null`.
    Null,
    /// The field is set.
    Set(bool),
}

impl Flag {
    /// The value if absence means `default` and `null` means false.
    pub fn or(self, default: bool) -> bool {
        match self {
            Self::Absent => default,
            Self::Null => false,
            Self::Set(value) => value,
        }
    }
}

/// A checkpoint directory's tokenizer files other than the vocabulary.
pub(super) struct Settings {
    directory: PathBuf,
    config: Option<NamedJson>,
    map: Option<NamedJson>,
    added: Option<NamedJson>,
    model: Option<NamedJson>,
}

impl Settings {
    pub fn read(directory: &Path) -> Result<Self> {
        let read = |name: &str| NamedJson::read(directory.join(name));
        Ok(Self {
            directory: directory.to_path_buf(),
            config: read("tokenizer_config.json")?,
            map: read("special_tokens_map.json")?,
            added: read("added_tokens.json")?,
            model: read("config.json")?,
        })
    }

    /// A file of the directory, if it exists.
    pub fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        let path = self.directory.join(name);
        Ok(is_there(&path)?.then_some(path))
    }

    /// The tokenizer file: `tokenizer.json`, or the one of the latest version up to 4.57 that `fast_tokenizer_files` lists
    /// (`tokenizer.4.0.0.json`).
    pub fn tokenizer_file(&self) -> Result<Option<PathBuf>> {
        let listed = self.config.as_ref().and_then(|config| config.fields.get("fast_tokenizer_files")?.as_array());
        let version = |name: &str| -> Option<(Vec<u32>, String)> {
            let numbers = name.strip_prefix("tokenizer.")?.strip_suffix(".json")?;
            Some((numbers.split('.').map(str::parse).collect::<std::result::Result<_, _>>().ok()?, name.to_string()))
        };
        let versions = listed.into_iter().flatten().filter_map(|name| version(name.as_str()?));
        let latest = versions.filter(|(numbers, _)| numbers.as_slice() <= [4, 57, 6].as_slice()).max();
        self.file(&latest.map_or_else(|| "tokenizer.json".to_string(), |(_, name)| name))
    }

    /// `vocab_size` of `config.json`: rows of the model's table of tokens.
    pub fn model_rows(&self) -> Option<i64> {
        self.model.as_ref()?.fields.get("vocab_size")?.as_i64()
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `AutoTokenizer`'s class, without the suffix `Fast`, and the source of its name; `None` if no file determines it.
    pub fn class(&self) -> Result<Option<(String, String)>> {
        for file in [&self.config, &self.model].into_iter().flatten() {
            match file.fields.get("tokenizer_class") {
                None | Some(Value::Null) => {}
                Some(Value::String(name)) => {
                    let place = format!("tokenizer_class in {}", file.path.display());
                    return Ok(Some((name.strip_suffix("Fast").unwrap_or(name).to_string(), place)));
                }
                Some(other) => {
                    let message = format!("`tokenizer_class` must be the name of a class, found {other}");
                    return Err(Error::format(&file.path, message));
                }
            }
        }
        let Some(model) = &self.model else { return Ok(None) };
        let Some(kind) = model.fields.get("model_type").and_then(Value::as_str) else { return Ok(None) };
        let place = format!("model_type `{kind}` in {}, without a tokenizer_class", model.path.display());
        Ok(class_of_model(kind).map(|class| (class.to_string(), place)))
    }

    /// A boolean field of `tokenizer_config.json`.
    pub fn flag(&self, key: &str) -> Result<Flag> {
        let Some(config) = &self.config else { return Ok(Flag::Absent) };
        match config.fields.get(key) {
            None => Ok(Flag::Absent),
            Some(Value::Null) => Ok(Flag::Null),
            Some(Value::Bool(value)) => Ok(Flag::Set(*value)),
            // Python's truth of numbers.
            Some(Value::Number(number)) if [Some(0), Some(1)].contains(&number.as_i64()) => {
                Ok(Flag::Set(number.as_i64() == Some(1)))
            }
            Some(other) => Err(Error::format(&config.path, format!("`{key}` must be true or false, found {other}"))),
        }
    }

    /// Refuses fields of `tokenizer_config.json` that let transformers read other files or patterns than those of the directory, or
    /// fail; `converts`: the vocabulary is that of the slow class.
    pub fn refuse_redirections(&self, converts: bool) -> Result<()> {
        let Some(config) = &self.config else { return Ok(()) };
        let fail = |problem: String| Err(Error::format(&config.path, problem));
        for key in ["from_slow", "fix_mistral_regex"] {
            if self.flag(key)? == Flag::Set(true) {
                return fail(format!(
                    "`{key}` is not supported: apply it in transformers, save the tokenizer and remove the field"
                ));
            }
        }
        let files: &[&str] =
            if converts { &["tokenizer_file", "vocab_file", "merges_file"] } else { &["tokenizer_file"] };
        match files.iter().find(|key| config.fields.contains_key(**key)) {
            Some(key) => fail(format!("`{key}` names another file for the vocabulary; remove the field")),
            None if config.fields.get("init_inputs").is_some_and(|list| *list != Value::Array(Vec::new())) => {
                fail("`init_inputs` is not supported, transformers fails too; remove the field".into())
            }
            None => Ok(()),
        }
    }

    /// The chat templates of the checkpoint by name; the main one is called `default`.
    pub fn chat_templates(&self) -> Result<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        if let Some(config) = &self.config {
            match config.fields.get("chat_template") {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => {
                    found.insert("default".to_string(), text.clone());
                }
                // A field `chat_template` of either form is replaced by files.
                Some(Value::Object(named)) => {
                    let texts =
                        named.iter().filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_string())));
                    found.extend(texts);
                }
                Some(Value::Array(list)) => {
                    for entry in list {
                        let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_string);
                        if let (Some(name), Some(template)) = (text("name"), text("template")) {
                            found.insert(name, template);
                        }
                    }
                }
                Some(other) => {
                    let message = format!("`chat_template` must be a text or a list of named texts, found {other}");
                    return Err(Error::format(&config.path, message));
                }
            }
        }
        let files = self.chat_files()?;
        if files.is_empty() {
            return Ok(found);
        }
        files.into_iter().map(|(name, path)| Ok((name, read_text(&path)?))).collect()
    }

    /// The files of chat templates by the template's name; they replace those of `tokenizer_config.json`.
    fn chat_files(&self) -> Result<BTreeMap<String, PathBuf>> {
        let mut found = BTreeMap::new();
        found.extend(self.file("chat_template.jinja")?.map(|path| ("default".to_string(), path)));
        let more = self.directory.join("additional_chat_templates");
        if more.is_dir() {
            for entry in fs::read_dir(&more).map_err(Error::io("read", &more))? {
                let path = entry.map_err(Error::io("read", &more))?.path();
                let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jinja"));
                if let Some(name) = name {
                    found.insert(name.to_string(), path);
                }
            }
        }
        Ok(found)
    }

    /// The special tokens that the files name, and the tokens added to the vocabulary by id; `stored` are those of
    /// `tokenizer.json`, if there is one.
    ///
    /// `special_tokens_map.json` and `added_tokens.json` are read only if `tokenizer_config.json` has no
    /// `added_tokens_decoder`.
    pub fn tokens(&self, stored: Option<BTreeMap<i64, Token>>) -> Result<(SpecialTokens, BTreeMap<i64, Token>)> {
        let mut special = SpecialTokens::default();
        if let Some(config) = &self.config {
            for key in KEYS.into_iter().chain([ADDITIONAL, EXTRA]) {
                if let Some(value) = config.fields.get(key) {
                    special.set(key, value, true).map_err(|problem| Error::format(&config.path, problem))?;
                }
            }
        }
        let mut added = BTreeMap::new();
        // Which spelling of a token the special tokens that are given as texts take.
        let mut known: BTreeMap<String, Token> = BTreeMap::new();
        let decoder =
            self.config.as_ref().and_then(|config| Some((&config.path, config.fields.get("added_tokens_decoder")?)));
        if let Some((path, decoder)) = decoder {
            let wrong = |problem: String| Error::format(path, format!("`added_tokens_decoder`: {problem}"));
            let entries = decoder.as_object().ok_or_else(|| wrong("must be an object of tokens by id".to_string()))?;
            for (id, entry) in entries {
                let number = id.parse().map_err(|_| wrong(format!("`{id}` is not a token id")))?;
                let token = Token::parse(entry).map_err(&wrong)?;
                known.insert(token.content.clone(), token.clone());
                added.insert(number, token);
            }
        } else {
            if let Some(map) = &self.map {
                let keys = KEYS.into_iter().chain([ADDITIONAL]);
                for (key, value) in keys.filter_map(|key| Some((key, map.fields.get(key)?))) {
                    special.set(key, value, false).map_err(|problem| Error::format(&map.path, problem))?;
                }
            }
            if let Some(file) = &self.added {
                let names = special.contents();
                for (content, id) in &file.fields {
                    let Some(id) = id.as_i64() else {
                        return Err(Error::format(&file.path, format!("`{content}` has {id} for a token id")));
                    };
                    let is_special = names.contains(content);
                    let token =
                        Token { normalized: Some(!is_special), special: is_special, ..Token::plain(content.clone()) };
                    added.insert(id, token);
                }
            }
            for (id, token) in stored.into_iter().flatten() {
                known.insert(token.content.clone(), token.clone());
                added.insert(id, token);
            }
        }
        special.spell(&known);
        Ok((special, added))
    }

    /// The files read in addition to the vocabulary.
    pub fn paths(&self) -> Vec<PathBuf> {
        let tokenizer = [&self.config, &self.map, &self.added].into_iter().flatten();
        tokenizer.map(|file| file.path.clone()).collect()
    }

    /// The file that names special tokens, for messages.
    pub fn config_path(&self) -> PathBuf {
        self.config.as_ref().map_or_else(|| self.directory.join("tokenizer_config.json"), |config| config.path.clone())
    }
}
