//! Findings named by a report: F1 of labels that a labeller took from reference and hypothesis.

use crate::measures::{Definition, Measures, define, ratio};
use std::collections::{BTreeMap, BTreeSet};

/// What the ids of this file mean; measured when every line of the input has `ref_labels` and `hyp_labels`.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "label-f1/micro",
        "2 TP / (2 TP + FP + FN) of all labels of all pairs",
        "0..1",
        "no label anywhere: undefined",
        "the labeller decides it: CheXbert, RadGraph and rules differ; common findings rule",
        "Smit et al. 2020 (CheXbert F1); sklearn f1_score(average='micro')",
    ),
    define(
        "label-f1/macro",
        "mean F1 over the labels that occur in references or hypotheses",
        "0..1",
        "no label anywhere: undefined",
        "rare findings count as much as common ones",
        "Smit et al. 2020 (CheXbert F1); sklearn f1_score(average='macro')",
    ),
    define(
        "label-f1/samples",
        "mean over pairs of the F1 of their labels",
        "0..1",
        "a pair without labels on both sides: 1",
        "normal reports lift it",
        "sklearn f1_score(average='samples', zero_division=1)",
    ),
];

/// F1 of `(reference, hypothesis)` label sets.
pub fn measure(pairs: &[(BTreeSet<String>, BTreeSet<String>)], m: &mut Measures) {
    // Per label: hits, and how often it is named on both sides together.
    let mut counts = BTreeMap::<&str, [f64; 2]>::new();
    let mut samples = 0.0;
    for (reference, hypothesis) in pairs {
        for label in reference.iter().chain(hypothesis) {
            counts.entry(label).or_default()[1] += 1.0;
        }
        reference.intersection(hypothesis).for_each(|label| counts.entry(label).or_default()[0] += 1.0);
        let (both, all) = (reference.intersection(hypothesis).count(), reference.len() + hypothesis.len());
        samples += if all == 0 { 1.0 } else { 2.0 * both as f64 / all as f64 };
    }
    let sum = |part: usize| counts.values().map(|c| c[part]).sum::<f64>();
    m.put("label-f1/micro", ratio(2.0 * sum(0), sum(1)));
    m.put("label-f1/macro", ratio(counts.values().map(|c| 2.0 * c[0] / c[1]).sum(), counts.len() as f64));
    m.put("label-f1/samples", ratio(samples, pairs.len() as f64));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_by_hand() {
        let set = |labels: &[&str]| labels.iter().map(|l| (*l).to_owned()).collect::<BTreeSet<_>>();
        let pairs = [(set(&["edema"]), set(&["edema", "fracture"])), (set(&[]), set(&[]))];
        let mut m = Measures::default();
        measure(&pairs, &mut m);
        assert!((m.number("label-f1/micro") - 2.0 / 3.0).abs() < 1e-15);
        assert_eq!(m.number("label-f1/macro"), 0.5);
        assert!((m.number("label-f1/samples") - 5.0 / 6.0).abs() < 1e-15);
    }
}
