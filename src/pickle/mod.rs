//! `torch.save` files: a zip archive with a pickled value and an entry of raw numbers per storage; before PyTorch 1.6, the
//! same concatenated.
//!
//! [`Archive`] reads them and extracts tensors from storages; [`write`] writes them. Files are data: [`machine`] interprets
//! the pickled value with a few inert types; nothing in it is executed, and no entry's name is used as a path. Knows neither
//! models nor kernels.

mod archive;
mod machine;
mod write;

pub(crate) use archive::Archive;
pub(crate) use machine::Value;
pub(crate) use write::tuple;
