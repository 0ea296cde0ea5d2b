//! Voxel counts per label or region, and where each label lies.
//!
//! One pass over both label maps fills a joint histogram (reference value × predicted value), from
//! which the counts of any region follow. Voxels that the reference marks as `ignore` are left out.

use galen_core::{LabelMap, LabelVoxels, Labels};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Agreement of two masks, in voxels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// In both.
    pub tp: u64,
    /// In the prediction only.
    pub fp: u64,
    /// In the reference only.
    pub fn_: u64,
    /// In neither.
    pub tn: u64,
}

impl Counts {
    /// Counts of two masks of equal length.
    pub fn of(reference: &[bool], prediction: &[bool]) -> Self {
        let mut counts = Self::default();
        for pair in reference.iter().zip(prediction) {
            match pair {
                (true, true) => counts.tp += 1,
                (false, true) => counts.fp += 1,
                (true, false) => counts.fn_ += 1,
                (false, false) => counts.tn += 1,
            }
        }
        counts
    }

    /// Voxels of the reference mask.
    pub fn reference(&self) -> u64 {
        self.tp + self.fn_
    }

    /// Voxels of the predicted mask.
    pub fn prediction(&self) -> u64 {
        self.tp + self.fp
    }
}

/// Half-open box in index order `(z, y, x)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// First index per axis.
    pub low: [usize; 3],
    /// One past the last index per axis.
    pub high: [usize; 3],
}

impl Bounds {
    const NOTHING: Self = Self { low: [usize::MAX; 3], high: [0; 3] };

    /// True when no voxel is inside.
    pub fn is_empty(&self) -> bool {
        self.high[0] == 0
    }

    /// The smallest box around both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        let mut joined = self;
        for axis in 0..3 {
            joined.low[axis] = joined.low[axis].min(other.low[axis]);
            joined.high[axis] = joined.high[axis].max(other.high[axis]);
        }
        joined
    }

    fn take_row(&mut self, z: usize, y: usize, x: [usize; 2]) {
        *self = self.union(Self { low: [z, y, x[0]], high: [z + 1, y + 1, x[1]] });
    }
}

/// Joint histogram of two label maps over the values of a dataset, with a box per value.
pub(crate) struct Joint {
    /// Values of the dataset, ascending, background first.
    values: Vec<u16>,
    /// `[reference slot, prediction slot]`; the last slot stands for values the dataset does not name.
    pairs: Vec<u64>,
    bounds: Vec<Bounds>,
}

impl Joint {
    /// Counts both maps, which must have the same size.
    pub(crate) fn of(reference: &LabelMap, prediction: &LabelMap, labels: &Labels) -> Self {
        let size = reference.geometry.size;
        match (&reference.voxels, &prediction.voxels) {
            (LabelVoxels::U8(r), LabelVoxels::U8(p)) => count(r, p, size, labels),
            _ => count(&reference.values(), &prediction.values(), size, labels),
        }
    }

    fn slot(&self, value: u16) -> usize {
        self.values.binary_search(&value).unwrap_or(self.values.len())
    }

    /// Counts of the region made of `values`.
    pub(crate) fn counts(&self, values: &[u16]) -> Counts {
        let slots = self.values.len() + 1;
        let mut inside = vec![false; slots];
        for &value in values {
            inside[self.slot(value)] = true;
        }
        let mut counts = Counts::default();
        for r in 0..slots {
            for p in 0..slots {
                let n = self.pairs[r * slots + p];
                match (inside[r], inside[p]) {
                    (true, true) => counts.tp += n,
                    (false, true) => counts.fp += n,
                    (true, false) => counts.fn_ += n,
                    (false, false) => counts.tn += n,
                }
            }
        }
        counts
    }

    /// Voxels of reference and prediction whose value the dataset does not name.
    pub(crate) fn unnamed(&self) -> [u64; 2] {
        let (slots, last) = (self.values.len() + 1, self.values.len());
        let reference = self.pairs[last * slots..].iter().sum();
        [reference, (0..slots).map(|r| self.pairs[r * slots + last]).sum()]
    }

    /// Box around the region in either map.
    pub(crate) fn bounds(&self, values: &[u16]) -> Bounds {
        values.iter().fold(Bounds::NOTHING, |all, &value| all.union(self.bounds[self.slot(value)]))
    }
}

fn count<T>(reference: &[T], prediction: &[T], size: [usize; 3], labels: &Labels) -> Joint
where
    T: Copy + Into<u16> + PartialEq + Sync,
{
    let values = labels.all();
    let slots = values.len() + 1;
    let mut slot_of = vec![(slots - 1) as u16; 65536];
    for (slot, &value) in values.iter().enumerate() {
        slot_of[usize::from(value)] = slot as u16;
    }
    let plane = size[1] * size[2];
    let counter = Counter { slot_of: &slot_of, slots, ignore: labels.ignore() };
    // One part per plane and whole numbers only: the sum does not depend on who adds first.
    let start = || (vec![0u64; slots * slots], vec![Bounds::NOTHING; slots]);
    let (pairs, bounds) = (0..size[0])
        .into_par_iter()
        .fold(start, |(mut pairs, mut bounds), z| {
            for y in 0..size[1] {
                let at = z * plane + y * size[2];
                let row = at..at + size[2];
                counter.row(&reference[row.clone()], &prediction[row], [z, y], &mut pairs, &mut bounds);
            }
            (pairs, bounds)
        })
        .reduce(start, |(mut pairs, mut bounds), (more, boxes)| {
            pairs.iter_mut().zip(more).for_each(|(sum, n)| *sum += n);
            bounds.iter_mut().zip(boxes).for_each(|(all, b)| *all = all.union(b));
            (pairs, bounds)
        });
    Joint { values, pairs, bounds }
}

struct Counter<'a> {
    slot_of: &'a [u16],
    slots: usize,
    ignore: Option<u16>,
}

impl Counter<'_> {
    fn row<T>(
        &self,
        reference: &[T],
        prediction: &[T],
        at: [usize; 2],
        pairs: &mut [u64],
        bounds: &mut [Bounds],
    ) where
        T: Copy + Into<u16> + PartialEq,
    {
        const RUN: usize = 32;
        for (run, (r, p)) in reference.chunks(RUN).zip(prediction.chunks(RUN)).enumerate() {
            let first = run * RUN;
            // Most runs lie in background or deep inside a structure.
            if uniform(r) & uniform(p) {
                self.take(r[0], p[0], at, [first, first + r.len()], pairs, bounds);
                continue;
            }
            let mut x = 0;
            while x < r.len() {
                let same = (x..r.len()).take_while(|&i| r[i] == r[x] && p[i] == p[x]).count();
                self.take(r[x], p[x], at, [first + x, first + x + same], pairs, bounds);
                x += same;
            }
        }
    }

    /// Counts voxels `x[0]..x[1]` of a row, which all have the same pair of values.
    fn take<T: Into<u16>>(
        &self,
        reference: T,
        prediction: T,
        [z, y]: [usize; 2],
        x: [usize; 2],
        pairs: &mut [u64],
        bounds: &mut [Bounds],
    ) {
        let (reference, prediction): (u16, u16) = (reference.into(), prediction.into());
        if self.ignore == Some(reference) {
            return;
        }
        let (r, p) = (
            usize::from(self.slot_of[usize::from(reference)]),
            usize::from(self.slot_of[usize::from(prediction)]),
        );
        pairs[r * self.slots + p] += (x[1] - x[0]) as u64;
        for slot in [r, p] {
            if slot != 0 {
                bounds[slot].take_row(z, y, x);
            }
        }
    }
}

fn uniform<T: Copy + PartialEq>(run: &[T]) -> bool {
    run.iter().fold(true, |same, &v| same & (v == run[0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::{Geometry, LabelValue};

    fn labels() -> Labels {
        let one = |name: &str, value| (name.to_string(), LabelValue::One(value));
        Labels::new(vec![one("background", 0), one("a", 1), one("b", 2), one("ignore", 3)], None).unwrap()
    }

    #[test]
    fn regions_ignore_and_foreign_values_are_counted_as_they_should() {
        let geometry = Geometry::axis_aligned([1, 1, 8], [1.0; 3]);
        let reference = LabelMap::new(geometry.clone(), vec![0, 1, 1, 2, 2, 3, 3, 0]);
        let prediction = LabelMap::new(geometry.clone(), vec![0, 1, 2, 2, 0, 1, 0, 9]);
        let joint = Joint::of(&reference, &prediction, &labels());
        assert_eq!(joint.counts(&[1]), Counts { tp: 1, fp: 0, fn_: 1, tn: 4 });
        assert_eq!(joint.counts(&[1, 2]), Counts { tp: 3, fp: 0, fn_: 1, tn: 2 });
        assert_eq!(joint.bounds(&[1, 2]), Bounds { low: [0, 0, 1], high: [1, 1, 5] });
        let wide = LabelMap { geometry, voxels: LabelVoxels::U16(prediction.values().into()) };
        assert_eq!(Joint::of(&reference, &wide, &labels()).counts(&[2]), joint.counts(&[2]));
    }
}
