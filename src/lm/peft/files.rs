//! The files of an adapter, and how names in them begin.

/// What PEFT puts in front of every module's name.
pub(super) const WRAPPER: &str = "base_model.model.";
pub(super) const CONFIG: &str = "adapter_config.json";
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";
/// What older versions wrote.
pub(super) const OLDER_WEIGHTS: &str = "adapter_model.bin";
