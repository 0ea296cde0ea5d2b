//! Average precision and recall of boxes as COCO counts them, in images (four numbers a box) and volumes (six).

use crate::measures::{Definition, Measures, define, ratio};
use crate::statistics::mean;
use rayon::prelude::*;

pub use super::matching::{Detection, Target, iou};
use super::matching::{Outcome, Ranked, images, scored};

const COUNTS: [Definition; 3] = [
    define(
        "images",
        "images with targets or detections",
        "0..inf",
        "0",
        "images with neither do not enter",
        "count",
    ),
    define("targets", "boxes of the ground truth that are not crowds", "0..inf", "0", "-", "count"),
    define("detections", "boxes of the results, before the cut at 100 an image", "0..inf", "0", "-", "count"),
];

/// Definitions of the ids of `--kind detection2d`. Boxes are x, y, width, height, without a pixel added.
pub static DEFINITIONS: &[Definition] = &[
    COUNTS[0],
    COUNTS[1],
    COUNTS[2],
    define(
        "ap@.5/coco101",
        "mean over classes of the precision (best at that recall or beyond) at recall 0, 0.01 .. 1; IoU >= 0.5",
        "0..1",
        "no class has targets: undefined; classes without targets are left out",
        "11-point and all-point forms differ",
        "Lin et al. 2014; pycocotools COCOeval",
    ),
    define(
        "ap@.75/coco101",
        "the same at IoU >= 0.75",
        "0..1",
        "as above",
        "as above",
        "pycocotools COCOeval",
    ),
    define(
        "ap@[.5:.95]/coco101",
        "mean over IoU 0.5, 0.55 .. 0.95",
        "0..1",
        "as above",
        "as above",
        "pycocotools COCOeval",
    ),
    define(
        "ar@100",
        "mean over classes and IoU 0.5 .. 0.95 of the recall with at most 100 detections an image",
        "0..1",
        "as above",
        "blind to false positives",
        "pycocotools COCOeval",
    ),
    define(
        "ar@10",
        "the same with at most 10",
        "0..1",
        "as above",
        "blind to false positives",
        "pycocotools COCOeval",
    ),
    define(
        "ar@1",
        "the same with the best detection of each image and class",
        "0..1",
        "as above",
        "blind to false positives",
        "pycocotools COCOeval",
    ),
    define(
        "ap@.5/11-point",
        "as ap@.5/coco101 with the recalls 0, 0.1 .. 1",
        "0..1",
        "as above",
        "matched as COCO does: VOC's own matching counts a box near a taken target as false at once",
        "Everingham et al. 2010",
    ),
    define(
        "ap@.5/all-point",
        "area under the precision that is best at that recall or beyond",
        "0..1",
        "as above",
        "matched as COCO does",
        "Everingham et al. 2015",
    ),
];

/// Definitions of the ids of `--kind detection3d`. Boxes are x, y, z, width, height, depth in one unit on all axes.
pub static DEFINITIONS_3D: &[Definition] = &[
    COUNTS[0],
    COUNTS[1],
    COUNTS[2],
    define(
        "ap@.1/coco101",
        "mean over classes of the precision (best at that recall or beyond) at recall 0, 0.01 .. 1; IoU >= 0.1",
        "0..1",
        "no class has targets: undefined; classes without targets are left out",
        "a tenth of a volume is a loose hit: small lesions need it",
        "Baumgartner et al. 2021 (nnDetection)",
    ),
    define(
        "ap@.5/coco101",
        "the same at IoU >= 0.5",
        "0..1",
        "as above",
        "half of a volume is four fifths along each axis",
        "Baumgartner et al. 2021 (nnDetection)",
    ),
    define(
        "map@[.1:.5]/coco101",
        "mean over IoU 0.1, 0.15 .. 0.5",
        "0..1",
        "as above",
        "not the [.5:.95] of images",
        "Baumgartner et al. 2021 (nnDetection)",
    ),
    define(
        "recall@.1/100",
        "mean over classes of the recall at IoU >= 0.1 with at most 100 detections a volume",
        "0..1",
        "as above",
        "blind to false positives",
        "as ar@100 of COCO at one IoU",
    ),
];

/// Definitions of the ids of one operating point, for both kinds.
pub static OPERATING: &[Definition] = &[
    define(
        "operating/precision",
        "hits / detections with a score of at least the threshold; all classes together, IoU as in the settings",
        "0..1",
        "no detection: undefined",
        "choose the threshold on other cases",
        "count",
    ),
    define(
        "operating/recall",
        "hits / targets",
        "0..1",
        "no target: undefined",
        "choose the threshold on other cases",
        "count",
    ),
    define(
        "operating/f1",
        "2 hits / (detections + targets)",
        "0..1",
        "neither detections nor targets: undefined",
        "choose the threshold on other cases",
        "count",
    ),
    define(
        "operating/f2",
        "5 hits / (detections + 4 targets)",
        "0..1",
        "as above",
        "weighs a missed target four times a false box",
        "count",
    ),
    define(
        "operating/fppi",
        "false detections / images of the ground truth",
        "0..inf",
        "no image: undefined",
        "count the images without targets too",
        "count",
    ),
];

/// Every number of boxes in images.
pub fn measure(targets: &[Target], detections: &[Detection]) -> Measures {
    let overlaps: Vec<f64> = (0..10).map(|i| 0.5 + 0.05 * f64::from(i)).collect();
    let curves: Vec<Vec<Curve>> =
        [100, 10, 1].map(|most| of_classes(targets, detections, most, &overlaps)).into();
    let mut m = counts(targets, detections);
    m.put("ap@.5/coco101", over(&curves[0], |c| c.precision[0]));
    m.put("ap@.75/coco101", over(&curves[0], |c| c.precision[5]));
    m.put("ap@[.5:.95]/coco101", over(&curves[0], |c| mean(&c.precision)));
    for (id, curves) in ["ar@100", "ar@10", "ar@1"].into_iter().zip(&curves) {
        m.put(id, over(curves, |c| mean(&c.recall)));
    }
    m.put("ap@.5/11-point", over(&curves[0], |c| c.eleven));
    m.put("ap@.5/all-point", over(&curves[0], |c| c.area));
    m
}

/// Every number of boxes in volumes.
pub fn measure_volumes(targets: &[Target<6>], detections: &[Detection<6>]) -> Measures {
    let overlaps: Vec<f64> = (0..9).map(|i| 0.1 + 0.05 * f64::from(i)).collect();
    let curves = of_classes(targets, detections, 100, &overlaps);
    let mut m = counts(targets, detections);
    m.put("ap@.1/coco101", over(&curves, |c| c.precision[0]));
    m.put("ap@.5/coco101", over(&curves, |c| c.precision[8]));
    m.put("map@[.1:.5]/coco101", over(&curves, |c| mean(&c.precision)));
    m.put("recall@.1/100", over(&curves, |c| c.recall[0]));
    m
}

/// Hits and errors of the detections with a score of at least `threshold`, all classes together.
pub fn operating<const N: usize>(
    targets: &[Target<N>],
    detections: &[Detection<N>],
    images: usize,
    threshold: f64,
    overlap: f64,
) -> Measures {
    let kept: Vec<Detection<N>> = detections.iter().filter(|d| d.score >= threshold).cloned().collect();
    let mut classes: Vec<i64> =
        targets.iter().map(|t| t.category).chain(kept.iter().map(|d| d.category)).collect();
    classes.sort_unstable();
    classes.dedup();
    let (mut hits, mut misses) = (0.0, 0.0);
    for class in classes {
        for (_, outcomes) in scored(targets, &kept, class, usize::MAX, &[overlap]) {
            hits += f64::from(u8::from(outcomes[0] == Outcome::Hit));
            misses += f64::from(u8::from(outcomes[0] == Outcome::Miss));
        }
    }
    let wanted = targets.iter().filter(|t| !t.crowd).count() as f64;
    let mut m = Measures::default();
    m.put("operating/precision", ratio(hits, hits + misses));
    m.put("operating/recall", ratio(hits, wanted));
    m.put("operating/f1", ratio(2.0 * hits, hits + misses + wanted));
    m.put("operating/f2", ratio(5.0 * hits, hits + misses + 4.0 * wanted));
    m.put("operating/fppi", ratio(misses, images as f64));
    m
}

fn counts<const N: usize>(targets: &[Target<N>], detections: &[Detection<N>]) -> Measures {
    let mut m = Measures::default();
    m.put("images", images(targets.iter().map(|t| t.image), detections.iter().map(|d| d.image)).len() as f64);
    m.put("targets", targets.iter().filter(|t| !t.crowd).count() as f64);
    m.put("detections", detections.len() as f64);
    m
}

/// Mean over classes; NaN without any.
fn over(curves: &[Curve], of: impl Fn(&Curve) -> f64) -> f64 {
    mean(&curves.iter().map(of).collect::<Vec<_>>())
}

/// Average precision and last recall of a class, per overlap, and other averages at the first one.
struct Curve {
    precision: Vec<f64>,
    recall: Vec<f64>,
    eleven: f64,
    area: f64,
}

fn of_classes<const N: usize>(
    targets: &[Target<N>],
    detections: &[Detection<N>],
    most: usize,
    overlaps: &[f64],
) -> Vec<Curve> {
    let mut classes: Vec<i64> = targets.iter().map(|t| t.category).collect();
    classes.sort_unstable();
    classes.dedup();
    classes.par_iter().filter_map(|&class| of_class(targets, detections, class, most, overlaps)).collect()
}

fn of_class<const N: usize>(
    targets: &[Target<N>],
    detections: &[Detection<N>],
    class: i64,
    most: usize,
    overlaps: &[f64],
) -> Option<Curve> {
    let count = targets.iter().filter(|t| t.category == class && !t.crowd).count() as f64;
    if count == 0.0 {
        return None;
    }
    let scored = scored(targets, detections, class, most, overlaps);
    let ranked: Vec<Ranked> = (0..overlaps.len()).map(|t| Ranked::new(&scored, t, count)).collect();
    Some(Curve {
        precision: ranked.iter().map(|r| r.average(100)).collect(),
        recall: ranked.iter().map(|r| r.recall.last().copied().unwrap_or(0.0)).collect(),
        eleven: ranked[0].average(10),
        area: ranked[0].area(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_detection_of_a_target_is_false() {
        let bounds = [0.0, 0.0, 10.0, 10.0];
        let target = Target { image: 1, category: 1, bounds, crowd: false };
        let found = |score| Detection { image: 1, category: 1, bounds, score };
        let m = measure(&[target], &[found(0.9), found(0.8)]);
        assert!((m.number("ap@.5/coco101") - 1.0).abs() < 1e-12);
        assert_eq!((m.number("ar@100"), m.number("images")), (1.0, 1.0));
        assert!(measure(&[], &[found(0.5)]).number("ap@.5/coco101").is_nan());
        assert_eq!(iou(bounds, [5.0, 0.0, 10.0, 10.0], false), 1.0 / 3.0);
        assert_eq!(iou(bounds, [0.0, 0.0, 100.0, 100.0], true), 1.0);
    }

    #[test]
    fn boxes_of_volumes_and_an_operating_point() {
        let bounds = [0.0, 0.0, 0.0, 10.0, 10.0, 10.0];
        let shifted = [5.0, 0.0, 0.0, 10.0, 10.0, 10.0];
        assert_eq!(iou(bounds, shifted, false), 1.0 / 3.0);
        let targets = [1, 2].map(|image| Target { image, category: 1, bounds, crowd: false });
        let found = |image, bounds, score| Detection { image, category: 1, bounds, score };
        let all = [found(1, bounds, 0.9), found(2, shifted, 0.8), found(1, shifted, 0.1)];
        let m = measure_volumes(&targets, &all);
        assert!((m.number("ap@.1/coco101") - 1.0).abs() < 1e-12);
        // Half of the recalls: 0 to 0.5 are 51 of 101.
        assert!((m.number("ap@.5/coco101") - 51.0 / 101.0).abs() < 1e-12);
        let m = operating(&targets, &all, 4, 0.5, 0.5);
        assert_eq!((m.number("operating/precision"), m.number("operating/recall")), (0.5, 0.5));
        assert_eq!((m.number("operating/fppi"), m.number("operating/f2")), (0.25, 5.0 / 10.0));
        assert!(operating(&targets[..0], &all[..0], 0, 0.5, 0.5).number("operating/f1").is_nan());
    }
}
