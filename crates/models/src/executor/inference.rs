//! Prediction: one image at a time, buffers released after their last reader and used again.

use super::layout::Layout;
use super::tensors::{Tensors, pack};
use crate::graph::{Graph, TensorId};
use crate::network::Network;
use crate::weights::Weights;
use galen_core::{Error, Result};
use galen_kernels::Packed;

/// A network with weights, ready for images. After the first image of a size, later ones allocate nothing.
#[derive(Debug)]
pub struct Inference {
    network: Network,
    graph: Graph,
    weights: Weights,
    /// Tensors that nobody reads after each operation.
    released: Vec<Vec<TensorId>>,
    tensors: Tensors,
    prepared: Option<Prepared>,
}

/// What depends on the image size.
#[derive(Debug)]
struct Prepared {
    size: [usize; 3],
    layout: Layout,
    packed: Vec<Option<Packed>>,
}

impl Inference {
    pub(crate) fn new(network: &Network, weights: Weights) -> Self {
        let graph = network.graph().keep_outputs(&[0]);
        let mut released = vec![Vec::new(); graph.ops.len()];
        for (tensor, last) in graph.last_reads().into_iter().enumerate() {
            if let Some(index) = last {
                released[index].push(tensor);
            }
        }
        let tensors = Tensors::new(&graph);
        Self { network: network.clone(), graph, weights, released, tensors, prepared: None }
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
        let prepared = match self.prepared.take() {
            Some(prepared) if prepared.size == size => prepared,
            _ => self.prepare(size),
        };
        self.tensors.load(&self.graph, &prepared.layout, image);
        for index in 0..self.graph.ops.len() {
            let packed = prepared.packed[index].as_ref();
            self.tensors.forward(&self.graph, &prepared.layout, index, &self.weights, packed);
            self.released[index].iter().for_each(|&tensor| self.tensors.release(tensor));
        }
        self.tensors.planes(&self.graph, &prepared.layout, self.graph.outputs[0], logits);
        self.tensors.release_all();
        self.prepared = Some(prepared);
        Ok(())
    }

    fn prepare(&mut self, size: [usize; 3]) -> Prepared {
        self.tensors.pool.trim();
        let layout = Layout::new(&self.graph, 1, size);
        let ops = self.graph.ops.iter().zip(&layout.kernels);
        let packed = ops.map(|(op, kernel)| pack(op, kernel, &layout, &self.weights)).collect();
        Prepared { size, layout, packed }
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
