//! Files of weights, mapped into memory: their pages are read as they are used, and are no memory of the process's own.
//!
//! A view of a file changes with the file. It serves while a checkpoint is loaded; what is kept longer is a copy.

use std::fs;
use std::ops::Range;
use std::path::Path;

use tch::{Device, Kind, TchError, Tensor};

use crate::error::{Error, Result};
use crate::files::check_content;

/// A file's content.
pub struct Mapped {
    /// All bytes, as a tensor whose storage is the mapping.
    whole: Tensor,
}

impl Mapped {
    /// Maps a file privately: nothing is written to it. What cannot be mapped, such as a pipe, is read.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] if the file is a placeholder, see [`check_content`].
    pub fn open(path: &Path) -> Result<Self> {
        let facts = fs::metadata(path).map_err(Error::io("read", path))?;
        let length = i64::try_from(facts.len()).ok().filter(|length| facts.is_file() && *length > 0);
        let mapped = length
            .zip(path.to_str())
            .and_then(|(length, name)| Tensor::f_from_file(name, false, length, (Kind::Uint8, Device::Cpu)).ok());
        let whole = match mapped {
            Some(whole) => whole,
            None => Tensor::from_slice(&fs::read(path).map_err(Error::io("read", path))?),
        };
        let file = Self { whole };
        check_content(path, file.bytes())?;
        Ok(file)
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        if self.whole.numel() == 0 {
            return &[];
        }
        // SAFETY: a contiguous tensor of bytes, which lives as long as the slice and is never written to.
        unsafe { std::slice::from_raw_parts(self.whole.data_ptr().cast::<u8>().cast_const(), self.whole.numel()) }
    }

    /// Numbers at a place: a view of the file, or a copy where they are not aligned to their size.
    ///
    /// # Errors
    /// A shape that needs more or fewer bytes.
    ///
    /// # Panics
    /// If the place is not within the file.
    pub fn tensor(&self, place: Range<usize>, shape: &[i64], kind: Kind) -> std::result::Result<Tensor, TchError> {
        let bytes = &self.bytes()[place.clone()];
        let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(usize::try_from(*d).ok()?));
        if count.and_then(|n| n.checked_mul(kind.elt_size_in_bytes())) != Some(bytes.len()) {
            return Err(TchError::Shape(format!("{} bytes for {kind:?} of shape {shape:?}", bytes.len())));
        }
        let view = self.whole.f_narrow(0, place.start as i64, place.len() as i64)?.f_view_dtype(kind);
        view.and_then(|view| view.f_view(shape)).or_else(|_| Tensor::f_from_data_size(bytes, shape, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails for: a view at another place or of another type, numbers that are not aligned, an empty file, a missing one without
    /// its name.
    #[test]
    fn numbers_are_those_of_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("numbers");
        let numbers = [1.5f32, -2.0, 3.25];
        let mut bytes = vec![7u8; 4];
        bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
        bytes.insert(0, 9);
        for skip in [0, 1] {
            fs::write(&path, &bytes[skip..]).expect("written");
            let file = Mapped::open(&path).expect("a file");
            assert_eq!(file.bytes(), &bytes[skip..]);
            let start = 5 - skip;
            let found = file.tensor(start..start + 12, &[3, 1], Kind::Float).expect("numbers");
            assert_eq!(found, Tensor::from_slice(&numbers).view([3, 1]), "from byte {start}");
            assert!(file.tensor(start..start + 8, &[3], Kind::Float).is_err(), "too few numbers for a shape");
        }
        fs::write(&path, b"").expect("written");
        assert!(Mapped::open(&path).expect("a file").bytes().is_empty());
        let error = Mapped::open(&directory.path().join("none")).err().expect("no file").to_string();
        assert!(error.contains("none"), "{error}");
    }
}
