//! A network's op list walked with Burn tensors.

use crate::bodies::convolution::{convolution, transposed};
use crate::bodies::norm::instance_norm;
use crate::bodies::pool::average_pool;
use crate::device::Place;
use burn_tensor::{Device, Tensor, TensorData, activation};
use galen_core::{Error, Result};
use galen_models::graph::{Graph, Norm, Op};
use galen_models::{Network, Weights};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A network with its weights on a device.
#[derive(Debug)]
pub struct Accelerated {
    network: Network,
    /// What the output of full resolution needs.
    inference: Graph,
    place: Place,
    device: Device,
    weights: HashMap<String, Tensor<5>>,
}

impl Accelerated {
    /// Copies the weights to the device.
    pub fn new(network: &Network, weights: &Weights, place: Place) -> Result<Self> {
        Self::on(network, weights, place, place.device()?)
    }

    /// As [`Self::new`], on a device with automatic differentiation: see [`Self::gradients`].
    pub fn differentiable(network: &Network, weights: &Weights, place: Place) -> Result<Self> {
        let mut own = Self::on(network, weights, place, place.device()?.autodiff())?;
        own.weights.values_mut().for_each(|weight| *weight = weight.clone().require_grad());
        Ok(own)
    }

    fn on(network: &Network, weights: &Weights, place: Place, device: Device) -> Result<Self> {
        network.check(weights)?;
        let tensor = |(name, tensor): (&str, &galen_models::Tensor)| {
            let data = TensorData::new(tensor.values.clone(), five(&tensor.shape));
            (name.to_owned(), Tensor::from_data(data, &device))
        };
        let on_device = guarded(network, place, || Ok(weights.iter().map(tensor).collect()))?;
        let inference = network.graph().keep_outputs(&[0]);
        Ok(Self { network: network.clone(), inference, place, device, weights: on_device })
    }

    /// Logits `[outputs, z, y, x]` of an image `[inputs, z, y, x]` of `size`, `(z, y, x)`. Where the device refuses, such
    /// as for lack of memory, the error names network and device.
    pub fn forward(&self, image: &[f32], size: [usize; 3]) -> Result<Vec<f32>> {
        guarded(&self.network, self.place, || {
            let mut outputs = self.run(&self.inference, self.image(image, 1, size)?);
            let output = outputs.pop().ok_or_else(|| Error::bug("network", "no output"))?;
            self.values(output)
        })
    }

    /// All outputs `[n, outputs, z, y, x]` of deep supervision, full resolution first, of images `[n, inputs, z, y, x]`.
    pub fn forward_all(&self, images: &[f32], n: usize, size: [usize; 3]) -> Result<Vec<Vec<f32>>> {
        guarded(&self.network, self.place, || {
            let outputs = self.run(self.network.graph(), self.image(images, n, size)?);
            outputs.into_iter().map(|output| self.values(output)).collect()
        })
    }

    /// Gradients of `sum(output · cotangent)` over all outputs: of the weights, by name, and of the images,
    /// `[n, inputs, z, y, x]`. Needs [`Self::differentiable`].
    pub fn gradients(
        &self,
        images: &[f32],
        n: usize,
        size: [usize; 3],
        cotangents: &[Vec<f32>],
    ) -> Result<(HashMap<String, Vec<f32>>, Vec<f32>)> {
        if !self.device.is_autodiff() {
            return Err(Error::bug("gradients", "the network was not made differentiable"));
        }
        let image = self.image(images, n, size)?.require_grad();
        let outputs = self.run(self.network.graph(), image.clone());
        if outputs.len() != cotangents.len() {
            let what = format!("{} for {} outputs", cotangents.len(), outputs.len());
            return Err(Error::input("cotangents", what, "give one per output"));
        }
        let terms = outputs.into_iter().zip(cotangents).map(|(output, cotangent)| {
            let data = TensorData::new(cotangent.clone(), output.dims());
            (output * Tensor::<5>::from_data(data, &self.device)).sum()
        });
        let total = terms.reduce(|total, term| total + term);
        let grads = total.ok_or_else(|| Error::bug("network", "no output"))?.backward();
        let mut found = HashMap::new();
        for (name, weight) in &self.weights {
            // A weight that no output depends on, such as a bias before a norm, has none.
            if let Some(grad) = weight.grad(&grads) {
                found.insert(name.clone(), self.values(grad)?);
            }
        }
        let of_image = image.grad(&grads).map_or_else(|| Ok(vec![0.0; images.len()]), |g| self.values(g))?;
        Ok((found, of_image))
    }

    fn image(&self, images: &[f32], n: usize, size: [usize; 3]) -> Result<Tensor<5>> {
        self.network.check_size(size)?;
        let expected = n * self.network.inputs() * size.iter().product::<usize>();
        if images.len() != expected || n == 0 {
            let what =
                format!("{} values, expected {expected} (images x channels x z x y x x)", images.len());
            return Err(Error::input("image", what, "check the number of channels and the patch size"));
        }
        let shape = [n, self.network.inputs(), size[0], size[1], size[2]];
        Ok(Tensor::from_data(TensorData::new(images.to_vec(), shape), &self.device))
    }

    /// Outputs of a graph; tensors go as soon as nobody reads them any more.
    fn run(&self, graph: &Graph, image: Tensor<5>) -> Vec<Tensor<5>> {
        let last = graph.last_reads();
        let mut tensors: Vec<Option<Tensor<5>>> = vec![None; graph.channels.len()];
        tensors[0] = Some(image);
        for (index, op) in graph.ops.iter().enumerate() {
            let sources: Vec<Tensor<5>> = op.sources().iter().filter_map(|&s| tensors[s].clone()).collect();
            for &source in op.sources() {
                if last[source] == Some(index) {
                    tensors[source] = None;
                }
            }
            tensors[op.output()] = Some(self.apply(op, sources));
        }
        graph.outputs.iter().filter_map(|&output| tensors[output].clone()).collect()
    }

    fn apply(&self, op: &Op, mut sources: Vec<Tensor<5>>) -> Tensor<5> {
        match op {
            Op::Conv { weight, bias, stride, norm, .. } => {
                let x = if sources.len() == 1 { sources.remove(0) } else { Tensor::cat(sources, 1) };
                // A norm takes the mean away, and with it any bias.
                let bias = bias.as_ref().filter(|_| norm.is_none()).map(|name| self.vector(name));
                let y = convolution(x, self.weights[weight].clone(), bias, *stride, 1);
                match norm {
                    Some(norm) => self.normed(y, norm),
                    None => y,
                }
            }
            Op::Up { weight, bias, .. } => {
                let bias = bias.as_ref().map(|name| self.vector(name));
                transposed(sources.remove(0), self.weights[weight].clone(), bias)
            }
            Op::AveragePool { window, .. } => average_pool(sources.remove(0), *window),
            Op::Add { slope, .. } => {
                let a = sources.remove(0);
                activation::leaky_relu(a + sources.remove(0), f64::from(*slope))
            }
        }
    }

    fn normed(&self, x: Tensor<5>, norm: &Norm) -> Tensor<5> {
        let part = |name: &Option<String>| name.as_ref().map(|name| self.vector(name));
        let y = instance_norm(x, part(&norm.weight), part(&norm.bias), norm.eps);
        if norm.slope == 1.0 { y } else { activation::leaky_relu(y, f64::from(norm.slope)) }
    }

    /// A weight of one axis. The network checked that all weights are there.
    fn vector(&self, name: &str) -> Tensor<1> {
        self.weights[name].clone().flatten(0, 4)
    }

    fn values(&self, tensor: Tensor<5>) -> Result<Vec<f32>> {
        tensor
            .try_into_vec_as::<f32>()
            .map_err(|error| refusal(&self.network, self.place, &error.to_string()))
    }
}

/// Shapes as five axes: kernels of 2D networks get a z axis, vectors lie along the first axis.
fn five(shape: &[usize]) -> [usize; 5] {
    match *shape {
        [o, i, z, y, x] => [o, i, z, y, x],
        [o, i, y, x] => [o, i, 1, y, x],
        _ => [shape.iter().product(), 1, 1, 1, 1],
    }
}

/// Drivers that run out of memory make Burn panic; here that is an error like any other.
fn guarded<T>(network: &Network, place: Place, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(refusal(network, place, text.unwrap_or("the driver gave up")))
    })
}

fn refusal(network: &Network, place: Place, what: &str) -> Error {
    let class = network.architecture().class;
    Error::input(format!("{class:?} on {place}"), what, "run it on the CPU, or on a device with more memory")
}
