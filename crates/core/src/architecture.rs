//! What a network is made of, as plain numbers: the planner writes it, the network builder reads it.

use serde::{Deserialize, Serialize};

/// Network families that a plan can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkClass {
    /// nnU-Net's plain convolutional U-Net.
    PlainConvUNet,
    /// nnU-Net's U-Net with a residual encoder.
    ResidualEncoderUNet,
}

/// Topology of a U-Net. Axis order of kernels and strides is `(z, y, x)`; 2D networks have two entries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Architecture {
    /// Family.
    pub class: NetworkClass,
    /// Feature maps per stage, full resolution first.
    pub features: Vec<usize>,
    /// Convolution kernel per stage.
    pub kernels: Vec<Vec<usize>>,
    /// Stride of the first convolution per stage (the first is 1).
    pub strides: Vec<Vec<usize>>,
    /// Convolutions (plain) or residual blocks (residual) per encoder stage.
    pub encoder_depth: Vec<usize>,
    /// Convolutions per decoder stage, deepest first; one entry fewer than stages.
    pub decoder_depth: Vec<usize>,
    /// Convolutions have a bias.
    pub bias: bool,
    /// Epsilon of the instance norm.
    pub norm_eps: f64,
    /// Instance norm has scale and shift.
    pub norm_affine: bool,
    /// Negative slope of the leaky ReLU.
    pub leak: f64,
}

impl Architecture {
    /// Number of resolution stages.
    pub fn stages(&self) -> usize {
        self.features.len()
    }

    /// Spatial dimensions: 2 or 3.
    pub fn dimensions(&self) -> usize {
        self.kernels.first().map_or(3, Vec::len)
    }

    /// Kernel of a stage as `(z, y, x)`; 2D gets 1 in z.
    pub fn kernel3(&self, stage: usize) -> [usize; 3] {
        three(&self.kernels[stage])
    }

    /// Stride of a stage as `(z, y, x)`; 2D gets 1 in z.
    pub fn stride3(&self, stage: usize) -> [usize; 3] {
        three(&self.strides[stage])
    }

    /// What each axis of a patch must be a multiple of, as `(z, y, x)`.
    pub fn divisor(&self) -> [usize; 3] {
        let mut product = [1; 3];
        for stage in 0..self.stages() {
            for (p, s) in product.iter_mut().zip(self.stride3(stage)) {
                *p *= s;
            }
        }
        product
    }
}

fn three(axes: &[usize]) -> [usize; 3] {
    match *axes {
        [y, x] => [1, y, x],
        [z, y, x] => [z, y, x],
        _ => [1; 3],
    }
}
