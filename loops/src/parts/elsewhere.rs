//! What multiplies on matrix units, for processors that have none: nothing of it is called.

use super::{Parts, Values};

/// There are no matrix units.
#[derive(Debug, Default)]
pub struct Gathered(());

impl Gathered {
    /// Not to be called.
    pub fn begin(&mut self, _: Parts, _: usize, _: (usize, usize)) {
        unreachable!("no matrix units")
    }

    /// Not to be called.
    pub fn add_products(&self, _: Option<&Self>, _: &mut [f64]) {
        unreachable!("no matrix units")
    }
}

/// There are no matrix units.
#[derive(Debug, Default)]
pub struct Tokens(());

impl Tokens {
    /// Not to be called.
    pub fn begin(&mut self, _: Parts, _: (usize, usize), _: usize) {
        unreachable!("no matrix units")
    }

    /// Not to be called.
    pub fn push(&mut self, _: Values<'_>, _: Values<'_>, _: usize) {
        unreachable!("no matrix units")
    }

    /// Not to be called.
    pub fn add_products(&self, _: Option<&Self>, _: &mut [f64]) {
        unreachable!("no matrix units")
    }
}
