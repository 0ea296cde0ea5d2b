//! Layer norm over the channels of each voxel (or token) of a channels-last tensor, and its gradient.
//!
//! Source: Ba 2016. The gradient recomputes mean and deviation from the input: nothing else is kept.

#![allow(unsafe_code, reason = "the hot loops run register by register over checked slices")]

use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use crate::scratch::Shared;
use crate::tensor_blocks::check;
use crate::{LANES, padded};
use rayon::prelude::*;
use std::cell::Cell;

/// Rows per task; fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 512;

/// Norm over `channels` with the biased variance.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LayerNorm {
    /// Channels of a row.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// `out = (x - mean) / √(variance + eps) · gamma + beta`; `x` and `out` are `[rows, padded(channels)]`, `gamma` and
    /// `beta` are `[channels]`.
    pub fn forward(&self, x: &[f32], gamma: &[f32], beta: &[f32], out: &mut [f32]) {
        self.forward_with(Cpu::detected(), x, gamma, beta, out);
    }

    pub(crate) fn forward_with(&self, cpu: Cpu, x: &[f32], gamma: &[f32], beta: &[f32], out: &mut [f32]) {
        let size = self.check(x, out.len(), gamma);
        check("shift of a layer norm", beta.len(), self.channels);
        let (gamma, beta, mask) =
            (self.lanes(gamma), self.lanes(beta), self.lanes(&vec![1.0; self.channels]));
        out.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(out, x)| {
            let (gamma, beta, mask) = (&gamma, &beta, &mask);
            cpu.run(&Forward { norm: *self, x, gamma, beta, mask, out: Shared::new(out) });
        });
    }

    /// Turns the gradient of the output into that of the input, in place; `dgamma` and `dbeta` are overwritten.
    pub fn gradient(
        &self,
        x: &[f32],
        gamma: &[f32],
        grad: &mut [f32],
        dgamma: &mut [f32],
        dbeta: &mut [f32],
    ) {
        self.gradient_with(Cpu::detected(), x, gamma, grad, dgamma, dbeta);
    }

    pub(crate) fn gradient_with(
        &self,
        cpu: Cpu,
        x: &[f32],
        gamma: &[f32],
        grad: &mut [f32],
        dgamma: &mut [f32],
        dbeta: &mut [f32],
    ) {
        let size = self.check(x, grad.len(), gamma);
        check("gradient of the scale", dgamma.len(), self.channels);
        check("gradient of the shift", dbeta.len(), self.channels);
        let (gamma, mask) = (self.lanes(gamma), self.lanes(&vec![1.0; self.channels]));
        let part = |(grad, x): (&mut [f32], &[f32])| {
            let mut sums = vec![0.0; 2 * padded(self.channels)];
            let (gamma, mask, grad) = (&gamma, &mask, Shared::new(grad));
            cpu.run(&Backward { norm: *self, x, gamma, mask, grad, sums: Cell::new(&mut sums) });
            sums
        };
        let parts: Vec<_> = grad.par_chunks_mut(size).zip(x.par_chunks(size)).map(part).collect();
        let total = |lane: usize| parts.iter().map(|part| f64::from(part[lane])).sum::<f64>() as f32;
        for c in 0..self.channels {
            dgamma[c] = total(c);
            dbeta[c] = total(padded(self.channels) + c);
        }
    }

    /// Values of a chunk.
    fn check(&self, x: &[f32], other: usize, gamma: &[f32]) -> usize {
        let width = padded(self.channels);
        check("input of a layer norm", x.len(), other);
        check("scale of a layer norm", gamma.len(), self.channels);
        assert!(
            x.len().is_multiple_of(width),
            "input of a layer norm: found {} values, no whole rows",
            x.len()
        );
        CHUNK * width
    }

    fn lanes(&self, values: &[f32]) -> Vec<f32> {
        let mut lanes = values.to_vec();
        lanes.resize(padded(self.channels), 0.0);
        lanes
    }

    /// Mean and reciprocal deviation of a row.
    ///
    /// # Safety
    /// A row can be read.
    #[inline(always)]
    unsafe fn statistics<V: Lanes>(&self, row: *const f32, mask: &[f32]) -> [V; 2] {
        let share = 1.0 / self.channels as f32;
        // SAFETY: as promised by the caller; the mask is as long as a row.
        unsafe {
            let mut sum = V::zero();
            for b in (0..mask.len()).step_by(LANES) {
                sum = sum.add(V::load(row.add(b)));
            }
            let mean = V::splat(sum.sum() * share);
            let mut squares = V::zero();
            for b in (0..mask.len()).step_by(LANES) {
                let off = V::load(row.add(b)).sub(mean).mul(V::load(mask.as_ptr().add(b)));
                squares = off.fma(off, squares);
            }
            [mean, V::splat(1.0 / (squares.sum() * share + self.eps).sqrt())]
        }
    }
}

struct Forward<'a> {
    norm: LayerNorm,
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    mask: &'a [f32],
    /// As long as `x`.
    out: Shared,
}

impl Task for Forward<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let width = self.mask.len();
        for row in (0..self.x.len()).step_by(width) {
            // SAFETY: both tensors are whole rows and equally long; parameters are one row; `out` is this task's own.
            unsafe {
                let from = self.x.as_ptr().add(row);
                let [mean, rstd] = self.norm.statistics::<V>(from, self.mask);
                for b in (0..width).step_by(LANES) {
                    let gamma = V::load(self.gamma.as_ptr().add(b)).mul(rstd);
                    let off = V::load(from.add(b)).sub(mean);
                    off.fma(gamma, V::load(self.beta.as_ptr().add(b))).store(self.out.at(row + b));
                }
            }
        }
    }
}

struct Backward<'a> {
    norm: LayerNorm,
    x: &'a [f32],
    gamma: &'a [f32],
    mask: &'a [f32],
    /// As long as `x`.
    grad: Shared,
    /// Of the scale, then of the shift, one row each.
    sums: Cell<&'a mut [f32]>,
}

impl Task for Backward<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Backward<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let (width, share) = (self.mask.len(), 1.0 / self.norm.channels as f32);
        let (dgamma, dbeta) = self.sums.take().split_at_mut(width);
        for row in (0..self.x.len()).step_by(width) {
            // SAFETY: both tensors are whole rows and equally long; parameters and sums are one row; `grad` is this
            // task's own.
            unsafe {
                let (from, grad) = (self.x.as_ptr().add(row), self.grad.at(row));
                let [mean, rstd] = self.norm.statistics::<V>(from, self.mask);
                // Row sums of `g · gamma` and of that times the normalised value.
                let (mut plain, mut times) = (V::zero(), V::zero());
                for b in (0..width).step_by(LANES) {
                    let normalised = V::load(from.add(b)).sub(mean).mul(rstd);
                    let g = V::load(grad.add(b)).mul(V::load(self.mask.as_ptr().add(b)));
                    let (to, shift) = (dgamma.as_mut_ptr().add(b), dbeta.as_mut_ptr().add(b));
                    g.fma(normalised, V::load(to)).store(to);
                    g.add(V::load(shift)).store(shift);
                    let g = g.mul(V::load(self.gamma.as_ptr().add(b)));
                    plain = plain.add(g);
                    times = g.fma(normalised, times);
                }
                let (plain, times) = (V::splat(plain.sum() * share), V::splat(times.sum() * share));
                for b in (0..width).step_by(LANES) {
                    let normalised = V::load(from.add(b)).sub(mean).mul(rstd);
                    let g = V::load(grad.add(b)).mul(V::load(self.gamma.as_ptr().add(b)));
                    let raw = g.sub(plain).sub(normalised.mul(times)).mul(rstd);
                    raw.mul(V::load(self.mask.as_ptr().add(b))).store(grad.add(b));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv_tests::{agree, noise, tensor};

    /// Output of one row in 64 bits.
    fn plain(x: &[f64], gamma: &[f32], beta: &[f32], eps: f64) -> Vec<f64> {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let scaled = |(c, x): (usize, &f64)| (x - mean) / (variance + eps).sqrt() * f64::from(gamma[c]);
        x.iter().enumerate().map(scaled).zip(beta).map(|(y, &b)| y + f64::from(b)).collect()
    }

    #[test]
    fn values_and_gradients_are_those_of_64_bits() {
        for channels in [1, 3, 16, 33, 96] {
            let (rows, width) = (700, padded(channels));
            let mut x = tensor(rows, channels, 1);
            x.chunks_mut(width).for_each(|row| row[..channels].iter_mut().for_each(|x| *x += 3.0));
            let (gamma, beta) = (noise(channels, 2), noise(channels, 3));
            let cotangent = tensor(rows, channels, 4);
            let norm = LayerNorm { channels, eps: 1e-2 };
            let wide = |row: &[f32]| row[..channels].iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let mut good = vec![0.0; x.len()];
            let mut good_dx = vec![0.0; x.len()];
            let (mut good_dgamma, mut good_dbeta) = (vec![0.0; channels], vec![0.0; channels]);
            for r in 0..rows {
                let (row, g) = (wide(&x[r * width..]), wide(&cotangent[r * width..]));
                let y = plain(&row, &gamma, &beta, 1e-2);
                let normal = plain(&row, &vec![1.0; channels], &vec![0.0; channels], 1e-2);
                for c in 0..channels {
                    good[r * width + c] = y[c] as f32;
                    good_dgamma[c] += (g[c] * normal[c]) as f32;
                    good_dbeta[c] += g[c] as f32;
                    if r < 5 {
                        let at = |step: f64| {
                            let mut row = row.clone();
                            row[c] += step;
                            let y = plain(&row, &gamma, &beta, 1e-2);
                            y.iter().zip(&g).map(|(y, g)| y * g).sum::<f64>()
                        };
                        good_dx[r * width + c] = ((at(1e-5) - at(-1e-5)) / 2e-5) as f32;
                    }
                }
            }
            for cpu in Cpu::available() {
                let name = format!("{channels} channels, {}", cpu.name());
                let mut out = vec![f32::NAN; x.len()];
                norm.forward_with(cpu, &x, &gamma, &beta, &mut out);
                agree(&format!("out {name}"), &out, &good);
                let mut grad = cotangent.clone();
                let (mut dgamma, mut dbeta) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
                norm.gradient_with(cpu, &x, &gamma, &mut grad, &mut dgamma, &mut dbeta);
                if channels > 1 {
                    agree(&format!("dx {name}"), &grad[..5 * width], &good_dx[..5 * width]);
                    agree(&format!("dgamma {name}"), &dgamma, &good_dgamma);
                }
                agree(&format!("dbeta {name}"), &dbeta, &good_dbeta);
                assert!(grad.chunks(width).all(|row| row[channels..].iter().all(|&g| g == 0.0)), "{name}");
            }
        }
    }
}
