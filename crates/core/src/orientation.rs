//! Which way the axes of an image run, and the image with axes that run as those of others.

use crate::Geometry;

/// For each array axis `(z, y, x)` of a canonical image: the axis of the image that it is, and whether it is turned round.
///
/// Canonical axes run to the patient's superior, anterior and right, as near as the voxels allow without resampling:
/// nibabel's `as_closest_canonical`, whose first array axis is our last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orientation {
    /// Axis of the image per canonical axis.
    pub axes: [usize; 3],
    /// True where the axis runs the other way.
    pub turned: [bool; 3],
}

/// Canonical directions in LPS, per array axis.
const CANONICAL: [(usize, f64); 3] = [(2, 1.0), (1, -1.0), (0, -1.0)];

impl Orientation {
    /// The orientation of a grid.
    pub fn of(geometry: &Geometry) -> Self {
        let mut left = vec![0, 1, 2];
        let (mut axes, mut turned) = ([0; 3], [false; 3]);
        let mut open: Vec<usize> = (0..3).collect();
        // The clearest axis first, so that oblique ones do not take each other's place.
        while !open.is_empty() {
            let strength = |axis: usize, to: usize| geometry.direction[axis][CANONICAL[to].0].abs();
            let mut best = (left[0], open[0]);
            for &axis in &left {
                for &to in &open {
                    if strength(axis, to) > strength(best.0, best.1) {
                        best = (axis, to);
                    }
                }
            }
            let (axis, to) = best;
            let (world, sign) = CANONICAL[to];
            (axes[to], turned[to]) = (axis, geometry.direction[axis][world] * sign < 0.0);
            left.retain(|&other| other != axis);
            open.retain(|&other| other != to);
        }
        Self { axes, turned }
    }

    /// True when nothing has to move.
    pub fn is_canonical(&self) -> bool {
        self.axes == [0, 1, 2] && self.turned == [false; 3]
    }

    /// Size of the canonical image.
    pub fn size(&self, image: [usize; 3]) -> [usize; 3] {
        self.axes.map(|axis| image[axis])
    }

    /// The canonical image of one channel `[z, y, x]` of `size`.
    pub fn apply<T: Copy>(&self, values: &[T], size: [usize; 3]) -> Vec<T> {
        self.places(size).map(|at| values[at]).collect()
    }

    /// Brings a canonical image back: the opposite of [`Self::apply`] for an image of `size`.
    pub fn undo<T: Copy + Default>(&self, canonical: &[T], size: [usize; 3]) -> Vec<T> {
        let mut values = vec![T::default(); canonical.len()];
        self.places(size).zip(canonical).for_each(|(at, &value)| values[at] = value);
        values
    }

    /// For each voxel of the canonical image, in C order, where it lies in the image.
    fn places(&self, size: [usize; 3]) -> impl Iterator<Item = usize> {
        let [nz, ny, nx] = self.size(size);
        let steps = [size[1] * size[2], size[2], 1];
        let this = *self;
        let along = move |to: usize, index: usize, length: usize| {
            let index = if this.turned[to] { length - 1 - index } else { index };
            index * steps[this.axes[to]]
        };
        (0..nz).flat_map(move |z| {
            (0..ny).flat_map(move |y| {
                let row = along(0, z, nz) + along(1, y, ny);
                (0..nx).map(move |x| row + along(2, x, nx))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_named_by_where_they_run() {
        // Array axes run to L, to P, to S: an axial scan read sideways.
        let mut geometry = Geometry::axis_aligned([2, 3, 4], [1.0; 3]);
        geometry.direction = [[1.0, 0.0, 0.0], [0.0, 0.995, 0.1], [0.0, -0.1, 0.995]];
        let orientation = Orientation::of(&geometry);
        assert_eq!((orientation.axes, orientation.turned), ([2, 1, 0], [false, true, true]));
        assert_eq!(orientation.size(geometry.size), [4, 3, 2]);
        let values: Vec<u8> = (0..24).collect();
        let canonical = orientation.apply(&values, geometry.size);
        // The lowest, most posterior, most left voxel.
        assert_eq!(canonical[0], values[12 + 2 * 4]);
        assert_eq!(orientation.undo(&canonical, geometry.size), values);
        geometry.direction = [[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]];
        assert!(Orientation::of(&geometry).is_canonical());
    }
}
