//! Transposed convolution whose kernel is its stride: the convolution that it is the transpose of, run the other way.

#![allow(unsafe_code, reason = "voxels are activated register by register")]

use crate::choice::Algorithm;
use crate::conv::{bias_gradient, packed_len, padded_bias};
use crate::cpu::{Cpu, Kernel, Task};
use crate::direct::{self, DirectWeightGradient, Pattern};
use crate::lanes::Lanes;
use crate::scratch::{Recycled, Shared};
use crate::tensor_blocks::{Reader, Writer, check};
use crate::values::{Values, ValuesMut};
use crate::weight_view::WeightView;
use crate::{Grid, LANES, Packed, Sink, Source, padded};
use rayon::prelude::*;

/// A transposed convolution whose kernel is its stride; weights `[ci, co, kz, ky, kx]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransposedConv {
    /// Stride and kernel, `(z, y, x)`.
    pub stride: [usize; 3],
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
}

impl TransposedConv {
    /// Grid of the output.
    pub fn output(&self, input: Grid) -> Grid {
        Grid { n: input.n, size: [0, 1, 2].map(|a| input.size[a] * self.stride[a]) }
    }

    fn taps(&self) -> usize {
        self.stride.iter().product()
    }

    // The weights are those of a strided convolution from our outputs to our inputs.

    fn forward_view(&self) -> WeightView {
        WeightView::backward(&[self.outputs], self.inputs, self.taps())
    }

    fn backward_view(&self) -> WeightView {
        WeightView::forward(&[self.outputs], self.inputs, self.taps())
    }

    fn forward_pattern(&self) -> Pattern {
        Pattern::backward(self.stride, self.stride, [0; 3])
    }

    fn backward_pattern(&self) -> Pattern {
        Pattern::forward(self.stride, self.stride, [0; 3])
    }

    /// Values of the weights that [`TransposedConv::pack`] makes.
    pub fn packed_len(&self) -> usize {
        packed_len(Algorithm::Direct, &self.forward_pattern(), &self.forward_view())
    }

    /// Weights for [`TransposedConv::forward`] on an input of this grid.
    pub fn pack(&self, weights: &[f32], _input: Grid) -> Packed {
        self.pack_with(Cpu::detected(), weights)
    }

    pub(crate) fn pack_with(&self, cpu: Cpu, weights: &[f32]) -> Packed {
        let view = self.forward_view();
        view.check(weights.len(), self.taps());
        let values = direct::pack(&self.forward_pattern(), &view, cpu.columns(), weights);
        Packed { cpu, algorithm: Algorithm::Direct, values }
    }

    /// Output.
    pub fn forward<'a>(
        &self,
        input: Grid,
        source: &Source,
        packed: &Packed,
        bias: Option<&[f32]>,
        out: impl Into<ValuesMut<'a>>,
    ) {
        let writer = Writer::whole(self.output(input), out.into(), self.outputs);
        self.forward_to(input, source, packed, bias, writer);
    }

    pub(crate) fn forward_to(
        &self,
        input: Grid,
        source: &Source,
        packed: &Packed,
        bias: Option<&[f32]>,
        writer: Writer,
    ) {
        check("channels of the source", source.channels, self.inputs);
        let (output, reader) = (self.output(input), Reader::new(input, &[*source]));
        let bias = bias.map(|bias| padded_bias(bias, self.outputs));
        let (pattern, view) = (self.forward_pattern(), self.forward_view());
        packed.run(pattern, &view, [input, output], reader, writer, bias, None);
    }

    /// Weights for [`TransposedConv::input_gradient`] on an input of this grid.
    pub fn pack_gradient(&self, weights: &[f32], _input: Grid) -> Packed {
        self.pack_gradient_with(Cpu::detected(), weights)
    }

    pub(crate) fn pack_gradient_with(&self, cpu: Cpu, weights: &[f32]) -> Packed {
        let view = self.backward_view();
        view.check(weights.len(), self.taps());
        let values = direct::pack(&self.backward_pattern(), &view, cpu.columns(), weights);
        Packed { cpu, algorithm: Algorithm::Direct, values }
    }

    /// Gradient with respect to the activated source.
    pub fn input_gradient(&self, input: Grid, grad_out: &[f32], packed: &Packed, sink: Sink) {
        let (output, mut sinks) = (self.output(input), [Some(sink)]);
        let source = Source::new(grad_out, self.outputs, None);
        let (reader, writer) =
            (Reader::new(output, &[source]), Writer::sinks(input, &mut sinks, &[self.inputs]));
        let (pattern, view) = (self.backward_pattern(), self.backward_view());
        packed.run(pattern, &view, [output, input], reader, writer, None, None);
    }

    /// Gradients with respect to weights and bias; both are overwritten.
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
            bias_gradient(grad_out, self.outputs, db);
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
        check("channels of the source", source.channels, self.inputs);
        let (view, output) = (self.backward_view(), self.output(input));
        view.check(dw.len(), self.taps());
        let read = Source::new(grad_out, self.outputs, None);
        let reader = Reader::new(output, &[read]);
        let activated;
        let grad = match source.values {
            Values::F32(values) if source.pending.is_none() => values,
            _ => {
                activated = self::activated(cpu, input, source);
                &activated
            }
        };
        check("source", grad.len(), input.n * input.voxels() * padded(self.inputs));
        let pattern = self.backward_pattern();
        DirectWeightGradient { cpu, pattern, view, read: output, output: input, reader, grad }.run(dw);
    }
}

/// The source in single precision with its norm and activation applied.
fn activated(cpu: Cpu, grid: Grid, source: &Source) -> Recycled {
    let (reader, width) = (Reader::new(grid, &[*source]), padded(source.channels));
    let mut out = Recycled::new(source.values.len());
    for (n, sample) in out.chunks_exact_mut(grid.voxels() * width).enumerate() {
        sample.par_chunks_mut(ACTIVATED * width).enumerate().for_each(|(i, out)| {
            let (voxels, out) = (out.len() / width, Shared::new(out));
            cpu.run(&Activate { reader: &reader, n, first: i * ACTIVATED, voxels, width, out });
        });
    }
    out
}

/// Voxels per task of [`activated`].
const ACTIVATED: usize = 1024;

/// Some voxels of one sample.
struct Activate<'a> {
    reader: &'a Reader<'a>,
    n: usize,
    first: usize,
    voxels: usize,
    width: usize,
    out: Shared,
}

impl Task for Activate<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Activate<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        for b in 0..self.width / LANES {
            let block = self.reader.block(self.n, b);
            let affine = block.affine::<V>();
            for voxel in 0..self.voxels {
                // SAFETY: the voxels are in the grid, and this part of `out` belongs to the task.
                unsafe {
                    let value = block.load::<V>((self.first + voxel) as isize);
                    let value = affine.map_or(value, |affine| affine.apply(value));
                    value.store(self.out.at(voxel * self.width + b * LANES));
                }
            }
        }
    }
}
