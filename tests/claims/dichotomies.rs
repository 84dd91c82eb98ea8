//! The dynamical dichotomies as property tests: random stable, non-trivial parametrizations are measured, and unstable
//! and trivial ones recognized.

use crate::common::one_thread;
use kernelview::evidence::Profile;
use kernelview::network::{Abc, Classification, classify_sgd, classify_sign};
use kernelview::stats::{Estimate, Expectation, Outcome};
use kernelview::theorems::dichotomy::Measured;
use kernelview::theorems::{Context, dynamical_dichotomy_sgd, dynamical_dichotomy_sign};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError};

/// Half the spacing of r's grid. With small networks and few seeds, the test is only that no draw refutes the theory at 99.9%,
/// and that r + 1/2 and r - 1/2 are refuted.
const TOLERANCE: f64 = 0.125;

fn outcome(estimate: &Estimate, target: f64) -> Outcome {
    Expectation::Within { target, tolerance: TOLERANCE }.judge(estimate)
}

fn agrees(measured: &Measured) -> Result<(), TestCaseError> {
    let (abc, r) = (&measured.abc, measured.class.r);
    prop_assert!(measured.class.stable && measured.class.non_trivial, "{abc:?}: {:?}", measured.class.reasons);
    let (features, outputs) = (&measured.features.slope, &measured.outputs.slope);
    prop_assert!(outcome(features, -r) != Outcome::Violated, "{abc:?}: features {features:?}, r = {r}");
    prop_assert!(outcome(outputs, 0.0) != Outcome::Violated, "{abc:?}: outputs {outputs:?}");
    for wrong in [r - 0.5, r + 0.5] {
        prop_assert!(
            outcome(features, -wrong) == Outcome::Violated,
            "{abc:?}: {features:?} does not refute r = {wrong}"
        );
    }
    Ok(())
}

/// Breaks one condition of a stable, non-trivial parametrization; also returns whether this makes it trivial rather than
/// unstable.
fn broken(abc: &Abc, how: usize) -> (Abc, bool) {
    let mut abc = abc.clone();
    let last = abc.hidden();
    match how {
        0 => abc.layers[0].b += 0.25,
        1 => abc.layers[last].b = 0.25 - abc.layers[last].a,
        2 => abc.c[last] = 0.5 - 2.0 * abc.layers[last].a.max(0.0) - abc.layers[last].a.abs(),
        3 => abc.c[..last].iter_mut().for_each(|c| *c -= 4.0),
        _ => abc.c.iter_mut().for_each(|c| *c += 3.0),
    }
    (abc, how > 3)
}

fn recognized(abc: &Abc, how: usize, classify: fn(&Abc) -> Classification) -> Result<(), TestCaseError> {
    let (abc, trivial) = broken(abc, how);
    let class = classify(&abc);
    prop_assert!(!class.reasons.is_empty());
    prop_assert!(if trivial { class.stable && !class.non_trivial } else { !class.stable }, "{abc:?}: {class:?}");
    Ok(())
}

fn context(seed: u64) -> Context<'static> {
    one_thread();
    Context::silent(Profile::Quick, seed)
}

proptest! {
    // A judgement at 99.9% is wrong now and then, so the judged draws are fixed, and the same on every machine.
    #![proptest_config(ProptestConfig { cases: 6, rng_seed: RngSeed::Fixed(13), ..ProptestConfig::default() })]

    #[test]
    fn under_sgd(seed in any::<u64>(), kind in 1..12usize, how in 0..5usize) {
        let measured = dynamical_dichotomy_sgd::measure(&context(seed), kind).unwrap();
        agrees(&measured)?;
        recognized(&measured.abc, how, classify_sgd)?;
    }

    #[test]
    fn under_sign_updates(seed in any::<u64>(), kind in 1..12usize, how in 0..5usize) {
        let measured = dynamical_dichotomy_sign::measure(&context(seed), kind).unwrap();
        agrees(&measured)?;
        recognized(&measured.abc, how, classify_sign)?;
    }
}

/// A draw for which twelve seeds once scattered too widely to refute a wrong exponent; the present number of seeds refutes it.
#[test]
fn a_draw_that_scatters_widely() {
    let measured = dynamical_dichotomy_sgd::measure(&context(10_063_814_942_304_156_524), 7).unwrap();
    agrees(&measured).unwrap();
    recognized(&measured.abc, 4, classify_sgd).unwrap();
}
