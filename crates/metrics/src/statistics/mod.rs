//! Statistics for comparing methods: ranks and correlations, paired tests, correction for many tests.

pub mod correlation;
pub mod delong;
pub mod mcnemar;
pub mod multiplicity;
pub mod permutation;
pub mod ranking;
pub mod ranks;
pub mod scaling;
pub mod wilcoxon;

use crate::measures::Definition;
use statrs::distribution::{ChiSquared, ContinuousCDF, Normal};
use statrs::function::erf::erfc;

/// Definitions of the ids of `--kind tests`.
pub static DEFINITIONS: &[&[Definition]] = &[
    correlation::DEFINITIONS,
    delong::TEST_DEFINITIONS,
    mcnemar::DEFINITIONS,
    multiplicity::DEFINITIONS,
    permutation::DEFINITIONS,
    wilcoxon::DEFINITIONS,
];

/// Two-sided p-value of a standard normal statistic.
pub(crate) fn normal_two_sided(z: f64) -> f64 {
    if z.is_nan() { f64::NAN } else { erfc(z.abs() / std::f64::consts::SQRT_2) }
}

/// Chance of a standard normal above `z`.
pub(crate) fn normal_tail(z: f64) -> f64 {
    0.5 * erfc(z / std::f64::consts::SQRT_2)
}

/// Quantile of the standard normal distribution.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

/// Upper tail of the chi-squared distribution.
pub(crate) fn chi_squared_tail(statistic: f64, freedom: f64) -> f64 {
    match ChiSquared::new(freedom) {
        Ok(distribution) if !statistic.is_nan() => distribution.sf(statistic),
        _ => f64::NAN,
    }
}

/// Mean; NaN of nothing.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Variance with divisor n − 1; NaN below two values.
pub(crate) fn variance(values: &[f64]) -> f64 {
    let centre = mean(values);
    let squares: f64 = values.iter().map(|v| (v - centre) * (v - centre)).sum();
    if values.len() < 2 { f64::NAN } else { squares / (values.len() - 1) as f64 }
}

/// Median of values without NaN; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}
