//! Images onto another grid with splines of order 0, 1 or 3, axis by axis in double precision.
//!
//! Source: scikit-image 0.26 `resize(mode="edge", anti_aliasing=False, clip=True)`, which is scipy's `zoom`.
//! Differs: the reference multiplies three weights per corner; separable sums differ by about 1e-13 relative.

use super::Planes;
use super::spline::Columns;
use super::taps::{self, Cubic, Linear};
use rayon::prelude::*;

/// Rows that go through the spline filter together.
const LANES: usize = 16;
/// Columns of a plane that go through the spline filter together.
const STRIP: usize = 64;
/// Columns of a volume: small enough for the cache with a few hundred slices.
const BLOCK: usize = 256;

/// Stored precision of an image.
pub trait Real: Copy + Default + Send + Sync + Into<f64> {
    /// Rounds to nearest, ties to even.
    fn from_f64(value: f64) -> Self;
}

impl Real for f32 {
    fn from_f64(value: f64) -> Self {
        value as Self
    }
}

impl Real for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
}

/// Interpolation along one axis.
pub(super) enum Axis {
    /// Same number of voxels.
    Same,
    Nearest(Vec<usize>),
    Linear(Vec<Linear>),
    Cubic(Vec<Cubic>),
}

impl Axis {
    /// What an output voxel reads; splines of order 3 read more and are not asked.
    pub(super) fn reads(&self, out: usize) -> Linear {
        let alone = |at: usize| Linear { at: [at; 2], weights: [1.0, 0.0] };
        match self {
            Self::Same => alone(out),
            Self::Nearest(picks) => alone(picks[out]),
            Self::Linear(taps) => taps[out],
            Self::Cubic(_) => unreachable!("cubic logits are refused"),
        }
    }

    pub(super) fn new(order: u8, from: usize, to: usize) -> Self {
        Self::at(order, from, to, taps::coordinate)
    }

    fn at(order: u8, from: usize, to: usize, position: taps::Position) -> Self {
        match order {
            _ if from == to => Self::Same,
            0 => Self::Nearest(taps::nearest(from, to, position)),
            1 => Self::Linear(taps::linear(from, to, position)),
            _ => Self::Cubic(taps::cubic(from, to, position)),
        }
    }
}

/// Smallest and largest value; a resized array never leaves them.
pub(super) fn range<T: Real>(values: &[T]) -> [f64; 2] {
    values.iter().fold([f64::MAX, f64::MIN], |[low, high], &v| {
        let v: f64 = v.into();
        [if v < low { v } else { low }, if v > high { v } else { high }]
    })
}

/// Clips to a range; NaN stays NaN.
pub(super) fn clipped(value: f64, [low, high]: [f64; 2]) -> f64 {
    if value < low {
        low
    } else if value > high {
        high
    } else {
        value
    }
}

/// Resamples planes `[y, x]`.
pub(super) struct Plane {
    from: [usize; 2],
    to: [usize; 2],
    y: Axis,
    x: Axis,
}

impl Plane {
    pub(super) fn new(order: u8, from: [usize; 2], to: [usize; 2]) -> Self {
        Self::of(from, to, Axis::new(order, from[0], to[0]), Axis::new(order, from[1], to[1]))
    }

    /// With a rule per axis.
    pub(super) fn of(from: [usize; 2], to: [usize; 2], y: Axis, x: Axis) -> Self {
        Self { from, to, y, x }
    }

    /// The rule along axis 1 (y) or 2 (x).
    pub(super) fn axis(&self, axis: usize) -> &Axis {
        if axis == 1 { &self.y } else { &self.x }
    }

    /// One voxel of [`Self::apply`].
    pub(super) fn at<T: Real>(&self, plane: &[T], y: usize, x: usize) -> f64 {
        let row = |y: usize| -> f64 {
            let row = &plane[y * self.from[1]..];
            let read = |x: usize| -> f64 { row[x].into() };
            match &self.x {
                Axis::Linear(taps) => {
                    read(taps[x].at[0]) * taps[x].weights[0] + read(taps[x].at[1]) * taps[x].weights[1]
                }
                axis => read(axis.reads(x).at[0]),
            }
        };
        match &self.y {
            Axis::Linear(taps) => {
                row(taps[y].at[0]) * taps[y].weights[0] + row(taps[y].at[1]) * taps[y].weights[1]
            }
            axis => row(axis.reads(y).at[0]),
        }
    }

    /// One plane; `out` has the output size.
    pub(super) fn apply<T: Real>(&self, plane: &[T], out: &mut [f64]) {
        if matches!(self.y, Axis::Same) {
            self.along_x(plane, out);
        } else {
            let mut wide = vec![0.0; self.from[0] * self.to[1]];
            self.along_x(plane, &mut wide);
            self.along_y(&wide, out);
        }
    }

    fn along_x<T: Real>(&self, plane: &[T], out: &mut [f64]) {
        let (nx, width) = (self.from[1], self.to[1]);
        let rows = plane.chunks_exact(nx).zip(out.chunks_exact_mut(width));
        match &self.x {
            Axis::Same => out.iter_mut().zip(plane).for_each(|(o, &v)| *o = v.into()),
            Axis::Nearest(picks) => {
                rows.for_each(|(row, out)| out.iter_mut().zip(picks).for_each(|(o, &i)| *o = row[i].into()));
            }
            Axis::Linear(taps) => rows.for_each(|(row, out)| {
                for (o, tap) in out.iter_mut().zip(taps) {
                    let (a, b): (f64, f64) = (row[tap.at[0]].into(), row[tap.at[1]].into());
                    *o = a * tap.weights[0] + b * tap.weights[1];
                }
            }),
            Axis::Cubic(taps) => cubic_rows(plane, nx, out, width, taps),
        }
    }

    fn along_y(&self, wide: &[f64], out: &mut [f64]) {
        let (ny, width) = (self.from[0], self.to[1]);
        let row = |i: usize| &wide[i * width..(i + 1) * width];
        let rows = out.chunks_exact_mut(width);
        match &self.y {
            Axis::Same => out.copy_from_slice(wide),
            Axis::Nearest(picks) => rows.zip(picks).for_each(|(out, &i)| out.copy_from_slice(row(i))),
            Axis::Linear(taps) => {
                rows.zip(taps).for_each(|(out, tap)| mix(row(tap.at[0]), row(tap.at[1]), tap, out))
            }
            Axis::Cubic(taps) => {
                for start in (0..width).step_by(STRIP) {
                    let strip = start..(start + STRIP).min(width);
                    let mut columns = Columns::new(ny, strip.len());
                    for i in 0..ny {
                        columns.row_mut(i).copy_from_slice(&row(i)[strip.clone()]);
                    }
                    columns.filter();
                    for (out, tap) in out.chunks_exact_mut(width).zip(taps) {
                        columns.sample(tap, &mut out[strip.clone()]);
                    }
                }
            }
        }
    }
}

/// Weighted sum of two rows.
pub(super) fn mix(a: &[f64], b: &[f64], tap: &Linear, out: &mut [f64]) {
    let [w0, w1] = tap.weights;
    out.iter_mut().zip(a.iter().zip(b)).for_each(|(o, (a, b))| *o = a * w0 + b * w1);
}

/// Rows through the spline filter, `LANES` side by side.
fn cubic_rows<T: Real>(plane: &[T], nx: usize, out: &mut [f64], width: usize, taps: &[Cubic]) {
    let mut columns = Columns::new(nx, LANES);
    let mut sampled = [0.0; LANES];
    for (rows, out) in plane.chunks(nx * LANES).zip(out.chunks_mut(width * LANES)) {
        for (lane, row) in rows.chunks_exact(nx).enumerate() {
            row.iter().enumerate().for_each(|(i, &v)| columns.row_mut(i)[lane] = v.into());
        }
        columns.filter();
        for (x, tap) in taps.iter().enumerate() {
            columns.sample(tap, &mut sampled);
            for (lane, out) in out.chunks_exact_mut(width).enumerate() {
                out[x] = sampled[lane];
            }
        }
    }
}

/// `[z, y, x]` onto another grid, clipped to the range of the input.
pub(super) fn volume<T: Real>(values: &[T], from: [usize; 3], to: [usize; 3], order: u8) -> Vec<T> {
    let area = from[1] * from[2];
    let axes = std::array::from_fn(|axis| Axis::new(order, from[axis], to[axis]));
    onto(&|z, take| take(&values[z * area..(z + 1) * area]), range(values), from, to, axes)
}

/// `[z, y, x]` onto a grid on whose corner voxels the corner voxels lie; splines may leave the range of the input.
/// Source: scipy 1.17 `ndimage.zoom(mode="nearest", grid_mode=False)`.
pub(super) fn volume_between_corners<T: Real>(
    values: &[T],
    from: [usize; 3],
    to: [usize; 3],
    order: u8,
) -> Vec<T> {
    let area = from[1] * from[2];
    let axes = std::array::from_fn(|axis| Axis::at(order, from[axis], to[axis], taps::between_corners));
    let all = [f64::NEG_INFINITY, f64::INFINITY];
    onto(&|z, take| take(&values[z * area..(z + 1) * area]), all, from, to, axes)
}

/// As [`volume`], of planes that are made one at a time.
pub(super) fn volume_of(planes: &dyn Planes, from: [usize; 3], to: [usize; 3], order: u8) -> Vec<f32> {
    let each = |z: usize, take: &mut dyn FnMut(&[f32])| {
        let mut plane = vec![0.0; from[1] * from[2]];
        planes.read(z, &mut plane);
        take(&plane);
    };
    let axes = std::array::from_fn(|axis| Axis::new(order, from[axis], to[axis]));
    onto(&each, planes.range(), from, to, axes)
}

/// `each(z, take)` shows `take` an input plane.
fn onto<T: Real>(
    each: &(dyn Fn(usize, &mut dyn FnMut(&[T])) + Sync),
    bounds: [f64; 2],
    from: [usize; 3],
    to: [usize; 3],
    [z, y, x]: [Axis; 3],
) -> Vec<T> {
    let plane = Plane::of([from[1], from[2]], [to[1], to[2]], y, x);
    let area = to[1] * to[2];
    let mut middle = vec![0.0; from[0] * area];
    middle
        .par_chunks_exact_mut(area)
        .enumerate()
        .for_each(|(z, out)| each(z, &mut |values| plane.apply(values, out)));
    let mut out = vec![T::default(); to[0] * area];
    let store = |out: &mut [T], row: &[f64]| {
        out.iter_mut().zip(row).for_each(|(o, v)| *o = T::from_f64(clipped(*v, bounds)));
    };
    let slice = |i: usize| &middle[i * area..(i + 1) * area];
    match &z {
        Axis::Same => out.par_chunks_mut(area).enumerate().for_each(|(i, out)| store(out, slice(i))),
        Axis::Nearest(picks) => {
            out.par_chunks_mut(area).zip(picks).for_each(|(out, &i)| store(out, slice(i)));
        }
        Axis::Linear(taps) => out.par_chunks_mut(area).zip(taps).for_each(|(out, tap)| {
            let mut row = vec![0.0; area];
            mix(slice(tap.at[0]), slice(tap.at[1]), tap, &mut row);
            store(out, &row);
        }),
        Axis::Cubic(taps) => {
            blocks(&mut out, area).into_par_iter().enumerate().for_each(|(block, outs)| {
                let start = block * BLOCK;
                let width = BLOCK.min(area - start);
                let mut columns = Columns::new(from[0], width);
                for i in 0..from[0] {
                    columns.row_mut(i).copy_from_slice(&slice(i)[start..start + width]);
                }
                columns.filter();
                let mut row = vec![0.0; width];
                for (out, tap) in outs.into_iter().zip(taps) {
                    columns.sample(tap, &mut row);
                    store(out, &row);
                }
            });
        }
    }
    out
}

/// The same range of columns of every slice: work that can run side by side.
fn blocks<T>(out: &mut [T], area: usize) -> Vec<Vec<&mut [T]>> {
    let mut blocks: Vec<Vec<&mut [T]>> = (0..area.div_ceil(BLOCK)).map(|_| Vec::new()).collect();
    for slice in out.chunks_exact_mut(area) {
        slice.chunks_mut(BLOCK).zip(&mut blocks).for_each(|(part, block)| block.push(part));
    }
    blocks
}
