//! Several models that segment parts of one task, and the steps around them that TotalSegmentator takes.
//!
//! Source: TotalSegmentator 2 (2026-08), `nnUNet_predict_image`. In order: crop to a rough mask; turn to canonical axes;
//! resample to a fixed spacing with corner voxels in place, values cut to integers; segment with every part; join the
//! label maps, later parts on top; bring the labels back by the nearest voxel; undo turning and cropping. Differs: very
//! large scans are not cut into thirds, which the reference does to save memory.

use crate::predictor::{Predictor, Progress};
use galen_core::{Error, Geometry, LabelMap, Orientation, Result, Volume, with_voxels};
use galen_prep::resample::between_corners;

/// One model of several.
pub struct Part {
    /// The model.
    pub predictor: Predictor,
    /// What each of its label values becomes; those beyond the end, and background, become 0.
    pub numbers: Vec<u16>,
}

/// Where to look: the box around what a quick, rough model finds.
pub struct Crop {
    /// The rough model. What its numbers leave above 0 is the mask.
    pub rough: Part,
    /// Spacing (mm) at which it looks.
    pub spacing: Option<f64>,
    /// Margin around the mask in mm.
    pub margin: f64,
}

/// Models of one task.
pub struct Assembly {
    /// Models, later ones on top.
    pub parts: Vec<Part>,
    /// Spacing (mm) to which a scan is brought first; `None` leaves it as it is.
    pub spacing: Option<f64>,
    /// Spline order of that: 0, 1 or 3.
    pub order: u8,
    /// Box to which a scan is cut before all else.
    pub crop: Option<Crop>,
}

/// A box of voxels, half-open, per axis.
type Box3 = [[usize; 2]; 3];

impl Assembly {
    /// Segments a scan of one channel; `progress` counts forward passes of the model at work.
    pub fn predict(&self, image: &Volume, progress: Progress) -> Result<LabelMap> {
        if image.channels != 1 || image.geometry.flat {
            let what = format!("an image of {} channels, or a flat one", image.channels);
            return Err(Error::input("scan", what, "give a 3D scan of one channel"));
        }
        let grid = &image.geometry;
        let mut values = values_of(image);
        let mut inside = grid.size.map(|length| [0, length]);
        if let Some(crop) = &self.crop {
            let rough = std::slice::from_ref(&crop.rough);
            let mask = through(rough, &values, grid, crop.spacing, self.order, progress)?;
            match around(&mask, grid.size, grid.spacing.map(|mm| (crop.margin / mm) as usize)) {
                Some(found) => inside = found,
                None => return Ok(LabelMap::from_u16(grid.clone(), mask)), // nothing there: all background
            }
            values = cut(&values, grid.size, inside).iter().map(|v| v.trunc()).collect();
        }
        let cropped = Geometry { size: inside.map(|[low, high]| high - low), ..grid.clone() };
        let found = through(&self.parts, &values, &cropped, self.spacing, self.order, progress)?;
        drop(values);
        let mut whole = vec![0; grid.voxels()];
        paste(&found, inside, &mut whole, grid.size);
        Ok(LabelMap::from_u16(grid.clone(), whole))
    }
}

fn values_of(image: &Volume) -> Vec<f64> {
    with_voxels!(&image.voxels, v => v.iter().map(|&x| galen_core::Scalar::as_f64(x) * image.slope + image.intercept).collect())
}

/// Labels of all parts on the grid of the values, by way of another spacing.
fn through(
    parts: &[Part],
    values: &[f64],
    grid: &Geometry,
    spacing: Option<f64>,
    order: u8,
    progress: Progress,
) -> Result<Vec<u16>> {
    let orientation = Orientation::of(grid);
    let size = orientation.size(grid.size);
    let own = orientation.axes.map(|axis| grid.spacing[axis]);
    let mut canonical = orientation.apply(values, grid.size);
    let (mut there, mut mm) = (size, own);
    if let Some(wanted) = spacing.filter(|&wanted| own != [wanted; 3]) {
        let zoom = own.map(|mm| mm / wanted);
        there =
            std::array::from_fn(|axis| ((size[axis] as f64 * zoom[axis]).round_ties_even() as usize).max(1));
        canonical = between_corners(&canonical, size, there, order);
        canonical.iter_mut().for_each(|value| *value = value.trunc());
        // The header of a NIfTI file, through which the models get it, has single precision.
        mm = std::array::from_fn(|axis| f64::from((own[axis] / zoom[axis]) as f32));
    }
    let geometry = Geometry::axis_aligned(there, mm);
    let image = Volume::new(geometry, canonical.iter().map(|&value| value as f32).collect::<Vec<f32>>());
    drop(canonical);
    let mut joined = vec![0u16; image.geometry.voxels()];
    for part in parts {
        let labels = part.predictor.predict(&image, false, progress)?.labels;
        for (at, joined) in joined.iter_mut().enumerate() {
            let number = part.numbers.get(usize::from(labels.get(at))).copied().unwrap_or(0);
            if number != 0 {
                *joined = number;
            }
        }
    }
    if there != size {
        let wide: Vec<f64> = joined.iter().map(|&label| label.into()).collect();
        joined = between_corners(&wide, there, size, 0).iter().map(|&label| label as u16).collect();
    }
    Ok(orientation.undo(&joined, grid.size))
}

/// The box of what is not 0, with a margin in voxels; `None` when all is 0.
fn around(mask: &[u16], size: [usize; 3], margin: [usize; 3]) -> Option<Box3> {
    let (mut low, mut high) = (size, [0; 3]);
    for (at, _) in mask.iter().enumerate().filter(|&(_, &value)| value != 0) {
        let index = [at / (size[1] * size[2]), at / size[2] % size[1], at % size[2]];
        for axis in 0..3 {
            low[axis] = low[axis].min(index[axis]);
            high[axis] = high[axis].max(index[axis] + 1);
        }
    }
    let widened =
        |axis: usize| [low[axis].saturating_sub(margin[axis]), (high[axis] + margin[axis]).min(size[axis])];
    (high != [0; 3]).then(|| std::array::from_fn(widened))
}

/// Rows of a box: where each begins in the whole array, and its length.
fn rows(inside: Box3, size: [usize; 3]) -> impl Iterator<Item = (usize, usize)> {
    let [z, y, x] = inside;
    let row = move |z: usize, y: usize| ((z * size[1] + y) * size[2] + x[0], x[1] - x[0]);
    (z[0]..z[1]).flat_map(move |z| (y[0]..y[1]).map(move |y| row(z, y)))
}

fn cut(values: &[f64], size: [usize; 3], inside: Box3) -> Vec<f64> {
    rows(inside, size).flat_map(|(at, length)| values[at..at + length].iter().copied()).collect()
}

fn paste(part: &[u16], inside: Box3, whole: &mut [u16], size: [usize; 3]) {
    let mut part = part;
    for (at, length) in rows(inside, size) {
        let (row, rest) = part.split_at(length);
        whole[at..at + length].copy_from_slice(row);
        part = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_has_its_margin_inside_the_scan() {
        let size = [4, 5, 6];
        let mut mask = vec![0u16; 120];
        assert_eq!(around(&mask, size, [1; 3]), None);
        mask[30 + 2 * 6 + 5] = 3;
        mask[2 * 30 + 3 * 6 + 4] = 1;
        let inside = around(&mask, size, [0, 1, 2]).unwrap();
        assert_eq!(inside, [[1, 3], [1, 5], [2, 6]]);
        let values: Vec<f64> = (0..120).map(f64::from).collect();
        let part: Vec<u16> = cut(&values, size, inside).iter().map(|&v| v as u16).collect();
        assert_eq!((part.len(), part[0]), (2 * 4 * 4, 30 + 6 + 2));
        let mut whole = vec![0; 120];
        paste(&part, inside, &mut whole, size);
        assert!(whole.iter().enumerate().all(|(at, &v)| v == 0 || usize::from(v) == at));
        assert_eq!(whole.iter().filter(|&&v| v != 0).count(), 32);
    }
}
