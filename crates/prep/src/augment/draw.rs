//! Everything that is random about one augmented sample, drawn before any voxel is touched.
//! Probabilities and ranges: nnU-Net v2, `nnUNetTrainer.get_training_transforms`.
//! Differs: one ChaCha8 stream per (seed, iteration, sample) instead of numpy's and torch's global state.

use super::Recipe;
use super::binary_operators::Operator;
use super::spatial::{Affine, affine_2d, affine_3d};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Random stream of one sample; the same key gives the same numbers on every machine.
pub fn stream(seed: u64, iteration: u64, sample: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (part, value) in key.chunks_exact_mut(8).zip([seed, iteration, sample]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Uniform number in `[low, high)`.
pub fn uniform(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    let unit = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    low + unit * (high - low)
}

/// Uniform integer in `[0, n)`; `n` must not be 0.
pub fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    // The high half of a 64 x 64 product: bias below n / 2^64.
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

fn chance(rng: &mut ChaCha8Rng, probability: f64) -> bool {
    uniform(rng, 0.0, 1.0) < probability
}

/// Factor below or above 1 with equal chance, each side uniform.
fn around_one(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    if chance(rng, 0.5) { uniform(rng, low, 1.0) } else { uniform(rng, 1.0, high) }
}

/// Gaussian noise: one standard deviation, one key for the field of all channels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Standard deviation.
    pub deviation: f32,
    /// Key of the noise field.
    pub key: u64,
}

/// Changes of the previous stage's label map, which a cascade gets as input.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CascadeDraw {
    /// Label channel, operator, radius of the ball or disk; in the order of application.
    pub operators: Vec<(usize, Operator, f64)>,
    /// Label channel and a number that picks the component to remove; in the order of application.
    pub removals: Vec<(usize, u64)>,
}

/// All random choices for one sample. Per-channel entries are `None` where the channel is left alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// Rotation and scaling; `None` crops the centre.
    pub affine: Option<Affine>,
    /// Additive noise.
    pub noise: Option<Noise>,
    /// Sigma of the blur per axis `(z, y, x)` in voxels, per channel.
    pub blur: Vec<Option<[f64; 3]>>,
    /// Brightness factor per channel.
    pub brightness: Vec<Option<f32>>,
    /// Contrast factor per channel.
    pub contrast: Vec<Option<f32>>,
    /// Scale of the simulated low resolution, per channel.
    pub low_resolution: Vec<Option<f64>>,
    /// Exponent of the gamma on the inverted image, per channel.
    pub gamma_inverted: Vec<Option<f32>>,
    /// Exponent of the gamma, per channel.
    pub gamma: Vec<Option<f32>>,
    /// Axes `(z, y, x)` to flip.
    pub mirror: [bool; 3],
    /// Cascade only.
    pub cascade: CascadeDraw,
}

impl Draw {
    /// No change but the crop to the final patch.
    pub fn nothing(channels: usize) -> Self {
        Self {
            affine: None,
            noise: None,
            blur: vec![None; channels],
            brightness: vec![None; channels],
            contrast: vec![None; channels],
            low_resolution: vec![None; channels],
            gamma_inverted: vec![None; channels],
            gamma: vec![None; channels],
            mirror: [false; 3],
            cascade: CascadeDraw::default(),
        }
    }

    /// Draws one sample's choices, in the order in which the transforms run.
    pub fn new(recipe: &Recipe, channels: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut draw = Self::nothing(channels);
        draw.affine = affine(recipe, rng);
        if chance(rng, 0.1) {
            draw.noise = Some(Noise { deviation: uniform(rng, 0.0, 0.1) as f32, key: rng.next_u64() });
        }
        if chance(rng, 0.2) {
            draw.blur = per_channel(channels, 0.5, rng, |rng| [(); 3].map(|()| uniform(rng, 0.5, 1.0)));
        }
        if chance(rng, 0.15) {
            draw.brightness = per_channel(channels, 1.0, rng, |rng| around_one(rng, 0.75, 1.25) as f32);
        }
        if chance(rng, 0.15) {
            draw.contrast = per_channel(channels, 1.0, rng, |rng| around_one(rng, 0.75, 1.25) as f32);
        }
        if chance(rng, 0.25) {
            draw.low_resolution = per_channel(channels, 0.5, rng, |rng| uniform(rng, 0.5, 1.0));
        }
        if chance(rng, 0.1) {
            draw.gamma_inverted = per_channel(channels, 1.0, rng, |rng| around_one(rng, 0.7, 1.5) as f32);
        }
        if chance(rng, 0.3) {
            draw.gamma = per_channel(channels, 1.0, rng, |rng| around_one(rng, 0.7, 1.5) as f32);
        }
        for &axis in &recipe.mirror_axes {
            draw.mirror[axis] = chance(rng, 0.5);
        }
        if !recipe.previous_labels.is_empty() {
            draw.cascade = cascade(recipe.previous_labels.len(), rng);
        }
        draw
    }
}

fn affine(recipe: &Recipe, rng: &mut ChaCha8Rng) -> Option<Affine> {
    let (rotate, scale) = (chance(rng, 0.2), chance(rng, 0.2));
    let limit = recipe.rotation;
    let angles = if rotate { [(); 3].map(|()| uniform(rng, -limit, limit)) } else { [0.0; 3] };
    let factor = if scale { uniform(rng, 0.7, 1.4) } else { 1.0 };
    let in_plane = recipe.flat || recipe.dummy_2d;
    (rotate || scale)
        .then(|| if in_plane { affine_2d(angles[2], factor) } else { affine_3d(angles, [factor; 3]) })
}

fn per_channel<T>(
    channels: usize,
    probability: f64,
    rng: &mut ChaCha8Rng,
    mut value: impl FnMut(&mut ChaCha8Rng) -> T,
) -> Vec<Option<T>> {
    (0..channels).map(|_| chance(rng, probability).then(|| value(rng))).collect()
}

fn cascade(labels: usize, rng: &mut ChaCha8Rng) -> CascadeDraw {
    const OPERATORS: [Operator; 4] =
        [Operator::Dilation, Operator::Erosion, Operator::Closing, Operator::Opening];
    let mut draw = CascadeDraw::default();
    if chance(rng, 0.4) {
        for label in shuffled(labels, rng) {
            if chance(rng, 0.5) {
                draw.operators.push((label, OPERATORS[below(rng, 4)], uniform(rng, 1.0, 8.0)));
            }
        }
    }
    if chance(rng, 0.2) {
        for label in shuffled(labels, rng) {
            if chance(rng, 0.5) {
                draw.removals.push((label, rng.next_u64()));
            }
        }
    }
    draw
}

fn shuffled(n: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, below(rng, last + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_key_same_draw_and_frequencies_are_those_of_the_recipe() {
        let recipe = Recipe::for_plan(&[32, 32, 32], &[false], &[]);
        let of = |sample| Draw::new(&recipe, 1, &mut stream(3, 5, sample));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let draws: Vec<Draw> = (0..4000).map(of).collect();
        let share = |test: &dyn Fn(&Draw) -> bool| draws.iter().filter(|d| test(d)).count() as f64 / 4000.0;
        for (name, got, want) in [
            ("affine", share(&|d| d.affine.is_some()), 0.36),
            ("noise", share(&|d| d.noise.is_some()), 0.1),
            ("blur", share(&|d| d.blur[0].is_some()), 0.1),
            ("brightness", share(&|d| d.brightness[0].is_some()), 0.15),
            ("contrast", share(&|d| d.contrast[0].is_some()), 0.15),
            ("low resolution", share(&|d| d.low_resolution[0].is_some()), 0.125),
            ("gamma inverted", share(&|d| d.gamma_inverted[0].is_some()), 0.1),
            ("gamma", share(&|d| d.gamma[0].is_some()), 0.3),
            ("mirror x", share(&|d| d.mirror[2]), 0.5),
        ] {
            assert!((got - want).abs() < 0.03, "{name}: {got} instead of {want}");
        }
    }
}
