//! The two register kernels under every convolution: a product over channels and a product over voxels.

#![allow(
    unsafe_code,
    reason = "the innermost loops run on pointers; their ranges follow from the caller's tables"
)]

use crate::LANES;
use crate::cpu::Kernel;
use crate::lanes::Lanes;

/// Calls `$body` with `$n` as a constant `$N` from 1 to 14.
macro_rules! with_count {
    ($n:expr, $N:ident => $body:expr) => {
        with_count!(@ $n, $N, $body, 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    (@ $n:expr, $N:ident, $body:expr, $($k:literal)*) => {
        match $n {
            $($k => { const $N: usize = $k; $body })*
            other => unreachable!("a register block of {other}"),
        }
    };
}
pub(crate) use with_count;

/// Splits `count` as evenly as possible into runs of at most `most`: `(first, length)`.
pub(crate) fn even_runs(count: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let runs = count.div_ceil(most);
    (0..runs).map(move |i| (i * count / runs, (i + 1) * count / runs - i * count / runs))
}

/// Width of group `index` when `blocks` vectors are taken `columns` at a time.
pub(crate) fn group_width(blocks: usize, columns: usize, index: usize) -> usize {
    columns.min(blocks - index * columns)
}

/// `sums[n][c] += Σ_step Σ_k at[n][step + k] · w[..][c]`, with the weights of all steps in one stream.
/// `RUN` is the number of `k` per step, or 0 when `run` says it.
///
/// # Safety
/// `at[n] + step + k` and `steps.len() · run · C` vectors of weights can be read.
#[inline(always)]
pub(crate) unsafe fn add_products<V: Lanes, const N: usize, const C: usize, const RUN: usize>(
    sums: &mut [[V; C]; N],
    at: &[*const f32; N],
    steps: &[usize],
    run: usize,
    mut weights: *const f32,
) {
    let run = if RUN > 0 { RUN } else { run };
    for &step in steps {
        for k in step..step + run {
            // SAFETY: ranges as promised by the caller.
            unsafe {
                let mut row = [V::zero(); C];
                for c in 0..C {
                    row[c] = V::load(weights.add(c * LANES));
                }
                weights = weights.add(C * LANES);
                for n in 0..N {
                    let x = V::splat(*at[n].add(k));
                    for c in 0..C {
                        sums[n][c] = x.fma(row[c], sums[n][c]);
                    }
                }
            }
        }
    }
}

/// Rows of places for the sum of outer products: two tensors walked side by side.
#[derive(Clone, Copy)]
pub(crate) struct Walk {
    pub planes: usize,
    pub rows: usize,
    pub count: usize,
    /// Distance between planes, rows and places: of the broadcast side, then of the vector side.
    pub plane: [usize; 2],
    pub row: [usize; 2],
    pub step: [usize; 2],
    /// From one vector of the vector side to the next.
    pub column: usize,
}

/// Places between reading and asking for memory: their distance is too long for the processor to guess.
const AHEAD: usize = 8;

/// `sums[m][c] = Σ_place a[place][m] · b[place][c]`
///
/// # Safety
/// Every place of the walk can be read on both sides.
#[inline(always)]
pub(crate) unsafe fn outer<V: Lanes, const M: usize, const C: usize>(
    a: *const f32,
    b: *const f32,
    walk: &Walk,
) -> [[V; C]; M] {
    let mut sums = [[V::zero(); C]; M];
    for i in 0..walk.planes * walk.rows {
        let (plane, row) = (i / walk.rows, i % walk.rows);
        let mut a = a.wrapping_add(plane * walk.plane[0] + row * walk.row[0]);
        let mut b = b.wrapping_add(plane * walk.plane[1] + row * walk.row[1]);
        for _ in 0..walk.count {
            V::prefetch(a.wrapping_add(AHEAD * walk.step[0]));
            for c in 0..C {
                V::prefetch(b.wrapping_add(AHEAD * walk.step[1] + c * walk.column));
            }
            // SAFETY: ranges as promised by the caller.
            unsafe {
                let mut right = [V::zero(); C];
                for c in 0..C {
                    right[c] = V::load(b.add(c * walk.column));
                }
                for m in 0..M {
                    let x = V::splat(*a.add(m));
                    for c in 0..C {
                        sums[m][c] = x.fma(right[c], sums[m][c]);
                    }
                }
            }
            a = a.wrapping_add(walk.step[0]);
            b = b.wrapping_add(walk.step[1]);
        }
    }
    sums
}

/// Where an outer product goes: rows of vectors, added or overwritten.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub to: *mut f32,
    pub columns: usize,
    pub add: bool,
}

/// [`outer`] to `to`, rows `C` vectors long.
struct Outer<const M: usize, const C: usize> {
    a: *const f32,
    b: *const f32,
    walk: Walk,
    to: *mut f32,
    add: bool,
}

impl<const M: usize, const C: usize> Kernel for Outer<M, C> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        for i in 0..M * C {
            V::prefetch(self.to.wrapping_add(i * LANES));
        }
        // SAFETY: whoever builds this kernel points it at checked ranges; `to` is written by this task alone.
        unsafe {
            let sums = outer::<V, M, C>(self.a, self.b, &self.walk);
            for m in 0..M {
                for c in 0..C {
                    let to = self.to.add((m * C + c) * LANES);
                    if self.add {
                        sums[m][c].add(V::load(to)).store(to);
                    } else {
                        sums[m][c].store(to);
                    }
                }
            }
        }
    }
}

/// Outer product of `rows` broadcast values with the target's columns, register block by block.
pub(crate) fn outer_rows<V: Lanes>(a: *const f32, rows: usize, b: *const f32, walk: Walk, target: Target) {
    let Target { to, columns, add } = target;
    let mut first = 0;
    while first < rows {
        let many = (rows - first).min(V::ROWS);
        let (a, to) = (a.wrapping_add(first), to.wrapping_add(first * columns * LANES));
        macro_rules! call {
            ($($m:literal)*) => {
                match (many, columns) {
                    $(($m, 1) => V::call(&Outer::<$m, 1> { a, b, walk, to, add }),
                      ($m, 2) => V::call(&Outer::<$m, 2> { a, b, walk, to, add }),)*
                    other => unreachable!("a register block of {other:?}"),
                }
            };
        }
        call!(1 2 3 4 5 6 7 8);
        first += many;
    }
}

/// `to += from`, vector by vector.
pub(crate) struct AddSlice<'a> {
    pub to: *mut f32,
    pub from: &'a [f32],
}

impl Kernel for AddSlice<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        for i in (0..self.from.len()).step_by(LANES) {
            // SAFETY: both sides have whole vectors, and `to` belongs to this task.
            unsafe {
                let to = self.to.add(i);
                V::load(self.from.as_ptr().add(i)).add(V::load(to)).store(to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_even_and_complete() {
        let runs: Vec<_> = even_runs(33, 14).collect();
        assert_eq!(runs, [(0, 11), (11, 11), (22, 11)]);
        assert_eq!(even_runs(0, 14).count(), 0);
        assert_eq!((group_width(3, 2, 0), group_width(3, 2, 1)), (2, 1));
    }
}
