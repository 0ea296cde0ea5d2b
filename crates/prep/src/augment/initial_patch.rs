//! How large a patch must be loaded so that a rotated, shrunken final patch still finds voxels.
//! Source: batchgenerators `get_patch_size` as nnU-Net v2 calls it; golden: `tables/initial_patch_size.json`.

/// Smallest scaling that the loaded patch allows for, as nnU-Net assumes it.
const MIN_SCALE: f64 = 0.85;

/// Size to load for a final patch `(z, y, x)` or `(y, x)`; `rotation` is the largest angle in radians.
pub fn initial_patch(patch: &[usize], rotation: f64, dummy_2d: bool) -> Vec<usize> {
    let angle = rotation.min(std::f64::consts::FRAC_PI_2);
    let (sin, cos) = angle.sin_cos();
    let size: Vec<f64> = patch.iter().map(|&n| n as f64).collect();
    let mut largest = size.clone();
    // Each plane of rotation: row vector times matrix, so the signs follow the matrix of that axis.
    let planes: &[(usize, usize, f64)] =
        if patch.len() == 2 { &[(0, 1, 1.0)] } else { &[(1, 2, 1.0), (0, 2, -1.0), (0, 1, 1.0)] };
    for &(a, b, sign) in planes {
        let turned = (size[a] * cos + sign * size[b] * sin, size[b] * cos - sign * size[a] * sin);
        largest[a] = largest[a].max(turned.0.abs());
        largest[b] = largest[b].max(turned.1.abs());
    }
    let mut initial: Vec<usize> = largest.iter().map(|&n| (n / MIN_SCALE) as usize).collect();
    if dummy_2d {
        initial[0] = patch[0];
    }
    initial
}
