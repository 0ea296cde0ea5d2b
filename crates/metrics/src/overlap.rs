//! Overlap of two masks: Dice and IoU.

use crate::{Entry, Evidence, Score};

/// Dice coefficient.
pub static DICE: Entry = Entry {
    id: "dice",
    convention: "dice/voxel",
    name: "Dice",
    unit: "",
    definition: "2·TP / (2·TP + FP + FN)",
    range: [0.0, 1.0],
    best: 1.0,
    empty: "both empty: undefined, counted apart; one empty: 0",
    pitfall: "hard on small structures, where one voxel moves it far: read it beside NSD and the volume difference",
    source: "Dice 1945; limits in Metrics Reloaded (Maier-Hein et al. 2024)",
    score: dice,
};

/// Intersection over union.
pub static IOU: Entry = Entry {
    id: "iou",
    convention: "iou/voxel",
    name: "IoU",
    unit: "",
    definition: "TP / (TP + FP + FN)",
    range: [0.0, 1.0],
    best: 1.0,
    empty: "both empty: undefined, counted apart; one empty: 0",
    pitfall: "says the same as Dice (IoU = Dice / (2 − Dice)): report one of the two",
    source: "Jaccard 1912",
    score: iou,
};

fn dice(evidence: &Evidence) -> Score {
    let c = &evidence.counts;
    ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn_)
}

fn iou(evidence: &Evidence) -> Score {
    let c = &evidence.counts;
    ratio(c.tp, c.tp + c.fp + c.fn_)
}

fn ratio(part: u64, whole: u64) -> Score {
    if whole == 0 { Score::Undefined } else { Score::Value(part as f64 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counts;
    use proptest::{collection::vec, prelude::*};

    proptest! {
        #[test]
        fn symmetric_bounded_and_tied_to_each_other(pairs in vec(any::<(bool, bool)>(), 1..64)) {
            let (r, p): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let of = |counts| Evidence { counts, voxel_volume: 1.0, ..Evidence::default() };
            let (there, back) = (of(Counts::of(&r, &p)), of(Counts::of(&p, &r)));
            prop_assert_eq!(dice(&there), dice(&back));
            if let (Score::Value(d), Score::Value(j)) = (dice(&there), iou(&there)) {
                prop_assert!((0.0..=1.0).contains(&d) && (j - d / (2.0 - d)).abs() < 1e-12);
            }
        }
    }
}
