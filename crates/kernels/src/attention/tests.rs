//! Attention against its definition in 64 bits, and its gradient against that definition's own.

use super::*;
use crate::Grid;
use crate::conv_tests::{agree, noise, tensor};

/// Weights of every query of a sequence and head: `softmax(scale · q k + bias)`.
struct Plain<'a> {
    of: &'a Attention,
    tokens: Tokens<'a>,
    views: [View<'a>; 3],
}

struct Gradients {
    projections: [Vec<f64>; 3],
    bias: Vec<f64>,
}

impl Plain<'_> {
    fn value(&self, projection: usize, row: usize, channel: usize) -> f64 {
        let view = &self.views[projection];
        f64::from(view.values[row * view.width + view.first + channel])
    }

    fn weights(&self, sequence: &Sequence, head: usize, query: usize) -> Vec<f64> {
        let ([queries, keys], d) = (self.tokens.lengths(), self.of.head_channels);
        let score = |key: usize| {
            let (q, k) = (sequence.row(0, query), sequence.row(1, key));
            let dot: f64 =
                (head * d..(head + 1) * d).map(|c| self.value(0, q, c) * self.value(1, k, c)).sum();
            let bias =
                self.tokens.bias().map_or(0.0, |b| f64::from(b[(head * queries + query) * keys + key]));
            let far = sequence.regions.is_some_and(|r| r[query] != r[key]);
            dot * f64::from(self.of.scale) + bias - if far { 100.0 } else { 0.0 }
        };
        let scores: Vec<f64> = (0..keys).map(score).collect();
        let top = scores.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
        scores.iter().map(|s| (s - top).exp() / sum).collect()
    }

    /// Output, and gradients for a gradient of the output; tensors without pad lanes, `[rows, channels]`.
    fn run(&self, grad: &[f32]) -> (Vec<f64>, Gradients) {
        let ([queries, keys], d, channels) =
            (self.tokens.lengths(), self.of.head_channels, self.of.channels());
        let rows = self.tokens.rows();
        let mut out = vec![0.0; rows[0] * channels];
        let mut found = Gradients {
            projections: [rows[0], rows[1], rows[1]].map(|rows| vec![0.0; rows * channels]),
            bias: vec![0.0; self.of.heads * queries * keys],
        };
        for index in 0..self.tokens.sequences() {
            let sequence = self.tokens.sequence(index);
            for head in 0..self.of.heads {
                for query in 0..queries {
                    let (weights, q) = (self.weights(&sequence, head, query), sequence.row(0, query));
                    let g = |c: usize| f64::from(grad[q * padded(channels) + c]);
                    let mut slopes = vec![0.0; keys];
                    for (key, weight) in weights.iter().enumerate() {
                        let k = sequence.row(1, key);
                        for c in head * d..(head + 1) * d {
                            out[q * channels + c] += weight * self.value(2, k, c);
                            found.projections[2][k * channels + c] += weight * g(c);
                            slopes[key] += g(c) * self.value(2, k, c);
                        }
                    }
                    let mean: f64 = weights.iter().zip(&slopes).map(|(w, s)| w * s).sum();
                    for key in 0..keys {
                        let slope = weights[key] * (slopes[key] - mean);
                        found.bias[(head * queries + query) * keys + key] += slope;
                        let (k, slope) = (sequence.row(1, key), slope * f64::from(self.of.scale));
                        for c in head * d..(head + 1) * d {
                            found.projections[0][q * channels + c] += slope * self.value(1, k, c);
                            found.projections[1][k * channels + c] += slope * self.value(0, q, c);
                        }
                    }
                }
            }
        }
        (out, found)
    }
}

/// `[rows, channels]` of a tensor from a channel on.
fn cut(values: &[f32], width: usize, first: usize, channels: usize) -> Vec<f32> {
    values.chunks(width).flat_map(|row| row[first..first + channels].to_vec()).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&x| x as f32).collect()
}

fn compare(of: &Attention, tokens: Tokens, together: bool) {
    let (channels, rows) = (of.channels(), tokens.rows());
    let width = padded(channels);
    let fused: Vec<f32> = tensor(rows[0], 3 * channels, 1).iter().map(|x| 2.0 * x).collect();
    let apart = [tensor(rows[0], channels, 2), tensor(rows[1], channels, 3), tensor(rows[1], channels, 4)];
    let projected = if together {
        Projected::Together(&fused)
    } else {
        Projected::Apart([&apart[0], &apart[1], &apart[2]])
    };
    let grad = tensor(rows[0], channels, 5);
    let (good, gradients) = Plain { of, tokens, views: of.views(&tokens, projected) }.run(&grad);
    for cpu in Cpu::available() {
        let name = format!("{of:?} {:?} {}", tokens.lengths(), cpu.name());
        let mut out = vec![f32::NAN; rows[0] * width];
        let mut sums = vec![f32::NAN; of.sums_len(&tokens)];
        of.forward_with(cpu, tokens, projected, &mut out, &mut sums);
        agree(&format!("out {name}"), &cut(&out, width, 0, channels), &narrow(&good));
        let mut bias = tokens.bias().map(|bias| vec![f32::NAN; bias.len()]);
        let kept = [&out[..], &sums, &grad];
        let found: Vec<Vec<f32>> = if together {
            let mut all = vec![f32::NAN; fused.len()];
            let to = ProjectedGradient::Together(&mut all);
            of.gradient_with(cpu, tokens, projected, kept, to, bias.as_deref_mut());
            let wide = padded(3 * channels);
            assert!(all.chunks(wide).all(|row| row[3 * channels..].iter().all(|&x| x == 0.0)));
            (0..3).map(|i| cut(&all, wide, i * channels, channels)).collect()
        } else {
            let mut all = [0, 1, 2].map(|i| vec![f32::NAN; apart[i].len()]);
            let [q, k, v] = &mut all;
            of.gradient_with(
                cpu,
                tokens,
                projected,
                kept,
                ProjectedGradient::Apart([q, k, v]),
                bias.as_deref_mut(),
            );
            all.iter().map(|values| cut(values, width, 0, channels)).collect()
        };
        for (i, found) in found.iter().enumerate() {
            agree(&format!("projection {i} {name}"), found, &narrow(&gradients.projections[i]));
        }
        if let Some(bias) = bias {
            agree(&format!("bias {name}"), &bias, &narrow(&gradients.bias));
        }
    }
}

#[test]
fn all_tokens_agree_with_64_bits() {
    for (heads, head_channels, queries, keys) in
        [(2, 16, 70, 70), (3, 5, 20, 130), (1, 40, 61, 9), (2, 64, 300, 65)]
    {
        let of = Attention { heads, head_channels, scale: (head_channels as f32).powf(-0.5) };
        compare(&of, Tokens::All { n: 2, queries, keys }, false);
        if queries == keys {
            compare(&of, Tokens::All { n: 2, queries, keys }, true);
        }
    }
}

#[test]
fn windows_with_bias_and_shift_agree_with_64_bits() {
    let of = Attention { heads: 3, head_channels: 8, scale: 0.35 };
    for (window, shift) in
        [([2, 3, 2], [0, 0, 0]), ([2, 3, 2], [1, 1, 1]), ([4, 3, 6], [2, 1, 3]), ([1, 3, 2], [0, 2, 1])]
    {
        let windows = Windows::new(Grid { n: 2, size: [4, 6, 6] }, window, shift);
        let positions = RelativePositions { window, heads: 3 };
        let bias = positions.bias(&noise(positions.table_len(), 9));
        compare(&of, Tokens::Windows(&windows, Some(&bias)), true);
        compare(&of, Tokens::Windows(&windows, None), true);
    }
}

#[test]
fn the_table_of_positions_is_the_transpose_of_its_bias() {
    let positions = RelativePositions { window: [2, 3, 2], heads: 2 };
    let (table, grad) = (noise(positions.table_len(), 1), noise(2 * 144, 2));
    let mut by_table = vec![f32::NAN; table.len()];
    positions.gradient(&grad, &mut by_table);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let (left, right) = (dot(&positions.bias(&table), &grad), dot(&table, &by_table));
    assert!((left - right).abs() < 1e-4, "{left} {right}");
    // The same offset is the same entry: tokens 0 and 1 lie one apart along x, and so do 2 and 3.
    let bias = positions.bias(&table);
    assert_eq!(bias[1], bias[2 * 12 + 3]);
    assert_ne!(bias[1], bias[12]);
}

#[test]
fn large_scores_and_any_number_of_threads_are_no_problem() {
    let of = Attention { heads: 2, head_channels: 16, scale: 40.0 };
    let tokens = Tokens::All { n: 3, queries: 130, keys: 130 };
    let fused = tensor(3 * 130, 96, 1);
    let grad = tensor(3 * 130, 32, 2);
    let all = || {
        let (mut out, mut sums) = (vec![0.0; grad.len()], vec![0.0; of.sums_len(&tokens)]);
        of.forward(tokens, Projected::Together(&fused), &mut out, &mut sums);
        let mut dx = vec![0.0; fused.len()];
        let to = ProjectedGradient::Together(&mut dx);
        of.gradient(tokens, Projected::Together(&fused), &out, &sums, &grad, to, None);
        assert!(out.iter().chain(&dx).all(|x| x.is_finite()));
        (out, sums, dx)
    };
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(all)
    };
    let one = run(1);
    assert!(one == run(2) && one == run(5));
}
