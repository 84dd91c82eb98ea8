//! Statistics of claims: estimates with intervals, exponents of power laws, three-way judgements that include "too few
//! samples", and the power of checks.
//!
//! Knows only numbers: no tensors, no claims, no files. Functions are pure; the seeds of random numbers are arguments.
//!
//! Confidences lie strictly between 0 and 1 and may be as close to 1 as 1 - 1e-9 (the error rate of a suite split over many
//! checks); any other confidence panics.

mod classification;
mod components;
mod distribution;
mod estimate;
mod expectation;
mod exponent;
mod levels;
mod pairs;
mod power;
mod prediction;
mod ratio;
mod sequence;

pub use classification::f1;
pub use components::{Crossed, crossed};
pub use estimate::{Estimate, Method, bootstrap_mean, clopper_pearson, positive_mean, prediction_bound, student_mean};
pub use expectation::{Expectation, Outcome};
pub use exponent::{Exponent, Scaling, exponent};
pub use levels::{Levelled, levelled_slope};
pub use pairs::pair_mean_error;
pub use power::{detectable, probability_of_holding, probability_of_violation, seeds_needed};
pub use prediction::prediction_margin;
pub use ratio::{Alike, Ratio};
pub use sequence::{look_share, sequential_mean};
