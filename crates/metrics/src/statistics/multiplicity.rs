//! Correction of p-values for the number of tests.

use super::ranks::order;
use crate::measures::{Definition, define};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "holm/adjusted",
        "step-down: running maximum of (m - rank + 1) p",
        "0..1",
        "no p-value: no value",
        "the family is the research question: decide it before looking",
        "Holm 1979; statsmodels multipletests(holm)",
    ),
    define(
        "bh/adjusted",
        "step-up: running minimum from the largest p of m p / rank",
        "0..1",
        "no p-value: no value",
        "bounds the share of false findings, not the chance of one",
        "Benjamini and Hochberg 1995; statsmodels multipletests(fdr_bh)",
    ),
];

/// Holm's adjusted p-values, in the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let (m, mut largest) = (p.len(), 0.0f64);
    let mut adjusted = vec![0.0; m];
    for (rank, i) in order(p).into_iter().enumerate() {
        largest = largest.max(p[i] * (m - rank) as f64);
        adjusted[i] = largest.min(1.0);
    }
    adjusted
}

/// Benjamini and Hochberg's adjusted p-values, in the order given.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let (m, mut smallest) = (p.len(), 1.0f64);
    let mut adjusted = vec![0.0; m];
    for (rank, i) in order(p).into_iter().enumerate().rev() {
        smallest = smallest.min(p[i] * m as f64 / (rank + 1) as f64);
        adjusted[i] = smallest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjusted_values_never_fall_below_the_raw_ones() {
        let p = [0.01, 0.04, 0.03, 0.005, 0.5];
        assert_eq!(holm(&p)[3], 0.025);
        for (adjusted, raw) in [holm(&p), benjamini_hochberg(&p)].concat().iter().zip(p.iter().cycle()) {
            assert!(adjusted >= raw && *adjusted <= 1.0);
        }
    }
}
