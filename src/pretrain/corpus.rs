//! From text files or a language to sequences of token ids.

use std::fs;
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use tokenizers::Tokenizer;

use super::language::Sentence;
use super::recipe::{CorpusRecipe, LanguageRecipe, Recipe};
use super::vocabulary::{
    TOKENIZER_CONFIG, language_ids, language_tokenizer, language_tokenizer_config, train_tokenizer,
};
use crate::error::{Error, Result};
use crate::files::{create_dir, digest, named_seed, read_unpacked, sha256, utf8, write_atomic};
use crate::progress::{Monitor, check_cancelled};

/// A tokenized corpus.
pub struct Corpus {
    /// Ids of the training text, one paragraph after another.
    pub train: Vec<u16>,
    /// Ids of the held-out text.
    pub heldout: Vec<u16>,
    /// The tokenizer's JSON.
    pub tokenizer: String,
    /// Its `tokenizer_config.json`.
    pub tokenizer_config: String,
    /// Digest of both files and the tokenizer.
    pub digest: String,
    /// SHA-256 of the training file and of the held-out file; for drawn text, of the token ids.
    pub sha256: (String, String),
}

/// Paragraphs tokenized between checks for cancellation.
const CHUNK: usize = 4096;

impl Corpus {
    /// The recipe's text: drawn if it names a language, otherwise read from its files.
    ///
    /// # Errors
    /// Files that cannot be read or differ from the recipe's; text too short for a batch.
    pub fn prepare(recipe: &Recipe, base: &Path, cache: &Path, monitor: &dyn Monitor) -> Result<Self> {
        match (&recipe.language, &recipe.corpus) {
            (Some(language), _) => Ok(Self::draw(language, recipe.seed)),
            (None, Some(corpus)) => Self::read(recipe, corpus, base, cache, monitor),
            (None, None) => unreachable!("a recipe that was checked has one of both"),
        }
    }

    /// Draws sentences of a language: training and held-out sentences from separate streams.
    pub fn draw(language: &LanguageRecipe, seed: u64) -> Self {
        let ids = language_ids();
        let draw = |name: &str, count: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(named_seed(seed, name));
            let words = (0..count).flat_map(|_| *Sentence::draw(&mut rng).words());
            let words: Vec<u16> = words.map(|word| ids[word.id()]).collect();
            let bytes: Vec<u8> = words.iter().flat_map(|id| id.to_le_bytes()).collect();
            (words, sha256(&bytes))
        };
        let (train, train_sha) = draw("sentences", language.sentences);
        let (heldout, heldout_sha) = draw("held-out sentences", language.heldout);
        let tokenizer = language_tokenizer().to_string(false).expect("a tokenizer is plain data");
        let digest = digest([train_sha.as_bytes(), heldout_sha.as_bytes(), tokenizer.as_bytes()]);
        let tokenizer_config = language_tokenizer_config();
        Self { train, heldout, tokenizer, tokenizer_config, digest, sha256: (train_sha, heldout_sha) }
    }

    /// Reads the recipe's text, trains the tokenizer and tokenizes the text. The results are kept in `cache` and reused while
    /// the files are the same.
    ///
    /// # Errors
    /// Files that cannot be read or differ from the recipe's; text too short for a batch.
    fn read(recipe: &Recipe, corpus: &CorpusRecipe, base: &Path, cache: &Path, monitor: &dyn Monitor) -> Result<Self> {
        let open = |file: &Path, wanted: &Option<String>, field: &str| -> Result<(PathBuf, String, String)> {
            let path = base.join(file);
            let (bytes, sha256) = read_unpacked(&path)?;
            let text = utf8(&path, bytes)?;
            match wanted {
                Some(wanted) if !wanted.eq_ignore_ascii_case(&sha256) => Err(Error::format(
                    &path,
                    format!(
                        "its SHA-256 is {sha256}, but the recipe's {field} is {wanted}: another version of the text"
                    ),
                )),
                _ => Ok((path, text, sha256)),
            }
        };
        let (train_path, train, train_sha) = open(&corpus.train, &corpus.train_sha256, "corpus.train_sha256")?;
        let (heldout_path, heldout, heldout_sha) =
            open(&corpus.heldout, &corpus.heldout_sha256, "corpus.heldout_sha256")?;
        let key = digest([train_sha.as_bytes(), heldout_sha.as_bytes(), &corpus.vocabulary.to_le_bytes()]);
        create_dir(cache)?;
        let (json, tokens) = (cache.join("tokenizer.json"), cache.join("corpus.tokens"));
        let kept = fs::read(&tokens).ok().and_then(|bytes| unpack(&bytes, &key)).zip(fs::read_to_string(&json).ok());
        let ((train, heldout), tokenizer) = if let Some(kept) = kept {
            kept
        } else {
            monitor.begin("training the tokenizer", 1);
            let tokenizer = train_tokenizer(&train_path, &train, corpus.vocabulary)?;
            monitor.advance(1);
            monitor.end();
            let ids =
                [(&train_path, &train), (&heldout_path, &heldout)].map(|(p, t)| tokenize(&tokenizer, p, t, monitor));
            let [train, heldout] = ids;
            let (train, heldout) = (train?, heldout?);
            let text = tokenizer.to_string(false).map_err(|e| Error::format(&json, e.to_string()))?;
            write_atomic(&json, text.as_bytes())?;
            write_atomic(&tokens, &pack(&key, &train, &heldout))?;
            ((train, heldout), text)
        };
        let length = recipe.model.tokens as usize - 2;
        let least = recipe.training.batch.max(recipe.checks.sweep_batch) * length;
        for (path, ids, least) in [(&train_path, &train, least), (&heldout_path, &heldout, length)] {
            if ids.len() < least {
                return Err(Error::format(path, format!("has {} tokens, at least {least} are needed", ids.len())));
            }
        }
        let digest = digest([key.as_bytes(), tokenizer.as_bytes()]);
        let tokenizer_config = TOKENIZER_CONFIG.to_owned();
        Ok(Self { train, heldout, tokenizer, tokenizer_config, digest, sha256: (train_sha, heldout_sha) })
    }
}

fn tokenize(tokenizer: &Tokenizer, path: &Path, text: &str, monitor: &dyn Monitor) -> Result<Vec<u16>> {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    monitor.begin(&format!("tokenizing {}", path.display()), lines.len() as u64);
    let mut ids = Vec::with_capacity(text.len() / 4);
    for chunk in lines.chunks(CHUNK) {
        check_cancelled()?;
        let parts: Vec<tokenizers::Result<Vec<u16>>> = chunk
            .par_iter()
            .map(|line| {
                // A space in front gives the first word of a paragraph the tokens that it has elsewhere.
                let encoded = tokenizer.encode_fast(format!(" {line}"), false)?;
                Ok(encoded.get_ids().iter().map(|id| *id as u16).collect())
            })
            .collect();
        for part in parts {
            ids.extend(part.map_err(|e| Error::format(path, format!("cannot be tokenized: {e}")))?);
        }
        monitor.advance(chunk.len() as u64);
    }
    monitor.end();
    Ok(ids)
}

/// Key, number of training ids, all ids as two bytes each.
fn pack(key: &str, train: &[u16], heldout: &[u16]) -> Vec<u8> {
    let mut bytes = key.as_bytes().to_vec();
    bytes.extend((train.len() as u64).to_le_bytes());
    bytes.extend(train.iter().chain(heldout).flat_map(|id| id.to_le_bytes()));
    bytes
}

fn unpack(bytes: &[u8], key: &str) -> Option<(Vec<u16>, Vec<u16>)> {
    let rest = bytes.strip_prefix(key.as_bytes())?;
    let (count, rest) = rest.split_first_chunk::<8>()?;
    let ids: Vec<u16> = rest.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    let at = usize::try_from(u64::from_le_bytes(*count)).ok()?;
    (at <= ids.len()).then(|| (ids[..at].to_vec(), ids[at..].to_vec()))
}
