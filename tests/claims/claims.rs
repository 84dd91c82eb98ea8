//! Every claim of all suites, measured with its quick profile: it must hold, its controls must fail, each of its mutants must
//! be noticed, and its findings must read the same on every machine. There is one test per claim, because a claim and its
//! mutants share measurements: `cargo test --test claims sign_kernel_limit`.

use crate::common::one_thread;
use kernelview::evidence::{
    Check, ClaimVerdict, Fate, Findings, Profile, SCHEMA_VERSION, Verification, VerificationFacts,
};
use kernelview::report::claims_markdown;
use kernelview::stats::Outcome;
use kernelview::theorems::{Claim, Context, Memory, SHARES, all_claims, find, registry, suites};

/// The command line's default seed.
const SEED: u64 = 13;

fn examine(name: &str) {
    one_thread();
    let memory = Memory::default();
    let context = Context::silent(Profile::Quick, SEED).sharing(&memory);
    let claim = find(&name.replace('_', "-")).expect("a claim of this name");
    let evidence = claim.examine(&context).expect("an experiment that ends");
    let own = evidence.findings.clone();
    let findings = &own;
    let text = |c: &Check| format!("{}: {:?}, expected {:?}: {:?}", c.name, c.estimate, c.expectation, c.outcome);
    let wrong = findings.hypotheses.iter().chain(&findings.checks).filter(|c| c.outcome != Outcome::Holds);
    let passed = findings.controls.iter().filter(|c| c.outcome != Outcome::Violated);
    let listed: Vec<String> = wrong.chain(passed).map(text).collect();
    assert_eq!(evidence.verdict, ClaimVerdict::Holds, "{}", listed.join("\n"));
    let (claims_in_registry, error_rate) = suites(&[claim]);
    let share = error_rate / claims_in_registry as f64;
    let spent = findings.error_rate();
    assert!(spent <= share * (1.0 + 1e-9), "the intervals miss with probability {spent}, the claim's share is {share}");
    assert_eq!(spent > 0.0, !EXACT.contains(&claim.id), "{}: spends {spent} of the error rate", claim.id);

    let report = claims_markdown(&Verification {
        schema_version: SCHEMA_VERSION,
        run: VerificationFacts {
            version: "0".into(),
            profile: Profile::Quick,
            seed: SEED,
            device: "cpu".into(),
            error_rate,
            claims_in_registry,
        },
        claims: vec![evidence],
        mutants: vec![],
        errors: vec![],
    })
    .expect("a report");
    // The statement is the head of the claim's file; the measurements follow it.
    let measured = report.find("### Settings").map_or(report.as_str(), |start| &report[start..]);
    insta::assert_snapshot!(name, measured);
    // Mutants have no snapshots: the processor matrix leaves them out.
    if std::env::var_os("KERNELVIEW_TEST_MUTANTS").is_none_or(|v| v != "0") {
        mutants_are_noticed(claim, &own, &context);
    }
}

fn mutants_are_noticed(claim: &Claim, own: &Findings, context: &Context<'_>) {
    assert!(!claim.mutants.is_empty(), "a claim without mutants");
    assert_eq!(claim.graded.is_empty(), SIGNS.contains(&claim.id), "graded mutants of {}", claim.id);
    for mutant in claim.variants() {
        let result = claim.challenge(&mutant, context).expect("an experiment that ends");
        println!("{}: {} is caught by {:?}", claim.id, mutant.label(), result.caught_by);
        let fate = result.fate(Some(own));
        assert_ne!(fate, Fate::Survived, "nothing noticed `{}`: {}", mutant.label(), mutant.change);
        assert_ne!(fate, Fate::WronglyCaught, "`{}` is within its tolerance: {:?}", mutant.label(), result.caught_by);
    }
}

/// Claims that equate signs, which no tolerance separates.
const SIGNS: &[&str] = &["sign-factorization", "structural-zeros"];

/// Claims whose checks have no sampling error, and which take no part of the suite's error rate.
const EXACT: &[&str] = &[
    "output-derivative",
    "kernel-algebra",
    "sign-factorization",
    "adam-first-step",
    "adam-bound",
    "lora-at-init",
    "structural-zeros",
    "layer-rates",
    "adam-epsilon",
    "lora-landscape",
];

#[test]
fn the_error_rate_has_a_part_for_every_claim_with_intervals() {
    let with_intervals = registry().iter().filter(|claim| !EXACT.contains(&claim.id)).count();
    assert!(with_intervals <= SHARES, "{with_intervals} claims share {SHARES} parts");
}

macro_rules! claims {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            crate::claims::examine(stringify!($name));
        })*

        pub(super) const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

/// Claims that take minutes. Tests start in alphabetical order, so that the others run in parallel with these, and none runs
/// alone at the end.
mod at_length {
    claims![dynamical_dichotomy_sign];
}

claims![
    output_derivative,
    kernel_algebra,
    sign_factorization,
    adam_first_step,
    adam_bound,
    lora_at_init,
    structural_zeros,
    layer_rates,
    adam_epsilon,
    chi_law,
    ntk_limit,
    sign_kernel_limit,
    dynamical_dichotomy_sgd,
    ntk_regime,
    kernel_analog_sgd,
    kernel_analog_signgd,
    early_adam,
    vector_equation,
    sign_operator,
    kernel_dichotomy,
    intrinsic_dimension,
    lora,
    subspace_examples,
    lora_training,
    lora_landscape,
    zeroth_order,
    master_theorem,
    mup_limit,
    prompt_kernel_limit,
    chi_law_prose,
    natural_task,
    prompt_kernel_regime,
    prompt_kernel_analog,
    prompt_kernel_analog_english,
    prompt_readout,
    prompt_head_norm,
];

#[test]
fn every_claim_of_the_registry_has_its_test() {
    let mut ids: Vec<String> = all_claims().map(|c| c.id.replace('-', "_")).collect();
    let mut tested = [TESTED, at_length::TESTED].concat();
    ids.sort_unstable();
    tested.sort_unstable();
    assert_eq!(ids, tested);
}

#[test]
fn every_claim_states_itself_completely() {
    for claim in all_claims() {
        let statement = claim.statement();
        for head in ["Statement", "Hypotheses", "Derivation", "Experiment", "Control", "Meaning"] {
            assert!(statement.contains(&format!("\n**{head}.** ")), "{}: no paragraph **{head}.**", claim.id);
        }
        let mut names: Vec<&str> = claim.mutants.iter().map(|m| m.name).collect();
        names.extend(claim.graded.iter().map(|m| m.name));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{}: two mutants of one name", claim.id);
        assert!(names.len() >= 2, "{}: fewer than two mutants", claim.id);
    }
}

#[test]
fn draws_have_names_and_do_not_repeat() {
    let context = Context::silent(Profile::Quick, SEED);
    let other = Context::silent(Profile::Quick, SEED + 1);
    assert_eq!(context.seed("weights"), context.seed("weights"));
    assert_ne!(context.seed("weights"), context.seed("inputs"));
    assert_ne!(context.seed("weights"), other.seed("weights"));
}
