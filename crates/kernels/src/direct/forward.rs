//! The direct convolution, forward and (by residues of the stride) backward.

#![allow(unsafe_code, reason = "register blocks run on pointers into the packed halo and the output")]

use super::halo::{Channels, Halo};
use super::pattern::{Pattern, Phase};
use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use crate::product::{add_products, even_runs, group_width, with_count};
use crate::scratch::{Recycled, Shared, with_scratch};
use crate::tensor_blocks::{Reader, WriteBlock, Writer};
use crate::weight_view::WeightView;
use crate::{Grid, LANES};
use rayon::prelude::*;
use std::ops::Range;

/// Values of a packed halo that stay in the second-level cache beside the weights.
const HALO_VALUES: usize = 128 << 10;
/// Tasks wanted before output channels are shared out as well.
const TASKS: usize = 16;

/// Sums and sums of squares of the output: per sample and part, `[column block][2][16]`.
pub(crate) struct Moments {
    parts: Recycled,
    per_sample: usize,
    blocks: usize,
}

impl Moments {
    pub(crate) fn new(samples: usize, per_sample: usize, blocks: usize) -> Self {
        Self { parts: Recycled::new(samples * per_sample * blocks * 2 * LANES), per_sample, blocks }
    }

    pub(crate) fn shared(&mut self) -> Shared {
        Shared::new(&mut self.parts)
    }

    /// Adds the parts in their order to `[n, lanes, 2]`.
    pub(crate) fn reduce(&self, to: &mut [f64]) {
        let lanes = self.blocks * LANES;
        to.par_chunks_mut(lanes * 2).zip(self.parts.par_chunks(self.per_sample * lanes * 2)).for_each(
            |(to, parts)| {
                to.fill(0.0);
                for part in parts.chunks(lanes * 2) {
                    for (lane, to) in to.chunks_mut(2).enumerate() {
                        let at = lane / LANES * 2 * LANES + lane % LANES;
                        to[0] += f64::from(part[at]);
                        to[1] += f64::from(part[at + LANES]);
                    }
                }
            },
        );
    }
}

/// A direct convolution, ready to run.
pub(crate) struct Direct<'a> {
    pub cpu: Cpu,
    pub pattern: Pattern,
    pub channels: Channels,
    pub read: Grid,
    pub written: Grid,
    pub reader: Reader<'a>,
    pub writer: Writer<'a>,
    pub weights: &'a [f32],
    /// One value per written lane.
    pub bias: Option<Vec<f32>>,
}

impl<'a> Direct<'a> {
    /// A convolution that reads the first grid and writes the second.
    pub(crate) fn new(
        cpu: Cpu,
        pattern: Pattern,
        view: &WeightView,
        [read, written]: [Grid; 2],
        reader: Reader<'a>,
        writer: Writer<'a>,
        weights: &'a [f32],
        bias: Option<Vec<f32>>,
    ) -> Self {
        let channels = Channels::of(&view.rows);
        Self { cpu, pattern, channels, read, written, reader, writer, weights, bias }
    }

    /// Runs it; `moments` gets sum and sum of squares per sample and lane.
    pub(crate) fn run(&self, moments: Option<&mut [f64]>) {
        let places = self.pattern.places(self.written.size);
        let cut = self.boxes(places);
        let boxes = places[0].div_ceil(cut[0]) * places[1].div_ceil(cut[1]);
        let groups = self.writer.count().div_ceil(self.cpu.columns());
        let shares = TASKS.div_ceil(boxes * self.written.n).min(groups);
        let mut parts = moments.is_some().then(|| Moments::new(self.written.n, boxes, self.writer.count()));
        let shared = parts.as_mut().map(Moments::shared);
        (0..self.written.n * boxes * shares).into_par_iter().for_each(|t| {
            let (share, n_box) = (t % shares, t / shares);
            let (n, b) = (n_box / boxes, n_box % boxes);
            let (bz, by) = (b / places[1].div_ceil(cut[1]), b % places[1].div_ceil(cut[1]));
            self.cpu.run(&BoxTask {
                all: self,
                n,
                z: bz * cut[0]..((bz + 1) * cut[0]).min(places[0]),
                y: by * cut[1]..((by + 1) * cut[1]).min(places[1]),
                x: places[2],
                groups: share * groups / shares..(share + 1) * groups / shares,
                moments: shared.map(|s| s.at(n_box * self.writer.count() * 2 * LANES)),
            });
        });
        if let (Some(moments), Some(parts)) = (moments, parts) {
            parts.reduce(moments);
        }
    }

    /// Places along z and y per task: as many as keep the packed halo in the cache. The number of samples has no say,
    /// so that moments are summed the same way for a sample alone and in a batch.
    fn boxes(&self, places: [usize; 3]) -> [usize; 2] {
        let fits = |z: usize, y: usize| {
            Halo::new(&self.pattern, self.channels.clone(), [z, y, places[2]]).len() <= HALO_VALUES
        };
        let groups = self.writer.count().div_ceil(self.cpu.columns());
        if groups >= TASKS / 4 && fits(places[0], places[1]) {
            return [places[0].max(1), places[1].max(1)];
        }
        let (mut z, mut y) = (1, places[1].max(1));
        while y > 1 && !fits(1, y) {
            y = y.div_ceil(2);
        }
        let boxes = |z: usize| places[0].div_ceil(z) * places[1].div_ceil(y);
        while z < places[0] && fits(z + 1, y) && boxes(z + 1) >= TASKS {
            z += 1;
        }
        [z, y]
    }
}

/// One box of places, some groups of output channels.
struct BoxTask<'a> {
    all: &'a Direct<'a>,
    n: usize,
    z: Range<usize>,
    y: Range<usize>,
    x: usize,
    groups: Range<usize>,
    moments: Option<*mut f32>,
}

impl Task for BoxTask<'_> {
    fn run<V: Lanes>(&self) {
        let all = self.all;
        let halo = Halo::new(&all.pattern, all.channels.clone(), [self.z.len(), self.y.len(), self.x]);
        with_scratch(halo.len(), |scratch| {
            halo.pack::<V>(
                &all.reader,
                all.read.size,
                self.n,
                [self.z.start, self.y.start, 0],
                0..halo.rows(),
                scratch,
            );
            self.clear_moments();
            let phases: Vec<_> =
                all.pattern.phases.iter().map(|p| (p, halo.steps(p), self.plane(&halo, p))).collect();
            for group in self.groups.clone() {
                let mut before = 0;
                for (phase, steps, plane) in &phases {
                    let rows = all.channels.weight_rows(phase);
                    let weights = before * all.writer.count() * LANES + group * V::COLUMNS * LANES * rows;
                    self.phase::<V>(&halo, phase, steps, plane, group, &all.weights[weights..], scratch);
                    before += rows;
                }
            }
            V::fence();
        });
    }
}

/// A place: where its halo begins, and the voxel that is written.
#[derive(Clone, Copy)]
struct Place {
    from: usize,
    voxel: usize,
}

impl BoxTask<'_> {
    fn clear_moments(&self) {
        let Some(moments) = self.moments else { return };
        let blocks = self.groups.start * self.all.cpu.columns()
            ..(self.groups.end * self.all.cpu.columns()).min(self.all.writer.count());
        for i in blocks.start * 2 * LANES..blocks.end * 2 * LANES {
            // SAFETY: the part of this box, and of it the blocks of this task.
            unsafe { *moments.add(i) = 0.0 };
        }
    }

    /// Places of the first plane of the box.
    fn plane(&self, halo: &Halo, phase: &Phase) -> Vec<Place> {
        let (step, size) = (self.all.pattern.write_step, self.all.written.size);
        let mut places = Vec::new();
        for y in self.y.clone() {
            let at_y = phase.first[1] + y * step[1];
            for x in (0..self.x).take_while(|x| at_y < size[1] && phase.first[2] + x * step[2] < size[2]) {
                let from = halo.place([0, y - self.y.start, x]);
                places.push(Place { from, voxel: at_y * size[2] + phase.first[2] + x * step[2] });
            }
        }
        places
    }

    fn phase<V: Lanes>(
        &self,
        halo: &Halo,
        phase: &Phase,
        steps: &[usize],
        plane: &[Place],
        group: usize,
        weights: &[f32],
        scratch: &[f32],
    ) {
        let (all, size) = (self.all, self.all.written.size);
        let columns = group_width(all.writer.count(), V::COLUMNS, group);
        let out = [0, 1].map(|c| {
            if c < columns { all.writer.block(self.n, group * V::COLUMNS + c) } else { WriteBlock::UNWANTED }
        });
        if !out.iter().any(WriteBlock::wanted) {
            return;
        }
        let run = all.channels.run(phase);
        let per_z = phase.taps[1].len() * all.channels.steps_per_row(phase);
        for z in self.z.clone() {
            let written = phase.first[0] + z * all.pattern.write_step[0];
            if written >= size[0] {
                break;
            }
            let taps = phase.inside_z((z * all.pattern.read_step[0]) as isize, all.read.size[0]);
            let steps = &steps[taps.start * per_z..taps.end * per_z];
            let block = PlaceBlock {
                from: scratch[halo.place([z - self.z.start, 0, 0])..].as_ptr(),
                places: plane,
                voxel: written * size[1] * size[2],
                steps,
                run,
                weights: weights[taps.start * per_z * run * columns * LANES..].as_ptr(),
                out,
                bias: all.bias.as_ref().map(|bias| bias[group * V::COLUMNS * LANES..].as_ptr()),
                moments: self.moments.map(|m| m.wrapping_add(group * V::COLUMNS * 2 * LANES)),
            };
            for (first, count) in even_runs(plane.len(), V::PIXELS) {
                block.call::<V>(&plane[first..first + count], columns);
            }
        }
    }
}

/// A register block: some places, one group of output channels.
#[derive(Clone, Copy)]
struct PlaceBlock<'a> {
    from: *const f32,
    places: &'a [Place],
    voxel: usize,
    steps: &'a [usize],
    run: usize,
    weights: *const f32,
    out: [WriteBlock; 2],
    bias: Option<*const f32>,
    moments: Option<*mut f32>,
}

impl<'a> PlaceBlock<'a> {
    fn call<V: Lanes>(&self, places: &'a [Place], columns: usize) {
        let block = Self { places, ..*self };
        with_count!(places.len(), N => {
            match (columns, self.run == LANES) {
                (1, true) => V::call(&Fixed::<N, 1, LANES>(block)),
                (2, true) => V::call(&Fixed::<N, 2, LANES>(block)),
                (1, false) => V::call(&Fixed::<N, 1, 0>(block)),
                _ => V::call(&Fixed::<N, 2, 0>(block)),
            }
        });
    }
}

struct Fixed<'a, const N: usize, const C: usize, const RUN: usize>(PlaceBlock<'a>);

impl<const N: usize, const C: usize, const RUN: usize> Kernel for Fixed<'_, N, C, RUN> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let block = &self.0;
        // SAFETY: places and steps lie in the packed halo, weights and bias have the rows and lanes of the group, and
        // the voxels and moments of this box and group belong to this task.
        unsafe {
            let mut sums = [[V::zero(); C]; N];
            if let Some(bias) = block.bias {
                for c in 0..C {
                    let bias = V::load(bias.add(c * LANES));
                    for n in 0..N {
                        sums[n][c] = bias;
                    }
                }
            }
            let mut at = [block.from; N];
            for n in 0..N {
                at[n] = block.from.add(block.places.get_unchecked(n).from);
            }
            add_products::<V, N, C, RUN>(&mut sums, &at, block.steps, block.run, block.weights);
            for c in 0..C {
                if block.out[c].wanted() {
                    for n in 0..N {
                        block.out[c].write(block.voxel + block.places.get_unchecked(n).voxel, sums[n][c]);
                    }
                }
                if let Some(moments) = block.moments {
                    add_moments::<V, N, C>(&sums, c, moments.add(c * 2 * LANES));
                }
            }
        }
    }
}

/// Adds sum and sum of squares of column `c` to `to`.
///
/// # Safety
/// Two vectors at `to` belong to this task.
#[inline(always)]
unsafe fn add_moments<V: Lanes, const N: usize, const C: usize>(sums: &[[V; C]; N], c: usize, to: *mut f32) {
    // SAFETY: as promised by the caller.
    unsafe {
        let (mut sum, mut squares) = (V::load(to), V::load(to.add(LANES)));
        for n in 0..N {
            sum = sum.add(sums[n][c]);
            squares = sums[n][c].fma(sums[n][c], squares);
        }
        sum.store(to);
        squares.store(to.add(LANES));
    }
}
