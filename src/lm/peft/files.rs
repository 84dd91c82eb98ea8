//! The files of an adapter, and prefixes of names in them.

/// PEFT's prefix of every module's name.
pub(super) const WRAPPER: &str = "base_model.model.";
pub(super) const CONFIG: &str = "adapter_config.json";
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";
/// Written by older versions.
pub(super) const OLDER_WEIGHTS: &str = "adapter_model.bin";
