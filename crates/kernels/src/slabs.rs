//! A convolution whose output takes the place of one of its sources, some planes at a time.
//!
//! The largest tensors of a network decide its memory. Here a tensor lies at one end of a memory that is a few planes
//! longer, and its planes are overwritten from the other end as soon as nobody reads them any more. A source that is
//! itself the output of a transposed convolution exists only as far as it is being read. The bytes of the output are
//! those of [`Conv::forward`].

use crate::choice::Algorithm;
use crate::conv::padded_bias;
use crate::direct::Moments;
use crate::tensor_blocks::{Reader, Writer, check};
use crate::winograd::{SMALL_WEIGHTS, Tile, Tiling, Winograd};
use crate::{Conv, Grid, LANES, Packed, Pending, Source, TransposedConv, Values, ValuesMut, padded};
use rayon::prelude::*;
use std::ops::Range;

/// Tiles of a slab: enough work for many threads.
const SLAB_TILES: usize = if cfg!(test) { 8 } else { 1024 };
/// Values per task when planes are copied.
const COPY: usize = 1 << 16;

/// What a convolution in slabs reads, in the order of its inputs.
#[derive(Debug)]
pub enum SlabSource<'a> {
    /// The tensor that the output replaces, with the norm and activation not yet applied to it.
    Replaced(Option<Pending<'a>>),
    /// Another tensor on the same grid.
    Whole(Source<'a>),
    /// The output of a transposed convolution, made when its planes are read.
    Upsampled(Upsampled<'a>),
}

/// A transposed convolution that runs plane by plane.
#[derive(Debug)]
pub struct Upsampled<'a> {
    /// The convolution.
    pub conv: &'a TransposedConv,
    /// Grid of its source; one sample.
    pub input: Grid,
    /// Its source.
    pub source: Source<'a>,
    /// Its weights.
    pub packed: &'a Packed,
    /// Its bias, `[outputs]`.
    pub bias: Option<&'a [f32]>,
}

/// Where a tensor lies in a memory that is longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// From the first value on.
    Front,
    /// Up to the last value.
    Back,
}

impl End {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Front => Self::Back,
            Self::Back => Self::Front,
        }
    }
}

impl Conv {
    /// Whether [`Conv::replace`] can run on an input of this grid, and is worth it: one sample, stride 1, so many
    /// planes that a slab is a small part of them.
    pub fn replaces(&self, input: Grid) -> bool {
        self.slabs(input).is_some()
    }

    /// Values by which the memory of [`Conv::replace`] must be longer than the tensor, at least.
    pub fn slack(&self, input: Grid) -> usize {
        let planes = self.slabs(input).map_or(0, |slabs| slabs.layers * slabs.tile_planes() + slabs.halo);
        planes * input.size[1] * input.size[2] * padded(self.outputs)
    }

    /// Scratch values that [`Conv::replace`] needs; `upsampled` has the place among the inputs of each such source, and
    /// its stride along z.
    pub fn slab_values(&self, input: Grid, upsampled: &[(usize, usize)]) -> usize {
        let Some(slabs) = self.slabs(input) else { return 0 };
        let plane = input.size[1] * input.size[2];
        let read =
            |&(source, stride): &(usize, usize)| slabs.most(stride) * plane * padded(self.inputs[source]);
        upsampled.iter().map(read).sum()
    }

    /// As [`Conv::forward`]. The source said to be replaced lies at `end` of `memory` before, and the output at the
    /// other end after. `scratch` is at least as long as [`Conv::slab_values`] says.
    pub fn replace(
        &self,
        input: Grid,
        mut memory: ValuesMut,
        end: End,
        sources: &[SlabSource],
        packed: &Packed,
        bias: Option<&[f32]>,
        moments: Option<&mut [f64]>,
        scratch: ValuesMut,
    ) {
        let slabs = self.slabs(input).expect("the caller asked whether the output can replace a source");
        assert!(packed.algorithm == Algorithm::Winograd(slabs.tiling.tile), "weights of another grid");
        check("packed weights", packed.values.len(), self.packed_len(input));
        check("sources", sources.len(), self.inputs.len());
        let area = input.size[1] * input.size[2];
        let plane = area * padded(self.outputs);
        let slack = memory.len().checked_sub(input.size[0] * plane).expect("memory for the tensor");
        assert!(slack >= self.slack(input) && slack.is_multiple_of(LANES), "slack of {slack} values");
        let mut windows = self.windows(&slabs, input, sources, scratch);
        let bias = bias.map(|bias| padded_bias(bias, self.outputs));
        let [layers, per_layer] = slabs.tiling.layers();
        let mut parts =
            moments.is_some().then(|| Moments::new(1, layers * per_layer, padded(self.outputs) / LANES));
        let shared = parts.as_mut().map(Moments::shared);
        let count = layers.div_ceil(slabs.layers);
        for i in 0..count {
            // From the end where the output begins.
            let slab = if end == End::Back { i } else { count - 1 - i };
            let layers = slab * slabs.layers..((slab + 1) * slabs.layers).min(layers);
            let (read, written) = (slabs.read(layers.clone(), input), slabs.written(layers.clone(), input));
            let (tensor, out) = if end == End::Back {
                let (out, tensor) = memory.reborrow().split_at(written.end * plane);
                let first = read.start * plane + slack - written.end * plane;
                (
                    tensor.into_values().cut(first..first + read.len() * plane),
                    out.cut(written.start * plane..written.end * plane),
                )
            } else {
                let (tensor, out) = memory.reborrow().split_at(read.end * plane);
                let first = written.start * plane + slack - read.end * plane;
                (
                    tensor.into_values().cut(read.start * plane..read.end * plane),
                    out.cut(first..first + written.len() * plane),
                )
            };
            let sources: Vec<_> =
                windows.iter_mut().map(|window| window.advance(read.clone(), input, tensor)).collect();
            let winograd = Winograd {
                cpu: packed.cpu,
                tiling: slabs.tiling,
                reader: Reader::of_planes(input, &sources),
                writer: Writer::of_planes(input, written, out, self.outputs, true),
                weights: &packed.values,
                bias: bias.clone(),
            };
            winograd.tiles(layers.start * per_layer..layers.end * per_layer, shared);
        }
        if let (Some(moments), Some(parts)) = (moments, parts) {
            check("moments", moments.len(), padded(self.outputs) * 2);
            parts.reduce(moments);
        }
    }

    fn slabs(&self, input: Grid) -> Option<Slabs> {
        if input.n != 1 || self.stride != [1; 3] || self.packed_len(input) > SMALL_WEIGHTS {
            return None;
        }
        let Algorithm::Winograd(tile) = self.algorithm(input, &self.forward_view()) else { return None };
        let tiling = Tiling::new(tile, input, input);
        let slabs =
            Slabs { tiling, layers: SLAB_TILES.div_ceil(tiling.layers()[1]), halo: self.kernel[0] / 2 };
        (2 * slabs.most(1) <= input.size[0]).then_some(slabs)
    }

    fn windows<'a>(
        &self,
        slabs: &Slabs,
        input: Grid,
        sources: &'a [SlabSource<'a>],
        mut scratch: ValuesMut<'a>,
    ) -> Vec<Window<'a>> {
        let area = input.size[1] * input.size[2];
        let mut windows = Vec::new();
        for (source, &channels) in sources.iter().zip(&self.inputs) {
            let plane = area * padded(channels);
            let len = match source {
                SlabSource::Replaced(_) => {
                    check("width of the tensor that is replaced", padded(channels), padded(self.outputs));
                    0
                }
                SlabSource::Upsampled(up) => {
                    check("channels of an upsampled source", up.conv.outputs, channels);
                    assert!(up.conv.output(up.input) == input, "grid of an upsampled source");
                    slabs.most(up.conv.stride[0]) * plane
                }
                SlabSource::Whole(whole) => {
                    check("channels of a source", whole.channels, channels);
                    check("source", whole.values.len(), input.size[0] * plane);
                    0
                }
            };
            let (own, rest) = scratch.split_at(len);
            scratch = rest;
            windows.push(Window { source, channels, values: own, plane, planes: 0..0 });
        }
        windows
    }
}

/// How a volume is cut into slabs.
struct Slabs {
    tiling: Tiling,
    /// Layers of tiles in one slab.
    layers: usize,
    /// Planes read on each side.
    halo: usize,
}

impl Slabs {
    fn tile_planes(&self) -> usize {
        let Tile([z, ..]) = self.tiling.tile;
        z.outputs()
    }

    /// Planes that some layers of tiles read.
    fn read(&self, layers: Range<usize>, input: Grid) -> Range<usize> {
        let first = (layers.start * self.tile_planes()).saturating_sub(self.halo);
        first..(layers.end * self.tile_planes() + self.halo).min(input.size[0])
    }

    /// Planes that some layers of tiles write.
    fn written(&self, layers: Range<usize>, input: Grid) -> Range<usize> {
        layers.start * self.tile_planes()..(layers.end * self.tile_planes()).min(input.size[0])
    }

    /// Most planes in a window whose source comes `stride` planes at a time.
    fn most(&self, stride: usize) -> usize {
        self.layers * self.tile_planes() + 2 * (self.halo + stride - 1)
    }
}

/// The planes of a source that the current slab reads.
struct Window<'a> {
    source: &'a SlabSource<'a>,
    channels: usize,
    /// Room for planes of an upsampled source.
    values: ValuesMut<'a>,
    /// Values of one plane.
    plane: usize,
    planes: Range<usize>,
}

impl Window<'_> {
    /// Moves to these planes and returns them, or a few more; `tensor` are those of the tensor that is replaced.
    fn advance<'a>(
        &'a mut self,
        wanted: Range<usize>,
        grid: Grid,
        tensor: Values<'a>,
    ) -> (Source<'a>, Range<usize>) {
        let (channels, plane) = (self.channels, self.plane);
        match self.source {
            SlabSource::Whole(whole) => {
                let values = whole.values.cut(wanted.start * plane..wanted.end * plane);
                (Source { values, ..*whole }, wanted)
            }
            SlabSource::Replaced(pending) => (Source::new(tensor, channels, *pending), wanted),
            SlabSource::Upsampled(up) => {
                let stride = up.conv.stride[0];
                let whole =
                    wanted.start / stride * stride..wanted.end.next_multiple_of(stride).min(grid.size[0]);
                let (new, to) = self.shift(whole);
                let ([_, y, x], width) = (up.input.size, padded(up.source.channels));
                let coarse = new.start / stride..new.end / stride;
                let area = y * x * width;
                let values = up.source.values.cut(coarse.start * area..coarse.end * area);
                let grid = Grid { n: 1, size: [coarse.len(), y, x] };
                if !coarse.is_empty() {
                    let output = up.conv.output(grid);
                    let writer = Writer::of_planes(output, 0..output.size[0], to, channels, false);
                    up.conv.forward_to(grid, &Source { values, ..up.source }, up.packed, up.bias, writer);
                }
                let values = self.values.reborrow().cut(0..self.planes.len() * plane).into_values();
                (Source::new(values, channels, None), self.planes.clone())
            }
        }
    }

    /// Makes the window hold the wanted planes, those before or behind the ones that it has; returns which are missing,
    /// and their place.
    fn shift(&mut self, wanted: Range<usize>) -> (Range<usize>, ValuesMut<'_>) {
        let had = std::mem::replace(&mut self.planes, wanted.clone());
        let kept = had.start.max(wanted.start)..had.end.min(wanted.end).max(had.start.max(wanted.start));
        let at = |plane: usize, first: usize| (plane - first) * self.plane;
        if kept.is_empty() {
            return (wanted.clone(), self.values.reborrow().cut(0..wanted.len() * self.plane));
        }
        let (from, to) = (at(kept.start, had.start), at(kept.start, wanted.start));
        match &mut self.values {
            ValuesMut::F32(values) => move_values(values, from, to, kept.len() * self.plane),
            ValuesMut::Bf16(values) => move_values(values, from, to, kept.len() * self.plane),
        }
        let new = if kept.start > wanted.start { wanted.start..kept.start } else { kept.end..wanted.end };
        let place = at(new.start, wanted.start)..at(new.end, wanted.start);
        (new, self.values.reborrow().cut(place))
    }
}

/// Moves values inside a slice, by all threads where the places do not overlap.
fn move_values<T: Copy + Send + Sync>(values: &mut [T], from: usize, to: usize, len: usize) {
    let copy = |from: &[T], to: &mut [T]| {
        to.par_chunks_mut(COPY).zip(from.par_chunks(COPY)).for_each(|(to, from)| to.copy_from_slice(from));
    };
    if from.abs_diff(to) < len {
        values.copy_within(from..from + len, to);
    } else if from < to {
        let (low, high) = values.split_at_mut(to);
        copy(&low[from..from + len], &mut high[..len]);
    } else {
        let (low, high) = values.split_at_mut(from);
        copy(&high[..len], &mut low[to..to + len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    /// The same convolution of an upsampled, a replaced and a whole tensor, in slabs and at once.
    fn same_bytes(kernel: [usize; 3], size: [usize; 3], up_stride: [usize; 3]) {
        let input = Grid { n: 1, size };
        let conv = Conv { kernel, stride: [1; 3], inputs: vec![16, 32, 16], outputs: 32 };
        assert!(conv.replaces(input), "{size:?} is cut into slabs");
        let up = TransposedConv { stride: up_stride, inputs: 16, outputs: 16 };
        let coarse = Grid { n: 1, size: [0, 1, 2].map(|a| size[a] / up_stride[a]) };
        let (scale, shift) = (noise(32, 1), noise(32, 2));
        let pending = Some(Pending { scale: &scale, shift: &shift, slope: 0.1 });
        let low = noise(coarse.voxels() * LANES, 3);
        let low = Source::new(&low, 16, None);
        let up_packed = up.pack(&noise(16 * 16 * up_stride.iter().product::<usize>(), 4), coarse);
        let tensor = noise(input.voxels() * 32, 5);
        let other = noise(input.voxels() * LANES, 6);
        let whole = Source::new(&other, 16, None);
        let packed = conv.pack(&noise(32 * 64 * kernel.iter().product::<usize>(), 7), input);
        let bias = noise(32, 8);

        let mut upsampled = vec![0.0; input.voxels() * LANES];
        up.forward(coarse, &low, &up_packed, Some(&bias[..16]), &mut upsampled);
        let sources = [Source::new(&upsampled, 16, None), Source::new(&tensor, 32, pending), whole];
        let (mut expected, mut expected_moments) = (vec![0.0; tensor.len()], vec![0.0; 64]);
        conv.forward(input, &sources, &packed, Some(&bias), &mut expected, Some(&mut expected_moments));

        let sources = [
            SlabSource::Upsampled(Upsampled {
                conv: &up,
                input: coarse,
                source: low,
                packed: &up_packed,
                bias: Some(&bias[..16]),
            }),
            SlabSource::Replaced(pending),
            SlabSource::Whole(whole),
        ];
        let slack = conv.slack(input) + 3 * LANES;
        for end in [End::Front, End::Back] {
            let mut scratch = vec![f32::NAN; conv.slab_values(input, &[(0, up_stride[0])])];
            assert!(scratch.len() + slack < tensor.len(), "the windows are smaller than a tensor");
            let mut memory = vec![f32::NAN; tensor.len() + slack];
            let place =
                |end: End| if end == End::Front { 0..tensor.len() } else { slack..tensor.len() + slack };
            memory[place(end)].copy_from_slice(&tensor);
            let mut moments = vec![0.0; 64];
            conv.replace(
                input,
                (&mut memory).into(),
                end,
                &sources,
                &packed,
                Some(&bias),
                Some(&mut moments),
                (&mut scratch).into(),
            );
            let same = memory[place(end.other())] == expected && moments == expected_moments;
            assert!(same, "{kernel:?} {size:?} {up_stride:?} {end:?}");
        }
    }

    #[test]
    fn slabs_give_the_bytes_of_the_whole() {
        same_bytes([3; 3], [40, 12, 8], [2; 3]);
        same_bytes([3; 3], [42, 9, 11], [3, 1, 1]);
        same_bytes([1, 3, 3], [40, 8, 8], [1, 2, 2]);
    }

    #[test]
    fn a_slice_or_a_stride_is_not_cut() {
        let conv = Conv { kernel: [3; 3], stride: [1; 3], inputs: vec![32], outputs: 32 };
        assert!(!conv.replaces(Grid { n: 1, size: [1, 64, 64] }));
        assert!(!conv.replaces(Grid { n: 2, size: [64, 8, 8] }));
        let halving = Conv { stride: [2; 3], ..conv };
        assert!(!halving.replaces(Grid { n: 1, size: [64, 8, 8] }));
    }
}
