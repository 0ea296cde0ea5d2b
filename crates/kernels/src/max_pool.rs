//! Max pool with any window, stride and padding on channels-last tensors, and its gradient.
//!
//! The forward pass keeps per value the tap that won, one byte; among equals the first in `(z, y, x)` order.

use crate::tensor_blocks::{Reader, check};
use crate::{Grid, LANES, Sink, Source, padded};
use rayon::prelude::*;

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
        let (grid, width) = (self.output(input), padded(source.channels));
        let reader = Reader::new(input, &[*source]);
        check("output of a max pool", out.len(), grid.n * grid.voxels() * width);
        check("taps of a max pool", taps.len(), out.len());
        let [planes, rows, columns] = grid.size;
        let row = columns * width;
        out.par_chunks_mut(row).zip(taps.par_chunks_mut(row)).enumerate().for_each(|(r, (out, taps))| {
            let (n, z, y) = (r / rows / planes, r / rows % planes, r % rows);
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
        });
    }

    /// Taps of a window inside the image, with their voxels.
    fn reached(&self, at: [usize; 3], size: [usize; 3], mut visit: impl FnMut(u8, usize)) {
        let range = |a: usize| {
            let start = at[a] * self.stride[a];
            let first = self.padding[a].saturating_sub(start);
            (first..self.window[a].min(size[a] + self.padding[a] - start), start)
        };
        let [(zs, z), (ys, y), (xs, x)] = [0, 1, 2].map(range);
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
        let (grid, width, add) = (self.output(input), padded(sink.channels), sink.add);
        check("gradient of a max pool", grad_out.len(), grid.n * grid.voxels() * width);
        check("taps of a max pool", taps.len(), grad_out.len());
        check("sink", sink.values.len(), input.n * input.voxels() * width);
        let [planes, rows, columns] = input.size;
        sink.values.par_chunks_mut(columns * width).enumerate().for_each(|(r, dx)| {
            let (n, z, y) = (r / rows / planes, r / rows % planes, r % rows);
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
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pending;
    use crate::conv_tests::tensor;

    #[test]
    fn the_largest_value_wins_and_gets_the_gradient() {
        let shapes = [
            ([2, 2, 2], [2, 2, 2], [0, 0, 0]),
            ([3, 3, 3], [2, 2, 2], [1, 1, 1]),
            ([1, 3, 2], [1, 1, 3], [0, 1, 1]),
            ([3, 5, 3], [1, 2, 1], [1, 2, 0]),
        ];
        for (window, stride, padding) in shapes {
            let (pool, input, channels) =
                (MaxPool { window, stride, padding }, Grid { n: 2, size: [5, 6, 7] }, 18);
            let (grid, width) = (pool.output(input), padded(channels));
            let values = tensor(2 * input.voxels(), channels, 1);
            let (scale, shift) = (tensor(2, channels, 2), tensor(2, channels, 3));
            let pending = Some(Pending { scale: &scale, shift: &shift, slope: 0.5 });
            let len = 2 * grid.voxels() * width;
            let (mut out, mut taps) = (vec![f32::NAN; len], vec![9; len]);
            pool.forward(input, &Source::new(&values, channels, pending), &mut out, &mut taps);
            let grad = tensor(2 * grid.voxels(), channels, 4);
            let (mut good_dx, mut dx) = (vec![1.0; values.len()], vec![1.0; values.len()]);
            for i in 0..len {
                let (n, v, c) = (i / width / grid.voxels(), i / width % grid.voxels(), i % width);
                let o =
                    [v / (grid.size[1] * grid.size[2]), v / grid.size[2] % grid.size[1], v % grid.size[2]];
                let mut best = (f32::NEG_INFINITY, 0);
                for tap in 0..window.iter().product() {
                    let k = [tap / (window[1] * window[2]), tap / window[2] % window[1], tap % window[2]];
                    let p = [0, 1, 2].map(|a| (o[a] * stride[a] + k[a]).wrapping_sub(padding[a]));
                    if (0..3).all(|a| p[a] < input.size[a]) {
                        let at = ((n * 5 + p[0]) * 6 + p[1]) * 7 + p[2];
                        let t = values[at * width + c] * scale[n * width + c] + shift[n * width + c];
                        let t = if t >= 0.0 { t } else { 0.5 * t };
                        if t > best.0 {
                            best = (t, at * width + c);
                        }
                    }
                }
                assert_eq!(out[i], best.0, "{pool:?} at {i}");
                good_dx[best.1] += grad[i];
            }
            pool.gradient(input, &grad, &taps, Sink { values: &mut dx, channels, add: true });
            let close = dx.iter().zip(&good_dx).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(close, "{pool:?}");
        }
    }
}
