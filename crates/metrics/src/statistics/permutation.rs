//! Permutation test of paired differences: signs are flipped.

use super::mean;
use crate::measures::{Definition, define};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[define(
    "permutation/sign-flip/p",
    "share of sign patterns whose mean difference is at least as far from 0; all patterns up to 2^16, else (hits + 1) / (draws + 1) of 9999 drawn ones",
    "0..1",
    "no pair: undefined",
    "the drawn form depends on its seed in the third digit; the seed is printed",
    "Fisher 1935; scipy.stats.permutation_test(permutation_type='samples')",
)];

/// Draws when there are too many patterns to try all.
pub const DRAWS: u64 = 9999;

/// Two-sided p-value that the mean of `differences` is 0.
pub fn sign_flip(differences: &[f64], seed: u64) -> f64 {
    let n = differences.len();
    if n == 0 {
        return f64::NAN;
    }
    let goal = mean(differences).abs();
    // Sums in another order differ in the last bits; they are still as far out.
    let goal = goal - goal * 1e-12;
    let far = |negative: &dyn Fn(usize) -> bool| {
        let sum: f64 = differences.iter().enumerate().map(|(i, d)| if negative(i) { -d } else { *d }).sum();
        u64::from((sum / n as f64).abs() >= goal)
    };
    if n <= 16 {
        let hits: u64 = (0..1u32 << n).map(|pattern| far(&|i| pattern >> i & 1 == 1)).sum();
        return hits as f64 / f64::from(1u32 << n);
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut words = vec![0u64; n.div_ceil(64)];
    let mut hits = 0;
    for _ in 0..DRAWS {
        words.iter_mut().for_each(|word| *word = random.next_u64());
        hits += far(&|i| words[i / 64] >> (i % 64) & 1 == 1);
    }
    (hits + 1) as f64 / (DRAWS + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_patterns_and_drawn_ones_agree() {
        assert_eq!(sign_flip(&[1.0, 2.0, 3.0], 0), 0.25);
        assert_eq!(sign_flip(&[0.0; 3], 0), 1.0);
        let differences: Vec<f64> = (0..30).map(|i| f64::from(i % 7) - 2.5).collect();
        let z = mean(&differences) / (super::super::variance(&differences) / 30.0).sqrt();
        let p = sign_flip(&differences, 1);
        assert!((p - super::super::normal_two_sided(z)).abs() < 0.03, "{p}");
        assert_eq!(p, sign_flip(&differences, 1));
    }
}
