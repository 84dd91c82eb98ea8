//! Loads a tokenizer: from a checkpoint directory by the class that its files name, from a GGUF file, or from a single file.

use std::fmt;
use std::panic;
use std::path::Path;

use serde::de::IgnoredAny;
use tokenizers::{ModelWrapper, Tokenizer};

use super::class::{self, Class, class, class_names};
use super::convert;
use super::converted::Converted;
use super::files::{Flag, Settings};
use super::spaces::written;
use super::special::{self, SpecialTokens};
use super::{Origin, PromptTokenizer, rules};
use crate::error::{Error, Result, panic_text};
use crate::files::read_whole;
use crate::gguf::Gguf;

impl PromptTokenizer {
    /// Reads the tokenizer of a checkpoint directory as `AutoTokenizer` does: the class that `tokenizer_config.json` or
    /// `config.json` names, with `tokenizer.json` if it exists, else converted from the class's own files (`vocab.txt`,
    /// `vocab.json` and `merges.txt`, or a SentencePiece model). For a GGUF model, the tokenizer in the file.
    ///
    /// # Errors
    /// [`Error::Format`] for damaged or missing files and unknown classes.
    pub fn from_dir(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        if let Some(file) = Gguf::find(directory)? {
            let file = Gguf::open(&file)?;
            return Self::of_gguf(&file);
        }
        let settings = Settings::read(directory)?;
        let class = chosen_class(&settings)?;
        let json = settings.tokenizer_file()?;
        let stored = json.as_deref().map(read_tokenizer).transpose()?;
        let from_slow = goes_back(class, &settings, stored.as_ref())?;
        let tokens = stored.as_ref().map(special::stored_tokens);
        let (mut special, added) = settings.tokens(tokens)?;
        special.fill(class.defaults, class.additional);
        let usable = stored.zip(json).filter(|_| !from_slow);
        settings.refuse_redirections(usable.is_none())?;
        if let Some(padding) = usable.as_ref().and_then(|(inner, _)| inner.get_padding()) {
            special.fill_role("pad_token", &padding.pad_token);
        }
        let (mut inner, source, around) = if let Some((inner, source)) = usable {
            special.dress(class.fast);
            (inner, source, None)
        } else {
            special.dress(class.slow);
            let converted = convert::convert(class, &settings, &special)?;
            let Converted { inner, source, before, after } =
                converted.ok_or_else(|| no_tokenizer(&settings, class, from_slow))?;
            (inner, source, Some((before, after)))
        };
        let invented = special.contents().into_iter().filter(|token| inner.token_to_id(token).is_none()).collect();
        special.add_to(&mut inner, &added);
        if let Some((before, after)) = around.filter(|(before, after)| !before.is_empty() || !after.is_empty()) {
            let processor = rules::surrounded(&inner, &source, &before, &after)?;
            inner.with_post_processor(Some(processor));
        }
        rules::apply(&mut inner, class, &settings, &special, &source)?;
        let origin = Origin { class: Some(class.name), files: settings.paths(), chat: settings.chat_templates()? };
        let rows = settings.model_rows();
        Ok(Self { invented, rows, ..Self::new(inner, source, &special, origin)? })
    }

    /// The tokenizer in a GGUF file, with its chat template and the tokens that the template uses.
    fn of_gguf(file: &Gguf) -> Result<Self> {
        let inner = crate::task::byte_pairs::tokenizer(file)?;
        let mut special = SpecialTokens::default();
        for (key, field) in [("bos_token", "tokenizer.ggml.bos_token_id"), ("eos_token", "tokenizer.ggml.eos_token_id")]
        {
            let name = file.index(field).ok().and_then(|id| inner.id_to_token(id as u32));
            if let Some(name) = name {
                let set = special.set(key, &name.into(), true);
                set.map_err(|problem| Error::format(file.path(), problem))?;
            }
        }
        let chat = file.text("tokenizer.chat_template").ok().map(|text| ("default".to_string(), text.to_string()));
        let origin = Origin { chat: chat.into_iter().collect(), ..Origin::default() };
        Self::new(inner, file.path().to_path_buf(), &special, origin)
    }

    /// Reads one tokenizer file in Hugging Face's JSON format; special tokens by convention.
    pub fn from_tokenizer_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(read_tokenizer(path)?, path.to_path_buf(), &SpecialTokens::default(), Origin::default())
    }
}

/// The class that the files name.
fn chosen_class(settings: &Settings) -> Result<&'static Class> {
    let Some((name, place)) = settings.class()? else {
        // Undetermined: the rules in the file itself, or BERT's for a list of words.
        let plain = settings.tokenizer_file()?.is_some() || settings.file("vocab.txt")?.is_none();
        let name = if plain { "PreTrainedTokenizer" } else { "BertTokenizer" };
        return Ok(class(name).expect("an entry of the table"));
    };
    class(&name).ok_or_else(|| {
        Error::format(
            settings.directory(),
            format!(
                "the tokenizer is a {name} ({place}), which is not supported; supported are: {}. If tokenizer.json \
                 is complete, set \"tokenizer_class\" in tokenizer_config.json to \"PreTrainedTokenizerFast\"",
                class_names()
            ),
        )
    })
}

/// Whether the class reads its slow files in spite of a `tokenizer.json`: Llama's does if `add_prefix_space` is set. Without
/// the slow file transformers fails, even if `tokenizer.json` already does what the field asks for.
fn goes_back(class: &Class, settings: &Settings, stored: Option<&Tokenizer>) -> Result<bool> {
    let (Flag::Set(wanted), true) = (settings.flag("add_prefix_space")?, class.name == "LlamaTokenizer") else {
        return Ok(false);
    };
    let class::Vocabulary::SentencePiece(file, _) = class.vocabulary else { return Ok(false) };
    let slow = settings.file(file)?;
    let Some(stored) = stored.filter(|_| slow.is_none()) else { return Ok(true) };
    let parts = [written(stored.get_normalizer()), written(stored.get_pre_tokenizer())].concat();
    let prepends = parts.contains("\"Prepend\"")
        || parts.contains("\"prepend_scheme\":\"first\"")
        || parts.contains("\"prepend_scheme\":\"always\"");
    Ok(prepends != wanted)
}

/// The error for a class whose files are missing.
fn no_tokenizer(settings: &Settings, class: &Class, from_slow: bool) -> Error {
    use class::Vocabulary;
    let files = match class.vocabulary {
        Vocabulary::None => String::new(),
        Vocabulary::WordPiece => "`vocab.txt`".to_string(),
        Vocabulary::Pairs(_) => "`vocab.json` with `merges.txt`".to_string(),
        Vocabulary::SentencePiece(name, _) => format!("`{name}`"),
    };
    if from_slow {
        let message = format!(
            "`add_prefix_space` is set, with which {} reads {files} instead of tokenizer.json, but it is missing; \
             add the file, or remove the field",
            class.name
        );
        return Error::format(settings.config_path(), message);
    }
    let (neither, nor) = if files.is_empty() {
        ("no `tokenizer.json`".to_string(), String::new())
    } else {
        ("neither `tokenizer.json`".to_string(), format!(" nor {files}"))
    };
    let message = format!(
        "no tokenizer: {neither}{nor} (for a {}); save the checkpoint with its fast tokenizer, or copy the file from \
         the model it was trained from",
        class.name
    );
    Error::format(settings.directory(), message)
}

fn read_tokenizer(path: &Path) -> Result<Tokenizer> {
    let bytes = read_whole(path)?;
    let wrong = |reason: &dyn fmt::Display| Error::format(path, format!("not a Hugging Face tokenizer file: {reason}"));
    // The library panics on some files that are not JSON, and on some JSON that is not a tokenizer.
    serde_json::from_slice::<IgnoredAny>(&bytes).map_err(|reason| wrong(&reason))?;
    let read = match panic::catch_unwind(|| Tokenizer::from_bytes(&bytes)) {
        Ok(read) => read.map_err(|reason| wrong(&reason))?,
        Err(panic) => return Err(wrong(&panic_text(&*panic))),
    };
    match read.get_model() {
        ModelWrapper::BPE(pairs) if pairs.dropout.is_some_and(|share| share > 0.0) => Err(Error::format(
            path,
            "model.dropout makes the tokens random, different in every run; set it to null for the tokens without dropout",
        )),
        _ => Ok(read),
    }
}
