//! The processor matrix: repeats tests with snapshots or golden digits in processes that compute as another processor would.
//!
//! libtorch chooses its vector loops, oneDNN and MKL their matrix products, and this program its innermost loops by the
//! processor's instruction sets. Each can be limited to older ones, so one machine shows what older ones would print.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use crate::error::{Doing, Result};
use crate::run::cargo;

/// A processor, as environment variables; `None` for this machine as it is.
struct Processor {
    name: &'static str,
    variables: &'static [(&'static str, &'static str)],
    /// Whether it is in the short matrix.
    short: bool,
}

impl Processor {
    /// What this machine lacks to compute like it, which would repeat another row under a wrong name.
    fn missing(&self) -> Option<&'static str> {
        let needs_avx512 = self.variables.contains(&("ATEN_CPU_CAPABILITY", "avx512"));
        (needs_avx512 && !std::is_x86_feature_detected!("avx512f")).then_some("this machine has no AVX-512")
    }
}

const PROCESSORS: &[Processor] = &[
    Processor { name: "this machine", variables: &[], short: false },
    Processor { name: "this machine, two threads", variables: &[("KERNELVIEW_TEST_THREADS", "2")], short: false },
    Processor {
        name: "SSE4.1, portable loops",
        variables: &[
            ("ATEN_CPU_CAPABILITY", "default"),
            ("ONEDNN_MAX_CPU_ISA", "SSE41"),
            ("DNNL_MAX_CPU_ISA", "SSE41"),
            ("MKL_ENABLE_INSTRUCTIONS", "SSE4_2"),
            ("KERNELVIEW_INSTRUCTIONS", "portable"),
        ],
        short: true,
    },
    Processor {
        name: "AVX2, two threads",
        variables: &[
            ("ATEN_CPU_CAPABILITY", "avx2"),
            ("ONEDNN_MAX_CPU_ISA", "AVX2"),
            ("DNNL_MAX_CPU_ISA", "AVX2"),
            ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
            ("KERNELVIEW_INSTRUCTIONS", "avx2"),
            ("KERNELVIEW_TEST_THREADS", "2"),
        ],
        short: true,
    },
    Processor {
        name: "AVX2",
        variables: &[
            ("ATEN_CPU_CAPABILITY", "avx2"),
            ("ONEDNN_MAX_CPU_ISA", "AVX2"),
            ("DNNL_MAX_CPU_ISA", "AVX2"),
            ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
            ("KERNELVIEW_INSTRUCTIONS", "avx2"),
        ],
        short: false,
    },
    Processor {
        name: "AVX-512",
        variables: &[
            ("ATEN_CPU_CAPABILITY", "avx512"),
            ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE"),
            ("DNNL_MAX_CPU_ISA", "AVX512_CORE"),
            ("MKL_ENABLE_INSTRUCTIONS", "AVX512"),
            ("KERNELVIEW_INSTRUCTIONS", "avx512"),
        ],
        short: false,
    },
    Processor { name: "MKL's reproducible products", variables: &[("MKL_CBWR", "COMPATIBLE")], short: false },
];

/// Tests with snapshots or golden digits.
const LIBRARY: &[&str] = &[
    "analysis::",
    "architectures::",
    "checkpoint_settings::",
    "claims_report::",
    "decoders::",
    "golden::",
    "kernel_cases::",
    "laws::",
    "report::",
    "training::",
    "weights::",
];

/// A few seconds' worth of each kind.
const SHORT_LIBRARY: &[&str] = &["analysis::", "architectures::", "golden::", "kernel_cases::", "training::"];

/// Claims that take seconds: from each suite, on identities and limits, SGD and sign updates.
const SHORT_CLAIMS: &[&str] =
    &["kernel_algebra", "structural_zeros", "sign_kernel_limit", "kernel_analog_signgd", "chi_law_prose", "lora"];

/// Runs the full or short matrix and prints which rows failed.
///
/// # Errors
/// If cargo cannot be started.
pub fn test(root: &Path, short: bool) -> Result<ExitCode> {
    let (library, claims) = if short { (SHORT_LIBRARY, SHORT_CLAIMS) } else { (LIBRARY, &[] as &[&str]) };
    let (mut rows, mut good) = (Vec::new(), true);
    for processor in PROCESSORS.iter().filter(|p| p.short || !short) {
        println!("=== {}", processor.name);
        if let Some(missing) = processor.missing() {
            rows.push((processor.name, None, missing.to_owned()));
            continue;
        }
        let start = Instant::now();
        let mut failed = Vec::new();
        for (binary, filters) in [("it", library), ("claims", claims)] {
            let mut command = cargo(&["test", "--no-fail-fast", "--test", binary, "--"]);
            command.args(filters).current_dir(root).envs(processor.variables.iter().copied());
            // Snapshots hold what claims measure; their mutants have none.
            command.env("KERNELVIEW_TEST_MUTANTS", "0");
            if !command.status().doing(|| "start cargo".to_owned())?.success() {
                failed.push(binary);
            }
        }
        let result = if failed.is_empty() { "ok".to_owned() } else { format!("FAILED: {}", failed.join(", ")) };
        good &= failed.is_empty();
        rows.push((processor.name, Some(start.elapsed().as_secs_f64()), result));
    }
    println!("\n{:<32}{:>8}  result", "processor", "seconds");
    for (name, seconds, result) in &rows {
        let seconds = seconds.map_or_else(|| "skipped".to_owned(), |s| format!("{s:.0}"));
        println!("{name:<32}{seconds:>8}  {result}");
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Parses a leading `--processors` or `--processors=short`: `None` without it, else whether the short matrix is asked for.
pub fn asked(args: &[OsString]) -> Option<bool> {
    match args {
        [only] if only == "--processors" => Some(false),
        [only] if only == "--processors=short" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_is_asked_for_by_one_argument() {
        let words = |all: &[&str]| all.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(asked(&words(&["--processors"])), Some(false));
        assert_eq!(asked(&words(&["--processors=short"])), Some(true));
        assert_eq!(asked(&words(&["--release"])), None);
        assert_eq!(asked(&[]), None);
        assert!(PROCESSORS.iter().any(|p| p.short));
    }
}
