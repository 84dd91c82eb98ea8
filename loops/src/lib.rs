//! The innermost loops of kernelview, each over slices of numbers, none over tensors: this crate knows neither libtorch nor networks.
//!
//! They are a crate of their own so that they are always compiled for speed, also where the program around them is compiled
//! for tests: most of its lines only say what libtorch should do, and optimizing those takes minutes and gains nothing.

pub mod dots;
pub mod draws;
pub mod instructions;
pub mod outer;
pub mod pairs;
pub mod parts;
pub mod signs;

mod lanes;

pub use lanes::{Lanes, Real};
