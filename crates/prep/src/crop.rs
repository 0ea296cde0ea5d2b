//! Crop to the nonzero region: union over channels, holes filled, tight box.
//!
//! Source: nnunetv2 2.8.1 `preprocessing/cropping`; hole filling as scipy `binary_fill_holes` (6-connected, so a
//! single slice is never filled: its whole face is the outside).

use galen_kernels::holes::fill_holes;

/// True where any channel is nonzero or where a hole is enclosed by such voxels. `[z, y, x]`.
pub(crate) fn nonzero_mask(channels: &[Vec<f32>], size: [usize; 3]) -> Vec<bool> {
    let mut mask = vec![false; size.iter().product()];
    for channel in channels {
        mask.iter_mut().zip(channel).for_each(|(m, v)| *m |= *v != 0.0);
    }
    fill_holes(&mut mask, size);
    mask
}

/// Tight half-open box per axis; the whole grid when the mask is empty.
pub(crate) fn bounding_box(mask: &[bool], size: [usize; 3]) -> [[usize; 2]; 3] {
    let mut bounds = size.map(|n| [n, 0]);
    for (row, values) in mask.chunks_exact(size[2]).enumerate() {
        let Some(first) = values.iter().position(|&m| m) else { continue };
        let last = values.iter().rposition(|&m| m).expect("there is a first");
        for (bound, (low, high)) in bounds.iter_mut().zip([
            (row / size[1], row / size[1]),
            (row % size[1], row % size[1]),
            (first, last),
        ]) {
            *bound = [bound[0].min(low), bound[1].max(high + 1)];
        }
    }
    if bounds[0][0] >= bounds[0][1] { size.map(|n| [0, n]) } else { bounds }
}

/// The part of a `[z, y, x]` array inside a box; the whole array costs nothing.
pub(crate) fn cut<T: Copy>(values: Vec<T>, size: [usize; 3], bounds: [[usize; 2]; 3]) -> Vec<T> {
    if bounds == size.map(|n| [0, n]) {
        return values;
    }
    let mut out = Vec::with_capacity(bounds.iter().map(|[a, b]| b - a).product());
    for z in bounds[0][0]..bounds[0][1] {
        for y in bounds[1][0]..bounds[1][1] {
            let row = (z * size[1] + y) * size[2];
            out.extend_from_slice(&values[row + bounds[2][0]..row + bounds[2][1]]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_holes_are_filled_and_open_ones_are_not() {
        let size = [5, 5, 5];
        let shell = |z: usize, y: usize, x: usize| {
            [z, y, x].iter().all(|v| (1..4).contains(v)) && [z, y, x] != [2, 2, 2]
        };
        let mut image = vec![0f32; 125];
        for i in 0..125 {
            image[i] = f32::from(u8::from(shell(i / 25, i / 5 % 5, i % 5)));
        }
        assert!(nonzero_mask(&[image.clone()], size)[62], "the centre is enclosed");
        assert_eq!(bounding_box(&nonzero_mask(&[image.clone()], size), size), [[1, 4]; 3]);
        image[(2 * 5 + 2) * 5 + 3] = 0.0;
        assert!(!nonzero_mask(&[image.clone()], size)[62], "the centre leaks out");
        assert_eq!(bounding_box(&[false; 125], size), [[0, 5]; 3]);
    }

    #[test]
    fn a_slice_is_never_filled() {
        let image = vec![1., 1., 1., 1., 0., 1., 1., 1., 1.];
        assert!(!nonzero_mask(&[image], [1, 3, 3])[4]);
    }
}
