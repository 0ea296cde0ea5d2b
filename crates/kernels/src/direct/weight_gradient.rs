//! Weight gradient of a direct convolution: an outer product over voxels for every tap.

#![allow(unsafe_code, reason = "tasks add to their own rows of one accumulator")]

use super::few_places;
use super::halo::{Channels, Halo};
use super::pattern::{Pattern, Phase};
use crate::cpu::{Cpu, Task};
use crate::lanes::Lanes;
use crate::product::{Target, Walk, group_width, outer_rows};
use crate::scratch::{Recycled, Shared, with_scratch};
use crate::tensor_blocks::Reader;
use crate::weight_view::WeightView;
use crate::{Grid, LANES};
use rayon::prelude::*;
use std::ops::Range;

/// Values packed at once by a part, and when all threads share its steps.
const SMALL_CHUNK: usize = 96 << 10;
const LARGE_CHUNK: usize = 1 << 20;
/// Parts with sums of their own at most, and values of all their sums at most.
const PARTS: usize = 16;
const PART_VALUES: usize = 8 << 20;
/// Fewest voxels per part: each part clears and adds up all its sums.
const PART_PLACES: usize = 512;
/// Values of one block of rows, which several taps read from the first-level cache.
const ROW_VALUES: usize = 4 << 10;
/// Places up to which all planes of a slab are summed before the sums are moved.
const FEW_PLACES: usize = 256;
/// Shares of the steps when all threads work on one slab.
const SHARES: usize = 48;
/// Halo rows per packing task.
const PACK_ROWS: usize = 8;

/// Weight gradient; `grad` is `[n, z, y, x, lanes]` on the grid of the outputs.
pub(crate) struct DirectWeightGradient<'a> {
    pub cpu: Cpu,
    pub pattern: Pattern,
    pub view: WeightView,
    pub read: Grid,
    pub output: Grid,
    pub reader: Reader<'a>,
    pub grad: &'a [f32],
}

impl DirectWeightGradient<'_> {
    /// Overwrites `dw`, laid out as the view says.
    pub(crate) fn run(&self, dw: &mut [f32]) {
        if few_places::serves(self) {
            return few_places::run(self, dw);
        }
        let channels = Channels::of(&self.view.rows);
        let phase = &self.pattern.phases[0];
        let len = channels.weight_rows(phase) * self.view.columns.len();
        let [z, y, x] = self.output.size;
        let fits = |planes: usize, values: usize| {
            Halo::new(&self.pattern, channels.clone(), [planes, y, x]).len() <= values
        };
        let planes = |values: usize| (1..=z).take_while(|&planes| fits(planes, values)).last().unwrap_or(1);
        let slabs = self.output.n * z.div_ceil(planes(SMALL_CHUNK).max(1));
        let places = self.output.n * self.output.voxels();
        let parts = (PART_VALUES / len.max(1)).min(slabs).min(places / PART_PLACES).min(PARTS);
        let shared = parts < 4;
        let planes = planes(if shared { LARGE_CHUNK } else { SMALL_CHUNK });
        let slabs = slabs_of(self.output.n, z, planes);
        let parts = if shared { 1 } else { parts };
        let mut sums = Recycled::new(len * parts);
        // A slab of few places writes all sums; only the first of all may.
        let overwrite = shared && self.few(&slabs[0].1);
        if !overwrite {
            sums.fill(0.0);
        }
        let halo = |z: &Range<usize>| Halo::new(&self.pattern, channels.clone(), [z.len(), y, x]);
        if shared {
            let mut packed = Recycled::new(halo(&(0..planes)).len());
            for (i, (n, z)) in slabs.iter().enumerate() {
                let add = i > 0 || !overwrite;
                self.slab(*n, z, &halo(z), &mut packed, Shared::new(&mut sums), [true, add]);
            }
        } else {
            sums.par_chunks_mut(len).enumerate().for_each(|(p, sums)| {
                with_scratch(halo(&(0..planes)).len(), |packed| {
                    for (n, z) in &slabs[p * slabs.len() / parts..(p + 1) * slabs.len() / parts] {
                        self.slab(*n, z, &halo(z), packed, Shared::new(sums), [false, true]);
                    }
                });
            });
        }
        for part in 1..parts {
            let (first, rest) = sums.split_at_mut(part * len);
            first[..len].par_chunks_mut(LANES * 256).zip(rest[..len].par_chunks(LANES * 256)).for_each(
                |(to, from)| {
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                },
            );
        }
        self.unpack(&channels, phase, &sums, dw);
    }

    /// Whether a slab has so few places that all of them are summed before the sums are moved.
    fn few(&self, z: &Range<usize>) -> bool {
        let [_, y, x] = self.output.size;
        z.len() > 1 && z.len() * y * x <= FEW_PLACES
    }

    /// Packs some planes and adds their products, or overwrites the sums; `shared` spreads both over all threads.
    fn slab(
        &self,
        n: usize,
        z: &Range<usize>,
        halo: &Halo,
        packed: &mut [f32],
        sums: Shared,
        [shared, add]: [bool; 2],
    ) {
        let packed = &mut packed[..halo.len()];
        let pack = |(i, out): (usize, &mut [f32])| {
            let rows = i * PACK_ROWS..i * PACK_ROWS + out.len() / halo.row_len();
            self.cpu.run(&PackTask {
                all: self,
                halo,
                n,
                first: [z.start, 0, 0],
                rows,
                out: Shared::new(out),
            });
        };
        if shared {
            packed.par_chunks_mut(halo.row_len() * PACK_ROWS).enumerate().for_each(pack);
        } else {
            packed.chunks_mut(halo.row_len() * PACK_ROWS).enumerate().for_each(pack);
        }
        let (phase, groups) =
            (&self.pattern.phases[0], self.view.column_blocks().div_ceil(self.cpu.columns()));
        let steps = halo.steps(phase);
        let per_z = steps.len() / phase.taps[0].len();
        let task = |group: usize, some: Range<usize>| {
            self.cpu.run(&TapTask {
                all: self,
                halo,
                packed,
                n,
                z,
                per_z,
                all_steps: &steps,
                steps: some,
                group,
                sums,
                add,
            });
        };
        if shared {
            let share = steps.len().div_ceil(SHARES).max(1);
            let shares = steps.len().div_ceil(share);
            (0..groups * shares).into_par_iter().for_each(|t| {
                let first = t % shares * share;
                task(t / shares, first..(first + share).min(steps.len()));
            });
        } else {
            (0..groups).for_each(|group| task(group, 0..steps.len()));
        }
    }

    /// From `[group][tap rows, channels][columns]` to the layout of the weights.
    fn unpack(&self, channels: &Channels, phase: &Phase, sums: &[f32], dw: &mut [f32]) {
        let taps: usize = self.pattern.kernel.iter().product();
        let (columns, blocks) = (self.cpu.columns(), self.view.column_blocks());
        let (rows, nx) = (channels.weight_rows(phase), phase.taps[2].len());
        let per_row = rows / (taps / nx);
        let out = Shared::new(dw);
        (0..blocks.div_ceil(columns) * self.view.row_blocks()).into_par_iter().for_each(|t| {
            let (group, block) = (t / self.view.row_blocks(), t % self.view.row_blocks());
            let (width, first) = (group_width(blocks, columns, group) * LANES, group * columns * LANES);
            let mut near = vec![[0.0; LANES]; taps];
            for lane in block * LANES..(block + 1) * LANES {
                let Some(channel) = self.view.rows[lane] else { continue };
                let row = |tap: usize| {
                    tap / nx * per_row
                        + match channels {
                            Channels::Blocks(_) => (lane / LANES * nx + tap % nx) * LANES + lane % LANES,
                            Channels::Few(real) => tap % nx * real.len() + channel,
                        }
                };
                // Taps lie side by side in the weights, columns in the sums: turned sixteen at a time.
                for columns in (0..width).step_by(LANES) {
                    for (tap, near) in near.iter_mut().enumerate() {
                        let from = &sums[first * rows + row(tap) * width + columns..][..LANES];
                        near.copy_from_slice(from);
                    }
                    for (i, column) in self.view.columns[first + columns..][..LANES].iter().enumerate() {
                        let Some(column) = *column else { continue };
                        let to = self.view.at(channel, column);
                        for (tap, near) in near.iter().enumerate() {
                            // SAFETY: each task writes its own rows and columns.
                            unsafe { *out.at(to + tap) = near[i] };
                        }
                    }
                }
            }
        });
    }
}

struct PackTask<'a> {
    all: &'a DirectWeightGradient<'a>,
    halo: &'a Halo,
    n: usize,
    first: [usize; 3],
    rows: Range<usize>,
    out: Shared,
}

impl Task for PackTask<'_> {
    fn run<V: Lanes>(&self) {
        let len = self.rows.len() * self.halo.row_len();
        // SAFETY: the caller cut this slice for the task alone.
        let out = unsafe { std::slice::from_raw_parts_mut(self.out.at(0), len) };
        self.halo.pack::<V>(&self.all.reader, self.all.read.size, self.n, self.first, self.rows.clone(), out);
    }
}

/// Some steps for one group of output channels.
struct TapTask<'a> {
    all: &'a DirectWeightGradient<'a>,
    halo: &'a Halo,
    packed: &'a [f32],
    n: usize,
    z: &'a Range<usize>,
    /// Steps per tap along z.
    per_z: usize,
    all_steps: &'a [usize],
    steps: Range<usize>,
    group: usize,
    sums: Shared,
    add: bool,
}

impl Task for TapTask<'_> {
    fn run<V: Lanes>(&self) {
        let (all, phase) = (self.all, &self.all.pattern.phases[0]);
        let [_, ny, nx] = all.output.size;
        let columns = group_width(all.view.column_blocks(), V::COLUMNS, self.group);
        let (width, run) = (all.view.columns.len(), self.halo.channels.run(phase));
        let first = self.group * V::COLUMNS * LANES * self.halo.channels.weight_rows(phase);
        let pixel = self.halo.place([0, 0, 1]);
        let few = all.few(self.z);
        let rows = (ROW_VALUES / (nx * (pixel + columns * LANES)).max(1)).clamp(1, ny);
        let rows = if few { ny } else { rows };
        // Few places: all planes at once, those outside as the zeros that they are packed as, so that the sums are
        // moved once.
        let planes = if few { self.z.len() } else { 1 };
        for z in self.z.clone().step_by(planes) {
            let taps = if planes > 1 {
                0..phase.taps[0].len()
            } else {
                phase.inside_z((z * all.pattern.read_step[0]) as isize, all.read.size[0])
            };
            let steps =
                self.steps.start.max(taps.start * self.per_z)..self.steps.end.min(taps.end * self.per_z);
            for y in (0..ny).step_by(rows) {
                let walk = Walk {
                    planes,
                    plane: [self.halo.place([1, 0, 0]), ny * nx * width],
                    rows: rows.min(ny - y),
                    count: nx,
                    row: [self.halo.place([0, 1, 0]), nx * width],
                    step: [pixel, width],
                    column: LANES,
                };
                let from = self.halo.place([z - self.z.start, y, 0]);
                let voxel = (self.n * all.output.size[0] + z) * ny * nx + y * nx;
                let grad = &all.grad[voxel * width + self.group * V::COLUMNS * LANES..];
                for step in steps.clone() {
                    let to = self.sums.at(first + step * run * columns * LANES);
                    let from = &self.packed[from + self.all_steps[step]..];
                    outer_rows::<V>(
                        from.as_ptr(),
                        run,
                        grad.as_ptr(),
                        walk,
                        Target { to, columns, add: self.add },
                    );
                }
            }
        }
    }
}

/// Samples and ranges of planes, in order.
fn slabs_of(n: usize, z: usize, planes: usize) -> Vec<(usize, Range<usize>)> {
    let slabs = z.div_ceil(planes);
    (0..n).flat_map(|n| (0..slabs).map(move |s| (n, s * z / slabs..(s + 1) * z / slabs))).collect()
}
