//! Takes one tile back from the frequency domain, adds the bias, sums moments and writes it.

#![allow(unsafe_code, reason = "tiles are transformed and written through pointers")]

use super::tiling::Tile;
use super::transform::{TileRoom, gather, output, scatter, with_output};
use crate::LANES;
use crate::cpu::Kernel;
use crate::lanes::Lanes;
use crate::tensor_blocks::WriteBlock;

/// Sixteen output channels of one tile.
pub(super) struct OutputTile {
    pub from: *const f32,
    /// From one `g` to the next in `from`.
    pub plane: usize,
    pub tile: Tile,
    pub block: WriteBlock,
    pub size: [usize; 3],
    pub origin: [usize; 3],
    /// Sixteen values.
    pub bias: Option<*const f32>,
    /// Overwritten: `[2][16]`, sum and sum of squares.
    pub moments: Option<*mut f32>,
}

impl Kernel for OutputTile {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let mut room = TileRoom::new();
        let room = room.start();
        // SAFETY: `from` has the runs of this tile, the room holds the largest tile, and the voxels of a tile and its
        // moments belong to this task.
        unsafe {
            let [z, y, x] = self.tile.0;
            with_output!(z, A, M => self.along_z::<V, A, M>(room));
            with_output!(y, A, M => if A > 1 { self.along_y::<V, A, M>(room) });
            with_output!(x, A, M => self.rows::<V, A, M>(room));
        }
    }
}

impl OutputTile {
    /// # Safety
    /// As in `run`.
    #[inline(always)]
    unsafe fn along_z<V: Lanes, const A: usize, const M: usize>(&self, room: *mut f32) {
        let [_, ay, ax] = self.tile.frequencies();
        for y in 0..ay {
            for x in 0..ax {
                let from = self.from.wrapping_add(y * self.plane + x * LANES);
                let to = room.wrapping_add((y * ax + x) * LANES);
                // SAFETY: inside this tile's runs and the room.
                unsafe {
                    let line = output::<V, A, M>(gather::<V, A>(from, ay * self.plane));
                    scatter::<V, M>(line, to, ay * ax * LANES);
                }
            }
        }
    }

    /// # Safety
    /// As in `run`.
    #[inline(always)]
    unsafe fn along_y<V: Lanes, const A: usize, const M: usize>(&self, room: *mut f32) {
        let ax = self.tile.frequencies()[2];
        for z in 0..self.tile.0[0].outputs() {
            for x in 0..ax {
                let at = room.wrapping_add((z * A * ax + x) * LANES);
                // SAFETY: inside the room.
                unsafe { scatter::<V, M>(output::<V, A, M>(gather::<V, A>(at, ax * LANES)), at, ax * LANES) };
            }
        }
    }

    /// # Safety
    /// As in `run`.
    #[inline(always)]
    unsafe fn rows<V: Lanes, const A: usize, const M: usize>(&self, room: *mut f32) {
        let ay = self.tile.frequencies()[1];
        // SAFETY: sixteen values of bias.
        let bias = self.bias.map_or(V::zero(), |bias| unsafe { V::load(bias) });
        let (mut sum, mut squares) = (V::zero(), V::zero());
        let inside = |a: usize| self.tile.0[a].outputs().min(self.size[a] - self.origin[a]);
        let width = inside(2);
        for z in 0..inside(0) {
            for y in 0..inside(1) {
                let from = room.wrapping_add((z * ay + y) * A * LANES);
                let voxel = ((self.origin[0] + z) * self.size[1] + self.origin[1] + y) * self.size[2]
                    + self.origin[2];
                // SAFETY: inside the room; the voxels are in the volume and in this tile.
                unsafe {
                    let line = output::<V, A, M>(gather::<V, A>(from, LANES));
                    for x in 0..M {
                        if x < width {
                            let value = line[x].add(bias);
                            self.block.write(voxel + x, value);
                            sum = sum.add(value);
                            squares = value.fma(value, squares);
                        }
                    }
                }
            }
        }
        if let Some(moments) = self.moments {
            // SAFETY: this tile's two vectors.
            unsafe { scatter::<V, 2>([sum, squares], moments, LANES) };
        }
    }
}
