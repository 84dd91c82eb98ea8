//! Slopes of points in groups, each of which has its own level.

/// A point of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levelled {
    /// Its group.
    pub group: usize,
    /// Its place on the x axis.
    pub x: f64,
    /// The measured value.
    pub y: f64,
}

/// Least-squares slope of y in x where every group has its own level (fixed effects): from the points' deviations from their
/// groups' means. `None` if x varies within no group.
///
/// The points of one sample are fitted together and give one slope; an interval is taken over the slopes of independent samples.
pub fn levelled_slope(points: &[Levelled]) -> Option<f64> {
    let (mut xx, mut xy) = (0.0, 0.0);
    let groups = points.iter().map(|p| p.group).max()? + 1;
    for group in 0..groups {
        let own: Vec<&Levelled> = points.iter().filter(|p| p.group == group).collect();
        let mean = |of: fn(&Levelled) -> f64| own.iter().map(|p| of(p)).sum::<f64>() / own.len() as f64;
        let (x, y) = (mean(|p| p.x), mean(|p| p.y));
        xx += own.iter().map(|p| (p.x - x).powi(2)).sum::<f64>();
        xy += own.iter().map(|p| (p.x - x) * (p.y - y)).sum::<f64>();
    }
    (xx > 0.0).then(|| xy / xx)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(of: &[(usize, f64, f64)]) -> Vec<Levelled> {
        of.iter().map(|(group, x, y)| Levelled { group: *group, x: *x, y: *y }).collect()
    }

    /// Two parallel lines at different levels, which would give another slope if taken for one line; and groups without
    /// information.
    #[test]
    fn levels_are_no_slope() {
        let lines = [(0, 0.0, 5.0), (0, 1.0, 7.0), (2, 10.0, -3.0), (2, 12.0, 1.0), (1, 4.0, 100.0)];
        assert!((levelled_slope(&points(&lines)).expect("x varies") - 2.0).abs() < 1e-12);
    }

    /// Frisch and Waugh: the slope is that of the regression with an indicator for each group, from its normal equations.
    #[test]
    fn it_is_the_regression_with_indicators() {
        let all = points(&[(0, 0.3, 1.0), (0, 0.9, 1.7), (0, 2.0, 1.1), (1, 1.0, 4.0), (1, 1.5, 6.0)]);
        let mut normal = nalgebra::Matrix3::<f64>::zeros();
        let mut right = nalgebra::Vector3::<f64>::zeros();
        for p in &all {
            let mut row = nalgebra::Vector3::new(p.x, 0.0, 0.0);
            row[1 + p.group] = 1.0;
            normal += row * row.transpose();
            right += row * p.y;
        }
        let expected = normal.lu().solve(&right).expect("regular")[0];
        assert!((levelled_slope(&all).expect("x varies") - expected).abs() < 1e-12);
    }

    #[test]
    fn without_variation_there_is_none() {
        assert_eq!(levelled_slope(&[]), None);
        assert_eq!(levelled_slope(&points(&[(0, 1.0, 2.0), (0, 1.0, 3.0), (1, 5.0, 1.0)])), None);
    }
}
