//! Surface metrics agree with DeepMind's surface-distance 0.1 on shapes made by formula.
//! Values were computed with that package (numpy 2.4, scipy 1.17); lengths in mm.

use galen_core::{Geometry, LabelMap, LabelValue, Labels};
use galen_metrics::{LabelScores, Score, Status, score_case};

fn labels() -> Labels {
    let one = |name: &str, value| (name.to_string(), LabelValue::One(value));
    Labels::new(vec![one("background", 0), one("organ", 1)], None).unwrap()
}

fn map(size: [usize; 3], spacing: [f64; 3], inside: impl Fn([usize; 3]) -> bool) -> LabelMap {
    let place = |i: usize| [i / (size[1] * size[2]), i / size[2] % size[1], i % size[2]];
    let values = (0..size.iter().product()).map(|i| u8::from(inside(place(i)))).collect();
    LabelMap::new(Geometry::axis_aligned(size, spacing), values)
}

fn ellipsoid(centre: [f64; 3], radius: [f64; 3]) -> impl Fn([usize; 3]) -> bool {
    move |at| (0..3).map(|k| ((at[k] as f64 - centre[k]) / radius[k]).powi(2)).sum::<f64>() <= 1.0
}

fn scored(reference: &LabelMap, prediction: &LabelMap, tolerance: f64) -> LabelScores {
    score_case(reference, prediction, &labels(), tolerance).unwrap().labels.remove(0)
}

#[track_caller]
fn expect(scores: &LabelScores, hd95: f64, nsd: f64, assd: f64) {
    for (id, expected) in [("hd95", hd95), ("nsd", nsd), ("assd", assd)] {
        let Score::Value(value) = scores.scores[id] else { panic!("{id} is no number") };
        assert!((value - expected).abs() <= 1e-6 * expected.max(1.0), "{id}: {value}, expected {expected}");
    }
}

#[test]
fn anisotropic_ellipsoids() {
    let reference = ellipsoid([8.0, 24.0, 22.0], [5.0, 13.0, 11.0]);
    let prediction = ellipsoid([8.4, 25.5, 22.0], [5.0, 12.0, 11.5]);
    let size = [16, 48, 48];
    let at = |spacing, tolerance| {
        scored(&map(size, spacing, &reference), &map(size, spacing, &prediction), tolerance)
    };
    expect(&at([5.0, 1.0, 1.0], 1.0), 2.23606797749979, 0.8446334429195265, 0.574947008968433);
    expect(&at([2.5, 0.8, 0.7], 0.9), 1.6124515496597098, 0.8498308148476245, 0.4099217868725252);
}

#[test]
fn a_far_speck_and_a_far_blob() {
    let (size, spacing) = ([16, 48, 48], [5.0, 1.0, 1.0]);
    let organ = ellipsoid([8.0, 24.0, 22.0], [5.0, 13.0, 11.0]);
    let reference = map(size, spacing, &organ);
    let speck = |[z, y, x]: [usize; 3]| (1..3).contains(&z) && (1..3).contains(&y) && (44..46).contains(&x);
    let blob = |[z, y, x]: [usize; 3]| z < 3 && y < 10 && x < 10;
    let with_speck = map(size, spacing, |at| organ(at) || speck(at));
    let with_blob = map(size, spacing, |at| organ(at) || blob(at));
    expect(&scored(&reference, &with_speck, 1.0), 0.0, 0.9911450330343012, 0.23138524964297894);
    expect(&scored(&reference, &with_blob, 1.0), 25.88435821108957, 0.905830818118418, 2.1645396161315564);
}

#[test]
fn a_sphere_moved_by_one_voxel() {
    let ball = |x| ellipsoid([12.0, 12.0, x], [10.0; 3]);
    let at = |x| map([24, 24, 25], [1.0; 3], ball(x));
    expect(&scored(&at(12.0), &at(13.0), 1.0), 1.0, 1.0, 0.2662325125259841);
}

#[test]
fn two_single_voxels() {
    let at = |x| map([5, 5, 5], [5.0, 1.0, 1.0], move |place| place == [2, 2, x]);
    expect(&scored(&at(1), &at(3), 1.0), 2.0, 0.5, 1.5);
}

#[test]
fn a_mask_that_fills_the_image_has_the_faces_of_the_image() {
    let full = map([6, 6, 6], [1.0; 3], |_| true);
    let shorter = map([6, 6, 6], [1.0; 3], |[z, ..]| z < 5);
    let (a, b) = (194.15845767876175, 171.33003055401554);
    let assd = (0.20605932652034928 * a + 0.1459172097218427 * b) / (a + b);
    expect(&scored(&full, &shorter, 1.0), 1.0, 1.0, assd);
}

#[test]
fn organs_far_apart() {
    let (size, spacing) = ([40, 60, 60], [1.5, 1.0, 0.7]);
    let reference = map(size, spacing, ellipsoid([6.0, 8.0, 8.0], [4.0, 5.0, 6.0]));
    let prediction = map(size, spacing, ellipsoid([33.0, 50.0, 50.0], [5.0, 6.0, 4.0]));
    expect(&scored(&reference, &prediction, 1.0), 64.71669027383895, 0.0, 59.12369726935935);
}

#[test]
fn a_flat_image_is_measured_along_its_outline() {
    let disk = |centre: [f64; 2], radius: [f64; 2]| {
        let mut map = map([1, 40, 50], [999.0, 0.8, 0.5], |[_, y, x]| {
            ((y as f64 - centre[0]) / radius[0]).powi(2) + ((x as f64 - centre[1]) / radius[1]).powi(2) <= 1.0
        });
        map.geometry.flat = true;
        map
    };
    let scores = scored(&disk([20.0, 24.0], [11.0, 13.0]), &disk([21.0, 25.0], [10.0, 14.0]), 0.5);
    expect(&scores, 1.6, 0.6396356127697498, 0.4898508124397815);
}

#[test]
fn empty_masks_are_flagged_and_never_a_success() {
    let empty = map([4, 4, 4], [1.0; 3], |_| false);
    let some = map([4, 4, 4], [1.0; 3], |[z, ..]| z == 1);
    let both = scored(&empty, &empty, 1.0);
    assert_eq!(both.status, Status::BothEmpty);
    assert!(both.scores.values().all(|&score| score == Score::Undefined));
    let missed = scored(&some, &empty, 1.0);
    assert_eq!(missed.status, Status::PredictionEmpty);
    assert_eq!((missed.scores["dice"], missed.scores["nsd"]), (Score::Value(0.0), Score::Value(0.0)));
    assert_eq!((missed.scores["hd95"], missed.scores["assd"]), (Score::Infinite, Score::Infinite));
    let invented = scored(&empty, &some, 1.0);
    assert_eq!((invented.status, invented.scores["dice"]), (Status::ReferenceEmpty, Score::Value(0.0)));
}

#[test]
fn other_grids_are_refused_by_name() {
    let a = map([4, 4, 4], [1.0; 3], |_| false);
    let mut b = a.clone();
    b.geometry.origin[0] = 2.5;
    let error = score_case(&a, &b, &labels(), 1.0).unwrap_err().to_string();
    assert!(error.contains("origin by 2.500 mm"), "{error}");
    assert!(score_case(&a, &a, &labels(), f64::NAN).is_err());
}
