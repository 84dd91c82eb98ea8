//! Pre-trains a family of masked language models that differ only in width, in muP, on any text or on an artificial language.
//!
//! A [`Recipe`] holds everything that a family depends on: corpus digests, tokenizer, sizes, parametrization, schedule, seed.
//! `corpus` turns text into sequences of token ids, `batches` masks them in the same order for every width, `run` trains one
//! width and continues an interrupted run with the same numbers, `coordinates` and `sweep` check the parametrization. Knows no
//! task, no kernel and no claim.

mod batches;
mod coordinates;
mod corpus;
mod initial;
pub mod language;
mod recipe;
mod report;
mod run;
mod shipped;
mod step;
mod sweep;
mod vocabulary;

pub use batches::{Batches, MaskedBatch};
pub use coordinates::{CoordinateCheck, check_coordinates};
pub use corpus::Corpus;
pub use recipe::{LanguageName, LanguageRecipe, Recipe};
pub use report::{FamilyReport, family_findings, write_family};
pub(crate) use run::refuse_another;
pub use run::{Curve, CurvePoint, Trained, train};
pub use shipped::{BUILT_IN, FAMILY_VARIABLE, Member, family_directory, family_members};
pub use sweep::{Sweep, sweep};
pub use vocabulary::{SPECIAL_TOKENS, language_ids, language_tokenizer, train_tokenizer};
