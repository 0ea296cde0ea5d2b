//! GELU and attention.

use burn_tensor::{Device, Int, Tensor, TensorData, activation};
use galen_kernels::attention::Windows;
use galen_kernels::{Attention, Gelu};

/// GELU in either form.
pub fn gelu(x: Tensor<3>, kind: Gelu) -> Tensor<3> {
    match kind {
        Gelu::Exact => activation::gelu(x),
        Gelu::Tanh => {
            let cube = x.clone() * x.clone() * x.clone();
            let inner = (x.clone() + cube * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
            x * (inner.tanh() + 1.0) * 0.5
        }
    }
}

/// `softmax(scale · q kᵀ + bias) v` per head; tokens are `[n, tokens, channels]`, the bias is `[n, heads, queries, keys]`
/// or has 1 where it is the same for all.
pub fn attention(of: &Attention, [q, k, v]: [Tensor<3>; 3], bias: Option<Tensor<4>>) -> Tensor<3> {
    let [n, queries, c] = q.dims();
    let split = |x: Tensor<3>| -> Tensor<4> {
        let [_, tokens, _] = x.dims();
        x.reshape([n, tokens, of.heads, of.head_channels]).swap_dims(1, 2)
    };
    let (q, k, v) = (split(q), split(k), split(v));
    let scores = q.matmul(k.swap_dims(2, 3)) * f64::from(of.scale);
    let scores = match bias {
        Some(bias) => scores + bias,
        None => scores,
    };
    activation::softmax(scores, 3).matmul(v).swap_dims(1, 2).reshape([n, queries, c])
}

/// Attention inside windows: `qkv` is `[n, voxels, 3 · channels]`, the bias `[heads, tokens, tokens]`.
pub fn window_attention(
    of: &Attention,
    windows: &Windows,
    qkv: Tensor<3>,
    bias: Option<Tensor<3>>,
    device: &Device,
) -> Tensor<3> {
    let [n, voxels, c] = qkv.dims();
    let (tokens, channels) = (windows.tokens(), c / 3);
    let count = voxels / tokens;
    let index = |rows: Vec<i32>| Tensor::<1, Int>::from_data(TensorData::new(rows, [voxels]), device);
    let order: Vec<i32> = windows.rows().iter().map(|&row| row as i32).collect();
    let mut back = vec![0i32; voxels];
    order.iter().enumerate().for_each(|(place, &row)| back[row as usize] = place as i32);
    let own = qkv.select(1, index(order)).reshape([n * count, tokens, c]);
    let part = |i: usize| own.clone().slice([0..n * count, 0..tokens, i * channels..(i + 1) * channels]);
    let bias = bias.map(|bias| bias.unsqueeze::<4>());
    let far = windows.far().map(|far| {
        let far = Tensor::<4>::from_data(TensorData::new(far, [count, 1, tokens, tokens]), device);
        far.repeat(&[n, 1, 1, 1])
    });
    let bias = match (bias, far) {
        (Some(bias), Some(far)) => Some(bias + far),
        (bias, far) => bias.or(far),
    };
    attention(of, [part(0), part(1), part(2)], bias).reshape([n, voxels, channels]).select(1, index(back))
}
