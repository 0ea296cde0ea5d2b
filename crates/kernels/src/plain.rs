//! Convolution, forward and backward, as its definition reads: the twin that every fast path is compared with.

use crate::{Grid, Sink, Source, padded};
use rayon::prelude::*;

/// A convolution with padding `(k - 1) / 2`; its sources are read side by side as one tensor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PlainConv {
    /// Kernel, `(z, y, x)`.
    pub kernel: [usize; 3],
    /// Stride, `(z, y, x)`.
    pub stride: [usize; 3],
    /// Channels per source.
    pub inputs: Vec<usize>,
    /// Output channels.
    pub outputs: usize,
}

/// Weights in the order that a kernel reads them.
#[derive(Debug)]
pub(crate) struct PlainPacked {
    values: Vec<f32>,
}

impl PlainConv {
    fn total(&self) -> usize {
        self.inputs.iter().sum()
    }

    /// Grid of the output.
    pub(crate) fn output(&self, input: Grid) -> Grid {
        let size = [0, 1, 2]
            .map(|a| (input.size[a] + 2 * ((self.kernel[a] - 1) / 2) - self.kernel[a]) / self.stride[a] + 1);
        Grid { n: input.n, size }
    }

    /// Weights `[co, ci, kz, ky, kx]` for [`PlainConv::forward`].
    pub(crate) fn pack(&self, weights: &[f32], _input: Grid) -> PlainPacked {
        let (taps, ci, cop) = (self.kernel.iter().product::<usize>(), self.total(), padded(self.outputs));
        let mut values = vec![0.0; taps * ci * cop];
        for co in 0..self.outputs {
            for i in 0..ci {
                for tap in 0..taps {
                    values[(tap * ci + i) * cop + co] = weights[(co * ci + i) * taps + tap];
                }
            }
        }
        PlainPacked { values }
    }

    /// Raw output, and per sample and channel its sum and sum of squares when `moments` is given.
    pub(crate) fn forward(
        &self,
        input: Grid,
        sources: &[Source],
        packed: &PlainPacked,
        bias: Option<&[f32]>,
        out: &mut [f32],
        moments: Option<&mut [f64]>,
    ) {
        let x = gather(input, sources);
        let (ci, cop, grid) = (self.total(), padded(self.outputs), self.output(input));
        let row = grid.size[2] * cop;
        out.par_chunks_mut(row).enumerate().for_each(|(r, out)| {
            let (n, z, y) = place(grid, r);
            for (xo, out) in out.chunks_mut(cop).enumerate() {
                out.fill(0.0);
                if let Some(bias) = bias {
                    out[..self.outputs].copy_from_slice(bias);
                }
                self.taps([z, y, xo], input.size, |tap, at| {
                    let from = &x[(n * input.voxels() + at) * ci..][..ci];
                    for (i, &v) in from.iter().enumerate() {
                        let w = &packed.values[(tap * ci + i) * cop..][..cop];
                        out.iter_mut().zip(w).for_each(|(o, w)| *o += v * w);
                    }
                });
            }
        });
        if let Some(moments) = moments {
            let sample = grid.voxels() * cop;
            moments.fill(0.0);
            for n in 0..grid.n {
                for voxel in out[n * sample..][..sample].chunks(cop) {
                    for (c, &v) in voxel.iter().enumerate() {
                        moments[(n * cop + c) * 2] += f64::from(v);
                        moments[(n * cop + c) * 2 + 1] += f64::from(v) * f64::from(v);
                    }
                }
            }
        }
    }

    /// Weights `[co, ci, kz, ky, kx]` for [`PlainConv::input_gradient`].
    pub(crate) fn pack_gradient(&self, weights: &[f32], _input: Grid) -> PlainPacked {
        let (taps, ci, co) = (self.kernel.iter().product::<usize>(), self.total(), self.outputs);
        let mut values = vec![0.0; taps * ci * co];
        for o in 0..co {
            for i in 0..ci {
                for tap in 0..taps {
                    values[(tap * co + o) * ci + i] = weights[(o * ci + i) * taps + tap];
                }
            }
        }
        PlainPacked { values }
    }

    /// Gradient with respect to the activated sources.
    pub(crate) fn input_gradient(
        &self,
        input: Grid,
        grad_out: &[f32],
        packed: &PlainPacked,
        sinks: &mut [Option<Sink>],
    ) {
        let (ci, cop, grid) = (self.total(), padded(self.outputs), self.output(input));
        let mut dx = vec![0.0; input.n * input.voxels() * ci];
        dx.par_chunks_mut(input.voxels() * ci).enumerate().for_each(|(n, dx)| {
            for v in 0..grid.voxels() {
                let (_, z, y) = place(grid, v / grid.size[2]);
                let g = &grad_out[(n * grid.voxels() + v) * cop..][..self.outputs];
                self.taps([z, y, v % grid.size[2]], input.size, |tap, at| {
                    let to = &mut dx[at * ci..][..ci];
                    for (o, &g) in g.iter().enumerate() {
                        let w = &packed.values[(tap * self.outputs + o) * ci..][..ci];
                        to.iter_mut().zip(w).for_each(|(t, w)| *t += g * w);
                    }
                });
            }
        });
        let mut first = 0;
        for (sink, &channels) in sinks.iter_mut().zip(&self.inputs) {
            if let Some(sink) = sink {
                let width = padded(channels);
                for (to, from) in sink.values.chunks_mut(width).zip(dx.chunks(ci)) {
                    for c in 0..channels {
                        to[c] = from[first + c] + if sink.add { to[c] } else { 0.0 };
                    }
                    if !sink.add {
                        to[channels..].fill(0.0);
                    }
                }
            }
            first += channels;
        }
    }

    /// Gradients with respect to weights `[co, ci, kz, ky, kx]` and bias; both are overwritten.
    pub(crate) fn weight_gradient(
        &self,
        input: Grid,
        sources: &[Source],
        grad_out: &[f32],
        dw: &mut [f32],
        db: Option<&mut [f32]>,
    ) {
        let x = gather(input, sources);
        let (ci, cop, grid) = (self.total(), padded(self.outputs), self.output(input));
        let taps: usize = self.kernel.iter().product();
        dw.par_chunks_mut(ci * taps).enumerate().for_each(|(o, dw)| {
            dw.fill(0.0);
            for v in 0..grid.n * grid.voxels() {
                let (n, z, y) = place(grid, v / grid.size[2]);
                let g = grad_out[v * cop + o];
                self.taps([z, y, v % grid.size[2]], input.size, |tap, at| {
                    let from = &x[(n * input.voxels() + at) * ci..][..ci];
                    for (i, x) in from.iter().enumerate() {
                        dw[i * taps + tap] += g * x;
                    }
                });
            }
        });
        if let Some(db) = db {
            for (o, db) in db.iter_mut().enumerate() {
                *db = grad_out.iter().skip(o).step_by(cop).map(|&g| f64::from(g)).sum::<f64>() as f32;
            }
        }
    }

    fn taps(&self, at: [usize; 3], size: [usize; 3], mut visit: impl FnMut(usize, usize)) {
        let [kz, ky, kx] = self.kernel;
        let inside = |axis: usize, k: usize| {
            let p = (at[axis] * self.stride[axis] + k).checked_sub((self.kernel[axis] - 1) / 2)?;
            (p < size[axis]).then_some(p)
        };
        for z in 0..kz {
            let Some(pz) = inside(0, z) else { continue };
            for y in 0..ky {
                let Some(py) = inside(1, y) else { continue };
                for x in 0..kx {
                    let Some(px) = inside(2, x) else { continue };
                    visit((z * ky + y) * kx + x, (pz * size[1] + py) * size[2] + px);
                }
            }
        }
    }
}

fn place(grid: Grid, row: usize) -> (usize, usize, usize) {
    let (y, rest) = (row % grid.size[1], row / grid.size[1]);
    (rest / grid.size[0], rest % grid.size[0], y)
}

/// Activated sources side by side, `[n, z, y, x, c]` without pad lanes.
fn gather(grid: Grid, sources: &[Source]) -> Vec<f32> {
    let total: usize = sources.iter().map(|s| s.channels).sum();
    let mut x = vec![0.0; grid.n * grid.voxels() * total];
    x.par_chunks_mut(total).enumerate().for_each(|(v, to)| {
        let (n, mut first) = (v / grid.voxels(), 0);
        for source in sources {
            let width = padded(source.channels);
            for c in 0..source.channels {
                let mut t = source.values.get(v * width + c);
                if let Some(p) = source.pending {
                    t = t.mul_add(p.scale[n * width + c], p.shift[n * width + c]);
                    t = if t >= 0.0 { t } else { t * p.slope };
                }
                to[first + c] = t;
            }
            first += source.channels;
        }
    });
    x
}

/// A transposed convolution whose kernel is its stride; weights `[ci, co, kz, ky, kx]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PlainTransposed {
    /// Stride and kernel, `(z, y, x)`.
    pub stride: [usize; 3],
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
}

impl PlainTransposed {
    fn conv(&self) -> PlainConv {
        PlainConv {
            kernel: self.stride,
            stride: self.stride,
            inputs: vec![self.outputs],
            outputs: self.inputs,
        }
    }

    /// Grid of the output.
    pub(crate) fn output(&self, input: Grid) -> Grid {
        Grid { n: input.n, size: [0, 1, 2].map(|a| input.size[a] * self.stride[a]) }
    }

    /// Weights for [`PlainTransposed::forward`].
    pub(crate) fn pack(&self, weights: &[f32], _input: Grid) -> PlainPacked {
        PlainPacked { values: weights.to_vec() }
    }

    /// Output.
    pub(crate) fn forward(
        &self,
        input: Grid,
        source: &Source,
        packed: &PlainPacked,
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let x = gather(input, std::slice::from_ref(source));
        let (grid, cop, taps) =
            (self.output(input), padded(self.outputs), self.stride.iter().product::<usize>());
        out.par_chunks_mut(cop).enumerate().for_each(|(v, out)| {
            let (n, z, y) = place(grid, v / grid.size[2]);
            let at = [z, y, v % grid.size[2]];
            let (from, tap) = self.origin(at, input.size);
            let from = &x[(n * input.voxels() + from) * self.inputs..][..self.inputs];
            out.fill(0.0);
            for o in 0..self.outputs {
                let sum: f32 = from
                    .iter()
                    .enumerate()
                    .map(|(i, x)| x * packed.values[(i * self.outputs + o) * taps + tap])
                    .sum();
                out[o] = sum + bias.map_or(0.0, |b| b[o]);
            }
        });
    }

    fn origin(&self, at: [usize; 3], size: [usize; 3]) -> (usize, usize) {
        let from = [0, 1, 2].map(|a| at[a] / self.stride[a]);
        let tap = [0, 1, 2].map(|a| at[a] % self.stride[a]);
        (
            (from[0] * size[1] + from[1]) * size[2] + from[2],
            (tap[0] * self.stride[1] + tap[1]) * self.stride[2] + tap[2],
        )
    }

    /// Weights for [`PlainTransposed::input_gradient`].
    pub(crate) fn pack_gradient(&self, weights: &[f32], input: Grid) -> PlainPacked {
        self.pack(weights, input)
    }

    /// Gradient with respect to the activated source.
    pub(crate) fn input_gradient(&self, input: Grid, grad_out: &[f32], packed: &PlainPacked, sink: Sink) {
        let (grid, cop, cip, taps) = (
            self.output(input),
            padded(self.outputs),
            padded(self.inputs),
            self.stride.iter().product::<usize>(),
        );
        let add = sink.add;
        sink.values.par_chunks_mut(cip).enumerate().for_each(|(v, to)| {
            let (n, z, y) = place(input, v / input.size[2]);
            let x = v % input.size[2];
            if !add {
                to.fill(0.0);
            }
            for tap in 0..taps {
                let t = [
                    tap / self.stride[2] / self.stride[1],
                    tap / self.stride[2] % self.stride[1],
                    tap % self.stride[2],
                ];
                let o = [z * self.stride[0] + t[0], y * self.stride[1] + t[1], x * self.stride[2] + t[2]];
                let g = &grad_out
                    [(n * grid.voxels() + (o[0] * grid.size[1] + o[1]) * grid.size[2] + o[2]) * cop..]
                    [..self.outputs];
                for (i, to) in to[..self.inputs].iter_mut().enumerate() {
                    *to += g
                        .iter()
                        .enumerate()
                        .map(|(o, g)| g * packed.values[(i * self.outputs + o) * taps + tap])
                        .sum::<f32>();
                }
            }
        });
    }

    /// Gradients with respect to weights and bias; both are overwritten.
    pub(crate) fn weight_gradient(
        &self,
        input: Grid,
        source: &Source,
        grad_out: &[f32],
        dw: &mut [f32],
        db: Option<&mut [f32]>,
    ) {
        let x = gather(input, std::slice::from_ref(source));
        let wide = padded(self.inputs);
        // As a strided convolution whose output gradient is the source.
        let mut g = vec![0.0; input.n * input.voxels() * wide];
        g.chunks_mut(wide)
            .zip(x.chunks(self.inputs))
            .for_each(|(to, from)| to[..self.inputs].copy_from_slice(from));
        let grid = self.output(input);
        let read = Source::new(grad_out, self.outputs, None);
        PlainConv { kernel: self.stride, ..self.conv() }.strided_weight_gradient(grid, &read, &g, dw);
        if let Some(db) = db {
            let cop = padded(self.outputs);
            for (o, db) in db.iter_mut().enumerate() {
                *db = grad_out.iter().skip(o).step_by(cop).map(|&g| f64::from(g)).sum::<f64>() as f32;
            }
        }
    }
}

impl PlainConv {
    /// Weight gradient of an unpadded convolution whose kernel is its stride.
    fn strided_weight_gradient(&self, input: Grid, source: &Source, grad_out: &[f32], dw: &mut [f32]) {
        let x = gather(input, std::slice::from_ref(source));
        let (ci, taps, s) = (self.total(), self.kernel.iter().product::<usize>(), self.stride);
        let size = [0, 1, 2].map(|a| input.size[a] / s[a]);
        let grid = Grid { n: input.n, size };
        let cop = padded(self.outputs);
        dw.par_chunks_mut(ci * taps).enumerate().for_each(|(o, dw)| {
            dw.fill(0.0);
            for v in 0..grid.n * grid.voxels() {
                let (n, z, y) = place(grid, v / size[2]);
                let g = grad_out[v * cop + o];
                for tap in 0..taps {
                    let t = [tap / s[2] / s[1], tap / s[2] % s[1], tap % s[2]];
                    let at = ((z * s[0] + t[0]) * input.size[1] + y * s[1] + t[1]) * input.size[2]
                        + v % size[2] * s[2]
                        + t[2];
                    let from = &x[(n * input.voxels() + at) * ci..][..ci];
                    from.iter().enumerate().for_each(|(i, x)| dw[i * taps + tap] += g * x);
                }
            }
        });
    }
}
