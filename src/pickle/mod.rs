//! Files of `torch.save`: a zip archive with a pickled value and one entry of raw numbers per storage; before PyTorch 1.6
//! the same one behind the other.
//!
//! [`Archive`] reads them and cuts tensors out of storages, [`write`] makes them. Files are data: the pickled value is
//! interpreted by [`machine`], over a handful of inert values; nothing in it is executed, and no entry's name becomes a
//! path. Knows neither models nor kernels.

mod archive;
mod machine;
mod write;

pub(crate) use archive::Archive;
pub(crate) use machine::Value;
pub(crate) use write::tuple;
