//! Kernels from a finished sketch, and their errors.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::bound;
use super::store::{SketchManifest, block_path, read_block, read_sample};
use crate::error::{Error, Result};
use crate::kernel::{Gram, GramMatrix, KernelFile};
use crate::machine::free_memory;
use crate::progress::{Monitor, check_cancelled};
use crate::shard::incomplete;

/// Error of a sketched kernel against the exact one on a sample, in units of `√(K_ii K_jj)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SketchError {
    /// Number of entries compared.
    pub entries: usize,
    /// Root mean square error.
    pub measured: f64,
    /// The bound on it from the entries' variances.
    pub bound: f64,
    /// The largest error.
    pub largest: f64,
}

/// A finished sketch.
pub struct Sketches {
    directory: PathBuf,
    manifest: SketchManifest,
    /// The error, once measured.
    error: OnceCell<Option<SketchError>>,
}

/// What two sketches must share for a kernel between them.
const SHARED: [&str; 6] = ["model_digest", "template", "label_words", "output_mode", "head", "subset"];

impl Sketches {
    /// Opens a directory, which must contain every block.
    ///
    /// # Errors
    /// [`Error::Format`] for another kind of directory, or if blocks are missing.
    pub fn open(directory: &Path) -> Result<Self> {
        let manifest = SketchManifest::read(directory)?;
        let paths = (0..manifest.blocks()).map(|block| (block, block_path(directory, block)));
        let missing: Vec<(usize, PathBuf)> = paths.filter(|(_, path)| !path.is_file()).collect();
        if !missing.is_empty() {
            return Err(incomplete(directory, manifest.blocks(), &missing));
        }
        Ok(Self { directory: directory.to_path_buf(), manifest, error: OnceCell::new() })
    }

    /// Its manifest.
    pub fn manifest(&self) -> &SketchManifest {
        &self.manifest
    }

    fn block(&self, block: usize) -> Result<(Tensor, Tensor)> {
        read_block(&self.directory, &self.manifest, block)?.ok_or_else(|| {
            Error::format(block_path(&self.directory, block), "belongs to another run; remove it and compute it again")
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
    /// [`Error::Format`] for damaged blocks and incompatible sketches; [`Error::Value`] for counts that are too large;
    /// [`Error::Memory`]; `Interrupted`.
    pub fn kernel(&self, count: usize, other: Option<(&Self, usize)>, monitor: &dyn Monitor) -> Result<KernelFile> {
        self.check(count)?;
        if let Some((other, count)) = other {
            other.check(count)?;
            self.check_same(other)?;
        }
        let outputs = self.manifest.outputs;
        let (left, right) = (count * outputs, other.map_or(count, |(_, count)| count) * outputs);
        // The numbers, the bytes of the file, and the rows.
        let needed = (24 * left * right + 8 * (left + right) * self.manifest.size) as u64;
        if let Some(free) = free_memory().filter(|free| *free < needed) {
            let what = format!("a kernel of {left} x {right} rows");
            return Err(Error::Memory { what, needed, free, advice: "use fewer examples".into() });
        }
        let (a, left_outputs) = self.rows(count)?;
        let right_side = other.map(|(other, count)| other.rows(count)).transpose()?;
        let b = right_side.as_ref().map_or(&a, |(rows, _)| rows);
        let kernel = Tensor::empty([left as i64, right as i64], (Kind::Double, Device::Cpu));
        monitor.begin("kernel from sketches", left.div_ceil(STRIP) as u64);
        for from in (0..left).step_by(STRIP) {
            check_cancelled()?;
            let size = STRIP.min(left - from) as i64;
            // Exactly symmetric: the upper triangle is the transposed lower one.
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
                    "{name} is {b}, but {a} in {}: there is no kernel between sketches of different networks, \
                     prompts or seeds",
                    self.directory.display()
                ),
            )),
        }
    }

    /// The error of this sketch's kernel on its sample, if the exact kernel was computed.
    ///
    /// # Errors
    /// [`Error::Format`] for damaged files.
    pub fn error(&self) -> Result<Option<SketchError>> {
        if let Some(known) = self.error.get() {
            return Ok(*known);
        }
        let found = self.measured_error()?;
        Ok(*self.error.get_or_init(|| found))
    }

    fn measured_error(&self) -> Result<Option<SketchError>> {
        let Some(exact) = read_sample(&self.directory, &self.manifest)? else { return Ok(None) };
        let outputs = self.manifest.outputs as i64;
        let mut rows = Vec::new();
        // Each block is read once: the sample is sorted.
        for examples in self.manifest.sample.chunk_by(|a, b| a / self.manifest.block == b / self.manifest.block) {
            let block = examples[0] / self.manifest.block;
            let (all, _) = self.block(block)?;
            for example in examples {
                let at = (example - self.manifest.range(block).start) as i64;
                rows.push(all.narrow(0, at * outputs, outputs).to_kind(Kind::Double));
            }
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

/// Number of kernel rows computed between checks for cancellation.
const STRIP: usize = 2048;
