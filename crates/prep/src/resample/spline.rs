//! Cubic spline interpolation of columns: `[n, width]` arrays along their first axis.
//!
//! Source: scipy 1.17 `ndimage.spline_filter1d` on an axis with 12 repeated edge values on both sides.

use super::taps::{Cubic, PAD};

/// Pole of the cubic spline, the literal of scipy.
const POLE: f64 = -0.267_949_192_431_122_7;
/// Powers of the pole beyond this one are below 1e-36 and change no double.
const REACH: usize = 64;

/// Spline coefficients of columns, with the padding of the axis.
pub(super) struct Columns {
    values: Vec<f64>,
    sum: Vec<f64>,
    length: usize,
    width: usize,
}

impl Columns {
    /// Room for columns of up to `n` voxels, `width` of them side by side.
    pub(super) fn new(n: usize, width: usize) -> Self {
        let length = n + 2 * PAD;
        Self { values: vec![0.0; length * width], sum: vec![0.0; width], length, width }
    }

    /// Row of input voxel `i`, to be filled before [`Self::filter`].
    pub(super) fn row_mut(&mut self, i: usize) -> &mut [f64] {
        let start = (i + PAD) * self.width;
        &mut self.values[start..start + self.width]
    }

    /// Turns the voxels into coefficients.
    pub(super) fn filter(&mut self) {
        let (length, width) = (self.length, self.width);
        let gain = (1.0 - POLE) * (1.0 - 1.0 / POLE);
        let inner = PAD * width..(length - PAD) * width;
        self.values[inner].iter_mut().for_each(|v| *v *= gain);
        for i in 0..PAD {
            self.values.copy_within(PAD * width..(PAD + 1) * width, i * width);
            self.values
                .copy_within((length - PAD - 1) * width..(length - PAD) * width, (length - 1 - i) * width);
        }
        self.start();
        for i in 1..length {
            let (before, here) = self.values.split_at_mut(i * width);
            let before = &before[(i - 1) * width..];
            here[..width].iter_mut().zip(before).for_each(|(h, b)| *h += POLE * b);
        }
        self.values[(length - 1) * width..].iter_mut().for_each(|v| *v *= POLE / (POLE - 1.0));
        for i in (0..length - 1).rev() {
            let (here, after) = self.values.split_at_mut((i + 1) * width);
            let here = &mut here[i * width..];
            here.iter_mut().zip(&after[..width]).for_each(|(h, a)| *h = POLE * (a - *h));
        }
    }

    /// First coefficient: the mirrored, endless sum in closed form.
    fn start(&mut self) {
        let (length, width) = (self.length, self.width);
        let zn = POLE.powi(length as i32);
        let (first, last) = (&self.values[..width], &self.values[(length - 1) * width..]);
        self.sum.iter_mut().zip(first.iter().zip(last)).for_each(|(s, (a, b))| *s = a + zn * b);
        let mut z = POLE;
        for i in 1..length.min(REACH) {
            let (near, far) = (&self.values[i * width..], &self.values[(length - 1 - i) * width..]);
            self.sum.iter_mut().zip(near.iter().zip(far)).for_each(|(s, (a, b))| *s += z * (a + zn * b));
            z *= POLE;
        }
        let scale = POLE / (1.0 - zn * zn);
        self.values[..width].iter_mut().zip(&self.sum).for_each(|(v, s)| *v += scale * s);
    }

    /// Interpolated row of an output voxel.
    pub(super) fn sample(&self, tap: &Cubic, out: &mut [f64]) {
        let row = |k: usize| &self.values[(tap.first + k) * self.width..][..self.width];
        let [w0, w1, w2, w3] = tap.weights;
        let rows = row(0).iter().zip(row(1)).zip(row(2).iter().zip(row(3)));
        out.iter_mut().zip(rows).for_each(|(o, ((a, b), (c, d)))| *o = a * w0 + b * w1 + c * w2 + d * w3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resample::taps::{coordinate, cubic};

    #[test]
    fn a_spline_passes_through_its_voxels() {
        let voxels = [3.0, -1.0, 7.5, 2.0, 2.0, 9.0];
        let mut columns = Columns::new(voxels.len(), 1);
        voxels.iter().enumerate().for_each(|(i, &v)| columns.row_mut(i)[0] = v);
        columns.filter();
        for (tap, voxel) in cubic(voxels.len(), voxels.len(), coordinate).iter().zip(voxels) {
            let mut out = [0.0];
            columns.sample(tap, &mut out);
            assert!((out[0] - voxel).abs() < 1e-13, "{} {voxel}", out[0]);
        }
    }
}
