//! The weight gradient of a few places: all samples and taps at once, sixteen channels by one group of outputs.
//!
//! With tens of places per weight, moving sums costs more than adding products. A task therefore owns its weights from
//! the first product to the last store: the sums of all taps stay in the second-level cache and are turned from there
//! into the order of the weights. Places outside the volume are not multiplied: at 4 x 4 x 4 they would be 42 %.

#![allow(
    unsafe_code,
    reason = "register kernels run on pointers into packed places; each task writes its own weights"
)]

use super::halo::Channels;
use super::weight_gradient::DirectWeightGradient;
use crate::LANES;
use crate::cpu::{Kernel, Task};
use crate::lanes::Lanes;
use crate::product::group_width;
use crate::scratch::{Shared, with_scratch};
use crate::tensor_blocks::ReadBlock;
use rayon::prelude::*;

/// Places of all samples up to which sums of one task are cheaper than sums that move.
const PLACES: usize = 384;
/// Places read by them, sixteen channels of which lie in the second-level cache.
const READ: usize = 8192;
/// Fewer tasks than this would leave threads idle.
const TASKS: usize = 8;

/// Whether this gradient has so few places.
pub(super) fn serves(of: &DirectWeightGradient) -> bool {
    let places = of.output.n * of.output.voxels();
    let blocks = matches!(Channels::of(&of.view.rows), Channels::Blocks(_));
    let tasks = of.view.row_blocks() * of.view.column_blocks().div_ceil(of.cpu.columns());
    blocks && tasks >= TASKS && places <= PLACES && of.read.n * of.read.voxels() <= READ
}

/// Overwrites `dw`, laid out as the view says.
pub(super) fn run(of: &DirectWeightGradient, dw: &mut [f32]) {
    let pairs = pairs(of);
    let (rows, groups) = (of.view.row_blocks(), of.view.column_blocks().div_ceil(of.cpu.columns()));
    let out = Shared::new(dw);
    (0..rows * groups).into_par_iter().for_each(|t| {
        of.cpu.run(&Weights { of, pairs: &pairs, block: t % rows, group: t / rows, out });
    });
}

/// Per tap the voxels read and the places written that meet, of all samples.
fn pairs(of: &DirectWeightGradient) -> Vec<Vec<[u32; 2]>> {
    let (taps, step) = (&of.pattern.phases[0].taps, of.pattern.read_step);
    let meet = |a: usize, tap: usize| -> Vec<[usize; 2]> {
        let read = |o: usize| (o * step[a]).wrapping_add_signed(taps[a][tap].delta);
        (0..of.output.size[a]).map(|o| [read(o), o]).filter(|[read, _]| *read < of.read.size[a]).collect()
    };
    let [_, ny, nx] = [0, 1, 2].map(|a| taps[a].len());
    let one = |tap: usize| {
        let [zs, ys, xs] = [meet(0, tap / nx / ny), meet(1, tap / nx % ny), meet(2, tap % nx)];
        let mut found = Vec::new();
        for n in 0..of.read.n {
            for z in &zs {
                for y in &ys {
                    for x in &xs {
                        let at = |side: usize, size: [usize; 3]| {
                            ((n * size[0] + z[side]) * size[1] + y[side]) * size[2] + x[side]
                        };
                        found.push([at(0, of.read.size) as u32, at(1, of.output.size) as u32]);
                    }
                }
            }
        }
        found
    };
    (0..of.pattern.phases[0].volume()).map(one).collect()
}

/// All taps of sixteen rows and one group of columns.
struct Weights<'a> {
    of: &'a DirectWeightGradient<'a>,
    pairs: &'a [Vec<[u32; 2]>],
    block: usize,
    group: usize,
    out: Shared,
}

impl Task for Weights<'_> {
    fn run<V: Lanes>(&self) {
        let of = self.of;
        let columns = group_width(of.view.column_blocks(), V::COLUMNS, self.group);
        let (read, written, taps) =
            (of.read.n * of.read.voxels(), of.output.n * of.output.voxels(), self.pairs.len());
        let wide = columns * LANES;
        with_scratch(read * LANES + written * wide + taps * LANES * wide, |scratch| {
            let (values, rest) = scratch.split_at_mut(read * LANES);
            let (grads, sums) = rest.split_at_mut(written * wide);
            for (n, values) in values.chunks_exact_mut(of.read.voxels() * LANES).enumerate() {
                V::call(&Activate { block: of.reader.block(n, self.block), to: Shared::new(values) });
            }
            let (width, first) = (of.view.columns.len(), self.group * V::COLUMNS * LANES);
            for (to, from) in grads.chunks_exact_mut(wide).zip(of.grad.chunks_exact(width)) {
                to.copy_from_slice(&from[first..first + wide]);
            }
            let (values, grads) = (values.as_ptr(), grads.as_ptr());
            for (pairs, sums) in self.pairs.iter().zip(sums.chunks_exact_mut(LANES * wide)) {
                sum_pairs::<V>(values, grads, pairs, columns, sums);
            }
            self.turn(sums, wide);
        });
    }
}

impl Weights<'_> {
    /// From `[tap][16][columns]` to the layout of the weights, where taps lie side by side.
    fn turn(&self, sums: &[f32], wide: usize) {
        let (view, taps) = (&self.of.view, self.pairs.len());
        let first = self.group * self.of.cpu.columns() * LANES;
        let mut near = vec![0.0; taps * LANES];
        for lane in 0..LANES {
            let Some(row) = view.rows[self.block * LANES + lane] else { continue };
            for start in (0..wide).step_by(LANES) {
                for (tap, near) in near.chunks_exact_mut(LANES).enumerate() {
                    near.copy_from_slice(&sums[(tap * LANES + lane) * wide + start..][..LANES]);
                }
                for (i, column) in view.columns[first + start..][..LANES].iter().enumerate() {
                    let Some(column) = *column else { continue };
                    let to = self.out.at(view.at(row, column));
                    for (tap, near) in near.chunks_exact(LANES).enumerate() {
                        // SAFETY: the weights of these rows and columns belong to this task.
                        unsafe { *to.add(tap) = near[i] };
                    }
                }
            }
        }
    }
}

/// Sixteen channels of all voxels of a sample, activated and packed.
struct Activate<'a> {
    block: &'a ReadBlock<'a>,
    to: Shared,
}

impl Kernel for Activate<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let affine = self.block.affine::<V>();
        for voxel in 0..self.to.len() / LANES {
            // SAFETY: `Reader` checked that the sample has these voxels, and the target has one vector for each.
            unsafe {
                let value = self.block.load::<V>(voxel as isize);
                let value = match &affine {
                    Some(affine) => affine.apply(value),
                    None => value,
                };
                value.store(self.to.at(voxel * LANES));
            }
        }
    }
}

/// `sums[m][c] = Σ_pair values[pair][m] · grads[pair][c]` for sixteen `m`.
fn sum_pairs<V: Lanes>(
    values: *const f32,
    grads: *const f32,
    pairs: &[[u32; 2]],
    columns: usize,
    sums: &mut [f32],
) {
    let wide = columns * LANES;
    let mut first = 0;
    while first < LANES {
        let many = (LANES - first).min(V::ROWS);
        let (values, to) = (values.wrapping_add(first), sums[first * wide..].as_mut_ptr());
        macro_rules! call {
            ($($m:literal)*) => {
                match (many, columns) {
                    $(($m, 1) => V::call(&Pairs::<$m, 1> { values, grads, pairs, to }),
                      ($m, 2) => V::call(&Pairs::<$m, 2> { values, grads, pairs, to }),)*
                    other => unreachable!("a register block of {other:?}"),
                }
            };
        }
        call!(1 2 3 4 5 6 7 8);
        first += many;
    }
}

/// A register block of [`sum_pairs`].
struct Pairs<'a, const M: usize, const C: usize> {
    values: *const f32,
    grads: *const f32,
    pairs: &'a [[u32; 2]],
    to: *mut f32,
}

impl<const M: usize, const C: usize> Kernel for Pairs<'_, M, C> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let mut sums = [[V::zero(); C]; M];
        for &[read, place] in self.pairs {
            // SAFETY: pairs name voxels and places of the packed tensors.
            unsafe {
                let (from, right) =
                    (self.values.add(read as usize * LANES), self.grads.add(place as usize * C * LANES));
                let mut row = [V::zero(); C];
                for c in 0..C {
                    row[c] = V::load(right.add(c * LANES));
                }
                for m in 0..M {
                    let x = V::splat(*from.add(m));
                    for c in 0..C {
                        sums[m][c] = x.fma(row[c], sums[m][c]);
                    }
                }
            }
        }
        for m in 0..M {
            for c in 0..C {
                // SAFETY: the sums have sixteen rows of `C` vectors.
                unsafe { sums[m][c].store(self.to.add((m * C + c) * LANES)) };
            }
        }
    }
}
