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

/// What the softmax of one query has seen so far.
#[derive(Clone, Copy)]
pub(super) struct Running {
    /// Largest score, in powers of two.
    pub maximum: f32,
    /// Sum of the weights in sixteen parts.
    pub sum: [f32; LANES],
}

impl Running {
    pub(super) const NOTHING: Self = Self { maximum: f32::NEG_INFINITY, sum: [0.0; LANES] };

    /// The logarithm of the softmax sum, and that sum over the weight of the maximum.
    pub(super) fn finish(&self) -> [f32; 2] {
        let sum: f32 = self.sum.iter().sum();
        [(self.maximum + sum.log2()) * std::f32::consts::LN_2, sum]
    }
}

/// Scores, as powers of two, to weights, with the running maximum and sum of every query; outputs so far are scaled to
/// a new maximum.
pub(super) struct Soften<'a> {
    pub place: Place<'a>,
    /// Keys of the block that there are.
    pub count: usize,
    /// `[queries, row]`.
    pub scores: Cell<&'a mut [f32]>,
    pub row: usize,
    pub running: Cell<&'a mut [Running]>,
    /// `[queries, wide]`.
    pub out: Cell<&'a mut [f32]>,
    pub wide: usize,
}

impl Kernel for Soften<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let (scores, running, out) = (self.scores.take(), self.running.take(), self.out.take());
        let vectors = self.count.div_ceil(LANES);
        let plain = self.place.bias.is_none()
            && self.place.sequence.regions.is_none()
            && self.count.is_multiple_of(LANES);
        for query in 0..self.place.queries {
            let row = scores[query * self.row..][..vectors * LANES].as_mut_ptr();
            let running = &mut running[query];
            // SAFETY: a row of scores is whole vectors, and so is a row of the output.
            unsafe {
                let mut top = V::splat(f32::NEG_INFINITY);
                for b in 0..vectors {
                    let at = row.add(b * LANES);
                    let mut value = V::load(at);
                    if !plain {
                        value = self.add::<V>(query, b * LANES, value);
                        value.store(at);
                    }
                    top = value.max(top);
                }
                let top = largest(top);
                let mut sum = V::load(running.sum.as_ptr());
                if top > running.maximum {
                    let shrink = power_of_two(V::splat(running.maximum).sub(V::splat(top)));
                    running.maximum = top;
                    sum = sum.mul(shrink);
                    let out = out[query * self.wide..(query + 1) * self.wide].as_mut_ptr();
                    for b in (0..self.wide).step_by(LANES) {
                        V::load(out.add(b)).mul(shrink).store(out.add(b));
                    }
                }
                let maximum = V::splat(running.maximum);
                for b in 0..vectors {
                    let at = row.add(b * LANES);
                    let weight = power_of_two(V::load(at).sub(maximum));
                    sum = sum.add(weight);
                    weight.store(at);
                }
                sum.store(running.sum.as_mut_ptr());
            }
        }
    }
}

impl Soften<'_> {
    /// Bias and regions of sixteen keys from `first` of the block on, and the keys that there are not.
    #[inline(always)]
    fn add<V: Lanes>(&self, query: usize, first: usize, score: V) -> V {
        let (place, own) = (&self.place, self.place.first_query + query);
        let (key, whole) = (place.first_key + first, first + LANES <= self.count);
        let mut score = score;
        if let Some(bias) = place.bias {
            let from = &bias[own * place.keys + key..];
            score = sixteen::<V>(from, whole, 0.0).fma(V::splat(std::f32::consts::LOG2_E), score);
        }
        if let Some(regions) = place.sequence.regions {
            // Regions are whole numbers: the square of a difference is zero or at least one.
            let off = sixteen::<V>(&regions[key..], whole, regions[own]).sub(V::splat(regions[own]));
            let far = V::splat(OTHER_REGION * std::f32::consts::LOG2_E);
            score = off.mul(off).mul(far).max(far).add(score);
        }
        if !whole {
            let mut none = [NO_KEY; LANES];
            none[..self.count - first].fill(0.0);
            // SAFETY: sixteen values.
            score = score.add(unsafe { V::load(none.as_ptr()) });
        }
        score
    }
}

/// The first sixteen values, or all of fewer and then `fill`.
#[inline(always)]
fn sixteen<V: Lanes>(from: &[f32], whole: bool, fill: f32) -> V {
    if whole {
        // SAFETY: the slice is cut to sixteen values.
        return unsafe { V::load(from[..LANES].as_ptr()) };
    }
    let (mut values, count) = ([fill; LANES], from.len().min(LANES));
    values[..count].copy_from_slice(&from[..count]);
    // SAFETY: sixteen values.
    unsafe { V::load(values.as_ptr()) }
}

/// The largest of sixteen values.
#[inline(always)]
fn largest<V: Lanes>(values: V) -> f32 {
    let mut lanes = [0.0f32; LANES];
    // SAFETY: sixteen values fit.
    unsafe { values.store(lanes.as_mut_ptr()) };
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] = if lanes[i] > lanes[i + half] { lanes[i] } else { lanes[i + half] };
        }
    }
    lanes[0]
}

/// `2^x` for `x` of at most zero to two units in the last place; below -126 it is `2^-126`, which no sum of weights with
/// a one among them sees.
#[inline(always)]
fn power_of_two<V: Lanes>(x: V) -> V {
    // In this order what is not a number stays so.
    let x = V::splat(-126.0).max(x);
    let n = x.round();
    let r = x.sub(n);
    let mut sum = V::splat(1.540_353_1e-4);
    for factor in [1.333_355_8e-3, 9.618_129e-3, 5.550_411e-2, 0.240_226_5, std::f32::consts::LN_2, 1.0] {
        sum = sum.fma(r, V::splat(factor));
    }
    sum.mul(n.power_of_two())
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
