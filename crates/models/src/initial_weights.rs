//! Weights before training: He-normal kernels, zero biases, norms of scale one.
//!
//! Source: He 2015, with the settings of nnU-Net (leaky ReLU of slope 0.01, fan-in).

use crate::graph::{Parameter, Start};
use crate::weights::{Tensor, Weights};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Slope that nnU-Net's initialisation assumes, whatever the network's own is.
const SLOPE: f64 = 0.01;

/// Weights that depend on the seed and on each parameter's place in the network only.
pub(crate) fn initial_weights(parameters: &[Parameter], seed: u64) -> Weights {
    let tensor = |(stream, parameter): (u64, &Parameter)| {
        let tensor = match parameter.start {
            Start::Zero => Tensor::filled(&parameter.shape, 0.0),
            Start::One => Tensor::filled(&parameter.shape, 1.0),
            Start::He { fan_in } => he_normal(&parameter.shape, fan_in, seed, stream),
        };
        (parameter.name.clone(), tensor)
    };
    (0..).zip(parameters).map(tensor).collect()
}

fn he_normal(shape: &[usize], fan_in: usize, seed: u64, stream: u64) -> Tensor {
    let deviation = (2.0 / (1.0 + SLOPE * SLOPE) / fan_in as f64).sqrt();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    let mut tensor = Tensor::filled(shape, 0.0);
    for pair in tensor.values.chunks_mut(2) {
        let normal = box_muller(&mut rng);
        pair.iter_mut().zip(normal).for_each(|(value, normal)| *value = (normal * deviation) as f32);
    }
    tensor
}

/// Two independent normal numbers (Box and Muller 1958).
fn box_muller(rng: &mut ChaCha8Rng) -> [f64; 2] {
    let unit = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let radius = (-2.0 * unit(rng.next_u64()).ln()).sqrt();
    let angle = std::f64::consts::TAU * unit(rng.next_u64());
    [radius * angle.cos(), radius * angle.sin()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_have_the_deviation_of_their_fan_in_and_depend_on_the_seed() {
        let parameter =
            |name: &str, start| Parameter { name: name.into(), shape: vec![100, 50, 3, 3], start };
        let parameters =
            [parameter("a", Start::He { fan_in: 450 }), parameter("b", Start::He { fan_in: 450 })];
        let weights = initial_weights(&parameters, 7);
        let values = &weights.get("a").unwrap().values;
        let n = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 2e-3 && (variance * 450.0 / 2.0 - 1.0).abs() < 0.03, "{mean} {variance}");
        assert_eq!(weights, initial_weights(&parameters, 7));
        assert_ne!(weights, initial_weights(&parameters, 8));
        assert_ne!(weights.get("a"), weights.get("b"));
    }
}
