//! Prediction: one image at a time, buffers released after their last reader and used again.

use super::layout::Layout;
use super::steps::{Plan, Step};
use super::tensors::{Tensors, pack};
use crate::graph::{Graph, Op};
use crate::network::Network;
use crate::weights::Weights;
use galen_core::{Error, Result};
use galen_kernels::{Packed, Storage};

/// A network with weights, ready for images. After the first image of a size, later ones allocate nothing.
#[derive(Debug)]
pub struct Inference {
    network: Network,
    graph: Graph,
    weights: Weights,
    /// Of everything between the image and the logits.
    storage: Storage,
    tensors: Tensors,
    prepared: Option<Prepared>,
    /// The only size that is left to run.
    fixed: Option<[usize; 3]>,
}

/// What depends on the image size.
#[derive(Debug)]
struct Prepared {
    size: [usize; 3],
    layout: Layout,
    packed: Vec<Option<Packed>>,
    plan: Plan,
}

impl Inference {
    pub(crate) fn new(network: &Network, weights: Weights) -> Self {
        let graph = network.graph().keep_outputs(&[0]);
        let tensors = Tensors::new(&graph);
        Self {
            network: network.clone(),
            graph,
            weights,
            storage: Storage::F32,
            tensors,
            prepared: None,
            fixed: None,
        }
    }

    /// With activations stored like this; the arithmetic stays in single precision.
    #[must_use]
    pub fn stored(mut self, storage: Storage) -> Self {
        (self.storage, self.prepared) = (storage, None);
        self
    }

    /// For images of this size alone, `(z, y, x)`: the weights of convolutions are kept in the order of the kernels only.
    pub fn fixed(mut self, size: [usize; 3]) -> Result<Self> {
        self.network.check_size(size)?;
        self.prepared = Some(self.prepare(size));
        for op in &self.graph.ops {
            if let Op::Conv { weight, .. } | Op::Up { weight, .. } = op
                && let Some(tensor) = self.weights.get_mut(weight)
            {
                tensor.values = Vec::new();
            }
        }
        self.fixed = Some(size);
        Ok(self)
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Logits `[outputs, z, y, x]` of an image `[inputs, z, y, x]` of `size`, `(z, y, x)`.
    pub fn forward(&mut self, image: &[f32], size: [usize; 3]) -> Result<Vec<f32>> {
        let mut logits = vec![0.0; self.network.outputs() * size.iter().product::<usize>()];
        self.forward_into(image, size, &mut logits)?;
        Ok(logits)
    }

    /// As [`Self::forward`], into memory of the caller.
    pub fn forward_into(&mut self, image: &[f32], size: [usize; 3], logits: &mut [f32]) -> Result<()> {
        self.network.check_size(size)?;
        let voxels: usize = size.iter().product();
        check_length("image", image.len(), self.network.inputs() * voxels)?;
        check_length("logits", logits.len(), self.network.outputs() * voxels)?;
        if let Some(only) = self.fixed.filter(|&only| only != size) {
            let what = format!("{size:?} voxels (z, y, x), the network was prepared for {only:?}");
            return Err(Error::input("patch", what, "prepare it for this size"));
        }
        let prepared = match self.prepared.take() {
            Some(prepared) if prepared.size == size => prepared,
            _ => self.prepare(size),
        };
        let Prepared { layout, packed, plan, .. } = &prepared;
        let (graph, weights) = (&self.graph, &self.weights);
        let mut scratch = self.tensors.pool.take(plan.scratch);
        self.tensors.load(graph, layout, image);
        for (step, released) in &plan.steps {
            match step {
                Step::Plain(op) => {
                    let slack = plan.slack[graph.ops[*op].output()];
                    self.tensors.forward(graph, layout, *op, weights, packed[*op].as_ref(), slack);
                }
                Step::Replacing(step) => {
                    self.tensors.replace(graph, layout, step, weights, packed, &mut scratch);
                }
                Step::Head(op) => {
                    self.tensors.head(graph, layout, *op, weights, packed[*op].as_ref(), logits);
                }
            }
            released.iter().for_each(|&tensor| self.tensors.release(tensor));
        }
        if !plan.steps.iter().any(|(step, _)| matches!(step, Step::Head(_))) {
            self.tensors.planes(graph, layout, graph.outputs[0], logits);
        }
        self.tensors.pool.give(scratch);
        self.tensors.release_all();
        self.prepared = Some(prepared);
        Ok(())
    }

    fn prepare(&mut self, size: [usize; 3]) -> Prepared {
        self.tensors.pool.trim();
        let layout = Layout::new(&self.graph, 1, size, self.storage);
        let ops = self.graph.ops.iter().zip(&layout.kernels);
        let packed = ops.map(|(op, kernel)| pack(op, kernel, &layout, &self.weights)).collect();
        let plan = Plan::new(&self.graph, &layout);
        Prepared { size, layout, packed, plan }
    }

    /// How often activation memory was asked from the system so far.
    pub fn allocations(&self) -> usize {
        self.tensors.pool.allocations()
    }

    /// Bytes of activation memory held.
    pub fn activation_bytes(&self) -> usize {
        self.tensors.pool.bytes()
    }
}

/// One clear error for a slice of the wrong length.
pub(crate) fn check_length(what: &str, have: usize, want: usize) -> Result<()> {
    if have == want {
        return Ok(());
    }
    let message = format!("{have} values, expected {want} (channels x z x y x x)");
    Err(Error::input(what, message, "check the number of channels and the patch size"))
}
