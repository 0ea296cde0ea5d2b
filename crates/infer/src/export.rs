//! From logits on the network's grid to a label map on the scan's grid.
//!
//! Source: nnU-Net v2.8.1, `export_prediction_from_logits`. Differs: classes are resampled a slab at a time and
//! only the winner is kept, so no volume of all classes exists on the scan's grid unless probabilities
//! are asked for.

use galen_core::{Error, LabelMap, Labels, Result};
use galen_prep::Undo;
use galen_prep::resample::{Decision, LogitSlabs, PlaneSource};
use rayon::prelude::*;

/// Planes that are resampled together: the unit of parallel work.
const SLAB: usize = 8;

/// Logits of one scan on the network's grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    /// Number of classes or regions.
    pub classes: usize,
    /// Voxels of the network's grid, in the network's axis order.
    pub size: [usize; 3],
    /// Values, `[k, z, y, x]`.
    pub values: Vec<f32>,
}

/// Probabilities of every class on the scan's grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Probabilities {
    /// Number of classes (background first) or regions.
    pub classes: usize,
    /// Voxels of the scan, `(z, y, x)`.
    pub size: [usize; 3],
    /// Values `[k, z, y, x]`; outside the cropped box background has 1 and everything else 0.
    pub values: Vec<f32>,
}

/// How logits become labels.
pub struct Export<'a> {
    /// Meaning of the channels.
    pub labels: &'a Labels,
    /// Way back to the scan.
    pub undo: &'a Undo,
    /// From the network's grid to the cropped scan's.
    pub logits: &'a LogitSlabs,
}

/// Voxels of labels, in the narrowest type that holds all that can come.
enum Raw {
    Narrow(Vec<u8>),
    Wide(Vec<u16>),
}

/// A label map on the scan's grid, in the making: planes of the cropped box from the first on.
pub struct Written {
    raw: Raw,
    /// Planes that are decided.
    done: usize,
}

impl Written {
    /// Planes of the cropped box that are decided.
    pub fn done(&self) -> usize {
        self.done
    }
}

impl Export<'_> {
    /// Label map on the scan's grid: the class with the largest logit (the first one on ties), or for
    /// regions the last region of the class order with a probability above one half.
    pub fn label_map(&self, source: &dyn PlaneSource) -> Result<LabelMap> {
        let mut written = self.begin()?;
        self.advance(source, usize::MAX, &mut written);
        Ok(self.finish(written))
    }

    /// An empty map, once model and scan have proved to fit.
    pub fn begin(&self) -> Result<Written> {
        self.check()?;
        let voxels = self.undo.geometry.voxels();
        let order = self.labels.regions_class_order.iter().flatten().copied();
        let most = self.labels.all().into_iter().chain(order).max().unwrap_or(0);
        let raw = if most < 256 { Raw::Narrow(vec![0; voxels]) } else { Raw::Wide(vec![0; voxels]) };
        Ok(Written { raw, done: 0 })
    }

    /// Decides all planes whose logits lie below input plane `ready`.
    pub fn advance(&self, source: &dyn PlaneSource, ready: usize, written: &mut Written) {
        let (area, planes) = (self.area(), self.logits.size()[0]);
        let mut end = written.done;
        while end < planes && self.logits.reads(end)[1] < ready {
            end += 1;
        }
        // Every plane is decided on its own, so the result does not depend on how many are at work.
        let group = SLAB * rayon::current_num_threads();
        let mut cropped = vec![0u16; group.min(end - written.done) * area];
        while written.done < end {
            let first = written.done;
            let count = group.min(end - first);
            let cropped = &mut cropped[..count * area];
            cropped.par_chunks_mut(SLAB * area).enumerate().for_each(|(slab, labels)| {
                self.decide(source, first + slab * SLAB, labels);
            });
            match &mut written.raw {
                Raw::Narrow(raw) => self.places().put(cropped, first, raw, |label| label as u8),
                Raw::Wide(raw) => self.places().put(cropped, first, raw, |label| label),
            }
            written.done += count;
        }
    }

    /// The label map.
    pub fn finish(&self, written: Written) -> LabelMap {
        let geometry = self.undo.geometry.clone();
        match written.raw {
            Raw::Narrow(raw) => LabelMap::new(geometry, raw),
            Raw::Wide(raw) => LabelMap::from_u16(geometry, raw),
        }
    }

    /// Probabilities on the scan's grid, and the label map that follows from them.
    pub fn with_probabilities(&self, source: &dyn PlaneSource) -> Result<(LabelMap, Probabilities)> {
        let mut written = self.begin()?;
        let (area, classes) = (self.area(), self.logits.classes());
        let [planes, ..] = self.logits.size();
        let places = self.places();
        let raw = self.undo.geometry.voxels();
        let mut values = vec![0f32; classes * raw];
        if !self.labels.has_regions() {
            values[..raw].fill(1.0);
        }
        for first in (0..planes).step_by(SLAB) {
            let count = SLAB.min(planes - first);
            let mut slab = vec![0f32; classes * count * area];
            slab.par_chunks_mut(count * area).enumerate().for_each(|(class, values)| {
                self.logits.planes(source, class, first..first + count, |z, plane| {
                    values[(z - first) * area..][..area].copy_from_slice(plane);
                });
            });
            self.to_probabilities(&mut slab, count * area);
            let mut labels = vec![0u16; count * area];
            self.decide_by_probability(&slab, &mut labels);
            match &mut written.raw {
                Raw::Narrow(raw) => places.put(&labels, first, raw, |label| label as u8),
                Raw::Wide(raw) => places.put(&labels, first, raw, |label| label),
            }
            for (class, part) in slab.chunks(count * area).enumerate() {
                places.put(part, first, &mut values[class * raw..(class + 1) * raw], |p| p);
            }
        }
        let probabilities = Probabilities { classes, size: self.undo.geometry.size, values };
        Ok((self.finish(written), probabilities))
    }

    fn check(&self) -> Result<()> {
        let (have, want) = (self.logits.classes(), self.labels.output_channels());
        if have != want {
            let what = format!("the network gives {have} channels, its labels need {want}");
            return Err(Error::input("model", what, "use the dataset.json that the model was trained with"));
        }
        let (have, want) = (self.logits.size(), self.undo.size_after_crop);
        if have != want {
            let what = format!("logits stay at {have:?} voxels, but the scan has {want:?}");
            return Err(Error::input(
                "plans.json, resampling_fn_probabilities",
                what,
                "resample images and logits, or neither",
            ));
        }
        Ok(())
    }

    /// Voxels of one plane of the cropped grid.
    fn area(&self) -> usize {
        let [_, y, x] = self.logits.size();
        y * x
    }

    /// Labels of the planes from `first` on, as many as fit into `labels`.
    fn decide(&self, source: &dyn PlaneSource, first: usize, labels: &mut [u16]) {
        let area = self.area();
        let range = first..first + labels.len() / area;
        let (decision, named) = match (self.labels.has_regions(), &self.labels.regions_class_order) {
            (true, Some(order)) => (Decision::Inside(|value| sigmoid(value) > 0.5), order.clone()),
            _ => (Decision::Largest, self.labels.all()),
        };
        // What no class wins is background.
        let names: Vec<u16> = std::iter::once(0).chain(named).collect();
        let in_order = names[1..].iter().enumerate().all(|(class, name)| class == usize::from(*name));
        self.logits.winners(source, range, decision, |z, winners| {
            let voxels = labels[(z - first) * area..][..area].iter_mut().zip(winners);
            match in_order {
                true => voxels.for_each(|(voxel, winner)| *voxel = winner.saturating_sub(1)),
                false => voxels.for_each(|(voxel, winner)| *voxel = names[usize::from(*winner)]),
            }
        });
    }

    /// Softmax over classes or sigmoid per region, in place on `[k, n]`.
    fn to_probabilities(&self, slab: &mut [f32], n: usize) {
        if self.labels.has_regions() {
            slab.par_iter_mut().for_each(|v| *v = sigmoid(*v));
            return;
        }
        let mut classes: Vec<&mut [f32]> = slab.chunks_mut(n).collect();
        for i in 0..n {
            let most = classes.iter().map(|c| c[i]).fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for class in &mut classes {
                class[i] = (class[i] - most).exp();
                sum += class[i];
            }
            classes.iter_mut().for_each(|class| class[i] /= sum);
        }
    }

    fn decide_by_probability(&self, slab: &[f32], labels: &mut [u16]) {
        let classes = slab.chunks(labels.len());
        if let (true, Some(order)) = (self.labels.has_regions(), &self.labels.regions_class_order) {
            for (values, &label) in classes.zip(order) {
                labels
                    .iter_mut()
                    .zip(values)
                    .filter(|(_, p)| **p > 0.5)
                    .for_each(|(voxel, _)| *voxel = label);
            }
            return;
        }
        let mut best = vec![f32::NEG_INFINITY; labels.len()];
        for (values, label) in classes.zip(self.labels.all()) {
            win(labels, &mut best, values, label);
        }
    }

    fn places(&self) -> Places {
        Places::new(self.undo, self.logits.size())
    }
}

/// Where the class has a larger value than any before, it takes the voxel.
fn win(labels: &mut [u16], best: &mut [f32], values: &[f32], label: u16) {
    for ((voxel, best), &value) in labels.iter_mut().zip(best).zip(values) {
        let better = value > *best;
        *voxel = if better { label } else { *voxel };
        *best = if better { value } else { *best };
    }
}

fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

/// Addresses in the scan of voxels of the cropped box.
struct Places {
    start: usize,
    /// Steps in the scan along the axes of the box.
    strides: [usize; 3],
    size: [usize; 3],
}

impl Places {
    fn new(undo: &Undo, size: [usize; 3]) -> Self {
        let [_, ny, nx] = undo.geometry.size;
        let raw = [ny * nx, nx, 1];
        let strides = undo.transpose.map(|axis| raw[axis]);
        let start = (0..3).map(|axis| undo.bbox[axis][0] * strides[axis]).sum();
        Self { start, strides, size }
    }

    /// Writes planes of the box from `first` on.
    fn put<T: Copy, U>(&self, planes: &[T], first: usize, scan: &mut [U], of: impl Fn(T) -> U) {
        let [_, ny, nx] = self.size;
        for (row, values) in planes.chunks(nx).enumerate() {
            let (z, y) = (first + row / ny, row % ny);
            let start = self.start + z * self.strides[0] + y * self.strides[1];
            if self.strides[2] == 1 {
                scan[start..start + nx].iter_mut().zip(values).for_each(|(voxel, &v)| *voxel = of(v));
            } else {
                values.iter().enumerate().for_each(|(x, &v)| scan[start + x * self.strides[2]] = of(v));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::{Geometry, LabelValue};
    use galen_prep::resample::{Change, Method, Thick, Whole};

    /// Scan of 4×5×6 voxels, network axes (x, z, y), a box of 3×2×4 in network order.
    fn undo() -> Undo {
        Undo {
            geometry: Geometry::axis_aligned([4, 5, 6], [3.0, 1.0, 2.0]),
            transpose: [2, 0, 1],
            size_before_crop: [6, 4, 5],
            bbox: [[2, 5], [1, 3], [0, 4]],
            size_after_crop: [3, 2, 4],
            spacing: [2.0, 3.0, 1.0],
        }
    }

    fn plain() -> Labels {
        let one = |name: &str, value| (name.to_string(), LabelValue::One(value));
        Labels::new(vec![one("background", 0), one("a", 1), one("b", 2)], None).unwrap()
    }

    fn logits(classes: usize) -> Logits {
        let n = classes * 24;
        Logits {
            classes,
            size: [3, 2, 4],
            values: (0..n).map(|i| ((i * 37 % 19) as f32 - 9.0) / 4.0).collect(),
        }
    }

    fn slabs(logits: &Logits, half: bool) -> LogitSlabs {
        let (from, spacing) = (logits.size, undo().spacing);
        let change = Change { from, to: undo().size_after_crop, current: spacing, new: spacing };
        let method = Method::Spline { order: 1, order_z: 0, thick: Thick { force: None, beyond: 3.0 } };
        LogitSlabs::new(logits.classes, method, &change, half).unwrap()
    }

    fn check(labels: &Labels, classes: usize, expected: impl Fn(&[f32]) -> u16) {
        let (undo, logits) = (undo(), logits(classes));
        for half in [false, true] {
            let slabs = slabs(&logits, half);
            let export = Export { labels, undo: &undo, logits: &slabs };
            let source = Whole { size: logits.size, values: &logits.values };
            let map = export.label_map(&source).unwrap();
            let (same, probabilities) = export.with_probabilities(&source).unwrap();
            assert_eq!(map, same);
            for (i, (z, y, x)) in
                (0..4).flat_map(|z| (0..5).flat_map(move |y| (0..6).map(move |x| (z, y, x)))).enumerate()
            {
                let inside = (2..5).contains(&x) && (1..3).contains(&z) && y < 4;
                let background = if labels.has_regions() { 0.0 } else { 1.0 };
                if inside {
                    let at = ((x - 2) * 2 + (z - 1)) * 4 + y;
                    let values: Vec<f32> = (0..classes).map(|c| logits.values[c * 24 + at]).collect();
                    assert_eq!(map.get(i), expected(&values));
                } else {
                    assert_eq!((map.get(i), probabilities.values[i]), (0, background));
                }
                let sum: f32 = (0..classes).map(|c| probabilities.values[c * 120 + i]).sum();
                assert!(labels.has_regions() || (sum - 1.0).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn labels_land_where_they_came_from() {
        check(&plain(), 3, |values| {
            (0..3).fold(0, |best, k| if values[k] > values[best] { k } else { best }) as u16
        });
    }

    #[test]
    fn later_regions_lie_on_top() {
        let region = |name: &str, values: &[u16]| (name.to_string(), LabelValue::Region(values.to_vec()));
        let entries = vec![
            ("background".to_string(), LabelValue::One(0)),
            region("whole", &[1, 2]),
            ("core".to_string(), LabelValue::One(2)),
        ];
        let labels = Labels::new(entries, Some(vec![1, 2])).unwrap();
        // Values beyond a byte, and such as no region lists, are written as they are.
        for order in [[1, 2], [300, 301]] {
            let labels = Labels { regions_class_order: Some(order.to_vec()), ..labels.clone() };
            check(&labels, 2, |values| match (values[0] > 0.0, values[1] > 0.0) {
                (_, true) => order[1],
                (true, false) => order[0],
                _ => 0,
            });
        }
    }

    #[test]
    fn a_network_of_other_classes_is_refused() {
        let (undo, labels, logits) = (undo(), plain(), logits(2));
        let slabs = slabs(&logits, false);
        let error =
            Export { labels: &labels, undo: &undo, logits: &slabs }.begin().err().unwrap().to_string();
        assert!(error.contains("2 channels") && error.contains('3'), "{error}");
    }
}
