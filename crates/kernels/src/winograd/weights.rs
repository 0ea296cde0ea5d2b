//! Weights to the frequency domain, and their gradient back.

#![allow(unsafe_code, reason = "rows of weights are transformed in parallel")]

use super::tiling::Tile;
use super::transform::weight_matrix;
use crate::LANES;
use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use crate::product::group_width;
use crate::scratch::{Recycled, Shared, with_scratch};
use crate::weight_view::WeightView;
use rayon::prelude::*;

/// Taps of the largest kernel.
const MOST_TAPS: usize = 27;
/// Packed weights from this length on are written past the caches.
const STREAM_VALUES: usize = 1 << 20;

/// Values of packed weights.
pub(crate) fn packed_len(tile: Tile, view: &WeightView) -> usize {
    tile.weight_volume() * view.rows.len() * view.columns.len()
}

/// Packs `[frequency][group of columns][row][16 · columns]`. `turned` reverses the taps (for the input gradient).
pub(crate) fn pack(cpu: Cpu, tile: Tile, view: &WeightView, turned: bool, weights: &[f32]) -> Recycled {
    let mut packed = Recycled::new(packed_len(tile, view));
    let stream =
        packed.len() >= STREAM_VALUES && packed.as_ptr().addr().is_multiple_of(LANES * size_of::<f32>());
    let out = Shared::new(&mut packed);
    let matrices = Matrices::new(tile);
    let groups = view.column_blocks().div_ceil(cpu.columns());
    (0..groups * view.row_blocks()).into_par_iter().for_each(|i| {
        let (group, row) = (i / view.row_blocks(), i % view.row_blocks());
        cpu.run(&PackTask { matrices: &matrices, view, turned, weights, group, row, out, stream });
    });
    packed
}

/// The matrices G of the three axes.
pub(super) struct Matrices {
    /// `[frequency][tap]` per axis.
    rows: [Vec<Vec<f32>>; 3],
}

impl Matrices {
    pub(super) fn new(tile: Tile) -> Self {
        Self { rows: tile.0.map(weight_matrix) }
    }

    fn taps(&self) -> [usize; 3] {
        [0, 1, 2].map(|a| self.rows[a][0].len())
    }

    fn frequencies(&self) -> [usize; 3] {
        [0, 1, 2].map(|a| self.rows[a].len())
    }
}

/// Where row `row` of column block `block` begins, for frequency 0, and the distance between frequencies.
pub(super) fn place(view: &WeightView, columns: usize, block: usize, row: usize) -> (usize, usize) {
    let group = block / columns;
    let width = group_width(view.column_blocks(), columns, group);
    let rows = view.rows.len();
    let first = group * columns * LANES * rows + (row * width + block % columns) * LANES;
    (first, rows * view.columns.len())
}

/// Sixteen rows and one group of columns.
struct PackTask<'a> {
    matrices: &'a Matrices,
    view: &'a WeightView,
    turned: bool,
    weights: &'a [f32],
    group: usize,
    row: usize,
    out: Shared,
    /// More than the caches hold.
    stream: bool,
}

impl Task for PackTask<'_> {
    fn run<V: Lanes>(&self) {
        let columns = group_width(self.view.column_blocks(), V::COLUMNS, self.group);
        let run = LANES * columns * LANES;
        let (first, step) = place(self.view, V::COLUMNS, self.group * V::COLUMNS, self.row * LANES);
        let frequencies: usize = self.matrices.frequencies().iter().product();
        // Transformed into a near place first: long runs then go to the far one.
        with_scratch(frequencies * run, |room| {
            for lane in 0..LANES {
                for c in 0..columns {
                    let out = room[(lane * columns + c) * LANES..].as_mut_ptr();
                    self.frequencies::<V>(lane, self.group * V::COLUMNS + c, out, run);
                }
            }
            for (f, room) in room.chunks_exact(run).enumerate() {
                let to = self.out.at(first + f * step);
                V::call(&CopyRun { from: room, to, stream: self.stream });
            }
        });
        V::fence();
    }
}

/// Whole vectors to rows and columns of the packed weights that belong to one task.
struct CopyRun<'a> {
    from: &'a [f32],
    to: *mut f32,
    /// Past the caches; `to` is aligned to whole vectors.
    stream: bool,
}

impl Kernel for CopyRun<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        for i in (0..self.from.len()).step_by(LANES) {
            // SAFETY: the run has whole vectors on both sides.
            unsafe {
                let (value, to) = (V::load(self.from.as_ptr().add(i)), self.to.add(i));
                if self.stream { value.stream(to) } else { value.store(to) }
            }
        }
    }
}

impl PackTask<'_> {
    fn frequencies<V: Lanes>(&self, lane: usize, column: usize, out: *mut f32, step: usize) {
        let taps: usize = self.matrices.taps().iter().product();
        let mut values = [[0.0f32; LANES]; MOST_TAPS];
        if let Some(row) = self.view.rows[self.row * LANES + lane] {
            for i in 0..LANES {
                let Some(column) = self.view.columns[column * LANES + i] else { continue };
                let from = &self.weights[self.view.at(row, column)..][..taps];
                for (tap, &weight) in from.iter().enumerate() {
                    values[if self.turned { taps - 1 - tap } else { tap }][i] = weight;
                }
            }
        }
        V::call(&ToFrequencies { values: values.as_ptr().cast(), matrices: self.matrices, out, step });
    }
}

/// `G w Gᵀ` on three axes for sixteen columns.
struct ToFrequencies<'a> {
    /// `[tap][16]`.
    values: *const f32,
    matrices: &'a Matrices,
    out: *mut f32,
    step: usize,
}

impl Kernel for ToFrequencies<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let ([tz, ty, tx], [fz, fy, fx]) = (self.matrices.taps(), self.matrices.frequencies());
        let [gz, gy, gx] = &self.matrices.rows;
        let (mut wide, mut tall) = ([V::zero(); 9 * 6], [V::zero(); 3 * 36]);
        // SAFETY: `values` has all taps; `out` has one vector per frequency, `step` apart, of this row alone.
        unsafe {
            for r in 0..tz * ty {
                for x in 0..fx {
                    wide[r * fx + x] = combine_memory::<V>(&gx[x], self.values.add(r * tx * LANES), LANES);
                }
            }
            for z in 0..tz {
                for y in 0..fy {
                    for x in 0..fx {
                        tall[(z * fy + y) * fx + x] = combine(&gy[y], &wide[z * ty * fx + x..], fx);
                    }
                }
            }
            for z in 0..fz {
                for yx in 0..fy * fx {
                    combine(&gz[z], &tall[yx..], fy * fx).store(self.out.add((z * fy * fx + yx) * self.step));
                }
            }
        }
    }
}

#[inline(always)]
fn combine<V: Lanes>(factors: &[f32], values: &[V], step: usize) -> V {
    let mut sum = V::zero();
    for i in 0..factors.len() {
        sum = values[i * step].fma(V::splat(factors[i]), sum);
    }
    sum
}

/// # Safety
/// One vector per factor can be read.
#[inline(always)]
unsafe fn combine_memory<V: Lanes>(factors: &[f32], values: *const f32, step: usize) -> V {
    let mut sum = V::zero();
    for i in 0..factors.len() {
        // SAFETY: as promised by the caller.
        sum = unsafe { V::load(values.add(i * step)) }.fma(V::splat(factors[i]), sum);
    }
    sum
}

/// `Gᵀ u G` on three axes for sixteen columns: the weight gradient from its frequencies.
pub(super) struct ToTaps<'a> {
    pub from: *const f32,
    pub step: usize,
    pub matrices: &'a Matrices,
    /// `[tap][16]`.
    pub out: *mut f32,
}

impl Kernel for ToTaps<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let ([tz, ty, tx], [fz, fy, fx]) = (self.matrices.taps(), self.matrices.frequencies());
        let [gz, gy, gx] = &self.matrices.rows;
        let (mut flat, mut narrow) = ([V::zero(); 3 * 36], [V::zero(); 9 * 6]);
        // SAFETY: `from` has one vector per frequency; `out` has room for all taps.
        unsafe {
            for f in 0..fz {
                for yx in 0..fy * fx {
                    let value = V::load(self.from.add((f * fy * fx + yx) * self.step));
                    for z in 0..tz {
                        flat[z * fy * fx + yx] = value.fma(V::splat(gz[f][z]), flat[z * fy * fx + yx]);
                    }
                }
            }
            for z in 0..tz {
                for f in 0..fy {
                    for x in 0..fx {
                        for y in 0..ty {
                            let to = &mut narrow[(z * ty + y) * fx + x];
                            *to = flat[(z * fy + f) * fx + x].fma(V::splat(gy[f][y]), *to);
                        }
                    }
                }
            }
            for r in 0..tz * ty {
                for x in 0..tx {
                    let mut sum = V::zero();
                    for f in 0..fx {
                        sum = narrow[r * fx + f].fma(V::splat(gx[f][x]), sum);
                    }
                    sum.store(self.out.add((r * tx + x) * LANES));
                }
            }
        }
    }
}
