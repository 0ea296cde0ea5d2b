//! Depthwise convolution (one filter per channel), forward and backward, for any kernel and stride.
//!
//! A task owns sixteen channels of a strip of rows and walks along z. The planes that its kernel reaches lie in a
//! ring of rows widened by the padding, so the innermost loops know no border: per tap one vector of weights and a
//! register block of outputs. Kernels of five and seven taps are filtered along x in fewer multiplications.

#![allow(
    unsafe_code,
    reason = "register kernels run on pointers into the ring of rows; ranges follow from the tables"
)]

mod filtered;
mod gradient;
mod points;
mod ring;
mod sweep;

use crate::conv::{bias_gradient, padded_bias};
use crate::cpu::Cpu;
use crate::tensor_blocks::{Reader, Writer, check};
use crate::{Grid, LANES, Sink, Source, padded};
use filtered::Filtered;
use gradient::WeightGradient;
use ring::Reach;
use sweep::Sweep;

/// A depthwise convolution with padding `(k - 1) / 2`; weights are `[c, kz, ky, kx]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DepthwiseConv {
    /// Kernel, `(z, y, x)`.
    pub kernel: [usize; 3],
    /// Stride, `(z, y, x)`.
    pub stride: [usize; 3],
    /// Channels of input and output.
    pub channels: usize,
}

impl DepthwiseConv {
    /// Grid of the output.
    pub fn output(&self, input: Grid) -> Grid {
        let size = [0, 1, 2].map(|a| {
            let length = input.size[a] + (self.kernel[a] - 1) / 2 * 2;
            assert!(length >= self.kernel[a], "axis {a} of the input is shorter than the kernel needs");
            (length - self.kernel[a]) / self.stride[a] + 1
        });
        Grid { n: input.n, size }
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Raw output; when `moments` is given also its sum and sum of squares, `[n, padded(c), 2]`.
    pub fn forward(
        &self,
        input: Grid,
        source: &Source,
        weights: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
        moments: Option<&mut [f64]>,
    ) {
        self.forward_with(Cpu::detected(), input, source, weights, bias, out, moments);
    }

    pub(crate) fn forward_with(
        &self,
        cpu: Cpu,
        input: Grid,
        source: &Source,
        weights: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
        moments: Option<&mut [f64]>,
    ) {
        check("channels of the source", source.channels, self.channels);
        let output = self.output(input);
        let reach =
            [0, 1, 2].map(|a| Reach::forward(self.kernel[a], self.stride[a], input.size[a], output.size[a]));
        let reader = Reader::new(input, &[*source]);
        let writer = Writer::whole(output, out.into(), self.channels);
        let bias = bias.map(|bias| padded_bias(bias, self.channels));
        if filtered::serves(self.kernel, self.stride, input.size) {
            let (kernel, bias) = (self.kernel, bias.as_deref());
            let weights = &filtered::pack(kernel, self.channels, weights, false);
            return Filtered { cpu, grid: input, kernel, reader, writer, weights, bias }.run(moments);
        }
        Sweep {
            cpu,
            read: input,
            written: output,
            reach,
            reader,
            writer,
            weights: &self.by_tap(weights, false),
            bias: bias.as_deref(),
        }
        .run(moments);
    }

    /// Gradient with respect to the activated source.
    pub fn input_gradient(&self, input: Grid, grad_out: &[f32], weights: &[f32], sink: Sink) {
        self.input_gradient_with(Cpu::detected(), input, grad_out, weights, sink);
    }

    pub(crate) fn input_gradient_with(
        &self,
        cpu: Cpu,
        input: Grid,
        grad_out: &[f32],
        weights: &[f32],
        sink: Sink,
    ) {
        let (output, mut sinks) = (self.output(input), [Some(sink)]);
        let reach =
            [0, 1, 2].map(|a| Reach::backward(self.kernel[a], self.stride[a], input.size[a], output.size[a]));
        let source = Source::new(grad_out, self.channels, None);
        let reader = Reader::new(output, &[source]);
        let writer = Writer::sinks(input, &mut sinks, &[self.channels]);
        if filtered::serves(self.kernel, self.stride, input.size) {
            let kernel = self.kernel;
            let weights = &filtered::pack(kernel, self.channels, weights, true);
            return Filtered { cpu, grid: input, kernel, reader, writer, weights, bias: None }.run(None);
        }
        let weights = self.by_tap(weights, true);
        Sweep { cpu, read: output, written: input, reach, reader, writer, weights: &weights, bias: None }
            .run(None);
    }

    /// Gradients with respect to weights `[c, kz, ky, kx]` and bias; both are overwritten.
    pub fn weight_gradient(
        &self,
        input: Grid,
        source: &Source,
        grad_out: &[f32],
        dw: &mut [f32],
        db: Option<&mut [f32]>,
    ) {
        self.weight_gradient_with(Cpu::detected(), input, source, grad_out, dw);
        if let Some(db) = db {
            bias_gradient(grad_out, self.channels, db);
        }
    }

    pub(crate) fn weight_gradient_with(
        &self,
        cpu: Cpu,
        input: Grid,
        source: &Source,
        grad_out: &[f32],
        dw: &mut [f32],
    ) {
        check("channels of the source", source.channels, self.channels);
        check("weight gradient", dw.len(), self.channels * self.taps());
        let output = self.output(input);
        let reach =
            [0, 1, 2].map(|a| Reach::forward(self.kernel[a], self.stride[a], input.size[a], output.size[a]));
        let grad = Source::new(grad_out, self.channels, None);
        WeightGradient {
            cpu,
            read: input,
            written: output,
            kernel: self.kernel,
            reach,
            reader: Reader::new(input, &[*source]),
            grad: Reader::new(output, &[grad]),
        }
        .run(self.channels, dw);
    }

    /// Weights `[c / 16, taps, 16]`; `turned` reverses the taps along x, as the gradient walks its rows.
    fn by_tap(&self, weights: &[f32], turned: bool) -> Vec<f32> {
        let (taps, kx) = (self.taps(), self.kernel[2]);
        check("weights", weights.len(), self.channels * taps);
        let mut out = vec![0.0; padded(self.channels) * taps];
        for c in 0..self.channels {
            for tap in 0..taps {
                let from = if turned { tap - tap % kx + kx - 1 - tap % kx } else { tap };
                out[(c / LANES * taps + tap) * LANES + c % LANES] = weights[c * taps + from];
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pending;
    use crate::conv_tests::{agree, noise, tensor};
    use crate::plain::PlainConv;

    /// One channel at a time as a plain convolution.
    fn plain(
        conv: &DepthwiseConv,
        grid: Grid,
        source: &Source,
        weights: &[f32],
        bias: &[f32],
        grad: &[f32],
    ) -> [Vec<f32>; 3] {
        let (output, width, taps) = (conv.output(grid), padded(conv.channels), conv.taps());
        let one = PlainConv { kernel: conv.kernel, stride: conv.stride, inputs: vec![1], outputs: 1 };
        let mut out = vec![0.0; output.n * output.voxels() * width];
        let mut dx = vec![0.0; source.values.len()];
        let mut dw = vec![0.0; weights.len()];
        for c in 0..conv.channels {
            let lane = |values: &[f32]| -> Vec<f32> {
                let one = |voxel: &[f32]| {
                    std::array::from_fn::<f32, LANES, _>(|l| if l == 0 { voxel[c] } else { 0.0 })
                };
                values.chunks(width).flat_map(one).collect()
            };
            let pending = source.pending.map(|p| (lane(p.scale), lane(p.shift), p.slope));
            let values = lane(&source.values.widened());
            let pending =
                pending.as_ref().map(|(scale, shift, slope)| Pending { scale, shift, slope: *slope });
            let own = [Source::new(&values, 1, pending)];
            let w = &weights[c * taps..(c + 1) * taps];
            let mut one_out = vec![0.0; output.n * output.voxels() * LANES];
            one.forward(grid, &own, &one.pack(w, grid), Some(&bias[c..=c]), &mut one_out, None);
            let mut one_dx = vec![0.0; values.len()];
            let g = lane(grad);
            let sink = Some(Sink { values: &mut one_dx, channels: 1, add: false });
            one.input_gradient(grid, &g, &one.pack_gradient(w, grid), &mut [sink]);
            one.weight_gradient(grid, &own, &g, &mut dw[c * taps..(c + 1) * taps], None);
            for (to, from) in out.chunks_mut(width).zip(one_out.chunks(LANES)) {
                to[c] = from[0];
            }
            for (to, from) in dx.chunks_mut(width).zip(one_dx.chunks(LANES)) {
                to[c] = from[0];
            }
        }
        [out, dx, dw]
    }

    pub(crate) fn compare(
        kernel: [usize; 3],
        stride: [usize; 3],
        channels: usize,
        grid: Grid,
        pending: bool,
    ) {
        let conv = DepthwiseConv { kernel, stride, channels };
        let (values, output) = (tensor(grid.n * grid.voxels(), channels, 1), conv.output(grid));
        let (scale, shift) = (tensor(grid.n, channels, 2), tensor(grid.n, channels, 3));
        let pending = pending.then_some(Pending { scale: &scale, shift: &shift, slope: 0.01 });
        let source = Source::new(&values, channels, pending);
        let (weights, bias) = (noise(channels * conv.taps(), 4), noise(channels, 5));
        let grad = tensor(output.n * output.voxels(), channels, 6);
        let [good_out, good_dx, good_dw] = plain(&conv, grid, &source, &weights, &bias, &grad);
        for cpu in Cpu::available() {
            let name = format!("{conv:?} {grid:?} {}", cpu.name());
            let mut out = vec![f32::NAN; good_out.len()];
            let mut moments = vec![f64::NAN; grid.n * padded(channels) * 2];
            conv.forward_with(cpu, grid, &source, &weights, Some(&bias), &mut out, Some(&mut moments));
            agree(&format!("out {name}"), &out, &good_out);
            let width = padded(channels);
            for (i, pair) in moments.chunks(2).enumerate() {
                let (n, lane) = (i / width, i % width);
                let sample = &good_out[n * output.voxels() * width..(n + 1) * output.voxels() * width];
                let own = || sample.iter().skip(lane).step_by(width).map(|&x| f64::from(x));
                let good = [own().sum::<f64>(), own().map(|x| x * x).sum::<f64>()];
                let scale = good[1].max(1e-9);
                let close = (pair[0] - good[0]).abs() <= 1e-5 * (scale * output.voxels() as f64).sqrt();
                assert!(
                    close && (pair[1] - good[1]).abs() <= 1e-5 * scale,
                    "moments {name} {pair:?} {good:?}"
                );
            }
            let mut dx = vec![1.0; good_dx.len()];
            conv.input_gradient_with(
                cpu,
                grid,
                &grad,
                &weights,
                Sink { values: &mut dx, channels, add: true },
            );
            dx.iter_mut().for_each(|x| *x -= 1.0);
            agree(&format!("dx {name}"), &dx, &good_dx);
            let mut dw = vec![f32::NAN; weights.len()];
            conv.weight_gradient_with(cpu, grid, &source, &grad, &mut dw);
            agree(&format!("dw {name}"), &dw, &good_dw);
        }
    }

    #[test]
    fn cubes_and_planes_of_any_stride_agree() {
        for k in [3, 5, 7] {
            for stride in [1, 2] {
                compare([k; 3], [stride; 3], 20, Grid { n: 2, size: [5, 9, 17] }, true);
                compare([1, k, k], [1, stride, stride], 16, Grid { n: 1, size: [3, 8, 30] }, false);
            }
        }
        compare([3, 1, 5], [1, 2, 3], 33, Grid { n: 2, size: [4, 11, 19] }, true);
        compare([7; 3], [1; 3], 3, Grid { n: 1, size: [2, 3, 1] }, true);
        compare([1; 3], [2; 3], 5, Grid { n: 1, size: [2, 3, 5] }, true);
        compare([3; 3], [1; 3], 17, Grid { n: 1, size: [3, 80, 40] }, false);
        compare([3, 7, 7], [1; 3], 17, Grid { n: 2, size: [2, 150, 10] }, true);
        compare([7; 3], [1; 3], 3, Grid { n: 1, size: [3, 9, 6] }, true);
        compare([5, 5, 5], [1; 3], 3, Grid { n: 1, size: [3, 3, 11] }, true);
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bytes() {
        let conv = DepthwiseConv { kernel: [5, 3, 7], stride: [1, 2, 1], channels: 40 };
        let grid = Grid { n: 2, size: [6, 40, 21] };
        let (values, weights) = (tensor(grid.n * grid.voxels(), 40, 1), noise(40 * 105, 2));
        let source = Source::new(&values, 40, None);
        let output = conv.output(grid);
        let grad = tensor(output.n * output.voxels(), 40, 3);
        let all = || {
            let (mut out, mut dx) = (vec![0.0; grad.len()], vec![0.0; values.len()]);
            let (mut dw, mut db) = (vec![0.0; weights.len()], vec![0.0; 40]);
            let mut moments = vec![0.0; 2 * 48 * 2];
            conv.forward(grid, &source, &weights, None, &mut out, Some(&mut moments));
            conv.input_gradient(grid, &grad, &weights, Sink { values: &mut dx, channels: 40, add: false });
            conv.weight_gradient(grid, &source, &grad, &mut dw, Some(&mut db));
            (out, moments, dx, dw, db)
        };
        let run = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(all)
        };
        let one = run(1);
        assert!(one == run(2) && one == run(5));
    }
}
