//! The innermost loops of kernelview, each over slices of numbers, none over tensors: this crate knows neither libtorch nor networks.
//!
//! A separate crate, so that it is always optimized, even in test builds of the rest of the program, which mostly calls
//! libtorch and would take minutes to optimize without benefit.

pub mod dots;
pub mod draws;
pub mod instructions;
pub mod outer;
pub mod pairs;
pub mod parts;
pub mod signs;
pub mod strips;

mod lanes;

pub use lanes::{Lanes, Real};
