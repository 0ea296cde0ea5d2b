//! DeLong's variance of AUROC and the paired test of two of them, in O(n log n) by mid-ranks.
//!
//! Source: DeLong, DeLong and Clarke-Pearson 1988; mid-rank form of Sun and Xu 2014.

use super::ranks::midranks;
use super::{mean, normal_quantile, normal_two_sided};
use crate::measures::{Definition, define};

/// Ids that come with a single AUROC.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "delong-se",
        "square root of var(V10)/positives + var(V01)/negatives, V the structural components",
        "0..0.5",
        "fewer than two of a class: undefined",
        "zero for a perfect score, which is no certainty",
        "DeLong et al. 1988",
    ),
    define(
        "delong-ci95/low",
        "lower end of the 95 % interval on the logit scale",
        "0..1",
        "undefined where the standard error is",
        "patients must be independent: several images of one patient narrow it falsely",
        "DeLong et al. 1988; logit scale as in Pepe 2003",
    ),
    define(
        "delong-ci95/high",
        "upper end of the 95 % interval on the logit scale",
        "0..1",
        "undefined where the standard error is",
        "patients must be independent: several images of one patient narrow it falsely",
        "DeLong et al. 1988; logit scale as in Pepe 2003",
    ),
];

/// Ids of the test of two scores on the same cases.
pub static TEST_DEFINITIONS: &[Definition] = &[
    define(
        "delong/auroc-difference",
        "AUROC of a minus AUROC of b",
        "-1..1",
        "one class only: undefined",
        "needs the same cases in both",
        "DeLong et al. 1988",
    ),
    define(
        "delong/z",
        "difference over its standard error, with the covariance of the two",
        "-inf..inf",
        "no variance of the difference: undefined",
        "not valid for nested models fitted on the same data",
        "DeLong et al. 1988",
    ),
    define(
        "delong/p",
        "two-sided p-value of z",
        "0..1",
        "as z",
        "not valid for nested models fitted on the same data",
        "DeLong et al. 1988",
    ),
];

/// AUROC with its structural components.
pub struct Components {
    /// Area under the ROC curve, ties one half.
    pub auroc: f64,
    positive: Vec<f64>,
    negative: Vec<f64>,
}

/// Structural components: for each positive the share of negatives below it, and the reverse.
pub fn components(labels: &[bool], scores: &[f64]) -> Components {
    let pick = |wanted: bool| -> Vec<f64> {
        labels.iter().zip(scores).filter(|(l, _)| **l == wanted).map(|(_, s)| *s).collect()
    };
    let (p, n) = (pick(true), pick(false));
    let all: Vec<f64> = p.iter().chain(&n).copied().collect();
    let (joint, own_p, own_n) = (midranks(&all), midranks(&p), midranks(&n));
    let positive: Vec<f64> =
        joint[..p.len()].iter().zip(&own_p).map(|(j, o)| (j - o) / n.len() as f64).collect();
    let negative: Vec<f64> =
        joint[p.len()..].iter().zip(&own_n).map(|(j, o)| 1.0 - (j - o) / p.len() as f64).collect();
    Components { auroc: mean(&positive), positive, negative }
}

impl Components {
    /// Standard error of the area.
    pub fn standard_error(&self) -> f64 {
        covariance(self, self).sqrt()
    }

    /// 95 % interval on the logit scale; the area itself when it is 0 or 1.
    pub fn interval(&self) -> (f64, f64) {
        let (a, se) = (self.auroc, self.standard_error());
        if a == 0.0 || a == 1.0 || !se.is_finite() {
            return if se.is_finite() { (a, a) } else { (f64::NAN, f64::NAN) };
        }
        let (centre, half) = ((a / (1.0 - a)).ln(), normal_quantile(0.975) * se / (a * (1.0 - a)));
        let back = |x: f64| 1.0 / (1.0 + (-x).exp());
        (back(centre - half), back(centre + half))
    }
}

fn covariance(a: &Components, b: &Components) -> f64 {
    let part = |x: &[f64], y: &[f64]| {
        let (mx, my) = (mean(x), mean(y));
        let sum: f64 = x.iter().zip(y).map(|(p, q)| (p - mx) * (q - my)).sum();
        if x.len() < 2 { f64::NAN } else { sum / (x.len() - 1) as f64 / x.len() as f64 }
    };
    part(&a.positive, &b.positive) + part(&a.negative, &b.negative)
}

/// Difference of the areas, z and two-sided p of two scores of the same cases.
pub fn paired_test(labels: &[bool], a: &[f64], b: &[f64]) -> (f64, f64, f64) {
    let (a, b) = (components(labels, a), components(labels, b));
    let variance = covariance(&a, &a) + covariance(&b, &b) - 2.0 * covariance(&a, &b);
    let difference = a.auroc - b.auroc;
    let z = if variance > 0.0 { difference / variance.sqrt() } else { f64::NAN };
    (difference, z, normal_two_sided(z))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_score_twice_is_no_difference() {
        let labels = [false, true, false, true, true];
        let scores = [0.1, 0.4, 0.35, 0.3, 0.9];
        let (difference, z, p) = paired_test(&labels, &scores, &scores);
        assert!(difference == 0.0 && z.is_nan() && p.is_nan());
        assert!((components(&labels, &scores).auroc - 5.0 / 6.0).abs() < 1e-15);
        assert!(components(&labels[..2], &scores[..2]).standard_error().is_nan());
    }
}
