//! Tokenizers from SentencePiece models: the relevant fields of the file, and its conversion.
//!
//! The file is a protocol buffer (`sentencepiece_model.proto`): pieces with scores and types, and settings of training and
//! normalization. Source of the conversion: `convert_slow_tokenizer.py` of transformers 4.57, class by class.

use std::collections::HashMap;
use std::panic;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::{Precompiled, Sequence};
use tokenizers::{AddedToken, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use super::class::SentencePiece;
use super::converted::{Converted, component};
use super::files::{Flag, Settings};
use super::special::SpecialTokens;
use crate::error::{Error, Result, panic_text};
use crate::files::read_whole;
use crate::task::merges::merges;

/// Types of pieces.
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// Kinds of models.
const UNIGRAM: u64 = 1;
const PAIRS: u64 = 2;

/// The mark for a space.
const MARK: &str = "▁";

/// A piece of the vocabulary.
#[derive(Clone)]
struct Piece {
    text: String,
    score: f32,
    kind: u64,
}

/// The fields read from the file.
struct Model {
    pieces: Vec<Piece>,
    kind: u64,
    unk_id: usize,
    unk_piece: String,
    charsmap: Vec<u8>,
}

/// A field of a protocol buffer: its number and its value.
enum Field<'a> {
    Number(u64),
    Bits(u32),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message in order; `None` for a truncated one.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Option<(u64, Field<'_>)>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = next_field(&mut rest);
        if field.is_none() {
            rest = &[];
        }
        Some(field)
    })
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = varint(rest)?;
    let field = match tag & 7 {
        0 => Field::Number(varint(rest)?),
        1 => {
            take(rest, 8)?;
            Field::Other
        }
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Field::Bytes(take(rest, length)?)
        }
        5 => Field::Bits(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?)),
        _ => return None,
    };
    Some((tag >> 3, field))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

impl Model {
    fn read(path: &Path) -> Result<Self> {
        let bytes = read_whole(path)?;
        let model = Self::parse(&bytes).filter(|model| !model.pieces.is_empty());
        model.ok_or_else(|| {
            Error::format(
                path,
                "not a SentencePiece model; tiktoken vocabularies are not supported: save the checkpoint with its \
                 fast tokenizer (tokenizer.json)",
            )
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut model =
            Self { pieces: Vec::new(), kind: UNIGRAM, unk_id: 0, unk_piece: "<unk>".to_string(), charsmap: Vec::new() };
        for field in fields(bytes) {
            match field? {
                (1, Field::Bytes(piece)) => model.pieces.push(Piece::parse(piece)?),
                (2, Field::Bytes(trainer)) => {
                    for field in fields(trainer) {
                        match field? {
                            (3, Field::Number(kind)) => model.kind = kind,
                            (40, Field::Number(id)) => model.unk_id = usize::try_from(id).ok()?,
                            (45, Field::Bytes(text)) => model.unk_piece = text_of(text)?,
                            _ => {}
                        }
                    }
                }
                (3, Field::Bytes(normalizer)) => {
                    for field in fields(normalizer) {
                        if let (2, Field::Bytes(charsmap)) = field? {
                            model.charsmap = charsmap.to_vec();
                        }
                    }
                }
                _ => {}
            }
        }
        Some(model)
    }
}

impl Piece {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut piece = Self { text: String::new(), score: 0.0, kind: 1 };
        for field in fields(bytes) {
            match field? {
                (1, Field::Bytes(text)) => piece.text = text_of(text)?,
                (2, Field::Bits(bits)) => piece.score = f32::from_bits(bits),
                (3, Field::Number(kind)) => piece.kind = kind,
                _ => {}
            }
        }
        Some(piece)
    }
}

fn text_of(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// A family's vocabulary, its unknown token's id, and the tokens around a text.
struct Layout {
    vocab: Vec<(String, f64)>,
    unk_id: usize,
    before: Vec<String>,
    after: Vec<String>,
    /// Unknown characters become their bytes.
    bytes: bool,
}

/// Converts a model for a family of classes.
pub(super) fn convert(
    kind: SentencePiece,
    source: &Path,
    settings: &Settings,
    special: &SpecialTokens,
) -> Result<Converted> {
    // The library panics on some damaged models.
    let converted = panic::catch_unwind(|| convert_model(kind, source.to_path_buf(), settings, special));
    converted
        .unwrap_or_else(|panic| Err(Error::format(source, format!("cannot be converted: {}", panic_text(&*panic)))))
}

fn convert_model(
    kind: SentencePiece,
    source: PathBuf,
    settings: &Settings,
    special: &SpecialTokens,
) -> Result<Converted> {
    let model = Model::read(&source)?;
    let layout = layout(kind, &model, special, &source)?;
    let mut inner = tokenizer(kind, &model, &layout, &source)?;
    let (normalizer, cut) = components(kind, &model, settings, &source)?;
    if let Some(normalizer) = normalizer {
        inner.with_normalizer(Some(normalizer));
    }
    if let Some(cut) = cut {
        inner.with_pre_tokenizer(Some(cut));
    }
    Ok(Converted { inner, source, before: layout.before, after: layout.after })
}

fn layout(kind: SentencePiece, model: &Model, special: &SpecialTokens, source: &Path) -> Result<Layout> {
    let scored = |piece: &Piece| (piece.text.clone(), f64::from(piece.score));
    let named = |text: &str| (text.to_string(), 0.0);
    let role = |key: &str| {
        let missing = || Error::format(source, format!("the tokenizer has no {key}; name it in tokenizer_config.json"));
        special.role(key).map(named).ok_or_else(missing)
    };
    let rest = |from: usize| model.pieces.iter().skip(from).map(scored);
    let around = |before: &str, after: &str| (vec![before.to_string()], vec![after.to_string()]);
    let fairseq = ["<s>", "<pad>", "</s>", "<unk>"];
    let (vocab, unk_id, (before, after), bytes): (Vec<_>, _, _, _) = match kind {
        // The first three pieces keep their places, under the class's names.
        SentencePiece::Llama => (rest(0).collect(), 0, (Vec::new(), Vec::new()), true),
        SentencePiece::Gemma => {
            let mut vocab = vec![role("pad_token")?, role("eos_token")?, role("bos_token")?];
            vocab.extend(rest(3));
            if !vocab.iter().any(|(text, _)| text == "\t")
                && let Some(tab) = vocab.iter_mut().find(|(text, _)| text == "<0x09>")
            {
                *tab = named("\t");
            }
            (vocab, 3, (Vec::new(), Vec::new()), true)
        }
        SentencePiece::XlmRoberta => {
            let vocab = fairseq.map(named).into_iter().chain(rest(3)).chain([named("<mask>")]);
            (vocab.collect(), 3, around("<s>", "</s>"), false)
        }
        SentencePiece::Camembert => {
            let first = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>"].map(named);
            let unused = ("<unk>NOTUSED".to_string(), -100.0);
            let vocab = first.into_iter().chain([unused]).chain(rest(1)).chain([named("<mask>")]);
            (vocab.collect(), 3, around("<s>", "</s>"), false)
        }
        SentencePiece::Albert => {
            let vocab = model.pieces.iter().map(|piece| {
                let (text, score) = scored(piece);
                let less = if number_and_comma(&text) { 100.0 } else { 0.0 };
                (text, score - less)
            });
            (vocab.collect(), model.unk_id, around("[CLS]", "[SEP]"), false)
        }
        SentencePiece::DebertaV2 => (rest(0).collect(), model.unk_id, around("[CLS]", "[SEP]"), false),
    };
    Ok(Layout { vocab, unk_id, before, after, bytes })
}

/// `▁9,`: a piece that ends in a digit and a comma, which ALBERT splits.
fn number_and_comma(text: &str) -> bool {
    let mut last = text.chars().rev();
    last.next() == Some(',') && last.next().is_some_and(char::is_numeric)
}

fn tokenizer(kind: SentencePiece, model: &Model, layout: &Layout, source: &Path) -> Result<Tokenizer> {
    let fail = |reason: tokenizers::Error| Error::format(source, format!("cannot be converted: {reason}"));
    let wrapped: ModelWrapper = match model.kind {
        UNIGRAM => {
            let unigram = Unigram::from(layout.vocab.clone(), Some(layout.unk_id), layout.bytes);
            unigram.map_err(fail)?.into()
        }
        PAIRS => {
            let vocab: Vocab = layout.vocab.iter().zip(0u32..).map(|((text, _), id)| (text.clone(), id)).collect();
            let builder = BPE::builder()
                .vocab_and_merges(vocab, merges(&layout.vocab, &ids(kind, model)))
                .unk_token(model.unk_piece.clone())
                .fuse_unk(true)
                .byte_fallback(layout.bytes);
            builder.build().map_err(fail)?.into()
        }
        other => {
            let message =
                format!("a SentencePiece model of kind {other}; only unigram (1) and BPE (2) models are converted");
            return Err(Error::format(source, message));
        }
    };
    let mut inner = Tokenizer::new(wrapped);
    let marked = ["<start_of_turn>", "<end_of_turn>"];
    let added = model.pieces.iter().filter(|piece| matches!(piece.kind, CONTROL | USER_DEFINED)).map(|piece| {
        let named = kind == SentencePiece::Gemma && marked.contains(&piece.text.as_str());
        AddedToken::from(piece.text.clone(), piece.kind == CONTROL || named).normalized(false)
    });
    inner.add_tokens(&added.collect::<Vec<_>>());
    Ok(inner)
}

/// The ids of merge parts in the model, where the special pieces have their own names.
fn ids(kind: SentencePiece, model: &Model) -> HashMap<&str, usize> {
    let mut ids: HashMap<&str, usize> = HashMap::with_capacity(model.pieces.len());
    for (id, piece) in model.pieces.iter().enumerate() {
        ids.insert(&piece.text, id);
    }
    if kind == SentencePiece::Gemma
        && !ids.contains_key("\t")
        && let Some(id) = ids.get("<0x09>").copied()
    {
        ids.insert("\t", id);
    }
    ids
}

/// Normalization and pre-tokenization.
fn components(
    kind: SentencePiece,
    model: &Model,
    settings: &Settings,
    source: &Path,
) -> Result<(Option<NormalizerWrapper>, Option<PreTokenizerWrapper>)> {
    let charsmap = || -> Result<Option<NormalizerWrapper>> {
        if model.charsmap.is_empty() {
            return Ok(None);
        }
        let read = Precompiled::from(&model.charsmap);
        let read =
            read.map_err(|reason| Error::format(source, format!("its normalization cannot be read: {reason:?}")))?;
        Ok(Some(read.into()))
    };
    let space = settings.flag("add_prefix_space")?.or(true);
    let legacy = !matches!(settings.flag("legacy")?, Flag::Set(false));
    let metaspace = |scheme: &str, split: bool| json!({"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": split});
    let to_mark = json!({"type": "Replace", "pattern": {"String": " "}, "content": MARK});
    let spaces_to = |content: &str| json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": content});
    let list = |values: Vec<Value>| -> Result<Vec<NormalizerWrapper>> {
        values.into_iter().map(|value| component(source, value)).collect()
    };
    let quotes = |marks: &str| json!({"type": "Replace", "pattern": {"String": marks}, "content": "\""});
    let lower = settings.flag("do_lower_case")?;
    match kind {
        SentencePiece::Llama if legacy => {
            let mut parts = Vec::new();
            if space {
                parts.push(json!({"type": "Prepend", "prepend": MARK}));
            }
            parts.push(to_mark);
            Ok((Some(Sequence::new(list(parts)?).into()), None))
        }
        SentencePiece::Llama => {
            let scheme = if space { "first" } else { "never" };
            Ok((None, Some(component(source, metaspace(scheme, false))?)))
        }
        SentencePiece::Gemma => {
            let split =
                json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
            Ok((Some(component(source, to_mark)?), Some(component(source, split)?)))
        }
        SentencePiece::XlmRoberta | SentencePiece::Camembert => {
            let mut parts: Vec<NormalizerWrapper> = charsmap()?.into_iter().collect();
            parts.extend(list(vec![
                json!({"type": "Strip", "strip_left": false, "strip_right": true}),
                spaces_to(MARK),
            ])?);
            Ok((Some(Sequence::new(parts).into()), Some(component(source, metaspace("always", true))?)))
        }
        SentencePiece::Albert => {
            let mut first = vec![quotes("``"), quotes("''")];
            if !settings.flag("keep_accents")?.or(false) {
                first.extend([json!({"type": "NFKD"}), json!({"type": "StripAccents"})]);
            }
            if lower.or(true) {
                first.push(json!({"type": "Lowercase"}));
            }
            let mut parts = list(first)?;
            parts.extend(charsmap()?);
            parts.extend(list(vec![spaces_to(" ")])?);
            Ok((Some(Sequence::new(parts).into()), Some(component(source, metaspace("always", true))?)))
        }
        SentencePiece::DebertaV2 => {
            let mut first = Vec::new();
            if lower.or(false) {
                first.push(json!({"type": "Lowercase"}));
            }
            first.push(json!({"type": "Strip", "strip_left": true, "strip_right": true}));
            let mut parts = list(first)?;
            parts.extend(charsmap()?);
            parts.extend(list(vec![spaces_to(" ")])?);
            let mut cuts = Vec::new();
            if settings.flag("split_by_punct")?.or(false) {
                cuts.push(json!({"type": "Punctuation", "behavior": "Isolated"}));
            }
            cuts.push(metaspace("always", true));
            let cut = component(source, json!({"type": "Sequence", "pretokenizers": cuts}))?;
            Ok((Some(Sequence::new(parts).into()), Some(cut)))
        }
    }
}
