//! Sliding window: tiles of an image through a network, mirrored copies and overlapping tiles averaged.
//!
//! Source: nnU-Net v2.8.1, `predict_sliding_window_return_logits`. Differs: sums are kept in float32
//! unless [`Precision::Half`] asks for nnU-Net's float16; the image is never padded as a whole.

use crate::band::Band;
use crate::gaussian::importance;
use crate::tiles::corners;
use galen_core::Result;
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

/// Runs the network on one patch `[c, z, y, x]` of the given size; overwrites logits `[k, z, y, x]`.
pub type Forward<'a> = dyn FnMut(&[f32], [usize; 3], &mut [f32]) -> Result<()> + 'a;

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

    /// Tiles by rows along the first axis, from the first on: lower corners `(z, y, x)` in image coordinates,
    /// negative where the image is smaller than the patch.
    pub fn rows(&self, size: [usize; 3]) -> Vec<Vec<[isize; 3]>> {
        let mut rows: Vec<Vec<[isize; 3]>> = Vec::new();
        for corner in self.tiles(size) {
            match rows.last_mut() {
                Some(row) if row[0][0] == corner[0] => row.push(corner),
                _ => rows.push(vec![corner]),
            }
        }
        rows
    }

    /// First plane of the image that a row of tiles covers, and the one after its last.
    pub fn planes(&self, corner: [isize; 3], size: [usize; 3]) -> [usize; 2] {
        let end = (corner[0] + self.patch[0] as isize).max(0) as usize;
        [corner[0].max(0) as usize, end.min(size[0])]
    }

    fn tiles(&self, size: [usize; 3]) -> Vec<[isize; 3]> {
        let padded = self.padded(size);
        let before = [0, 1, 2].map(|axis| ((padded[axis] - size[axis]) / 2) as isize);
        let corners = corners(padded, self.patch, self.step).into_iter();
        corners.map(|corner| [0, 1, 2].map(|axis| corner[axis] as isize - before[axis])).collect()
    }

    /// Adds the averaged logits of tiles to `sum`. `done` is called after every forward pass.
    pub fn accumulate(
        &self,
        input: Input,
        tiles: &[[isize; 3]],
        sum: &mut Band,
        forward: &mut Forward,
        done: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let voxels = self.patch.iter().product::<usize>();
        let several = usize::from(self.mirrors.len() > 1);
        // One memory for all tiles: for many classes it is large.
        let mut patch = vec![0f32; input.channels * voxels];
        let mut logits = vec![0f32; sum.classes() * voxels];
        let (mut flipped, mut mirrored) =
            (vec![0f32; several * patch.len()], vec![0f32; several * logits.len()]);
        for &corner in tiles {
            self.crop(input, corner, &mut patch);
            for &flip in &self.mirrors {
                if flip == [false; 3] {
                    forward(&patch, self.patch, &mut logits)?;
                } else {
                    self.mirror(&patch, flip, &mut flipped, |to, value| *to = value);
                    forward(&flipped, self.patch, &mut mirrored)?;
                    self.mirror(&mirrored, flip, &mut logits, |to, value| *to += value);
                }
                done()?;
            }
            let count = self.mirrors.len() as f32;
            if several > 0 {
                logits.par_chunks_mut(voxels).for_each(|class| class.iter_mut().for_each(|v| *v /= count));
            }
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

    /// Puts each value of a `[c, z, y, x]` array to its place in the flipped array.
    fn mirror(&self, from: &[f32], flip: [bool; 3], to: &mut [f32], put: impl Fn(&mut f32, f32) + Sync) {
        let [pz, py, px] = self.patch;
        let turn = |i: usize, n: usize, flip: bool| if flip { n - 1 - i } else { i };
        to.par_chunks_mut(py * px).enumerate().for_each(|(plane, to)| {
            let (c, z) = (plane / pz, plane % pz);
            for (y, to) in to.chunks_exact_mut(px).enumerate() {
                let first = ((c * pz + turn(z, pz, flip[0])) * py + turn(y, py, flip[1])) * px;
                let from = &from[first..first + px];
                if flip[2] {
                    to.iter_mut().zip(from.iter().rev()).for_each(|(to, &value)| put(to, value));
                } else {
                    to.iter_mut().zip(from).for_each(|(to, &value)| put(to, value));
                }
            }
        });
    }
}

/// Index in the image of an index in the tile.
pub(crate) fn shift(index: usize, corner: isize) -> usize {
    index.wrapping_add_signed(corner)
}

/// Part of a tile that lies in the image, `[low, high)` per axis in tile indices.
pub(crate) fn overlap(corner: [isize; 3], patch: [usize; 3], size: [usize; 3]) -> [[usize; 2]; 3] {
    [0, 1, 2].map(|axis| {
        let low = (-corner[axis]).max(0) as usize;
        let high = (size[axis] as isize - corner[axis]).clamp(0, patch[axis] as isize) as usize;
        [low.min(high), high]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::band::{Bands, Extent, Place};
    use galen_prep::resample::PlaneSource;

    fn image(channels: usize, size: [usize; 3]) -> Vec<f32> {
        (0..channels * size.iter().product::<usize>()).map(|i| (i as f32 * 0.37).sin()).collect()
    }

    /// A network that returns its first channel and minus its first channel.
    fn identity(patch: &[f32], size: [usize; 3], logits: &mut [f32]) -> Result<()> {
        let (first, second) = logits.split_at_mut(size.iter().product());
        first.copy_from_slice(&patch[..first.len()]);
        second.iter_mut().zip(first).for_each(|(to, v)| *to = -*v);
        Ok(())
    }

    /// Mean logits of an image, planes given up as soon as they are final.
    fn means(
        window: &Window,
        values: &[f32],
        size: [usize; 3],
        precision: Precision,
        place: Place,
    ) -> (Vec<f32>, usize) {
        let height = size[0].min(window.patch()[0]);
        let mut bands =
            Bands(vec![Band::new(Extent { classes: 2, size, height }, precision, place).unwrap()]);
        let input = Input { channels: 2, size, values };
        let (mut passes, voxels, area) = (0, size.iter().product::<usize>(), size[1] * size[2]);
        let mut found = vec![0f32; 2 * voxels];
        let rows = window.rows(size);
        for (number, row) in rows.iter().enumerate() {
            let [first, end] = window.planes(row[0], size);
            bands.0[0].release(first);
            bands.0[0].enter(end).unwrap();
            let mut done = || {
                passes += 1;
                Ok(())
            };
            window.accumulate(input, row, &mut bands.0[0], &mut identity, &mut done).unwrap();
            let ready = rows.get(number + 1).map_or(size[0], |next| window.planes(next[0], size)[0]);
            for (class, z) in (0..2).flat_map(|class| (first..ready).map(move |z| (class, z))) {
                bands.plane(class, z, &mut found[class * voxels + z * area..][..area]);
            }
            bands.check().unwrap();
        }
        (found, passes)
    }

    #[test]
    fn a_scratch_file_holds_what_memory_holds() {
        let (size, values) = ([21, 9, 7], image(2, [21, 9, 7]));
        for (precision, patch) in [(Precision::Single, [8, 4, 4]), (Precision::Half, [4, 8, 8])] {
            let window = Window::new(patch, 0.5, &[0]);
            let [memory, file] =
                [Place::Memory, Place::Scratch].map(|place| means(&window, &values, size, precision, place));
            assert_eq!(memory, file);
        }
    }

    #[test]
    fn a_network_without_context_gives_its_input_back_whatever_the_window() {
        for (size, patch) in [([9, 11, 30], [4, 8, 8]), ([3, 20, 7], [8, 8, 8]), ([1, 9, 9], [1, 8, 4])] {
            for precision in [Precision::Single, Precision::Half] {
                let values = image(2, size);
                let window = Window::new(patch, 0.5, if patch[0] == 1 { &[1, 2] } else { &[0, 1, 2] });
                let (found, passes) = means(&window, &values, size, precision, Place::Memory);
                assert_eq!(passes, window.passes(size));
                let mut expected = vec![0.0; values.len()];
                identity(&values, size, &mut expected).unwrap();
                let off = |(a, b): (&f32, &f32)| (a - b).abs();
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
        let (values, size) = (image(1, [4, 4, 4]), [4, 4, 4]);
        let extent = Extent { classes: 1, size, height: 4 };
        let mut bands = Bands(vec![Band::new(extent, Precision::Single, Place::Memory).unwrap()]);
        let window = Window::new(size, 0.5, &[]);
        let mut forward = |_: &[f32], _: [usize; 3], logits: &mut [f32]| {
            logits.fill(f32::INFINITY);
            Ok(())
        };
        let input = Input { channels: 1, size, values: &values };
        bands.0[0].enter(4).unwrap();
        window
            .accumulate(input, &window.rows(size)[0], &mut bands.0[0], &mut forward, &mut || Ok(()))
            .unwrap();
        bands.plane(0, 0, &mut [0.0; 16]);
        assert!(bands.check().unwrap_err().to_string().contains("infinite"));
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
