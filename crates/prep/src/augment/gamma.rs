//! Gamma curve of one channel that keeps its mean and standard deviation.
//! Source: batchgeneratorsv2 `GammaTransform` with `p_retain_stats` 1.

use super::statistics::{deviation, mean, range};

/// Raises the range-normalised channel to `exponent`; `invert` works on the negated image.
pub fn gamma(channel: &mut [f32], exponent: f32, invert: bool) {
    const TINY: f32 = 1e-7;
    if channel.len() < 2 {
        return;
    }
    let sign = if invert { -1.0 } else { 1.0 };
    channel.iter_mut().for_each(|value| *value *= sign);
    let before = mean(channel);
    let spread = deviation(channel, before);
    let (low, high) = range(channel);
    let width = high - low;
    let scale = 1.0 / width.max(TINY);
    for value in channel.iter_mut() {
        *value = power((*value - low) * scale, exponent) * width + low;
    }
    let after = mean(channel);
    let factor = (spread / deviation(channel, after).max(f64::from(TINY))) as f32;
    let (before, after) = (before as f32, after as f32);
    for value in channel {
        *value = sign * ((*value - after) * factor + before);
    }
}

/// `base^exponent` for a base in `[0, 1]` and a positive exponent, as `2^(exponent·log2 base)` by
/// polynomials that vectorise; relative error below 1e-6.
fn power(base: f32, exponent: f32) -> f32 {
    let result = exp2(exponent * log2(base.max(f32::MIN_POSITIVE)));
    if base <= 0.0 { 0.0 } else { result }
}

fn log2(x: f32) -> f32 {
    // Split around sqrt(1/2) so that the mantissa m lies in [0.7071, 1.4142).
    let bits = x.to_bits().wrapping_sub(0x3f35_04f3) as i32;
    let whole = bits >> 23;
    let m = f32::from_bits(((bits & 0x007f_ffff) as u32).wrapping_add(0x3f35_04f3));
    // log2 m = 2/ln2 · artanh((m-1)/(m+1)); |s| < 0.1716, so terms to s^9 leave about 1e-9.
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let series = 2.885_39 + q * (0.961_796_7 + q * (0.577_078 + q * (0.412_198_6 + q * 0.320_598_9)));
    whole as f32 + s * series
}

fn exp2(x: f32) -> f32 {
    let x = x.max(-126.0);
    let whole = (x + 0.5).floor();
    // 2^f = e^(f ln 2), |f| <= 1/2: Taylor terms to the seventh leave about 1e-8.
    let f = (x - whole) * std::f32::consts::LN_2;
    let series = 1.0
        + f * (1.0
            + f * (0.5
                + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0 + f * (1.0 / 720.0 + f / 5040.0))))));
    f32::from_bits((((whole as i32) + 127) << 23) as u32) * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_agrees_with_the_library() {
        for i in 0..=1000 {
            let base = i as f32 / 1000.0;
            for exponent in [0.7, 0.999, 1.0, 1.5] {
                let (fast, exact) = (power(base, exponent), f64::from(base).powf(f64::from(exponent)));
                assert!((f64::from(fast) - exact).abs() <= 2e-6 * exact, "{base}^{exponent}: {fast} {exact}");
            }
        }
    }

    #[test]
    fn a_constant_channel_stays() {
        let mut channel = vec![2.5f32; 9];
        gamma(&mut channel, 1.3, true);
        assert!(channel.iter().all(|v| (v - 2.5).abs() < 1e-6), "{channel:?}");
    }
}
