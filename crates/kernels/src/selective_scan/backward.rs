//! The recurrence backward in time.

use super::forward::softplus;
use super::{STEPS, ScanGradient, ScanInput, SelectiveScan};
use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use crate::scratch::{Recycled, Shared, with_scratch};
use crate::{LANES, padded};
use rayon::prelude::*;
use std::sync::Mutex;

/// Groups of channel blocks whose sums of `B` and `C` are kept apart; fixed, so that sums do not depend on the number
/// of threads.
const GROUPS: usize = 16;

/// Writes all gradients.
pub(super) fn run(
    cpu: Cpu,
    of: &SelectiveScan,
    input: &ScanInput,
    kept: &[f32],
    grad: &[f32],
    out: &mut ScanGradient,
) {
    let (blocks, states, wide) = (of.blocks(), of.states, padded(of.states));
    let groups = GROUPS.min(blocks);
    // Per sample and group: gradients of B and of C, `[2, length, states]`.
    let (length, sample) = (of.length * states, 2 * of.length * states);
    let mut sums = Recycled::new(of.n * groups * sample);
    let (x, delta) = (Shared::new(out.x), Shared::new(out.delta));
    let found: Vec<Vec<Vec<f32>>> = sums
        .par_chunks_mut(sample)
        .enumerate()
        .map(|(task, sums)| {
            let (n, group) = (task / groups, task % groups);
            sums.fill(0.0);
            let sums = Shared::new(sums);
            let block = |block: usize| {
                let parameters = of.parameters(input, block);
                let kept = &kept[(n * blocks + block) * of.length.div_ceil(STEPS) * states * LANES..];
                let of_parameters = Mutex::new(vec![0.0; (states + 2) * LANES]);
                let own = Channels { of, input, kept, grad, n, block, x, delta, sums };
                cpu.run(&Backward { own: &own, parameters: &parameters, of_parameters: &of_parameters });
                of_parameters.into_inner().unwrap_or_else(|poison| poison.into_inner())
            };
            (group * blocks / groups..(group + 1) * blocks / groups).map(block).collect()
        })
        .collect();
    let rows = |n: usize, part: usize, t: usize| {
        let first = (0..groups).map(move |group| (n * groups + group) * sample + part * length + t * states);
        first.map(|first| &sums[first..first + states])
    };
    for (part, to) in [&mut *out.b, &mut *out.c].into_iter().enumerate() {
        to.par_chunks_mut(wide).enumerate().for_each(|(row, to)| {
            to.fill(0.0);
            for from in rows(row / of.length, part, row % of.length) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        });
    }
    // Per sample and block, since groups are consecutive blocks.
    let found: Vec<Vec<f32>> = found.into_iter().flatten().collect();
    let total = |lane: usize, row: usize| {
        let of_sample = |n: usize| f64::from(found[n * blocks + lane / LANES][row * LANES + lane % LANES]);
        (0..of.n).map(of_sample).sum::<f64>() as f32
    };
    for lane in 0..of.channels {
        for s in 0..states {
            out.a[lane * states + s] = total(lane, s);
        }
        out.d[lane] = total(lane, states);
        out.delta_bias[lane] = total(lane, states + 1);
    }
}

/// Sixteen channels of a sample.
struct Channels<'a> {
    of: &'a SelectiveScan,
    input: &'a ScanInput<'a>,
    /// `[length / STEPS, states, 16]` of these channels.
    kept: &'a [f32],
    grad: &'a [f32],
    n: usize,
    block: usize,
    /// Whole gradients.
    x: Shared,
    delta: Shared,
    /// Gradients of `B` and `C` of this group, added to: `[2, length, states]`.
    sums: Shared,
}

struct Backward<'a> {
    own: &'a Channels<'a>,
    parameters: &'a [f32],
    /// Gradients of the parameters, `[states + 2, 16]`.
    of_parameters: &'a Mutex<Vec<f32>>,
}

impl Task for Backward<'_> {
    fn run<V: Lanes>(&self) {
        let (of, states) = (self.own.of, self.own.of.states);
        let mut of_parameters = self.of_parameters.lock().unwrap_or_else(|poison| poison.into_inner());
        // States before and decays of every step of a chunk, and the gradient of the state.
        let (chunk, row) = (STEPS * states * LANES, states * LANES);
        with_scratch(2 * chunk + 2 * row, |scratch| {
            let (before, rest) = scratch.split_at_mut(chunk);
            let (decays, rest) = rest.split_at_mut(chunk);
            let (of_state, state) = rest.split_at_mut(row);
            of_state.fill(0.0);
            for first in (0..of.length).step_by(STEPS).collect::<Vec<_>>().into_iter().rev() {
                let count = STEPS.min(of.length - first);
                state.copy_from_slice(&self.own.kept[first / STEPS * row..][..row]);
                V::call(&Chunk {
                    own: self.own,
                    parameters: self.parameters,
                    first,
                    count,
                    before: Shared::new(before),
                    decays: Shared::new(decays),
                    of_state: Shared::new(of_state),
                    state: Shared::new(state),
                    of_parameters: Shared::new(&mut of_parameters),
                });
            }
        });
    }
}

/// Some steps: forward again from the kept state, then backward.
struct Chunk<'a> {
    own: &'a Channels<'a>,
    parameters: &'a [f32],
    first: usize,
    count: usize,
    /// `[STEPS, states, 16]`.
    before: Shared,
    /// `[STEPS, states, 16]`.
    decays: Shared,
    /// `[states, 16]`.
    of_state: Shared,
    /// `[states, 16]`.
    state: Shared,
    /// `[states + 2, 16]`.
    of_parameters: Shared,
}

impl Chunk<'_> {
    /// A vector of the parameters.
    ///
    /// # Safety
    /// `at` is at most `states + 1`.
    #[inline(always)]
    unsafe fn parameter<V: Lanes>(&self, at: usize) -> V {
        // SAFETY: parameters are `states + 2` vectors.
        unsafe { V::load(self.parameters.as_ptr().add(at * LANES)) }
    }

    /// Place of the channels at a step, and the row of `B` and `C`.
    #[inline(always)]
    fn place(&self, i: usize) -> (usize, usize) {
        let own = self.own;
        let row = own.n * own.of.length + self.first + i;
        (row * padded(own.of.channels) + own.block * LANES, row * padded(own.of.states))
    }

    /// The step before softplus, the step, and the sequence.
    ///
    /// # Safety
    /// Sixteen channels can be read at `at`.
    #[inline(always)]
    unsafe fn read<V: Lanes>(&self, at: usize) -> [V; 3] {
        let (input, states) = (self.own.input, self.own.of.states);
        // SAFETY: as promised by the caller; parameters are `states + 2` vectors.
        unsafe {
            let bias = V::load(self.parameters.as_ptr().add((states + 1) * LANES));
            let raw = V::load(input.delta.as_ptr().add(at)).add(bias);
            [raw, softplus(raw), V::load(input.x.as_ptr().add(at))]
        }
    }
}

impl Kernel for Chunk<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let own = self.own;
        let states = own.of.states;
        // SAFETY: `SelectiveScan` checked all lengths; scratch, gradients of the parameters and the sums belong to the
        // task, and so do these channels of the gradients of sequence and steps.
        unsafe {
            for i in 0..self.count {
                let (at, row) = self.place(i);
                let [_, step, x] = self.read::<V>(at);
                let drive = step.mul(x);
                for s in 0..states {
                    let (place, state) = ((i * states + s) * LANES, self.state.at(s * LANES));
                    let (h, decay) = (V::load(state), step.mul(self.parameter::<V>(s)).exp());
                    h.store(self.before.at(place));
                    decay.store(self.decays.at(place));
                    decay.fma(h, drive.mul(V::splat(own.input.b[row + s]))).store(state);
                }
            }
            for i in (0..self.count).rev() {
                let (at, row) = self.place(i);
                let [raw, step, x] = self.read::<V>(at);
                let (drive, g) = (step.mul(x), V::load(own.grad.as_ptr().add(at)));
                let (mut of_drive, mut of_step) = (V::zero(), V::zero());
                let sums = own.sums.at((self.first + i) * states);
                let more = own.sums.at((own.of.length + self.first + i) * states);
                for s in 0..states {
                    let (place, lanes) = ((i * states + s) * LANES, s * LANES);
                    let (before, decay) = (V::load(self.before.at(place)), V::load(self.decays.at(place)));
                    let (b, c) = (V::splat(own.input.b[row + s]), V::splat(own.input.c[row + s]));
                    let of_state = g.fma(c, V::load(self.of_state.at(lanes)));
                    *more.add(s) += g.mul(decay.fma(before, drive.mul(b))).sum();
                    *sums.add(s) += of_state.mul(drive).sum();
                    of_drive = of_state.fma(b, of_drive);
                    // Of the exponent `step · A`.
                    let faded = of_state.mul(decay);
                    let of_exponent = faded.mul(before);
                    of_step = of_exponent.fma(self.parameter::<V>(s), of_step);
                    let of_a = self.of_parameters.at(lanes);
                    of_exponent.fma(step, V::load(of_a)).store(of_a);
                    faded.store(self.of_state.at(lanes));
                }
                let of_step = of_drive.fma(x, of_step);
                let one = V::splat(1.0);
                let of_raw = of_step.div(one.add(V::zero().sub(raw).exp()));
                of_raw.store(own.delta.at(at));
                of_drive.fma(step, g.mul(self.parameter::<V>(states))).store(own.x.at(at));
                let of_d = self.of_parameters.at(states * LANES);
                g.fma(x, V::load(of_d)).store(of_d);
                let of_bias = self.of_parameters.at((states + 1) * LANES);
                of_raw.add(V::load(of_bias)).store(of_bias);
            }
        }
    }
}
