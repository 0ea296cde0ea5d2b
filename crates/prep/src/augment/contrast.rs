//! Contrast of one channel around its mean, kept inside its range.
//! Source: batchgeneratorsv2 `ContrastTransform` with `preserve_range`.

use super::statistics::{mean, range};

/// Stretches by `factor` around the mean and clips to the previous minimum and maximum.
pub fn contrast(channel: &mut [f32], factor: f32) {
    let mean = mean(channel) as f32;
    let (low, high) = range(channel);
    for value in channel {
        *value = ((*value - mean) * factor + mean).clamp(low, high);
    }
}
