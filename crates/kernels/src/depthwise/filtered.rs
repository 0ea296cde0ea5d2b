//! One pass of a depthwise kernel of 5 or 7 taps with minimal filtering along x: two to three times fewer multiplications.
//!
//! A task owns sixteen channels of a column of tiles (four voxels wide, some rows high) and walks along z. Rows are
//! taken to the frequencies when their plane is loaded, and serve all the taps of y and z from there. Per frequency
//! the sums of some rows stay in registers while the taps of y slide along them.

use super::points::{OUTPUTS, Points};
use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use crate::product::{even_runs, with_count};
use crate::scratch::{Shared, with_scratch};
use crate::tensor_blocks::{ReadBlock, Reader, WriteBlock, Writer, check};
use crate::{Grid, LANES, padded};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Mutex;

/// Bytes of the planes in reach: they stay in the second-level cache beside the weights.
const RING_BYTES: usize = 384 << 10;
/// Narrower images are mostly the padding of their tiles.
const NARROWEST: usize = 8;

/// Whether this pass serves a convolution.
pub(super) fn serves(kernel: [usize; 3], stride: [usize; 3], size: [usize; 3]) -> bool {
    let [z, y, x] = kernel;
    stride == [1; 3] && !z.is_multiple_of(2) && y == x && matches!(x, 5 | 7) && size[2] >= NARROWEST
}

/// Everything that a pass needs.
pub(super) struct Filtered<'a> {
    pub cpu: Cpu,
    pub grid: Grid,
    pub kernel: [usize; 3],
    pub reader: Reader<'a>,
    pub writer: Writer<'a>,
    /// As [`pack`] makes them.
    pub weights: &'a [f32],
    /// One value per lane.
    pub bias: Option<&'a [f32]>,
}

/// Weights `[c, kz, ky, kx]` to `[c / 16, kz, frequency, ky, 16]`; `turned` reverses all taps, for the input gradient.
pub(super) fn pack(kernel: [usize; 3], channels: usize, weights: &[f32], turned: bool) -> Vec<f32> {
    let ([kz, ky, kx], points) = (kernel, Points::of(kernel[2]));
    let (taps, frequencies) = (kz * ky * kx, kx + OUTPUTS - 1);
    check("weights", weights.len(), channels * taps);
    let mut out = vec![0.0; padded(channels) * kz * ky * frequencies];
    for c in 0..channels {
        let mut own = weights[c * taps..(c + 1) * taps].to_vec();
        if turned {
            own.reverse();
        }
        for (row, taps) in own.chunks_exact(kx).enumerate() {
            let (z, y) = (row / ky, row % ky);
            for (f, weight) in points.weights(taps).into_iter().enumerate() {
                let at = ((c / LANES * kz + z) * frequencies + f) * ky + y;
                out[at * LANES + c % LANES] = weight;
            }
        }
    }
    out
}

/// Sum and sum of squares of sixteen lanes.
type Moments = [[f64; LANES]; 2];

impl Filtered<'_> {
    fn frequencies(&self) -> usize {
        self.kernel[2] + OUTPUTS - 1
    }

    /// Runs the pass; `moments`, `[n, lanes, 2]`, are overwritten.
    pub(super) fn run(&self, moments: Option<&mut [f64]>) {
        let ([_, rows, width], blocks) = (self.grid.size, self.writer.count());
        let row_bytes = self.kernel[0] * self.frequencies() * LANES * size_of::<f32>();
        let most = (RING_BYTES / row_bytes).saturating_sub(self.kernel[1] - 1).max(14);
        let (strips, tiles) = (rows.div_ceil(most), width.div_ceil(OUTPUTS));
        let wanted = moments.is_some();
        let part = |task: usize| {
            let (tile, rest) = (task % tiles, task / tiles);
            let (strip, rest) = (rest % strips, rest / strips);
            let own = Column {
                pass: self,
                n: rest / blocks,
                b: rest % blocks,
                rows: strip * rows / strips..(strip + 1) * rows / strips,
                x: tile * OUTPUTS,
                moments: wanted.then(Default::default),
            };
            self.cpu.run(&own);
            own.moments.map(|moments| moments.into_inner().unwrap_or_else(|poison| poison.into_inner()))
        };
        let parts: Vec<Option<Moments>> =
            (0..self.grid.n * blocks * strips * tiles).into_par_iter().map(part).collect();
        if let Some(moments) = moments {
            check("moments", moments.len(), self.grid.n * blocks * LANES * 2);
            moments.fill(0.0);
            for (task, part) in parts.iter().enumerate() {
                let first = task / tiles / strips * LANES;
                for [sums, squares] in part.iter() {
                    for l in 0..LANES {
                        moments[(first + l) * 2] += sums[l];
                        moments[(first + l) * 2 + 1] += squares[l];
                    }
                }
            }
        }
    }
}

/// Sixteen channels of a sample: one tile of x, some rows, all planes.
struct Column<'a> {
    pass: &'a Filtered<'a>,
    n: usize,
    b: usize,
    rows: Range<usize>,
    x: usize,
    moments: Option<Mutex<Moments>>,
}

impl Task for Column<'_> {
    fn run<V: Lanes>(&self) {
        match self.pass.kernel[2] {
            5 => self.walk::<V, 5, 8>(),
            _ => self.walk::<V, 7, 10>(),
        }
    }
}

impl Column<'_> {
    /// `K` taps of y and of x, `F` frequencies.
    fn walk<V: Lanes, const K: usize, const F: usize>(&self) {
        let (pass, size, planes) = (self.pass, self.pass.grid.size, self.pass.kernel[0]);
        let points = Points::of(K);
        let weights = &pass.weights[self.b * planes * F * K * LANES..][..planes * F * K * LANES];
        let bias = pass.bias.map_or([0.0; LANES], |bias| std::array::from_fn(|l| bias[self.b * LANES + l]));
        let (block, out) = (pass.reader.block(self.n, self.b), pass.writer.block(self.n, self.b));
        // Rows of a column, with those that the taps reach beyond it.
        let high = self.rows.len() + K - 1;
        let (plane, sums) = (F * high * LANES, F * self.rows.len() * LANES);
        let pad = planes / 2;
        let mut total = Moments::default();
        with_scratch(planes * plane + sums, |scratch| {
            let (ring, sums) = scratch.split_at_mut(planes * plane);
            // Rows outside the image are never loaded.
            ring.fill(0.0);
            let mut loaded = 0;
            for z in 0..size[0] {
                while loaded < (z + pad + 1).min(size[0]) {
                    let to = Shared::new(&mut ring[loaded % planes * plane..][..plane]);
                    V::call(&Load::<F> { column: self, block, points: &points, plane: loaded, high, to });
                    loaded += 1;
                }
                let reached: Vec<_> = (0..planes)
                    .filter(|kz| (pad..size[0] + pad).contains(&(z + kz)))
                    .map(|kz| Plane { ring: (z + kz - pad) % planes * plane, weights: kz * F * K * LANES })
                    .collect();
                for (first, count) in even_runs(self.rows.len(), V::PIXELS) {
                    let call = Rows::<K, F> {
                        ring: ring[first * LANES..].as_ptr(),
                        planes: &reached,
                        weights,
                        high,
                        sums: sums[first * LANES..].as_mut_ptr(),
                        rows: self.rows.len(),
                    };
                    with_count!(count, N => V::call(&Slide::<N, K, F>(&call)));
                }
                let mut moments = [[0.0f32; LANES]; 2];
                V::call(&Write::<F> {
                    points: &points,
                    sums,
                    bias: &bias,
                    out,
                    voxel: (z * size[1] + self.rows.start) * size[2] + self.x,
                    row: size[2],
                    count: OUTPUTS.min(size[2] - self.x),
                    rows: self.rows.len(),
                    moments: self.moments.is_some().then_some(moments.as_mut_ptr()),
                });
                for (total, row) in total.iter_mut().zip(&moments) {
                    total.iter_mut().zip(row).for_each(|(total, &row)| *total += f64::from(row));
                }
            }
            V::fence();
        });
        if let Some(moments) = &self.moments {
            *moments.lock().unwrap_or_else(|poison| poison.into_inner()) = total;
        }
    }
}

/// One plane of a column to its frequencies, `[F, rows, 16]`.
struct Load<'a, const F: usize> {
    column: &'a Column<'a>,
    block: &'a ReadBlock<'a>,
    points: &'a Points,
    plane: usize,
    high: usize,
    to: Shared,
}

impl<const F: usize> Kernel for Load<'_, F> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let (column, [_, height, width]) = (self.column, self.column.pass.grid.size);
        let pad = (F - OUTPUTS) / 2;
        let affine = self.block.affine::<V>();
        for row in 0..self.high {
            let y = column.rows.start + row;
            if y < pad || y - pad >= height {
                continue;
            }
            let voxel = (self.plane * height + y - pad) * width;
            let mut x = [V::zero(); F];
            for i in 0..F {
                let at = column.x + i;
                if at >= pad && at - pad < width {
                    // SAFETY: the voxel is in the image, whose tensor `Reader` checked.
                    let value = unsafe { self.block.load::<V>((voxel + at - pad) as isize) };
                    x[i] = match &affine {
                        Some(affine) => affine.apply(value),
                        None => value,
                    };
                }
            }
            let found = self.points.data::<V, F>(&x);
            for f in 0..F {
                // SAFETY: the plane has `F · high` vectors.
                unsafe { found[f].store(self.to.at((f * self.high + row) * LANES)) };
            }
        }
    }
}

/// A plane in reach: where it lies, and its weights.
struct Plane {
    ring: usize,
    weights: usize,
}

/// Some rows of a column, all frequencies.
struct Rows<'a, const K: usize, const F: usize> {
    ring: *const f32,
    planes: &'a [Plane],
    weights: &'a [f32],
    high: usize,
    sums: *mut f32,
    /// Rows of the sums from one frequency to the next.
    rows: usize,
}

/// `N` rows: each place is loaded once for all the rows that it reaches.
struct Slide<'a, const N: usize, const K: usize, const F: usize>(&'a Rows<'a, K, F>);

impl<const N: usize, const K: usize, const F: usize> Kernel for Slide<'_, N, K, F> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let call = self.0;
        for f in 0..F {
            let mut sums = [V::zero(); N];
            for plane in call.planes {
                // SAFETY: a plane of the ring has `high` rows per frequency, of which `N + K - 1` follow the first of these
                // rows; weights have `K` vectors per frequency.
                unsafe {
                    let mut weights = [V::zero(); K];
                    let own = call.weights.as_ptr().add(plane.weights + f * K * LANES);
                    for k in 0..K {
                        weights[k] = V::load(own.add(k * LANES));
                    }
                    let from = call.ring.add(plane.ring + f * call.high * LANES);
                    // Written out, since a loop of this length would keep the sums in memory.
                    macro_rules! places {
                        ($($i:literal)*) => {$(
                            if $i < N + K - 1 {
                                let x = V::load(from.add($i * LANES));
                                for k in 0..K {
                                    if k <= $i && $i - k < N {
                                        sums[$i - k] = x.fma(weights[k], sums[$i - k]);
                                    }
                                }
                            }
                        )*};
                    }
                    places!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19);
                }
            }
            for n in 0..N {
                // SAFETY: the sums have `rows` vectors per frequency, of which `N` are these rows.
                unsafe { sums[n].store(call.sums.add((f * call.rows + n) * LANES)) };
            }
        }
    }
}

/// Sums of a plane back from the frequencies to the image.
struct Write<'a, const F: usize> {
    points: &'a Points,
    /// `[F, rows, 16]`.
    sums: &'a [f32],
    bias: &'a [f32; LANES],
    out: WriteBlock,
    voxel: usize,
    /// Voxels from one row to the next.
    row: usize,
    /// Voxels of the tile that are in the image.
    count: usize,
    rows: usize,
    /// Two rows of lanes that the outputs are added to.
    moments: Option<*mut [f32; LANES]>,
}

impl<const F: usize> Kernel for Write<'_, F> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        // SAFETY: the sums have `F · rows` vectors, the voxels of a column belong to this task, and the moments are two
        // rows of lanes.
        unsafe {
            let bias = V::load(self.bias.as_ptr());
            let (mut sum, mut squares) = (V::zero(), V::zero());
            for row in 0..self.rows {
                let mut x = [V::zero(); F];
                for f in 0..F {
                    x[f] = V::load(self.sums.as_ptr().add((f * self.rows + row) * LANES));
                }
                let found = self.points.outputs::<V, F>(&x);
                for i in 0..OUTPUTS {
                    if i < self.count {
                        let value = found[i].add(bias);
                        self.out.write(self.voxel + row * self.row + i, value);
                        sum = sum.add(value);
                        squares = value.fma(value, squares);
                    }
                }
            }
            if let Some(moments) = self.moments {
                sum.store(moments.cast());
                squares.store(moments.add(1).cast());
            }
        }
    }
}
