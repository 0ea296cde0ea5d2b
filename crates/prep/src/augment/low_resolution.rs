//! Simulated low resolution of one channel: pick the nearest voxels of a coarser grid, interpolate back.
//! Source: batchgeneratorsv2 `SimulateLowResolutionTransform` (torch `nearest-exact` down,
//! (tri)linear up with `align_corners=False`).

use super::nearest::{nearest_exact, scaled};

/// Goes down to `size·scale` per axis `(z, y, x)` and back up.
pub fn low_resolution(channel: &mut [f32], size: [usize; 3], scale: [f64; 3]) {
    let small: [usize; 3] =
        std::array::from_fn(|axis| scaled(size[axis], f64::from(scale[axis] as f32)).max(1));
    let [pick_z, pick_y, pick_x] = std::array::from_fn(|axis| nearest_exact(size[axis], small[axis]));
    let mut values = Vec::with_capacity(small.iter().product());
    for &z in &pick_z {
        for &y in &pick_y {
            let row = &channel[(z * size[1] + y) * size[2]..][..size[2]];
            values.extend(pick_x.iter().map(|&x| row[x]));
        }
    }
    let mut shape = small;
    for axis in (0..3).rev() {
        values = stretch(&values, shape, axis, size[axis]);
        shape[axis] = size[axis];
    }
    channel.copy_from_slice(&values);
}

/// Linear interpolation of one axis to `n` voxels.
fn stretch(values: &[f32], shape: [usize; 3], axis: usize, n: usize) -> Vec<f32> {
    let have = shape[axis];
    if have == n {
        return values.to_vec();
    }
    let inner: usize = shape[axis + 1..].iter().product();
    let ratio = have as f32 / n as f32;
    let taps: Vec<(usize, usize, f32)> = (0..n)
        .map(|i| {
            let position = (ratio * (i as f32 + 0.5) - 0.5).max(0.0);
            let low = (position as usize).min(have - 1);
            (low, (low + 1).min(have - 1), position - low as f32)
        })
        .collect();
    let mut out = Vec::with_capacity(values.len() / have * n);
    for block in values.chunks_exact(inner * have) {
        if inner == 1 {
            out.extend(taps.iter().map(|&(a, b, f)| (1.0 - f) * block[a] + f * block[b]));
            continue;
        }
        for &(a, b, f) in &taps {
            let (low, high) = (&block[a * inner..(a + 1) * inner], &block[b * inner..(b + 1) * inner]);
            out.extend(low.iter().zip(high).map(|(a, b)| (1.0 - f) * a + f * b));
        }
    }
    out
}
