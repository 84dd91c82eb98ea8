//! Shared by the integration tests: golden values, comparisons of tensors, tiny models.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod bin;
pub mod causal;
pub mod command;
pub mod fixture;
pub mod junit;
pub mod network;
pub mod recipe;
pub mod svg;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use kernelview::jacobian::Parameters;
use kernelview::kernel::{Formula, Gram};
use kernelview::lm::{LanguageModel, OutputMode, PromptExample, PromptExamples, Roundings};
use tch::{Device, Kind, Tensor};

/// Tests run in parallel on tiny tensors, for which one libtorch thread each is fastest. `KERNELVIEW_TEST_THREADS` sets more,
/// to show that results do not depend on it.
pub fn one_thread() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let asked = std::env::var("KERNELVIEW_TEST_THREADS").ok().and_then(|n| n.parse().ok());
        tch::set_num_threads(asked.unwrap_or(1));
    });
}

/// The folder of golden values outside the checkout; `None`, after printing that the test is skipped, if it is absent.
pub fn shared(part: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(part);
    if path.exists() {
        return Some(path);
    }
    // Directly to stderr: the test harness would discard what a passing test prints.
    let _ = writeln!(std::io::stderr(), "skipped: {} is not there, so nothing was compared", path.display());
    None
}

/// All tensors of a safetensors file.
pub fn read_tensors(path: &Path) -> BTreeMap<String, Tensor> {
    Tensor::read_safetensors(path).expect("golden file").into_iter().collect()
}

/// Largest entrywise difference over the largest magnitude of `expected`.
pub fn relative_error(actual: &Tensor, expected: &Tensor) -> f64 {
    let (a, e) = (actual.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    assert_eq!(a.size(), e.size(), "shapes");
    let scale = e.abs().max().double_value(&[]);
    (a - e).abs().max().double_value(&[]) / scale.max(f64::MIN_POSITIVE)
}

/// Whether this processor rounds single precision like those on which the golden values of networks with single-precision parts
/// were made. Another vector width means another order of sums, and then these values differ in the seventh digit.
pub fn rounds_as_golden() -> bool {
    let numbers = Tensor::arange(960, (Kind::Float, Device::Cpu));
    let angles = (&numbers * 0.37).view([20, 48]);
    let wave = (angles.cos() + angles.sin()) * (numbers.view([20, 48]) + 1.0).log();
    let means = wave.square().mean_dim(-1, true, Kind::Float);
    let parts = [means.rsqrt(), wave.softmax(-1, Kind::Float), Tensor::pow_scalar(1e4, &(&numbers / 960.0))];
    let parts: Vec<Tensor> = parts.iter().map(|t| t.reshape([-1])).collect();
    let bits = Vec::<f32>::try_from(Tensor::cat(&parts, 0)).expect("numbers");
    let digest = bits
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, x| (hash ^ u64::from(x.to_bits())).wrapping_mul(0x0100_0000_01b3));
    if digest != GOLDEN_ROUNDING {
        let _ = writeln!(std::io::stderr(), "single precision rounds otherwise here ({digest:#x}): wider tolerances");
    }
    digest == GOLDEN_ROUNDING
}

/// The digest of the numbers in [`rounds_as_golden`] with AVX-512.
const GOLDEN_ROUNDING: u64 = 0x8edd_95a3_ea32_512c;

pub fn integers(t: &Tensor) -> Vec<i64> {
    Vec::try_from(t.to_kind(Kind::Int64).contiguous().view(-1)).expect("integers")
}

/// Unpadded prompts of a golden file.
pub fn golden_prompts(golden: &BTreeMap<String, Tensor>) -> Vec<PromptExample> {
    let (ids, mask, pos) = (&golden["input_ids"], &golden["attention_mask"], integers(&golden["mask_pos"]));
    (0..ids.size()[0])
        .map(|i| {
            let n = integers(&mask.get(i)).iter().sum::<i64>();
            let first = |name: &str| golden.get(name).map(|t| integers(&t.get(i).narrow(0, 0, n)));
            PromptExample {
                input_ids: integers(&ids.get(i).narrow(0, 0, n)),
                segment_ids: first("token_type_ids").unwrap_or_else(|| vec![0; n as usize]),
                mask_position: pos[i as usize] as usize,
            }
        })
        .collect()
}

/// A golden checkpoint with its values.
pub struct Golden {
    pub model: Box<dyn LanguageModel>,
    pub parameters: Parameters,
    pub values: BTreeMap<String, Tensor>,
    /// Roundings that were applied when the values were made.
    pub roundings: Roundings,
}

impl Golden {
    /// A checkpoint outside the checkout; its values were made with explicit attention, rounded as in transformers.
    pub fn load(architecture: &str, kind: Kind) -> Option<Self> {
        let directory = shared(&format!("oracle/{architecture}"))?;
        let eager = tempfile::tempdir().expect("a temporary directory");
        for name in ["config.json", "model.safetensors", "golden.safetensors"] {
            std::fs::copy(directory.join(name), eager.path().join(name)).expect("a copy");
        }
        fixture::set(&eager.path().join("config.json"), "eager_attention", true.into());
        let golden = Self::read(eager.path(), kind);
        Some(Self { roundings: Roundings::AsTransformers, ..golden })
    }

    /// A checkpoint directory with golden values, made without roundings.
    pub fn read(directory: &Path, kind: Kind) -> Self {
        one_thread();
        let (model, parameters) = kernelview::lm::load(directory, kind, Device::Cpu).expect("golden checkpoint");
        let values = read_tensors(&directory.join("golden.safetensors"));
        Self { model, parameters, values, roundings: Roundings::None }
    }

    pub fn examples(&self) -> PromptExamples<'_> {
        let labels = integers(&self.values["label_ids"]);
        PromptExamples::new(&*self.model, golden_prompts(&self.values), &labels, OutputMode::Logits, Device::Cpu)
            .expect("golden prompts")
            .rounded(self.roundings)
    }

    /// A golden [N,C,N,C] kernel as [NC,NC].
    pub fn kernel(&self, name: &str) -> Tensor {
        let rows = self.values["logits"].numel() as i64;
        self.values[name].view([rows, rows])
    }
    /// Compares kernels, shares and counts of signs: sums relative to a kernel's largest entry within `sums`, sign kernels
    /// within `signs`.
    pub fn check_kernels(&self, gram: &Gram, (sums, signs): (f64, f64), what: &str) {
        for (formula, tolerance) in [(Formula::Sgd, sums), (Formula::Asymmetric, sums), (Formula::Signgd, signs)] {
            let expected = self.kernel(&format!("kernel.{formula}"));
            let error = relative_error(gram.matrix(formula).expect("computed"), &expected);
            assert!(error <= tolerance, "{what} {formula}: {error:.2e}");
        }
        let reversed = gram.asymmetric_reversed.as_ref().expect("computed");
        assert!(relative_error(reversed, &self.kernel("kernel.asymmetric").tr()) <= sums, "{what} reversed");
        for share in &gram.shares {
            let name = &self.parameters.specs()[share.parameter].name;
            let expected = &self.values[&format!("by_parameter.{name}")];
            let actual = share.sgd.as_ref().expect("asked for");
            // Shares are compared on the kernel's scale: a key bias's share is round-off around zero.
            let scale = self.kernel("kernel.sgd").abs().max().double_value(&[]);
            let error = (actual - expected).abs().max().double_value(&[]) / scale;
            assert!(error <= sums, "{what} share of {name}: {error:.2e}");
            let trace = expected.trace().double_value(&[]);
            assert!((share.trace_sgd - trace).abs() <= sums * scale * 16.0, "{what} trace of {name}");
        }
        let counted: f64 = gram.shares.iter().filter_map(|s| s.trace_signgd).sum();
        let expected = self.values["grad_nonzero"].sum(Kind::Double).double_value(&[]);
        assert_eq!(counted, expected, "{what} non-zero entries");
    }
}
