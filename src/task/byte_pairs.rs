//! The tokenizer in a GGUF file's metadata: byte-level BPE here, SentencePiece in [`scored_pieces`].
//!
//! The file does not contain the pre-tokenization rule, only its name: unknown rules are refused, because a wrong one would
//! silently give wrong tokens. Files from before May 2024 have no name; there the architecture and vocabulary determine the
//! rule. Source of the rules: the `tokenizer.json` of GPT-2, SmolLM2, Llama 3 and Qwen2; of their names: llama.cpp's
//! `llama-vocab.cpp`.

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use super::listed_tokens::{TokenKind, kinds, texts};
use super::scored_pieces;
use crate::error::{Error, Result};
use crate::gguf::Gguf;

/// Pre-tokenization rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// GPT-2's: words, numbers and other characters, each with a preceding space.
    Gpt2,
    /// GPT-2's, with every digit a separate token.
    Digits,
    /// Llama 3's: numbers of at most three digits; words in the vocabulary are never split.
    Llama3,
    /// Qwen2's: every digit separate; texts are normalized to NFC.
    Qwen2,
}

/// Names of the rules.
const RULES: [(&str, Rule); 9] = [
    ("gpt-2", Rule::Gpt2),
    ("mpt", Rule::Gpt2),
    ("olmo", Rule::Gpt2),
    ("smollm", Rule::Digits),
    ("llama-bpe", Rule::Llama3),
    ("llama3", Rule::Llama3),
    ("llama-v3", Rule::Llama3),
    ("qwen2", Rule::Qwen2),
    ("deepseek-r1-qwen", Rule::Qwen2),
];

/// The tokenizer of a file.
///
/// # Errors
/// [`Error::Format`] for other kinds of tokenizers, unknown rules and inconsistent lists.
pub(super) fn tokenizer(file: &Gguf) -> Result<Tokenizer> {
    let (mut tokenizer, tokens, begins) = match file.text("tokenizer.ggml.model")? {
        "gpt2" => {
            let tokens: Vec<String> = texts(file, "tokenizer.ggml.tokens")?.into_iter().map(str::to_owned).collect();
            let rule = rule(file, &tokens)?;
            (byte_level(file, &tokens, rule)?, tokens, rule == Rule::Llama3)
        }
        "llama" => {
            let (tokenizer, tokens) = scored_pieces::tokenizer(file)?;
            (tokenizer, tokens, true)
        }
        other => {
            let problem = format!("is `{other}`, which is not supported; supported are: gpt2 (byte-level BPE), llama");
            return Err(file.wrong("tokenizer.ggml.model", problem));
        }
    };
    let kinds = kinds(file, tokens.len())?;
    let of_kind = |wanted: TokenKind| tokens.iter().zip(&kinds).filter(move |(_, kind)| **kind == wanted);
    let added = |(token, kind): (&String, &TokenKind)| {
        AddedToken::from(token.clone(), *kind == TokenKind::Control).normalized(false)
    };
    tokenizer.add_special_tokens(&of_kind(TokenKind::Control).map(added).collect::<Vec<_>>());
    tokenizer.add_tokens(&of_kind(TokenKind::UserDefined).map(added).collect::<Vec<_>>());
    if file.flag("tokenizer.ggml.add_bos_token", begins)? {
        let id = file.index("tokenizer.ggml.bos_token_id")?;
        let Some(token) = tokens.get(id) else {
            return Err(file.wrong("tokenizer.ggml.bos_token_id", format!("is {id}, beyond {} tokens", tokens.len())));
        };
        let wrong = |reason: &dyn std::fmt::Display| Error::format(file.path(), format!("its tokenizer: {reason}"));
        let mut template = TemplateProcessing::builder();
        let template = template.try_single(vec![token.clone(), "$A".to_owned()]).map_err(|e| wrong(&e))?;
        let built = template.special_tokens(vec![(token.clone(), id as u32)]).build().map_err(|e| wrong(&e))?;
        tokenizer.with_post_processor(Some(built));
    }
    Ok(tokenizer)
}

/// The rule named in a file, or if there is none, that of the models with its architecture or vocabulary.
fn rule(file: &Gguf, tokens: &[String]) -> Result<Rule> {
    const FIELD: &str = "tokenizer.ggml.pre";
    let name = if file.field(FIELD).is_some() { file.text(FIELD)? } else { "default" };
    if name == "default" {
        let has = |token: &str| tokens.iter().any(|t| t == token);
        let architecture = file.text("general.architecture").unwrap_or_default();
        return Ok(match architecture {
            "qwen2" | "qwen3" => Rule::Qwen2,
            _ if has("<|begin_of_text|>") => Rule::Llama3,
            _ => Rule::Gpt2,
        });
    }
    RULES.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule).ok_or_else(|| {
        let known: Vec<&str> = RULES.iter().map(|(name, _)| *name).collect();
        file.wrong(FIELD, format!("is `{name}`, which is not supported; supported are: {}", known.join(", ")))
    })
}

/// The byte-level BPE tokenizer of a file without its control tokens.
fn byte_level(file: &Gguf, tokens: &[String], rule: Rule) -> Result<Tokenizer> {
    let fail = |reason: tokenizers::Error| Error::format(file.path(), format!("its tokenizer: {reason}"));
    let pairs = texts(file, "tokenizer.ggml.merges")?;
    let merges = pairs.iter().map(|pair| {
        let (left, right) = pair.split_once(' ').ok_or_else(|| {
            file.wrong("tokenizer.ggml.merges", format!("has `{pair}`, which is not two tokens with a space between"))
        })?;
        Ok((left.to_owned(), right.to_owned()))
    });
    let merges = merges.collect::<Result<Vec<_>>>()?;
    let vocab: Vocab = tokens.iter().zip(0u32..).map(|(token, id)| (token.clone(), id)).collect();
    let model = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(rule == Rule::Llama3);
    let mut tokenizer = Tokenizer::new(model.build().map_err(fail)?);
    let words = |digits: &str| -> Result<PreTokenizerWrapper> {
        let pattern = format!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        let split = Split::new(SplitPattern::Regex(pattern), SplitDelimiterBehavior::Isolated, false).map_err(fail)?;
        let bytes = ByteLevel::new(false, false, false);
        Ok(Sequence::new(vec![split.into(), bytes.into()]).into())
    };
    let bytes = PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true));
    tokenizer.with_pre_tokenizer(Some(match rule {
        Rule::Gpt2 => bytes,
        Rule::Digits => Sequence::new(vec![Digits::new(true).into(), bytes]).into(),
        Rule::Llama3 => words("{1,3}")?,
        Rule::Qwen2 => words("")?,
    }));
    if rule == Rule::Qwen2 {
        tokenizer.with_normalizer(Some(NFC));
    }
    Ok(tokenizer)
}
