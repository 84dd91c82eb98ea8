//! The exact identities and the subspace claims: their cases as property tests.

use crate::common::one_thread;
use kernelview::evidence::Profile;
use kernelview::lm::Architecture;
use kernelview::network::Activation;
use kernelview::subspace::Init;
use kernelview::theorems::cases::{NetworkCase, Shape};
use kernelview::theorems::{
    Context, adam_bound, adam_epsilon, adam_first_step, intrinsic_dimension, kernel_algebra, layer_rates, lora,
    lora_at_init, output_derivative, sign_factorization, sign_operator, structural_zeros, vector_equation,
    zeroth_order,
};
use proptest::prelude::*;

fn mlp() -> impl Strategy<Value = Shape> {
    (1..8i64, 1..14i64, 1..4usize, proptest::sample::select(&Activation::ALL[..]))
        .prop_map(|(input, width, depth, activation)| Shape::Mlp { input, width, depth, activation })
}

fn transformer() -> impl Strategy<Value = Shape> {
    (2..6i64, 1..3usize, 1..7i64).prop_map(|(half, layers, length)| Shape::Transformer {
        width: 2 * half,
        layers,
        length,
    })
}

fn language_model() -> impl Strategy<Value = Shape> {
    (prop_oneof![Just(Architecture::Bert), Just(Architecture::Roberta)], any::<bool>())
        .prop_map(|(architecture, tied)| Shape::LanguageModel { architecture, tied })
}

fn case_of(shape: impl Strategy<Value = Shape>) -> impl Strategy<Value = NetworkCase> {
    (shape, 1..5usize, 1..4usize, any::<u64>()).prop_map(|(shape, examples, outputs, seed)| NetworkCase {
        shape,
        examples,
        outputs,
        seed,
    })
}

fn network() -> impl Strategy<Value = NetworkCase> {
    case_of(prop_oneof![4 => mlp(), 1 => transformer(), 1 => language_model()])
}

/// Decay rates, as often near 1 as near 0.
fn decay() -> impl Strategy<Value = f64> {
    (-4.0..0.0f64).prop_map(|exponent| 1.0 - 10f64.powf(exponent))
}

fn context() -> Context<'static> {
    one_thread();
    Context::silent(Profile::Quick, 0)
}

proptest! {
    // The claims run many more cases; the point here is shrinking.
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn output_derivatives(classes in 2..7usize, exponent in -3.0..2.0f64, network in network()) {
        let case = output_derivative::Case { classes, scale: 10f64.powf(exponent), network };
        let [cross, logistic, squared, chain] = output_derivative::errors(&case, &context()).unwrap();
        prop_assert!(cross <= 1e-14 && logistic <= 1e-14 && squared <= 1e-14, "{cross:e} {logistic:e} {squared:e}");
        prop_assert!(chain <= 1e-11, "{chain:e}");
    }

    #[test]
    fn kernels(network in network(), batch in 1..5usize, block in 0..15u32, exponent in -2.0..2.0f64) {
        let case = kernel_algebra::Case { network, batch, block_entries: 1 << block, scale: 10f64.powf(exponent) };
        let errors = kernel_algebra::errors(&case, &context()).unwrap();
        for (error, (law, tolerance)) in errors.into_iter().zip(kernel_algebra::LAWS) {
            prop_assert!(error <= tolerance, "{law}: {error:e}");
        }
    }

    #[test]
    fn signs_factor(network in network(), positive in any::<bool>()) {
        let case = sign_factorization::Case { network, positive };
        prop_assert_eq!(sign_factorization::error(&case, &context()).unwrap(), 0.0);
    }

    #[test]
    fn first_steps(
        shapes in proptest::collection::vec(proptest::collection::vec(1..6i64, 1..4), 1..4),
        (beta1, beta2) in (decay(), decay()),
        exponent in -6.0..0.0f64,
        orders in 0.0..100.0f64,
        seed in any::<u64>(),
    ) {
        let eta = 10f64.powf(exponent);
        let case = adam_first_step::Case { shapes, orders, beta1, beta2, epsilon: 0.0, eta, seed };
        let error = adam_first_step::error(&case, &context()).unwrap();
        prop_assert!(error <= 1e-14, "{error:e}");
    }

    #[test]
    fn bounded_updates(
        variation in proptest::sample::select(&adam_bound::Variation::ALL[..]),
        rho in 0.0..0.95f64,
        (entries, steps) in (1..40i64, 1..80i32),
        (beta1, beta2) in (decay(), decay()),
        seed in any::<u64>(),
    ) {
        let case = adam_bound::Case { variation, rho, entries, steps, beta1, beta2, seed };
        let excess = adam_bound::error(&case, &context()).unwrap();
        prop_assert!(excess <= 1e-11, "{excess:e}");
    }

    #[test]
    fn untrained_adapters(
        network in network(),
        sparsity in 1..4u64,
        rank in 1..9i64,
        scaling in 0.1..3.0f64,
        init in proptest::sample::select(&Init::ALL[..]),
    ) {
        let case = lora_at_init::Case { network, sparsity, rank, scaling, init };
        let [change, of_a, of_b, kernel] = lora_at_init::errors(&case, &context()).unwrap();
        prop_assert!(change == 0.0 && of_a == 0.0, "{change:e} {of_a:e}");
        prop_assert!(of_b <= 1e-11 && kernel <= 1e-11, "{of_b:e} {kernel:e}");
    }

    #[test]
    fn vanishing_gradients(network in case_of(language_model()), block in 7..16u32) {
        let case = structural_zeros::Case { network, block_entries: 1 << block };
        let [biases, absent, without_reason, signs, moved] = structural_zeros::errors(&case, &context()).unwrap();
        prop_assert!(biases <= 1e-12, "{biases:e}");
        prop_assert!(absent == 0.0 && signs == 0.0 && moved == 0.0, "{absent:e} {signs} {moved}");
        prop_assert!(without_reason == 0.0, "{without_reason} entries");
    }

    #[test]
    fn vector_equations(network in network(), seed in any::<u64>()) {
        let case = vector_equation::Case { network, seed };
        let error = vector_equation::error(&case, &context()).unwrap();
        prop_assert!(error <= 1e-8, "{error:e}");
        let [step, size, single] = sign_operator::errors(&case, &context()).unwrap();
        prop_assert!(step <= 1e-8 && size <= 1e-12 && single <= 1e-12, "{step:e} {size:e} {single:e}");
    }

    #[test]
    fn rates_per_layer(network in network(), seed in any::<u64>()) {
        let case = layer_rates::Case { network: NetworkCase { outputs: 1, ..network }, seed };
        let errors = layer_rates::errors(&case, &context()).unwrap();
        for (error, (law, tolerance)) in errors.into_iter().zip(layer_rates::LAWS) {
            prop_assert!(error <= tolerance, "{law}: {error:e}");
        }
    }

    #[test]
    fn between_both_kernels(
        network in network(),
        epsilon in -3.0..3.0f64,
        chi in (-6.0..0.0f64, any::<bool>()),
        betas in (decay(), decay()),
    ) {
        let case = adam_epsilon::Case { network: NetworkCase { outputs: 1, ..network }, epsilon, chi, betas };
        let [update, derivative, low, high] = adam_epsilon::errors(&case, &context()).unwrap();
        prop_assert!(update <= 1e-14 && derivative <= 1e-8, "{update:e} {derivative:e}");
        prop_assert!(low <= 1e-3 && high <= 1e-3, "{low:e} {high:e}");
    }

    #[test]
    fn two_forward_passes(network in network(), seed in any::<u64>()) {
        let error = zeroth_order::error(&zeroth_order::Case { network, seed }, &context()).unwrap();
        prop_assert!(error <= 1e-5, "{error:e}");
    }

    #[test]
    fn subspace_gradients(network in network(), rank in 1..40i64, seed in any::<u64>()) {
        let error = intrinsic_dimension::error(&intrinsic_dimension::Case { network, rank, seed }, &context()).unwrap();
        prop_assert!(error <= 1e-11, "{error:e}");
    }

    #[test]
    fn orthonormal_adapters(network in network(), excess in 0..4i64, seed in any::<u64>()) {
        let error = lora::error(&lora::Case { network, excess, seed }, &context()).unwrap();
        prop_assert!(error <= 1e-11, "{error:e}");
    }
}
