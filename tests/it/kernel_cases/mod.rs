//! One corpus, every engine: each case of `fixtures/kernel-cases.toml` is computed by every configuration of the
//! structured engine and compared with the reference engine in double precision, at the same weights.
//!
//! Double precision: sums of about 1e4 products in another order differ by about 1e-14 of the largest entry (6e-15 is
//! observed), and 1e-10 is allowed; sign kernels are equal integers, because no gradient of the corpus is so small that
//! round-off decides its sign (if exact arithmetic gives zero, so do both engines, or the parameter is known to have no
//! gradient).
//!
//! Single precision: gradients have round-off errors, so that an entry near zero may have the other sign or be zero. The
//! largest effect on products is computed for each pair of rows from the gradients in double precision ([`Bounds`]); nothing
//! else may change. The reference engine in single precision must satisfy the same bounds. From the same single-precision
//! gradients, products in double precision must again be exact integers.

pub mod bounds;
mod corpus;
mod engine;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError, RwLock};

use kernelview::jacobian::{Examples, ParameterSpec, Parameters, record};
use kernelview::kernel::{
    Arithmetic, FormulaSet, Gram, GramOptions, Method, dense_jacobian, reference_gram, sign_rows, structured_gram,
};
use kernelview::lm::{OutputMode, PromptExamples};
use kernelview::progress::Monitor;
use tch::{Kind, Tensor};

use bounds::{Bounds, DOUBLE, Failures};
use corpus::{Built, Case, corpus};
use engine::{Engine, LARGE, MUCH};

/// Bytes of the factors of all examples.
fn factor_bytes(parameters: &Parameters, left: &dyn Examples, right: Option<&dyn Examples>) -> usize {
    let bytes = |e: &dyn Examples| (0..e.len()).map(|i| record(parameters, e, &[i]).bytes()).sum::<usize>();
    bytes(left) + right.map_or(0, bytes)
}

/// libtorch's number of threads partly belongs to the process: tests that change it run alone.
static THREADS: RwLock<()> = RwLock::new(());

/// Calls a test for each case with its network and its examples.
fn each_case(mut test: impl FnMut(&Case, &Built, &PromptExamples<'_>, Option<&dyn Examples>)) {
    for case in corpus() {
        tch::set_num_threads(1);
        let model = case.model();
        let built = Built::new(&case, &*model);
        let left = case.examples(&*model, &case.left);
        let right = case.right.as_ref().map(|r| case.examples(&*model, r));
        test(&case, &built, &left, right.as_ref().map(|r| r as &dyn Examples));
    }
}

/// All kernels by the reference engine.
fn reference(parameters: &Parameters, left: &dyn Examples, right: Option<&dyn Examples>) -> Gram {
    reference_gram(parameters, left, right, FormulaSet::ALL, &vec![true; parameters.len()]).expect("finite")
}

#[test]
fn double_precision() {
    let _beside = THREADS.read().unwrap_or_else(PoisonError::into_inner);
    let mut failures = Failures::default();
    each_case(|case, built, left, right| {
        let expected = reference(&built.double, left, right);
        let bytes = factor_bytes(&built.double, left, right);
        for engine in [Engine::all(case.rows(), bytes), Engine::all_as_matrices(case.rows(), bytes)].concat() {
            let gram = engine.gram(&built.double, left, right);
            failures.check(&format!("{}: {engine}", case.name), &gram, &expected, engine.formulas, &Bounds::DOUBLE);
        }
    });
    failures.none();
}

#[test]
fn single_precision() {
    let _beside = THREADS.read().unwrap_or_else(PoisonError::into_inner);
    let mut failures = Failures::default();
    each_case(|case, built, left, right| {
        let expected = reference(&built.double, left, right);
        let bounds = Bounds::single(&built.double, left, right);
        if let Some(([.., signgd], _)) = &bounds.doubt {
            // A bound that allows everything would check nothing.
            let largest = expected.signgd.as_ref().expect("computed").abs().max().double_value(&[]);
            let doubt = signgd.mean(Kind::Double).double_value(&[]);
            assert!(doubt <= 0.05 * largest, "{}: {doubt} of {largest} sign products in doubt", case.name);
        }
        let plain = reference(&built.single, left, right);
        failures.check(&format!("{}: reference", case.name), &plain, &expected, FormulaSet::ALL, &bounds);
        let bytes = factor_bytes(&built.single, left, right);
        let own = &Engine::all(case.rows(), bytes)[..9];
        for engine in own.iter().chain(&Engine::all_as_matrices(case.rows(), bytes)) {
            let gram = engine.gram(&built.single, left, right);
            failures.check(&format!("{}: {engine}", case.name), &gram, &expected, engine.formulas, &bounds);
        }
    });
    failures.none();
}

/// Single-precision gradients with products in double precision. With one example per pass the gradients are known: they are
/// those recorded here, and everything computed from them is exact up to round-off of double precision.
#[test]
fn products_in_double_precision_of_single_precision_gradients() {
    let _beside = THREADS.read().unwrap_or_else(PoisonError::into_inner);
    let mut failures = Failures::default();
    each_case(|case, built, left, right| {
        let jacobian = |examples: &dyn Examples| {
            let rows: Vec<Tensor> = (0..examples.len())
                .map(|i| record(&built.single, examples, &[i]).to_kind(Kind::Double).dense())
                .collect();
            Tensor::cat(&rows, 0)
        };
        let (l, r) = (jacobian(left), jacobian(right.unwrap_or(left)));
        let (ls, rs) = (sign_rows(&built.single, &l), sign_rows(&built.single, &r));
        let expected = reference(&built.double, left, right);
        let bounds = Bounds::single(&built.double, left, right);
        let own = Engine::every_method((LARGE, 1, MUCH));
        let as_matrices = own.iter().copied().filter(|e| e.method != Some(Method::Ghost)).map(Engine::as_matrices);
        for engine in own.iter().copied().chain(as_matrices) {
            let engine = Engine { product_kind: Some(Kind::Double), ..engine };
            let name = format!("{}: {engine}", case.name);
            let gram = engine.gram(&built.single, left, right);
            failures.check(&name, &gram, &expected, engine.formulas, &bounds);
            for (what, actual, left, right, relative) in [
                ("SGD", &gram.sgd, &l, &r, DOUBLE),
                ("asymmetric", &gram.asymmetric, &l, &rs, DOUBLE),
                ("reversed", &gram.asymmetric_reversed, &ls, &r, DOUBLE),
                ("SignGD", &gram.signgd, &ls, &rs, 0.0),
            ] {
                if let Some(actual) = actual {
                    let what = format!("{name}: {what} of the same gradients");
                    failures.near(&what, actual, &left.mm(&right.tr()), relative, None);
                }
            }
        }
    });
    failures.none();
}

/// From the same gradients, rounded to half precision, both arithmetics give the same sign kernels and, up to round-off of
/// single precision, the same sums: a product that was itself rounded to half precision would be off by up to 4e-3.
#[test]
fn halves_are_summed_in_single_precision() {
    let _beside = THREADS.read().unwrap_or_else(PoisonError::into_inner);
    let mut failures = Failures::default();
    each_case(|case, built, left, right| {
        let halves = Engine {
            product_kind: Some(Kind::BFloat16),
            ..Engine::new(Some(Method::Tiles), FormulaSet::ALL, (LARGE, 32, MUCH))
        };
        let own = halves.gram(&built.single, left, right);
        let as_matrices = halves.as_matrices().gram(&built.single, left, right);
        for (what, a, b) in [
            ("SGD", &as_matrices.sgd, &own.sgd),
            ("asymmetric", &as_matrices.asymmetric, &own.asymmetric),
            ("reversed", &as_matrices.asymmetric_reversed, &own.asymmetric_reversed),
        ] {
            let (a, b) = (a.as_ref().expect("asked for"), b.as_ref().expect("asked for"));
            failures.near(&format!("{}: {halves}: {what}", case.name), a, b, 2e-5, None);
        }
        failures.near(
            &format!("{}: {halves}: SignGD", case.name),
            as_matrices.signgd.as_ref().expect("asked for"),
            own.signgd.as_ref().expect("asked for"),
            0.0,
            None,
        );
    });
    failures.none();
}

/// If memory runs out, tiles are halved until they fit, and the kernels are the same.
#[test]
fn memory_that_runs_out_halves_tiles() {
    let _beside = THREADS.read().unwrap_or_else(PoisonError::into_inner);
    let mut failures = Failures::default();
    let mut halved = [0; 2];
    each_case(|case, built, left, right| {
        let expected = reference(&built.double, left, right);
        for (arithmetic, halved) in Arithmetic::ALL.into_iter().zip(&mut halved) {
            let notes = Notes::default();
            let mut options = GramOptions::new(FormulaSet::ALL, built.double.len());
            // A buffer has room for gradients and signs; tiles of 1024 entries fit.
            (options.arithmetic, options.pretended_memory) = (Some(arithmetic), Some(2048));
            (options.method, options.share_matrices) = (Some(Method::Tiles), right.is_none());
            let gram = structured_gram(&built.double, left, right, &options, &notes).expect("smaller tiles fit");
            let name = format!("{}: {}, out of memory", case.name, arithmetic.name());
            failures.check(&name, &gram, &expected, FormulaSet::ALL, &Bounds::DOUBLE);
            *halved += usize::from(!notes.0.into_inner().expect("not poisoned").is_empty());
        }
    });
    failures.none();
    assert!(halved.iter().all(|cases| *cases >= 3), "cases whose tiles were halved, by arithmetic: {halved:?}");
}

/// If tiles of the smallest size do not fit either, the computation ends with advice, and not before trying them.
#[test]
fn memory_that_never_suffices_is_an_error() {
    let _beside = THREADS.read().unwrap_or_else(PoisonError::into_inner);
    let case = corpus().into_iter().find(|c| c.right.is_some()).expect("a rectangular case");
    let model = case.model();
    let built = Built::new(&case, &*model);
    let left = case.examples(&*model, &case.left);
    for arithmetic in Arithmetic::ALL {
        let notes = Notes::default();
        let mut options = GramOptions::new(FormulaSet::ALL, built.double.len());
        (options.arithmetic, options.pretended_memory) = (Some(arithmetic), Some(0));
        let error = structured_gram(&built.double, &left, None, &options, &notes).expect_err("no room at all");
        assert!(error.to_string().contains("out of memory for the smallest tiles"), "{error}");
        let notes = notes.0.into_inner().expect("not poisoned");
        assert!(notes.len() > 5 && notes.iter().all(|n| n.contains("half the size")), "{arithmetic:?}: {notes:?}");
    }
}

/// Notes of a computation.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Monitor for Notes {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
    fn note(&self, text: &str) {
        self.0.lock().expect("not poisoned").push(text.to_owned());
    }
}

/// With two threads sign kernels are those of one thread, and the others are, up to the order of summation.
#[test]
fn two_threads() {
    let _alone = THREADS.write().unwrap_or_else(PoisonError::into_inner);
    let mut failures = Failures::default();
    each_case(|case, built, left, right| {
        let methods = [
            (None, FormulaSet::ALL),
            (Some(Method::Ghost), FormulaSet::SGD),
            (Some(Method::Tiles), FormulaSet::ALL),
            (Some(Method::Tiles), FormulaSet::SGD),
        ];
        for (method, formulas) in methods {
            let engine = Engine::new(method, formulas, (1 << 14, 32, MUCH));
            let one = engine.gram(&built.double, left, right);
            let engine = Engine { threads: 2, ..engine };
            let two = engine.gram(&built.double, left, right);
            assert_eq!(tch::get_num_threads(), 2, "{}: {engine}: the caller's number of threads", case.name);
            failures.check(&format!("{}: {engine}", case.name), &two, &one, engine.formulas, &Bounds::DOUBLE);
        }
    });
    failures.none();
}

/// Everything that the corpus promises exists, so that no case can be lost unnoticed.
#[test]
fn the_corpus_covers_what_it_promises() {
    let cases = corpus();
    let any = |what: &str, test: &dyn Fn(&Case) -> bool| assert!(cases.iter().any(test), "no case of {what}");
    let lengths = |c: &Case| -> Vec<usize> { c.left.iter().map(|p| p.ids.len()).collect() };
    let labels_among_tokens = |c: &Case| c.left.iter().any(|p| p.ids.iter().any(|id| c.label_ids.contains(id)));
    let repeated = |ids: &[i64]| ids.iter().enumerate().any(|(i, id)| ids[..i].contains(id));

    let names: BTreeSet<&str> = cases.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "every case has a name of its own");
    let prompts = || cases.iter().flat_map(|c| c.left.iter().chain(c.right.iter().flatten()));
    assert!(prompts().all(|p| p.ids.iter().all(|id| *id > 1)), "0 and 1 are padding");
    for outputs in 1..=6 {
        any(&format!("C = {outputs}"), &|c| c.outputs() == outputs);
    }
    any("N = 1", &|c| c.left.len() == 1 && c.right.is_none());
    any("one output by its label word", &|c| c.output == OutputMode::Logits && c.label_ids.len() == 1);
    any("one output by difference", &|c| c.output == OutputMode::Difference && c.label_ids[0] != c.label_ids[1]);
    any("one-token prompts alone", &|c| c.left.len() > 1 && c.right.is_none() && lengths(c).iter().all(|n| *n == 1));
    any("all padding but one token", &|c| lengths(c).contains(&1) && lengths(c).iter().any(|n| *n > 10));
    any("one length", &|c| c.left.len() > 2 && lengths(c).iter().all(|n| *n == lengths(c)[0] && *n > 1));
    any("repeated examples", &|c| {
        (1..c.left.len()).any(|i| c.left[..i].iter().any(|p| (&p.ids, p.mask) == (&c.left[i].ids, c.left[i].mask)))
    });
    any("repeated tokens", &|c| c.left.iter().any(|p| repeated(&p.ids)));
    any("one token alone, repeated", &|c| {
        c.left.iter().any(|p| p.ids.len() > 1 && p.ids.iter().all(|t| *t == p.ids[0]))
    });
    any("equal label words in a difference", &|c| c.output == OutputMode::Difference && repeated(&c.label_ids));
    any("equal label words as outputs", &|c| c.output == OutputMode::Logits && repeated(&c.label_ids));
    any("a rectified activation", &|c| c.activation == "relu");
    any("segments", &|c| c.left.iter().any(|p| p.segments.is_some()));
    any("more left than right", &|c| c.right.as_ref().is_some_and(|r| r.len() < c.left.len()));
    any("fewer left than right", &|c| c.right.as_ref().is_some_and(|r| r.len() > c.left.len()));
    any("a full position table", &|c| lengths(c).iter().any(|n| *n as i64 == c.model().facts().max_tokens));
    for tied in [true, false] {
        any(&format!("tied = {tied}"), &|c| c.tied == tied);
        any(&format!("label words among the tokens, tied = {tied}"), &|c| c.tied == tied && labels_among_tokens(c));
        for architecture in ["bert", "roberta", "albert", "gpt2", "llama"] {
            any(&format!("{architecture}, tied = {tied}"), &|c| c.architecture == architecture && c.tied == tied);
        }
    }
    any("causal, with tokens behind the one that is read", &|c| {
        c.architecture == "gpt2" && c.left.iter().any(|p| p.mask + 1 < p.ids.len())
    });
    any("no segments", &|c| c.architecture == "distilbert");
    any("embeddings and a head that are narrower than the layers", &|c| c.architecture == "electra");
    any("weights that several layers share", &|c| c.architecture == "albert" && c.model().facts().layers > 1);
    any("biases of rotary queries, keys and values", &|c| c.architecture == "qwen2");
    // Threads are used from about 5e7 multiplications on; an entry of a gradient counts as rows² + 128 rows of them.
    any("work for several threads", &|c| {
        let table = |name: &str| name.contains("embed") || name.contains("decoder");
        let model = c.model();
        let entries: i64 = model.specs().iter().filter(|s| !table(&s.name)).map(ParameterSpec::numel).sum();
        c.right.is_none() && entries * (c.rows() * c.rows() + 128 * c.rows()) > 60_000_000
    });
    any("rows of zeros", &|c| {
        let model = c.model();
        let left = c.examples(&*model, &c.left);
        let j = dense_jacobian(&Built::new(c, &*model).double, &left).expect("not interrupted");
        j.abs().max().double_value(&[]) == 0.0
    });
}
