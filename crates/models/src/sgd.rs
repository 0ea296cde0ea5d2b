//! Stochastic gradient descent as nnU-Net trains: Nesterov momentum, weight decay, clipped gradients.
//!
//! Source: PyTorch's SGD (momentum without dampening); golden: `nnunet/train_steps`.

use crate::weights::{Tensor, Weights};
use rayon::prelude::*;

/// Values per task; fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 1 << 14;

/// The optimiser and its memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Sgd {
    /// Share of the past step.
    pub momentum: f32,
    /// Pull towards zero, on all weights.
    pub weight_decay: f32,
    /// Gradients longer than this (L2 norm over all weights) are shortened to it.
    pub norm_max: f64,
    /// Past steps by weight name; a weight without gradient has none.
    pub buffers: Weights,
}

impl Default for Sgd {
    /// nnU-Net's settings.
    fn default() -> Self {
        Self { momentum: 0.99, weight_decay: 3e-5, norm_max: 12.0, buffers: Weights::new() }
    }
}

impl Sgd {
    /// Changes the weights that have a gradient; returns the norm of the gradient before clipping.
    /// Without a finite norm nothing is changed.
    pub fn step(&mut self, weights: &mut Weights, gradients: &Weights, rate: f64) -> f64 {
        let norm = gradient_norm(gradients);
        if !norm.is_finite() {
            return norm;
        }
        let clip = (self.norm_max / (norm + 1e-6)).min(1.0) as f32;
        for (name, gradient) in gradients.iter() {
            let Some(weight) = weights.get_mut(name) else { continue };
            let first = self.buffers.get(name).is_none();
            if first {
                self.buffers.insert(name, Tensor::filled(&gradient.shape, 0.0));
            }
            // With a zero buffer the general rule gives `g`, which is what the first step asks for.
            let Some(buffer) = self.buffers.get_mut(name) else { continue };
            change(self.momentum, self.weight_decay, clip, rate as f32, weight, buffer, gradient);
        }
        norm
    }
}

fn change(
    momentum: f32,
    decay: f32,
    clip: f32,
    rate: f32,
    weight: &mut Tensor,
    buffer: &mut Tensor,
    gradient: &Tensor,
) {
    let chunks = weight.values.par_chunks_mut(CHUNK).zip(buffer.values.par_chunks_mut(CHUNK));
    chunks.zip(gradient.values.par_chunks(CHUNK)).for_each(|((weight, buffer), gradient)| {
        for ((w, b), &g) in weight.iter_mut().zip(buffer).zip(gradient) {
            let g = g * clip + decay * *w;
            *b = momentum * *b + g;
            *w -= rate * (g + momentum * *b);
        }
    });
}

/// L2 norm over all tensors.
fn gradient_norm(gradients: &Weights) -> f64 {
    let square = |chunk: &[f32]| chunk.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
    let of_tensor = |tensor: &Tensor| -> f64 {
        let parts: Vec<f64> = tensor.values.par_chunks(CHUNK).map(square).collect();
        parts.iter().sum()
    };
    gradients.iter().map(|(_, tensor)| of_tensor(tensor)).sum::<f64>().sqrt()
}

/// nnU-Net's schedule: `rate * (1 - epoch / epochs)^0.9`.
pub fn polynomial_rate(rate: f64, epoch: usize, epochs: usize) -> f64 {
    rate * (1.0 - epoch as f64 / epochs as f64).max(0.0).powf(0.9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_is_not_finite_changes_nothing() {
        let one = |value: f32| Weights::from_iter([("w".to_owned(), Tensor::filled(&[2], value))]);
        let (mut weights, mut sgd) = (one(1.0), Sgd::default());
        assert!(sgd.step(&mut weights, &one(f32::NAN), 0.1).is_nan());
        assert_eq!((weights, sgd.buffers.len()), (one(1.0), 0));
    }
}
