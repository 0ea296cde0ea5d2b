//! Lesion by lesion: connected components of the reference found or missed, of the prediction true or invented.

use super::Pair;
use crate::measures::{Definition, Measures, define, ratio};
use galen_kernels::components::{Connectivity, label};

/// Definitions of the ids of `--kind lesion`.
pub static DEFINITIONS: &[Definition] = &[
    define("n_ref", "components of the reference", "0..inf", "0", "the connectivity decides it", "cc3d"),
    define("n_pred", "components of the prediction", "0..inf", "0", "the connectivity decides it", "cc3d"),
    define(
        "detected/any-overlap",
        "components of the reference that share a voxel with the prediction",
        "0..n_ref",
        "0",
        "one voxel is enough",
        "count",
    ),
    define(
        "sensitivity",
        "detected / n_ref",
        "0..1",
        "no lesion in the reference: undefined",
        "one large blob detects everything",
        "count",
    ),
    define(
        "precision/any-overlap",
        "components of the prediction that share a voxel with the reference / n_pred",
        "0..1",
        "no lesion in the prediction: undefined",
        "one voxel is enough",
        "count",
    ),
    define(
        "fp-components/any-overlap",
        "components of the prediction that touch no lesion",
        "0..n_pred",
        "0",
        "specks count as much as masses",
        "count",
    ),
    define(
        "f1/any-overlap (TP=detected ref)",
        "2 TP / (2 TP + FP + FN), TP detected lesions",
        "0..1",
        "no lesion in either: 1",
        "the matching rule changes ranks",
        "panoptica with any overlap",
    ),
    define(
        "fp-volume-ml",
        "volume of predicted components that touch no lesion",
        "0..inf",
        "0",
        "read it beside the count",
        "autoPET",
    ),
    define("fn-volume-ml", "volume of missed lesions", "0..inf", "0", "read it beside the count", "autoPET"),
    define(
        "lesionwise-dice/sum over ref, FP add zero",
        "mean over lesions and invented components of the Dice of a lesion with all predicted components that touch it",
        "0..1",
        "no lesion in either: 1",
        "no dilation and no smallest size here, unlike BraTS",
        "BraTS 2023 without dilation",
    ),
    define(
        "panoptic/pq",
        "sum of IoU of pairs above 0.5 / (TP + FP/2 + FN/2)",
        "0..1",
        "no lesion in either: undefined",
        "pairs at or below 0.5 count as two errors",
        "Kirillov et al. 2019; panoptica",
    ),
    define(
        "panoptic/sq",
        "mean IoU of the pairs",
        "0..1",
        "no pair: 0",
        "blind to what is missed",
        "Kirillov et al. 2019",
    ),
    define(
        "panoptic/rq",
        "TP / (TP + FP/2 + FN/2)",
        "0..1",
        "no lesion in either: undefined",
        "blind to outlines",
        "Kirillov et al. 2019",
    ),
];

/// Every number of a pair, components joined as `connectivity` says.
pub fn measure(pair: &Pair, connectivity: Connectivity) -> Measures {
    let (reference, n_ref) = label(&pair.reference, pair.size, connectivity);
    let (prediction, n_pred) = label(&pair.prediction, pair.size, connectivity);
    let (mut sizes_ref, mut sizes_pred) = (vec![0u64; n_ref + 1], vec![0u64; n_pred + 1]);
    let mut shared = std::collections::BTreeMap::<(u32, u32), u64>::new();
    for (&r, &p) in reference.iter().zip(&prediction) {
        sizes_ref[r as usize] += 1;
        sizes_pred[p as usize] += 1;
        if r != 0 && p != 0 {
            *shared.entry((r, p)).or_default() += 1;
        }
    }
    let (mut hit, mut touched) = (vec![0u64; n_ref + 1], vec![0u64; n_ref + 1]);
    let mut true_pred = vec![false; n_pred + 1];
    let (mut pairs, mut quality) = (0.0, 0.0);
    for (&(r, p), &voxels) in &shared {
        let (r, p) = (r as usize, p as usize);
        hit[r] += voxels;
        touched[r] += sizes_pred[p];
        true_pred[p] = true;
        let iou = voxels as f64 / (sizes_ref[r] + sizes_pred[p] - voxels) as f64;
        if iou > 0.5 {
            pairs += 1.0;
            quality += iou;
        }
    }
    let dice = |r: usize| 2.0 * hit[r] as f64 / (sizes_ref[r] + touched[r]) as f64;
    let missed = |r: &usize| hit[*r] == 0;
    let invented = |p: &usize| !true_pred[*p];
    let detected = (1..=n_ref).filter(|r| !missed(r)).count() as f64;
    let false_positive = (1..=n_pred).filter(invented).count() as f64;
    let ml = |voxels: u64| voxels as f64 * pair.voxel_ml();
    let none = n_ref + n_pred == 0;
    let (n_ref_f, n_pred_f) = (n_ref as f64, n_pred as f64);
    let or_one = |value: f64| if none { 1.0 } else { value };
    let mut m = Measures::default();
    m.put("n_ref", n_ref_f);
    m.put("n_pred", n_pred_f);
    m.put("detected/any-overlap", detected);
    m.put("sensitivity", ratio(detected, n_ref_f));
    m.put("precision/any-overlap", ratio(n_pred_f - false_positive, n_pred_f));
    m.put("fp-components/any-overlap", false_positive);
    m.put("f1/any-overlap (TP=detected ref)", or_one(2.0 * detected / (detected + false_positive + n_ref_f)));
    m.put("fp-volume-ml", ml((1..=n_pred).filter(invented).map(|p| sizes_pred[p]).sum()));
    m.put("fn-volume-ml", ml((1..=n_ref).filter(missed).map(|r| sizes_ref[r]).sum()));
    let sum: f64 = (1..=n_ref).map(dice).sum();
    m.put("lesionwise-dice/sum over ref, FP add zero", or_one(sum / (n_ref_f + false_positive)));
    let whole = (n_ref_f + n_pred_f) / 2.0;
    m.put("panoptic/pq", ratio(quality, whole));
    m.put("panoptic/sq", if pairs == 0.0 { 0.0 } else { quality / pairs });
    m.put("panoptic/rq", ratio(pairs, whole));
    m
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_missed_and_invented() {
        let reference = [1, 1, 0, 1, 0, 0, 0, 0, 0, 0];
        let prediction = [1, 0, 0, 0, 0, 1, 1, 0, 0, 0];
        let pair = Pair::new([1, 1, 10], [1.0; 3], false, reference.into(), prediction.into()).unwrap();
        let m = measure(&pair, Connectivity::Corners);
        assert_eq!((m.number("n_ref"), m.number("detected/any-overlap")), (2.0, 1.0));
        assert_eq!((m.number("fp-volume-ml"), m.number("fn-volume-ml")), (0.002, 0.001));
        assert!((m.number("lesionwise-dice/sum over ref, FP add zero") - (2.0 / 3.0) / 3.0).abs() < 1e-15);
        assert_eq!(m.number("f1/any-overlap (TP=detected ref)"), 0.5);
        let nothing = Pair::new([1, 1, 2], [1.0; 3], false, vec![0; 2], vec![0; 2]).unwrap();
        assert_eq!(measure(&nothing, Connectivity::Faces).number("f1/any-overlap (TP=detected ref)"), 1.0);
        assert!(Pair::new([1, 1, 2], [1.0; 3], false, vec![0; 2], vec![0; 3]).is_err());
    }
}
