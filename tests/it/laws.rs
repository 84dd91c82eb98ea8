//! Laws of kernels for every network: property tests on random tiny language models in double precision.
//!
//! Tolerance: 1e-10 relative to a kernel's largest entry for sums of products taken in another order (about 1e4 terms
//! at 1e-16 each); integers and signs must be equal.

use crate::common::network::Network;
use crate::common::relative_error;
use kernelview::jacobian::{Examples, Parameters, Tap, record};
use kernelview::kernel::{
    Arithmetic, Formula, FormulaSet, Gram, GramOptions, dense_jacobian, reference_gram, sign_rows, structured_gram,
};
use kernelview::lm::{LanguageModel, OutputMode, PromptExample, PromptExamples, Roundings, random};
use kernelview::progress::Silent;
use kernelview::strategies::prompt;
use kernelview::train::{cross_entropy, loss_gradient, output_derivative};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const VOCABULARY: i64 = 23;

/// A random network with random prompts, including repeated tokens, single tokens and mixed lengths (padding).
#[derive(Clone, Debug)]
struct Case {
    network: Network,
    seed: u64,
    tied: bool,
    prompts: Vec<(Vec<i64>, usize)>,
    label_ids: Vec<i64>,
    batch: usize,
    arithmetic: Arithmetic,
    block_entries: i64,
}

fn case() -> impl Strategy<Value = Case> {
    (
        proptest::sample::select(&Network::ALL[..]),
        any::<u64>(),
        any::<bool>(),
        proptest::collection::vec(prompt(VOCABULARY, 8), 1..5),
        proptest::sample::subsequence((2..VOCABULARY).collect::<Vec<_>>(), 1..5).prop_shuffle(),
        1..5usize,
        proptest::sample::select(&Arithmetic::ALL[..]),
        prop_oneof![Just(1i64), Just(700), Just(1 << 20)],
    )
        .prop_map(|(network, seed, tied, prompts, label_ids, batch, arithmetic, block_entries)| {
            let prompts = prompts.into_iter().map(|prompt| if network.is_rotary() { mixed(prompt) } else { prompt });
            let prompts = prompts.collect();
            Case { network, seed, tied, prompts, label_ids, batch, arithmetic, block_entries }
        })
}

/// A prompt whose tokens up to the one that is read are not all equal. In a rotary network equal tokens are alike in any
/// position, so that scores have no gradient in exact arithmetic, and in floating point one with the signs of round-off.
fn mixed((mut ids, at): (Vec<i64>, usize)) -> (Vec<i64>, usize) {
    if at > 0 && ids[1..=at].iter().all(|id| *id == ids[0]) {
        ids[0] = if ids[0] + 1 < VOCABULARY { ids[0] + 1 } else { 2 };
    }
    (ids, at)
}

struct Built {
    model: Box<dyn LanguageModel>,
    parameters: Parameters,
}

impl Case {
    fn build(&self) -> Built {
        crate::common::one_thread();
        let model = self.network.tiny(VOCABULARY, self.tied);
        let parameters = random::parameters(&*model, self.seed, 1.5, Kind::Double, Device::Cpu);
        Built { model, parameters }
    }

    fn examples<'a>(&self, built: &'a Built) -> PromptExamples<'a> {
        let prompts = self
            .prompts
            .iter()
            .map(|(ids, mask)| PromptExample {
                input_ids: ids.clone(),
                segment_ids: ids.iter().map(|id| id % self.network.segments()).collect(),
                mask_position: *mask,
            })
            .collect();
        PromptExamples::new(&*built.model, prompts, &self.label_ids, OutputMode::Logits, Device::Cpu)
            .expect("valid prompts")
            .rounded(Roundings::None)
    }

    fn options(&self, built: &Built) -> GramOptions {
        let mut options = GramOptions::new(FormulaSet::ALL, built.parameters.len());
        (options.batch, options.arithmetic) = (self.batch, Some(self.arithmetic));
        (options.block_entries, options.matrix_block_entries) = (self.block_entries, self.block_entries);
        options.share_matrices = true;
        options
    }

    fn gram(&self, built: &Built, examples: &dyn Examples) -> Gram {
        structured_gram(&built.parameters, examples, None, &self.options(built), &Silent).expect("finite kernels")
    }
}

/// Outputs times a constant.
struct Scaled<'a>(&'a dyn Examples, f64);

impl Examples for Scaled<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn outputs(&self) -> usize {
        self.0.outputs()
    }
    fn forward(&self, tap: &mut dyn Tap, indices: &[usize]) -> Tensor {
        self.0.forward(tap, indices) * self.1
    }
}

fn largest(t: &Tensor) -> f64 {
    t.abs().max().double_value(&[])
}

fn matrices(gram: &Gram) -> [&Tensor; 3] {
    Formula::ALL.map(|f| gram.matrix(f).expect("computed"))
}

fn include(built: &Built) -> Vec<bool> {
    vec![true; built.parameters.len()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Recorded gradients are autograd's, entry by entry; so are all kernels of both engines, integers exactly.
    #[test]
    fn engines_agree(case in case()) {
        let built = case.build();
        let examples = case.examples(&built);
        let j = dense_jacobian(&built.parameters, &examples).expect("not interrupted");
        let recorded = record(&built.parameters, &examples, &(0..examples.len()).collect::<Vec<_>>()).dense();
        prop_assert!((&recorded - &j).abs().max().double_value(&[]) <= 1e-12 * largest(&j));
        let reference = reference_gram(&built.parameters, &examples, None, FormulaSet::ALL, &include(&built)).unwrap();
        let gram = case.gram(&built, &examples);
        for (a, b) in matrices(&gram).into_iter().zip(matrices(&reference)) {
            prop_assert!(relative_error(a, b) <= 1e-10);
        }
        prop_assert_eq!(relative_error(gram.signgd.as_ref().unwrap(), reference.signgd.as_ref().unwrap()), 0.0);
    }

    /// kernel-algebra: symmetry, positive semi-definiteness, diagonals, shares.
    #[test]
    fn kernel_algebra(case in case()) {
        let built = case.build();
        let examples = case.examples(&built);
        let gram = case.gram(&built, &examples);
        let j = dense_jacobian(&built.parameters, &examples).expect("not interrupted");
        let signs = sign_rows(&built.parameters, &j);
        for k in [gram.sgd.as_ref().unwrap(), gram.signgd.as_ref().unwrap()] {
            prop_assert!(largest(&(k - k.tr())) <= 1e-12 * largest(k));
            let smallest = k.linalg_eigvalsh("L").min().double_value(&[]);
            prop_assert!(smallest >= -1e-10 * largest(k), "eigenvalue {smallest}");
        }
        let signgd = gram.signgd.as_ref().unwrap();
        prop_assert!(largest(&(signgd - signgd.round())) == 0.0, "integers");
        let nonzero = signs.abs().sum_dim_intlist(1, false, Kind::Double);
        prop_assert!(largest(&(signgd.diagonal(0, 0, 1) - nonzero)) == 0.0, "the diagonal counts non-zero entries");
        let asymmetric = gram.asymmetric.as_ref().unwrap();
        // Structurally zero entries are noise of about 1e-16 in the 1-norm, but zero in the kernel.
        let norm1 = (&j * &signs).sum_dim_intlist(1, false, Kind::Double);
        prop_assert!(relative_error(&asymmetric.diagonal(0, 0, 1), &norm1) <= 1e-12, "K_A(ξ,ξ) = |∇f|_1");
        prop_assert!(relative_error(gram.asymmetric_reversed.as_ref().unwrap(), &asymmetric.tr()) <= 1e-12);
        let rows = gram.left * gram.outputs;
        if rows > 1 && case.prompts.iter().any(|p| p != &case.prompts[0]) {
            prop_assert!(largest(&(asymmetric - asymmetric.tr())) > 1e-6 * largest(asymmetric), "control: not symmetric");
        }
        let total = gram.shares.iter().fold(Tensor::zeros_like(signgd), |sum, s| sum + s.sgd.as_ref().unwrap());
        prop_assert!(relative_error(&total, gram.sgd.as_ref().unwrap()) <= 1e-12, "shares add up");
    }

    /// kernel-algebra: scaling f by c scales the kernels by c², 1 and c (order: SGD, SignGD, asymmetric).
    #[test]
    fn scaling_the_outputs(case in case(), c in 0.01f64..100.0) {
        let built = case.build();
        let examples = case.examples(&built);
        let plain = case.gram(&built, &examples);
        let scaled = case.gram(&built, &Scaled(&examples, c));
        for ((a, b), factor) in matrices(&scaled).into_iter().zip(matrices(&plain)).zip([c * c, 1.0, c]) {
            prop_assert!(relative_error(a, &(b * factor)) <= 1e-10);
        }
    }

    /// kernel-algebra: kernels do not depend on batching, blocking or arithmetic, and follow a permutation of the examples.
    #[test]
    fn batching_blocking_and_order(
        case in case(), batch in 1..6usize, block in 1..4000i64, arithmetic in proptest::sample::select(&Arithmetic::ALL[..])
    ) {
        let built = case.build();
        let examples = case.examples(&built);
        let gram = case.gram(&built, &examples);
        let other = Case { batch, arithmetic, block_entries: block, ..case.clone() }.gram(&built, &examples);
        let reversed: Vec<usize> = (0..examples.len()).rev().collect();
        let turned = case.gram(&built, &examples.select(&reversed));
        for formula in Formula::ALL {
            let k = gram.tensor(formula).unwrap();
            let tolerance = if formula == Formula::Signgd { 0.0 } else { 1e-10 };
            prop_assert!(relative_error(&other.tensor(formula).unwrap(), &k) <= tolerance);
            prop_assert!(relative_error(&turned.tensor(formula).unwrap(), &k.flip([0, 2])) <= tolerance.max(1e-12));
        }
    }

    /// Structural zeros: key biases have no gradient in exact arithmetic (autograd gives only round-off), rows of the token
    /// table outside of prompt and label words have none at all, and neither counts in the sign kernel.
    #[test]
    fn structural_zeros(case in case()) {
        let built = case.build();
        let examples = case.examples(&built);
        let j = dense_jacobian(&built.parameters, &examples).expect("not interrupted");
        let signs = sign_rows(&built.parameters, &j);
        let mut start = 0;
        for spec in built.parameters.specs() {
            let part = j.narrow(1, start, spec.numel()).contiguous();
            for zeros in spec.zero_entries() {
                let (at, count) = (start + zeros.start, zeros.end - zeros.start);
                prop_assert!(largest(&j.narrow(1, at, count)) <= 1e-12 * largest(&j), "{} is structurally zero", spec.name);
                prop_assert_eq!(largest(&signs.narrow(1, at, count)), 0.0);
            }
            if Network::is_token_table(&spec.name) {
                let rows = part.view([-1, spec.shape[0], spec.shape[1]]).abs().amax([2], false);
                for (i, (ids, _)) in case.prompts.iter().enumerate() {
                    for c in 0..case.label_ids.len() {
                        let row = rows.get((i * case.label_ids.len() + c) as i64);
                        for id in (0..VOCABULARY).filter(|id| !(ids.contains(id) || (case.tied && case.label_ids[c] == *id))) {
                            prop_assert_eq!(row.double_value(&[id]), 0.0);
                        }
                    }
                }
            }
            start += spec.numel();
        }
        // A single token: softmax of one score is constant, so queries and keys have no gradient either.
        if let Some(i) = case.prompts.iter().position(|(ids, _)| ids.len() == 1) {
            let mut start = 0;
            for spec in built.parameters.specs() {
                if spec.name.contains("self.query") || spec.name.contains("q_proj") {
                    let rows = j.narrow(1, start, spec.numel()).reshape([examples.len() as i64, -1]);
                    prop_assert_eq!(largest(&rows.get(i as i64)), 0.0, "{}", &spec.name);
                }
                start += spec.numel();
            }
        }
    }

    /// sign-factorization: for one output the sign of the loss gradient is sign(χ) sign(∇f).
    #[test]
    fn sign_factorization(case in case(), label in 0..2usize) {
        prop_assume!(case.label_ids.len() >= 2);
        let two = Case { label_ids: case.label_ids[..2].to_vec(), ..case };
        let built = two.build();
        let logits = two.examples(&built).select(&[0]);
        let difference = logits.with_mode(OutputMode::Difference).unwrap();
        let labels = Tensor::from_slice(&[label as i64]);
        let f = record(&built.parameters, &difference, &[0]);
        let chi = output_derivative(f.outputs(), &labels).double_value(&[0, 0]);
        let (_, gradient) = loss_gradient(&built.parameters, &logits, &labels, &[0], &include(&built));
        let flat: Vec<Tensor> = gradient.into_iter().map(|g| g.unwrap().reshape([-1])).collect();
        let loss_signs = sign_rows(&built.parameters, &Tensor::cat(&flat, 0).unsqueeze(0));
        let j = dense_jacobian(&built.parameters, &difference).expect("not interrupted");
        let predicted = sign_rows(&built.parameters, &j) * chi.signum();
        // Autograd sums over the two logits in another order than over their difference: entries that cancel to round-off have
        // no defined sign and are left out.
        let sound = j.abs().gt(1e-12 * largest(&j)).to_kind(Kind::Double);
        prop_assert_eq!(largest(&((loss_signs - predicted) * sound)), 0.0);
    }

    /// output-derivative: χ of the cross-entropy and of the logistic loss against autograd.
    #[test]
    fn output_derivative_is_the_loss_gradient(values in proptest::collection::vec(-8.0f64..8.0, 2..7), label in 0..6usize) {
        let count = values.len() as i64;
        let labels = Tensor::from_slice(&[label as i64 % count]);
        let f = Tensor::from_slice(&values).view([1, count]).set_requires_grad(true);
        let gradient = Tensor::run_backward(&[cross_entropy(&f, &labels)], &[&f], false, false).remove(0);
        let chi = output_derivative(&f.detach(), &labels);
        prop_assert!(largest(&(&gradient - &chi)) <= 1e-14);
        prop_assert!(chi.sum(Kind::Double).double_value(&[]).abs() <= 1e-14, "χ sums to zero over classes");

        let g = Tensor::from_slice(&values[..1]).view([1, 1]).set_requires_grad(true);
        let y = Tensor::from_slice(&[label as i64 % 2]);
        let sign = (label % 2) as f64 * 2.0 - 1.0;
        let logistic = (&g * -sign).softplus().sum(Kind::Double);
        let gradient = Tensor::run_backward(&[logistic], &[&g], false, false).remove(0);
        prop_assert!(largest(&(gradient - output_derivative(&g.detach(), &y))) <= 1e-14);
    }
}

/// The control of sign-factorization: with more than one output the loss gradient is a sum over outputs, and its signs
/// are not sign(χ_c) sign(∇f_c) for any one of them.
#[test]
fn with_several_outputs_signs_do_not_factor() {
    let case = Case {
        network: Network::Bert,
        seed: 5,
        tied: true,
        prompts: vec![(vec![3, 7, 4, 9], 2)],
        label_ids: vec![5, 6, 11],
        batch: 1,
        arithmetic: Arithmetic::Cores,
        block_entries: 1 << 20,
    };
    let built = case.build();
    let examples = case.examples(&built);
    let labels = Tensor::from_slice(&[1i64]);
    let f = record(&built.parameters, &examples, &[0]);
    let chi = output_derivative(f.outputs(), &labels);
    let (_, gradient) = loss_gradient(&built.parameters, &examples, &labels, &[0], &include(&built));
    let flat: Vec<Tensor> = gradient.into_iter().map(|g| g.expect("included").reshape([-1])).collect();
    let loss_signs = Tensor::cat(&flat, 0).sign();
    let j = dense_jacobian(&built.parameters, &examples).expect("not interrupted");
    for c in 0..3 {
        let predicted = j.get(c).sign() * chi.double_value(&[0, c]).signum();
        let different = loss_signs.not_equal_tensor(&predicted).sum(Kind::Int64).int64_value(&[]);
        assert!(different > 100, "output {c}: only {different} signs differ");
    }
}

/// Parameter subsets: the kernel of a subset is the sum of its parameters' shares.
#[test]
fn subset_kernels_are_sums_of_shares() {
    use kernelview::jacobian::Subset;
    let case = Case {
        network: Network::Roberta,
        seed: 9,
        tied: true,
        prompts: vec![(vec![3, 7, 4], 0), (vec![5, 5], 1)],
        label_ids: vec![5, 6],
        batch: 2,
        arithmetic: Arithmetic::Matrices,
        block_entries: 1 << 20,
    };
    let built = case.build();
    let examples = case.examples(&built);
    let all = case.gram(&built, &examples);
    for subset in [Subset::All, Subset::NoEmbeddings, Subset::NoHead, Subset::BiasesOnly] {
        let mut options = case.options(&built);
        options.include = built.parameters.specs().iter().map(|s| subset.contains(s)).collect();
        let gram = structured_gram(&built.parameters, &examples, None, &options, &Silent).expect("a kernel");
        let sum = all
            .shares
            .iter()
            .filter(|s| options.include[s.parameter])
            .fold(Tensor::zeros_like(all.sgd.as_ref().unwrap()), |sum, s| sum + s.sgd.as_ref().unwrap());
        assert!(relative_error(gram.sgd.as_ref().unwrap(), &sum) <= 1e-12, "{subset:?}");
        let reference =
            reference_gram(&built.parameters, &examples, None, FormulaSet::ALL, &options.include).expect("a kernel");
        assert!(relative_error(gram.signgd.as_ref().unwrap(), reference.signgd.as_ref().unwrap()) == 0.0, "{subset:?}");
        let count = options.include.iter().filter(|k| **k).count();
        let total = built.parameters.len();
        assert!(count > 0 && (subset == Subset::All) == (count == total), "{subset:?} keeps {count} of {total}");
    }
}
