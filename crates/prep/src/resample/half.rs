//! Rounding to float16 values, as storing into a float16 array does. Own code, since the crate `half` goes through single
//! precision on processors without a direct instruction, which rounds twice.

/// Adding and subtracting this many units rounds a double to a whole unit, ties to even.
const SHIFT: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52

/// The float16 value nearest to a double, ties to even; beyond 65504 infinity.
pub(crate) fn round_to_half(value: f64) -> f32 {
    let exponent = ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    // Ten bits after the leading one; below 2^-14 the spacing stays that of subnormals.
    let quantum = f64::from_bits(((exponent.clamp(-14, 16) - 10 + 1023) as u64) << 52);
    let shift = quantum * SHIFT;
    let rounded = (value + shift) - shift;
    if rounded.abs() > 65504.0 { f32::INFINITY.copysign(value as f32) } else { rounded as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of float16 bits.
    fn from_bits(bits: u16) -> f32 {
        let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
        sign * match exponent {
            0 => fraction * (-24f32).exp2(),
            31 if fraction == 0.0 => f32::INFINITY,
            31 => f32::NAN,
            _ => (1.0 + fraction / 1024.0) * ((exponent - 15) as f32).exp2(),
        }
    }

    #[test]
    fn every_half_is_itself_and_middles_go_to_even() {
        for bits in 0..=u16::MAX {
            let value = from_bits(bits);
            assert!(value.is_nan() || round_to_half(value.into()) == value, "{bits:#x}");
        }
        assert_eq!(round_to_half(2049.0), 2048.0);
        assert_eq!(round_to_half(2051.0), 2052.0);
        assert_eq!(round_to_half(65520.0), f32::INFINITY);
        assert_eq!(round_to_half(65519.9), 65504.0);
        assert_eq!(round_to_half(-(2f64.powi(-25))), 0.0);
        assert_eq!(round_to_half(f64::NEG_INFINITY), f32::NEG_INFINITY);
        assert_eq!(round_to_half(-1e300), f32::NEG_INFINITY);
        assert!(round_to_half(f64::NAN).is_nan());
    }
}
