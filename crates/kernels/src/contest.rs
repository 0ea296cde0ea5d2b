//! Which of several classes is largest in every cell of a plane whose rows and columns are interpolated linearly.
//!
//! Some rows of all classes are stretched along x, then mixed along y and compared while they are in the cache: no
//! class ever exists as a plane of the finer grid. Single precision, no fused operations: the same values on every
//! processor.

#![allow(unsafe_code, reason = "rows are read and written sixteen values at a time, inside checked buffers")]

use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use std::cell::RefCell;

/// Values that are computed together.
const WIDTH: usize = 16;
/// Input values that sixteen outputs may read from.
const WINDOW: usize = 32;
/// Output rows that share stretched input rows.
const BAND: usize = 16;

/// Two input cells and their weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tap {
    /// Indices.
    pub at: [usize; 2],
    /// Weights.
    pub weights: [f32; 2],
}

/// How a winner is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// The largest value; the first one on ties.
    Largest,
    /// The last value above this number.
    Above(f32),
}

/// Winners so far. Rows are padded: cell `(y, x)` lies at `y * stride + x`.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Row length.
    pub stride: usize,
    /// Largest value; with [`Rule::Above`] the smallest distance of any value from zero.
    pub best: Vec<f32>,
    /// Second largest value; with [`Rule::Above`] not used.
    pub second: Vec<f32>,
    /// Number of the winner, -1 for none.
    pub winner: Vec<f32>,
    /// Stretched rows.
    wide: Vec<f32>,
}

/// The rows and columns of a finer (or coarser) plane.
pub struct Contest {
    /// Cells of an input plane, `(y, x)`.
    from: [usize; 2],
    /// Output columns, rounded up to whole registers.
    stride: usize,
    y: Vec<Tap>,
    x: Columns,
}

/// Columns in groups of sixteen; an index counts from its group's base.
struct Columns {
    base: Vec<usize>,
    index: [Vec<i32>; 2],
    weights: [Vec<f32>; 2],
    /// All groups read from a window.
    narrow: bool,
}

impl Columns {
    fn new(taps: &[Tap], stride: usize) -> Self {
        let mut columns =
            Self { base: Vec::new(), index: [vec![], vec![]], weights: [vec![], vec![]], narrow: true };
        for first in (0..stride).step_by(WIDTH) {
            let group: Vec<Tap> = (first..first + WIDTH).map(|x| taps[x.min(taps.len() - 1)]).collect();
            let base = group.iter().flat_map(|tap| tap.at).min().unwrap_or(0);
            columns.base.push(base);
            for tap in group {
                for side in 0..2 {
                    let index = tap.at[side] - base;
                    columns.narrow &= index < WINDOW;
                    columns.index[side].push(index as i32);
                    columns.weights[side].push(tap.weights[side]);
                }
            }
        }
        columns
    }
}

/// Where single precision does not decide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Doubt {
    /// It always does.
    Never,
    /// It never does.
    Always,
    /// Where the best value leads by no more than `least`, plus this share of the larger of the two best.
    Lead {
        /// Share of the value.
        share: f32,
        /// What always counts as equal.
        least: f32,
    },
    /// With [`Rule::Above`]: where some value is no farther from zero than this.
    NearZero(f32),
}

impl Standing {
    /// Writes winners, `columns` a row: 0 for none, k + 1 for class k. `doubtful` gets the cells that are to be decided
    /// in another way.
    pub fn finish(&self, columns: usize, doubt: Doubt, winners: &mut [u16], doubtful: &mut Vec<usize>) {
        doubtful.clear();
        Cpu::detected().run(&Finish {
            standing: self,
            columns,
            doubt,
            out: RefCell::new((winners, doubtful)),
        });
    }
}

/// One call of [`Standing::finish`].
struct Finish<'a> {
    standing: &'a Standing,
    columns: usize,
    doubt: Doubt,
    out: RefCell<(&'a mut [u16], &'a mut Vec<usize>)>,
}

impl Task for Finish<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Finish<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        /// Adding this leaves a whole number in the lowest bits.
        const WHOLE: f32 = 8_388_608.0;
        let (winners, doubtful) = &mut *self.out.borrow_mut();
        let Standing { stride, best, second, winner, .. } = self.standing;
        let doubts = |best: f32, second: f32| match self.doubt {
            Doubt::Never => false,
            Doubt::Always => true,
            Doubt::Lead { share, least } => {
                let (a, b) = (best.abs(), second.abs());
                let clear = best - second > (if a > b { a } else { b }) * share + least;
                !clear
            }
            Doubt::NearZero(limit) => {
                let clear = best > limit;
                !clear
            }
        };
        for (row, out) in winners.chunks_exact_mut(self.columns).enumerate() {
            let cells = row * stride..row * stride + self.columns;
            let (best, second) = (&best[cells.clone()], &second[cells.clone()]);
            for (out, winner) in out.iter_mut().zip(&winner[cells]) {
                *out = (winner + 1.0 + WHOLE).to_bits() as u16;
            }
            for (group, (best, second)) in best.chunks(WIDTH).zip(second.chunks(WIDTH)).enumerate() {
                let any = best.iter().zip(second).fold(false, |any, (b, s)| any | doubts(*b, *s));
                if any {
                    let cells = best.iter().zip(second).enumerate();
                    let found = cells.filter(|(_, (b, s))| doubts(**b, **s)).map(|(i, _)| i);
                    doubtful.extend(found.map(|i| row * self.columns + group * WIDTH + i));
                }
            }
        }
    }
}

impl Contest {
    /// From planes of `from` cells to one row per tap of `y` and one column per tap of `x`.
    pub fn new(from: [usize; 2], y: Vec<Tap>, x: &[Tap]) -> Self {
        for (taps, n) in [(&y[..], from[0]), (x, from[1])] {
            let inside = |tap: &Tap| tap.at.iter().all(|at| *at < n);
            assert!(!taps.is_empty() && taps.iter().all(inside), "taps read inside the plane");
        }
        let stride = x.len().next_multiple_of(WIDTH);
        Self { from, stride, x: Columns::new(x, stride), y }
    }

    /// Forgets all winners.
    pub fn begin(&self, rule: Rule, standing: &mut Standing) {
        let n = self.stride * self.y.len();
        let best = if rule == Rule::Largest { f32::NEG_INFINITY } else { f32::INFINITY };
        standing.stride = self.stride;
        for (values, start) in [
            (&mut standing.best, best),
            (&mut standing.second, f32::NEG_INFINITY),
            (&mut standing.winner, -1.0),
        ] {
            values.clear();
            values.resize(n, start);
        }
    }

    /// Lets further classes take part, of which the first has number `first`. `planes` are one plane `[k, y, x]`, or
    /// two that are mixed with the weights.
    pub fn enter(
        &self,
        rule: Rule,
        first: usize,
        planes: &[&[f32]],
        weights: [f32; 2],
        standing: &mut Standing,
    ) {
        self.enter_with(Cpu::detected(), rule, first, planes, weights, standing);
    }

    fn enter_with(
        &self,
        cpu: Cpu,
        rule: Rule,
        first: usize,
        planes: &[&[f32]],
        weights: [f32; 2],
        standing: &mut Standing,
    ) {
        let area = self.from[0] * self.from[1];
        let classes = planes.first().map_or(0, |plane| plane.len() / area);
        assert!(
            planes.len() <= 2 && planes.iter().all(|plane| plane.len() == classes * area),
            "whole planes"
        );
        let n = self.stride * self.y.len();
        let states = [&standing.best, &standing.second, &standing.winner];
        assert!(states.iter().all(|values| values.len() == n), "a standing that was begun");
        cpu.run(&Round {
            contest: self,
            rule,
            first,
            classes,
            planes,
            weights,
            standing: RefCell::new(standing),
        });
    }
}

/// One call of [`Contest::enter`].
struct Round<'a> {
    contest: &'a Contest,
    rule: Rule,
    first: usize,
    classes: usize,
    planes: &'a [&'a [f32]],
    weights: [f32; 2],
    standing: RefCell<&'a mut Standing>,
}

impl Task for Round<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Round<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let Contest { from: [_, nx], stride, y, .. } = self.contest;
        let standing = &mut **self.standing.borrow_mut();
        let count = self.planes.len();
        // The row being stretched, with room for a whole window behind it.
        let mut line = vec![0f32; nx + WINDOW];
        for (band, taps) in y.chunks(BAND).enumerate() {
            let low = taps.iter().flat_map(|tap| tap.at).min().unwrap_or(0);
            let rows = taps.iter().flat_map(|tap| tap.at).max().unwrap_or(0) + 1 - low;
            let step = rows * stride;
            standing.wide.resize((self.classes * count * step).max(standing.wide.len()), 0.0);
            for (number, wide) in standing.wide.chunks_exact_mut(step).take(self.classes * count).enumerate()
            {
                let plane = self.planes[number % count];
                let start = (number / count * self.contest.from[0] + low) * nx;
                let rows = plane[start..start + rows * nx].chunks_exact(*nx);
                for (wide, row) in wide.chunks_exact_mut(*stride).zip(rows) {
                    line[..*nx].copy_from_slice(row);
                    self.stretch::<V>(&line, wide);
                }
            }
            for (i, tap) in taps.iter().enumerate() {
                let offsets = tap.at.map(|at| (at - low) * stride);
                let start = (band * BAND + i) * stride;
                self.compare::<V>(standing, start, offsets, tap.weights, step);
            }
        }
    }
}

impl Round<'_> {
    /// One row on the output's columns.
    #[inline(always)]
    fn stretch<V: Lanes>(&self, line: &[f32], out: &mut [f32]) {
        let Columns { base, index, weights, narrow } = &self.contest.x;
        for (group, out) in out.chunks_exact_mut(WIDTH).enumerate() {
            let (base, at) = (base[group], group * WIDTH);
            if *narrow {
                let window = &line[base..base + WINDOW];
                let side = [0, 1].map(|side| (&index[side][at..at + WIDTH], &weights[side][at..at + WIDTH]));
                // SAFETY: indices lie inside the window (`narrow`); all slices have sixteen values.
                unsafe {
                    let low = V::pick(window.as_ptr(), side[0].0.as_ptr()).mul(V::load(side[0].1.as_ptr()));
                    let high = V::pick(window.as_ptr(), side[1].0.as_ptr()).mul(V::load(side[1].1.as_ptr()));
                    low.add(high).store(out.as_mut_ptr());
                }
            } else {
                for (i, out) in out.iter_mut().enumerate() {
                    let side =
                        |side: usize| line[base + index[side][at + i] as usize] * weights[side][at + i];
                    *out = side(0) + side(1);
                }
            }
        }
    }

    /// One row of winners that begins at `start`; rows of a class begin at `offsets` in its `step` stretched values.
    #[inline(always)]
    fn compare<V: Lanes>(
        &self,
        standing: &mut Standing,
        start: usize,
        offsets: [usize; 2],
        weights: [f32; 2],
        step: usize,
    ) {
        let stride = self.contest.stride;
        let Standing { best, second, winner, wide, .. } = standing;
        let [best, second, winner] = [best, second, winner].map(|values| &mut values[start..start + stride]);
        let count = self.planes.len();
        let wide = &wide[..self.classes * count * step];
        assert!(offsets.iter().all(|offset| offset + stride <= step), "rows inside the band");
        let y = [V::splat(weights[0]), V::splat(weights[1])];
        let z = [V::splat(self.weights[0]), V::splat(self.weights[1])];
        for x in (0..stride).step_by(WIDTH) {
            // SAFETY: `stride` is a multiple of sixteen and the three rows have `stride` values; a stretched row begins
            // at `number * step + offset` with `offset + stride <= step`, and there are `classes * count` of them.
            unsafe {
                let wide = wide.as_ptr().add(x);
                let mut b = V::load(best.as_ptr().add(x));
                let mut s = V::load(second.as_ptr().add(x));
                let mut w = V::load(winner.as_ptr().add(x));
                match self.rule {
                    Rule::Largest => {
                        for class in 0..self.classes {
                            let v = value(wide.add(class * count * step), step, count, offsets, [y, z]);
                            let lead = v.sub(b);
                            w = V::splat((self.first + class) as f32).where_positive(lead, w);
                            s = s.max(v.min(b));
                            b = v.where_positive(lead, b);
                        }
                        s.store(second.as_mut_ptr().add(x));
                    }
                    Rule::Above(limit) => {
                        for class in 0..self.classes {
                            let v = value(wide.add(class * count * step), step, count, offsets, [y, z]);
                            w = V::splat((self.first + class) as f32)
                                .where_positive(v.sub(V::splat(limit)), w);
                            b = b.min(v.max(V::zero().sub(v)));
                        }
                    }
                }
                b.store(best.as_mut_ptr().add(x));
                w.store(winner.as_mut_ptr().add(x));
            }
        }
    }
}

/// Sixteen values of a class whose stretched rows begin at `from`: two rows mixed along y, and with two planes, `step`
/// apart, both mixed along z.
///
/// # Safety
/// Sixteen values can be read at both offsets of each plane.
#[inline(always)]
unsafe fn value<V: Lanes>(
    from: *const f32,
    step: usize,
    count: usize,
    offsets: [usize; 2],
    [y, z]: [[V; 2]; 2],
) -> V {
    // SAFETY: as promised by the caller.
    unsafe {
        let low = V::load(from.add(offsets[0])).mul(y[0]).add(V::load(from.add(offsets[1])).mul(y[1]));
        if count == 1 {
            return low;
        }
        let from = from.add(step);
        let high = V::load(from.add(offsets[0])).mul(y[0]).add(V::load(from.add(offsets[1])).mul(y[1]));
        low.mul(z[0]).add(high.mul(z[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taps(from: usize, to: usize) -> Vec<Tap> {
        let one = |o: usize| {
            let c = ((o as f32 + 0.5) * from as f32 / to as f32 - 0.5).max(0.0);
            let low = (c as usize).min(from - 1);
            let part = c - low as f32;
            Tap { at: [low, (low + 1).min(from - 1)], weights: [1.0 - part, part] }
        };
        (0..to).map(one).collect()
    }

    #[test]
    fn winners_are_those_of_all_values_on_every_instruction_set() {
        for (from, to) in [([5, 7], [9, 13]), ([6, 40], [40, 50]), ([40, 90], [7, 20]), ([3, 3], [3, 3])] {
            let (y, x) = (taps(from[0], to[0]), taps(from[1], to[1]));
            let contest = Contest::new(from, y.clone(), &x);
            let area = from[0] * from[1];
            let values: Vec<f32> = (0..2 * 5 * area).map(|i| (i * 7919 % 1009) as f32 / 99.0 - 5.0).collect();
            let (below, above) = values.split_at(5 * area);
            for two in [false, true] {
                let weights = [0.3, 0.7];
                let mixed = |plane: &[f32], class: usize, y: &Tap, x: &Tap| {
                    let row = |at: usize| {
                        let cell = |x: usize| plane[class * area + at * from[1] + x];
                        cell(x.at[0]) * x.weights[0] + cell(x.at[1]) * x.weights[1]
                    };
                    row(y.at[0]) * y.weights[0] + row(y.at[1]) * y.weights[1]
                };
                let value = |class: usize, y: &Tap, x: &Tap| match two {
                    false => mixed(below, class, y, x),
                    true => mixed(below, class, y, x) * weights[0] + mixed(above, class, y, x) * weights[1],
                };
                for cpu in Cpu::available() {
                    for rule in [Rule::Largest, Rule::Above(1.5)] {
                        let mut standing = Standing::default();
                        contest.begin(rule, &mut standing);
                        // Classes in two parts.
                        for part in [0..2, 2..5] {
                            let cut = part.start * area..part.end * area;
                            let planes = [&below[cut.clone()], &above[cut]];
                            let planes = &planes[..1 + usize::from(two)];
                            contest.enter_with(cpu, rule, part.start, planes, weights, &mut standing);
                        }
                        for (i, y) in y.iter().enumerate() {
                            for (j, x) in x.iter().enumerate() {
                                let all: Vec<f32> = (0..5).map(|class| value(class, y, x)).collect();
                                let at = i * standing.stride + j;
                                if rule == Rule::Largest {
                                    let mut sorted = all.clone();
                                    sorted.sort_by(|a, b| b.total_cmp(a));
                                    let first = all.iter().position(|v| *v == sorted[0]).unwrap();
                                    assert_eq!(standing.winner[at], first as f32, "{}", cpu.name());
                                    assert_eq!(
                                        (standing.best[at], standing.second[at]),
                                        (sorted[0], sorted[1])
                                    );
                                } else {
                                    let last = all.iter().rposition(|v| *v > 1.5).map_or(-1.0, |k| k as f32);
                                    assert_eq!(standing.winner[at], last, "{}", cpu.name());
                                    let near = all.iter().fold(f32::INFINITY, |a, v| a.min(v.abs()));
                                    assert_eq!(standing.best[at], near);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
