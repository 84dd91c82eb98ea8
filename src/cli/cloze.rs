//! `kernelview cloze`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::arguments::DEFAULT_K;
use super::output::{outln, quoted};
use super::places::check_out;
use crate::error::{Error, Result};
use crate::files::{read_unpacked, write_atomic};
use crate::task::cloze::{ClozeSettings, TEMPLATE, check_words, draw, label_words, to_tsv};
use crate::task::decode;

#[derive(Args)]
pub(super) struct ClozeArgs {
    /// The text to take sentences from
    #[arg(long, value_name = "FILE[.gz]")]
    pub text: PathBuf,
    /// The words to choose between: two or more, in lower case
    #[arg(long, value_name = "WORD,WORD", value_delimiter = ',', required = true)]
    pub words: Vec<String>,
    /// The TSV to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Maximum number of sentences per word [default: as many as the rarest word has]
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Seed of the choice among each word's sentences
    #[arg(long, default_value_t = 13)]
    pub seed: u64,
    /// Minimum sentence length in words
    #[arg(long, default_value_t = 5, value_name = "WORDS")]
    pub min_words: usize,
    /// Maximum sentence length in words
    #[arg(long, default_value_t = 30, value_name = "WORDS")]
    pub max_words: usize,
}

/// Writes a data file from a text, and prints the command that analyzes it.
pub(super) fn run(args: &ClozeArgs) -> Result<()> {
    check_words(&args.words)?;
    check_names(&args.text, &args.out)?;
    let bytes = read_unpacked(&args.text)?.0;
    let settings =
        ClozeSettings { limit: args.limit, seed: args.seed, min_words: args.min_words, max_words: args.max_words };
    let drawn = draw(&args.text, decode(&args.text, &bytes)?, &args.words, &settings)?;
    write_atomic(&args.out, to_tsv(&drawn.examples, &args.words).as_bytes())?;

    let each = drawn.examples.len() / args.words.len();
    let found: Vec<_> = args.words.iter().zip(&drawn.found).map(|(word, count)| format!("{word} {count}")).collect();
    outln!("{}: {each} sentences of each word; {} has {}", args.out.display(), args.text.display(), found.join(", "))?;
    // With few sentences the default k would leave nothing to test on.
    let k = if each > 2 * DEFAULT_K { String::new() } else { format!(" --k {}", each / 3) };
    outln!(
        "kernelview analyze --data {}{k} \\\n    --template '{TEMPLATE}' --label-words '{}'",
        quoted(&args.out.display().to_string()),
        label_words(&args.words)
    )?;
    Ok(())
}

/// Checks before reading the text that the output file can be written, has the right extension and is not the text itself.
fn check_names(text: &Path, out: &Path) -> Result<()> {
    check_out("--out", out, "he-she.tsv")?;
    if out.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) {
        return Err(Error::format(out, "--out is tab-separated; give a name that ends in .tsv"));
    }
    if let (Ok(from), Ok(to)) = (fs::canonicalize(text), fs::canonicalize(out))
        && from == to
    {
        return Err(Error::format(out, "--out is the text itself; give another name"));
    }
    Ok(())
}
