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

/// Cases by what they belong to (such as patients), in the order of first cases: what is drawn together.
pub fn clusters(names: &[String]) -> Vec<Vec<usize>> {
    let mut numbers = std::collections::BTreeMap::new();
    let mut all: Vec<Vec<usize>> = Vec::new();
    for (case, name) in names.iter().enumerate() {
        let number = *numbers.entry(name).or_insert(all.len());
        if number == all.len() {
            all.push(Vec::new());
        }
        all[number].push(case);
    }
    all
}

/// A 95 % interval over draws of clusters, by percentiles and bias-corrected and accelerated (Efron 1987; the
/// acceleration leaves out one cluster at a time). Draws without a value are left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClusteredInterval {
    /// 2.5th and 97.5th percentile.
    pub percentile: [f64; 2],
    /// The same, corrected.
    pub bca: [f64; 2],
}

/// Interval of `statistic` (of cases) when clusters are drawn; `None` when it has no value, or below two clusters.
pub fn clustered_interval(
    clusters: &[Vec<usize>],
    draws: usize,
    seed: u64,
    statistic: impl Fn(&[usize]) -> f64,
) -> Option<ClusteredInterval> {
    use crate::statistics::{normal_quantile, normal_tail};
    let gathered = |numbers: &mut dyn Iterator<Item = usize>| -> Vec<usize> {
        numbers.flat_map(|number| clusters[number].iter().copied()).collect()
    };
    let whole = statistic(&gathered(&mut (0..clusters.len())));
    if clusters.len() < 2 || !whole.is_finite() {
        return None;
    }
    let mut source = Draws::new(clusters.len(), seed);
    let mut found: Vec<f64> = (0..draws)
        .map(|_| statistic(&gathered(&mut source.next().iter().copied())))
        .filter(|value| value.is_finite())
        .collect();
    found.sort_by(f64::total_cmp);
    let left_out: Vec<f64> = (0..clusters.len())
        .map(|one| statistic(&gathered(&mut (0..clusters.len()).filter(|number| *number != one))))
        .filter(|value| value.is_finite())
        .collect();
    let centre = left_out.iter().sum::<f64>() / left_out.len() as f64;
    let power = |p: i32| left_out.iter().map(|v| (centre - v).powi(p)).sum::<f64>();
    let spread = power(2).powf(1.5);
    let acceleration = if spread > 0.0 { power(3) / (6.0 * spread) } else { 0.0 };
    // Ties with the whole count half, as a draw that equals it is neither below nor above.
    let below = found.iter().filter(|v| **v < whole).count() as f64;
    let equal = found.iter().filter(|v| **v == whole).count() as f64;
    let bias = normal_quantile((below + equal / 2.0) / found.len() as f64);
    let corrected = |p: f64| {
        let z = bias + normal_quantile(p);
        1.0 - normal_tail(bias + z / (1.0 - acceleration * z))
    };
    let at = |p: f64| percentile(&found, p);
    let plain = [at(0.025)?, at(0.975)?];
    let bca = if bias.is_finite() { [at(corrected(0.025))?, at(corrected(0.975))?] } else { plain };
    Some(ClusteredInterval { percentile: plain, bca })
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
    fn clusters_widen_the_interval_and_skew_moves_it() {
        let values: Vec<f64> = (0..60).map(|i| f64::from(i / 6) + f64::from(i % 6) / 100.0).collect();
        let mean = |cases: &[usize]| cases.iter().map(|&c| values[c]).sum::<f64>() / cases.len() as f64;
        let names = |size: usize| -> Vec<String> { (0..60).map(|i| format!("p{}", i / size)).collect() };
        let width = |size: usize| {
            let [low, high] = clustered_interval(&clusters(&names(size)), 2000, 1, mean).unwrap().percentile;
            high - low
        };
        // Six equal cases are one piece of evidence: the interval is about the square root of 6 as wide.
        assert!((width(6) / width(1) / 6f64.sqrt() - 1.0).abs() < 0.1, "{} {}", width(6), width(1));
        let skewed: Vec<f64> = (0..40).map(|i| (f64::from(i) / 8.0).exp()).collect();
        let mean = |cases: &[usize]| cases.iter().map(|&c| skewed[c]).sum::<f64>() / cases.len() as f64;
        let each: Vec<Vec<usize>> = (0..40).map(|i| vec![i]).collect();
        let found = clustered_interval(&each, 4000, 1, mean).unwrap();
        assert!(found.bca[0] > found.percentile[0] && found.bca[1] > found.percentile[1], "{found:?}");
        assert_eq!(clustered_interval(&each[..1], 100, 1, mean), None);
        assert_eq!(clusters(&["b".into(), "a".into(), "b".into()]), [vec![0, 2], vec![1]]);
    }

    #[test]
    fn nothing_in_gives_nothing_out() {
        assert_eq!(bootstrap_mean(&[], 1), Interval::default());
        assert_eq!(bootstrap_mean(&[f64::NAN], 1).mean, None);
    }
}
