//! One pair of masks measured as several tools measure it.
//!
//! Border-voxel distances (MONAI, MetricsReloaded, MedPy) and area-weighted surface elements (DeepMind) are each
//! computed once; a convention only decides how they are summed up, and what an empty mask gives.

use super::Pair;
use super::border::{self, BorderDistances, percentile};
pub use super::definitions::DEFINITIONS;
use super::skeleton::skeletonize;
use crate::measures::{Measures, ratio};
use crate::surface::{Masks, Side, surfaces};
use crate::surfels::areas;
use galen_kernels::distance::squared_distance;

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

/// Every number of a pair; distances up to `tolerance` mm count as agreement.
pub fn measure(pair: &Pair, tolerance: f64) -> Measures {
    let mut m = Measures::default();
    overlap(pair, &mut m);
    let count = |mask: &[u8]| mask.iter().filter(|v| **v != 0).count();
    let empty = [&pair.reference, &pair.prediction].map(|mask| count(mask) == 0);
    // What each tool says about a distance when a mask is empty.
    let absent = match empty {
        [true, true] => {
            Some(Absent { monai: NAN, metrics_reloaded: 0.0, deepmind: NAN, agreement: [NAN, 1.0] })
        }
        [false, false] => None,
        _ => Some(Absent { monai: INF, metrics_reloaded: NAN, deepmind: INF, agreement: [0.0, 0.0] }),
    };
    let cropped = pair.cropped();
    let present = cropped.as_ref().filter(|_| absent.is_none());
    let distances = present.map(border::distances);
    voxel_distances(distances, absent.as_ref(), tolerance, &mut m);
    surfels(pair, cropped.as_ref(), absent.as_ref(), tolerance, &mut m);
    itk(present, &mut m);
    m.put("boundary-iou/d2vox/metricsreloaded", cropped.as_ref().map_or(1.0, |c| boundary_iou(c, 2.0)));
    let (precision, recall) = cropped.as_ref().map_or((NAN, NAN), centre_lines);
    let both = precision + recall;
    m.put("cldice/lee-skimage", if both == 0.0 { 0.0 } else { 2.0 * precision * recall / both });
    m.put("skeleton-recall/lee-skimage", recall);
    m.put("centre-distance-mm", centre_distance(pair));
    m
}

struct Absent {
    monai: f64,
    metrics_reloaded: f64,
    deepmind: f64,
    /// Surface agreement of MONAI and DeepMind, and of MetricsReloaded.
    agreement: [f64; 2],
}

fn overlap(pair: &Pair, m: &mut Measures) {
    let (mut both, mut r, mut p) = (0u64, 0u64, 0u64);
    for (a, b) in pair.reference.iter().zip(&pair.prediction) {
        both += u64::from(a & b);
        r += u64::from(*a);
        p += u64::from(*b);
    }
    let (both, r, p) = (both as f64, r as f64, p as f64);
    let (dice, iou) = (ratio(2.0 * both, r + p), ratio(both, r + p - both));
    let none = r + p == 0.0;
    m.put("dice/medpy", dice);
    m.put("dice/monai", if r == 0.0 { NAN } else { dice });
    m.put("dice/metricsreloaded", if none { 1.0 } else { dice });
    m.put("dice/nnunet", dice);
    m.put("dice/itk", if none { INF } else { dice });
    m.put("iou/metricsreloaded", iou);
    m.put("iou/nnunet", iou);
    m.put("voe", 1.0 - iou);
    m.put("sensitivity-voxel", ratio(both, r));
    m.put("ppv-voxel", ratio(both, p));
    m.put("pixel-accuracy", 1.0 - (r + p - 2.0 * both) / pair.reference.len() as f64);
    m.put("volume-similarity", if none { 1.0 } else { 1.0 - (p - r).abs() / (p + r) });
    m.put("volume-similarity/itk", ratio(2.0 * (p - r), p + r));
    m.put("volume-ml/pred", p * pair.voxel_ml());
    m.put("volume-ml/ref", r * pair.voxel_ml());
}

fn voxel_distances(
    distances: Option<BorderDistances>,
    absent: Option<&Absent>,
    tolerance: f64,
    m: &mut Measures,
) {
    let Some(BorderDistances { from_prediction: mut p, from_reference: mut r }) = distances else {
        let Some(absent) = absent else { return };
        let (monai, reloaded) = (absent.monai, absent.metrics_reloaded);
        m.put("hd/voxel/monai", monai);
        m.put("hd/voxel/metricsreloaded", reloaded);
        m.put("hd/voxel/medpy", NAN);
        m.put("hd95/max-directed/voxel/monai", NAN);
        m.put("hd95/max-directed/voxel/metricsreloaded", reloaded);
        m.put("hd95/pooled/voxel/medpy", NAN);
        m.put("asd/pred-to-ref/voxel/monai", monai);
        m.put("assd/pooled/voxel/monai", monai);
        m.put("assd/pooled/voxel/metricsreloaded", reloaded);
        m.put("assd/pooled/voxel/medpy", NAN);
        m.put("masd/voxel/metricsreloaded", reloaded);
        m.put("nsd/voxel/monai", absent.agreement[0]);
        m.put("nsd/voxel/metricsreloaded", absent.agreement[1]);
        return;
    };
    let (np, nr) = (p.len() as f64, r.len() as f64);
    let (sp, sr): (f64, f64) = (p.iter().sum(), r.iter().sum());
    let most = p.iter().chain(&r).copied().fold(0.0, f64::max);
    // Distances are sums of rounded products: 3 x 0.1 is within 0.3.
    let within = |d: &[f64]| d.iter().filter(|d| **d <= tolerance * (1.0 + 1e-6)).count() as f64;
    let nsd = (within(&p) + within(&r)) / (np + nr);
    let assd = (sp + sr) / (np + nr);
    let hd95 = percentile(&mut p, 0.95).max(percentile(&mut r, 0.95));
    p.extend(&r);
    let pooled = percentile(&mut p, 0.95);
    m.put("hd/voxel/monai", most);
    m.put("hd/voxel/metricsreloaded", most);
    m.put("hd/voxel/medpy", most);
    m.put("hd95/max-directed/voxel/monai", hd95);
    m.put("hd95/max-directed/voxel/metricsreloaded", hd95);
    m.put("hd95/pooled/voxel/medpy", pooled);
    m.put("asd/pred-to-ref/voxel/monai", sp / np);
    m.put("assd/pooled/voxel/monai", assd);
    m.put("assd/pooled/voxel/metricsreloaded", assd);
    m.put("assd/pooled/voxel/medpy", assd);
    m.put("masd/voxel/metricsreloaded", (sp / np + sr / nr) / 2.0);
    m.put("nsd/voxel/monai", nsd);
    m.put("nsd/voxel/metricsreloaded", nsd);
}

fn surfels(pair: &Pair, cropped: Option<&Pair>, absent: Option<&Absent>, tolerance: f64, m: &mut Measures) {
    let sides = cropped.map(|c| {
        surfaces(&Masks {
            size: c.size,
            spacing: c.spacing,
            flat: c.flat,
            areas: areas(pair.spacing, pair.flat).into(),
            reference: c.reference.clone(),
            prediction: c.prediction.clone(),
        })
    });
    let area = |side: usize| sides.as_ref().map_or(0.0, |s| s[side].area());
    if let Some(absent) = absent {
        m.put("nsd/surfel/deepmind", absent.agreement[0]);
        for id in ["hd/surfel/deepmind", "hd95/surfel/deepmind", "asd/pred-to-ref/surfel/deepmind"] {
            m.put(id, absent.deepmind);
        }
        m.put("asd/ref-to-pred/surfel/deepmind", absent.deepmind);
        m.put("assd/surfel", absent.deepmind);
    } else if let Some([reference, prediction]) = &sides {
        let worst = |fraction: f64| reference.percentile(fraction).max(prediction.percentile(fraction));
        let all = reference.area() + prediction.area();
        let weighted = |side: &Side| side.mean() * side.area();
        m.put("nsd/surfel/deepmind", (reference.within(tolerance) + prediction.within(tolerance)) / all);
        m.put("hd/surfel/deepmind", worst(1.0));
        m.put("hd95/surfel/deepmind", worst(0.95));
        m.put("asd/pred-to-ref/surfel/deepmind", prediction.mean());
        m.put("asd/ref-to-pred/surfel/deepmind", reference.mean());
        m.put("assd/surfel", (weighted(reference) + weighted(prediction)) / all);
    }
    m.put("surface-area-mm2/ref", area(0));
    m.put("surface-area-mm2/pred", area(1));
}

fn itk(present: Option<&Pair>, m: &mut Measures) {
    let directed = |own: &[u8], other: &[u8], pair: &Pair| {
        let map = squared_distance(other, pair.size, pair.spacing);
        let distances = own.iter().zip(map).filter(|(v, _)| **v != 0).map(|(_, d)| f64::from(d).sqrt());
        let (most, sum, n) =
            distances.fold((0.0f64, 0.0, 0.0), |(most, sum, n), d| (most.max(d), sum + d, n + 1.0));
        (most, sum / n)
    };
    let (most, mean) = present.map_or((NAN, NAN), |pair| {
        let there = directed(&pair.prediction, &pair.reference, pair);
        let back = directed(&pair.reference, &pair.prediction, pair);
        (there.0.max(back.0), (there.1 + back.1) / 2.0)
    });
    m.put("hd/itk", most);
    m.put("hd-average/itk", mean);
}

/// IoU of the bands of voxels that lie less than `width` voxels from the border of their mask.
fn boundary_iou(pair: &Pair, width: f64) -> f64 {
    let band = |mask: &[u8]| -> Vec<bool> {
        let edge = border::border(mask, pair.size, pair.flat);
        let map = squared_distance(&edge, pair.size, [1.0; 3]);
        mask.iter().zip(map).map(|(v, d)| *v != 0 && f64::from(d).sqrt() < width).collect()
    };
    let (a, b) = (band(&pair.reference), band(&pair.prediction));
    let both = a.iter().zip(&b).filter(|(x, y)| **x && **y).count() as f64;
    let either = a.iter().zip(&b).filter(|(x, y)| **x || **y).count() as f64;
    ratio(both, either)
}

/// Shares of the prediction's skeleton in the reference and of the reference's in the prediction.
fn centre_lines(pair: &Pair) -> (f64, f64) {
    let share = |own: &[u8], other: &[u8]| {
        let line = skeletonize(own, pair.size);
        let inside = line.iter().zip(other).filter(|(l, o)| **l != 0 && **o != 0).count() as f64;
        ratio(inside, line.iter().filter(|l| **l != 0).count() as f64)
    };
    rayon::join(|| share(&pair.prediction, &pair.reference), || share(&pair.reference, &pair.prediction))
}

fn centre_distance(pair: &Pair) -> f64 {
    let [_, ny, nx] = pair.size;
    let centre = |mask: &[u8]| {
        let (mut sum, mut n) = ([0.0; 3], 0.0);
        for (i, _) in mask.iter().enumerate().filter(|(_, v)| **v != 0) {
            let at = [i / (ny * nx), i / nx % ny, i % nx];
            (0..3).for_each(|axis| sum[axis] += at[axis] as f64);
            n += 1.0;
        }
        sum.map(|s| ratio(s, n))
    };
    let (a, b) = (centre(&pair.reference), centre(&pair.prediction));
    (0..3).map(|axis| ((a[axis] - b[axis]) * pair.spacing[axis]).powi(2)).sum::<f64>().sqrt()
}
