//! The gradient: a task owns a head of some sequences, computes the weights again block by block, and adds up.

use super::block::{Harden, Place};
use super::forward::{Span, multiply_across, multiply_along};
use super::packing::{pack_across, pack_along, pack_rows, unpack_along, whole};
use super::{Attention, KEYS, Sequence, Tokens, View};
use crate::cpu::{Cpu, Task};
use crate::lanes::Lanes;
use crate::product::{Target, Walk, group_width, outer_rows};
use crate::scratch::{Shared, with_scratch};
use crate::tensor_blocks::check;
use crate::{LANES, padded};
use rayon::prelude::*;
use std::cell::Cell;
use std::sync::Mutex;

/// Queries whose scores are computed together.
const QUERIES: usize = 56;
/// Parts that the gradient of the bias is summed in at most; fixed, so that sums do not depend on the number of threads.
const PARTS: usize = 8;

/// What the forward pass left behind, and the gradient of its output.
#[derive(Clone, Copy)]
pub(super) struct Kept<'a> {
    pub out: &'a [f32],
    pub sums: &'a [f32],
    pub grad: &'a [f32],
}

/// Where the three gradients go.
#[derive(Clone, Copy)]
pub(super) struct Targets {
    to: [Shared; 3],
    width: usize,
    /// Channels from one projection to the next in the same row.
    step: usize,
}

impl Targets {
    /// One tensor; pad lanes become zero.
    pub(super) fn together(values: &mut [f32], channels: usize) -> Self {
        let width = padded(3 * channels);
        values.par_chunks_mut(width).for_each(|row| row[3 * channels..].fill(0.0));
        Self { to: [Shared::new(values); 3], width, step: channels }
    }

    /// Three tensors; pad lanes become zero.
    pub(super) fn apart(values: [&mut [f32]; 3], channels: usize) -> Self {
        let width = padded(channels);
        let to = values.map(|values| {
            values.par_chunks_mut(width).for_each(|row| row[channels..].fill(0.0));
            Shared::new(values)
        });
        Self { to, width, step: 0 }
    }

    /// Writes channels of a row of a projection, from `first` on.
    fn write(&self, projection: usize, row: usize, first: usize, values: impl Iterator<Item = f32>) {
        let at = row * self.width + projection * self.step + first;
        for (c, value) in values.enumerate() {
            // SAFETY: the channels of a head of a token are written by the one task that owns this head and sequence.
            unsafe { self.to[projection].at(at + c).write(value) };
        }
    }
}

/// Writes all gradients.
pub(super) fn run(
    cpu: Cpu,
    of: &Attention,
    tokens: &Tokens,
    views: [View; 3],
    kept: Kept,
    targets: Targets,
    grad_bias: Option<&mut [f32]>,
) {
    let ([queries, keys], sequences) = (tokens.lengths(), tokens.sequences());
    let parts = if grad_bias.is_some() { PARTS.min(sequences) } else { sequences };
    let wanted = if grad_bias.is_some() { queries * keys } else { 0 };
    let part = |task: usize| {
        let (part, head) = (task / of.heads, task % of.heads);
        let bias = tokens.bias().map(|bias| &bias[head * queries * keys..(head + 1) * queries * keys]);
        let grad_bias = Mutex::new(vec![0.0; wanted]);
        for index in part * sequences / parts..(part + 1) * sequences / parts {
            let sequence = tokens.sequence(index);
            let sums = &kept.sums[(index * of.heads + head) * queries..][..queries];
            let lengths = [queries, keys];
            let views = &views;
            cpu.run(&Head {
                of,
                sequence,
                head,
                lengths,
                bias,
                views,
                kept,
                sums,
                targets,
                grad_bias: &grad_bias,
            });
        }
        grad_bias.into_inner().unwrap_or_else(|poison| poison.into_inner())
    };
    let found: Vec<Vec<f32>> = (0..parts * of.heads).into_par_iter().map(part).collect();
    if let Some(grad_bias) = grad_bias {
        check("gradient of the bias", grad_bias.len(), of.heads * wanted);
        grad_bias.par_chunks_mut(wanted).enumerate().for_each(|(head, to)| {
            to.fill(0.0);
            for part in 0..parts {
                to.iter_mut().zip(&found[part * of.heads + head]).for_each(|(to, from)| *to += from);
            }
        });
    }
}

/// One head of a sequence.
struct Head<'a> {
    of: &'a Attention,
    sequence: Sequence<'a>,
    head: usize,
    /// Queries and keys.
    lengths: [usize; 2],
    bias: Option<&'a [f32]>,
    views: &'a [View<'a>; 3],
    kept: Kept<'a>,
    sums: &'a [f32],
    targets: Targets,
    /// `[queries, keys]`, or empty.
    grad_bias: &'a Mutex<Vec<f32>>,
}

impl Task for Head<'_> {
    fn run<V: Lanes>(&self) {
        let ([queries, keys], d) = (self.lengths, self.of.head_channels);
        let (wide, all) = (padded(d), whole(keys));
        let lengths = [
            queries * wide, // queries, scaled
            queries * wide, // gradient of the output
            keys * wide,    // rows while they are packed
            all * d,        // keys across
            all * wide,     // keys along
            all * d,        // values across
            all * wide,     // gradient of the keys
            all * wide,     // gradient of the values
            QUERIES * KEYS,
            QUERIES * KEYS,
            QUERIES * wide,
        ];
        with_scratch(lengths.iter().sum(), |scratch| {
            let mut rest = scratch;
            let [q, g, rows, k_across, k_along, v_across, dk, dv, scores, grads, dq] =
                lengths.map(|length| {
                    let (own, more) = std::mem::take(&mut rest).split_at_mut(length);
                    rest = more;
                    own
                });
            let head = |side| (&self.sequence, side, self.head);
            let given = View { values: self.kept.grad, width: padded(self.of.channels()), first: 0 };
            pack_rows(self.of, &self.views[0], head(0), 0..queries, self.of.scale, q);
            pack_rows(self.of, &given, head(0), 0..queries, 1.0, g);
            pack_rows(self.of, &self.views[1], head(1), 0..keys, 1.0, rows);
            pack_across(rows, d, V::COLUMNS, k_across);
            pack_along(rows, d, V::COLUMNS, all, k_along);
            pack_rows(self.of, &self.views[2], head(1), 0..keys, 1.0, rows);
            pack_across(rows, d, V::COLUMNS, v_across);
            dk.fill(0.0);
            dv.fill(0.0);
            let mut grad_bias = self.grad_bias.lock().unwrap_or_else(|poison| poison.into_inner());
            for first in (0..queries).step_by(QUERIES) {
                let count = QUERIES.min(queries - first);
                let (q, g) =
                    (&q[first * wide..(first + count) * wide], &g[first * wide..(first + count) * wide]);
                let dots: Vec<f32> = (0..count).map(|i| self.dot(first + i, &g[i * wide..])).collect();
                dq.fill(0.0);
                for first_key in (0..keys).step_by(KEYS) {
                    let sequence = &self.sequence;
                    let place = Place {
                        first_query: first,
                        queries: count,
                        first_key,
                        sequence,
                        keys,
                        bias: self.bias,
                    };
                    let span = Span { first: first_key, count: KEYS, row: KEYS };
                    multiply_across::<V>(q, [count, wide, d], k_across, span, scores);
                    multiply_across::<V>(g, [count, wide, d], v_across, span, grads);
                    V::call(&Harden {
                        place,
                        scores: Cell::new(scores),
                        grads: Cell::new(grads),
                        sums: &self.sums[first..first + count],
                        dots: &dots,
                    });
                    multiply_along::<V>(grads, count, k_along, span, [wide, all], dq);
                    add_outer::<V>(grads, q, [count, wide, first_key, all], dk);
                    add_outer::<V>(scores, g, [count, wide, first_key, all], dv);
                    if !grad_bias.is_empty() {
                        for (i, row) in grads.chunks_exact(KEYS).take(count).enumerate() {
                            let to = &mut grad_bias[(first + i) * keys + first_key..][..place.count()];
                            to.iter_mut().zip(row).for_each(|(to, from)| *to += from);
                        }
                    }
                }
                for (i, row) in dq.chunks_exact(wide).take(count).enumerate() {
                    let row = row[..d].iter().map(|value| value * self.of.scale);
                    self.targets.write(0, self.sequence.row(0, first + i), self.head * d, row);
                }
            }
            for (projection, sums) in [(1, dk), (2, dv)] {
                unpack_along(sums, d, V::COLUMNS, all, |token, first, row| {
                    if token < keys {
                        let to = self.sequence.row(1, token);
                        self.targets.write(projection, to, self.head * d + first, row.iter().copied());
                    }
                });
            }
        });
    }
}

impl Head<'_> {
    /// Product of the output of a query and its gradient.
    fn dot(&self, query: usize, grad: &[f32]) -> f32 {
        let d = self.of.head_channels;
        let first = self.sequence.row(0, query) * padded(self.of.channels()) + self.head * d;
        self.kept.out[first..first + d].iter().zip(grad).map(|(out, grad)| out * grad).sum()
    }
}

/// `sums[key] += Σ weights[query][key] · rows[query]` for the keys from `first_key` on.
fn add_outer<V: Lanes>(
    weights: &[f32],
    rows: &[f32],
    [count, wide, first_key, all]: [usize; 4],
    sums: &mut [f32],
) {
    let blocks = wide / LANES;
    check("rows of an outer product", rows.len(), count * wide);
    assert!(weights.len() >= count * KEYS, "weights of an outer product");
    for g in 0..blocks.div_ceil(V::COLUMNS) {
        let (first, columns) = (g * V::COLUMNS * LANES, group_width(blocks, V::COLUMNS, g));
        let start = first * all + first_key * columns * LANES;
        let to = sums[start..start + KEYS * columns * LANES].as_mut_ptr();
        let walk =
            Walk { planes: 1, rows: 1, count, plane: [0; 2], row: [0; 2], step: [KEYS, wide], column: LANES };
        outer_rows::<V>(
            weights.as_ptr(),
            KEYS,
            rows[first..].as_ptr(),
            walk,
            Target { to, columns, add: true },
        );
    }
}
