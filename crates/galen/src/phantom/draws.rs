//! Random numbers of one phantom case: a ChaCha8 stream keyed by (seed, case).

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Draws in a fixed order, so that a case is the same however many are made and on how many threads.
pub struct Draws(ChaCha8Rng);

impl Draws {
    pub fn new(seed: u64, case: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..15].copy_from_slice(b"phantom");
        let mut stream = ChaCha8Rng::from_seed(key);
        stream.set_stream(case);
        Self(stream)
    }

    /// Uniform in `[low, high)`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        low + (high - low) * unit
    }

    /// Standard normal, by the Box-Muller transform.
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.between(0.0, 1.0), self.between(0.0, std::f64::consts::TAU));
        (-2.0 * (1.0 - radius).ln()).sqrt() * angle.cos()
    }
}
