//! Training: forward keeping one raw tensor per operation, loss, backward with hand-written gradients.

use super::inference::check_length;
use super::layout::{Kernel, Layout};
use super::planar;
use super::tensors::{Tensors, pack, planes, values};
use crate::graph::{Graph, Norm, Op, TensorId};
use crate::network::Network;
use crate::sgd::Sgd;
use crate::supervision::{Evaluation, LossSpec, StepResult, Targets};
use crate::weights::{Tensor, Weights};
use galen_core::{Error, Result};
use galen_kernels::buffer::Buffer;
use galen_kernels::loss::Hard;
use galen_kernels::{Sink, Storage, pool, residual};

/// A network with weights, their gradients and the activations of the last batch.
#[derive(Debug)]
pub struct Training {
    network: Network,
    graph: Graph,
    weights: Weights,
    /// Of the weights that the computed outputs depend on.
    gradients: Weights,
    loss: LossSpec,
    /// Of the activations that are kept for the gradients.
    storage: Storage,
    tensors: Tensors,
    /// Gradient with respect to each tensor as its readers see it (norm and activation applied).
    grads: Vec<Option<Buffer>>,
    prepared: Option<(usize, [usize; 3], Layout)>,
}

impl Training {
    pub(crate) fn new(network: &Network, weights: Weights, loss: LossSpec) -> Self {
        let graph = network.graph().keep_outputs(&loss.scales());
        let mut used = std::collections::HashSet::new();
        for op in &graph.ops {
            used.extend(weight_names(op));
        }
        let parameters = network.parameters().iter().filter(|p| used.contains(p.name.as_str()));
        let gradients = parameters.map(|p| (p.name.clone(), Tensor::filled(&p.shape, 0.0))).collect();
        let tensors = Tensors::new(&graph);
        let mut grads = Vec::new();
        grads.resize_with(graph.channels.len(), || None);
        let network = network.clone();
        let storage = Storage::F32;
        Self { network, graph, weights, gradients, loss, storage, tensors, grads, prepared: None }
    }

    /// With activations kept like this for the gradients; the arithmetic and the gradients stay in single precision.
    #[must_use]
    pub fn stored(mut self, storage: Storage) -> Self {
        (self.storage, self.prepared) = (storage, None);
        self
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Current weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Current weights, to be changed. Shapes must stay.
    pub fn weights_mut(&mut self) -> &mut Weights {
        &mut self.weights
    }

    /// Gradients of the last step. A head of an output that does not count has none.
    pub fn gradients(&self) -> &Weights {
        &self.gradients
    }

    /// Lets an optimiser change the weights; returns the gradient norm before clipping.
    pub fn update(&mut self, sgd: &mut Sgd, rate: f64) -> f64 {
        sgd.step(&mut self.weights, &self.gradients, rate)
    }

    /// Loss and gradients of a batch: `images` are `[n, inputs, z, y, x]` of `size`, `targets` one per
    /// network output, full resolution first.
    pub fn step(
        &mut self,
        images: &[f32],
        n: usize,
        size: [usize; 3],
        targets: &[Targets],
    ) -> Result<StepResult> {
        self.check_targets(n, size, targets)?;
        self.run_forward(images, n, size)?;
        let mut loss = 0.0;
        for (output, scale) in self.loss.scales().into_iter().enumerate() {
            let tensor = self.graph.outputs[output];
            let labels = &targets[scale].labels;
            let truth = self.loss.truth(labels, self.network.outputs())?;
            let shape = [n, self.network.outputs()];
            let weight = self.loss.scale_weights[scale];
            let length = self.tensors.output(tensor).len();
            let mut grad = self.tensors.pool.take(length);
            let compared = truth.compare(labels, self.tensors.output(tensor), shape, self.loss.batch_dice);
            loss += weight * compared.gradient(weight, &mut grad);
            self.grads[tensor] = Some(grad);
        }
        self.run_backward(false);
        self.tensors.release_all();
        Ok(StepResult { loss })
    }

    /// Loss and hits of a batch, without gradients.
    pub fn evaluate(
        &mut self,
        images: &[f32],
        n: usize,
        size: [usize; 3],
        targets: &[Targets],
    ) -> Result<Evaluation> {
        self.check_targets(n, size, targets)?;
        self.run_forward(images, n, size)?;
        let mut evaluation = Evaluation { loss: 0.0, counts: Vec::new() };
        for (output, scale) in self.loss.scales().into_iter().enumerate() {
            let labels = &targets[scale].labels;
            let truth = self.loss.truth(labels, self.network.outputs())?;
            let logits = self.tensors.output(self.graph.outputs[output]);
            let compared = truth.compare(labels, logits, [n, self.network.outputs()], self.loss.batch_dice);
            evaluation.loss += self.loss.scale_weights[scale] * compared.value();
            if scale == 0 {
                let background = usize::from(self.loss.regions.is_none());
                let counts: Vec<Hard> = compared.hard_counts();
                evaluation.counts = counts[background..].to_vec();
            }
        }
        self.tensors.release_all();
        Ok(evaluation)
    }

    /// All outputs that count, `[n, outputs, z, y, x]` each, full resolution first. The activations stay for
    /// [`Self::backward`].
    pub fn forward(&mut self, images: &[f32], n: usize, size: [usize; 3]) -> Result<Vec<Vec<f32>>> {
        self.run_forward(images, n, size)?;
        let Some((_, _, layout)) = &self.prepared else { return Ok(Vec::new()) };
        let outputs = self.graph.outputs.iter().map(|&tensor| {
            let mut out = vec![0.0; n * self.graph.channels[tensor] * layout.voxels(tensor)];
            self.tensors.planes(&self.graph, layout, tensor, &mut out);
            out
        });
        Ok(outputs.collect())
    }

    /// Gradients of `sum(output * cotangent)` after [`Self::forward`]: of the weights, in
    /// [`Self::gradients`], and of the images, returned as `[n, inputs, z, y, x]`.
    pub fn backward(&mut self, cotangents: &[Vec<f32>]) -> Result<Vec<f32>> {
        let Some((n, size, layout)) = &self.prepared else {
            return Err(Error::bug("training", "backward before forward"));
        };
        let (n, voxels) = (*n, size.iter().product::<usize>());
        check_length("cotangents", cotangents.len(), self.graph.outputs.len())?;
        for (&tensor, cotangent) in self.graph.outputs.iter().zip(cotangents) {
            let channels = self.graph.channels[tensor];
            check_length("cotangent", cotangent.len(), n * channels * layout.voxels(tensor))?;
            let mut grad = self.tensors.pool.take(layout.len(tensor));
            let samples = cotangent.chunks_exact(cotangent.len() / n);
            for (planes, grad) in samples.zip(grad.chunks_exact_mut(layout.len(tensor) / n)) {
                planar::to_channels_last(planes, channels, grad);
            }
            self.grads[tensor] = Some(grad);
        }
        self.run_backward(true);
        let mut out = vec![0.0; n * self.network.inputs() * voxels];
        if let Some(grad) = self.grads[0].take() {
            planes(&grad, n, self.network.inputs(), &mut out);
            self.tensors.pool.give(grad);
        }
        self.tensors.release_all();
        Ok(out)
    }

    /// Bytes of activation memory held.
    pub fn activation_bytes(&self) -> usize {
        self.tensors.pool.bytes()
    }

    fn check_targets(&self, n: usize, size: [usize; 3], targets: &[Targets]) -> Result<()> {
        let sizes = self.network.output_sizes(size);
        check_length("target resolutions", targets.len(), sizes.len())?;
        for (target, size) in targets.iter().zip(sizes) {
            if target.size != size {
                let what = format!("{:?} (z, y, x), expected {size:?}", target.size);
                return Err(Error::input("target size", what, "make the targets from the patch size"));
            }
            check_length("target labels", target.labels.len(), n * size.iter().product::<usize>())?;
        }
        Ok(())
    }

    fn run_forward(&mut self, images: &[f32], n: usize, size: [usize; 3]) -> Result<()> {
        self.network.check_size(size)?;
        let voxels: usize = size.iter().product();
        check_length("images", images.len(), n * self.network.inputs() * voxels)?;
        if n == 0 {
            return Err(Error::input("batch", "no images", "use a batch size of 1 or more"));
        }
        self.tensors.release_all();
        let layout = match self.prepared.take() {
            Some((was_n, was_size, layout)) if (was_n, was_size) == (n, size) => layout,
            _ => {
                self.tensors.pool.trim();
                Layout::new(&self.graph, n, size, self.storage)
            }
        };
        self.tensors.load(&self.graph, &layout, images);
        for (index, op) in self.graph.ops.iter().enumerate() {
            let packed = pack(op, &layout.kernels[index], &layout, &self.weights);
            self.tensors.forward(&self.graph, &layout, index, &self.weights, packed.as_ref(), 0);
        }
        self.prepared = Some((n, size, layout));
        Ok(())
    }

    /// Walks the operations backwards. Gradients of the outputs are in `grads`; tensors are released as soon
    /// as the operation that made them is done.
    fn run_backward(&mut self, of_image: bool) {
        let Some(prepared) = self.prepared.take() else { return };
        for index in (0..self.graph.ops.len()).rev() {
            let output = self.graph.ops[index].output();
            if let Some(grad) = self.grads[output].take() {
                self.backward_op(&prepared.2, index, grad, of_image);
            }
            self.tensors.release(output);
        }
        self.prepared = Some(prepared);
    }

    /// Turns the gradient of an operation's output into those of its weights and sources.
    fn backward_op(&mut self, layout: &Layout, index: usize, mut grad: Buffer, of_image: bool) {
        let op = self.graph.ops[index].clone();
        let input = layout.grids[op.sources()[0]];
        match (&op, &layout.kernels[index]) {
            (Op::Conv { sources, output, weight, bias, norm, .. }, Kernel::Conv(conv)) => {
                if let Some(norm) = norm {
                    self.backward_norm(layout, *output, norm, &mut grad);
                }
                // Behind a norm the bias has no effect; its gradient stays the zero that it was made with.
                let bias = bias.as_ref().filter(|_| norm.is_none());
                self.backward_weights(weight, bias, |training, dw, db| {
                    let source = |&source: &TensorId| training.tensors.source(&training.graph, source);
                    conv.weight_gradient(
                        input,
                        &sources.iter().map(source).collect::<Vec<_>>(),
                        &grad,
                        dw,
                        db,
                    );
                });
                if of_image || sources.iter().any(|&source| source != 0) {
                    let packed = conv.pack_gradient(values(&self.weights, weight), input);
                    self.backward_sources(layout, sources, of_image, |sinks| {
                        conv.input_gradient(input, &grad, &packed, sinks);
                    });
                }
            }
            (Op::Up { source, weight, bias, .. }, Kernel::Up(up)) => {
                self.backward_weights(weight, bias.as_ref(), |training, dw, db| {
                    let source = training.tensors.source(&training.graph, *source);
                    up.weight_gradient(input, &source, &grad, dw, db);
                });
                let packed = up.pack_gradient(values(&self.weights, weight), input);
                self.backward_sources(layout, &[*source], true, |sinks| {
                    sinks.iter_mut().filter_map(Option::take).for_each(|sink| {
                        up.input_gradient(input, &grad, &packed, sink);
                    });
                });
            }
            (Op::AveragePool { source, .. }, Kernel::AveragePool(window)) => {
                self.backward_sources(layout, &[*source], true, |sinks| {
                    sinks.iter_mut().filter_map(Option::take).for_each(|sink| {
                        pool::average_pool_gradient(input, *window, &grad, sink);
                    });
                });
            }
            (Op::Add { sources, output, .. }, Kernel::Add(slope)) => {
                residual::add_gradient(*slope, self.tensors.raw(*output), &mut grad);
                sources.iter().for_each(|&source| self.add_to_gradient(source, &grad));
            }
            _ => unreachable!("kernels are made from the operations"),
        }
        self.tensors.pool.give(grad);
    }

    /// Lends the gradients of a weight and a bias to `write`.
    fn backward_weights(
        &mut self,
        weight: &str,
        bias: Option<&String>,
        write: impl FnOnce(&Self, &mut [f32], Option<&mut [f32]>),
    ) {
        let mut dw = self.take_gradient(weight);
        let mut db = bias.map(|name| self.take_gradient(name));
        write(self, &mut dw, db.as_deref_mut());
        self.put_gradient(weight, dw);
        if let (Some(name), Some(db)) = (bias, db) {
            self.put_gradient(name, db);
        }
    }

    /// Lends the gradients of tensors to `write`; that of the image only when it is wanted.
    fn backward_sources(
        &mut self,
        layout: &Layout,
        sources: &[TensorId],
        of_image: bool,
        write: impl FnOnce(&mut [Option<Sink>]),
    ) {
        let mut lent: Vec<Option<(Buffer, bool)>> = Vec::with_capacity(sources.len());
        for &source in sources {
            lent.push((of_image || source != 0).then(|| self.sink(layout, source)));
        }
        let mut sinks: Vec<Option<Sink>> = Vec::with_capacity(sources.len());
        for (lent, &source) in lent.iter_mut().zip(sources) {
            let channels = self.graph.channels[source];
            sinks.push(lent.as_mut().map(|(values, add)| Sink { values, channels, add: *add }));
        }
        write(&mut sinks);
        drop(sinks);
        for (lent, &source) in lent.into_iter().zip(sources) {
            self.grads[source] = lent.map(|(buffer, _)| buffer);
        }
    }

    /// Adds the gradient of a sum to that of one of its terms.
    fn add_to_gradient(&mut self, tensor: TensorId, grad: &Buffer) {
        if let Some(total) = &mut self.grads[tensor] {
            return residual::accumulate(total, grad);
        }
        let mut copy = self.tensors.pool.take(grad.len());
        copy.copy_from_slice(grad);
        self.grads[tensor] = Some(copy);
    }

    /// Gradient behind norm and activation to gradient of the raw tensor, in place.
    fn backward_norm(&mut self, layout: &Layout, output: TensorId, norm: &Norm, grad: &mut Buffer) {
        let names = norm.weight.as_ref().zip(norm.bias.as_ref());
        let mut affine = names.map(|(weight, bias)| (self.take_gradient(weight), self.take_gradient(bias)));
        let parameters = affine.as_mut().map(|(dw, db)| (dw.as_mut_slice(), db.as_mut_slice()));
        if let Some(state) = &self.tensors.norms[output] {
            let (channels, voxels) = (self.graph.channels[output], layout.voxels(output));
            let slope = self.tensors.slope(output);
            state.backward(channels, voxels, slope, self.tensors.raw(output), grad, parameters);
        }
        if let (Some((weight, bias)), Some((dw, db))) = (names, affine) {
            self.put_gradient(weight, dw);
            self.put_gradient(bias, db);
        }
    }

    /// Where the gradient of a tensor goes: a new buffer, or the one of another reader to add to.
    fn sink(&mut self, layout: &Layout, tensor: TensorId) -> (Buffer, bool) {
        match self.grads[tensor].take() {
            Some(buffer) => (buffer, true),
            None => (self.tensors.pool.take(layout.len(tensor)), false),
        }
    }

    fn take_gradient(&mut self, name: &str) -> Vec<f32> {
        self.gradients.get_mut(name).map(|tensor| std::mem::take(&mut tensor.values)).unwrap_or_default()
    }

    fn put_gradient(&mut self, name: &str, values: Vec<f32>) {
        if let Some(tensor) = self.gradients.get_mut(name) {
            tensor.values = values;
        }
    }
}

/// Names of the weights that an operation reads.
fn weight_names(op: &Op) -> Vec<&str> {
    let names = match op {
        Op::Conv { weight, bias, norm, .. } => {
            let (scale, shift) =
                norm.as_ref().map_or((None, None), |norm| (norm.weight.as_ref(), norm.bias.as_ref()));
            [Some(weight), bias.as_ref(), scale, shift]
        }
        Op::Up { weight, bias, .. } => [Some(weight), bias.as_ref(), None, None],
        Op::AveragePool { .. } | Op::Add { .. } => [None; 4],
    };
    names.into_iter().flatten().map(String::as_str).collect()
}
