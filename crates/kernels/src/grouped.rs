//! Grouped convolution: each group of channels is gathered, convolved by itself, and put in its place.
//!
//! Every group runs on the kernels of a full convolution, so it is worth its copies from about sixteen channels per group
//! on; one channel per group is [`crate::DepthwiseConv`].

use crate::conv::bias_gradient;
use crate::scratch::Recycled;
use crate::tensor_blocks::check;
use crate::{Conv, Grid, Packed, Pending, Sink, Source, padded};
use rayon::prelude::*;

/// A convolution in groups with padding `(k - 1) / 2`; weights are `[outputs, inputs / groups, kz, ky, kx]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupedConv {
    /// Number of groups; divides inputs and outputs.
    pub groups: usize,
    /// Kernel, `(z, y, x)`.
    pub kernel: [usize; 3],
    /// Stride, `(z, y, x)`.
    pub stride: [usize; 3],
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
}

/// Weights of all groups in the order that their kernels read.
#[derive(Debug)]
pub struct PackedGroups(Vec<Packed>);

impl GroupedConv {
    /// Grid of the output.
    pub fn output(&self, input: Grid) -> Grid {
        self.group().output(input)
    }

    /// The convolution of one group.
    fn group(&self) -> Conv {
        let whole = self.inputs.is_multiple_of(self.groups) && self.outputs.is_multiple_of(self.groups);
        assert!(whole, "{} to {} channels in {} groups", self.inputs, self.outputs, self.groups);
        Conv {
            kernel: self.kernel,
            stride: self.stride,
            inputs: vec![self.inputs / self.groups],
            outputs: self.outputs / self.groups,
        }
    }

    fn group_weights(&self) -> usize {
        self.outputs / self.groups * (self.inputs / self.groups) * self.kernel.iter().product::<usize>()
    }

    /// Weights for [`GroupedConv::forward`] on an input of this grid.
    pub fn pack(&self, weights: &[f32], input: Grid) -> PackedGroups {
        let (conv, size) = (self.group(), self.group_weights());
        check("weights", weights.len(), self.groups * size);
        PackedGroups(weights.chunks_exact(size).map(|own| conv.pack(own, input)).collect())
    }

    /// Weights for [`GroupedConv::input_gradient`] on an input of this grid.
    pub fn pack_gradient(&self, weights: &[f32], input: Grid) -> PackedGroups {
        let (conv, size) = (self.group(), self.group_weights());
        check("weights", weights.len(), self.groups * size);
        PackedGroups(weights.chunks_exact(size).map(|own| conv.pack_gradient(own, input)).collect())
    }

    /// Raw output; when `moments` is given also its sum and sum of squares, `[n, padded(outputs), 2]`.
    pub fn forward(
        &self,
        input: Grid,
        source: &Source,
        packed: &PackedGroups,
        bias: Option<&[f32]>,
        out: &mut [f32],
        mut moments: Option<&mut [f64]>,
    ) {
        check("channels of the source", source.channels, self.inputs);
        let (conv, output) = (self.group(), self.output(input));
        check("output", out.len(), output.n * output.voxels() * padded(self.outputs));
        let wide = padded(conv.outputs);
        let mut own_out = Recycled::new(output.n * output.voxels() * wide);
        let mut own_moments = vec![0.0; output.n * wide * 2];
        clear_pad_lanes(out, self.outputs);
        if let Some(moments) = moments.as_deref_mut() {
            check("moments", moments.len(), output.n * padded(self.outputs) * 2);
            moments.fill(0.0);
        }
        for (group, packed) in packed.0.iter().enumerate() {
            let gathered = Gathered::new(source, group * conv.inputs[0], conv.inputs[0]);
            let first = group * conv.outputs;
            let bias = bias.map(|bias| &bias[first..first + conv.outputs]);
            let wanted = moments.is_some().then_some(own_moments.as_mut_slice());
            conv.forward(input, &[gathered.source()], packed, bias, &mut own_out, wanted);
            scatter(&own_out, conv.outputs, out, padded(self.outputs), first, false);
            if let Some(moments) = moments.as_deref_mut() {
                let samples = moments
                    .chunks_exact_mut(2 * padded(self.outputs))
                    .zip(own_moments.chunks_exact(2 * wide));
                samples.for_each(|(to, from)| {
                    to[2 * first..2 * (first + conv.outputs)].copy_from_slice(&from[..2 * conv.outputs]);
                });
            }
        }
    }

    /// Gradient with respect to the activated source.
    pub fn input_gradient(&self, input: Grid, grad_out: &[f32], packed: &PackedGroups, sink: Sink) {
        let (conv, output, channels) = (self.group(), self.output(input), self.inputs);
        check("channels of a sink", sink.channels, channels);
        check("output gradient", grad_out.len(), output.n * output.voxels() * padded(self.outputs));
        let mut own = Recycled::new(input.n * input.voxels() * padded(conv.inputs[0]));
        if !sink.add {
            clear_pad_lanes(sink.values, channels);
        }
        for (group, packed) in packed.0.iter().enumerate() {
            let grad = gather(grad_out, padded(self.outputs), group * conv.outputs, conv.outputs);
            let to = Sink { values: &mut own, channels: conv.inputs[0], add: false };
            conv.input_gradient(input, &grad, packed, &mut [Some(to)]);
            let first = group * conv.inputs[0];
            scatter(&own, conv.inputs[0], sink.values, padded(channels), first, sink.add);
        }
    }

    /// Gradients with respect to weights `[outputs, inputs / groups, kz, ky, kx]` and bias; both are overwritten.
    pub fn weight_gradient(
        &self,
        input: Grid,
        source: &Source,
        grad_out: &[f32],
        dw: &mut [f32],
        db: Option<&mut [f32]>,
    ) {
        let conv = self.group();
        check("weight gradient", dw.len(), self.groups * self.group_weights());
        for (group, dw) in dw.chunks_exact_mut(self.group_weights()).enumerate() {
            let gathered = Gathered::new(source, group * conv.inputs[0], conv.inputs[0]);
            let grad = gather(grad_out, padded(self.outputs), group * conv.outputs, conv.outputs);
            conv.weight_gradient(input, &[gathered.source()], &grad, dw, None);
        }
        if let Some(db) = db {
            bias_gradient(grad_out, self.outputs, db);
        }
    }
}

/// Some channels of a source as a tensor of their own.
struct Gathered {
    values: Recycled,
    pending: Option<([Recycled; 2], f32)>,
    channels: usize,
}

impl Gathered {
    fn new(source: &Source, first: usize, channels: usize) -> Self {
        let cut = |values: &[f32]| gather(values, padded(source.channels), first, channels);
        let pending = source.pending.map(|p| ([cut(p.scale), cut(p.shift)], p.slope));
        Self { values: cut(&source.values.widened()), pending, channels }
    }

    fn source(&self) -> Source<'_> {
        let pending = self.pending.as_ref();
        let pending = pending.map(|([scale, shift], slope)| Pending { scale, shift, slope: *slope });
        Source::new(&self.values, self.channels, pending)
    }
}

/// `[rows, padded(count)]` of the channels from `first` on; pad lanes zero.
fn gather(values: &[f32], width: usize, first: usize, count: usize) -> Recycled {
    let wide = padded(count);
    let mut out = Recycled::new(values.len() / width * wide);
    out.par_chunks_exact_mut(wide).zip(values.par_chunks_exact(width)).for_each(|(to, from)| {
        to[..count].copy_from_slice(&from[first..first + count]);
        to[count..].fill(0.0);
    });
    out
}

fn scatter(own: &[f32], count: usize, to: &mut [f32], width: usize, first: usize, add: bool) {
    to.par_chunks_exact_mut(width).zip(own.par_chunks_exact(padded(count))).for_each(|(to, from)| {
        let to = &mut to[first..first + count];
        if add {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        } else {
            to.copy_from_slice(&from[..count]);
        }
    });
}

fn clear_pad_lanes(values: &mut [f32], channels: usize) {
    values.par_chunks_exact_mut(padded(channels)).for_each(|row| row[channels..].fill(0.0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv_tests::{agree, noise, tensor};

    /// The same convolution with the weights of other groups zero.
    #[test]
    fn groups_are_a_convolution_with_zeros_between_them() {
        for (groups, inputs, outputs, kernel, stride) in [
            (2, 32, 40, [3; 3], [1; 3]),
            (3, 9, 6, [1, 3, 3], [1, 2, 2]),
            (4, 8, 8, [1; 3], [1; 3]),
            (2, 34, 6, [3; 3], [2; 3]),
        ] {
            let of = GroupedConv { groups, kernel, stride, inputs, outputs };
            let conv = Conv { kernel, stride, inputs: vec![inputs], outputs };
            let (grid, taps) = (Grid { n: 2, size: [3, 6, 7] }, kernel.iter().product::<usize>());
            let (ci, co, output) = (inputs / groups, outputs / groups, conv.output(grid));
            let weights = noise(outputs * ci * taps, 1);
            let mut full = vec![0.0; outputs * inputs * taps];
            for o in 0..outputs {
                let to = (o * inputs + o / co * ci) * taps;
                full[to..to + ci * taps].copy_from_slice(&weights[o * ci * taps..(o + 1) * ci * taps]);
            }
            let values = tensor(2 * grid.voxels(), inputs, 2);
            let (scale, shift) = (tensor(2, inputs, 3), tensor(2, inputs, 4));
            let pending = Some(Pending { scale: &scale, shift: &shift, slope: 0.1 });
            let source = Source::new(&values, inputs, pending);
            let (bias, grad) = (noise(outputs, 5), tensor(2 * output.voxels(), outputs, 6));
            let mut good = vec![0.0; grad.len()];
            let mut good_moments = vec![0.0; 2 * padded(outputs) * 2];
            conv.forward(
                grid,
                &[source],
                &conv.pack(&full, grid),
                Some(&bias),
                &mut good,
                Some(&mut good_moments),
            );
            let (mut out, mut moments) = (vec![f32::NAN; grad.len()], vec![f64::NAN; good_moments.len()]);
            of.forward(grid, &source, &of.pack(&weights, grid), Some(&bias), &mut out, Some(&mut moments));
            agree(&format!("out {of:?}"), &out, &good);
            let narrow = |m: &[f64]| m.iter().map(|&m| m as f32).collect::<Vec<_>>();
            agree(&format!("moments {of:?}"), &narrow(&moments), &narrow(&good_moments));
            let (mut good_dx, mut dx) = (vec![1.0; values.len()], vec![1.0; values.len()]);
            let sink = |values| Sink { values, channels: inputs, add: true };
            conv.input_gradient(
                grid,
                &grad,
                &conv.pack_gradient(&full, grid),
                &mut [Some(sink(&mut good_dx))],
            );
            of.input_gradient(grid, &grad, &of.pack_gradient(&weights, grid), sink(&mut dx));
            agree(&format!("dx {of:?}"), &dx, &good_dx);
            let (mut good_dw, mut dw) = (vec![0.0; full.len()], vec![f32::NAN; weights.len()]);
            conv.weight_gradient(grid, &[source], &grad, &mut good_dw, None);
            of.weight_gradient(grid, &source, &grad, &mut dw, None);
            let own: Vec<f32> = (0..outputs)
                .flat_map(|o| good_dw[(o * inputs + o / co * ci) * taps..][..ci * taps].to_vec())
                .collect();
            agree(&format!("dw {of:?}"), &dw, &own);
        }
    }
}
