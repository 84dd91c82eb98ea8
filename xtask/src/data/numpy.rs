//! The draws of NumPy's legacy generator (`numpy.random.seed`, `shuffle`, `RandomState.choice`), number for number.
//!
//! They define LM-BFF's published splits. Knows no files and no tasks.

use rand_mt::Mt;

/// `numpy.random` after `numpy.random.seed(seed)`.
pub struct Legacy(Mt);

impl Legacy {
    /// A single number seeds the Mersenne Twister by Knuth's recurrence, not by array initialization.
    pub fn seed(seed: u32) -> Self {
        Self(Mt::new(seed))
    }

    /// A number from 0 to `largest` inclusive, by rejection: draws as many low bits as `largest` has until they do not
    /// exceed it. `largest` must be below 2³².
    fn interval(&mut self, largest: u32) -> u32 {
        let mask = u32::MAX.checked_shr(largest.leading_zeros()).unwrap_or(0);
        loop {
            let value = self.0.next_u32() & mask;
            if value <= largest {
                return value;
            }
        }
    }

    /// `numpy.random.shuffle`: from the last place to the first, swaps each with a random place at or before it.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let largest = u32::try_from(last).expect("fewer than 2³² rows");
            items.swap(last, self.interval(largest) as usize);
        }
    }

    /// `RandomState.choice(count, size, replace=False)`, which `DataFrame.sample` draws: the first of a permutation.
    pub fn choose(&mut self, count: usize, size: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..count).collect();
        self.shuffle(&mut places);
        places.truncate(size);
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines `seed COUNT: numbers` as NumPy shuffled them, made by golden/make.py.
    #[test]
    fn shuffles_are_those_of_numpy() {
        let golden = include_str!("golden/shuffles.txt");
        for line in golden.lines().filter(|line| !line.starts_with('#')) {
            let (head, numbers) = line.split_once(": ").expect("a head and numbers");
            let head: Vec<u32> = head.split(' ').map(|n| n.parse().expect("a number")).collect();
            let [seed, count] = head[..] else { panic!("{line}") };
            let expected: Vec<usize> = numbers.split(' ').map(|n| n.parse().expect("a number")).collect();
            let mut items: Vec<usize> = (0..count as usize).collect();
            let mut random = Legacy::seed(seed);
            random.shuffle(&mut items);
            // A second shuffle shows that the first drew as many numbers as NumPy's.
            random.shuffle(&mut items);
            items.truncate(expected.len());
            assert_eq!(items, expected, "seed {seed}, {count} items");
            assert!(Legacy::seed(seed).choose(count as usize, 3).len() <= 3);
        }
    }
}
