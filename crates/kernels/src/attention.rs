//! Attention over all tokens or inside windows, with streaming softmax, and its gradient.
//!
//! Sources: Vaswani 2017; Milakov 2018 and Dao 2022 for the streaming softmax; Liu 2021 for shifted windows with
//! relative positions. Scores exist for one block of queries and keys at a time; the gradient computes them again from
//! the logarithm of each query's softmax sum, which the forward pass leaves behind.

#![allow(
    unsafe_code,
    reason = "register kernels run on pointers into scratch memory; heads are written by one task each"
)]

mod backward;
mod block;
mod forward;
mod packing;
#[cfg(test)]
mod tests;
mod windows;

use crate::cpu::Cpu;
use crate::padded;
use crate::tensor_blocks::check;
pub use windows::{RelativePositions, Windows};

/// Keys whose scores are computed together.
const KEYS: usize = 64;

/// Heads side by side in the channels of a token: channel `head · head_channels + c`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Attention {
    /// Number of heads.
    pub heads: usize,
    /// Channels of one head.
    pub head_channels: usize,
    /// Factor of the scores, usually `1 / √head_channels`.
    pub scale: f32,
}

/// Queries, keys and values.
#[derive(Clone, Copy, Debug)]
pub enum Projected<'a> {
    /// Side by side in one tensor, `[rows, padded(3 · heads · head_channels)]`.
    Together(&'a [f32]),
    /// Three tensors, `[rows, padded(heads · head_channels)]`.
    Apart([&'a [f32]; 3]),
}

/// Where the gradients of queries, keys and values go; overwritten.
#[derive(Debug)]
pub enum ProjectedGradient<'a> {
    /// As [`Projected::Together`].
    Together(&'a mut [f32]),
    /// As [`Projected::Apart`].
    Apart([&'a mut [f32]; 3]),
}

/// Which tokens attend to which.
#[derive(Clone, Copy, Debug)]
pub enum Tokens<'a> {
    /// Every query of a sample attends to every key of it.
    All {
        /// Samples.
        n: usize,
        /// Queries per sample.
        queries: usize,
        /// Keys per sample.
        keys: usize,
    },
    /// Inside windows, with a bias `[heads, tokens, tokens]` on the scores where there is one.
    Windows(&'a Windows, Option<&'a [f32]>),
}

/// One set of tokens that attend to each other.
#[derive(Clone, Copy)]
struct Sequence<'a> {
    /// First row, or what is added to each of `rows`.
    first: [usize; 2],
    rows: Option<&'a [u32]>,
    /// Tokens of different regions do not see each other.
    regions: Option<&'a [f32]>,
}

impl Sequence<'_> {
    /// Row of a query (side 0) or a key (side 1).
    fn row(&self, side: usize, token: usize) -> usize {
        self.first[side] + self.rows.map_or(token, |rows| rows[token] as usize)
    }
}

impl<'a> Tokens<'a> {
    /// Number of sequences.
    fn sequences(&self) -> usize {
        match self {
            Self::All { n, .. } => *n,
            Self::Windows(windows, _) => windows.count(),
        }
    }

    /// Queries and keys of a sequence.
    fn lengths(&self) -> [usize; 2] {
        match self {
            Self::All { queries, keys, .. } => [*queries, *keys],
            Self::Windows(windows, _) => [windows.tokens(); 2],
        }
    }

    /// Rows of the query and of the key tensors.
    fn rows(&self) -> [usize; 2] {
        self.lengths().map(|length| self.sequences() * length)
    }

    fn bias(&self) -> Option<&'a [f32]> {
        match self {
            Self::All { .. } => None,
            Self::Windows(_, bias) => *bias,
        }
    }

    fn sequence(&self, index: usize) -> Sequence<'a> {
        match self {
            Self::All { queries, keys, .. } => {
                Sequence { first: [index * queries, index * keys], rows: None, regions: None }
            }
            Self::Windows(windows, _) => windows.sequence(index),
        }
    }
}

/// One of the three projected tensors.
#[derive(Clone, Copy)]
struct View<'a> {
    values: &'a [f32],
    width: usize,
    first: usize,
}

impl Attention {
    /// Channels of all heads.
    pub fn channels(&self) -> usize {
        self.heads * self.head_channels
    }

    /// Values of the logarithms of the softmax sums, `[sequences, heads, queries]`.
    pub fn sums_len(&self, tokens: &Tokens) -> usize {
        tokens.rows()[0] * self.heads
    }

    /// `softmax(scale · q kᵀ + bias) v`: `out` is `[rows, padded(channels)]`; `sums` is kept for the gradient.
    pub fn forward(&self, tokens: Tokens, projected: Projected, out: &mut [f32], sums: &mut [f32]) {
        self.forward_with(Cpu::detected(), tokens, projected, out, sums);
    }

    pub(crate) fn forward_with(
        &self,
        cpu: Cpu,
        tokens: Tokens,
        projected: Projected,
        out: &mut [f32],
        sums: &mut [f32],
    ) {
        self.check(&tokens, out.len(), sums.len());
        forward::run(cpu, self, &tokens, self.views(&tokens, projected), out, sums);
    }

    /// Gradients of queries, keys and values, and of the bias, `[heads, tokens, tokens]`, where there is one. `out` and
    /// `sums` are those of the forward pass.
    pub fn gradient(
        &self,
        tokens: Tokens,
        projected: Projected,
        out: &[f32],
        sums: &[f32],
        grad_out: &[f32],
        grad: ProjectedGradient,
        grad_bias: Option<&mut [f32]>,
    ) {
        self.gradient_with(Cpu::detected(), tokens, projected, [out, sums, grad_out], grad, grad_bias);
    }

    pub(crate) fn gradient_with(
        &self,
        cpu: Cpu,
        tokens: Tokens,
        projected: Projected,
        [out, sums, grad_out]: [&[f32]; 3],
        grad: ProjectedGradient,
        grad_bias: Option<&mut [f32]>,
    ) {
        self.check(&tokens, out.len(), sums.len());
        check("gradient of attention", grad_out.len(), out.len());
        let views = self.views(&tokens, projected);
        let lengths = self.lengths(&tokens, matches!(grad, ProjectedGradient::Together(_)));
        let targets = match grad {
            ProjectedGradient::Together(values) => {
                check("gradient of the projections", values.len(), lengths[0]);
                backward::Targets::together(values, self.channels())
            }
            ProjectedGradient::Apart(values) => {
                for (values, length) in values.iter().zip(lengths) {
                    check("gradient of a projection", values.len(), length);
                }
                backward::Targets::apart(values, self.channels())
            }
        };
        let kept = backward::Kept { out, sums, grad: grad_out };
        backward::run(cpu, self, &tokens, views, kept, targets, grad_bias);
    }

    fn check(&self, tokens: &Tokens, out: usize, sums: usize) {
        check("output of attention", out, tokens.rows()[0] * padded(self.channels()));
        check("softmax sums", sums, self.sums_len(tokens));
        if let Some(bias) = tokens.bias() {
            check("bias of the scores", bias.len(), self.heads * tokens.lengths()[0].pow(2));
        }
    }

    fn lengths(&self, tokens: &Tokens, together: bool) -> [usize; 3] {
        let [queries, keys] = tokens.rows();
        if together {
            [queries * padded(3 * self.channels()); 3]
        } else {
            [queries, keys, keys].map(|rows| rows * padded(self.channels()))
        }
    }

    fn views<'a>(&self, tokens: &Tokens, projected: Projected<'a>) -> [View<'a>; 3] {
        let channels = self.channels();
        let lengths = self.lengths(tokens, matches!(projected, Projected::Together(_)));
        match projected {
            Projected::Together(values) => {
                check("projections", values.len(), lengths[0]);
                let [queries, keys] = tokens.lengths();
                check("keys of projections in one tensor", keys, queries);
                [0, 1, 2].map(|i| View { values, width: padded(3 * channels), first: i * channels })
            }
            Projected::Apart(all) => [0, 1, 2].map(|i| {
                check("projection", all[i].len(), lengths[i]);
                View { values: all[i], width: padded(channels), first: 0 }
            }),
        }
    }
}
