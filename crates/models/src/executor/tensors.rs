//! Tensors of a running network and the forward pass of one operation.

use super::layout::{Kernel, Layout};
use super::planar;
use super::steps::{Replacing, head_rows};
use crate::graph::{Graph, Norm, Op, TensorId};
use crate::weights::Weights;
use galen_kernels::buffer::{Buffer, BufferPool};
use galen_kernels::norm::InstanceNorm;
use galen_kernels::{
    End, Grid, Packed, Pending, SlabSource, Source, Storage, Upsampled, Values, ValuesMut, padded, pool,
    residual,
};

/// The values of one tensor, at one end of a memory that may be longer.
#[derive(Debug)]
pub(crate) struct Held {
    memory: Buffer,
    end: End,
    len: usize,
    storage: Storage,
}

impl Held {
    fn whole(memory: Buffer) -> Self {
        Self { len: memory.len(), memory, end: End::Front, storage: Storage::F32 }
    }

    fn values(&self) -> Values<'_> {
        let all = Values::of_words(self.storage, &self.memory);
        match self.end {
            End::Front => all.cut(0..self.len),
            End::Back => all.cut(all.len() - self.len..all.len()),
        }
    }
}

/// Values and norms of all tensors, and the pool that their buffers come from.
#[derive(Debug, Default)]
pub(crate) struct Tensors {
    /// What was computed and not yet released: raw outputs, `[n, z, y, x, padded(channels)]`.
    pub(crate) values: Vec<Option<Held>>,
    /// Statistics of tensors that have a norm.
    pub(crate) norms: Vec<Option<InstanceNorm>>,
    slopes: Vec<f32>,
    planar_image: bool,
    /// Free buffers.
    pub(crate) pool: BufferPool,
    moments: Vec<f64>,
}

impl Tensors {
    /// For the tensors of a graph; nothing is computed yet.
    pub(crate) fn new(graph: &Graph) -> Self {
        let count = graph.channels.len();
        let mut tensors = Self { slopes: vec![1.0; count], ..Self::default() };
        tensors.values.resize_with(count, || None);
        tensors.norms.resize_with(count, || None);
        for op in &graph.ops {
            if let Op::Conv { output, norm: Some(norm), .. } = op {
                tensors.norms[*output] = Some(InstanceNorm::default());
                tensors.slopes[*output] = norm.slope;
            }
        }
        tensors
    }

    /// Slope of the activation behind a tensor's norm.
    pub(crate) fn slope(&self, tensor: TensorId) -> f32 {
        self.slopes[tensor]
    }

    /// Raw values of a tensor. Panics when it was not computed: a bug in the order of operations.
    pub(crate) fn raw(&self, tensor: TensorId) -> Values<'_> {
        self.values[tensor].as_ref().expect("operations run in order").values()
    }

    /// Values of an output of the graph.
    pub(crate) fn output(&self, tensor: TensorId) -> &[f32] {
        match self.raw(tensor) {
            Values::F32(values) => values,
            Values::Bf16(_) => unreachable!("outputs are stored in single precision"),
        }
    }

    /// A tensor as kernels read it.
    pub(crate) fn source(&self, graph: &Graph, tensor: TensorId) -> Source<'_> {
        let planar = tensor == 0 && self.planar_image;
        Source {
            values: self.raw(tensor),
            channels: graph.channels[tensor],
            pending: self.pending(tensor),
            planar,
        }
    }

    fn pending(&self, tensor: TensorId) -> Option<Pending<'_>> {
        let norm = self.norms[tensor].as_ref()?;
        Some(Pending { scale: &norm.scale, shift: &norm.shift, slope: self.slopes[tensor] })
    }

    /// Gives the buffer of a tensor back to the pool.
    pub(crate) fn release(&mut self, tensor: TensorId) {
        if let Some(held) = self.values[tensor].take() {
            self.pool.give(held.memory);
        }
    }

    /// Gives all buffers back to the pool.
    pub(crate) fn release_all(&mut self) {
        (0..self.values.len()).for_each(|tensor| self.release(tensor));
    }

    /// Puts a batch of images, `[n, c, z, y, x]`, into tensor 0.
    pub(crate) fn load(&mut self, graph: &Graph, layout: &Layout, images: &[f32]) {
        self.release(0);
        let mut buffer = self.pool.take(layout.image_len(graph));
        self.planar_image = layout.planar_image;
        let (channels, n) = (graph.channels[0], layout.grids[0].n);
        if layout.planar_image {
            buffer.copy_from_slice(images);
            self.values[0] = Some(Held::whole(buffer));
            return;
        }
        let samples = images.chunks_exact(images.len() / n);
        for (image, out) in samples.zip(buffer.chunks_exact_mut(layout.len(0) / n)) {
            planar::to_channels_last(image, channels, out);
        }
        self.values[0] = Some(Held::whole(buffer));
    }

    /// An output as planes, `[n, c, z, y, x]`.
    pub(crate) fn planes(&self, graph: &Graph, layout: &Layout, tensor: TensorId, out: &mut [f32]) {
        planes(self.output(tensor), layout.grids[tensor].n, graph.channels[tensor], out);
    }

    /// Runs operation `index`; its sources are there, its output will be, in a memory that is `slack` values longer.
    pub(crate) fn forward(
        &mut self,
        graph: &Graph,
        layout: &Layout,
        index: usize,
        weights: &Weights,
        packed: Option<&Packed>,
        slack: usize,
    ) {
        let op = &graph.ops[index];
        let output = op.output();
        let input = layout.grids[op.sources()[0]];
        let len = layout.len(output);
        let storage = layout.storage[output];
        let mut memory = self.pool.take(layout.words(output, slack));
        let out = ValuesMut::of_words(storage, &mut memory).cut(0..len);
        match (op, &layout.kernels[index], packed) {
            (Op::Conv { sources, bias, norm, .. }, Kernel::Conv(conv), Some(packed)) => {
                let mut moments = std::mem::take(&mut self.moments);
                moments.clear();
                moments.resize(2 * input.n * padded(conv.outputs), 0.0);
                // A norm takes the mean away, and with it any bias.
                let bias = bias.as_ref().filter(|_| norm.is_none()).map(|name| values(weights, name));
                let wanted = norm.is_some().then_some(moments.as_mut_slice());
                let sources: Vec<Source> = sources.iter().map(|&source| self.source(graph, source)).collect();
                conv.forward(input, &sources, packed, bias, out, wanted);
                if let Some(norm) = norm {
                    self.update_norm(output, norm, weights, &moments, [conv.outputs, layout.voxels(output)]);
                }
                self.moments = moments;
            }
            (Op::Up { source, bias, .. }, Kernel::Up(up), Some(packed)) => {
                let bias = bias.as_ref().map(|name| values(weights, name));
                up.forward(input, &self.source(graph, *source), packed, bias, out);
            }
            (Op::AveragePool { source, .. }, Kernel::AveragePool(window), _) => {
                pool::average_pool(input, self.source(graph, *source), *window, out);
            }
            (Op::Add { sources: [a, b], .. }, Kernel::Add(slope), _) => {
                let (a, b) = (self.source(graph, *a), self.source(graph, *b));
                residual::add(layout.voxels(output), a, b, *slope, out);
            }
            _ => unreachable!("kernels are made from the operations"),
        }
        self.values[output] = Some(Held { memory, end: End::Front, len, storage });
    }

    fn update_norm(
        &mut self,
        output: TensorId,
        norm: &Norm,
        weights: &Weights,
        moments: &[f64],
        [channels, voxels]: [usize; 2],
    ) {
        let Some(state) = &mut self.norms[output] else { return };
        let gamma = norm.weight.as_ref().map(|name| values(weights, name));
        let beta = norm.bias.as_ref().map(|name| values(weights, name));
        state.update(moments, channels, voxels, gamma, beta, norm.eps);
    }

    /// Runs a convolution whose output takes the memory of one of its sources. One image.
    pub(crate) fn replace(
        &mut self,
        graph: &Graph,
        layout: &Layout,
        step: &Replacing,
        weights: &Weights,
        packed: &[Option<Packed>],
        scratch: &mut [f32],
    ) {
        let Op::Conv { sources, output, bias, norm, .. } = &graph.ops[step.conv] else {
            unreachable!("the steps name convolutions")
        };
        let (Kernel::Conv(conv), Some(own)) = (&layout.kernels[step.conv], &packed[step.conv]) else {
            unreachable!("convolutions have packed weights")
        };
        let replaced = sources[step.replaced];
        let Held { mut memory, end, len, storage } =
            self.values[replaced].take().expect("operations run in order");
        let mut moments = vec![0.0; 2 * padded(conv.outputs)];
        // A norm takes the mean away, and with it any bias.
        let bias = bias.as_ref().filter(|_| norm.is_none()).map(|name| values(weights, name));
        let wanted = norm.is_some().then_some(moments.as_mut_slice());
        let read: Vec<SlabSource> = sources
            .iter()
            .enumerate()
            .map(|(place, &source)| match step.up {
                Some((of, op)) if of == place => {
                    SlabSource::Upsampled(self.upsampled(graph, layout, op, weights, packed))
                }
                _ if place == step.replaced => SlabSource::Replaced(self.pending(source)),
                _ => SlabSource::Whole(self.source(graph, source)),
            })
            .collect();
        let values = ValuesMut::of_words(storage, &mut memory);
        // Upsampled planes are stored as the whole tensor would be.
        let of_scratch = step.up.map_or(Storage::F32, |(place, _)| layout.storage[sources[place]]);
        let scratch = ValuesMut::of_words(of_scratch, scratch);
        conv.replace(layout.grids[replaced], values, end, &read, own, bias, wanted, scratch);
        drop(read);
        if let Some(norm) = norm {
            self.update_norm(*output, norm, weights, &moments, [conv.outputs, layout.voxels(*output)]);
        }
        self.values[*output] = Some(Held { memory, end: end.other(), len, storage });
    }

    fn upsampled<'a>(
        &'a self,
        graph: &Graph,
        layout: &'a Layout,
        op: usize,
        weights: &'a Weights,
        packed: &'a [Option<Packed>],
    ) -> Upsampled<'a> {
        match (&graph.ops[op], &layout.kernels[op], &packed[op]) {
            (Op::Up { source, bias, .. }, Kernel::Up(conv), Some(packed)) => Upsampled {
                conv,
                input: layout.grids[*source],
                source: self.source(graph, *source),
                packed,
                bias: bias.as_ref().map(|name| values(weights, name)),
            },
            _ => unreachable!("the steps name transposed convolutions"),
        }
    }

    /// Runs the convolution to the logits, `[outputs, z, y, x]`, some rows at a time. One image.
    pub(crate) fn head(
        &mut self,
        graph: &Graph,
        layout: &Layout,
        index: usize,
        weights: &Weights,
        packed: Option<&Packed>,
        logits: &mut [f32],
    ) {
        let (Op::Conv { sources, output, bias, .. }, Kernel::Conv(conv), Some(packed)) =
            (&graph.ops[index], &layout.kernels[index], packed)
        else {
            unreachable!("the head is a convolution")
        };
        let [rows, x] = head_rows(layout, *output);
        let (voxels, width) = (layout.voxels(*output), padded(conv.outputs));
        let bias = bias.as_ref().map(|name| values(weights, name));
        let mut part = self.pool.take(rows * x * width);
        for first in (0..voxels).step_by(rows * x) {
            let last = (first + rows * x).min(voxels);
            let cut = |&source: &TensorId| {
                let whole = self.source(graph, source);
                let width = padded(whole.channels);
                Source { values: whole.values.cut(first * width..last * width), ..whole }
            };
            let read: Vec<Source> = sources.iter().map(cut).collect();
            let grid = Grid { n: 1, size: [1, (last - first) / x, x] };
            let out = &mut part[..(last - first) * width];
            conv.forward(grid, &read, packed, bias, &mut *out, None);
            planar::to_planes_from(out, conv.outputs, first, logits);
        }
        self.pool.give(part);
    }
}

/// Values of a weight. Panics when it is missing: the network checked the weights before.
pub(crate) fn values<'a>(weights: &'a Weights, name: &str) -> &'a [f32] {
    &weights.get(name).expect("weights were checked").values
}

/// Weights of an operation in the order of its forward kernel.
pub(crate) fn pack(op: &Op, kernel: &Kernel, layout: &Layout, weights: &Weights) -> Option<Packed> {
    let input = layout.grids[op.sources()[0]];
    match (op, kernel) {
        (Op::Conv { weight, .. }, Kernel::Conv(conv)) => Some(conv.pack(values(weights, weight), input)),
        (Op::Up { weight, .. }, Kernel::Up(up)) => Some(up.pack(values(weights, weight), input)),
        _ => None,
    }
}

/// Channels last, `[n, voxels, padded(c)]`, to planes, `[n, c, voxels]`.
pub(crate) fn planes(values: &[f32], n: usize, channels: usize, out: &mut [f32]) {
    let size = out.len() / n;
    for (values, out) in values.chunks_exact(values.len() / n).zip(out.chunks_exact_mut(size)) {
        planar::to_planes(values, channels, out);
    }
}
