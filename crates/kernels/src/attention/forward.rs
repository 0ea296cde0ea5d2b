//! The forward pass: a task owns some queries of one head and walks over the keys.

use super::block::{Place, Running, Soften};
use super::packing::{Product, pack_across, pack_along, pack_rows, whole};
use super::{Attention, Sequence, Tokens, View};
use crate::cpu::{Cpu, Task};
use crate::lanes::Lanes;
use crate::product::{even_runs, group_width};
use crate::scratch::{Shared, with_scratch};
use crate::{LANES, padded};
use rayon::prelude::*;
use std::cell::Cell;

/// Queries per task: enough to pay for the packing of the keys.
const TASK: usize = 588;
/// Queries and keys whose scores are in the first-level cache together.
const QUERIES: usize = 28;
const BLOCK: usize = 128;

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
        let (sequence, head, part) = (task / parts / of.heads, task / parts % of.heads, task % parts);
        let first = part * queries / parts;
        let count = (part + 1) * queries / parts - first;
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
        let lengths = [self.count * wide, all * wide, all * d, all * wide, QUERIES * BLOCK, QUERIES * wide];
        with_scratch(lengths.iter().sum(), |scratch| {
            let mut rest = scratch;
            let [q, rows, k, v, scores, sum] = lengths.map(|length| {
                let (own, more) = std::mem::take(&mut rest).split_at_mut(length);
                rest = more;
                own
            });
            let own = self.first..self.first + self.count;
            // Scores are powers of two, so that a weight is one step of its exponential shorter.
            let scale = self.of.scale * std::f32::consts::LOG2_E;
            pack_rows(self.of, &self.views[0], (&self.sequence, 0, self.head), own, scale, q);
            let rows = &mut rows[..self.keys * wide];
            pack_rows(self.of, &self.views[1], (&self.sequence, 1, self.head), 0..self.keys, 1.0, rows);
            pack_across(rows, d, columns, k);
            pack_rows(self.of, &self.views[2], (&self.sequence, 1, self.head), 0..self.keys, 1.0, rows);
            pack_along(rows, d, columns, all, v);
            for (first, queries) in even_runs(self.count, QUERIES) {
                let mut running = [Running::NOTHING; QUERIES];
                sum.fill(0.0);
                for first_key in (0..self.keys).step_by(BLOCK) {
                    let place = Place {
                        first_query: self.first + first,
                        queries,
                        first_key,
                        sequence: &self.sequence,
                        keys: self.keys,
                        bias: self.bias,
                    };
                    let count = BLOCK.min(self.keys - first_key);
                    let span = Span { first: first_key, count, row: BLOCK };
                    multiply_across::<V>(&q[first * wide..], [queries, wide, d], k, span, scores);
                    V::call(&Soften {
                        place,
                        count,
                        scores: Cell::new(scores),
                        row: BLOCK,
                        running: Cell::new(&mut running),
                        out: Cell::new(sum),
                        wide,
                    });
                    multiply_along::<V>(scores, queries, v, span, [wide, all], sum);
                }
                self.write(first, &running[..queries], sum);
            }
        });
    }
}

impl Part<'_> {
    fn write(&self, first: usize, running: &[Running], sum: &[f32]) {
        let (d, wide) = (self.of.head_channels, padded(self.of.head_channels));
        for (i, (running, row)) in running.iter().zip(sum.chunks_exact(wide)).enumerate() {
            let [logarithm, total] = running.finish();
            let query = self.first + first + i;
            let to = self.sequence.row(0, query) * padded(self.of.channels()) + self.head * d;
            for (c, value) in row[..d].iter().enumerate() {
                // SAFETY: the channels of a head of a token are written by the task that owns the query.
                unsafe { self.out.at(to + c).write(value / total) };
            }
            // SAFETY: as above.
            unsafe { self.sums.at(query).write(logarithm) };
        }
    }
}

/// Keys whose scores lie side by side, in rows of `row` values.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub first: usize,
    pub count: usize,
    pub row: usize,
}

/// `[queries, keys] = rows · packedᵀ` for whole groups of keys; sizes are queries, values per row, head channels.
pub(super) fn multiply_across<V: Lanes>(
    rows: &[f32],
    [queries, wide, d]: [usize; 3],
    packed: &[f32],
    span: Span,
    scores: &mut [f32],
) {
    let group = V::COLUMNS * LANES;
    for start in (0..span.count).step_by(group) {
        let first = (span.first + start) / group * d * group;
        let weights = &packed[first..first + d * group];
        Product {
            a: rows,
            a_row: wide,
            rows: queries,
            run: d,
            weights,
            columns: V::COLUMNS,
            to_row: span.row,
            add: false,
        }
        .run::<V>(&mut scores[start..]);
    }
}

/// `sum += weights · packed`; sizes are values per row and the number of tokens packed.
pub(super) fn multiply_along<V: Lanes>(
    weights: &[f32],
    queries: usize,
    packed: &[f32],
    span: Span,
    [wide, all]: [usize; 2],
    sum: &mut [f32],
) {
    let blocks = wide / LANES;
    for g in 0..blocks.div_ceil(V::COLUMNS) {
        let (first, columns) = (g * V::COLUMNS * LANES, group_width(blocks, V::COLUMNS, g));
        let start = first * all + span.first * columns * LANES;
        let own = &packed[start..start + span.count * columns * LANES];
        Product {
            a: weights,
            a_row: span.row,
            rows: queries,
            run: span.count,
            weights: own,
            columns,
            to_row: wide,
            add: true,
        }
        .run::<V>(&mut sum[first..]);
    }
}
