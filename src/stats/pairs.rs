//! Means over pairs of examples: entries of a kernel share examples and are not independent.

/// Standard error of the mean of a statistic of pairs, `(first example, second example, value)`, over examples: the
/// jackknife, which leaves out one example with all of its pairs at a time (Efron and Stein 1981; its mean is not too
/// small). `None` for fewer than two examples, or if leaving one out leaves nothing.
pub fn pair_mean_error(entries: &[(usize, usize, f64)], examples: usize) -> Option<f64> {
    if examples < 2 {
        return None;
    }
    let (mut sums, mut counts) = (vec![0.0; examples], vec![0usize; examples]);
    for (i, j, value) in entries {
        let both = [*i, *j];
        for at in if i == j { &both[..1] } else { &both[..] } {
            sums[*at] += value;
            counts[*at] += 1;
        }
    }
    let total: f64 = entries.iter().map(|e| e.2).sum();
    if counts.iter().any(|c| *c >= entries.len()) {
        return None;
    }
    let left: Vec<f64> =
        sums.iter().zip(&counts).map(|(sum, count)| (total - sum) / (entries.len() - count) as f64).collect();
    let n = examples as f64;
    let mean = left.iter().sum::<f64>() / n;
    Some(((n - 1.0) / n * left.iter().map(|x| (x - mean).powi(2)).sum::<f64>()).sqrt())
}
