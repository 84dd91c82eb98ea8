//! The directory of a sketch: a manifest of what it is of, a file for every block of examples, and kernels made from them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{Sketch, bound};
use crate::error::{Error, Result};
use crate::files::{create_dir, digest, read_text, read_whole, write_atomic};
use crate::kernel::{Gram, GramMatrix, KernelFile};
use crate::launch::Place;
use crate::machine::free_memory;
use crate::progress::{Monitor, check_cancelled};
use crate::setting::Field;

/// Version of the directory's layout.
const VERSION: u32 = 1;
const NAME: &str = "manifest.json";
const SAMPLE: &str = "sample.safetensors";

/// What the blocks are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SketchManifest {
    /// Layout of the directory.
    pub kernelview_sketch: u32,
    /// Everything that the blocks depend on; blocks of another digest are not these.
    pub digest: String,
    /// Numbers of a row.
    pub size: usize,
    /// Seed of the fold.
    pub sketch_seed: u64,
    /// Outputs of an example.
    pub outputs: usize,
    /// Examples of a block.
    pub block: usize,
    /// Examples whose exact kernel is stored beside the blocks, for the measured error.
    pub sample: Vec<usize>,
    /// Classes of the examples, which are as many.
    pub labels: Vec<usize>,
    /// Metadata as of a kernel file whose columns the examples are.
    pub metadata: BTreeMap<String, String>,
}

/// The one field that every layout has.
#[derive(Deserialize)]
struct Version {
    kernelview_sketch: u32,
}

impl SketchManifest {
    /// A manifest of this layout; `depends` is a text of all that the blocks depend on.
    pub fn new(
        depends: &str,
        (size, sketch_seed): (usize, u64),
        (outputs, block): (usize, usize),
        sample: Vec<usize>,
        labels: &[usize],
        metadata: HashMap<String, String>,
    ) -> Self {
        Self {
            kernelview_sketch: VERSION,
            digest: digest([depends.as_bytes()]),
            size,
            sketch_seed,
            outputs,
            block,
            sample,
            labels: labels.to_vec(),
            metadata: metadata.into_iter().collect(),
        }
    }

    fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(NAME);
        if !path.exists() {
            return Err(Error::format(directory, format!("no {NAME} here: expected the directory of a sketch")));
        }
        let wrong = |e: &dyn std::fmt::Display| Error::format(&path, format!("not a manifest of a sketch: {e}"));
        let text = read_text(&path)?;
        let Version { kernelview_sketch: version } = serde_json::from_str(&text).map_err(|e| wrong(&e))?;
        if version != VERSION {
            let message =
                format!("field `kernelview_sketch` is {version}, this program reads {VERSION}; make the sketch again");
            return Err(Error::format(&path, message));
        }
        let found: Self = serde_json::from_str(&text).map_err(|e| wrong(&e))?;
        let examples = found.labels.len();
        if [found.size, found.outputs, found.block, examples].contains(&0) {
            return Err(wrong(&"sizes of 0"));
        }
        if let Some(outside) = found.sample.iter().find(|i| **i >= examples) {
            return Err(wrong(&format!("example {outside} of the sample is none of the {examples}")));
        }
        Ok(found)
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.labels.len().div_ceil(self.block)
    }

    /// The examples of a block.
    pub fn range(&self, block: usize) -> std::ops::Range<usize> {
        block * self.block..((block + 1) * self.block).min(self.labels.len())
    }
}

fn block_path(directory: &Path, block: usize) -> PathBuf {
    directory.join(format!("block-{block:05}.safetensors"))
}

/// A block's sketches \[rows, k\] and outputs \[examples, C\]; `None` where it is not there or of another run.
fn read_block(directory: &Path, manifest: &SketchManifest, block: usize) -> Result<Option<(Tensor, Tensor)>> {
    let path = block_path(directory, block);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read_whole(&path)?;
    let broken = |e: &dyn std::fmt::Display| Error::format(&path, format!("not a complete block of a sketch ({e})"));
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(&e))?;
    if header.metadata().as_ref().and_then(|m| m.get("digest")) != Some(&manifest.digest) {
        return Ok(None);
    }
    let file = SafeTensors::deserialize(&bytes).map_err(|e| broken(&e))?;
    let examples = manifest.range(block).len();
    let tensor = |name: &str, kind: (Dtype, Kind), shape: [usize; 2]| {
        let found = file.tensor(name).map_err(|e| broken(&e))?;
        if found.dtype() != kind.0 || found.shape() != shape {
            let message = format!(
                "{name} is {:?} of shape {:?}, expected {:?} of {shape:?}",
                found.dtype(),
                found.shape(),
                kind.0
            );
            return Err(Error::format(&path, message));
        }
        let shape = shape.map(|n| n as i64);
        Ok(Tensor::f_from_data_size(found.data(), &shape, kind.1)?)
    };
    let rows = tensor("sketch", (Dtype::F32, Kind::Float), [examples * manifest.outputs, manifest.size])?;
    let outputs = tensor("logits", (Dtype::F64, Kind::Double), [examples, manifest.outputs])?;
    if rows.isfinite().all().int64_value(&[]) == 0 {
        return Err(Error::format(&path, "sketch holds a number that is not finite"));
    }
    Ok(Some((rows, outputs)))
}

/// A directory that a sketch is written to.
pub struct SketchStore {
    directory: PathBuf,
    manifest: SketchManifest,
}

impl SketchStore {
    /// Opens a directory for the sketch of a manifest, and makes both where they are missing.
    ///
    /// # Errors
    /// [`Error::Format`] where the directory is that of another sketch.
    pub fn open(directory: &Path, manifest: SketchManifest, place: Place) -> Result<Self> {
        create_dir(directory)?;
        if directory.join(NAME).exists() {
            if SketchManifest::read(directory)? != manifest {
                return Err(Error::format(
                    directory,
                    format!(
                        "this is another sketch (other model, task, settings or size); give another {}, or remove it",
                        Field::Out
                    ),
                ));
            }
        } else {
            let text = serde_json::to_string_pretty(&manifest).expect("a manifest is plain data");
            write_atomic(&directory.join(NAME), (text + "\n").as_bytes())?;
        }
        // So that who reads it can say which parts of how many are unfinished.
        write_atomic(&directory.join(format!("{}-of-{}.started", place.index, place.count)), b"")?;
        Ok(Self { directory: directory.to_path_buf(), manifest })
    }

    /// Whether a block is there.
    pub fn has(&self, block: usize) -> bool {
        read_block(&self.directory, &self.manifest, block).is_ok_and(|found| found.is_some())
    }

    /// Stores a block.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put(&self, block: usize, sketch: &Sketch) -> Result<()> {
        let path = block_path(&self.directory, block);
        let rows = Vec::<f32>::try_from(sketch.rows.contiguous().view(-1)).expect("a flat f32 tensor");
        let outputs = Vec::<f64>::try_from(sketch.outputs.contiguous().view(-1)).expect("a flat f64 tensor");
        let rows: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
        let outputs: Vec<u8> = outputs.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = |t: &Tensor| t.size().iter().map(|n| *n as usize).collect::<Vec<_>>();
        let view = |kind, t: &Tensor, bytes| {
            TensorView::new(kind, shape(t), bytes).map_err(|e| Error::format(&path, e.to_string()))
        };
        let tensors = [
            ("sketch", view(Dtype::F32, &sketch.rows, &rows)?),
            ("logits", view(Dtype::F64, &sketch.outputs, &outputs)?),
        ];
        let metadata = HashMap::from([("digest".to_owned(), self.manifest.digest.clone())]);
        let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|e| Error::format(&path, e.to_string()))?;
        write_atomic(&path, &bytes)
    }

    /// Whether the exact kernel of the sample is there.
    pub fn has_sample(&self) -> bool {
        read_sample(&self.directory, &self.manifest).is_ok_and(|found| found.is_some())
    }

    /// Stores the exact SGD kernel of the sample's examples with themselves.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put_sample(&self, gram: &Gram) -> Result<()> {
        let labels: Vec<usize> = self.manifest.sample.iter().map(|i| self.manifest.labels[*i]).collect();
        let metadata = HashMap::from([("digest".to_owned(), self.manifest.digest.clone())]);
        KernelFile::of(gram, (&labels, &[]), metadata).write(&self.directory.join(SAMPLE))
    }
}

/// The sample's exact kernel \[rows, rows\].
fn read_sample(directory: &Path, manifest: &SketchManifest) -> Result<Option<Tensor>> {
    let path = directory.join(SAMPLE);
    if !path.exists() {
        return Ok(None);
    }
    let file = KernelFile::read(&path)?;
    if file.metadata.get("digest") != Some(&manifest.digest) {
        return Ok(None);
    }
    let rows = (manifest.sample.len() * manifest.outputs) as i64;
    let kernel = file.to_gram().and_then(|gram| gram.sgd).filter(|kernel| kernel.size() == [rows, rows]);
    kernel.map(Some).ok_or_else(|| Error::format(&path, format!("holds no kernel.sgd of {rows} rows")))
}

/// How far a sketched kernel is from the exact one on a sample, in units of `√(K_ii K_jj)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SketchError {
    /// Entries that were compared.
    pub entries: usize,
    /// Root of their mean squared error.
    pub measured: f64,
    /// What the bound of every entry's variance allows.
    pub bound: f64,
    /// The largest error.
    pub largest: f64,
}

/// A finished sketch.
pub struct Sketches {
    directory: PathBuf,
    manifest: SketchManifest,
}

/// What two sketches must have in common for a kernel between them.
const SHARED: [&str; 6] = ["model_digest", "template", "label_words", "output_mode", "head", "subset"];

impl Sketches {
    /// Opens a directory in which every block must be.
    ///
    /// # Errors
    /// [`Error::Format`] for another directory, or where blocks are missing, with the shards that have them.
    pub fn open(directory: &Path) -> Result<Self> {
        let manifest = SketchManifest::read(directory)?;
        let missing: Vec<usize> =
            (0..manifest.blocks()).filter(|block| !block_path(directory, *block).is_file()).collect();
        if let Some(first) = missing.first() {
            let path = block_path(directory, *first);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return Err(Error::format(
                directory,
                format!(
                    "{} of {} blocks are missing, {name} first: the same command that began the sketch finishes it",
                    missing.len(),
                    manifest.blocks()
                ),
            ));
        }
        Ok(Self { directory: directory.to_path_buf(), manifest })
    }

    /// What it is of.
    pub fn manifest(&self) -> &SketchManifest {
        &self.manifest
    }

    fn block(&self, block: usize) -> Result<(Tensor, Tensor)> {
        read_block(&self.directory, &self.manifest, block)?.ok_or_else(|| {
            Error::format(block_path(&self.directory, block), "belongs to another run; remove it and make it again")
        })
    }

    /// Examples `0..count` as rows in double precision, with their outputs.
    fn rows(&self, count: usize) -> Result<(Tensor, Tensor)> {
        let (mut rows, mut outputs) = (Vec::new(), Vec::new());
        for block in 0..count.div_ceil(self.manifest.block) {
            check_cancelled()?;
            let (r, o) = self.block(block)?;
            let kept = (count - self.manifest.range(block).start).min(self.manifest.range(block).len()) as i64;
            rows.push(r.narrow(0, 0, kept * self.manifest.outputs as i64).to_kind(Kind::Double));
            outputs.push(o.narrow(0, 0, kept));
        }
        Ok((Tensor::cat(&rows, 0), Tensor::cat(&outputs, 0)))
    }

    /// The sketched SGD kernel of the first `count` examples with themselves, or with the first `other.1` of another sketch.
    ///
    /// # Errors
    /// [`Error::Format`] for damaged blocks and sketches that do not belong together; [`Error::Value`] for counts that are not
    /// there; [`Error::Memory`]; `Interrupted`.
    pub fn kernel(&self, count: usize, other: Option<(&Self, usize)>, monitor: &dyn Monitor) -> Result<KernelFile> {
        self.check(count)?;
        if let Some((other, count)) = other {
            other.check(count)?;
            self.check_same(other)?;
        }
        let outputs = self.manifest.outputs;
        let (left, right) = (count * outputs, other.map_or(count, |(_, count)| count) * outputs);
        // Once as numbers and once as the bytes of the file, and the rows.
        let needed = (24 * left * right + 8 * (left + right) * self.manifest.size) as u64;
        if let Some(free) = free_memory().filter(|free| *free < needed) {
            let what = format!("a kernel of {left} x {right} rows");
            return Err(Error::Memory { what, needed, free, advice: "take fewer examples".into() });
        }
        let (a, left_outputs) = self.rows(count)?;
        let right_side = other.map(|(other, count)| other.rows(count)).transpose()?;
        let b = right_side.as_ref().map_or(&a, |(rows, _)| rows);
        let kernel = Tensor::empty([left as i64, right as i64], (Kind::Double, Device::Cpu));
        monitor.begin("kernel from sketches", left.div_ceil(STRIP) as u64);
        for from in (0..left).step_by(STRIP) {
            check_cancelled()?;
            let size = STRIP.min(left - from) as i64;
            // A symmetric kernel to the last bit: what lies above the diagonal is the transposed of what lies below.
            let columns = if other.is_none() { from as i64 + size } else { right as i64 };
            let strip = a.narrow(0, from as i64, size).matmul(&b.narrow(0, 0, columns).tr());
            kernel.narrow(0, from as i64, size).narrow(1, 0, columns).copy_(&strip);
            if other.is_none() {
                let own = strip.narrow(1, from as i64, size);
                let own = own.tril(0) + own.tril(-1).tr();
                kernel.narrow(0, from as i64, size).narrow(1, from as i64, size).copy_(&own);
                let before = strip.narrow(1, 0, from as i64).tr();
                kernel.narrow(0, 0, from as i64).narrow(1, from as i64, size).copy_(&before);
            }
            monitor.advance(1);
        }
        monitor.end();
        let mut kernel = Some(kernel);
        let matrix = |which| if which == GramMatrix::Sgd { kernel.take() } else { None };
        let gram = Gram::new(left_outputs, right_side.map(|(_, outputs)| outputs), matrix, Vec::new());
        let columns = other.map_or(&[][..], |(other, count)| &other.manifest.labels[..count]);
        let labels = (&self.manifest.labels[..count], columns);
        Ok(KernelFile::of(&gram, labels, self.metadata(count, other)?))
    }

    fn check(&self, count: usize) -> Result<()> {
        let there = self.manifest.labels.len();
        if (1..=there).contains(&count) {
            return Ok(());
        }
        let what = format!("the number of examples of {}", self.directory.display());
        Err(Error::value(what, count, format!("1 to {there}")))
    }

    fn check_same(&self, other: &Self) -> Result<()> {
        let (a, b) = (&self.manifest, &other.manifest);
        let numbers = [
            ("size", a.size.to_string(), b.size.to_string()),
            ("sketch_seed", a.sketch_seed.to_string(), b.sketch_seed.to_string()),
            ("outputs", a.outputs.to_string(), b.outputs.to_string()),
        ];
        let texts = SHARED.map(|name| {
            let text = |m: &SketchManifest| m.metadata.get(name).cloned().unwrap_or_default();
            (name, text(a), text(b))
        });
        match numbers.into_iter().chain(texts).find(|(_, a, b)| a != b) {
            None => Ok(()),
            Some((name, a, b)) => Err(Error::format(
                &other.directory,
                format!(
                    "{name} is {b}, and {a} in {}: sketches of different networks, prompts or folds have no kernel",
                    self.directory.display()
                ),
            )),
        }
    }

    /// The error of this sketch's kernel on its sample, where the exact one is there.
    ///
    /// # Errors
    /// [`Error::Format`] for damaged files.
    pub fn error(&self) -> Result<Option<SketchError>> {
        let Some(exact) = read_sample(&self.directory, &self.manifest)? else { return Ok(None) };
        let outputs = self.manifest.outputs as i64;
        let mut rows = Vec::new();
        for example in &self.manifest.sample {
            let block = example / self.manifest.block;
            let at = (example - self.manifest.range(block).start) as i64;
            rows.push(self.block(block)?.0.narrow(0, at * outputs, outputs).to_kind(Kind::Double));
        }
        let rows = Tensor::cat(&rows, 0);
        let found = rows.matmul(&rows.tr());
        let size = exact.size()[0];
        let (mut squares, mut bounds, mut largest, mut entries) = (0.0, 0.0, 0f64, 0);
        for i in 0..size {
            for j in 0..=i {
                let value = |t: &Tensor, i, j| t.double_value(&[i, j]);
                let (k_ii, k_jj, k_ij) = (value(&exact, i, i), value(&exact, j, j), value(&exact, i, j));
                let unit = (k_ii * k_jj).sqrt();
                if unit <= 0.0 {
                    continue;
                }
                let error = (value(&found, i, j) - k_ij) / unit;
                squares += error * error;
                bounds += (bound(k_ii, k_jj, k_ij, self.manifest.size) / unit).powi(2);
                largest = largest.max(error.abs());
                entries += 1;
            }
        }
        let mean = |sum: f64| (sum / f64::from(entries.max(1))).sqrt();
        Ok(Some(SketchError { entries: entries as usize, measured: mean(squares), bound: mean(bounds), largest }))
    }

    /// Metadata of a kernel file: the rows are this sketch's examples, the columns the other's.
    fn metadata(&self, count: usize, other: Option<(&Self, usize)>) -> Result<HashMap<String, String>> {
        let (columns, column_count) = other.unwrap_or((self, count));
        let mut all: HashMap<String, String> = HashMap::new();
        for (name, value) in &columns.manifest.metadata {
            if !name.starts_with("row") && !name.starts_with("column") {
                all.insert(name.clone(), value.clone());
            }
        }
        for (side, source, count) in [("row", self, count), ("column", columns, column_count)] {
            for (name, value) in &source.manifest.metadata {
                let Some(rest) = name.strip_prefix("column") else { continue };
                // Lists have an entry for each example.
                let listed = rest == "_numbers" || rest == "_text_digests";
                let value =
                    if listed { value.split(',').take(count).collect::<Vec<_>>().join(",") } else { value.clone() };
                all.insert(format!("{side}{rest}"), value);
            }
        }
        let size = self.manifest.size;
        all.insert("sketch_size".into(), size.to_string());
        all.insert("sketch_seed".into(), self.manifest.sketch_seed.to_string());
        all.insert(
            "sketch_bound".into(),
            format!("standard deviation of an entry at most sqrt((K_ii K_jj + K_ij^2)/{size})"),
        );
        if let Some(error) = self.error()? {
            all.insert("sketch_error".into(), serde_json::to_string(&error).expect("plain data"));
        }
        Ok(all)
    }
}

/// Rows of a strip of a kernel, between two looks for a request to stop.
const STRIP: usize = 2048;
