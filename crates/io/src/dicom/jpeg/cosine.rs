//! Inverse cosine transform of a block in whole numbers, rounded as libjpeg's accurate integer method rounds.
//!
//! Source: C. Loeffler, A. Ligtenberg, G. Moschytz, "Practical fast 1-D DCT algorithms with 11 multiplications",
//! ICASSP 1989, with factors of 13 bits.

/// Bits of the factors' fractions.
const FRACTION: u32 = 13;

/// A factor as a whole number.
const fn factor(value: f64) -> i64 {
    (value * (1 << FRACTION) as f64 + 0.5) as i64
}

/// Eight values, scaled by `sqrt(8) * 2^FRACTION`.
fn eight(s: [i64; 8]) -> [i64; 8] {
    // Even part: a rotation of the second and sixth, a butterfly of the others.
    let turn = (s[2] + s[6]) * factor(0.541196100);
    let low = turn - s[6] * factor(1.847759065);
    let high = turn + s[2] * factor(0.765366865);
    let (sum, gap) = ((s[0] + s[4]) << FRACTION, (s[0] - s[4]) << FRACTION);
    let even = [sum + high, gap + low, gap - low, sum - high];
    // Odd part.
    let common = (s[7] + s[3] + s[5] + s[1]) * factor(1.175875602);
    let a = -(s[7] + s[1]) * factor(0.899976223);
    let b = -(s[5] + s[3]) * factor(2.562915447);
    let c = common - (s[7] + s[3]) * factor(1.961570560);
    let d = common - (s[5] + s[1]) * factor(0.390180644);
    let odd = [
        s[1] * factor(1.501321110) + a + d,
        s[3] * factor(3.072711026) + b + c,
        s[5] * factor(2.053119869) + b + d,
        s[7] * factor(0.298631336) + a + c,
    ];
    std::array::from_fn(|k| if k < 4 { even[k] + odd[k] } else { even[7 - k] - odd[7 - k] })
}

/// Writes the samples of a block of dequantised coefficients into `out`, whose rows are `stride` apart.
/// `center` is half of the range of samples.
pub fn inverse(block: &[i32; 64], center: i32, out: &mut [u16], stride: usize) {
    // Fewer extra bits between the passes for 12 bits, as libjpeg does.
    let extra = if center == 128 { 2 } else { 1 };
    let descale = |value: i64, bits: u32| (value + (1 << (bits - 1))) >> bits;
    let mut middle = [[0i64; 8]; 8];
    for x in 0..8 {
        let column = eight(std::array::from_fn(|y| i64::from(block[8 * y + x])));
        for y in 0..8 {
            middle[y][x] = descale(column[y], FRACTION - extra);
        }
    }
    for (y, row) in middle.iter().enumerate() {
        let samples = eight(*row);
        for (to, &sample) in out[y * stride..y * stride + 8].iter_mut().zip(&samples) {
            let value = descale(sample, FRACTION + extra + 3) + i64::from(center);
            *to = value.clamp(0, i64::from(2 * center - 1)) as u16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_definition() {
        let mut block = [0i32; 64];
        for (k, value) in [(0, 320), (1, -44), (8, 30), (10, 12), (27, -9), (63, 5)] {
            block[k] = value;
        }
        let mut out = [0u16; 64];
        inverse(&block, 128, &mut out, 8);
        for (place, &sample) in out.iter().enumerate() {
            let mut sum = 0.0;
            for (k, &c) in block.iter().enumerate() {
                let scale = |f: usize| if f == 0 { 0.5f64.sqrt() } else { 1.0 };
                let wave = |at: usize, f: usize| {
                    ((2 * at + 1) as f64 * f as f64 * std::f64::consts::PI / 16.0).cos()
                };
                let (v, u) = (k / 8, k % 8);
                sum += scale(u) * scale(v) / 4.0 * f64::from(c) * wave(place / 8, v) * wave(place % 8, u);
            }
            assert!((f64::from(sample) - (sum + 128.0).clamp(0.0, 255.0)).abs() < 0.6, "{place}");
        }
    }
}
