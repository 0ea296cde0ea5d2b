//! Distances between two surfaces: HD95, NSD, ASSD.
//!
//! Convention `surfel`: surfaces are the area-weighted elements of the dual grid (see `surfels`), as in
//! DeepMind's surface-distance (Nikolov et al. 2018, JMIR 2021). Tools that measure from border
//! voxel to border voxel give other numbers. Differs: nothing in the values; distances are
//! searched outwards from each element instead of read from a distance map of the whole box.

use crate::surfels::{Surface, extract};
use crate::{Entry, Score};
use galen_kernels::distance::squared_distance;
use rayon::prelude::*;
use std::sync::Arc;

/// Normalised surface distance (surface Dice) at the tolerance of the evaluation.
pub static NSD: Entry = Entry {
    id: "nsd",
    convention: "nsd/surfel",
    name: "NSD",
    unit: "",
    definition: "area of both surfaces within the tolerance of the other surface / area of both surfaces",
    range: [0.0, 1.0],
    best: 1.0,
    empty: "both empty: undefined, counted apart; one empty: 0",
    pitfall: "means nothing without its tolerance: choose the disagreement between experts in mm",
    source: "Nikolov et al. 2021; recommended in Metrics Reloaded (Maier-Hein et al. 2024)",
    score: |evidence| evidence.surface.nsd,
};

/// Robust Hausdorff distance.
pub static HD95: Entry = Entry {
    id: "hd95",
    convention: "hd95/surfel",
    name: "HD95",
    unit: "mm",
    definition: "distance that covers 95 % of a surface's area, the larger of the two directions",
    range: [0.0, f64::INFINITY],
    best: 0.0,
    empty: "both empty: undefined, counted apart; one empty: infinite, counted apart",
    pitfall: "conventions differ by 10 % between tools, and a far speck of less than 5 % of the surface goes unseen",
    source: "Huttenlocher et al. 1993; area-weighted as Nikolov et al. 2021",
    score: |evidence| evidence.surface.hd95,
};

/// Average symmetric surface distance.
pub static ASSD: Entry = Entry {
    id: "assd",
    convention: "assd/surfel",
    name: "ASSD",
    unit: "mm",
    definition: "area-weighted mean distance of both surfaces to the other one, pooled",
    range: [0.0, f64::INFINITY],
    best: 0.0,
    empty: "both empty: undefined, counted apart; one empty: infinite, counted apart",
    pitfall: "half the value of tools that measure between border voxels when surfaces lie within a voxel",
    source: "Heimann et al. 2009; area-weighted as Nikolov et al. 2021",
    score: |evidence| evidence.surface.assd,
};

/// What the surfaces of one label say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SurfaceScores {
    /// Surface Dice.
    pub nsd: Score,
    /// 95th percentile in mm.
    pub hd95: Score,
    /// Mean in mm.
    pub assd: Score,
}

impl Default for SurfaceScores {
    fn default() -> Self {
        Self { nsd: Score::Undefined, hd95: Score::Undefined, assd: Score::Undefined }
    }
}

/// Two masks in one box with a voxel of background around: `[z, y, x]` of `size`, values 0 and 1.
/// A flat box has one slice and no background above and below.
pub struct Masks {
    /// Voxels of the box, `(z, y, x)`.
    pub size: [usize; 3],
    /// Millimetres per voxel, `(z, y, x)`.
    pub spacing: [f64; 3],
    /// Two-dimensional: surfaces are outlines.
    pub flat: bool,
    /// Area per code, from [`areas`](crate::surfels::areas) for this spacing.
    pub areas: Arc<Vec<f64>>,
    /// Reference mask.
    pub reference: Vec<u8>,
    /// Predicted mask.
    pub prediction: Vec<u8>,
}

/// One surface and the distances from its elements to the other surface.
pub struct Side {
    /// Area of each element in mm².
    areas: Vec<f64>,
    /// Squared distance of each element in mm²; infinite when there is no other surface.
    squared: Vec<f64>,
}

impl Side {
    /// Area of the surface in mm².
    pub fn area(&self) -> f64 {
        self.areas.iter().sum()
    }

    /// Area within `tolerance` mm of the other surface.
    pub fn within(&self, tolerance: f64) -> f64 {
        // Distances are sums of rounded products: 3 × 0.1 is within 0.3.
        let reach = tolerance * (1.0 + 1e-6);
        self.areas.iter().zip(&self.squared).filter(|(_, d)| d.sqrt() <= reach).map(|(a, _)| a).sum()
    }

    /// Area-weighted mean distance in mm.
    pub fn mean(&self) -> f64 {
        let weighted: f64 = self.areas.iter().zip(&self.squared).map(|(a, d)| a * d.sqrt()).sum();
        weighted / self.area()
    }

    /// Distance in mm that covers `fraction` of the area.
    pub fn percentile(&self, fraction: f64) -> f64 {
        weighted_percentile(&self.squared, &self.areas, fraction * self.area()).sqrt()
    }
}

/// Surfaces of reference and prediction, each with its distances to the other.
pub fn surfaces(masks: &Masks) -> [Side; 2] {
    let surface = |mask: &[u8]| extract(mask, masks.size, &masks.areas, masks.flat);
    let (reference, prediction) = rayon::join(|| surface(&masks.reference), || surface(&masks.prediction));
    let [nz, ny, nx] = masks.size;
    let cells = Cells { size: [if masks.flat { 1 } else { nz - 1 }, ny - 1, nx - 1], spacing: masks.spacing };
    let from = |own: &Surface, other: &Surface| match (own.cells.is_empty(), other.cells.is_empty()) {
        (false, true) => vec![f64::INFINITY; own.cells.len()],
        (true, _) => Vec::new(),
        _ => cells.squared_distances(own, other),
    };
    let (there, back) = rayon::join(|| from(&reference, &prediction), || from(&prediction, &reference));
    [Side { areas: reference.areas, squared: there }, Side { areas: prediction.areas, squared: back }]
}

/// Distances in mm from each voxel of `from` to the nearest of `to`, both in array order on a grid of `size`.
pub(crate) fn voxel_distances(
    from: Vec<[u32; 3]>,
    to: Vec<[u32; 3]>,
    size: [usize; 3],
    spacing: [f64; 3],
) -> [Vec<f64>; 2] {
    let surface = |cells| Surface { cells, areas: Vec::new() };
    let (from, to) = (surface(from), surface(to));
    let cells = Cells { size, spacing };
    let root = |squared: Vec<f64>| squared.into_iter().map(f64::sqrt).collect();
    let (there, back) = rayon::join(
        || root(cells.squared_distances(&from, &to)),
        || root(cells.squared_distances(&to, &from)),
    );
    [there, back]
}

/// Compares the surfaces of two masks; distances up to `tolerance` (mm) count as agreement.
pub fn compare(masks: &Masks, tolerance: f64) -> SurfaceScores {
    let [reference, prediction] = surfaces(masks);
    match (reference.areas.is_empty(), prediction.areas.is_empty()) {
        (true, true) => return SurfaceScores::default(),
        (false, false) => {}
        _ => return SurfaceScores { nsd: Score::Value(0.0), hd95: Score::Infinite, assd: Score::Infinite },
    }
    let (a, b) = (reference.area(), prediction.area());
    SurfaceScores {
        nsd: Score::Value((reference.within(tolerance) + prediction.within(tolerance)) / (a + b)),
        hd95: Score::Value(reference.percentile(0.95).max(prediction.percentile(0.95))),
        assd: Score::Value((reference.mean() * a + prediction.mean() * b) / (a + b)),
    }
}

/// Smallest value at which the weights of all smaller or equal values reach `goal`.
fn weighted_percentile(values: &[f64], weights: &[f64], goal: f64) -> f64 {
    const BINS: usize = 4096;
    let most = values.iter().copied().fold(0.0, f64::max);
    if most == 0.0 {
        return 0.0;
    }
    let bin = |v: f64| ((v / most * (BINS - 1) as f64) as usize).min(BINS - 1);
    let mut weight = vec![0.0; BINS];
    values.iter().zip(weights).for_each(|(&v, w)| weight[bin(v)] += w);
    let (mut reached, mut chosen) = (0.0, BINS - 1);
    for (b, w) in weight.iter().enumerate() {
        if reached + w >= goal {
            chosen = b;
            break;
        }
        reached += w;
    }
    let mut inside: Vec<(f64, f64)> =
        values.iter().copied().zip(weights.iter().copied()).filter(|(v, _)| bin(*v) == chosen).collect();
    inside.sort_by(|a, b| a.0.total_cmp(&b.0));
    for &(value, w) in &inside {
        reached += w;
        if reached >= goal {
            return value;
        }
    }
    inside.last().map_or(most, |&(value, _)| value)
}

/// Grid of cells on which both surfaces lie.
struct Cells {
    size: [usize; 3],
    spacing: [f64; 3],
}

/// No site in this row of cells.
const NONE: u16 = u16::MAX;

/// Elements that are searched together; the unit of parallel work.
const BATCH: usize = 4096;

/// Rows that a batch may look at on average per element before a distance map is cheaper.
const PATIENCE: usize = 600;

impl Cells {
    /// Squared distance in mm² from each element of `from` to the nearest element of `to`.
    fn squared_distances(&self, from: &Surface, to: &Surface) -> Vec<f64> {
        if self.size[2] >= usize::from(NONE) {
            return self.by_map(&from.cells, to);
        }
        let rows = self.row_distances(to);
        let spiral = Spiral::new(self);
        let batches: Vec<Result<Vec<f64>, &[[u32; 3]]>> = from
            .cells
            .par_chunks(BATCH)
            .map(|batch| self.search(batch, &rows, &spiral).ok_or(batch))
            .collect();
        let map = batches.iter().any(Result::is_err).then(|| self.map(to));
        let mut squared = Vec::with_capacity(from.cells.len());
        for batch in batches {
            match (batch, &map) {
                (Ok(found), _) => squared.extend(found),
                (Err(cells), Some(map)) => {
                    squared.extend(cells.iter().map(|&c| f64::from(map[self.index(c)])))
                }
                (Err(_), None) => unreachable!("the map exists when a batch gave up"),
            }
        }
        squared
    }

    fn index(&self, [z, y, x]: [u32; 3]) -> usize {
        (z as usize * self.size[1] + y as usize) * self.size[2] + x as usize
    }

    fn map(&self, to: &Surface) -> Vec<f32> {
        let mut sites = vec![0u8; self.size.iter().product()];
        to.cells.iter().for_each(|&cell| sites[self.index(cell)] = 1);
        squared_distance(&sites, self.size, self.spacing)
    }

    fn by_map(&self, from: &[[u32; 3]], to: &Surface) -> Vec<f64> {
        let map = self.map(to);
        from.iter().map(|&cell| f64::from(map[self.index(cell)])).collect()
    }

    /// Cells along x to the nearest element in the same row, for every cell.
    fn row_distances(&self, to: &Surface) -> Vec<u16> {
        let nx = self.size[2];
        let mut distances = vec![NONE; self.size.iter().product()];
        for row in to.cells.chunk_by(|a, b| a[..2] == b[..2]) {
            let first = self.index([row[0][0], row[0][1], 0]);
            let line = &mut distances[first..first + nx];
            let mut start = 0;
            for (i, site) in row.iter().enumerate() {
                let x = site[2] as usize;
                let end = row.get(i + 1).map_or(nx, |next| (x + next[2] as usize) / 2 + 1);
                for (step, cell) in line[start..end].iter_mut().enumerate() {
                    *cell = (start + step).abs_diff(x) as u16;
                }
                start = end;
            }
        }
        distances
    }

    /// Looks outwards from each cell, row by row in order of distance; `None` when that takes too long.
    fn search(&self, batch: &[[u32; 3]], rows: &[u16], spiral: &Spiral) -> Option<Vec<f64>> {
        let [nz, ny, nx] = self.size.map(|n| n as i64);
        let mut left = PATIENCE * batch.len();
        let mut found = Vec::with_capacity(batch.len());
        for cell in batch {
            let [z, y, x] = cell.map(i64::from);
            let mut best = f64::INFINITY;
            for step in &spiral.steps {
                if step.squared >= best {
                    break;
                }
                left = left.checked_sub(1)?;
                let (z, y) = (z + i64::from(step.z), y + i64::from(step.y));
                if z < 0 || z >= nz || y < 0 || y >= ny {
                    continue;
                }
                let along = rows[((z * ny + y) * nx + x) as usize];
                if along != NONE {
                    let mm = f64::from(along) * self.spacing[2];
                    best = best.min(step.squared + mm * mm);
                }
            }
            if best > spiral.reach {
                return None;
            }
            found.push(best);
        }
        Some(found)
    }
}

/// Offsets to other rows of cells, nearest first.
struct Spiral {
    steps: Vec<Step>,
    /// Squared distance in mm² below which no row is missing.
    reach: f64,
}

struct Step {
    squared: f64,
    z: i32,
    y: i32,
}

impl Spiral {
    /// All offsets within 16 cells of the coarser axis, or within the grid if that is smaller.
    fn new(cells: &Cells) -> Self {
        let [sz, sy, _] = cells.spacing;
        let radius = if cells.size[0] == 1 { 64.0 * sy } else { 16.0 * sz.max(sy) };
        let most = |n: usize, s: f64| ((radius / s) as i32).min(n as i32 - 1);
        let (mz, my) = (most(cells.size[0], sz), most(cells.size[1], sy));
        let complete = mz as usize + 1 == cells.size[0] && my as usize + 1 == cells.size[1];
        let reach = if complete { f64::INFINITY } else { radius * radius };
        let mut steps: Vec<Step> = (-mz..=mz)
            .flat_map(|z| (-my..=my).map(move |y| (z, y)))
            .map(|(z, y)| Step { squared: (f64::from(z) * sz).powi(2) + (f64::from(y) * sy).powi(2), z, y })
            .filter(|step| step.squared <= reach)
            .collect();
        steps.sort_by(|a, b| a.squared.total_cmp(&b.squared));
        Self { steps, reach }
    }
}
