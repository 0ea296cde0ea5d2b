//! Resampling as nnU-Net's torch variants do it: linear in single precision, coordinates clamped at the border.
//!
//! Source: nnunetv2 2.8.1 `resample_torch`, torch 2 `interpolate(align_corners=False, antialias=False)`.

use super::half::round_to_half;
use super::taps::Linear;
use rayon::prelude::*;

/// Rule per axis, `(z, y, x)`.
pub(super) enum Axis {
    Linear(Vec<Linear<f32>>),
    /// torch's `nearest-exact`.
    Nearest(Vec<usize>),
}

impl Axis {
    pub(super) fn linear(from: usize, to: usize) -> Self {
        let scale = from as f32 / to as f32;
        let one = |out: usize| {
            let c = ((out as f32 + 0.5) * scale - 0.5).max(0.0);
            let low = (c as usize).min(from - 1);
            let part = (c - low as f32).clamp(0.0, 1.0);
            Linear { at: [low, (low + 1).min(from - 1)], weights: [1.0 - part, part] }
        };
        Self::Linear((0..to).map(one).collect())
    }

    pub(super) fn nearest(from: usize, to: usize) -> Self {
        let scale = from as f32 / to as f32;
        Self::Nearest((0..to).map(|o| (((o as f32 + 0.5) * scale) as usize).min(from - 1)).collect())
    }

    /// Input voxels that an output voxel reads, with their weights.
    fn reads(&self, out: usize) -> Linear<f32> {
        match self {
            Self::Linear(taps) => taps[out],
            Self::Nearest(picks) => Linear { at: [picks[out]; 2], weights: [1.0, 0.0] },
        }
    }
}

/// Linear within and, along the thick axis, nearest.
pub(super) struct Grid {
    from: [usize; 3],
    to: [usize; 3],
    axes: [Axis; 3],
}

impl Grid {
    pub(super) fn new(from: [usize; 3], to: [usize; 3], thick: Option<usize>) -> Self {
        let axes = [0, 1, 2].map(|axis| match thick {
            Some(thick) if thick == axis => Axis::nearest(from[axis], to[axis]),
            _ => Axis::linear(from[axis], to[axis]),
        });
        Self { from, to, axes }
    }

    /// One output plane of an image of which `input(i)` is the voxel at a flat index.
    pub(super) fn plane(&self, input: &impl Fn(usize) -> f32, z: usize, out: &mut [f32]) {
        let tap = self.axes[0].reads(z);
        self.within(input, tap.at[0], out);
        if tap.weights[1] != 0.0 {
            let mut above = out.to_vec();
            if tap.at[1] != tap.at[0] {
                self.within(input, tap.at[1], &mut above);
            }
            out.iter_mut().zip(&above).for_each(|(o, b)| *o = *o * tap.weights[0] + b * tap.weights[1]);
        }
    }

    /// Input plane `z` on the output's rows and columns.
    pub(super) fn within(&self, input: &impl Fn(usize) -> f32, z: usize, out: &mut [f32]) {
        let (ny, nx, width) = (self.from[1], self.from[2], self.to[2]);
        let mut wide = vec![0.0; ny * width];
        for (y, row) in wide.chunks_exact_mut(width).enumerate() {
            let start = (z * ny + y) * nx;
            for (x, value) in row.iter_mut().enumerate() {
                let tap = self.axes[2].reads(x);
                *value =
                    input(start + tap.at[0]) * tap.weights[0] + input(start + tap.at[1]) * tap.weights[1];
            }
        }
        for (y, row) in out.chunks_exact_mut(width).enumerate() {
            let tap = self.axes[1].reads(y);
            let [a, b] = tap.at.map(|at| &wide[at * width..(at + 1) * width]);
            let [w0, w1] = tap.weights;
            row.iter_mut().zip(a.iter().zip(b)).for_each(|(o, (a, b))| *o = a * w0 + b * w1);
        }
    }

    /// What an output voxel reads along an axis.
    pub(super) fn reads(&self, axis: usize, out: usize) -> Linear<f32> {
        self.axes[axis].reads(out)
    }

    /// Columns of the input.
    pub(super) fn columns(&self) -> usize {
        self.from[2]
    }

    /// The two input planes of an output plane, with weights.
    pub(super) fn planes(&self, z: usize) -> Linear<f32> {
        self.axes[0].reads(z)
    }

    /// A whole image.
    pub(super) fn image(&self, values: &[f32]) -> Vec<f32> {
        self.volume(&|i| values[i])
    }

    fn volume(&self, input: &(impl Fn(usize) -> f32 + Sync)) -> Vec<f32> {
        let mut out = vec![0.0; self.to.iter().product()];
        let planes = out.par_chunks_exact_mut(self.to[1] * self.to[2]).enumerate();
        planes.for_each(|(z, out)| self.plane(input, z, out));
        out
    }

    /// A label map: per label its indicator times 1000, rounded to float16; the largest wins, the smaller label on
    /// ties. `frugal` is nnU-Net's `memefficient_seg_resampling`: the last label above one half, else 0.
    pub(super) fn labels(&self, values: &[i16], frugal: bool) -> Vec<i16> {
        let mut distinct = values.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let n: usize = self.to.iter().product();
        let mut out = vec![0i16; n];
        let mut best = vec![f32::NEG_INFINITY; n];
        for label in distinct {
            let full = if frugal { 1.0 } else { 1000.0 };
            let scores = self.volume(&|i| if values[i] == label { full } else { 0.0 });
            let voxels = out.par_iter_mut().zip(&mut best).zip(scores);
            voxels.for_each(|((out, best), score)| {
                let wins = if frugal { score > 0.5 } else { round_to_half(score.into()) > *best };
                if wins {
                    *out = label;
                    *best = round_to_half(score.into());
                }
            });
        }
        out
    }
}
