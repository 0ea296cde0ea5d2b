//! Structural similarity of two images: weighted means, variances and covariance in a window around every voxel, a
//! plane of windows at a time. Sums along z are taken from the images themselves, with the products made on the way;
//! no field of products or means exists.

use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use rayon::prelude::*;
use std::cell::Cell;

/// Voxels that are computed together.
const WIDTH: usize = 16;
/// Reference, image, their squares and their product.
const FIELDS: usize = 5;

/// Two images `[z, y, x]` and the window along each axis; a plane has no window along z.
#[derive(Debug, Clone, Copy)]
pub struct Similarity<'a> {
    /// One image.
    pub reference: &'a [f64],
    /// The other.
    pub image: &'a [f64],
    /// Voxels `(z, y, x)`.
    pub size: [usize; 3],
    /// Weights along each axis; they add up to 1.
    pub taps: &'a [f64],
    /// Factor on variances and covariance.
    pub norm: f64,
    /// Constants beside means and beside variances.
    pub constants: [f64; 2],
}

impl Similarity<'_> {
    /// Sums of similarity and of its contrast-structure term over all windows inside the image, and their number.
    pub fn sums(&self) -> ([f64; 2], usize) {
        self.sums_with(Cpu::detected())
    }

    fn sums_with(&self, cpu: Cpu) -> ([f64; 2], usize) {
        let voxels: usize = self.size.iter().product();
        assert!(self.reference.len() == voxels && self.image.len() == voxels, "images fill their grid");
        let [nz, ny, nx] = self.windows();
        let planes: Vec<[f64; 2]> = (0..nz)
            .into_par_iter()
            .map_init(Rows::default, |rows, z| {
                let plane =
                    Plane { of: self, z, rows: Cell::new(std::mem::take(rows)), found: Cell::default() };
                cpu.run(&plane);
                *rows = plane.rows.take();
                plane.found.get()
            })
            .collect();
        (planes.iter().fold([0.0; 2], |sum, plane| [sum[0] + plane[0], sum[1] + plane[1]]), nz * ny * nx)
    }

    /// Windows along each axis.
    fn windows(&self) -> [usize; 3] {
        let inside = |n: usize| (n + 1).saturating_sub(self.taps.len());
        let [nz, ny, nx] = self.size;
        [if nz > 1 { inside(nz) } else { nz }, inside(ny), inside(nx)]
    }
}

/// Weighted sums along z of a plane, and of one row of windows along y; a field after the other.
#[derive(Default)]
struct Rows {
    plane: Vec<f64>,
    row: Vec<f64>,
}

/// The windows of one plane.
struct Plane<'a> {
    of: &'a Similarity<'a>,
    z: usize,
    rows: Cell<Rows>,
    found: Cell<[f64; 2]>,
}

impl Task for Plane<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Plane<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let Similarity { reference, image, size: [nz, ny, nx], taps, norm, constants: [c1, c2] } = *self.of;
        let ([_, rows, columns], area) = (self.of.windows(), ny * nx);
        let Rows { mut plane, mut row } = self.rows.take();
        // Room behind the last row for a whole group of values, which nobody looks at.
        plane.resize(FIELDS * area + WIDTH, 0.0);
        row.resize(FIELDS * nx + taps.len() + WIDTH, 0.0);
        let depth = if nz > 1 { taps } else { &[1.0][..] };
        if area < WIDTH {
            plane.fill(0.0);
            for (t, weight) in depth.iter().enumerate() {
                for at in 0..area {
                    let (a, b) = (reference[(self.z + t) * area + at], image[(self.z + t) * area + at]);
                    let (wa, wb) = (weight * a, weight * b);
                    for (field, term) in [wa, wb, wa * a, wb * b, wa * b].into_iter().enumerate() {
                        plane[field * area + at] += term;
                    }
                }
            }
        }
        // A group at the end overlaps the one before it: what it writes again is the same.
        for at in (0..area).step_by(WIDTH).filter(|_| area >= WIDTH).map(|at| at.min(area - WIDTH)) {
            let mut sums = [[0f64; WIDTH]; FIELDS];
            for (t, weight) in depth.iter().enumerate() {
                let start = (self.z + t) * area + at;
                let (a, b) = (sixteen(reference, start), sixteen(image, start));
                for i in 0..WIDTH {
                    let (wa, wb) = (weight * a[i], weight * b[i]);
                    sums[0][i] += wa;
                    sums[1][i] += wb;
                    sums[2][i] += wa * a[i];
                    sums[3][i] += wb * b[i];
                    sums[4][i] += wa * b[i];
                }
            }
            for (field, sums) in sums.iter().enumerate() {
                plane[field * area + at..][..WIDTH].copy_from_slice(sums);
            }
        }
        let mut found = [[0f64; WIDTH]; 2];
        for y in 0..rows {
            for field in 0..FIELDS {
                for x in (0..nx).step_by(WIDTH) {
                    let sums = weighted(taps, &plane, field * area + y * nx + x, nx);
                    // What is written beyond a field's row is written again by the next field.
                    row[field * nx + x..][..WIDTH].copy_from_slice(&sums);
                }
            }
            for x in (0..columns).step_by(WIDTH) {
                let count = WIDTH.min(columns - x);
                let mut means = [[0f64; WIDTH]; FIELDS];
                for (field, means) in means.iter_mut().enumerate() {
                    *means = weighted(taps, &row, field * nx + x, 1);
                }
                let [ur, ui, rr, ii, ri] = &means;
                let mut terms = [[0f64; WIDTH]; 2];
                for i in 0..WIDTH {
                    let (vr, vi) = (norm * (rr[i] - ur[i] * ur[i]), norm * (ii[i] - ui[i] * ui[i]));
                    let both = norm * (ri[i] - ur[i] * ui[i]);
                    let structure = (2.0 * both + c2) / (vr + vi + c2);
                    terms[1][i] = structure;
                    terms[0][i] =
                        structure * (2.0 * ur[i] * ui[i] + c1) / (ur[i] * ur[i] + ui[i] * ui[i] + c1);
                }
                for (found, terms) in found.iter_mut().zip(&terms) {
                    if count == WIDTH {
                        found.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
                    } else {
                        found.iter_mut().zip(&terms[..count]).for_each(|(sum, term)| *sum += term);
                    }
                }
            }
        }
        self.found.set(found.map(|lanes| lanes.iter().sum()));
        self.rows.set(Rows { plane, row });
    }
}

/// Sixteen values from an index on.
#[inline(always)]
fn sixteen(values: &[f64], start: usize) -> &[f64; WIDTH] {
    values[start..start + WIDTH].try_into().expect("sixteen values")
}

/// Weighted sums of sixteen values each, the first from `start` on, the others `step` apart.
#[inline(always)]
fn weighted(taps: &[f64], values: &[f64], start: usize, step: usize) -> [f64; WIDTH] {
    let mut sums = [0f64; WIDTH];
    for (t, weight) in taps.iter().enumerate() {
        let values = sixteen(values, start + t * step);
        for i in 0..WIDTH {
            sums[i] += weight * values[i];
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_those_of_the_definition_on_every_instruction_set() {
        let taps = [0.2, 0.5, 0.3];
        for size in [[1, 4, 21], [5, 6, 18], [3, 3, 3], [4, 5, 40]] {
            let n: usize = size.iter().product();
            let reference: Vec<f64> = (0..n).map(|i| (i as f64 * 0.7).sin()).collect();
            let image: Vec<f64> =
                (0..n).map(|i| (i as f64 * 0.7).sin() + (i as f64 * 0.31).cos() / 3.0).collect();
            let (norm, constants) = (27.0 / 26.0, [1e-4, 9e-4]);
            let similarity =
                Similarity { reference: &reference, image: &image, size, taps: &taps, norm, constants };
            let deep = if size[0] > 1 { &taps[..] } else { &[1.0] };
            let [wz, wy, wx] = similarity.windows();
            let mut expected = [0.0; 2];
            for (z, y, x) in (0..wz).flat_map(|z| (0..wy).flat_map(move |y| (0..wx).map(move |x| (z, y, x))))
            {
                let mean = |of: &dyn Fn(usize) -> f64| {
                    let mut sum = 0.0;
                    for (i, a) in deep.iter().enumerate() {
                        for (j, b) in taps.iter().enumerate() {
                            for (k, c) in taps.iter().enumerate() {
                                sum += a * b * c * of(((z + i) * size[1] + y + j) * size[2] + x + k);
                            }
                        }
                    }
                    sum
                };
                let (r, i) = (|at: usize| reference[at], |at: usize| image[at]);
                let (ur, ui) = (mean(&r), mean(&i));
                let vr = norm * (mean(&|at| r(at) * r(at)) - ur * ur);
                let vi = norm * (mean(&|at| i(at) * i(at)) - ui * ui);
                let both = norm * (mean(&|at| r(at) * i(at)) - ur * ui);
                let structure = (2.0 * both + constants[1]) / (vr + vi + constants[1]);
                expected[1] += structure;
                expected[0] +=
                    structure * (2.0 * ur * ui + constants[0]) / (ur * ur + ui * ui + constants[0]);
            }
            let all: Vec<_> = Cpu::available().into_iter().map(|cpu| similarity.sums_with(cpu)).collect();
            assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
            let (found, windows) = all[0];
            assert_eq!(windows, wz * wy * wx);
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-10 * windows as f64, "{size:?} {found} {expected}");
            }
        }
    }
}
