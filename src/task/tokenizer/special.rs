//! Special and added tokens of transformers' classes, and their addition to a vocabulary.
//!
//! A special token is given as a text or as a token with matching rules (whether it absorbs the preceding space, whether it
//! is matched before or after normalization). This decides whether it replaces an existing entry of the vocabulary. Source
//! of the rules: `SpecialTokensMixin` and `PreTrainedTokenizerFast.__init__` of transformers 4.57.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer};

/// The roles of special tokens, in the order in which transformers adds them.
pub(super) const KEYS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The field of special tokens without a role.
pub(super) const ADDITIONAL: &str = "additional_special_tokens";

/// The field of special tokens with a model-specific role, or (in files of transformers 5) without one.
pub(super) const EXTRA: &str = "extra_special_tokens";

/// A token with matching rules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // the library's own fields
pub(super) struct Token {
    pub content: String,
    pub single_word: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    /// Whether it is matched in the normalized text; `None`: unless it is special.
    pub normalized: Option<bool>,
    pub special: bool,
}

impl Token {
    /// A token without rules.
    pub fn plain(content: String) -> Self {
        Self { content, single_word: false, lstrip: false, rstrip: false, normalized: None, special: false }
    }

    /// Reads `{"content": "[MASK]", "lstrip": false, …}`.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let wrong = || format!("{value} is not a token; expected an object with `content`");
        let content = value.get("content").and_then(Value::as_str).ok_or_else(wrong)?;
        let flag = |key: &str| match value.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(format!("`{key}` of the token `{content}` must be true or false, found {other}")),
        };
        Ok(Self {
            content: content.to_string(),
            single_word: flag("single_word")?.unwrap_or(false),
            lstrip: flag("lstrip")?.unwrap_or(false),
            rstrip: flag("rstrip")?.unwrap_or(false),
            normalized: flag("normalized")?,
            special: flag("special")?.unwrap_or(false),
        })
    }

    /// The token in the tokenizers library's form.
    pub fn added(&self) -> AddedToken {
        AddedToken::from(self.content.clone(), self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized.unwrap_or(!self.special))
    }

    /// The reverse.
    pub fn of(token: &AddedToken) -> Self {
        Self {
            content: token.content.clone(),
            single_word: token.single_word,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            normalized: Some(token.normalized),
            special: token.special,
        }
    }
}

/// A special token as a text or as a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Text(String),
    Token(Token),
}

impl Named {
    pub fn content(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Token(token) => &token.content,
        }
    }
}

/// How a class turns the text of a special token into a token.
#[derive(Clone, Copy)]
pub(super) struct Dress {
    pub lstrip: bool,
    pub normalized: Option<bool>,
    pub special: bool,
}

/// The special tokens of a tokenizer by role. An absent role has the class's default; one set to `null` has no token.
#[derive(Clone, Debug, Default)]
pub(super) struct SpecialTokens {
    roles: BTreeMap<&'static str, Option<Named>>,
    additional: Option<Vec<Named>>,
    extra: Vec<Named>,
    /// The roles of `extra`, if the file names them.
    extra_roles: Vec<String>,
}

impl SpecialTokens {
    /// Reads a field of `tokenizer_config.json` (`config`) or `special_tokens_map.json`.
    pub fn set(&mut self, key: &'static str, value: &Value, config: bool) -> Result<(), String> {
        let one = |value: &Value| match value {
            Value::String(text) => Ok(Named::Text(text.clone())),
            Value::Object(_) => {
                let mut token = Token::parse(value)?;
                token.special |= !config;
                Ok(Named::Token(token))
            }
            _ => Err(format!("`{key}` must be a string or an object with `content`")),
        };
        match (key, value) {
            (EXTRA, Value::Object(roles)) => {
                self.extra = roles.values().map(one).collect::<Result<_, _>>()?;
                self.extra_roles = roles.keys().cloned().collect();
            }
            (EXTRA, Value::Array(list)) => self.extra = list.iter().map(one).collect::<Result<_, _>>()?,
            (EXTRA | ADDITIONAL, Value::Null) => {}
            (ADDITIONAL, Value::Array(list)) => {
                let additional = self.additional.get_or_insert_default();
                for entry in list {
                    let named = one(entry)?;
                    if !additional.contains(&named) {
                        additional.push(named);
                    }
                }
            }
            (EXTRA | ADDITIONAL, other) => return Err(format!("`{key}` must be a list of tokens, found {other}")),
            (_, Value::Null) => {
                self.roles.insert(key, None);
            }
            _ => {
                self.roles.insert(key, Some(one(value)?));
            }
        }
        Ok(())
    }

    /// The texts of all tokens.
    pub fn contents(&self) -> BTreeSet<String> {
        self.all().map(|named| named.content().to_string()).collect()
    }

    /// Replaces roles given as texts by the tokens with the same text in `known`.
    pub fn spell(&mut self, known: &BTreeMap<String, Token>) {
        for named in self.roles.values_mut().flatten() {
            if let Some(token) = known.get(named.content()) {
                *named = Named::Token(token.clone());
            }
        }
    }

    /// Fills absent roles from a class's defaults.
    pub fn fill(&mut self, defaults: &[(&'static str, &'static str)], additional: &[&str]) {
        for (key, text) in defaults {
            self.fill_role(key, text);
        }
        let texts = || additional.iter().map(|text| Named::Text((*text).to_string())).collect();
        self.additional.get_or_insert_with(texts);
    }

    /// Fills an absent role.
    pub fn fill_role(&mut self, key: &'static str, text: &str) {
        self.roles.entry(key).or_insert_with(|| Some(Named::Text(text.to_string())));
    }

    /// Turns texts into tokens as a class does.
    pub fn dress(&mut self, rule: impl Fn(&str) -> Option<Dress>) {
        for (key, named) in &mut self.roles {
            if let (Some(Named::Text(text)), Some(Dress { lstrip, normalized, special })) = (&*named, rule(key)) {
                *named = Some(Named::Token(Token { lstrip, normalized, special, ..Token::plain(text.clone()) }));
            }
        }
    }

    /// The token of a role.
    pub fn role(&self, key: &str) -> Option<&str> {
        self.roles.get(key)?.as_ref().map(Named::content)
    }

    /// All of them as transformers' `special_tokens_map`, for chat templates: texts by role.
    pub fn map(&self) -> BTreeMap<String, Value> {
        let roles = KEYS.iter().filter_map(|key| Some(((*key).to_string(), self.role(key)?)));
        let extra = self.extra_roles.iter().cloned().zip(self.extra.iter().map(Named::content));
        let texts = roles.chain(extra).filter(|(_, text)| !text.is_empty());
        let mut map: BTreeMap<String, Value> = texts.map(|(role, text)| (role, text.into())).collect();
        let additional: Vec<&str> = self.additional.iter().flatten().map(Named::content).collect();
        if !additional.is_empty() {
            map.insert(ADDITIONAL.into(), additional.into());
        }
        map
    }

    /// All tokens in the order of [`KEYS`], each text once.
    fn all(&self) -> impl Iterator<Item = &Named> {
        let roles = KEYS.iter().filter_map(|key| self.roles.get(key)?.as_ref());
        let mut seen = BTreeSet::new();
        roles
            .chain(self.additional.iter().flatten())
            .chain(&self.extra)
            .filter(move |named| seen.insert(named.content()))
    }

    /// Adds what the vocabulary lacks: the tokens by id, then special tokens. A special token given as a token replaces the
    /// rules of an existing one.
    pub fn add_to(&self, inner: &mut Tokenizer, decoder: &BTreeMap<i64, Token>) {
        let present: Vec<AddedToken> = inner.get_added_tokens_decoder().values().cloned().collect();
        let mut encoder: BTreeSet<String> = present.iter().map(|token| token.content.clone()).collect();
        let mut add: Vec<Named> = Vec::new();
        for token in decoder.values().filter(|token| !present.contains(&token.added())) {
            encoder.insert(token.content.clone());
            add.push(Named::Token(token.clone()));
        }
        let by_id = add.len();
        for named in self.all().filter(|named| !named.content().is_empty()) {
            let there = match named {
                Named::Text(text) => encoder.contains(text),
                Named::Token(token) => add[..by_id]
                    .iter()
                    .any(|other| matches!(other, Named::Token(other) if other.added() == token.added())),
            };
            if !there {
                add.push(named.clone());
            }
        }
        let special = self.contents();
        let tokens: Vec<AddedToken> = add
            .iter()
            .map(|named| {
                let mut token = match named {
                    Named::Text(text) => Token::plain(text.clone()),
                    Named::Token(token) => token.clone(),
                };
                token.special |= special.contains(named.content());
                token.added()
            })
            .collect();
        inner.add_tokens(&tokens);
    }
}

/// The tokens added by `tokenizer.json`, by id.
pub(super) fn stored_tokens(inner: &Tokenizer) -> BTreeMap<i64, Token> {
    inner.get_added_tokens_decoder().iter().map(|(id, token)| (i64::from(*id), Token::of(token))).collect()
}
