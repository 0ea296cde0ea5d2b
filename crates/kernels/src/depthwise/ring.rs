//! What a depthwise kernel reaches along an axis, and the ring of widened rows that it reads from.

use crate::LANES;
use crate::cpu::{Kernel, Task};
use crate::lanes::Lanes;
use crate::scratch::Shared;
use crate::tensor_blocks::ReadBlock;

/// Bytes that a ring should not exceed: it has to stay in the second-level cache.
const RING_BYTES: usize = 384 << 10;
/// Rows of a strip at least, however large the ring becomes.
const ROWS: usize = 8;

/// One axis: for every place written, the taps that find something and the place that they read.
pub(super) struct Reach {
    /// `(tap, place read)` per place written.
    pub places: Vec<Vec<(usize, usize)>>,
    /// Taps of the axis.
    pub kernel: usize,
    /// Places written per step along a widened row.
    pub step: usize,
    /// Distance of the places read in a widened row: gradients of strided convolutions lie apart, zeros between.
    pub spread: usize,
    /// Zeros before the first place.
    pub before: usize,
}

impl Reach {
    /// `out[o] = Σ w[k] in[o · stride + k - pad]`
    pub(super) fn forward(kernel: usize, stride: usize, read: usize, written: usize) -> Self {
        let pad = (kernel - 1) / 2;
        let inside = |o: usize| {
            let places = (0..kernel).map(|k| (k, (o * stride + k).wrapping_sub(pad)));
            places.filter(|&(_, place)| place < read).collect()
        };
        Self { places: (0..written).map(inside).collect(), kernel, step: stride, spread: 1, before: pad }
    }

    /// The transpose: `in[i] = Σ w[k] out[(i + pad - k) / stride]` where that is whole. `input` is written, `output` read.
    pub(super) fn backward(kernel: usize, stride: usize, input: usize, output: usize) -> Self {
        let pad = (kernel - 1) / 2;
        let inside = |i: usize| {
            let place = |k: usize| {
                let at = (i + pad).checked_sub(k)?;
                (at % stride == 0 && at / stride < output).then_some((k, at / stride))
            };
            (0..kernel).filter_map(place).collect()
        };
        let before = kernel - 1 - pad;
        Self { places: (0..input).map(inside).collect(), kernel, step: 1, spread: stride, before }
    }

    /// Places read by some places written: first and one behind the last.
    pub(super) fn hull(&self, written: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let read = || self.places[written.clone()].iter().flatten().map(|&(_, place)| place);
        read().min().unwrap_or(0)..read().max().map_or(0, |last| last + 1)
    }

    /// Length of a widened row on which `written` places are computed.
    pub(super) fn width(&self, written: usize, read: usize) -> usize {
        ((written - 1) * self.step + self.kernel).max(self.before + (read - 1) * self.spread + 1)
    }
}

/// Rows per strip for an output of `rows` rows, so that the ring of a strip stays small.
pub(super) fn strip_rows(reach: &[Reach; 3], rows: usize, width: usize) -> usize {
    let row = width * LANES * size_of::<f32>() * reach[0].kernel;
    let fitting = (RING_BYTES / row).saturating_sub(reach[1].kernel - 1) * reach[1].spread / reach[1].step;
    let most = fitting.max(ROWS).min(rows.max(1));
    rows.div_ceil(rows.div_ceil(most))
}

/// The planes in reach, sixteen channels of some rows of each.
pub(super) struct Ring<'a> {
    /// `[planes, rows, width, 16]`, zero outside the places read.
    pub values: &'a mut [f32],
    pub planes: usize,
    /// Rows of the tensor that are kept.
    pub rows: std::ops::Range<usize>,
    pub width: usize,
    /// Plane of the tensor behind the last one loaded.
    pub loaded: usize,
}

impl Ring<'_> {
    /// Values of a ring.
    pub(super) fn len(planes: usize, rows: usize, width: usize) -> usize {
        planes * rows * width * LANES
    }

    /// First value of a row.
    pub(super) fn row(&self, plane: usize, row: usize) -> usize {
        ((plane % self.planes) * self.rows.len() + row - self.rows.start) * self.width * LANES
    }

    /// Loads the planes up to the last one of `places` that are not there yet; earlier ones are no longer needed.
    pub(super) fn load<V: Lanes>(
        &mut self,
        block: &ReadBlock,
        size: [usize; 3],
        x: &Reach,
        places: &[(usize, usize)],
    ) {
        let range = places.iter().map(|&(_, place)| place);
        let (Some(first), Some(last)) = (range.clone().min(), range.max()) else { return };
        for plane in self.loaded.max(first)..=last {
            for row in self.rows.clone() {
                let to = self.row(plane, row) + x.before * LANES;
                let from = (plane * size[1] + row) * size[2];
                let to = Shared::new(&mut self.values[to..]);
                V::call(&FillRow { block, from, count: size[2], spread: x.spread, to });
            }
        }
        self.loaded = self.loaded.max(last + 1);
    }
}

/// Activated voxels of one row to their places in a widened row.
struct FillRow<'a> {
    block: &'a ReadBlock<'a>,
    from: usize,
    count: usize,
    spread: usize,
    to: Shared,
}

impl Task for FillRow<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for FillRow<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let affine = self.block.affine::<V>();
        for i in 0..self.count {
            // SAFETY: the row lies in the tensor, whose length `Reader` checked; a widened row has room for it.
            unsafe {
                let x = self.block.load::<V>((self.from + i) as isize);
                let x = match &affine {
                    Some(affine) => affine.apply(x),
                    None => x,
                };
                x.store(self.to.at(i * self.spread * LANES));
            }
        }
    }
}
