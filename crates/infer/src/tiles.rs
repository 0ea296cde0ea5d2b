//! Where the tiles of the sliding window lie.
//!
//! Source: nnU-Net v2.8.1, `compute_steps_for_sliding_window`: tiles are spread evenly, with steps no longer
//! than `step` times the patch. Differs: never less than one voxel, so a 2D patch `[1, y, x]` takes every slice.

/// First index of each tile along each axis, for an image at least as large as the patch.
pub fn steps(image: [usize; 3], patch: [usize; 3], step: f64) -> [Vec<usize>; 3] {
    [0, 1, 2].map(|axis| {
        let room = image[axis].saturating_sub(patch[axis]) as f64;
        let longest = (patch[axis] as f64 * step).max(1.0);
        let tiles = (room / longest).ceil() as usize + 1;
        if tiles == 1 {
            return vec![0];
        }
        let stride = room / (tiles - 1) as f64;
        (0..tiles).map(|i| (stride * i as f64).round_ties_even() as usize).collect()
    })
}

/// Corners of all tiles `(z, y, x)`, x fastest.
pub fn corners(image: [usize; 3], patch: [usize; 3], step: f64) -> Vec<[usize; 3]> {
    let [zs, ys, xs] = steps(image, patch, step);
    let mut all = Vec::with_capacity(zs.len() * ys.len() * xs.len());
    for &z in &zs {
        for &y in &ys {
            all.extend(xs.iter().map(|&x| [z, y, x]));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tiles_cover_the_image_and_stay_inside(
            patch in 1usize..40, more in 0usize..200, step in 0.1f64..1.0,
        ) {
            let image = patch + more;
            let [line, ..] = steps([image; 3], [patch; 3], step);
            prop_assert_eq!((line[0], line[line.len() - 1] + patch), (0, image));
            for pair in line.windows(2) {
                prop_assert!(pair[1] > pair[0] && pair[1] - pair[0] <= patch);
            }
        }
    }
}
