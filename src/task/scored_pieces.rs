//! The SentencePiece tokenizer in a GGUF file's metadata: pieces with scores, as for Llama 2, Mistral and Gemma.
//!
//! The file has no merges. They are derived from the scores ([`merges`](super::merges)) as in the conversion of
//! SentencePiece models to fast tokenizers. Source: `LlamaConverter` of transformers.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Prepend, Replace, Sequence};
use tokenizers::{NormalizerWrapper, Tokenizer};

use super::listed_tokens::{TokenKind, kinds, texts};
use super::merges::merges;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value};

/// The mark that stands for a space.
const MARK: &str = "▁";

/// The tokenizer of a file without its control tokens, and its tokens.
///
/// # Errors
/// [`Error::Format`] if the lists are inconsistent.
pub(super) fn tokenizer(file: &Gguf) -> Result<(Tokenizer, Vec<String>)> {
    let tokens = pieces(file)?;
    let scores = scores(file, tokens.len())?;
    let unk = match file.field("tokenizer.ggml.unknown_token_id") {
        None => 0,
        Some(_) => file.index("tokenizer.ggml.unknown_token_id")?,
    };
    let Some(unk) = tokens.get(unk) else {
        let problem = format!("is {unk}, beyond {} tokens", tokens.len());
        return Err(file.wrong("tokenizer.ggml.unknown_token_id", problem));
    };
    let fail = |reason: tokenizers::Error| Error::format(file.path(), format!("its tokenizer: {reason}"));
    let vocab: Vocab = tokens.iter().zip(0u32..).map(|(token, id)| (token.clone(), id)).collect();
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let scored: Vec<(String, f64)> = tokens.iter().cloned().zip(scores).collect();
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges(&scored, &ids))
        .unk_token(unk.clone())
        .fuse_unk(true)
        .byte_fallback(true)
        .build()
        .map_err(fail)?;
    let mut tokenizer = Tokenizer::new(model);
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    if file.flag("tokenizer.ggml.add_space_prefix", true)? {
        normalizers.push(Prepend::new(MARK.to_owned()).into());
    }
    normalizers.push(Replace::new(" ", MARK).map_err(fail)?.into());
    tokenizer.with_normalizer(Some(Sequence::new(normalizers)));
    Ok((tokenizer, tokens))
}

/// The tokens in SentencePiece's form: in user-defined tokens the files have spaces instead of its mark.
fn pieces(file: &Gguf) -> Result<Vec<String>> {
    let tokens = texts(file, "tokenizer.ggml.tokens")?;
    let kinds = kinds(file, tokens.len())?;
    let piece = |(token, kind): (&&str, &TokenKind)| match kind {
        TokenKind::UserDefined => token.replace(' ', MARK),
        _ => (*token).to_owned(),
    };
    Ok(tokens.iter().zip(&kinds).map(piece).collect())
}

fn scores(file: &Gguf, tokens: usize) -> Result<Vec<f64>> {
    const FIELD: &str = "tokenizer.ggml.scores";
    let list = file.list(FIELD)?;
    if list.len() != tokens {
        return Err(file.wrong(FIELD, format!("has {} entries for {tokens} tokens", list.len())));
    }
    let number = |value: &Value| match value {
        Value::Number(score) if score.is_finite() => Ok(*score),
        other => Err(file.wrong(FIELD, format!("must be a list of numbers, found {other} in it"))),
    };
    list.iter().map(number).collect()
}
