//! A network of a plan: its operations, its weights by name, and what can be done with them.

use crate::cost::Cost;
use crate::executor::{Inference, Training};
use crate::graph::{Graph, Parameter};
use crate::supervision::LossSpec;
use crate::weights::Weights;
use crate::{initial_weights, plain_conv_unet, residual_encoder_unet};
use galen_core::{Architecture, Error, NetworkClass, Result};
use galen_kernels::Storage;
use std::sync::Arc;

/// A U-Net without weights; cheap to clone.
#[derive(Debug, Clone)]
pub struct Network {
    architecture: Arc<Architecture>,
    inputs: usize,
    outputs: usize,
    graph: Arc<Graph>,
    parameters: Arc<Vec<Parameter>>,
}

impl Network {
    /// Builds the network of a plan for `inputs` image channels and `outputs` classes or regions.
    pub fn new(architecture: &Architecture, inputs: usize, outputs: usize) -> Result<Self> {
        check_architecture(architecture, inputs, outputs)?;
        let (graph, parameters) = match architecture.class {
            NetworkClass::PlainConvUNet => plain_conv_unet::build(architecture, inputs, outputs),
            NetworkClass::ResidualEncoderUNet => residual_encoder_unet::build(architecture, inputs, outputs),
        };
        let (graph, parameters) = (Arc::new(graph), Arc::new(parameters));
        Ok(Self { architecture: Arc::new(architecture.clone()), inputs, outputs, graph, parameters })
    }

    /// What it was built from.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Image channels.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Classes or regions.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Operations, for an executor.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Weights that it needs, in the order in which PyTorch lists its parameters.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Number of trainable values.
    pub fn parameter_count(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.shape.iter().product::<usize>()).sum()
    }

    /// Number of deep-supervision outputs.
    pub fn scales(&self) -> usize {
        self.graph.outputs.len()
    }

    /// Sizes of the deep-supervision outputs for an image of `size`, `(z, y, x)`, full resolution first.
    pub fn output_sizes(&self, size: [usize; 3]) -> Vec<[usize; 3]> {
        let mut sizes = vec![size];
        for stage in 1..self.scales() {
            let (last, stride) = (sizes[stage - 1], self.architecture.stride3(stage));
            sizes.push(std::array::from_fn(|axis| last[axis] / stride[axis]));
        }
        sizes
    }

    /// Starting weights; the same seed gives the same bytes.
    pub fn initial_weights(&self, seed: u64) -> Weights {
        initial_weights::initial_weights(&self.parameters, seed)
    }

    /// Checks that weights are those of this network: all there, none too many, shapes right.
    pub fn check(&self, weights: &Weights) -> Result<()> {
        let mut wrong = Vec::new();
        for parameter in self.parameters.iter() {
            match weights.get(&parameter.name) {
                None => wrong.push(format!("{} is missing", parameter.name)),
                Some(tensor) if tensor.shape != parameter.shape => {
                    wrong.push(format!(
                        "{} is {:?}, expected {:?}",
                        parameter.name, tensor.shape, parameter.shape
                    ));
                }
                Some(_) => {}
            }
        }
        if weights.len() + wrong.len() > self.parameters.len() {
            let known: std::collections::HashSet<&str> =
                self.parameters.iter().map(|p| p.name.as_str()).collect();
            let extra = weights.iter().filter(|(name, _)| !known.contains(name));
            wrong.extend(extra.map(|(name, _)| format!("{name} is not part of the network")));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let more = if wrong.len() > 4 { format!(" and {} more", wrong.len() - 4) } else { String::new() };
        wrong.truncate(4);
        let what = format!("they do not fit the network: {}{more}", wrong.join("; "));
        Err(Error::input(
            "weights",
            what,
            "use the plan and the configuration that these weights were trained with",
        ))
    }

    /// Checks that the network can take images of `size`, `(z, y, x)`.
    pub fn check_size(&self, size: [usize; 3]) -> Result<()> {
        let divisor = self.architecture.divisor();
        let show = |[z, y, x]: [usize; 3]| format!("{z} x {y} x {x}");
        if self.architecture.dimensions() == 2 && size[0] != 1 {
            let what = format!("the network is 2D, but the patch is {} (z, y, x)", show(size));
            return Err(Error::input("patch size", what, "give it one slice at a time"));
        }
        if size.iter().zip(divisor).any(|(&length, divisor)| length == 0 || length % divisor != 0) {
            let flat = if size[0] == 1 && divisor[0] > 1 { " (a 3D network on a 2D image)" } else { "" };
            let what = format!("{} (z, y, x) is no multiple of {}{flat}", show(size), show(divisor));
            return Err(Error::input("patch size", what, "pad the image, or use the patch size of the plan"));
        }
        Ok(())
    }

    /// Prepares prediction with these weights.
    pub fn inference(&self, weights: Weights) -> Result<Inference> {
        self.check(&weights)?;
        Ok(Inference::new(self, weights))
    }

    /// Prepares training that starts from these weights.
    pub fn training(&self, weights: Weights, loss: LossSpec) -> Result<Training> {
        self.check(&weights)?;
        loss.check(self.scales(), self.outputs)?;
        Ok(Training::new(self, weights, loss))
    }

    /// What one pass over `batch` images of `size`, `(z, y, x)`, costs.
    pub fn cost(&self, size: [usize; 3], batch: usize) -> Cost {
        self.cost_stored(size, batch, Storage::F32)
    }

    /// As [`Self::cost`], with activations stored like this.
    pub fn cost_stored(&self, size: [usize; 3], batch: usize, storage: Storage) -> Cost {
        crate::cost::cost(&self.graph, &self.parameters, size, batch, storage)
    }
}

fn check_architecture(a: &Architecture, inputs: usize, outputs: usize) -> Result<()> {
    let bad = |what: String| Err(Error::input("architecture", what, "make the plan again, or correct it"));
    let (stages, dimensions) = (a.features.len(), a.dimensions());
    if stages < 2 || !(2..=3).contains(&dimensions) {
        return bad(format!(
            "{stages} stages in {dimensions} dimensions, expected 2 or more stages in 2 or 3"
        ));
    }
    let lengths = [a.kernels.len(), a.strides.len(), a.encoder_depth.len(), a.decoder_depth.len() + 1];
    if lengths.iter().any(|&length| length != stages) {
        return bad(format!(
            "{stages} stages of features, but {} of kernels, {} of strides, {} of encoder and {} of decoder depth",
            lengths[0],
            lengths[1],
            lengths[2],
            a.decoder_depth.len()
        ));
    }
    if a.kernels.iter().chain(&a.strides).any(|axes| axes.len() != dimensions) {
        return bad("kernels and strides mix 2 and 3 dimensions".into());
    }
    if a.kernels.iter().flatten().any(|kernel| kernel % 2 == 0) {
        return bad("an even kernel, expected odd ones".into());
    }
    if a.strides.iter().flatten().any(|&stride| stride == 0) || a.strides[0].iter().any(|&stride| stride != 1)
    {
        return bad("a stride of 0, or a first stage with a stride".into());
    }
    let counts = a.features.iter().chain(&a.encoder_depth).chain(&a.decoder_depth).chain([&inputs, &outputs]);
    if counts.into_iter().any(|&count| count == 0) {
        return bad("zero features, blocks, inputs or outputs".into());
    }
    if !((0.0..=1.0).contains(&a.leak) && a.norm_eps >= 0.0 && a.norm_eps.is_finite()) {
        return bad(format!("a slope of {} (0 to 1) or an epsilon of {} (0 or more)", a.leak, a.norm_eps));
    }
    // Far beyond any network; what is larger is a damaged plan, and building it would take all memory.
    let largest = |values: &[usize]| values.iter().copied().max().unwrap_or(0);
    let flat = |axes: &[Vec<usize>]| axes.iter().flatten().copied().max().unwrap_or(0);
    for (name, found, most) in [
        ("stages", stages, 32),
        ("features", largest(&a.features).max(inputs).max(outputs), 1 << 16),
        ("blocks in a stage", largest(&a.encoder_depth).max(largest(&a.decoder_depth)), 1000),
        ("kernel", flat(&a.kernels), 63),
        ("stride", flat(&a.strides), 64),
    ] {
        if found > most {
            return bad(format!("{name}: {found}, expected at most {most}"));
        }
    }
    Ok(())
}
