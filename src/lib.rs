//! `kernelview` measures whether fine-tuning a language model is in the kernel (lazy) regime, after S. Malladi, A. Wettig,
//! D. Yu, D. Chen, S. Arora, "A Kernel-Based View of Language Model Fine-Tuning" (ICML 2023, arXiv 2210.05643).
//!
//! Data flows one way: task and model → prompted batch → per-example gradients → kernels → solvers and measures → report.
//! See `ARCHITECTURE.md` for the map, `examples/` for whole programs, and `examples/claim` for a claim of your own in a
//! separate crate.
//!
//! # Kernels of any network
//!
//! A network is written once over the [`jacobian::Tap`]; both engines and all formulas then work for it. Here is one of the
//! crate's own:
//!
//! ```
//! use kernelview::kernel::{FormulaSet, GramOptions, structured_gram};
//! use kernelview::network::{Abc, Activation, Mlp, unit_inputs};
//! use kernelview::tch::{Device, Kind};
//!
//! let mlp = Mlp { input: 4, width: 64, depth: 2, outputs: 1, activation: Activation::Tanh, gain: 1.0, abc: Abc::ntk(2) };
//! let parameters = mlp.parameters(7, Kind::Double, Device::Cpu);
//! let examples = mlp.examples(unit_inputs(3, 4, 1, Kind::Double, Device::Cpu));
//! let options = GramOptions::new(FormulaSet::ALL, parameters.len());
//! let gram = structured_gram(&parameters, &examples, None, &options, &kernelview::progress::Silent)?;
//! assert_eq!(gram.sgd.expect("asked for").size(), [3, 3]);
//! // Products of signs are integers.
//! let signs = gram.signgd.expect("asked for");
//! assert_eq!(signs, signs.round());
//! # Ok::<(), kernelview::error::Error>(())
//! ```
//!
//! # Limits of infinite width
//!
//! ```
//! use kernelview::network::{Abc, classify_sgd};
//!
//! // The neural-tangent parametrization is in the kernel regime (r = 1/2), the maximal-update one learns features (r = 0).
//! assert_eq!((classify_sgd(&Abc::ntk(3)).r, classify_sgd(&Abc::mup(3)).r), (0.5, 0.0));
//! ```
//!
//! # Prompted tasks
//!
//! ```
//! use kernelview::task::{TaskDefinition, Template};
//!
//! let template = Template::parse("*cls**sent_0*_It_was*mask*.*sep+*")?;
//! assert_eq!(template.text_count(), 1);
//! let task = TaskDefinition::new("reviews", &template.to_string(), "negative=terrible,positive=great")?;
//! assert_eq!(task.label_index("positive"), Some(1));
//! # Ok::<(), kernelview::error::Error>(())
//! ```
//!
//! # Statistics of a claim
//!
//! ```
//! use kernelview::stats::{Expectation, Outcome, Scaling, exponent};
//!
//! // A statistic that falls as 1/n, with some scatter over three seeds.
//! let widths = [64.0, 128.0, 256.0];
//! let values: Vec<Vec<f64>> = [0.98, 1.0, 1.03].iter().map(|s| widths.iter().map(|n: &f64| s * n.powf(-s)).collect()).collect();
//! let fit = exponent(&Scaling { widths: &widths, values: &values }, None, 0.9)?;
//! assert_eq!(Expectation::Within { target: -1.0, tolerance: 0.1 }.judge(&fit.slope), Outcome::Holds);
//! assert_eq!(Expectation::Within { target: -0.5, tolerance: 0.1 }.judge(&fit.slope), Outcome::Violated);
//! # Ok::<(), kernelview::error::Error>(())
//! ```
//!
//! # Failures and cancellation
//!
//! ```
//! use kernelview::error::Error;
//! use kernelview::progress::{Cancellation, check_cancelled};
//! use kernelview::task::Template;
//!
//! // Errors are matched by their data.
//! assert!(matches!(Template::parse("*sent_0*"), Err(Error::Syntax { text, .. }) if text == "*sent_0*"));
//! // Cancelling a token ends what runs under it, in all its threads, at the next safe point, and nothing else.
//! let token = Cancellation::new();
//! token.cancel();
//! assert!(matches!(token.scope(check_cancelled), Err(Error::Interrupted)));
//! ```

/// The libtorch bindings, whose tensors appear in the interfaces.
pub use tch;

pub mod analysis;
pub mod cli;
pub mod device;
mod entries;
pub mod error;
pub mod evidence;
pub mod files;
pub mod gate;
pub mod gguf;
pub mod hub;
pub mod jacobian;
pub mod kernel;
pub mod launch;
pub mod lm;
pub mod lock;
pub mod lora;
mod machine;
mod mapped;
pub mod measure;
pub mod natural;
pub mod network;
mod pickle;
pub mod pretrain;
pub mod products;
pub mod program;
pub mod progress;
pub mod regression;
pub mod report;
pub mod reproduce;
pub mod setting;
pub mod shard;
pub mod sketch;
pub mod stats;
#[cfg(feature = "strategies")]
pub mod strategies;
pub mod subspace;
pub mod task;
#[path = "../theorems/mod.rs"]
pub mod theorems;
mod threads;
pub mod train;
pub mod verify;
