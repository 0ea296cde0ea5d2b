//! Importance of each voxel of a tile: a Gaussian around its centre.
//!
//! Source: nnU-Net v2.8.1, `compute_gaussian` (a filtered unit impulse, sigma = patch / 8, peak 10, stored as
//! float16). Differs: the three axes are multiplied directly, no filter runs.

use half::f16;

/// Weight at the centre.
const PEAK: f64 = 10.0;

/// Standard deviations at which the filter is cut.
const TRUNCATE: f64 = 4.0;

/// Importance map of a patch, `[z, y, x]`, rounded to half precision as nnU-Net does; never zero.
/// An axis of length 1 has weight 1, so a 2D patch is `[1, y, x]`.
pub fn importance(patch: [usize; 3]) -> Vec<f32> {
    let [z, y, x] = patch.map(profile);
    let peak = |profile: &[f64]| profile.iter().copied().fold(0.0, f64::max);
    let scale = peak(&z) * peak(&y) * peak(&x) / PEAK;
    let mut map = Vec::with_capacity(patch.iter().product());
    for a in &z {
        for b in &y {
            map.extend(x.iter().map(|c| half(a * b * c / scale)));
        }
    }
    let smallest = map.iter().copied().filter(|&v| v > 0.0).fold(f32::INFINITY, f32::min);
    map.iter_mut().filter(|v| **v == 0.0).for_each(|v| *v = smallest);
    map
}

fn half(value: f64) -> f32 {
    // Through single precision first, as PyTorch converts.
    f16::from_f32(value as f32).to_f32()
}

/// Normalised Gaussian around `length / 2`, zero beyond four standard deviations.
fn profile(length: usize) -> Vec<f64> {
    if length == 1 {
        return vec![1.0];
    }
    let sigma = length as f64 / 8.0;
    let radius = (TRUNCATE * sigma + 0.5) as usize;
    let bell = |distance: usize| (-0.5 / (sigma * sigma) * (distance * distance) as f64).exp();
    let sum: f64 = bell(0) + 2.0 * (1..=radius).map(bell).sum::<f64>();
    let value = |i: usize| match i.abs_diff(length / 2) {
        distance if distance <= radius => bell(distance) / sum,
        _ => 0.0,
    };
    (0..length).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_ten_and_nothing_is_zero() {
        let map = importance([1, 16, 40]);
        assert_eq!(map[8 * 40 + 20], 10.0);
        assert!(map.iter().all(|&v| v > 0.0 && v <= 10.0));
    }
}
