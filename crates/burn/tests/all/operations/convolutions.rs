//! Convolutions of every kind, and pools.

use super::{compare, gradient};
use crate::layout::{channels_last, devices, leaf, noise, planes};
use galen_burn::bodies::convolution::convolution;
use galen_burn::bodies::pool::max_pool;
use galen_kernels::{DepthwiseConv, Grid, GroupedConv, MaxPool, Sink, Source};

const GRID: Grid = Grid { n: 2, size: [4, 5, 6] };

#[test]
fn depthwise() {
    let c = 5;
    let (x, w, b) = (noise(2 * c * GRID.voxels(), 0.1), noise(c * 27, 0.2), noise(c, 0.3));
    let values = channels_last(&x, 2, c);
    let source = Source::new(&values, c, None);
    for at in devices() {
        for stride in [1, 2] {
            let of = DepthwiseConv { kernel: [3; 3], stride: [stride; 3], channels: c };
            let grid = of.output(GRID);
            let g = noise(2 * c * grid.voxels(), 0.4);
            let wide_g = channels_last(&g, 2, c);
            let (mut out, mut dx, mut dw, mut db) =
                (vec![0.0; wide_g.len()], vec![0.0; values.len()], vec![0.0; w.len()], vec![0.0; c]);
            of.forward(GRID, &source, &w, Some(&b), &mut out, None);
            of.input_gradient(GRID, &wide_g, &w, Sink { values: &mut dx, channels: c, add: false });
            of.weight_gradient(GRID, &source, &wide_g, &mut dw, Some(&mut db));
            let [image, bias] = [&x, &b].map(Vec::as_slice);
            let (image, bias) = (leaf(image, [2, c, 4, 5, 6], &at.1), leaf(bias, [c], &at.1));
            let weight = leaf(&w, [c, 1, 3, 3, 3], &at.1);
            let y = convolution(image.clone(), weight.clone(), Some(bias.clone()), [stride; 3], c);
            let gradients = vec![
                gradient("input", &image, planes(&dx, 2, c)),
                gradient("weights", &weight, dw),
                gradient("bias", &bias, db),
            ];
            compare(&format!("depthwise, stride {stride}"), &at, y, &planes(&out, 2, c), &g, gradients);
        }
    }
}

#[test]
fn grouped() {
    let (inputs, outputs, groups, kernel, stride) = (6, 9, 3, [1, 3, 3], [1, 2, 2]);
    let of = GroupedConv { groups, kernel, stride, inputs, outputs };
    let grid = of.output(GRID);
    let x = noise(2 * inputs * GRID.voxels(), 0.1);
    let (w, b) = (noise(outputs * inputs / groups * 9, 0.2), noise(outputs, 0.3));
    let g = noise(2 * outputs * grid.voxels(), 0.4);
    let (values, wide_g) = (channels_last(&x, 2, inputs), channels_last(&g, 2, outputs));
    let source = Source::new(&values, inputs, None);
    let (mut out, mut dx, mut dw, mut db) =
        (vec![0.0; wide_g.len()], vec![0.0; values.len()], vec![0.0; w.len()], vec![0.0; outputs]);
    of.forward(GRID, &source, &of.pack(&w, GRID), Some(&b), &mut out, None);
    let sink = Sink { values: &mut dx, channels: inputs, add: false };
    of.input_gradient(GRID, &wide_g, &of.pack_gradient(&w, GRID), sink);
    of.weight_gradient(GRID, &source, &wide_g, &mut dw, Some(&mut db));
    for at in devices() {
        let image = leaf(&x, [2, inputs, 4, 5, 6], &at.1);
        let weight = leaf(&w, [outputs, inputs / groups, 1, 3, 3], &at.1);
        let bias = leaf(&b, [outputs], &at.1);
        let y = convolution(image.clone(), weight.clone(), Some(bias.clone()), stride, groups);
        let gradients = vec![
            gradient("input", &image, planes(&dx, 2, inputs)),
            gradient("weights", &weight, dw.clone()),
            gradient("bias", &bias, db.clone()),
        ];
        compare("grouped", &at, y, &planes(&out, 2, outputs), &g, gradients);
    }
}

#[test]
fn max_pools() {
    let c = 3;
    let x = noise(2 * c * GRID.voxels(), 0.1);
    let values = channels_last(&x, 2, c);
    for (window, stride, padding) in [([2, 2, 2], [2, 2, 2], [0; 3]), ([3, 3, 2], [1, 2, 1], [1, 1, 0])] {
        let of = MaxPool { window, stride, padding };
        let grid = of.output(GRID);
        let g = noise(2 * c * grid.voxels(), 0.2);
        let wide_g = channels_last(&g, 2, c);
        let (mut out, mut taps, mut dx) =
            (vec![0.0; wide_g.len()], vec![0; wide_g.len()], vec![0.0; values.len()]);
        of.forward(GRID, &Source::new(&values, c, None), &mut out, &mut taps);
        of.gradient(GRID, &wide_g, &taps, Sink { values: &mut dx, channels: c, add: false });
        for at in devices() {
            let image = leaf(&x, [2, c, 4, 5, 6], &at.1);
            let y = max_pool(image.clone(), &of);
            let gradients = vec![gradient("input", &image, planes(&dx, 2, c))];
            compare(&format!("max pool of {window:?}"), &at, y, &planes(&out, 2, c), &g, gradients);
        }
    }
}
