//! Statistics that policies decide by, over plain lists of values.
//!
//! The definitions are those of the literature on consolidation (Beloglazov and Buyya 2012), each named, since quantiles are
//! defined in many ways. Nothing is known of an empty list: the answer is `None`, not zero.

/// The values in ascending order.
fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The quantile at `share` (0 to 1) by nearest rank: of n values in ascending order the one at rank `share * (n + 1)`, rounded
/// half up, the first rank being 1. It is always one of the values.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    quantile_of_sorted(&sorted(values), share)
}

fn quantile_of_sorted(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share.clamp(0.0, 1.0) * (sorted.len() + 1) as f64 + 0.5).floor() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// The distance between the lower and the upper quartile, both by nearest rank.
pub fn interquartile_range(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    Some(quantile_of_sorted(&sorted, 0.75)? - quantile_of_sorted(&sorted, 0.25)?)
}

/// The value in the middle; with an even number of values, the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        return Some(sorted[middle]);
    }
    let (low, high) = (sorted.get(middle.checked_sub(1)?)?, sorted[middle]);
    Some(low + 0.5 * (high - low))
}

/// The median absolute deviation: the median of the distances from the median.
pub fn median_absolute_deviation(values: &[f64]) -> Option<f64> {
    let middle = median(values)?;
    let distances: Vec<f64> = values.iter().map(|value| (middle - value).abs()).collect();
    median(&distances)
}

/// A straight line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Its value at 0.
    pub intercept: f64,
    /// How much it rises from one step to the next.
    pub slope: f64,
}

impl Line {
    /// The line of least squares through values at 1, 2, 3, ..; `None` with fewer than two of them.
    pub fn fit(values: &[f64]) -> Option<Line> {
        if values.len() < 2 {
            return None;
        }
        let n = values.len() as f64;
        let (middle, mean) = ((n + 1.0) / 2.0, values.iter().sum::<f64>() / n);
        let (mut across, mut along) = (0.0, 0.0);
        for (index, value) in values.iter().enumerate() {
            let x = (index + 1) as f64 - middle;
            across += x * (value - mean);
            along += x * x;
        }
        let slope = across / along;
        Some(Line { intercept: mean - slope * middle, slope })
    }

    /// Its value at `x`: what is predicted for the step `x`, where the first value was step 1.
    pub fn at(self, x: f64) -> f64 {
        self.intercept + self.slope * x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_of_the_list() {
        let twelve: Vec<f64> = (1..=12).rev().map(f64::from).collect();
        // Ranks 3.25 and 9.75 of 13, and 6.5, which is rounded up.
        assert_eq!(quantile(&twelve, 0.25), Some(3.0));
        assert_eq!(quantile(&twelve, 0.75), Some(10.0));
        assert_eq!(quantile(&twelve, 0.5), Some(7.0));
        assert_eq!((quantile(&twelve, 0.0), quantile(&twelve, 1.0)), (Some(1.0), Some(12.0)));
        assert_eq!(interquartile_range(&twelve), Some(7.0));
        assert_eq!(interquartile_range(&[5.0]), Some(0.0));
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 8.0]), Some(3.0));
        // Distances from 2: 1, 1, 0, 0, 2, 4, 7; in order 0, 0, 1, 1, 2, 4, 7.
        assert_eq!(median_absolute_deviation(&[1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]), Some(1.0));
    }

    #[test]
    fn lines_fit_and_predict() {
        assert_eq!(Line::fit(&[1.0, 3.0, 5.0]), Some(Line { intercept: -1.0, slope: 2.0 }));
        // Mean 2, slope (-1.5 * -1 + -0.5 * 0 + 0.5 * -1 + 1.5 * 2) / 5 = 0.8.
        let line = Line::fit(&[1.0, 2.0, 1.0, 4.0]).unwrap();
        assert!((line.slope - 0.8).abs() < 1e-12 && line.intercept.abs() < 1e-12);
        assert!((line.at(5.0) - 4.0).abs() < 1e-12);
        assert_eq!(Line::fit(&[1.0]), None);
    }

    #[test]
    fn nothing_known_is_not_zero() {
        assert_eq!((quantile(&[], 0.5), median(&[]), interquartile_range(&[])), (None, None, None));
        assert_eq!((median_absolute_deviation(&[]), Line::fit(&[])), (None, None));
    }
}
