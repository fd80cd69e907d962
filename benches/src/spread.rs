//! Percentiles of what was measured: an average alone hides what people wait for.

use serde::{Deserialize, Serialize};

/// Percentiles of samples, in the samples' own unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many samples.
    pub count: usize,
    /// Half of them were no greater.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of a hundred.
    pub p99: f64,
    /// 999 of a thousand.
    pub p99_9: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// The percentiles of some samples, by the nearest rank; none of no samples.
    #[must_use]
    pub fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let last = samples.len().checked_sub(1)?;
        let at = |share: f64| {
            let rank = (share * samples.len() as f64).ceil() as usize;
            samples[rank.saturating_sub(1).min(last)]
        };
        Some(Self {
            count: samples.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: samples[last],
        })
    }
}

/// The median of some figures, the mean of the two in the middle when they are even in number; 0 of none.
#[must_use]
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        None => 0.0,
        Some(_) if sorted.len().is_multiple_of(2) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        Some(one) => *one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_sample_that_so_many_do_not_exceed() {
        let spread = Spread::of((1..=1_000).rev().map(f64::from).collect()).expect("samples");
        assert_eq!(
            [spread.p50, spread.p90, spread.p99, spread.p99_9, spread.max],
            [500.0, 900.0, 990.0, 999.0, 1_000.0]
        );
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
