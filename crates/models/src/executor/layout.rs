//! Grids and kernels of a graph at one image size.

use crate::graph::{Graph, Op};
use galen_kernels::{Conv, Grid, Storage, TransposedConv, padded, pool};

/// What runs an operation.
#[derive(Debug)]
pub(crate) enum Kernel {
    Conv(Conv),
    Up(TransposedConv),
    AveragePool([usize; 3]),
    Add(f32),
}

impl Kernel {
    fn new(graph: &Graph, op: &Op) -> Self {
        match op {
            Op::Conv { sources, output, kernel, stride, .. } => Self::Conv(Conv {
                kernel: *kernel,
                stride: *stride,
                inputs: sources.iter().map(|&source| graph.channels[source]).collect(),
                outputs: graph.channels[*output],
            }),
            Op::Up { source, output, stride, .. } => Self::Up(TransposedConv {
                stride: *stride,
                inputs: graph.channels[*source],
                outputs: graph.channels[*output],
            }),
            Op::AveragePool { window, .. } => Self::AveragePool(*window),
            Op::Add { slope, .. } => Self::Add(*slope),
        }
    }

    fn output(&self, input: Grid) -> Grid {
        match self {
            Self::Conv(conv) => conv.output(input),
            Self::Up(up) => up.output(input),
            Self::AveragePool(window) => pool::pooled(input, *window),
            Self::Add(_) => input,
        }
    }
}

/// Kernels per operation and grids per tensor.
#[derive(Debug)]
pub(crate) struct Layout {
    /// One per operation.
    pub(crate) kernels: Vec<Kernel>,
    /// One per tensor; tensors that the graph does not compute have the image's.
    pub(crate) grids: Vec<Grid>,
    widths: Vec<usize>,
    /// How each tensor is stored. The image and the outputs are in single precision.
    pub(crate) storage: Vec<Storage>,
    /// The image stays `[n, channels, z, y, x]`, because all its readers take it so.
    pub(crate) planar_image: bool,
}

impl Layout {
    pub(crate) fn new(graph: &Graph, n: usize, size: [usize; 3], storage: Storage) -> Self {
        let mut grids = vec![Grid { n, size }; graph.channels.len()];
        let mut kernels = Vec::with_capacity(graph.ops.len());
        for op in &graph.ops {
            let kernel = Kernel::new(graph, op);
            grids[op.output()] = kernel.output(grids[op.sources()[0]]);
            kernels.push(kernel);
        }
        let widths = graph.channels.iter().map(|&channels| padded(channels)).collect();
        let takes_planes = |(op, kernel): (&Op, &Kernel)| {
            !op.sources().contains(&0) || matches!(kernel, Kernel::Conv(conv) if conv.reads_planes())
        };
        let planar_image = graph.ops.iter().zip(&kernels).all(takes_planes);
        let mut storage = vec![storage; graph.channels.len()];
        for &tensor in graph.outputs.iter().chain(&[0]) {
            storage[tensor] = Storage::F32;
        }
        Self { kernels, grids, widths, storage, planar_image }
    }

    /// Voxels of one sample of a tensor.
    pub(crate) fn voxels(&self, tensor: usize) -> usize {
        self.grids[tensor].size.iter().product()
    }

    /// Stored values of a tensor or its gradient, pad lanes included.
    pub(crate) fn len(&self, tensor: usize) -> usize {
        self.grids[tensor].n * self.voxels(tensor) * self.widths[tensor]
    }

    /// Words of memory of a tensor that has `slack` values more.
    pub(crate) fn words(&self, tensor: usize, slack: usize) -> usize {
        self.storage[tensor].words(self.len(tensor) + slack)
    }

    /// Stored values of the image.
    pub(crate) fn image_len(&self, graph: &Graph) -> usize {
        if self.planar_image { self.grids[0].n * self.voxels(0) * graph.channels[0] } else { self.len(0) }
    }
}
