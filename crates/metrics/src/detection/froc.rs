//! Free-response ROC: sensitivity against false positives per image.

use crate::measures::{Definition, Measures, define};
use galen_core::{Error, Result};

/// Definitions of the ids of `--kind froc`.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "froc/camelyon points/linear interp (monai)",
        "mean sensitivity at 1/4, 1/2, 1, 2, 4, 8 false positives per image, linear between the points of the curve, flat beyond its ends",
        "0..1",
        "no candidate: 0",
        "the lowest score is no threshold, so the curve ends one step early",
        "MONAI compute_froc_score",
    ),
    define(
        "froc/luna16 points/linear interp (monai)",
        "the same at 1/8, 1/4, 1/2, 1, 2, 4, 8",
        "0..1",
        "no candidate: 0",
        "LUNA16 also removes excluded findings first",
        "MONAI compute_froc_score(eval_thresholds)",
    ),
    define(
        "froc/luna16 points/last step",
        "the same, sensitivity of the last threshold with at most that many false positives; every score is a threshold",
        "0..1",
        "no candidate: 0",
        "differs from interpolation with few images",
        "own",
    ),
    define(
        "sensitivity/all candidates",
        "targets hit / targets",
        "0..1",
        "0 without candidates",
        "blind to false positives",
        "count",
    ),
    define(
        "fppi/all candidates",
        "false candidates / images",
        "0..inf",
        "0 without candidates",
        "depends on where the detector stops",
        "count",
    ),
];

/// Camelyon's false positives per image.
pub const CAMELYON: &[f64] = &[0.25, 0.5, 1.0, 2.0, 4.0, 8.0];
/// LUNA16's false positives per image.
pub const LUNA16: &[f64] = &[0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];

/// Scores of candidates that hit a target (the best per target) and of those that do not.
#[derive(Debug, Clone)]
pub struct Candidates {
    hits: Vec<f64>,
    misses: Vec<f64>,
    targets: usize,
    images: usize,
}

impl Candidates {
    /// Takes a score and, for a hit, the name of its target per candidate. Of several hits of one target the
    /// surest counts and the others count as nothing; an empty name is a target of its own.
    pub fn new(candidates: &[(f64, Option<String>)], targets: usize, images: usize) -> Result<Self> {
        if targets == 0 || images == 0 {
            let what = format!("{targets} targets in {images} images");
            return Err(Error::input(
                "--targets, --images",
                what,
                "give how many targets and images there are in all",
            ));
        }
        if let Some(row) = candidates.iter().position(|(score, _)| score.is_nan()) {
            return Err(Error::input(
                format!("row {}", row + 1),
                "the score is no number",
                "give a score per candidate",
            ));
        }
        let mut best = std::collections::BTreeMap::<&str, f64>::new();
        let (mut hits, mut misses) = (Vec::new(), Vec::new());
        for (score, target) in candidates {
            match target.as_deref() {
                None => misses.push(*score),
                Some("") => hits.push(*score),
                Some(name) => {
                    let best = best.entry(name).or_insert(f64::NEG_INFINITY);
                    *best = best.max(*score);
                }
            }
        }
        hits.extend(best.values());
        if hits.len() > targets {
            let what = format!("{} targets are hit, but there are {targets}", hits.len());
            return Err(Error::input(
                "--targets",
                what,
                "count all targets, or name them in a column `target`",
            ));
        }
        Ok(Self { hits, misses, targets, images })
    }

    /// Every number of the family.
    pub fn measure(&self) -> Measures {
        let mut m = Measures::default();
        let mean = |points: &[f64], at: &dyn Fn(f64) -> f64| {
            points.iter().map(|p| at(*p)).sum::<f64>() / points.len() as f64
        };
        let curve = self.curve(true);
        m.put("froc/camelyon points/linear interp (monai)", mean(CAMELYON, &|x| interpolated(&curve, x)));
        m.put("froc/luna16 points/linear interp (monai)", mean(LUNA16, &|x| interpolated(&curve, x)));
        let steps = self.curve(false);
        let last = |x: f64| steps[..steps.partition_point(|p| p.0 <= x)].last().map_or(0.0, |p| p.1);
        m.put("froc/luna16 points/last step", mean(LUNA16, &last));
        m.put("sensitivity/all candidates", self.hits.len() as f64 / self.targets as f64);
        m.put("fppi/all candidates", self.misses.len() as f64 / self.images as f64);
        m
    }

    /// Points (false positives per image, sensitivity) with every score as a threshold, fewest false positives first.
    pub fn points(&self) -> Vec<(f64, f64)> {
        self.curve(false)
    }

    /// Points (false positives per image, sensitivity), fewest false positives first.
    fn curve(&self, without_lowest: bool) -> Vec<(f64, f64)> {
        let mut scores: Vec<f64> = self.hits.iter().chain(&self.misses).copied().collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        scores.dedup();
        if without_lowest {
            scores.pop();
        }
        let count = |of: &[f64], threshold: f64| of.iter().filter(|s| **s >= threshold).count() as f64;
        let point = |&t: &f64| {
            (count(&self.misses, t) / self.images as f64, count(&self.hits, t) / self.targets as f64)
        };
        std::iter::once((0.0, 0.0)).chain(scores.iter().map(point)).collect()
    }
}

/// Linear between points, flat beyond the ends; of points at the same place the last one counts to the right.
fn interpolated(curve: &[(f64, f64)], x: f64) -> f64 {
    let after = curve.partition_point(|p| p.0 <= x);
    match (curve[..after].last(), curve.get(after)) {
        (Some(a), Some(b)) => a.1 + (b.1 - a.1) * (x - a.0) / (b.0 - a.0),
        (Some(a), None) => a.1,
        (None, _) => curve[0].1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_hit_twice_counts_once() {
        let hit = |name: &str| Some(name.to_owned());
        let rows = [(0.9, hit("a")), (0.8, hit("a")), (0.7, None), (0.6, hit("b"))];
        let m = Candidates::new(&rows, 2, 1).unwrap().measure();
        assert_eq!((m.number("sensitivity/all candidates"), m.number("fppi/all candidates")), (1.0, 1.0));
        assert_eq!(m.number("froc/luna16 points/last step"), (3.0 * 0.5 + 4.0) / 7.0);
        assert!(Candidates::new(&rows, 1, 1).is_err() && Candidates::new(&rows, 2, 0).is_err());
    }
}
