//! Where voxels lie in the patient.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Grid of an image: size and spacing in array order `(z, y, x)`, origin and axes in LPS millimetres.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// Voxels per axis, `(z, y, x)`.
    pub size: [usize; 3],
    /// Millimetres per voxel, `(z, y, x)`, always positive.
    pub spacing: [f64; 3],
    /// World position of voxel `(0, 0, 0)`: LPS `x, y, z` in millimetres.
    pub origin: [f64; 3],
    /// Unit vectors of the array axes: `direction[0]` is where z points to, in LPS `x, y, z`.
    pub direction: [[f64; 3]; 3],
    /// True for a 2D image (`size[0] == 1` and the file had two dimensions); its z spacing means nothing.
    pub flat: bool,
}

/// How two grids differ.
#[derive(Debug, Clone, PartialEq)]
pub enum Mismatch {
    /// Other number of voxels.
    Size,
    /// Other spacing, by at most this many millimetres.
    Spacing(f64),
    /// Other axes, by at most this much in a direction cosine.
    Direction(f64),
    /// Other origin, by this many millimetres.
    Origin(f64),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size => write!(f, "size"),
            Self::Spacing(mm) => write!(f, "spacing by {mm:.4} mm"),
            Self::Direction(cosine) => write!(f, "direction by {cosine:.5}"),
            Self::Origin(mm) => write!(f, "origin by {mm:.3} mm"),
        }
    }
}

impl Geometry {
    /// Axis-aligned grid at the world origin: array x, y, z run along L, P, S.
    pub fn axis_aligned(size: [usize; 3], spacing: [f64; 3]) -> Self {
        let direction = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
        Self { size, spacing, origin: [0.0; 3], direction, flat: false }
    }

    /// Number of voxels of one channel.
    pub fn voxels(&self) -> usize {
        self.size.iter().product()
    }

    /// Volume of one voxel in mm³ (mm² for a flat image).
    pub fn voxel_volume(&self) -> f64 {
        if self.flat { self.spacing[1] * self.spacing[2] } else { self.spacing.iter().product() }
    }

    /// LPS position of array index `(z, y, x)`, in millimetres.
    pub fn world(&self, index: [f64; 3]) -> [f64; 3] {
        let mut point = self.origin;
        for axis in 0..3 {
            for (p, d) in point.iter_mut().zip(self.direction[axis]) {
                *p += index[axis] * self.spacing[axis] * d;
            }
        }
        point
    }

    /// The first way in which `other` is another grid, or `None` when they agree within
    /// 1e-4 mm in spacing, 1e-3 mm in origin and 1e-5 in direction. This function alone decides.
    pub fn differs(&self, other: &Self) -> Option<Mismatch> {
        if self.size != other.size {
            return Some(Mismatch::Size);
        }
        let gap = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let first = usize::from(self.flat || other.flat);
        let spacing = gap(&self.spacing[first..], &other.spacing[first..]);
        if spacing > 1e-4 {
            return Some(Mismatch::Spacing(spacing));
        }
        let direction = gap(self.direction.as_flattened(), other.direction.as_flattened());
        if direction > 1e-5 && first == 0 {
            return Some(Mismatch::Direction(direction));
        }
        let origin = gap(&self.origin, &other.origin);
        if origin > 1e-3 {
            return Some(Mismatch::Origin(origin));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_agree_within_tolerance_and_name_the_first_difference() {
        let a = Geometry::axis_aligned([4, 5, 6], [2.0, 1.0, 1.0]);
        let mut b = a.clone();
        b.spacing[0] += 5e-5;
        assert_eq!(a.differs(&b), None);
        b.spacing[0] = 2.5;
        assert!(matches!(a.differs(&b), Some(Mismatch::Spacing(mm)) if (mm - 0.5).abs() < 1e-12));
        b.size[2] = 7;
        assert_eq!(a.differs(&b), Some(Mismatch::Size));
    }

    #[test]
    fn world_walks_along_the_axes() {
        let g = Geometry::axis_aligned([4, 5, 6], [2.0, 1.5, 1.0]);
        assert_eq!(g.world([1.0, 2.0, 3.0]), [3.0, 3.0, 2.0]);
    }
}
