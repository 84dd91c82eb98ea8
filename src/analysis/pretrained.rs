//! A pre-trained network with its tokenizer, loaded once and shared by any number of studies.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::device::{Dtype, threads};
use crate::error::{Error, Result};
use crate::evidence::ModelFacts;
use crate::files::{digest, digest_pieces};
use crate::hub::Origin;
use crate::jacobian::{Parameters, blocks};
use crate::lm::LanguageModel;
use crate::task::PromptTokenizer;
use crate::threads::in_threads;

/// A language model, its parameters and its tokenizer.
pub struct Pretrained {
    /// The network.
    pub model: Rc<dyn LanguageModel>,
    /// Its parameters.
    pub parameters: Parameters,
    /// The checkpoint's tokenizer.
    pub tokenizer: Rc<PromptTokenizer>,
    /// Element type of the parameters.
    pub dtype: Dtype,
    /// Their device.
    pub device: Device,
    /// Facts for reports, with all parameters included.
    pub facts: ModelFacts,
}

impl Pretrained {
    /// Loads a checkpoint directory.
    ///
    /// # Errors
    /// Those of the loaders; a tokenizer of another model.
    pub fn load(directory: &Path, dtype: Dtype, device: Device) -> Result<Self> {
        let (model, parameters) = crate::lm::load(directory, dtype.kind(), device)?;
        let tokenizer = PromptTokenizer::from_dir(directory)?;
        let network = model.facts();
        if tokenizer.max_vocabulary_id() >= network.vocab_size {
            return Err(Error::format(
                tokenizer.source(),
                format!(
                    "the tokenizer's largest token id is {}, but the model's vocabulary has {} entries (vocab_size in \
                     config.json): the tokenizer does not belong to this model",
                    tokenizer.max_vocabulary_id(),
                    network.vocab_size
                ),
            ));
        }
        let name = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf());
        let origin = Origin::of(&name);
        let facts = ModelFacts {
            name: match &origin {
                Some(origin) => origin.model.clone(),
                None => name.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            },
            architecture: network.architecture.into(),
            parameters: parameters.numel(),
            parameters_in_subset: parameters.numel(),
            layers: network.layers,
            width: network.width,
            digest: weights_digest(&parameters)?,
            note: match origin {
                Some(origin) => Some(format!("from the Hugging Face hub, commit {}", origin.commit)),
                None => model_note(directory)?,
            },
        };
        Ok(Self { model: model.into(), parameters, tokenizer: Rc::new(tokenizer), dtype, device, facts })
    }
}

/// Digest of the loaded parameters, independent of the kind of file; tensors are hashed in parallel.
///
/// # Errors
/// [`Error::Interrupted`].
fn weights_digest(parameters: &Parameters) -> Result<String> {
    // Largest first, each to the thread with the least work.
    let mut order: Vec<usize> = (0..parameters.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(parameters.specs()[*i].numel()));
    let mut shares: Vec<Vec<(usize, Tensor)>> = (0..threads()).map(|_| Vec::new()).collect();
    let entries = |share: &Vec<(usize, Tensor)>| share.iter().map(|(_, value)| value.numel()).sum::<usize>();
    for i in order {
        let least = shares.iter_mut().min_by_key(|share| entries(share)).expect("a thread");
        least.push((i, parameters.values()[i].shallow_clone()));
    }
    let specs = parameters.specs();
    let hash = |share: Vec<(usize, Tensor)>| -> Result<Vec<(usize, String)>> {
        let one = |(i, value): (usize, Tensor)| Ok((i, tensor_digest(&specs[i].name, &value)?));
        share.into_iter().map(one).collect()
    };
    let mut found = Vec::new();
    for share in in_threads(shares, 1, hash, || {}) {
        found.extend(share?);
    }
    found.sort_unstable();
    Ok(digest(found.iter().map(|(_, text)| text.as_bytes())))
}

/// Digest of a tensor's name and entries.
fn tensor_digest(name: &str, value: &Tensor) -> Result<String> {
    /// Entries copied at a time.
    const PIECE: usize = 1 << 18;
    let flat = value.contiguous().view(-1);
    let entries = flat.numel();
    let numbers = blocks(entries, PIECE).map(|range| {
        // Double precision represents the values of either element type exactly.
        let piece = flat.narrow(0, range.start as i64, range.len() as i64).to_kind(Kind::Double);
        let numbers = Vec::<f64>::try_from(piece.to_device(Device::Cpu)).expect("a flat f64 tensor");
        let mut bytes = Vec::with_capacity(8 * numbers.len());
        for x in numbers {
            bytes.extend_from_slice(&x.to_le_bytes());
        }
        bytes
    });
    let name = name.as_bytes().to_vec();
    digest_pieces(name.len() + 8 * entries, std::iter::once(name).chain(numbers))
}

/// A caveat from a checkpoint's `MODEL.md`: its line that begins with `Note:`.
fn model_note(directory: &Path) -> Result<Option<String>> {
    let path: PathBuf = directory.join("MODEL.md");
    if !path.exists() {
        return Ok(None);
    }
    let text = crate::files::read_text(&path)?;
    Ok(text.lines().find_map(|l| l.strip_prefix("Note:")).map(|l| l.trim().to_owned()))
}
