//! Takes one tile of the output gradient to the frequency domain, for the weight gradient.

#![allow(unsafe_code, reason = "tiles are read and transformed through pointers")]

use super::tiling::Tile;
use super::transform::{TileRoom, gather, gradient, scatter, with_output};
use crate::LANES;
use crate::cpu::Kernel;
use crate::lanes::Lanes;

/// Sixteen channels of one tile of the output gradient.
pub(super) struct GradientTile<'a> {
    /// One sample, from the first of the sixteen channels on.
    pub values: &'a [f32],
    pub width: usize,
    pub size: [usize; 3],
    pub origin: [usize; 3],
    pub tile: Tile,
    pub out: *mut f32,
    /// From one `g` to the next in `out`.
    pub plane: usize,
}

impl Kernel for GradientTile<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let mut room = TileRoom::new();
        let room = room.start();
        // SAFETY: the room holds the largest tile; `out` has runs that this task owns; voxels are read only where
        // they are inside the volume.
        unsafe {
            let [z, y, x] = self.tile.0;
            with_output!(x, A, M => self.rows::<V, M, A>(room));
            with_output!(y, A, M => if A > 1 { self.along_y::<V, M, A>(room) });
            with_output!(z, A, M => self.along_z::<V, M, A>(room));
        }
    }
}

impl GradientTile<'_> {
    /// # Safety
    /// As in `run`.
    #[inline(always)]
    unsafe fn rows<V: Lanes, const M: usize, const A: usize>(&self, room: *mut f32) {
        let ay = self.tile.frequencies()[1];
        let inside = |a: usize| self.tile.0[a].outputs().min(self.size[a] - self.origin[a]);
        let width = inside(2);
        for z in 0..self.tile.0[0].outputs() {
            for y in 0..self.tile.0[1].outputs() {
                let mut line = [V::zero(); M];
                if z < inside(0) && y < inside(1) {
                    let voxel = ((self.origin[0] + z) * self.size[1] + self.origin[1] + y) * self.size[2]
                        + self.origin[2];
                    let at = self.values.as_ptr().wrapping_add(voxel * self.width);
                    if width == M {
                        // SAFETY: all `M` voxels are in the volume.
                        line = unsafe { gather::<V, M>(at, self.width) };
                        for x in M..2 * M {
                            V::prefetch(at.wrapping_add(x * self.width));
                        }
                    } else {
                        for x in 0..M {
                            if x < width {
                                // SAFETY: this voxel is in the volume.
                                line[x] = unsafe { V::load(at.add(x * self.width)) };
                            }
                        }
                    }
                }
                // SAFETY: inside the room.
                unsafe {
                    scatter::<V, A>(gradient::<V, M, A>(line), room.add((z * ay + y) * A * LANES), LANES)
                };
            }
        }
    }

    /// # Safety
    /// As in `run`.
    #[inline(always)]
    unsafe fn along_y<V: Lanes, const M: usize, const A: usize>(&self, room: *mut f32) {
        let ax = self.tile.frequencies()[2];
        for z in 0..self.tile.0[0].outputs() {
            for x in 0..ax {
                let at = room.wrapping_add((z * A * ax + x) * LANES);
                // SAFETY: inside the room.
                unsafe {
                    scatter::<V, A>(gradient::<V, M, A>(gather::<V, M>(at, ax * LANES)), at, ax * LANES)
                };
            }
        }
    }

    /// # Safety
    /// As in `run`.
    #[inline(always)]
    unsafe fn along_z<V: Lanes, const M: usize, const A: usize>(&self, room: *mut f32) {
        let [_, ay, ax] = self.tile.frequencies();
        for y in 0..ay {
            for x in 0..ax {
                let at = room.wrapping_add((y * ax + x) * LANES);
                let to = self.out.wrapping_add(y * self.plane + x * LANES);
                // SAFETY: inside the room and this tile's runs of `out`.
                unsafe {
                    let line = gradient::<V, M, A>(gather::<V, M>(at, ay * ax * LANES));
                    scatter::<V, A>(line, to, ay * self.plane);
                }
            }
        }
    }
}
