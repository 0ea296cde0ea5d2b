//! Nearest-voxel picking as torch's `nearest-exact`, and deep-supervision targets made with it.
//! Source: batchgeneratorsv2 `DownsampleSegForDSTransform`; scales from nnU-Net v2
//! `_get_deep_supervision_scales`.

/// `round(n·scale)`, ties to even as Python rounds.
pub(super) fn scaled(n: usize, scale: f64) -> usize {
    (n as f64 * scale).round_ties_even() as usize
}

/// Source index of each of `to` voxels on an axis of `from`.
pub(super) fn nearest_exact(from: usize, to: usize) -> Vec<usize> {
    let ratio = from as f32 / to as f32;
    (0..to).map(|i| (((i as f32 + 0.5) * ratio) as usize).min(from - 1)).collect()
}

/// Size of a target at `scale` (1 is the patch itself).
pub fn target_size(size: [usize; 3], scale: [f64; 3]) -> [usize; 3] {
    std::array::from_fn(|axis| scaled(size[axis], scale[axis]))
}

/// Labels at `scale`, with the size of the result.
pub fn downsample<T: Copy>(labels: &[T], size: [usize; 3], scale: [f64; 3]) -> (Vec<T>, [usize; 3]) {
    let small = target_size(size, scale);
    if small == size {
        return (labels.to_vec(), size);
    }
    let [pick_z, pick_y, pick_x] = std::array::from_fn(|axis| nearest_exact(size[axis], small[axis]));
    let mut out = Vec::with_capacity(small.iter().product());
    for &z in &pick_z {
        for &y in &pick_y {
            let row = &labels[(z * size[1] + y) * size[2]..][..size[2]];
            out.extend(pick_x.iter().map(|&x| row[x]));
        }
    }
    (out, small)
}

/// Scale of each deep-supervision output, full resolution first: cumulative 1 / stride without the
/// bottleneck. `strides` per stage, `(z, y, x)`.
pub fn deep_supervision_scales(strides: &[[usize; 3]]) -> Vec<[f64; 3]> {
    let mut product = [1.0; 3];
    let mut scales = Vec::new();
    for stride in &strides[..strides.len().saturating_sub(1)] {
        for (p, &s) in product.iter_mut().zip(stride) {
            *p /= s as f64;
        }
        scales.push(product);
    }
    scales
}
