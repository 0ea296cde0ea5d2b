//! Weights in the order that the direct kernels read them.

#![allow(unsafe_code, reason = "groups of columns are packed in parallel")]

use super::halo::Channels;
use super::pattern::Pattern;
use crate::LANES;
use crate::product::group_width;
use crate::scratch::{Recycled, Shared};
use crate::weight_view::WeightView;
use rayon::prelude::*;

/// Values of packed weights.
pub(crate) fn packed_len(pattern: &Pattern, view: &WeightView) -> usize {
    let channels = Channels::of(&view.rows);
    let rows: usize = pattern.phases.iter().map(|phase| channels.weight_rows(phase)).sum();
    rows * view.columns.len()
}

/// Packs `[phase][group of columns][z][y][block][x][16]` (few channels: `[z][y][x][channel]`), columns innermost.
pub(crate) fn pack(pattern: &Pattern, view: &WeightView, columns: usize, weights: &[f32]) -> Recycled {
    let channels = Channels::of(&view.rows);
    let blocks = view.column_blocks();
    let mut packed = Recycled::new(packed_len(pattern, view));
    packed.fill(0.0);
    let out = Shared::new(&mut packed);
    let slots = slots(pattern, &channels);
    let tasks = blocks.div_ceil(columns) * view.row_blocks();
    (0..tasks).into_par_iter().for_each(|t| {
        let (group, block) = (t / view.row_blocks(), t % view.row_blocks());
        let (width, first) = (group_width(blocks, columns, group) * LANES, group * columns * LANES);
        for row_lane in block * LANES..(block + 1) * LANES {
            let Some(row) = view.rows[row_lane] else { continue };
            for lane in 0..width {
                let Some(column) = view.columns[first + lane] else { continue };
                let from = &weights[view.at(row, column)..];
                for slot in &slots {
                    let before = slot.first * view.columns.len() + first * slot.rows;
                    // SAFETY: each task writes its own rows and columns.
                    unsafe { *out.at(before + slot.row(row_lane, row) * width + lane) = from[slot.tap] };
                }
            }
        }
    });
    packed
}

/// Where the weights of one tap go.
struct Slot {
    tap: usize,
    /// Rows before this phase, and rows of this phase.
    first: usize,
    rows: usize,
    /// Row of the first channel.
    base: usize,
    /// Rows from one block of channels to the next; 0 for few channels.
    block: usize,
}

impl Slot {
    fn row(&self, lane: usize, channel: usize) -> usize {
        if self.block == 0 {
            self.base + channel
        } else {
            self.base + lane / LANES * self.block + lane % LANES
        }
    }
}

fn slots(pattern: &Pattern, channels: &Channels) -> Vec<Slot> {
    let [_, ky, kx] = pattern.kernel;
    let (mut slots, mut first) = (Vec::new(), 0);
    for phase in &pattern.phases {
        let rows = channels.weight_rows(phase);
        let nx = phase.taps[2].len();
        let (ny, mut row) = (phase.taps[1].len(), 0);
        let per_row = rows / (phase.taps[0].len() * ny).max(1);
        for z in &phase.taps[0] {
            for y in &phase.taps[1] {
                for (i, x) in phase.taps[2].iter().enumerate() {
                    let (base, block) = match channels {
                        Channels::Blocks(_) => (row + i * LANES, nx * LANES),
                        Channels::Few(real) => (row + i * real.len(), 0),
                    };
                    slots.push(Slot {
                        tap: (z.kernel * ky + y.kernel) * kx + x.kernel,
                        first,
                        rows,
                        base,
                        block,
                    });
                }
                row += per_row;
            }
        }
        first += rows;
    }
    slots
}
