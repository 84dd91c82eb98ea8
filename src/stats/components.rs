//! Random effects: where the scatter of nested samples comes from.

use super::Estimate;
use super::distribution::mean_and_error;
use super::student_mean;

/// A mean over groups with what scatters.
#[derive(Clone, Debug, PartialEq)]
pub struct Components {
    /// The mean over groups, with Student's interval over them: whatever is drawn anew in each group, on whatever level, is in the
    /// scatter of the groups' means, so that the interval covers over all of it.
    pub mean: Estimate,
    /// Variance of the groups' own means: what is left with infinitely many members of each. 0 where the members explain all.
    pub between: f64,
    /// Variance of members within groups.
    pub within: f64,
}

/// Means, and components of variance, of groups of equally many members each: seeds of pre-training with the tasks that each draws,
/// tasks with their sentences. One-way analysis of variance.
///
/// # Panics
/// If there are no two groups of two members, or groups of different sizes.
pub fn components(groups: &[Vec<f64>], confidence: f64) -> Components {
    let members = groups[0].len();
    assert!(groups.len() >= 2 && members >= 2, "variance within and between groups");
    assert!(groups.iter().all(|g| g.len() == members), "groups of one size");
    let moments: Vec<(f64, f64)> = groups.iter().map(|g| mean_and_error(g)).collect();
    let means: Vec<f64> = moments.iter().map(|m| m.0).collect();
    // An error is the deviation over the root of the number.
    let within = moments.iter().map(|m| m.1.powi(2) * members as f64).sum::<f64>() / groups.len() as f64;
    let of_means = mean_and_error(&means).1.powi(2) * means.len() as f64;
    let between = (of_means - within / members as f64).max(0.0);
    Components { mean: student_mean(&means, confidence), between, within }
}
