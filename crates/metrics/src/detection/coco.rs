//! Average precision and recall of boxes as COCO counts them.

use crate::measures::{Definition, Measures, define};
use rayon::prelude::*;

/// Definitions of the ids of `--kind detection2d`. Boxes are x, y, width, height, without a pixel added.
pub static DEFINITIONS: &[Definition] = &[
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
];

/// A box of the ground truth.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Image it lies in.
    pub image: i64,
    /// Class.
    pub category: i64,
    /// x, y, width, height.
    pub bounds: [f64; 4],
    /// A crowd: any number of detections may match it, and none of them counts.
    pub crowd: bool,
}

/// A box of the results.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Image it lies in.
    pub image: i64,
    /// Class.
    pub category: i64,
    /// x, y, width, height.
    pub bounds: [f64; 4],
    /// Higher is surer.
    pub score: f64,
}

/// Intersection over union of two boxes; over the detection's own area for a crowd.
pub fn iou(detection: [f64; 4], target: [f64; 4], crowd: bool) -> f64 {
    let overlap = |axis: usize| {
        let (a, b) = (detection[axis] + detection[axis + 2], target[axis] + target[axis + 2]);
        (a.min(b) - detection[axis].max(target[axis])).max(0.0)
    };
    let shared = overlap(0) * overlap(1);
    let own = detection[2] * detection[3];
    let whole = if crowd { own } else { own + target[2] * target[3] - shared };
    if whole > 0.0 { shared / whole } else { 0.0 }
}

/// Every number of the family.
pub fn measure(targets: &[Target], detections: &[Detection]) -> Measures {
    let mut images: Vec<i64> =
        targets.iter().map(|t| t.image).chain(detections.iter().map(|d| d.image)).collect();
    images.sort_unstable();
    images.dedup();
    let mut categories: Vec<i64> = targets.iter().map(|t| t.category).collect();
    categories.sort_unstable();
    categories.dedup();
    let curves: Vec<Vec<Curve>> = [100, 10, 1]
        .map(|most| categories.par_iter().filter_map(|&c| of_class(targets, detections, c, most)).collect())
        .into();
    let mean = |curves: &[Curve], of: &dyn Fn(&Curve) -> f64| {
        curves.iter().map(of).sum::<f64>() / curves.len() as f64
    };
    let all = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mut m = Measures::default();
    m.put("images", images.len() as f64);
    m.put("targets", targets.iter().filter(|t| !t.crowd).count() as f64);
    m.put("detections", detections.len() as f64);
    m.put("ap@.5/coco101", mean(&curves[0], &|c| c.precision[0]));
    m.put("ap@.75/coco101", mean(&curves[0], &|c| c.precision[5]));
    m.put("ap@[.5:.95]/coco101", mean(&curves[0], &|c| all(&c.precision)));
    for (id, curves) in ["ar@100", "ar@10", "ar@1"].into_iter().zip(&curves) {
        m.put(id, mean(curves, &|c| all(&c.recall)));
    }
    m
}

/// Average precision and last recall of a class, at IoU 0.5, 0.55 .. 0.95.
struct Curve {
    precision: Vec<f64>,
    recall: Vec<f64>,
}

fn thresholds() -> Vec<f64> {
    (0..10).map(|i| 0.5 + 0.05 * f64::from(i)).collect()
}

/// What a detection turned out to be, per threshold.
#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Hit,
    Miss,
    Ignored,
}

fn of_class(targets: &[Target], detections: &[Detection], category: i64, most: usize) -> Option<Curve> {
    let targets: Vec<&Target> = targets.iter().filter(|t| t.category == category).collect();
    let count = targets.iter().filter(|t| !t.crowd).count() as f64;
    if count == 0.0 {
        return None;
    }
    let detections: Vec<&Detection> = detections.iter().filter(|d| d.category == category).collect();
    let mut images: Vec<i64> =
        targets.iter().map(|t| t.image).chain(detections.iter().map(|d| d.image)).collect();
    images.sort_unstable();
    images.dedup();
    let mut scored: Vec<(f64, Vec<Outcome>)> = Vec::new();
    for image in images {
        let mut there: Vec<&Target> = targets.iter().filter(|t| t.image == image).copied().collect();
        there.sort_by_key(|t| t.crowd);
        let mut found: Vec<&Detection> = detections.iter().filter(|d| d.image == image).copied().collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found.truncate(most);
        let outcomes: Vec<Vec<Outcome>> =
            thresholds().into_iter().map(|t| matched(&there, &found, t)).collect();
        for (i, detection) in found.iter().enumerate() {
            scored.push((detection.score, outcomes.iter().map(|o| o[i]).collect()));
        }
    }
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (precision, recall) = (0..10).map(|t| average(&scored, t, count)).unzip();
    Some(Curve { precision, recall })
}

/// Each detection, surest first, takes the free target with the largest IoU of at least `threshold`;
/// crowds are looked at only when no target fits.
fn matched(targets: &[&Target], detections: &[&Detection], threshold: f64) -> Vec<Outcome> {
    let mut taken = vec![false; targets.len()];
    let pick = |detection: &&Detection| {
        let (mut best, mut chosen) = (threshold.min(1.0 - 1e-10), None::<usize>);
        for (g, target) in targets.iter().enumerate() {
            if taken[g] && !target.crowd {
                continue;
            }
            if target.crowd && chosen.is_some_and(|c| !targets[c].crowd) {
                break;
            }
            let overlap = iou(detection.bounds, target.bounds, target.crowd);
            if overlap >= best {
                (best, chosen) = (overlap, Some(g));
            }
        }
        match chosen {
            Some(g) => {
                taken[g] = true;
                if targets[g].crowd { Outcome::Ignored } else { Outcome::Hit }
            }
            None => Outcome::Miss,
        }
    };
    detections.iter().map(pick).collect()
}

/// 101-point average precision and the last recall at one threshold.
fn average(scored: &[(f64, Vec<Outcome>)], threshold: usize, count: f64) -> (f64, f64) {
    let (mut hits, mut misses) = (0.0, 0.0);
    let (mut recall, mut precision) = (Vec::new(), Vec::new());
    // Ignored detections leave both counts as they are, which repeats a point.
    for (_, outcomes) in scored {
        match outcomes[threshold] {
            Outcome::Hit => hits += 1.0,
            Outcome::Miss => misses += 1.0,
            Outcome::Ignored => {}
        }
        recall.push(hits / count);
        precision.push(hits / (hits + misses + f64::EPSILON));
    }
    for i in (1..precision.len()).rev() {
        precision[i - 1] = precision[i - 1].max(precision[i]);
    }
    // Points as numpy's linspace makes them, so that a recall of exactly 0.29 falls on the same side.
    let at = |i: u32| {
        let wanted = if i == 100 { 1.0 } else { f64::from(i) * 0.01 };
        precision.get(recall.partition_point(|r| *r < wanted)).copied().unwrap_or(0.0)
    };
    ((0..=100).map(at).sum::<f64>() / 101.0, recall.last().copied().unwrap_or(0.0))
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
}
