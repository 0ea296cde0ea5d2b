//! Norms over voxels, groups, batches and channels.

use burn_tensor::{Device, Tensor, TensorData};
use galen_kernels::shared_norm::{Running, Shared};

/// Instance norm over the voxels of each channel with biased variance; scale and shift are `[c]`.
pub fn instance_norm(
    x: Tensor<5>,
    scale: Option<Tensor<1>>,
    shift: Option<Tensor<1>>,
    eps: f64,
) -> Tensor<5> {
    let shape = x.dims();
    let [n, c, ..] = shape;
    affine(standardised(x.reshape([n, c, voxels(shape)]), eps).reshape(shape), scale, shift)
}

/// Group or batch norm with the statistics of the batch itself; scale and shift are `[c]`.
pub fn shared_norm(
    x: Tensor<5>,
    over: Shared,
    scale: Option<Tensor<1>>,
    shift: Option<Tensor<1>>,
    eps: f64,
) -> Tensor<5> {
    let shape = x.dims();
    let [n, c, ..] = shape;
    let y = match over {
        Shared::Groups(groups) => {
            let members = c / groups * voxels(shape);
            standardised(x.reshape([n, groups, members]), eps).reshape(shape)
        }
        Shared::Batch => {
            // Channels first, so that what shares statistics lies together.
            let [.., depth, height, width] = shape;
            let turned = x.swap_dims(0, 1).reshape([1, c, n * voxels(shape)]);
            standardised(turned, eps).reshape([c, n, depth, height, width]).swap_dims(0, 1)
        }
    };
    affine(y, scale, shift)
}

/// Batch norm in prediction: mean and variance are those gathered in training.
pub fn running_norm(
    x: Tensor<5>,
    running: &Running,
    scale: Option<Tensor<1>>,
    shift: Option<Tensor<1>>,
    eps: f64,
    device: &Device,
) -> Tensor<5> {
    let row = |values: Vec<f32>| {
        let shape = [1, values.len(), 1, 1, 1];
        Tensor::<5>::from_data(TensorData::new(values, shape), device)
    };
    let rate = |&variance: &f32| (1.0 / (f64::from(variance) + eps).sqrt()) as f32;
    let y = (x - row(running.mean.clone())) * row(running.variance.iter().map(rate).collect());
    affine(y, scale, shift)
}

/// Layer norm over the last axis; scale and shift are `[c]`.
pub fn layer_norm(x: Tensor<3>, scale: Tensor<1>, shift: Tensor<1>, eps: f64) -> Tensor<3> {
    let c = x.dims()[2];
    standardised(x, eps) * scale.reshape([1, 1, c]) + shift.reshape([1, 1, c])
}

/// Mean 0 and variance 1 along the last axis.
fn standardised(x: Tensor<3>, eps: f64) -> Tensor<3> {
    let centred = x.clone() - x.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    centred / (variance + eps).sqrt()
}

fn affine(y: Tensor<5>, scale: Option<Tensor<1>>, shift: Option<Tensor<1>>) -> Tensor<5> {
    let c = y.dims()[1];
    let y = match scale {
        Some(scale) => y * scale.reshape([1, c, 1, 1, 1]),
        None => y,
    };
    match shift {
        Some(shift) => y + shift.reshape([1, c, 1, 1, 1]),
        None => y,
    }
}

fn voxels(shape: [usize; 5]) -> usize {
    shape[2..].iter().product()
}
