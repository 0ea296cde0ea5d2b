//! The transform along the first axis of a `[n, width]` array, sixteen columns at a time.

#![allow(unsafe_code, reason = "rows are read and written sixteen values at a time, inside slices")]

use super::envelope::Envelope;
use crate::cpu::{Cpu, Kernel};
use crate::lanes::Lanes;
use std::cell::RefCell;

/// Columns that are searched together.
const BLOCK: usize = 16;
/// Cells of search in each direction before the envelope is the cheaper way.
const REACH: usize = 112;
/// Steps between two looks at whether the search may stop.
const LOOK: usize = 2;

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
        for i in 0..n {
            let mut best = self.row::<V>(i);
            let mut k = 1;
            let farthest = i.max(n - 1 - i);
            let last = farthest.min(self.steps.len() - 1);
            while k <= last && best.any_above(V::splat(self.steps[k])) {
                let end = (k + LOOK).min(last + 1);
                while k < end {
                    // Beyond an end the row itself is looked at again, which changes nothing.
                    let above = self.row::<V>(if k <= i { i - k } else { i });
                    let below = self.row::<V>(if i + k < n { i + k } else { i });
                    best = above.min(below).add(V::splat(self.steps[k])).min(best);
                    k += 1;
                }
            }
            if last < farthest && best.any_above(V::splat(self.steps[last])) {
                return;
            }
            let out: &mut [f32] = &mut to[i][self.start..self.start + BLOCK];
            let best = if self.finish == Finish::Squared { best } else { best.sqrt() };
            // SAFETY: the slice has sixteen values.
            unsafe { best.store(out.as_mut_ptr()) };
        }
        self.done.set(true);
    }
}

impl Search<'_, '_> {
    #[inline(always)]
    fn row<V: Lanes>(&self, i: usize) -> V {
        let at = i * self.width + self.start;
        // SAFETY: the slice has sixteen values.
        unsafe { V::load(self.from[at..at + BLOCK].as_ptr()) }
    }
}
