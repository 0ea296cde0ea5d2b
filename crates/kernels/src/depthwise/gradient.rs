//! The weight gradient of a depthwise convolution: for every tap the product of two tensors, summed over the voxels.

use super::ring::{Reach, Ring, strip_rows};
use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use crate::product::{even_runs, with_count};
use crate::scratch::with_scratch;
use crate::tensor_blocks::{ReadBlock, Reader};
use crate::{Grid, LANES};
use rayon::prelude::*;
use std::sync::Mutex;

/// Taps along x that are summed in registers together.
const TAPS: usize = 7;

/// Source and output gradient of a convolution.
pub(super) struct WeightGradient<'a> {
    pub cpu: Cpu,
    pub read: Grid,
    pub written: Grid,
    pub kernel: [usize; 3],
    pub reach: [Reach; 3],
    pub reader: Reader<'a>,
    pub grad: Reader<'a>,
}

impl WeightGradient<'_> {
    /// Overwrites `dw`, `[channels, taps]`; parts are added in their order.
    pub(super) fn run(&self, channels: usize, dw: &mut [f32]) {
        let (rows, blocks) = (self.written.size[1], self.reader.count());
        let taps: usize = self.kernel.iter().product();
        let width = self.reach[2].width(self.written.size[2], self.read.size[2]);
        let strip = strip_rows(&self.reach, rows, width);
        let strips = rows.div_ceil(strip);
        let part = |task: usize| {
            let (n, b, first) = (task / strips / blocks, task / strips % blocks, task % strips * strip);
            let rows = first..(first + strip).min(rows);
            let own = Strip { of: self, n, b, rows, width, sums: Mutex::new(vec![0.0; taps * LANES]) };
            self.cpu.run(&own);
            own.sums.into_inner().unwrap_or_else(|poison| poison.into_inner())
        };
        let parts: Vec<Vec<f32>> = (0..self.written.n * blocks * strips).into_par_iter().map(part).collect();
        for c in 0..channels {
            let own = || {
                (0..self.written.n)
                    .flat_map(|n| (0..strips).map(move |s| (n * blocks + c / LANES) * strips + s))
            };
            for tap in 0..taps {
                let sum: f64 = own().map(|task| f64::from(parts[task][tap * LANES + c % LANES])).sum();
                dw[c * taps + tap] = sum as f32;
            }
        }
    }
}

/// Some rows of all planes of sixteen channels of a sample.
struct Strip<'a> {
    of: &'a WeightGradient<'a>,
    n: usize,
    b: usize,
    rows: std::ops::Range<usize>,
    width: usize,
    /// `[taps, 16]`.
    sums: Mutex<Vec<f32>>,
}

impl Task for Strip<'_> {
    fn run<V: Lanes>(&self) {
        let WeightGradient { read, written, reach, reader, grad, .. } = self.of;
        let [z_reach, y_reach, x_reach] = reach;
        let hull = y_reach.hull(self.rows.clone());
        let planes = z_reach.kernel;
        let (block, grad) = (reader.block(self.n, self.b), grad.block(self.n, self.b));
        let mut sums = self.sums.lock().unwrap_or_else(|poison| poison.into_inner());
        with_scratch(Ring::len(planes, hull.len().max(1), self.width), |values| {
            values.fill(0.0);
            let mut ring = Ring { values, planes, rows: hull, width: self.width, loaded: 0 };
            for z in 0..written.size[0] {
                ring.load::<V>(block, read.size, x_reach, &z_reach.places[z]);
                for y in self.rows.clone() {
                    let first = (z * written.size[1] + y) * written.size[2];
                    for &(kz, from_z) in &z_reach.places[z] {
                        for &(ky, from_y) in &y_reach.places[y] {
                            let row = &ring.values[ring.row(from_z, from_y)..];
                            let tap = (kz * y_reach.kernel + ky) * x_reach.kernel;
                            for (kx, count) in even_runs(x_reach.kernel, TAPS) {
                                let row = Row {
                                    row: row[kx * LANES..].as_ptr(),
                                    stride: x_reach.step * LANES,
                                    grad,
                                    first,
                                    count: written.size[2],
                                    sums: sums[(tap + kx) * LANES..].as_mut_ptr(),
                                };
                                with_count!(count, N => V::call(&Taps::<N>(&row)));
                            }
                        }
                    }
                }
            }
        });
    }
}

/// One row of both tensors.
struct Row<'a> {
    row: *const f32,
    stride: usize,
    grad: &'a ReadBlock<'a>,
    first: usize,
    count: usize,
    sums: *mut f32,
}

/// `N` taps of a row.
struct Taps<'a, const N: usize>(&'a Row<'a>);

impl<const N: usize> Kernel for Taps<'_, N> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let row = self.0;
        // SAFETY: a widened row holds every tap of every output; the gradient's length was checked by `Reader`; the
        // sums are `N` vectors of this task.
        unsafe {
            // Two sets, since few taps alone would wait for each other's sums. No closure: it would be compiled without
            // the instruction set.
            let mut sums = [[V::zero(); N]; 2];
            for pair in 0..row.count.div_ceil(2) {
                for odd in 0..2 {
                    let i = 2 * pair + odd;
                    if i < row.count {
                        let g = row.grad.load::<V>((row.first + i) as isize);
                        let from = row.row.add(i * row.stride);
                        for n in 0..N {
                            sums[odd][n] = V::load(from.add(n * LANES)).fma(g, sums[odd][n]);
                        }
                    }
                }
            }
            let [even, odd] = sums;
            for n in 0..N {
                let to = row.sums.add(n * LANES);
                V::load(to).add(even[n].add(odd[n])).store(to);
            }
        }
    }
}
