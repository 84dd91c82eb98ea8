//! The parameters of a network: names, shapes, roles and values in a fixed order.

use std::ops::Range;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::products::Parts;

/// Index of a parameter in its network's [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Param(pub usize);

/// A parameter's position in the network, by which subsets are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Token, position and segment embeddings and their layer norm.
    Embedding,
    /// Everything between embeddings and head.
    Body,
    /// The prediction head (without a decoder that is tied to the token embeddings).
    Head,
}

/// Name, shape and position of a parameter tensor.
#[derive(Clone, Debug)]
pub struct ParameterSpec {
    /// Name as in the checkpoint format, e.g. `roberta.encoder.layer.0.output.dense.weight`.
    pub name: String,
    /// Shape.
    pub shape: Vec<i64>,
    /// Position in the network.
    pub role: Role,
    /// The layer to which reports assign it, e.g. `embeddings`, `layer 0`, `head`.
    pub layer: String,
    /// Rows in which every gradient is zero in exact arithmetic (of key biases under softmax attention: all rows, or those
    /// of the keys if one map computes queries, keys and values), in ascending order. In floating point such gradients are
    /// round-off noise, and are treated as zero. Empty for most parameters.
    pub structural_zeros: Vec<Range<i64>>,
}

impl ParameterSpec {
    /// A parameter without structural zeros.
    pub fn new(name: impl Into<String>, shape: &[i64], role: Role, layer: impl Into<String>) -> Self {
        let (name, layer) = (name.into(), layer.into());
        Self { name, shape: shape.to_vec(), role, layer, structural_zeros: Vec::new() }
    }

    /// Number of entries.
    pub fn numel(&self) -> i64 {
        self.shape.iter().product()
    }

    /// Whether every gradient of it is zero in exact arithmetic.
    pub fn is_structural_zero(&self) -> bool {
        self.structural_zeros.iter().map(|rows| rows.end - rows.start).sum::<i64>() == self.shape[0]
    }

    /// The entries, in the order of memory, whose gradients are zero in exact arithmetic.
    pub fn zero_entries(&self) -> impl Iterator<Item = Range<i64>> {
        let width: i64 = self.shape[1..].iter().product();
        self.structural_zeros.iter().map(move |rows| rows.start * width..rows.end * width)
    }

    /// Whether it is an additive bias (of a linear map or a layer norm).
    pub fn is_bias(&self) -> bool {
        self.name.ends_with("bias")
    }
}

/// The parameters included in a kernel or fine-tuning run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subset {
    /// Every parameter.
    #[default]
    All,
    /// All but the embeddings and a decoder tied to them.
    NoEmbeddings,
    /// All but the prediction head.
    NoHead,
    /// Only biases of linear maps and layer norms.
    BiasesOnly,
}

impl Subset {
    /// Whether the subset contains a parameter.
    pub fn contains(self, spec: &ParameterSpec) -> bool {
        match self {
            Self::All => true,
            Self::NoEmbeddings => spec.role != Role::Embedding,
            Self::NoHead => spec.role != Role::Head,
            Self::BiasesOnly => spec.is_bias(),
        }
    }
}

/// The values of a network's parameters with their specifications.
#[derive(Debug)]
pub struct Parameters {
    specs: Arc<[ParameterSpec]>,
    values: Vec<Tensor>,
    parts: Option<Parts>,
}

impl Parameters {
    /// Pairs specifications with values of the same shapes, in the same order.
    ///
    /// # Panics
    /// If counts or shapes differ: loaders check them first and report the file.
    pub fn new(specs: Arc<[ParameterSpec]>, values: Vec<Tensor>) -> Self {
        assert_eq!(specs.len(), values.len(), "one value per specification");
        for (spec, value) in specs.iter().zip(&values) {
            assert_eq!(spec.shape, value.size(), "shape of {}", spec.name);
        }
        Self { specs, values, parts: None }
    }

    /// The specifications, in order.
    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// The values, in order.
    pub fn values(&self) -> &[Tensor] {
        &self.values
    }

    /// The value of one parameter.
    pub fn get(&self, p: Param) -> &Tensor {
        &self.values[p.0]
    }

    /// Number of parameter tensors.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Number of parameter entries P.
    pub fn numel(&self) -> i64 {
        self.specs.iter().map(ParameterSpec::numel).sum()
    }

    /// Element type of the values.
    pub fn kind(&self) -> Kind {
        self.values.first().map_or(Kind::Float, Tensor::kind)
    }

    /// Device of the values.
    pub fn device(&self) -> Device {
        self.values.first().map_or(Device::Cpu, Tensor::device)
    }

    /// The same specifications with new values, one per parameter.
    #[must_use]
    pub fn map(&self, f: impl FnMut(&Tensor) -> Tensor) -> Self {
        Self { specs: Arc::clone(&self.specs), values: self.values.iter().map(f).collect(), parts: self.parts }
    }

    /// The same values, with linear maps computed from this many bf16 parts; `None` for libtorch's own products.
    #[must_use]
    pub fn in_parts(&self, parts: Option<Parts>) -> Self {
        Self { parts, ..self.map(Tensor::shallow_clone) }
    }

    /// The number of bf16 parts from which linear maps are computed.
    pub fn parts(&self) -> Option<Parts> {
        self.parts
    }

    /// An independent copy without autograd history.
    #[must_use]
    pub fn detached_copy(&self) -> Self {
        self.map(|v| v.detach().copy())
    }

    /// The same with independent copies of the marked parameters, without autograd history, and the others' memory shared.
    #[must_use]
    pub fn copied(&self, which: &[bool]) -> Self {
        let mut which = which.iter();
        let copy = |v: &Tensor| if which.next().is_some_and(|own| *own) { v.detach().copy() } else { v.detach() };
        self.map(copy)
    }

    /// `self - other`, parameter by parameter, without autograd history.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let values = self.values.iter().zip(&other.values).map(|(a, b)| a.detach() - b.detach()).collect();
        Self { specs: Arc::clone(&self.specs), values, parts: self.parts }
    }
}
