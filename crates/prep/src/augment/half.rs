//! Rounding to the numbers that float16 can hold; nnU-Net compares label scores in that precision.

/// Nearest float16 value, ties to even, for magnitudes below 65504.
pub(super) fn round_to_half(value: f32) -> f32 {
    let magnitude = value.abs();
    if magnitude < 6.103_515_6e-5 {
        // Subnormal in float16: a fixed step of 2^-24.
        return (value * 16_777_216.0).round_ties_even() / 16_777_216.0;
    }
    // Thirteen mantissa bits go; adding just under half of the last kept bit rounds ties to even.
    let bits = value.to_bits();
    let rounded = bits + 0x0fff + ((bits >> 13) & 1);
    f32::from_bits(rounded & !0x1fff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacing_is_a_quarter_below_512_and_ties_go_to_even() {
        assert_eq!(round_to_half(500.1), 500.0);
        assert_eq!(round_to_half(499.875), 500.0);
        assert_eq!(round_to_half(500.125), 500.0);
        assert_eq!(round_to_half(500.375), 500.5);
        assert_eq!(round_to_half(1000.0), 1000.0);
        assert_eq!(round_to_half(0.0), 0.0);
    }
}
