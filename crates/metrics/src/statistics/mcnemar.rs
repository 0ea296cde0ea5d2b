//! McNemar's test of two classifiers on the same cases.

use super::chi_squared_tail;
use crate::measures::{Definition, define};
use statrs::distribution::{Binomial, DiscreteCDF};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "mcnemar/exact/p",
        "two-sided binomial test of b against c with probability 1/2",
        "0..1",
        "no discordant pair: 1",
        "use it when b + c < 25",
        "McNemar 1947; statsmodels mcnemar(exact=True)",
    ),
    define(
        "mcnemar/chi2 with continuity/stat",
        "(|b - c| - 1)^2 / (b + c)",
        "0..inf",
        "no discordant pair: undefined",
        "the correction makes it careful; say that it is on",
        "Edwards 1948; statsmodels mcnemar(exact=False, correction=True)",
    ),
    define(
        "mcnemar/chi2 with continuity/p",
        "upper tail of chi-squared with 1 degree of freedom",
        "0..1",
        "no discordant pair: undefined",
        "not for b + c < 25",
        "statsmodels mcnemar(exact=False, correction=True)",
    ),
];

/// Exact two-sided p of `b` against `c` discordant pairs.
pub fn exact_p(b: u64, c: u64) -> f64 {
    match Binomial::new(0.5, b + c) {
        Ok(distribution) => (2.0 * distribution.cdf(b.min(c))).min(1.0),
        Err(_) => f64::NAN,
    }
}

/// Statistic with continuity correction and its p.
pub fn corrected(b: u64, c: u64) -> (f64, f64) {
    if b + c == 0 {
        return (f64::NAN, f64::NAN);
    }
    let statistic = ((b as f64 - c as f64).abs() - 1.0).powi(2) / (b + c) as f64;
    (statistic, chi_squared_tail(statistic, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_tables_by_hand() {
        assert_eq!(exact_p(0, 0), 1.0);
        assert!((exact_p(1, 5) - 2.0 * 7.0 / 64.0).abs() < 1e-15);
        assert_eq!(exact_p(4, 4), 1.0);
    }
}
