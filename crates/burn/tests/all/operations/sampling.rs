//! Interpolation and sampling at positions.

use super::{compare, gradient};
use crate::layout::{channels_last, devices, leaf, noise, planes};
use galen_burn::bodies::sampling;
use galen_kernels::{Grid, GridSample, Interpolation, Padding, Sink, Source};

const GRID: Grid = Grid { n: 2, size: [4, 5, 6] };
const C: usize = 5;

#[test]
fn interpolation() {
    let (x, size) = (noise(2 * C * GRID.voxels(), 0.1), [7, 3, 12]);
    let values = channels_last(&x, 2, C);
    let g = noise(2 * C * size.iter().product::<usize>(), 0.2);
    let wide_g = channels_last(&g, 2, C);
    for how in [Interpolation::Nearest, Interpolation::Linear, Interpolation::LinearAlignCorners] {
        let (mut out, mut dx) = (vec![0.0; wide_g.len()], vec![0.0; values.len()]);
        how.forward(GRID, &Source::new(&values, C, None), size, &mut out);
        how.gradient(GRID, size, &wide_g, Sink { values: &mut dx, channels: C, add: false });
        for at in devices() {
            let image = leaf(&x, [2, C, 4, 5, 6], &at.1);
            let y = sampling::interpolation(image.clone(), how, size, &at.1);
            let gradients = vec![gradient("input", &image, planes(&dx, 2, C))];
            compare(&format!("{how:?} interpolation"), &at, y, &planes(&out, 2, C), &g, gradients);
        }
    }
}

#[test]
fn sampling_at_positions() {
    let points = Grid { n: 2, size: [3, 4, 5] };
    let x = noise(2 * C * GRID.voxels(), 0.1);
    // From -1.5 to 1.5: many lie beyond the border.
    let positions = noise(2 * points.voxels() * 3, 0.2);
    let g = noise(2 * C * points.voxels(), 0.3);
    let (values, wide_g) = (channels_last(&x, 2, C), channels_last(&g, 2, C));
    let source = Source::new(&values, C, None);
    for (padding, align_corners) in
        [(Padding::Zeros, false), (Padding::Zeros, true), (Padding::Border, false), (Padding::Border, true)]
    {
        for nearest in [false, true] {
            let how = GridSample { nearest, padding, align_corners };
            let (mut out, mut dx, mut dp) =
                (vec![0.0; wide_g.len()], vec![0.0; values.len()], vec![0.0; positions.len()]);
            how.forward(GRID, &source, points, &positions, &mut out);
            let sink = Sink { values: &mut dx, channels: C, add: false };
            how.input_gradient(GRID, points, &positions, &wide_g, sink);
            how.position_gradient(GRID, &source, points, &positions, &wide_g, &mut dp);
            for at in devices() {
                let image = leaf(&x, [2, C, 4, 5, 6], &at.1);
                let places = leaf(&positions, [2, 3, 4, 5, 3], &at.1);
                let y = sampling::grid_sample(image.clone(), places.clone(), &how);
                let mut gradients = vec![gradient("input", &image, planes(&dx, 2, C))];
                if !nearest {
                    gradients.push(gradient("positions", &places, dp.clone()));
                }
                compare(&format!("{how:?}"), &at, y, &planes(&out, 2, C), &g, gradients);
            }
        }
    }
}
