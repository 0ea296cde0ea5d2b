//! Group norm and batch norm with leaky ReLU: instance norm whose statistics several channels or samples share.
//!
//! Sources: Wu 2018 (group norm), Ioffe 2015 (batch norm). As with instance norm nothing normalised is stored: the moments
//! that a convolution returns become scale and shift for its readers, and the gradient starts from the raw output.

use crate::cpu::Cpu;
use crate::norm::{InstanceNorm, of};
use crate::padded;
use crate::tensor_blocks::check;

/// Who shares statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shared {
    /// Consecutive channels of a sample, this many groups.
    Groups(usize),
    /// A channel of all samples.
    Batch,
}

/// One group or batch norm of a batch.
#[derive(Clone, Debug)]
pub struct SharedNorm {
    /// Scale, shift, mean and reciprocal deviation, `[n, padded(channels)]`, as readers and the gradient use them.
    pub state: InstanceNorm,
    over: Shared,
}

/// Mean and variance of each channel that batch norm uses in prediction.
#[derive(Clone, PartialEq, Debug)]
pub struct Running {
    /// Mean, `[channels]`.
    pub mean: Vec<f32>,
    /// Unbiased variance, `[channels]`.
    pub variance: Vec<f32>,
}

impl Running {
    /// As at the start of a training: mean 0, variance 1.
    pub fn new(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], variance: vec![1.0; channels] }
    }

    /// Moves towards the statistics of a batch, by the share `momentum`; `moments` as in [`SharedNorm::update`].
    pub fn follow(&mut self, moments: &[f64], voxels: usize, momentum: f32) {
        let channels = self.mean.len();
        for c in 0..channels {
            let [sum, squares, count] = totals(moments, channels, voxels, c);
            let mean = sum / count;
            let variance = (squares - count * mean * mean).max(0.0) / (count - 1.0).max(1.0);
            self.mean[c] += momentum * (mean as f32 - self.mean[c]);
            self.variance[c] += momentum * (variance as f32 - self.variance[c]);
        }
    }

    /// Scale and shift for readers, for `n` samples.
    pub fn norm(&self, n: usize, gamma: Option<&[f32]>, beta: Option<&[f32]>, eps: f64) -> InstanceNorm {
        let (channels, width) = (self.mean.len(), padded(self.mean.len()));
        let mut norm = InstanceNorm::default();
        norm.clear(n * width);
        for (i, c) in (0..n).flat_map(|n| (0..channels).map(move |c| (n * width + c, c))) {
            let rstd = 1.0 / (f64::from(self.variance[c]) + eps).sqrt();
            norm.set(i, f64::from(self.mean[c]), rstd, [of(gamma, c, 1.0), of(beta, c, 0.0)]);
        }
        norm
    }
}

/// Sum, sum of squares and count of a channel over the batch.
fn totals(moments: &[f64], channels: usize, voxels: usize, c: usize) -> [f64; 3] {
    let samples = moments.chunks_exact(2 * padded(channels));
    samples.fold([0.0; 3], |[sum, squares, count], sample| {
        [sum + sample[2 * c], squares + sample[2 * c + 1], count + voxels as f64]
    })
}

impl SharedNorm {
    /// Without statistics yet.
    pub fn new(over: Shared) -> Self {
        Self { state: InstanceNorm::default(), over }
    }

    /// From `moments`, `[n, padded(channels), 2]`: sum and sum of squares over `voxels` voxels. `gamma` and `beta` are
    /// `[channels]`; without them 1 and 0.
    pub fn update(
        &mut self,
        moments: &[f64],
        channels: usize,
        voxels: usize,
        gamma: Option<&[f32]>,
        beta: Option<&[f32]>,
        eps: f64,
    ) {
        let width = padded(channels);
        self.state.clear(moments.len() / 2);
        for members in self.sets(moments.len() / 2 / width, channels) {
            let count = (members.len() * voxels) as f64;
            let mean_of = |part: usize| members.iter().map(|&i| moments[2 * i + part]).sum::<f64>() / count;
            let mean = mean_of(0);
            let rstd = 1.0 / ((mean_of(1) - mean * mean).max(0.0) + eps).sqrt();
            for i in members {
                self.state.set(i, mean, rstd, [of(gamma, i % width, 1.0), of(beta, i % width, 0.0)]);
            }
        }
    }

    /// Places `n · width + channel` that share statistics.
    fn sets(&self, n: usize, channels: usize) -> Vec<Vec<usize>> {
        let width = padded(channels);
        match self.over {
            Shared::Batch => (0..channels).map(|c| (0..n).map(|n| n * width + c).collect()).collect(),
            Shared::Groups(groups) => {
                assert!(
                    groups > 0 && channels.is_multiple_of(groups),
                    "{channels} channels in {groups} groups"
                );
                let size = channels / groups;
                let set = |i: usize| {
                    let first = i / groups * width + i % groups * size;
                    (first..first + size).collect()
                };
                (0..n * groups).map(set).collect()
            }
        }
    }

    /// Turns `grad`, the gradient after norm and activation, into the gradient of the raw tensor, in place.
    /// `raw` and `grad` are `[n, voxels, padded(channels)]`; `dgamma` and `dbeta`, `[channels]`, are overwritten.
    pub fn backward(
        &self,
        channels: usize,
        voxels: usize,
        slope: f32,
        gamma: Option<&[f32]>,
        raw: &[f32],
        grad: &mut [f32],
        parameters: Option<(&mut [f32], &mut [f32])>,
    ) {
        self.backward_with(Cpu::detected(), [channels, voxels], slope, gamma, raw, grad, parameters);
    }

    pub(crate) fn backward_with(
        &self,
        cpu: Cpu,
        [channels, voxels]: [usize; 2],
        slope: f32,
        gamma: Option<&[f32]>,
        raw: &[f32],
        grad: &mut [f32],
        parameters: Option<(&mut [f32], &mut [f32])>,
    ) {
        let (width, state) = (padded(channels), &self.state);
        let (n, sample) = (state.scale.len() / width, voxels * width);
        check("raw tensor", raw.len(), n * sample);
        check("gradient behind a norm", grad.len(), raw.len());
        let own = |n: usize| n * sample..(n + 1) * sample;
        let sums: Vec<Vec<f64>> = (0..n)
            .map(|n| state.gradient_sums(cpu, n, width, slope, raw[own(n)].into(), &grad[own(n)]))
            .collect();
        if let Some((dgamma, dbeta)) = parameters {
            for c in 0..channels {
                dbeta[c] = sums.iter().map(|sums| sums[c]).sum::<f64>() as f32;
                dgamma[c] = sums.iter().map(|sums| sums[width + c]).sum::<f64>() as f32;
            }
        }
        let (mut of_raw, mut constant) = (vec![0.0; n * width], vec![0.0; n * width]);
        for members in self.sets(n, channels) {
            let count = (members.len() * voxels) as f64;
            let of = |part: usize| {
                let term = |&i: &usize| of(gamma, i % width, 1.0) * sums[i / width][part * width + i % width];
                members.iter().map(term).sum::<f64>() / count
            };
            let (plain, times) = (of(0), of(1));
            for i in members {
                let rstd = f64::from(state.rstd[i]);
                of_raw[i] = (-rstd * rstd * times) as f32;
                constant[i] = (-rstd * plain) as f32;
            }
        }
        for n in 0..n {
            let lanes = n * width..(n + 1) * width;
            let factors = [&of_raw[lanes.clone()], &constant[lanes]];
            state.combine(cpu, n, slope, raw[own(n)].into(), &mut grad[own(n)], factors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv_tests::{agree, noise, tensor};

    const N: usize = 3;
    const VOXELS: usize = 30;
    const SLOPE: f64 = 0.1;

    fn moments(raw: &[f32], channels: usize) -> Vec<f64> {
        let width = padded(channels);
        let mut moments = vec![0.0; N * width * 2];
        for (i, &x) in raw.iter().enumerate() {
            let at = i / (VOXELS * width) * width + i % width;
            moments[2 * at] += f64::from(x);
            moments[2 * at + 1] += f64::from(x).powi(2);
        }
        moments
    }

    /// Output `[n, voxels, channels]` in 64 bits.
    fn plain(over: Shared, channels: usize, x: &[f64], gamma: &[f32], beta: &[f32]) -> Vec<f64> {
        let mut y = vec![0.0; x.len()];
        let place = |n: usize, v: usize, c: usize| (n * VOXELS + v) * channels + c;
        let same = |n: usize, c: usize, m: usize, d: usize| match over {
            Shared::Batch => c == d,
            Shared::Groups(groups) => n == m && c / (channels / groups) == d / (channels / groups),
        };
        for n in 0..N {
            for c in 0..channels {
                let all = (0..N).flat_map(|m| (0..channels).map(move |d| (m, d)));
                let members: Vec<_> = all.filter(|&(m, d)| same(n, c, m, d)).collect();
                let values: Vec<f64> =
                    members.iter().flat_map(|&(m, d)| (0..VOXELS).map(move |v| x[place(m, v, d)])).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
                for v in 0..VOXELS {
                    let t = (x[place(n, v, c)] - mean) / (variance + 1e-3).sqrt() * f64::from(gamma[c])
                        + f64::from(beta[c]);
                    y[place(n, v, c)] = if t > 0.0 { t } else { SLOPE * t };
                }
            }
        }
        y
    }

    fn bare(values: &[f32], channels: usize) -> Vec<f64> {
        values.chunks(padded(channels)).flat_map(|row| &row[..channels]).map(|&x| f64::from(x)).collect()
    }

    #[test]
    fn values_and_gradients_are_those_of_64_bits() {
        for (over, channels) in
            [(Shared::Batch, 5), (Shared::Groups(3), 18), (Shared::Groups(1), 7), (Shared::Groups(20), 20)]
        {
            let width = padded(channels);
            let mut raw = tensor(N * VOXELS, channels, 1);
            raw.chunks_mut(width).for_each(|row| row[..channels].iter_mut().for_each(|x| *x += 1.0));
            let (gamma, beta) = (noise(channels, 2), noise(channels, 3));
            let cotangent = tensor(N * VOXELS, channels, 4);
            let mut norm = SharedNorm::new(over);
            norm.update(&moments(&raw, channels), channels, VOXELS, Some(&gamma), Some(&beta), 1e-3);
            let (x, g) = (bare(&raw, channels), bare(&cotangent, channels));
            let good = plain(over, channels, &x, &gamma, &beta);
            let found: Vec<f32> = (0..x.len())
                .map(|i| {
                    let lane = i / channels / VOXELS * width + i % channels;
                    let t = x[i] as f32 * norm.state.scale[lane] + norm.state.shift[lane];
                    if t > 0.0 { t } else { SLOPE as f32 * t }
                })
                .collect();
            agree(&format!("{over:?}"), &found, &good.iter().map(|&x| x as f32).collect::<Vec<_>>());
            for cpu in Cpu::available() {
                let name = format!("{over:?} {}", cpu.name());
                let mut grad = cotangent.clone();
                let (mut dgamma, mut dbeta) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
                let parameters = Some((&mut dgamma[..], &mut dbeta[..]));
                norm.backward_with(
                    cpu,
                    [channels, VOXELS],
                    SLOPE as f32,
                    Some(&gamma),
                    &raw,
                    &mut grad,
                    parameters,
                );
                let value = |x: &[f64], gamma: &[f32]| {
                    plain(over, channels, x, gamma, &beta).iter().zip(&g).map(|(y, g)| y * g).sum::<f64>()
                };
                let dx = bare(&grad, channels);
                for i in (0..x.len()).step_by(37) {
                    let at = |step: f64| {
                        let mut x = x.clone();
                        x[i] += step;
                        value(&x, &gamma)
                    };
                    let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
                    assert!((dx[i] - slope).abs() < 1e-4, "{name} at {i}: {} {slope}", dx[i]);
                }
                for c in 0..channels {
                    let at = |step: f32| {
                        let mut gamma = gamma.clone();
                        gamma[c] += step;
                        [value(&x, &gamma), f64::from(gamma[c])]
                    };
                    let ([high, above], [low, below]) = (at(1e-4), at(-1e-4));
                    let slope = (high - low) / (above - below);
                    assert!(
                        (f64::from(dgamma[c]) - slope).abs() < 0.02 * slope.abs().max(1.0),
                        "{name} gamma {c}"
                    );
                }
                let active: Vec<f32> = (0..channels)
                    .map(|c| {
                        let at = |i: usize| g[i] * if good[i] > 0.0 { 1.0 } else { SLOPE };
                        (c..x.len()).step_by(channels).map(at).sum::<f64>() as f32
                    })
                    .collect();
                agree(&format!("dbeta {name}"), &dbeta, &active);
            }
        }
    }

    #[test]
    fn running_statistics_follow_the_batch() {
        let channels = 2;
        let raw = tensor(N * VOXELS, channels, 1);
        let mut running = Running::new(channels);
        running.follow(&moments(&raw, channels), VOXELS, 0.1);
        let values: Vec<f64> = bare(&raw, channels).iter().step_by(2).copied().collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
        assert!((f64::from(running.mean[0]) - 0.1 * mean).abs() < 1e-6);
        assert!((f64::from(running.variance[0]) - (0.9 + 0.1 * variance)).abs() < 1e-6);
        let norm = running.norm(2, Some(&[2.0, 1.0]), None, 0.0);
        let rstd = 1.0 / running.variance[0].sqrt();
        assert!((norm.scale[16] - 2.0 * rstd).abs() < 1e-6);
        assert!((norm.shift[16] + 2.0 * rstd * running.mean[0]).abs() < 1e-6);
        assert_eq!(norm.scale[2], 0.0);
    }
}
