//! Instance norm with leaky ReLU on channels-last tensors: statistics to scale and shift, and the gradient.
//!
//! Source: Ulyanov 2016. Nothing here stores the normalised tensor: the forward pass turns the moments that
//! a convolution returns into `scale` and `shift` for its readers, the backward pass starts from the raw output.

#![allow(unsafe_code, reason = "the gradient passes run register by register")]

use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use crate::scratch::Shared;
use crate::tensor_blocks::check;
use crate::values::Values;
use crate::{LANES, padded};
use rayon::prelude::*;
use std::cell::Cell;

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
        self.clear(moments.len() / 2);
        for (sample, moments) in moments.chunks_exact(2 * width).enumerate() {
            for c in 0..channels {
                let i = sample * width + c;
                let mean = moments[2 * c] / voxels as f64;
                let variance = (moments[2 * c + 1] / voxels as f64 - mean * mean).max(0.0);
                let rstd = 1.0 / (variance + eps).sqrt();
                self.set(i, mean, rstd, [of(gamma, c, 1.0), of(beta, c, 0.0)]);
            }
        }
    }

    /// Zeros for `len` lanes.
    pub(crate) fn clear(&mut self, len: usize) {
        for values in [&mut self.scale, &mut self.shift, &mut self.mean, &mut self.rstd] {
            values.clear();
            values.resize(len, 0.0);
        }
    }

    /// One lane, from its statistics and its scale and shift.
    pub(crate) fn set(&mut self, i: usize, mean: f64, rstd: f64, [gamma, beta]: [f64; 2]) {
        self.scale[i] = (gamma * rstd) as f32;
        self.shift[i] = (beta - mean * gamma * rstd) as f32;
        self.mean[i] = mean as f32;
        self.rstd[i] = rstd as f32;
    }

    /// Turns `grad`, the gradient after norm and activation, into the gradient of the raw tensor, in place.
    /// `raw` and `grad` are `[n, voxels, padded(channels)]`; `dgamma` and `dbeta`, `[channels]`, are overwritten.
    pub fn backward<'a>(
        &self,
        channels: usize,
        voxels: usize,
        slope: f32,
        raw: impl Into<Values<'a>>,
        grad: &mut [f32],
        parameters: Option<(&mut [f32], &mut [f32])>,
    ) {
        self.backward_with(Cpu::detected(), [channels, voxels], slope, raw.into(), grad, parameters);
    }

    pub(crate) fn backward_with(
        &self,
        cpu: Cpu,
        [channels, voxels]: [usize; 2],
        slope: f32,
        raw: Values,
        grad: &mut [f32],
        parameters: Option<(&mut [f32], &mut [f32])>,
    ) {
        let width = padded(channels);
        let sample = voxels * width;
        check("raw tensor", raw.len(), self.scale.len() * voxels);
        check("gradient behind a norm", grad.len(), raw.len());
        let sums: Vec<Vec<f64>> = (0..self.scale.len() / width)
            .map(|n| {
                let own = n * sample..(n + 1) * sample;
                self.gradient_sums(cpu, n, width, slope, raw.cut(own.clone()), &grad[own])
            })
            .collect();
        if let Some((dgamma, dbeta)) = parameters {
            for c in 0..channels {
                dbeta[c] = sums.iter().map(|sums| sums[c]).sum::<f64>() as f32;
                dgamma[c] = sums.iter().map(|sums| sums[width + c]).sum::<f64>() as f32;
            }
        }
        for (n, sums) in sums.iter().enumerate() {
            let own = n * sample..(n + 1) * sample;
            self.gradient_of_raw(cpu, n, width, slope, raw.cut(own.clone()), &mut grad[own], sums);
        }
    }

    /// Sum over the voxels of one sample of the gradient after the norm, and of that gradient times the normalised
    /// value: `[2, width]`.
    pub(crate) fn gradient_sums(
        &self,
        cpu: Cpu,
        sample: usize,
        width: usize,
        slope: f32,
        raw: Values,
        grad: &[f32],
    ) -> Vec<f64> {
        let part = |(raw, grad): (Values, &[f32])| {
            let mut sums = vec![[0.0; LANES]; 2 * width / LANES];
            cpu.run(&Sums { norm: self, sample, width, slope, raw, grad, out: Cell::new(&mut sums) });
            sums
        };
        let size = CHUNK * width;
        let cut = |(i, grad)| (chunk(raw, i, size), grad);
        let parts: Vec<_> = grad.par_chunks(size).enumerate().map(cut).map(part).collect();
        let mut total = vec![0.0; 2 * width];
        for part in parts {
            total.iter_mut().zip(part.as_flattened()).for_each(|(t, c)| *t += c);
        }
        let rstd = &self.rstd[sample * width..(sample + 1) * width];
        total[width..].iter_mut().zip(rstd).for_each(|(sum, &rstd)| *sum *= f64::from(rstd));
        total
    }

    /// Second pass: `dx = scale * (g - mean(g) - normalised * mean(g * normalised))`, one sample.
    fn gradient_of_raw(
        &self,
        cpu: Cpu,
        sample: usize,
        width: usize,
        slope: f32,
        raw: Values,
        grad: &mut [f32],
        sums: &[f64],
    ) {
        let voxels = (raw.len() / width) as f64;
        let own = sample * width..(sample + 1) * width;
        let (scale, rstd) = (&self.scale[own.clone()], &self.rstd[own]);
        let of_raw: Vec<f32> = (0..width)
            .map(|c| (-f64::from(scale[c]) * f64::from(rstd[c]) * sums[width + c] / voxels) as f32)
            .collect();
        let constant: Vec<f32> =
            (0..width).map(|c| (-f64::from(scale[c]) * sums[c] / voxels) as f32).collect();
        self.combine(cpu, sample, slope, raw, grad, [&of_raw, &constant]);
    }

    /// `dx = scale * g + of_raw * (x - mean) + constant` in place, one sample; both factors are one value per lane.
    pub(crate) fn combine(
        &self,
        cpu: Cpu,
        sample: usize,
        slope: f32,
        raw: Values,
        grad: &mut [f32],
        [of_raw, constant]: [&[f32]; 2],
    ) {
        let width = of_raw.len();
        let size = CHUNK * width;
        grad.par_chunks_mut(size).enumerate().for_each(|(i, grad)| {
            let (raw, grad) = (chunk(raw, i, size), Shared::new(grad));
            cpu.run(&OfRaw { norm: self, sample, width, slope, raw, grad, of_raw, constant });
        });
    }

    /// Scale, shift and mean of sixteen lanes of a sample.
    #[inline(always)]
    fn lanes<V: Lanes>(&self, first: usize) -> [V; 3] {
        let block = first..first + LANES;
        [&self.scale, &self.shift, &self.mean].map(|values| {
            // SAFETY: the slice has sixteen values.
            unsafe { V::load(values[block.clone()].as_ptr()) }
        })
    }
}

/// Part `i` of parts of `size` values; the last may be shorter.
fn chunk(values: Values, i: usize, size: usize) -> Values {
    values.cut(i * size..((i + 1) * size).min(values.len()))
}

/// Sixteen values.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn load<V: Lanes>(values: Values, at: usize) -> V {
    // SAFETY: as promised by the caller.
    unsafe {
        match values {
            Values::F32(values) => V::load(values.as_ptr().add(at)),
            Values::Bf16(values) => V::widen(values.as_ptr().add(at)),
        }
    }
}

/// Parameter of a channel, or what it is without parameters.
pub(crate) fn of(values: Option<&[f32]>, c: usize, otherwise: f64) -> f64 {
    values.map_or(otherwise, |values| f64::from(values[c]))
}

/// Some voxels of [`InstanceNorm::gradient_sums`]; the second sum still lacks the factor `rstd`.
struct Sums<'a> {
    norm: &'a InstanceNorm,
    sample: usize,
    width: usize,
    slope: f32,
    raw: Values<'a>,
    grad: &'a [f32],
    /// `[2, width / 16]` blocks of lanes.
    out: Cell<&'a mut [[f64; LANES]]>,
}

impl Task for Sums<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Sums<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let (out, slope) = (self.out.take(), V::splat(self.slope));
        let (blocks, few) = (self.width / LANES, RUN * self.width);
        for (i, grad) in self.grad.chunks(few).enumerate() {
            let raw = chunk(self.raw, i, few);
            for b in 0..blocks {
                let [scale, shift, mean] = self.norm.lanes::<V>(self.sample * self.width + b * LANES);
                let (mut plain, mut times) = (V::zero(), V::zero());
                for at in (b * LANES..raw.len()).step_by(self.width) {
                    // SAFETY: both slices are whole voxels and equally long.
                    let (raw, grad) = unsafe { (load::<V>(raw, at), V::load(grad.as_ptr().add(at))) };
                    let g = grad.where_positive(raw.fma(scale, shift), grad.mul(slope));
                    plain = plain.add(g);
                    times = g.fma(raw.sub(mean), times);
                }
                let mut run = [[0f32; LANES]; 2];
                // SAFETY: both rows have sixteen values.
                unsafe {
                    plain.store(run[0].as_mut_ptr());
                    times.store(run[1].as_mut_ptr());
                }
                for (row, run) in run.iter().enumerate() {
                    for l in 0..LANES {
                        out[row * blocks + b][l] += f64::from(run[l]);
                    }
                }
            }
        }
    }
}

/// Some voxels of [`InstanceNorm::gradient_of_raw`].
struct OfRaw<'a> {
    norm: &'a InstanceNorm,
    sample: usize,
    width: usize,
    slope: f32,
    raw: Values<'a>,
    /// As long as `raw`.
    grad: Shared,
    of_raw: &'a [f32],
    constant: &'a [f32],
}

impl Task for OfRaw<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for OfRaw<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let slope = V::splat(self.slope);
        // Some voxels at a time, so that all blocks of lanes find them in the first-level cache.
        let few = RUN * self.width;
        for i in 0..self.raw.len().div_ceil(few) {
            let raw = chunk(self.raw, i, few);
            for b in (0..self.width).step_by(LANES) {
                let [scale, shift, mean] = self.norm.lanes::<V>(self.sample * self.width + b);
                let (of_raw, constant) = (&self.of_raw[b..b + LANES], &self.constant[b..b + LANES]);
                // SAFETY: both slices have sixteen values.
                let (of_raw, constant) = unsafe { (V::load(of_raw.as_ptr()), V::load(constant.as_ptr())) };
                for at in (b..raw.len()).step_by(self.width) {
                    let to = self.grad.at(i * few + at);
                    // SAFETY: `raw` and the gradient, which this task alone writes, are cut alike, in whole voxels.
                    unsafe {
                        let (raw, grad) = (load::<V>(raw, at), V::load(to));
                        let g = grad.where_positive(raw.fma(scale, shift), grad.mul(slope));
                        scale.fma(g, of_raw.fma(raw.sub(mean), constant)).store(to);
                    }
                }
            }
        }
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
        for cpu in Cpu::available() {
            let (mut other, mut more) = (cotangent.clone(), [vec![0.0; 3], vec![0.0; 3]]);
            let [dw, db] = &mut more;
            norm.backward_with(cpu, [CHANNELS, VOXELS], SLOPE, (&raw).into(), &mut other, Some((dw, db)));
            let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
            assert!(close(&grad, &other) && close(&dbeta, db) && close(&dgamma, dw), "{}", cpu.name());
        }
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
