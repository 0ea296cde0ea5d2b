//! Which voxels a position lies between, with their weights and how these change with the position.

use super::{GridSample, Padding};

/// A position on one axis.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Voxel below; from -2 to one behind the last.
    pub low: isize,
    /// Weight of the voxel above; zero for the nearest voxel.
    pub rest: f32,
    /// Voxels per unit of position; zero where the border holds the position.
    pub rate: f32,
    size: isize,
}

impl Place {
    /// From a position between -1 and 1 on an axis of `size` voxels.
    pub(super) fn new(how: &GridSample, size: usize, position: f32) -> Self {
        let length = size as f32;
        let (mut at, mut rate) = if how.align_corners {
            ((position + 1.0) / 2.0 * (length - 1.0), (length - 1.0) / 2.0)
        } else {
            (((position + 1.0) * length - 1.0) / 2.0, length / 2.0)
        };
        if how.padding == Padding::Border {
            if !(at > 0.0 && at < length - 1.0) {
                rate = 0.0;
            }
            // What is not a number becomes the first voxel.
            at = if at > 0.0 { at.min(length - 1.0) } else { 0.0 };
        } else {
            // Two voxels beyond the border nothing changes any more.
            at = if at > -2.0 { at.min(length + 1.0) } else { -2.0 };
        }
        let size = size as isize;
        if how.nearest {
            return Self { low: at.round_ties_even() as isize, rest: 0.0, rate: 0.0, size };
        }
        Self { low: at.floor() as isize, rest: at - at.floor(), rate, size }
    }

    /// The voxels inside: `(voxel, weight, change of the weight per voxel)`.
    pub(super) fn inside(self) -> impl Iterator<Item = (usize, f32, f32)> + Clone {
        let both = [(self.low, 1.0 - self.rest, -1.0), (self.low + 1, self.rest, 1.0)];
        // The upper voxel counts for the slope even with weight 0, but not for the nearest voxel.
        let wanted = move |i: usize| i == 0 || self.rate != 0.0 || self.rest != 0.0;
        let inside = move |(i, (voxel, weight, slope)): (usize, (isize, f32, f32))| {
            ((0..self.size).contains(&voxel) && wanted(i)).then_some((voxel as usize, weight, slope))
        };
        both.into_iter().enumerate().filter_map(inside)
    }
}

/// The voxels around a position that lie inside, with their weights.
pub(super) struct Corners {
    found: [(usize, f32); 8],
    count: usize,
}

impl Corners {
    /// `position` is `(x, y, z)`, `size` is `(z, y, x)`.
    #[inline(always)]
    pub(super) fn new(how: &GridSample, size: [usize; 3], position: [f32; 3]) -> Self {
        let [z, y, x] = [0, 1, 2].map(|a| Place::new(how, size[a], position[2 - a]));
        let mut corners = Self { found: [(0, 0.0); 8], count: 0 };
        for (z, z_weight, _) in z.inside() {
            for (y, y_weight, _) in y.inside() {
                for (x, x_weight, _) in x.inside() {
                    let weight = z_weight * y_weight * x_weight;
                    if weight != 0.0 {
                        corners.found[corners.count] = ((z * size[1] + y) * size[2] + x, weight);
                        corners.count += 1;
                    }
                }
            }
        }
        corners
    }

    #[inline(always)]
    pub(super) fn inside(&self) -> &[(usize, f32)] {
        &self.found[..self.count]
    }
}
