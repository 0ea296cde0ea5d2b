//! Images and label maps with thick slices: resampled within slices, then along the axis between them.
//!
//! Source: nnunetv2 2.8.1 `resample_data_or_seg`, `do_separate_z`. Only slices that are read are computed.

use super::labels::{self, TieRule};
use super::resize::{Plane, Real, clipped, mix, range};
use super::taps;
use rayon::prelude::*;

/// The array with `axis` first; the other two keep their order.
pub(super) fn axis_first<T: Copy>(values: &[T], size: [usize; 3], axis: usize) -> (Vec<T>, [usize; 3]) {
    let order = order(axis);
    (permuted(values, size, order), order.map(|a| size[a]))
}

/// Undoes [`axis_first`]; `size` is that of the result.
pub(super) fn axis_back<T: Copy>(values: &[T], size: [usize; 3], axis: usize) -> Vec<T> {
    let back = [[0, 1, 2], [1, 0, 2], [1, 2, 0]][axis];
    permuted(values, order(axis).map(|a| size[a]), back)
}

/// The axis first, the other two in order.
pub(super) fn order(axis: usize) -> [usize; 3] {
    [[0, 1, 2], [1, 0, 2], [2, 0, 1]][axis]
}

/// `[z, y, x]` with its axes in another order.
pub(crate) fn permuted<T: Copy>(values: &[T], size: [usize; 3], order: [usize; 3]) -> Vec<T> {
    let step = [size[1] * size[2], size[2], 1];
    let [n0, n1, n2] = order.map(|axis| size[axis]);
    let [s0, s1, s2] = order.map(|axis| step[axis]);
    let mut out = Vec::with_capacity(values.len());
    for i in 0..n0 {
        for j in 0..n1 {
            out.extend((0..n2).map(|k| values[i * s0 + j * s1 + k * s2]));
        }
    }
    out
}

/// An image whose first axis runs between thick slices.
pub(super) fn image<T: Real>(
    values: &[T],
    from: [usize; 3],
    to: [usize; 3],
    order: u8,
    order_z: u8,
) -> Vec<T> {
    let plane = Plane::new(order, [from[1], from[2]], [to[1], to[2]]);
    let area = to[1] * to[2];
    let resized = |i: usize| {
        let slice = &values[i * from[1] * from[2]..(i + 1) * from[1] * from[2]];
        let bounds = range(slice);
        let mut out = vec![0.0; area];
        plane.apply(slice, &mut out);
        out.iter_mut().for_each(|v| *v = clipped(*v, bounds));
        out
    };
    let mut out = vec![T::default(); to[0] * area];
    let slices = out.par_chunks_exact_mut(area).enumerate();
    let store = |out: &mut [T], row: &[f64]| out.iter_mut().zip(row).for_each(|(o, &v)| *o = T::from_f64(v));
    if from[0] == to[0] {
        slices.for_each(|(i, out)| store(out, &resized(i)));
    } else if order_z == 0 {
        let picks = taps::nearest(from[0], to[0], taps::coordinate);
        slices.for_each(|(i, out)| store(out, &resized(picks[i])));
    } else {
        let taps = taps::linear_inside(from[0], to[0]);
        slices.for_each(|(i, out)| {
            let mut row = vec![0.0; area];
            mix(&resized(taps[i].at[0]), &resized(taps[i].at[1]), &taps[i], &mut row);
            store(out, &row);
        });
    }
    out
}

/// A label map whose first axis runs between thick slices.
pub(super) fn label_map(
    values: &[i16],
    from: [usize; 3],
    to: [usize; 3],
    order: u8,
    order_z: u8,
    rule: TieRule,
) -> Vec<i16> {
    let area = to[1] * to[2];
    let resized = |i: usize| {
        let slice = &values[i * from[1] * from[2]..(i + 1) * from[1] * from[2]];
        if from[1..] == to[1..] {
            return slice.to_vec();
        }
        labels::volume(slice, [1, from[1], from[2]], [1, to[1], to[2]], order, rule)
    };
    let mut out = vec![0; to[0] * area];
    let slices = out.par_chunks_exact_mut(area).enumerate();
    if from[0] == to[0] {
        slices.for_each(|(i, out)| out.copy_from_slice(&resized(i)));
    } else if order_z == 0 {
        let picks = taps::nearest(from[0], to[0], taps::coordinate);
        slices.for_each(|(i, out)| out.copy_from_slice(&resized(picks[i])));
    } else {
        let taps = taps::linear_inside(from[0], to[0]);
        slices.for_each(|(i, out)| {
            let [a, b] = taps[i].at.map(resized);
            for (out, (&a, &b)) in out.iter_mut().zip(a.iter().zip(&b)) {
                *out = majority([a, b], taps[i].weights);
            }
        });
    }
    out
}

/// The label with more than half of the weight, 0 when there is none.
fn majority([a, b]: [i16; 2], [wa, wb]: [f64; 2]) -> i16 {
    if a == b || wa > 0.5 {
        a
    } else if wb > 0.5 {
        b
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_goes_first_and_comes_back() {
        let size = [2, 3, 4];
        let values: Vec<usize> = (0..24).collect();
        for axis in 0..3 {
            let (first, moved) = axis_first(&values, size, axis);
            assert_eq!(moved[0], size[axis]);
            assert_eq!(axis_back(&first, size, axis), values);
        }
    }
}
