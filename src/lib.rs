//! `kernelview` tells whether fine-tuning a language model is in the kernel (lazy) regime, after S. Malladi, A. Wettig,
//! D. Yu, D. Chen, S. Arora, "A Kernel-Based View of Language Model Fine-Tuning" (ICML 2023, arXiv 2210.05643).
//!
//! Data flows one way: task and model → prompted batch → per-example gradients → kernels → solvers and measures →
//! report. See `ARCHITECTURE.md` for the map.

pub mod analysis;
pub mod cli;
pub mod device;
pub mod error;
pub mod evidence;
pub mod files;
pub mod jacobian;
pub mod kernel;
pub mod lm;
pub mod measure;
pub mod progress;
pub mod regression;
#[allow(missing_docs)]
pub mod report {
    pub struct Written {
        pub markdown: std::path::PathBuf,
    }
    pub fn write(a: &crate::evidence::Analysis, d: &std::path::Path) -> crate::error::Result<Written> {
        let p = d.join("report.json");
        crate::files::write_atomic(&p, serde_json::to_string_pretty(a).unwrap().as_bytes())?;
        Ok(Written { markdown: p })
    }
    pub fn terminal_summary(_: &crate::evidence::Analysis) -> String {
        String::new()
    }
}
pub mod task;
pub mod train;
