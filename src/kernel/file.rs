//! The kernel file: safetensors with kernels \[N, C, M, C\], outputs, labels, and metadata that describes them.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorView};
use tch::{Kind, Tensor};

use super::formula::Formula;
use super::gram::{Gram, GramMatrix, ParameterShare};
use crate::error::{Error, Result};
use crate::files::{irregular, write_atomic};

/// Version of the file's layout; readers refuse others.
pub const FORMAT_VERSION: &str = "1";

/// Maximum bytes of a header in the safetensors format.
const MOST_HEADER: u64 = 100_000_000;

/// Contents of a kernel file. Tensors are double precision (labels are 64-bit integers), on the CPU.
#[derive(Debug)]
pub struct KernelFile {
    /// Tensors by name: `kernel.sgd`, `kernel.asymmetric`, `kernel.signgd` \[N, C, M, C\], `logits` \[N, C\], `labels`
    /// \[N\]; between two sets also `kernel.asymmetric_reversed` (signs on the left), `logits_right`, `labels_right`.
    pub tensors: Vec<(String, Tensor)>,
    /// Metadata as text: model, task, seed, formula, versions.
    pub metadata: HashMap<String, String>,
}

impl KernelFile {
    /// The file of a Gram matrix. `labels` are class indices of the left and right examples.
    pub fn of(gram: &Gram, labels: (&[usize], &[usize]), metadata: HashMap<String, String>) -> Self {
        let mut tensors = Vec::new();
        for formula in [Formula::Sgd, Formula::Asymmetric, Formula::Signgd] {
            if let Some(t) = gram.tensor(formula) {
                tensors.push((format!("kernel.{formula}"), t));
            }
        }
        let classes = |l: &[usize]| Tensor::from_slice(&l.iter().map(|c| *c as i64).collect::<Vec<_>>());
        tensors.push(("logits".into(), gram.left_outputs.shallow_clone()));
        tensors.push(("labels".into(), classes(labels.0)));
        if !gram.symmetric {
            let shape = [gram.left, gram.outputs, gram.right, gram.outputs];
            if let Some(t) = &gram.asymmetric_reversed {
                tensors.push(("kernel.asymmetric_reversed".into(), t.view(shape)));
            }
            tensors.push(("logits_right".into(), gram.right_outputs.shallow_clone()));
            tensors.push(("labels_right".into(), classes(labels.1)));
        }
        Self::with(tensors, metadata)
    }

    /// A file of these tensors; adds the metadata common to all files.
    pub fn with(tensors: Vec<(String, Tensor)>, mut metadata: HashMap<String, String>) -> Self {
        metadata.insert("format".into(), "kernelview-kernel".into());
        metadata.insert("format_version".into(), FORMAT_VERSION.into());
        Self { tensors, metadata }
    }

    /// The Gram matrix from which the file was made; `None` if tensors are missing or have wrong shapes. Shares come from
    /// the metadata field `shares`, in the order of parameters.
    pub fn to_gram(&self) -> Option<Gram> {
        let left_outputs = self.get("logits")?.shallow_clone();
        let symmetric = self.get("logits_right").is_none();
        let right_outputs = self.get("logits_right").unwrap_or(&left_outputs).shallow_clone();
        let (left, outputs) = left_outputs.size2().ok()?;
        let (right, right_count) = right_outputs.size2().ok()?;
        let shape = [left, outputs, right, outputs];
        if right_count != outputs || self.tensors.iter().any(|(n, t)| n.starts_with("kernel.") && t.size() != shape) {
            return None;
        }
        let matrix = |name: &str| self.get(name).map(|t| t.view([left * outputs, right * outputs]));
        let shares = match self.metadata.get("shares") {
            None => Vec::new(),
            Some(text) => serde_json::from_str::<Vec<(String, f64, Option<f64>)>>(text)
                .ok()?
                .into_iter()
                .enumerate()
                .map(|(parameter, (_, trace_sgd, trace_signgd))| ParameterShare {
                    parameter,
                    trace_sgd,
                    trace_signgd,
                    sgd: None,
                })
                .collect(),
        };
        let matrix = |which| match which {
            GramMatrix::Sgd => matrix("kernel.sgd"),
            GramMatrix::Asymmetric => matrix("kernel.asymmetric"),
            GramMatrix::AsymmetricReversed => matrix("kernel.asymmetric_reversed"),
            GramMatrix::Signgd => matrix("kernel.signgd"),
        };
        Some(Gram::new(left_outputs, (!symmetric).then_some(right_outputs), matrix, shares))
    }

    /// A tensor by name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }

    /// Writes the file; a reader never sees half of it.
    pub fn write(&self, path: &Path) -> Result<()> {
        let raw: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, t)| {
                let shape = t.size().iter().map(|n| *n as usize).collect();
                let flat = t.contiguous().view(-1);
                if t.kind() == Kind::Int64 {
                    let v = Vec::<i64>::try_from(&flat).expect("a flat int64 tensor");
                    (name.as_str(), Dtype::I64, shape, v.iter().flat_map(|x| x.to_le_bytes()).collect())
                } else {
                    let v = Vec::<f64>::try_from(&flat.to_kind(Kind::Double)).expect("a flat f64 tensor");
                    (name.as_str(), Dtype::F64, shape, v.iter().flat_map(|x| x.to_le_bytes()).collect())
                }
            })
            .collect();
        let views: Vec<(&str, TensorView<'_>)> = raw
            .iter()
            .map(|(name, dtype, shape, bytes)| TensorView::new(*dtype, shape.clone(), bytes).map(|v| (*name, v)))
            .collect::<Result<_, _>>()
            .map_err(|e| Error::format(path, e.to_string()))?;
        let bytes = safetensors::serialize(views, Some(self.metadata.clone()))
            .map_err(|e| Error::format(path, e.to_string()))?;
        write_atomic(path, &with_ordered_metadata(bytes))
    }

    /// Reads a file written by [`KernelFile::write`].
    pub fn read(path: &Path) -> Result<Self> {
        KernelHeader::read(path)?.tensors(|_| true)
    }
}

/// The header of a kernel file.
#[derive(Debug)]
pub struct KernelHeader {
    /// Shapes by name.
    pub shapes: BTreeMap<String, Vec<i64>>,
    /// The file's metadata.
    pub metadata: HashMap<String, String>,
    path: PathBuf,
    /// Element type and position of each tensor.
    places: BTreeMap<String, (Dtype, Range<u64>)>,
}

impl KernelHeader {
    /// Reads the header of a file written by [`KernelFile::write`].
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for another kind of file or a truncated one.
    pub fn read(path: &Path) -> Result<Self> {
        let broken = |e: &dyn std::fmt::Display| Error::format(path, format!("not a complete kernel file ({e})"));
        check_source(path)?;
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let mut start = [0; 8];
        file.read_exact(&mut start).map_err(|_| broken(&SafeTensorError::HeaderTooSmall))?;
        let size = u64::from_le_bytes(start);
        // A file in another format may state any length.
        if size > length.saturating_sub(8) || size > MOST_HEADER {
            return Err(broken(&SafeTensorError::InvalidHeaderLength));
        }
        let mut text = vec![0; size as usize];
        file.read_exact(&mut text).map_err(Error::io("read", path))?;
        let header: Metadata = serde_json::from_slice(&text).map_err(|e| broken(&e))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        match metadata.get("format_version").map(String::as_str) {
            Some(FORMAT_VERSION) => {}
            Some(other) => {
                let message = format!(
                    "format_version is {other}, but this program reads {FORMAT_VERSION}; compute the file \
                             again"
                );
                return Err(Error::format(path, message));
            }
            None => return Err(Error::format(path, "a safetensors file, but not a kernel file (no format_version)")),
        }
        let (mut shapes, mut places, mut end) = (BTreeMap::new(), BTreeMap::new(), 8 + size);
        for (name, info) in header.tensors() {
            let (from, to) = info.data_offsets;
            let numbers = info.shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n));
            let bytes = numbers.and_then(|n| n.checked_mul(info.dtype.bitsize()));
            let place = 8 + size + from as u64..(8 + size).saturating_add(to as u64);
            if from > to || bytes != (to - from).checked_mul(8) || place.end > length {
                return Err(broken(&SafeTensorError::InvalidOffset(name)));
            }
            end = end.max(place.end);
            shapes.insert(name.clone(), info.shape.iter().map(|n| *n as i64).collect());
            places.insert(name, (info.dtype, place));
        }
        if end != length {
            return Err(broken(&SafeTensorError::MetadataIncompleteBuffer));
        }
        Ok(Self { shapes, metadata, path: path.to_path_buf(), places })
    }

    /// Reads the tensors whose names are `wanted`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for another element type or an entry that is not finite.
    pub fn tensors(&self, wanted: impl Fn(&str) -> bool) -> Result<KernelFile> {
        let path = &self.path;
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let mut tensors = Vec::new();
        for (name, (dtype, place)) in self.places.iter().filter(|(name, _)| wanted(name)) {
            let kind = match dtype {
                Dtype::I64 => Kind::Int64,
                Dtype::F64 => Kind::Double,
                other => return Err(Error::format(path, format!("tensor `{name}` has element type {other:?}"))),
            };
            let mut bytes = vec![0; (place.end - place.start) as usize];
            let read = file.seek(SeekFrom::Start(place.start)).and_then(|_| file.read_exact(&mut bytes));
            read.map_err(Error::io("read", path))?;
            let tensor = Tensor::f_from_data_size(&bytes, &self.shapes[name], kind)?;
            check_finite(path, &format!("tensor `{name}`"), &tensor)?;
            tensors.push((name.clone(), tensor));
        }
        Ok(KernelFile { tensors, metadata: self.metadata.clone() })
    }
}

/// Fails for what cannot hold a kernel: a directory, a pipe, an empty file.
pub(super) fn check_source(path: &Path) -> Result<()> {
    let length = fs::metadata(path).map_err(Error::io("read", path))?.len();
    match irregular(path).or((length == 0).then_some("empty")) {
        Some(what) => Err(Error::format(path, format!("is {what}; a kernel file is expected here"))),
        None => Ok(()),
    }
}

/// Fails if an entry is not finite, naming the index of the first.
pub(super) fn check_finite(path: &Path, what: &str, tensor: &Tensor) -> Result<()> {
    let bad = tensor.isfinite().logical_not().nonzero();
    if bad.size()[0] == 0 {
        return Ok(());
    }
    let place = Vec::<i64>::try_from(bad.get(0)).expect("a place along every axis");
    let value = tensor.double_value(&place);
    Err(Error::format(path, format!("{what} (shape {:?}) holds {value} at {place:?}", tensor.size())))
}

/// A safetensors file with its metadata sorted by name: the library writes them in the order of a hash table, which differs
/// between runs.
fn with_ordered_metadata(mut file: Vec<u8>) -> Vec<u8> {
    let Some((length, rest)) = file.split_first_chunk_mut::<8>() else { return file };
    let length = u64::from_le_bytes(*length) as usize;
    let header = &mut rest[..length];
    let Ok(mut json) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(header) else {
        return file;
    };
    if let Some(metadata) = json.get_mut("__metadata__").and_then(serde_json::Value::as_object_mut) {
        metadata.sort_keys();
    }
    let text = serde_json::to_vec(&json).expect("a JSON object prints");
    // Sorting does not change the length, up to padding with spaces.
    header.fill(b' ');
    header[..text.len()].copy_from_slice(&text);
    file
}
