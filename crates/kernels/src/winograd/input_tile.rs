//! Reads one tile with its halo and takes it to the frequency domain.

#![allow(unsafe_code, reason = "tiles are read and transformed through pointers")]

use super::tiling::{Axis, Tile};
use super::transform::{TileRoom, data, gather, scatter, with_data};
use crate::LANES;
use crate::cpu::Kernel;
use crate::lanes::Lanes;
use crate::tensor_blocks::ReadBlock;

/// Sixteen channels of one tile, activated on reading, zero outside the volume.
pub(super) struct InputTile<'a> {
    pub block: &'a ReadBlock<'a>,
    pub size: [usize; 3],
    /// First voxel of the halo.
    pub origin: [isize; 3],
    pub tile: Tile,
    pub out: *mut f32,
    /// From one `g` to the next in `out`.
    pub plane: usize,
}

impl Kernel for InputTile<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let mut room = TileRoom::new();
        let room = room.start();
        // SAFETY: the room holds the largest tile; `out` has `g` runs of `fx` vectors which this task owns; voxels
        // are read only where they are inside the volume.
        unsafe {
            let [z, y, x] = self.tile.0;
            with_data!(x, N, A => self.rows::<V, N, A>(room));
            with_data!(y, N, A => if A > 1 { self.along_y::<V, N, A>(room) });
            with_data!(z, N, A => self.along_z::<V, N, A>(room));
        }
    }
}

impl InputTile<'_> {
    /// # Safety
    /// As in `run`.
    #[inline(always)]
    unsafe fn rows<V: Lanes, const N: usize, const A: usize>(&self, room: *mut f32) {
        let ([nz, ny, _], ay) = (self.tile.0.map(Axis::inputs), self.tile.0[1].frequencies());
        let affine = self.block.affine::<V>();
        let whole = self.origin[2] >= 0 && self.origin[2] + N as isize <= self.size[2] as isize;
        for z in 0..nz {
            let at_z = self.origin[0] + z as isize;
            for y in 0..ny {
                let at_y = self.origin[1] + y as isize;
                let to = room.wrapping_add((z * ay + y) * A * LANES);
                let mut row = [V::zero(); N];
                let mut line = [V::zero(); A];
                if at_z >= 0 && at_z < self.size[0] as isize && at_y >= 0 && at_y < self.size[1] as isize {
                    let voxel =
                        (at_z * self.size[1] as isize + at_y) * self.size[2] as isize + self.origin[2];
                    // What the next tile along x reads anew.
                    for x in N..2 * N - 2 {
                        self.block.prefetch::<V>(voxel + x as isize);
                    }
                    if whole {
                        // SAFETY: all `N` voxels are in the volume.
                        row = unsafe { self.block.row::<V, N>(voxel) };
                        if let Some(affine) = affine {
                            for x in 0..N {
                                row[x] = affine.apply(row[x]);
                            }
                        }
                    } else {
                        for x in 0..N {
                            let at_x = self.origin[2] + x as isize;
                            if at_x >= 0 && at_x < self.size[2] as isize {
                                // SAFETY: this voxel is in the volume.
                                let value = unsafe { self.block.load::<V>(voxel + x as isize) };
                                row[x] = match affine {
                                    Some(affine) => affine.apply(value),
                                    None => value,
                                };
                            }
                        }
                    }
                    line = data::<V, N, A>(row);
                }
                // SAFETY: inside the room.
                unsafe { scatter::<V, A>(line, to, LANES) };
            }
        }
    }

    /// # Safety
    /// As in `run`.
    #[inline(always)]
    unsafe fn along_y<V: Lanes, const N: usize, const A: usize>(&self, room: *mut f32) {
        let (nz, ax) = (self.tile.0[0].inputs(), self.tile.0[2].frequencies());
        for z in 0..nz {
            for x in 0..ax {
                let at = room.wrapping_add((z * A * ax + x) * LANES);
                // SAFETY: inside the room.
                unsafe { scatter::<V, A>(data::<V, N, A>(gather::<V, N>(at, ax * LANES)), at, ax * LANES) };
            }
        }
    }

    /// # Safety
    /// As in `run`.
    #[inline(always)]
    unsafe fn along_z<V: Lanes, const N: usize, const A: usize>(&self, room: *mut f32) {
        let [_, ay, ax] = self.tile.frequencies();
        for y in 0..ay {
            for x in 0..ax {
                let at = room.wrapping_add((y * ax + x) * LANES);
                let to = self.out.wrapping_add(y * self.plane + x * LANES);
                // SAFETY: inside the room and inside this tile's runs of `out`.
                unsafe {
                    let line = data::<V, N, A>(gather::<V, N>(at, ay * ax * LANES));
                    scatter::<V, A>(line, to, ay * self.plane);
                }
            }
        }
    }
}
