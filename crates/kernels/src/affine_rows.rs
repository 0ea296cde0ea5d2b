//! Rows of a rotated and scaled grid: where each voxel lies, trilinear values there, and the label that all corners share.

#![allow(unsafe_code, reason = "corners are read two values at a time, after the largest index was checked")]

use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use std::cell::RefCell;

/// Voxels that are computed together.
const WIDTH: usize = 16;
/// What [`Places::shared`] gives where corners differ, or do not all exist.
pub const MIXED: i16 = i16::MIN;

/// Positions along a row, axis by axis: that of voxel x is
/// `((((base + step * (first + x)) / half + 1) * size - 1) / 2 + shift`, kept within 0 and `last`.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Part that is the same along the row.
    pub base: f32,
    /// Per voxel of the row.
    pub step: f32,
    /// Centred index of the row's first voxel.
    pub first: f32,
    /// Half the size that positions are normalised by.
    pub half: f32,
    /// The size.
    pub size: f32,
    /// What is added in the end.
    pub shift: f32,
    /// Largest position.
    pub last: f32,
}

/// Lowest corners and fractions of a row of voxels.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Whole part of the position per axis `(z, y, x)`.
    pub whole: [Vec<i32>; 3],
    /// The rest, 0 to 1.
    pub fraction: [Vec<f32>; 3],
    /// Flat index of the lowest corner; 0 where a corner does not exist.
    pub corner: Vec<u32>,
    /// Voxels of which a corner does not exist.
    pub outside: Vec<usize>,
    /// All voxels lie in one plane of the grid.
    flat: bool,
    /// 0, 1, 2, ..
    ramp: Vec<f32>,
    /// Values at the four pairs of corners along x.
    pairs: [Vec<[f32; 2]>; 4],
}

impl Places {
    /// For rows of `n` voxels.
    pub fn new(n: usize) -> Self {
        Self {
            whole: std::array::from_fn(|_| vec![0; n]),
            fraction: std::array::from_fn(|_| vec![0.0; n]),
            corner: vec![0; n],
            outside: Vec::new(),
            flat: false,
            ramp: (0..n).map(|x| x as f32).collect(),
            pairs: std::array::from_fn(|_| vec![[0.0; 2]; n.next_multiple_of(WIDTH)]),
        }
    }

    /// Finds the places on a grid of `size` voxels `(z, y, x)`, which begins at position 1; with `plane` all lie at that
    /// position of the first axis.
    pub fn locate(&mut self, lines: [Line; 3], size: [usize; 3], plane: Option<usize>) {
        Cpu::detected().run(&Locating { lines, size, plane, places: RefCell::new(self) });
    }

    /// Trilinear values of `image`, a grid of `size` voxels; meaningless for voxels outside.
    pub fn interpolate(&mut self, image: &[f32], size: [usize; 3], out: &mut [f32]) {
        self.interpolate_with(Cpu::detected(), image, size, out);
    }

    fn interpolate_with(&mut self, cpu: Cpu, image: &[f32], size: [usize; 3], out: &mut [f32]) {
        assert_eq!(out.len(), self.corner.len(), "one value per place");
        let Some(shifts) = self.shifts(image.len(), size) else { return };
        for (pairs, shift) in self.pairs.iter_mut().zip(shifts) {
            for (pair, &corner) in pairs.iter_mut().zip(&self.corner) {
                // SAFETY: `shifts` has found two values there; an array of two values has the alignment of one.
                *pair = unsafe { *image.as_ptr().add(corner as usize + shift).cast::<[f32; 2]>() };
            }
        }
        cpu.run(&Mixing { places: self, out: RefCell::new(out) });
    }

    /// Steps from the lowest corner to the four pairs of corners along x, all inside `values` values; `None` when the
    /// grid has no such cell.
    fn shifts(&self, values: usize, size: [usize; 3]) -> Option<[usize; 4]> {
        assert_eq!(values, size.iter().product::<usize>(), "values fill the grid");
        // Within a plane nothing behind it is read.
        let (down, behind) = (size[2], if self.flat { 0 } else { size[1] * size[2] });
        if size[1] < 2 || size[2] < 2 || (size[0] < 2 && !self.flat) {
            return None;
        }
        let most = self.corner.iter().fold(0, |most, &corner| most.max(corner)) as usize;
        assert!(most + behind + down + 2 <= values, "corners inside the grid");
        Some([0, down, behind, behind + down])
    }

    /// Per voxel the label that all its corners share, or [`MIXED`].
    pub fn shared(&self, labels: &[i16], size: [usize; 3], out: &mut [i16]) {
        out.fill(MIXED);
        let Some(shifts) = self.shifts(labels.len(), size) else { return };
        for (out, &corner) in out.iter_mut().zip(&self.corner) {
            // SAFETY: `shifts` has found two labels at each; an array of two labels has the alignment of one.
            let [a, b, c, d] = shifts
                .map(|shift| unsafe { *labels.as_ptr().add(corner as usize + shift).cast::<[i16; 2]>() });
            if a == b && a == c && a == d && a[0] == a[1] {
                *out = a[0];
            }
        }
        self.outside.iter().for_each(|&i| out[i] = MIXED);
    }
}

struct Locating<'a> {
    lines: [Line; 3],
    size: [usize; 3],
    plane: Option<usize>,
    places: RefCell<&'a mut Places>,
}

impl Task for Locating<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Locating<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let Places { whole, fraction, corner, ramp, outside, flat, .. } = &mut **self.places.borrow_mut();
        assert!(self.lines.iter().all(|line| (0.0..1e9).contains(&line.last)), "positions are indices");
        for axis in 0..3 {
            let Line { base, step, first, half, size, shift, last } = self.lines[axis];
            for start in (0..ramp.len()).step_by(WIDTH) {
                let cells = start..(start + WIDTH).min(ramp.len());
                let (mut rest, mut floor) = ([0f32; WIDTH], [0i32; WIDTH]);
                rest[..cells.len()].copy_from_slice(&ramp[cells.clone()]);
                for i in 0..WIDTH {
                    let grid = (base + step * (first + rest[i])) / half;
                    let position = (((grid + 1.0) * size - 1.0) / 2.0 + shift).max(0.0).min(last);
                    // SAFETY: between 0, which what is not a number becomes too, and `last`, which fits.
                    floor[i] = unsafe { position.to_int_unchecked() };
                    rest[i] = position - floor[i] as f32;
                }
                whole[axis][cells.clone()].copy_from_slice(&floor[..cells.len()]);
                fraction[axis][cells.clone()].copy_from_slice(&rest[..cells.len()]);
            }
        }
        if let Some(plane) = self.plane {
            whole[0].fill(plane as i32);
            fraction[0].fill(0.0);
        }
        *flat = self.plane.is_some();
        let [nz, ny, nx] = self.size.map(|n| n as u32);
        // Lowest corners below these have a neighbour behind them.
        let ends = [if *flat { nz } else { nz.wrapping_sub(1) }, ny.wrapping_sub(1), nx.wrapping_sub(1)];
        let [z, y, x] = whole;
        let mut any = 0;
        for (corner, (z, (y, x))) in corner.iter_mut().zip(z.iter().zip(y.iter().zip(x.iter()))) {
            // One below the position; below the grid it becomes a large number.
            let [z, y, x] = [*z, *y, *x].map(|at| (at as u32).wrapping_sub(1));
            let inside = (z < ends[0]) & (y < ends[1]) & (x < ends[2]);
            let index = z.wrapping_mul(ny).wrapping_add(y).wrapping_mul(nx).wrapping_add(x);
            *corner = if inside { index } else { u32::MAX };
            any |= u32::from(!inside);
        }
        outside.clear();
        if any > 0 {
            for (i, corner) in corner.iter_mut().enumerate().filter(|(_, corner)| **corner == u32::MAX) {
                *corner = 0;
                outside.push(i);
            }
        }
    }
}

struct Mixing<'a> {
    places: &'a Places,
    out: RefCell<&'a mut [f32]>,
}

impl Task for Mixing<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Mixing<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        const SIDES: [[i32; 16]; 2] = [
            [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30],
            [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31],
        ];
        let (places, out) = (self.places, &mut self.out.borrow_mut()[..]);
        for (group, out) in out.chunks_mut(WIDTH).enumerate() {
            let (at, count) = (group * WIDTH, out.len());
            let mut parts = [[0f32; WIDTH]; 3];
            for (part, fraction) in parts.iter_mut().zip(&places.fraction) {
                part[..count].copy_from_slice(&fraction[at..at + count]);
            }
            // SAFETY: all arrays have sixteen values, groups of pairs sixteen pairs; the indices lie in 0 to 31.
            unsafe {
                let z = V::load(parts[0].as_ptr());
                let y = V::load(parts[1].as_ptr());
                let x = V::load(parts[2].as_ptr());
                let mut along = [V::zero(); 4];
                for (along, pairs) in along.iter_mut().zip(&places.pairs) {
                    let from = pairs[at..at + WIDTH].as_ptr().cast::<f32>();
                    *along = mix(V::pick(from, SIDES[0].as_ptr()), V::pick(from, SIDES[1].as_ptr()), x);
                }
                let [a, b, c, d] = along;
                let mut values = [0f32; WIDTH];
                mix(mix(a, b, y), mix(c, d, y), z).store(values.as_mut_ptr());
                out.copy_from_slice(&values[..count]);
            }
        }
    }
}

#[inline(always)]
fn mix<V: Lanes>(a: V, b: V, part: V) -> V {
    a.mul(V::splat(1.0).sub(part)).add(b.mul(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_every_voxel_alone_on_every_instruction_set() {
        let size = [6, 7, 9];
        let image: Vec<f32> = (0..size.iter().product()).map(|i| (i * 37 % 101) as f32 * 0.13).collect();
        for n in [5, 16, 37] {
            let line = |base: f32, step: f32, last: f32| Line {
                base,
                step,
                first: -(n as f32 - 1.0) / 2.0,
                half: 5.0,
                size: 10.0,
                shift: 2.0,
                last,
            };
            let lines = [line(0.3, 0.05, 4.0), line(-0.7, 0.11, 5.0), line(0.0, 0.2, 7.0)];
            for plane in [None, Some(2)] {
                let mut places = Places::new(n);
                places.locate(lines, size, plane);
                let mut first = None;
                for cpu in Cpu::available() {
                    let mut out = vec![0f32; n];
                    places.interpolate_with(cpu, &image, size, &mut out);
                    assert_eq!(*first.get_or_insert(out.clone()), out, "{}", cpu.name());
                }
                for (i, value) in first.unwrap().into_iter().enumerate() {
                    let mut expected = 0f64;
                    let at = [0, 1, 2].map(|axis| {
                        let Line { base, step, first, half, size, shift, last } = lines[axis];
                        let grid = (base + step * (first + i as f32)) / half;
                        let position = ((grid + 1.0) * size - 1.0) / 2.0 + shift;
                        let position = position.clamp(0.0, last);
                        if axis == 0 { plane.map_or(position, |plane| plane as f32) } else { position }
                    });
                    for corner in 0..8 {
                        let side = [corner >> 2, corner >> 1 & 1, corner & 1];
                        let weight = |axis: usize| {
                            let part = f64::from(at[axis].fract());
                            if side[axis] == 1 { part } else { 1.0 - part }
                        };
                        let voxel = |axis: usize| at[axis] as usize - 1 + side[axis];
                        let index = (voxel(0) * size[1] + voxel(1)) * size[2] + voxel(2);
                        expected += weight(0) * weight(1) * weight(2) * f64::from(image[index]);
                    }
                    assert!((f64::from(value) - expected).abs() < 1e-5, "{value} {expected}");
                }
            }
        }
    }

    #[test]
    fn what_lies_beyond_is_listed_and_shared_labels_are_those_of_all_corners() {
        let size = [3, 4, 6];
        let labels: Vec<i16> = (0..72).map(|i| i16::from(i % 6 > 2 && i / 6 != 5)).collect();
        let axis = |base: f32, step: f32, n: usize| Line {
            base,
            step,
            first: 0.0,
            half: 1.0,
            size: 2.0,
            shift: -0.5,
            last: n as f32 + 1.0,
        };
        // Position of voxel i: 0 + base + step i.
        for [bz, by] in [[1.2, 1.4], [2.0, 2.7], [3.3, 1.0], [0.4, 2.0], [1.0, 3.9]] {
            let mut places = Places::new(9);
            places.locate([axis(bz, 0.0, 3), axis(by, 0.0, 4), axis(0.25, 0.9, 6)], size, None);
            let mut shared = vec![0; 9];
            places.shared(&labels, size, &mut shared);
            for i in 0..9 {
                let at = [bz as usize, by as usize, (0.25 + 0.9 * i as f32) as usize];
                assert_eq!([0, 1, 2].map(|axis| places.whole[axis][i] as usize), at);
                let inside = (0..3).all(|axis| at[axis] >= 1 && at[axis] < size[axis]);
                assert_eq!(places.outside.contains(&i), !inside, "{at:?}");
                let mut expected = MIXED;
                if inside {
                    let corner = |k: usize| {
                        let [z, y, x] = [at[0] - 1 + (k >> 2), at[1] - 1 + (k >> 1 & 1), at[2] - 1 + (k & 1)];
                        labels[(z * 4 + y) * 6 + x]
                    };
                    expected = if (0..8).all(|k| corner(k) == corner(0)) { corner(0) } else { MIXED };
                }
                assert_eq!(shared[i], expected, "{at:?}");
            }
        }
    }
}
