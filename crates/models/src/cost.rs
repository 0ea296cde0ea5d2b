//! What a network costs, by playing its operations without data.

use crate::executor::{Kernel, Layout, Plan, Step, head_rows};
use crate::graph::{Graph, Op, Parameter, TensorId};
use galen_kernels::buffer::fitting;
use galen_kernels::{Storage, padded};

/// Work and memory of a network on images of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-adds of predicting the batch, counted as plain convolutions.
    pub multiply_adds: u64,
    /// Multiply-adds of a training step on the batch (forward, both gradients).
    pub training_multiply_adds: u64,
    /// Bytes of weights when predicting: as stored, and packed for the kernels.
    pub inference_weight_bytes: u64,
    /// Bytes of activations when predicting (one image at a time).
    pub inference_activation_bytes: u64,
    /// Bytes of weights, gradients, momentum and activations of a training step.
    pub training_bytes: u64,
}

/// Cost of a graph with these weights on `batch` images of `size`, `(z, y, x)`.
pub(crate) fn cost(
    graph: &Graph,
    parameters: &[Parameter],
    size: [usize; 3],
    batch: usize,
    storage: Storage,
) -> Cost {
    let values: usize = parameters.iter().map(|p| p.shape.iter().product::<usize>()).sum();
    let weights = 4 * values as u64;
    let predicting = graph.keep_outputs(&[0]);
    let single = multiply_adds(&predicting, size);
    let first: u64 =
        graph.ops.iter().filter(|op| op.sources() == [0]).map(|op| op_multiply_adds(graph, op, size)).sum();
    Cost {
        multiply_adds: single * batch as u64,
        // The image needs no gradient, so its readers run twice instead of three times.
        training_multiply_adds: (3 * multiply_adds(graph, size) - first) * batch as u64,
        inference_weight_bytes: weights + packed_weights(&predicting, size),
        inference_activation_bytes: inference_activations(&predicting, size, storage),
        training_bytes: 3 * weights + training_activations(graph, size, batch, storage),
    }
}

fn multiply_adds(graph: &Graph, size: [usize; 3]) -> u64 {
    let layout = Layout::new(graph, 1, size, Storage::F32);
    graph.ops.iter().map(|op| of_layout(graph, &layout, op)).sum()
}

fn op_multiply_adds(graph: &Graph, op: &Op, size: [usize; 3]) -> u64 {
    of_layout(graph, &Layout::new(graph, 1, size, Storage::F32), op)
}

fn of_layout(graph: &Graph, layout: &Layout, op: &Op) -> u64 {
    let inputs: usize = op.sources().iter().map(|&source| graph.channels[source]).sum();
    let per_voxel = inputs * graph.channels[op.output()];
    let work = match op {
        Op::Conv { kernel, output, .. } => {
            layout.voxels(*output) * per_voxel * kernel.iter().product::<usize>()
        }
        Op::Up { output, .. } => layout.voxels(*output) * per_voxel,
        Op::AveragePool { source, .. } => layout.voxels(*source) * graph.channels[*source],
        Op::Add { output, .. } => layout.voxels(*output) * graph.channels[*output],
    };
    work as u64
}

/// The buffer pool of the executor, with numbers instead of memory.
#[derive(Default)]
struct Play {
    free: Vec<usize>,
    lent: Vec<Option<usize>>,
    grads: Vec<Option<usize>>,
    values: usize,
}

impl Play {
    fn new(graph: &Graph) -> Self {
        let none = vec![None; graph.channels.len()];
        Self { lent: none.clone(), grads: none, ..Self::default() }
    }

    fn take(&mut self, len: usize) -> usize {
        match fitting(&self.free, len) {
            Some(index) => self.free.swap_remove(index),
            None => {
                self.values += len;
                len
            }
        }
    }

    fn load(&mut self, graph: &Graph, layout: &Layout) {
        self.lent[0] = Some(self.take(layout.image_len(graph)));
    }

    fn compute(&mut self, layout: &Layout, tensor: TensorId) {
        self.lent[tensor] = Some(self.take(layout.words(tensor, 0)));
    }

    fn release(&mut self, tensor: TensorId) {
        self.free.extend(self.lent[tensor].take());
    }

    fn want_grad(&mut self, layout: &Layout, tensor: TensorId) {
        if self.grads[tensor].is_none() {
            self.grads[tensor] = Some(self.take(layout.len(tensor)));
        }
    }

    fn bytes(&self) -> u64 {
        4 * self.values as u64
    }
}

fn packed_weights(graph: &Graph, size: [usize; 3]) -> u64 {
    let layout = Layout::new(graph, 1, size, Storage::F32);
    let values = graph.ops.iter().zip(&layout.kernels).map(|(op, kernel)| match kernel {
        Kernel::Conv(conv) => conv.packed_len(layout.grids[op.sources()[0]]),
        Kernel::Up(up) => up.packed_len(),
        Kernel::AveragePool(_) | Kernel::Add(_) => 0,
    });
    4 * values.sum::<usize>() as u64
}

fn inference_activations(graph: &Graph, size: [usize; 3], storage: Storage) -> u64 {
    let layout = Layout::new(graph, 1, size, storage);
    let mut play = Play::new(graph);
    let plan = Plan::new(graph, &layout);
    let scratch = play.take(plan.scratch);
    play.load(graph, &layout);
    for (step, released) in plan.steps {
        match step {
            Step::Plain(op) => {
                let output = graph.ops[op].output();
                play.lent[output] = Some(play.take(layout.words(output, plan.slack[output])));
            }
            Step::Replacing(step) => {
                let op = &graph.ops[step.conv];
                play.lent[op.output()] = play.lent[op.sources()[step.replaced]].take();
            }
            Step::Head(op) => {
                let output = graph.ops[op].output();
                let [rows, x] = head_rows(&layout, output);
                let scratch = play.take(rows * x * padded(graph.channels[output]));
                play.free.push(scratch);
            }
        }
        released.into_iter().for_each(|tensor| play.release(tensor));
    }
    play.free.push(scratch);
    play.bytes()
}

fn training_activations(graph: &Graph, size: [usize; 3], batch: usize, storage: Storage) -> u64 {
    let layout = Layout::new(graph, batch, size, storage);
    let mut play = Play::new(graph);
    play.load(graph, &layout);
    graph.ops.iter().for_each(|op| play.compute(&layout, op.output()));
    graph.outputs.iter().for_each(|&output| play.want_grad(&layout, output));
    for (op, kernel) in graph.ops.iter().zip(&layout.kernels).rev() {
        if let Some(grad) = play.grads[op.output()].take() {
            let sources = op
                .sources()
                .iter()
                .filter(|&&source| source != 0 || matches!(kernel, Kernel::AveragePool(_)));
            sources.for_each(|&source| play.want_grad(&layout, source));
            play.free.push(grad);
        }
        play.release(op.output());
    }
    play.bytes()
}
