//! Changes that transformers' classes make to a tokenizer after reading it: the space before texts, BERT's normalizer,
//! tokens around texts.
//!
//! Components are changed in their JSON form, as in transformers. Source: `PreTrainedTokenizerFast.__init__` and the
//! classes' own constructors in transformers 4.57.

use std::path::Path;

use serde_json::{Value, json};
use tokenizers::{NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer};

use super::class::{Class, Rule};
use super::files::{Flag, Settings};
use super::special::SpecialTokens;
use crate::error::{Error, Result};

/// Applies the changes of every class, then those of this one.
pub(super) fn apply(
    inner: &mut Tokenizer,
    class: &Class,
    settings: &Settings,
    special: &SpecialTokens,
    source: &Path,
) -> Result<()> {
    prefix_space(inner, class, settings.flag("add_prefix_space")?, source)?;
    inner.set_encode_special_tokens(settings.flag("split_special_tokens")?.or(false));
    match class.rule {
        Rule::Bert => bert_normalizer(inner, settings, source, true),
        Rule::MpNet => bert_normalizer(inner, settings, source, false),
        Rule::NoBos if settings.flag("add_bos_token")?.or(false) => Err(Error::format(
            settings.config_path(),
            format!(
                "`add_bos_token` is true, which transformers' fast class {} refuses too; set it to false",
                class.name
            ),
        )),
        Rule::Plain | Rule::NoBos => Ok(()),
        Rule::BosAndEos { bos } => bos_and_eos(inner, settings, special, source, bos),
    }
}

/// A component in its JSON form.
fn written(component: Option<&impl serde::Serialize>) -> Option<Value> {
    component.and_then(|component| serde_json::to_value(component).ok())
}

fn wrong(source: &Path) -> impl Fn(serde_json::Error) -> Error + '_ {
    move |reason| Error::format(source, format!("the changes of its class cannot be applied: {reason}"))
}

/// A byte-level pre-tokenizer adds a space before texts according to `add_prefix_space`, whatever `tokenizer.json` says.
fn prefix_space(inner: &mut Tokenizer, class: &Class, flag: Flag, source: &Path) -> Result<()> {
    let wanted = match flag {
        Flag::Set(wanted) => wanted,
        Flag::Null if class.name == "RobertaTokenizer" => {
            return Err(Error::format(
                source,
                "`add_prefix_space` in tokenizer_config.json must be true or false, found null",
            ));
        }
        // Llama's class passes on no value; `null` is rejected by the component and ignored.
        Flag::Null => return Ok(()),
        Flag::Absent if class.name == "LlamaTokenizer" => return Ok(()),
        Flag::Absent => false,
    };
    let Some(mut cut) = written(inner.get_pre_tokenizer()) else { return Ok(()) };
    if cut["type"] == "ByteLevel" && cut["add_prefix_space"] != wanted {
        cut["add_prefix_space"] = wanted.into();
        let changed: PreTokenizerWrapper = serde_json::from_value(cut).map_err(wrong(source))?;
        inner.with_pre_tokenizer(Some(changed));
    }
    Ok(())
}

fn bert_normalizer(inner: &mut Tokenizer, settings: &Settings, source: &Path, chinese: bool) -> Result<()> {
    let lower = match settings.flag("do_lower_case")? {
        Flag::Absent => Value::Bool(true),
        Flag::Null => Value::Null,
        Flag::Set(value) => Value::Bool(value),
    };
    let accents = match settings.flag("strip_accents")? {
        Flag::Absent | Flag::Null => Value::Null,
        Flag::Set(value) => Value::Bool(value),
    };
    let characters = settings.flag("tokenize_chinese_chars")?;
    let Some(before) = written(inner.get_normalizer()) else {
        return Err(Error::format(
            source,
            "has no normalizer, which its class (BERT's) requires; if that is intended, set \"tokenizer_class\" in \
             tokenizer_config.json to \"PreTrainedTokenizerFast\"",
        ));
    };
    if before["type"] != "BertNormalizer" {
        return Ok(());
    }
    if lower.is_null() || characters == Flag::Null {
        let key = if lower.is_null() { "do_lower_case" } else { "tokenize_chinese_chars" };
        return Err(Error::format(settings.config_path(), format!("`{key}` must be true or false, found null")));
    }
    let mut after = before.clone();
    after["lowercase"] = lower;
    after["strip_accents"] = accents;
    if chinese {
        after["handle_chinese_chars"] = characters.or(true).into();
    }
    if after == before {
        return Ok(());
    }
    let before: NormalizerWrapper = serde_json::from_value(before).map_err(wrong(source))?;
    let after: NormalizerWrapper = serde_json::from_value(after).map_err(wrong(source))?;
    refuse_moved_tokens(inner, &before, &after, settings)?;
    inner.with_normalizer(Some(after));
    Ok(())
}

/// Versions of the tokenizers library differ in whether tokens matched in the normalized text follow a normalizer that is
/// replaced later.
fn refuse_moved_tokens(
    inner: &Tokenizer,
    before: &NormalizerWrapper,
    after: &NormalizerWrapper,
    settings: &Settings,
) -> Result<()> {
    use tokenizers::{NormalizedString, Normalizer as _};
    let normal = |normalizer: &NormalizerWrapper, text: &str| {
        let mut text = NormalizedString::from(text);
        normalizer.normalize(&mut text).map(|()| text.get().to_string()).unwrap_or_default()
    };
    let tokens = inner.get_added_tokens_decoder();
    let moved = tokens.values().filter(|token| token.normalized);
    let mut moved: Vec<_> =
        moved.filter(|t| normal(before, &t.content) != normal(after, &t.content)).map(|t| &t.content).collect();
    moved.sort();
    match moved.first() {
        None => Ok(()),
        Some(token) => Err(Error::format(
            settings.config_path(),
            format!(
                "do_lower_case, strip_accents and tokenize_chinese_chars override the normalizer of tokenizer.json, \
                 and the added token `{token}` is matched in the normalized text: versions of the tokenizers library \
                 disagree on this; write the same settings in both files"
            ),
        )),
    }
}

fn bos_and_eos(
    inner: &mut Tokenizer,
    settings: &Settings,
    special: &SpecialTokens,
    source: &Path,
    bos_by_default: bool,
) -> Result<()> {
    let role = |key: &str, flag: &str, default: bool| {
        if !settings.flag(flag)?.or(default) {
            return Ok(None);
        }
        let missing = || Error::format(settings.config_path(), format!("`{flag}` is true, but there is no {key}"));
        special.role(key).map(Some).ok_or_else(missing)
    };
    let bos = role("bos_token", "add_bos_token", bos_by_default)?;
    let eos = role("eos_token", "add_eos_token", false)?;
    let around = surrounded(inner, source, bos.as_slice(), eos.as_slice())?;
    inner.with_post_processor(Some(around));
    Ok(())
}

/// Puts tokens before and after every text.
pub(super) fn surrounded(
    inner: &Tokenizer,
    source: &Path,
    before: &[impl AsRef<str>],
    after: &[impl AsRef<str>],
) -> Result<PostProcessorWrapper> {
    let before: Vec<&str> = before.iter().map(AsRef::as_ref).collect();
    let after: Vec<&str> = after.iter().map(AsRef::as_ref).collect();
    let token = |token: &&str| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let mut ids = serde_json::Map::new();
    for name in before.iter().chain(&after) {
        let missing = || {
            Error::format(
                source,
                format!("the vocabulary has no token `{name}`, which its class puts around every text"),
            )
        };
        let id = inner.token_to_id(name).ok_or_else(missing)?;
        ids.insert((*name).to_string(), json!({"id": name, "ids": [id], "tokens": [name]}));
    }
    let mut single: Vec<Value> = before.iter().map(token).collect();
    single.push(text("A"));
    single.extend(after.iter().map(token));
    let pair = json!([text("A"), text("B")]);
    let processor = json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": ids});
    serde_json::from_value(processor).map_err(wrong(source))
}
