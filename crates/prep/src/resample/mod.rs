//! Resampling of images, label maps and logits to a new grid, as nnU-Net v2.8.1 with scikit-image 0.26, scipy 1.17
//! and torch 2 do it.
//!
//! Images: splines of order 0, 1 or 3 in double precision, axis by axis (the reference multiplies the three weights
//! per corner, which differs by about 1e-13 relative). Label maps: the reference's order of arithmetic to the bit,
//! because equal scores decide. Logits: a slab of planes at a time. Thick slices are resampled within slices and
//! copied between them.

mod half;
mod labels;
mod method;
mod resize;
mod slabs;
mod slices;
mod spline;
mod taps;
mod torch;
mod winners;

pub(crate) use half::round_to_half;
pub use labels::TieRule;
pub use method::{Change, Method, Thick};
use rayon::prelude::*;
pub use resize::Real;
pub use slabs::{LogitSlabs, PlaneSource, Whole};
pub(crate) use slices::permuted;
pub use winners::Decision;

/// One channel of which planes are made when they are read.
pub(crate) trait Planes: Sync {
    /// Fills `out` `[y, x]` with plane `z`.
    fn read(&self, z: usize, out: &mut [f32]);
    /// Smallest and largest value.
    fn range(&self) -> [f64; 2];
}

/// All planes, `[z, y, x]`.
fn all_planes(planes: &dyn Planes, [nz, ny, nx]: [usize; 3]) -> Vec<f32> {
    let mut values = vec![0.0; nz * ny * nx];
    values.par_chunks_exact_mut(ny * nx).enumerate().for_each(|(z, plane)| planes.read(z, plane));
    values
}

/// Spacing along one axis over that of another beyond which slices count as thick.
const THICK: f64 = 3.0;

/// The axis along which slices are thick, for a change from one spacing to another (mm); `force` is
/// nnU-Net's `force_separate_z`.
pub fn thick_axis(force: Option<bool>, current: [f64; 3], new: [f64; 3]) -> Option<usize> {
    thick_axis_beyond(THICK, force, current, new)
}

fn thick_axis_beyond(beyond: f64, force: Option<bool>, current: [f64; 3], new: [f64; 3]) -> Option<usize> {
    let extremes = |mm: [f64; 3]| {
        let largest = mm.iter().copied().fold(f64::MIN, f64::max);
        let smallest = mm.iter().copied().fold(f64::MAX, f64::min);
        (largest, largest / smallest > beyond)
    };
    let spacing = match force {
        Some(false) => return None,
        Some(true) => current,
        None if extremes(current).1 => current,
        None if extremes(new).1 => new,
        None => return None,
    };
    let largest = extremes(spacing).0;
    let mut axes = (0..3).filter(|&axis| largest / spacing[axis] == 1.0);
    let first = axes.next();
    // Two equally thick axes: nothing to separate.
    if axes.next().is_some() { None } else { first }
}

/// Resamples one channel `[z, y, x]` in double precision; nearest between thick slices.
pub fn image_f64(
    values: &[f64],
    from: [usize; 3],
    to: [usize; 3],
    order: u8,
    thick: Option<usize>,
) -> Vec<f64> {
    if from == to { values.to_vec() } else { image(values, from, to, order, 0, thick) }
}

/// Resamples one channel `[z, y, x]` to a grid whose corner voxels are those of the old one, with splines of order 0, 1
/// or 3. Source: scipy 1.17 `ndimage.zoom(mode="nearest")`.
pub fn between_corners<T: Real>(values: &[T], from: [usize; 3], to: [usize; 3], order: u8) -> Vec<T> {
    resize::volume_between_corners(values, from, to, order)
}

fn image<T: Real>(
    values: &[T],
    from: [usize; 3],
    to: [usize; 3],
    order: u8,
    order_z: u8,
    thick: Option<usize>,
) -> Vec<T> {
    match thick {
        None => resize::volume(values, from, to, order),
        Some(0) => slices::image(values, from, to, order, order_z),
        Some(axis) => {
            let (first, moved) = slices::axis_first(values, from, axis);
            let wanted = slices::order(axis).map(|a| to[a]);
            slices::axis_back(&slices::image(&first, moved, wanted, order, order_z), to, axis)
        }
    }
}

/// Resamples a label map `[z, y, x]`.
fn label_map(
    values: &[i16],
    from: [usize; 3],
    to: [usize; 3],
    order: u8,
    order_z: u8,
    thick: Option<usize>,
    rule: TieRule,
) -> Vec<i16> {
    match thick {
        None => labels::volume(values, from, to, order, rule),
        Some(0) => slices::label_map(values, from, to, order, order_z, rule),
        Some(axis) => {
            let (first, moved) = slices::axis_first(values, from, axis);
            let wanted = slices::order(axis).map(|a| to[a]);
            slices::axis_back(&slices::label_map(&first, moved, wanted, order, order_z, rule), to, axis)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thick_axis_is_separate_and_two_are_not() {
        assert_eq!(thick_axis(None, [5.0, 1.0, 1.0], [1.0; 3]), Some(0));
        assert_eq!(thick_axis(None, [1.0; 3], [1.0, 1.0, 4.0]), Some(2));
        assert_eq!(thick_axis(None, [0.24, 1.25, 1.25], [1.0; 3]), None);
        assert_eq!(thick_axis(None, [3.0, 1.0, 1.0], [1.0; 3]), None);
        assert_eq!(thick_axis(Some(false), [9.0, 1.0, 1.0], [1.0; 3]), None);
    }

    #[test]
    fn constants_stay_constant() {
        for order in [0, 1, 3] {
            let out = image_f64(&[2.5; 60], [3, 4, 5], [5, 3, 7], order, None);
            assert!(out.iter().all(|v| (v - 2.5).abs() < 1e-12), "order {order}");
        }
    }
}
