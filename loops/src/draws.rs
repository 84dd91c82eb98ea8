//! Seeded random numbers, the same on every machine.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// A stream of numbers from ChaCha8. Streams of one seed are independent of each other.
#[derive(Clone, Debug)]
pub struct Draws {
    random: ChaCha8Rng,
}

impl Draws {
    /// A stream of a seed, from its start.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Self { random }
    }

    /// The next `count` numbers, independent N(mean, deviation²).
    pub fn normal(&mut self, mean: f64, deviation: f64, count: usize) -> Vec<f64> {
        let mut numbers = vec![0.0; count];
        self.fill(&mut numbers);
        for number in &mut numbers {
            *number = mean + deviation * *number;
        }
        numbers
    }

    /// The next `count` numbers, uniform on \[-bound, bound).
    pub fn uniform(&mut self, bound: f64, count: usize) -> Vec<f64> {
        (0..count).map(|_| bound * self.random.random_range(-1.0..1.0)).collect()
    }

    /// Fills a slice with the next numbers, independent N(0, 1).
    pub fn fill(&mut self, numbers: &mut [f64]) {
        numbers.fill_with(|| StandardNormal.sample(&mut self.random));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_generator_in_order() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        random.set_stream(3);
        let mut draws = Draws::new(7, 3);
        let normal: Vec<f64> = (0..5).map(|_| StandardNormal.sample(&mut random)).collect();
        assert_eq!(draws.normal(1.0, 2.0, 5), normal.iter().map(|z| 1.0 + 2.0 * z).collect::<Vec<_>>());
        let uniform: Vec<f64> = (0..5).map(|_| 0.5 * random.random_range(-1.0..1.0)).collect();
        assert_eq!(draws.uniform(0.5, 5), uniform);
        assert_ne!(Draws::new(7, 4).normal(0.0, 1.0, 5), Draws::new(7, 3).normal(0.0, 1.0, 5));
    }
}
