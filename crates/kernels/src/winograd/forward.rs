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
pub(crate) const SMALL_WEIGHTS: usize = 2 << 20;
/// Values of the frequency domain of one small block.
const BLOCK_VALUES: usize = 320 << 10;
/// Values of the frequency domain of one chunk whose steps are each shared out to all threads.
const CHUNK_VALUES: usize = 6 << 20;
/// Tiles of one small block.
const FEWEST_TILES: usize = 14;
const MOST_TILES: usize = 28;

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
        let mut parts = moments
            .is_some()
            .then(|| Moments::new(self.tiling.written.n, self.tiling.per_sample(), self.writer.count()));
        self.tiles(0..self.tiling.count(), parts.as_mut().map(Moments::shared));
        if let (Some(moments), Some(parts)) = (moments, parts) {
            parts.reduce(moments);
        }
    }

    /// Some of the tiles; `moments` has room for those of all.
    pub(crate) fn tiles(&self, tiles: Range<usize>, moments: Option<Shared>) {
        let (count, per_tile) = (tiles.len(), self.values_per_tile());
        let run = |i: usize, of: usize| tiles.start + i * count / of..tiles.start + (i + 1) * count / of;
        if self.weights.len() <= SMALL_WEIGHTS {
            let blocks = count.div_ceil((BLOCK_VALUES / per_tile).clamp(FEWEST_TILES, MOST_TILES));
            (0..blocks).into_par_iter().for_each(|b| self.block(run(b, blocks), moments));
        } else {
            let chunks = count.div_ceil((CHUNK_VALUES / per_tile).max(14));
            for c in 0..chunks {
                self.chunk(run(c, chunks), moments);
            }
        }
    }

    fn values_per_tile(&self) -> usize {
        self.tiling.tile.volume() * (self.reader.count() + self.writer.count()) * LANES
    }

    /// All steps for a few tiles, by one thread. The products of a plane take the place of the data of the plane
    /// before it, so that the block fills the cache once, not twice.
    fn block(&self, tiles: Range<usize>, moments: Option<Shared>) {
        let run = self.tiling.tile.frequencies()[2] * LANES * tiles.len();
        let plane = self.reader.count().max(self.writer.count()) * run;
        with_scratch(plane * (self.planes() + 1), |scratch| {
            let products = Shared::new(scratch);
            let data = products.from(plane);
            let domain =
                Domain { tiles: tiles.clone(), run, data, data_plane: plane, products, product_plane: plane };
            self.cpu.run(&Inputs { all: self, domain: &domain, tiles: tiles.clone() });
            for g in 0..self.planes() {
                self.cpu.run(&Products { all: self, domain: &domain, g, groups: 0..self.groups() });
            }
            self.cpu.run(&Outputs { all: self, domain: &domain, tiles, moments });
        });
    }

    /// Each step shared out to all threads.
    fn chunk(&self, tiles: Range<usize>, moments: Option<Shared>) {
        let run = self.tiling.tile.frequencies()[2] * LANES * tiles.len();
        let (data_plane, product_plane) = (run * self.reader.count(), run * self.writer.count());
        // Always the same length, so that the same memory serves all layers.
        let len = (data_plane + product_plane) * self.planes();
        let mut memory = Recycled::new(len.max(CHUNK_VALUES));
        let data = Shared::new(&mut memory);
        let products = data.from(data_plane * self.planes());
        let domain = Domain { tiles: tiles.clone(), run, data, data_plane, products, product_plane };
        tiles
            .clone()
            .into_par_iter()
            .for_each(|t| self.cpu.run(&Inputs { all: self, domain: &domain, tiles: t..t + 1 }));
        let groups = self.groups();
        (0..self.planes() * groups).into_par_iter().for_each(|i| {
            let group = i % groups;
            self.cpu.run(&Products { all: self, domain: &domain, g: i / groups, groups: group..group + 1 });
        });
        tiles
            .into_par_iter()
            .for_each(|t| self.cpu.run(&Outputs { all: self, domain: &domain, tiles: t..t + 1, moments }));
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
    /// Values of one block of channels and all `fx` of the tiles.
    run: usize,
    data: Shared,
    data_plane: usize,
    products: Shared,
    product_plane: usize,
}

impl Domain {
    /// Where channel block `block` of tile `slot` begins in a plane.
    fn within(&self, block: usize, slot: usize) -> usize {
        block * self.run + slot * (self.run / self.tiles.len())
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
        for t in self.tiles.clone() {
            let (n, origin) = tiling.read_origin(t);
            for b in 0..blocks {
                V::call(&InputTile {
                    block: self.all.reader.block(n, b),
                    size: tiling.read.size,
                    origin,
                    tile: tiling.tile,
                    out: self.domain.data.at(self.domain.within(b, t - self.domain.tiles.start)),
                    plane: self.domain.data_plane,
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
        for t in self.tiles.clone() {
            let (n, origin) = tiling.origin(t);
            for b in 0..blocks {
                let block = self.all.writer.block(n, b);
                if !block.wanted() {
                    continue;
                }
                V::call(&OutputTile {
                    from: self.domain.products.at(self.domain.within(b, t - self.domain.tiles.start)),
                    plane: self.domain.product_plane,
                    tile: tiling.tile,
                    block,
                    size: tiling.written.size,
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
        let tile = self.all.tiling.tile;
        let [_, ay, ax] = tile.frequencies();
        let steps: Vec<usize> = (0..rows).map(|b| b * self.domain.run).collect();
        let same: Vec<usize> = (0..ax).map(|x| tile.weight_of([self.g / ay, self.g % ay, x])).collect();
        let per_frequency = rows * LANES * blocks * LANES;
        for group in self.groups.clone() {
            let first = group * V::COLUMNS;
            let weights = &self.all.weights[first * LANES * rows * LANES..];
            let columns = group_width(blocks, V::COLUMNS, group);
            for (slot, count) in even_runs(self.domain.tiles.len(), V::PIXELS) {
                let block = TileBlock {
                    from: self.domain.data.at(self.g * self.domain.data_plane + self.domain.within(0, slot)),
                    to: self
                        .domain
                        .products
                        .at(self.g * self.domain.product_plane + self.domain.within(first, slot)),
                    column: self.domain.run,
                    weights: weights.as_ptr(),
                    per_frequency,
                    frequencies: &same,
                    steps: &steps,
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
    /// Which weights each `fx` takes.
    frequencies: &'a [usize],
    steps: &'a [usize],
}

impl TileBlock<'_> {
    fn call<V: Lanes>(&self, tiles: usize, columns: usize) {
        with_count!(tiles, N => {
            match (columns, self.frequencies.len()) {
                (1, 4) => V::call(&Fixed::<N, 1, 4>(*self)),
                (2, 4) => V::call(&Fixed::<N, 2, 4>(*self)),
                (1, 5) => V::call(&Fixed::<N, 1, 5>(*self)),
                (2, 5) => V::call(&Fixed::<N, 2, 5>(*self)),
                (1, 6) => V::call(&Fixed::<N, 1, 6>(*self)),
                (2, 6) => V::call(&Fixed::<N, 2, 6>(*self)),
                (1, 9) => V::call(&Fixed::<N, 1, 9>(*self)),
                (2, 9) => V::call(&Fixed::<N, 2, 9>(*self)),
                other => unreachable!("vectors and frequencies: {other:?}"),
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
                add_products::<V, N, C, LANES>(
                    &mut sums,
                    &at,
                    block.steps,
                    LANES,
                    block.weights.add(block.frequencies[x] * block.per_frequency),
                );
                for n in 0..N {
                    for c in 0..C {
                        sums[n][c].store(block.to.add(c * block.column + (n * A + x) * LANES));
                    }
                }
            }
        }
    }
}
