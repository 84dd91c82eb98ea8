//! Random effects: components of variance of nested samples.

use super::Estimate;
use super::distribution::mean_and_error;
use super::student_mean;

/// A mean over groups with its components of variance.
#[derive(Clone, Debug, PartialEq)]
pub struct Components {
    /// The mean over groups, with Student's interval over them: the scatter of group means includes everything drawn per
    /// group on any level, so the interval covers all of it.
    pub mean: Estimate,
    /// Variance between groups: that of the group means with infinitely many members. 0 if the members explain everything.
    pub between: f64,
    /// Variance of members within groups.
    pub within: f64,
}

/// Mean and components of variance of groups of equal size: seeds of pre-training with their tasks, tasks with their
/// sentences. One-way analysis of variance.
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
