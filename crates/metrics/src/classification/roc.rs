//! Areas under the ROC and the precision-recall curve.

use crate::measures::{Definition, define, ratio};
use crate::statistics::ranks::{midranks, order, ties};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "auroc",
        "P(score of a positive > score of a negative) + 1/2 P(equal)",
        "0..1",
        "one class only: undefined",
        "blind to calibration; binned variants differ",
        "Hanley and McNeil 1982; sklearn roc_auc_score",
    ),
    define(
        "pauroc/fpr<=.2/mcclish",
        "area of the ROC curve up to a false positive rate of 0.2, scaled so that chance is 0.5",
        "0..1",
        "one class only: undefined",
        "raw partial areas are not comparable with it",
        "McClish 1989; sklearn roc_auc_score(max_fpr=.2)",
    ),
    define(
        "average-precision/step",
        "sum of (recall step) x precision over distinct scores, descending",
        "0..1",
        "no positive: undefined (sklearn: 0)",
        "depends on the prevalence; not the trapezoid",
        "sklearn average_precision_score",
    ),
    define(
        "pr-auc/trapezoid",
        "trapezoid under the precision-recall points, from precision 1 at recall 0",
        "0..1",
        "no positive: undefined",
        "straight lines between points are too optimistic (Davis and Goadrich 2006)",
        "sklearn auc(recall, precision)",
    ),
];

/// AUROC by mid-ranks; NaN when a class is missing.
pub fn auroc(labels: &[bool], scores: &[f64]) -> f64 {
    let positives = labels.iter().filter(|l| **l).count() as f64;
    let negatives = labels.len() as f64 - positives;
    let sum: f64 = midranks(scores).iter().zip(labels).filter(|(_, l)| **l).map(|(r, _)| r).sum();
    ratio(sum - positives * (positives + 1.0) / 2.0, positives * negatives)
}

/// Points `(threshold, true positives, false positives)` at distinct scores, highest score first.
pub fn curve(labels: &[bool], scores: &[f64]) -> Vec<(f64, f64, f64)> {
    let order = order(scores);
    let (mut tp, mut fp) = (0.0, 0.0);
    let mut points = Vec::new();
    for run in ties(scores, &order).into_iter().rev() {
        let threshold = scores[order[run.start]];
        for &i in &order[run] {
            if labels[i] { tp += 1.0 } else { fp += 1.0 }
        }
        points.push((threshold, tp, fp));
    }
    points
}

/// Partial area up to false positive rate `most` in (0, 1], standardised after McClish.
pub fn partial_auroc(labels: &[bool], scores: &[f64], most: f64) -> f64 {
    let points = curve(labels, scores);
    let Some(&(_, positives, negatives)) = points.last() else { return f64::NAN };
    if positives == 0.0 || negatives == 0.0 {
        return f64::NAN;
    }
    let (mut area, mut before) = (0.0, (0.0, 0.0));
    for (_, tp, fp) in points {
        let (x, y) = (fp / negatives, tp / positives);
        if x <= most {
            area += (x - before.0) * (y + before.1) / 2.0;
            before = (x, y);
        } else {
            let cut = before.1 + (y - before.1) * (most - before.0) / (x - before.0);
            area += (most - before.0) * (cut + before.1) / 2.0;
            break;
        }
    }
    let least = most * most / 2.0;
    0.5 * (1.0 + (area - least) / (most - least))
}

/// Average precision, by steps.
pub fn average_precision(labels: &[bool], scores: &[f64]) -> f64 {
    let points = curve(labels, scores);
    let positives = points.last().map_or(0.0, |p| p.1);
    let (mut sum, mut found) = (0.0, 0.0);
    for (_, tp, fp) in points {
        sum += (tp - found) * tp / (tp + fp);
        found = tp;
    }
    ratio(sum, positives)
}

/// Area under the precision-recall points by trapezoids.
pub fn pr_trapezoid(labels: &[bool], scores: &[f64]) -> f64 {
    let points = curve(labels, scores);
    let positives = points.last().map_or(0.0, |p| p.1);
    let (mut sum, mut found, mut precision) = (0.0, 0.0, 1.0);
    for (_, tp, fp) in points {
        let now = tp / (tp + fp);
        sum += (tp - found) * (now + precision) / 2.0;
        (found, precision) = (tp, now);
    }
    ratio(sum, positives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_example_with_ties() {
        let labels = [0, 0, 1, 1, 0, 1, 0, 1].map(|l| l == 1);
        let scores = [0.1, 0.4, 0.35, 0.8, 0.4, 0.4, 0.2, 0.9];
        assert_eq!(auroc(&labels, &scores), 0.8125);
        assert!((average_precision(&labels, &scores) - 0.816_666_666_666_666_7).abs() < 1e-15);
        assert!((pr_trapezoid(&labels, &scores) - 0.858_333_333_333_333_3).abs() < 1e-15);
        assert!((partial_auroc(&labels, &scores, 1.0) - 0.8125).abs() < 1e-15);
        assert!(auroc(&[true; 3], &[0.1; 3]).is_nan());
    }
}
