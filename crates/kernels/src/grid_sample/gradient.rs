//! Gradients of sampling: a scatter into the input, plane by plane, and dot products for the positions.

use super::corners::Place;
use super::{GridSample, for_chunks};
use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use crate::scratch::Shared;
use crate::tensor_blocks::{Reader, check};
use crate::{Grid, LANES, Sink, Source, padded};
use rayon::prelude::*;

/// Gradient of the input; grids are those of the input and of the points.
pub(super) fn of_input(
    how: &GridSample,
    cpu: Cpu,
    [input, points]: [Grid; 2],
    positions: &[f32],
    grad: &[f32],
    sink: Sink,
) {
    let (width, planes) = (padded(sink.channels), input.size[0]);
    check("gradient of the samples", grad.len(), points.n * points.voxels() * width);
    check("sink", sink.values.len(), input.n * input.voxels() * width);
    let plane = input.size[1] * input.size[2] * width;
    let samples = sink.values.chunks_exact_mut(planes * plane).enumerate();
    samples.for_each(|(n, dx)| {
        let own = n * points.voxels()..(n + 1) * points.voxels();
        let positions = &positions[own.start * 3..own.end * 3];
        let grad = &grad[own.start * width..own.end * width];
        let bins = by_plane(how, planes, positions);
        dx.par_chunks_mut(plane).enumerate().for_each(|(z, dx)| {
            if !sink.add {
                dx.fill(0.0);
            }
            let (bins, dx) = (&bins, Shared::new(dx));
            cpu.run(&Plane { how, size: input.size, width, positions, grad, bins, z, dx });
        });
    });
}

/// Points by the plane below them: bin `z` holds those between the planes `z - 1` and `z`, each bin in order.
fn by_plane(how: &GridSample, planes: usize, positions: &[f32]) -> Vec<Vec<u32>> {
    let mut bins = vec![Vec::new(); planes + 1];
    for (i, position) in positions.as_chunks::<3>().0.iter().enumerate() {
        let low = Place::new(how, planes, position[2]).low;
        if (-1..planes as isize).contains(&low) {
            bins[(low + 1) as usize].push(i as u32);
        }
    }
    bins
}

/// One plane of the input that is written.
struct Plane<'a> {
    how: &'a GridSample,
    size: [usize; 3],
    width: usize,
    positions: &'a [f32],
    grad: &'a [f32],
    bins: &'a [Vec<u32>],
    z: usize,
    /// `[y, x, width]`.
    dx: Shared,
}

impl Task for Plane<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Plane<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let [depth, rows, columns] = self.size;
        // The points just above the plane, then those just below it.
        for &i in self.bins[self.z + 1].iter().chain(&self.bins[self.z]) {
            let position = &self.positions[i as usize * 3..][..3];
            let place = |a: usize, size: usize| Place::new(self.how, size, position[2 - a]);
            let (z, y, x) = (place(0, depth), place(1, rows), place(2, columns));
            let Some((_, z_weight, _)) = z.inside().find(|&(voxel, ..)| voxel == self.z) else { continue };
            let grad = &self.grad[i as usize * self.width..][..self.width];
            for (y, y_weight, _) in y.inside() {
                for (x, x_weight, _) in x.inside() {
                    let weight = V::splat(z_weight * y_weight * x_weight);
                    for b in (0..self.width).step_by(LANES) {
                        // SAFETY: the voxel is inside the plane, which this task alone writes; rows are whole vectors.
                        unsafe {
                            let to = self.dx.at((y * columns + x) * self.width + b);
                            V::load(grad.as_ptr().add(b)).fma(weight, V::load(to)).store(to);
                        }
                    }
                }
            }
        }
    }
}

/// Gradient of the positions; grids are those of the input and of the points.
pub(super) fn of_positions(
    how: &GridSample,
    cpu: Cpu,
    [input, points]: [Grid; 2],
    source: &Source,
    positions: &[f32],
    grad: &[f32],
    out: &mut [f32],
) {
    let width = padded(source.channels);
    check("gradient of the samples", grad.len(), points.n * points.voxels() * width);
    let (reader, out) = (Reader::new(input, &[*source]), Shared::new(out));
    for_chunks(points, |n, first, count| {
        let start = n * points.voxels() + first;
        cpu.run(&Positions {
            how,
            size: input.size,
            reader: &reader,
            n,
            positions: &positions[start * 3..][..count * 3],
            grad: &grad[start * width..][..count * width],
            out: out.from(start * 3),
        });
    });
}

/// Some points of a sample.
struct Positions<'a> {
    how: &'a GridSample,
    size: [usize; 3],
    reader: &'a Reader<'a>,
    n: usize,
    positions: &'a [f32],
    grad: &'a [f32],
    /// As long as `positions`.
    out: Shared,
}

impl Task for Positions<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Positions<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let [_, rows, columns] = self.size;
        let width = self.reader.count() * LANES;
        for (i, position) in self.positions.as_chunks::<3>().0.iter().enumerate() {
            let places = [0, 1, 2].map(|a| Place::new(self.how, self.size[a], position[2 - a]));
            let mut slopes = [0.0; 3];
            for (z, wz, dz) in places[0].inside() {
                for (y, wy, dy) in places[1].inside() {
                    for (x, wx, dx) in places[2].inside() {
                        let mut dot = V::zero();
                        for b in 0..self.reader.count() {
                            let block = self.reader.block(self.n, b);
                            // SAFETY: the voxel is inside the grid, whose tensor `Reader` checked; the gradient has
                            // whole vectors.
                            unsafe {
                                let value = block.load::<V>(((z * rows + y) * columns + x) as isize);
                                let value = match block.affine::<V>() {
                                    Some(affine) => affine.apply(value),
                                    None => value,
                                };
                                let grad = self.grad.as_ptr().add(i * width + b * LANES);
                                dot = value.fma(V::load(grad), dot);
                            }
                        }
                        let dot = dot.sum();
                        slopes[0] += dx * wy * wz * dot;
                        slopes[1] += wx * dy * wz * dot;
                        slopes[2] += wx * wy * dz * dot;
                    }
                }
            }
            for a in 0..3 {
                // SAFETY: the three values of this point are this task's own.
                unsafe { self.out.at(i * 3 + a).write(slopes[a] * places[2 - a].rate) };
            }
        }
    }
}
