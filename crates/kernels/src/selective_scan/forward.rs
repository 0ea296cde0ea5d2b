//! The recurrence forward in time.

use super::{STEPS, ScanInput, SelectiveScan};
use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use crate::scratch::Shared;
use crate::{LANES, padded};
use rayon::prelude::*;

/// `ln(1 + e^x)`: the larger of `x` and 0 plus a logarithm of something between 1 and 2.
#[inline(always)]
pub(super) fn softplus<V: Lanes>(x: V) -> V {
    let small = x.min(V::zero().sub(x)).exp();
    // ln(1 + t) = 2 artanh(t / (2 + t)), whose argument is at most 1/3.
    let s = small.div(small.add(V::splat(2.0)));
    let square = s.mul(s);
    let mut sum = V::splat(2.0 / 13.0);
    for odd in [11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum.fma(square, V::splat(2.0 / odd));
    }
    sum.fma(s, V::zero().max(x))
}

/// Writes the output and the kept states.
pub(super) fn run(cpu: Cpu, of: &SelectiveScan, input: &ScanInput, y: &mut [f32], kept: &mut [f32]) {
    let (y, kept) = (Shared::new(y), Shared::new(kept));
    (0..of.n * of.blocks()).into_par_iter().for_each(|task| {
        let (n, block) = (task / of.blocks(), task % of.blocks());
        let parameters = of.parameters(input, block);
        let own = kept.from(task * of.length.div_ceil(STEPS) * of.states * LANES);
        cpu.run(&Channels { of, input, parameters: &parameters, n, block, y, kept: own });
    });
}

/// Sixteen channels of a sample.
struct Channels<'a> {
    of: &'a SelectiveScan,
    input: &'a ScanInput<'a>,
    parameters: &'a [f32],
    n: usize,
    block: usize,
    /// Whole output.
    y: Shared,
    /// `[length / STEPS, states, 16]` of these channels.
    kept: Shared,
}

impl Task for Channels<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Channels<'_> {
    /// A vector of the parameters.
    ///
    /// # Safety
    /// `at` is at most `states + 1`.
    #[inline(always)]
    unsafe fn parameter<V: Lanes>(&self, at: usize) -> V {
        // SAFETY: parameters are `states + 2` vectors.
        unsafe { V::load(self.parameters.as_ptr().add(at * LANES)) }
    }
}

impl Kernel for Channels<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let (of, input) = (self.of, self.input);
        let (width, wide, states) = (padded(of.channels), padded(of.states), of.states);
        let mut state = vec![0.0f32; states * LANES];
        for t in 0..of.length {
            let row = self.n * of.length + t;
            let at = row * width + self.block * LANES;
            let (b, c) = (&input.b[row * wide..][..states], &input.c[row * wide..][..states]);
            // SAFETY: `SelectiveScan::check` made sure of all lengths; parameters are `states + 2` vectors; output and
            // kept states of these channels belong to this task.
            unsafe {
                if t.is_multiple_of(STEPS) {
                    let to = self.kept.at(t / STEPS * states * LANES);
                    to.copy_from_nonoverlapping(state.as_ptr(), states * LANES);
                }
                let x = V::load(input.x.as_ptr().add(at));
                let step =
                    softplus(V::load(input.delta.as_ptr().add(at)).add(self.parameter::<V>(states + 1)));
                let (drive, mut y) = (step.mul(x), self.parameter::<V>(states).mul(x));
                for s in 0..states {
                    let own = state.as_mut_ptr().add(s * LANES);
                    let decay = step.mul(self.parameter::<V>(s)).exp();
                    let h = decay.fma(V::load(own), drive.mul(V::splat(b[s])));
                    h.store(own);
                    y = h.fma(V::splat(c[s]), y);
                }
                y.store(self.y.at(at));
            }
        }
    }
}
