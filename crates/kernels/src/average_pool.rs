//! Average pool with any window, stride and padding on channels-last tensors, and its gradient.
//!
//! The mean of a box is a mean of means axis by axis, so it is one weighted pass over rows, and the gradient is the
//! same pass with the tables transposed.

use crate::cpu::Cpu;
use crate::interpolation::{Pass, Table, transpose};
use crate::tensor_blocks::{Reader, Writer};
use crate::{Grid, Sink, Source, ValuesMut};

/// An average pool; an incomplete window at the end is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AveragePool {
    /// Window, `(z, y, x)`.
    pub window: [usize; 3],
    /// Stride, `(z, y, x)`.
    pub stride: [usize; 3],
    /// Voxels beyond every border that count as zero; at most half the window.
    pub padding: [usize; 3],
    /// Whether voxels beyond the border count in the mean as zeros, or not at all.
    pub count_padding: bool,
}

impl AveragePool {
    /// Grid of the output.
    pub fn output(&self, input: Grid) -> Grid {
        let size = [0, 1, 2].map(|a| {
            assert!(
                2 * self.padding[a] <= self.window[a],
                "average pool: padding of more than half the window"
            );
            let length = input.size[a] + 2 * self.padding[a];
            assert!(length >= self.window[a], "axis {a} of the input is shorter than the window");
            (length - self.window[a]) / self.stride[a] + 1
        });
        Grid { n: input.n, size }
    }

    /// Mean of the (normed and activated) values of every window, `[n, z, y, x, padded(c)]`.
    pub fn forward<'a>(&self, input: Grid, source: &Source, out: impl Into<ValuesMut<'a>>) {
        self.forward_with(Cpu::detected(), input, source, out.into());
    }

    pub(crate) fn forward_with(&self, cpu: Cpu, input: Grid, source: &Source, out: ValuesMut) {
        let written = self.output(input);
        let (reader, writer) = (Reader::new(input, &[*source]), Writer::whole(written, out, source.channels));
        Pass { cpu, read: input, written, tables: self.tables(input), reader, writer }.run();
    }

    /// Gradient with respect to the activated source.
    pub fn gradient(&self, input: Grid, grad_out: &[f32], sink: Sink) {
        self.gradient_with(Cpu::detected(), input, grad_out, sink);
    }

    pub(crate) fn gradient_with(&self, cpu: Cpu, input: Grid, grad_out: &[f32], sink: Sink) {
        let (read, channels, mut sinks) = (self.output(input), sink.channels, [Some(sink)]);
        let tables = self.tables(input);
        let tables = [0, 1, 2].map(|a| transpose(&tables[a], input.size[a]));
        let reader = Reader::new(read, &[Source::new(grad_out, channels, None)]);
        let writer = Writer::sinks(input, &mut sinks, &[channels]);
        Pass { cpu, read, written: input, tables, reader, writer }.run();
    }

    fn tables(&self, input: Grid) -> [Table; 3] {
        let output = self.output(input);
        [0, 1, 2].map(|a| (0..output.size[a]).map(|o| self.places(a, o, input.size[a])).collect())
    }

    /// Places that output `o` of an axis is the mean of, with their weights.
    fn places(&self, axis: usize, o: usize, size: usize) -> Vec<(usize, f32)> {
        let (start, pad) = (o * self.stride[axis], self.padding[axis]);
        let inside = start.max(pad)..(start + self.window[axis]).min(size + pad);
        let count = if self.count_padding { self.window[axis] } else { inside.len() };
        inside.map(|place| (place - pad, 1.0 / count as f32)).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::conv_tests::{agree, tensor};
    use crate::{Pending, padded};

    #[test]
    fn means_follow_the_definition_and_the_gradient_is_the_transpose() {
        let shapes = [
            ([2, 2, 2], [2, 2, 2], [0, 0, 0]),
            ([3, 3, 3], [2, 2, 2], [1, 1, 1]),
            ([1, 3, 2], [1, 1, 3], [0, 1, 1]),
            ([3, 5, 3], [1, 2, 1], [1, 2, 0]),
        ];
        for (window, stride, padding) in shapes {
            for count_padding in [true, false] {
                let pool = AveragePool { window, stride, padding, count_padding };
                compare(&pool, Grid { n: 2, size: [5, 6, 7] }, 18);
            }
        }
    }

    pub(crate) fn compare(pool: &AveragePool, input: Grid, channels: usize) {
        let (AveragePool { window, stride, padding, count_padding }, width) = (*pool, padded(channels));
        let values = tensor(input.n * input.voxels(), channels, 1);
        let (scale, shift) = (tensor(input.n, channels, 2), tensor(input.n, channels, 3));
        let pending = Some(Pending { scale: &scale, shift: &shift, slope: 0.5 });
        let grid = pool.output(input);
        let grad = tensor(input.n * grid.voxels(), channels, 4);
        let (mut good, mut good_dx) = (vec![0.0; grad.len()], vec![0.0; values.len()]);
        for i in 0..grad.len() {
            let (n, v, c) = (i / width / grid.voxels(), i / width % grid.voxels(), i % width);
            let o = [v / (grid.size[1] * grid.size[2]), v / grid.size[2] % grid.size[1], v % grid.size[2]];
            let mut found = Vec::new();
            for tap in 0..window.iter().product() {
                let k = [tap / (window[1] * window[2]), tap / window[2] % window[1], tap % window[2]];
                let p = [0, 1, 2].map(|a| (o[a] * stride[a] + k[a]).wrapping_sub(padding[a]));
                if (0..3).all(|a| p[a] < input.size[a]) {
                    found.push(((n * input.size[0] + p[0]) * input.size[1] + p[1]) * input.size[2] + p[2]);
                }
            }
            let count = if count_padding { window.iter().product() } else { found.len() };
            for at in found {
                let t = values[at * width + c] * scale[n * width + c] + shift[n * width + c];
                good[i] += if t >= 0.0 { t } else { 0.5 * t } / count as f32;
                good_dx[at * width + c] += grad[i] / count as f32;
            }
        }
        for cpu in Cpu::available() {
            let name = format!("{pool:?} {}", cpu.name());
            let mut out = vec![f32::NAN; grad.len()];
            pool.forward_with(cpu, input, &Source::new(&values, channels, pending), (&mut out).into());
            agree(&name, &out, &good);
            let mut dx = vec![1.0; values.len()];
            pool.gradient_with(cpu, input, &grad, Sink { values: &mut dx, channels, add: true });
            dx.iter_mut().for_each(|x| *x -= 1.0);
            agree(&format!("dx {name}"), &dx, &good_dx);
        }
    }
}
