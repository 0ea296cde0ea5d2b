//! Tensors of a running network and the forward pass of one operation.

use super::layout::{Kernel, Layout};
use super::planar;
use crate::graph::{Graph, Op, TensorId};
use crate::weights::Weights;
use galen_kernels::buffer::{Buffer, BufferPool};
use galen_kernels::norm::InstanceNorm;
use galen_kernels::{Packed, Pending, Source, padded, pool, residual};

/// Values and norms of all tensors, and the pool that their buffers come from.
#[derive(Debug, Default)]
pub(crate) struct Tensors {
    /// What was computed and not yet released: raw outputs, `[n, z, y, x, padded(channels)]`.
    pub(crate) values: Vec<Option<Buffer>>,
    /// Statistics of tensors that have a norm.
    pub(crate) norms: Vec<Option<InstanceNorm>>,
    slopes: Vec<f32>,
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
    pub(crate) fn raw(&self, tensor: TensorId) -> &Buffer {
        self.values[tensor].as_ref().expect("operations run in order")
    }

    /// A tensor as kernels read it.
    pub(crate) fn source(&self, graph: &Graph, tensor: TensorId) -> Source<'_> {
        let slope = self.slopes[tensor];
        let pending = self.norms[tensor].as_ref();
        Source {
            values: self.raw(tensor),
            channels: graph.channels[tensor],
            pending: pending.map(|norm| Pending { scale: &norm.scale, shift: &norm.shift, slope }),
        }
    }

    /// Gives the buffer of a tensor back to the pool.
    pub(crate) fn release(&mut self, tensor: TensorId) {
        if let Some(buffer) = self.values[tensor].take() {
            self.pool.give(buffer);
        }
    }

    /// Gives all buffers back to the pool.
    pub(crate) fn release_all(&mut self) {
        (0..self.values.len()).for_each(|tensor| self.release(tensor));
    }

    /// Puts a batch of images, `[n, c, z, y, x]`, into tensor 0.
    pub(crate) fn load(&mut self, graph: &Graph, layout: &Layout, images: &[f32]) {
        self.release(0);
        let mut buffer = self.pool.take(layout.len(0));
        let (channels, n) = (graph.channels[0], layout.grids[0].n);
        let samples = images.chunks_exact(images.len() / n);
        for (image, out) in samples.zip(buffer.chunks_exact_mut(layout.len(0) / n)) {
            planar::to_channels_last(image, channels, out);
        }
        self.values[0] = Some(buffer);
    }

    /// A tensor as planes, `[n, c, z, y, x]`.
    pub(crate) fn planes(&self, graph: &Graph, layout: &Layout, tensor: TensorId, out: &mut [f32]) {
        planes(self.raw(tensor), layout.grids[tensor].n, graph.channels[tensor], out);
    }

    /// Runs operation `index`; its sources are there, its output will be.
    pub(crate) fn forward(
        &mut self,
        graph: &Graph,
        layout: &Layout,
        index: usize,
        weights: &Weights,
        packed: Option<&Packed>,
    ) {
        let op = &graph.ops[index];
        let output = op.output();
        let input = layout.grids[op.sources()[0]];
        let mut out = self.pool.take(layout.len(output));
        match (op, &layout.kernels[index], packed) {
            (Op::Conv { sources, bias, norm, .. }, Kernel::Conv(conv), Some(packed)) => {
                let mut moments = std::mem::take(&mut self.moments);
                moments.clear();
                moments.resize(2 * input.n * padded(conv.outputs), 0.0);
                // A norm takes the mean away, and with it any bias.
                let bias = bias.as_ref().filter(|_| norm.is_none()).map(|name| values(weights, name));
                let wanted = norm.is_some().then_some(moments.as_mut_slice());
                let sources: Vec<Source> = sources.iter().map(|&source| self.source(graph, source)).collect();
                conv.forward(input, &sources, packed, bias, &mut out, wanted);
                if let (Some(norm), Some(state)) = (norm, &mut self.norms[output]) {
                    let gamma = norm.weight.as_ref().map(|name| values(weights, name));
                    let beta = norm.bias.as_ref().map(|name| values(weights, name));
                    state.update(&moments, conv.outputs, layout.voxels(output), gamma, beta, norm.eps);
                }
                self.moments = moments;
            }
            (Op::Up { source, bias, .. }, Kernel::Up(up), Some(packed)) => {
                let bias = bias.as_ref().map(|name| values(weights, name));
                up.forward(input, &self.source(graph, *source), packed, bias, &mut out);
            }
            (Op::AveragePool { source, .. }, Kernel::AveragePool(window), _) => {
                pool::average_pool(input, self.source(graph, *source), *window, &mut out);
            }
            (Op::Add { sources: [a, b], .. }, Kernel::Add(slope), _) => {
                let (a, b) = (self.source(graph, *a), self.source(graph, *b));
                residual::add(layout.voxels(output), a, b, *slope, &mut out);
            }
            _ => unreachable!("kernels are made from the operations"),
        }
        self.values[output] = Some(out);
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
