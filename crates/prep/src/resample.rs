//! Resampling of images and label maps to a new grid, as nnU-Net v2.8.1 with scikit-image 0.26 and scipy 1.17.
//!
//! Images: cubic splines (order 3) or linear in double precision, axis by axis; the reference multiplies the three
//! weights per corner, which differs by about 1e-13 relative. Label maps: exact, in the reference's order of
//! arithmetic, because equal scores decide. Thick slices are resampled within slices and copied between them.

use galen_core::{Error, Result};
use rayon::prelude::*;
use serde_json::Value;

/// Spacing along one axis over that of another from which slices count as thick.
const THICK: f64 = 3.0;
/// Edge values put before and after an axis before the spline prefilter (scipy, mode `nearest`).
const PAD: usize = 12;
/// Pole of the cubic spline, the literal of scipy.
const POLE: f64 = -0.267_949_192_431_122_7;

/// How to resample, from the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Splines of this order within slices, nearest between thick ones.
    Default { order: u8, separate: Option<bool> },
    /// Leave as it is.
    None,
}

impl Method {
    /// From the function's name and arguments in plans.json.
    pub(crate) fn parse(name: &str, arguments: &Value, default_order: u64) -> Result<Self> {
        let number = |key: &str, default: u64| arguments.get(key).map_or(Some(default), Value::as_u64);
        match (name, number("order", default_order), number("order_z", 0)) {
            ("no_resampling_hack", _, _) => Ok(Self::None),
            ("resample_data_or_seg_to_shape", Some(order @ (0 | 1 | 3)), Some(0)) => {
                let separate = arguments.get("force_separate_z").and_then(Value::as_bool);
                Ok(Self::Default { order: order as u8, separate })
            }
            _ => Err(Error::input(
                "plans.json, resampling function",
                format!("`{name}` with {arguments} is not available"),
                "Galen has resample_data_or_seg_to_shape (orders 0, 1, 3; order_z 0) and no_resampling_hack",
            )),
        }
    }
}

/// The axis along which slices are thick, for a change from one spacing to another.
pub(crate) fn thick_axis(force: Option<bool>, current: [f64; 3], new: [f64; 3]) -> Option<usize> {
    let extremes = |mm: [f64; 3]| {
        let largest = mm.iter().copied().fold(f64::MIN, f64::max);
        let smallest = mm.iter().copied().fold(f64::MAX, f64::min);
        (largest, largest / smallest > THICK)
    };
    let spacing = match force {
        Some(false) => return None,
        Some(true) => current,
        None if extremes(current).1 => current,
        None if extremes(new).1 => new,
        None => return None,
    };
    let largest = extremes(spacing).0;
    let mut axes = (0..3).filter(|&axis| spacing[axis] == largest);
    let first = axes.next();
    // Two equally thick axes: nothing to separate.
    if axes.next().is_some() { None } else { first }
}

/// One weighted sum per output position along an axis.
struct Taps {
    /// First input position, may lie outside; positions are clamped.
    first: isize,
    weights: [f64; 4],
    count: usize,
}

fn coordinate(out: usize, from: usize, to: usize) -> f64 {
    (out as f64 + 0.5) * (from as f64 / to as f64) - 0.5
}

/// Input index per output index by nearest neighbour.
fn nearest(from: usize, to: usize) -> Vec<usize> {
    (0..to).map(|o| ((coordinate(o, from, to) + 0.5).floor().max(0.0) as usize).min(from - 1)).collect()
}

fn taps(order: u8, from: usize, to: usize) -> Vec<Taps> {
    let one = |out: usize| {
        let c = coordinate(out, from, to);
        match order {
            0 => Taps { first: (c + 0.5).floor() as isize, weights: [1.0, 0.0, 0.0, 0.0], count: 1 },
            1 => {
                let (first, t) = (c.floor(), c - c.floor());
                let w0 = 1.0 - t;
                Taps { first: first as isize, weights: [w0, 1.0 - w0, 0.0, 0.0], count: 2 }
            }
            _ => {
                let c = c + PAD as f64;
                let y = c - c.floor();
                let q = 1.0 - y;
                let w0 = q * q * q / 6.0;
                let w1 = (y * y * (y - 2.0) * 3.0 + 4.0) / 6.0;
                let w2 = (q * q * (q - 2.0) * 3.0 + 4.0) / 6.0;
                Taps { first: c.floor() as isize - 1, weights: [w0, w1, w2, 1.0 - w0 - w1 - w2], count: 4 }
            }
        }
    };
    (0..to).map(one).collect()
}

/// Resamples one axis of an array seen as `[outer, n, inner]`.
fn along(values: &[f64], outer: usize, n: usize, inner: usize, order: u8, to: usize) -> Vec<f64> {
    let taps = taps(order, n, to);
    let mut out = vec![0.0; outer * to * inner];
    let run = |block: usize, out: &mut [f64]| {
        let block = &values[block * n * inner..(block + 1) * n * inner];
        let padded;
        let (source, length): (&[f64], usize) = if order == 3 {
            padded = prefiltered(block, n, inner);
            (&padded, n + 2 * PAD)
        } else {
            (block, n)
        };
        for (row, taps) in out.chunks_exact_mut(inner).zip(&taps) {
            for tap in 0..taps.count {
                let at = (taps.first + tap as isize).clamp(0, length as isize - 1) as usize;
                let weight = taps.weights[tap];
                row.iter_mut().zip(&source[at * inner..(at + 1) * inner]).for_each(|(o, v)| *o += weight * v);
            }
        }
    };
    if outer == 1 {
        run(0, &mut out);
    } else {
        out.par_chunks_exact_mut(to * inner).enumerate().for_each(|(block, out)| run(block, out));
    }
    out
}

/// Spline coefficients of `[n, inner]` along the first axis, with its edges repeated.
fn prefiltered(block: &[f64], n: usize, inner: usize) -> Vec<f64> {
    let length = n + 2 * PAD;
    let gain = (1.0 - POLE) * (1.0 - 1.0 / POLE);
    let mut c = Vec::with_capacity(length * inner);
    for i in 0..length {
        let at = i.saturating_sub(PAD).min(n - 1);
        c.extend(block[at * inner..(at + 1) * inner].iter().map(|v| v * gain));
    }
    let row = |i: usize| i * inner..(i + 1) * inner;
    // First coefficient: the mirrored, endless sum in closed form.
    let zn = POLE.powi(length as i32);
    let mut sum: Vec<f64> = (0..inner).map(|j| c[j] + zn * c[(length - 1) * inner + j]).collect();
    let mut z = POLE;
    for i in 1..length {
        for j in 0..inner {
            sum[j] += z * (c[i * inner + j] + zn * c[(length - 1 - i) * inner + j]);
        }
        z *= POLE;
    }
    for j in 0..inner {
        c[j] += POLE / (1.0 - zn * zn) * sum[j];
    }
    for i in 1..length {
        let (before, here) = c.split_at_mut(i * inner);
        here[..inner].iter_mut().zip(&before[row(i - 1)]).for_each(|(h, b)| *h += POLE * b);
    }
    c[row(length - 1)].iter_mut().for_each(|v| *v *= POLE / (POLE - 1.0));
    for i in (0..length - 1).rev() {
        let (here, after) = c.split_at_mut((i + 1) * inner);
        here[row(i)].iter_mut().zip(&after[..inner]).for_each(|(h, a)| *h = POLE * (a - *h));
    }
    c
}

/// scikit-image's `resize` (mode edge, clipped to the input's range) of `[z, y, x]`.
fn resize(values: &[f64], from: [usize; 3], to: [usize; 3], order: u8) -> Vec<f64> {
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    let mut out = along(values, from[0] * from[1], from[2], 1, order, to[2]);
    out = along(&out, from[0], from[1], to[2], order, to[1]);
    // Rows of the slow axis are independent: cut into pieces that do not depend on the number of threads.
    out = slow_axis(&out, from[0], to[1] * to[2], order, to[0]);
    out.iter_mut().for_each(|v| *v = v.clamp(low, high));
    out
}

/// Resamples the first axis of `[n, inner]` in column blocks.
fn slow_axis(values: &[f64], n: usize, inner: usize, order: u8, to: usize) -> Vec<f64> {
    const BLOCK: usize = 1024;
    let starts: Vec<usize> = (0..inner).step_by(BLOCK).collect();
    let blocks: Vec<Vec<f64>> = starts
        .par_iter()
        .map(|&start| {
            let width = BLOCK.min(inner - start);
            let column: Vec<f64> =
                (0..n).flat_map(|i| &values[i * inner + start..i * inner + start + width]).copied().collect();
            along(&column, 1, n, width, order, to)
        })
        .collect();
    let mut out = vec![0.0; to * inner];
    for (&start, block) in starts.iter().zip(&blocks) {
        let width = BLOCK.min(inner - start);
        for (i, row) in block.chunks_exact(width).enumerate() {
            out[i * inner + start..i * inner + start + width].copy_from_slice(row);
        }
    }
    out
}

/// Resamples one channel `[z, y, x]` in double precision.
pub fn image_f64(values: &[f64], from: [usize; 3], to: [usize; 3], order: u8, thick: Option<usize>) -> Vec<f64> {
    if from == to {
        return values.to_vec();
    }
    let Some(axis) = thick else { return resize(values, from, to, order) };
    let picks = nearest(from[axis], to[axis]);
    let (slice_from, slice_to) = (without(from, axis), without(to, axis));
    let slices: Vec<Vec<f64>> = (0..from[axis])
        .into_par_iter()
        .map(|at| {
            let slice = slice_of(values, from, axis, at);
            resize(&slice, [1, slice_from[0], slice_from[1]], [1, slice_to[0], slice_to[1]], order)
        })
        .collect();
    join(&slices, to, axis, &picks)
}

/// Resamples one channel `[z, y, x]`; computed in double precision, stored in single.
pub(crate) fn image(values: &[f32], from: [usize; 3], to: [usize; 3], order: u8, thick: Option<usize>) -> Vec<f32> {
    if from == to {
        return values.to_vec();
    }
    let wide: Vec<f64> = values.iter().map(|&v| v.into()).collect();
    image_f64(&wide, from, to, order, thick).into_iter().map(|v| v as f32).collect()
}

/// Resamples a label map `[z, y, x]`: the label with the largest linear weight; a tie goes to the nearest voxel's
/// label when it is among the tied, else to the smallest (batchgenerators 0.25.5).
pub fn labels(values: &[i16], from: [usize; 3], to: [usize; 3], order: u8, thick: Option<usize>) -> Vec<i16> {
    if from == to {
        return values.to_vec();
    }
    let Some(axis) = thick else { return labels_3d(values, from, to, order) };
    let picks = nearest(from[axis], to[axis]);
    let (slice_from, slice_to) = (without(from, axis), without(to, axis));
    let slices: Vec<Vec<i16>> = (0..from[axis])
        .into_par_iter()
        .map(|at| {
            let slice = slice_of(values, from, axis, at);
            labels_3d(&slice, [1, slice_from[0], slice_from[1]], [1, slice_to[0], slice_to[1]], order)
        })
        .collect();
    join(&slices, to, axis, &picks)
}

fn labels_3d(values: &[i16], from: [usize; 3], to: [usize; 3], order: u8) -> Vec<i16> {
    let near = [0, 1, 2].map(|axis| nearest(from[axis], to[axis]));
    let linear = [0, 1, 2].map(|axis| taps(1, from[axis], to[axis]));
    // A flat axis has one neighbour, as in the reference's 2-D call.
    let corners = from.map(|n| if n == 1 { 1 } else { 2 });
    let mut out = vec![0i16; to.iter().product()];
    out.par_chunks_exact_mut(to[2]).enumerate().for_each(|(row, out)| {
        let (z, y) = (row / to[1], row % to[1]);
        let mut scores: Vec<(i16, f64)> = Vec::with_capacity(8);
        for (x, out) in out.iter_mut().enumerate() {
            let nearest = values[(near[0][z] * from[1] + near[1][y]) * from[2] + near[2][x]];
            if order == 0 {
                *out = nearest;
                continue;
            }
            let at = [&linear[0][z], &linear[1][y], &linear[2][x]];
            scores.clear();
            for i in 0..corners[0] {
                for j in 0..corners[1] {
                    for k in 0..corners[2] {
                        let corner = [i, j, k];
                        let mut weight = 1.0;
                        let mut index = 0;
                        for axis in 0..3 {
                            if corners[axis] == 2 {
                                weight *= at[axis].weights[corner[axis]];
                            }
                            let p = (at[axis].first + corner[axis] as isize).clamp(0, from[axis] as isize - 1);
                            index = index * from[axis] + p as usize;
                        }
                        let label = values[index];
                        match scores.iter_mut().find(|(l, _)| *l == label) {
                            Some((_, score)) => *score += weight,
                            None => scores.push((label, weight)),
                        }
                    }
                }
            }
            *out = winner(&scores, nearest);
        }
    });
    out
}

fn winner(scores: &[(i16, f64)], nearest: i16) -> i16 {
    // The reference clips each label's score to [0, 1] before it compares.
    let clipped = |score: f64| score.clamp(0.0, 1.0);
    let best = scores.iter().map(|&(_, s)| clipped(s)).fold(f64::MIN, f64::max);
    let tied = || scores.iter().filter(|&&(_, s)| clipped(s) == best).map(|&(label, _)| label);
    if tied().any(|label| label == nearest) { nearest } else { tied().min().unwrap_or(nearest) }
}

fn without(size: [usize; 3], axis: usize) -> [usize; 2] {
    match axis {
        0 => [size[1], size[2]],
        1 => [size[0], size[2]],
        _ => [size[0], size[1]],
    }
}

fn steps(size: [usize; 3], axis: usize) -> (usize, [usize; 2]) {
    let step = [size[1] * size[2], size[2], 1];
    match axis {
        0 => (step[0], [step[1], step[2]]),
        1 => (step[1], [step[0], step[2]]),
        _ => (step[2], [step[0], step[1]]),
    }
}

fn slice_of<T: Copy>(values: &[T], size: [usize; 3], axis: usize, at: usize) -> Vec<T> {
    let (across, [a, b]) = steps(size, axis);
    let [n, m] = without(size, axis);
    (0..n).flat_map(|i| (0..m).map(move |j| values[at * across + i * a + j * b])).collect()
}

/// Slices back into an array; output slice `i` is input slice `picks[i]`.
fn join<T: Copy + Default>(slices: &[Vec<T>], to: [usize; 3], axis: usize, picks: &[usize]) -> Vec<T> {
    let (across, [a, b]) = steps(to, axis);
    let [n, m] = without(to, axis);
    let mut out = vec![T::default(); to.iter().product()];
    for (at, &pick) in picks.iter().enumerate() {
        for i in 0..n {
            for j in 0..m {
                out[at * across + i * a + j * b] = slices[pick][i * m + j];
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thick_axis_is_separate_and_two_are_not() {
        assert_eq!(thick_axis(None, [5.0, 1.0, 1.0], [1.0; 3]), Some(0));
        assert_eq!(thick_axis(None, [1.0; 3], [1.0, 1.0, 4.0]), Some(2));
        assert_eq!(thick_axis(None, [0.24, 1.25, 1.25], [1.0; 3]), None);
        assert_eq!(thick_axis(None, [3.0, 1.0, 1.0], [1.0; 3]), None);
        assert_eq!(thick_axis(Some(false), [9.0, 1.0, 1.0], [1.0; 3]), None);
    }

    #[test]
    fn constants_stay_constant() {
        for order in [0, 1, 3] {
            let out = image_f64(&[2.5; 60], [3, 4, 5], [5, 3, 7], order, None);
            assert!(out.iter().all(|v| (v - 2.5).abs() < 1e-12), "order {order}");
        }
    }
}
