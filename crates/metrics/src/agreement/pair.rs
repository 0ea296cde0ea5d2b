//! Two raters with numbers: Bland-Altman, Lin's concordance, correlation.

use crate::measures::{Definition, Measures, define, ratio};
use crate::statistics::correlation::{pearson, spearman};
use crate::statistics::{mean, variance};

/// What the ids of this file mean; r0 and r1 are the first two columns.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "bland-altman/bias(r0-r1)",
        "mean difference of the first two raters",
        "-inf..inf",
        "undefined below one pair",
        "look at the plot: a bias may grow with size",
        "Bland and Altman 1986",
    ),
    define(
        "bland-altman/loa-low",
        "bias - 1.96 standard deviations (n - 1) of the difference",
        "-inf..inf",
        "undefined below two pairs",
        "repeated measures of a subject narrow it falsely",
        "Bland and Altman 1986",
    ),
    define(
        "bland-altman/loa-high",
        "bias + 1.96 standard deviations (n - 1) of the difference",
        "-inf..inf",
        "undefined below two pairs",
        "repeated measures of a subject narrow it falsely",
        "Bland and Altman 1986",
    ),
    define(
        "ccc",
        "2 cov / (var + var + (difference of means)^2), divisor n",
        "-1..1",
        "both constant and equal: undefined",
        "high by itself when subjects spread",
        "Lin 1989",
    ),
    define(
        "pearson(r0,r1)",
        "correlation of the first two raters",
        "-1..1",
        "one rater constant: undefined",
        "correlation is no agreement",
        "scipy.stats.pearsonr",
    ),
    define(
        "spearman(r0,r1)",
        "rank correlation of the first two raters",
        "-1..1",
        "one rater constant: undefined",
        "correlation is no agreement",
        "scipy.stats.spearmanr",
    ),
];

/// Lin's concordance correlation, with divisor n.
pub fn concordance(a: &[f64], b: &[f64]) -> f64 {
    let (ma, mb) = (mean(a), mean(b));
    let n = a.len() as f64;
    let covariance: f64 = a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum::<f64>() / n;
    let spread = (variance(a) + variance(b)) * (n - 1.0) / n;
    ratio(2.0 * covariance, spread + (ma - mb) * (ma - mb))
}

pub(super) fn measure(a: &[f64], b: &[f64], m: &mut Measures) {
    let differences: Vec<f64> = a.iter().zip(b).map(|(x, y)| x - y).collect();
    let (bias, deviation) = (mean(&differences), variance(&differences).sqrt());
    m.put("bland-altman/bias(r0-r1)", bias);
    m.put("bland-altman/loa-low", bias - 1.96 * deviation);
    m.put("bland-altman/loa-high", bias + 1.96 * deviation);
    m.put("ccc", concordance(a, b));
    m.put("pearson(r0,r1)", pearson(a, b));
    m.put("spearman(r0,r1)", spearman(a, b));
}
