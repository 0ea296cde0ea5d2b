//! Does a classifier work alike for all groups? Gaps between subgroups (sex, age, site, scanner).

use crate::bootstrap::below;
use crate::classification::binary::{check_both_classes, check_labels, check_lengths, check_probabilities};
use crate::classification::confusion::Confusion;
use crate::classification::{calibration, roc};
use crate::measures::{Definition, Measures, define, ratio};
use crate::statistics::delong;
use crate::statistics::ranks::{order, ties};
use galen_core::{Error, Result};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use serde::Serialize;

/// Definitions of the ids of `--kind fairness`; decisions at 0.5.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "groups",
        "groups in the table",
        "0..inf",
        "0",
        "small groups make gaps by chance: read n per group",
        "count",
    ),
    define(
        "groups-of-one-class",
        "groups without positives or without negatives; left out where both are needed",
        "0..inf",
        "0",
        "they are not fair, they are unknown",
        "count",
    ),
    define(
        "auroc-gap",
        "largest - smallest AUROC of a group",
        "0..1",
        "fewer than two groups with both classes: undefined",
        "noise of small groups pushes it up",
        "fairlearn MetricFrame.difference",
    ),
    define(
        "worst-group-auroc",
        "smallest AUROC of a group",
        "0..1",
        "no group with both classes: undefined",
        "noise of small groups pushes it down",
        "fairlearn MetricFrame.group_min",
    ),
    define(
        "worst-group-accuracy",
        "smallest accuracy of a group",
        "0..1",
        "no case: undefined",
        "noise of small groups pushes it down",
        "fairlearn MetricFrame.group_min",
    ),
    define(
        "demographic-parity-diff",
        "largest - smallest share called positive",
        "0..1",
        "one group: 0",
        "often wrong in medicine, where prevalence differs",
        "fairlearn demographic_parity_difference",
    ),
    define(
        "disparate-impact",
        "smallest / largest share called positive",
        "0..1",
        "nobody called positive: undefined",
        "the 80 % rule is law, not statistics",
        "fairlearn demographic_parity_ratio",
    ),
    define(
        "equal-opportunity-diff",
        "largest - smallest true positive rate",
        "0..1",
        "groups without positives are left out",
        "1 - TPR is under-diagnosis",
        "Hardt et al. 2016; fairlearn equal_opportunity_difference",
    ),
    define(
        "equalized-odds-diff",
        "larger of the gaps of true and of false positive rates",
        "0..1",
        "groups of one class are left out of one of the two",
        "depends on the threshold",
        "Hardt et al. 2016; fairlearn equalized_odds_difference",
    ),
    define(
        "predictive-parity-diff",
        "largest - smallest precision",
        "0..1",
        "groups with nobody called positive are left out",
        "moves with prevalence",
        "fairlearn MetricFrame(precision).difference",
    ),
    define(
        "calibration-gap",
        "largest - smallest calibration error (10 equal-width bins)",
        "0..1",
        "one group: 0",
        "the error is biased up in small groups",
        "own",
    ),
    define(
        "equity-scaled-auroc",
        "overall AUROC / (1 + sum of |overall - group|)",
        "0..1",
        "groups of one class are left out",
        "falls with the number of groups",
        "Luo et al. 2024",
    ),
    define(
        "auroc-gap/p permuted",
        "share of 1000 random assignments of the cases to the groups whose AUROC gap is as large, the found one counted",
        "0..1",
        "as auroc-gap",
        "drawn with a seed; large groups make small gaps significant, small ones hide large gaps",
        "Fisher 1935",
    ),
];

/// Assignments drawn for the p-value of a gap.
const DRAWS: usize = 1000;

/// Numbers of one group.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// Name in the table.
    pub name: String,
    /// Numbers under `n`, `prevalence`, `auroc` with its 95 % interval after DeLong (`auroc-low`, `auroc-high`),
    /// `accuracy`, `tpr`, `fpr`, `precision`, `selection-rate`, `ece`.
    pub values: Measures,
}

/// Groups in the order of their names, and the gaps between them.
pub fn measure(
    labels: &[f64],
    scores: &[f64],
    groups: &[String],
    threshold: f64,
    seed: u64,
) -> Result<(Measures, Vec<Group>)> {
    check_lengths("score", labels.len(), scores.len())?;
    check_lengths("group", labels.len(), groups.len())?;
    let labels = check_labels(labels)?;
    check_probabilities("score", scores)?;
    check_both_classes(&labels)?;
    let mut names: Vec<&String> = groups.iter().collect();
    names.sort();
    names.dedup();
    if names.len() < 2 {
        let what = format!("every case is of group {}", names[0]);
        return Err(Error::input("column group", what, "a gap needs two groups or more"));
    }
    let tables: Vec<Group> = names
        .into_iter()
        .map(|name| {
            let rows: Vec<usize> = (0..labels.len()).filter(|&i| groups[i] == *name).collect();
            let labels: Vec<bool> = rows.iter().map(|&i| labels[i]).collect();
            let scores: Vec<f64> = rows.iter().map(|&i| scores[i]).collect();
            Group { name: name.clone(), values: of_group(&labels, &scores, threshold) }
        })
        .collect();
    let mut m = gaps(&tables, roc::auroc(&labels, scores));
    let numbers: Vec<usize> =
        groups.iter().map(|name| tables.partition_point(|table| table.name < *name)).collect();
    let p = permuted(&labels, scores, numbers, tables.len(), m.number("auroc-gap"), seed);
    m.put("auroc-gap/p permuted", p);
    Ok((m, tables))
}

/// p-value of an AUROC gap when cases are assigned to the groups at random. The order of the scores does not change, so
/// each draw is one walk along it.
fn permuted(labels: &[bool], scores: &[f64], mut groups: Vec<usize>, n: usize, found: f64, seed: u64) -> f64 {
    if !found.is_finite() {
        return f64::NAN;
    }
    let order = order(scores);
    let runs = ties(scores, &order);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut as_large = 1usize;
    let mut counts = vec![[0.0f64; 5]; n];
    for _ in 0..DRAWS {
        for last in (1..groups.len()).rev() {
            groups.swap(last, below(&mut random, last + 1));
        }
        // Per group: negatives and positives below, those of this run, pairs in order.
        counts.fill([0.0; 5]);
        for run in &runs {
            for &case in &order[run.clone()] {
                counts[groups[case]][2 + usize::from(labels[case])] += 1.0;
            }
            for &case in &order[run.clone()] {
                let [below, _, now, positives, _] = counts[groups[case]];
                let count = &mut counts[groups[case]];
                count[4] += positives * (below + now / 2.0);
                *count = [below + now, count[1] + positives, 0.0, 0.0, count[4]];
            }
        }
        let areas = counts.iter().map(|c| c[4] / (c[0] * c[1])).filter(|a| a.is_finite());
        let [low, high] = areas.fold([f64::INFINITY, f64::NEG_INFINITY], |[l, h], a| [l.min(a), h.max(a)]);
        as_large += usize::from(high - low >= found - 1e-12);
    }
    as_large as f64 / (DRAWS + 1) as f64
}
fn of_group(labels: &[bool], scores: &[f64], threshold: f64) -> Measures {
    let counts = Confusion::at(labels, scores, threshold);
    let mut m = Measures::default();
    m.put("n", counts.all());
    m.put("prevalence", ratio(counts.tp + counts.fn_, counts.all()));
    m.put("auroc", roc::auroc(labels, scores));
    let (low, high) = delong::components(labels, scores).interval();
    m.put("auroc-low", low);
    m.put("auroc-high", high);
    m.put("accuracy", counts.accuracy());
    m.put("tpr", counts.recall());
    m.put("fpr", counts.false_positive_rate());
    m.put("precision", counts.precision());
    m.put("selection-rate", ratio(counts.tp + counts.fp, counts.all()));
    m.put("ece", calibration::ece(labels, scores, 10));
    m
}

fn gaps(groups: &[Group], overall: f64) -> Measures {
    let of = |id: &str| -> Vec<f64> {
        groups.iter().map(|g| g.values.number(id)).filter(|v| v.is_finite()).collect()
    };
    let least = |id: &str| of(id).into_iter().reduce(f64::min).unwrap_or(f64::NAN);
    let most = |id: &str| of(id).into_iter().reduce(f64::max).unwrap_or(f64::NAN);
    let gap = |id: &str| if of(id).len() < 2 { f64::NAN } else { most(id) - least(id) };
    let mut m = Measures::default();
    m.put("groups", groups.len() as f64);
    m.put("groups-of-one-class", (groups.len() - of("auroc").len()) as f64);
    m.put("auroc-gap", gap("auroc"));
    m.put("worst-group-auroc", least("auroc"));
    m.put("worst-group-accuracy", least("accuracy"));
    m.put("demographic-parity-diff", gap("selection-rate"));
    m.put("disparate-impact", ratio(least("selection-rate"), most("selection-rate")));
    m.put("equal-opportunity-diff", gap("tpr"));
    m.put("equalized-odds-diff", gap("tpr").max(gap("fpr")));
    m.put("predictive-parity-diff", gap("precision"));
    m.put("calibration-gap", gap("ece"));
    let distance: f64 = of("auroc").iter().map(|a| (overall - a).abs()).sum();
    m.put("equity-scaled-auroc", overall / (1.0 + distance));
    m
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_by_hand_and_a_group_of_one_class() {
        let groups: Vec<String> = ["a", "a", "b", "b", "c"].map(String::from).into();
        let (m, tables) =
            measure(&[1.0, 0.0, 1.0, 0.0, 1.0], &[0.9, 0.1, 0.2, 0.8, 0.7], &groups, 0.5, 0).unwrap();
        assert_eq!((m.number("auroc-gap"), m.number("groups-of-one-class")), (1.0, 1.0));
        assert_eq!((m.number("equal-opportunity-diff"), m.number("equalized-odds-diff")), (1.0, 1.0));
        assert_eq!((m.number("demographic-parity-diff"), tables.len()), (0.5, 3));
        assert!(
            measure(&[1.0, 0.0], &[0.5, 0.5], &groups[..2], 0.5, 0)
                .unwrap_err()
                .to_string()
                .contains("two groups")
        );
    }

    #[test]
    fn chance_gaps_are_likely_and_planted_ones_are_not() {
        let scores: Vec<f64> = (0..80).map(|i| f64::from((i * 37) % 80) / 80.0).collect();
        let groups: Vec<String> = (0..80).map(|i| format!("g{}", i % 2)).collect();
        let alike: Vec<f64> = scores.iter().map(|s| f64::from(u8::from(*s > 0.5))).collect();
        let turned = |i: usize| if i.is_multiple_of(2) { alike[i] } else { 1.0 - alike[i] };
        let planted: Vec<f64> = (0..80).map(turned).collect();
        let p = |labels: &[f64]| {
            let (m, _) = measure(labels, &scores, &groups, 0.5, 1).unwrap();
            (m.number("auroc-gap"), m.number("auroc-gap/p permuted"))
        };
        assert_eq!(p(&alike), (0.0, 1.0));
        assert_eq!(p(&planted), (1.0, 1.0 / 1001.0));
    }
}
