//! Weight gradient of a direct convolution: an outer product over voxels for every tap.

#![allow(unsafe_code, reason = "tasks add to their own rows of one accumulator")]

use super::halo::{Channels, Halo};
use super::pattern::{Pattern, Phase};
use crate::cpu::{Cpu, Task};
use crate::lanes::Lanes;
use crate::product::{Walk, add_outer_rows, group_width};
use crate::scratch::{Recycled, Shared};
use crate::tensor_blocks::Reader;
use crate::weight_view::WeightView;
use crate::{Grid, LANES};
use rayon::prelude::*;
use std::ops::Range;

/// Values packed at once.
const CHUNK_VALUES: usize = 512 << 10;
/// Values of one block of rows, which several taps read from the first-level cache.
const ROW_VALUES: usize = 4 << 10;
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
        let channels = Channels::of(&self.view.rows);
        let phase = &self.pattern.phases[0];
        let rows = channels.weight_rows(phase);
        let mut sums = Recycled::new(rows * self.view.columns.len());
        sums.fill(0.0);
        let [z, y, x] = self.output.size;
        let fits = |planes: &usize| Halo::new(&self.pattern, channels.clone(), [*planes, y, x]).len() <= CHUNK_VALUES;
        let planes = (1..=z).take_while(fits).last().unwrap_or(1);
        let planes = z.div_ceil(z.div_ceil(planes).max(1)).max(1);
        let mut packed = Recycled::new(Halo::new(&self.pattern, channels.clone(), [planes, y, x]).len());
        for n in 0..self.output.n {
            for first in (0..z).step_by(planes) {
                self.chunk(n, first..(first + planes).min(z), &channels, &mut packed, Shared::new(&mut sums));
            }
        }
        self.unpack(&channels, phase, &sums, dw);
    }

    fn chunk(&self, n: usize, z: Range<usize>, channels: &Channels, packed: &mut [f32], sums: Shared) {
        let halo = Halo::new(&self.pattern, channels.clone(), [z.len(), self.output.size[1], self.output.size[2]]);
        let tasks = packed[..halo.len()].par_chunks_mut(halo.row_len() * PACK_ROWS);
        tasks.enumerate().for_each(|(i, out)| {
            let rows = i * PACK_ROWS..i * PACK_ROWS + out.len() / halo.row_len();
            self.cpu.run(&PackTask { all: self, halo: &halo, n, first: [z.start, 0, 0], rows, out: Shared::new(out) });
        });
        let phase = &self.pattern.phases[0];
        let blocks = match channels {
            Channels::Blocks(blocks) => *blocks,
            Channels::Few(_) => 1,
        };
        let groups = self.view.column_blocks().div_ceil(self.cpu.columns());
        let steps = halo.steps(phase);
        let tap_rows = phase.taps[0].len() * phase.taps[1].len();
        (0..groups * tap_rows * blocks).into_par_iter().for_each(|t| {
            let (group, row) = (t / (tap_rows * blocks), t % (tap_rows * blocks));
            let per_task = channels.steps_per_row(phase) / blocks;
            self.cpu.run(&TapTask {
                all: self,
                halo: &halo,
                packed,
                n,
                z: z.clone(),
                tap_z: row / blocks / phase.taps[1].len(),
                steps: &steps[row * per_task..(row + 1) * per_task],
                run: channels.run(phase),
                group,
                to: sums.at(group * self.cpu.columns() * LANES * channels.weight_rows(phase)
                    + row * per_task * channels.run(phase) * group_width(self.view.column_blocks(), self.cpu.columns(), group) * LANES),
            });
        });
    }

    /// From `[group][tap rows, channels][columns]` to the layout of the weights.
    fn unpack(&self, channels: &Channels, phase: &Phase, sums: &[f32], dw: &mut [f32]) {
        let taps: usize = self.pattern.kernel.iter().product();
        self.view.check(dw.len(), taps);
        let inputs = self.view.rows.iter().flatten().count();
        let (columns, blocks) = (self.cpu.columns(), self.view.column_blocks());
        let (rows, nx) = (channels.weight_rows(phase), phase.taps[2].len());
        let per_row = rows / (taps / nx);
        dw.par_chunks_mut(inputs * taps).enumerate().for_each(|(column, dw)| {
            let group = column / (columns * LANES);
            let width = group_width(blocks, columns, group) * LANES;
            let from = &sums[group * columns * LANES * rows + column % (columns * LANES)..];
            for (lane, channel) in self.view.rows.iter().enumerate().filter_map(|(lane, c)| c.map(|c| (lane, c))) {
                for tap in 0..taps {
                    let (tap_row, x) = (tap / nx, tap % nx);
                    let row = match channels {
                        Channels::Blocks(_) => tap_row * per_row + (lane / LANES * nx + x) * LANES + lane % LANES,
                        Channels::Few(real) => tap_row * per_row + x * real.len() + channel,
                    };
                    dw[channel * taps + tap] = from[row * width];
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

/// Taps that share z, y and a block of channels, for one group of output channels.
struct TapTask<'a> {
    all: &'a DirectWeightGradient<'a>,
    halo: &'a Halo,
    packed: &'a [f32],
    n: usize,
    z: Range<usize>,
    tap_z: usize,
    steps: &'a [usize],
    run: usize,
    group: usize,
    to: *mut f32,
}

impl Task for TapTask<'_> {
    fn run<V: Lanes>(&self) {
        let all = self.all;
        let [_, ny, nx] = all.output.size;
        let columns = group_width(all.view.column_blocks(), V::COLUMNS, self.group);
        let width = all.view.columns.len();
        let pixel = self.halo.place([0, 0, 1]);
        let rows = (ROW_VALUES / (nx * (pixel + columns * LANES)).max(1)).clamp(1, ny);
        let delta = all.pattern.phases[0].taps[0][self.tap_z].delta;
        for z in self.z.clone() {
            let read = (z * all.pattern.read_step[0]) as isize + delta;
            if !(0..all.read.size[0] as isize).contains(&read) {
                continue;
            }
            for y in (0..ny).step_by(rows) {
                let walk = Walk { rows: rows.min(ny - y), count: nx, row: [self.halo.place([0, 1, 0]), nx * width], step: [pixel, width], column: LANES };
                let from = self.halo.place([z - self.z.start, y, 0]);
                let voxel = (self.n * all.output.size[0] + z) * ny * nx + y * nx;
                let grad = &all.grad[voxel * width + self.group * V::COLUMNS * LANES..];
                for (i, step) in self.steps.iter().enumerate() {
                    let to = self.to.wrapping_add(i * self.run * columns * LANES);
                    add_outer_rows::<V>(self.packed[from + step..].as_ptr(), self.run, grad.as_ptr(), columns, walk, to);
                }
            }
        }
    }
}
