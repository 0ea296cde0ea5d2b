//! The forward pass: a task owns some queries of one head and walks over the keys.

use super::block::{Place, Soften};
use super::packing::{Product, pack_across, pack_along, pack_rows, whole};
use super::{Attention, KEYS, Sequence, Tokens, View};
use crate::cpu::{Cpu, Task};
use crate::lanes::Lanes;
use crate::product::group_width;
use crate::scratch::{Shared, with_scratch};
use crate::{LANES, padded};
use rayon::prelude::*;
use std::cell::Cell;

/// Queries per task: enough to pay for the packing of the keys.
const TASK: usize = 256;
/// Queries whose scores are in the first-level cache together.
const QUERIES: usize = 56;

/// Writes `out` and the logarithms of the softmax sums.
pub(super) fn run(
    cpu: Cpu,
    of: &Attention,
    tokens: &Tokens,
    views: [View; 3],
    out: &mut [f32],
    sums: &mut [f32],
) {
    let ([queries, keys], channels) = (tokens.lengths(), of.channels());
    out.par_chunks_mut(padded(channels)).for_each(|row| row[channels..].fill(0.0));
    let parts = queries.div_ceil(TASK);
    let (out, sums) = (Shared::new(out), Shared::new(sums));
    (0..tokens.sequences() * of.heads * parts).into_par_iter().for_each(|task| {
        let (sequence, head, first) = (task / parts / of.heads, task / parts % of.heads, task % parts * TASK);
        let count = TASK.min(queries - first);
        let own = Part {
            of,
            sequence: tokens.sequence(sequence),
            head,
            first,
            count,
            keys,
            bias: tokens.bias().map(|bias| &bias[head * queries * keys..(head + 1) * queries * keys]),
            views: &views,
            out,
            sums: sums.from((sequence * of.heads + head) * queries),
        };
        cpu.run(&own);
    });
}

/// Some queries of a head.
struct Part<'a> {
    of: &'a Attention,
    sequence: Sequence<'a>,
    head: usize,
    first: usize,
    count: usize,
    keys: usize,
    bias: Option<&'a [f32]>,
    views: &'a [View<'a>; 3],
    /// Whole output.
    out: Shared,
    /// Of all queries of the head.
    sums: Shared,
}

impl Task for Part<'_> {
    fn run<V: Lanes>(&self) {
        let d = self.of.head_channels;
        let (wide, all, columns) = (padded(d), whole(self.keys), V::COLUMNS);
        let lengths = [self.count * wide, all * wide, all * d, all * wide, QUERIES * KEYS, QUERIES * wide];
        with_scratch(lengths.iter().sum(), |scratch| {
            let mut rest = scratch;
            let [q, rows, k, v, scores, sum] = lengths.map(|length| {
                let (own, more) = std::mem::take(&mut rest).split_at_mut(length);
                rest = more;
                own
            });
            let own = self.first..self.first + self.count;
            pack_rows(self.of, &self.views[0], (&self.sequence, 0, self.head), own, self.of.scale, q);
            let rows = &mut rows[..self.keys * wide];
            pack_rows(self.of, &self.views[1], (&self.sequence, 1, self.head), 0..self.keys, 1.0, rows);
            pack_across(rows, d, columns, k);
            pack_rows(self.of, &self.views[2], (&self.sequence, 1, self.head), 0..self.keys, 1.0, rows);
            pack_along(rows, d, columns, all, v);
            for first in (0..self.count).step_by(QUERIES) {
                let queries = QUERIES.min(self.count - first);
                let mut running = [[f32::NEG_INFINITY, 0.0]; QUERIES];
                sum.fill(0.0);
                for first_key in (0..self.keys).step_by(KEYS) {
                    let place = Place {
                        first_query: self.first + first,
                        queries,
                        first_key,
                        sequence: &self.sequence,
                        keys: self.keys,
                        bias: self.bias,
                    };
                    multiply_across::<V>(&q[first * wide..], [queries, wide, d], k, first_key, scores);
                    V::call(&Soften {
                        place,
                        scores: Cell::new(scores),
                        running: Cell::new(&mut running),
                        out: Cell::new(sum),
                        wide,
                    });
                    multiply_along::<V>(scores, queries, v, [first_key, all], wide, sum);
                }
                self.write(first, &running[..queries], sum);
            }
        });
    }
}

impl Part<'_> {
    fn write(&self, first: usize, running: &[[f32; 2]], sum: &[f32]) {
        let (d, wide) = (self.of.head_channels, padded(self.of.head_channels));
        for (i, ([maximum, total], row)) in running.iter().zip(sum.chunks_exact(wide)).enumerate() {
            let query = self.first + first + i;
            let to = self.sequence.row(0, query) * padded(self.of.channels()) + self.head * d;
            for (c, value) in row[..d].iter().enumerate() {
                // SAFETY: the channels of a head of a token are written by the task that owns the query.
                unsafe { self.out.at(to + c).write(value / total) };
            }
            // SAFETY: as above.
            unsafe { self.sums.at(query).write(maximum + total.ln()) };
        }
    }
}

/// `[queries, KEYS] = rows · packedᵀ` for the keys from `first_key` on; sizes are queries, values per row, head channels.
pub(super) fn multiply_across<V: Lanes>(
    rows: &[f32],
    [queries, wide, d]: [usize; 3],
    packed: &[f32],
    first_key: usize,
    scores: &mut [f32],
) {
    let group = V::COLUMNS * LANES;
    for start in (0..KEYS).step_by(group) {
        let first = (first_key + start) / group * d * group;
        let weights = &packed[first..first + d * group];
        Product {
            a: rows,
            a_row: wide,
            rows: queries,
            run: d,
            weights,
            columns: V::COLUMNS,
            to_row: KEYS,
            add: false,
        }
        .run::<V>(&mut scores[start..]);
    }
}

/// `sum += weights · packed` for the keys from `first_key` on; `all` is the number of tokens packed.
pub(super) fn multiply_along<V: Lanes>(
    weights: &[f32],
    queries: usize,
    packed: &[f32],
    [first_key, all]: [usize; 2],
    wide: usize,
    sum: &mut [f32],
) {
    let blocks = wide / LANES;
    for g in 0..blocks.div_ceil(V::COLUMNS) {
        let (first, columns) = (g * V::COLUMNS * LANES, group_width(blocks, V::COLUMNS, g));
        let start = first * all + first_key * columns * LANES;
        let own = &packed[start..start + KEYS * columns * LANES];
        Product {
            a: weights,
            a_row: KEYS,
            rows: queries,
            run: KEYS,
            weights: own,
            columns,
            to_row: wide,
            add: true,
        }
        .run::<V>(&mut sum[first..]);
    }
}
