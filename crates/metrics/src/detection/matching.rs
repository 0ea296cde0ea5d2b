//! Boxes and which of them belong together, as COCO decides it.

/// A box of the ground truth, on `N / 2` axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Target<const N: usize = 4> {
    /// Image it lies in.
    pub image: i64,
    /// Class.
    pub category: i64,
    /// Corner, then size: x, y, width, height; in volumes x, y, z, width, height, depth.
    pub bounds: [f64; N],
    /// A crowd: any number of detections may match it, and none of them counts.
    pub crowd: bool,
}

/// A box of the results.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection<const N: usize = 4> {
    /// Image it lies in.
    pub image: i64,
    /// Class.
    pub category: i64,
    /// As those of a target.
    pub bounds: [f64; N],
    /// Higher is surer.
    pub score: f64,
}

/// Intersection over union of two boxes; over the detection's own size for a crowd.
pub fn iou<const N: usize>(detection: [f64; N], target: [f64; N], crowd: bool) -> f64 {
    let axes = N / 2;
    let overlap = |axis: usize| {
        let (a, b) = (detection[axis] + detection[axis + axes], target[axis] + target[axis + axes]);
        (a.min(b) - detection[axis].max(target[axis])).max(0.0)
    };
    let shared: f64 = (0..axes).map(overlap).product();
    let size = |bounds: [f64; N]| bounds[axes..].iter().product::<f64>();
    let own = size(detection);
    let whole = if crowd { own } else { own + size(target) - shared };
    if whole > 0.0 { shared / whole } else { 0.0 }
}

/// What a detection turned out to be, per threshold.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Outcome {
    Hit,
    Miss,
    Ignored,
}

/// Numbers of images, sorted.
pub(super) fn images(a: impl Iterator<Item = i64>, b: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut all: Vec<i64> = a.chain(b).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Detections of a class by falling score, each with its outcome per overlap.
pub(super) fn scored<const N: usize>(
    targets: &[Target<N>],
    detections: &[Detection<N>],
    class: i64,
    most: usize,
    overlaps: &[f64],
) -> Vec<(f64, Vec<Outcome>)> {
    let targets: Vec<&Target<N>> = targets.iter().filter(|t| t.category == class).collect();
    let detections: Vec<&Detection<N>> = detections.iter().filter(|d| d.category == class).collect();
    let mut scored: Vec<(f64, Vec<Outcome>)> = Vec::new();
    for image in images(targets.iter().map(|t| t.image), detections.iter().map(|d| d.image)) {
        let mut there: Vec<&Target<N>> = targets.iter().filter(|t| t.image == image).copied().collect();
        there.sort_by_key(|t| t.crowd);
        let mut found: Vec<&Detection<N>> = detections.iter().filter(|d| d.image == image).copied().collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found.truncate(most);
        let outcomes: Vec<Vec<Outcome>> = overlaps.iter().map(|t| matched(&there, &found, *t)).collect();
        for (i, detection) in found.iter().enumerate() {
            scored.push((detection.score, outcomes.iter().map(|o| o[i]).collect()));
        }
    }
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored
}

/// Each detection, surest first, takes the free target with the largest IoU of at least `threshold`;
/// crowds are looked at only when no target fits.
fn matched<const N: usize>(
    targets: &[&Target<N>],
    detections: &[&Detection<N>],
    threshold: f64,
) -> Vec<Outcome> {
    let mut taken = vec![false; targets.len()];
    let pick = |detection: &&Detection<N>| {
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

/// Recall and best precision from there on, after each detection.
pub(super) struct Ranked {
    /// Share of the targets found.
    pub(super) recall: Vec<f64>,
    precision: Vec<f64>,
}

impl Ranked {
    /// After each of `scored`, at one overlap, for `count` targets.
    pub(super) fn new(scored: &[(f64, Vec<Outcome>)], overlap: usize, count: f64) -> Self {
        let (mut hits, mut misses) = (0.0, 0.0);
        let (mut recall, mut precision) = (Vec::new(), Vec::new());
        // Ignored detections leave both counts as they are, which repeats a point.
        for (_, outcomes) in scored {
            match outcomes[overlap] {
                Outcome::Hit => hits += 1.0,
                Outcome::Miss => misses += 1.0,
                Outcome::Ignored => {}
            }
            recall.push(hits / count);
            precision.push(hits / (hits + misses + f64::EPSILON));
        }
        for i in (1..precision.len()).rev() {
            precision[i - 1] = f64::max(precision[i - 1], precision[i]);
        }
        Self { recall, precision }
    }

    /// Mean precision at the recalls 0, 1/steps .. 1.
    pub(super) fn average(&self, steps: u32) -> f64 {
        // Points as numpy's linspace makes them, so that a recall of exactly 0.29 falls on the same side.
        let width = 1.0 / f64::from(steps);
        let at = |i: u32| {
            let wanted = if i == steps { 1.0 } else { f64::from(i) * width };
            self.precision.get(self.recall.partition_point(|r| *r < wanted)).copied().unwrap_or(0.0)
        };
        (0..=steps).map(at).sum::<f64>() / f64::from(steps + 1)
    }

    /// Area under the best precision.
    pub(super) fn area(&self) -> f64 {
        let (mut area, mut before) = (0.0, 0.0);
        for (recall, precision) in self.recall.iter().zip(&self.precision) {
            area += (recall - before) * precision;
            before = *recall;
        }
        area
    }
}
