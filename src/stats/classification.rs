//! Scores of predicted classes.

/// F1 of class 1 over pairs of predicted and true class: the harmonic mean of precision and recall, `2 TP / (2 TP + FP +
/// FN)`; 0 if class 1 is neither predicted nor present.
pub fn f1(pairs: impl Iterator<Item = (usize, usize)>) -> f64 {
    let (mut right, mut wrong) = (0usize, 0usize);
    for (found, label) in pairs {
        right += usize::from(found == 1 && label == 1);
        wrong += usize::from((found == 1) != (label == 1));
    }
    if right == 0 { 0.0 } else { 2.0 * right as f64 / (2 * right + wrong) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        // Two true positives, one false positive, one false negative: precision 2/3, recall 2/3.
        let pairs = [(1, 1), (1, 1), (1, 0), (0, 1), (0, 0), (0, 0)];
        assert!((f1(pairs.into_iter()) - 2.0 / 3.0).abs() < 1e-15);
        assert_eq!(f1([(0, 0), (0, 1)].into_iter()), 0.0);
        assert_eq!(f1(std::iter::empty()), 0.0);
    }

    proptest! {
        /// The harmonic mean of precision and recall, wherever both are defined.
        #[test]
        fn harmonic_mean(pairs in prop::collection::vec((0..2usize, 0..2usize), 1..60)) {
            let count = |p: usize, l: usize| pairs.iter().filter(|x| **x == (p, l)).count() as f64;
            let (tp, fp, miss) = (count(1, 1), count(1, 0), count(0, 1));
            prop_assume!(tp > 0.0);
            let (precision, recall) = (tp / (tp + fp), tp / (tp + miss));
            let expected = 2.0 * precision * recall / (precision + recall);
            prop_assert!((f1(pairs.into_iter()) - expected).abs() < 1e-12);
        }
    }
}
