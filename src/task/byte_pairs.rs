//! The byte-level BPE tokenizer in a GGUF file's metadata.
//!
//! How a text is cut before pairs are merged is not in the file, only the name of a rule: rules that are not known here
//! are refused, since others would give other tokens without a sign of it. Source of the rules: the `tokenizer.json` of
//! GPT-2 and SmolLM2.

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PreTokenizerWrapper, Tokenizer};

use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value};

/// Types of tokens that are never made of a text's letters: control tokens, and those that users defined.
const CONTROL: i128 = 3;
const USER_DEFINED: i128 = 4;

/// The tokenizer of a file.
///
/// # Errors
/// [`Error::Format`] for other kinds of tokenizers, unknown rules, and lists that do not fit each other.
pub(super) fn tokenizer(file: &Gguf) -> Result<Tokenizer> {
    let kind = file.text("tokenizer.ggml.model")?;
    if kind != "gpt2" {
        return Err(
            file.wrong("tokenizer.ggml.model", format!("is `{kind}`; only byte-level BPE (`gpt2`) is supported"))
        );
    }
    let bytes = PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true));
    let cut = match file.text("tokenizer.ggml.pre")? {
        "gpt-2" => bytes,
        // Every digit is a token of its own.
        "smollm" => Sequence::new(vec![Digits::new(true).into(), bytes]).into(),
        other => {
            let problem = format!("is `{other}`, which is not supported; supported are: gpt-2, smollm");
            return Err(file.wrong("tokenizer.ggml.pre", problem));
        }
    };
    let tokens = texts(file, "tokenizer.ggml.tokens")?;
    let pairs = texts(file, "tokenizer.ggml.merges")?;
    let merges = pairs.iter().map(|pair| {
        let (left, right) = pair.split_once(' ').ok_or_else(|| {
            file.wrong("tokenizer.ggml.merges", format!("has `{pair}`, which is not two tokens with a space between"))
        })?;
        Ok((left.to_owned(), right.to_owned()))
    });
    let merges = merges.collect::<Result<Vec<_>>>()?;
    let vocab: Vocab = tokens.iter().zip(0u32..).map(|(token, id)| ((*token).to_owned(), id)).collect();
    let fail = |reason: tokenizers::Error| Error::format(file.path(), format!("its tokenizer: {reason}"));
    let model = BPE::builder().vocab_and_merges(vocab, merges).build().map_err(fail)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(cut));
    let types = file.list("tokenizer.ggml.token_type")?;
    if types.len() != tokens.len() {
        let problem = format!("has {} entries for {} tokens", types.len(), tokens.len());
        return Err(file.wrong("tokenizer.ggml.token_type", problem));
    }
    for (token, kind) in tokens.iter().zip(types) {
        match kind {
            Value::Integer(CONTROL) => {
                tokenizer.add_special_tokens([AddedToken::from(*token, true).normalized(false)]).map_err(fail)?;
            }
            Value::Integer(USER_DEFINED) => {
                tokenizer.add_tokens([AddedToken::from(*token, false).normalized(false)]).map_err(fail)?;
            }
            _ => {}
        }
    }
    if file.flag("tokenizer.ggml.add_bos_token")? {
        let id = file.index("tokenizer.ggml.bos_token_id")?;
        let Some(token) = tokens.get(id) else {
            return Err(file.wrong("tokenizer.ggml.bos_token_id", format!("is {id}, beyond {} tokens", tokens.len())));
        };
        let mut template = TemplateProcessing::builder();
        let template = template.try_single(vec![(*token).to_owned(), "$A".to_owned()]);
        let template = template.map_err(|reason| Error::format(file.path(), format!("its tokenizer: {reason}")))?;
        let built = template.special_tokens(vec![((*token).to_owned(), id as u32)]).build();
        let built = built.map_err(|reason| Error::format(file.path(), format!("its tokenizer: {reason}")))?;
        tokenizer.with_post_processor(Some(built));
    }
    Ok(tokenizer)
}

/// A list of texts.
fn texts<'a>(file: &'a Gguf, field: &str) -> Result<Vec<&'a str>> {
    let text = |value: &'a Value| match value {
        Value::Text(text) => Ok(text.as_str()),
        other => Err(file.wrong(field, format!("must be a list of texts, found {other} in it"))),
    };
    file.list(field)?.iter().map(text).collect()
}
