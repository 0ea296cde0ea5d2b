//! Instance norm with leaky ReLU on channels-last tensors: statistics to scale and shift, and the gradient.
//!
//! Source: Ulyanov 2016. Nothing here stores the normalised tensor: the forward pass turns the moments that
//! a convolution returns into `scale` and `shift` for its readers, the backward pass starts from the raw output.

use crate::{LANES, padded};
use rayon::prelude::*;

/// Voxels per task of a reduction; fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 2048;
/// Voxels that are summed in single precision before they join the double-precision sum.
const RUN: usize = 32;

/// One instance norm of a batch. All vectors are `[n, padded(channels)]`; pad lanes are zero.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InstanceNorm {
    /// What readers multiply the raw value with.
    pub scale: Vec<f32>,
    /// What readers add.
    pub shift: Vec<f32>,
    /// Mean of the raw values.
    pub mean: Vec<f32>,
    /// `1 / sqrt(variance + eps)` of the raw values, biased variance.
    pub rstd: Vec<f32>,
}

impl InstanceNorm {
    /// From `moments`, `[n, padded(channels), 2]`: sum and sum of squares over `voxels` voxels.
    /// `gamma` and `beta` are `[channels]`; without them 1 and 0.
    pub fn update(
        &mut self,
        moments: &[f64],
        channels: usize,
        voxels: usize,
        gamma: Option<&[f32]>,
        beta: Option<&[f32]>,
        eps: f64,
    ) {
        let width = padded(channels);
        for values in [&mut self.scale, &mut self.shift, &mut self.mean, &mut self.rstd] {
            values.clear();
            values.resize(moments.len() / 2, 0.0);
        }
        for (sample, moments) in moments.chunks_exact(2 * width).enumerate() {
            for c in 0..channels {
                let i = sample * width + c;
                let mean = moments[2 * c] / voxels as f64;
                let variance = (moments[2 * c + 1] / voxels as f64 - mean * mean).max(0.0);
                let rstd = 1.0 / (variance + eps).sqrt();
                let scale = gamma.map_or(1.0, |g| f64::from(g[c])) * rstd;
                self.scale[i] = scale as f32;
                self.shift[i] = (beta.map_or(0.0, |b| f64::from(b[c])) - mean * scale) as f32;
                self.mean[i] = mean as f32;
                self.rstd[i] = rstd as f32;
            }
        }
    }

    /// Turns `grad`, the gradient after norm and activation, into the gradient of the raw tensor, in place.
    /// `raw` and `grad` are `[n, voxels, padded(channels)]`; `dgamma` and `dbeta`, `[channels]`, are overwritten.
    pub fn backward(
        &self,
        channels: usize,
        voxels: usize,
        slope: f32,
        raw: &[f32],
        grad: &mut [f32],
        parameters: Option<(&mut [f32], &mut [f32])>,
    ) {
        let width = padded(channels);
        let samples = self.scale.len() / width;
        let sums: Vec<Vec<f64>> =
            (0..samples).map(|sample| self.gradient_sums(sample, width, voxels, slope, raw, grad)).collect();
        if let Some((dgamma, dbeta)) = parameters {
            for c in 0..channels {
                dbeta[c] = sums.iter().map(|sums| sums[c]).sum::<f64>() as f32;
                dgamma[c] = sums.iter().map(|sums| sums[width + c]).sum::<f64>() as f32;
            }
        }
        for (sample, sums) in sums.iter().enumerate() {
            let block = sample * voxels * width..(sample + 1) * voxels * width;
            self.gradient_of_raw(sample, width, slope, &raw[block.clone()], &mut grad[block], sums);
        }
    }

    /// Sum over voxels of the gradient after the norm, and of that gradient times the normalised value:
    /// `[2, width]`.
    fn gradient_sums(
        &self,
        sample: usize,
        width: usize,
        voxels: usize,
        slope: f32,
        raw: &[f32],
        grad: &[f32],
    ) -> Vec<f64> {
        let part = |from: usize, to: usize| (sample * voxels + from) * width..(sample * voxels + to) * width;
        let chunks: Vec<Vec<f64>> = (0..voxels.div_ceil(CHUNK))
            .into_par_iter()
            .map(|chunk| {
                let range = part(chunk * CHUNK, ((chunk + 1) * CHUNK).min(voxels));
                let mut sums = vec![0.0; 2 * width];
                for c in (0..width).step_by(LANES) {
                    self.lane_sums(
                        sample * width + c,
                        width,
                        slope,
                        &raw[range.clone()],
                        &grad[range.clone()],
                        c,
                        &mut sums,
                    );
                }
                sums
            })
            .collect();
        let mut total = vec![0.0; 2 * width];
        for chunk in chunks {
            total.iter_mut().zip(chunk).for_each(|(t, c)| *t += c);
        }
        total
    }

    /// One block of lanes of [`Self::gradient_sums`].
    fn lane_sums(
        &self,
        first: usize,
        width: usize,
        slope: f32,
        raw: &[f32],
        grad: &[f32],
        c: usize,
        sums: &mut [f64],
    ) {
        let lanes =
            |values: &[f32]| -> [f32; LANES] { values[first..first + LANES].try_into().expect("a block") };
        let (scale, shift) = (lanes(&self.scale), lanes(&self.shift));
        let (mean, rstd) = (lanes(&self.mean), lanes(&self.rstd));
        for (raw, grad) in raw.chunks(RUN * width).zip(grad.chunks(RUN * width)) {
            let (mut plain, mut times) = ([0f32; LANES], [0f32; LANES]);
            for (raw, grad) in raw.chunks_exact(width).zip(grad.chunks_exact(width)) {
                let (raw, grad) = (&raw[c..c + LANES], &grad[c..c + LANES]);
                for l in 0..LANES {
                    let t = raw[l] * scale[l] + shift[l];
                    let g = if t > 0.0 { grad[l] } else { slope * grad[l] };
                    plain[l] += g;
                    times[l] += g * ((raw[l] - mean[l]) * rstd[l]);
                }
            }
            for l in 0..LANES {
                sums[c + l] += f64::from(plain[l]);
                sums[width + c + l] += f64::from(times[l]);
            }
        }
    }

    /// Second pass: `dx = scale * (g - mean(g) - normalised * mean(g * normalised))`, one sample.
    fn gradient_of_raw(
        &self,
        sample: usize,
        width: usize,
        slope: f32,
        raw: &[f32],
        grad: &mut [f32],
        sums: &[f64],
    ) {
        let voxels = (raw.len() / width) as f64;
        let own = sample * width..(sample + 1) * width;
        let (scale, shift) = (&self.scale[own.clone()], &self.shift[own.clone()]);
        let (mean, rstd) = (&self.mean[own.clone()], &self.rstd[own]);
        let of_raw: Vec<f32> = (0..width)
            .map(|c| (-f64::from(scale[c]) * f64::from(rstd[c]) * sums[width + c] / voxels) as f32)
            .collect();
        let constant: Vec<f32> =
            (0..width).map(|c| (-f64::from(scale[c]) * sums[c] / voxels) as f32).collect();
        grad.par_chunks_mut(CHUNK * width).zip(raw.par_chunks(CHUNK * width)).for_each(|(grad, raw)| {
            for (grad, raw) in grad.chunks_exact_mut(width).zip(raw.chunks_exact(width)) {
                for c in 0..width {
                    let t = raw[c] * scale[c] + shift[c];
                    let g = if t > 0.0 { grad[c] } else { slope * grad[c] };
                    grad[c] = scale[c] * g + (of_raw[c] * (raw[c] - mean[c]) + constant[c]);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNELS: usize = 3;
    const VOXELS: usize = 40;
    const SLOPE: f32 = 0.01;

    fn values(seed: f32) -> Vec<f32> {
        let mut out = vec![0.0; 2 * VOXELS * LANES];
        for (v, voxel) in out.chunks_exact_mut(LANES).enumerate() {
            for c in 0..CHANNELS {
                voxel[c] = (v as f32 * 1.7 + c as f32 * 0.9 + seed).sin() * 2.0 + 0.5;
            }
        }
        out
    }

    fn norm_of(raw: &[f32], gamma: &[f32], beta: &[f32]) -> InstanceNorm {
        let mut moments = vec![0.0; 2 * LANES * 2];
        for (i, &x) in raw.iter().enumerate() {
            let at = i / (VOXELS * LANES) * LANES + i % LANES;
            moments[2 * at] += f64::from(x);
            moments[2 * at + 1] += f64::from(x).powi(2);
        }
        let mut norm = InstanceNorm::default();
        norm.update(&moments, CHANNELS, VOXELS, Some(gamma), Some(beta), 1e-5);
        norm
    }

    fn objective(raw: &[f32], gamma: &[f32], beta: &[f32], cotangent: &[f32]) -> f64 {
        let norm = norm_of(raw, gamma, beta);
        let activated = |i: usize| {
            let at = i / (VOXELS * LANES) * LANES + i % LANES;
            let t = f64::from(raw[i]) * f64::from(norm.scale[at]) + f64::from(norm.shift[at]);
            if t > 0.0 { t } else { t * f64::from(SLOPE) }
        };
        (0..raw.len()).map(|i| activated(i) * f64::from(cotangent[i])).sum()
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (raw, cotangent) = (values(0.3), values(2.0));
        let (gamma, beta) = (vec![1.2, -0.7, 0.5], vec![0.1, 0.3, -0.2]);
        let norm = norm_of(&raw, &gamma, &beta);
        let mut grad = cotangent.clone();
        let (mut dgamma, mut dbeta) = (vec![0.0; 3], vec![0.0; 3]);
        norm.backward(CHANNELS, VOXELS, SLOPE, &raw, &mut grad, Some((&mut dgamma, &mut dbeta)));
        let slope_at = |what: &mut dyn FnMut(f32) -> f64| (what(1e-2) - what(-1e-2)) / 2e-2;
        for i in [0, 1, 2, 17 * LANES + 1, (VOXELS + 5) * LANES] {
            let numeric = slope_at(&mut |step| {
                let mut raw = raw.clone();
                raw[i] += step;
                objective(&raw, &gamma, &beta, &cotangent)
            });
            assert!((numeric - f64::from(grad[i])).abs() < 2e-2, "{i}: {numeric} {}", grad[i]);
        }
        for c in 0..CHANNELS {
            let numeric = slope_at(&mut |step| {
                let mut gamma = gamma.clone();
                gamma[c] += step;
                objective(&raw, &gamma, &beta, &cotangent)
            });
            assert!((numeric - f64::from(dgamma[c])).abs() < 0.3, "gamma {c}: {numeric} {}", dgamma[c]);
        }
        assert!(
            grad.chunks_exact(LANES).all(|voxel| voxel[CHANNELS..].iter().all(|&x| x == 0.0)),
            "pad lanes"
        );
    }
}
