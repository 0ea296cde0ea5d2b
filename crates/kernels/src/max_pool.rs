//! Max pool with any window, stride and padding on channels-last tensors, and its gradient.
//!
//! The forward pass keeps per value the tap that won, one byte; among equals the first in `(z, y, x)` order.

#![allow(unsafe_code, reason = "rows run register by register over blocks that were checked once")]

use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use crate::tensor_blocks::{Reader, check};
use crate::{Grid, LANES, Sink, Source, padded};
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

/// Windows of at most 255 voxels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxPool {
    /// Window, `(z, y, x)`.
    pub window: [usize; 3],
    /// Stride, `(z, y, x)`.
    pub stride: [usize; 3],
    /// Voxels beyond every border that count as minus infinity; at most half the window.
    pub padding: [usize; 3],
}

impl MaxPool {
    /// Grid of the output; an incomplete window at the end is left out.
    pub fn output(&self, input: Grid) -> Grid {
        assert!(
            self.window.iter().product::<usize>() <= 255,
            "max pool: found a window of {:?}",
            self.window
        );
        let size = [0, 1, 2].map(|a| {
            assert!(2 * self.padding[a] <= self.window[a], "max pool: padding of more than half the window");
            let length = input.size[a] + 2 * self.padding[a];
            assert!(length >= self.window[a], "axis {a} of the input is shorter than the window");
            (length - self.window[a]) / self.stride[a] + 1
        });
        Grid { n: input.n, size }
    }

    /// Largest (normed and activated) value of every window, and the tap that it came from; both `[n, z, y, x, padded(c)]`.
    pub fn forward(&self, input: Grid, source: &Source, out: &mut [f32], taps: &mut [u8]) {
        self.forward_with(Cpu::detected(), input, source, out, taps);
    }

    pub(crate) fn forward_with(
        &self,
        cpu: Cpu,
        input: Grid,
        source: &Source,
        out: &mut [f32],
        taps: &mut [u8],
    ) {
        let (grid, width) = (self.output(input), padded(source.channels));
        let reader = Reader::new(input, &[*source]);
        assert!(!reader.planar(), "max pool: planes are read by convolutions only");
        check("output of a max pool", out.len(), grid.n * grid.voxels() * width);
        check("taps of a max pool", taps.len(), out.len());
        let [planes, rows, columns] = grid.size;
        let row = columns * width;
        out.par_chunks_mut(row).zip(taps.par_chunks_mut(row)).enumerate().for_each(|(r, (out, taps))| {
            let place = [r / rows / planes, r / rows % planes, r % rows];
            cpu.run(&Row { pool: self, input, reader: &reader, place, written: Cell::new((out, taps)) });
        });
    }

    /// As the pass in registers, value by value: also where some value is not a number.
    fn exact(
        &self,
        input: Grid,
        reader: &Reader,
        [n, z, y]: [usize; 3],
        width: usize,
        out: &mut [f32],
        taps: &mut [u8],
    ) {
        let voxels = out.chunks_exact_mut(width).zip(taps.chunks_exact_mut(width));
        for (x, (out, taps)) in voxels.enumerate() {
            let blocks = out.as_chunks_mut::<LANES>().0.iter_mut().zip(taps.as_chunks_mut::<LANES>().0);
            for (b, (out, taps)) in blocks.enumerate() {
                (*out, *taps) = ([f32::NEG_INFINITY; LANES], [0; LANES]);
                let block = reader.block(n, b);
                self.reached([z, y, x], input.size, |tap, voxel| {
                    let values: [f32; LANES] = std::array::from_fn(|l| block.scalar(voxel, l));
                    for l in 0..LANES {
                        // What is not a number wins, as it must not vanish.
                        let wins = values[l] > out[l] || values[l].is_nan();
                        (out[l], taps[l]) = if wins { (values[l], tap) } else { (out[l], taps[l]) };
                    }
                });
            }
        }
    }

    /// Taps of a window along an axis that are inside the image, and the voxel before tap 0, counted with padding.
    fn inside(&self, axis: usize, at: usize, size: usize) -> (Range<usize>, usize) {
        let start = at * self.stride[axis];
        let first = self.padding[axis].saturating_sub(start);
        (first..self.window[axis].min(size + self.padding[axis] - start), start)
    }

    /// Taps of a window inside the image, with their voxels.
    fn reached(&self, at: [usize; 3], size: [usize; 3], mut visit: impl FnMut(u8, usize)) {
        let [(zs, z), (ys, y), (xs, x)] = [0, 1, 2].map(|a| self.inside(a, at[a], size[a]));
        for kz in zs {
            for ky in ys.clone() {
                let row = ((z + kz - self.padding[0]) * size[1] + y + ky - self.padding[1]) * size[2];
                for kx in xs.clone() {
                    let tap = (kz * self.window[1] + ky) * self.window[2] + kx;
                    visit(tap as u8, row + x + kx - self.padding[2]);
                }
            }
        }
    }

    /// Gradient with respect to the activated source; `taps` are those of the forward pass.
    pub fn gradient(&self, input: Grid, grad_out: &[f32], taps: &[u8], sink: Sink) {
        self.gradient_with(Cpu::detected(), input, grad_out, taps, sink);
    }

    pub(crate) fn gradient_with(&self, cpu: Cpu, input: Grid, grad_out: &[f32], taps: &[u8], sink: Sink) {
        let (grid, width, add) = (self.output(input), padded(sink.channels), sink.add);
        check("gradient of a max pool", grad_out.len(), grid.n * grid.voxels() * width);
        check("taps of a max pool", taps.len(), grad_out.len());
        check("sink", sink.values.len(), input.n * input.voxels() * width);
        let [planes, rows, columns] = input.size;
        sink.values.par_chunks_mut(columns * width).enumerate().for_each(|(r, dx)| {
            let place = [r / rows / planes, r / rows % planes, r % rows];
            cpu.compile(|| self.gradient_row(grid, width, place, grad_out, taps, dx, add));
        });
    }

    fn gradient_row(
        &self,
        grid: Grid,
        width: usize,
        [n, z, y]: [usize; 3],
        grad_out: &[f32],
        taps: &[u8],
        dx: &mut [f32],
        add: bool,
    ) {
        let reaching = [self.windows(0, z, grid), self.windows(1, y, grid)];
        if !add {
            dx.fill(0.0);
        }
        for (x, dx) in dx.chunks_exact_mut(width).enumerate() {
            let across = self.windows(2, x, grid);
            for (oz, kz) in reaching[0].clone() {
                for (oy, ky) in reaching[1].clone() {
                    for (ox, kx) in across.clone() {
                        let tap = ((kz * self.window[1] + ky) * self.window[2] + kx) as u8;
                        let from =
                            (((n * grid.size[0] + oz) * grid.size[1] + oy) * grid.size[2] + ox) * width;
                        let own = grad_out[from..from + width].iter().zip(&taps[from..from + width]);
                        for (dx, (&g, &won)) in dx.iter_mut().zip(own) {
                            *dx += if won == tap { g } else { 0.0 };
                        }
                    }
                }
            }
        }
    }

    /// Windows that reach a voxel along an axis, and the tap by which they do.
    fn windows(
        &self,
        axis: usize,
        at: usize,
        grid: Grid,
    ) -> impl Iterator<Item = (usize, usize)> + Clone + use<> {
        let (window, stride, at) = (self.window[axis], self.stride[axis], at + self.padding[axis]);
        let first = (at + 1).saturating_sub(window).div_ceil(stride);
        (first..grid.size[axis]).take_while(move |o| o * stride <= at).map(move |o| (o, at - o * stride))
    }
}

/// Added to a whole number below 256, this leaves it in the lowest byte.
const BYTE: f32 = 8_388_608.0;

/// One row of the output.
struct Row<'a> {
    pool: &'a MaxPool,
    input: Grid,
    reader: &'a Reader<'a>,
    /// Sample, z and y.
    place: [usize; 3],
    /// Values and taps.
    written: Cell<(&'a mut [f32], &'a mut [u8])>,
}

impl Task for Row<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Row<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let (out, taps) = self.written.take();
        let Self { pool, input, reader, place: [n, z, y], .. } = *self;
        let (width, size) = (reader.count() * LANES, input.size);
        let [(zs, from_z), (ys, from_y)] = [(0, z), (1, y)].map(|(a, at)| pool.inside(a, at, size[a]));
        // Rows in reach: the voxel before the first one, and the first tap.
        let mut rows = Vec::with_capacity(zs.len() * ys.len());
        for kz in zs {
            for ky in ys.clone() {
                let voxel =
                    ((from_z + kz - pool.padding[0]) * size[1] + from_y + ky - pool.padding[1]) * size[2];
                rows.push((voxel, (kz * pool.window[1] + ky) * pool.window[2]));
            }
        }
        let mut doubt = V::zero();
        let voxels = out.chunks_exact_mut(width).zip(taps.chunks_exact_mut(width));
        for (x, (out, taps)) in voxels.enumerate() {
            let (xs, from_x) = pool.inside(2, x, size[2]);
            let blocks = out.as_chunks_mut::<LANES>().0.iter_mut().zip(taps.as_chunks_mut::<LANES>().0);
            for (b, (out, taps)) in blocks.enumerate() {
                let block = reader.block(n, b);
                let affine = block.affine::<V>();
                let (mut best, mut won) = (V::splat(f32::NEG_INFINITY), V::zero());
                for &(row, tap) in &rows {
                    for kx in xs.clone() {
                        // SAFETY: the tap is inside the image, whose length `Reader` checked.
                        let value =
                            unsafe { block.load::<V>((row + from_x + kx - pool.padding[2]) as isize) };
                        let value = match &affine {
                            Some(affine) => affine.apply(value),
                            None => value,
                        };
                        doubt = value.fma(V::zero(), doubt);
                        won = V::splat((tap + kx) as f32).where_positive(value.sub(best), won);
                        best = value.max(best);
                    }
                }
                let mut lanes = [0.0f32; LANES];
                // SAFETY: both arrays have sixteen values.
                unsafe {
                    best.store(out.as_mut_ptr());
                    won.add(V::splat(BYTE)).store(lanes.as_mut_ptr());
                }
                for l in 0..LANES {
                    taps[l] = lanes[l].to_bits() as u8;
                }
            }
        }
        // Infinite or not a number: rare, and then each value is looked at.
        if doubt.sum() != 0.0 {
            pool.exact(input, reader, self.place, width, out, taps);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Pending;
    use crate::conv_tests::{agree, tensor};

    #[test]
    fn the_largest_value_wins_and_gets_the_gradient() {
        let shapes = [
            ([2, 2, 2], [2, 2, 2], [0, 0, 0]),
            ([3, 3, 3], [2, 2, 2], [1, 1, 1]),
            ([1, 3, 2], [1, 1, 3], [0, 1, 1]),
            ([3, 5, 3], [1, 2, 1], [1, 2, 0]),
        ];
        for (window, stride, padding) in shapes {
            compare(&MaxPool { window, stride, padding }, Grid { n: 2, size: [5, 6, 7] }, 18);
        }
    }

    pub(crate) fn compare(pool: &MaxPool, input: Grid, channels: usize) {
        let MaxPool { window, stride, padding } = *pool;
        let (grid, width) = (pool.output(input), padded(channels));
        let values = tensor(input.n * input.voxels(), channels, 1);
        let (scale, shift) = (tensor(input.n, channels, 2), tensor(input.n, channels, 3));
        let pending = Some(Pending { scale: &scale, shift: &shift, slope: 0.5 });
        let len = input.n * grid.voxels() * width;
        let grad = tensor(input.n * grid.voxels(), channels, 4);
        let (mut good, mut good_dx) = (vec![0.0; len], vec![1.0; values.len()]);
        for i in 0..len {
            let (n, v, c) = (i / width / grid.voxels(), i / width % grid.voxels(), i % width);
            let o = [v / (grid.size[1] * grid.size[2]), v / grid.size[2] % grid.size[1], v % grid.size[2]];
            let mut best = (f32::NEG_INFINITY, 0);
            for tap in 0..window.iter().product() {
                let k = [tap / (window[1] * window[2]), tap / window[2] % window[1], tap % window[2]];
                let p = [0, 1, 2].map(|a| (o[a] * stride[a] + k[a]).wrapping_sub(padding[a]));
                if (0..3).all(|a| p[a] < input.size[a]) {
                    let at = ((n * input.size[0] + p[0]) * input.size[1] + p[1]) * input.size[2] + p[2];
                    let t = values[at * width + c] * scale[n * width + c] + shift[n * width + c];
                    let t = if t >= 0.0 { t } else { 0.5 * t };
                    if t > best.0 {
                        best = (t, at * width + c);
                    }
                }
            }
            good[i] = best.0;
            good_dx[best.1] += grad[i];
        }
        for cpu in Cpu::available() {
            let (mut out, mut taps) = (vec![f32::NAN; len], vec![9; len]);
            pool.forward_with(cpu, input, &Source::new(&values, channels, pending), &mut out, &mut taps);
            agree(&format!("{pool:?} {}", cpu.name()), &out, &good);
            let mut dx = vec![1.0; values.len()];
            pool.gradient_with(cpu, input, &grad, &taps, Sink { values: &mut dx, channels, add: true });
            let close = dx.iter().zip(&good_dx).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(close, "{pool:?} {}", cpu.name());
        }
    }

    #[test]
    fn among_equals_the_first_wins_and_what_is_no_number_does_not_vanish() {
        let (pool, input) =
            (MaxPool { window: [2; 3], stride: [2; 3], padding: [0; 3] }, Grid { n: 1, size: [2, 2, 4] });
        let mut values = vec![3.0; input.voxels() * LANES];
        values[5 * LANES + 1] = f32::NAN;
        (values[4 * LANES + 2], values[8 * LANES + 3]) = (f32::INFINITY, f32::NEG_INFINITY);
        for cpu in Cpu::available() {
            let (mut out, mut taps) = (vec![0.0; 2 * LANES], vec![9; 2 * LANES]);
            pool.forward_with(cpu, input, &Source::new(&values, LANES, None), &mut out, &mut taps);
            assert!(out[1].is_nan() && out[2] == f32::INFINITY && out[3] == 3.0, "{}: {out:?}", cpu.name());
            assert_eq!(taps[..4], [0, 3, 2, 0], "{}", cpu.name());
            assert!(taps[LANES..].iter().all(|&tap| tap == 0), "{}", cpu.name());
        }
    }
}
