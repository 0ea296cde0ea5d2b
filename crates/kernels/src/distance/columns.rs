//! The transform along the first axis of a `[n, width]` array, sixteen columns at a time.

use super::envelope::Envelope;
use crate::cpu::{Cpu, Kernel};
use crate::lanes::Lanes;
use std::cell::RefCell;

/// Columns that are searched together.
const BLOCK: usize = 16;
/// Cells of search in each direction before the envelope is the cheaper way.
const REACH: usize = 112;
/// Steps between two looks at whether the search may stop.
const LOOK: usize = 4;

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// Squares.
    Squared,
    /// Roots.
    Root,
}

impl Finish {
    fn of(self, square: f32) -> f32 {
        if self == Self::Squared { square } else { square.sqrt() }
    }
}

/// Transforms every column of `from` into the rows `to`.
pub(super) fn transform(from: &[f32], to: &mut [&mut [f32]], spacing: f64, finish: Finish) {
    transform_with(Cpu::detected(), from, to, spacing, finish);
}

/// The same with a chosen instruction set.
pub(super) fn transform_with(cpu: Cpu, from: &[f32], to: &mut [&mut [f32]], spacing: f64, finish: Finish) {
    let (n, width) = (to.len(), to.first().map_or(0, |row| row.len()));
    let reach = n.min(REACH);
    let steps: Vec<f32> = (0..=reach).map(|k| (k as f64 * spacing).powi(2) as f32).collect();
    let mut envelope = None;
    for first in (0..width).step_by(BLOCK) {
        // The last block overlaps the one before it: what it writes again is the same.
        let start = first.min(width.saturating_sub(BLOCK));
        let found = width >= BLOCK && {
            let search = Search {
                from,
                width,
                start,
                steps: &steps,
                finish,
                to: RefCell::new(to),
                done: false.into(),
            };
            cpu.run(&search);
            search.done.get()
        };
        if !found {
            let envelope = envelope.get_or_insert_with(|| (Envelope::new(n, spacing), vec![0f32; n]));
            by_envelope(envelope, from, to, start..width.min(start + BLOCK), finish);
        }
    }
}

fn by_envelope(
    (envelope, line): &mut (Envelope, Vec<f32>),
    from: &[f32],
    to: &mut [&mut [f32]],
    columns: std::ops::Range<usize>,
    finish: Finish,
) {
    let width = to[0].len();
    for column in columns {
        line.iter_mut().enumerate().for_each(|(i, cell)| *cell = from[i * width + column]);
        envelope.transform(line);
        to.iter_mut().zip(line.iter()).for_each(|(row, value)| row[column] = finish.of(*value));
    }
}

/// One block of columns.
struct Search<'a, 'b> {
    from: &'a [f32],
    width: usize,
    /// First column.
    start: usize,
    /// Squared distance of 0, 1, 2, .. cells, as far as the search may go.
    steps: &'a [f32],
    finish: Finish,
    to: RefCell<&'a mut [&'b mut [f32]]>,
    /// Every row found its nearest sites within reach.
    done: std::cell::Cell<bool>,
}

impl crate::cpu::Task for Search<'_, '_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Search<'_, '_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let mut to = self.to.borrow_mut();
        let n = to.len();
        let row = |i: usize| -> &[f32; BLOCK] {
            let at = i * self.width + self.start;
            self.from[at..at + BLOCK].try_into().expect("a block of columns")
        };
        for i in 0..n {
            let mut best = *row(i);
            let mut k = 1;
            let farthest = i.max(n - 1 - i);
            let last = farthest.min(self.steps.len() - 1);
            loop {
                let worst = best.iter().fold(0f32, |a, b| if *b > a { *b } else { a });
                if k > last || worst <= self.steps[k] {
                    break;
                }
                let end = (k + LOOK).min(last + 1);
                while k < end {
                    let step = self.steps[k];
                    // Beyond an end the row itself is looked at again, which changes nothing.
                    let above = row(if k <= i { i - k } else { i });
                    let below = row(if i + k < n { i + k } else { i });
                    for lane in 0..BLOCK {
                        let nearer = if above[lane] < below[lane] { above[lane] } else { below[lane] };
                        let there = nearer + step;
                        best[lane] = if there < best[lane] { there } else { best[lane] };
                    }
                    k += 1;
                }
            }
            let worst = best.iter().fold(0f32, |a, b| if *b > a { *b } else { a });
            if last < farthest && worst > self.steps[last] {
                return;
            }
            let out: &mut [f32] = &mut to[i][self.start..self.start + BLOCK];
            for (cell, square) in out.iter_mut().zip(best) {
                *cell = self.finish.of(square);
            }
        }
        self.done.set(true);
    }
}
