//! Which input voxels an output voxel reads along one axis, and with which weights.
//!
//! Source: scipy 1.17 `ndimage.zoom(grid_mode=True, mode="nearest")`. Coordinates are not clamped, indices are, so a
//! border sample is `a*w0 + a*w1`.

/// Edge values put before and after an axis before the spline prefilter (scipy, mode `nearest`).
pub(super) const PAD: usize = 12;

/// Position of an output voxel's centre in input voxels.
pub(super) fn coordinate(out: usize, from: usize, to: usize) -> f64 {
    (out as f64 + 0.5) * (from as f64 / to as f64) - 0.5
}

/// As [`coordinate`] where the first and the last voxel keep their places (scipy, `grid_mode=False`).
pub(super) fn between_corners(out: usize, from: usize, to: usize) -> f64 {
    let ratio = if to > 1 { (from as f64 - 1.0) / (to as f64 - 1.0) } else { 1.0 };
    (out as f64 * ratio).min(from as f64 - 1.0)
}

/// Where an output voxel lies, of an axis of `from` voxels that becomes one of `to`.
pub(super) type Position = fn(usize, usize, usize) -> f64;

/// Index inside an axis of `n` voxels.
pub(super) fn clamped(index: f64, n: usize) -> usize {
    (index.max(0.0) as usize).min(n - 1)
}

/// Nearest input voxel per output voxel; the upper one on ties.
pub(super) fn nearest(from: usize, to: usize, position: Position) -> Vec<usize> {
    (0..to).map(|o| clamped((position(o, from, to) + 0.5).floor(), from)).collect()
}

/// Two neighbours and their weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Linear<F = f64> {
    pub(super) at: [usize; 2],
    pub(super) weights: [F; 2],
}

/// Linear interpolation per output voxel.
pub(super) fn linear(from: usize, to: usize, position: Position) -> Vec<Linear> {
    let one = |out| {
        let c = position(out, from, to);
        let w0 = 1.0 - (c - c.floor());
        Linear { at: [clamped(c.floor(), from), clamped(c.floor() + 1.0, from)], weights: [w0, 1.0 - w0] }
    };
    (0..to).map(one).collect()
}

/// Linear interpolation between two voxels with clamped coordinates, as scipy's `map_coordinates` does it.
pub(super) fn linear_inside(from: usize, to: usize) -> Vec<Linear> {
    let one = |out| {
        let c = coordinate(out, from, to).clamp(0.0, (from - 1) as f64);
        let t = c - c.floor();
        Linear { at: [c as usize, (c as usize + 1).min(from - 1)], weights: [1.0 - t, t] }
    };
    (0..to).map(one).collect()
}

/// Four spline coefficients from `first` on (counted with the padding) and their weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cubic {
    pub(super) first: usize,
    pub(super) weights: [f64; 4],
}

/// Cubic B-spline per output voxel; all positions lie inside the padded axis.
pub(super) fn cubic(from: usize, to: usize, position: Position) -> Vec<Cubic> {
    let one = |out| {
        let c = position(out, from, to) + PAD as f64;
        let y = c - c.floor();
        let q = 1.0 - y;
        let w0 = q * q * q / 6.0;
        let w1 = (y * y * (y - 2.0) * 3.0 + 4.0) / 6.0;
        let w2 = (q * q * (q - 2.0) * 3.0 + 4.0) / 6.0;
        Cubic { first: c.floor() as usize - 1, weights: [w0, w1, w2, 1.0 - w0 - w1 - w2] }
    };
    (0..to).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_and_stay_inside() {
        for (from, to) in [(1, 1), (1, 4), (5, 3), (3, 50), (200, 7)] {
            for tap in cubic(from, to, coordinate) {
                assert!((tap.weights.iter().sum::<f64>() - 1.0).abs() < 1e-14);
                assert!(tap.first + 4 <= from + 2 * PAD);
            }
            assert!(
                linear(from, to, coordinate)
                    .iter()
                    .all(|t| t.weights[0] + t.weights[1] == 1.0 && t.at[1] < from)
            );
        }
    }

    #[test]
    fn a_tie_goes_up() {
        assert_eq!(nearest(4, 2, coordinate), [1, 3]);
        assert_eq!(nearest(2, 4, coordinate), [0, 0, 1, 1]);
        assert_eq!(nearest(3, 5, between_corners), [0, 1, 1, 2, 2]);
    }
}
