//! Sampling of a channels-last tensor at given positions (a spatial transformer's step), and both gradients.
//!
//! Source: Jaderberg 2015. The input gradient is a scatter; so that it neither races nor depends on the number of
//! threads, the points are sorted by the plane that they fall into and each plane is written by one task.

#![allow(unsafe_code, reason = "corners are read and written register by register at checked voxels")]

mod corners;
mod gradient;

use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use crate::tensor_blocks::{Reader, Writer, check};
use crate::{Grid, Sink, Source};
use corners::Corners;
use rayon::prelude::*;

/// Points per task.
const CHUNK: usize = 256;

/// What lies beyond the border.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Padding {
    /// Zeros.
    Zeros,
    /// The voxel at the border.
    Border,
}

/// How a tensor is sampled. Positions are `[n, z, y, x, 3]` in the order `(x, y, z)`, each axis from -1 to 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GridSample {
    /// The nearest voxel (ties to the even one) instead of trilinear interpolation.
    pub nearest: bool,
    /// What lies beyond the border.
    pub padding: Padding,
    /// -1 and 1 are the centres of the corner voxels, not their outer edges.
    pub align_corners: bool,
}

impl GridSample {
    /// Values at the positions, `[n, points, padded(c)]`; `points` is the grid of the output.
    pub fn forward(&self, input: Grid, source: &Source, points: Grid, positions: &[f32], out: &mut [f32]) {
        self.forward_with(Cpu::detected(), input, source, points, positions, out);
    }

    pub(crate) fn forward_with(
        &self,
        cpu: Cpu,
        input: Grid,
        source: &Source,
        points: Grid,
        positions: &[f32],
        out: &mut [f32],
    ) {
        self.check(input, points, positions);
        let reader = Reader::new(input, &[*source]);
        let writer = Writer::whole(points, out.into(), source.channels);
        for_chunks(points, |n, first, count| {
            let own = &positions[(n * points.voxels() + first) * 3..][..count * 3];
            let (reader, writer) = (&reader, &writer);
            cpu.run(&Sample { how: self, input, reader, writer, positions: own, n, first });
        });
    }

    /// Gradient with respect to the activated source.
    pub fn input_gradient(&self, input: Grid, points: Grid, positions: &[f32], grad_out: &[f32], sink: Sink) {
        self.input_gradient_with(Cpu::detected(), input, points, positions, grad_out, sink);
    }

    pub(crate) fn input_gradient_with(
        &self,
        cpu: Cpu,
        input: Grid,
        points: Grid,
        positions: &[f32],
        grad_out: &[f32],
        sink: Sink,
    ) {
        self.check(input, points, positions);
        gradient::of_input(self, cpu, [input, points], positions, grad_out, sink);
    }

    /// Gradient with respect to the positions, `[n, points, 3]`, overwritten; zero for `nearest`.
    pub fn position_gradient(
        &self,
        input: Grid,
        source: &Source,
        points: Grid,
        positions: &[f32],
        grad_out: &[f32],
        grad_positions: &mut [f32],
    ) {
        let cpu = Cpu::detected();
        self.position_gradient_with(cpu, input, source, points, positions, grad_out, grad_positions);
    }

    pub(crate) fn position_gradient_with(
        &self,
        cpu: Cpu,
        input: Grid,
        source: &Source,
        points: Grid,
        positions: &[f32],
        grad_out: &[f32],
        grad_positions: &mut [f32],
    ) {
        self.check(input, points, positions);
        check("gradient of the positions", grad_positions.len(), positions.len());
        gradient::of_positions(self, cpu, [input, points], source, positions, grad_out, grad_positions);
    }

    fn check(&self, input: Grid, points: Grid, positions: &[f32]) {
        check("samples of the positions", points.n, input.n);
        check("positions", positions.len(), points.n * points.voxels() * 3);
    }
}

/// Calls `run(sample, first point, count)` for fixed chunks of points, in parallel.
fn for_chunks(points: Grid, run: impl Fn(usize, usize, usize) + Sync) {
    let chunks = points.voxels().div_ceil(CHUNK);
    (0..points.n * chunks).into_par_iter().for_each(|task| {
        let (n, first) = (task / chunks, task % chunks * CHUNK);
        run(n, first, CHUNK.min(points.voxels() - first));
    });
}

/// Some points of a sample.
struct Sample<'a> {
    how: &'a GridSample,
    input: Grid,
    reader: &'a Reader<'a>,
    writer: &'a Writer<'a>,
    positions: &'a [f32],
    n: usize,
    first: usize,
}

impl Task for Sample<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
        V::fence();
    }
}

impl Kernel for Sample<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        for (i, position) in self.positions.as_chunks::<3>().0.iter().enumerate() {
            let corners = Corners::new(self.how, self.input.size, *position);
            for b in 0..self.writer.count() {
                let block = self.reader.block(self.n, b);
                let affine = block.affine::<V>();
                let mut sum = V::zero();
                for &(voxel, weight) in corners.inside() {
                    // SAFETY: corners inside lie in the grid, whose tensor `Reader` checked.
                    let value = unsafe { block.load::<V>(voxel as isize) };
                    let value = match &affine {
                        Some(affine) => affine.apply(value),
                        None => value,
                    };
                    sum = value.fma(V::splat(weight), sum);
                }
                // SAFETY: every point is written by one task.
                unsafe { self.writer.block(self.n, b).write(self.first + i, sum) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv_tests::{agree, noise, tensor};
    use crate::{Pending, padded};

    const HOWS: [GridSample; 8] = {
        let mut all = [GridSample { nearest: false, padding: Padding::Zeros, align_corners: false }; 8];
        let mut i = 0;
        while i < 8 {
            all[i].nearest = i & 1 == 1;
            all[i].align_corners = i & 2 == 2;
            all[i].padding = if i & 4 == 4 { Padding::Border } else { Padding::Zeros };
            i += 1;
        }
        all
    };

    /// Value of one channel at a position, in 64 bits; `at` is zero outside.
    fn plain(how: &GridSample, size: [usize; 3], position: [f64; 3], at: &dyn Fn([isize; 3]) -> f64) -> f64 {
        let place = |a: usize| {
            let (length, p) = (size[a] as f64, position[2 - a]);
            let p = if how.align_corners {
                (p + 1.0) / 2.0 * (length - 1.0)
            } else {
                ((p + 1.0) * length - 1.0) / 2.0
            };
            if how.padding == Padding::Border { p.clamp(0.0, length - 1.0) } else { p }
        };
        let p = [0, 1, 2].map(place);
        if how.nearest {
            return at(p.map(|p| p.round_ties_even() as isize));
        }
        let mut sum = 0.0;
        for corner in 0..8 {
            let up = [corner >> 2 & 1, corner >> 1 & 1, corner & 1];
            let weight: f64 = (0..3)
                .map(|a| {
                    let f = p[a] - p[a].floor();
                    if up[a] == 1 { f } else { 1.0 - f }
                })
                .product();
            let corner = [0, 1, 2].map(|a| p[a].floor() as isize + up[a]);
            sum += weight * if weight > 0.0 { at(corner) } else { 0.0 };
        }
        sum
    }

    #[test]
    fn values_and_gradients_follow_the_definition() {
        let (input, points, channels) = (Grid { n: 2, size: [4, 5, 6] }, Grid { n: 2, size: [3, 7, 20] }, 19);
        let width = padded(channels);
        let values = tensor(2 * input.voxels(), channels, 1);
        let (scale, shift) = (tensor(2, channels, 2), tensor(2, channels, 3));
        let pending = Pending { scale: &scale, shift: &shift, slope: 0.2 };
        let source = Source::new(&values, channels, Some(pending));
        let positions: Vec<f32> = noise(2 * points.voxels() * 3, 5).iter().map(|x| 1.3 * x).collect();
        let grad = tensor(2 * points.voxels(), channels, 6);
        let activated = |n: usize, c: usize, p: [isize; 3]| {
            if (0..3).any(|a| p[a] < 0 || p[a] >= input.size[a] as isize) {
                return 0.0;
            }
            let voxel = (p[0] as usize * 5 + p[1] as usize) * 6 + p[2] as usize;
            let t = values[(n * input.voxels() + voxel) * width + c] * scale[n * width + c]
                + shift[n * width + c];
            f64::from(if t >= 0.0 { t } else { 0.2 * t })
        };
        for how in HOWS {
            let position = |i: usize| std::array::from_fn(|a| f64::from(positions[i * 3 + a]));
            let value = |i: usize, c: usize, position: [f64; 3]| {
                plain(&how, input.size, position, &|p| activated(i / points.voxels(), c, p))
            };
            let mut good = vec![0.0; grad.len()];
            let mut good_positions = vec![0.0; positions.len()];
            for i in 0..2 * points.voxels() {
                for c in 0..channels {
                    good[i * width + c] = value(i, c, position(i)) as f32;
                    for a in 0..3 {
                        let at = |step: f64| {
                            let mut p = position(i);
                            p[a] += step;
                            value(i, c, p)
                        };
                        let slope = if how.nearest { 0.0 } else { (at(1e-6) - at(-1e-6)) / 2e-6 };
                        good_positions[i * 3 + a] += (slope * f64::from(grad[i * width + c])) as f32;
                    }
                }
            }
            for cpu in Cpu::available() {
                let name = format!("{how:?} {}", cpu.name());
                let mut out = vec![f32::NAN; grad.len()];
                how.forward_with(cpu, input, &source, points, &positions, &mut out);
                agree(&format!("out {name}"), &out, &good);
                let mut by_position = vec![f32::NAN; positions.len()];
                how.position_gradient_with(cpu, input, &source, points, &positions, &grad, &mut by_position);
                for (i, (found, good)) in by_position.iter().zip(&good_positions).enumerate() {
                    assert!((found - good).abs() < 2e-3, "positions {name} at {i}: {found} {good}");
                }
                // <A x, g> = <x, A' g> for the map that is linear without the pending norm.
                let bare = Source { pending: None, ..source };
                how.forward_with(cpu, input, &bare, points, &positions, &mut out);
                let mut dx = vec![1.0; values.len()];
                let sink = Sink { values: &mut dx, channels, add: true };
                how.input_gradient_with(cpu, input, points, &positions, &grad, sink);
                for c in 0..channels {
                    let dot = |a: &[f32], b: &[f32], less: f64| {
                        let lane = |v: &[f32]| {
                            v.iter().skip(c).step_by(width).map(|&x| f64::from(x)).collect::<Vec<_>>()
                        };
                        lane(a).iter().zip(lane(b)).map(|(a, b)| a * (b - less)).sum::<f64>()
                    };
                    let (left, right) = (dot(&out, &grad, 0.0), dot(&values, &dx, 1.0));
                    assert!((left - right).abs() < 1e-3, "{name}: {left} {right}");
                }
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bytes_and_no_position_is_a_panic() {
        let (input, points) = (Grid { n: 1, size: [5, 4, 3] }, Grid { n: 1, size: [2, 20, 30] });
        let grad = tensor(points.voxels(), 4, 6);
        let mut positions = noise(points.voxels() * 3, 5);
        for (i, odd) in
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, 1.0, -1.0].into_iter().enumerate()
        {
            positions[4 * i] = odd;
        }
        for how in HOWS {
            let all = || {
                let mut dx = vec![0.0; input.voxels() * 16];
                let sink = Sink { values: &mut dx, channels: 4, add: false };
                how.input_gradient(input, points, &positions, &grad, sink);
                dx.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            let run = |threads: usize| {
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(all)
            };
            let one = run(1);
            assert!(one == run(2) && one == run(5), "{how:?}");
        }
    }
}
