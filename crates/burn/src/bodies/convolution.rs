//! Convolutions with padding `(k - 1) / 2`: full, grouped, depthwise, and transposed with kernel = stride.

use burn_tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn_tensor::{Tensor, module};

/// Convolution in groups, one for a full one and as many as channels for a depthwise one; weights are
/// `[outputs, inputs / groups, z, y, x]`.
pub fn convolution(
    x: Tensor<5>,
    weight: Tensor<5>,
    bias: Option<Tensor<1>>,
    stride: [usize; 3],
    groups: usize,
) -> Tensor<5> {
    let [_, _, z, y, x_size] = weight.dims();
    let padding = [z, y, x_size].map(|k| (k - 1) / 2);
    module::conv3d(x, weight, bias, ConvOptions::new(stride, padding, [1; 3], groups))
}

/// Transposed convolution whose kernel is its stride; weights are `[inputs, outputs, z, y, x]`.
pub fn transposed(x: Tensor<5>, weight: Tensor<5>, bias: Option<Tensor<1>>) -> Tensor<5> {
    let [_, _, z, y, x_size] = weight.dims();
    module::conv_transpose3d(
        x,
        weight,
        bias,
        ConvTransposeOptions::new([z, y, x_size], [0; 3], [0; 3], [1; 3], 1),
    )
}
