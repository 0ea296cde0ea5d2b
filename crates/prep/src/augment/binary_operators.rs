//! Morphology that makes the label map of a cascade's first stage worse, as its errors would.
//! Source: batchgeneratorsv2 `ApplyRandomBinaryOperatorTransform` (dilation; erosion = dilation of the
//! complement; ball or disk of scikit-image). Differs: direct runs per row instead of an FFT.
//! Golden: `augmentation/transforms.npz`, `binop_*`.

/// Which operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Grows.
    Dilation,
    /// Shrinks.
    Erosion,
    /// Dilation, then erosion.
    Closing,
    /// Erosion, then dilation.
    Opening,
}

/// Applies the operator with a ball (`flat`: disk) of `radius` voxels.
pub fn apply(operator: Operator, mask: &[bool], size: [usize; 3], radius: f64, flat: bool) -> Vec<bool> {
    let ball = Ball::new(radius, flat);
    let dilate = |mask: &[bool]| ball.dilate(mask, size);
    let erode = |mask: &[bool]| invert(&ball.dilate(&invert(mask), size));
    match operator {
        Operator::Dilation => dilate(mask),
        Operator::Erosion => erode(mask),
        Operator::Closing => erode(&dilate(mask)),
        Operator::Opening => dilate(&erode(mask)),
    }
}

fn invert(mask: &[bool]) -> Vec<bool> {
    mask.iter().map(|v| !v).collect()
}

/// Structuring element as runs along x.
struct Ball {
    /// Offset `(z, y)` of the row, first and last offset in x.
    runs: Vec<(isize, isize, isize, isize)>,
}

impl Ball {
    /// scikit-image spreads `floor(2·radius + 1)` samples evenly from -radius to radius; for a fractional
    /// radius their number can be even, and the element then reaches one voxel further on the high side.
    fn new(radius: f64, flat: bool) -> Self {
        let n = (2.0 * radius + 1.0) as usize;
        let step = 2.0 * radius / (n.max(2) - 1) as f64;
        let position = |i: usize| i as f64 * step - radius;
        let before = ((n - 1) / 2) as isize;
        let mut runs = Vec::new();
        let depth = if flat { 1 } else { n };
        for z in 0..depth {
            for y in 0..n {
                let used = if flat { 0.0 } else { position(z).powi(2) } + position(y).powi(2);
                let inside = |x: &usize| used + position(*x).powi(2) <= radius * radius;
                let Some(first) = (0..n).find(inside) else { continue };
                let last = (0..n).rev().find(inside).unwrap_or(first);
                let dz = if flat { 0 } else { z as isize - before };
                runs.push((dz, y as isize - before, first as isize - before, last as isize - before));
            }
        }
        Self { runs }
    }

    /// True where any voxel under the element is true.
    fn dilate(&self, mask: &[bool], size: [usize; 3]) -> Vec<bool> {
        let [nz, ny, nx] = size.map(|n| n as isize);
        let mut out = vec![false; mask.len()];
        let mut before = vec![0u32; size[2] + 1];
        for (row, line) in mask.chunks_exact(size[2]).enumerate() {
            if !line.iter().any(|&v| v) {
                continue;
            }
            for (x, &set) in line.iter().enumerate() {
                before[x + 1] = before[x] + u32::from(set);
            }
            let (z, y) = ((row / size[1]) as isize, (row % size[1]) as isize);
            for &(dz, dy, low, high) in &self.runs {
                let (z, y) = (z - dz, y - dy);
                if !(0..nz).contains(&z) || !(0..ny).contains(&y) {
                    continue;
                }
                let target = &mut out[((z * ny + y) * nx) as usize..][..size[2]];
                for (x, set) in target.iter_mut().enumerate() {
                    let first = (x as isize + low).clamp(0, nx) as usize;
                    let end = (x as isize + high + 1).clamp(0, nx) as usize;
                    *set |= first < end && before[end] > before[first];
                }
            }
        }
        out
    }
}
