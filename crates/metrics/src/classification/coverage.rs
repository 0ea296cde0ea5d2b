//! Does a classifier know when it errs? Errors among the surest cases, as ever more of them are answered.

use super::roc;
use crate::measures::{Definition, Measures, define};
use crate::statistics::mean;
use crate::statistics::ranks::{order, ties};

/// What the ids of this file mean; confidence is the distance from 0.5, for several classes the largest probability.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "aurc",
        "mean error rate of the k surest cases over all k; ties share their mean error",
        "0..1",
        "no case: undefined",
        "grows with the error rate itself: read e-aurc beside it",
        "Geifman and El-Yaniv 2017",
    ),
    define(
        "e-aurc",
        "aurc less that of the same errors ranked last",
        "0..1",
        "no case: undefined",
        "of a model without errors it is 0 whatever its confidence",
        "Geifman et al. 2019",
    ),
    define(
        "augrc",
        "mean over k of the errors among the k surest cases, over all cases",
        "0..0.5",
        "no case: undefined",
        "weighs each error by how late it is sorted out",
        "Traub et al. 2024",
    ),
    define(
        "failure-auroc",
        "AUROC of the confidence for being right",
        "0..1",
        "no error, or nothing but errors: undefined",
        "blind to the number of errors",
        "Hendrycks and Gimpel 2017; sklearn roc_auc_score",
    ),
];

/// Errors among the 1, 2, .. surest cases; equally sure cases share their mean error.
pub fn errors(right: &[bool], confidence: &[f64]) -> Vec<f64> {
    let doubt: Vec<f64> = confidence.iter().map(|c| -c).collect();
    let order = order(&doubt);
    let (mut wrong, mut found) = (0.0, Vec::with_capacity(right.len()));
    for run in ties(&doubt, &order) {
        let each = order[run.clone()].iter().filter(|&&i| !right[i]).count() as f64 / run.len() as f64;
        for _ in run {
            wrong += each;
            found.push(wrong);
        }
    }
    found
}

/// Error rate among the 1, 2, .. surest cases.
pub fn risks(right: &[bool], confidence: &[f64]) -> Vec<f64> {
    errors(right, confidence).into_iter().zip(1..).map(|(wrong, k)| wrong / f64::from(k)).collect()
}

/// Every number of this file.
pub fn measure(right: &[bool], confidence: &[f64], m: &mut Measures) {
    let n = right.len() as f64;
    let area = mean(&risks(right, confidence));
    let all = right.iter().filter(|r| !**r).count() as f64;
    let best = (1..=right.len()).map(|k| (k as f64 - (n - all)).max(0.0) / k as f64).sum::<f64>() / n;
    m.put("aurc", area);
    m.put("e-aurc", area - best);
    m.put("augrc", errors(right, confidence).iter().sum::<f64>() / (n * n));
    m.put("failure-auroc", roc::auroc(right, confidence));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surest_cases_come_first() {
        assert_eq!(risks(&[true, false], &[0.4, 0.05]), [0.0, 0.5]);
        assert_eq!(risks(&[false, true], &[0.4, 0.1]), [1.0, 0.5]);
        // Equally sure: half an error each.
        assert_eq!(risks(&[false, true], &[0.4, 0.4]), [0.5, 0.5]);
    }

    #[test]
    fn errors_ranked_last_leave_no_excess() {
        let mut m = Measures::default();
        measure(&[true, true, false], &[0.5, 0.4, 0.1], &mut m);
        assert!((m.number("aurc") - 1.0 / 9.0).abs() < 1e-15 && m.number("e-aurc").abs() < 1e-15);
        assert!((m.number("augrc") - 1.0 / 9.0).abs() < 1e-15);
        assert_eq!(m.number("failure-auroc"), 1.0);
    }
}
