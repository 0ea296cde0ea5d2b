//! Tensors as the kernels see them: blocks of sixteen channels of one sample, behind pointers checked once.

#![allow(unsafe_code, reason = "blocks are read and written by many threads at places which do not overlap")]

use crate::lanes::Lanes;
use crate::values::{Values, ValuesMut};
use crate::{Grid, LANES, Pending, Sink, Source, padded};
use half::bf16;
use std::marker::PhantomData;
use std::ops::Range;

/// Tensors from this length on are written past the caches.
const STREAM_VALUES: usize = 2 << 20;

/// Sixteen channels of one sample of a source.
#[derive(Clone, Copy)]
pub(crate) struct ReadBlock<'a> {
    values: Values<'a>,
    /// The voxel that `values` begins with.
    first: isize,
    /// Voxels per channel where the values are planes, one channel after the other.
    planes: Option<usize>,
    /// Values from one voxel to the next.
    pub(crate) width: usize,
    pending: Option<(&'a [f32], &'a [f32], f32)>,
}

/// Norm and activation of a block, in registers.
#[derive(Clone, Copy)]
pub(crate) struct Affine<V> {
    scale: V,
    shift: V,
    slope: V,
}

impl ReadBlock<'_> {
    /// The sixteen channels of a voxel, as stored.
    ///
    /// # Safety
    /// The voxel is in the grid.
    #[inline(always)]
    pub(crate) unsafe fn load<V: Lanes>(&self, voxel: isize) -> V {
        // SAFETY: as promised by the caller.
        let [value] = unsafe { self.row::<V, 1>(voxel) };
        value
    }

    /// The sixteen channels of `N` voxels of a row, as stored.
    ///
    /// # Safety
    /// The voxels are in the grid.
    #[inline(always)]
    pub(crate) unsafe fn row<V: Lanes, const N: usize>(&self, voxel: isize) -> [V; N] {
        let (at, mut out) = ((voxel - self.first) * self.width as isize, [V::zero(); N]);
        // SAFETY: `Reader` checked that the tensor has every voxel of the grid.
        unsafe {
            match self.values {
                Values::F32(values) => {
                    let from = values.as_ptr().offset(at);
                    for i in 0..N {
                        out[i] = V::load(from.add(i * self.width));
                    }
                }
                Values::Bf16(values) => {
                    let from = values.as_ptr().offset(at);
                    for i in 0..N {
                        out[i] = V::widen(from.add(i * self.width));
                    }
                }
            }
        }
        out
    }

    /// Asks for the cache lines of a voxel, which may lie outside.
    #[inline(always)]
    pub(crate) fn prefetch<V: Lanes>(&self, voxel: isize) {
        let at = (voxel - self.first) * self.width as isize;
        V::prefetch(match self.values {
            Values::F32(values) => values.as_ptr().wrapping_offset(at),
            Values::Bf16(values) => values.as_ptr().wrapping_offset(at).cast(),
        });
    }

    #[inline(always)]
    pub(crate) fn affine<V: Lanes>(&self) -> Option<Affine<V>> {
        let (scale, shift, slope) = self.pending?;
        // SAFETY: `Reader::new` cut both slices to sixteen values.
        let (scale, shift) = unsafe { (V::load(scale.as_ptr()), V::load(shift.as_ptr())) };
        Some(Affine { scale, shift, slope: V::splat(slope) })
    }

    /// All voxels of one lane, where the source is planar.
    pub(crate) fn plane(&self, lane: usize) -> Option<&[f32]> {
        let Values::F32(values) = self.values else { return None };
        self.planes.map(|voxels| &values[lane * voxels..(lane + 1) * voxels])
    }

    /// Value of one lane, activated.
    pub(crate) fn scalar(&self, voxel: usize, lane: usize) -> f32 {
        let x = self.values.get((voxel - self.first as usize) * self.width + lane);
        match self.pending {
            Some((scale, shift, slope)) => {
                let t = x * scale[lane] + shift[lane];
                if t >= 0.0 { t } else { slope * t }
            }
            None => x,
        }
    }
}

impl<V: Lanes> Affine<V> {
    #[inline(always)]
    pub(crate) fn apply(&self, x: V) -> V {
        let t = x.fma(self.scale, self.shift);
        t.max(t.mul(self.slope))
    }
}

/// All blocks of the sources of a convolution, lengths checked.
pub(crate) struct Reader<'a> {
    blocks: Vec<ReadBlock<'a>>,
    per_sample: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(grid: Grid, sources: &[Source<'a>]) -> Self {
        let mut blocks = Vec::new();
        for n in 0..grid.n {
            for source in sources {
                let width = if source.planar { source.channels } else { padded(source.channels) };
                check("source", source.values.len(), grid.n * grid.voxels() * width);
                let values = source.values.cut(n * grid.voxels() * width..(n + 1) * grid.voxels() * width);
                if source.planar {
                    let plain = matches!(source.values, Values::F32(_)) && source.pending.is_none();
                    assert!(plain && source.channels <= LANES, "planes are images");
                    blocks.push(ReadBlock {
                        values,
                        first: 0,
                        planes: Some(grid.voxels()),
                        width,
                        pending: None,
                    });
                    continue;
                }
                sample_blocks(grid.n, source, n, values, 0, &mut blocks);
            }
        }
        Self { per_sample: blocks.len() / grid.n.max(1), blocks }
    }

    /// Some planes of each source of one sample. Places count as in the whole grid; whoever reads keeps to the planes
    /// that are there.
    pub(crate) fn of_planes(grid: Grid, sources: &[(Source<'a>, Range<usize>)]) -> Self {
        check("samples of planes", grid.n, 1);
        let (plane, mut blocks) = (grid.size[1] * grid.size[2], Vec::new());
        for (source, planes) in sources {
            check("planes", source.values.len(), planes.len() * plane * padded(source.channels));
            sample_blocks(1, source, 0, source.values, planes.start * plane, &mut blocks);
        }
        Self { per_sample: blocks.len(), blocks }
    }

    /// Whether any source is planar.
    pub(crate) fn planar(&self) -> bool {
        self.blocks.iter().any(|block| block.planes.is_some())
    }

    /// Blocks of one sample.
    pub(crate) fn count(&self) -> usize {
        self.per_sample
    }

    #[inline(always)]
    pub(crate) fn block(&self, sample: usize, block: usize) -> &ReadBlock<'a> {
        &self.blocks[sample * self.per_sample + block]
    }
}

fn sample_blocks<'a>(
    samples: usize,
    source: &Source<'a>,
    n: usize,
    values: Values<'a>,
    first: usize,
    blocks: &mut Vec<ReadBlock<'a>>,
) {
    let width = padded(source.channels);
    for lane in (0..width).step_by(LANES) {
        let lanes = n * width + lane..n * width + lane + LANES;
        let pending = source.pending.map(|Pending { scale, shift, slope }| {
            check("scale of a source", scale.len(), samples * width);
            check("shift of a source", shift.len(), samples * width);
            assert!((0.0..=1.0).contains(&slope), "slope of a source: found {slope}, expected 0 to 1");
            (&scale[lanes.clone()], &shift[lanes.clone()], slope)
        });
        blocks.push(ReadBlock {
            values: values.cut(lane..values.len()),
            first: first as isize,
            planes: None,
            width,
            pending,
        });
    }
}

/// Sixteen channels of one sample of a tensor that is written.
#[derive(Clone, Copy)]
pub(crate) struct WriteBlock {
    /// Null where nobody wants the values; of the type that `how` says.
    values: *mut f32,
    width: usize,
    how: How,
}

/// How a block is written.
#[derive(Clone, Copy)]
enum How {
    Overwrite,
    Add,
    /// Large and aligned: not worth a place in the caches.
    Stream,
    /// Rounded to bfloat16. Not past the caches: sixteen values are half a cache line.
    Round,
}

// SAFETY: only a pointer; every voxel of a block is written by one task.
unsafe impl Send for WriteBlock {}
// SAFETY: as above.
unsafe impl Sync for WriteBlock {}

impl WriteBlock {
    /// A block that nobody wants.
    pub(crate) const UNWANTED: Self = Self { values: std::ptr::null_mut(), width: 0, how: How::Overwrite };

    #[inline(always)]
    pub(crate) fn wanted(&self) -> bool {
        !self.values.is_null()
    }

    /// Writes (or adds) the sixteen channels of a voxel.
    ///
    /// # Safety
    /// The block is wanted, the voxel is in the grid, and no other task writes it at the same time.
    #[inline(always)]
    pub(crate) unsafe fn write<V: Lanes>(&self, voxel: usize, value: V) {
        // SAFETY: `Writer` checked that the tensor has every voxel of the grid.
        unsafe {
            let at = voxel * self.width;
            match self.how {
                How::Overwrite => value.store(self.values.add(at)),
                How::Add => value.add(V::load(self.values.add(at))).store(self.values.add(at)),
                How::Stream => value.stream(self.values.add(at)),
                How::Round => value.round_to(self.values.cast::<bf16>().add(at)),
            }
        }
    }
}

/// The first value of a tensor that is written.
struct Target {
    start: *mut f32,
    how: How,
}

impl Target {
    /// `away` says that the values are not read again soon.
    fn new(values: ValuesMut, away: bool) -> Self {
        match values {
            ValuesMut::F32(values) => {
                let start = values.as_mut_ptr();
                let stream = away && start.addr().is_multiple_of(LANES * size_of::<f32>());
                Self { start, how: if stream { How::Stream } else { How::Overwrite } }
            }
            ValuesMut::Bf16(values) => Self { start: values.as_mut_ptr().cast(), how: How::Round },
        }
    }

    /// The block that begins `after` values behind and `before` values ahead of the first.
    fn block(&self, after: usize, before: usize, width: usize) -> WriteBlock {
        let values = match self.how {
            How::Round => self.start.cast::<bf16>().wrapping_add(after).wrapping_sub(before).cast(),
            _ => self.start.wrapping_add(after).wrapping_sub(before),
        };
        WriteBlock { values, width, how: self.how }
    }
}

/// All blocks that a convolution writes, lengths checked.
pub(crate) struct Writer<'a> {
    blocks: Vec<WriteBlock>,
    per_sample: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

impl<'a> Writer<'a> {
    /// One tensor, overwritten.
    pub(crate) fn whole(grid: Grid, values: ValuesMut<'a>, channels: usize) -> Self {
        check("output", values.len(), grid.n * grid.voxels() * padded(channels));
        let mut writer = Self::unwanted(grid, padded(channels) / LANES);
        writer.place(grid, 0, values, padded(channels), false);
        writer
    }

    /// Some planes of one sample, overwritten. Places count as in the whole grid; whoever writes keeps to these planes.
    /// `away` says that they are not read again soon.
    pub(crate) fn of_planes(
        grid: Grid,
        planes: Range<usize>,
        values: ValuesMut<'a>,
        channels: usize,
        away: bool,
    ) -> Self {
        let (plane, width) = (grid.size[1] * grid.size[2], padded(channels));
        check("samples of planes", grid.n, 1);
        check("output", values.len(), planes.len() * plane * width);
        let mut writer = Self::unwanted(grid, width / LANES);
        let target = Target::new(values, away);
        for (b, block) in writer.blocks.iter_mut().enumerate() {
            *block = target.block(b * LANES, planes.start * plane * width, width);
        }
        writer
    }

    /// Sinks side by side; `inputs` are their channels.
    pub(crate) fn sinks(grid: Grid, sinks: &'a mut [Option<Sink<'_>>], inputs: &[usize]) -> Self {
        check("sinks", sinks.len(), inputs.len());
        let mut writer = Self::unwanted(grid, inputs.iter().map(|&c| padded(c) / LANES).sum());
        let mut first = 0;
        for (sink, &channels) in sinks.iter_mut().zip(inputs) {
            let width = padded(channels);
            if let Some(sink) = sink {
                check("channels of a sink", sink.channels, channels);
                check("sink", sink.values.len(), grid.n * grid.voxels() * width);
                writer.place(grid, first, ValuesMut::F32(sink.values), width, sink.add);
            }
            first += width / LANES;
        }
        writer
    }

    fn unwanted(grid: Grid, per_sample: usize) -> Self {
        Self { blocks: vec![WriteBlock::UNWANTED; grid.n * per_sample], per_sample, borrow: PhantomData }
    }

    fn place(&mut self, grid: Grid, first: usize, values: ValuesMut, width: usize, add: bool) {
        let away = values.len() >= STREAM_VALUES;
        let mut target = Target::new(values, away);
        if add {
            target.how = How::Add;
        }
        for n in 0..grid.n {
            for b in 0..width / LANES {
                self.blocks[n * self.per_sample + first + b] =
                    target.block(n * grid.voxels() * width + b * LANES, 0, width);
            }
        }
    }

    /// Blocks of one sample.
    pub(crate) fn count(&self) -> usize {
        self.per_sample
    }

    /// The block, or the unwanted one behind the last.
    #[inline(always)]
    pub(crate) fn block(&self, sample: usize, block: usize) -> WriteBlock {
        if block < self.per_sample {
            self.blocks[sample * self.per_sample + block]
        } else {
            WriteBlock::UNWANTED
        }
    }
}

/// Lane of every real channel when tensors of these channels are laid side by side.
pub(crate) fn real_lanes(channels: &[usize]) -> Vec<usize> {
    let mut lanes = Vec::new();
    let mut first = 0;
    for &c in channels {
        lanes.extend(first..first + c);
        first += padded(c);
    }
    lanes
}

/// Panics when a length is not what the grid asks for: a mistake of the calling code.
pub(crate) fn check(what: &str, found: usize, expected: usize) {
    assert!(found == expected, "{what}: found length {found}, expected {expected}");
}
