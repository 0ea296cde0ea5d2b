//! Multiplicative brightness of one channel. Source: batchgeneratorsv2 `MultiplicativeBrightnessTransform`.

/// Multiplies by `factor`.
pub fn brightness(channel: &mut [f32], factor: f32) {
    channel.iter_mut().for_each(|value| *value *= factor);
}
