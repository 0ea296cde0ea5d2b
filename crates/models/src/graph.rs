//! A network as a list of operations on numbered tensors: plain data that an executor walks.
//!
//! A convolution with a norm leaves its raw output behind; norm and activation are applied by whoever
//! reads that tensor. Concatenation is a convolution with several sources.

/// Number of a tensor in a [`Graph`]; tensor 0 is the image.
pub type TensorId = usize;

/// Instance norm and leaky ReLU that readers of a convolution's output apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// Name of the scale, `[channels]`; `None` without affine parameters.
    pub weight: Option<String>,
    /// Name of the shift, `[channels]`.
    pub bias: Option<String>,
    /// Added to the variance.
    pub eps: f64,
    /// Negative slope of the activation; 1 for a norm without activation.
    pub slope: f32,
}

/// One operation; every operation writes one new tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Convolution over the channels of all sources, padding `(k - 1) / 2`.
    Conv {
        /// Tensors read, channels concatenated in this order.
        sources: Vec<TensorId>,
        /// Tensor written.
        output: TensorId,
        /// Name of the weights, `[outputs, inputs, z, y, x]`.
        weight: String,
        /// Name of the bias, `[outputs]`.
        bias: Option<String>,
        /// Kernel, `(z, y, x)`.
        kernel: [usize; 3],
        /// Stride, `(z, y, x)`.
        stride: [usize; 3],
        /// What readers apply.
        norm: Option<Norm>,
    },
    /// Transposed convolution with kernel = stride.
    Up {
        /// Tensor read.
        source: TensorId,
        /// Tensor written.
        output: TensorId,
        /// Name of the weights, `[inputs, outputs, z, y, x]`.
        weight: String,
        /// Name of the bias, `[outputs]`.
        bias: Option<String>,
        /// Stride, `(z, y, x)`.
        stride: [usize; 3],
    },
    /// Average over windows that do not overlap.
    AveragePool {
        /// Tensor read.
        source: TensorId,
        /// Tensor written.
        output: TensorId,
        /// Window and stride, `(z, y, x)`.
        window: [usize; 3],
    },
    /// Sum of two tensors, then a leaky ReLU.
    Add {
        /// Tensors read.
        sources: [TensorId; 2],
        /// Tensor written.
        output: TensorId,
        /// Negative slope of the activation.
        slope: f32,
    },
}

impl Op {
    /// Tensors that it reads.
    pub fn sources(&self) -> &[TensorId] {
        match self {
            Self::Conv { sources, .. } => sources,
            Self::Up { source, .. } | Self::AveragePool { source, .. } => std::slice::from_ref(source),
            Self::Add { sources, .. } => sources,
        }
    }

    /// Tensor that it writes.
    pub fn output(&self) -> TensorId {
        match *self {
            Self::Conv { output, .. }
            | Self::Up { output, .. }
            | Self::AveragePool { output, .. }
            | Self::Add { output, .. } => output,
        }
    }
}

/// A weight that the network needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Name as in nnU-Net's state dict.
    pub name: String,
    /// Shape; convolution kernels have as many spatial axes as the network.
    pub shape: Vec<usize>,
    /// How it starts.
    pub start: Start,
}

/// How a weight starts before training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// He (Kaiming) normal for a leaky ReLU, from the given fan-in.
    He {
        /// Inputs of one output value.
        fan_in: usize,
    },
    /// All zero.
    Zero,
    /// All one.
    One,
}

/// Operations in the order in which they run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// Operations; sources come before their readers.
    pub ops: Vec<Op>,
    /// Channels of every tensor.
    pub channels: Vec<usize>,
    /// Tensors returned, full resolution first.
    pub outputs: Vec<TensorId>,
}

impl Graph {
    /// The same network with some of its outputs, without the operations that only the others need.
    #[must_use]
    pub fn keep_outputs(&self, wanted: &[usize]) -> Self {
        let outputs: Vec<TensorId> = wanted.iter().map(|&i| self.outputs[i]).collect();
        let mut needed = vec![false; self.channels.len()];
        for &tensor in &outputs {
            needed[tensor] = true;
        }
        let mut ops = Vec::new();
        for op in self.ops.iter().rev() {
            if needed[op.output()] {
                op.sources().iter().for_each(|&source| needed[source] = true);
                ops.push(op.clone());
            }
        }
        ops.reverse();
        Self { ops, channels: self.channels.clone(), outputs }
    }

    /// Per tensor, the index of the last operation that reads it; outputs are never released.
    pub fn last_reads(&self) -> Vec<Option<usize>> {
        let mut last = vec![None; self.channels.len()];
        for (i, op) in self.ops.iter().enumerate() {
            op.sources().iter().for_each(|&source| last[source] = Some(i));
        }
        self.outputs.iter().for_each(|&output| last[output] = None);
        last
    }
}

/// Writes a [`Graph`] and the list of its weights.
#[derive(Debug)]
pub struct Builder {
    graph: Graph,
    parameters: Vec<Parameter>,
    dimensions: usize,
}

/// What all normed convolutions of a network share.
#[derive(Debug, Clone, Copy)]
pub struct BlockStyle {
    /// Convolutions have a bias.
    pub bias: bool,
    /// Norms have scale and shift.
    pub affine: bool,
    /// Epsilon of the norms.
    pub eps: f64,
    /// Negative slope of the activation.
    pub slope: f32,
    /// Where the scales of the norms start.
    pub scale: Start,
}

impl Builder {
    /// A network of 2 or 3 spatial dimensions on an image of `inputs` channels (tensor 0).
    pub fn new(inputs: usize, dimensions: usize) -> Self {
        let graph = Graph { channels: vec![inputs], ..Graph::default() };
        Self { graph, parameters: Vec::new(), dimensions }
    }

    fn tensor(&mut self, channels: usize) -> TensorId {
        self.graph.channels.push(channels);
        self.graph.channels.len() - 1
    }

    fn parameter(&mut self, name: String, shape: Vec<usize>, start: Start) -> String {
        self.parameters.push(Parameter { name: name.clone(), shape, start });
        name
    }

    /// Channels of a tensor.
    pub fn channels(&self, tensor: TensorId) -> usize {
        self.graph.channels[tensor]
    }

    /// Convolution without norm; weights are called `{name}.weight` and `{name}.bias`.
    pub fn conv(&mut self, name: &str, source: TensorId, outputs: usize, kernel: [usize; 3]) -> TensorId {
        self.conv_op(name, &[source], outputs, kernel, [1; 3], true, None)
    }

    /// Convolution, instance norm, activation: `{name}.conv.*` and `{name}.norm.*`.
    pub fn conv_norm(
        &mut self,
        name: &str,
        sources: &[TensorId],
        outputs: usize,
        kernel: [usize; 3],
        stride: [usize; 3],
        style: BlockStyle,
    ) -> TensorId {
        let affine = |part: &str| style.affine.then(|| format!("{name}.norm.{part}"));
        let norm =
            Norm { weight: affine("weight"), bias: affine("bias"), eps: style.eps, slope: style.slope };
        let conv = format!("{name}.conv");
        let output = self.conv_op(&conv, sources, outputs, kernel, stride, style.bias, Some(norm));
        if style.affine {
            self.parameter(format!("{name}.norm.weight"), vec![outputs], style.scale);
            self.parameter(format!("{name}.norm.bias"), vec![outputs], Start::Zero);
        }
        output
    }

    fn conv_op(
        &mut self,
        name: &str,
        sources: &[TensorId],
        outputs: usize,
        kernel: [usize; 3],
        stride: [usize; 3],
        bias: bool,
        norm: Option<Norm>,
    ) -> TensorId {
        let inputs: usize = sources.iter().map(|&source| self.channels(source)).sum();
        let fan_in = inputs * kernel.iter().product::<usize>();
        let shape = self.kernel_shape(outputs, inputs, kernel);
        let weight = self.parameter(format!("{name}.weight"), shape, Start::He { fan_in });
        let bias = bias.then(|| self.parameter(format!("{name}.bias"), vec![outputs], Start::Zero));
        let output = self.tensor(outputs);
        self.graph.ops.push(Op::Conv {
            sources: sources.to_vec(),
            output,
            weight,
            bias,
            kernel,
            stride,
            norm,
        });
        output
    }

    /// Transposed convolution: `{name}.weight`, `{name}.bias`.
    pub fn up(
        &mut self,
        name: &str,
        source: TensorId,
        outputs: usize,
        stride: [usize; 3],
        bias: bool,
    ) -> TensorId {
        let inputs = self.channels(source);
        // PyTorch takes the second axis of the weights as fan-in, which here is the outputs.
        let fan_in = outputs * stride.iter().product::<usize>();
        let shape = self.kernel_shape(inputs, outputs, stride);
        let weight = self.parameter(format!("{name}.weight"), shape, Start::He { fan_in });
        let bias = bias.then(|| self.parameter(format!("{name}.bias"), vec![outputs], Start::Zero));
        let output = self.tensor(outputs);
        self.graph.ops.push(Op::Up { source, output, weight, bias, stride });
        output
    }

    /// Average pool with window = stride.
    pub fn average_pool(&mut self, source: TensorId, window: [usize; 3]) -> TensorId {
        let output = self.tensor(self.channels(source));
        self.graph.ops.push(Op::AveragePool { source, output, window });
        output
    }

    /// `leaky(a + b)`.
    pub fn add(&mut self, a: TensorId, b: TensorId, slope: f32) -> TensorId {
        let output = self.tensor(self.channels(a));
        self.graph.ops.push(Op::Add { sources: [a, b], output, slope });
        output
    }

    fn kernel_shape(&self, first: usize, second: usize, kernel: [usize; 3]) -> Vec<usize> {
        [&[first, second], &kernel[3 - self.dimensions..]].concat()
    }

    /// The graph with these outputs (full resolution first) and its weights, in the order in which
    /// PyTorch lists the parameters of the U-Nets: encoder, decoder stages, transposed convolutions, heads.
    pub fn finish(mut self, outputs: Vec<TensorId>) -> (Graph, Vec<Parameter>) {
        self.graph.outputs = outputs;
        let rank = |p: &Parameter| {
            ["encoder.", "decoder.stages.", "decoder.transpconvs.", "decoder.seg_layers."]
                .iter()
                .position(|prefix| p.name.starts_with(prefix))
        };
        self.parameters.sort_by_key(rank);
        (self.graph, self.parameters)
    }
}
