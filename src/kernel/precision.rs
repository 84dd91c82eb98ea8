//! Reduced or raised precision of products of gradients, and its measured error.

use tch::{Device, Kind};

use super::{Formula, FormulaSet, Gram, GramOptions, structured_gram};
use crate::error::{Error, Result};
use crate::jacobian::{Examples, Parameters, Tap};
use crate::products::Parts;
use crate::progress::Silent;
use crate::setting::Field;

/// Element type in which gradients are stored and multiplied. The network itself runs in its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Gradient factors with 8 significant bits, in half the memory; sums in single precision. On a processor with units for
    /// bf16 (AMX, AVX512-BF16), linear maps too, and gradients when they are multiplied (on vectors, AVX512-BF16, for SGD's kernel
    /// alone).
    Bf16,
    /// Linear maps and gradients with factors split into two bf16 parts, 16 significant bits, on processors with matrix
    /// units, and when they are multiplied (for SGD's kernel alone, or if there are many); elsewhere single precision.
    Bf16x2,
    /// The same with three parts, all 24 bits of single precision.
    Bf16x3,
    /// Single precision with 11 significant bits in matrix products; CUDA only.
    Tf32,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

impl Precision {
    /// Name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Bf16x2 => "bf16x2",
            Self::Bf16x3 => "bf16x3",
            Self::Tf32 => "tf32",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// The number of bf16 parts into which factors are split, if there are units for them.
    pub fn parts(self) -> Option<Parts> {
        match self {
            Self::Bf16 => Some(Parts::One),
            Self::Bf16x2 => Some(Parts::Two),
            Self::Bf16x3 => Some(Parts::Three),
            Self::Tf32 | Self::F32 | Self::F64 => None,
        }
    }

    /// Sets the element type of a network's gradient factors, and the number of bf16 parts.
    ///
    /// # Errors
    /// [`Error::Setting`] for tf32 without a GPU, and for bf16 parts except on the CPU in single precision.
    pub fn apply(self, parameters: &Parameters, options: &mut GramOptions) -> Result<()> {
        options.product_kind = Some(self.kind(parameters.device())?);
        options.parts = self.parts();
        let splits = matches!(self, Self::Bf16x2 | Self::Bf16x3);
        if splits && parameters.kind() == Kind::Double {
            return Err(Error::setting(
                Field::Precision,
                self.name(),
                format!("f64: a network in double precision ({}) cannot be split into bf16 parts", Field::Dtype),
            ));
        }
        Ok(())
    }

    /// Element type of gradient factors.
    ///
    /// # Errors
    /// [`Error::Setting`] for tf32 without a GPU, and for bf16 parts except on the CPU.
    pub fn kind(self, device: Device) -> Result<Kind> {
        match self {
            Self::Bf16 => Ok(Kind::BFloat16),
            Self::Bf16x2 | Self::Bf16x3 if device == Device::Cpu => Ok(Kind::Float),
            Self::Bf16x2 | Self::Bf16x3 => {
                Err(Error::setting(Field::Precision, self.name(), "tf32, bf16 or f32: bf16 parts are for CPUs"))
            }
            Self::F32 => Ok(Kind::Float),
            Self::F64 => Ok(Kind::Double),
            Self::Tf32 if device.is_cuda() => Ok(Kind::Float),
            Self::Tf32 => Err(Error::setting(
                Field::Precision,
                self.name(),
                "f32, or bf16 to save memory: tf32 is a mode of CUDA devices",
            )),
        }
    }
}

/// Number of examples on which errors are measured.
const SAMPLE: usize = 4;

/// The largest error of an entry against products in double precision, relative to the largest entry, by formula, on the
/// kernel of a few examples.
///
/// # Errors
/// As [`structured_gram`].
pub fn precision_errors(
    parameters: &Parameters,
    examples: &dyn Examples,
    options: &GramOptions,
) -> Result<Vec<(Formula, f64)>> {
    let few = First { examples, count: examples.len().min(SAMPLE) };
    let gram = |product_kind, parts| -> Result<Gram> {
        let options = GramOptions { product_kind, parts, share_matrices: false, ..options.clone() };
        structured_gram(parameters, &few, None, &options, &Silent)
    };
    let (own, exact) = (gram(options.product_kind, options.parts)?, gram(Some(Kind::Double), None)?);
    Ok(relative_errors(&own, &exact, options.formulas))
}

fn relative_errors(own: &Gram, exact: &Gram, formulas: FormulaSet) -> Vec<(Formula, f64)> {
    let error = |formula| {
        let (a, b) = (own.matrix(formula)?, exact.matrix(formula)?);
        let largest = b.abs().max().double_value(&[]);
        let difference = (a - b).abs().max().double_value(&[]);
        Some((formula, if difference == 0.0 { 0.0 } else { difference / largest }))
    };
    Formula::ALL.into_iter().filter(|f| formulas.contains(*f)).filter_map(error).collect()
}

/// The first examples of a set.
struct First<'a> {
    examples: &'a dyn Examples,
    count: usize,
}

impl Examples for First<'_> {
    fn len(&self) -> usize {
        self.count
    }

    fn outputs(&self) -> usize {
        self.examples.outputs()
    }

    fn cost(&self, index: usize) -> usize {
        self.examples.cost(index)
    }

    fn separate(&self) -> bool {
        self.examples.separate()
    }

    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> tch::Tensor {
        self.examples.forward(tap, indices)
    }
}
