//! The part of the sources that a task reads, packed: activated, padded with zeros, channels together.

#![allow(unsafe_code, reason = "rows are copied register by register")]

use super::pattern::{Pattern, Phase};
use crate::LANES;
use crate::cpu::Kernel;
use crate::lanes::Lanes;
use crate::tensor_blocks::{ReadBlock, Reader};
use std::ops::Range;

/// Real channels up to which they are packed one by one instead of in blocks.
const NARROW: usize = 8;

/// Whether this many channels are packed one by one.
pub(crate) fn packs_single_channels(channels: usize) -> bool {
    channels <= NARROW
}

/// How the channels of a voxel lie in the packed halo.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Channels {
    /// Rows `[block][x][16]`.
    Blocks(usize),
    /// Rows `[x][channel]`; block and lane of each.
    Few(Vec<(usize, usize)>),
}

impl Channels {
    /// `rows` are the lanes of the tensor that is read, `None` where a lane is padding.
    pub(crate) fn of(rows: &[Option<usize>]) -> Self {
        let real: Vec<_> =
            (0..rows.len()).filter(|&i| rows[i].is_some()).map(|i| (i / LANES, i % LANES)).collect();
        if packs_single_channels(real.len()) { Self::Few(real) } else { Self::Blocks(rows.len() / LANES) }
    }

    /// Values from a voxel to its neighbour along x.
    pub(crate) fn pixel(&self) -> usize {
        match self {
            Self::Blocks(_) => LANES,
            Self::Few(real) => real.len(),
        }
    }

    /// Weight rows of one phase.
    pub(crate) fn weight_rows(&self, phase: &Phase) -> usize {
        match self {
            Self::Blocks(blocks) => phase.volume() * blocks * LANES,
            Self::Few(real) => phase.volume() * real.len(),
        }
    }

    /// Products per step for a phase: sixteen channels, or all channels of all taps along x.
    pub(crate) fn run(&self, phase: &Phase) -> usize {
        match self {
            Self::Blocks(_) => LANES,
            Self::Few(real) => phase.taps[2].len() * real.len(),
        }
    }

    /// Steps per pair of taps along z and y.
    pub(crate) fn steps_per_row(&self, phase: &Phase) -> usize {
        match self {
            Self::Blocks(blocks) => blocks * phase.taps[2].len(),
            Self::Few(_) => usize::from(!phase.taps[2].is_empty()),
        }
    }
}

/// Sizes of a packed halo, in values.
#[derive(Clone, Debug)]
pub(crate) struct Halo {
    pub channels: Channels,
    /// Smallest `delta` per axis.
    low: [isize; 3],
    read_step: [usize; 3],
    /// Voxels per axis.
    extent: [usize; 3],
    row: usize,
    plane: usize,
}

impl Halo {
    /// Halo of a box of `places` (numbers of `q`).
    pub(crate) fn new(pattern: &Pattern, channels: Channels, places: [usize; 3]) -> Self {
        let reach = [0, 1, 2].map(|a| pattern.reach(a));
        let extent = [0, 1, 2]
            .map(|a| (places[a].max(1) - 1) * pattern.read_step[a] + (reach[a].1 - reach[a].0) as usize + 1);
        let row = match &channels {
            Channels::Blocks(blocks) => blocks * extent[2] * LANES,
            Channels::Few(real) => (extent[2] * real.len()).next_multiple_of(LANES),
        };
        let low = reach.map(|r| r.0);
        Self { channels, low, read_step: pattern.read_step, extent, row, plane: row * extent[1] }
    }

    pub(crate) fn len(&self) -> usize {
        self.plane * self.extent[0]
    }

    /// Rows `(z, y)` of the halo.
    pub(crate) fn rows(&self) -> usize {
        self.extent[0] * self.extent[1]
    }

    pub(crate) fn row_len(&self) -> usize {
        self.row
    }

    /// Where place `q`, relative to the box, begins.
    pub(crate) fn place(&self, q: [usize; 3]) -> usize {
        let [z, y, x] = [0, 1, 2].map(|a| q[a] * self.read_step[a]);
        z * self.plane + y * self.row + x * self.channels.pixel()
    }

    /// Offsets of the steps of a phase, in the order of its weights.
    pub(crate) fn steps(&self, phase: &Phase) -> Vec<usize> {
        let mut steps = Vec::new();
        for z in &phase.taps[0] {
            for y in &phase.taps[1] {
                let row = (z.delta - self.low[0]) as usize * self.plane
                    + (y.delta - self.low[1]) as usize * self.row;
                let x =
                    phase.taps[2].iter().map(|x| (x.delta - self.low[2]) as usize * self.channels.pixel());
                match &self.channels {
                    Channels::Blocks(blocks) => {
                        for b in 0..*blocks {
                            steps.extend(x.clone().map(|x| row + b * self.extent[2] * LANES + x));
                        }
                    }
                    Channels::Few(_) => steps.extend(x.take(1).map(|x| row + x)),
                }
            }
        }
        steps
    }

    /// Packs some rows for the box that begins at `first`; `out` holds the rows of the range.
    pub(crate) fn pack<V: Lanes>(
        &self,
        reader: &Reader,
        size: [usize; 3],
        n: usize,
        first: [usize; 3],
        rows: Range<usize>,
        out: &mut [f32],
    ) {
        let start = [0, 1, 2].map(|a| (first[a] * self.read_step[a]) as isize + self.low[a]);
        for (r, out) in rows.zip(out.chunks_exact_mut(self.row)) {
            let z = start[0] + (r / self.extent[1]) as isize;
            let y = start[1] + (r % self.extent[1]) as isize;
            if !(0..size[0] as isize).contains(&z) || !(0..size[1] as isize).contains(&y) {
                out.fill(0.0);
                continue;
            }
            let voxel = (z * size[1] as isize + y) * size[2] as isize;
            let inside = (-start[2]).clamp(0, self.extent[2] as isize) as usize
                ..(size[2] as isize - start[2]).clamp(0, self.extent[2] as isize) as usize;
            match &self.channels {
                Channels::Blocks(blocks) => {
                    for (b, out) in (0..*blocks).zip(out.chunks_exact_mut(self.extent[2] * LANES)) {
                        let inside = inside.clone();
                        V::call(&PackRow {
                            block: reader.block(n, b),
                            first: voxel + start[2],
                            inside,
                            out: out.as_mut_ptr(),
                            extent: self.extent[2],
                        });
                    }
                }
                Channels::Few(real) => pack_few(reader, real, n, voxel + start[2], inside, out),
            }
        }
    }
}

fn pack_few(
    reader: &Reader,
    real: &[(usize, usize)],
    n: usize,
    first: isize,
    inside: Range<usize>,
    out: &mut [f32],
) {
    out.fill(0.0);
    for (i, &(block, lane)) in real.iter().enumerate() {
        let block = reader.block(n, block);
        if let Some(plane) = block.plane(lane) {
            for x in inside.clone() {
                out[x * real.len() + i] = plane[(first + x as isize) as usize];
            }
            continue;
        }
        for x in inside.clone() {
            out[x * real.len() + i] = block.scalar((first + x as isize) as usize, lane);
        }
    }
}

/// Sixteen channels of one row.
struct PackRow<'a> {
    block: &'a ReadBlock<'a>,
    /// Voxel at x = 0 of the row, may lie before the row.
    first: isize,
    inside: Range<usize>,
    out: *mut f32,
    extent: usize,
}

impl Kernel for PackRow<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let affine = self.block.affine::<V>();
        // SAFETY: `out` has `extent` vectors, and `inside` are the voxels of the row that the source has.
        unsafe {
            for x in 0..self.inside.start.min(self.extent) {
                V::zero().store(self.out.add(x * LANES));
            }
            for x in self.inside.clone() {
                let value = self.block.load::<V>(self.first + x as isize);
                let value = affine.map_or(value, |affine| affine.apply(value));
                value.store(self.out.add(x * LANES));
            }
            for x in self.inside.end.max(self.inside.start)..self.extent {
                V::zero().store(self.out.add(x * LANES));
            }
        }
    }
}
