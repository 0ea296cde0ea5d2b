//! Weight gradient in the frequency domain: one outer product over tiles for every frequency.

#![allow(unsafe_code, reason = "tasks write their own parts of the frequency domain")]

use super::gradient_tile::GradientTile;
use super::input_tile::InputTile;
use super::tiling::Tiling;
use super::weights::{Matrices, ToTaps, place};
use crate::LANES;
use crate::cpu::{Cpu, Task};
use crate::lanes::Lanes;
use crate::product::{AddSlice, Target, Walk, group_width, outer_rows};
use crate::scratch::{Recycled, Shared, with_scratch};
use crate::tensor_blocks::Reader;
use crate::weight_view::WeightView;
use rayon::prelude::*;
use std::ops::Range;

/// Values of the frequency domain that a part works on at once.
const SMALL_CHUNK: usize = 400 << 10;
/// The same when all threads share the steps of one part.
const LARGE_CHUNK: usize = 4 << 20;
/// Parts with sums of their own at most, and values of all their sums at most.
const PARTS: usize = 16;
const PART_VALUES: usize = 16 << 20;
/// Fewest tiles per part, and per chunk: each chunk reads and writes all sums once.
const PART_TILES: usize = 80;
const FEWEST_TILES: usize = 32;

/// Weight gradient; `grad` is `[n, z, y, x, lanes]`.
pub(crate) struct WinogradWeightGradient<'a> {
    pub cpu: Cpu,
    pub tiling: Tiling,
    pub view: WeightView,
    pub reader: Reader<'a>,
    pub grad: &'a [f32],
}

impl WinogradWeightGradient<'_> {
    /// Overwrites `dw`, laid out as the view says.
    pub(crate) fn run(&self, dw: &mut [f32]) {
        let (rows, columns) = (self.view.rows.len(), self.view.columns.len());
        let len = self.tiling.tile.weight_volume() * rows * columns;
        let (count, parts) = (self.tiling.count(), self.parts(len));
        let mut sums = Recycled::new(len * parts);
        if parts == 1 {
            self.part(0..count, &mut sums, true);
        } else {
            sums.par_chunks_mut(len).enumerate().for_each(|(p, sums)| {
                self.part(p * count / parts..(p + 1) * count / parts, sums, false);
            });
        }
        self.unpack(&mut sums, parts, dw);
    }

    /// Parts, each with sums of its own, that the tiles are cut into; the number depends on sizes alone.
    fn parts(&self, len: usize) -> usize {
        let most = (PART_VALUES / len).min(self.tiling.count() / PART_TILES).min(PARTS);
        if most >= 4 { most } else { 1 }
    }

    /// Sums over a range of tiles; `shared` spreads each step over all threads.
    fn part(&self, tiles: Range<usize>, sums: &mut [f32], shared: bool) {
        let volume = self.tiling.tile.volume();
        let (rows, columns) = (volume * self.view.rows.len(), volume * self.view.columns.len());
        let chunk = if shared { LARGE_CHUNK } else { SMALL_CHUNK };
        let chunks = tiles.len().div_ceil((chunk / (rows + columns)).max(FEWEST_TILES));
        let longest = tiles.len().div_ceil(chunks);
        let sums = Shared::new(sums);
        let work = |scratch: &mut [f32]| {
            let (data, grads) = scratch.split_at_mut(rows * longest);
            for c in 0..chunks {
                let tiles =
                    tiles.start + c * tiles.len() / chunks..tiles.start + (c + 1) * tiles.len() / chunks;
                let chunk =
                    Chunk { tiles, data: Shared::new(data), grads: Shared::new(grads), first: c == 0 };
                self.chunk(&chunk, sums, shared);
            }
        };
        if shared {
            work(&mut Recycled::new((rows + columns) * longest));
        } else {
            with_scratch((rows + columns) * longest, work);
        }
    }

    fn chunk(&self, chunk: &Chunk, sums: Shared, shared: bool) {
        let [wz, wy, _] = self.tiling.tile.weight_frequencies();
        let groups = self.view.column_blocks().div_ceil(self.cpu.columns());
        let tile = |t| self.cpu.run(&TileTask { all: self, chunk, tile: t });
        let sum = |i| self.cpu.run(&SumTask { all: self, chunk, w: i / groups, group: i % groups, sums });
        if shared {
            chunk.tiles.clone().into_par_iter().for_each(tile);
            (0..wz * wy * groups).into_par_iter().for_each(sum);
        } else {
            chunk.tiles.clone().for_each(tile);
            (0..wz * wy * groups).for_each(sum);
        }
    }

    fn unpack(&self, sums: &mut [f32], parts: usize, dw: &mut [f32]) {
        let (matrices, out, sums) = (Matrices::new(self.tiling.tile), Shared::new(dw), &*sums);
        let groups = self.view.column_blocks().div_ceil(self.cpu.columns());
        (0..groups * self.view.row_blocks()).into_par_iter().for_each(|i| {
            let (group, row) = (i / self.view.row_blocks(), i % self.view.row_blocks());
            self.cpu.run(&UnpackTask { all: self, matrices: &matrices, sums, parts, out, group, row });
        });
    }
}

struct Chunk {
    tiles: Range<usize>,
    data: Shared,
    grads: Shared,
    /// Sums are overwritten by the first chunk.
    first: bool,
}

struct TileTask<'a> {
    all: &'a WinogradWeightGradient<'a>,
    chunk: &'a Chunk,
    tile: usize,
}

impl Task for TileTask<'_> {
    fn run<V: Lanes>(&self) {
        let (all, tiling) = (self.all, &self.all.tiling);
        let ((n, origin), (_, read)) = (tiling.origin(self.tile), tiling.read_origin(self.tile));
        let (slot, count, ax) =
            (self.tile - self.chunk.tiles.start, self.chunk.tiles.len(), tiling.tile.frequencies()[2]);
        let (rows, columns) = (all.view.row_blocks(), all.view.column_blocks());
        for b in 0..rows {
            V::call(&InputTile {
                block: all.reader.block(n, b),
                size: tiling.read.size,
                origin: read,
                tile: tiling.tile,
                out: self.chunk.data.at((b * count + slot) * ax * LANES),
                plane: rows * count * ax * LANES,
            });
        }
        let width = all.view.columns.len();
        for b in 0..columns {
            V::call(&GradientTile {
                values: &all.grad[n * tiling.written.voxels() * width + b * LANES..],
                width,
                size: tiling.written.size,
                origin,
                tile: tiling.tile,
                out: self.chunk.grads.at((b * count + slot) * ax * LANES),
                plane: columns * count * ax * LANES,
            });
        }
    }
}

/// The planes of frequencies that share one plane of weights, one group of output channels.
struct SumTask<'a> {
    all: &'a WinogradWeightGradient<'a>,
    chunk: &'a Chunk,
    w: usize,
    group: usize,
    sums: Shared,
}

impl Task for SumTask<'_> {
    fn run<V: Lanes>(&self) {
        let tile = self.all.tiling.tile;
        let ([az, ay, ax], [_, _, wx]) = (tile.frequencies(), tile.weight_frequencies());
        // The first frequency of each weight overwrites the sums, in the first chunk.
        let mut fresh = vec![self.chunk.first; wx];
        for z in 0..az {
            for y in 0..ay {
                if tile.weight_of([z, y, 0]) / wx != self.w {
                    continue;
                }
                for x in 0..ax {
                    let weight = tile.weight_of([z, y, x]);
                    let add = !std::mem::take(&mut fresh[weight % wx]);
                    self.frequency::<V>(z * ay + y, x, weight, add);
                }
            }
        }
    }
}

impl SumTask<'_> {
    fn frequency<V: Lanes>(&self, g: usize, x: usize, weight: usize, add: bool) {
        let (all, count) = (self.all, self.chunk.tiles.len());
        let ax = all.tiling.tile.frequencies()[2];
        let (rows, blocks) = (all.view.row_blocks(), all.view.column_blocks());
        let columns = group_width(blocks, V::COLUMNS, self.group);
        let walk = Walk {
            planes: 1,
            rows: 1,
            count,
            plane: [0, 0],
            row: [0, 0],
            step: [ax * LANES; 2],
            column: count * ax * LANES,
        };
        let (first, step) = place(&all.view, V::COLUMNS, self.group * V::COLUMNS, 0);
        let at = first + weight * step;
        let grads = self.chunk.grads.at(((g * blocks + self.group * V::COLUMNS) * count * ax + x) * LANES);
        for b in 0..rows {
            let data = self.chunk.data.at(((g * rows + b) * count * ax + x) * LANES);
            let to = self.sums.at(at + b * LANES * columns * LANES);
            outer_rows::<V>(data, LANES, grads, walk, Target { to, columns, add });
        }
    }
}

/// Sixteen rows and one group of columns of the weights.
struct UnpackTask<'a> {
    all: &'a WinogradWeightGradient<'a>,
    matrices: &'a Matrices,
    sums: &'a [f32],
    parts: usize,
    out: Shared,
    group: usize,
    row: usize,
}

impl Task for UnpackTask<'_> {
    fn run<V: Lanes>(&self) {
        let view = &self.all.view;
        let columns = group_width(view.column_blocks(), V::COLUMNS, self.group);
        let frequencies = self.all.tiling.tile.weight_volume();
        let run = LANES * columns * LANES;
        let (first, step) = place(view, V::COLUMNS, self.group * V::COLUMNS, self.row * LANES);
        with_scratch(frequencies * run, |room| {
            for (f, room) in room.chunks_exact_mut(run).enumerate() {
                room.copy_from_slice(&self.sums[first + f * step..][..run]);
                for part in 1..self.parts {
                    let from = &self.sums[part * frequencies * step + first + f * step..][..run];
                    V::call(&AddSlice { to: room.as_mut_ptr(), from });
                }
            }
            for lane in 0..LANES {
                for c in 0..columns {
                    self.taps::<V>(
                        &room[(lane * columns + c) * LANES..],
                        run,
                        lane,
                        self.group * V::COLUMNS + c,
                    );
                }
            }
        });
    }
}

impl UnpackTask<'_> {
    fn taps<V: Lanes>(&self, from: &[f32], step: usize, lane: usize, column: usize) {
        let view = &self.all.view;
        let Some(row) = view.rows[self.row * LANES + lane] else { return };
        let taps: usize = self.all.tiling.tile.0.iter().map(|axis| axis.taps()).product();
        let mut values = [[0.0f32; LANES]; 27];
        V::call(&ToTaps {
            from: from.as_ptr(),
            step,
            matrices: self.matrices,
            out: values.as_mut_ptr().cast(),
        });
        for i in 0..LANES {
            let Some(column) = view.columns[column * LANES + i] else { continue };
            for tap in 0..taps {
                // SAFETY: the weights of these rows and columns belong to this task.
                unsafe { *self.out.at(view.at(row, column) + tap) = values[tap][i] };
            }
        }
    }
}
