//! Selective scan (the state-space recurrence of Mamba) and its gradient.
//!
//! Source: Gu 2023 (Mamba, S6). Per channel `c` and state `s`: `h_t = exp(Δ_t A) h_(t-1) + Δ_t B_t x_t`,
//! `y_t = Σ_s C_t h_t + D x_t`, with `Δ = softplus(delta + bias)`. A task owns sixteen channels and walks through time; the
//! forward pass leaves a state every few steps, from which the gradient computes the others again.

#![allow(
    unsafe_code,
    reason = "the recurrences run register by register over slices whose lengths were checked"
)]

mod backward;
mod forward;
#[cfg(test)]
mod tests;

use crate::cpu::Cpu;
use crate::tensor_blocks::check;
use crate::{LANES, padded};

/// Steps between two states that are kept.
const STEPS: usize = 32;

/// Sizes of a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SelectiveScan {
    /// Samples.
    pub n: usize,
    /// Steps of the sequence.
    pub length: usize,
    /// Channels.
    pub channels: usize,
    /// States per channel.
    pub states: usize,
}

/// Everything that a scan reads.
#[derive(Clone, Copy, Debug)]
pub struct ScanInput<'a> {
    /// Sequence, `[n, length, padded(channels)]`.
    pub x: &'a [f32],
    /// Step sizes before bias and softplus, as `x`.
    pub delta: &'a [f32],
    /// Bias of the step sizes, `[channels]`.
    pub delta_bias: &'a [f32],
    /// Decay `A`, `[channels, states]`; negative where the state is to fade.
    pub a: &'a [f32],
    /// `B`, `[n, length, padded(states)]`.
    pub b: &'a [f32],
    /// `C`, as `b`.
    pub c: &'a [f32],
    /// Skip `D`, `[channels]`.
    pub d: &'a [f32],
}

/// Gradients of all that a scan reads, shaped alike; overwritten.
#[derive(Debug)]
pub struct ScanGradient<'a> {
    /// Of the sequence.
    pub x: &'a mut [f32],
    /// Of the step sizes before bias and softplus.
    pub delta: &'a mut [f32],
    /// Of the bias of the step sizes.
    pub delta_bias: &'a mut [f32],
    /// Of the decay.
    pub a: &'a mut [f32],
    /// Of `B`.
    pub b: &'a mut [f32],
    /// Of `C`.
    pub c: &'a mut [f32],
    /// Of the skip.
    pub d: &'a mut [f32],
}

impl SelectiveScan {
    /// Values of the states that are kept for the gradient.
    pub fn kept_len(&self) -> usize {
        self.n * self.length.div_ceil(STEPS) * self.states * padded(self.channels)
    }

    /// `y`, `[n, length, padded(channels)]`, and the states kept for the gradient.
    pub fn forward(&self, input: &ScanInput, y: &mut [f32], kept: &mut [f32]) {
        self.forward_with(Cpu::detected(), input, y, kept);
    }

    pub(crate) fn forward_with(&self, cpu: Cpu, input: &ScanInput, y: &mut [f32], kept: &mut [f32]) {
        self.check(input);
        check("output of a scan", y.len(), input.x.len());
        check("kept states", kept.len(), self.kept_len());
        forward::run(cpu, self, input, y, kept);
    }

    /// All gradients, from the gradient of `y` and the kept states.
    pub fn gradient(&self, input: &ScanInput, kept: &[f32], grad: &[f32], out: &mut ScanGradient) {
        self.gradient_with(Cpu::detected(), input, kept, grad, out);
    }

    pub(crate) fn gradient_with(
        &self,
        cpu: Cpu,
        input: &ScanInput,
        kept: &[f32],
        grad: &[f32],
        out: &mut ScanGradient,
    ) {
        self.check(input);
        check("kept states", kept.len(), self.kept_len());
        check("gradient of a scan", grad.len(), input.x.len());
        let same = [
            ("x", out.x.len(), input.x.len()),
            ("delta", out.delta.len(), input.delta.len()),
            ("delta bias", out.delta_bias.len(), input.delta_bias.len()),
            ("A", out.a.len(), input.a.len()),
            ("B", out.b.len(), input.b.len()),
            ("C", out.c.len(), input.c.len()),
            ("D", out.d.len(), input.d.len()),
        ];
        same.iter().for_each(|(what, found, expected)| check(what, *found, *expected));
        backward::run(cpu, self, input, kept, grad, out);
    }

    fn check(&self, input: &ScanInput) {
        let rows = self.n * self.length;
        check("x of a scan", input.x.len(), rows * padded(self.channels));
        check("delta of a scan", input.delta.len(), input.x.len());
        check("delta bias of a scan", input.delta_bias.len(), self.channels);
        check("A of a scan", input.a.len(), self.channels * self.states);
        check("B of a scan", input.b.len(), rows * padded(self.states));
        check("C of a scan", input.c.len(), input.b.len());
        check("D of a scan", input.d.len(), self.channels);
    }

    fn blocks(&self) -> usize {
        padded(self.channels) / LANES
    }

    /// Parameters of a block of channels, pad lanes zero: `A` as `[states, 16]`, then `D` and the bias.
    fn parameters(&self, input: &ScanInput, block: usize) -> Vec<f32> {
        let mut out = vec![0.0; (self.states + 2) * LANES];
        for (l, c) in (block * LANES..self.channels.min((block + 1) * LANES)).enumerate() {
            for s in 0..self.states {
                out[s * LANES + l] = input.a[c * self.states + s];
            }
            out[self.states * LANES + l] = input.d[c];
            out[(self.states + 1) * LANES + l] = input.delta_bias[c];
        }
        out
    }
}
