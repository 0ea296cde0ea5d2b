//! GELU, exact and in its tanh form, and the gradient.
//!
//! Source: Hendrycks 2016. The normal distribution function is taken from `erfc`, so that the small values far below
//! zero keep their relative precision: `erfc(z) = e^(-z²) P(u) / (1 + 2z)` with `u = (z - 2.5) / (z + 2.5)`, the map of
//! Shepherd 1981 and a polynomial fitted for this file (2e-7 for all `z`).

#![allow(unsafe_code, reason = "the hot loop runs register by register over checked slices")]

use crate::LANES;
use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use crate::scratch::Shared;
use crate::tensor_blocks::check;
use rayon::prelude::*;

/// Values per task.
const CHUNK: usize = 1 << 15;

/// Coefficients of `P`, from the constant one on.
const ERFC: [f32; 10] = [
    1.264_838_1,
    -0.122_357_465,
    -0.099_018,
    0.157_644_3,
    -0.103_020_474,
    0.032_677_57,
    0.001_086_58,
    -0.004_180_246_5,
    0.000_303_542_85,
    0.000_405_488_9,
];

/// Which form of GELU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gelu {
    /// `x Φ(x)` with the normal distribution function.
    Exact,
    /// `x / 2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
    Tanh,
}

impl Gelu {
    /// `out = gelu(x)`; whole blocks of lanes, pad lanes stay zero.
    pub fn forward(self, x: &[f32], out: &mut [f32]) {
        self.forward_with(Cpu::detected(), x, out);
    }

    pub(crate) fn forward_with(self, cpu: Cpu, x: &[f32], out: &mut [f32]) {
        self.check(x, out.len());
        out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| {
            cpu.run(&Part { kind: self, gradient: false, x, to: Shared::new(out) });
        });
    }

    /// Turns the gradient of the output into that of the input, in place; `x` is the input.
    pub fn gradient(self, x: &[f32], grad: &mut [f32]) {
        self.gradient_with(Cpu::detected(), x, grad);
    }

    pub(crate) fn gradient_with(self, cpu: Cpu, x: &[f32], grad: &mut [f32]) {
        self.check(x, grad.len());
        grad.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(grad, x)| {
            cpu.run(&Part { kind: self, gradient: true, x, to: Shared::new(grad) });
        });
    }

    fn check(self, x: &[f32], other: usize) {
        check("input of a GELU", x.len(), other);
        assert!(x.len().is_multiple_of(LANES), "input of a GELU: found {} values, no whole blocks", x.len());
    }
}

/// `Φ(x)` and `x φ(x)`, the latter for the derivative.
#[inline(always)]
fn normal<V: Lanes>(x: V) -> [V; 2] {
    let (one, half) = (V::splat(1.0), V::splat(0.5));
    let negative = V::zero().sub(x);
    let z = x.max(negative).mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
    let u = z.sub(V::splat(2.5)).div(z.add(V::splat(2.5)));
    let mut p = V::splat(ERFC[9]);
    for i in (0..9).rev() {
        p = p.fma(u, V::splat(ERFC[i]));
    }
    let density = x.mul(x).mul(V::splat(-0.5)).exp();
    let tail = half.mul(density).mul(p).div(z.fma(V::splat(2.0), one));
    let below = one.sub(tail).where_positive(x, tail);
    // 1 / √(2π)
    [below, x.mul(density).mul(V::splat(0.398_942_3))]
}

/// `(1 + tanh(√(2/π) (x + 0.044715 x³))) / 2`, and `x` times its derivative.
#[inline(always)]
fn logistic<V: Lanes>(x: V) -> [V; 2] {
    // -2 √(2/π)
    let (c, cube) = (V::splat(-1.595_769), V::splat(0.044_715));
    let (one, square) = (V::splat(1.0), x.mul(x));
    let share = one.div(one.add(c.mul(x).mul(square.fma(cube, one)).exp()));
    let inner = square.fma(cube.mul(V::splat(3.0)), one).mul(c);
    [share, V::zero().sub(x.mul(share).mul(one.sub(share)).mul(inner))]
}

struct Part<'a> {
    kind: Gelu,
    gradient: bool,
    x: &'a [f32],
    /// As long as `x`.
    to: Shared,
}

impl Task for Part<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Part<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        for i in (0..self.x.len()).step_by(LANES) {
            // SAFETY: both slices are equally long, in whole blocks, and `to` belongs to this task.
            unsafe {
                let (x, to) = (V::load(self.x.as_ptr().add(i)), self.to.at(i));
                let [share, slope] = match self.kind {
                    Gelu::Exact => normal(x),
                    Gelu::Tanh => logistic(x),
                };
                if self.gradient {
                    V::load(to).mul(share.add(slope)).store(to);
                } else {
                    x.mul(share).store(to);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Integral of the normal density by Simpson's rule.
    fn normal_below(x: f64) -> f64 {
        let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let steps = 4000;
        let (from, width) = (-12.0, (x + 12.0) / f64::from(steps));
        let inner = |i: i32| density(from + f64::from(i) * width) * if i % 2 == 1 { 4.0 } else { 2.0 };
        (density(from) + (1..steps).map(inner).sum::<f64>() + density(x)) * width / 3.0
    }

    fn value(kind: Gelu, x: f64) -> f64 {
        match kind {
            Gelu::Exact => x * normal_below(x),
            Gelu::Tanh => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                x / (1.0 + (-2.0 * u).exp())
            }
        }
    }

    #[test]
    fn values_and_slopes_are_those_of_64_bits() {
        let x: Vec<f32> = (-80..80).map(|i| i as f32 * 0.11).collect();
        for cpu in Cpu::available() {
            for kind in [Gelu::Exact, Gelu::Tanh] {
                let (mut out, mut grad) = (vec![f32::NAN; x.len()], vec![2.0; x.len()]);
                kind.forward_with(cpu, &x, &mut out);
                kind.gradient_with(cpu, &x, &mut grad);
                for (i, &at) in x.iter().enumerate() {
                    let at = f64::from(at);
                    let good = value(kind, at);
                    let name = format!("{kind:?} {} at {at}", cpu.name());
                    let error = (f64::from(out[i]) - good).abs();
                    assert!(error <= 2e-6 * good.abs() + 1e-12, "{name}: {} {good}", out[i]);
                    let slope = (value(kind, at + 1e-4) - value(kind, at - 1e-4)) / 2e-4;
                    assert!((f64::from(grad[i]) / 2.0 - slope).abs() < 3e-6, "{name}: {} {slope}", grad[i]);
                }
            }
        }
    }
}
