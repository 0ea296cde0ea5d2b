//! One pass of a depthwise kernel over a tensor: the forward pass, and the input gradient with turned weights.

use super::ring::{Reach, Ring, strip_rows};
use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use crate::product::{even_runs, with_count};
use crate::scratch::with_scratch;
use crate::tensor_blocks::{Reader, WriteBlock, Writer, check};
use crate::{Grid, LANES};
use rayon::prelude::*;
use std::sync::Mutex;

/// Everything that a pass needs.
pub(super) struct Sweep<'a> {
    pub cpu: Cpu,
    pub read: Grid,
    pub written: Grid,
    pub reach: [Reach; 3],
    pub reader: Reader<'a>,
    pub writer: Writer<'a>,
    /// `[blocks, taps, 16]`.
    pub weights: &'a [f32],
    /// One value per lane.
    pub bias: Option<&'a [f32]>,
}

/// Sum and sum of squares of sixteen lanes.
type Moments = [[f64; LANES]; 2];

impl Sweep<'_> {
    /// Runs the pass; `moments`, `[n, lanes, 2]`, are overwritten.
    pub(super) fn run(&self, moments: Option<&mut [f64]>) {
        let (rows, blocks) = (self.written.size[1], self.writer.count());
        let width = self.reach[2].width(self.written.size[2], self.read.size[2]);
        let strip = strip_rows(&self.reach, rows, width);
        let strips = rows.div_ceil(strip);
        let wanted = moments.is_some();
        let part = |task: usize| {
            let (n, b, first) = (task / strips / blocks, task / strips % blocks, task % strips * strip);
            let rows = first..(first + strip).min(rows);
            let own = Strip { sweep: self, n, b, rows, width, moments: wanted.then(Default::default) };
            self.cpu.run(&own);
            own.moments.map(|moments| moments.into_inner().unwrap_or_else(|poison| poison.into_inner()))
        };
        let parts: Vec<Option<Moments>> =
            (0..self.written.n * blocks * strips).into_par_iter().map(part).collect();
        if let Some(moments) = moments {
            check("moments", moments.len(), self.written.n * blocks * LANES * 2);
            moments.fill(0.0);
            for (task, part) in parts.iter().enumerate() {
                let first = task / strips * LANES;
                for (l, [sum, square]) in part
                    .iter()
                    .flat_map(|[sums, squares]| (0..LANES).map(|l| [sums[l], squares[l]]))
                    .enumerate()
                {
                    moments[(first + l) * 2] += sum;
                    moments[(first + l) * 2 + 1] += square;
                }
            }
        }
    }
}

/// Some rows of all planes of sixteen channels of a sample.
struct Strip<'a> {
    sweep: &'a Sweep<'a>,
    n: usize,
    b: usize,
    rows: std::ops::Range<usize>,
    width: usize,
    moments: Option<Mutex<Moments>>,
}

impl Task for Strip<'_> {
    fn run<V: Lanes>(&self) {
        let Sweep { read, written, reach, reader, writer, weights, bias, .. } = self.sweep;
        let [z_reach, y_reach, x_reach] = reach;
        let hull = y_reach.hull(self.rows.clone());
        let planes = z_reach.kernel;
        let taps = planes * y_reach.kernel * x_reach.kernel;
        let weights = &weights[self.b * taps * LANES..(self.b + 1) * taps * LANES];
        let bias = bias.map_or([0.0; LANES], |bias| std::array::from_fn(|l| bias[self.b * LANES + l]));
        let (block, out) = (reader.block(self.n, self.b), writer.block(self.n, self.b));
        let (mut steps, mut total) = (Vec::with_capacity(taps), Moments::default());
        with_scratch(Ring::len(planes, hull.len().max(1), self.width), |values| {
            values.fill(0.0);
            let mut ring = Ring { values, planes, rows: hull, width: self.width, loaded: 0 };
            for z in 0..written.size[0] {
                ring.load::<V>(block, read.size, x_reach, &z_reach.places[z]);
                for y in self.rows.clone() {
                    steps.clear();
                    for &(kz, from_z) in &z_reach.places[z] {
                        for &(ky, from_y) in &y_reach.places[y] {
                            let (row, tap) =
                                (ring.row(from_z, from_y), (kz * y_reach.kernel + ky) * x_reach.kernel);
                            steps.push(Step { from: row, weight: tap * LANES });
                        }
                    }
                    let first = (z * written.size[1] + y) * written.size[2];
                    let mut moments = [[0.0f32; LANES]; 2];
                    for (x, count) in even_runs(written.size[2], V::PIXELS) {
                        let from = ring.values[x * x_reach.step * LANES..].as_ptr();
                        let call = Call {
                            from,
                            steps: &steps,
                            weights,
                            bias: &bias,
                            stride: x_reach.step,
                            kernel: x_reach.kernel,
                            out,
                            voxel: first + x,
                            moments: self.moments.is_some().then_some(moments.as_mut_ptr()),
                        };
                        with_count!(count, N => call.run_block::<V, N>());
                    }
                    for (total, row) in total.iter_mut().zip(&moments) {
                        total.iter_mut().zip(row).for_each(|(total, &row)| *total += f64::from(row));
                    }
                }
            }
            V::fence();
        });
        if let Some(moments) = &self.moments {
            *moments.lock().unwrap_or_else(|poison| poison.into_inner()) = total;
        }
    }
}

/// One row of taps: where the first one reads, counted from the first output of the row, and its weights.
struct Step {
    from: usize,
    weight: usize,
}

/// A register block of outputs.
struct Call<'a> {
    from: *const f32,
    steps: &'a [Step],
    weights: &'a [f32],
    bias: &'a [f32; LANES],
    stride: usize,
    /// Taps of a row.
    kernel: usize,
    out: WriteBlock,
    voxel: usize,
    /// Two rows of lanes that the outputs are added to.
    moments: Option<*mut [f32; LANES]>,
}

impl Call<'_> {
    #[inline(always)]
    fn run_block<V: Lanes, const N: usize>(&self) {
        // Sliding needs a register per output and per tap.
        if V::PIXELS >= 14 {
            match (self.stride, self.kernel) {
                (1, 3) => return V::call(&Slide::<N, 3>(self)),
                (1, 5) => return V::call(&Slide::<N, 5>(self)),
                (1, 7) => return V::call(&Slide::<N, 7>(self)),
                _ => {}
            }
        }
        match self.stride {
            1 => V::call(&Block::<N, 1>(self)),
            2 => V::call(&Block::<N, 2>(self)),
            _ => V::call(&Block::<N, 0>(self)),
        }
    }
}

/// `N` outputs, `S` widened places apart (0: as the call says).
struct Block<'a, const N: usize, const S: usize>(&'a Call<'a>);

impl<const N: usize, const S: usize> Kernel for Block<'_, N, S> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let call = self.0;
        let stride = if S > 0 { S } else { call.stride } * LANES;
        // SAFETY: a widened row holds every tap of every output (`Reach::width`); weights and bias are whole vectors;
        // the row that is written belongs to this task alone.
        unsafe {
            let mut sums = [V::load(call.bias.as_ptr()); N];
            for step in call.steps {
                for tap in 0..call.kernel {
                    let weight = V::load(call.weights.as_ptr().add(step.weight + tap * LANES));
                    let from = call.from.add(step.from + tap * LANES);
                    for n in 0..N {
                        sums[n] = V::load(from.add(n * stride)).fma(weight, sums[n]);
                    }
                }
            }
            call.finish(sums);
        }
    }
}

/// `N` outputs side by side with `K` taps per row: each place is loaded once for all the outputs that it reaches.
struct Slide<'a, const N: usize, const K: usize>(&'a Call<'a>);

impl<const N: usize, const K: usize> Kernel for Slide<'_, N, K> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let call = self.0;
        // SAFETY: as in `Block`.
        unsafe {
            let mut sums = [V::load(call.bias.as_ptr()); N];
            for step in call.steps {
                let mut weights = [V::zero(); K];
                for k in 0..K {
                    weights[k] = V::load(call.weights.as_ptr().add(step.weight + k * LANES));
                }
                let from = call.from.add(step.from);
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
            call.finish(sums);
        }
    }
}

impl Call<'_> {
    /// Writes a register block, and adds it to the moments.
    ///
    /// # Safety
    /// The voxels are in the grid and belong to this task.
    #[inline(always)]
    unsafe fn finish<V: Lanes, const N: usize>(&self, sums: [V; N]) {
        // SAFETY: as promised by the caller; the moments are two rows of lanes.
        unsafe {
            for n in 0..N {
                self.out.write(self.voxel + n, sums[n]);
            }
            if let Some(moments) = self.moments {
                let [plain, square] = [moments.cast::<f32>(), moments.add(1).cast::<f32>()];
                let (mut sum, mut squares) = (V::load(plain), V::load(square));
                for n in 0..N {
                    sum = sum.add(sums[n]);
                    squares = sums[n].fma(sums[n], squares);
                }
                sum.store(plain);
                squares.store(square);
            }
        }
    }
}
