//! Command-line spellings and help texts of the library's enumerated settings. The library itself knows no command line.

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::analysis::{Head, Measures, SplitName};
use crate::device::Dtype;
use crate::evidence::Profile;
use crate::jacobian::Subset;
use crate::kernel::{Formula, Precision};
use crate::lm::OutputMode;
use crate::products::Parts;
use crate::subspace::Init;

/// Makes a library enumeration usable as an argument. A variant missing here does not compile.
macro_rules! choices {
    ($type:ty { $($value:ident: $name:literal, $help:literal;)+ }) => {
        impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self::$value),+]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(match self {
                    $(Self::$value => PossibleValue::new($name).help($help),)+
                })
            }
        }
    };
}

choices!(Dtype {
    F32: "f32", "Single precision: kernels agree with double precision to about 1e-5 relative";
    F64: "f64", "Double precision: for golden comparisons and small models";
});

choices!(Precision {
    Bf16: "bf16", "Gradient factors with 8 significant bits, in half the memory; sums in single precision. On a \
                   processor with units for bf16 (AMX, AVX512-BF16), linear maps too, and gradients when they are \
                   multiplied (with AVX512-BF16, if `sgd` is the only formula)";
    Bf16x2: "bf16x2", "Products split into two bf16 parts (16 significant bits), on the processor's matrix units (AMX); \
                       without them, as f32";
    Bf16x3: "bf16x3", "The same with three parts, all 24 bits of single precision";
    Tf32: "tf32", "Single precision with 11 significant bits in matrix products; CUDA only";
    F32: "f32", "Single precision";
    F64: "f64", "Double precision";
});

choices!(Formula {
    Sgd: "sgd", "<∇f, ∇f'>, the kernel analog of SGD";
    Asymmetric: "asymmetric", "<∇f, sign ∇f'>, the kernel analog of SignGD (early Adam); not symmetric";
    Signgd: "signgd", "<sign ∇f, sign ∇f'>, its symmetric stand-in";
});

choices!(Subset {
    All: "all", "Every parameter";
    NoEmbeddings: "no-embeddings", "All but the embeddings and a decoder tied to them";
    NoHead: "no-head", "All but the prediction head";
    BiasesOnly: "biases-only", "Only biases of linear maps and layer norms";
});

choices!(OutputMode {
    Logits: "logits", "The logits of the C label words";
    Difference: "difference", "The second label word's logit minus the first's: one output, for two classes";
});

choices!(Head {
    Prompt: "prompt", "The label words' logits at the template's mask";
    Random: "random", "A new linear head with random weights on the first token (the last one of a causal model), \
                       without a prompt";
    LinearProbe: "linear-probe", "The same, with weights from a logistic regression on the training examples' features";
});

choices!(Measures {
    Full: "full", "Residuals along the run and at its end, and gradient drift; in double precision where single does \
                   not suffice";
    End: "end", "Only linearization and kernel drift at the end of the run, in the network's own precision; much \
                 less time and memory for large models";
});

choices!(SplitName {
    Train: "train", "Training examples";
    Dev: "dev", "Examples that settings are selected on";
    Test: "test", "Examples that results are reported on";
});

choices!(Init {
    Gaussian: "gaussian", "N(0, 1/k): the adapters' kernel has the adapted weights' kernel as its mean (for s = 1)";
    KaimingUniform: "kaiming-uniform", "PEFT's default, Kaiming-uniform with a = √5: uniform on ±1/√in, variance 1/(3 in)";
    PeftGaussian: "peft-gaussian", "PEFT's `init_lora_weights=\"gaussian\"`: N(0, 1/k²)";
});

choices!(Profile {
    Quick: "quick", "About two minutes for the whole suite on two cores";
    Standard: "standard", "About twenty minutes on two cores: wider networks, more seeds, narrower intervals";
    Full: "full", "Less than an hour on two cores: widths to 4096, in 9 GB of memory";
});

/// bf16 parts by name; a parser, because the type belongs to another crate.
pub(super) fn parts() -> impl TypedValueParser<Value = Parts> {
    let named = |name: String| Parts::ALL.into_iter().find(|p| p.name() == name).expect("one of the names");
    let help = [
        "Factors with 8 significant bits, the same on every processor; fast with units for bf16 (AMX, AVX512-BF16)",
        "16 significant bits on processors with matrix units, otherwise single precision",
        "All bits of single precision, on matrix units if available",
    ];
    let values = Parts::ALL.into_iter().zip(help).map(|(p, help)| PossibleValue::new(p.name()).help(help));
    PossibleValuesParser::new(values).map(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a report calls a setting is what one types to set it.
    #[test]
    fn names_are_those_of_files() {
        fn check<T: ValueEnum + serde::Serialize>() {
            for value in T::value_variants() {
                let typed = value.to_possible_value().expect("not hidden").get_name().replace('-', "_");
                let written = serde_json::to_value(value).expect("a name");
                assert_eq!(written.as_str().map(|n| n.replace('-', "_")), Some(typed));
            }
        }
        check::<Dtype>();
        check::<Precision>();
        check::<Formula>();
        check::<Subset>();
        check::<OutputMode>();
        check::<Head>();
        check::<Measures>();
        check::<SplitName>();
        check::<Init>();
        check::<Profile>();
    }
}
