//! Selective scan.

use burn_tensor::{Tensor, activation};

/// What a scan reads; the kernels' `ScanInput` without pad lanes.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// Sequence, `[n, length, channels]`.
    pub x: Tensor<3>,
    /// Step sizes before bias and softplus, as `x`.
    pub delta: Tensor<3>,
    /// Bias of the step sizes, `[channels]`.
    pub delta_bias: Tensor<1>,
    /// Decay `A`, `[channels, states]`.
    pub a: Tensor<2>,
    /// `B`, `[n, length, states]`.
    pub b: Tensor<3>,
    /// `C`, as `b`.
    pub c: Tensor<3>,
    /// Skip `D`, `[channels]`.
    pub d: Tensor<1>,
}

/// The recurrence step by step; see `galen_kernels::selective_scan`.
pub fn selective_scan(of: Scanned) -> Tensor<3> {
    let [n, length, channels] = of.x.dims();
    let states = of.a.dims()[1];
    let delta = activation::softplus(of.delta + of.delta_bias.reshape([1, 1, channels]), 1.0);
    let a = of.a.reshape([1, channels, states]);
    let step = |x: &Tensor<3>, t: usize, last: [usize; 2]| {
        let width = x.dims()[2];
        x.clone().slice([0..n, t..t + 1, 0..width]).reshape([n, last[0], last[1]])
    };
    let mut state: Option<Tensor<3>> = None;
    let mut rows = Vec::with_capacity(length);
    for t in 0..length {
        let size = step(&delta, t, [channels, 1]);
        let input = size.clone() * step(&of.x, t, [channels, 1]) * step(&of.b, t, [1, states]);
        let next = match state {
            Some(state) => (size * a.clone()).exp() * state + input,
            None => input,
        };
        rows.push((next.clone() * step(&of.c, t, [1, states])).sum_dim(2).reshape([n, 1, channels]));
        state = Some(next);
    }
    Tensor::cat(rows, 1) + of.x * of.d.reshape([1, 1, channels])
}
