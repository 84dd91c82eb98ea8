//! Synthetic networks with both kernel engines, and laws of their parametrizations: property tests in double precision, also in
//! single precision and on a CUDA device if there is one.
//!
//! Tolerance: 1e-10 relative to a kernel's largest entry for sums taken in another order; integers must be equal.

use crate::common::{one_thread, relative_error};
use kernelview::jacobian::{Examples, Parameters, outputs};
use kernelview::kernel::{Formula, FormulaSet, Gram, GramOptions, dense_jacobian, reference_gram, structured_gram};
use kernelview::network::{
    Abc, Activation, Heads, Kind as ParameterKind, Mlp, Transformer, TransformerAbc, TransformerShape, unit_inputs,
};
use kernelview::progress::Silent;
use kernelview::strategies::{mlp, transformer};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// Token ids \[N, T\] below `vocab`; few enough that tokens repeat.
fn tokens(count: i64, length: i64, vocab: i64, seed: i64) -> Tensor {
    let ids: Vec<i64> = (0..count * length).map(|i| (i * i * 31 + i * 7 + seed).rem_euclid(vocab)).collect();
    Tensor::from_slice(&ids).view([count, length])
}

/// Moves vectors away from their initial constants, so that gradients are generic.
fn disturbed(parameters: &Parameters) -> Parameters {
    let mut stream = 1000;
    parameters.map(|value| {
        stream += 1;
        let kind = (value.kind(), value.device());
        value + kernelview::network::normal_tensor(&value.size(), 0.1, 5, stream, kind.0, kind.1)
    })
}

fn gram(parameters: &Parameters, examples: &dyn Examples, batch: usize, block: i64) -> Gram {
    let mut options = GramOptions::new(FormulaSet::ALL, parameters.len());
    (options.batch, options.block_entries) = (batch, block);
    structured_gram(parameters, examples, None, &options, &Silent).expect("finite kernels")
}

/// Both engines agree, and no kernel depends on batching and blocking.
fn engines_agree(parameters: &Parameters, examples: &dyn Examples, batch: usize, block: i64) {
    let include = vec![true; parameters.len()];
    let reference = reference_gram(parameters, examples, None, FormulaSet::ALL, &include).expect("finite kernels");
    for gram in [gram(parameters, examples, examples.len(), 1 << 20), gram(parameters, examples, batch, block)] {
        for formula in Formula::ALL {
            let tolerance = if formula == Formula::Signgd { 0.0 } else { 1e-10 };
            let error = relative_error(gram.matrix(formula).unwrap(), reference.matrix(formula).unwrap());
            assert!(error <= tolerance, "{formula}: {error:e}");
        }
    }
}

/// Kernels of the same examples in reverse order are the reversed kernels.
fn order_does_not_matter(parameters: &Parameters, examples: &dyn Examples, reversed: &dyn Examples, batch: usize) {
    let (a, b) = (gram(parameters, examples, batch, 500), gram(parameters, reversed, batch, 500));
    for formula in Formula::ALL {
        let tolerance = if formula == Formula::Signgd { 0.0 } else { 1e-10 };
        let turned = b.tensor(formula).unwrap().flip([0, 2]);
        assert!(relative_error(&turned, &a.tensor(formula).unwrap()) <= tolerance, "{formula}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn engines_agree_on_perceptrons(mlp in mlp(), seed in any::<u64>(), count in 1..6i64, batch in 1..4usize, block in 1..900i64) {
        one_thread();
        let parameters = mlp.parameters(seed, Kind::Double, Device::Cpu);
        let inputs = unit_inputs(count, mlp.input, seed, Kind::Double, Device::Cpu);
        let reversed = mlp.examples(inputs.flip([0]));
        let examples = mlp.examples(inputs);
        engines_agree(&parameters, &examples, batch, block);
        order_does_not_matter(&parameters, &examples, &reversed, batch);
    }

    #[test]
    fn engines_agree_on_transformers(
        network in transformer(),
        seed in any::<u64>(),
        count in 1..5i64,
        length in 1..6i64,
        batch in 1..4usize,
        block in 1..900i64,
    ) {
        one_thread();
        let parameters = disturbed(&network.parameters(seed, Kind::Double, Device::Cpu));
        let ids = tokens(count, length, network.shape().vocab, (seed % 97) as i64);
        let readout = tokens(count, 1, length, (seed % 89) as i64).view(-1);
        let examples = network.examples(ids.shallow_clone()).read_at(readout.shallow_clone());
        let reversed = network.examples(ids.flip([0])).read_at(readout.flip([0]));
        engines_agree(&parameters, &examples, batch, block);
        order_does_not_matter(&parameters, &examples, &reversed, batch);
    }
}

fn shape(width: i64, heads: Heads) -> TransformerShape {
    let activation = Activation::Gelu;
    TransformerShape { vocab: 11, positions: 6, width, heads, layers: 2, inner: 2, outputs: 1, activation }
}

/// At initialization every parametrization has a residual stream of order one, whatever the width.
#[test]
fn transformers_begin_at_order_one() {
    one_thread();
    let ids = tokens(4, 6, 11, 3);
    for abc in [TransformerAbc::standard(), TransformerAbc::ntk(), TransformerAbc::mup()] {
        for width in [32, 256] {
            let network = Transformer::new(shape(width, Heads::Dimension(16)), abc);
            let parameters = network.parameters(2, Kind::Double, Device::Cpu);
            let hidden = network.hidden(&parameters, &ids);
            assert_eq!(hidden.len(), 3);
            for x in hidden {
                assert_eq!(x.size(), [4, 6, width]);
                let variance = x.square().mean(Kind::Double).double_value(&[]);
                assert!((1.0..8.0).contains(&variance), "{abc:?} {width}: {variance}");
            }
        }
    }
}

/// Standard and NTK parametrization of the same draws are the same function; muP differs only in its attention (and in the
/// readout's n^-1/2).
#[test]
fn parametrizations_of_one_function() {
    one_thread();
    let ids = tokens(4, 6, 11, 3);
    let run = |abc: TransformerAbc| {
        let network = Transformer::new(shape(64, Heads::Number(4)), abc);
        outputs(&network.parameters(2, Kind::Double, Device::Cpu), &network.examples(ids.shallow_clone()), 2)
    };
    let standard = run(TransformerAbc::standard());
    assert!(relative_error(&run(TransformerAbc::ntk()), &standard) < 1e-12);
    let mup = TransformerAbc { attention: 0.5, ..TransformerAbc::mup() };
    assert!(relative_error(&(run(mup) * 8.0), &standard) < 1e-12);
    assert!(relative_error(&(run(TransformerAbc::mup()) * 8.0), &standard) > 1e-3, "attention over d_head");
}

/// Gradients contain their parameter's multiplier: relative to the standard parametrization muP's f has the factor n^-1/2, and
/// tables and vectors have a multiplier of √n.
#[test]
fn multipliers_reach_the_gradients() {
    one_thread();
    let ids = tokens(2, 4, 11, 5);
    let jacobian = |abc: TransformerAbc| {
        let network = Transformer::new(shape(16, Heads::Number(2)), abc);
        let parameters = network.parameters(2, Kind::Double, Device::Cpu);
        let kinds = network.kinds();
        let specs = network.specs();
        let dense = dense_jacobian(&parameters, &network.examples(ids.shallow_clone())).expect("not interrupted");
        let mut start = 0;
        let mut parts = Vec::new();
        for (spec, kind) in specs.iter().zip(kinds) {
            if !spec.is_structural_zero() {
                parts.push((kind, dense.narrow(1, start, spec.numel())));
            }
            start += spec.numel();
        }
        parts
    };
    let plain = jacobian(TransformerAbc { attention: 1.0, ..TransformerAbc::standard() });
    for ((kind, p), (_, m)) in plain.iter().zip(jacobian(TransformerAbc::mup())) {
        // n = 16.
        let factor = match kind {
            ParameterKind::Embedding | ParameterKind::Vector => 1.0,
            ParameterKind::Hidden | ParameterKind::Output => 0.25,
        };
        assert!(relative_error(&m, &(p * factor)) < 1e-11, "{kind:?}");
    }
}

#[test]
fn transformer_learning_rates_follow_the_kinds() {
    let network = Transformer::new(shape(16, Heads::Number(2)), TransformerAbc::mup().with_sign_rates());
    let rates = network.learning_rates(0.5);
    for ((kind, spec), rate) in network.kinds().into_iter().zip(network.specs().iter()).zip(rates) {
        let expected = if kind == ParameterKind::Hidden { 0.5 / spec.shape[1] as f64 } else { 0.125 };
        assert!((rate / expected - 1.0).abs() < 1e-12, "{}", spec.name);
    }
}

/// Single precision, and the CUDA device if there is one, give the outputs and kernels of double precision on the CPU.
#[test]
fn precisions_and_devices_agree() {
    one_thread();
    let network = Transformer::new(shape(32, Heads::Number(2)), TransformerAbc::ntk());
    let mlp =
        Mlp { input: 4, width: 64, depth: 2, outputs: 2, activation: Activation::Tanh, gain: 1.5, abc: Abc::mup(2) };
    let ids = tokens(5, 6, 11, 1);
    let run = |kind: Kind, device: Device| {
        let inputs = unit_inputs(5, 4, 8, kind, device);
        let a = gram(&mlp.parameters(3, kind, device), &mlp.examples(inputs), 2, 1 << 12);
        let b = gram(&network.parameters(3, kind, device), &network.examples(ids.to_device(device)), 2, 1 << 12);
        [a, b]
    };
    let exact = run(Kind::Double, Device::Cpu);
    let mut settings = vec![(Kind::Float, Device::Cpu, 1e-4)];
    if Device::cuda_if_available().is_cuda() {
        settings.extend([(Kind::Float, Device::Cuda(0), 1e-4), (Kind::Double, Device::Cuda(0), 1e-10)]);
    }
    for (kind, device, tolerance) in settings {
        for (found, expected) in run(kind, device).iter().zip(&exact) {
            assert!(relative_error(&found.left_outputs, &expected.left_outputs) < tolerance);
            for formula in [Formula::Sgd, Formula::Asymmetric] {
                let error = relative_error(found.matrix(formula).unwrap(), expected.matrix(formula).unwrap());
                assert!(error < tolerance, "{kind:?} {device:?} {formula}: {error:e}");
            }
        }
    }
}
