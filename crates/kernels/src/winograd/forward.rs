//! The convolution in the frequency domain; with turned weights also the gradient with respect to the input.

#![allow(unsafe_code, reason = "blocks of tiles are worked on through pointers into scratch memory")]

use super::input_tile::InputTile;
use super::output_tile::OutputTile;
use super::tiling::Tiling;
use crate::LANES;
use crate::cpu::{Cpu, Kernel, Task};
use crate::direct::Moments;
use crate::lanes::Lanes;
use crate::product::{add_products, even_runs, group_width, with_count};
use crate::scratch::{Recycled, Shared, with_scratch};
use crate::tensor_blocks::{Reader, Writer};
use rayon::prelude::*;
use std::ops::Range;

/// Transformed weights up to this size are streamed once per small block; larger ones once per large chunk.
fn small_weights() -> usize { crate::tune("SMALL", 2048) << 10 }
/// Values of the frequency domain of one small block.
fn block_values() -> usize { crate::tune("BLOCK", 320) << 10 }
/// Values of the frequency domain of one chunk whose steps are each shared out to all threads.
fn chunk_values() -> usize { crate::tune("CHUNK", 6144) << 10 }

/// A convolution by minimal filtering, ready to run.
pub(crate) struct Winograd<'a> {
    pub cpu: Cpu,
    pub tiling: Tiling,
    pub reader: Reader<'a>,
    pub writer: Writer<'a>,
    /// As [`super::pack`] lays them out.
    pub weights: &'a [f32],
    /// One value per written lane.
    pub bias: Option<Vec<f32>>,
}

impl Winograd<'_> {
    /// Runs it; `moments` gets sum and sum of squares per sample and lane.
    pub(crate) fn run(&self, moments: Option<&mut [f64]>) {
        let mut parts = moments.is_some().then(|| Moments::new(self.tiling.grid.n, self.tiling.per_sample(), self.writer.count()));
        let shared = parts.as_mut().map(Moments::shared);
        let (count, per_tile) = (self.tiling.count(), self.values_per_tile());
        if self.weights.len() <= small_weights() {
            let blocks = count.div_ceil((block_values() / per_tile).clamp(crate::tune("TMIN", 14), crate::tune("TMAX", 28)));
            (0..blocks).into_par_iter().for_each(|b| self.block(b * count / blocks..(b + 1) * count / blocks, shared));
        } else {
            let chunks = count.div_ceil((chunk_values() / per_tile).max(14));
            for c in 0..chunks {
                self.chunk(c * count / chunks..(c + 1) * count / chunks, shared);
            }
        }
        if let (Some(moments), Some(parts)) = (moments, parts) {
            parts.reduce(moments);
        }
    }

    fn values_per_tile(&self) -> usize {
        self.tiling.tile.volume() * (self.reader.count() + self.writer.count()) * LANES
    }

    /// All steps for a few tiles, by one thread.
    fn block(&self, tiles: Range<usize>, moments: Option<Shared>) {
        let read = self.tiling.tile.volume() * self.reader.count() * LANES * tiles.len();
        with_scratch(self.values_per_tile() * tiles.len(), |scratch| {
            let (data, products) = scratch.split_at_mut(read);
            let domain = Domain { tiles: tiles.clone(), data: Shared::new(data), products: Shared::new(products) };
            self.cpu.run(&Inputs { all: self, domain: &domain, tiles: tiles.clone() });
            for g in 0..self.planes() {
                self.cpu.run(&Products { all: self, domain: &domain, g, groups: 0..self.groups() });
            }
            self.cpu.run(&Outputs { all: self, domain: &domain, tiles, moments });
        });
    }

    /// Each step shared out to all threads.
    fn chunk(&self, tiles: Range<usize>, moments: Option<Shared>) {
        let volume = self.tiling.tile.volume() * LANES * tiles.len();
        let mut data = Recycled::new(volume * self.reader.count());
        let mut products = Recycled::new(volume * self.writer.count());
        let domain = Domain { tiles: tiles.clone(), data: Shared::new(&mut data), products: Shared::new(&mut products) };
        tiles.clone().into_par_iter().for_each(|t| self.cpu.run(&Inputs { all: self, domain: &domain, tiles: t..t + 1 }));
        let groups = self.groups();
        (0..self.planes() * groups).into_par_iter().for_each(|i| {
            let group = i % groups;
            self.cpu.run(&Products { all: self, domain: &domain, g: i / groups, groups: group..group + 1 });
        });
        tiles.into_par_iter().for_each(|t| self.cpu.run(&Outputs { all: self, domain: &domain, tiles: t..t + 1, moments }));
    }

    fn groups(&self) -> usize {
        self.writer.count().div_ceil(self.cpu.columns())
    }

    /// Pairs `(fz, fy)`.
    fn planes(&self) -> usize {
        let [z, y, _] = self.tiling.tile.frequencies();
        z * y
    }
}

/// Frequency domain of a range of tiles.
struct Domain {
    tiles: Range<usize>,
    data: Shared,
    products: Shared,
}

impl Domain {
    /// Where block `block` of `blocks`, tile `slot`, of plane `g` begins.
    fn at(&self, g: usize, blocks: usize, block: usize, slot: usize, ax: usize) -> usize {
        ((g * blocks + block) * self.tiles.len() + slot) * ax * LANES
    }
}

struct Inputs<'a> {
    all: &'a Winograd<'a>,
    domain: &'a Domain,
    tiles: Range<usize>,
}

impl Task for Inputs<'_> {
    fn run<V: Lanes>(&self) {
        let (tiling, blocks) = (&self.all.tiling, self.all.reader.count());
        let ax = tiling.tile.frequencies()[2];
        for t in self.tiles.clone() {
            let (n, origin) = tiling.origin(t);
            for b in 0..blocks {
                V::call(&InputTile {
                    block: self.all.reader.block(n, b),
                    size: tiling.grid.size,
                    origin: [0, 1, 2].map(|a| origin[a] as isize - isize::from(tiling.tile.0[a] > 1)),
                    tile: tiling.tile,
                    out: self.domain.data.at(self.domain.at(0, blocks, b, t - self.domain.tiles.start, ax)),
                    plane: self.domain.at(1, blocks, 0, 0, ax),
                });
            }
        }
    }
}

struct Outputs<'a> {
    all: &'a Winograd<'a>,
    domain: &'a Domain,
    tiles: Range<usize>,
    moments: Option<Shared>,
}

impl Task for Outputs<'_> {
    fn run<V: Lanes>(&self) {
        let (tiling, blocks) = (&self.all.tiling, self.all.writer.count());
        let ax = tiling.tile.frequencies()[2];
        for t in self.tiles.clone() {
            let (n, origin) = tiling.origin(t);
            for b in 0..blocks {
                let block = self.all.writer.block(n, b);
                if !block.wanted() {
                    continue;
                }
                V::call(&OutputTile {
                    from: self.domain.products.at(self.domain.at(0, blocks, b, t - self.domain.tiles.start, ax)),
                    plane: self.domain.at(1, blocks, 0, 0, ax),
                    tile: tiling.tile,
                    block,
                    size: tiling.grid.size,
                    origin,
                    bias: self.all.bias.as_ref().map(|bias| bias[b * LANES..][..LANES].as_ptr()),
                    moments: self.moments.map(|m| m.at((t * blocks + b) * 2 * LANES)),
                });
            }
        }
        V::fence();
    }
}

/// Products of one plane for some groups of output channels.
struct Products<'a> {
    all: &'a Winograd<'a>,
    domain: &'a Domain,
    g: usize,
    groups: Range<usize>,
}

impl Task for Products<'_> {
    fn run<V: Lanes>(&self) {
        let (rows, blocks) = (self.all.reader.count(), self.all.writer.count());
        let ax = self.all.tiling.tile.frequencies()[2];
        let steps: Vec<usize> = (0..rows).map(|b| self.domain.at(0, rows, b, 0, ax)).collect();
        let per_frequency = rows * LANES * blocks * LANES;
        for group in self.groups.clone() {
            let first = group * V::COLUMNS;
            let weights = &self.all.weights[self.g * ax * per_frequency + first * LANES * rows * LANES..];
            let columns = group_width(blocks, V::COLUMNS, group);
            for (slot, count) in even_runs(self.domain.tiles.len(), V::PIXELS) {
                let block = TileBlock {
                    from: self.domain.data.at(self.domain.at(self.g, rows, 0, slot, ax)),
                    to: self.domain.products.at(self.domain.at(self.g, blocks, first, slot, ax)),
                    column: self.domain.at(0, blocks, 1, 0, ax),
                    weights: weights.as_ptr(),
                    per_frequency,
                    steps: &steps,
                    ax,
                };
                block.call::<V>(count, columns);
            }
        }
    }
}

/// A register block of tiles, for all `fx` of a plane.
#[derive(Clone, Copy)]
struct TileBlock<'a> {
    from: *const f32,
    to: *mut f32,
    /// From one vector of outputs to the next in `to`.
    column: usize,
    weights: *const f32,
    per_frequency: usize,
    steps: &'a [usize],
    ax: usize,
}

impl TileBlock<'_> {
    fn call<V: Lanes>(&self, tiles: usize, columns: usize) {
        with_count!(tiles, N => {
            match (columns, self.ax) {
                (1, 6) => V::call(&Fixed::<N, 1, 6>(*self)),
                (2, 6) => V::call(&Fixed::<N, 2, 6>(*self)),
                (1, _) => V::call(&Fixed::<N, 1, 4>(*self)),
                _ => V::call(&Fixed::<N, 2, 4>(*self)),
            }
        });
    }
}

struct Fixed<'a, const N: usize, const C: usize, const A: usize>(TileBlock<'a>);

impl<const N: usize, const C: usize, const A: usize> Kernel for Fixed<'_, N, C, A> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let block = &self.0;
        for x in 0..A {
            // SAFETY: the tiles of this block lie in the domain, the weights have all frequencies, and the products of
            // these tiles and columns belong to this task.
            unsafe {
                let from = block.from.add(x * LANES);
                let mut at = [from; N];
                for n in 0..N {
                    at[n] = from.add(n * A * LANES);
                }
                let mut sums = [[V::zero(); C]; N];
                add_products::<V, N, C, LANES>(&mut sums, &at, block.steps, LANES, block.weights.add(x * block.per_frequency));
                for n in 0..N {
                    for c in 0..C {
                        sums[n][c].store(block.to.add(c * block.column + (n * A + x) * LANES));
                    }
                }
            }
        }
    }
}
