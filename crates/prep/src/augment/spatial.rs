//! Rotation, scaling and the crop to the final patch, reading only the voxels that the patch needs.
//! Source: batchgeneratorsv2 0.3.6 `SpatialTransform` (bilinear image with zeros outside; labels by
//! interpolated indicators, float16 scores, ties to the nearest neighbour, outside counts as -1) on
//! torch's `grid_sample` with `align_corners=False`.
//! Differs: labels are scored corner by corner, so cost does not grow with their number.
//! Golden: `augmentation/transforms.npz`.

use super::Sample;
use crate::resample::round_to_half;
use galen_kernels::affine_rows::{Line, MIXED, Places};

/// Matrix on column vectors `(z, y, x)` in voxels around the patch centre.
pub type Affine = [[f64; 3]; 3];

/// Box inside the initial patch, `(z, y, x)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First voxel.
    pub lower: [usize; 3],
    /// Voxels per axis.
    pub size: [usize; 3],
}

/// Rotation about the array axes by three angles (radians), then scaling: `Rz·Ry·Rx·S`.
pub fn affine_3d(angles: [f64; 3], scale: [f64; 3]) -> Affine {
    let [(s0, c0), (s1, c1), (s2, c2)] = angles.map(f64::sin_cos);
    let first = [[1.0, 0.0, 0.0], [0.0, c0, -s0], [0.0, s0, c0]];
    let second = [[c1, 0.0, s1], [0.0, 1.0, 0.0], [-s1, 0.0, c1]];
    let third = [[c2, -s2, 0.0], [s2, c2, 0.0], [0.0, 0.0, 1.0]];
    let mut product = multiply(third, multiply(second, first));
    for row in &mut product {
        for (value, factor) in row.iter_mut().zip(scale) {
            *value *= factor;
        }
    }
    product
}

/// Rotation in the plane of y and x, and one scale for both; z stays.
pub fn affine_2d(angle: f64, scale: f64) -> Affine {
    let (sin, cos) = angle.sin_cos();
    [[1.0, 0.0, 0.0], [0.0, cos * scale, -sin * scale], [0.0, sin * scale, cos * scale]]
}

fn multiply(a: Affine, b: Affine) -> Affine {
    let cell = |i: usize, j: usize| (0..3).map(|k| a[i][k] * b[k][j]).sum();
    std::array::from_fn(|i| std::array::from_fn(|j| cell(i, j)))
}

/// The part of an initial patch that a draw reads.
pub fn region(initial: [usize; 3], patch: [usize; 3], affine: Option<&Affine>) -> Region {
    let mut region = Region { lower: [0; 3], size: [0; 3] };
    for axis in 0..3 {
        let (first, end) = match affine {
            None => {
                let lower = (initial[axis] / 2).saturating_sub(patch[axis] / 2);
                (lower, (lower + patch[axis]).min(initial[axis]))
            }
            Some(matrix) => {
                let reach: f64 = (0..3).map(|k| matrix[axis][k].abs() * (patch[k] as f64 - 1.0) / 2.0).sum();
                let centre = (initial[axis] as f64 - 1.0) / 2.0;
                // One voxel of slack: positions are computed in f32.
                let low = (centre - reach).floor() - 1.0;
                let high = (centre + reach).floor() + 2.0;
                (low.max(0.0) as usize, (high.max(0.0) as usize + 1).min(initial[axis]))
            }
        };
        region.lower[axis] = first;
        region.size[axis] = end - first;
    }
    region
}

/// Final patch from the part of the initial patch that [`region`] names. `in_plane`: z slices are
/// independent (2D, dummy 2D).
pub fn transform(
    part: &Sample,
    region: Region,
    initial: [usize; 3],
    patch: [usize; 3],
    affine: Option<&Affine>,
    in_plane: bool,
) -> Sample {
    let Some(matrix) = affine else { return crop(part, region, initial, patch) };
    let voxels = patch.iter().product::<usize>();
    let mut out = Sample {
        channels: part.channels,
        size: patch,
        image: vec![0.0; part.channels * voxels],
        labels: vec![0; voxels],
        previous: part.previous.as_ref().map(|_| vec![0; voxels]),
    };
    let n: usize = part.size.iter().product();
    let walk = Walk::new(matrix, region, initial, patch, in_plane);
    let mut taps = Taps::new(patch[2], region);
    for row in 0..patch[0] * patch[1] {
        walk.row(row / patch[1], row % patch[1], &mut taps);
        let at = row * patch[2]..(row + 1) * patch[2];
        for c in 0..part.channels {
            let start = c * voxels;
            taps.interpolate(
                &part.image[c * n..(c + 1) * n],
                &mut out.image[start + at.start..start + at.end],
            );
        }
        taps.vote(&part.labels, &mut out.labels[at.clone()]);
        if let (Some(from), Some(to)) = (&part.previous, &mut out.previous) {
            taps.vote(from, &mut to[at]);
        }
    }
    out
}

/// Plain centre crop; what lies outside the initial patch is 0, label -1.
fn crop(part: &Sample, region: Region, initial: [usize; 3], patch: [usize; 3]) -> Sample {
    let start: [isize; 3] = std::array::from_fn(|a| {
        (initial[a] / 2) as isize - (patch[a] / 2) as isize - region.lower[a] as isize
    });
    let n: usize = part.size.iter().product();
    let mut image = Vec::with_capacity(part.channels * patch.iter().product::<usize>());
    for c in 0..part.channels {
        image.extend(crop_one(&part.image[c * n..(c + 1) * n], part.size, start, patch, 0.0));
    }
    Sample {
        channels: part.channels,
        size: patch,
        image,
        labels: crop_one(&part.labels, part.size, start, patch, -1),
        previous: part.previous.as_ref().map(|p| crop_one(p, part.size, start, patch, -1)),
    }
}

fn crop_one<T: Copy>(
    from: &[T],
    size: [usize; 3],
    start: [isize; 3],
    patch: [usize; 3],
    outside: T,
) -> Vec<T> {
    let mut out = vec![outside; patch.iter().product()];
    let span = |axis: usize| {
        let first = (-start[axis]).clamp(0, patch[axis] as isize);
        let end = (size[axis] as isize - start[axis]).clamp(first, patch[axis] as isize);
        (first as usize, end as usize)
    };
    let [(z0, z1), (y0, y1), (x0, x1)] = [span(0), span(1), span(2)];
    if x0 == x1 {
        return out;
    }
    let source = |p: usize, axis: usize| (p as isize + start[axis]) as usize;
    for z in z0..z1 {
        for y in y0..y1 {
            let to = (z * patch[1] + y) * patch[2];
            let row = (source(z, 0) * size[1] + source(y, 1)) * size[2] + source(x0, 2);
            out[to + x0..to + x1].copy_from_slice(&from[row..row + x1 - x0]);
        }
    }
    out
}

/// Where each voxel of the final patch lies in the part, which begins at position 1.
struct Walk {
    matrix: [[f32; 3]; 3],
    patch: [usize; 3],
    /// Half the initial size per axis: torch normalises by it and back.
    half: [f32; 3],
    initial: [f32; 3],
    /// From positions in the initial patch to those in the part.
    shift: [f32; 3],
    /// Voxels of the part.
    size: [usize; 3],
    in_plane: bool,
}

impl Walk {
    fn new(matrix: &Affine, region: Region, initial: [usize; 3], patch: [usize; 3], in_plane: bool) -> Self {
        Self {
            matrix: matrix.map(|row| row.map(|v| v as f32)),
            patch,
            half: initial.map(|n| n as f32 / 2.0),
            initial: initial.map(|n| n as f32),
            shift: region.lower.map(|n| 1.0 - n as f32),
            size: region.size,
            in_plane,
        }
    }

    fn row(&self, z: usize, y: usize, taps: &mut Taps) {
        let centred = |i: usize, axis: usize| i as f32 - (self.patch[axis] as f32 - 1.0) / 2.0;
        let (gz, gy) = (centred(z, 0), centred(y, 1));
        let lines = [0, 1, 2].map(|axis| {
            let [mz, my, step] = self.matrix[axis];
            Line {
                base: mz * gz + my * gy,
                step,
                first: centred(0, 2),
                half: self.half[axis],
                size: self.initial[axis],
                shift: self.shift[axis],
                // Whatever lies farther out is outside altogether.
                last: (self.size[axis] + 1) as f32,
            }
        });
        taps.places.locate(lines, self.size, self.in_plane.then_some(z + 1));
    }
}

/// Corners and weights of one row of the final patch.
struct Taps {
    places: Places,
    /// Voxels of the part.
    size: [usize; 3],
    /// What to add to a position for the one in the initial patch.
    offset: [i32; 3],
}

impl Taps {
    fn new(n: usize, region: Region) -> Self {
        let offset = region.lower.map(|lower| lower as i32 - 1);
        Self { places: Places::new(n), size: region.size, offset }
    }

    /// Values at the eight corners (x fastest) of a voxel; `outside` for those that do not exist.
    fn corners<T: Copy>(&self, values: &[T], i: usize, outside: T) -> [T; 8] {
        let lowest = self.places.whole.each_ref().map(|whole| whole[i] as usize);
        std::array::from_fn(|k| {
            let at = [lowest[0] + (k >> 2), lowest[1] + (k >> 1 & 1), lowest[2] + (k & 1)];
            let inside = (0..3).all(|axis| (1..=self.size[axis]).contains(&at[axis]));
            let index = |[z, y, x]: [usize; 3]| ((z - 1) * self.size[1] + y - 1) * self.size[2] + x - 1;
            if inside { values[index(at)] } else { outside }
        })
    }

    fn fraction(&self, i: usize) -> [f32; 3] {
        self.places.fraction.each_ref().map(|fraction| fraction[i])
    }

    fn interpolate(&mut self, image: &[f32], out: &mut [f32]) {
        self.places.interpolate(image, self.size, out);
        for &i in &self.places.outside {
            let (corners, [z, y, x]) = (self.corners(image, i, 0.0), self.fraction(i));
            let mix = |a: f32, b: f32, part: f32| a * (1.0 - part) + b * part;
            let along = |k: usize| mix(corners[k], corners[k + 1], x);
            out[i] = mix(mix(along(0), along(2), y), mix(along(4), along(6), y), z);
        }
    }

    /// Which of the eight corners (x fastest) `grid_sample` calls nearest: at one half the even voxel.
    fn nearest(&self, i: usize) -> usize {
        let up = |axis: usize| {
            let odd = (self.places.whole[axis][i] + self.offset[axis]) & 1 == 1;
            let fraction = self.places.fraction[axis][i];
            usize::from(fraction > 0.5 || (fraction == 0.5 && odd))
        };
        up(2) | up(1) << 1 | up(0) << 2
    }

    fn vote(&self, labels: &[i16], out: &mut [i16]) {
        self.places.shared(labels, self.size, out);
        for (i, label) in out.iter_mut().enumerate().filter(|(_, label)| **label == MIXED) {
            let corners = self.corners(labels, i, -1);
            *label = if corners.iter().all(|&c| c == corners[0]) {
                corners[0]
            } else {
                elect(corners, self.fraction(i), self.nearest(i))
            };
        }
    }
}

/// Label with the highest float16 score among eight corners (x fastest): ties go to the nearest
/// corner when it is among the tied, else to the lowest label.
fn elect(corners: [i16; 8], fraction: [f32; 3], nearest: usize) -> i16 {
    let mut weights = [0.0f32; 8];
    for (k, weight) in weights.iter_mut().enumerate() {
        let side =
            |axis: usize, bit: usize| if k >> bit & 1 == 1 { fraction[axis] } else { 1.0 - fraction[axis] };
        *weight = side(2, 0) * side(1, 1) * side(0, 2) * 1000.0;
    }
    let nearest = corners[nearest];
    let score = |label: i16| {
        let sum: f32 = corners.iter().zip(weights).filter(|(c, _)| **c == label).map(|(_, w)| w).sum();
        round_to_half(sum.into())
    };
    let mut winner = (corners[0], f32::NEG_INFINITY);
    for &label in &corners {
        let value = score(label);
        if value > winner.1 || (value == winner.1 && label < winner.0) {
            winner = (label, value);
        }
    }
    if score(nearest) == winner.1 { nearest } else { winner.0 }
}
