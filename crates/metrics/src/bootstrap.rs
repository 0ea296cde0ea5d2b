//! Percentile bootstrap of a mean over cases.
//!
//! Source: Efron 1979. The unit that is drawn is the case; the same seed gives the same interval for
//! any number of threads.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Resamples per interval.
pub const RESAMPLES: usize = 2000;

/// A mean over cases with its 95 % interval. Numbers are `None` when no case has a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Mean of the defined values.
    pub mean: Option<f64>,
    /// 2.5th percentile of the resampled means.
    pub low: Option<f64>,
    /// 97.5th percentile of the resampled means.
    pub high: Option<f64>,
    /// Cases with a value.
    pub n: usize,
    /// Cases in which there was nothing to measure.
    pub n_undefined: usize,
    /// Cases with an infinite value (a structure missed or invented); not in the mean.
    pub n_infinite: usize,
}

/// Mean and interval of the finite values; NaN counts as undefined, infinity as infinite.
pub fn bootstrap_mean(values: &[f64], seed: u64) -> Interval {
    let cases: Vec<usize> = (0..values.len()).collect();
    let mean = |cases: &[usize]| {
        let finite = cases.iter().map(|&case| values[case]).filter(|v| v.is_finite());
        let (sum, n) = finite.fold((0.0, 0usize), |(sum, n), v| (sum + v, n + 1));
        (n > 0).then(|| sum / n as f64)
    };
    let (low, high) = bootstrap(values.len(), seed, mean);
    Interval {
        mean: mean(&cases),
        low,
        high,
        n: values.iter().filter(|v| v.is_finite()).count(),
        n_undefined: values.iter().filter(|v| v.is_nan()).count(),
        n_infinite: values.iter().filter(|v| v.is_infinite()).count(),
    }
}

/// 2.5th and 97.5th percentile of `statistic` over resamples of `n` cases. Resamples in which the
/// statistic is undefined are left out.
pub fn bootstrap(
    n: usize,
    seed: u64,
    statistic: impl Fn(&[usize]) -> Option<f64>,
) -> (Option<f64>, Option<f64>) {
    if n == 0 {
        return (None, None);
    }
    let mut draws = Draws::new(n, seed);
    let mut statistics: Vec<f64> = (0..RESAMPLES).filter_map(|_| statistic(draws.next())).collect();
    statistics.sort_by(f64::total_cmp);
    (percentile(&statistics, 0.025), percentile(&statistics, 0.975))
}

/// Draws of cases with replacement, one after another.
pub struct Draws {
    random: ChaCha8Rng,
    drawn: Vec<usize>,
}

impl Draws {
    /// Of `n` cases; the same seed gives the same draws.
    pub fn new(n: usize, seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), drawn: vec![0; n] }
    }

    /// The next draw.
    #[expect(clippy::should_implement_trait, reason = "lends its buffer, which an iterator cannot")]
    pub fn next(&mut self) -> &[usize] {
        let n = self.drawn.len();
        self.drawn.iter_mut().for_each(|case| *case = below(&mut self.random, n));
        &self.drawn
    }
}

/// Uniform in `0..n`, without bias.
pub fn below(random: &mut ChaCha8Rng, n: usize) -> usize {
    let n = n as u64;
    let limit = u64::MAX - u64::MAX % n;
    loop {
        let draw = random.next_u64();
        if draw < limit {
            return (draw % n) as usize;
        }
    }
}

/// Percentile of sorted values, interpolated linearly between neighbours as numpy does.
pub fn percentile(sorted: &[f64], fraction: f64) -> Option<f64> {
    let at = fraction * sorted.len().checked_sub(1)? as f64;
    let (below, part) = (at.floor() as usize, at.fract());
    let above = sorted[(below + 1).min(sorted.len() - 1)];
    Some(sorted[below] + (above - sorted[below]) * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_covers_the_mean_and_counts_what_is_left_out() {
        let values = [0.9, 0.8, f64::NAN, 0.7, f64::INFINITY, 0.85];
        let interval = bootstrap_mean(&values, 1);
        assert_eq!((interval.n, interval.n_undefined, interval.n_infinite), (4, 1, 1));
        let (mean, low, high) = (interval.mean.unwrap(), interval.low.unwrap(), interval.high.unwrap());
        assert!((mean - 0.8125).abs() < 1e-12 && low < mean && mean < high && low >= 0.7 && high <= 0.9);
        assert_eq!(interval, bootstrap_mean(&values, 1));
    }

    #[test]
    fn the_width_is_that_of_theory() {
        // 200 values of a uniform distribution: standard error 1/√(12·200).
        let values: Vec<f64> = (0..200).map(|i| (f64::from(i) + 0.5) / 200.0).collect();
        let interval = bootstrap_mean(&values, 3);
        assert_ne!(interval.low, bootstrap_mean(&values, 4).low);
        let width = interval.high.unwrap() - interval.low.unwrap();
        assert!((width / (2.0 * 1.96 / 2400f64.sqrt()) - 1.0).abs() < 0.08, "{width}");
    }

    #[test]
    fn nothing_in_gives_nothing_out() {
        assert_eq!(bootstrap_mean(&[], 1), Interval::default());
        assert_eq!(bootstrap_mean(&[f64::NAN], 1).mean, None);
    }
}
