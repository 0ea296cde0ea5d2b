//! Volume of the prediction against the reference.

use crate::{Entry, Evidence, Score};

/// Signed volume difference.
pub static VOLUME_DIFFERENCE: Entry = Entry {
    id: "volume_difference",
    convention: "volume-difference/signed",
    name: "Volume difference",
    unit: "mm³",
    definition: "volume of the prediction − volume of the reference (areas in mm² for 2D images)",
    range: [f64::NEG_INFINITY, f64::INFINITY],
    best: 0.0,
    empty: "both empty: undefined, counted apart; one empty: ± the volume of the other",
    pitfall: "blind to location, and over- and under-segmentation cancel in a mean: read it beside Dice",
    source: "Metrics Reloaded (Maier-Hein et al. 2024)",
    score: difference,
};

/// Signed volume difference relative to the reference.
pub static VOLUME_RELATIVE: Entry = Entry {
    id: "volume_relative",
    convention: "relative-volume-difference/signed",
    name: "Relative volume difference",
    unit: "",
    definition: "(volume of the prediction − volume of the reference) / volume of the reference",
    range: [-1.0, f64::INFINITY],
    best: 0.0,
    empty: "both empty: undefined; reference empty: infinite, counted apart; prediction empty: −1",
    pitfall: "not symmetric: twice too much is +1, half is −0.5; other tools divide by the mean of both volumes",
    source: "Heimann et al. 2009 (there as a percentage)",
    score: relative,
};

fn difference(evidence: &Evidence) -> Score {
    let (reference, prediction) = volumes(evidence);
    if reference + prediction == 0.0 { Score::Undefined } else { Score::Value(prediction - reference) }
}

fn relative(evidence: &Evidence) -> Score {
    match volumes(evidence) {
        (0.0, 0.0) => Score::Undefined,
        (0.0, _) => Score::Infinite,
        (reference, prediction) => Score::Value((prediction - reference) / reference),
    }
}

fn volumes(evidence: &Evidence) -> (f64, f64) {
    let volume = |voxels: u64| voxels as f64 * evidence.voxel_volume;
    (volume(evidence.counts.reference()), volume(evidence.counts.prediction()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counts;

    #[test]
    fn the_sign_says_too_much_or_too_little() {
        let of = |tp, fp, fn_| Evidence {
            counts: Counts { tp, fp, fn_, tn: 0 },
            voxel_volume: 2.5,
            ..Evidence::default()
        };
        assert_eq!(difference(&of(4, 4, 0)), Score::Value(10.0));
        assert_eq!(relative(&of(4, 4, 0)), Score::Value(1.0));
        assert_eq!(relative(&of(2, 0, 2)), Score::Value(-0.5));
        assert_eq!(relative(&of(0, 3, 0)), Score::Infinite);
        assert_eq!(relative(&of(0, 0, 3)), Score::Value(-1.0));
    }
}
