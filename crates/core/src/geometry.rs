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
    /// 1e-4 mm in spacing, 1e-3 mm in origin and 1e-5 in direction.
    pub fn differs(&self, other: &Self) -> Option<Mismatch> {
        self.mismatches(other).into_iter().next()
    }

    /// The first way in which files of one case cannot lie on one grid: as [`Self::differs`], but what
    /// [`Self::is_rounding`] says passes.
    pub fn conflicts(&self, other: &Self) -> Option<Mismatch> {
        self.mismatches(other).into_iter().find(|mismatch| !self.is_rounding(mismatch))
    }

    /// True for what tools do to headers that they round: directions less than 0.01 off (cosine), origins less
    /// than half of the smallest spacing. Networks and metrics see arrays, so such files belong together.
    pub fn is_rounding(&self, mismatch: &Mismatch) -> bool {
        let axes = &self.spacing[usize::from(self.flat)..];
        let half = axes.iter().copied().fold(f64::INFINITY, f64::min) / 2.0;
        match mismatch {
            Mismatch::Size | Mismatch::Spacing(_) => false,
            Mismatch::Direction(cosine) => *cosine < 0.01,
            Mismatch::Origin(mm) => *mm < half,
        }
    }

    /// Every way in which `other` is another grid, the gravest first.
    pub fn mismatches(&self, other: &Self) -> Vec<Mismatch> {
        // Not `f64::max`, which passes over a NaN: a position that is no number agrees with nothing.
        let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
        let gap = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, larger);
        let beyond = |gap: f64, allowed: f64| gap > allowed || gap.is_nan();
        let flat = self.flat || other.flat;
        let first = usize::from(flat);
        let mut found = Vec::new();
        if self.size != other.size {
            found.push(Mismatch::Size);
        }
        let spacing = gap(&self.spacing[first..], &other.spacing[first..]);
        if beyond(spacing, 1e-4) {
            found.push(Mismatch::Spacing(spacing));
        }
        let direction = gap(self.direction.as_flattened(), other.direction.as_flattened());
        if !flat && beyond(direction, 1e-5) {
            found.push(Mismatch::Direction(direction));
        }
        let origin = gap(&self.origin, &other.origin);
        if beyond(origin, 1e-3) {
            found.push(Mismatch::Origin(origin));
        }
        found
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
    fn rounded_headers_pass_and_what_is_no_number_does_not() {
        let a = Geometry::axis_aligned([4, 5, 6], [2.0, 1.0, 1.0]);
        let mut b = a.clone();
        (b.origin[1], b.direction[0][2]) = (0.4, 0.995);
        assert!(matches!(a.mismatches(&b)[..], [Mismatch::Direction(_), Mismatch::Origin(_)]));
        assert_eq!(a.conflicts(&b), None);
        b.origin[1] = 0.6;
        assert!(matches!(a.conflicts(&b), Some(Mismatch::Origin(_))));
        b.origin[1] = f64::NAN;
        assert!(matches!(a.conflicts(&b), Some(Mismatch::Origin(mm)) if mm.is_nan()));
    }

    #[test]
    fn world_walks_along_the_axes() {
        let g = Geometry::axis_aligned([4, 5, 6], [2.0, 1.5, 1.0]);
        assert_eq!(g.world([1.0, 2.0, 3.0]), [3.0, 3.0, 2.0]);
    }
}
