//! Additive Gaussian noise, independent per channel and voxel.
//! Source: batchgeneratorsv2 `GaussianNoiseTransform` with `synchronize_channels`; what it calls
//! variance is used as standard deviation.

use super::draw::{Noise, stream};
use rand_core::Rng;

/// Adds the noise field of `noise` to all channels.
pub fn gaussian_noise(image: &mut [f32], noise: Noise) {
    let mut rng = stream(noise.key, 0, 0);
    for pair in image.chunks_mut(2) {
        let normal = normal_pair(rng.next_u64());
        for (value, z) in pair.iter_mut().zip(normal) {
            *value += noise.deviation * z;
        }
    }
}

/// Two independent standard normal numbers from 64 random bits (Box-Muller).
fn normal_pair(bits: u64) -> [f32; 2] {
    let unit = |v: u32| ((v >> 8) as f32 + 0.5) / 16_777_216.0;
    let radius = (-2.0 * unit(bits as u32).ln()).sqrt();
    let (sin, cos) = (std::f32::consts::TAU * unit((bits >> 32) as u32)).sin_cos();
    [radius * cos, radius * sin]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviation_is_the_one_asked_for() {
        let mut image = vec![1.0f32; 40_001];
        gaussian_noise(&mut image, Noise { deviation: 0.08, key: 7 });
        let n = image.len() as f32;
        let mean = image.iter().sum::<f32>() / n;
        let spread = (image.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt();
        assert!((mean - 1.0).abs() < 0.002 && (spread - 0.08).abs() < 0.002, "{mean} {spread}");
    }
}
