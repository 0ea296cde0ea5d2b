//! Nearest and linear interpolation of channels-last tensors to another grid, and the gradient.
//!
//! Every place written is a weighted sum of places read, axis by axis. Forward and backward are the same pass with
//! tables that are each other's transpose: first the rows in reach are added up, then the places along the row.

#![allow(unsafe_code, reason = "rows run register by register over blocks that were checked once")]

use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use crate::scratch::{Shared, with_scratch};
use crate::tensor_blocks::{ReadBlock, Reader, WriteBlock, Writer};
use crate::{Grid, LANES, Sink, Source};
use rayon::prelude::*;

/// How values between the voxels are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interpolation {
    /// The voxel at `floor(o · in / out)`.
    Nearest,
    /// Linear along every axis; the outer edges of the corner voxels coincide.
    Linear,
    /// Linear along every axis; the centres of the corner voxels coincide.
    LinearAlignCorners,
}

/// Per place written: places read, and their weights.
pub(crate) type Table = Vec<Vec<(usize, f32)>>;

impl Interpolation {
    /// Interpolates `source` on `input` to the grid `size`, `(z, y, x)`; `out` is `[n, size, padded(c)]`.
    pub fn forward(self, input: Grid, source: &Source, size: [usize; 3], out: &mut [f32]) {
        self.forward_with(Cpu::detected(), input, source, size, out);
    }

    pub(crate) fn forward_with(
        self,
        cpu: Cpu,
        input: Grid,
        source: &Source,
        size: [usize; 3],
        out: &mut [f32],
    ) {
        let written = Grid { n: input.n, size };
        let tables = [0, 1, 2].map(|a| self.table(input.size[a], size[a]));
        let (reader, writer) =
            (Reader::new(input, &[*source]), Writer::whole(written, out.into(), source.channels));
        Pass { cpu, read: input, written, tables, reader, writer }.run();
    }

    /// Gradient with respect to the activated source; `grad_out` is on the grid `size`.
    pub fn gradient(self, input: Grid, size: [usize; 3], grad_out: &[f32], sink: Sink) {
        self.gradient_with(Cpu::detected(), input, size, grad_out, sink);
    }

    pub(crate) fn gradient_with(self, cpu: Cpu, input: Grid, size: [usize; 3], grad_out: &[f32], sink: Sink) {
        let (read, channels, mut sinks) = (Grid { n: input.n, size }, sink.channels, [Some(sink)]);
        let tables = [0, 1, 2].map(|a| transpose(&self.table(input.size[a], size[a]), input.size[a]));
        let reader = Reader::new(read, &[Source::new(grad_out, channels, None)]);
        let writer = Writer::sinks(input, &mut sinks, &[channels]);
        Pass { cpu, read, written: input, tables, reader, writer }.run();
    }

    /// One axis from `from` to `to` voxels.
    fn table(self, from: usize, to: usize) -> Table {
        assert!(from > 0 && to > 0, "interpolation from {from} to {to} voxels");
        let last = (from - 1) as f32;
        let place = |o: usize| {
            let (o, scale) = (o as f32, from as f32 / to as f32);
            let at = match self {
                Self::Nearest => return vec![(((o * scale) as usize).min(from - 1), 1.0)],
                Self::Linear => ((o + 0.5) * scale - 0.5).max(0.0),
                Self::LinearAlignCorners if to > 1 => o * (last / (to - 1) as f32),
                Self::LinearAlignCorners => 0.0,
            };
            let first = (at as usize).min(from - 1);
            let rest = (at - first as f32).clamp(0.0, 1.0);
            if rest == 0.0 || first + 1 == from {
                vec![(first, 1.0)]
            } else {
                vec![(first, 1.0 - rest), (first + 1, rest)]
            }
        };
        (0..to).map(place).collect()
    }
}

/// The table by which gradients go back to `read` places.
pub(crate) fn transpose(table: &Table, read: usize) -> Table {
    let mut turned = vec![Vec::new(); read];
    for (o, places) in table.iter().enumerate() {
        places.iter().for_each(|&(i, weight)| turned[i].push((o, weight)));
    }
    turned
}

/// Every place written is a weighted sum of places read, axis by axis.
pub(crate) struct Pass<'a> {
    pub cpu: Cpu,
    pub read: Grid,
    pub written: Grid,
    pub tables: [Table; 3],
    pub reader: Reader<'a>,
    pub writer: Writer<'a>,
}

impl Pass<'_> {
    /// Writes all places.
    pub(crate) fn run(&self) {
        let [planes, rows, _] = self.written.size;
        (0..self.written.n * planes * rows).into_par_iter().for_each(|row| {
            self.cpu.run(&Row { pass: self, n: row / rows / planes, z: row / rows % planes, y: row % rows });
        });
    }
}

/// One row that is written.
struct Row<'a> {
    pass: &'a Pass<'a>,
    n: usize,
    z: usize,
    y: usize,
}

impl Task for Row<'_> {
    fn run<V: Lanes>(&self) {
        let Pass { read, written, tables: [of_z, of_y, of_x], reader, writer, .. } = self.pass;
        let mut rows = Vec::with_capacity(4);
        for &(z, z_weight) in &of_z[self.z] {
            for &(y, y_weight) in &of_y[self.y] {
                rows.push(((z * read.size[1] + y) * read.size[2], z_weight * y_weight));
            }
        }
        let voxel = (self.z * written.size[1] + self.y) * written.size[2];
        with_scratch(read.size[2] * LANES, |sum| {
            for b in 0..writer.count() {
                let (block, out) = (reader.block(self.n, b), writer.block(self.n, b));
                let sum = Shared::new(sum);
                V::call(&AddRows { block, rows: &rows, count: read.size[2], sum });
                V::call(&SpreadRow { sum, table: of_x, out, voxel });
            }
            V::fence();
        });
    }
}

/// `sum = Σ weight · row`
struct AddRows<'a> {
    block: &'a ReadBlock<'a>,
    rows: &'a [(usize, f32)],
    count: usize,
    /// `[count, 16]`.
    sum: Shared,
}

impl Kernel for AddRows<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let affine = self.block.affine::<V>();
        for x in 0..self.count {
            let mut sum = V::zero();
            for &(row, weight) in self.rows {
                // SAFETY: rows of the table lie in the grid, whose tensor `Reader` checked.
                let value = unsafe { self.block.load::<V>((row + x) as isize) };
                let value = match &affine {
                    Some(affine) => affine.apply(value),
                    None => value,
                };
                sum = value.fma(V::splat(weight), sum);
            }
            // SAFETY: the sum has `count` vectors and belongs to this thread.
            unsafe { sum.store(self.sum.at(x * LANES)) };
        }
    }
}

/// `out[x] = Σ weight · sum[place]`
struct SpreadRow<'a> {
    sum: Shared,
    table: &'a Table,
    out: WriteBlock,
    voxel: usize,
}

impl Kernel for SpreadRow<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        for (x, places) in self.table.iter().enumerate() {
            let mut value = V::zero();
            if let [(a, wa), (b, wb)] = places[..] {
                // SAFETY: places of the table lie in the row that was summed.
                let (a, b) = unsafe { (V::load(self.sum.at(a * LANES)), V::load(self.sum.at(b * LANES))) };
                value = b.fma(V::splat(wb), a.mul(V::splat(wa)));
            } else {
                for &(place, weight) in places {
                    // SAFETY: as above.
                    value = unsafe { V::load(self.sum.at(place * LANES)) }.fma(V::splat(weight), value);
                }
            }
            // SAFETY: the row written belongs to this task.
            unsafe { self.out.write(self.voxel + x, value) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv_tests::{agree, tensor};
    use crate::{Pending, padded};

    /// Value at a place of the output, straight from the definition.
    fn plain(
        kind: Interpolation,
        input: Grid,
        size: [usize; 3],
        o: [usize; 3],
        at: &dyn Fn(usize) -> f64,
    ) -> f64 {
        let axis = |a: usize| -> Vec<(usize, f64)> {
            let (from, to, o) = (input.size[a], size[a], o[a]);
            let place = match kind {
                Interpolation::Nearest => return vec![((o * from) / to, 1.0)],
                Interpolation::Linear => ((o as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0),
                Interpolation::LinearAlignCorners if to == 1 => 0.0,
                Interpolation::LinearAlignCorners => o as f64 * (from - 1) as f64 / (to - 1) as f64,
            };
            let low = place.floor();
            let next = (low as usize + 1).min(from - 1);
            vec![(low as usize, 1.0 - (place - low)), (next, place - low)]
        };
        let [zs, ys, xs] = [0, 1, 2].map(axis);
        let mut sum = 0.0;
        for &(z, wz) in &zs {
            for &(y, wy) in &ys {
                for &(x, wx) in &xs {
                    sum += wz * wy * wx * at((z * input.size[1] + y) * input.size[2] + x);
                }
            }
        }
        sum
    }

    #[test]
    fn values_follow_the_definition_and_the_gradient_is_the_transpose() {
        let kinds = [Interpolation::Nearest, Interpolation::Linear, Interpolation::LinearAlignCorners];
        for (from, to) in
            [([3, 4, 5], [6, 8, 10]), ([5, 7, 4], [2, 7, 9]), ([1, 6, 8], [1, 3, 4]), ([2, 3, 2], [5, 1, 7])]
        {
            let (input, channels) = (Grid { n: 2, size: from }, 20);
            let (written, width) = (Grid { n: 2, size: to }, padded(channels));
            let values = tensor(2 * input.voxels(), channels, 1);
            let (scale, shift) = (tensor(2, channels, 2), tensor(2, channels, 3));
            let pending = Some(Pending { scale: &scale, shift: &shift, slope: 0.1 });
            let source = Source::new(&values, channels, pending);
            let grad = tensor(2 * written.voxels(), channels, 4);
            for kind in kinds {
                let mut good = vec![0.0; grad.len()];
                for (v, good) in good.chunks_mut(width).enumerate() {
                    let (n, v) = (v / written.voxels(), v % written.voxels());
                    let o = [v / (to[1] * to[2]), v / to[2] % to[1], v % to[2]];
                    for c in 0..channels {
                        let at = |voxel: usize| {
                            let t = values[(n * input.voxels() + voxel) * width + c] * scale[n * width + c]
                                + shift[n * width + c];
                            f64::from(if t > 0.0 { t } else { 0.1 * t })
                        };
                        good[c] = plain(kind, input, to, o, &at) as f32;
                    }
                }
                for cpu in Cpu::available() {
                    let name = format!("{kind:?} {from:?} {to:?} {}", cpu.name());
                    let mut out = vec![f32::NAN; grad.len()];
                    kind.forward_with(cpu, input, &source, to, &mut out);
                    agree(&name, &out, &good);
                    // <A x, g> = <x, A' g> for the linear map, here without the pending norm.
                    let bare = Source { pending: None, ..source };
                    kind.forward_with(cpu, input, &bare, to, &mut out);
                    let mut dx = vec![1.0; values.len()];
                    kind.gradient_with(cpu, input, to, &grad, Sink { values: &mut dx, channels, add: true });
                    let dot = |a: &[f32], b: &[f32]| {
                        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
                    };
                    dx.iter_mut().for_each(|x| *x -= 1.0);
                    let (left, right) = (dot(&out, &grad), dot(&values, &dx));
                    assert!(
                        (left - right).abs() < 1e-4 * (dot(&out, &out) * dot(&grad, &grad)).sqrt(),
                        "{name}: {left} {right}"
                    );
                }
            }
        }
    }
}
