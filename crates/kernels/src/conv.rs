//! Convolution and its gradients: the descriptions, and which algorithm runs.

use crate::choice::{Algorithm, choose};
use crate::cpu::Cpu;
use crate::direct::{self, Direct, DirectWeightGradient, Pattern};
use crate::scratch::Recycled;
use crate::tensor_blocks::{Reader, Writer, check};
use crate::values::{Values, ValuesMut};
use crate::weight_view::WeightView;
use crate::winograd::{self, Tiling, Winograd, WinogradWeightGradient};
use rayon::prelude::*;

/// Channels of an activation tensor come in blocks of this many lanes.
pub const LANES: usize = 16;

/// Channels rounded up to whole blocks.
pub fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

/// Batch and grid of an activation tensor: `[n, z, y, x, padded(c)]`, pad lanes zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grid {
    /// Samples.
    pub n: usize,
    /// Voxels per axis, `(z, y, x)`.
    pub size: [usize; 3],
}

impl Grid {
    /// Voxels of one sample.
    pub fn voxels(&self) -> usize {
        self.size.iter().product()
    }
}

/// Norm and activation that the reader applies: `t = x·scale + shift`, then `t` or `slope·t` when negative.
#[derive(Clone, Copy, Debug)]
pub struct Pending<'a> {
    /// `[n, padded(c)]`.
    pub scale: &'a [f32],
    /// `[n, padded(c)]`.
    pub shift: &'a [f32],
    /// Negative slope of the leaky ReLU.
    pub slope: f32,
}

/// A tensor to read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// `[n, z, y, x, padded(channels)]`.
    pub values: Values<'a>,
    /// Channels without the pad lanes.
    pub channels: usize,
    /// Norm and activation not yet applied.
    pub pending: Option<Pending<'a>>,
    /// The values are `[n, channels, z, y, x]`, as images come; see [`Conv::reads_planes`].
    pub planar: bool,
}

/// A tensor that a gradient goes to.
#[derive(Debug)]
pub struct Sink<'a> {
    /// `[n, z, y, x, padded(channels)]`.
    pub values: &'a mut [f32],
    /// Channels without the pad lanes.
    pub channels: usize,
    /// Add to what is there instead of overwriting.
    pub add: bool,
}

impl<'a> Source<'a> {
    /// A channels-last tensor, `[n, z, y, x, padded(channels)]`.
    pub fn new(values: impl Into<Values<'a>>, channels: usize, pending: Option<Pending<'a>>) -> Self {
        Self { values: values.into(), channels, pending, planar: false }
    }
}

/// A convolution with padding `(k - 1) / 2`; its sources are read side by side as one tensor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conv {
    /// Kernel, `(z, y, x)`.
    pub kernel: [usize; 3],
    /// Stride, `(z, y, x)`.
    pub stride: [usize; 3],
    /// Channels per source.
    pub inputs: Vec<usize>,
    /// Output channels.
    pub outputs: usize,
}

/// Weights in the order that the kernel chosen for them reads.
#[derive(Debug)]
pub struct Packed {
    pub(crate) cpu: Cpu,
    pub(crate) algorithm: Algorithm,
    pub(crate) values: Recycled,
}

impl Packed {
    /// Applies the weights: reads the first grid, writes the second. `view` and `pattern` are those that the
    /// weights were packed with, which their number tells.
    pub(crate) fn run(
        &self,
        pattern: Pattern,
        view: &WeightView,
        [read, written]: [Grid; 2],
        reader: Reader,
        writer: Writer,
        bias: Option<Vec<f32>>,
        moments: Option<&mut [f64]>,
    ) {
        let (cpu, weights) = (self.cpu, &self.values);
        check("packed weights", weights.len(), packed_len(self.algorithm, &pattern, view));
        match self.algorithm {
            Algorithm::Direct => {
                Direct::new(cpu, pattern, view, [read, written], reader, writer, weights, bias).run(moments);
            }
            Algorithm::Winograd(tile) => {
                assert!(!reader.planar(), "planes are read by the direct algorithm");
                let tiling = Tiling::new(tile, read, written);
                Winograd { cpu, tiling, reader, writer, weights, bias }.run(moments);
            }
        }
    }
}

/// Values of packed weights.
pub(crate) fn packed_len(algorithm: Algorithm, pattern: &Pattern, view: &WeightView) -> usize {
    match algorithm {
        Algorithm::Direct => direct::packed_len(pattern, view),
        Algorithm::Winograd(tile) => winograd::packed_len(tile, view),
    }
}

impl Conv {
    /// Grid of the output.
    pub fn output(&self, input: Grid) -> Grid {
        let size = [0, 1, 2].map(|a| {
            let (length, kernel) = (input.size[a] + 2 * self.pad()[a], self.kernel[a]);
            assert!(
                length >= kernel,
                "axis {a} of the input: found {} voxels, the kernel needs more",
                input.size[a]
            );
            (length - kernel) / self.stride[a] + 1
        });
        Grid { n: input.n, size }
    }

    fn pad(&self) -> [usize; 3] {
        self.kernel.map(|k| (k - 1) / 2)
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    pub(crate) fn forward_view(&self) -> WeightView {
        WeightView::forward(&self.inputs, self.outputs, self.taps())
    }

    fn backward_view(&self) -> WeightView {
        WeightView::backward(&self.inputs, self.outputs, self.taps())
    }

    pub(crate) fn algorithm(&self, grid: Grid, view: &WeightView) -> Algorithm {
        choose(self.kernel, self.stride, grid, self.output(grid), view)
    }

    /// Whether the source may be planar: single images of few channels.
    pub fn reads_planes(&self) -> bool {
        self.inputs.len() == 1 && direct::packs_single_channels(self.inputs[0])
    }

    /// Values of the weights that [`Conv::pack`] makes.
    pub fn packed_len(&self, input: Grid) -> usize {
        let view = self.forward_view();
        packed_len(self.algorithm(input, &view), &self.forward_pattern(), &view)
    }

    /// Weights `[co, ci, kz, ky, kx]` for [`Conv::forward`] on an input of this grid.
    pub fn pack(&self, weights: &[f32], input: Grid) -> Packed {
        self.pack_with(Cpu::detected(), self.algorithm(input, &self.forward_view()), weights)
    }

    pub(crate) fn pack_with(&self, cpu: Cpu, algorithm: Algorithm, weights: &[f32]) -> Packed {
        let view = self.forward_view();
        view.check(weights.len(), self.taps());
        let values = match algorithm {
            Algorithm::Direct => direct::pack(&self.forward_pattern(), &view, cpu.columns(), weights),
            Algorithm::Winograd(tile) => winograd::pack(cpu, tile, &view, false, weights),
        };
        Packed { cpu, algorithm, values }
    }

    fn forward_pattern(&self) -> Pattern {
        Pattern::forward(self.kernel, self.stride, self.pad())
    }

    fn backward_pattern(&self) -> Pattern {
        Pattern::backward(self.kernel, self.stride, self.pad())
    }

    /// Raw output; when `moments` is given also its sum and sum of squares, `[n, padded(co), 2]`.
    pub fn forward<'a>(
        &self,
        input: Grid,
        sources: &[Source],
        packed: &Packed,
        bias: Option<&[f32]>,
        out: impl Into<ValuesMut<'a>>,
        moments: Option<&mut [f64]>,
    ) {
        self.check_sources(sources);
        let output = self.output(input);
        if let Some(moments) = &moments {
            check("moments", moments.len(), output.n * padded(self.outputs) * 2);
        }
        let (reader, writer) = (Reader::new(input, sources), Writer::whole(output, out.into(), self.outputs));
        let bias = bias.map(|bias| padded_bias(bias, self.outputs));
        let (pattern, view) = (self.forward_pattern(), self.forward_view());
        packed.run(pattern, &view, [input, output], reader, writer, bias, moments);
    }

    fn check_sources(&self, sources: &[Source]) {
        let found: Vec<usize> = sources.iter().map(|s| s.channels).collect();
        assert!(found == self.inputs, "channels of the sources: found {found:?}, expected {:?}", self.inputs);
    }

    /// Weights `[co, ci, kz, ky, kx]` for [`Conv::input_gradient`] on an input of this grid.
    pub fn pack_gradient(&self, weights: &[f32], input: Grid) -> Packed {
        self.pack_gradient_with(Cpu::detected(), self.algorithm(input, &self.backward_view()), weights)
    }

    pub(crate) fn pack_gradient_with(&self, cpu: Cpu, algorithm: Algorithm, weights: &[f32]) -> Packed {
        let view = self.backward_view();
        view.check(weights.len(), self.taps());
        let algorithm = algorithm.transposed();
        let values = match algorithm {
            Algorithm::Direct => direct::pack(&self.backward_pattern(), &view, cpu.columns(), weights),
            Algorithm::Winograd(tile) => winograd::pack(cpu, tile, &view, true, weights),
        };
        Packed { cpu, algorithm, values }
    }

    /// Gradient with respect to the activated sources, one sink per source; `None` is not computed.
    pub fn input_gradient(&self, input: Grid, grad_out: &[f32], packed: &Packed, sinks: &mut [Option<Sink>]) {
        let output = self.output(input);
        let source = Source::new(grad_out, self.outputs, None);
        let (reader, writer) = (Reader::new(output, &[source]), Writer::sinks(input, sinks, &self.inputs));
        let (pattern, view) = (self.backward_pattern(), self.backward_view());
        packed.run(pattern, &view, [output, input], reader, writer, None, None);
    }

    /// Gradients with respect to weights `[co, ci, kz, ky, kx]` and bias; both are overwritten.
    pub fn weight_gradient(
        &self,
        input: Grid,
        sources: &[Source],
        grad_out: &[f32],
        dw: &mut [f32],
        db: Option<&mut [f32]>,
    ) {
        let algorithm = self.algorithm(input, &self.forward_view()).of_weights(input, self.output(input));
        self.weight_gradient_with(Cpu::detected(), algorithm, input, sources, grad_out, dw);
        if let Some(db) = db {
            bias_gradient(grad_out, self.outputs, db);
        }
    }

    pub(crate) fn weight_gradient_with(
        &self,
        cpu: Cpu,
        algorithm: Algorithm,
        input: Grid,
        sources: &[Source],
        grad: &[f32],
        dw: &mut [f32],
    ) {
        self.check_sources(sources);
        let (view, output) = (self.forward_view(), self.output(input));
        check("output gradient", grad.len(), output.n * output.voxels() * padded(self.outputs));
        view.check(dw.len(), self.taps());
        let reader = Reader::new(input, sources);
        match algorithm {
            Algorithm::Direct => {
                let pattern = self.forward_pattern();
                DirectWeightGradient { cpu, pattern, view, read: input, output, reader, grad }.run(dw);
            }
            Algorithm::Winograd(tile) => {
                assert!(!reader.planar(), "planes are read by the direct algorithm");
                let tiling = Tiling::new(tile, input, output);
                WinogradWeightGradient { cpu, tiling, view, reader, grad }.run(dw);
            }
        }
    }
}

/// One value per lane.
pub(crate) fn padded_bias(bias: &[f32], outputs: usize) -> Vec<f32> {
    check("bias", bias.len(), outputs);
    let mut lanes = bias.to_vec();
    lanes.resize(padded(outputs), 0.0);
    lanes
}

/// Voxels whose sum is one part of a bias gradient.
const BIAS_PART: usize = 4096;

/// Sum of the output gradient over samples and voxels, parts added in their order.
pub(crate) fn bias_gradient(grad: &[f32], outputs: usize, db: &mut [f32]) {
    check("bias gradient", db.len(), outputs);
    let width = padded(outputs);
    let part = |part: &[f32]| {
        let mut sums = vec![0.0f64; width];
        Cpu::detected().compile(|| {
            for voxel in part.chunks_exact(width) {
                sums.iter_mut().zip(voxel).for_each(|(sum, &g)| *sum += f64::from(g));
            }
        });
        sums
    };
    let parts: Vec<_> = grad.par_chunks(BIAS_PART * width).map(part).collect();
    for (lane, db) in db.iter_mut().enumerate() {
        *db = parts.iter().map(|part| part[lane]).sum::<f64>() as f32;
    }
}
