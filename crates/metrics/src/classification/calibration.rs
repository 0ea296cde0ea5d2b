//! Do probabilities mean what they say?

use crate::measures::{Definition, define, ratio};
use crate::statistics::ranks::order;
use crate::statistics::{chi_squared_tail, mean, normal_two_sided};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "brier",
        "mean of (score - label)^2",
        "0..1",
        "no case: undefined",
        "mixes calibration and separation; compare with prevalence (1 - prevalence)",
        "Brier 1950; sklearn brier_score_loss",
    ),
    define(
        "brier-skill",
        "1 - Brier / (prevalence (1 - prevalence))",
        "-inf..1",
        "one class only: undefined",
        "uses the prevalence of this table",
        "own formula",
    ),
    define(
        "log-loss",
        "mean of -ln(probability of the truth), probabilities clipped at the machine epsilon",
        "0..inf",
        "no case: undefined",
        "one certain mistake rules it: the clip decides its price",
        "sklearn log_loss",
    ),
    define(
        "ece/positive/10 equal-width right-closed",
        "sum over 10 bins (a, b] of share x |mean score - share of positives|",
        "0..1",
        "empty bins are skipped",
        "10 and 15 bins differ; not the top-label error",
        "Naeini et al. 2015; netcal ECE",
    ),
    define(
        "ece/positive/15 equal-width right-closed",
        "as above with 15 bins",
        "0..1",
        "empty bins are skipped",
        "10 and 15 bins differ; not the top-label error",
        "Guo et al. 2017; torchmetrics binary calibration error",
    ),
    define(
        "ece/positive/15 equal-mass",
        "15 bins of equal counts, by rank",
        "0..1",
        "fewer cases than bins: one case a bin",
        "ties at a bin edge are split by their order",
        "Nixon et al. 2019",
    ),
    define(
        "mce/positive/15 equal-width",
        "largest gap over the bins",
        "0..1",
        "empty bins are skipped",
        "a bin with one case can rule it",
        "netcal MCE",
    ),
    define(
        "rmsce/positive/15 equal-width",
        "square root of the share-weighted squared gap",
        "0..1",
        "empty bins are skipped",
        "some tools subtract a bias",
        "torchmetrics calibration_error(norm=l2)",
    ),
    define(
        "calibration-slope",
        "slope of a logistic regression of the label on logit(score), scores clipped at 1e-12",
        "-inf..inf",
        "separable: undefined",
        "below 1: too sure",
        "Cox 1958; statsmodels Logit",
    ),
    define(
        "calibration-intercept",
        "intercept of that regression with the slope fixed at 1",
        "-inf..inf",
        "one class only: undefined",
        "calibration in the large only",
        "Cox 1958; statsmodels GLM with offset",
    ),
    define(
        "observed/expected",
        "positives / sum of scores",
        "0..inf",
        "all scores 0: undefined",
        "errors at both ends cancel",
        "own formula",
    ),
    define(
        "spiegelhalter/z",
        "sum (y - p)(1 - 2p) / sqrt(sum (1 - 2p)^2 p (1 - p))",
        "-inf..inf",
        "all scores 0, 1/2 or 1: undefined",
        "a test, not a size",
        "Spiegelhalter 1986",
    ),
    define(
        "spiegelhalter/p",
        "two-sided p-value of z",
        "0..1",
        "as z",
        "a test, not a size",
        "Spiegelhalter 1986",
    ),
    define(
        "hosmer-lemeshow/chi2",
        "ten groups of equal size by score: sum of (O - E)^2 / (E (1 - E/n))",
        "0..inf",
        "a group with E = 0 or E = n: undefined",
        "finds nothing in small sets and everything in large ones",
        "Hosmer and Lemeshow 1980",
    ),
    define(
        "hosmer-lemeshow/p",
        "upper tail of chi-squared with 8 degrees of freedom",
        "0..1",
        "as chi2",
        "finds nothing in small sets and everything in large ones",
        "Hosmer and Lemeshow 1980",
    ),
];

/// Per bin: share of cases and signed gap between mean score and share of positives.
struct Bin {
    share: f64,
    gap: f64,
}

fn gaps(groups: Vec<(f64, f64, f64)>) -> Vec<Bin> {
    let all: f64 = groups.iter().map(|g| g.0).sum();
    let bin = |&(n, score, label): &(f64, f64, f64)| Bin { share: n / all, gap: (score - label) / n };
    groups.iter().filter(|g| g.0 > 0.0).map(bin).collect()
}

/// Equal-width bins (a, b]; a score of 0 falls into the first.
fn equal_width(correct: &[bool], scores: &[f64], bins: usize) -> Vec<Bin> {
    let edges: Vec<f64> = (0..=bins).map(|i| i as f64 / bins as f64).collect();
    let mut groups = vec![(0.0, 0.0, 0.0); bins];
    for (&label, &score) in correct.iter().zip(scores) {
        let bin = edges.partition_point(|edge| *edge < score).clamp(1, bins) - 1;
        groups[bin].0 += 1.0;
        groups[bin].1 += score;
        groups[bin].2 += f64::from(u8::from(label));
    }
    gaps(groups)
}

/// Groups of equal size by rank of the score, as `(n, sum of scores, positives)`.
fn equal_mass(labels: &[bool], scores: &[f64], bins: usize) -> Vec<(f64, f64, f64)> {
    let order = order(scores);
    let n = order.len();
    let mut groups = vec![(0.0, 0.0, 0.0); bins];
    for (rank, i) in order.into_iter().enumerate() {
        let group = &mut groups[rank * bins / n];
        *group = (group.0 + 1.0, group.1 + scores[i], group.2 + f64::from(u8::from(labels[i])));
    }
    groups.retain(|g| g.0 > 0.0);
    groups
}

fn expected_error(bins: &[Bin]) -> f64 {
    bins.iter().map(|b| b.share * b.gap.abs()).sum()
}

/// Expected calibration error with equal-width, right-closed bins of `scores` against `correct`.
pub fn ece(correct: &[bool], scores: &[f64], bins: usize) -> f64 {
    expected_error(&equal_width(correct, scores, bins))
}

/// Expected calibration error with bins of equal counts.
pub fn ece_equal_mass(labels: &[bool], scores: &[f64], bins: usize) -> f64 {
    expected_error(&gaps(equal_mass(labels, scores, bins)))
}

/// Mean score, share of positives and cases of each group of equal size, in the order of scores.
pub fn reliability(labels: &[bool], scores: &[f64], groups: usize) -> Vec<(f64, f64, usize)> {
    let point = |&(n, score, label): &(f64, f64, f64)| (score / n, label / n, n as usize);
    equal_mass(labels, scores, groups).iter().filter(|group| group.0 > 0.0).map(point).collect()
}

/// Largest gap of equal-width bins.
pub fn mce(labels: &[bool], scores: &[f64], bins: usize) -> f64 {
    equal_width(labels, scores, bins).iter().map(|b| b.gap.abs()).fold(0.0, f64::max)
}

/// Root of the mean squared gap.
pub fn rmsce(labels: &[bool], scores: &[f64], bins: usize) -> f64 {
    equal_width(labels, scores, bins).iter().map(|b| b.share * b.gap * b.gap).sum::<f64>().sqrt()
}

/// Mean squared error of probabilities.
pub fn brier(labels: &[bool], scores: &[f64]) -> f64 {
    let squares = labels.iter().zip(scores).map(|(&l, s)| (s - f64::from(u8::from(l))).powi(2));
    squares.sum::<f64>() / labels.len() as f64
}

/// Mean negative logarithm of the probability of the truth.
pub fn log_loss(probabilities: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = probabilities.len() as f64;
    probabilities.map(|p| -p.clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln()).sum::<f64>() / n
}

fn logit(p: f64) -> f64 {
    let p = p.clamp(1e-12, 1.0 - 1e-12);
    (p / (1.0 - p)).ln()
}

/// Slope of the logistic recalibration; NaN when it has no finite solution.
pub fn calibration_slope(labels: &[bool], scores: &[f64]) -> f64 {
    let x: Vec<f64> = scores.iter().map(|s| logit(*s)).collect();
    let (mut a, mut b) = (0.0, 0.0);
    for _ in 0..100 {
        let (mut g, mut h) = ([0.0; 2], [0.0; 3]);
        for (x, &label) in x.iter().zip(labels) {
            let p = 1.0 / (1.0 + (-(a + b * x)).exp());
            let (error, weight) = (f64::from(u8::from(label)) - p, p * (1.0 - p));
            g = [g[0] + error, g[1] + error * x];
            h = [h[0] + weight, h[1] + weight * x, h[2] + weight * x * x];
        }
        let determinant = h[0] * h[2] - h[1] * h[1];
        if determinant.abs() <= 1e-14 * h[0] * h[2] {
            return f64::NAN;
        }
        let step = [(h[2] * g[0] - h[1] * g[1]) / determinant, (h[0] * g[1] - h[1] * g[0]) / determinant];
        // Newton's full step may overshoot far from the solution.
        let damp = (5.0 / step[0].abs().max(step[1].abs())).min(1.0);
        (a, b) = (a + damp * step[0], b + damp * step[1]);
        if step[0].abs().max(step[1].abs()) < 1e-11 * (1.0 + a.abs() + b.abs()) {
            return b;
        }
    }
    f64::NAN
}

/// Intercept of the logistic recalibration with slope 1; NaN with one class only.
pub fn calibration_intercept(labels: &[bool], scores: &[f64]) -> f64 {
    let positives = labels.iter().filter(|l| **l).count();
    if positives == 0 || positives == labels.len() {
        return f64::NAN;
    }
    let excess = |a: f64| {
        scores.iter().map(|s| 1.0 / (1.0 + (-(a + logit(*s))).exp())).sum::<f64>() - positives as f64
    };
    // The expected count grows with the intercept: halve the interval that holds the solution.
    let (mut low, mut high) = (-60.0, 60.0);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if excess(middle) < 0.0 { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// Spiegelhalter's z and p.
pub fn spiegelhalter(labels: &[bool], scores: &[f64]) -> (f64, f64) {
    let (mut above, mut below) = (0.0, 0.0);
    for (&label, p) in labels.iter().zip(scores) {
        above += (f64::from(u8::from(label)) - p) * (1.0 - 2.0 * p);
        below += (1.0 - 2.0 * p).powi(2) * p * (1.0 - p);
    }
    let z = ratio(above, below.sqrt());
    (z, normal_two_sided(z))
}

/// Hosmer-Lemeshow statistic of ten groups and its p.
pub fn hosmer_lemeshow(labels: &[bool], scores: &[f64]) -> (f64, f64) {
    let term = |(n, expected, observed): (f64, f64, f64)| {
        ratio((observed - expected).powi(2), expected * (1.0 - expected / n))
    };
    let statistic = equal_mass(labels, scores, 10).into_iter().map(term).sum();
    (statistic, chi_squared_tail(statistic, 8.0))
}

/// Observed over expected positives.
pub fn observed_over_expected(labels: &[bool], scores: &[f64]) -> f64 {
    let positives = labels.iter().filter(|l| **l).count() as f64;
    ratio(positives / labels.len() as f64, mean(scores))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfectly_calibrated_table() {
        // Ten cases at each of p = 0.2 and 0.7, with 2 and 7 positives.
        let scores: Vec<f64> = [0.2, 0.7].iter().flat_map(|p| [*p; 10]).collect();
        let labels: Vec<bool> = (0..20).map(|i| if i < 10 { i < 2 } else { i < 17 }).collect();
        assert!(ece(&labels, &scores, 10) < 1e-12 && rmsce(&labels, &scores, 15) < 1e-12);
        assert!((calibration_slope(&labels, &scores) - 1.0).abs() < 1e-9);
        assert!(calibration_intercept(&labels, &scores).abs() < 1e-9);
        assert!(calibration_slope(&[false, true], &[0.1, 0.9]).is_nan(), "separable data have no slope");
    }

    #[test]
    fn edges_belong_to_the_bin_below() {
        // 0.2 lies in (0.1, 0.2], 0.3 in (0.2, 0.3].
        assert!((ece(&[true, false], &[0.2, 0.25], 5) - (0.8 + 0.25) / 2.0).abs() < 1e-12);
        assert!((ece(&[true, false], &[0.0, 0.2], 5) - 0.4).abs() < 1e-12);
    }
}
