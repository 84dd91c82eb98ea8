//! The claims of the paper and of its underlying theory, one file each, and their registry.
//!
//! The only module that knows the paper. A claim's file starts with its statement, hypotheses, derivation, experiment, control
//! and meaning; its code is the experiment. An experiment returns [`Findings`], never a verdict, which follows by one rule in
//! `evidence`. The mathematics of the networks is in `network`, the statistics in `stats`.

pub mod adam_bound;
pub mod adam_epsilon;
pub mod adam_first_step;
mod agreement;
mod agreement_network;
mod analog;
mod batch;
pub mod cases;
mod chi_law;
mod chi_law_prose;
mod compression;
mod context;
mod convergence;
mod departure;
pub mod dichotomy;
pub mod dynamical_dichotomy_sgd;
pub mod dynamical_dichotomy_sign;
mod early_adam;
mod english;
mod family;
pub mod intrinsic_dimension;
pub mod kernel_algebra;
mod kernel_analog_sgd;
mod kernel_analog_signgd;
mod kernel_dichotomy;
pub mod layer_rates;
mod limits;
pub mod lora;
pub mod lora_at_init;
mod lora_landscape;
mod lora_training;
mod master_theorem;
mod memory;
mod mup_limit;
mod natural_task;
mod ntk_limit;
mod ntk_regime;
pub mod output_derivative;
mod pretraining;
mod prompt_head_norm;
mod prompt_kernel_analog;
mod prompt_kernel_analog_english;
mod prompt_kernel_limit;
mod prompt_kernel_regime;
mod prompt_readout;
mod questions;
mod scan;
pub mod sign_factorization;
mod sign_kernel_limit;
pub mod sign_operator;
mod steps;
pub mod structural_zeros;
mod subspace_examples;
mod training;
pub mod vector_equation;
pub mod zeroth_order;

use std::path::Path;
use std::time::Instant;

use tch::Device;

use crate::error::Result;
use crate::evidence::{Check, ClaimEvidence, Findings, MutantResult, Open};
use crate::stats::{Estimate, Expectation, Outcome};

pub use context::{Context, ERROR_RATE};
pub use memory::Memory;

/// What a claim is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Exact identities.
    Identity,
    /// Limits of infinite width.
    Width,
    /// Kernel behaviour and kernel analogs.
    Kernel,
    /// Pre-trained networks and prompts.
    Prompt,
    /// Subspace methods.
    Subspace,
    /// Tensor programs and their limits.
    Program,
}

impl Topic {
    /// Text in reports.
    pub fn text(self) -> &'static str {
        match self {
            Self::Identity => "exact identity",
            Self::Width => "infinite width",
            Self::Kernel => "kernel behaviour",
            Self::Prompt => "pre-training and prompts",
            Self::Subspace => "subspace methods",
            Self::Program => "tensor programs",
        }
    }
}

/// A deliberately wrong variant of an implementation or a formula, which its claim must notice.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Name, unique within the claim.
    pub name: &'static str,
    /// What is made wrong.
    pub change: &'static str,
}

/// A wrong variant whose size can be chosen: how far off it is, in units of the tolerance of the check that must notice it, or of
/// what is measured over the bound where a check has only a bound.
#[derive(Clone, Copy, Debug)]
pub struct Graded {
    /// Name, unique within the claim.
    pub name: &'static str,
    /// What is made wrong, per unit of strength.
    pub change: &'static str,
}

/// Its name.
impl From<Mutant> for &'static str {
    fn from(mutant: Mutant) -> Self {
        mutant.name
    }
}

/// Its name.
impl From<Graded> for &'static str {
    fn from(mutant: Graded) -> Self {
        mutant.name
    }
}

/// Strengths at which graded mutants are run, in tolerances: within the tolerance, where a violation would be a mistake; at its
/// edge; and beyond it, where the check must notice.
pub const STRENGTHS: [f64; 3] = [0.5, 1.0, 2.0];

/// A mutant with its strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variant {
    /// The mutant's name.
    pub name: &'static str,
    /// What is made wrong.
    pub change: &'static str,
    /// How far off it is, if it is graded.
    pub strength: Option<f64>,
}

impl Variant {
    /// Name with the strength: `off-centre x2`.
    pub fn label(&self) -> String {
        self.strength.map_or_else(|| self.name.to_owned(), |strength| context::label(self.name, strength))
    }

    /// Whether the prediction is off, and nothing that is measured; see [`Context::expected`].
    pub fn moves_prediction(&self) -> bool {
        self.name == context::SHIFTED.name
    }
}

/// One claim.
#[derive(Clone, Copy)]
pub struct Claim {
    /// Identifier, e.g. `sign-kernel-limit`; its file and its test have the same name with underscores.
    pub id: &'static str,
    /// What it is about.
    pub topic: Topic,
    /// One line.
    pub title: &'static str,
    /// Where the statement comes from.
    pub source: &'static str,
    /// The prediction in a few words.
    pub prediction: &'static str,
    /// The text of its file.
    pub text: &'static str,
    /// Wrong variants that it must notice.
    pub mutants: &'static [Mutant],
    /// Wrong variants of a chosen size, of which it must notice those beyond its tolerances.
    pub graded: &'static [Graded],
    /// The experiment.
    pub experiment: fn(&Context<'_>) -> Result<Findings>,
}

/// All claims, in the order of reports.
pub fn registry() -> &'static [Claim] {
    &[
        output_derivative::CLAIM,
        kernel_algebra::CLAIM,
        sign_factorization::CLAIM,
        adam_first_step::CLAIM,
        adam_bound::CLAIM,
        lora_at_init::CLAIM,
        structural_zeros::CLAIM,
        layer_rates::CLAIM,
        adam_epsilon::CLAIM,
        chi_law::CLAIM,
        ntk_limit::CLAIM,
        sign_kernel_limit::CLAIM,
        dynamical_dichotomy_sgd::CLAIM,
        dynamical_dichotomy_sign::CLAIM,
        ntk_regime::CLAIM,
        kernel_analog_sgd::CLAIM,
        kernel_analog_signgd::CLAIM,
        early_adam::CLAIM,
        vector_equation::CLAIM,
        sign_operator::CLAIM,
        kernel_dichotomy::CLAIM,
        intrinsic_dimension::CLAIM,
        lora::CLAIM,
        subspace_examples::CLAIM,
        lora_training::CLAIM,
        lora_landscape::CLAIM,
        zeroth_order::CLAIM,
    ]
}

/// Number of equal parts of the theory suite's error rate. A claim with intervals takes one; exact identities take none.
pub const SHARES: usize = 18;

/// The claims on tensor programs: a separate suite with its own error rate, because half of its measurements have no width.
pub fn program_registry() -> &'static [Claim] {
    &[master_theorem::CLAIM, mup_limit::CLAIM, prompt_kernel_limit::CLAIM]
}

/// The claims on pre-trained networks: a separate suite with its own error rate, because its networks were trained before and
/// are not drawn anew.
pub fn family_registry() -> &'static [Claim] {
    &[
        chi_law_prose::CLAIM,
        natural_task::CLAIM,
        prompt_kernel_regime::CLAIM,
        prompt_kernel_analog::CLAIM,
        prompt_kernel_analog_english::CLAIM,
        prompt_readout::CLAIM,
        prompt_head_norm::CLAIM,
    ]
}

/// Pre-trains networks on the small language for every length of the shipped evidence, measures them, and stores the evidence
/// of each in a directory, with a digest of its recipe. Existing evidence is left as it is.
///
/// # Errors
/// [`crate::error::Error::NotFinite`] if a loss is no longer finite; [`crate::error::Error::Interrupted`];
/// [`crate::error::Error::Io`].
pub fn collect_evidence(width: i64, seed: u64, directory: &Path, device: Device) -> Result<()> {
    for steps in agreement::LENGTHS {
        agreement::collect(width, steps, seed, directory, device)?;
    }
    Ok(())
}

/// Measures a language model of English with the built-in cloze tasks and stores the evidence as `NAME.json` in a directory.
/// Existing evidence of the same weights is left as it is. A network of the family of English prose is called
/// `prose-WIDTH-seed-SEED`.
///
/// # Errors
/// Those of loading a checkpoint and of encoding the tasks for it; [`crate::error::Error::Interrupted`];
/// [`crate::error::Error::Io`].
pub fn collect_english_evidence(name: &str, checkpoint: &Path, directory: &Path, device: Device) -> Result<()> {
    english::collect(name, checkpoint, directory, device)
}

/// The claim with this identifier, from any suite.
pub fn find(id: &str) -> Option<&'static Claim> {
    all_claims().find(|c| c.id == id)
}

/// The claims of all suites, in the order of reports.
pub fn all_claims() -> impl Iterator<Item = &'static Claim> {
    registry().iter().chain(program_registry()).chain(family_registry())
}

/// Every suite with the number of parts into which its error rate is divided.
fn all_suites() -> [(&'static [Claim], usize); 3] {
    let each = |suite: &'static [Claim]| (suite, suite.len());
    [(registry(), SHARES), each(program_registry()), each(family_registry())]
}

/// The suites of some claims: the number of parts into which their error rates are divided, and the probability that any of
/// their intervals misses. Claims of another crate count as one more suite.
pub fn suites(claims: &[&Claim]) -> (usize, f64) {
    let has = |suite: &[Claim], claim: &Claim| suite.iter().any(|own| own.id == claim.id);
    let all = all_suites();
    let foreign = claims.iter().filter(|claim| !all.iter().any(|(suite, _)| has(suite, claim))).count();
    let touched = all.into_iter().filter(|(suite, _)| claims.iter().any(|claim| has(suite, claim))).map(|(_, n)| n);
    let sizes = touched.chain((foreign > 0).then_some(foreign));
    sizes.fold((0, 0.0), |(count, rate), size| (count + size, rate + ERROR_RATE))
}

impl Claim {
    /// Statement, hypotheses, derivation, experiment, control and meaning: the head of the claim's file, as markdown.
    pub fn statement(&self) -> String {
        let lines = self.text.lines().map_while(|l| l.strip_prefix("//!"));
        let lines: Vec<&str> = lines.map(|l| l.strip_prefix(' ').unwrap_or(l)).collect();
        lines.join("\n")
    }

    /// Runs the experiment and judges what it found.
    pub fn examine(&self, context: &Context<'_>) -> Result<ClaimEvidence> {
        let start = Instant::now();
        let findings = (self.experiment)(&context.of(self.id, None))?;
        Ok(ClaimEvidence {
            id: self.id.into(),
            topic: self.topic.text().into(),
            title: self.title.into(),
            source: self.source.into(),
            prediction: self.prediction.into(),
            statement: self.statement(),
            verdict: findings.verdict(),
            findings,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// All mutants, graded ones at every strength.
    pub fn variants(&self) -> Vec<Variant> {
        let gross = self.mutants.iter().map(|m| Variant { name: m.name, change: m.change, strength: None });
        let graded = self.graded.iter().flat_map(|m| {
            STRENGTHS.map(|strength| Variant { name: m.name, change: m.change, strength: Some(strength) })
        });
        gross.chain(graded).collect()
    }

    /// Runs the experiment with one of the claim's mutants.
    pub fn challenge(&self, mutant: &Variant, context: &Context<'_>) -> Result<MutantResult> {
        let start = Instant::now();
        let findings = (self.experiment)(&context.of(self.id, Some(*mutant)))?;
        // Only the claim's predictions count: a hypothesis that the mutant violates makes the claim inapplicable, which is not
        // detection.
        let violated = findings.checks.iter().filter(|c| c.outcome == Outcome::Violated);
        let caught_by = violated.map(|c| c.name.clone()).collect();
        Ok(MutantResult {
            of_prediction: mutant.moves_prediction(),
            claim: self.id.into(),
            mutant: mutant.name.into(),
            strength: mutant.strength,
            change: mutant.change.into(),
            verdict: findings.verdict(),
            caught_by,
            seconds: start.elapsed().as_secs_f64(),
        })
    }
}

/// A measured quantity, with its expectation.
fn check(name: impl Into<String>, expectation: Expectation, estimate: Estimate) -> Check {
    Check::judged(name, expectation, estimate)
}

/// The check that the largest relative error of an identity over `cases` cases is at most `tolerance`.
fn identity(name: impl Into<String>, tolerance: f64, worst: f64, cases: usize) -> Check {
    check(name, Expectation::AtMost { bound: tolerance }, Estimate::exact(worst, cases))
}

/// The same, for checks that are judged together.
fn exactly(name: impl Into<String>, tolerance: f64, worst: f64, cases: usize) -> Open {
    identity(name, tolerance, worst, cases).into()
}
