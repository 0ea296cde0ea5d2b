//! What happens to a block of scores: bias and regions, the running softmax, and its gradient.

use super::{KEYS, Sequence};
use crate::LANES;
use crate::cpu::Kernel;
use crate::lanes::Lanes;
use std::cell::Cell;

/// Added to the scores of keys beyond the last: their weight is exactly zero, without an infinity in between.
const NO_KEY: f32 = -1e30;
/// Added to the score of a token of another region.
pub(super) const OTHER_REGION: f32 = -100.0;

/// Where a block of scores lies, and what is added to it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub first_query: usize,
    pub queries: usize,
    pub first_key: usize,
    pub sequence: &'a Sequence<'a>,
    /// Keys of the sequence.
    pub keys: usize,
    /// `[tokens, tokens]` of the head.
    pub bias: Option<&'a [f32]>,
}

impl Place<'_> {
    /// Keys of the block that there are.
    pub(super) fn count(&self) -> usize {
        KEYS.min(self.keys - self.first_key)
    }

    /// What is added to the scores of one query.
    #[inline(always)]
    fn added(&self, query: usize) -> [f32; KEYS] {
        let (mut added, count) = ([NO_KEY; KEYS], self.count());
        match self.bias {
            Some(bias) => {
                let first = (self.first_query + query) * self.keys + self.first_key;
                added[..count].copy_from_slice(&bias[first..first + count]);
            }
            None => added[..count].fill(0.0),
        }
        if let Some(regions) = self.sequence.regions {
            let own = regions[self.first_query + query];
            for (added, &region) in added.iter_mut().zip(&regions[self.first_key..][..count]) {
                *added += if region == own { 0.0 } else { OTHER_REGION };
            }
        }
        added
    }
}

/// Scores to weights, with the running maximum and sum of every query; outputs so far are scaled to a new maximum.
pub(super) struct Soften<'a> {
    pub place: Place<'a>,
    /// `[queries, KEYS]`.
    pub scores: Cell<&'a mut [f32]>,
    /// Maximum and sum per query.
    pub running: Cell<&'a mut [[f32; 2]]>,
    /// `[queries, wide]`.
    pub out: Cell<&'a mut [f32]>,
    pub wide: usize,
}

impl Kernel for Soften<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let (scores, running, out) = (self.scores.take(), self.running.take(), self.out.take());
        for query in 0..self.place.queries {
            let row = &mut scores[query * KEYS..(query + 1) * KEYS];
            let added = self.place.added(query);
            let [maximum, sum] = &mut running[query];
            let mut values = [V::zero(); KEYS / LANES];
            // SAFETY: rows of scores and of what is added have `KEYS` values; a row of the output is whole vectors.
            unsafe {
                let mut top = V::splat(*maximum);
                for (b, value) in values.iter_mut().enumerate() {
                    *value = V::load(row.as_ptr().add(b * LANES)).add(V::load(added.as_ptr().add(b * LANES)));
                    top = top.max(*value);
                }
                let mut lanes = [0.0; LANES];
                top.store(lanes.as_mut_ptr());
                let top = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
                let shrink = (*maximum - top).exp();
                let mut total = V::zero();
                for (b, value) in values.iter().enumerate() {
                    let weight = value.sub(V::splat(top)).exp();
                    total = total.add(weight);
                    weight.store(row.as_mut_ptr().add(b * LANES));
                }
                *sum = *sum * shrink + total.sum();
                if shrink != 1.0 {
                    let out = &mut out[query * self.wide..(query + 1) * self.wide];
                    for b in (0..self.wide).step_by(LANES) {
                        let to = out.as_mut_ptr().add(b);
                        V::load(to).mul(V::splat(shrink)).store(to);
                    }
                }
                *maximum = top;
            }
        }
    }
}

/// Scores to weights, and the gradients of the weights to those of the scores.
pub(super) struct Harden<'a> {
    pub place: Place<'a>,
    /// Scores, then weights, `[queries, KEYS]`.
    pub scores: Cell<&'a mut [f32]>,
    /// Gradients of the weights, then of the scores, `[queries, KEYS]`.
    pub grads: Cell<&'a mut [f32]>,
    /// Logarithm of the softmax sum per query.
    pub sums: &'a [f32],
    /// Product of output and its gradient per query.
    pub dots: &'a [f32],
}

impl Kernel for Harden<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let (scores, grads) = (self.scores.take(), self.grads.take());
        for query in 0..self.place.queries {
            let row = query * KEYS..(query + 1) * KEYS;
            let (scores, grads) = (&mut scores[row.clone()], &mut grads[row]);
            let added = self.place.added(query);
            let (sum, dot) = (V::splat(self.sums[query]), V::splat(self.dots[query]));
            for b in (0..KEYS).step_by(LANES) {
                // SAFETY: all three rows have `KEYS` values.
                unsafe {
                    let (score, grad) = (scores.as_mut_ptr().add(b), grads.as_mut_ptr().add(b));
                    let weight = V::load(score).add(V::load(added.as_ptr().add(b))).sub(sum).exp();
                    weight.store(score);
                    weight.mul(V::load(grad).sub(dot)).store(grad);
                }
            }
        }
    }
}
