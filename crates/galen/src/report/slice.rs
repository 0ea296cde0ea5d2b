//! Slices of a scan as a radiologist expects them: axial seen from the feet, coronal seen from the front,
//! the patient's right on the left of the screen, in true proportions whatever the spacing.

use super::Window;
use galen_core::{Error, Geometry, LabelMap, LabelValue, Result, Volume};
use image::imageops::FilterType;
use image::{GrayImage, ImageFormat, imageops};
use std::collections::BTreeMap;
use std::io::Cursor;

/// A direction of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// Across the body axis.
    Axial,
    /// From ear to ear, along the body axis.
    Coronal,
}

/// How to read a two-dimensional picture out of an array.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Name for the caption.
    pub name: &'static str,
    /// Array axis that the slices are stacked along.
    pub through: usize,
    /// Array axis that runs down the picture, and whether it runs backwards.
    pub down: (usize, bool),
    /// Array axis that runs to the right.
    pub across: (usize, bool),
    /// Letters at the left, right, top and bottom border.
    pub letters: [&'static str; 4],
    /// Pixels, `(height, width)`.
    pub size: [usize; 2],
    /// Millimetres per pixel, `(y, x)`.
    pub pixel: [f64; 2],
}

impl View {
    /// The view of a plane. Oblique scans are shown along the nearest axis. `None` for a flat image,
    /// except as "axial": it has one slice.
    pub fn of(geometry: &Geometry, plane: Plane) -> Option<Self> {
        if geometry.flat {
            let [_, height, width] = geometry.size;
            let pixel = [geometry.spacing[1], geometry.spacing[2]];
            let view = Self {
                name: "Image",
                through: 0,
                down: (1, false),
                across: (2, false),
                letters: [""; 4],
                size: [height, width],
                pixel,
            };
            return (plane == Plane::Axial).then_some(view);
        }
        let [left, posterior, superior] = nearest_axes(geometry);
        let (name, through, down, letters) = match plane {
            Plane::Axial => ("Axial", superior.0, posterior, ["R", "L", "A", "P"]),
            Plane::Coronal => ("Coronal", posterior.0, (superior.0, !superior.1), ["R", "L", "S", "I"]),
        };
        Some(Self {
            name,
            through,
            down,
            across: left,
            letters,
            size: [geometry.size[down.0], geometry.size[left.0]],
            pixel: [geometry.spacing[down.0], geometry.spacing[left.0]],
        })
    }

    /// Width and height in millimetres.
    pub fn extent(&self) -> [f64; 2] {
        [self.size[1] as f64 * self.pixel[1], self.size[0] as f64 * self.pixel[0]]
    }

    /// Flat array indices of a slice, row by row as displayed.
    fn indices(&self, size: [usize; 3], slice: usize) -> Vec<usize> {
        let stride = [size[1] * size[2], size[2], 1];
        let walk = |(axis, backwards): (usize, bool), step: usize| {
            stride[axis] * if backwards { size[axis] - 1 - step } else { step }
        };
        let [height, width] = self.size;
        let row = |y: usize| (0..width).map(move |x| (y, x));
        let places = (0..height).flat_map(row);
        places
            .map(|(y, x)| slice * stride[self.through] + walk(self.down, y) + walk(self.across, x))
            .collect()
    }

    /// Mask of a label (or region) in a slice, as displayed.
    pub fn mask(&self, map: &LabelMap, slice: usize, label: &LabelValue) -> Vec<bool> {
        let indices = self.indices(map.geometry.size, slice);
        indices.into_iter().map(|index| label.values().contains(&map.get(index))).collect()
    }

    /// Slice of the scan as PNG, smoothly enlarged to square pixels.
    pub fn png(
        &self,
        volume: &Volume,
        values: &[f32],
        slice: usize,
        [black, white]: [f64; 2],
    ) -> Result<Vec<u8>> {
        let grey = |index: usize| {
            let share = (f64::from(values[index]) - black) / (white - black).max(f64::MIN_POSITIVE);
            // A voxel without a number (NaN) is black.
            (share.clamp(0.0, 1.0) * 255.0).round() as u8
        };
        let pixels = self.indices(volume.geometry.size, slice).into_iter().map(grey).collect();
        let [height, width] = self.size.map(|n| n as u32);
        let picture = GrayImage::from_raw(width, height, pixels)
            .ok_or_else(|| Error::bug("report", "a slice has not the size of its view"))?;
        let [across, down] = self.extent();
        let longest = across.max(down);
        let finest = self.pixel[0].min(self.pixel[1]);
        let step = finest.clamp(longest / MAX_PIXELS, longest / MIN_PIXELS);
        let [across, down] = [across, down].map(|mm| (mm / step).round().max(1.0) as u32);
        let picture = imageops::resize(&picture, across, down, FilterType::CatmullRom);
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).map_err(|error| Error::bug("report, png", error))?;
        Ok(bytes.into_inner())
    }

    /// The slice that shows most of every structure: each label counts by the share of it that is there, so
    /// that a large organ does not hide a lesion. The middle one when there is nothing.
    pub fn fullest(&self, map: Option<&LabelMap>, labels: &[LabelValue], depth: usize) -> usize {
        let Some(map) = map else { return depth / 2 };
        let stride: usize = map.geometry.size[self.through + 1..].iter().product();
        let mut counts: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        let runs = (0..map.geometry.voxels()).step_by(stride);
        for start in runs {
            for value in (start..start + stride).map(|index| map.get(index)).filter(|&value| value != 0) {
                counts.entry(value).or_insert_with(|| vec![0; depth])[start / stride % depth] += 1;
            }
        }
        let mut shares = vec![0.0; depth];
        for label in labels {
            let of_label = || label.values().iter().filter_map(|value| counts.get(value));
            let total: usize = of_label().flatten().sum();
            for (slice, &count) in of_label().flat_map(|slices| slices.iter().enumerate()) {
                shares[slice] += count as f64 / total.max(1) as f64;
            }
        }
        let best = shares.iter().copied().fold(0.0, f64::max);
        let fullest = shares.iter().position(|&share| share == best);
        if best == 0.0 { depth / 2 } else { fullest.unwrap_or(depth / 2) }
    }
}

/// Longest side of a picture, pixels.
const MAX_PIXELS: f64 = 720.0;
/// Small pictures are enlarged to this, so that no browser shows them blocky.
const MIN_PIXELS: f64 = 400.0;

/// Array axes nearest to L, P and S, and whether each runs backwards. Every array axis is used once.
fn nearest_axes(geometry: &Geometry) -> [(usize, bool); 3] {
    const ORDERS: [[usize; 3]; 6] = [[2, 1, 0], [2, 0, 1], [1, 2, 0], [1, 0, 2], [0, 1, 2], [0, 2, 1]];
    let along = |order: &[usize; 3]| -> f64 {
        (0..3).map(|world| geometry.direction[order[world]][world].abs()).sum()
    };
    let best =
        ORDERS.into_iter().reduce(|a, b| if along(&b) > along(&a) { b } else { a }).unwrap_or([2, 1, 0]);
    std::array::from_fn(|world| (best[world], geometry.direction[best[world]][world] < 0.0))
}

/// Values shown black and white.
pub fn black_and_white(window: Window, values: &[f32]) -> [f64; 2] {
    match window {
        Window::Level { centre, width } => [centre - width / 2.0, centre + width / 2.0],
        Window::Percentiles => {
            // A million voxels tell as much as all of a large scan.
            let sample = values.iter().step_by(values.len().div_ceil(1_000_000).max(1));
            let mut sorted: Vec<f32> = sample.copied().filter(|value| value.is_finite()).collect();
            sorted.sort_unstable_by(f32::total_cmp);
            let at = |share: f64| sorted.get((share * sorted.len().saturating_sub(1) as f64) as usize);
            [at(0.005), at(0.995)].map(|value| value.copied().unwrap_or_default().into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_of_the_patient_is_on_the_left_whatever_the_storage() {
        let mut geometry = Geometry::axis_aligned([4, 5, 6], [3.0, 1.0, 1.5]);
        let view = View::of(&geometry, Plane::Axial).unwrap();
        assert_eq!((view.through, view.down, view.across), (0, (1, false), (2, false)));
        let coronal = View::of(&geometry, Plane::Coronal).unwrap();
        assert_eq!((coronal.down, coronal.extent()), ((0, true), [9.0, 12.0]));
        // Stored in RAS order with x first: L runs backwards along array axis 0.
        geometry.direction = [[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]];
        let view = View::of(&geometry, Plane::Axial).unwrap();
        assert_eq!((view.through, view.down, view.across), (1, (2, true), (0, true)));
    }

    #[test]
    fn indices_follow_the_view() {
        let geometry = Geometry::axis_aligned([2, 2, 2], [1.0; 3]);
        let coronal = View::of(&geometry, Plane::Coronal).unwrap();
        assert_eq!(coronal.indices([2, 2, 2], 1), [6, 7, 2, 3]);
    }

    #[test]
    fn a_lesion_draws_the_slice_to_itself() {
        let geometry = Geometry::axis_aligned([3, 2, 4], [1.0; 3]);
        let mut values = vec![1u8; 24];
        values[8] = 2;
        values[0..3].fill(0);
        let map = LabelMap::new(geometry.clone(), values);
        let view = View::of(&geometry, Plane::Axial).unwrap();
        let labels = [LabelValue::One(1), LabelValue::One(2)];
        assert_eq!(view.fullest(Some(&map), &labels, 3), 1);
        assert_eq!(view.fullest(None, &labels, 3), 1);
    }

    #[test]
    fn windows_survive_empty_and_odd_values() {
        assert_eq!(black_and_white(Window::SOFT_TISSUE, &[]), [-160.0, 240.0]);
        assert_eq!(black_and_white(Window::Percentiles, &[f32::NAN]), [0.0, 0.0]);
        assert_eq!(black_and_white(Window::Percentiles, &[2.0, 1.0, f32::INFINITY]), [1.0, 1.0]);
    }
}
