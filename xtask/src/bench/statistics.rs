//! What is told of many measured values. Each function returns NaN for no values.

/// The middle and the slow end.
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

impl Quantiles {
    pub(super) fn of(values: &[f64]) -> Self {
        let at = |share| quantile(values.iter().copied(), share);
        Self { p50: at(0.5), p99: at(0.99) }
    }
}

/// The smallest of the values that at least this share of them does not exceed.
pub(super) fn quantile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let values = sorted(values);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The value in the middle; of an even number of values, the mean of the two in the middle.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let values = sorted(values);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len().is_multiple_of(2) { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 } else { at(middle) }
}

/// The mean, and the half-width of its 95 % confidence interval by Student's t.
pub(super) fn mean_with_interval(values: &[f64]) -> (f64, f64) {
    /// The 97.5 % quantile for 1, 2, … degrees of freedom.
    const T: [f64; 20] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    ];
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let t = T.get(values.len().saturating_sub(2)).copied().unwrap_or(1.96);
    (mean, t * (variance / count).sqrt())
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        let check = |values: &[f64], expect: f64| assert_eq!(median(values.iter().copied()), expect);
        check(&[3.0, 1.0, 2.0], 2.0);
        check(&[4.0, 1.0, 2.0, 3.0], 2.5);
        check(&[7.0], 7.0);
        assert!(median([].into_iter()).is_nan());
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values = || (1..=200).rev().map(f64::from);
        assert_eq!(quantile(values(), 0.5), 100.0);
        assert_eq!(quantile(values(), 0.99), 198.0);
        assert_eq!(quantile([7.0].into_iter(), 0.99), 7.0);
        assert!(quantile([].into_iter(), 0.5).is_nan());
    }

    #[test]
    fn an_interval_is_students() {
        let (mean, half_width) = mean_with_interval(&[0.9, 1.0, 1.1]);
        assert!((mean - 1.0).abs() < 1e-9);
        // s = 0.1, t = 4.303 with two degrees of freedom.
        assert!((half_width - 4.303 * 0.1 / 3f64.sqrt()).abs() < 1e-9);
    }
}
