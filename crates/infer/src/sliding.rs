//! Sliding window: tiles of an image through a network, mirrored copies and overlapping tiles averaged.
//!
//! Source: nnU-Net v2.8.1, `predict_sliding_window_return_logits`. Differs: sums are kept in float32
//! unless [`Precision::Half`] asks for nnU-Net's float16; the image is never padded as a whole.

use crate::gaussian::importance;
use crate::tiles::corners;
use galen_core::{Error, Result};
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// How sums over tiles are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// float32 throughout.
    #[default]
    Single,
    /// float16 after every tile, fold and resampling, as nnU-Net does: for comparison with it.
    Half,
}

impl Precision {
    /// Rounds values to what would be stored.
    pub fn round(self, values: &mut [f32]) {
        if self == Self::Single {
            return;
        }
        let mut halves = [f16::ZERO; 256];
        for chunk in values.chunks_mut(halves.len()) {
            let halves = &mut halves[..chunk.len()];
            halves.convert_from_f32_slice(chunk);
            halves.convert_to_f32_slice(chunk);
        }
    }
}

/// An image as the network sees it.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Number of channels.
    pub channels: usize,
    /// Voxels, `(z, y, x)`.
    pub size: [usize; 3],
    /// Values, `[c, z, y, x]`.
    pub values: &'a [f32],
}

/// Geometry of the window.
pub struct Window {
    patch: [usize; 3],
    step: f64,
    mirrors: Vec<[bool; 3]>,
    weight: Vec<f32>,
}

/// Runs the network on one patch `[c, z, y, x]` of the given size; returns logits `[k, z, y, x]`.
pub type Forward<'a> = dyn FnMut(&[f32], [usize; 3]) -> Result<Vec<f32>> + 'a;

impl Window {
    /// Window of `patch` voxels `(z, y, x)` that moves by `step` patches; logits are averaged over all
    /// mirrored copies along `mirror_axes` (0 = z; 2D patches have `patch[0] == 1`).
    pub fn new(patch: [usize; 3], step: f64, mirror_axes: &[usize]) -> Self {
        let mirrors = (0..1usize << mirror_axes.len()).map(|bits| {
            let mut flip = [false; 3];
            mirror_axes.iter().enumerate().for_each(|(bit, &axis)| flip[axis] = bits >> bit & 1 == 1);
            flip
        });
        let mut mirrors: Vec<_> = mirrors.collect();
        // nnU-Net's order: by number of flipped axes, then by axis.
        mirrors.sort_by_key(|flip| (flip.iter().filter(|&&f| f).count(), flip.map(|f| !f)));
        Self { patch, step, mirrors, weight: importance(patch) }
    }

    /// Patch in voxels, `(z, y, x)`.
    pub fn patch(&self) -> [usize; 3] {
        self.patch
    }

    /// Number of forward passes for an image of this size `(z, y, x)`.
    pub fn passes(&self, size: [usize; 3]) -> usize {
        self.tiles(size).len() * self.mirrors.len()
    }

    fn padded(&self, size: [usize; 3]) -> [usize; 3] {
        [0, 1, 2].map(|axis| size[axis].max(self.patch[axis]))
    }

    /// Lower corners in image coordinates; negative where the image is smaller than the patch.
    fn tiles(&self, size: [usize; 3]) -> Vec<[isize; 3]> {
        let padded = self.padded(size);
        let before = [0, 1, 2].map(|axis| ((padded[axis] - size[axis]) / 2) as isize);
        let corners = corners(padded, self.patch, self.step).into_iter();
        corners.map(|corner| [0, 1, 2].map(|axis| corner[axis] as isize - before[axis])).collect()
    }

    /// Adds the averaged logits of all tiles to `sum`. `done` is called after every forward pass.
    pub fn accumulate(
        &self,
        input: Input,
        sum: &mut Sum,
        forward: &mut Forward,
        done: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let voxels = self.patch.iter().product::<usize>();
        let mut patch = vec![0f32; input.channels * voxels];
        let mut flipped = Vec::new();
        for corner in self.tiles(input.size) {
            self.crop(input, corner, &mut patch);
            let mut logits: Vec<f32> = Vec::new();
            for &flip in &self.mirrors {
                if flip == [false; 3] {
                    logits = forward(&patch, self.patch)?;
                } else {
                    flipped.resize(patch.len(), 0.0);
                    self.mirror(&patch, flip, |to, value| flipped[to] = value);
                    let mirrored = forward(&flipped, self.patch)?;
                    self.mirror(&mirrored, flip, |to, value| logits[to] += value);
                }
                done()?;
            }
            let count = self.mirrors.len() as f32;
            logits.iter_mut().for_each(|v| *v /= count);
            sum.add(&logits, &self.weight, self.patch, corner)?;
        }
        Ok(())
    }

    /// Copies a tile; zero outside the image.
    fn crop(&self, input: Input, corner: [isize; 3], patch: &mut [f32]) {
        let [pz, py, px] = self.patch;
        let [_, ny, nx] = input.size;
        patch.fill(0.0);
        let voxels: usize = input.size.iter().product();
        let [zs, ys, xs] = overlap(corner, self.patch, input.size);
        for c in 0..input.channels {
            for z in zs[0]..zs[1] {
                for y in ys[0]..ys[1] {
                    let from = c * voxels + (shift(z, corner[0]) * ny + shift(y, corner[1])) * nx;
                    let to = ((c * pz + z) * py + y) * px;
                    let row = &input.values[from + shift(xs[0], corner[2])..][..xs[1] - xs[0]];
                    patch[to + xs[0]..to + xs[1]].copy_from_slice(row);
                }
            }
        }
    }

    /// Calls `put` with each value of a `[c, z, y, x]` array and its place in the flipped array.
    fn mirror(&self, values: &[f32], flip: [bool; 3], mut put: impl FnMut(usize, f32)) {
        let [pz, py, px] = self.patch;
        let turn = |i: usize, n: usize, flip: bool| if flip { n - 1 - i } else { i };
        for (row, values) in values.chunks(px).enumerate() {
            let (c, z, y) = (row / (pz * py), row / py % pz, row % py);
            let to = ((c * pz + turn(z, pz, flip[0])) * py + turn(y, py, flip[1])) * px;
            for (x, &value) in values.iter().enumerate() {
                put(to + turn(x, px, flip[2]), value);
            }
        }
    }
}

/// Index in the image of an index in the tile.
fn shift(index: usize, corner: isize) -> usize {
    index.wrapping_add_signed(corner)
}

/// Part of a tile that lies in the image, `[low, high)` per axis in tile indices.
fn overlap(corner: [isize; 3], patch: [usize; 3], size: [usize; 3]) -> [[usize; 2]; 3] {
    [0, 1, 2].map(|axis| {
        let low = (-corner[axis]).max(0) as usize;
        let high = (size[axis] as isize - corner[axis]).clamp(0, patch[axis] as isize) as usize;
        [low.min(high), high]
    })
}

/// Weighted sums of logits over tiles.
pub struct Sum {
    classes: usize,
    size: [usize; 3],
    values: Stored,
    /// Sum of the importance of all tiles, `[z, y, x]`.
    weights: Stored,
}

/// Sums in either precision.
enum Stored {
    Single(Vec<f32>),
    Half(Vec<f16>),
}

impl Stored {
    fn zeros(n: usize, precision: Precision) -> Self {
        match precision {
            Precision::Single => Self::Single(vec![0.0; n]),
            Precision::Half => Self::Half(vec![f16::ZERO; n]),
        }
    }
}

impl Sum {
    /// Empty sums for `classes` logits per voxel.
    pub fn new(classes: usize, size: [usize; 3], precision: Precision) -> Self {
        let voxels: usize = size.iter().product();
        let weights = Stored::zeros(voxels, precision);
        Self { classes, size, values: Stored::zeros(classes * voxels, precision), weights }
    }

    fn add(&mut self, logits: &[f32], weight: &[f32], patch: [usize; 3], corner: [isize; 3]) -> Result<()> {
        let voxels: usize = patch.iter().product();
        if logits.len() != self.classes * voxels {
            let what = format!("{} logits for {} classes in {voxels} voxels", logits.len(), self.classes);
            return Err(Error::bug("sliding window", what));
        }
        let tile = Tile { weight, patch, corner, size: self.size };
        match &mut self.values {
            Stored::Single(sums) => tile.add(sums, Some(logits), add_single),
            Stored::Half(sums) => tile.add(sums, Some(logits), add_half),
        }
        match &mut self.weights {
            Stored::Single(sums) => tile.add(sums, None, add_single),
            Stored::Half(sums) => tile.add(sums, None, add_half),
        }
        Ok(())
    }

    /// Mean logits `[k, z, y, x]`. An infinite value is an error: the network overflowed.
    pub fn finish(self) -> Result<Vec<f32>> {
        let voxels: usize = self.size.iter().product();
        let mean = match (self.values, self.weights) {
            (Stored::Single(mut sums), Stored::Single(weights)) => {
                sums.par_chunks_mut(voxels).for_each(|class| {
                    class.iter_mut().zip(&weights).for_each(|(v, w)| *v /= w);
                });
                sums
            }
            (Stored::Half(sums), Stored::Half(weights)) => {
                let mut divisor = vec![0f32; voxels];
                weights.convert_to_f32_slice(&mut divisor);
                let mut mean = vec![0f32; sums.len()];
                mean.par_chunks_mut(voxels).zip(sums.par_chunks(voxels)).for_each(|(class, sums)| {
                    sums.convert_to_f32_slice(class);
                    class.iter_mut().zip(&divisor).for_each(|(v, w)| *v /= w);
                    Precision::Half.round(class);
                });
                mean
            }
            _ => return Err(Error::bug("sliding window", "sums and weights differ in precision")),
        };
        if mean.par_iter().any(|v| !v.is_finite()) {
            let what = "the network gave infinite or undefined values";
            return Err(Error::input(
                "logits",
                what,
                "check the model's weights and the intensities of the image",
            ));
        }
        Ok(mean)
    }
}

fn add_single(sums: &mut [f32], row: &[f32]) {
    sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
}

fn add_half(sums: &mut [f16], row: &[f32]) {
    let mut wide = [0f32; 256];
    for (sums, row) in sums.chunks_mut(wide.len()).zip(row.chunks(wide.len())) {
        let wide = &mut wide[..sums.len()];
        sums.convert_to_f32_slice(wide);
        add_single(wide, row);
        sums.convert_from_f32_slice(wide);
    }
}

/// One tile on its way into the sums.
struct Tile<'a> {
    weight: &'a [f32],
    patch: [usize; 3],
    corner: [isize; 3],
    size: [usize; 3],
}

impl Tile<'_> {
    /// Adds rows of weight × logits, or of the weight alone, to the sums of every class.
    fn add<T: Send>(&self, sums: &mut [T], logits: Option<&[f32]>, add: impl Fn(&mut [T], &[f32]) + Sync) {
        let [_, ny, nx] = self.size;
        let [pz, py, px] = self.patch;
        let [zs, ys, xs] = overlap(self.corner, self.patch, self.size);
        let voxels: usize = self.size.iter().product();
        sums.par_chunks_mut(voxels).enumerate().for_each(|(class, sums)| {
            let mut product = vec![0f32; xs[1] - xs[0]];
            for z in zs[0]..zs[1] {
                for y in ys[0]..ys[1] {
                    let to = (shift(z, self.corner[0]) * ny + shift(y, self.corner[1])) * nx;
                    let row = &mut sums[to + shift(xs[0], self.corner[2])..][..xs[1] - xs[0]];
                    let from = (z * py + y) * px + xs[0];
                    let weight = &self.weight[from..][..row.len()];
                    let Some(logits) = logits else {
                        add(row, weight);
                        continue;
                    };
                    let logits = &logits[class * pz * py * px + from..][..row.len()];
                    product.iter_mut().zip(logits).zip(weight).for_each(|((p, v), w)| *p = v * w);
                    add(row, &product);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(channels: usize, size: [usize; 3]) -> Vec<f32> {
        (0..channels * size.iter().product::<usize>()).map(|i| (i as f32 * 0.37).sin()).collect()
    }

    /// A network that returns its first channel and minus its first channel.
    fn identity(patch: &[f32], size: [usize; 3]) -> Result<Vec<f32>> {
        let first = &patch[..size.iter().product()];
        Ok(first.iter().copied().chain(first.iter().map(|v| -v)).collect())
    }

    #[test]
    fn a_network_without_context_gives_its_input_back_whatever_the_window() {
        for (size, patch) in [([9, 11, 30], [4, 8, 8]), ([3, 20, 7], [8, 8, 8]), ([1, 9, 9], [1, 8, 4])] {
            for precision in [Precision::Single, Precision::Half] {
                let values = image(2, size);
                let window = Window::new(patch, 0.5, if patch[0] == 1 { &[1, 2] } else { &[0, 1, 2] });
                let mut sum = Sum::new(2, size, precision);
                let input = Input { channels: 2, size, values: &values };
                let mut passes = 0;
                let mut done = || {
                    passes += 1;
                    Ok(())
                };
                window.accumulate(input, &mut sum, &mut identity, &mut done).unwrap();
                assert_eq!(passes, window.passes(size));
                let expected = identity(&values, size).unwrap();
                let off = |(a, b): (&f32, &f32)| (a - b).abs();
                let found = sum.finish().unwrap();
                let worst = found.iter().zip(&expected).map(off).fold(0.0, f32::max);
                let mean = found.iter().zip(&expected).map(off).sum::<f32>() / found.len() as f32;
                // In float16 the corners of an image, where the importance is subnormal, lose most digits.
                assert!(
                    if precision == Precision::Single { worst < 1e-6 } else { mean < 2e-3 },
                    "{worst} {mean}"
                );
            }
        }
    }

    #[test]
    fn overflow_is_an_error() {
        let values = image(1, [4, 4, 4]);
        let mut sum = Sum::new(1, [4, 4, 4], Precision::Single);
        let window = Window::new([4, 4, 4], 0.5, &[]);
        let mut forward = |patch: &[f32], _: [usize; 3]| Ok(vec![f32::INFINITY; patch.len()]);
        let input = Input { channels: 1, size: [4, 4, 4], values: &values };
        window.accumulate(input, &mut sum, &mut forward, &mut || Ok(())).unwrap();
        assert!(sum.finish().unwrap_err().to_string().contains("infinite"));
    }

    #[test]
    fn mirrors_come_in_the_order_of_the_reference() {
        let window = Window::new([2, 2, 2], 0.5, &[0, 1, 2]);
        let text: Vec<String> = window
            .mirrors
            .iter()
            .map(|flip| (0..3).filter(|&axis| flip[axis]).map(|axis| axis.to_string()).collect())
            .collect();
        assert_eq!(text, ["", "0", "1", "2", "01", "02", "12", "012"]);
    }
}
