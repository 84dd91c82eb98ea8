//! Tokenizers from the files of slow classes: `vocab.txt`, or `vocab.json` with `merges.txt`.
//!
//! Source of the rules: `convert_slow_tokenizer.py` and the slow classes of transformers 4.57.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::{ModelWrapper, Tokenizer};

use super::class::{Class, Pairs, Vocabulary};
use super::converted::{Converted, component};
use super::files::{Flag, Settings};
use super::sentence_piece;
use super::special::SpecialTokens;
use crate::error::{Error, Result};
use crate::files::{read_text, read_whole};

/// Qwen2's pre-tokenization rule.
const QWEN2_CUT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Converts the files of a class; `None` if they are missing.
pub(super) fn convert(class: &Class, settings: &Settings, special: &SpecialTokens) -> Result<Option<Converted>> {
    match class.vocabulary {
        Vocabulary::None => Ok(None),
        Vocabulary::WordPiece => {
            let Some(path) = settings.file("vocab.txt")? else { return Ok(None) };
            word_piece(path, settings, special).map(Some)
        }
        Vocabulary::Pairs(pairs) => {
            let (Some(vocab), Some(merges)) = (settings.file("vocab.json")?, settings.file("merges.txt")?) else {
                return Ok(None);
            };
            byte_pairs(pairs, vocab, &merges, settings, special).map(Some)
        }
        Vocabulary::SentencePiece(name, kind) => {
            let Some(path) = settings.file(name)? else { return Ok(None) };
            sentence_piece::convert(kind, &path, settings, special).map(Some)
        }
    }
}

/// A role's token, for which all of these classes have a default unless it is set to `null`.
fn role(special: &SpecialTokens, key: &str, source: &Path) -> Result<String> {
    let missing = || Error::format(source, format!("the tokenizer has no {key}; name it in tokenizer_config.json"));
    special.role(key).map(str::to_string).ok_or_else(missing)
}

/// A file's lines as Python reads them, with three kinds of line ends.
fn python_text(path: &Path) -> Result<String> {
    Ok(read_text(path)?.replace("\r\n", "\n").replace('\r', "\n"))
}

/// BERT's tokenizer from a list of tokens, one per line.
fn word_piece(source: PathBuf, settings: &Settings, special: &SpecialTokens) -> Result<Converted> {
    let text = python_text(&source)?;
    let lines = text.strip_suffix('\n').unwrap_or(&text).split('\n');
    let vocab: Vocab = lines.zip(0u32..).map(|(token, id)| (token.to_string(), id)).collect();
    let unk = role(special, "unk_token", &source)?;
    if !vocab.contains_key(&unk) {
        let message = format!(
            "the vocabulary has no line `{unk}`, the token for unknown words; if it has another name, give it as \
             \"unk_token\" in `tokenizer_config.json` beside this file"
        );
        return Err(Error::format(source, message));
    }
    let fail = |reason: tokenizers::Error| Error::format(&source, format!("not a BERT vocabulary: {reason}"));
    let model = WordPiece::builder().vocab(vocab).unk_token(unk).build().map_err(fail)?;
    let mut inner = Tokenizer::new(model);
    // Off as in the slow class's normalizer; the fast class then sets them as for any file.
    let basic = settings.flag("do_basic_tokenize")?.or(true);
    let accents = match settings.flag("strip_accents")? {
        Flag::Set(value) if basic => json!(value),
        _ if basic => json!(null),
        _ => json!(false),
    };
    let normalizer = json!({
        "type": "BertNormalizer",
        "clean_text": true,
        "handle_chinese_chars": basic && settings.flag("tokenize_chinese_chars")?.or(true),
        "strip_accents": accents,
        "lowercase": basic && settings.flag("do_lower_case")?.or(true),
    });
    let normalizer: tokenizers::NormalizerWrapper = component(&source, normalizer)?;
    inner.with_normalizer(Some(normalizer));
    let cut: tokenizers::PreTokenizerWrapper = component(&source, json!({"type": "BertPreTokenizer"}))?;
    inner.with_pre_tokenizer(Some(cut));
    let (before, after) = (role(special, "cls_token", &source)?, role(special, "sep_token", &source)?);
    Ok(Converted { inner, source, before: vec![before], after: vec![after] })
}

/// A byte-level tokenizer from its vocabulary and merges.
fn byte_pairs(
    kind: Pairs,
    source: PathBuf,
    merges: &Path,
    settings: &Settings,
    special: &SpecialTokens,
) -> Result<Converted> {
    let bytes = read_whole(&source)?;
    let vocab: BTreeMap<String, u32> = serde_json::from_slice(&bytes)
        .map_err(|reason| Error::format(&source, format!("not a vocabulary (token → id): {reason}")))?;
    let vocab: Vocab = vocab.into_iter().collect();
    let pairs = read_merges(kind, merges)?;
    let fail = |reason: tokenizers::Error| {
        let message = format!("does not match the vocabulary in {}: {reason}", source.display());
        Error::format(merges, message)
    };
    let model = BPE::builder()
        .vocab_and_merges(vocab, pairs)
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix(String::new())
        .build()
        .map_err(fail)?;
    let mut inner = Tokenizer::new(ModelWrapper::from(model));
    let space = prefix_space(kind, settings)?;
    let byte_level = |space: bool, cut: bool| json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": cut});
    let cut = if kind == Pairs::Qwen2 {
        let normalizer: tokenizers::NormalizerWrapper = component(&source, json!({"type": "NFC"}))?;
        inner.with_normalizer(Some(normalizer));
        let split = json!({"type": "Split", "pattern": {"Regex": QWEN2_CUT}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, byte_level(space, false)]})
    } else {
        byte_level(space, true)
    };
    let cut: tokenizers::PreTokenizerWrapper = component(&source, cut)?;
    inner.with_pre_tokenizer(Some(cut));
    let (before, after) = match kind {
        Pairs::Roberta => (vec![role(special, "cls_token", &source)?], vec![role(special, "sep_token", &source)?]),
        Pairs::Gpt2 if settings.flag("add_bos_token")? == Flag::Set(true) => {
            (vec![role(special, "bos_token", &source)?], Vec::new())
        }
        Pairs::Gpt2 | Pairs::Qwen2 => (Vec::new(), Vec::new()),
    };
    Ok(Converted { inner, source, before, after })
}

/// Whether texts get a preceding space; the slow classes fail on values that the fast ones ignore.
fn prefix_space(kind: Pairs, settings: &Settings) -> Result<bool> {
    let wrong = |problem: &str| {
        Err(Error::format(settings.config_path(), format!("`add_prefix_space` {problem} without a tokenizer.json")))
    };
    match settings.flag("add_prefix_space")? {
        Flag::Null if kind != Pairs::Qwen2 => wrong("must be true or false, found null"),
        Flag::Set(true) if kind == Pairs::Qwen2 => wrong("must not be true for Qwen2's tokenizer"),
        flag => Ok(flag.or(false)),
    }
}

/// The pairs of `merges.txt` in order. GPT-2's class skips the first line and text after the last line end; Qwen2's skips a
/// line with the version and empty lines.
fn read_merges(kind: Pairs, path: &Path) -> Result<Merges> {
    let text = python_text(path)?;
    let lines: Vec<(usize, &str)> = if kind == Pairs::Qwen2 {
        let lines = text.split('\n').enumerate();
        lines
            .map(|(at, line)| (at, line.trim()))
            .filter(|(at, line)| !(line.is_empty() || *at == 0 && line.starts_with("#version:")))
            .collect()
    } else {
        let lines: Vec<_> = text.split('\n').enumerate().collect();
        let last = lines.len().saturating_sub(1);
        lines.get(1..last.max(1)).unwrap_or_default().to_vec()
    };
    let mut seen = std::collections::HashSet::new();
    let mut merges = Merges::new();
    for (at, line) in lines {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let [left, right] = parts[..] else {
            return Err(Error::row(path, at + 1, format!("`{line}` is not two tokens with a space between")));
        };
        // Slow and fast classes rank a repeated pair differently.
        if !seen.insert((left, right)) {
            return Err(Error::row(path, at + 1, format!("`{line}` comes twice")));
        }
        merges.push((left.to_string(), right.to_string()));
    }
    Ok(merges)
}
